//! What a notifier tells of itself: a hook, and figures.

use super::entry::{Entry, Lane};
use crate::error::{Error, Source};
use chrono::{DateTime, Utc};
use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

/// Is told what a [`Notifier`](super::Notifier) does.
///
/// It is called from the notifier's own tasks: be quick.
pub trait NotifierObserver: Send + Sync + fmt::Debug {
    /// Plaid took a batch of so many entries.
    fn accepted(&self, _lane: Lane, _entries: usize) {}

    /// Plaid will not take this entry; it is removed from the store and not told again.
    ///
    /// As a rule there is no Item behind its token any more: forget the token. It may be
    /// called twice for one entry, if the store could not remove it.
    fn taken_out(&self, _entry: &Entry, _why: &Error) {}

    /// A lane rests; its entries are kept.
    fn stalled(&self, _stall: &Stall<'_>) {}
}

/// Why a lane rests, and until when.
#[derive(Debug)]
#[non_exhaustive]
pub struct Stall<'a> {
    /// The lane.
    pub lane: Lane,
    /// Why.
    pub why: StallCause<'a>,
    /// How often in a row it had to, this time included.
    pub failures: u32,
    /// When it goes on.
    pub until: DateTime<Utc>,
}

/// Why a lane rests.
#[derive(Debug)]
#[non_exhaustive]
pub enum StallCause<'a> {
    /// The call failed. [`Kind::Auth`](crate::Kind::Auth): the client's id and secret are not
    /// accepted, and somebody has to look.
    Call(&'a Error),
    /// Plaid refuses entries and has not taken any since, so that the entries may not be at
    /// fault but what the client sends or where it sends it.
    Refused(&'a Error),
    /// The store is out of reach.
    Store(&'a Source),
    /// Which token an Item has by now cannot be told; see [`PresentToken`](super::PresentToken).
    Token(&'a Source),
}

/// What a notifier did since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Figures {
    /// Entries that were kept.
    pub kept: u64,
    /// Entries of the store that Plaid took.
    pub accepted: u64,
    /// Calls that Plaid answered with yes.
    pub calls: u64,
    /// Calls that failed, for whatever cause.
    pub failed_calls: u64,
    /// Entries of the store that were taken out.
    pub taken_out: u64,
    /// How often a lane had to rest.
    pub stalls: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) kept: AtomicU64,
    pub(super) accepted: AtomicU64,
    pub(super) calls: AtomicU64,
    pub(super) failed_calls: AtomicU64,
    pub(super) taken_out: AtomicU64,
    pub(super) stalls: AtomicU64,
}

impl Counters {
    pub(super) fn figures(&self) -> Figures {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Figures {
            kept: read(&self.kept),
            accepted: read(&self.accepted),
            calls: read(&self.calls),
            failed_calls: read(&self.failed_calls),
            taken_out: read(&self.taken_out),
            stalls: read(&self.stalls),
        }
    }
}

/// Counts some more.
pub(super) fn count(counter: &AtomicU64, more: usize) {
    counter.fetch_add(more as u64, Ordering::Relaxed);
}

/// Nobody is told.
#[derive(Debug)]
pub(super) struct Nobody;

impl NotifierObserver for Nobody {}
