//! The limit of wrong passwords. It performs no I/O and uses bounded memory.
//!
//! Attempts count per origin and name, so that guesses from elsewhere do not lock the customer out,
//! and per address over all names, so that one address cannot try every name. An attempt is counted
//! before it is checked, and the count is reverted if the password is right.

use chrono::{DateTime, TimeDelta, Utc};
use lru::LruCache;
use px_core::Digest;
use px_server::credentials::SignInOrigin;
use std::{
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Maximum number of wrong passwords of one name from one origin, each within [`WAIT`] of the one
/// before.
const MAX_WRONG_OF_NAME: u32 = 10;
/// Maximum number of wrong passwords from one address over all names, counted alike.
const MAX_WRONG_OF_ADDRESS: u32 = 60;
/// Time that an origin has to wait, from its last wrong password.
const WAIT: TimeDelta = TimeDelta::minutes(1);
/// Maximum number of remembered counts of each kind; about 100 bytes each.
const MAX_COUNTS: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// Digest of an origin and a name: names of any length take the same space, and no name is stored.
type Key = [u8; 32];

/// The origin of attempts, as they are counted and queued.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    /// A client, which sends requests for many users. Its address says nothing about them.
    Client(String),
    /// A browser.
    Address(String),
}

impl Origin {
    pub(super) fn of(origin: &SignInOrigin) -> Self {
        match origin {
            SignInOrigin::Client(id) => Self::Client(id.as_str().to_owned()),
            SignInOrigin::OwnPages(Some(address)) => Self::Address(address.block().to_string()),
            _ => Self::Address(String::new()),
        }
    }

    fn key(&self, name: Option<&str>) -> Key {
        let (kind, text) = match self {
            Self::Client(id) => ("client", id),
            Self::Address(address) => ("address", address),
        };
        let mut counted = Vec::new();
        // Each part with its length, so that none can run into the next.
        for part in [kind, text, name.unwrap_or_default()] {
            counted.extend((part.len() as u64).to_be_bytes());
            counted.extend(part.as_bytes());
        }
        *Digest::of(counted).as_bytes()
    }
}

#[derive(Clone, Copy, Debug)]
struct Count {
    wrong: u32,
    last: DateTime<Utc>,
}

/// An attempt that is being checked.
#[derive(Debug)]
pub(super) struct Attempt {
    name: Key,
    address: Option<Key>,
}

/// The counts of wrong passwords.
#[derive(Debug)]
pub(super) struct Throttle(Mutex<Counts>);

#[derive(Debug)]
struct Counts {
    names: LruCache<Key, Count>,
    addresses: LruCache<Key, Count>,
}

impl Default for Throttle {
    fn default() -> Self {
        let counts =
            Counts { names: LruCache::new(MAX_COUNTS), addresses: LruCache::new(MAX_COUNTS) };
        Self(Mutex::new(counts))
    }
}

impl Throttle {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Each change is complete before anything can panic, so a poisoned lock is sound.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an attempt.
    ///
    /// # Errors
    /// The time to wait, if there were too many. Such an attempt is not counted.
    pub(super) fn begin(
        &self,
        origin: &Origin,
        name: &str,
        now: DateTime<Utc>,
    ) -> Result<Attempt, Duration> {
        let address = matches!(origin, Origin::Address(_)).then(|| origin.key(None));
        let attempt = Attempt { name: origin.key(Some(name)), address };
        let mut counts = self.counts();
        let of_name = next(counts.names.get(&attempt.name), MAX_WRONG_OF_NAME, now)?;
        if let Some(key) = attempt.address {
            let of_address = next(counts.addresses.get(&key), MAX_WRONG_OF_ADDRESS, now)?;
            counts.addresses.put(key, of_address);
        }
        counts.names.put(attempt.name, of_name);
        Ok(attempt)
    }

    /// Resets the count of the name at this origin, because the password was right.
    pub(super) fn right(&self, attempt: &Attempt) {
        let mut counts = self.counts();
        counts.names.pop(&attempt.name);
        give_back(attempt.address.and_then(|key| counts.addresses.peek_mut(&key)));
    }

    /// Reverts an attempt because its password was not checked.
    pub(super) fn unchecked(&self, attempt: &Attempt) {
        let mut counts = self.counts();
        give_back(counts.names.peek_mut(&attempt.name));
        give_back(attempt.address.and_then(|key| counts.addresses.peek_mut(&key)));
    }
}

fn give_back(count: Option<&mut Count>) {
    if let Some(count) = count {
        count.wrong = count.wrong.saturating_sub(1);
    }
}

/// Returns the count with one more attempt.
fn next(count: Option<&Count>, most: u32, now: DateTime<Utc>) -> Result<Count, Duration> {
    // Attempts that run at the same time read the clock in any order, so a count may be a little
    // ahead of `now`. One that is far ahead is of a clock that was set back, and must not prolong
    // the wait.
    let count = count.filter(|count| (now - count.last).abs() < WAIT);
    match count {
        Some(count) if count.wrong >= most => {
            let passed = (now - count.last).max(TimeDelta::zero());
            Err((WAIT - passed).to_std().unwrap_or_default())
        }
        Some(count) => Ok(Count { wrong: count.wrong + 1, last: count.last.max(now) }),
        None => Ok(Count { wrong: 1, last: now }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000, 0).unwrap()
    }

    fn address(text: &str) -> Origin {
        Origin::Address(text.to_owned())
    }

    #[test]
    fn after_ten_wrong_passwords_only_that_origin_waits() {
        let throttle = Throttle::default();
        let (here, there) = (address("192.0.2.1"), address("192.0.2.2"));
        for _ in 0..MAX_WRONG_OF_NAME {
            throttle.begin(&here, "ann", now()).unwrap();
        }
        assert_eq!(throttle.begin(&here, "ann", now()).unwrap_err(), Duration::from_secs(60));
        throttle.begin(&there, "ann", now()).unwrap();
        throttle.begin(&here, "bob", now()).unwrap();
        throttle.begin(&Origin::Client("192.0.2.1".into()), "ann", now()).unwrap();
        // Refusals do not prolong the wait, and after it the count starts at zero.
        let later = now() + TimeDelta::seconds(59);
        assert_eq!(throttle.begin(&here, "ann", later).unwrap_err(), Duration::from_secs(1));
        let later = now() + WAIT;
        for _ in 0..MAX_WRONG_OF_NAME {
            throttle.begin(&here, "ann", later).unwrap();
        }
        throttle.begin(&here, "ann", later).unwrap_err();
    }

    #[test]
    fn a_right_password_and_one_that_was_not_checked_do_not_count() {
        let throttle = Throttle::default();
        let here = address("192.0.2.1");
        for _ in 0..500 {
            let attempt = throttle.begin(&here, "ann", now()).unwrap();
            throttle.right(&attempt);
            let attempt = throttle.begin(&here, "ann", now()).unwrap();
            throttle.unchecked(&attempt);
        }
    }

    #[test]
    fn an_address_has_its_own_count_over_all_names_and_a_client_has_none() {
        let throttle = Throttle::default();
        let here = address("192.0.2.1");
        for n in 0..MAX_WRONG_OF_ADDRESS {
            throttle.begin(&here, &format!("name-{n}"), now()).unwrap();
        }
        throttle.begin(&here, "another", now()).unwrap_err();
        // Clients have no limit over all names.
        for n in 0..MAX_WRONG_OF_ADDRESS * 3 {
            throttle.begin(&Origin::Client("plaid".into()), &format!("{n}"), now()).unwrap();
        }
    }

    #[test]
    fn memory_does_not_grow_with_names() {
        let throttle = Throttle::default();
        let client = Origin::Client("plaid".into());
        for n in 0..MAX_COUNTS.get() + 50 {
            throttle.begin(&client, &format!("{n}"), now()).unwrap();
        }
        let _ = throttle.begin(&client, &"x".repeat(1 << 20), now());
        let counts = throttle.counts();
        assert_eq!(counts.names.len(), MAX_COUNTS.get());
        assert!(size_of::<(Key, Count)>() <= 64);
    }

    #[test]
    fn attempts_that_read_the_clock_in_another_order_count() {
        let throttle = Throttle::default();
        let here = address("192.0.2.1");
        for n in 0..MAX_WRONG_OF_NAME {
            let read = now() - TimeDelta::microseconds(n.into());
            throttle.begin(&here, "ann", read).unwrap();
        }
        let early = now() - TimeDelta::milliseconds(1);
        assert_eq!(throttle.begin(&here, "ann", early).unwrap_err(), Duration::from_secs(60));
    }

    #[test]
    fn a_clock_that_was_set_back_prolongs_no_wait() {
        let throttle = Throttle::default();
        let here = address("192.0.2.1");
        for _ in 0..MAX_WRONG_OF_NAME {
            throttle.begin(&here, "ann", now()).unwrap();
        }
        throttle.begin(&here, "ann", now() - TimeDelta::hours(3)).unwrap();
    }
}
