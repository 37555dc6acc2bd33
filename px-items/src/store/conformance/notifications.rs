//! Notifications of a partner.

use super::world::*;
use crate::{
    item::State,
    store::{
        AccessDigest, LeaseOutcome, NotificationRequest, NotifyBatch, NotifyOutcome, Store,
        StoreErrorKind,
    },
};
use px_types::InstitutionId;
use std::sync::Arc;

const UPDATE: NotificationRequest = NotificationRequest::Update { since: None };

pub(super) async fn a_notification_makes_due(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.settled("anna", 100).await;
    let since = |date| NotificationRequest::Update { since: Some(day(date)) };
    world.notify("anna", since("2026-01-05"), 10).await;
    let record = world.item("anna").await;
    assert_eq!((record.state, record.due_at), (State::Idle, Some(at(10))));
    assert_eq!(record.notified_since, Some(day("2026-01-05")));
    assert!(record.notified > 0);
    // Later notifications do not defer it, and the earliest date is stored.
    world.notify("anna", since("2026-01-03"), 11).await;
    world.notify("anna", since("2026-01-07"), 12).await;
    world.notify("anna", UPDATE, 13).await;
    let record = world.claim_by_name("anna").await;
    assert_eq!(record.due_at, Some(at(10)));
    assert_eq!(record.notified_since, Some(day("2026-01-03")));
    world.0.commit(finish(&record, 200)).await.unwrap();
    let record = world.item("anna").await;
    assert_eq!(
        (record.due_at, record.notified_since),
        (Some(at(200)), None),
        "the update covered it"
    );
}

pub(super) async fn case_32_notifications_during_a_lease_cause_one_more(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.settled("anna", 0).await;
    let record = world.claim_by_name("anna").await;
    for minute in 1..=50 {
        world
            .notify("anna", NotificationRequest::Update { since: Some(day("2026-01-02")) }, minute)
            .await;
    }
    assert!(world.claim(59, 1).await.is_empty(), "one update at a time");
    // A part of a long fetch is stored: the lease stays.
    let mut part = finish(&record, 0);
    part.state = State::Updating;
    part.lease = LeaseOutcome::Keep { lease_until: at(70) };
    world.0.commit(part).await.unwrap();
    assert!(world.claim(69, 1).await.is_empty());
    world.0.commit(finish(&record, 1000)).await.unwrap();

    let after = world.item("anna").await;
    assert_eq!(after.due_at, Some(at(0)), "due at once");
    assert_eq!(after.notified_since, Some(day("2026-01-02")), "the requested date is stored");
    let second = world.0.claim(at(70), at(80), 9).await.unwrap();
    assert_eq!(second.len(), 1);
    world.0.commit(finish(&second[0], 1000)).await.unwrap();
    assert!(world.claim(999, 9).await.is_empty(), "exactly one more update");
    assert_eq!(world.item("anna").await.notified_since, None);
}

pub(super) async fn case_45_a_notification_waits_for_the_partners_retry_after(
    store: Arc<dyn Store>,
) {
    let world = World::new(store);
    world.settled("anna", 0).await;
    let record = world.claim_by_name("anna").await;
    let mut commit = finish(&record, 60);
    commit.lease = LeaseOutcome::Release {
        due_at: Some(at(60)),
        not_before: Some(at(45)),
        seen: record.notified,
    };
    world.0.commit(commit).await.unwrap();
    assert_eq!(world.item("anna").await.not_before, Some(at(45)));
    world.notify("anna", UPDATE, 10).await;
    assert_eq!(world.item("anna").await.due_at, Some(at(45)));
    world.notify("anna", UPDATE, 50).await;
    assert_eq!(world.item("anna").await.due_at, Some(at(45)), "not deferred");

    // A notification during the lease waits as well.
    let record = world.claim_by_name("anna").await;
    world.notify("anna", UPDATE, 1).await;
    let mut commit = finish(&record, 300);
    commit.lease = LeaseOutcome::Release {
        due_at: Some(at(300)),
        not_before: Some(at(90)),
        seen: record.notified,
    };
    world.0.commit(commit).await.unwrap();
    assert_eq!(world.item("anna").await.due_at, Some(at(90)));
    // A success resets the partner's time.
    let record = world.claim_by_name("anna").await;
    world.0.commit(finish(&record, 300)).await.unwrap();
    assert_eq!(world.item("anna").await.not_before, None);
}

pub(super) async fn a_batch_is_applied_whole_or_not_at_all(store: Arc<dyn Store>) {
    let world = World::new(store);
    for name in ["anna", "bert"] {
        world.settled(name, 100).await;
    }
    world.link_with("carl", crate::store::NewHolder::Partner, tokens("carl"), "carl/p", 0).await;
    let notify = async |bank: &str, tokens: &[&str]| {
        let entries = tokens.iter().map(|token| (digest(token), UPDATE)).collect();
        let bank = InstitutionId::new(bank).unwrap();
        world.0.notify(&NotifyBatch::new(bank, entries, at(10))).await.unwrap()
    };
    let before = (world.item("anna").await, world.item("bert").await);
    let unknown = notify("bank", &["anna/app", "bert/app", "nobody", "anna/app"]).await;
    assert_eq!(unknown, NotifyOutcome::Unknown(2));
    let unknown = notify("bank", &["nobody", "anna/app", "noone"]).await;
    assert_eq!(unknown, NotifyOutcome::Unknown(0), "the first unknown entry");
    let unknown = notify("another bank", &["anna/app"]).await;
    assert_eq!(unknown, NotifyOutcome::Unknown(0), "a token of another partner");
    assert_eq!((world.item("anna").await, world.item("bert").await), before);

    let applied = notify("bank", &["anna/app", "bert/app", "anna/app", "carl/p"]).await;
    assert_eq!(applied, NotifyOutcome::Applied, "an Item may be named twice");
    assert_eq!(world.item("anna").await.due_at, Some(at(10)));
    assert_eq!(world.item("bert").await.due_at, Some(at(10)));
    assert_eq!(notify("bank", &[]).await, NotifyOutcome::Applied);
}

pub(super) async fn a_batch_of_two_thousand_is_applied(store: Arc<dyn Store>) {
    let world = World::new(store);
    const ITEMS: u16 = 40;
    for number in 0..ITEMS {
        world.link(&format!("{number}"), accounts_only("app"), 50).await;
    }
    let token = |number: u16| digest(&format!("{}/app", number % ITEMS));
    let mut entries: Vec<(AccessDigest, NotificationRequest)> =
        (0..2000).map(|number| (token(number), UPDATE)).collect();
    let batch = NotifyBatch::new(bank(), entries.clone(), at(10));
    assert_eq!(world.0.notify(&batch).await.unwrap(), NotifyOutcome::Applied);
    assert_eq!(world.claim(10, 100).await.len(), usize::from(ITEMS));
    entries[1999].0 = digest("nobody");
    let batch = NotifyBatch::new(bank(), entries, at(10));
    assert_eq!(world.0.notify(&batch).await.unwrap(), NotifyOutcome::Unknown(1999));
}

pub(super) async fn entries_of_one_item_count_together(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.settled("anna", 100).await;
    world.settled("bert", 100).await;
    let anna = digest("anna/app");
    let since = |date| NotificationRequest::Update { since: Some(day(date)) };
    let entries = vec![
        (anna, since("2026-01-05")),
        (anna, NotificationRequest::Cycle),
        (digest("bert/app"), UPDATE),
        (anna, since("2026-01-03")),
        (anna, UPDATE),
    ];
    world.0.notify(&NotifyBatch::new(bank(), entries, at(10))).await.unwrap();
    let record = world.item("anna").await;
    assert_eq!(record.notified_since, Some(day("2026-01-03")));
    assert!(record.cycle_tokens);
    let record = world.item("bert").await;
    assert_eq!((record.notified_since, record.cycle_tokens), (None, false));

    let entries = vec![(anna, NotificationRequest::Revoked), (anna, UPDATE)];
    world.0.notify(&NotifyBatch::new(bank(), entries, at(10))).await.unwrap();
    assert_eq!(world.item("anna").await.state, State::IdleLoginRequired);
}

pub(super) async fn a_revocation_by_the_partner_ends_the_access(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.settled("anna", 100).await;
    world.link("anna", accounts_only("second"), 0).await;
    world.settled("bert", 100).await;
    world.deliver(0).await;
    let leased = world.claim_by_name("anna").await;
    world.notify("anna", NotificationRequest::Revoked, 5).await;

    let record = world.item("anna").await;
    assert_eq!(record.state, State::IdleLoginRequired);
    assert_eq!((record.due_at, record.leased_until), (None, None));
    assert!(world.0.tokens(&item("anna")).await.unwrap().is_none());
    assert_eq!(world.refused(finish(&leased, 100)).await, StoreErrorKind::Fenced);
    let webhooks = world.webhooks(5).await;
    assert_eq!(receivers(&webhooks), ["app ERROR", "second ERROR"]);
    let body: serde_json::Value = serde_json::from_str(&webhooks[0].body).unwrap();
    assert_eq!(body["error"]["error_code"], "ITEM_LOGIN_REQUIRED");
    assert_eq!(world.item("bert").await.due_at, Some(at(100)), "not affected");

    // Repeated: it has been applied already.
    let before = world.item("anna").await;
    world.notify("anna", NotificationRequest::Revoked, 6).await;
    assert_eq!(world.item("anna").await, before);
    assert!(world.webhooks(5).await.is_empty());

    world.link("carl", connection("app"), 0).await;
    world.notify("carl", NotificationRequest::Revoked, 6).await;
    assert_eq!(world.item("carl").await.state, State::CreatedLoginRequired);
}
