//! A small generator that gives the same numbers on every machine and in every version.
//!
//! SplitMix64: not for secrets. Each thing that happens has a stream of its own, named by
//! what it is, so that adding one leaves the others as they were.

/// A stream of numbers.
#[derive(Clone, Debug)]
pub struct Rng(u64);

/// The name of a stream as a number.
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
    /// The stream that these numbers name.
    #[must_use]
    pub fn new(name: &[u64]) -> Self {
        Self(name.iter().fold(0x9e37_79b9_7f4a_7c15, |state, part| {
            mix(state.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ mix(*part))
        }))
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number from 0 to `end - 1`; 0 when `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        // The bias of a multiply-shift is far too small to see here.
        ((u128::from(self.bits()) * u128::from(end)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub fn range(&mut self, low: i64, high: i64) -> i64 {
        low + self.below(high.abs_diff(low) + 1) as i64
    }

    /// Whether something happens that happens so many times in a thousand.
    pub fn chance(&mut self, in_a_thousand: u64) -> bool {
        self.below(1000) < in_a_thousand
    }

    /// One of several. The slice must not be empty.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// That many decimal digits.
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
