//! The virtual time of a run: one clock for the bank, the workers and everyone else.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use px_core::{Clock, SystemClock};
use std::time::Duration;

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
