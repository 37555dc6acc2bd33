//! Work after a restore: spent refresh tokens are stored again, and each use of one can end an
//! authorization.

use chrono::{DateTime, TimeDelta, Utc};
use px_client::oauth::TokenSet;
use px_core::Clock;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Settings for the work on Items after the database was restored from a backup, or lost its last
/// commits in a failover.
///
/// A partner replaces a refresh token when it is used, so the stored one may be spent. A partner
/// treats the use of a spent token as theft and ends the authorization: the user must sign in
/// again. Therefore access tokens that were stored before the start are used as long as the partner
/// accepts them, and are refreshed one by one. An operator can watch how many refreshes are
/// refused, and can stop.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreSettings {
    /// Minimum interval between two refreshes of tokens that were stored before the start, over all
    /// partners of this process. Default: 10 seconds.
    pub refresh_interval: Duration,
}

impl Default for RestoreSettings {
    fn default() -> Self {
        Self { refresh_interval: Duration::from_secs(10) }
    }
}

/// Limiter that admits refreshes of restored tokens one by one.
#[derive(Debug)]
pub(super) struct Restore {
    interval: Duration,
    clock: Arc<dyn Clock>,
    /// Start of the process. Tokens that were issued earlier come from the backup.
    started_at: DateTime<Utc>,
    queue: Mutex<Queue>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Queue {
    /// Time of the next refresh, by the clock's `elapsed`.
    next: Duration,
    /// Time of the last refresh in the queue.
    end: Duration,
}

impl Restore {
    pub(super) fn new(settings: &RestoreSettings, clock: Arc<dyn Clock>) -> Arc<Self> {
        let started_at = clock.now();
        let interval = settings.refresh_interval;
        Arc::new(Self { interval, clock, started_at, queue: Mutex::default() })
    }

    /// Returns whether tokens were stored before the start.
    pub(super) fn concerns(&self, tokens: &TokenSet) -> bool {
        tokens.issued_at.utc() < self.started_at
    }

    /// Admits one refresh now, or returns when to try again.
    pub(super) fn admit(&self) -> Result<(), DateTime<Utc>> {
        let elapsed = self.clock.elapsed();
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if elapsed >= queue.next {
            queue.next = elapsed + self.interval;
            return Ok(());
        }
        // The queue is twice as dense as the refreshes, so that no slot stays unused when an Item
        // returns late.
        queue.end = queue.end.max(queue.next) + self.interval / 2;
        let wait = TimeDelta::from_std(queue.end - elapsed).unwrap_or(TimeDelta::MAX);
        Err(self.clock.now() + wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use px_core::ManualClock;

    #[test]
    fn refreshes_are_admitted_one_by_one() {
        let start = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
        let clock = ManualClock::new(start);
        let restore = Restore::new(&RestoreSettings::default(), Arc::new(clock.clone()));
        assert_eq!(restore.admit(), Ok(()));
        let again: Vec<_> = (0..3).map(|_| restore.admit().unwrap_err() - start).collect();
        assert_eq!(again, [15, 20, 25].map(TimeDelta::seconds));
        clock.advance(TimeDelta::seconds(10));
        assert_eq!(restore.admit(), Ok(()));
        assert_eq!(restore.admit().unwrap_err() - start, TimeDelta::seconds(30));
    }
}
