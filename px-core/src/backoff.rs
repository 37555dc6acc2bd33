//! Backoff: the delay before something that failed is tried again.

use crate::random::{self, Random};
use std::time::Duration;

/// An exponential backoff: delays that grow from a first one up to a longest one.
///
/// The functions differ in what they need to know and in how they spread clients that failed at the
/// same moment:
///
/// | function | delay after `n` failures | for |
/// |---|---|---|
/// | [`delay`](Self::delay) | `first × factor^(n−1)` | a single client |
/// | [`equal_jitter`](Self::equal_jitter) | between half of that and all of it | several clients, and a lower bound is needed |
/// | [`full_jitter`](Self::full_jitter) | between zero and that | many clients that compete |
/// | [`decorrelated_jitter`](Self::decorrelated_jitter) | between `first` and three times the last delay | many clients that keep their last delay |
///
/// ```
/// use px_core::backoff::Backoff;
/// use std::time::Duration;
///
/// const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
/// assert_eq!(BACKOFF.delay(1), Duration::from_secs(1));
/// assert_eq!(BACKOFF.delay(4), Duration::from_secs(8));
/// assert_eq!(BACKOFF.delay(40), Duration::from_secs(60));
/// ```
///
/// The names are those of [Exponential Backoff And Jitter](https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    factor: u32,
}

impl Backoff {
    /// Returns a backoff that doubles from a first delay up to a longest one.
    #[must_use]
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, factor: 2 }
    }

    /// Sets the factor between two delays. Default: 2.
    #[must_use]
    pub const fn factor(mut self, factor: u32) -> Self {
        self.factor = factor;
        self
    }

    /// Returns the delay after a number of consecutive failures; that after none is the first one too.
    #[must_use]
    pub fn delay(&self, failures: u32) -> Duration {
        let factor = self.factor.checked_pow(failures.saturating_sub(1));
        factor.map_or(self.max, |factor| self.first.saturating_mul(factor)).min(self.max)
    }

    /// Returns a delay between half of [`delay`](Self::delay) and all of it.
    #[must_use]
    pub fn equal_jitter(&self, failures: u32, random: &dyn Random) -> Duration {
        let delay = self.delay(failures);
        random::duration(random, delay / 2..=delay)
    }

    /// Returns a delay between zero and [`delay`](Self::delay).
    #[must_use]
    pub fn full_jitter(&self, failures: u32, random: &dyn Random) -> Duration {
        random::duration(random, Duration::ZERO..=self.delay(failures))
    }

    /// Returns a delay between the first one and three times the last one, up to the longest one. `None`
    /// is the first failure. The first delay is always the lower bound.
    #[must_use]
    pub fn decorrelated_jitter(&self, last: Option<Duration>, random: &dyn Random) -> Duration {
        let last = last.unwrap_or(self.first).max(self.first);
        random::duration(random, self.first..=last.saturating_mul(3).min(self.max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SeededRandom;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn delays_grow_by_the_factor_up_to_the_longest() {
        let seconds = |backoff: Backoff, failures: u32| backoff.delay(failures).as_secs();
        let doubling = Backoff::new(SECOND, Duration::from_secs(10));
        let delays: Vec<_> = (0..7).map(|failures| seconds(doubling, failures)).collect();
        assert_eq!(delays, [1, 1, 2, 4, 8, 10, 10]);
        let fourfold = Backoff::new(30 * SECOND, Duration::from_secs(86_400)).factor(4);
        let delays: Vec<_> = (1..8).map(|failures| seconds(fourfold, failures)).collect();
        assert_eq!(delays, [30, 120, 480, 1_920, 7_680, 30_720, 86_400]);
        assert_eq!(doubling.delay(u32::MAX), Duration::from_secs(10));
        assert_eq!(Backoff::new(Duration::MAX, Duration::MAX).delay(u32::MAX), Duration::MAX);
    }

    #[test]
    fn jitter_stays_in_its_range_and_varies() {
        let backoff = Backoff::new(SECOND, Duration::from_secs(20));
        let random = SeededRandom::new(1);
        let drawn = |draw: &dyn Fn() -> Duration| -> Vec<_> { (0..50).map(|_| draw()).collect() };
        for (delays, least, most) in [
            (drawn(&|| backoff.equal_jitter(4, &random)), 4 * SECOND, 8 * SECOND),
            (drawn(&|| backoff.full_jitter(4, &random)), Duration::ZERO, 8 * SECOND),
            (drawn(&|| backoff.decorrelated_jitter(None, &random)), SECOND, 3 * SECOND),
            (
                drawn(&|| backoff.decorrelated_jitter(Some(5 * SECOND), &random)),
                SECOND,
                15 * SECOND,
            ),
            (
                drawn(&|| backoff.decorrelated_jitter(Some(Duration::MAX), &random)),
                SECOND,
                20 * SECOND,
            ),
        ] {
            assert!(delays.iter().all(|delay| (least..=most).contains(delay)), "{delays:?}");
            assert!(delays.iter().any(|delay| *delay != delays[0]), "{delays:?}");
        }
    }

    #[test]
    fn a_longest_delay_below_the_first_one_bounds_all_but_decorrelated_jitter() {
        let backoff = Backoff::new(10 * SECOND, SECOND);
        assert_eq!(backoff.delay(1), SECOND);
        assert_eq!(backoff.decorrelated_jitter(None, &SeededRandom::new(1)), 10 * SECOND);
    }
}
