//! Workers that are killed, shut down, race and panic.

use super::{
    bank::row,
    world::{World, polls, seconds},
};
use chrono::TimeDelta;
use px_core::Clock as _;
use px_items::{
    engine::{EngineErrorKind, Observed, Outcome, Settings},
    health::{self, HealthIssueKind},
    item::State,
    partners::CallLimits,
    store::{
        AccessDigest, ChangeQuery, NewHolder, NewLink, NotificationRequest, Store as _,
        StoreErrorKind,
    },
    sync_state::{FailureKind, History},
};
use px_types::{ItemId, model::product::Product};
use std::sync::Arc;

fn fill(world: &World, step: u64) {
    for days in (0..729).step_by(usize::try_from(step).unwrap()) {
        world.bank.put(row(&format!("t-{days}"), "1.00", world.days_ago(days)));
    }
}

/// Returns the numbers of milestone webhooks of the initial fetch.
async fn milestones(world: &World) -> (usize, usize) {
    let webhooks = world.queued_webhooks().await;
    let count = |code: &str| webhooks.iter().filter(|webhook| webhook.ends_with(code)).count();
    (count(" INITIAL_UPDATE"), count(" HISTORICAL_UPDATE"))
}

/// A kill between any two awaits of the initial fetch: rows and progress are stored together, so
/// nothing is lost or duplicated, and applications are notified of every milestone once.
#[tokio::test(start_paused = true)]
async fn case_24_a_kill_at_any_await_of_the_initial_fetch_loses_and_doubles_nothing() {
    let mut kills = 0;
    for most in 0.. {
        let world = World::new();
        fill(&world, 29);
        let item = world.link_with_refresh().await;
        // Tokens are due, too.
        world.pass(TimeDelta::minutes(20)).await;
        let ended = polls(world.engine.run_due(), most).await;
        if ended {
            break;
        }
        kills += 1;
        // The response to a refresh in flight arrives; its worker is gone.
        world.pass(TimeDelta::seconds(21)).await;
        world.engine.run_due().await;
        assert_eq!(world.record(&item).await.state, State::Idle, "killed after {most} polls");
        world.assert_equal(&item).await;
        assert_eq!(milestones(&world).await, (1, 1), "killed after {most} polls");
    }
    assert!(kills > 60, "{kills} kills");
}

/// The same in an update with changes of every kind and a deep resync.
#[tokio::test(start_paused = true)]
async fn case_24_a_kill_at_any_await_of_an_update_loses_and_doubles_nothing() {
    let mut kills = 0;
    for most in 0.. {
        let world = World::new();
        fill(&world, 61);
        let item = world.link().await;
        world.engine.run_due().await;
        world.queued_webhooks().await;
        world.pass(TimeDelta::days(31)).await;
        world.bank.put(row("new", "3.00", world.days_ago(0)));
        world.bank.put(row("t-0", "3.00", world.days_ago(31)));
        world.bank.remove("t-61");
        let ended = polls(world.engine.run_due(), most).await;
        if ended {
            break;
        }
        kills += 1;
        world.pass(TimeDelta::seconds(21)).await;
        world.engine.run_due().await;
        let record = world.record(&item).await;
        assert_eq!(
            (record.state, record.sync_state.deep),
            (State::Idle, None),
            "killed after {most}"
        );
        let mut bank = world.bank.data().rows.clone();
        let mut stored = world.stored(&item).await;
        // Older than two years now.
        for old in ["t-671", "t-732"] {
            bank.remove(old);
            stored.remove(old);
        }
        assert_eq!(stored, bank, "killed after {most} polls");
        let webhooks = world.queued_webhooks().await;
        assert!(
            webhooks.contains(&"app-1 DEFAULT_UPDATE".into()),
            "killed after {most}: {webhooks:?}"
        );
        assert!(webhooks.contains(&"app-1 TRANSACTIONS_REMOVED".into()));
    }
    assert!(kills > 30, "{kills} kills");
}

/// Two engines at once: each Item is served by one at a time, and no row is duplicated.
#[tokio::test(start_paused = true)]
async fn case_32_two_engines_share_the_items_and_no_row_comes_twice() {
    let world = World::new();
    fill(&world, 91);
    let mut items = Vec::new();
    for number in 0..6 {
        let (user, tokens) = (format!("u-{number}"), world.bank.tokens(false));
        items.push(world.link_as(("bank", &user), "app-1", &[Product::Transactions], tokens).await);
    }
    let other = world.another_engine();
    let (one, two) = tokio::join!(world.engine.run_due(), other.run_due());
    assert_eq!(one + two, 6);
    assert!(one > 0 && two > 0);
    for item in &items {
        world.assert_equal(item).await;
        assert_eq!(milestones(&world).await.0 % 6, 0);
    }
    assert_eq!(world.bank.count("user"), 6);

    // Both update the same Item at once.
    let (one, two) = tokio::join!(world.engine.update(&items[0]), other.update(&items[0]));
    let busy = [one, two].into_iter().filter_map(Result::err).map(|error| error.kind());
    assert_eq!(busy.collect::<Vec<_>>(), [EngineErrorKind::Busy]);
}

/// A dead worker blocks its Item no longer than its lease.
#[tokio::test(start_paused = true)]
async fn case_35_an_item_of_a_dead_worker_is_taken_over() {
    let world = World::new();
    fill(&world, 50);
    let item = world.link().await;
    assert!(!polls(world.engine.run_due(), 50).await);
    assert!(world.record(&item).await.leased_until.is_some());
    assert_eq!(world.another_engine().run_due().await, 0, "its lease still runs");
    world.pass(TimeDelta::seconds(21)).await;
    assert_eq!(world.another_engine().run_due().await, 1);
    assert_eq!(world.record(&item).await.state, State::Idle);
    world.assert_equal(&item).await;
}

/// A lease is renewed as long as its worker works, however slow the bank is.
#[tokio::test(start_paused = true)]
async fn case_35_a_slow_worker_keeps_its_item() {
    let mut budget = CallLimits::default();
    (budget.per_second, budget.at_once) = (1, 1);
    let mut settings = Settings::default();
    settings.plan.window_days = 7;
    let world = World::with(settings, budget);
    fill(&world, 30);
    let item = world.link().await;
    let other = world.another_engine();
    let look = async {
        for _ in 0..10 {
            world.clock.sleep(seconds(9)).await;
            assert_eq!(other.run_due().await, 0);
        }
    };
    // A hundred windows, one each second.
    let (worked, ()) = tokio::join!(world.engine.run_due(), look);
    assert_eq!(worked, 1);
    world.assert_equal(&item).await;
    assert!(world.now() - world.record(&item).await.created_at > TimeDelta::seconds(95));
}

/// A worker that comes back late changes nothing: its claim is no longer the current one.
#[tokio::test(start_paused = true)]
async fn case_36_what_a_late_worker_stores_is_refused() {
    for most in (1..400).step_by(7) {
        let world = World::new();
        fill(&world, 50);
        let item = world.link().await;
        let late = world.engine.run_due();
        let mut late = std::pin::pin!(late);
        let mut ended = false;
        for _ in 0..most {
            ended |= futures_util::poll!(late.as_mut()).is_ready();
            if ended {
                break;
            }
        }
        if ended {
            break;
        }
        // It stands still for longer than its lease; meanwhile another worker does everything.
        world.pass(TimeDelta::seconds(21)).await;
        world.bank.remove("t-0");
        assert_eq!(world.another_engine().run_due().await, 1, "after {most} polls");
        let record = world.record(&item).await;
        let stored = world.stored(&item).await;
        late.await;
        assert_eq!(world.record(&item).await, record, "after {most} polls");
        assert_eq!(world.stored(&item).await, stored);
        assert_eq!(milestones(&world).await, (1, 1));
    }
}

/// Work exists as soon as its data is stored, and not before: the row is the work.
#[tokio::test(start_paused = true)]
async fn case_38_a_link_is_due_at_once_for_any_worker() {
    let world = World::new();
    fill(&world, 100);
    let stop = Arc::clone(&world.clock);
    let run = world.engine.run(2, async move { stop.sleep(seconds(30)).await });
    let link = async {
        world.clock.sleep(seconds(10)).await;
        let item = world.link().await;
        let linked = world.now();
        while world.record(&item).await.state != State::Idle {
            world.clock.sleep(std::time::Duration::from_millis(1)).await;
        }
        assert!(world.now() - linked < TimeDelta::milliseconds(500), "the commit woke the engine");
        item
    };
    let ((), item) = tokio::join!(run, link);
    world.assert_equal(&item).await;
}

/// A panic in the work on one Item is a failure of that Item, and ends nothing else.
#[tokio::test(start_paused = true)]
async fn case_49_a_panic_ends_the_work_on_one_item_only() {
    let world = World::new();
    fill(&world, 100);
    let tokens = world.bank.tokens(false);
    let bad = world.link_as(("bank", "bad"), "app-1", &[Product::Transactions], tokens).await;
    let good = world.link().await;
    let mut panics = 0;
    world.store.fails(move |what| {
        // The first Item is claimed first.
        panics += usize::from(what == "known");
        assert!(what != "known" || panics != 1, "as the test wants it");
        None
    });
    let stop = Arc::clone(&world.clock);
    world.engine.run(1, async move { stop.sleep(seconds(5)).await }).await;
    let failed = [(world.record(&bad).await, &bad), (world.record(&good).await, &good)];
    let (failed, well): (Vec<_>, Vec<_>) =
        failed.into_iter().partition(|(record, _)| record.sync_state.failures > 0);
    assert_eq!((failed.len(), well.len()), (1, 1));
    assert_eq!(well[0].0.state, State::Idle);
    let record = &failed[0].0;
    assert_eq!(record.sync_state.last_failure.as_ref().unwrap().kind, FailureKind::Internal);
    assert_eq!((record.state, record.leased_until), (State::Created, None));
    world.store.works();
    world.pass(record.due_at.unwrap() - world.now()).await;
    world.engine.run_due().await;
    world.assert_equal(failed[0].1).await;
}

/// Shutdown: long work is handed back at the next window, and continues elsewhere.
#[tokio::test(start_paused = true)]
async fn stopping_hands_back_between_two_windows() {
    let mut budget = CallLimits::default();
    (budget.per_second, budget.at_once) = (1, 1);
    let world = World::with(Settings::default(), budget);
    fill(&world, 20);
    let item = world.link().await;
    let stop = Arc::clone(&world.clock);
    world.engine.run(4, async move { stop.sleep(seconds(4)).await }).await;
    let record = world.record(&item).await;
    assert_eq!((record.state, record.leased_until), (State::Created, None));
    assert!(record.due_at.unwrap() <= world.now());
    assert!(matches!(record.sync_state.history, History::Fetching { recent: true, .. }));
    assert_eq!(record.sync_state.failures, 0);
    assert_eq!(world.notes.reports().pop().unwrap().outcome, Outcome::HandedBack);
    assert_eq!(world.another_engine().run_due().await, 1);
    world.assert_equal(&item).await;
    assert_eq!(world.bank.count("user"), 1);
}

/// Work that does not end within the grace period is cancelled and handed back.
#[tokio::test(start_paused = true)]
async fn stopping_cuts_off_what_does_not_end() {
    let world = World::with(Settings::default(), CallLimits::default());
    let item = world.link().await;
    world.bank.data().slow = seconds(29);
    let clock = Arc::clone(&world.clock);
    let begun = world.now();
    world.engine.run(1, async move { clock.sleep(seconds(5)).await }).await;
    assert_eq!(world.now() - begun, TimeDelta::seconds(25));
    let record = world.record(&item).await;
    assert_eq!((record.state, record.leased_until), (State::Created, None));
    assert!(record.due_at.unwrap() <= world.now());
    assert_eq!(record.sync_state.failures, 0);
}

/// A shutdown during a claim leaves no Item without a worker.
#[tokio::test(start_paused = true)]
async fn stopping_hands_back_what_a_claim_takes_meanwhile() {
    let world = World::new();
    let item = world.link().await;
    let taken = async {
        while world.record(&item).await.leased_until.is_none() {
            tokio::task::yield_now().await;
        }
    };
    world.engine.run(1, taken).await;
    let record = world.record(&item).await;
    assert_eq!((record.state, record.leased_until), (State::Created, None));
    assert!(record.due_at.unwrap() <= world.now());
    assert_eq!(world.bank.count("user"), 0, "nobody began to work on it");
}

/// The store fails for a while: the Items wait, nothing else happens.
#[tokio::test(start_paused = true)]
async fn a_store_that_fails_costs_time_only() {
    for what in ["claim", "accounts", "known", "commit", "tokens", "renew", "item", "hand_back"] {
        let world = World::new();
        fill(&world, 90);
        let item = world.link().await;
        let mut left = 3;
        world.store.fails(move |call| {
            let fails = call == what && left > 0;
            left -= i32::from(fails);
            fails.then_some(StoreErrorKind::Unavailable)
        });
        let stop = Arc::clone(&world.clock);
        world.engine.run(1, async move { stop.sleep(seconds(7200)).await }).await;
        assert_eq!(world.record(&item).await.state, State::Idle, "{what}");
        world.assert_equal(&item).await;
        assert_eq!(milestones(&world).await, (1, 1), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_that_left_while_it_was_worked_on_is_no_failure() {
    for most in [5, 20, 40, 60] {
        let world = World::new();
        fill(&world, 30);
        let item = world.link().await;
        let work = world.engine.run_due();
        let mut work = std::pin::pin!(work);
        for _ in 0..most {
            assert!(futures_util::poll!(work.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
        let app = "app-1".parse().unwrap();
        world.store.inner.unlink(&item, Some(&app), world.now()).await.unwrap();
        work.await;
        assert_eq!(world.store.inner.item(&item).await.unwrap(), None);
        assert_eq!(world.notes.reports().pop().unwrap().outcome, Outcome::Lost);
        assert_eq!(world.bank.data().revoked.len(), 1, "and its token is revoked");
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_updated_says_why() {
    let world = World::new();
    let nobody: ItemId = "nobody".parse().unwrap();
    let error = world.engine.update(&nobody).await.unwrap_err();
    assert_eq!(error.kind(), EngineErrorKind::NoSuchItem);
    let tokens = world.bank.tokens(false);
    let item = world.link_as(("unknown", "u-1"), "app-1", &[Product::Identity], tokens).await;
    let report = world.engine.update(&item).await.unwrap();
    assert_eq!(report.failure.unwrap().kind, FailureKind::Internal);
    assert!(world.record(&item).await.due_at.is_some(), "an operator may add the partner");
}

/// An Item that crashes process after process is deferred, longer each time, and reported.
#[tokio::test(start_paused = true)]
async fn an_item_is_deferred_if_its_leases_run_out_repeatedly() {
    let world = World::new();
    fill(&world, 100);
    let item = world.link().await;
    let kill = async || {
        // As soon as it is claimed, before anything is stored.
        let fence = world.record(&item).await.fence;
        let mut work = Box::pin(world.engine.run_due());
        while world.record(&item).await.fence == fence {
            assert!(futures_util::poll!(work.as_mut()).is_pending());
        }
        drop(work);
        world.pass(TimeDelta::seconds(21)).await;
    };
    for _ in 0..3 {
        kill().await;
    }
    for (lost, shortest) in [(3, 60), (4, 120), (5, 240)] {
        assert_eq!(world.engine.run_due().await, 0, "{lost} leases were lost");
        let record = world.record(&item).await;
        assert_eq!((record.lost_leases, record.leased_until), (lost, None));
        let shown = health::of(&record).issue(&HealthIssueKind::CannotFinish).cloned();
        assert_eq!(shown.and_then(|issue| issue.count), Some(lost.into()));
        let wait = (record.due_at.unwrap() - world.now()).num_seconds();
        assert!((shortest..=shortest * 5 / 4).contains(&wait), "{wait} s after {lost}");
        let reported = world.notes.0.lock().unwrap().iter().any(|event| {
            matches!(event, Observed::LeasesLost { lost_leases, .. } if *lost_leases == lost)
        });
        assert!(reported, "{lost}");
        world.pass(TimeDelta::seconds(wait + 1)).await;
        if lost < 5 {
            kill().await;
        }
    }
    assert_eq!(world.engine.run_due().await, 1, "deferred once, it is tried");
    let record = world.record(&item).await;
    assert_eq!((record.lost_leases, record.state), (0, State::Idle));
    assert!(health::of(&record).issues.is_empty());
    world.assert_equal(&item).await;
}

/// A revocation is sent with the commit that queued it, not with a timer.
#[tokio::test(start_paused = true)]
async fn a_token_is_revoked_at_once_after_the_last_application_left() {
    let world = World::new();
    let item = world.link().await;
    let stop = Arc::clone(&world.clock);
    let run = world.engine.run(2, async move { stop.sleep(seconds(8)).await });
    let leave = async {
        world.clock.sleep(seconds(3)).await;
        let app = "app-1".parse().unwrap();
        world.store.inner.unlink(&item, Some(&app), world.now()).await.unwrap();
        world.clock.sleep(std::time::Duration::from_millis(100)).await;
        assert_eq!(world.bank.data().revoked.len(), 1, "within 100 ms");
    };
    tokio::join!(run, leave);
}

/// Revocations run concurrently, and a failing partner is not called.
#[tokio::test(start_paused = true)]
async fn revocations_run_side_by_side_and_respect_the_circuit() {
    let world = World::new();
    let app = "app-1".parse().unwrap();
    for number in 0..40 {
        let user = format!("u-{number}");
        let mut tokens = world.bank.tokens(false);
        tokens.access_token = px_types::AccessToken::new(format!("token-{number}"));
        let item = world.link_as(("bank", &user), "app-1", &[Product::Identity], tokens).await;
        world.store.inner.unlink(&item, Some(&app), world.now()).await.unwrap();
    }
    world.bank.script(|_, _| Some(super::bank::refusal(500, "down")));
    world.engine.run_due().await;
    let calls = world.bank.count("revoke");
    assert!((5..=20).contains(&calls), "{calls} calls to a bank that is down");
    world.bank.behaves();
    world.bank.data().slow = seconds(2);
    let begun = world.now();
    for _ in 0..40 {
        world.pass(TimeDelta::minutes(2)).await;
        let round = world.now();
        world.engine.run_due().await;
        assert!(world.now() - round <= TimeDelta::seconds(20), "one after the other");
    }
    assert!(world.now() > begun);
    assert_eq!(world.bank.data().revoked.len(), 40);
}

/// Continuous notifications do not cause updates without a delay.
#[tokio::test(start_paused = true)]
async fn notifications_that_keep_coming_cause_two_updates_a_minute() {
    let world = World::new();
    world.link().await;
    world.engine.run_due().await;
    world.pass(TimeDelta::hours(1)).await;
    world.bank.forget_calls();
    world.bank.data().slow = seconds(1);
    let clock = Arc::clone(&world.clock);
    let notifying = async {
        for _ in 0..600 {
            world.notify(NotificationRequest::Update { since: None }).await;
            clock.sleep(seconds(1)).await;
        }
    };
    world.engine.run(2, notifying).await;
    let updates = world.bank.count("user");
    assert!((10..=25).contains(&updates), "{updates} updates in 10 minutes");
    // The last notification is not forgotten.
    world.pass(TimeDelta::minutes(2)).await;
    world.bank.forget_calls();
    world.engine.run_due().await;
    assert_eq!(world.bank.count("user"), 1);
}

/// An Item that its partner imported and that no application uses is updated rarely, and at once
/// when an application is connected.
#[tokio::test(start_paused = true)]
async fn an_item_without_applications_is_updated_once_a_month() {
    let world = World::new();
    let tokens = world.bank.tokens(false);
    let user = ("bank".parse().unwrap(), "u-1".parse().unwrap());
    let holder = NewHolder::Partner;
    let digest = AccessDigest([9; 32]);
    let item: ItemId = "item-u-1".parse().unwrap();
    let new = NewLink::new(user, item.clone(), tokens, holder, digest, world.now());
    world.store.inner.link(new).await.unwrap();
    for _ in 0..120 {
        world.engine.run_due().await;
        world.pass(TimeDelta::hours(12)).await;
    }
    assert_eq!(world.bank.count("user"), 2, "in 60 days");
    let tokens = world.bank.tokens(false);
    world.link_as(("bank", "u-1"), "app-1", &[Product::Identity], tokens).await;
    assert_eq!(world.engine.run_due().await, 1, "an application is connected");
    let wait = world.record(&item).await.due_at.unwrap() - world.now();
    assert!(wait <= TimeDelta::hours(48), "{wait}");

    // An application that connects during the work is not missed.
    let world = World::new();
    let tokens = world.bank.tokens(false);
    let user = ("bank".parse().unwrap(), "u-1".parse().unwrap());
    let new = NewLink::new(user, item.clone(), tokens, NewHolder::Partner, digest, world.now());
    world.store.inner.link(new).await.unwrap();
    world.bank.data().slow = seconds(10);
    tokio::join!(world.engine.run_due(), async {
        world.pass(TimeDelta::seconds(5)).await;
        let tokens = world.bank.tokens(false);
        world.link_as(("bank", "u-1"), "app-1", &[Product::Identity], tokens).await;
    });
    let wait = world.record(&item).await.due_at.unwrap() - world.now();
    assert!(wait <= TimeDelta::hours(48), "{wait}");
}

/// A running engine deletes removed transactions once no cursor can need them.
#[tokio::test(start_paused = true)]
async fn removed_transactions_are_purged_after_their_retention() {
    let world = World::new();
    world.bank.put(row("gone", "1.00", world.days_ago(1)));
    world.bank.put(row("stays", "2.00", world.days_ago(1)));
    let item = world.link().await;
    world.engine.run_due().await;
    let known = world.record(&item).await.change_seq;
    world.bank.remove("gone");
    for _ in 0..2 {
        world.engine.update(&item).await.unwrap();
    }
    let removals = async || {
        let query = ChangeQuery::new(known, 100);
        world.store.inner.changes(&item, &query).await.unwrap().changes.len()
    };
    assert_eq!(removals().await, 1);
    let run = async |days: i64| {
        world.pass(TimeDelta::days(days)).await;
        let clock = Arc::clone(&world.clock);
        world.engine.run(1, async move { clock.sleep(seconds(24 * 3_600)).await }).await;
    };
    run(80).await;
    assert_eq!(removals().await, 1, "a cursor of 90 days may need it");
    run(15).await;
    assert_eq!(removals().await, 0);
}
