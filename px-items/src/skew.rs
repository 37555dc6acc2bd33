//! The comparison of this machine's clock with the store's.

use crate::{
    metrics,
    store::{Store, StoreTime},
};
use chrono::TimeDelta;
use px_core::Clock;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Minimum tolerated difference. Smaller ones may be caused by the duration of the store's
/// response.
const MIN_TOLERANCE: TimeDelta = TimeDelta::seconds(1);
/// Minimum interval between two log lines about a wrong clock.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// Compares this machine's clock with the store's.
#[derive(Debug)]
pub(crate) struct ClockGuard {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    /// This machine's own time, for a store without a clock of its own.
    local: StoreTime,
    /// Time of the last log line about a wrong clock, by the clock's `elapsed`.
    reported_at: Mutex<Option<Duration>>,
}

impl ClockGuard {
    pub(crate) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        let local = StoreTime::local(Arc::clone(&clock));
        Self { store, clock, local, reported_at: Mutex::default() }
    }

    /// Compares this machine's clock with the store's. Returns `false` if they differ by more than
    /// a quarter of the lease; then nothing may be claimed or planned.
    ///
    /// A clock that is ahead would take work from live machines, or give it up too early. A clock
    /// that is behind would leave the work of stopped machines unclaimed.
    pub(crate) async fn is_right(&self, lease: Duration) -> bool {
        let time = match self.store.time().await {
            Ok(Some(time)) => Ok(time),
            Ok(None) => self.local.now().await,
            Err(error) => Err(error),
        };
        let time = match time {
            Ok(time) => time,
            Err(error) => {
                tracing::warn!(%error, "the store's clock could not be read; nothing is claimed");
                return false;
            }
        };
        let ahead = self.clock.now() - time;
        metrics::clock_skew(ahead);
        let most = TimeDelta::from_std(lease / 4).unwrap_or(TimeDelta::MAX);
        let most = most.max(MIN_TOLERANCE);
        let is_right = ahead.abs() <= most;
        if !is_right {
            self.report(ahead, most);
        }
        is_right
    }

    fn report(&self, ahead: TimeDelta, most: TimeDelta) {
        let elapsed = self.clock.elapsed();
        let mut reported_at = self.reported_at.lock().unwrap_or_else(PoisonError::into_inner);
        if reported_at.is_some_and(|at| elapsed < at + REPORT_INTERVAL) {
            return;
        }
        *reported_at = Some(elapsed);
        tracing::error!(
            ahead_seconds = ahead.num_seconds(),
            most_seconds = most.num_seconds(),
            "the clock of this machine is wrong: nothing is claimed until it agrees with the \
             store's; set it by NTP"
        );
    }
}
