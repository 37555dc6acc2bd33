//! Virtual time of a run, and the clocks of machines.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use px_core::{Clock, SystemClock};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

/// Calendar that moves with the runtime's paused time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SimClock(SystemClock);

impl SimClock {
    /// Creates a clock that shows a given time now. Only within a runtime.
    pub(crate) fn starting_at(now: DateTime<Utc>) -> Self {
        Self(SystemClock::starting_at(now))
    }
}

#[async_trait]
impl Clock for SimClock {
    fn now(&self) -> DateTime<Utc> {
        self.0.now()
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    async fn sleep(&self, time: Duration) {
        self.0.sleep(time).await;
    }
}

/// Clock of one machine. Its calendar is ahead of the run's or behind it, and can be set.
#[derive(Clone, Debug)]
pub(crate) struct MachineClock {
    run: SimClock,
    ahead_millis: Arc<AtomicI64>,
    /// Time at which it was set, by the run's elapsed time.
    set_at_millis: Arc<AtomicU64>,
}

/// Error above which a clock is wrong: no machine may work by it. A quarter of the longest lease, which
/// is that of the webhook sender.
const FAR_OFF: TimeDelta = TimeDelta::seconds(30);

impl MachineClock {
    pub(crate) fn new(run: SimClock, ahead: TimeDelta) -> Self {
        let ahead_millis = Arc::new(AtomicI64::new(ahead.num_milliseconds()));
        Self { run, ahead_millis, set_at_millis: Arc::default() }
    }

    pub(crate) fn ahead(&self) -> TimeDelta {
        TimeDelta::milliseconds(self.ahead_millis.load(Ordering::Relaxed))
    }

    /// Sets the calendar. Elapsed time continues.
    pub(crate) fn set_ahead(&self, ahead: TimeDelta) {
        self.ahead_millis.store(ahead.num_milliseconds(), Ordering::Relaxed);
        let now = u64::try_from(self.run.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.set_at_millis.store(now, Ordering::Relaxed);
    }

    /// Returns whether it is wrong.
    pub(crate) fn is_far_off(&self) -> bool {
        self.ahead().abs() > FAR_OFF
    }

    /// Returns whether it has been wrong for a given time.
    pub(crate) fn is_far_off_for(&self, time: Duration) -> bool {
        let set_at = Duration::from_millis(self.set_at_millis.load(Ordering::Relaxed));
        self.is_far_off() && self.run.elapsed() > set_at + time
    }
}

#[async_trait]
impl Clock for MachineClock {
    fn now(&self) -> DateTime<Utc> {
        Clock::now(&self.run) + self.ahead()
    }

    fn elapsed(&self) -> Duration {
        self.run.elapsed()
    }

    async fn sleep(&self, time: Duration) {
        self.run.sleep(time).await;
    }
}
