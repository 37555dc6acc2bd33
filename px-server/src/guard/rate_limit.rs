//! The rate limit of calls of one client for one user.

use super::buckets::Buckets;
use chrono::TimeDelta;
use px_core::Clock;
use px_types::{ClientId, UserId};
use std::{sync::Arc, time::Duration};

/// A rate limit of calls of one client for one user.
///
/// A token bucket per pair of client and principal: an idle caller may send the whole number at
/// once, and then at an even pace. The number of stored pairs is bounded; the least recently used
/// pair is removed first. The counts are local to this process: behind a load balancer, each server
/// counts separately.
///
/// ```
/// use px_server::guard::RateLimit;
///
/// let limit = RateLimit::per_minute(600);
/// assert!(limit.check(None, None).is_ok());
/// ```
#[derive(Debug)]
pub struct RateLimit(Buckets<(Option<ClientId>, Option<UserId>)>);

impl RateLimit {
    /// Creates a limit of calls per second; 0 counts as 1.
    #[must_use]
    pub fn per_second(calls: u32) -> Self {
        Self(Buckets::new(calls, TimeDelta::seconds(1)))
    }

    /// Creates a limit of calls per minute; 0 counts as 1.
    #[must_use]
    pub fn per_minute(calls: u32) -> Self {
        Self(Buckets::new(calls, TimeDelta::minutes(1)))
    }

    /// Sets the clock; the system clock by default.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.0.clock = clock;
        self
    }

    /// Sets the maximum number of stored pairs of client and user; 100,000 by default, 0 counts as
    /// 1.
    #[must_use]
    pub fn max_keys(mut self, keys: usize) -> Self {
        self.0.max_keys = keys.max(1);
        self
    }

    /// Counts a call.
    ///
    /// # Errors
    /// The time to wait, if the limit is exceeded. Such a call is not counted.
    pub fn check(
        &self,
        client: Option<&ClientId>,
        principal: Option<&UserId>,
    ) -> Result<(), Duration> {
        self.0.take((client.cloned(), principal.cloned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use px_core::ManualClock;

    fn clock() -> ManualClock {
        ManualClock::new(DateTime::from_timestamp(1_700_000_000, 0).unwrap())
    }

    fn limit(calls: u32, clock: &ManualClock) -> RateLimit {
        RateLimit::per_second(calls).clock(Arc::new(clock.clone()))
    }

    #[test]
    fn a_full_bucket_then_an_even_pace() {
        let clock = clock();
        for calls in [1, 3, 7, 1000] {
            let limit = limit(calls, &clock);
            for _ in 0..calls {
                assert_eq!(limit.check(None, None), Ok(()));
            }
            let wait = limit.check(None, None).unwrap_err();
            assert!(wait <= Duration::from_secs(1) / calls && wait > Duration::ZERO);
            clock.advance(TimeDelta::from_std(wait).unwrap());
            assert_eq!(limit.check(None, None), Ok(()));
            assert!(limit.check(None, None).is_err());
        }
    }

    #[test]
    fn every_pair_of_client_and_user_has_its_own() {
        let clock = clock();
        let limit = limit(1, &clock);
        let (c, d) = (ClientId::new("c").unwrap(), ClientId::new("d").unwrap());
        let (u, v) = (UserId::new("u").unwrap(), UserId::new("v").unwrap());
        for (client, user) in [(&c, &u), (&c, &v), (&d, &u)] {
            assert!(limit.check(Some(client), Some(user)).is_ok());
            assert!(limit.check(Some(client), Some(user)).is_err());
        }
    }

    #[test]
    fn a_refused_call_costs_nothing() {
        let clock = clock();
        let limit = limit(1, &clock);
        limit.check(None, None).unwrap();
        for _ in 0..100 {
            assert_eq!(limit.check(None, None), Err(Duration::from_secs(1)));
        }
    }

    #[test]
    fn keys_are_bounded() {
        let clock = clock();
        let limit = limit(1, &clock).max_keys(2);
        for name in ["a", "b", "c"] {
            let user = UserId::new(name).unwrap();
            assert!(limit.check(None, Some(&user)).is_ok());
        }
        assert_eq!(limit.0.len(), 2);
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out() {
        let clock = clock();
        let limit = limit(1, &clock);
        limit.check(None, None).unwrap();
        clock.advance(TimeDelta::days(-30));
        let wait = limit.check(None, None).unwrap_err();
        assert!(wait <= Duration::from_secs(1), "{wait:?}");
    }
}
