//! The order of key requests to the source. Without I/O.
//!
//! Anyone can invent key ids, so requests for unknown ids are few and are scheduled fairly by
//! address: an address with fewer recent requests comes first. However many ids some addresses
//! invent, another address waits for at most one request of each of them. Known ids have a rate
//! limit of their own, which unknown ids cannot use up.

use crate::guard::{AddressBlock, CallerAddr};
use std::{collections::BTreeMap, time::Duration};

/// Rate of requests for unknown ids: 3 at once, then 45 per minute.
const UNKNOWN: Rate = Rate { burst: 3, interval: Duration::from_millis(1_334) };
/// Rate of requests for known ids: 4 at once, then 8 per minute. Both together at most 60 per
/// minute.
const KNOWN: Rate = Rate { burst: 4, interval: Duration::from_millis(7_500) };
/// Maximum number of webhooks that wait in the queue.
const MAX_WAITING: usize = 32;
/// Maximum number of webhooks of one address that wait in the queue.
const MAX_WAITING_PER_ADDRESS: usize = 4;
/// Maximum number of addresses that are remembered.
const MAX_ADDRESSES: usize = 1_024;
/// Time after which the requests of an address are forgotten.
const ADDRESS_RETENTION: Duration = Duration::from_secs(600);

/// The unit of fairness: an address block, or `None` if the address is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Origin(Option<AddressBlock>);

impl Origin {
    pub(super) fn of(address: Option<CallerAddr>) -> Self {
        Self(address.map(CallerAddr::block))
    }
}

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// The status of a waiting webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueueStatus {
    /// It may request its key.
    Ready,
    /// It must wait: until the given time, or until the queue changes.
    Wait(Option<Duration>),
    /// It was removed in favor of an address with fewer requests.
    Evicted,
}

/// A queue of key requests, fair by address.
#[derive(Debug, Default)]
pub(super) struct FairQueue {
    unknown: RateAllowance,
    known: RateAllowance,
    addresses: BTreeMap<Origin, AddressState>,
    waiting: BTreeMap<Ticket, Origin>,
    last: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct AddressState {
    /// Number of recent requests.
    served: u32,
    /// When it began to wait for a request.
    waiting_since: Option<Duration>,
    /// When it last arrived or made a request.
    last_seen: Duration,
}

impl FairQueue {
    /// Takes a request for a known id, if the rate permits one now.
    pub(super) fn take_known(&mut self, now: Duration) -> bool {
        self.known.take(KNOWN, now)
    }

    /// Adds a webhook to the queue. Returns `None` if there is no place for it.
    pub(super) fn enqueue(&mut self, origin: Origin, now: Duration) -> Option<Ticket> {
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

    /// Removes a webhook from the queue.
    pub(super) fn remove(&mut self, ticket: Ticket) {
        self.waiting.remove(&ticket);
    }

    /// Returns the status of a webhook. If it is ready, it is removed from the queue.
    pub(super) fn poll(&mut self, ticket: Ticket, now: Duration) -> QueueStatus {
        let Some(origin) = self.waiting.get(&ticket).copied() else { return QueueStatus::Evicted };
        let first = self.waiting.iter().map(|(ticket, origin)| self.rank(*ticket, *origin)).min();
        if first.is_some_and(|(_, _, first)| first != ticket) {
            return QueueStatus::Wait(None);
        }
        if !self.unknown.take(UNKNOWN, now) {
            return QueueStatus::Wait(Some(self.unknown.next(UNKNOWN, now)));
        }
        self.waiting.remove(&ticket);
        if let Some(address) = self.addresses.get_mut(&origin) {
            address.served += 1;
            address.waiting_since = None;
            address.last_seen = now;
        }
        QueueStatus::Ready
    }

    /// Returns the sort key: fewer requests first, then the longest waiting.
    fn rank(&self, ticket: Ticket, origin: Origin) -> (u32, Duration, Ticket) {
        let address = self.addresses.get(&origin).copied().unwrap_or_default();
        (address.served, address.waiting_since.unwrap_or(address.last_seen), ticket)
    }

    fn remember(&mut self, origin: Origin, now: Duration) {
        if !self.addresses.contains_key(&origin) && self.addresses.len() >= MAX_ADDRESSES {
            self.addresses.retain(|origin, address| {
                let waits = self.waiting.values().any(|other| other == origin);
                waits || now.saturating_sub(address.last_seen) < ADDRESS_RETENTION
            });
            while self.addresses.len() >= MAX_ADDRESSES {
                let idle = self
                    .addresses
                    .iter()
                    .filter(|(origin, _)| self.waiting.values().all(|other| other != *origin));
                let Some((oldest, _)) = idle.min_by_key(|(_, address)| address.last_seen) else {
                    break;
                };
                let oldest = *oldest;
                self.addresses.remove(&oldest);
            }
        }
        let address = self.addresses.entry(origin).or_default();
        if now.saturating_sub(address.last_seen) >= ADDRESS_RETENTION {
            *address = AddressState::default();
        }
        address.last_seen = now;
        address.waiting_since.get_or_insert(now);
    }
}

/// A rate limit.
#[derive(Clone, Copy, Debug)]
struct Rate {
    burst: u32,
    interval: Duration,
}

/// The state of a rate limit: the time at which its burst is fully available.
#[derive(Clone, Copy, Debug, Default)]
struct RateAllowance {
    full_at: Duration,
}

impl RateAllowance {
    fn take(&mut self, rate: Rate, now: Duration) -> bool {
        if self.next(rate, now) > now {
            return false;
        }
        self.full_at = self.full_at.max(now) + rate.interval;
        true
    }

    /// Returns when the next request is permitted.
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
        let mut queue = FairQueue::default();
        let mut requested = Vec::new();
        for now in (0..180_000).step_by(23) {
            let now = millis(now);
            if queue.take_known(now) {
                requested.push(now);
            }
            if let Some(ticket) =
                queue.enqueue(origin(u32::try_from(now.as_millis()).unwrap()), now)
            {
                match queue.poll(ticket, now) {
                    QueueStatus::Ready => requested.push(now),
                    _ => queue.remove(ticket),
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

    /// Requests for known ids have an allowance that no invented id uses up.
    #[test]
    fn invented_names_leave_the_requests_for_known_ones() {
        let mut queue = FairQueue::default();
        for n in 0..100 {
            if let Some(ticket) = queue.enqueue(origin(n), Duration::ZERO) {
                let _ = queue.poll(ticket, Duration::ZERO);
            }
        }
        assert!(queue.take_known(Duration::ZERO));
    }

    /// Returns how long a new address waits after a flood from a number of addresses.
    fn wait_behind(addresses: u32, flooded: u64) -> Duration {
        let mut queue = FairQueue::default();
        let mut waiting: Vec<Ticket> = Vec::new();
        let mut real = None;
        // One id per 10 ms. More ids would not fit in the queue, and change nothing.
        for now in (0..600_000).step_by(10) {
            let now = millis(now);
            let flooder = origin(u32::try_from(now.as_millis() / 10).unwrap() % addresses);
            waiting.extend(queue.enqueue(flooder, now));
            if now >= millis(flooded) {
                // A sender repeats a webhook after 30 s, then every minute.
                let age = now.saturating_sub(millis(flooded));
                if age == Duration::ZERO || age.as_millis().is_multiple_of(30_000) {
                    real = queue.enqueue(origin(u32::MAX), now).or(real);
                }
                if let Some(ticket) = real {
                    match queue.poll(ticket, now) {
                        QueueStatus::Ready => return age,
                        QueueStatus::Evicted => real = None,
                        QueueStatus::Wait(_) => {}
                    }
                }
            }
            waiting.retain(|ticket| matches!(queue.poll(*ticket, now), QueueStatus::Wait(_)));
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
        let mut queue = FairQueue::default();
        for n in 0..5_000 {
            queue.enqueue(origin(n), millis(u64::from(n)));
        }
        assert!(queue.addresses.len() <= MAX_ADDRESSES);
        assert!(queue.waiting.len() <= MAX_WAITING);
    }
}
