//! Initial fetch, updates, and applications that join.

use super::{
    bank::{account, pending, row},
    world::World,
};
use chrono::TimeDelta;
use px_items::{
    engine::Outcome,
    item::State,
    store::{LeaseOutcome, NotificationRequest},
    sync_state::History,
};
use px_types::model::product::Product;

#[tokio::test(start_paused = true)]
async fn an_item_is_fetched_idles_and_is_updated() {
    let world = World::new();
    for days in [0, 1, 5, 29, 40, 200, 700] {
        world.bank.put(row(&format!("t-{days}"), "1.00", world.days_ago(days)));
    }
    let item = world.link().await;
    assert_eq!(world.engine.run_due().await, 1);
    let record = world.record(&item).await;
    assert_eq!((record.state, &record.sync_state.history), (State::Idle, &History::Complete));
    assert_eq!(record.leased_until, None);
    let due = record.due_at.unwrap() - world.now();
    assert!((TimeDelta::hours(24)..=TimeDelta::hours(48)).contains(&due), "{due}");
    world.assert_equal(&item).await;
    assert_eq!(world.bank.count("user"), 1);
    assert_eq!(
        world.queued_webhooks().await,
        [
            "app-1 INITIAL_UPDATE",
            // One for the recent window, two for older ones and one for the end: all of them were
            // queued.
            "app-1 SYNC_UPDATES_AVAILABLE",
            "app-1 HISTORICAL_UPDATE",
        ]
    );
    // Window by window: the user, the last 30 days, then older ones; the last commit releases the
    // Item.
    let commits = std::mem::take(&mut *world.store.commits.lock().unwrap());
    assert!(commits[0].accounts.is_some() && commits[0].transactions.writes.is_empty());
    assert_eq!(commits[1].transactions.writes.len(), 4);
    assert!(matches!(commits[1].sync_state.history, History::Fetching { recent: true, .. }));
    let (last, parts) = commits.split_last().unwrap();
    assert!(parts.iter().all(|commit| matches!(commit.lease, LeaseOutcome::Keep { .. })));
    assert!(matches!(last.lease, LeaseOutcome::Release { .. }));

    // It is not due earlier; then one commit stores everything.
    assert_eq!(world.engine.run_due().await, 0);
    world.pass(TimeDelta::hours(48)).await;
    world.bank.put(row("new", "2.00", world.days_ago(1)));
    world.bank.put(row("t-5", "1.50", world.days_ago(7)));
    world.bank.remove("t-1");
    world.bank.forget_calls();
    assert_eq!(world.engine.run_due().await, 1);
    world.assert_equal(&item).await;
    assert_eq!((world.bank.count("user"), world.bank.count("transactions")), (1, 1));
    assert_eq!(world.store.commits.lock().unwrap().len(), 1);
    assert_eq!(
        world.queued_webhooks().await,
        ["app-1 DEFAULT_UPDATE", "app-1 TRANSACTIONS_REMOVED", "app-1 SYNC_UPDATES_AVAILABLE"]
    );
    let report = world.notes.reports().pop().unwrap();
    assert_eq!(report.outcome, Outcome::Finished);
    let counts = report.counts;
    assert_eq!((counts.added, counts.modified, counts.removed), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn without_a_need_for_transactions_none_are_asked_for() {
    let world = World::new();
    let tokens = world.bank.tokens(false);
    let item = world.link_as(("bank", "u-1"), "app-1", &[Product::Identity], tokens).await;
    assert_eq!(world.engine.run_due().await, 1);
    let record = world.record(&item).await;
    assert_eq!((record.state, &record.sync_state.history), (State::Idle, &History::Missing));
    assert_eq!((world.bank.count("user"), world.bank.count("transactions")), (1, 0));
    assert_eq!(world.store.commits.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_first_that_needs_transactions_causes_the_fetch_of_them_alone() {
    let world = World::new();
    world.bank.put(row("t-1", "1.00", world.days_ago(300)));
    let tokens = world.bank.tokens(false);
    let item = world.link_as(("bank", "u-1"), "app-1", &[Product::Identity], tokens.clone()).await;
    world.engine.run_due().await;
    world.pass(TimeDelta::hours(3)).await;
    let due_before = world.record(&item).await.due_at.unwrap();
    world.bank.forget_calls();

    world.link_as(("bank", "u-1"), "app-2", &[Product::Transactions], tokens.clone()).await;
    assert_eq!(world.engine.run_due().await, 1);
    let record = world.record(&item).await;
    assert_eq!((record.state, &record.sync_state.history), (State::Idle, &History::Complete));
    assert_eq!(world.bank.count("user"), 0, "accounts are three hours old and good");
    world.assert_equal(&item).await;
    // The accounts keep their own due time.
    let due = record.due_at.unwrap();
    assert!(due <= world.now() + TimeDelta::hours(45), "{due} {due_before}");
    assert!(world.queued_webhooks().await.contains(&"app-2 HISTORICAL_UPDATE".to_owned()));

    // Another application finds all data.
    world.bank.forget_calls();
    world.link_as(("bank", "u-1"), "app-3", &[Product::Transactions], tokens).await;
    assert_eq!(world.engine.run_due().await, 0);
    assert!(world.bank.data().calls.is_empty());
}

/// An account that was opened since the accounts were read: its transactions wait for it, so that
/// no cursor passes rows that no application can see; then all of them are read, however old.
#[tokio::test(start_paused = true)]
async fn transactions_of_an_account_wait_until_it_is_listed() {
    let world = World::new();
    let tokens = world.bank.tokens(false);
    let item = world.link_as(("bank", "u-1"), "app-1", &[Product::Identity], tokens.clone()).await;
    world.engine.run_due().await;
    world.bank.data().accounts.push(account("a-3", "New"));
    for (id, days) in [("t-new", 2), ("t-old", 400)] {
        let mut row = row(id, "1.00", world.days_ago(days));
        row.account_id = "a-3".parse().unwrap();
        world.bank.put(row);
    }
    world.bank.put(row("t-1", "1.00", world.days_ago(3)));

    world.link_as(("bank", "u-1"), "app-2", &[Product::Transactions], tokens).await;
    assert_eq!(world.engine.run_due().await, 1);
    assert_eq!(world.bank.count("user"), 1, "the accounts were not read again");
    let ids: Vec<_> = world.stored(&item).await.into_keys().collect();
    assert_eq!(ids, ["t-1".parse().unwrap()]);

    world.notify(NotificationRequest::Update { since: None }).await;
    assert_eq!(world.engine.run_due().await, 1);
    world.assert_equal(&item).await;
}

/// Events on an account while the bank did not list it may lie far back.
#[tokio::test(start_paused = true)]
async fn an_account_that_is_listed_again_is_read_whole() {
    let world = World::new();
    world.bank.put(row("t-1", "1.00", world.days_ago(300)));
    world.bank.put(row("t-2", "1.00", world.days_ago(200)));
    let item = world.link().await;
    world.engine.run_due().await;
    let gone = world.bank.data().accounts.remove(0);
    let rows = std::mem::take(&mut world.bank.data().rows);
    for _ in 0..2 {
        world.pass(TimeDelta::hours(7)).await;
        world.engine.update(&item).await.unwrap();
    }
    assert_eq!(world.stored(&item).await.len(), 2, "its known rows are stored");
    world.bank.data().accounts.insert(0, gone);
    world.bank.data().rows = rows;
    world.bank.remove("t-2");
    world.engine.update(&item).await.unwrap();
    world.assert_equal(&item).await;
}

#[tokio::test(start_paused = true)]
async fn a_join_and_a_notification_are_an_update_with_the_history() {
    let world = World::new();
    let tokens = world.bank.tokens(false);
    world.link_as(("bank", "u-1"), "app-1", &[Product::Identity], tokens.clone()).await;
    world.engine.run_due().await;
    world.bank.forget_calls();
    world.link_as(("bank", "u-1"), "app-2", &[Product::Transactions], tokens).await;
    world.notify(NotificationRequest::Update { since: None }).await;
    assert_eq!(world.engine.run_due().await, 1);
    assert_eq!(world.bank.count("user"), 1);
}

/// While an update runs, any number of notifications cause exactly one more.
#[tokio::test(start_paused = true)]
async fn notifications_coalesce() {
    let world = std::sync::Arc::new(World::new());
    let item = world.link().await;
    world.engine.run_due().await;
    world.bank.forget_calls();
    for _ in 0..5 {
        world.notify(NotificationRequest::Update { since: None }).await;
    }
    assert_eq!(world.engine.run_due().await, 1, "five before it began are one");
    assert_eq!(world.engine.run_due().await, 0);

    world.notify(NotificationRequest::Update { since: None }).await;
    let update = world.engine.run_due();
    let notify = async {
        // In the middle of the update.
        while world.bank.count("user") < 2 {
            tokio::task::yield_now().await;
        }
        for days in [3, 100, 50] {
            let since = Some(world.days_ago(days));
            world.notify(NotificationRequest::Update { since }).await;
        }
    };
    let (worked, ()) = tokio::join!(update, notify);
    assert_eq!(worked, 2, "exactly one more");
    assert_eq!(world.engine.run_due().await, 0);
    let last = world.bank.data().calls.last().unwrap().clone();
    let start = world.days_ago(100 + px_items::merge::DATE_SLACK_DAYS);
    assert_eq!(last.date("start_date"), start, "as far back as any of them requested");
    assert_eq!(world.record(&item).await.notified_since, None);
}

/// The next worker continues after the last commit of a worker that stopped.
#[tokio::test(start_paused = true)]
async fn case_23_the_last_30_days_come_first_and_a_restart_goes_on_where_it_was() {
    let mut stops = 0;
    for stop_after in 1.. {
        let world = World::new();
        for days in [0, 10, 31, 95, 400, 729] {
            world.bank.put(row(&format!("t-{days}"), "1.00", world.days_ago(days)));
        }
        let item = world.link().await;
        let mut commits = 0;
        world.store.fails(move |what| {
            commits += usize::from(what == "commit");
            // After that many commits the process cannot reach its store any more.
            (commits > stop_after).then_some(px_items::store::StoreErrorKind::Unavailable)
        });
        world.engine.run_due().await;
        world.store.works();
        let record = world.record(&item).await;
        if record.state == State::Idle {
            break;
        }
        stops += 1;
        let readable = matches!(record.sync_state.history, History::Fetching { recent: true, .. });
        assert_eq!(readable, stop_after >= 2, "after {stop_after} commits");
        assert_eq!(world.stored(&item).await.contains_key("t-10"), readable);
        let read = world.bank.count("transactions");

        world.pass(TimeDelta::minutes(1)).await;
        world.bank.forget_calls();
        assert_eq!(world.engine.run_due().await, 1);
        world.assert_equal(&item).await;
        assert_eq!(world.record(&item).await.state, State::Idle);
        assert_eq!(world.bank.count("user"), 0, "it was stored");
        let windows = 1 + 8;
        let again = world.bank.count("transactions") + read;
        assert_eq!(again, windows + 1, "only the window that was not stored is read again");
        let webhooks = world.queued_webhooks().await;
        let initial = webhooks.iter().filter(|webhook| webhook.ends_with("INITIAL_UPDATE")).count();
        assert_eq!(initial, 1);
        assert_eq!(
            webhooks.iter().filter(|webhook| webhook.ends_with("HISTORICAL_UPDATE")).count(),
            1
        );
    }
    assert_eq!(stops, 9);
}

/// A deep resync finds rows that were dated back and rows that vanished long ago.
#[tokio::test(start_paused = true)]
async fn a_deep_resync_goes_through_all_windows_and_on_where_it_was() {
    let world = World::new();
    for days in [0, 100, 300, 500, 700] {
        world.bank.put(row(&format!("t-{days}"), "1.00", world.days_ago(days)));
    }
    let item = world.link().await;
    world.engine.run_due().await;
    world.bank.remove("t-300");
    world.bank.put(row("late", "5.00", world.days_ago(500)));
    world.pass(TimeDelta::hours(48)).await;
    world.engine.run_due().await;
    assert!(world.stored(&item).await.contains_key("t-300"));

    world.pass(TimeDelta::days(30)).await;
    let mut commits = 0;
    world.store.fails(move |what| {
        commits += usize::from(what == "commit");
        (commits > 4).then_some(px_items::store::StoreErrorKind::Unavailable)
    });
    world.engine.run_due().await;
    world.store.works();
    let scan = world.record(&item).await.sync_state.deep.expect("it is under way");
    world.pass(TimeDelta::minutes(1)).await;
    world.bank.forget_calls();
    world.engine.run_due().await;
    let record = world.record(&item).await;
    assert_eq!((record.sync_state.deep, record.state), (None, State::Idle));
    // The update first, then the rest of the scan.
    let second = world.bank.data().calls[2].clone();
    assert_eq!(second.date("end_date"), scan.next_end);
    let left_out = "t-700";
    let mut stored = world.stored(&item).await;
    let mut bank = world.bank.data().rows.clone();
    // Rows that have become older than two years are not changed.
    stored.remove(left_out);
    bank.remove(left_out);
    assert_eq!(stored, bank);
}

#[tokio::test(start_paused = true)]
async fn a_pending_row_that_posts_late_is_found_while_it_is_pending() {
    let world = World::new();
    world.bank.put(pending("t-1", "10.00", world.days_ago(5)));
    let item = world.link().await;
    world.engine.run_due().await;
    world.pass(TimeDelta::days(14)).await;
    world.bank.forget_calls();
    world.bank.put(row("t-1", "12.00", world.days_ago(2)));
    world.engine.run_due().await;
    world.assert_equal(&item).await;
    // The user, the dates after today, and the window.
    assert!(world.bank.data().calls[1].date("start_date") > world.today());
    assert!(world.bank.data().calls[2].date("start_date") <= world.days_ago(19));
}
