//! Random bytes: from the operating system, and from a seed for tests.
//!
//! This is the only file that reads random bytes from the operating system.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::{
    fmt,
    ops::RangeInclusive,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// A source of random bytes, for tokens and for spreading work over time.
///
/// Use [`SystemRandom`] in production and [`SeededRandom`] in tests.
pub trait Random: Send + Sync + fmt::Debug {
    /// Fills a buffer with unpredictable bytes.
    ///
    /// # Panics
    /// If the source cannot provide random bytes. With the operating system's source this happens only
    /// while the machine boots.
    fn fill(&self, buffer: &mut [u8]);

    /// Returns a number from 0 to `end`, exclusive; 0 if `end` is 0.
    fn below(&self, end: u64) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes).checked_rem(end).unwrap_or_default()
    }
}

impl<R: Random + ?Sized> Random for Arc<R> {
    fn fill(&self, buffer: &mut [u8]) {
        (**self).fill(buffer);
    }
}

/// A generator that is seeded by the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, buffer: &mut [u8]) {
        rand::rng().fill(buffer);
    }
}

/// A generator that returns the same bytes for the same seed, for tests.
pub struct SeededRandom(Mutex<StdRng>);

impl SeededRandom {
    /// Creates a generator from a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }
}

impl Random for SeededRandom {
    fn fill(&self, buffer: &mut [u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill(buffer);
    }
}

impl fmt::Debug for SeededRandom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SeededRandom")
    }
}

/// Returns 256 random bits as 43 characters of base64url, for secrets.
#[must_use]
pub fn secret(random: &dyn Random) -> String {
    base64url::<32>(random)
}

/// Returns 128 random bits as 22 characters of base64url, for identifiers that are not secret.
#[must_use]
pub fn identifier(random: &dyn Random) -> String {
    base64url::<16>(random)
}

/// Returns a uniformly distributed duration within a range, in whole milliseconds.
///
/// Returns the start of the range if its end is earlier.
#[must_use]
pub fn duration(random: &dyn Random, range: RangeInclusive<Duration>) -> Duration {
    let (start, end) = range.into_inner();
    let millis = end.saturating_sub(start).as_millis();
    let millis = u64::try_from(millis).unwrap_or(u64::MAX);
    start.saturating_add(Duration::from_millis(random.below(millis.saturating_add(1))))
}

fn base64url<const N: usize>(random: &dyn Random) -> String {
    let mut bytes = [0; N];
    random.fill(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_stay_in_their_range() {
        let random = SeededRandom::new(1);
        let range = Duration::from_millis(10)..=Duration::from_millis(13);
        let mut seen = [false; 4];
        for _ in 0..100 {
            let drawn = duration(&random, range.clone());
            assert!(range.contains(&drawn));
            seen[usize::try_from(drawn.as_millis() - 10).unwrap()] = true;
        }
        assert_eq!(seen, [true; 4]);
        let second = Duration::from_secs(1);
        assert_eq!(duration(&random, second..=Duration::ZERO), second);
    }

    #[test]
    fn texts_have_the_length_of_their_bits() {
        assert_eq!(secret(&SystemRandom).len(), 43);
        assert_eq!(identifier(&SystemRandom).len(), 22);
        assert_ne!(secret(&SystemRandom), secret(&SystemRandom));
    }
}
