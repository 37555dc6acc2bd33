//! Events and metrics of a notifier.

use super::entry::{Entry, Lane};
use crate::error::{Error, Source};
use chrono::{DateTime, Utc};
use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

/// An observer of a [`Notifier`](super::Notifier)'s events.
///
/// The notifier's own tasks call it, so it must return quickly.
pub trait NotifierObserver: Send + Sync + fmt::Debug {
    /// Called when Plaid accepted a batch, with the number of its entries.
    fn accepted(&self, _lane: Lane, _entries: usize) {}

    /// Called when Plaid refused an entry permanently. The entry is removed from the store.
    ///
    /// Usually the Item of its token no longer exists: delete the token. It may be called twice for one entry
    /// if the store could not delete it.
    fn refused(&self, _entry: &Entry, _why: &Error) {}

    /// Called when a lane waits after a failure. Its entries stay in the store.
    fn stalled(&self, _stall: &Stall<'_>) {}
}

/// A wait of a lane after a failure.
#[derive(Debug)]
#[non_exhaustive]
pub struct Stall<'a> {
    /// The lane.
    pub lane: Lane,
    /// The cause.
    pub cause: StallCause<'a>,
    /// Number of consecutive failures, including this one.
    pub failures: u32,
    /// Time of the next attempt.
    pub until: DateTime<Utc>,
}

/// The cause of a wait.
#[derive(Debug)]
#[non_exhaustive]
pub enum StallCause<'a> {
    /// The call failed. [`ErrorKind::Auth`](crate::ErrorKind::Auth) means that Plaid refuses the client's id and
    /// secret: an operator must act.
    Call(&'a Error),
    /// Plaid refuses entries and has accepted none since, so the fault may be in the settings of the
    /// client instead of the entries.
    Refused(&'a Error),
    /// The store is out of reach.
    Store(&'a Source),
    /// The current token of an Item is not available; see [`CurrentTokenSource`](super::CurrentTokenSource).
    Token(&'a Source),
}

/// The metrics of a notifier since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotifierMetrics {
    /// Entries that were stored.
    pub stored: u64,
    /// Stored entries that Plaid accepted.
    pub accepted: u64,
    /// Calls that succeeded.
    pub calls: u64,
    /// Calls that failed, for any cause.
    pub failed_calls: u64,
    /// Stored entries that were removed because Plaid refused them.
    pub refused: u64,
    /// Number of waits after failures, over all lanes.
    pub stalls: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) stored: AtomicU64,
    pub(super) accepted: AtomicU64,
    pub(super) calls: AtomicU64,
    pub(super) failed_calls: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) stalls: AtomicU64,
}

impl Counters {
    pub(super) fn metrics(&self) -> NotifierMetrics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        NotifierMetrics {
            stored: read(&self.stored),
            accepted: read(&self.accepted),
            calls: read(&self.calls),
            failed_calls: read(&self.failed_calls),
            refused: read(&self.refused),
            stalls: read(&self.stalls),
        }
    }
}

/// Adds to a counter.
pub(super) fn count(counter: &AtomicU64, more: usize) {
    counter.fetch_add(more as u64, Ordering::Relaxed);
}

/// An observer that ignores all events.
#[derive(Debug)]
pub(super) struct NoObserver;

impl NotifierObserver for NoObserver {}
