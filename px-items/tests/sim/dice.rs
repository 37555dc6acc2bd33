//! Random numbers from a seed. Each part of a run has its own generator, so that draws in one part
//! do not shift those in another.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

/// Reproducible random number generator (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Creates the generator of one part of a run.
    pub(crate) fn new(seed: u64, part: &str) -> Self {
        // FNV-1a over the name of the part, so that its position in the code does not matter.
        let name = part.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut dice = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ name);
        dice.bits();
        dice
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number from 0 to `end`, excluding `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.bits() % end.max(1)
    }

    /// Returns a number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// Returns `true` in that many cases of a thousand.
    pub(crate) fn chance(&mut self, of_thousand: u64) -> bool {
        self.below(1000) < of_thousand
    }

    /// Returns one of several values.
    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        let index = self.below(of.len() as u64);
        of.get(usize::try_from(index).unwrap_or_default())
    }
}

/// Generator that several tasks share, also the source of randomness of the tested parts.
pub(crate) struct SharedDice(Mutex<Dice>);

impl SharedDice {
    pub(crate) fn new(seed: u64, part: &str) -> Self {
        Self(Mutex::new(Dice::new(seed, part)))
    }

    /// Draws from the generator.
    pub(crate) fn throw<T>(&self, throw: impl FnOnce(&mut Dice) -> T) -> T {
        throw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for SharedDice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedDice")
    }
}

impl px_core::Random for SharedDice {
    fn fill(&self, buffer: &mut [u8]) {
        self.throw(|dice| {
            for chunk in buffer.chunks_mut(8) {
                let bits = dice.bits().to_le_bytes();
                chunk.copy_from_slice(&bits[..chunk.len()]);
            }
        });
    }
}
