//! Work after a restore: spent refresh tokens are back, and each use of one can end an authorization.

use chrono::{DateTime, TimeDelta, Utc};
use px_client::oauth::TokenSet;
use px_core::Clock;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How Items are worked on after the database was restored from a backup, or failed over and lost
/// its last commits.
///
/// A partner replaces a refresh token when it is used, so the stored one may be spent. A partner takes a
/// spent one for a theft and ends the authorization: the user must sign in again. So access tokens
/// that were stored before the start are used as long as the partner takes them, and are refreshed one
/// by one. Meanwhile an operator sees how many refreshes are refused, and can stop.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreSettings {
    /// The time between two refreshes of tokens that were stored before the start, over all
    /// partners of this process. Default: 10 seconds.
    pub refresh_interval: Duration,
}

impl Default for RestoreSettings {
    fn default() -> Self {
        Self { refresh_interval: Duration::from_secs(10) }
    }
}

/// Admits refreshes of restored tokens one by one.
#[derive(Debug)]
pub(super) struct Restore {
    interval: Duration,
    clock: Arc<dyn Clock>,
    /// Tokens that were issued before are of the backup.
    started_at: DateTime<Utc>,
    queue: Mutex<Queue>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Queue {
    /// When the next refresh may begin, by the clock's `elapsed`.
    next: Duration,
    /// When the last one that waits may.
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
        // Twice as dense as refreshes are, so that an Item that comes late leaves no refresh unused.
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
