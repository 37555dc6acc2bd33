//! Partners that are busy, down or slow: delays, budgets, circuits.

use super::{
    bank::{Bank, refusal, row, wait},
    world::{EventLog, World, engine, seconds},
};
use chrono::{DateTime, TimeDelta, Utc};
use px_client::oauth::TokenSet;
use px_core::{Clock as _, SeededRandom, SystemClock, SystemRandom};
use px_items::{
    connection::Connection,
    engine::{Engine, Observed, Outcome, Settings},
    item::State,
    partners::{CallLimits, FixedPartners, Partner},
    store::{
        AccessDigest, NewHolder, NewLink, NotificationRequest, PostgresStore, Store, StoreOptions,
    },
    sync_state::FailureKind,
    vault::FileKeys,
};
use px_types::{ItemId, model::product::Product, webhook::Environment};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Transient failures never block the next attempt permanently, however many there were.
#[tokio::test(start_paused = true)]
async fn case_37_every_failure_has_a_next_attempt_and_success_clears_it() {
    for status in [400, 403, 404, 408, 429, 500, 502, 503] {
        let world = World::new();
        world.bank.put(row("t-1", "1.00", world.days_ago(1)));
        let item = world.link().await;
        world.engine.run_due().await;
        world.bank.script(move |_, _| Some(refusal(status, "no")));
        let mut waits = Vec::new();
        for attempt in 1..=40_u32 {
            let record = world.record(&item).await;
            assert!(world.stored(&item).await.len() == 1, "the last good data stay readable");
            let due = record.due_at.expect("there is always a next attempt");
            waits.push(due - world.now());
            world.pass((due - world.now()).max(TimeDelta::zero())).await;
            world.engine.run_due().await;
            let record = world.record(&item).await;
            // While the circuit is open some are deferred, which is no attempt.
            assert!(record.sync_state.failures <= attempt);
            assert_eq!(record.state, State::Idle);
        }
        assert!(world.record(&item).await.sync_state.failures >= 5, "{status}");
        assert!(waits[1..].iter().all(|wait| *wait <= TimeDelta::hours(13)), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait >= TimeDelta::minutes(10)), "it is called less");

        world.bank.behaves();
        world.bank.put(row("t-2", "1.00", world.days_ago(0)));
        let due = world.record(&item).await.due_at.unwrap();
        world.pass((due - world.now()).max(TimeDelta::zero()) + TimeDelta::minutes(20)).await;
        world.engine.run_due().await;
        let sync_state = world.record(&item).await.sync_state;
        assert_eq!((sync_state.failures, sync_state.last_failure), (0, None), "{status}");
        world.assert_equal(&item).await;
    }
}

/// A notification brings the next attempt forward, but not repeatedly.
#[tokio::test(start_paused = true)]
async fn a_notification_ends_a_back_off_early() {
    let world = World::new();
    let item = world.link().await;
    world.engine.run_due().await;
    world.bank.script(|_, _| Some(refusal(403, "no")));
    world.notify(NotificationRequest::Update { since: Some(world.days_ago(90)) }).await;
    world.engine.run_due().await;
    let due = world.record(&item).await.due_at.unwrap();
    assert!(due >= world.now() + TimeDelta::minutes(10));
    world.notify(NotificationRequest::Update { since: None }).await;
    assert_eq!(world.engine.run_due().await, 0, "not at once");
    world.pass(TimeDelta::minutes(1)).await;
    world.bank.behaves();
    world.bank.forget_calls();
    assert_eq!(world.engine.run_due().await, 1);
    let start = world.bank.data().calls[1..].iter().map(|call| call.date("start_date")).min();
    assert!(
        start.unwrap() <= world.days_ago(90),
        "the dates that were notified before the failure are still to be read"
    );
    assert_eq!(world.record(&item).await.sync_state.owed_since, None);
}

/// A window that fails with 429 or 503 stores nothing but the accounts, and the next call is at the
/// time that the bank requests.
#[tokio::test(start_paused = true)]
async fn case_45_too_many_requests_moves_nothing_on_and_is_waited_for() {
    for (status, kind) in [(429, FailureKind::RateLimited), (503, FailureKind::Unavailable)] {
        let world = World::new();
        let item = world.link().await;
        world.engine.run_due().await;
        let before = world.record(&item).await.sync_state.fresh;
        world.pass(TimeDelta::hours(48)).await;
        world.bank.put(row("t-1", "1.00", world.days_ago(1)));
        world.bank.script(move |call, _| (call.what == "transactions").then(|| wait(status, 7200)));
        world.engine.run_due().await;
        let record = world.record(&item).await;
        assert_eq!(record.sync_state.last_failure.as_ref().unwrap().kind, kind);
        let fresh = record.sync_state.fresh;
        assert_eq!(fresh.transactions, before.transactions);
        assert!(fresh.accounts > before.accounts, "they were read, and are stored on their own");
        let requested_at = world.now() + TimeDelta::hours(2);
        assert_eq!(record.not_before, Some(requested_at));
        let late = record.due_at.unwrap() - requested_at;
        assert!((TimeDelta::zero()..=TimeDelta::minutes(1)).contains(&late), "{late}");

        // No notification overrides that.
        world.notify(NotificationRequest::Update { since: None }).await;
        world.pass(TimeDelta::minutes(119)).await;
        world.bank.forget_calls();
        assert_eq!(world.engine.run_due().await, 0);
        world.pass(TimeDelta::minutes(2)).await;
        world.bank.behaves();
        assert_eq!(world.engine.run_due().await, 1);
        world.assert_equal(&item).await;
    }
    // An excessive delay is limited to a day.
    let world = World::new();
    let item = world.link().await;
    world.bank.script(|_, _| Some(wait(503, 90 * 86_400)));
    world.engine.run_due().await;
    let due = world.record(&item).await.due_at.unwrap() - world.now();
    assert!(due <= TimeDelta::hours(24) + TimeDelta::minutes(1), "{due}");
}

/// A bank with a small budget: an update costs two calls, whatever the number of accounts; an Item
/// without authorization costs none; and the calls are spread.
#[tokio::test(start_paused = true)]
async fn case_46_a_quota_is_not_burnt() {
    let mut budget = CallLimits::default();
    (budget.per_second, budget.at_once) = (2, 1);
    let world = World::with(Settings::default(), budget);
    for number in 0..40 {
        let account = super::bank::account(&format!("more-{number}"), "More");
        world.bank.data().accounts.push(account);
    }
    let item = world.link().await;
    world.engine.run_due().await;
    let dead = {
        let tokens = world.bank.tokens(false);
        let item = world.link_as(("bank", "u-2"), "app-1", &[Product::Identity], tokens).await;
        world.engine.run_due().await;
        world.bank.script(|call, _| call.token.is_empty().then(|| refusal(500, "never")));
        item
    };
    world.bank.data().access.clear();
    world.engine.update(&dead).await.unwrap();
    world.bank.data().next_pair();
    world.link().await;
    world.bank.forget_calls();
    let begun = world.clock.elapsed();
    for _ in 0..5 {
        world.engine.update(&item).await.unwrap();
    }
    let calls = world.bank.data().calls.len();
    assert_eq!(calls, 10, "two for each update");
    let took = world.clock.elapsed() - begun;
    assert!(took >= seconds(4) && took <= seconds(6), "{took:?}");
    world.pass(TimeDelta::days(3)).await;
    world.bank.forget_calls();
    world.engine.run_due().await;
    let reads = world.bank.count("user") + world.bank.count("transactions");
    assert_eq!(reads, 2, "the one that is dead is not called");
}

/// Each kind of data has its own freshness: data that is not read does not become fresh.
#[tokio::test(start_paused = true)]
async fn case_47_data_that_are_not_read_do_not_look_fresh() {
    let world = World::new();
    let item = world.link().await;
    let first = world.now();
    world.engine.run_due().await;
    let fresh = world.record(&item).await.sync_state.fresh;
    assert_eq!((fresh.accounts, fresh.transactions), (Some(first), Some(first)));
    // The last user of transactions leaves: accounts are updated, transactions are not.
    let tokens = world.bank.tokens(false);
    world.link_as(("bank", "u-1"), "app-2", &[Product::Identity], tokens).await;
    world.store.inner.unlink(&item, Some(&"app-1".parse().unwrap()), world.now()).await.unwrap();
    world.pass(TimeDelta::hours(48)).await;
    let second = world.now();
    world.engine.run_due().await;
    let fresh = world.record(&item).await.sync_state.fresh;
    assert_eq!((fresh.accounts, fresh.identities), (Some(second), Some(second)));
    assert_eq!(fresh.transactions, Some(first));
    // A failed update makes nothing fresh, although it read the user.
    world.bank.script(|call, _| (call.what == "user").then(|| refusal(500, "no")));
    world.pass(TimeDelta::hours(48)).await;
    world.engine.run_due().await;
    assert_eq!(world.record(&item).await.sync_state.fresh, fresh);
}

/// A failing partner is not called, probed by one Item, and called again after its recovery; the
/// Items of another partner are not delayed.
#[tokio::test(start_paused = true)]
async fn a_partner_that_is_down_is_probed_by_one_and_holds_up_nobody() {
    let world = World::new();
    let good = Bank::new(Arc::clone(&world.clock) as _);
    let notes = Arc::new(EventLog::default());
    let budget = CallLimits::default();
    let banks = [("bank", &world.bank, budget), ("good", &good, budget)];
    let engine = engine(&world.store, &world.clock, &banks, Settings::default(), &notes);
    world.bank.script(|_, _| Some(refusal(500, "down")));
    for number in 0..100 {
        let (user, tokens) = (format!("down-{number}"), world.bank.tokens(false));
        world.link_as(("bank", &user), "app-1", &[Product::Identity], tokens).await;
    }
    let tokens = good.tokens(false);
    let item = world.link_as(("good", "well"), "app-1", &[Product::Identity], tokens).await;
    engine.run_due().await;
    assert_eq!(world.record(&item).await.state, State::Idle);
    assert_eq!(world.bank.data().calls.len(), 5, "five failures open the circuit");
    let deferrals = |notes: &EventLog| {
        let notes = notes.0.lock().unwrap();
        notes.iter().filter(|event| matches!(event, Observed::Deferred { .. })).count()
    };
    assert_eq!(deferrals(&notes), 95);

    // For an hour one call at times.
    let mut before = 5;
    for minute in 0..60 {
        world.pass(TimeDelta::minutes(1)).await;
        engine.run_due().await;
        let calls = world.bank.data().calls.len();
        assert!(calls <= before + 1, "minute {minute}");
        before = calls;
    }
    assert!((7..=14).contains(&before), "{before} calls in an hour");

    world.bank.behaves();
    for _ in 0..120 {
        world.pass(TimeDelta::minutes(1)).await;
        engine.run_due().await;
    }
    for number in 0..100 {
        let item = format!("item-down-{number}").parse().unwrap();
        assert_eq!(world.record(&item).await.state, State::Idle, "{number}");
    }
}

/// Many Items of one partner return one after the other: the store gets few calls beyond the actual
/// work, the partner is never idle, and other partners are not delayed.
#[tokio::test(start_paused = true)]
async fn a_crowd_at_one_partner_leaves_the_store_alone_and_holds_up_nobody() {
    let world = World::new();
    let good = Bank::new(Arc::clone(&world.clock) as _);
    let notes = Arc::new(EventLog::default());
    let mut narrow = CallLimits::default();
    (narrow.per_second, narrow.at_once) = (2, 2);
    let banks = [("bank", &world.bank, narrow), ("good", &good, CallLimits::default())];
    let engine = engine(&world.store, &world.clock, &banks, Settings::default(), &notes);
    for number in 0..2000 {
        let (user, tokens) = (format!("u-{number}"), world.bank.tokens(false));
        world.link_as(("bank", &user), "app-1", &[Product::Identity], tokens).await;
    }
    world.pass(TimeDelta::seconds(1)).await;
    let tokens = good.tokens(false);
    let other = world.link_as(("good", "well"), "app-1", &[Product::Identity], tokens).await;
    let claims = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&claims);
    world.store.fails(move |what| {
        counted.fetch_add(usize::from(what == "claim"), Ordering::Relaxed);
        None
    });
    let stop = Arc::clone(&world.clock);
    engine.run(8, async move { stop.sleep(seconds(60)).await }).await;

    let notes = notes.0.lock().unwrap();
    let deferrals = notes.iter().filter(|event| matches!(event, Observed::Deferred { .. })).count();
    let mut ended = notes.iter().filter_map(|event| match event {
        Observed::Ended(report) => Some(&report.item_id),
        _ => None,
    });
    let (place, done) = (ended.clone().position(|item| *item == other), ended.by_ref().count());
    assert!(place.is_some_and(|place| place < 10), "it waited behind the crowd: {place:?}");
    assert!((90..=130).contains(&done), "{done} of some 120 that the partner bears");
    assert!(deferrals < 3_000, "{deferrals} deferrals");
    assert!(claims.load(Ordering::Relaxed) < 600, "{claims:?} claims");
}

/// A partner with a low concurrency limit gets few Items at once, and the others are worked on
/// beside it.
#[tokio::test(start_paused = true)]
async fn no_more_items_of_a_partner_at_once_than_it_bears() {
    let mut budget = CallLimits::default();
    budget.at_once = 2;
    let world = World::with(Settings::default(), budget);
    for number in 0..12 {
        let (user, tokens) = (format!("u-{number}"), world.bank.tokens(false));
        world.link_as(("bank", &user), "app-1", &[Product::Identity], tokens).await;
    }
    let stop = Arc::clone(&world.clock);
    world.engine.run(8, async move { stop.sleep(seconds(120)).await }).await;
    let (mut now, mut most, mut done) = (0_i32, 0, 0);
    for event in &*world.notes.0.lock().unwrap() {
        match event {
            Observed::Claimed { .. } => now += 1,
            Observed::Ended(report) => {
                assert_eq!(report.outcome, Outcome::Finished);
                now -= 1;
                done += 1;
            }
            _ => {}
        }
        most = most.max(now);
    }
    assert_eq!((most, done), (2, 12));
}

/// Four processes share the requests per second of a partner.
#[tokio::test(start_paused = true)]
async fn no_more_requests_per_second_over_all_processes() {
    let mut budget = CallLimits::default();
    (budget.per_second, budget.at_once) = (4, 16);
    let world = World::with(Settings::default(), budget);
    for number in 0..600 {
        let (user, tokens) = (format!("u-{number}"), world.bank.tokens(false));
        world.link_as(("bank", &user), "app-1", &[Product::Identity], tokens).await;
    }
    let banks = [("bank", &world.bank, budget)];
    let engines = [0; 4]
        .map(|_| engine(&world.store, &world.clock, &banks, Settings::default(), &world.notes));
    let stop = || {
        let clock = Arc::clone(&world.clock);
        async move { clock.sleep(seconds(60)).await }
    };
    let runs = engines.iter().map(|engine| engine.run(8, stop()));
    futures_util::future::join_all(runs).await;
    let requests = world.bank.data().calls.len();
    assert!((120..=300).contains(&requests), "{requests} requests in a minute");
}

/// The limit holds over four processes on one store. Permits of a killed process are free when its
/// lease ends.
#[tokio::test(start_paused = true)]
async fn no_more_items_of_a_partner_at_once_over_all_processes() {
    let mut budget = CallLimits::default();
    budget.at_once = 2;
    let world = World::with(Settings::default(), budget);
    for number in 0..16 {
        let (user, tokens) = (format!("u-{number}"), world.bank.tokens(false));
        world.link_as(("bank", &user), "app-1", &[Product::Identity], tokens).await;
    }
    world.bank.data().slow = seconds(3);
    let banks = [("bank", &world.bank, budget)];
    let other = || engine(&world.store, &world.clock, &banks, Settings::default(), &world.notes);
    // A killed process holds both for one lease.
    let killed = other();
    {
        let mut run = std::pin::pin!(killed.run(2, std::future::pending()));
        while world.notes.0.lock().unwrap().len() < 2 {
            assert!(futures_util::poll!(run.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
    }
    world.notes.0.lock().unwrap().clear();
    let engines = [other(), other(), other(), other()];
    let stop = || {
        let clock = Arc::clone(&world.clock);
        async move { clock.sleep(seconds(180)).await }
    };
    let runs = engines.iter().map(|engine| engine.run(8, stop()));
    futures_util::future::join_all(runs).await;
    let (mut now, mut most, mut done) = (0_i32, 0, 0);
    for event in &*world.notes.0.lock().unwrap() {
        match event {
            Observed::Claimed { .. } => now += 1,
            Observed::Ended(_) => (now, done) = (now - 1, done + 1),
            _ => {}
        }
        most = most.max(now);
    }
    assert_eq!((most, done), (2, 16));
}

/// Four processes on one PostgreSQL, like four machines.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_processes_on_one_database_call_a_partner_one_at_a_time() {
    let Some(url) = px_items::testing::postgres::database().await else { return };
    let keys = FileKeys::generate("k", Arc::new(SystemRandom)).unwrap();
    let options = StoreOptions::new(Environment::Sandbox, Arc::new(keys));
    let connect = || async {
        let store = PostgresStore::connect(&url, 3, options.clone()).await.unwrap();
        Arc::new(store) as Arc<dyn Store>
    };
    let clock = Arc::new(SystemClock::new());
    let bank = Bank::new(Arc::clone(&clock) as _);
    bank.data().slow = Duration::from_millis(20);
    let first = connect().await;
    for number in 0..24 {
        link_to(&*first, number, bank.tokens(false), clock.now()).await;
    }
    let mut budget = CallLimits::default();
    budget.at_once = 1;
    let notes = Arc::new(EventLog::default());
    let mut machines = tokio::task::JoinSet::new();
    for seed in 0..4 {
        let mut partner = Partner::new(bank.client(Arc::clone(&clock) as _));
        partner.budget = budget;
        let partners = FixedPartners::new().with("bank".parse().unwrap(), partner);
        let engine = Engine::builder(connect().await, Arc::new(partners))
            .random(Arc::new(SeededRandom::new(seed)))
            .observer(Arc::clone(&notes) as _)
            .build();
        let (notes, clock) = (Arc::clone(&notes), Arc::clone(&clock));
        machines.spawn(async move {
            let all_done = async {
                while notes.reports().len() < 24 {
                    clock.sleep(Duration::from_millis(50)).await;
                }
            };
            let late = clock.sleep(seconds(120));
            let stop = async {
                tokio::select! { () = all_done => {}, () = late => {} }
            };
            engine.run(4, stop).await;
        });
    }
    machines.join_all().await;
    let (finished, calls) = (notes.reports().len(), bank.data().calls.len());
    assert_eq!((finished, calls, bank.data().under_way), (24, 24, (0, 1)));
}

/// Links a user to an Item of its own.
async fn link_to(store: &dyn Store, number: u8, tokens: TokenSet, now: DateTime<Utc>) {
    let connection = Connection::new("app".parse().unwrap(), [Product::Identity], now);
    let user = ("bank".parse().unwrap(), format!("u-{number}").parse().unwrap());
    let item = format!("item-{number}").parse().unwrap();
    let holder = NewHolder::Application(connection);
    let digest = AccessDigest([number; 32]);
    store.link(NewLink::new(user, item, tokens, holder, digest, now)).await.unwrap();
}

/// The rate limit of a partner holds, however many processes there are.
#[tokio::test(start_paused = true)]
async fn all_processes_share_the_rate_limit_of_a_partner() {
    let mut budget = CallLimits::default();
    (budget.per_second, budget.at_once) = (10, 8);
    let world = World::with(Settings::default(), budget);
    for number in 0..600 {
        let (user, tokens) = (format!("u-{number}"), world.bank.tokens(false));
        world.link_as(("bank", &user), "app-1", &[Product::Identity], tokens).await;
    }
    let times = Arc::new(Mutex::new(Vec::new()));
    let (noted, clock) = (Arc::clone(&times), Arc::clone(&world.clock));
    world.bank.script(move |_, _| {
        noted.lock().unwrap().push(clock.elapsed());
        None
    });
    let banks = [("bank", &world.bank, budget)];
    let other = || engine(&world.store, &world.clock, &banks, Settings::default(), &world.notes);
    let engines = [other(), other(), other(), other()];
    // They start one after the other, and the last one continues alone.
    let runs = engines.iter().zip(0..).map(|(engine, number)| {
        let clock = Arc::clone(&world.clock);
        async move {
            clock.sleep(seconds(number * 5)).await;
            let stop = Arc::clone(&clock);
            let stop = async move { stop.sleep(seconds(20 + number * 5)).await };
            engine.run(8, stop).await;
        }
    });
    futures_util::future::join_all(runs).await;
    let times = times.lock().unwrap();
    // A burst, and the two seconds during which a share may be outdated.
    let most = |span: u64| 10 * span + 8 + 20;
    for (at, begun) in times.iter().enumerate() {
        for span in [1, 5, 10, 30] {
            let within = times[at..].iter().take_while(|time| **time - *begun < seconds(span));
            let count = within.count() as u64;
            assert!(count <= most(span), "{count} requests in {span} s from {begun:?}");
        }
    }
    assert!(times.len() >= 250, "{} requests in 50 s: the partner is idle", times.len());
}

/// Failures count over all processes, one of them probes, and its result counts for all.
#[tokio::test(start_paused = true)]
async fn a_circuit_is_one_for_all_processes() {
    let world = World::new();
    for number in 0..60 {
        let (user, tokens) = (format!("u-{number}"), world.bank.tokens(false));
        world.link_as(("bank", &user), "app-1", &[Product::Identity], tokens).await;
    }
    world.bank.script(|_, _| Some(refusal(500, "down")));
    let engines = [world.another_engine(), world.another_engine(), world.another_engine()];
    let item = |number: usize| -> ItemId { format!("item-u-{number}").parse().unwrap() };
    // Two failures in one process and two in another do not open it, the fifth does.
    for (engine, number) in engines.iter().cycle().zip(0..4) {
        engine.update(&item(number)).await.unwrap();
    }
    engines[1].run_due().await;
    assert_eq!(world.bank.data().calls.len(), 5);
    for engine in &engines {
        world.pass(TimeDelta::seconds(7)).await;
        engine.run_due().await;
    }
    assert_eq!(world.bank.data().calls.len(), 5, "it is open for all of them");
    for minute in 0..30 {
        world.pass(TimeDelta::minutes(1)).await;
        let before = world.bank.data().calls.len();
        let [one, two, three] = &engines;
        tokio::join!(one.run_due(), two.run_due(), three.run_due());
        let calls = world.bank.data().calls.len() - before;
        assert!(calls <= 1, "{calls} probes in minute {minute}");
    }
    let probes = world.bank.data().calls.len() - 5;
    assert!((3..=9).contains(&probes), "{probes} probes in half an hour");
    world.bank.behaves();
    for _ in 0..90 {
        world.pass(TimeDelta::minutes(1)).await;
        for engine in &engines {
            engine.run_due().await;
        }
    }
    for number in 0..60 {
        assert_eq!(world.record(&item(number)).await.state, State::Idle, "{number}");
    }
}

/// The possible window length is found out once for all processes.
#[tokio::test(start_paused = true)]
async fn a_refused_length_of_windows_is_learned_for_all_processes() {
    let world = World::new();
    let refused = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&refused);
    world.bank.script(move |call, _| {
        let is_long = call.what == "transactions"
            && call.date("start_date").plus_days(31) <= call.date("end_date");
        is_long.then(|| {
            counted.fetch_add(1, Ordering::Relaxed);
            refusal(400, px_types::error_id::WINDOW_TOO_LONG)
        })
    });
    world.link().await;
    world.another_engine().run_due().await;
    let first = refused.swap(0, Ordering::Relaxed);
    assert!(first > 0);
    let tokens = world.bank.tokens(false);
    world.link_as(("bank", "u-2"), "app-1", &[Product::Transactions], tokens).await;
    world.another_engine().run_due().await;
    assert_eq!(
        refused.swap(0, Ordering::Relaxed),
        0,
        "another process requests windows that are served"
    );
    // Partners change: after a week it is tried again.
    world.pass(TimeDelta::days(8)).await;
    let tokens = world.bank.tokens(false);
    world.link_as(("bank", "u-3"), "app-1", &[Product::Transactions], tokens).await;
    world.another_engine().run_due().await;
    assert!(refused.load(Ordering::Relaxed) > 0);
}

/// A long queue is not claimed and deferred all the time; Items that are awaited return soon.
#[tokio::test(start_paused = true)]
async fn a_crowd_that_needs_long_comes_back_seldom() {
    let mut narrow = CallLimits::default();
    (narrow.per_second, narrow.at_once) = (1, 1);
    let mut settings = Settings::default();
    settings.max_deferral_awaited = TimeDelta::minutes(1);
    let world = World::with(settings, narrow);
    for number in 0..1_000 {
        let (user, tokens) = (format!("u-{number}"), world.bank.tokens(false));
        world.link_as(("bank", &user), "app-1", &[Product::Identity], tokens).await;
    }
    let banks = [("bank", &world.bank, CallLimits::default())];
    let wide = engine(&world.store, &world.clock, &banks, Settings::default(), &world.notes);
    wide.run_due().await;
    world.pass(TimeDelta::hours(49)).await;
    world.notes.0.lock().unwrap().clear();
    let tokens = world.bank.tokens(false);
    let new = world.link_as(("bank", "new"), "app-1", &[Product::Identity], tokens).await;
    let stop = Arc::clone(&world.clock);
    world.engine.run(4, async move { stop.sleep(seconds(600)).await }).await;
    let (deferrals, done) = {
        let notes = world.notes.0.lock().unwrap();
        let deferrals = notes.iter().filter(|event| matches!(event, Observed::Deferred { .. }));
        let done = notes.iter().filter(|event| matches!(event, Observed::Ended(_)));
        (deferrals.count(), done.count())
    };
    assert!(done >= 400, "{done} of some 600 that the partner bears");
    assert!(deferrals <= 3_000, "{deferrals} early returns, with {done} Items that were worked on");
    let record = world.record(&new).await;
    let wait = record.due_at.unwrap() - world.now();
    assert!(record.state == State::Idle || wait <= TimeDelta::minutes(1), "{wait}");
}
