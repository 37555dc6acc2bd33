//! The rate limit of failed authentications per address.

use super::{AddressBlock, CallerAddr, buckets::Buckets};
use crate::throttle::Throttle;
use chrono::TimeDelta;
use px_core::Clock;
use std::{sync::Arc, time::Duration};

/// Default number of failed authentications of one address per minute.
const DEFAULT_FAILURES: u32 = 100;
/// Default maximum number of addresses that are remembered.
const DEFAULT_ADDRESSES: usize = 50_000;

/// A rate limit of requests of one address that fail to authenticate.
///
/// A token bucket per address (per /64 of IPv6) counts invalid bearer tokens and wrong client
/// secrets. Requests that authenticate do not count, because one caller can have many tokens. After
/// too many failures, requests of the address are refused with 429 before anything is checked, so
/// correct guesses are refused too. If the address of a caller is not known, nothing is limited.
///
/// Behind a load balancer that is not [declared](super::Proxies), all callers have one address, and
/// one caller could lock out the others.
///
/// ```
/// use px_server::guard::{CallerAddr, FailureLimit};
///
/// let limit = FailureLimit::per_minute(2);
/// let address = Some(CallerAddr::new([192, 0, 2, 1].into()));
/// for _ in 0..2 {
///     assert!(limit.check(address).is_ok());
///     limit.failed(address);
/// }
/// assert!(limit.check(address).is_err());
/// ```
#[derive(Debug)]
pub struct FailureLimit {
    buckets: Buckets<AddressBlock>,
    log: Throttle,
}

impl FailureLimit {
    /// Creates a limit of failures per minute; 0 counts as 1.
    #[must_use]
    pub fn per_minute(failures: u32) -> Self {
        let mut buckets = Buckets::new(failures, TimeDelta::minutes(1));
        buckets.max_keys = DEFAULT_ADDRESSES;
        Self { buckets, log: Throttle::default() }
    }

    /// Sets the clock; the system clock by default.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.buckets.clock = clock;
        self
    }

    /// Sets the maximum number of addresses that are remembered; 50,000 by default.
    #[must_use]
    pub fn max_addresses(mut self, addresses: usize) -> Self {
        self.buckets.max_keys = addresses.max(1);
        self
    }

    /// Checks whether a request of this address may try to authenticate.
    ///
    /// # Errors
    /// The time to wait, if too many requests of the address have failed.
    pub fn check(&self, address: Option<CallerAddr>) -> Result<(), Duration> {
        let Some(address) = address else { return Ok(()) };
        self.buckets.peek(&address.block()).inspect_err(|_| {
            metrics::counter!("px_server_authentications_refused_total").increment(1);
            if self.log.is_due() {
                tracing::warn!(
                    address = %address.block(),
                    "too many requests of one address failed to authenticate; \
                     declare the address as a proxy if it is your load balancer"
                );
            }
        })
    }

    /// Counts a request that failed to authenticate.
    pub fn failed(&self, address: Option<CallerAddr>) {
        metrics::counter!("px_server_authentications_failed_total").increment(1);
        if let Some(address) = address {
            let _ = self.buckets.take(address.block());
        }
    }
}

impl Default for FailureLimit {
    /// Returns a limit of 100 failures per minute.
    fn default() -> Self {
        Self::per_minute(DEFAULT_FAILURES)
    }
}
