//! Notifications of partners: all entries or none, and each Item once.

use super::world::{ALL, World, bank, date, foreign, user};
use chrono::TimeDelta;
use px_core::Clock as _;
use px_items::{
    item::State,
    items::{ItemsErrorKind, LinkedApplication},
};
use px_types::{InstitutionId, ItemAccessToken, ItemId, UserId, plaid};
use serde_json::json;

fn transactions(tokens: &[&ItemAccessToken], since: &str) -> plaid::NewTransactionsNotification {
    let entries: Vec<_> = tokens
        .iter()
        .map(|token| json!({ "access_token": token.expose(), "account_id": "account-checking" }))
        .collect();
    decode(json!({ "notifications": entries, "new_since": since }))
}

fn accounts(tokens: &[&ItemAccessToken]) -> plaid::AccountsNotification {
    let entries: Vec<_> = tokens
        .iter()
        .map(|token| {
            json!({ "access_token": token.expose(), "account_id": "new", "event": "opened" })
        })
        .collect();
    decode(json!({ "notifications": entries }))
}

fn tokens(entries: &[(&ItemAccessToken, &str)]) -> plaid::TokensNotification {
    let entries: Vec<_> = entries
        .iter()
        .map(|(token, action)| json!({ "access_token": token.expose(), "action": action }))
        .collect();
    decode(json!({ "notifications": entries }))
}

fn decode<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).unwrap()
}

async fn two_items() -> (World, LinkedApplication, LinkedApplication) {
    let (world, one) = World::complete().await;
    let other = world.connect_user("user-2", world.connection("first", ALL)).await;
    world.fill(&other.item_id, user()).await;
    world.woken();
    (world, one, other)
}

async fn is_due(world: &World, item: &ItemId) -> bool {
    let record = world.store.item(item).await.unwrap().unwrap();
    record.due_at.is_some_and(|due_at| due_at <= world.clock.now())
}

#[tokio::test]
async fn a_notification_makes_items_due_from_its_date_on() {
    let (world, one, other) = two_items().await;
    // The date of a timestamp may be the bank's previous day.
    for (since, read_from) in [("2026-01-15", "2026-01-15"), ("2026-01-10T00:30:00Z", "2026-01-09")]
    {
        let notification = transactions(&[&one.access_token, &one.access_token], since);
        world.items.handle_transactions_notification(&bank(), &notification).await.unwrap();
        let record = world.store.item(&one.item_id).await.unwrap().unwrap();
        assert_eq!(record.notified_since, Some(date(read_from)));
    }
    assert!(is_due(&world, &one.item_id).await);
    assert!(!is_due(&world, &other.item_id).await);
    assert!(world.woken());

    world
        .items
        .handle_accounts_notification(&bank(), &accounts(&[&other.access_token]))
        .await
        .unwrap();
    assert!(is_due(&world, &other.item_id).await);
}

#[tokio::test]
async fn a_partners_own_token_names_its_item() {
    let (world, linked) = World::complete().await;
    let user = UserId::new("user-1").unwrap();
    let partner = world.items.import(&bank(), &user, world.tokens("b")).await.unwrap();
    let notification = transactions(&[&partner.access_token], "2026-02-20");
    world.items.handle_transactions_notification(&bank(), &notification).await.unwrap();
    assert!(is_due(&world, &linked.item_id).await);
}

#[tokio::test]
async fn one_unknown_entry_stops_all_of_them() {
    let (world, one, other) = two_items().await;
    let stranger = foreign();
    let all = [&one.access_token, &other.access_token, &stranger];
    let failures = [
        world
            .items
            .handle_transactions_notification(&bank(), &transactions(&all, "2026-02-01"))
            .await,
        world.items.handle_accounts_notification(&bank(), &accounts(&all)).await,
        world
            .items
            .handle_tokens_notification(
                &bank(),
                &tokens(&[(all[0], "revoked"), (all[1], "cycle"), (all[2], "revoked")]),
            )
            .await,
    ];
    for failure in failures {
        let error = failure.unwrap_err();
        assert_eq!((error.kind(), error.index()), (ItemsErrorKind::InvalidAccessToken, Some(2)));
        let body = error.to_plaid_error("r1");
        assert_eq!(body.error_code, "INVALID_ACCESS_TOKEN");
        assert!(body.error_message.contains("notifications[2]"), "{}", body.error_message);
    }
    for linked in [&one, &other] {
        assert!(!is_due(&world, &linked.item_id).await);
        assert_eq!(world.state(&linked.item_id).await, State::Idle);
    }
    assert!(!world.woken(), "nothing happened");
}

#[tokio::test]
async fn another_institution_names_nobodys_items() {
    let (world, linked) = World::complete().await;
    let stranger = InstitutionId::new("another-bank").unwrap();
    let notification = tokens(&[(&linked.access_token, "revoked")]);
    let error = world.items.handle_tokens_notification(&stranger, &notification).await.unwrap_err();
    assert_eq!((error.kind(), error.index()), (ItemsErrorKind::InvalidAccessToken, Some(0)));
    assert_eq!(world.state(&linked.item_id).await, State::Idle);
}

#[tokio::test]
async fn a_batch_revokes_some_and_cycles_others() {
    let (world, one, other) = two_items().await;
    let batch = tokens(&[(&one.access_token, "revoked"), (&other.access_token, "cycle")]);
    world.items.handle_tokens_notification(&bank(), &batch).await.unwrap();
    assert_eq!(world.state(&one.item_id).await, State::IdleLoginRequired);
    assert_eq!(world.store.tokens(&one.item_id).await.unwrap(), None);
    assert!(is_due(&world, &other.item_id).await);
    assert!(world.store.item(&other.item_id).await.unwrap().unwrap().cycle_tokens);

    // Stored data stays readable, and the error is shown.
    let accounts = world.items.accounts(&one.access_token).await.unwrap();
    assert_eq!(accounts.error.unwrap().error_code, "ITEM_LOGIN_REQUIRED");
}

#[tokio::test]
async fn an_action_that_is_not_known_is_refused_whole() {
    let (world, one, other) = two_items().await;
    let batch = tokens(&[(&one.access_token, "revoked"), (&other.access_token, "frobnicate")]);
    let error = world.items.handle_tokens_notification(&bank(), &batch).await.unwrap_err();
    assert_eq!((error.kind(), error.index()), (ItemsErrorKind::InvalidField, Some(1)));
    assert!(!error.to_string().contains("frobnicate"));
    assert_eq!(world.state(&one.item_id).await, State::Idle);
}

#[tokio::test]
async fn while_an_update_runs_any_number_cause_one_more() {
    let (world, linked) = World::complete().await;
    let now = world.clock.now();
    let lease = now + TimeDelta::minutes(1);
    let record = world.store.claim_one(&linked.item_id, now, lease).await.unwrap().unwrap();
    let notification = transactions(&[&linked.access_token], "2026-02-20");
    for _ in 0..3 {
        world.items.handle_transactions_notification(&bank(), &notification).await.unwrap();
    }
    assert!(world.store.claim(now, lease, 10).await.unwrap().is_empty(), "a worker has it");
    let then = px_items::store::LeaseOutcome::Release {
        due_at: Some(now + TimeDelta::days(1)),
        not_before: None,
        seen: record.notified,
    };
    let commit = px_items::store::Commit::new(&record, State::Idle, now, then);
    world.store.commit(commit).await.unwrap();
    assert_eq!(world.store.claim(now, lease, 10).await.unwrap().len(), 1, "once more");
    world.store.hand_back(&[]).await.unwrap();
}
