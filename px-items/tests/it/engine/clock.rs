//! Machines with wrong clocks.

use super::{
    bank::row,
    world::{World, seconds},
};
use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use px_core::{Clock, SeededRandom};
use px_items::{
    engine::{Engine, EngineErrorKind, Settings},
    item::State,
    partners::{FixedPartners, Partner},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

/// A clock with a calendar that can differ from its steady time.
#[derive(Clone, Debug)]
pub(crate) struct WrongClock {
    right: Arc<dyn Clock>,
    ahead_millis: Arc<AtomicI64>,
}

impl WrongClock {
    pub(crate) fn new(right: Arc<dyn Clock>, ahead: TimeDelta) -> Self {
        let clock = Self { right, ahead_millis: Arc::default() };
        clock.set_ahead(ahead);
        clock
    }

    pub(crate) fn set_ahead(&self, ahead: TimeDelta) {
        self.ahead_millis.store(ahead.num_milliseconds(), Ordering::Relaxed);
    }
}

#[async_trait]
impl Clock for WrongClock {
    fn now(&self) -> DateTime<Utc> {
        self.right.now() + TimeDelta::milliseconds(self.ahead_millis.load(Ordering::Relaxed))
    }

    fn elapsed(&self) -> Duration {
        self.right.elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        self.right.sleep(duration).await;
    }
}

/// Returns the engine of a machine with its own clock.
fn machine(world: &World, ahead: TimeDelta) -> (Engine, WrongClock) {
    let clock = WrongClock::new(Arc::clone(&world.clock) as _, ahead);
    let partner = Partner::new(world.bank.client(Arc::new(clock.clone())));
    let partners = FixedPartners::new().with("bank".parse().unwrap(), partner);
    let engine = Engine::builder(Arc::clone(&world.store) as _, Arc::new(partners))
        .clock(Arc::new(clock.clone()))
        .random(Arc::new(SeededRandom::new(99)))
        .settings(Settings::default())
        .build();
    (engine, clock)
}

/// A quarter of a lease is 5 s.
#[tokio::test(start_paused = true)]
async fn a_machine_works_on_nothing_while_its_clock_is_wrong() {
    for ahead in [
        TimeDelta::days(3),
        TimeDelta::days(1),
        TimeDelta::milliseconds(5_001),
        TimeDelta::milliseconds(-5_001),
        TimeDelta::days(-400),
    ] {
        let world = World::new();
        world.bank.put(row("t-1", "1.00", world.days_ago(1)));
        let item = world.link().await;
        world.pass(TimeDelta::minutes(1)).await;
        let (engine, clock) = machine(&world, ahead);
        assert_eq!(engine.run_due().await, 0, "{ahead}");
        let error = engine.update(&item).await.unwrap_err();
        assert_eq!(error.kind(), EngineErrorKind::WrongClock);
        let stop = Arc::clone(&world.clock);
        engine.run(2, async move { stop.sleep(seconds(60)).await }).await;
        assert_eq!(world.record(&item).await.fence.0, 0);
        assert_eq!(world.bank.data().calls.len(), 0);
        // The engine notices that the clock was corrected.
        clock.set_ahead(ahead.signum_seconds(5));
        world.pass(TimeDelta::seconds(11)).await;
        assert_eq!(engine.run_due().await, 1, "{ahead}");
        world.assert_equal(&item).await;
    }
}

trait Signum {
    fn signum_seconds(self, seconds: i64) -> TimeDelta;
}

impl Signum for TimeDelta {
    /// Returns a number of seconds with the same sign.
    fn signum_seconds(self, seconds: i64) -> TimeDelta {
        TimeDelta::seconds(self.num_milliseconds().signum() * seconds)
    }
}

/// A machine dies after its clock was set a day ahead during the work. It blocks its Item for one
/// lease and no longer.
#[tokio::test(start_paused = true)]
async fn an_item_of_a_machine_that_is_a_day_ahead_and_dies_is_free_after_a_lease() {
    let world = World::new();
    world.bank.put(row("t-1", "1.00", world.days_ago(1)));
    let item = world.link().await;
    let (engine, clock) = machine(&world, TimeDelta::zero());
    world.bank.data().slow = seconds(18);
    let dies = async {
        world.pass(TimeDelta::seconds(5)).await;
        clock.set_ahead(TimeDelta::days(1));
        // It renews its lease twice by the wrong clock.
        world.pass(TimeDelta::seconds(10)).await;
    };
    tokio::select! {
        _ = engine.run_due() => panic!("the bank is slow"),
        () = dies => {}
    }
    let left = world.record(&item).await.leased_until.unwrap() - world.now();
    assert!(left <= TimeDelta::seconds(20), "{left}");
    world.bank.data().slow = seconds(0);
    world.pass(TimeDelta::seconds(21)).await;
    world.another_engine().run_due().await;
    assert_eq!(world.record(&item).await.state, State::Idle);
    world.assert_equal(&item).await;
}

/// Data that was read while the clock was set is discarded, and another machine reads it again.
#[tokio::test(start_paused = true)]
async fn a_step_during_work_stores_nothing_and_costs_no_later_change() {
    for ahead in [TimeDelta::days(3), TimeDelta::days(-3), TimeDelta::seconds(6)] {
        let world = World::new();
        for days in 0..3 {
            world.bank.put(row(&format!("t-{days}"), "1.00", world.days_ago(days)));
        }
        let item = world.link().await;
        let (engine, clock) = machine(&world, TimeDelta::zero());
        let step = clock.clone();
        world.bank.script(move |_, _| {
            step.set_ahead(ahead);
            None
        });
        assert_eq!(engine.run_due().await, 1);
        let record = world.record(&item).await;
        assert_eq!(
            (record.sync_state.fresh.accounts, record.leased_until),
            (None, None),
            "{ahead}"
        );
        assert!(record.due_at.unwrap() <= world.now(), "{ahead}");
        assert!(world.stored(&item).await.is_empty());
        world.bank.behaves();
        assert_eq!(world.another_engine().run_due().await, 1);
        world.assert_equal(&item).await;
        // The next change at the bank is stored.
        world.bank.put(row("t-0", "2.00", world.days_ago(0)));
        world.bank.remove("t-1");
        world.bank.put(row("t-9", "3.00", world.days_ago(0)));
        world.pass(TimeDelta::hours(49)).await;
        assert_eq!(world.another_engine().run_due().await, 1);
        world.assert_equal(&item).await;
    }
}
