//! A small random number generator with the same numbers on every machine and in every version.
//!
//! SplitMix64: not for secrets. Each kind of event has its own named stream, so that a new kind
//! leaves the others unchanged.

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Rng(u64);

/// Converts the name of a stream to a number.
#[must_use]
pub const fn label(name: &str) -> u64 {
    let bytes = name.as_bytes();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0100_0000_01b3);
        i += 1;
    }
    hash
}

const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Rng {
    /// Creates the stream that these numbers name.
    #[must_use]
    pub fn new(name: &[u64]) -> Self {
        Self(name.iter().fold(0x9e37_79b9_7f4a_7c15, |state, part| {
            mix(state.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ mix(*part))
        }))
    }

    /// Returns the next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Returns a number from 0 to `end - 1`, or 0 if `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        // The bias of a multiply-shift is negligible here.
        ((u128::from(self.bits()) * u128::from(end)) >> 64) as u64
    }

    /// Returns a number from `low` to `high`, both included.
    pub fn range(&mut self, low: i64, high: i64) -> i64 {
        low + self.below(high.abs_diff(low) + 1) as i64
    }

    /// Returns `true` with this probability in a thousand.
    pub fn chance(&mut self, in_a_thousand: u64) -> bool {
        self.below(1000) < in_a_thousand
    }

    /// Returns one of several values. The slice must not be empty.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// Returns `count` decimal digits.
    pub fn digits(&mut self, count: usize) -> String {
        (0..count).map(|_| char::from(b'0' + self.below(10) as u8)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_never_change() {
        let mut rng = Rng::new(&[1, label("purchase")]);
        assert_eq!(rng.bits(), Rng::new(&[1, label("purchase")]).bits());
        assert_ne!(rng.bits(), Rng::new(&[2, label("purchase")]).bits());
        assert!((0..1000).all(|_| (3..=9).contains(&rng.range(3, 9))));
    }
}
