//! Signals: how a commit wakes the components of the same process that have to act on it.

use super::{Commit, Then};
use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::Notify;

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
    /// Returns the signals to raise after a commit: it may leave something to send, and the Item due.
    pub(super) fn of_commit(&self, commit: &Commit) -> [Option<&Signal>; 2] {
        let is_due = matches!(
            commit.then,
            Then::Release { due_at: Some(due_at), .. } if due_at <= commit.now
        );
        [is_due.then_some(&self.items), (!commit.news.is_silent()).then_some(&self.outbox)]
    }

    pub(super) fn raise_all(&self) {
        for signal in [&self.items, &self.outbox, &self.revocations] {
            signal.raise();
        }
    }
}

/// One signal. It can be raised without a listener, and then is lost.
#[derive(Clone, Debug, Default)]
pub struct Signal(Arc<Raised>);

/// How often a signal was raised. Not a `watch` channel: that one wakes its receivers in an order of
/// chance, and a simulation has to repeat.
#[derive(Debug, Default)]
struct Raised {
    count: AtomicU64,
    notify: Notify,
}

impl Signal {
    /// Wakes every listener, now or when it next listens.
    pub fn raise(&self) {
        self.0.count.fetch_add(1, Ordering::SeqCst);
        self.0.notify.notify_waiters();
    }

    /// Begins to listen.
    #[must_use]
    pub fn listen(&self) -> Listener {
        Listener { signal: self.clone(), seen: self.0.count.load(Ordering::SeqCst) }
    }
}

/// A listener of a signal.
#[derive(Clone, Debug)]
pub struct Listener {
    signal: Signal,
    seen: u64,
}

impl Listener {
    /// Waits until the signal is raised; raises since the last call count as one. Cancel safe.
    pub async fn raised(&mut self) {
        loop {
            let mut notified = pin!(self.signal.0.notify.notified());
            // From here on no raise is missed.
            notified.as_mut().enable();
            let count = self.signal.0.count.load(Ordering::SeqCst);
            if count != self.seen {
                self.seen = count;
                return;
            }
            notified.await;
        }
    }
}
