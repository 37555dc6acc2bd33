//! A receiver as the documentation of [`px_items::webhook`] tells it, and what it makes of
//! webhooks that come twice, in disorder, late, or about nothing that it knows.

use super::world::{Answer, Seen, World, connection, news};
use px_items::{news::News, store::Store as _, webhook::SenderSettings};
use px_server::webhook::Verifier;
use px_types::{
    ItemId,
    model::plaid_error::PlaidError,
    webhook::{Webhook, WebhookEvent},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex},
};

/// An application: the Items it knows, which of them it has to read, and whether its user has to
/// sign in again.
struct Application {
    verifier: Verifier,
    items: BTreeMap<ItemId, &'static str>,
    to_read: BTreeSet<ItemId>,
    reads: usize,
}

impl Application {
    fn new(world: &World, items: &[&str]) -> Self {
        let item = |name: &&str| (ItemId::new(name).unwrap(), "healthy");
        Self {
            verifier: world.verifier(),
            items: items.iter().map(item).collect(),
            to_read: BTreeSet::new(),
            reads: 0,
        }
    }

    /// The status to answer.
    async fn receive(&mut self, header: &str, body: &[u8]) -> u16 {
        if let Err(error) = self.verifier.verify(header, body, None).await {
            return error.status();
        }
        // What this version cannot read is no reason to be sent it for a day.
        let Ok(webhook) = px_types::decode::<Webhook>(body) else { return 200 };
        // Unlinked meanwhile, or never known: nothing to do, and nothing to repeat.
        let Some(state) = self.items.get_mut(&webhook.item_id) else { return 200 };
        match webhook.event {
            WebhookEvent::Error(_) => *state = "sign in again",
            WebhookEvent::LoginRepaired => *state = "healthy",
            _ => {}
        }
        // A hint: insert or ignore. What there is to know comes from reading.
        self.to_read.insert(webhook.item_id);
        200
    }

    /// Reads what it was told of; a read that succeeds says that the Item is well.
    fn read(&mut self) {
        for item in std::mem::take(&mut self.to_read) {
            self.reads += 1;
            if let Some(state) = self.items.get_mut(&item) {
                *state = "healthy";
            }
        }
    }
}

fn ok(_: &Seen) -> Answer {
    Answer::Status(200)
}

#[tokio::test(start_paused = true)]
async fn case_39_whoever_was_told_of_an_error_is_told_of_its_end() {
    let world = World::new(ok);
    let applications = ["one", "two"];
    for application in applications {
        world.link("i1", connection(application)).await;
    }
    let (_, version) = world.store.tokens(&ItemId::new("i1").unwrap()).await.unwrap().unwrap();
    world
        .commit("i1", |commit| {
            commit.state = px_items::item::State::CreatedLoginRequired;
            commit.refused_tokens = Some(version);
            commit.news.fault = Some(fault());
        })
        .await;
    let sender = world.sender();
    sender.deliver_due().await;
    // The user authorizes again, through one of the applications.
    world.pass(60).await;
    world.link("i1", connection("one")).await;
    sender.deliver_due().await;
    let codes = |application: &str| -> Vec<String> {
        let mine = world.seen().into_iter().filter(|seen| seen.url.contains(application));
        mine.map(|seen| {
            let webhook: Webhook = px_types::decode(seen.body.as_bytes()).unwrap();
            webhook.event.webhook_code().as_str().to_owned()
        })
        .collect()
    };
    for application in applications {
        assert_eq!(codes(application), ["ERROR", "LOGIN_REPAIRED"], "{application}");
    }
}

#[tokio::test(start_paused = true)]
async fn case_42_webhooks_that_come_twice_and_in_disorder_cause_one_read_each() {
    let world = World::new(ok);
    world.link("i1", connection("app")).await;
    let mut repaired = News::default();
    repaired.repaired = true;
    for news in [news(), repaired, news()] {
        world.tell("i1", news).await;
        world.sender().deliver_due().await;
    }
    let mut application = Application::new(&world, &["i1"]);
    let mut seen = world.seen();
    seen.reverse();
    // The same requests once more, as a network that repeats would bring them.
    for webhook in seen.iter().chain(&seen) {
        assert_eq!(application.receive(&webhook.header, webhook.body.as_bytes()).await, 200);
    }
    application.read();
    assert_eq!((application.reads, application.to_read.len()), (1, 0));
    // Equal bodies are not the same news: one that comes after a read causes another read.
    world.pass(60).await;
    world.tell("i1", news()).await;
    world.sender().deliver_due().await;
    let last = world.seen().pop().unwrap();
    assert_eq!(last.body, seen[0].body);
    assert_eq!(application.receive(&last.header, last.body.as_bytes()).await, 200);
    application.read();
    assert_eq!(application.reads, 2);
}

#[tokio::test(start_paused = true)]
async fn case_42_an_answer_that_was_lost_brings_the_webhook_again_under_a_new_signature() {
    let world = World::new(|seen| match seen.second {
        0 => Answer::Never,
        _ => Answer::Status(200),
    });
    world.queue("app", 1).await;
    let sender = world.sender();
    world.send_for(&sender, 1).await;
    let seen = world.seen();
    assert_eq!(seen.len(), 2);
    assert!(seen[0].body == seen[1].body && seen[0].header != seen[1].header);
    let ids = seen.iter().map(|seen| super::claims(&seen.header).jti);
    let ids: BTreeSet<_> = ids.map(Option::unwrap).collect();
    assert_eq!(ids.len(), 1, "by its id the application knows it");
}

/// Two updates of one Item within one second say the same with the same bytes: the application
/// that has read in between hears of the second one all the same.
#[tokio::test(start_paused = true)]
async fn two_commits_of_one_second_are_both_heard_of_by_an_application_that_reads_between() {
    let world = Arc::new(World::new(ok));
    world.link("i1", connection("app")).await;
    let application = Arc::new(tokio::sync::Mutex::new(Application::new(&world, &["i1"])));
    let receiver = Receiver(application.clone(), Arc::default());
    let sender = world.sender_over(Arc::new(receiver), SenderSettings::default());
    for round in 1..=3 {
        world.tell("i1", news()).await;
        assert_eq!(sender.deliver_due().await, 1);
        let mut application = application.lock().await;
        application.read();
        assert_eq!(application.reads, round, "round {round}");
    }
    assert_eq!(world.now(), super::at(super::world::START), "no second has passed");
}

/// What is said twice before it is sent is said once.
#[tokio::test(start_paused = true)]
async fn what_waits_for_an_endpoint_that_is_down_becomes_one_webhook() {
    let world = World::new(ok);
    world.link("i1", connection("app")).await;
    for _ in 0..20 {
        world.tell("i1", news()).await;
    }
    assert_eq!(world.waiting().await, 1);
    assert_eq!(world.sender().deliver_due().await, 1);
}

#[tokio::test(start_paused = true)]
async fn case_43_a_webhook_for_an_item_that_nobody_knows_is_answered_and_not_sent_again() {
    let world = Arc::new(World::new(ok));
    let application = Application::new(&world, &["known"]);
    world.link("unknown", connection("app")).await;
    world.tell("unknown", news()).await;
    let receiver = Receiver(Arc::new(tokio::sync::Mutex::new(application)), Arc::default());
    let sender = world.sender_over(Arc::new(receiver.clone()), SenderSettings::default());
    world.send_for(&sender, 2).await;
    assert_eq!(*receiver.1.lock().unwrap(), [200]);
    assert_eq!(world.waiting().await, 0);
    // Nor is what is wrong otherwise a reason for 5xx.
    let mut application = receiver.0.lock().await;
    for (header, body) in [("", "{}"), ("a.b.c", ""), ("x", "null")] {
        assert_eq!(application.receive(header, body.as_bytes()).await, 401);
    }
    for body in ["{}", "null", "", r#"{"webhook_type":"NEW","webhook_code":"NEWER"}"#] {
        let header = world.signer.sign(body.as_bytes(), world.now()).unwrap();
        assert_eq!(application.receive(&header, body.as_bytes()).await, 200, "{body}");
    }
}

fn fault() -> PlaidError {
    use px_types::model::plaid_error::PlaidErrorType;
    PlaidError::new(PlaidErrorType::ItemError, "ITEM_LOGIN_REQUIRED", "sign in again")
}

/// The application behind a transport, with the statuses that it answered.
#[derive(Clone)]
struct Receiver(Arc<tokio::sync::Mutex<Application>>, Arc<Mutex<Vec<u16>>>);

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver")
    }
}

#[async_trait::async_trait]
impl px_core::HttpTransport for Receiver {
    async fn send(
        &self,
        request: http::Request<bytes::Bytes>,
        _: &px_core::HttpLimits,
    ) -> Result<http::Response<bytes::Bytes>, px_core::TransportError> {
        let header = &request.headers()[px_types::webhook::VERIFICATION_HEADER];
        let header = header.to_str().unwrap();
        let status = self.0.lock().await.receive(header, request.body()).await;
        self.1.lock().unwrap().push(status);
        Ok(http::Response::builder().status(status).body(bytes::Bytes::new()).unwrap())
    }
}
