//! Whose key is requested from the source next, and when. Pure.
//!
//! Anyone can invent names of keys, so requests for unknown names are few and go round by
//! address: an address that had fewer of them recently comes first. However many names some
//! addresses invent, another one waits for one request of each of them at most. Names that are
//! known have an allowance of their own, which nobody else can use up.

use crate::guard::{AddressBlock, CallerAddr};
use std::{collections::BTreeMap, time::Duration};

/// Requests for unknown names: 3 at once, then 45 a minute.
const UNKNOWN: Rate = Rate { burst: 3, interval: Duration::from_millis(1_334) };
/// Requests for known names: 4 at once, then 8 a minute. With the others at most 60 a minute.
const KNOWN: Rate = Rate { burst: 4, interval: Duration::from_millis(7_500) };
/// Maximum number of webhooks that wait for their turn.
const MAX_WAITING: usize = 32;
/// Maximum number of webhooks of one address that wait for their turn.
const MAX_WAITING_PER_ADDRESS: usize = 4;
/// Maximum number of addresses that are remembered.
const MAX_ADDRESSES: usize = 1_024;
/// Time after which it is forgotten how often an address had its turn.
const MEMORY: Duration = Duration::from_secs(600);

/// What is counted as one address; `None` where the address is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Origin(Option<AddressBlock>);

impl Origin {
    pub(super) fn of(address: Option<CallerAddr>) -> Self {
        Self(address.map(CallerAddr::block))
    }
}

/// A webhook that waits for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// What a waiting webhook does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It requests its key.
    Go,
    /// It waits: until the next request is allowed, or until those before it are gone.
    Wait(Option<Duration>),
    /// It lost its place to an address that had fewer turns.
    Lost,
}

/// The order of requests to a source.
#[derive(Debug, Default)]
pub(super) struct Turns {
    unknown: Allowance,
    known: Allowance,
    addresses: BTreeMap<Origin, Address>,
    waiting: BTreeMap<Ticket, Origin>,
    last: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Address {
    /// How often it had its turn lately.
    turns: u32,
    /// Since when it waits for a turn.
    since: Option<Duration>,
    /// When it last came, or had its turn.
    seen: Duration,
}

impl Turns {
    /// Whether a known name may be requested now.
    pub(super) fn known(&mut self, now: Duration) -> bool {
        self.known.take(KNOWN, now)
    }

    /// Takes a place in the order. `None` if there is none.
    pub(super) fn arrive(&mut self, origin: Origin, now: Duration) -> Option<Ticket> {
        self.remember(origin, now);
        let own = self.waiting.values().filter(|other| **other == origin).count();
        if own >= MAX_WAITING_PER_ADDRESS {
            return None;
        }
        self.last += 1;
        let ticket = Ticket(self.last);
        self.waiting.insert(ticket, origin);
        if self.waiting.len() > MAX_WAITING {
            let last = self.waiting.iter().map(|(ticket, origin)| self.rank(*ticket, *origin));
            let (_, _, last) = last.max()?;
            self.waiting.remove(&last);
            if last == ticket {
                return None;
            }
        }
        Some(ticket)
    }

    /// Gives a place up.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        self.waiting.remove(&ticket);
    }

    /// Whether it is a webhook's turn; then its place is gone.
    pub(super) fn turn(&mut self, ticket: Ticket, now: Duration) -> Turn {
        let Some(origin) = self.waiting.get(&ticket).copied() else { return Turn::Lost };
        let first = self.waiting.iter().map(|(ticket, origin)| self.rank(*ticket, *origin)).min();
        if first.is_some_and(|(_, _, first)| first != ticket) {
            return Turn::Wait(None);
        }
        if !self.unknown.take(UNKNOWN, now) {
            return Turn::Wait(Some(self.unknown.next(UNKNOWN, now)));
        }
        self.waiting.remove(&ticket);
        if let Some(address) = self.addresses.get_mut(&origin) {
            address.turns += 1;
            address.since = None;
            address.seen = now;
        }
        Turn::Go
    }

    /// Fewer turns come first, then who waits longer.
    fn rank(&self, ticket: Ticket, origin: Origin) -> (u32, Duration, Ticket) {
        let address = self.addresses.get(&origin).copied().unwrap_or_default();
        (address.turns, address.since.unwrap_or(address.seen), ticket)
    }

    fn remember(&mut self, origin: Origin, now: Duration) {
        if !self.addresses.contains_key(&origin) && self.addresses.len() >= MAX_ADDRESSES {
            self.addresses.retain(|origin, address| {
                let waits = self.waiting.values().any(|other| other == origin);
                waits || now.saturating_sub(address.seen) < MEMORY
            });
            while self.addresses.len() >= MAX_ADDRESSES {
                let idle = self
                    .addresses
                    .iter()
                    .filter(|(origin, _)| self.waiting.values().all(|other| other != *origin));
                let Some((oldest, _)) = idle.min_by_key(|(_, address)| address.seen) else { break };
                let oldest = *oldest;
                self.addresses.remove(&oldest);
            }
        }
        let address = self.addresses.entry(origin).or_default();
        if now.saturating_sub(address.seen) >= MEMORY {
            *address = Address::default();
        }
        address.seen = now;
        address.since.get_or_insert(now);
    }
}

/// How often something may be done.
#[derive(Clone, Copy, Debug)]
struct Rate {
    burst: u32,
    interval: Duration,
}

/// What is left of a rate: the moment at which all of it is there again.
#[derive(Clone, Copy, Debug, Default)]
struct Allowance {
    full_at: Duration,
}

impl Allowance {
    fn take(&mut self, rate: Rate, now: Duration) -> bool {
        if self.next(rate, now) > now {
            return false;
        }
        self.full_at = self.full_at.max(now) + rate.interval;
        true
    }

    /// When the next one is there.
    fn next(&self, rate: Rate, now: Duration) -> Duration {
        let full = rate.interval * (rate.burst - 1);
        self.full_at.saturating_sub(full).max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn origin(n: u32) -> Origin {
        Origin::of(Some(CallerAddr::new(IpAddr::from(n.to_be_bytes()))))
    }

    fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn an_address_is_a_64_of_ipv6_and_a_mapped_one_is_ipv4() {
        let of = |text: &str| Origin::of(Some(CallerAddr::new(text.parse().unwrap())));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }

    #[test]
    fn requests_stay_under_sixty_a_minute_whatever_comes() {
        let mut turns = Turns::default();
        let mut requested = Vec::new();
        for now in (0..180_000).step_by(23) {
            let now = millis(now);
            if turns.known(now) {
                requested.push(now);
            }
            if let Some(ticket) = turns.arrive(origin(u32::try_from(now.as_millis()).unwrap()), now)
            {
                match turns.turn(ticket, now) {
                    Turn::Go => requested.push(now),
                    _ => turns.leave(ticket),
                }
            }
        }
        let minute = Duration::from_secs(60);
        for start in &requested {
            let within = requested.iter().filter(|at| *at >= start && **at < *start + minute);
            assert!(within.count() <= 60, "{start:?}");
        }
        assert!(requested.len() > 150, "{}", requested.len());
    }

    /// A flood of so many addresses for so long, then one new address: how long it waits.
    fn wait_behind(addresses: u32, flooded: u64) -> Duration {
        let mut turns = Turns::default();
        let mut waiting: Vec<Ticket> = Vec::new();
        let mut real = None;
        // A name each 10 ms: more would find no place, and change nothing.
        for now in (0..600_000).step_by(10) {
            let now = millis(now);
            let flooder = origin(u32::try_from(now.as_millis() / 10).unwrap() % addresses);
            waiting.extend(turns.arrive(flooder, now));
            if now >= millis(flooded) {
                // It comes again after 30 s, then every minute, as a sender does.
                let age = now.saturating_sub(millis(flooded));
                if age == Duration::ZERO || age.as_millis().is_multiple_of(30_000) {
                    real = turns.arrive(origin(u32::MAX), now).or(real);
                }
                if let Some(ticket) = real {
                    match turns.turn(ticket, now) {
                        Turn::Go => return age,
                        Turn::Lost => real = None,
                        Turn::Wait(_) => {}
                    }
                }
            }
            waiting.retain(|ticket| matches!(turns.turn(*ticket, now), Turn::Wait(_)));
        }
        Duration::MAX
    }

    #[test]
    fn one_flooding_address_delays_another_by_one_request() {
        for flooded in [0, 10_000, 300_000] {
            assert!(wait_behind(1, flooded) < millis(1_500), "{flooded}");
        }
    }

    #[test]
    fn a_hundred_flooding_addresses_delay_another_by_less_than_five_minutes() {
        for flooded in [0, 500, 10_000, 300_000] {
            assert!(wait_behind(100, flooded) < Duration::from_secs(200), "{flooded}");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut turns = Turns::default();
        for n in 0..5_000 {
            turns.arrive(origin(n), millis(u64::from(n)));
        }
        assert!(turns.addresses.len() <= MAX_ADDRESSES);
        assert!(turns.waiting.len() <= MAX_WAITING);
    }
}
