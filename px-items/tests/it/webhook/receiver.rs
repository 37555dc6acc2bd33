//! A receiver that follows the documentation of [`px_items::webhook`], and its handling of webhooks
//! that come twice, out of order, late, or for unknown Items.

use super::world::{Reply, Seen, World, changes, connection};
use px_items::{changes::ItemChanges, store::Store as _, webhook::SenderSettings};
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

/// An application: the Items that it knows, those that it has to read, and whether its user must
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

    /// Returns the status of the response.
    async fn receive(&mut self, header: &str, body: &[u8]) -> u16 {
        if let Err(error) = self.verifier.verify(header, body, None).await {
            return error.status();
        }
        // An unreadable message must not be sent again for a day.
        let Ok(webhook) = px_types::decode::<Webhook>(body) else { return 200 };
        // Unlinked meanwhile, or never known: nothing to do, and nothing to repeat.
        let Some(state) = self.items.get_mut(&webhook.item_id) else { return 200 };
        match webhook.event {
            WebhookEvent::Error(_) => *state = "sign in again",
            WebhookEvent::LoginRepaired => *state = "healthy",
            _ => {}
        }
        // A hint: insert or ignore. The data comes from reading.
        self.to_read.insert(webhook.item_id);
        200
    }

    /// Reads the Items that it was notified of. A successful read shows that the Item is healthy.
    fn read(&mut self) {
        for item in std::mem::take(&mut self.to_read) {
            self.reads += 1;
            if let Some(state) = self.items.get_mut(&item) {
                *state = "healthy";
            }
        }
    }
}

fn ok(_: &Seen) -> Reply {
    Reply::Status(200)
}

#[tokio::test(start_paused = true)]
async fn case_39_applications_that_were_notified_of_an_error_are_notified_of_its_end() {
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
            commit.changes.fault = Some(fault());
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
    let mut repaired = ItemChanges::default();
    repaired.repaired = true;
    for changes in [changes(), repaired, changes()] {
        world.notify("i1", changes).await;
        world.sender().deliver_due().await;
    }
    let mut application = Application::new(&world, &["i1"]);
    let mut seen = world.seen();
    seen.reverse();
    // The same requests once more, as after a retransmission.
    for webhook in seen.iter().chain(&seen) {
        assert_eq!(application.receive(&webhook.header, webhook.body.as_bytes()).await, 200);
    }
    application.read();
    assert_eq!((application.reads, application.to_read.len()), (1, 0));
    // Equal bodies are separate notifications: one that comes after a read causes another read.
    world.pass(60).await;
    world.notify("i1", changes()).await;
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
        0 => Reply::Never,
        _ => Reply::Status(200),
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

/// Two updates of one Item within one second produce the same bytes: an application that has read
/// in between receives the second one nevertheless.
#[tokio::test(start_paused = true)]
async fn two_commits_of_one_second_are_both_heard_of_by_an_application_that_reads_between() {
    let world = Arc::new(World::new(ok));
    world.link("i1", connection("app")).await;
    let application = Arc::new(tokio::sync::Mutex::new(Application::new(&world, &["i1"])));
    let receiver = Receiver(application.clone(), Arc::default());
    let sender = world.sender_over(Arc::new(receiver), SenderSettings::default());
    for round in 1..=3 {
        world.notify("i1", changes()).await;
        assert_eq!(sender.deliver_due().await, 1);
        let mut application = application.lock().await;
        application.read();
        assert_eq!(application.reads, round, "round {round}");
    }
    assert_eq!(world.now(), super::at(super::world::START), "no second has passed");
}

/// Two equal notifications in the outbox are sent once.
#[tokio::test(start_paused = true)]
async fn what_waits_for_an_endpoint_that_is_down_becomes_one_webhook() {
    let world = World::new(ok);
    world.link("i1", connection("app")).await;
    for _ in 0..20 {
        world.notify("i1", changes()).await;
    }
    assert_eq!(world.waiting().await, 1);
    assert_eq!(world.sender().deliver_due().await, 1);
}

#[tokio::test(start_paused = true)]
async fn case_43_a_webhook_for_an_item_that_nobody_knows_is_answered_and_not_sent_again() {
    let world = Arc::new(World::new(ok));
    let application = Application::new(&world, &["known"]);
    world.link("unknown", connection("app")).await;
    world.notify("unknown", changes()).await;
    let receiver = Receiver(Arc::new(tokio::sync::Mutex::new(application)), Arc::default());
    let sender = world.sender_over(Arc::new(receiver.clone()), SenderSettings::default());
    world.send_for(&sender, 2).await;
    assert_eq!(*receiver.1.lock().unwrap(), [200]);
    assert_eq!(world.waiting().await, 0);
    // Other errors are no reason for a 5xx either.
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

/// The application behind a transport, with the statuses of its responses.
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
