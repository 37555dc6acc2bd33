//! Partners that are busy, down or slow: waits, budgets, circuits.

use super::{
    bank::{Bank, refusal, row, wait},
    world::{Notes, World, engine, seconds},
};
use chrono::TimeDelta;
use px_core::Clock as _;
use px_items::{
    engine::{Observed, Outcome, Settings},
    item::State,
    life::FailureKind,
    partners::Budget,
    store::{NotifyAsk, Store as _},
};
use px_types::model::product::Product;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Transient failures never gate the next attempt for good, however many there were.
#[tokio::test(start_paused = true)]
async fn case_37_every_failure_has_a_next_attempt_and_success_clears_it() {
    for status in [400, 403, 404, 408, 429, 500, 502, 503] {
        let world = World::new();
        world.bank.put(row("t-1", "1.00", world.days_ago(1)));
        let item = world.link().await;
        world.engine.work_off().await;
        world.bank.script(move |_, _| Some(refusal(status, "no")));
        let mut waits = Vec::new();
        for attempt in 1..=40_u32 {
            let record = world.record(&item).await;
            assert!(world.stored(&item).await.len() == 1, "the last good data stay readable");
            let due = record.due_at.expect("it is never without a next attempt");
            waits.push(due - world.now());
            world.pass((due - world.now()).max(TimeDelta::zero())).await;
            world.engine.work_off().await;
            let record = world.record(&item).await;
            // While the circuit is open some are put off, which is no attempt.
            assert!(record.life.failures <= attempt);
            assert_eq!(record.state, State::Idle);
        }
        assert!(world.record(&item).await.life.failures >= 5, "{status}");
        assert!(waits[1..].iter().all(|wait| *wait <= TimeDelta::hours(13)), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait >= TimeDelta::minutes(10)), "it is called less");

        world.bank.behaves();
        world.bank.put(row("t-2", "1.00", world.days_ago(0)));
        let due = world.record(&item).await.due_at.unwrap();
        world.pass((due - world.now()).max(TimeDelta::zero()) + TimeDelta::minutes(20)).await;
        world.engine.work_off().await;
        let life = world.record(&item).await.life;
        assert_eq!((life.failures, life.last_failure), (0, None), "{status}");
        world.assert_equal(&item).await;
    }
}

/// A notification brings the next attempt forward, though not again and again.
#[tokio::test(start_paused = true)]
async fn a_notification_ends_a_back_off_early() {
    let world = World::new();
    let item = world.link().await;
    world.engine.work_off().await;
    world.bank.script(|_, _| Some(refusal(403, "no")));
    world.notify(NotifyAsk::Update { since: Some(world.days_ago(90)) }).await;
    world.engine.work_off().await;
    let due = world.record(&item).await.due_at.unwrap();
    assert!(due >= world.now() + TimeDelta::minutes(10));
    world.notify(NotifyAsk::Update { since: None }).await;
    assert_eq!(world.engine.work_off().await, 0, "not at once");
    world.pass(TimeDelta::minutes(1)).await;
    world.bank.behaves();
    world.bank.forget_calls();
    assert_eq!(world.engine.work_off().await, 1);
    let start = world.bank.data().calls[1..].iter().map(|call| call.date("start_date")).min();
    assert!(
        start.unwrap() <= world.days_ago(90),
        "what was asked for before the failure is still owed"
    );
    assert_eq!(world.record(&item).await.life.owed_since, None);
}

/// 429 is an outcome of its own: nothing moves on, and the next call is when the bank says.
#[tokio::test(start_paused = true)]
async fn case_45_too_many_requests_moves_nothing_on_and_is_waited_for() {
    for (status, kind) in [(429, FailureKind::RateLimited), (503, FailureKind::Unavailable)] {
        let world = World::new();
        let item = world.link().await;
        world.engine.work_off().await;
        let before = world.record(&item).await.life.fresh;
        world.pass(TimeDelta::hours(48)).await;
        world.bank.put(row("t-1", "1.00", world.days_ago(1)));
        world.bank.script(move |call, _| (call.what == "transactions").then(|| wait(status, 7200)));
        world.engine.work_off().await;
        let record = world.record(&item).await;
        assert_eq!(record.life.last_failure.as_ref().unwrap().kind, kind);
        let fresh = record.life.fresh;
        assert_eq!(fresh.transactions, before.transactions);
        assert!(fresh.accounts > before.accounts, "they were read, and are stored on their own");
        let asked = world.now() + TimeDelta::hours(2);
        assert_eq!(record.not_before, Some(asked));
        let late = record.due_at.unwrap() - asked;
        assert!((TimeDelta::zero()..=TimeDelta::minutes(1)).contains(&late), "{late}");

        // No notification gets past that.
        world.notify(NotifyAsk::Update { since: None }).await;
        world.pass(TimeDelta::minutes(119)).await;
        world.bank.forget_calls();
        assert_eq!(world.engine.work_off().await, 0);
        world.pass(TimeDelta::minutes(2)).await;
        world.bank.behaves();
        assert_eq!(world.engine.work_off().await, 1);
        world.assert_equal(&item).await;
    }
    // A wait beyond all reason is kept to a day.
    let world = World::new();
    let item = world.link().await;
    world.bank.script(|_, _| Some(wait(503, 90 * 86_400)));
    world.engine.work_off().await;
    let due = world.record(&item).await.due_at.unwrap() - world.now();
    assert!(due <= TimeDelta::hours(24) + TimeDelta::minutes(1), "{due}");
}

/// A bank that bears few calls: an update is two of them, whatever the accounts; who is not
/// alive costs none; and the calls are spread.
#[tokio::test(start_paused = true)]
async fn case_46_a_quota_is_not_burnt() {
    let mut budget = Budget::default();
    (budget.per_second, budget.at_once) = (2, 1);
    let world = World::with(Settings::default(), budget);
    for number in 0..40 {
        let account = super::bank::account(&format!("more-{number}"), "More");
        world.bank.data().accounts.push(account);
    }
    let item = world.link().await;
    world.engine.work_off().await;
    let dead = {
        let tokens = world.bank.tokens(false);
        let item = world.link_as(("bank", "u-2"), "app-1", &[Product::Identity], tokens).await;
        world.engine.work_off().await;
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
    world.engine.work_off().await;
    let reads = world.bank.count("user") + world.bank.count("transactions");
    assert_eq!(reads, 2, "the one that is dead is not called");
}

/// Each kind of data says how old it is: what is not read does not look fresh.
#[tokio::test(start_paused = true)]
async fn case_47_data_that_are_not_read_do_not_look_fresh() {
    let world = World::new();
    let item = world.link().await;
    let first = world.now();
    world.engine.work_off().await;
    let fresh = world.record(&item).await.life.fresh;
    assert_eq!((fresh.accounts, fresh.transactions), (Some(first), Some(first)));
    // The last user of transactions leaves: accounts go on, transactions do not.
    let tokens = world.bank.tokens(false);
    world.link_as(("bank", "u-1"), "app-2", &[Product::Identity], tokens).await;
    world.store.inner.unlink(&item, Some(&"app-1".parse().unwrap()), world.now()).await.unwrap();
    world.pass(TimeDelta::hours(48)).await;
    let second = world.now();
    world.engine.work_off().await;
    let fresh = world.record(&item).await.life.fresh;
    assert_eq!((fresh.accounts, fresh.identities), (Some(second), Some(second)));
    assert_eq!(fresh.transactions, Some(first));
    // An update that fails makes nothing fresh, though it read the user.
    world.bank.script(|call, _| (call.what == "user").then(|| refusal(500, "no")));
    world.pass(TimeDelta::hours(48)).await;
    world.engine.work_off().await;
    assert_eq!(world.record(&item).await.life.fresh, fresh);
}

/// A partner that fails is left alone, probed by one Item, and taken up again; the Items of
/// another partner do not wait behind its own.
#[tokio::test(start_paused = true)]
async fn a_partner_that_is_down_is_probed_by_one_and_holds_up_nobody() {
    let world = World::new();
    let good = Bank::new(Arc::clone(&world.clock) as _);
    let notes = Arc::new(Notes::default());
    let budget = Budget::default();
    let banks = [("bank", &world.bank, budget), ("good", &good, budget)];
    let engine = engine(&world.store, &world.clock, &banks, Settings::default(), &notes);
    world.bank.script(|_, _| Some(refusal(500, "down")));
    for number in 0..100 {
        let (user, tokens) = (format!("down-{number}"), world.bank.tokens(false));
        world.link_as(("bank", &user), "app-1", &[Product::Identity], tokens).await;
    }
    let tokens = good.tokens(false);
    let item = world.link_as(("good", "well"), "app-1", &[Product::Identity], tokens).await;
    engine.work_off().await;
    assert_eq!(world.record(&item).await.state, State::Idle);
    assert_eq!(world.bank.data().calls.len(), 5, "five failures open the circuit");
    let put_off = |notes: &Notes| {
        let notes = notes.0.lock().unwrap();
        notes.iter().filter(|event| matches!(event, Observed::PutOff { .. })).count()
    };
    assert_eq!(put_off(&notes), 95);

    // For an hour one call now and then.
    let mut before = 5;
    for minute in 0..60 {
        world.pass(TimeDelta::minutes(1)).await;
        engine.work_off().await;
        let calls = world.bank.data().calls.len();
        assert!(calls <= before + 1, "minute {minute}");
        before = calls;
    }
    assert!((7..=14).contains(&before), "{before} calls in an hour");

    world.bank.behaves();
    for _ in 0..120 {
        world.pass(TimeDelta::minutes(1)).await;
        engine.work_off().await;
    }
    for number in 0..100 {
        let item = format!("item-down-{number}").parse().unwrap();
        assert_eq!(world.record(&item).await.state, State::Idle, "{number}");
    }
}

/// A crowd at one partner comes back one after the other: the store is asked for little more than
/// there is work, the partner is never idle, and others do not wait behind it.
#[tokio::test(start_paused = true)]
async fn a_crowd_at_one_partner_leaves_the_store_alone_and_holds_up_nobody() {
    let world = World::new();
    let good = Bank::new(Arc::clone(&world.clock) as _);
    let notes = Arc::new(Notes::default());
    let mut narrow = Budget::default();
    (narrow.per_second, narrow.at_once) = (2, 2);
    let banks = [("bank", &world.bank, narrow), ("good", &good, Budget::default())];
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
    let put_off = notes.iter().filter(|event| matches!(event, Observed::PutOff { .. })).count();
    let mut ended = notes.iter().filter_map(|event| match event {
        Observed::Ended(report) => Some(&report.item_id),
        _ => None,
    });
    let (place, done) = (ended.clone().position(|item| *item == other), ended.by_ref().count());
    assert!(place.is_some_and(|place| place < 10), "it waited behind the crowd: {place:?}");
    assert!((90..=130).contains(&done), "{done} of some 120 that the partner bears");
    assert!(put_off < 3_000, "{put_off} put off");
    assert!(claims.load(Ordering::Relaxed) < 600, "{claims:?} claims");
}

/// A partner that takes few at once gets few at once, and the others go on beside it.
#[tokio::test(start_paused = true)]
async fn no_more_items_of_a_partner_at_once_than_it_bears() {
    let mut budget = Budget::default();
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

/// The limit holds over four processes on one store. Permits of a killed process are free when its
/// lease ends.
#[tokio::test(start_paused = true)]
async fn no_more_items_of_a_partner_at_once_over_all_processes() {
    let mut budget = Budget::default();
    budget.at_once = 2;
    let world = World::with(Settings::default(), budget);
    for number in 0..16 {
        let (user, tokens) = (format!("u-{number}"), world.bank.tokens(false));
        world.link_as(("bank", &user), "app-1", &[Product::Identity], tokens).await;
    }
    world.bank.data().slow = seconds(3);
    let banks = [("bank", &world.bank, budget)];
    let other = || engine(&world.store, &world.clock, &banks, Settings::default(), &world.notes);
    // One that was killed holds both for a lease.
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
