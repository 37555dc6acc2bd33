//! Accounts that came back under other ids: on hold until an operator decides.

use super::world::{
    ALL, World, account_id, account_like, bank, date, ids, row, user, with_standing,
};
use chrono::TimeDelta;
use px_client::Window;
use px_core::Clock;
use px_items::{
    connection::Connection,
    item::State,
    items::{Items, ItemsErrorKind, LinkedApplication, ReviewScope, TransactionsRequest},
    merge::{Absences, AccountIds, AccountStanding, KnownAccount, RowRule, merge_accounts},
    plan::PlanSettings,
    store::{AccountsWrite, Store},
    sync_state::Suspicion,
};
use px_types::{
    ItemId,
    model::{account::Account, product::Product},
    partner::UserAccountInfoResponse,
};
use std::sync::Arc;

/// Stores a complete response like an update.
async fn update(world: &World, item: &ItemId, response: UserAccountInfoResponse) {
    let known = world.store.accounts(item).await.unwrap();
    let merged = merge_accounts(
        &known,
        response,
        &Absences::new([].into(), world.clock.now(), TimeDelta::zero()),
    );
    world
        .work(item, |commit| {
            let mut write = AccountsWrite::default();
            write.accounts = merged.writes;
            write.identities = Some((merged.user_identity_id, merged.identities));
            commit.accounts = Some(write);
            if merged.ids_changed {
                commit.sync_state.suspicion = Some(Suspicion::AccountIdsChanged);
            }
        })
        .await;
}

/// Returns the fixture's response with all accounts under other ids.
fn renumbered() -> UserAccountInfoResponse {
    let mut response = user();
    for account in &mut response.accounts {
        account.id = account_id(&format!("new-{}", account.id));
    }
    response
}

async fn known(world: &World, item: &ItemId, id: &str) -> Option<KnownAccount> {
    let all = world.store.accounts(item).await.unwrap();
    all.into_iter().find(|known| known.account.id == account_id(id))
}

async fn seen(world: &World, linked: &LinkedApplication) -> Vec<String> {
    let accounts = world.items.accounts(&linked.access_token).await.unwrap().data;
    accounts.into_iter().map(|account: Account| account.id.to_string()).collect()
}

async fn history(world: &World, linked: &LinkedApplication) -> Vec<String> {
    let window = Window::new(date("2020-01-01"), date("2030-01-01")).unwrap();
    let request = TransactionsRequest::new(window);
    let page = world.items.transactions(&linked.access_token, &request).await.unwrap().data;
    ids(&page.transactions).into_iter().map(str::to_owned).collect()
}

#[tokio::test]
async fn case_09_accounts_under_new_ids_are_imported_once_and_go_on_after_a_remap() {
    let (world, linked) = World::complete().await;
    let item = &linked.item_id;
    world.add(item, [row("t1", "account-checking", "2026-02-01", "1.00")]).await;
    let before = seen(&world, &linked).await;
    let cursor = world.items.transactions_sync(&linked.access_token, None, None).await.unwrap();
    let cursor = cursor.data.next_cursor;

    // The bank gives every account another id: nothing is treated as new.
    for _ in 0..3 {
        update(&world, item, renumbered()).await;
    }
    assert_eq!(seen(&world, &linked).await, before);
    let on_hold = world.items.accounts_on_hold(item).await.unwrap();
    assert_eq!(on_hold.len(), before.len());
    let ids = AccountIds::of(&world.store.accounts(item).await.unwrap());
    let under_new_id = row("t1", "new-account-checking", "2026-02-01", "1.00");
    let rows = ids.translate(vec![under_new_id.clone()]);
    assert_eq!(rows, [], "and none of its transactions is read");

    // An operator decides about each.
    for id in &before {
        let new = account_id(&format!("new-{id}"));
        world.items.remap_account(item, &new, &account_id(id)).await.unwrap();
    }
    assert!(world.items.accounts_on_hold(item).await.unwrap().is_empty());
    assert_eq!(seen(&world, &linked).await, before, "applications know them by the old ids");
    let record = world.store.item(item).await.unwrap().unwrap();
    assert_eq!((record.state, record.sync_state.suspicion), (State::Idle, None));
    assert_eq!(record.due_at, Some(world.clock.now()), "and it is read at once");
    assert!(record.sync_state.deep.is_some(), "all of it: what came meanwhile may lie far back");

    // The bank's new id belongs to the account from then on; nothing is duplicated.
    update(&world, item, renumbered()).await;
    assert_eq!(seen(&world, &linked).await, before);
    assert!(world.items.accounts_on_hold(item).await.unwrap().is_empty());
    let checking = known(&world, item, "account-checking").await.unwrap();
    assert_eq!(checking.partner_id, account_id("new-account-checking"));
    assert_eq!(checking.standing, AccountStanding::Listed);
    let ids = AccountIds::of(&world.store.accounts(item).await.unwrap());
    let rows = ids.translate(vec![under_new_id]);
    assert_eq!(rows[0].account_id, account_id("account-checking"));
    assert_eq!(history(&world, &linked).await, ["t1"]);
    let page = world.items.transactions_sync(&linked.access_token, Some(&cursor), None).await;
    let page = page.unwrap().data;
    assert_eq!((page.added.len(), page.removed.len()), (0, 0));
}

/// The same with an engine and a bank: rows that posted under the new id while the account was on
/// hold are present after the remap, however old they are, and nothing is duplicated.
#[tokio::test(start_paused = true)]
async fn case_09_after_a_remap_the_engine_reads_what_was_left_out() {
    let world = crate::engine::world::World::new();
    let (recent, old) = (world.days_ago(2), world.days_ago(400));
    for (id, day) in [("t1", recent), ("t2", old)] {
        world.bank.put(crate::engine::bank::row(id, "5.00", day));
    }
    let items = Items::builder(Arc::clone(&world.store) as Arc<dyn Store>)
        .clock(Arc::clone(&world.clock) as Arc<dyn Clock>)
        .build();
    let connection = Connection::new("app".parse().unwrap(), [Product::Transactions], world.now());
    let user = "u-1".parse().unwrap();
    let linked = items.link(&bank(), &user, world.bank.tokens(false), connection).await.unwrap();
    world.engine.run_due().await;
    let before = world.stored(&linked.item_id).await;
    assert_eq!(before.len(), 2);

    // The bank gives its accounts other ids, and adds an old transaction to one of them.
    {
        let mut data = world.bank.data();
        for account in &mut data.accounts {
            account["id"] = format!("new-{}", account["id"].as_str().unwrap()).into();
        }
        let late = crate::engine::bank::row("t3", "7.00", world.days_ago(300));
        data.rows.insert(late.id.clone(), late);
        for row in data.rows.values_mut() {
            row.account_id = account_id(&format!("new-{}", row.account_id));
        }
    }
    for _ in 0..3 {
        world.pass(TimeDelta::days(2)).await;
        world.engine.run_due().await;
        assert_eq!(world.stored(&linked.item_id).await, before);
    }
    let on_hold = items.accounts_on_hold(&linked.item_id).await.unwrap();
    assert_eq!(on_hold.len(), 2);

    for id in ["a-1", "a-2"] {
        let new = account_id(&format!("new-{id}"));
        items.remap_account(&linked.item_id, &new, &account_id(id)).await.unwrap();
    }
    assert_eq!(world.engine.run_due().await, 1);
    let after = world.stored(&linked.item_id).await;
    let names: Vec<_> = after.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["t1", "t2", "t3"]);
    assert!(after.values().all(|row| row.account_id == account_id("a-1")));
    let page = items.transactions_sync(&linked.access_token, None, None).await.unwrap().data;
    assert_eq!((page.added.len(), page.removed.len()), (3, 0));
}

/// A bank gives all transactions of two years other ids. They are on hold until an operator decides
/// that they are the same. Then nothing is duplicated or lost, and newer rows are imported.
#[tokio::test(start_paused = true)]
async fn case_07_transactions_under_new_ids_go_on_once_a_person_says_that_they_are_the_same() {
    let world = crate::engine::world::World::new();
    for number in 0..60 {
        let (id, amount) = (format!("t-{number}"), format!("{number}.17"));
        let day = if number < 20 { number % 5 } else { number * 12 };
        world.bank.put(crate::engine::bank::row(&id, &amount, world.days_ago(day)));
    }
    let items = Items::builder(Arc::clone(&world.store) as Arc<dyn Store>)
        .clock(Arc::clone(&world.clock) as Arc<dyn Clock>)
        .build();
    let connection = Connection::new("app".parse().unwrap(), [Product::Transactions], world.now());
    let user = "u-1".parse().unwrap();
    let linked = items.link(&bank(), &user, world.bank.tokens(false), connection).await.unwrap();
    let item = &linked.item_id;
    world.engine.run_due().await;
    let before = world.stored(item).await;
    assert_eq!(before.len(), 60);
    let page = items.transactions_sync(&linked.access_token, None, Some(500)).await.unwrap().data;
    let scope = ReviewScope::Item(item.clone());
    let error = items.remap(&scope, "ops").await.unwrap_err();
    assert_eq!(error.kind(), ItemsErrorKind::InvalidField, "nothing waits for it");

    let renumber = |prefix: &str| {
        let mut data = world.bank.data();
        let rows = std::mem::take(&mut data.rows).into_values();
        data.rows = rows
            .map(|mut row| {
                row.id = format!("{prefix}-{}", row.id).parse().unwrap();
                (row.id.clone(), row)
            })
            .collect();
    };
    renumber("other");
    world.pass(TimeDelta::days(2)).await;
    let made_since = crate::engine::bank::row("made-since", "99.00", world.days_ago(0));
    world.bank.put(made_since.clone());
    world.engine.run_due().await;
    let mut meanwhile = before.clone();
    meanwhile.insert(made_since.id.clone(), made_since);
    assert_eq!(world.stored(item).await, meanwhile, "nothing but what is new was imported");

    items.remap(&scope, "ops").await.unwrap();
    assert_eq!(world.engine.run_due().await, 1, "it is read at once");
    let mut after = world.stored(item).await;
    let new = after.remove(&px_types::TransactionId::new("made-since").unwrap());
    assert!(new.is_some());
    assert_eq!(after, before, "all of it, under the ids that applications know");
    let record = world.store.item(item).await.unwrap().unwrap();
    assert_eq!(
        (record.sync_state.suspicion, record.sync_state.review.rule),
        (None, RowRule::Judge)
    );
    let page = items.transactions_sync(&linked.access_token, Some(&page.next_cursor), Some(500));
    let page = page.await.unwrap().data;
    assert_eq!((page.added.len(), page.removed.len()), (1, 0));

    // A past decision does not apply to the next case.
    renumber("third");
    world.pass(TimeDelta::days(2)).await;
    world.engine.run_due().await;
    let record = world.store.item(item).await.unwrap().unwrap();
    assert_eq!(record.sync_state.suspicion, Some(Suspicion::TransactionIdsChanged));
    assert_eq!(world.stored(item).await.len(), 61);
}

/// Two accounts of different types cannot be merged.
#[tokio::test]
async fn an_account_is_not_remapped_onto_one_of_another_kind() {
    let (world, linked) = with_accounts_on_hold().await;
    let item = &linked.item_id;
    world
        .work(item, |commit| {
            let mut write = AccountsWrite::default();
            let missing = account_like("account-credit", "account-credit");
            write.accounts = vec![with_standing(missing, AccountStanding::Missing, false)];
            commit.accounts = Some(write);
        })
        .await;
    let (on_hold, onto) = (account_id("held-1"), account_id("account-credit"));
    let error = world.items.remap_account(item, &on_hold, &onto).await.unwrap_err();
    assert_eq!(error.kind(), ItemsErrorKind::InvalidAccount);
    let record = world.store.item(item).await.unwrap().unwrap();
    assert_eq!(record.leased_until, None, "nobody holds it");
}

async fn with_accounts_on_hold() -> (World, LinkedApplication) {
    let (world, linked) = World::complete().await;
    world
        .work(&linked.item_id, |commit| {
            let mut write = AccountsWrite::default();
            let on_hold = |id| {
                let account = account_like("account-checking", id);
                with_standing(account, AccountStanding::Held, false)
            };
            let missing = account_like("account-checking", "account-checking");
            write.accounts = vec![
                on_hold("held-1"),
                on_hold("held-2"),
                with_standing(missing, AccountStanding::Missing, false),
            ];
            commit.accounts = Some(write);
            commit.sync_state.suspicion = Some(Suspicion::AccountIdsChanged);
        })
        .await;
    (world, linked)
}

#[tokio::test]
async fn an_account_that_is_new_after_all_is_for_those_who_were_promised_later_ones() {
    let (world, all) = with_accounts_on_hold().await;
    let mut those = world.connection("those", ALL);
    those.new_accounts = false;
    let those = world.connect(those).await;
    let second = world.connect(world.connection_to("second", &["account-credit"])).await;
    world.items.accept_account(&all.item_id, &account_id("held-1")).await.unwrap();
    assert!(seen(&world, &all).await.contains(&"held-1".to_owned()));
    assert_eq!(seen(&world, &those).await.len(), 6);
    assert_eq!(seen(&world, &second).await, ["account-credit"]);
    let record = world.store.item(&all.item_id).await.unwrap().unwrap();
    assert!(record.sync_state.deep.is_some());
    let suspicion = record.sync_state.suspicion;
    assert_eq!(suspicion, Some(Suspicion::AccountIdsChanged), "another one still waits");
    world.items.accept_account(&all.item_id, &account_id("held-2")).await.unwrap();
    let record = world.store.item(&all.item_id).await.unwrap().unwrap();
    assert_eq!(record.sync_state.suspicion, None);

    // From then on it has transactions like any other account.
    world.add(&all.item_id, [row("t1", "held-1", "2026-02-01", "1.00")]).await;
    assert_eq!(history(&world, &all).await, ["t1"]);
    assert!(history(&world, &second).await.is_empty());
}

#[tokio::test]
async fn a_decision_has_as_much_read_again_as_the_engine_reads() {
    let (world, linked) = with_accounts_on_hold().await;
    let mut plan = PlanSettings::default();
    plan.history_days = 90;
    let items = Items::builder(Arc::clone(&world.store))
        .clock(Arc::clone(&world.clock) as Arc<dyn Clock>)
        .plan(plan)
        .build();
    items.accept_account(&linked.item_id, &account_id("held-1")).await.unwrap();
    let record = world.store.item(&linked.item_id).await.unwrap().unwrap();
    assert!(
        record.sync_state.deep.unwrap().start > date("2025-11-01"),
        "{:?}",
        record.sync_state.deep
    );
}

#[tokio::test]
async fn a_decision_that_makes_no_sense_changes_nothing() {
    let (world, linked) = with_accounts_on_hold().await;
    let item = &linked.item_id;
    let before = world.store.accounts(item).await.unwrap();
    let id = account_id;
    for (on_hold, onto) in [
        ("held-1", "account-credit"), // The partner lists that one.
        ("held-1", "held-2"),
        ("held-1", "held-1"),
        ("held-1", "no-such"),
        ("no-such", "account-checking"),
        ("account-credit", "account-checking"),
    ] {
        let error = world.items.remap_account(item, &id(on_hold), &id(onto)).await.unwrap_err();
        assert_eq!(error.kind(), ItemsErrorKind::InvalidAccount, "{on_hold} onto {onto}");
    }
    for on_hold in ["account-credit", "account-checking", "no-such"] {
        let error = world.items.accept_account(item, &id(on_hold)).await.unwrap_err();
        assert_eq!(error.kind(), ItemsErrorKind::InvalidAccount, "{on_hold}");
    }
    assert_eq!(world.store.accounts(item).await.unwrap(), before);
    let record = world.store.item(item).await.unwrap().unwrap();
    assert_eq!((record.state, record.leased_until), (State::Idle, None), "nobody holds it");
}

#[tokio::test]
async fn a_decision_waits_for_workers_and_users() {
    let (world, linked) = with_accounts_on_hold().await;
    let item = &linked.item_id;
    let (on_hold, onto) = (account_id("held-1"), account_id("account-checking"));
    let now = world.clock.now();
    let lease = now + TimeDelta::minutes(1);
    let record = world.store.claim_one(item, now, lease).await.unwrap().unwrap();
    let error = world.items.remap_account(item, &on_hold, &onto).await.unwrap_err();
    assert_eq!(error.kind(), ItemsErrorKind::Busy);
    world.store.hand_back(&[(item.clone(), record.fence, now)]).await.unwrap();

    world.refuse(item).await;
    let error = world.items.remap_account(item, &on_hold, &onto).await.unwrap_err();
    assert_eq!(error.kind(), ItemsErrorKind::Busy);
    world.link("first", ALL).await;
    world.items.remap_account(item, &on_hold, &onto).await.unwrap();
    let gone = ItemId::new("no-such-item").unwrap();
    let error = world.items.remap_account(&gone, &on_hold, &onto).await.unwrap_err();
    assert_eq!(error.kind(), ItemsErrorKind::ItemNotFound);
}

#[tokio::test]
async fn a_notification_that_waits_survives_a_decision() {
    let (world, linked) = with_accounts_on_hold().await;
    let notification = serde_json::json!({
        "notifications": [
            { "access_token": linked.access_token.expose(), "account_id": "account-checking" }
        ],
        "new_since": "2026-01-05",
    });
    let notification = serde_json::from_value(notification).unwrap();
    world.items.handle_transactions_notification(&bank(), &notification).await.unwrap();
    let (on_hold, onto) = (account_id("held-1"), account_id("account-checking"));
    world.items.remap_account(&linked.item_id, &on_hold, &onto).await.unwrap();
    let record = world.store.item(&linked.item_id).await.unwrap().unwrap();
    assert_eq!(record.notified_since, Some(date("2026-01-05")));
}
