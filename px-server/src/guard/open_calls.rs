//! The concurrency limit of a service's calls.

use super::AddressBlock;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Default maximum number of concurrent calls.
pub(crate) const DEFAULT_OPEN_CALLS: usize = 1024;

/// A concurrency limit of calls. One address may use a quarter of it.
#[derive(Clone, Debug)]
pub(crate) struct OpenCalls(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: usize,
    by_block: HashMap<AddressBlock, usize>,
}

/// An open call, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct OpenCall {
    shared: Arc<Shared>,
    block: Option<AddressBlock>,
}

impl OpenCalls {
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(Shared { limit, state: Mutex::default() }))
    }

    /// Opens a call if the limits of the service and the address allow it.
    pub(crate) fn open(&self, block: Option<AddressBlock>) -> Option<OpenCall> {
        let shared = Arc::clone(&self.0);
        let mut state = shared.state();
        let of_block = block.and_then(|block| state.by_block.get(&block)).copied().unwrap_or(0);
        if state.open >= shared.limit || of_block >= (shared.limit / 4).max(1) {
            drop(state);
            metrics::counter!("px_server_calls_refused_total").increment(1);
            return None;
        }
        state.open += 1;
        if let Some(block) = block {
            *state.by_block.entry(block).or_default() += 1;
        }
        drop(state);
        Some(OpenCall { shared, block })
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.open = state.open.saturating_sub(1);
        if let Some(block) = self.block
            && let Some(count) = state.by_block.get_mut(&block)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                state.by_block.remove(&block);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::CallerAddr;

    #[test]
    fn an_address_has_a_quarter_and_all_have_the_whole() {
        let calls = OpenCalls::new(8);
        let block = |last| Some(CallerAddr::new([192, 0, 2, last].into()).block());
        let first: Vec<_> = (0..8).map_while(|_| calls.open(block(1))).collect();
        assert_eq!(first.len(), 2);
        let unknown: Vec<_> = (0..8).map_while(|_| calls.open(None)).collect();
        assert_eq!(unknown.len(), 6);
        assert!(calls.open(block(2)).is_none());
        drop(first);
        assert!(calls.open(block(2)).is_some());
        drop(unknown);
        assert_eq!(calls.0.state().open, 0);
        assert!(calls.0.state().by_block.is_empty());
    }
}
