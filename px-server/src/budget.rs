//! The bytes of requests that are in memory, for a server, for an address and for a connection.
//!
//! Anybody can send headers and bodies before it is known who calls. Each of them has a maximum,
//! but many at once have none unless they are counted together.

use crate::{guard::AddressBlock, throttle::Throttle};
use bytes::Bytes;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Bytes of requests that a server keeps in memory, unless set.
pub(crate) const DEFAULT_SERVER_BYTES: usize = 64 << 20;
/// Bytes of requests that one connection keeps in memory, unless set.
pub(crate) const DEFAULT_CONNECTION_BYTES: usize = 2 << 20;
/// Bytes that each connection may use however full the server is, so that small requests go
/// through while others are being refused. Bounded by the number of connections.
const RESERVED_BYTES: usize = 16 << 10;

/// The bound of a server. Cheap to clone; clones are one and the same.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
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

/// The part of one connection, or of one request where connections are not known.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionBudget(Arc<Part>);

#[derive(Debug)]
struct Part {
    shared: Arc<Shared>,
    /// Whose share it counts against; `None` for a declared proxy and where it is not known.
    block: Option<AddressBlock>,
    /// Guarded by the lock of `shared`.
    used: Mutex<usize>,
}

/// The budget of a request, as its extension: what reads the body counts what it keeps.
#[derive(Clone, Debug)]
pub(crate) struct RequestBudget {
    connection: ConnectionBudget,
    refused: Arc<AtomicBool>,
    /// Whether the body that the server hands out is counted frame by frame already.
    frames_are_counted: bool,
}

/// Bytes that are counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    part: Arc<Part>,
    bytes: usize,
}

/// There is no memory left for more of this request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OverBudget;

impl Budget {
    /// A bound of a server and one of each connection. An address has a quarter of the server's.
    pub(crate) fn new(max: usize, max_of_connection: usize) -> Self {
        Self(Arc::new(Shared {
            max,
            max_of_address: max / 4,
            max_of_connection,
            state: Mutex::default(),
            log: Throttle::default(),
        }))
    }

    pub(crate) fn connection(&self, block: Option<AddressBlock>) -> ConnectionBudget {
        let shared = Arc::clone(&self.0);
        ConnectionBudget(Arc::new(Part { shared, block, used: Mutex::new(0) }))
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(DEFAULT_SERVER_BYTES, DEFAULT_CONNECTION_BYTES)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes of a connection that count against what all share.
fn shared_part(used: usize) -> usize {
    used.saturating_sub(RESERVED_BYTES)
}

impl ConnectionBudget {
    /// Counts bytes, if there is room for them.
    pub(crate) fn charge(&self, bytes: usize) -> Result<Charge, OverBudget> {
        self.count(bytes, true)
    }

    fn count(&self, bytes: usize, is_checked: bool) -> Result<Charge, OverBudget> {
        let part = &self.0;
        let shared = &part.shared;
        let mut state = shared.state();
        let mut used = part.used.lock().unwrap_or_else(PoisonError::into_inner);
        let after = used.saturating_add(bytes);
        let more = shared_part(after) - shared_part(*used);
        if is_checked {
            let of_address = part.block.and_then(|block| state.by_block.get(&block)).copied();
            let limit = if after > shared.max_of_connection {
                Some("connection")
            } else if more > 0 && of_address.unwrap_or(0) + more > shared.max_of_address {
                part.block.map(|_| "address")
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
                        "a request was refused: its bytes exceed the memory for requests"
                    );
                }
                return Err(OverBudget);
            }
        }
        *used = after;
        state.used += more;
        if let Some(block) = part.block.filter(|_| more > 0) {
            *state.by_block.entry(block).or_default() += more;
        }
        report(state.used);
        Ok(Charge { part: Arc::clone(part), bytes })
    }

    /// The budget of a request on this connection.
    #[cfg(feature = "hyper")]
    pub(crate) fn request(&self) -> RequestBudget {
        let connection = self.clone();
        RequestBudget { connection, refused: Arc::default(), frames_are_counted: true }
    }

    /// The budget of a request whose server counts nothing.
    pub(crate) fn lone_request(self) -> RequestBudget {
        RequestBudget { connection: self, refused: Arc::default(), frames_are_counted: false }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let mut state = self.part.shared.state();
        let mut used = self.part.used.lock().unwrap_or_else(PoisonError::into_inner);
        let after = used.saturating_sub(self.bytes);
        let less = shared_part(*used) - shared_part(after);
        *used = after;
        state.used = state.used.saturating_sub(less);
        if let Some(block) = self.part.block.filter(|_| less > 0)
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
    /// Counts bytes of the body that the server read.
    #[cfg(feature = "hyper")]
    pub(crate) fn frame(&self, data: Bytes) -> Result<Bytes, OverBudget> {
        match self.connection.charge(data.len()) {
            Ok(charge) => Ok(Bytes::from_owner(Counted { data, _charges: vec![charge] })),
            Err(error) => {
                self.refused.store(true, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    /// Whether a part of the body was refused.
    pub(crate) fn is_over(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// Begins to collect a body.
    pub(crate) fn collect(&self) -> Collected<'_> {
        Collected { budget: self, frames: Vec::new(), bytes: 0, charges: Vec::new() }
    }
}

/// A body that is being read whole, counted.
pub(crate) struct Collected<'b> {
    budget: &'b RequestBudget,
    frames: Vec<Bytes>,
    bytes: usize,
    charges: Vec<Charge>,
}

impl Collected<'_> {
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

    /// The whole body, which stays counted until its last clone is dropped.
    pub(crate) fn finish(self) -> Bytes {
        let Self { budget, mut frames, bytes, mut charges } = self;
        if budget.frames_are_counted {
            match (frames.len(), frames.pop()) {
                (_, None) => return Bytes::new(),
                // It carries its own count.
                (1, Some(only)) => return only,
                (_, Some(last)) => frames.push(last),
            }
            // In place of the counts of the frames, which end below.
            charges.extend(budget.connection.count(bytes, false));
        }
        let data: Bytes = match &*frames {
            [only] => only.clone(),
            frames => frames.concat().into(),
        };
        Bytes::from_owner(Counted { data, _charges: charges })
    }
}

/// Bytes that are counted for as long as they live.
struct Counted {
    data: Bytes,
    _charges: Vec<Charge>,
}

impl AsRef<[u8]> for Counted {
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

        // An address has a quarter, whatever the number of its connections.
        let charges: Vec<_> =
            (0..20).map_while(|_| budget.connection(block(1)).charge(mib).ok()).collect();
        assert_eq!(charges.len(), 2);
        assert!(used(&budget) <= 2 * mib);
        // Others have theirs, and when all is used a small request still has its own.
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
                    Bytes::from_owner(Counted { data: frame, _charges: vec![charge] })
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
