//! Webhooks: they are stored with the commit, and stay until they are delivered.

use super::world::*;
use crate::store::{
    LeaseOutcome, Listener, NotificationRequest, NotifyBatch, QueuedWebhook, Store, StoreErrorKind,
    WebhookSettlement,
};
use px_types::model::plaid_error::{PlaidError, PlaidErrorType};
use std::{collections::BTreeSet, sync::Arc};

pub(super) async fn case_38_webhooks_come_with_the_commit(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.settled("anna", 0).await;
    let late = world.0.claim(at(0), at(10), 1).await.unwrap().remove(0);
    let present = world.0.claim(at(10), at(20), 1).await.unwrap().remove(0);
    let mut commit = finish(&late, 100);
    commit.changes = new_transactions();
    commit.transactions = writing([posted("t1", "2026-01-01")]);
    // A webhook is queued if and only if the commit is stored.
    assert_eq!(world.refused(commit.clone()).await, StoreErrorKind::Fenced);
    assert!(world.webhooks(10).await.is_empty());
    for round in 1..=20_i64 {
        let record = if round == 1 { present.clone() } else { world.claim_by_name("anna").await };
        let mut commit = finish(&record, 100);
        commit.changes = new_transactions();
        commit.transactions = writing([posted("t1", "2026-01-01")]);
        commit.now = at(round);
        world.0.commit(commit).await.unwrap();
        assert_eq!(world.item("anna").await.change_seq, round);
        let expected = ["app DEFAULT_UPDATE", "app SYNC_UPDATES_AVAILABLE"];
        assert_eq!(world.deliver(round).await, expected, "round {round}");
    }
}

pub(super) async fn webhooks_are_sent_to_applications_connected_at_the_time(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.settled("anna", 0).await;
    world.link("anna", connection("leaves"), 0).await;
    world.deliver(0).await;
    let record = world.claim_by_name("anna").await;
    let mut silent = connection("silent");
    silent.webhook = None;
    let mut blind = connection("blind");
    blind.accounts = Some([account_id("another")].into());
    for joins in [connection("joins"), silent, blind] {
        world.link("anna", joins, 0).await;
    }
    world.deliver(0).await;
    world.0.unlink(&item("anna"), Some(&app("leaves")), at(0)).await.unwrap();
    let mut commit = finish(&record, 100);
    commit.changes = new_transactions();
    world.0.commit(commit).await.unwrap();
    let expected = [
        "app DEFAULT_UPDATE",
        "app SYNC_UPDATES_AVAILABLE",
        "joins DEFAULT_UPDATE",
        "joins SYNC_UPDATES_AVAILABLE",
    ];
    assert_eq!(world.deliver(0).await, expected);
}

/// Queues two webhooks for each minute, each pair from its own Item: `u0`, `u1` and so on.
async fn fill(world: &World, minutes: impl IntoIterator<Item = i64>) {
    for (index, minute) in minutes.into_iter().enumerate() {
        let name = format!("u{index}");
        world.settled(&name, 0).await;
        let record = world.claim_by_name(&name).await;
        let mut commit = finish(&record, 1000);
        commit.changes = new_transactions();
        commit.now = at(minute);
        world.0.commit(commit).await.unwrap();
    }
}

pub(super) async fn webhooks_are_taken_and_settled(store: Arc<dyn Store>) {
    let world = World::new(store);
    fill(&world, [3, 1, 2]).await;
    let claim = async |minute, limit| {
        world.0.claim_webhooks(at(minute), at(minute + 10), limit).await.unwrap()
    };
    assert!(claim(0, 9).await.is_empty(), "nothing is due yet");
    let first = claim(2, 3).await;
    let queued: Vec<_> = first.iter().map(|webhook| webhook.created_at).collect();
    assert_eq!(queued, [at(1), at(1), at(2)], "the longest due first");
    assert!(first[0].id < first[1].id, "in the order of the commit");
    assert!(first.iter().all(|webhook| webhook.attempt == 1));
    assert_eq!((&first[0].item_id, &first[0].application_id), (&item("u1"), &app("app")));
    assert_eq!(first[0].to.url(), Some("https://app.example/hook"));
    let rest = claim(3, 9).await;
    assert_eq!(rest.len(), 3);

    world.0.settle_webhook(&first[0], None).await.unwrap();
    world.0.settle_webhook(&first[1], Some(at(30))).await.unwrap();
    for webhook in &rest {
        world.0.settle_webhook(webhook, None).await.unwrap();
    }
    // The third one was never settled: its worker stopped.
    let again = claim(12, 9).await;
    assert_eq!(again.len(), 1);
    assert_eq!((again[0].id, again[0].attempt), (first[2].id, 2));
    assert_eq!(again[0].body, first[2].body, "the body is unchanged");
    world.0.settle_webhook(&again[0], None).await.unwrap();
    let later = claim(30, 9).await;
    assert_eq!((later.len(), later[0].id, later[0].attempt), (1, first[1].id, 2));
    assert_eq!(later[0].created_at, at(1));
}

/// Returns Item, receiver, code, and numbers of added and removed transactions of webhooks.
fn said(webhooks: &[QueuedWebhook]) -> Vec<String> {
    let said = |webhook: &QueuedWebhook| {
        let body: serde_json::Value = serde_json::from_str(&webhook.body).unwrap();
        let (item, code) = (&body["item_id"], body["webhook_code"].as_str().unwrap());
        let rest = match code {
            "DEFAULT_UPDATE" => body["new_transactions"].to_string(),
            "TRANSACTIONS_REMOVED" => body["removed_transactions"].to_string(),
            _ => body["historical_update_complete"].to_string(),
        };
        format!("{} {} {code} {rest}", item.as_str().unwrap(), webhook.application_id)
    };
    webhooks.iter().map(said).collect()
}

/// Commits added and removed transactions.
async fn change(world: &World, name: &str, minute: i64, new: u64, gone: &[&str]) {
    let record = world.claim_by_name(name).await;
    let mut commit = finish(&record, 1000);
    commit.changes = new_transactions();
    commit.changes.added = [(account_id("giro"), new)].into();
    commit.changes.removed = gone.iter().map(|gone| (account_id("giro"), id(gone))).collect();
    commit.now = at(minute);
    world.0.commit(commit).await.unwrap();
}

pub(super) async fn webhooks_of_one_code_that_wait_become_one(store: Arc<dyn Store>) {
    let world = World::new(store);
    for name in ["anna", "bert"] {
        world.settled(name, 0).await;
    }
    world.link("anna", connection("other"), 0).await;
    world.deliver(0).await;
    change(&world, "anna", 1, 2, &["t1", "t2"]).await;
    change(&world, "bert", 2, 7, &[]).await;
    change(&world, "anna", 3, 3, &["t2", "t3"]).await;
    let first = world.0.claim_webhooks(at(9), at(10), 9).await.unwrap();
    let expected = [
        "anna app DEFAULT_UPDATE 5",
        r#"anna app TRANSACTIONS_REMOVED ["t1","t2","t3"]"#,
        "anna app SYNC_UPDATES_AVAILABLE true",
        "anna other DEFAULT_UPDATE 5",
        r#"anna other TRANSACTIONS_REMOVED ["t1","t2","t3"]"#,
        "anna other SYNC_UPDATES_AVAILABLE true",
        "bert app DEFAULT_UPDATE 7",
        "bert app SYNC_UPDATES_AVAILABLE true",
    ];
    assert_eq!(said(&first), expected);
    let queued: Vec<_> = first.iter().map(|webhook| webhook.created_at).collect();
    assert_eq!(queued[..6], [at(1); 6], "queued since the first of them");

    // Webhooks that are or were being sent are not changed: their receiver may have them.
    change(&world, "anna", 9, 1, &[]).await;
    world.0.settle_webhook(&first[0], Some(at(20))).await.unwrap();
    change(&world, "anna", 9, 1, &[]).await;
    let again = world.0.claim_webhooks(at(10), at(11), 99).await.unwrap();
    let new = [
        "anna app DEFAULT_UPDATE 2",
        "anna app SYNC_UPDATES_AVAILABLE true",
        "anna other DEFAULT_UPDATE 2",
        "anna other SYNC_UPDATES_AVAILABLE true",
    ];
    assert_eq!(said(&again[..4]), new, "those that were queued meanwhile");
    assert_eq!(said(&again[4..]), said(&first[1..]), "those with an expired lease");
    for webhook in &again {
        world.0.settle_webhook(webhook, None).await.unwrap();
    }
    // One that was handed back unsent can be merged with later ones.
    change(&world, "bert", 11, 1, &[]).await;
    let unsent = world.0.claim_webhooks(at(11), at(12), 99).await.unwrap();
    let back: Vec<_> = unsent.into_iter().map(|webhook| (webhook, at(13))).collect();
    world.0.hand_back_webhooks(&back).await.unwrap();
    change(&world, "bert", 12, 1, &[]).await;
    let last = world.0.claim_webhooks(at(13), at(14), 99).await.unwrap();
    assert_eq!(said(&last), ["bert app DEFAULT_UPDATE 2", "bert app SYNC_UPDATES_AVAILABLE true"]);
    for webhook in &last {
        world.0.settle_webhook(webhook, None).await.unwrap();
    }
    // The failed one is sent unchanged.
    let retried = world.0.claim_webhooks(at(20), at(21), 1).await.unwrap();
    assert_eq!((said(&retried), retried[0].attempt), (said(&first[..1]), 2));
}

pub(super) async fn an_error_after_a_repair_is_sent_after_it(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.settled("anna", 0).await;
    let fault = PlaidError::new(PlaidErrorType::ItemError, "ITEM_LOGIN_REQUIRED", "m");
    for (round, is_fault) in [true, false, true].into_iter().enumerate() {
        let record = world.claim_by_name("anna").await;
        let mut commit = finish(&record, 1000);
        commit.changes.repaired = !is_fault;
        commit.changes.fault = is_fault.then(|| fault.clone());
        commit.now = at(i64::try_from(round).unwrap());
        world.0.commit(commit).await.unwrap();
    }
    assert_eq!(world.deliver(9).await, ["app ERROR", "app LOGIN_REPAIRED", "app ERROR"]);
}

pub(super) async fn a_webhook_that_was_taken_again_is_not_settled_by_the_first(
    store: Arc<dyn Store>,
) {
    let world = World::new(store);
    fill(&world, [0]).await;
    let first = world.0.claim_webhooks(at(0), at(10), 1).await.unwrap().remove(0);
    let other = world.0.claim_webhooks(at(0), at(99), 9).await.unwrap();
    let second = world.0.claim_webhooks(at(10), at(20), 9).await.unwrap().remove(0);
    assert_eq!(first.id, second.id);
    world.0.settle_webhook(&first, None).await.unwrap();
    world.0.settle_webhook(&first, Some(at(11))).await.unwrap();
    assert!(world.0.claim_webhooks(at(15), at(25), 9).await.unwrap().is_empty());
    world.0.settle_webhook(&second, None).await.unwrap();
    world.0.settle_webhook(&second, Some(at(21))).await.unwrap();
    assert!(world.0.claim_webhooks(at(50), at(60), 9).await.unwrap().is_empty());
    // A number that was settled is not used for another webhook.
    world.0.settle_webhook(&other[0], None).await.unwrap();
    world.0.commit(finish(&world.claim_by_name("u0").await, 0)).await.unwrap();
    let record = world.claim_by_name("u0").await;
    let mut commit = finish(&record, 1000);
    commit.changes = new_transactions();
    world.0.commit(commit).await.unwrap();
    let next = world.webhooks(60).await;
    assert!(next.iter().all(|webhook| webhook.id > first.id.max(other[0].id)));
}

pub(super) async fn a_webhook_that_is_handed_back_was_not_taken(store: Arc<dyn Store>) {
    let world = World::new(store);
    fill(&world, [0]).await;
    let taken = world.0.claim_webhooks(at(0), at(10), 9).await.unwrap();
    let back: Vec<_> = taken.iter().cloned().zip([at(5), at(7)]).collect();
    world.0.hand_back_webhooks(&back).await.unwrap();
    assert!(world.0.claim_webhooks(at(4), at(14), 9).await.unwrap().is_empty());
    let again = world.0.claim_webhooks(at(7), at(17), 9).await.unwrap();
    assert_eq!(again, taken, "the same messages, order and attempts");
    // Its lease expired and another worker has it: it is too late to hand it back.
    let others = world.0.claim_webhooks(at(17), at(27), 9).await.unwrap();
    assert_eq!(others.iter().map(|webhook| webhook.attempt).collect::<Vec<_>>(), [2, 2]);
    let late: Vec<_> = again.into_iter().map(|webhook| (webhook, at(18))).collect();
    world.0.hand_back_webhooks(&late).await.unwrap();
    assert!(world.0.claim_webhooks(at(18), at(28), 9).await.unwrap().is_empty());
    world.0.settle_webhook(&others[0], None).await.unwrap();
    world.0.hand_back_webhooks(&[(others[0].clone(), at(18))]).await.unwrap();
    world.0.hand_back_webhooks(&[]).await.unwrap();
    assert_eq!(world.0.claim_webhooks(at(27), at(37), 9).await.unwrap().len(), 1);
}

pub(super) async fn nobody_takes_a_webhook_twice(store: Arc<dyn Store>) {
    let world = World::new(store);
    fill(&world, [0; 30]).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let world = world.clone();
        tasks.spawn(async move {
            let mut mine = Vec::new();
            loop {
                let taken = world.0.claim_webhooks(at(0), at(10), 4).await.unwrap();
                if taken.is_empty() {
                    return mine;
                }
                mine.extend(taken.into_iter().map(|webhook| webhook.id));
                tokio::task::yield_now().await;
            }
        });
    }
    let taken: Vec<i64> = tasks.join_all().await.into_iter().flatten().collect();
    let distinct: BTreeSet<_> = taken.iter().collect();
    assert_eq!(taken.len(), distinct.len());
    let rest = world.0.claim_webhooks(at(0), at(10), 100).await.unwrap();
    assert_eq!(distinct.len() + rest.len(), 60);
}

/// Many attempts are settled in one call: some end, some are due again, and those that were claimed
/// again meanwhile are not changed.
pub(super) async fn webhooks_are_settled_together(store: Arc<dyn Store>) {
    let world = World::new(store);
    for name in ["a", "b", "c", "d"] {
        world.link(name, connection("app"), 0).await;
        let record = world.claim_by_name(name).await;
        let mut commit = finish(&record, 1000);
        commit.changes = new_transactions();
        world.0.commit(commit).await.unwrap();
    }
    let first = world.webhooks(0).await;
    let of = |name: &str, all: &[QueuedWebhook]| {
        all.iter().find(|webhook| webhook.item_id.as_str() == name).unwrap().clone()
    };
    let again = world.webhooks(1).await;
    assert!(first.len() >= 4 && again.len() == first.len(), "claimed twice");
    let mut settlements = vec![
        WebhookSettlement::new(of("a", &again), None),
        WebhookSettlement::new(of("b", &again), Some(at(30))),
        WebhookSettlement::new(of("c", &first), None),
        WebhookSettlement::new(of("d", &first), Some(at(900))),
    ];
    for webhook in &again {
        let settled = |settlement: &WebhookSettlement| settlement.webhook.id == webhook.id;
        if !settlements.iter().any(settled) {
            settlements.push(WebhookSettlement::new(webhook.clone(), None));
        }
    }
    world.0.settle_webhooks(&settlements).await.unwrap();
    world.0.settle_webhooks(&[]).await.unwrap();
    let names = |webhooks: Vec<QueuedWebhook>| {
        webhooks.iter().map(|webhook| webhook.item_id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(world.webhooks(2).await), ["c", "d"], "their leases of minute 1 expired");
    assert!(world.webhooks(2).await.is_empty());
    assert_eq!(names(world.webhooks(30).await).len(), 3, "including the deferred one");
}

/// Components of the same process are notified at once of the work that a commit created.
pub(super) async fn a_commit_raises_the_signals_of_its_work(store: Arc<dyn Store>) {
    let world = World::new(store);
    let mut items = world.0.signals().items.listen();
    let mut outbox = world.0.signals().outbox.listen();
    let mut revocations = world.0.signals().revocations.listen();
    let raised = |listener: &mut Listener| {
        let mut raised = std::pin::pin!(listener.raised());
        futures_util::FutureExt::now_or_never(raised.as_mut()).is_some()
    };
    world.link("anna", connection("app"), 0).await;
    assert!(raised(&mut items), "it is due");
    let record = world.claim_by_name("anna").await;
    raised(&mut outbox);
    world.0.commit(finish(&record, 1000)).await.unwrap();
    assert!(!raised(&mut outbox), "nothing is sent");
    let record = world.claim_by_name("anna").await;
    let mut commit = finish(&record, 1000);
    commit.changes = new_transactions();
    world.0.commit(commit).await.unwrap();
    assert!(raised(&mut outbox));
    let record = world.claim_by_name("anna").await;
    raised(&mut items);
    world.0.commit(finish(&record, 1000)).await.unwrap();
    assert!(!raised(&mut items), "it is due later");
    let record = world.claim_by_name("anna").await;
    let mut commit = finish(&record, 1000);
    if let LeaseOutcome::Release { due_at, .. } = &mut commit.lease {
        *due_at = Some(commit.now);
    }
    world.0.commit(commit).await.unwrap();
    assert!(raised(&mut items), "it is due at once");
    world.notify("anna", NotificationRequest::Update { since: None }, 1).await;
    assert!(raised(&mut items));
    let entries = vec![(digest("nobody/app"), NotificationRequest::Update { since: None })];
    world.0.notify(&NotifyBatch::new(bank(), entries, at(1))).await.unwrap();
    assert!(!raised(&mut items), "the notification was refused");
    raised(&mut revocations);
    world.0.unlink(&item("anna"), Some(&app("app")), at(2)).await.unwrap();
    assert!(raised(&mut revocations));
}
