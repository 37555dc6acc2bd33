//! The initial fetch, updates, and applications that join.

use super::{
    bank::{pending, row},
    world::World,
};
use chrono::TimeDelta;
use px_items::{
    engine::Outcome,
    item::State,
    life::History,
    store::{NotifyAsk, Store as _, Then},
};
use px_types::model::product::Product;

#[tokio::test(start_paused = true)]
async fn an_item_is_fetched_idles_and_is_updated() {
    let world = World::new();
    for days in [0, 1, 5, 29, 40, 200, 700] {
        world.bank.put(row(&format!("t-{days}"), "1.00", world.days_ago(days)));
    }
    let item = world.link().await;
    assert_eq!(world.engine.work_off().await, 1);
    let record = world.record(&item).await;
    assert_eq!((record.state, &record.life.history), (State::Idle, &History::Complete));
    assert_eq!(record.leased_until, None);
    let due = record.due_at.unwrap() - world.now();
    assert!((TimeDelta::hours(24)..=TimeDelta::hours(48)).contains(&due), "{due}");
    world.assert_equal(&item).await;
    assert_eq!(world.bank.count("user"), 1);
    assert_eq!(
        world.told().await,
        [
            "app-1 INITIAL_UPDATE",
            "app-1 SYNC_UPDATES_AVAILABLE",
            "app-1 HISTORICAL_UPDATE",
            "app-1 SYNC_UPDATES_AVAILABLE"
        ]
    );
    // Window by window: the user, the last 30 days, then older ones; the last gives it back.
    let commits = std::mem::take(&mut *world.store.commits.lock().unwrap());
    assert!(commits[0].accounts.is_some() && commits[0].transactions.writes.is_empty());
    assert_eq!(commits[1].transactions.writes.len(), 4);
    assert!(matches!(commits[1].life.history, History::Fetching { recent: true, .. }));
    let (last, parts) = commits.split_last().unwrap();
    assert!(parts.iter().all(|commit| matches!(commit.then, Then::Keep { .. })));
    assert!(matches!(last.then, Then::Release { .. }));

    // It is not due before its time; then one commit does it all.
    assert_eq!(world.engine.work_off().await, 0);
    world.pass(TimeDelta::hours(48)).await;
    world.bank.put(row("new", "2.00", world.days_ago(1)));
    world.bank.put(row("t-5", "1.50", world.days_ago(7)));
    world.bank.remove("t-1");
    world.bank.forget_calls();
    assert_eq!(world.engine.work_off().await, 1);
    world.assert_equal(&item).await;
    assert_eq!((world.bank.count("user"), world.bank.count("transactions")), (1, 1));
    assert_eq!(world.store.commits.lock().unwrap().len(), 1);
    assert_eq!(
        world.told().await,
        ["app-1 DEFAULT_UPDATE", "app-1 TRANSACTIONS_REMOVED", "app-1 SYNC_UPDATES_AVAILABLE"]
    );
    let report = world.notes.reports().pop().unwrap();
    assert_eq!(report.outcome, Outcome::Finished);
    let counts = report.counts;
    assert_eq!((counts.added, counts.modified, counts.removed), (1, 1, 1));
}
