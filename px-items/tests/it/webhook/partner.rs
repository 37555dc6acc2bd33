//! Notifications of partners: signed, sent like webhooks, and dropped if the partner does not offer
//! the endpoint.

use super::{
    at,
    world::{Reply, START, Seen, World, connection},
};
use async_trait::async_trait;
use px_client::oauth::TokenSet;
use px_client::{PartnerClient, PartnerClientBuilder, RetryPolicy};
use px_core::{InProcessTransport, SeededRandom};
use px_items::{
    applications::FixedApplications,
    items::Items,
    partners::{FixedPartners, Partner},
    webhook::Sender,
};
use px_server::{
    Caller, Error, PartnerService, TokenGrant,
    verify::{TokenVerifier, VerifyError},
};
use px_types::{
    AccessToken, InstitutionId, UserId,
    model::application_details::Application,
    partner::{
        GetUser, ListTransactions, NewApplicationLinkNotification, TransactionsResponse,
        UserAccountInfoResponse,
    },
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

const NOTIFY: &str = "https://bank.example/applications/notify";

fn bank() -> InstitutionId {
    InstitutionId::new("bank").unwrap()
}

impl World {
    /// Returns a sender with a partner that is reached over the scripted network.
    fn sender_to_partner(&self, signed: bool) -> Sender {
        let client = PartnerClient::builder("https://bank.example", Arc::new(self.net().clone()));
        self.sender_to(if signed {
            client.signer(self.signer.for_partner(bank(), self.clock.clone()))
        } else {
            client
        })
    }

    fn sender_to(&self, client: PartnerClientBuilder) -> Sender {
        let client = client.clock(self.clock.clone()).retry(RetryPolicy::never()).build().unwrap();
        let partners = FixedPartners::new().with(bank(), Partner::new(client));
        Sender::builder(self.store.clone(), Arc::new(self.net().clone()), self.signer.clone())
            .clock(self.clock.clone())
            .random(Arc::new(SeededRandom::new(1)))
            .partners(Arc::new(partners))
            .build()
    }

    /// Links a user to an application and queues the notification of the partner.
    async fn link_with_notice(&self, user: &str) {
        let connection = connection("app");
        let registered = Application::new(connection.application_id.clone(), "Budget App");
        let items = Items::builder(self.store.clone())
            .clock(self.clock.clone())
            .applications(Arc::new(FixedApplications::new().with(registered)))
            .build();
        let tokens = TokenSet::new(AccessToken::new("bank-token"), self.now());
        items.link(&bank(), &UserId::new(user).unwrap(), tokens, connection).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_notification_to_a_partner_is_signed_and_sent_once() {
    let world = World::new(|_| Reply::Status(200));
    world.link_with_notice("anna").await;
    let sender = world.sender_to_partner(true);
    assert_eq!(sender.deliver_due().await, 1);
    let seen = world.seen();
    assert_eq!((seen.len(), seen[0].url.as_str()), (1, NOTIFY));
    world.verifier().verify(&seen[0].header, seen[0].body.as_bytes(), None).await.unwrap();
    let notification: NewApplicationLinkNotification =
        px_types::decode(seen[0].body.as_bytes()).unwrap();
    let claims = super::claims(&seen[0].header);
    assert_eq!(claims.names_recipient("bank"), Some(true));
    assert_eq!(claims.id(), Some(notification.notification_id.as_str()));
    assert_eq!(
        (notification.user_id.as_str(), notification.application.name.as_str()),
        ("anna", "Budget App")
    );
    assert_eq!((world.waiting().await, sender.deliver_due().await), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_partner_is_notified_again_on_schedule_for_a_day() {
    for response in [400, 401, 408, 500, 503] {
        let world = World::new(move |_| Reply::Status(response));
        world.link_with_notice("anna").await;
        let sender = world.sender_to_partner(true);
        world.send_for(&sender, 30).await;
        assert_eq!(world.seconds(), [0, 30, 150, 630, 2_550, 10_230, 40_950], "{response}");
        assert_eq!(world.waiting().await, 0, "{response}");
        let bodies: BTreeSet<_> = world.seen().into_iter().map(|seen| seen.body).collect();
        assert_eq!(bodies.len(), 1, "one notification, under one id");
    }
}

#[tokio::test(start_paused = true)]
async fn a_partner_that_does_not_offer_it_is_left_alone() {
    let world = World::new(|_| Reply::Status(404));
    for user in ["anna", "bert", "carl"] {
        world.link_with_notice(user).await;
    }
    let sender = world.sender_to_partner(true);
    world.send_for(&sender, 1).await;
    assert_eq!(world.seconds(), [0, 0, 0], "each once, and no circuit opened");
    assert_eq!(world.waiting().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_partner_that_hangs_holds_up_no_application() {
    let world = World::new(|seen: &Seen| match seen.url.as_str() {
        NOTIFY => Reply::Never,
        _ => Reply::Status(200),
    });
    world.link_with_notice("anna").await;
    world.queue("app", 3).await;
    let sender = world.sender_to_partner(true);
    assert_eq!(sender.deliver_due().await, 4);
    assert_eq!(world.seen().len(), 4);
    assert_eq!((world.now() - at(START)).num_seconds(), 10, "no longer than a response may take");
    assert_eq!(world.waiting().await, 1, "it is notified later");
}

#[tokio::test(start_paused = true)]
async fn what_this_sender_cannot_send_waits() {
    let world = World::new(|_| Reply::Status(200));
    world.link_with_notice("anna").await;
    let unsigned = world.sender_to_partner(false);
    world.send_for(&unsigned, 1).await;
    assert_eq!((world.seen().len(), world.waiting().await), (0, 1));
    world.sender_to_partner(true).deliver_due().await;
    world.pass(60).await;
    world.sender_to_partner(true).deliver_due().await;
    assert_eq!((world.seen().len(), world.waiting().await), (1, 0));

    // A sender that does not know the partner leaves it to one that does.
    world.link_with_notice("bert").await;
    let stranger = world.sender();
    world.send_for(&stranger, 1).await;
    assert_eq!((world.seen().len(), world.waiting().await), (1, 1));
    world.pass(60).await;
    world.sender_to_partner(true).deliver_due().await;
    assert_eq!((world.seen().len(), world.waiting().await), (2, 0));
    world.link_with_notice("carl").await;
    world.send_for(&stranger, 25).await;
    assert_eq!((world.seen().len(), world.waiting().await), (2, 0));
}

struct Bank(Arc<Mutex<Vec<NewApplicationLinkNotification>>>);

#[async_trait]
impl px_server::Partner for Bank {
    async fn user(&self, _: &Caller, _: GetUser) -> Result<UserAccountInfoResponse, Error> {
        Err(Error::internal("not used here"))
    }

    async fn transactions(
        &self,
        _: &Caller,
        _: ListTransactions,
    ) -> Result<TransactionsResponse, Error> {
        Err(Error::internal("not used here"))
    }

    async fn application_linked(
        &self,
        notification: NewApplicationLinkNotification,
    ) -> Result<(), Error> {
        self.0.lock().unwrap().push(notification);
        Ok(())
    }
}

struct RejectAll;

#[async_trait]
impl TokenVerifier for RejectAll {
    async fn verify(&self, _: &AccessToken) -> Result<Arc<TokenGrant>, VerifyError> {
        Err(VerifyError::invalid())
    }
}

/// Both halves: the notification that `Items` queues arrives at the method of a bank.
#[tokio::test(start_paused = true)]
async fn a_bank_is_handed_what_was_queued() {
    let world = World::new(|_| Reply::Status(200));
    world.link_with_notice("anna").await;
    let heard = Arc::default();
    let verifier = world.verifier().clock(world.clock.clone());
    let service = PartnerService::builder(Bank(Arc::clone(&heard)))
        .tokens(Arc::new(RejectAll))
        .notifications(Arc::new(verifier))
        .build()
        .unwrap();
    let client = PartnerClient::builder("https://bank.example", InProcessTransport::new(service))
        .signer(world.signer.for_partner(bank(), world.clock.clone()));
    assert_eq!(world.sender_to(client).deliver_due().await, 1);
    assert_eq!(world.waiting().await, 0);
    let heard = heard.lock().unwrap();
    assert_eq!((heard.len(), heard[0].application.name.as_str()), (1, "Budget App"));
}
