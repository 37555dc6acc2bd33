//! Signals: how a commit wakes the components of the same process that have to act on it.

use std::{future::pending, sync::Arc};
use tokio::sync::watch;

/// The signals of a store. Clones share them, and so do all clones of a store.
///
/// A store raises a signal after the transaction that made the work is committed, so the engine and
/// the sender of the same process begin within milliseconds and need no wiring. Other processes
/// find the work at their next poll.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Signals {
    /// An Item may be due.
    pub items: Signal,
    /// The outbox may have something to send.
    pub outbox: Signal,
    /// A token may wait to be revoked.
    pub revocations: Signal,
}

impl Signals {
    pub(super) fn raise_all(&self) {
        for signal in [&self.items, &self.outbox, &self.revocations] {
            signal.raise();
        }
    }
}

/// One signal. It can be raised without a listener, and then is lost.
#[derive(Clone, Debug, Default)]
pub struct Signal(Arc<watch::Sender<u64>>);

impl Signal {
    /// Wakes every listener, now or when it next listens.
    pub fn raise(&self) {
        self.0.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Begins to listen.
    #[must_use]
    pub fn listen(&self) -> Listener {
        Listener(self.0.subscribe())
    }
}

/// A listener of a signal.
#[derive(Clone, Debug)]
pub struct Listener(watch::Receiver<u64>);

impl Listener {
    /// Waits until the signal is raised; raises since the last call count as one. Cancel safe.
    pub async fn raised(&mut self) {
        if self.0.changed().await.is_err() {
            // The store is gone, and with it all work.
            pending::<()>().await;
        }
    }
}
