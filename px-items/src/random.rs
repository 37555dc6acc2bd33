//! Randomness, handed in. The only file that asks the machine for it.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

/// Where randomness comes from: for tokens, and for spreading work over time.
pub trait Random: Send + Sync + fmt::Debug {
    /// Fills a buffer with bytes that nobody can guess.
    fn fill(&self, buffer: &mut [u8]);

    /// A number from 0 to `end`, `end` not included; 0 when `end` is 0.
    fn below(&self, end: u64) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes).checked_rem(end).unwrap_or_default()
    }
}

/// A generator that the operating system seeded.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, buffer: &mut [u8]) {
        rand::rng().fill(buffer);
    }
}

/// A generator that always gives the same: for tests.
pub struct SeededRandom(Mutex<StdRng>);

impl SeededRandom {
    /// A generator for a seed.
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
