//! Ids of accepted webhooks and notifications, remembered while a repetition would be accepted.

use chrono::{DateTime, Utc};
use px_core::Digest;
use std::collections::{HashMap, VecDeque};

/// A bounded set of ids. Beyond its capacity, the oldest is forgotten.
#[derive(Debug)]
pub(crate) struct ReplayCache {
    known: HashMap<[u8; 32], Entry>,
    /// The ids in order of arrival, each with the earliest time at which it may be forgotten.
    order: VecDeque<(DateTime<Utc>, [u8; 32])>,
    capacity: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    state: ReplayState,
    until: DateTime<Utc>,
}

/// The state of the first occurrence of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplayState {
    /// It is being handled, which may still fail.
    Pending,
    /// It was handled.
    Done,
}

impl ReplayCache {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { known: HashMap::new(), order: VecDeque::new(), capacity }
    }

    /// Adds an id as pending until a time. Returns its state if it is known already; it is then
    /// remembered until that time too.
    pub(crate) fn begin(
        &mut self,
        id: &str,
        until: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Option<ReplayState> {
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
        self.known.insert(id, Entry { state: ReplayState::Pending, until });
        self.order.push_back((until, id));
        None
    }

    /// Marks an id as handled.
    pub(crate) fn done(&mut self, id: &str) {
        if let Some(entry) = self.known.get_mut(&key(id)) {
            entry.state = ReplayState::Done;
        }
    }

    /// Removes an id. This takes linear time, but is rarely needed.
    pub(crate) fn remove(&mut self, id: &str) {
        let id = key(id);
        if self.known.remove(&id).is_some() {
            self.order.retain(|(_, known)| *known != id);
        }
    }

    fn forget_old(&mut self, now: DateTime<Utc>) {
        // A signature is still valid at the last moment of its period.
        while let Some((_, id)) = self.order.pop_front_if(|(until, _)| *until < now) {
            match self.known.get(&id).map(|entry| entry.until) {
                // The id occurred again meanwhile, with a later signature.
                Some(until) if until >= now => self.order.push_back((until, id)),
                _ => drop(self.known.remove(&id)),
            }
        }
    }
}

/// Returns the digest of an id, because ids can be long.
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
        let mut replays = ReplayCache::new(3);
        assert_eq!(replays.begin("1", at(10), at(0)), None);
        assert_eq!(replays.begin("1", at(10), at(1)), Some(ReplayState::Pending));
        replays.done("1");
        assert_eq!(replays.begin("1", at(10), at(10)), Some(ReplayState::Done));
        assert_eq!(replays.begin("1", at(20), at(11)), None, "it had expired");
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
        let mut replays = ReplayCache::new(3);
        assert_eq!(replays.begin("1", at(10), at(0)), None);
        replays.done("1");
        assert_eq!(replays.begin("1", at(17), at(7)), Some(ReplayState::Done));
        assert_eq!(replays.begin("2", at(20), at(11)), None);
        assert_eq!(replays.begin("1", at(17), at(17)), Some(ReplayState::Done));
        assert_eq!(replays.begin("1", at(30), at(18)), None);
        assert_eq!((replays.known.len(), replays.order.len()), (2, 2));
    }
}
