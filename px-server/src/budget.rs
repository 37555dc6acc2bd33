//! The memory budget of requests, for a server, an address and a connection.
//!
//! Anyone can send headers and bodies before being authenticated. Each request has a maximum size,
//! but the sum over many concurrent requests is bounded only if they are counted together.

use crate::{guard::AddressBlock, throttle::Throttle};
use bytes::Bytes;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Default maximum of request bytes that a server keeps in memory.
pub(crate) const DEFAULT_SERVER_BYTES: usize = 64 << 20;
/// Default maximum of request bytes that one connection keeps in memory.
pub(crate) const DEFAULT_CONNECTION_BYTES: usize = 2 << 20;
/// Bytes that each connection may use even if the server's budget is used up, so that small
/// requests still succeed. Bounded by the number of connections.
const RESERVED_BYTES: usize = 16 << 10;

/// The budget of a server. Cheap to clone; clones share their state.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Arc<ServerBudget>);

#[derive(Debug)]
struct ServerBudget {
    max: usize,
    max_of_address: usize,
    max_of_connection: usize,
    state: Mutex<State>,
    log: Throttle,
}

#[derive(Debug, Default)]
struct State {
    used: usize,
    by_block: HashMap<AddressBlock, usize>,
}

/// The budget of one connection, or of one request if connections are not known.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionBudget(Arc<ConnectionUsage>);

#[derive(Debug)]
struct ConnectionUsage {
    shared: Arc<ServerBudget>,
    /// The address that it counts against. `None` for a declared proxy or an unknown address.
    block: Option<AddressBlock>,
    /// Guarded by the lock of `shared` too.
    used: Mutex<usize>,
}

/// The budget of a request, as an extension: the reader of the body charges its bytes to it.
#[derive(Clone, Debug)]
pub(crate) struct RequestBudget {
    connection: ConnectionBudget,
    refused: Arc<AtomicBool>,
    /// Whether the server has charged each frame of the body already.
    frames_are_counted: bool,
}

/// Bytes that are charged until this is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    usage: Arc<ConnectionUsage>,
    bytes: usize,
}

/// Error: the budget does not allow more bytes of this request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OverBudget;

impl Budget {
    /// Creates the budget of a server and its maximum per connection. One address may use a
    /// quarter of the server's.
    pub(crate) fn new(max: usize, max_of_connection: usize) -> Self {
        Self(Arc::new(ServerBudget {
            max,
            max_of_address: max / 4,
            max_of_connection,
            state: Mutex::default(),
            log: Throttle::default(),
        }))
    }

    pub(crate) fn connection(&self, block: Option<AddressBlock>) -> ConnectionBudget {
        let shared = Arc::clone(&self.0);
        ConnectionBudget(Arc::new(ConnectionUsage { shared, block, used: Mutex::new(0) }))
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(DEFAULT_SERVER_BYTES, DEFAULT_CONNECTION_BYTES)
    }
}

impl ServerBudget {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the bytes of a connection that count against the shared budget.
fn shared_part(used: usize) -> usize {
    used.saturating_sub(RESERVED_BYTES)
}

impl ConnectionBudget {
    /// Charges bytes if the budget allows it.
    pub(crate) fn charge(&self, bytes: usize) -> Result<Charge, OverBudget> {
        self.count(bytes, true)
    }

    fn count(&self, bytes: usize, enforce: bool) -> Result<Charge, OverBudget> {
        let usage = &self.0;
        let shared = &usage.shared;
        let mut state = shared.state();
        let mut used = usage.used.lock().unwrap_or_else(PoisonError::into_inner);
        let after = used.saturating_add(bytes);
        let more = shared_part(after) - shared_part(*used);
        if enforce {
            let of_address = usage.block.and_then(|block| state.by_block.get(&block)).copied();
            let limit = if after > shared.max_of_connection {
                Some("connection")
            } else if more > 0 && of_address.unwrap_or(0) + more > shared.max_of_address {
                usage.block.map(|_| "address")
            } else {
                None
            };
            let limit =
                limit.or_else(|| (more > 0 && state.used + more > shared.max).then_some("server"));
            if let Some(limit) = limit {
                drop((used, state));
                metrics::counter!("px_server_requests_over_memory_total", "limit" => limit)
                    .increment(1);
                if shared.log.is_due() {
                    tracing::warn!(
                        limit,
                        "a request was refused: the memory budget for requests is used up"
                    );
                }
                return Err(OverBudget);
            }
        }
        *used = after;
        state.used += more;
        if let Some(block) = usage.block.filter(|_| more > 0) {
            *state.by_block.entry(block).or_default() += more;
        }
        report(state.used);
        Ok(Charge { usage: Arc::clone(usage), bytes })
    }

    /// Returns the budget of a request on this connection.
    #[cfg(feature = "hyper")]
    pub(crate) fn request(&self) -> RequestBudget {
        let connection = self.clone();
        RequestBudget { connection, refused: Arc::default(), frames_are_counted: true }
    }

    /// Returns the budget of a request if its server does not count bytes.
    pub(crate) fn lone_request(self) -> RequestBudget {
        RequestBudget { connection: self, refused: Arc::default(), frames_are_counted: false }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let mut state = self.usage.shared.state();
        let mut used = self.usage.used.lock().unwrap_or_else(PoisonError::into_inner);
        let after = used.saturating_sub(self.bytes);
        let less = shared_part(*used) - shared_part(after);
        *used = after;
        state.used = state.used.saturating_sub(less);
        if let Some(block) = self.usage.block.filter(|_| less > 0)
            && let Some(of_block) = state.by_block.get_mut(&block)
        {
            *of_block = of_block.saturating_sub(less);
            if *of_block == 0 {
                state.by_block.remove(&block);
            }
        }
        report(state.used);
    }
}

fn report(used: usize) {
    metrics::gauge!("px_server_request_memory_bytes").set(u32::try_from(used).unwrap_or(u32::MAX));
}

impl RequestBudget {
    /// Charges a frame of the body that the server has read.
    #[cfg(feature = "hyper")]
    pub(crate) fn frame(&self, data: Bytes) -> Result<Bytes, OverBudget> {
        match self.connection.charge(data.len()) {
            Ok(charge) => Ok(Bytes::from_owner(ChargedBytes { data, _charges: vec![charge] })),
            Err(error) => {
                self.refused.store(true, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    /// Returns whether a part of the body exceeded the budget.
    pub(crate) fn is_over(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// Begins to collect a body.
    pub(crate) fn collect(&self) -> BodyCollector<'_> {
        BodyCollector { budget: self, frames: Vec::new(), bytes: 0, charges: Vec::new() }
    }
}

/// Collects a whole body and charges its bytes.
pub(crate) struct BodyCollector<'b> {
    budget: &'b RequestBudget,
    frames: Vec<Bytes>,
    bytes: usize,
    charges: Vec<Charge>,
}

impl BodyCollector<'_> {
    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    pub(crate) fn push(&mut self, frame: Bytes) -> Result<(), OverBudget> {
        if !self.budget.frames_are_counted {
            self.charges.push(self.budget.connection.charge(frame.len())?);
        }
        self.bytes += frame.len();
        if !frame.is_empty() {
            self.frames.push(frame);
        }
        Ok(())
    }

    /// Returns the whole body, which stays charged until its last clone is dropped.
    pub(crate) fn finish(self) -> Bytes {
        let Self { budget, mut frames, bytes, mut charges } = self;
        if budget.frames_are_counted {
            match (frames.len(), frames.pop()) {
                (_, None) => return Bytes::new(),
                // The frame carries its own charge.
                (1, Some(only)) => return only,
                (_, Some(last)) => frames.push(last),
            }
            // Replaces the charges of the frames, which end below.
            charges.extend(budget.connection.count(bytes, false));
        }
        let data: Bytes = match &*frames {
            [only] => only.clone(),
            frames => frames.concat().into(),
        };
        Bytes::from_owner(ChargedBytes { data, _charges: charges })
    }
}

/// Bytes that stay charged until they are dropped.
struct ChargedBytes {
    data: Bytes,
    _charges: Vec<Charge>,
}

impl AsRef<[u8]> for ChargedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::CallerAddr;

    fn block(last: u8) -> Option<AddressBlock> {
        Some(CallerAddr::new([192, 0, 2, last].into()).block())
    }

    fn used(budget: &Budget) -> usize {
        budget.0.state().used
    }

    #[test]
    fn connection_address_and_server_have_their_bounds() {
        let (free, mib) = (RESERVED_BYTES, 1 << 20);
        let budget = Budget::new(8 * mib, 2 * mib);
        let first = budget.connection(block(1));
        let whole = first.charge(2 * mib).unwrap();
        assert_eq!(first.charge(1).unwrap_err(), OverBudget, "the connection's own bound");
        drop(whole);
        assert_eq!(used(&budget), 0);

        // One address has a quarter of the server's budget, whatever the number of its
        // connections.
        let charges: Vec<_> =
            (0..20).map_while(|_| budget.connection(block(1)).charge(mib).ok()).collect();
        assert_eq!(charges.len(), 2);
        assert!(used(&budget) <= 2 * mib);
        // Other addresses have their share, and a small request succeeds when all is used.
        let others: Vec<_> = (2..20)
            .flat_map(|last| (0..3).map(move |_| last))
            .filter_map(|last| budget.connection(block(last)).charge(mib).ok())
            .collect();
        assert!(used(&budget) <= 8 * mib && used(&budget) > 7 * mib, "{}", used(&budget));
        let late = budget.connection(block(200));
        assert!(late.charge(mib).is_err());
        let small = late.charge(free).unwrap();
        drop((charges, others, small));
        assert_eq!(used(&budget), 0);
        assert!(budget.0.state().by_block.is_empty());
    }

    #[test]
    fn a_proxy_has_no_share_of_its_own() {
        let budget = Budget::new(4 << 20, 4 << 20);
        let proxy = budget.connection(None);
        assert!(proxy.charge(4 << 20).is_ok());
    }

    #[test]
    fn a_collected_body_stays_counted() {
        let budget = Budget::new(1 << 20, 1 << 20);
        for counted in [true, false] {
            let mut request = budget.connection(block(1)).lone_request();
            request.frames_are_counted = counted;
            let mut collected = request.collect();
            for _ in 0..4 {
                let frame = Bytes::from(vec![1; 50_000]);
                let frame = if counted {
                    let charge = request.connection.charge(frame.len()).unwrap();
                    Bytes::from_owner(ChargedBytes { data: frame, _charges: vec![charge] })
                } else {
                    frame
                };
                collected.push(frame).unwrap();
            }
            let body = collected.finish();
            assert_eq!(body.len(), 200_000);
            assert_eq!(used(&budget), 200_000 - RESERVED_BYTES, "{counted}");
            drop(body);
            assert_eq!(used(&budget), 0, "{counted}");
        }
    }
}
