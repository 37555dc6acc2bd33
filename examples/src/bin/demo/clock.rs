//! Plaid's clock in the demo: the machine's clock, advanced with the bank's.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use px_core::{Clock, SystemClock};
use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

/// The machine's clock with an offset in days.
#[derive(Debug, Default)]
pub(crate) struct OffsetClock {
    clock: SystemClock,
    days: AtomicI64,
}

impl OffsetClock {
    /// Advances the clock by a number of days.
    pub(crate) fn advance(&self, days: i64) {
        self.days.fetch_add(days, Ordering::Relaxed);
    }
}

#[async_trait]
impl Clock for OffsetClock {
    fn now(&self) -> DateTime<Utc> {
        self.clock.now() + TimeDelta::days(self.days.load(Ordering::Relaxed))
    }

    fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    async fn sleep(&self, time: Duration) {
        self.clock.sleep(time).await;
    }
}
