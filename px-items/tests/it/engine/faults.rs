//! Partners with wrong totals, a failing endpoint, missing accounts or rows with future dates.

use super::{
    bank::{account, ok, pending, refusal, row},
    world::World,
};
use chrono::TimeDelta;
use px_items::{
    engine::Outcome,
    health::{self, HealthIssueKind},
    item::State,
    items::{Items, ItemsErrorKind},
    merge::AccountStanding,
    store::{NotificationRequest, Store as _},
    sync_state::History,
};
use px_types::{Date, ItemId, model::transaction::Transaction};
use serde_json::json;
use std::sync::Arc;

/// The balances change while `/transactions` fails permanently.
#[tokio::test(start_paused = true)]
async fn accounts_are_stored_on_their_own_if_the_window_fails() {
    let world = World::new();
    world.bank.put(row("t-1", "1.00", world.days_ago(1)));
    let item = world.link().await;
    world.engine.run_due().await;
    world.queued_webhooks().await;
    let before = world.record(&item).await.sync_state.fresh;
    world.pass(TimeDelta::hours(48)).await;
    {
        let mut data = world.bank.data();
        data.accounts[0]["current_balance"] = "77.00".into();
        data.accounts.push(account("a-3", "New"));
    }
    world.bank.script(|call, _| (call.what == "transactions").then(|| refusal(500, "broken")));
    assert_eq!(world.engine.update(&item).await.unwrap().outcome, Outcome::Failed);
    let accounts = world.store.inner.accounts(&item).await.unwrap();
    let balance = accounts.iter().find(|known| known.account.id == "a-1".parse().unwrap());
    assert_eq!(balance.unwrap().account.current_balance, "77.00".parse().unwrap());
    assert_eq!(accounts.len(), 3);
    let sync_state = world.record(&item).await.sync_state;
    assert!(
        sync_state.fresh.accounts > before.accounts
            && sync_state.fresh.identities > before.identities
    );
    assert_eq!(sync_state.fresh.transactions, before.transactions);
    assert!(sync_state.last_failure.is_some());
    assert_eq!(world.stored(&item).await.len(), 1);

    // Once more, and nothing is lost after the recovery: the new account is read completely.
    world.engine.update(&item).await.unwrap();
    let mut old = row("t-old", "5.00", world.days_ago(400));
    old.account_id = "a-3".parse().unwrap();
    world.bank.put(old);
    world.bank.behaves();
    assert_eq!(world.engine.update(&item).await.unwrap().outcome, Outcome::Finished);
    world.assert_equal(&item).await;
}

/// Processes everything that becomes due within a number of hours.
async fn hours(world: &World, hours: i64) {
    for _ in 0..hours * 6 {
        world.pass(TimeDelta::minutes(10)).await;
        world.engine.run_due().await;
    }
}

/// Gives the bank a `total` that always differs from the number of its rows.
fn miscounts(world: &World, by: i64) {
    world.bank.script(move |call, data| {
        (call.what == "transactions").then(|| {
            let rows = data.window(call);
            let offset: usize = call.query.get("offset").map_or(0, |text| text.parse().unwrap());
            let page: Vec<_> = rows.iter().skip(offset).take(500).collect();
            let total = (rows.len() as i64 + by).max(0);
            ok(&json!({ "total": total, "transactions": page }))
        })
    });
}

#[tokio::test(start_paused = true)]
async fn a_total_that_is_always_one_off_delays_the_history_and_does_not_prevent_it() {
    for by in [1, -1, 3] {
        let world = World::new();
        for days in [0, 3, 29, 40, 41, 200, 700] {
            world.bank.put(row(&format!("t-{days}"), "1.00", world.days_ago(days)));
        }
        miscounts(&world, by);
        let item = world.link().await;
        world.engine.run_due().await;
        assert!(world.stored(&item).await.is_empty(), "it may be a window that changes");
        hours(&world, 4).await;
        let record = world.record(&item).await;
        assert_eq!(
            (record.state, &record.sync_state.history),
            (State::Idle, &History::Complete),
            "{by}"
        );
        world.assert_equal(&item).await;
        assert_eq!(
            record.sync_state.history_lacks > 0,
            by > 0,
            "{}",
            record.sync_state.history_lacks
        );

        // Changes are imported, and missing rows are not removed.
        world.bank.put(row("new", "2.00", world.days_ago(0)));
        world.bank.put(row("t-3", "1.50", world.days_ago(3)));
        world.bank.remove("t-0");
        world.pass(TimeDelta::hours(48)).await;
        world.bank.forget_calls();
        world.engine.run_due().await;
        let stored = world.stored(&item).await;
        assert_eq!(stored["t-3"].amount, "1.50".parse().unwrap());
        assert!(stored.contains_key("new") && stored.contains_key("t-0"));
        assert!(world.bank.count("transactions") < 8, "{}", world.bank.count("transactions"));

        // The bank is fixed: removed rows are removed, and no rows are lacking any more.
        world.bank.behaves();
        world.pass(TimeDelta::hours(48)).await;
        world.engine.run_due().await;
        world.assert_equal(&item).await;
        let sync_state = world.record(&item).await.sync_state;
        assert_eq!((sync_state.miscount, sync_state.update_lacks), (None, 0));
    }
}

/// A bank that loses rows in long windows: shorter ones have them all.
#[tokio::test(start_paused = true)]
async fn what_a_long_window_lacks_is_read_in_shorter_ones() {
    let world = World::new();
    for days in 0..100 {
        world.bank.put(row(&format!("t-{days}"), "1.00", world.days_ago(days)));
    }
    // It serves at most 25 rows of a window.
    world.bank.script(|call, data| {
        (call.what == "transactions").then(|| {
            let rows = data.window(call);
            let offset: usize = call.query.get("offset").map_or(0, |text| text.parse().unwrap());
            let page: Vec<_> = rows.iter().take(25).skip(offset).collect();
            ok(&json!({ "total": rows.len(), "transactions": page }))
        })
    });
    let item = world.link().await;
    hours(&world, 4).await;
    let sync_state = world.record(&item).await.sync_state;
    assert_eq!((sync_state.history, sync_state.history_lacks), (History::Complete, 0));
    world.assert_equal(&item).await;
}

/// A window that differs once, or in another way each time, is a window that changes.
#[tokio::test(start_paused = true)]
async fn a_window_that_differs_in_another_way_each_time_is_not_taken() {
    let world = World::new();
    world.bank.put(row("t-1", "1.00", world.days_ago(1)));
    let mut number = 0;
    world.bank.script(move |call, data| {
        (call.what == "transactions").then(|| {
            number += 1;
            ok(&json!({ "total": 2 + number % 7, "transactions": data.window(call) }))
        })
    });
    let item = world.link().await;
    hours(&world, 12).await;
    assert!(world.stored(&item).await.is_empty());
    assert_eq!(world.record(&item).await.sync_state.miscount, None);
}

/// Applications are notified after three days that an Item cannot finish; an operator sees it at
/// once.
#[tokio::test(start_paused = true)]
async fn an_item_that_cannot_finish_says_so() {
    let world = World::new();
    world.bank.script(|call, _| (call.what == "transactions").then(|| refusal(400, "broken")));
    let item = world.link().await;
    world.engine.run_due().await;
    let record = world.record(&item).await;
    assert!(
        record.sync_state.unfinished_since.is_some() && record.sync_state.last_failure.is_some()
    );
    hours(&world, 70).await;
    assert_eq!(world.queued_webhooks().await, [] as [&str; 0]);
    hours(&world, 24).await;
    assert_eq!(world.queued_webhooks().await, ["app-1 ERROR"], "once");
    assert!(world.record(&item).await.sync_state.stall_notified);
    world.bank.behaves();
    hours(&world, 24).await;
    let record = world.record(&item).await;
    assert_eq!(record.state, State::Idle);
    assert_eq!(
        (record.sync_state.unfinished_since, record.sync_state.stall_notified),
        (None, false)
    );
}

#[tokio::test(start_paused = true)]
async fn an_account_is_closed_by_a_second_response_six_hours_later() {
    let world = World::new();
    let item = world.link().await;
    world.engine.run_due().await;
    let standing = || async {
        let accounts = world.store.inner.accounts(&item).await.unwrap();
        accounts.iter().find(|known| known.account.id == "a-2".parse().unwrap()).unwrap().standing
    };
    let gone = world.bank.data().accounts.pop().unwrap();
    // Twice within a second, and within hours.
    for minutes in [0, 0, 60, 200, 99] {
        world.pass(TimeDelta::minutes(minutes)).await;
        world.engine.update(&item).await.unwrap();
        assert_eq!(standing().await, AccountStanding::Missing, "{minutes}");
    }
    world.pass(TimeDelta::minutes(2)).await;
    world.engine.update(&item).await.unwrap();
    assert_eq!(standing().await, AccountStanding::Closed);
    // It comes back, and the count starts again.
    world.bank.data().accounts.push(gone);
    world.engine.update(&item).await.unwrap();
    assert_eq!(standing().await, AccountStanding::Listed);
    world.bank.data().accounts.pop();
    for _ in 0..2 {
        world.engine.update(&item).await.unwrap();
        assert_eq!(standing().await, AccountStanding::Missing);
    }
    assert_eq!(world.record(&item).await.sync_state.missing_since.len(), 1);
}

/// A pending row of a closed account stays as it is, and extends no window.
#[tokio::test(start_paused = true)]
async fn a_pending_row_of_a_closed_account_widens_no_window() {
    let world = World::new();
    let mut left = pending("t-left", "3.00", world.days_ago(20));
    left.account_id = "a-2".parse().unwrap();
    world.bank.put(left);
    let item = world.link().await;
    world.engine.run_due().await;
    world.bank.data().accounts.pop();
    world.bank.remove("t-left");
    for _ in 0..2 {
        world.pass(TimeDelta::hours(7)).await;
        world.engine.update(&item).await.unwrap();
    }
    assert_eq!(world.record(&item).await.oldest_pending, None);
    world.bank.forget_calls();
    world.engine.update(&item).await.unwrap();
    let calls = world.bank.data().calls.clone();
    let windows: Vec<_> = calls.iter().filter(|call| call.what == "transactions").collect();
    assert_eq!(windows.len(), 1, "and no dates after today either");
    assert!(windows[0].date("start_date") >= world.days_ago(9));
}

/// Like [`row`], posted with another date than it was made on.
fn posted(id: &str, made: px_types::Date, settled: px_types::Date) -> Transaction {
    let mut row = row(id, "9.00", made);
    row.settled_at = Some(settled.into());
    row.description = Some("card".into());
    row
}

async fn seen(world: &World, item: &ItemId) -> Vec<String> {
    let state = |row: &Transaction| if row.is_pending() { "pending" } else { "posted" };
    world.stored(item).await.values().map(|row| format!("{} {}", row.id, state(row))).collect()
}

/// A card that is settled once a month: a purchase posts with a date weeks ahead.
#[tokio::test(start_paused = true)]
async fn a_pending_row_that_posts_weeks_ahead_stays_one_transaction() {
    for new_id in [false, true] {
        let world = World::new();
        let made = world.days_ago(1);
        let mut waiting = pending("t-1", "9.00", made);
        waiting.description = Some("card".into());
        world.bank.put(waiting);
        world.bank.put(row("t-2", "1.00", world.days_ago(2)));
        let item = world.link().await;
        world.engine.run_due().await;
        world.queued_webhooks().await;
        let settled = world.today().plus_days(24);
        let id = if new_id { "q-1" } else { "t-1" };
        world.bank.remove("t-1");
        world.bank.put(posted(id, made, settled));
        for _ in 0..15 {
            world.pass(TimeDelta::hours(48)).await;
            world.engine.run_due().await;
            assert_eq!(seen(&world, &item).await, ["t-1 posted", "t-2 posted"]);
        }
        let webhooks = world.queued_webhooks().await;
        assert!(
            !webhooks.iter().any(|webhook| webhook.ends_with("TRANSACTIONS_REMOVED")),
            "{webhooks:?}"
        );
        // The dates after today never remove a row; its own window does.
        world.bank.remove(id);
        world.engine.update(&item).await.unwrap();
        assert_eq!(
            seen(&world, &item).await.len(),
            if settled >= world.days_ago(5) { 1 } else { 2 }
        );
    }
}

/// A row with a future date that the bank does not show there at once is not removed.
#[tokio::test(start_paused = true)]
async fn the_dates_after_today_judge_nothing() {
    let world = World::new();
    let made = world.days_ago(1);
    world.bank.put(pending("t-1", "9.00", made));
    let item = world.link().await;
    world.engine.run_due().await;
    world.bank.put(posted("t-1", made, world.today().plus_days(30)));
    world.engine.update(&item).await.unwrap();
    assert_eq!(seen(&world, &item).await, ["t-1 posted"]);
    let today = world.today();
    world.bank.script(move |call, _| {
        let ahead = call.what == "transactions" && call.date("start_date") > today;
        ahead.then(|| ok(&json!({ "total": 0, "transactions": [] })))
    });
    world.engine.update(&item).await.unwrap();
    assert_eq!(seen(&world, &item).await, ["t-1 posted"]);
}

/// A bank that refuses the dates after today loses nothing by it, and is not called for them all
/// day.
#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_dates_after_today_costs_nothing_and_is_remembered_for_a_day() {
    let world = World::new();
    let made = world.days_ago(1);
    world.bank.put(pending("t-1", "9.00", made));
    world.bank.put(pending("t-2", "4.00", made));
    let item = world.link().await;
    world.engine.run_due().await;
    let ahead = |call: &super::bank::Call, today: px_types::Date| {
        call.what == "transactions" && call.date("start_date") > today
    };
    let today = world.today();
    world.bank.script(move |call, _| ahead(call, today).then(|| refusal(400, "invalid_request")));
    let requests =
        |world: &World| world.bank.data().calls.iter().filter(|call| ahead(call, today)).count();
    world.bank.forget_calls();
    for _ in 0..5 {
        assert_eq!(world.engine.update(&item).await.unwrap().outcome, Outcome::Finished);
    }
    assert_eq!(requests(&world), 1);
    // Another Item of the partner uses the same knowledge.
    let tokens = world.bank.tokens(false);
    let products = [px_types::model::product::Product::Transactions];
    let other = world.link_as(("bank", "u-2"), "app-1", &products, tokens).await;
    world.engine.run_due().await;
    world.engine.update(&other).await.unwrap();
    assert_eq!(requests(&world), 1);
    world.pass(TimeDelta::hours(25)).await;
    world.engine.update(&item).await.unwrap();
    assert_eq!(requests(&world), 2);

    // The row disappears, and comes back as the same transaction when its date is reached.
    world.bank.put(posted("t-1", made, world.today().plus_days(20)));
    world.engine.update(&item).await.unwrap();
    assert_eq!(seen(&world, &item).await, ["t-2 pending"]);
    world.pass(TimeDelta::days(21)).await;
    world.engine.update(&item).await.unwrap();
    assert_eq!(seen(&world, &item).await, ["t-1 posted", "t-2 pending"]);
}

/// Reports why a history does not arrive.
#[tokio::test(start_paused = true)]
async fn an_application_that_reads_an_item_that_cannot_finish_learns_why() {
    let world = World::new();
    world.bank.script(|call, _| (call.what == "transactions").then(|| refusal(400, "broken")));
    let items =
        Items::builder(Arc::clone(&world.store) as _).clock(Arc::clone(&world.clock) as _).build();
    let connection = px_items::connection::Connection::new(
        "app-1".parse().unwrap(),
        [px_types::model::product::Product::Transactions],
        world.now(),
    );
    let (bank, user) = ("bank".parse().unwrap(), "u-1".parse().unwrap());
    let linked = items.link(&bank, &user, world.bank.tokens(false), connection).await.unwrap();
    let token = &linked.access_token;
    world.engine.run_due().await;
    let error = items.transactions_sync(token, None, None).await.unwrap_err();
    assert_eq!(error.kind(), ItemsErrorKind::ProductNotReady);
    hours(&world, 90).await;
    let error = items.transactions_sync(token, None, None).await.unwrap_err();
    assert_eq!(error.kind(), ItemsErrorKind::CannotFinish);
    let status = items.status(token).await.unwrap();
    assert_eq!(status.item.error.unwrap().error_code, "INSTITUTION_NOT_RESPONDING");
    let health = health::of(&world.record(&linked.item_id).await);
    assert!(health.issue(&HealthIssueKind::CannotFinish).is_some(), "{health:?}");
}

/// A bank gives its pending rows other ids with every response.
#[tokio::test(start_paused = true)]
async fn pending_rows_with_ever_changing_ids_stay_the_same_transactions() {
    let world = World::new();
    let made = "2026-11-22".parse().unwrap();
    put_pending(&world, made, 0);
    let item = world.link().await;
    world.engine.run_due().await;
    world.queued_webhooks().await;
    let ids: Vec<_> = world.stored(&item).await.into_keys().collect();
    for number in 1..=20 {
        put_pending(&world, made, number);
        let counts = world.engine.update(&item).await.unwrap().counts;
        assert_eq!((counts.added, counts.removed, counts.modified), (0, 0, 0));
    }
    assert_eq!(world.stored(&item).await.into_keys().collect::<Vec<_>>(), ids);
    assert_eq!(world.queued_webhooks().await, [] as [&str; 0]);
    // Six days and a notification: nothing has changed.
    world.notify(NotificationRequest::Update { since: None }).await;
    world.engine.run_due().await;
    assert_eq!(world.queued_webhooks().await, [] as [&str; 0]);
}

/// Replaces the pending rows by eight others, two of them alike.
fn put_pending(world: &World, made: Date, number: u32) {
    world.bank.data().rows.retain(|_, row| !row.is_pending());
    for at in 0..8 {
        let mut waiting = pending(&format!("p-{number}-{at}"), "5.00", made);
        waiting.description = Some(format!("shop {}", at.max(1)));
        world.bank.put(waiting);
    }
}

/// Nothing is removed where rows are lacking: an unrecognized row would be duplicated with every
/// read.
#[tokio::test(start_paused = true)]
async fn pending_rows_with_changing_ids_are_followed_where_the_total_is_wrong() {
    for by in [-1, 1] {
        let world = World::new();
        let made = world.days_ago(0);
        put_pending(&world, made, 0);
        miscounts(&world, by);
        let item = world.link().await;
        world.engine.run_due().await;
        hours(&world, 4).await;
        let ids: Vec<_> = world.stored(&item).await.into_keys().collect();
        assert_eq!(ids.len(), 8, "{by}");
        // Every tenth of them is a deep resync.
        for number in 1..=30 {
            put_pending(&world, made, number);
            world.pass(TimeDelta::days(3)).await;
            world.engine.run_due().await;
            let stored: Vec<_> = world.stored(&item).await.into_keys().collect();
            assert_eq!(stored, ids, "{by}, {number}");
        }
    }
}
