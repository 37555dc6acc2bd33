//! How often one address may fail to authenticate.

use super::{AddressBlock, CallerAddr, buckets::Buckets};
use crate::throttle::Throttle;
use chrono::TimeDelta;
use px_core::Clock;
use std::{sync::Arc, time::Duration};

/// Failed authentications of one address in a minute, unless set.
const DEFAULT_FAILURES: u32 = 100;
/// Addresses that are remembered unless set.
const DEFAULT_ADDRESSES: usize = 50_000;

/// How many requests of one address may fail to authenticate.
///
/// A token bucket per address (per /64 of IPv6): wrong bearer tokens, and wrong secrets of
/// clients. Requests that authenticate do not count, because one caller can have many tokens.
/// An address that has failed too often is refused with 429 before anything is checked, so its
/// right guesses are refused too. Where the address of a caller is not known, nothing is limited.
///
/// Behind a load balancer that is not [declared](super::Proxies), all callers are one address, and
/// one of them could shut out the others.
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
    /// Allows a number of failures in each minute; 0 counts as 1.
    #[must_use]
    pub fn per_minute(failures: u32) -> Self {
        let mut buckets = Buckets::new(failures, TimeDelta::minutes(1));
        buckets.max_keys = DEFAULT_ADDRESSES;
        Self { buckets, log: Throttle::default() }
    }

    /// Takes the time from another clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.buckets.clock = clock;
        self
    }

    /// Maximum number of addresses that are remembered; 50,000 by default.
    #[must_use]
    pub fn max_addresses(mut self, addresses: usize) -> Self {
        self.buckets.max_keys = addresses.max(1);
        self
    }

    /// Whether a request of this address may try to authenticate.
    ///
    /// # Errors
    /// If too many have failed: how long the caller has to wait.
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
    /// 100 failures in a minute.
    fn default() -> Self {
        Self::per_minute(DEFAULT_FAILURES)
    }
}
