//! Signatures that were accepted, for as long as they would be again.

use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, VecDeque};

/// A bounded memory. Kept in the order of arrival, which is that of age but for the skew.
#[derive(Debug)]
pub(super) struct Replays {
    known: BTreeMap<[u8; 32], State>,
    order: VecDeque<(DateTime<Utc>, [u8; 32])>,
    most: usize,
}

/// How far the first of its kind has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It is being acted on, and may fail yet.
    Pending,
    /// It was acted on.
    Done,
}

impl Replays {
    pub(super) fn new(most: usize) -> Self {
        Self { known: BTreeMap::new(), order: VecDeque::new(), most }
    }

    /// Remembers a digest as pending, until a moment. `Some`: it is known, and so far.
    pub(super) fn begin(
        &mut self,
        digest: [u8; 32],
        until: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Option<State> {
        while let Some((end, oldest)) = self.order.front() {
            // At its last moment a signature is still good.
            if *end >= now && self.order.len() < self.most {
                break;
            }
            self.known.remove(oldest);
            self.order.pop_front();
        }
        if let Some(state) = self.known.get(&digest) {
            return Some(*state);
        }
        self.known.insert(digest, State::Pending);
        self.order.push_back((until, digest));
        None
    }

    /// It was acted on.
    pub(super) fn done(&mut self, digest: &[u8; 32]) {
        if let Some(state) = self.known.get_mut(digest) {
            *state = State::Done;
        }
    }

    /// Forgets a digest. Looks at all of them, for it is seldom needed.
    pub(super) fn remove(&mut self, digest: &[u8; 32]) {
        if self.known.remove(digest).is_some() {
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
        assert_eq!(replays.begin([1; 32], at(10), at(0)), None);
        assert_eq!(replays.begin([1; 32], at(10), at(1)), Some(State::Pending));
        replays.done(&[1; 32]);
        assert_eq!(replays.begin([1; 32], at(10), at(10)), Some(State::Done));
        assert_eq!(replays.begin([1; 32], at(20), at(11)), None, "it had run out");
        for n in 2..=3 {
            assert_eq!(replays.begin([n; 32], at(20), at(12)), None);
        }
        assert_eq!(replays.begin([4; 32], at(20), at(12)), None);
        assert_eq!(replays.begin([1; 32], at(20), at(12)), None, "the oldest was forgotten");
        assert_eq!((replays.known.len(), replays.order.len()), (3, 3));
        replays.remove(&[4; 32]);
        replays.remove(&[9; 32]);
        replays.done(&[4; 32]);
        assert_eq!((replays.known.len(), replays.order.len()), (2, 2));
        assert_eq!(replays.begin([4; 32], at(20), at(12)), None, "it was forgotten");
    }
}
