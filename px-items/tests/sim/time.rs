//! The virtual time of a run, and what the clocks of machines make of it.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use px_core::{Clock, SystemClock};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

/// A calendar that moves with the runtime's paused time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SimClock(SystemClock);

impl SimClock {
    /// A clock that stands at that moment now. Only within a runtime.
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

/// The clock of one machine: its calendar is ahead of the run's, or behind, and can be set.
#[derive(Clone, Debug)]
pub(crate) struct MachineClock {
    run: SimClock,
    ahead_millis: Arc<AtomicI64>,
}

impl MachineClock {
    pub(crate) fn new(run: SimClock, ahead: TimeDelta) -> Self {
        Self { run, ahead_millis: Arc::new(AtomicI64::new(ahead.num_milliseconds())) }
    }

    pub(crate) fn ahead(&self) -> TimeDelta {
        TimeDelta::milliseconds(self.ahead_millis.load(Ordering::Relaxed))
    }

    /// Sets the calendar; time goes on as before.
    pub(crate) fn set_ahead(&self, ahead: TimeDelta) {
        self.ahead_millis.store(ahead.num_milliseconds(), Ordering::Relaxed);
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
