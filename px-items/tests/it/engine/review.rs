//! Data on hold: what continues meanwhile, who decides, and how a decision is taken back.

use super::{
    bank::{account, ok, row},
    world::World,
};
use chrono::TimeDelta;
use px_items::{
    health::{self, HealthState},
    items::{Items, ItemsErrorKind, ReviewScope},
    merge::AccountStanding,
    review::Subject,
    store::{DecisionOutcome, Store},
    sync_state::Suspicion,
};
use px_types::{
    AccountId, ItemId, TransactionId,
    model::{activity::ActivityType, product::Product},
};
use serde_json::json;
use std::sync::Arc;

const BY: &str = "ops";

fn items(world: &World) -> Items {
    Items::builder(Arc::clone(&world.store) as Arc<dyn Store>)
        .clock(Arc::clone(&world.clock) as _)
        .build()
}

/// Gives rows other ids with a prefix.
fn renumber(world: &World, names: &[&str], prefix: &str) {
    let mut data = world.bank.data();
    for name in names {
        let mut row = data.rows.remove(&TransactionId::new(name).unwrap()).unwrap();
        row.id = format!("{prefix}-{name}").parse().unwrap();
        data.rows.insert(row.id.clone(), row);
    }
}

async fn ids(world: &World, item: &ItemId) -> Vec<String> {
    world.stored(item).await.keys().map(ToString::to_string).collect()
}

async fn suspicion(world: &World, item: &ItemId) -> Option<Suspicion> {
    world.record(item).await.sync_state.suspicion
}

async fn update(world: &World, days: i64) {
    world.pass(TimeDelta::days(days)).await;
    world.engine.run_due().await;
}

async fn audited(world: &World, item: &ItemId) -> usize {
    let log = world.store.activities(item, None, 100).await.unwrap().unwrap();
    log.iter().filter(|entry| entry.activity == ActivityType::DataReview).count()
}

/// Creates an Item with three rows of this week and some older ones.
async fn with_three(world: &World) -> ItemId {
    for number in 0..3 {
        world.bank.put(row(&format!("t-{number}"), "3.10", world.days_ago(number + 1)));
        world.bank.put(row(&format!("old-{number}"), "7.30", world.days_ago(100 + number)));
    }
    let item = world.link().await;
    world.engine.run_due().await;
    item
}

const THREE: [&str; 3] = ["t-0", "t-1", "t-2"];
const ALL: [&str; 6] = ["old-0", "old-1", "old-2", "t-0", "t-1", "t-2"];

#[tokio::test(start_paused = true)]
async fn three_rebooked_rows_do_not_stop_what_is_new_and_keep_their_ids_once_the_item_is_alone() {
    let world = World::new();
    let item = with_three(&world).await;
    renumber(&world, &THREE, "other");
    world.bank.put(row("new-1", "9.90", world.today().plus_days(2)));
    update(&world, 2).await;
    let mut expected = vec!["new-1"];
    expected.extend(ALL);
    assert_eq!(ids(&world, &item).await, expected, "what is new is imported, the rest is on hold");
    assert_eq!(suspicion(&world, &item).await, Some(Suspicion::TransactionIdsChanged));
    let record = world.record(&item).await;
    assert_eq!(health::of(&record).state, HealthState::DecisionPending);
    let waits = items(&world).reviews(None, None, 10).await.unwrap();
    assert_eq!((waits.len(), &waits[0].subject, waits[0].rows), (1, &Subject::Transactions, 3));
    assert_eq!(waits[0].decision, None);

    // A day later no other Item is affected: the Item was rebooked.
    world.bank.put(row("new-2", "8.80", world.today().plus_days(2)));
    update(&world, 2).await;
    expected.insert(1, "new-2");
    assert_eq!(ids(&world, &item).await, expected, "each under the id that applications know");
    assert_eq!(suspicion(&world, &item).await, None);
    assert_eq!(health::of(&world.record(&item).await).state, HealthState::Healthy);
    let decided = items(&world).reviews(None, None, 10).await.unwrap();
    let decision = decided[0].decision.as_ref().unwrap();
    assert_eq!((decision.outcome, &*decision.by), (DecisionOutcome::Rebooked, "px"));
    assert_eq!(audited(&world, &item).await, 1);

    // It continues like that, and the decision is final with the next deep resync.
    update(&world, 2).await;
    assert_eq!(ids(&world, &item).await, expected);
    update(&world, 31).await;
    assert_eq!(ids(&world, &item).await, expected);
    assert_eq!(items(&world).reviews(None, None, 10).await.unwrap(), []);
    let error = items(&world).undo(&ReviewScope::Item(item), BY).await.unwrap_err();
    assert_eq!(error.kind(), ItemsErrorKind::InvalidField);
}

#[tokio::test(start_paused = true)]
async fn a_decision_of_the_program_is_taken_back_and_then_an_operator_decides() {
    let world = World::new();
    let item = with_three(&world).await;
    renumber(&world, &THREE, "other");
    update(&world, 2).await;
    update(&world, 2).await;
    assert_eq!(suspicion(&world, &item).await, None);
    let (items, scope) = (items(&world), ReviewScope::Item(item.clone()));
    items.undo(&scope, BY).await.unwrap();
    assert_eq!(suspicion(&world, &item).await, Some(Suspicion::TransactionIdsChanged));
    for _ in 0..3 {
        update(&world, 2).await;
        assert_eq!(ids(&world, &item).await, ALL, "on hold again");
        assert_eq!(suspicion(&world, &item).await, Some(Suspicion::TransactionIdsChanged));
    }
    assert_eq!(audited(&world, &item).await, 2);
    // They are new after all: the old ones are removed, the new ones are added.
    items.accept(&scope, BY).await.unwrap();
    world.engine.run_due().await;
    let after = ["old-0", "old-1", "old-2", "other-t-0", "other-t-1", "other-t-2"];
    assert_eq!(ids(&world, &item).await, after);
    assert_eq!(suspicion(&world, &item).await, None);
    update(&world, 2).await;
    assert_eq!(ids(&world, &item).await, after);
    let error = items.undo(&scope, BY).await.unwrap_err();
    assert_eq!(error.kind(), ItemsErrorKind::InvalidField, "what they replaced is gone");
    assert_eq!(world.record(&item).await.leased_until, None);
}

/// Half a year ago a row was edited along with the ids: the others keep theirs, it waits.
#[tokio::test(start_paused = true)]
async fn an_edited_row_waits_for_the_deep_resync() {
    let world = World::new();
    for number in 0..40 {
        let amount = format!("{number}.10");
        world.bank.put(row(&format!("t-{number:02}"), &amount, world.days_ago(1 + number % 5)));
    }
    let item = world.link().await;
    world.engine.run_due().await;
    let before = ids(&world, &item).await;
    let names: Vec<_> = before.iter().map(String::as_str).collect();
    renumber(&world, &names, "other");
    let edited = TransactionId::new("other-t-07").unwrap();
    world.bank.data().rows.get_mut(&edited).unwrap().description = Some("edited".to_owned());
    update(&world, 2).await;
    assert_eq!(ids(&world, &item).await, before, "neither added nor removed");
    assert_eq!(suspicion(&world, &item).await, Some(Suspicion::TransactionIdsChanged));
    update(&world, 2).await;
    assert_eq!(suspicion(&world, &item).await, None);
    assert_eq!(ids(&world, &item).await, before, "the edited one waits");
    update(&world, 31).await;
    let after = ids(&world, &item).await;
    assert_eq!(after.len(), 40);
    assert!(after.contains(&"other-t-07".to_owned()) && !after.contains(&"t-07".to_owned()));
    assert_eq!(after.iter().filter(|id| before.contains(id)).count(), 39);
}

#[tokio::test(start_paused = true)]
async fn many_items_at_once_are_a_migration_and_one_decision_is_for_all_of_them() {
    let world = World::new();
    let mut linked = vec![with_three(&world).await];
    for user in ["u-2", "u-3", "u-4"] {
        let tokens = world.bank.tokens(false);
        let products = [Product::Transactions];
        linked.push(world.link_as(("bank", user), "app-1", &products, tokens).await);
    }
    world.engine.run_due().await;
    renumber(&world, &THREE, "other");
    for _ in 0..4 {
        update(&world, 2).await;
        for item in &linked {
            assert_eq!(ids(&world, item).await, ALL);
            assert_eq!(suspicion(&world, item).await, Some(Suspicion::TransactionIdsChanged));
        }
    }
    let items = items(&world);
    let bank = ReviewScope::Institution("bank".parse().unwrap());
    let outcome = items.remap(&bank, BY).await.unwrap();
    assert_eq!((outcome.items, outcome.busy.len()), (4, 0));
    world.engine.run_due().await;
    for item in &linked {
        assert_eq!(ids(&world, item).await, ALL, "under the ids that applications know");
        assert_eq!(suspicion(&world, item).await, None);
        assert_eq!(audited(&world, item).await, 1);
    }
    // An Item that is found later is decided without an operator.
    renumber(&world, &["other-t-0", "other-t-1", "other-t-2"], "third");
    world.store.count_updates(&[]).await.unwrap();
    update(&world, 1).await;
    update(&world, 2).await;
    update(&world, 2).await;
    assert_eq!(ids(&world, &linked[0]).await, ALL);
    assert_eq!(suspicion(&world, &linked[0]).await, None);
    // All of it can be taken back.
    let outcome = items.undo(&bank, BY).await.unwrap();
    assert_eq!(outcome.items, 4);
    assert_eq!(suspicion(&world, &linked[3]).await, Some(Suspicion::TransactionIdsChanged));
}

#[tokio::test(start_paused = true)]
async fn nothing_of_what_may_be_another_customers_is_taken_and_nothing_is_gone() {
    let world = World::new();
    for number in 0..12 {
        let amount = format!("{number}.10");
        world.bank.put(row(&format!("t-{number:02}"), &amount, world.days_ago(number % 3)));
    }
    let item = world.link().await;
    world.engine.run_due().await;
    let mine = world.bank.data().rows.clone();
    let before = world.stored(&item).await;
    let fresh = world.record(&item).await.sync_state.fresh;
    // Transactions of another customer.
    world.bank.data().rows.clear();
    for number in 0..15 {
        let amount = format!("{number}.99");
        world.bank.put(row(&format!("x-{number:02}"), &amount, world.days_ago(number % 3)));
    }
    world.bank.data().accounts[0]["current_balance"] = "31337.00".into();
    update(&world, 2).await;
    assert_eq!(world.stored(&item).await, before);
    assert_eq!(suspicion(&world, &item).await, Some(Suspicion::AnotherCustomer));
    assert_eq!(world.record(&item).await.sync_state.fresh, fresh, "nothing of it is fresh");
    let accounts = world.store.accounts(&item).await.unwrap();
    assert!(accounts.iter().all(|known| known.account.current_balance.to_string() == "100.00"));
    // The bank's own data again: the updates continue by themselves.
    world.bank.data().rows = mine;
    update(&world, 2).await;
    assert_eq!(suspicion(&world, &item).await, None);
    world.assert_equal(&item).await;

    // Accounts of another customer: the identity and every account differ.
    let accounts = world.store.accounts(&item).await.unwrap();
    world.bank.script(|call, _| {
        (call.what == "user").then(|| {
            ok(&json!({
                "user_identity_id": "i-9", "identities": [{"id": "i-9", "name": "Bob"}],
                "securities": [],
                "accounts": [{
                    "id": "b-1", "type": "depository", "subtype": "checking", "name": "Giro",
                    "status": "active", "owner_identity_ids": ["i-9"], "current_balance": "5.00",
                    "currency": "EUR", "transfer_codes": [],
                }],
            }))
        })
    });
    for _ in 0..2 {
        update(&world, 2).await;
        assert_eq!(suspicion(&world, &item).await, Some(Suspicion::AnotherCustomer));
        assert_eq!(world.store.accounts(&item).await.unwrap(), accounts);
    }
    assert_eq!(world.stored(&item).await, before);
    world.bank.behaves();
    update(&world, 2).await;
    assert_eq!(suspicion(&world, &item).await, None);
    world.assert_equal(&item).await;
}

#[tokio::test(start_paused = true)]
async fn an_operator_says_that_a_response_is_the_customers() {
    let world = World::new();
    for number in 0..12 {
        let amount = format!("{number}.10");
        world.bank.put(row(&format!("t-{number:02}"), &amount, world.days_ago(number % 3)));
    }
    let item = world.link().await;
    world.engine.run_due().await;
    world.bank.data().rows.clear();
    for number in 0..12 {
        let amount = format!("{number}.99");
        world.bank.put(row(&format!("x-{number:02}"), &amount, world.days_ago(number % 3)));
    }
    update(&world, 2).await;
    assert_eq!(suspicion(&world, &item).await, Some(Suspicion::AnotherCustomer));
    items(&world).accept(&ReviewScope::Item(item.clone()), BY).await.unwrap();
    world.engine.run_due().await;
    assert_eq!(suspicion(&world, &item).await, None);
    world.assert_equal(&item).await;
}

async fn standing(world: &World, item: &ItemId, id: &str) -> Option<AccountStanding> {
    let accounts = world.store.accounts(item).await.unwrap();
    let mut accounts = accounts.into_iter();
    let id = AccountId::new(id).unwrap();
    accounts.find(|known| known.account.id == id).map(|known| known.standing)
}

/// The term deposit of the name "Savings" ends, and the bank opens another one of that name.
fn roll_over(world: &World) {
    world.bank.data().accounts[1] = account("a-3", "Savings");
}

#[tokio::test(start_paused = true)]
async fn a_rolled_over_deposit_is_released_after_a_week_and_its_rows_are_read() {
    let world = World::new();
    let item = with_three(&world).await;
    roll_over(&world);
    let mut first = row("interest", "-4.20", world.days_ago(1));
    first.account_id = "a-3".parse().unwrap();
    world.bank.put(first);
    for _ in 0..3 {
        update(&world, 2).await;
        assert_eq!(standing(&world, &item, "a-3").await, Some(AccountStanding::Held));
        assert_eq!(suspicion(&world, &item).await, Some(Suspicion::AccountIdsChanged));
    }
    assert_eq!(standing(&world, &item, "a-2").await, Some(AccountStanding::Closed));
    assert_eq!(ids(&world, &item).await, ALL);
    update(&world, 2).await;
    update(&world, 2).await;
    assert_eq!(standing(&world, &item, "a-3").await, Some(AccountStanding::Listed));
    assert_eq!(suspicion(&world, &item).await, None);
    assert!(ids(&world, &item).await.contains(&"interest".to_owned()));
    assert_eq!(audited(&world, &item).await, 1);
    // It is taken back, and not released a second time.
    items(&world).undo(&ReviewScope::Item(item.clone()), BY).await.unwrap();
    assert_eq!(standing(&world, &item, "a-3").await, Some(AccountStanding::Held));
    assert_eq!(ids(&world, &item).await, ALL);
    for _ in 0..10 {
        update(&world, 2).await;
    }
    assert_eq!(standing(&world, &item, "a-3").await, Some(AccountStanding::Held));
    items(&world).remap(&ReviewScope::Item(item.clone()), BY).await.unwrap();
    world.engine.run_due().await;
    assert_eq!(standing(&world, &item, "a-3").await, None);
    assert_eq!(standing(&world, &item, "a-2").await, Some(AccountStanding::Listed));
    // Its id is taken by the row that applications saw in the other account.
    let stored = world.stored(&item).await;
    let interest = stored.values().find(|row| row.amount.to_string() == "-4.20").unwrap();
    assert_eq!(interest.account_id, "a-2".parse().unwrap());
}

#[tokio::test(start_paused = true)]
async fn an_account_that_has_a_row_of_the_one_it_resembles_waits_for_an_operator() {
    let world = World::new();
    // Long ago, so that no update reads it.
    let mut interest = row("i-1", "-4.20", world.days_ago(400));
    interest.account_id = "a-2".parse().unwrap();
    world.bank.put(interest.clone());
    let item = with_three(&world).await;
    roll_over(&world);
    world.bank.remove("i-1");
    (interest.id, interest.account_id) = ("i-2".parse().unwrap(), "a-3".parse().unwrap());
    world.bank.put(interest);
    for _ in 0..8 {
        update(&world, 2).await;
    }
    assert_eq!(standing(&world, &item, "a-3").await, Some(AccountStanding::Held));
    assert_eq!(suspicion(&world, &item).await, Some(Suspicion::AccountIdsChanged));
    items(&world).accept(&ReviewScope::Item(item.clone()), BY).await.unwrap();
    world.engine.run_due().await;
    assert_eq!(standing(&world, &item, "a-3").await, Some(AccountStanding::Listed));
    assert!(ids(&world, &item).await.contains(&"i-2".to_owned()));
}
