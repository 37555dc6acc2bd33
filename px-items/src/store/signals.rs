//! Signals that wake components of the same process after a commit.

use super::{Commit, LeaseOutcome};
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
/// A store raises a signal after the transaction that created the work is committed. The engine and
/// the webhook sender of the same process therefore start within milliseconds and need no wiring.
/// Other processes find the work at their next poll.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Signals {
    /// An Item may be due.
    pub items: Signal,
    /// The outbox may have entries to send.
    pub outbox: Signal,
    /// Tokens may be queued for revocation.
    pub revocations: Signal,
}

impl Signals {
    /// Returns the signals to raise after a commit.
    pub(super) fn of_commit(&self, commit: &Commit) -> [Option<&Signal>; 2] {
        let is_due = matches!(
            commit.lease,
            LeaseOutcome::Release { due_at: Some(due_at), .. } if due_at <= commit.now
        );
        [is_due.then_some(&self.items), (!commit.changes.is_empty()).then_some(&self.outbox)]
    }

    pub(super) fn raise_all(&self) {
        for signal in [&self.items, &self.outbox, &self.revocations] {
            signal.raise();
        }
    }
}

/// A signal. If nothing listens when it is raised, it is lost.
#[derive(Clone, Debug, Default)]
pub struct Signal(Arc<SignalState>);

/// The number of times a signal was raised. This is not a `watch` channel: that one wakes its
/// receivers in random order, and simulations must be repeatable.
#[derive(Debug, Default)]
struct SignalState {
    count: AtomicU64,
    notify: Notify,
}

impl Signal {
    /// Wakes every listener, now or when it listens next.
    pub fn raise(&self) {
        self.0.count.fetch_add(1, Ordering::SeqCst);
        self.0.notify.notify_waiters();
    }

    /// Creates a listener for later raises.
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
    /// Waits until the signal is raised. Raises since the last call count as one. Cancel safe.
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
