//! Ids that were accepted, for as long as they would be again.

use chrono::{DateTime, Utc};
use px_core::Digest;
use std::collections::{HashMap, VecDeque};

/// A bounded memory of ids. Beyond its bound the oldest is forgotten.
#[derive(Debug)]
pub(crate) struct Replays {
    known: HashMap<[u8; 32], Entry>,
    /// The ids with a moment up to which they are remembered at least, in the order of arrival.
    order: VecDeque<(DateTime<Utc>, [u8; 32])>,
    capacity: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    state: State,
    until: DateTime<Utc>,
}

/// How far the first of its kind has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It is being acted on, and may fail yet.
    Pending,
    /// It was acted on.
    Done,
}

impl Replays {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { known: HashMap::new(), order: VecDeque::new(), capacity }
    }

    /// Remembers an id as pending, until a moment. `Some`: it is known, and so far; then it is
    /// remembered until that moment too.
    pub(crate) fn begin(
        &mut self,
        id: &str,
        until: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Option<State> {
        self.forget_old(now);
        let id = key(id);
        if let Some(entry) = self.known.get_mut(&id) {
            entry.until = entry.until.max(until);
            return Some(entry.state);
        }
        while self.order.len() >= self.capacity {
            let Some((_, oldest)) = self.order.pop_front() else { break };
            self.known.remove(&oldest);
        }
        self.known.insert(id, Entry { state: State::Pending, until });
        self.order.push_back((until, id));
        None
    }

    /// It was acted on.
    pub(crate) fn done(&mut self, id: &str) {
        if let Some(entry) = self.known.get_mut(&key(id)) {
            entry.state = State::Done;
        }
    }

    /// Forgets an id. Looks at all of them, for it is seldom needed.
    pub(crate) fn remove(&mut self, id: &str) {
        let id = key(id);
        if self.known.remove(&id).is_some() {
            self.order.retain(|(_, known)| *known != id);
        }
    }

    fn forget_old(&mut self, now: DateTime<Utc>) {
        // At its last moment a signature is still good.
        while let Some((_, id)) = self.order.pop_front_if(|(until, _)| *until < now) {
            match self.known.get(&id).map(|entry| entry.until) {
                // It came again meanwhile, signed later.
                Some(until) if until >= now => self.order.push_back((until, id)),
                _ => drop(self.known.remove(&id)),
            }
        }
    }
}

/// Ids can be long; their digests are not.
fn key(id: &str) -> [u8; 32] {
    *Digest::of(id).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    #[test]
    fn it_remembers_for_as_long_as_needed_and_no_more_than_it_may() {
        let mut replays = Replays::new(3);
        assert_eq!(replays.begin("1", at(10), at(0)), None);
        assert_eq!(replays.begin("1", at(10), at(1)), Some(State::Pending));
        replays.done("1");
        assert_eq!(replays.begin("1", at(10), at(10)), Some(State::Done));
        assert_eq!(replays.begin("1", at(20), at(11)), None, "it had run out");
        for n in ["2", "3"] {
            assert_eq!(replays.begin(n, at(20), at(12)), None);
        }
        assert_eq!(replays.begin("4", at(20), at(12)), None);
        assert_eq!(replays.begin("1", at(20), at(12)), None, "the oldest was forgotten");
        assert_eq!((replays.known.len(), replays.order.len()), (3, 3));
        replays.remove("4");
        replays.remove("9");
        replays.done("4");
        assert_eq!((replays.known.len(), replays.order.len()), (2, 2));
        assert_eq!(replays.begin("4", at(20), at(12)), None, "it was forgotten");
    }

    #[test]
    fn what_comes_again_is_remembered_until_its_later_end() {
        let mut replays = Replays::new(3);
        assert_eq!(replays.begin("1", at(10), at(0)), None);
        replays.done("1");
        assert_eq!(replays.begin("1", at(17), at(7)), Some(State::Done));
        assert_eq!(replays.begin("2", at(20), at(11)), None);
        assert_eq!(replays.begin("1", at(17), at(17)), Some(State::Done));
        assert_eq!(replays.begin("1", at(30), at(18)), None);
        assert_eq!((replays.known.len(), replays.order.len()), (2, 2));
    }
}
