//! Whether this machine's clock may be worked by.

use super::Inner;
use crate::{metrics, store::StoreTime};
use chrono::TimeDelta;
use px_core::Clock;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// A shorter difference is not told from the time that the store's response takes.
const MIN_TOLERANCE: TimeDelta = TimeDelta::seconds(1);
/// How often the log says that the clock is wrong.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// What this machine's clock is compared with.
#[derive(Debug)]
pub(super) struct SkewGuard {
    /// The machine's own time, for a store without a clock of its own.
    local: StoreTime,
    /// When the log said last that the clock is wrong, by the clock's `elapsed`.
    reported_at: Mutex<Option<Duration>>,
}

impl SkewGuard {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { local: StoreTime::local(clock), reported_at: Mutex::default() }
    }
}

impl Inner {
    /// Compares this machine's clock with the store's. Returns `false` if they differ by more than a
    /// quarter of a lease: then no Item may be worked on.
    ///
    /// A clock that is ahead would take Items from workers that are alive, and one that is behind
    /// would leave those of dead workers lying.
    pub(super) async fn clock_is_right(&self) -> bool {
        let time = match self.store.time().await {
            Ok(Some(time)) => Ok(time),
            Ok(None) => self.skew.local.now().await,
            Err(error) => Err(error),
        };
        let time = match time {
            Ok(time) => time,
            Err(error) => {
                tracing::warn!(%error, "the store's clock could not be read; no Item is claimed");
                return false;
            }
        };
        let ahead = self.clock.now() - time;
        metrics::clock_skew(ahead);
        let most = TimeDelta::from_std(self.settings.lease / 4).unwrap_or(TimeDelta::MAX);
        let most = most.max(MIN_TOLERANCE);
        let is_right = ahead.abs() <= most;
        if !is_right {
            self.report_skew(ahead, most);
        }
        is_right
    }

    fn report_skew(&self, ahead: TimeDelta, most: TimeDelta) {
        let elapsed = self.clock.elapsed();
        let mut reported_at = self.skew.reported_at.lock().unwrap_or_else(PoisonError::into_inner);
        if reported_at.is_some_and(|at| elapsed < at + REPORT_INTERVAL) {
            return;
        }
        *reported_at = Some(elapsed);
        tracing::error!(
            ahead_seconds = ahead.num_seconds(),
            most_seconds = most.num_seconds(),
            "the clock of this machine is wrong: no Item is worked on until it agrees with the \
             store's; set it by NTP"
        );
    }
}
