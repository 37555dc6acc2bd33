//! Signatures that were accepted, for as long as they would be again.

use chrono::{DateTime, Utc};
use std::collections::{BTreeSet, VecDeque};

/// A bounded memory. Kept in the order of arrival, which is that of age but for the skew.
#[derive(Debug)]
pub(super) struct Replays {
    known: BTreeSet<[u8; 32]>,
    order: VecDeque<(DateTime<Utc>, [u8; 32])>,
    most: usize,
}

impl Replays {
    pub(super) fn new(most: usize) -> Self {
        Self { known: BTreeSet::new(), order: VecDeque::new(), most }
    }

    /// Remembers a digest until a moment. `false`: it is known.
    pub(super) fn insert(
        &mut self,
        digest: [u8; 32],
        until: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> bool {
        while let Some((end, oldest)) = self.order.front() {
            // At its last moment a signature is still good.
            if *end >= now && self.order.len() < self.most {
                break;
            }
            self.known.remove(oldest);
            self.order.pop_front();
        }
        if !self.known.insert(digest) {
            return false;
        }
        self.order.push_back((until, digest));
        true
    }

    /// Forgets a digest. Looks at all of them, for it is seldom needed.
    pub(super) fn remove(&mut self, digest: &[u8; 32]) {
        if self.known.remove(digest) {
            self.order.retain(|(_, known)| known != digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    #[test]
    fn it_remembers_for_as_long_as_needed_and_no_more_than_it_may() {
        let start: DateTime<Utc> = "2024-01-01T00:00:00Z".parse().unwrap();
        let at = |seconds| start + TimeDelta::seconds(seconds);
        let mut replays = Replays::new(3);
        assert!(replays.insert([1; 32], at(10), at(0)));
        assert!(!replays.insert([1; 32], at(10), at(10)));
        assert!(replays.insert([1; 32], at(20), at(11)), "it had run out");
        for n in 2..=3 {
            assert!(replays.insert([n; 32], at(20), at(12)));
        }
        assert!(replays.insert([4; 32], at(20), at(12)));
        assert!(replays.insert([1; 32], at(20), at(12)), "the oldest was forgotten");
        assert_eq!((replays.known.len(), replays.order.len()), (3, 3));
        replays.remove(&[4; 32]);
        replays.remove(&[9; 32]);
        assert_eq!((replays.known.len(), replays.order.len()), (2, 2));
        assert!(replays.insert([4; 32], at(20), at(12)), "it was forgotten");
    }
}
