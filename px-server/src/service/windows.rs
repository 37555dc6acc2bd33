//! Windows of transactions that are being paged, for banks that do not filter accounts.
//!
//! Without this each page would read the whole window. What is kept is short-lived and bounded,
//! and the first page of a pagination always reads anew: a change is never hidden by it.

use crate::{PermittedAccounts, TokenGrant};
use chrono::{DateTime, TimeDelta, Utc};
use lru::LruCache;
use px_core::Clock;
use px_types::{
    Date, UserId,
    model::{security::Security, transaction::Transaction},
    partner::{TransactionsQuery, TransactionsResponse},
};
use std::{
    fmt,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Time for which a window is kept since it was read.
const TTL: TimeDelta = TimeDelta::minutes(2);
/// Maximum number of windows.
const MAX_WINDOWS: NonZeroUsize = NonZeroUsize::new(1024).unwrap();
/// Maximum number of rows of all windows; 100 MB or so. A window beyond it is read for each page.
const MAX_ROWS: usize = 100_000;

/// The permitted rows of a window.
#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) transactions: Vec<Transaction>,
    pub(super) securities: Vec<Security>,
}

impl Window {
    /// A page, with the securities that its rows name.
    pub(super) fn page(&self, offset: u64, limit: u64) -> TransactionsResponse {
        let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
        let taken = usize::try_from(limit).unwrap_or(usize::MAX);
        let rows: Vec<_> = self.transactions.iter().skip(skipped).take(taken).cloned().collect();
        let names = |security: &&Security| {
            rows.iter().any(|row| {
                let investment = row.investment.as_ref();
                investment.is_some_and(|row| row.security_id.as_ref() == Some(&security.id))
            })
        };
        let securities = self.securities.iter().filter(names).cloned().collect();
        let mut page = TransactionsResponse::new(self.transactions.len() as u64, rows);
        page.securities = securities;
        page
    }
}

/// A grant and a window. Two grants over the same accounts of a user see the same rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    principal: UserId,
    grant_id: Option<String>,
    accounts: PermittedAccounts,
    start: Date,
    end: Date,
}

impl Key {
    fn new(grant: &TokenGrant, query: &TransactionsQuery) -> Self {
        Self {
            principal: grant.principal.clone(),
            grant_id: grant.grant_id.clone(),
            accounts: grant.accounts.clone(),
            start: query.start_date,
            end: query.end_date,
        }
    }
}

/// A window and when it was read.
#[derive(Debug)]
pub(super) struct Read {
    window: Arc<Window>,
    at: DateTime<Utc>,
    _rows: Rows,
}

pub(super) type Entry = Arc<tokio::sync::Mutex<Option<Read>>>;

/// The windows of a service.
pub(super) struct Windows {
    clock: Arc<dyn Clock>,
    entries: Mutex<LruCache<Key, (Entry, DateTime<Utc>)>>,
    rows: Arc<AtomicUsize>,
}

impl fmt::Debug for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Windows").field("rows", &self.rows).finish_non_exhaustive()
    }
}

/// Rows that are counted until this is dropped.
#[derive(Debug)]
struct Rows {
    all: Arc<AtomicUsize>,
    count: usize,
}

impl Drop for Rows {
    fn drop(&mut self) {
        self.all.fetch_sub(self.count, Ordering::Relaxed);
    }
}

impl Windows {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, entries: Mutex::new(LruCache::new(MAX_WINDOWS)), rows: Arc::default() }
    }

    fn entries(&self) -> MutexGuard<'_, LruCache<Key, (Entry, DateTime<Utc>)>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place of a window; drops those that have expired.
    pub(super) fn entry(&self, grant: &TokenGrant, query: &TransactionsQuery) -> Entry {
        let now = self.clock.now();
        let mut entries = self.entries();
        while entries.peek_lru().is_some_and(|(_, (_, used))| now - *used >= TTL) {
            entries.pop_lru();
        }
        let key = Key::new(grant, query);
        if let Some((entry, used)) = entries.get_mut(&key) {
            *used = now;
            return Arc::clone(entry);
        }
        let entry = Entry::default();
        entries.put(key, (Arc::clone(&entry), now));
        entry
    }

    /// The window, if it was read lately.
    pub(super) fn fresh(&self, known: &Option<Read>) -> Option<Arc<Window>> {
        let known = known.as_ref()?;
        (self.clock.now() - known.at < TTL).then(|| Arc::clone(&known.window))
    }

    /// What to keep of a window that was read; nothing of one for which there is no room.
    pub(super) fn keep(&self, window: &Arc<Window>) -> Option<Read> {
        let count = window.transactions.len();
        self.rows.fetch_add(count, Ordering::Relaxed);
        let rows = Rows { all: Arc::clone(&self.rows), count };
        let mut entries = self.entries();
        // Those that were used longest ago make way; the last one is this window's own.
        while self.rows.load(Ordering::Relaxed) > MAX_ROWS && entries.len() > 1 {
            entries.pop_lru();
        }
        if self.rows.load(Ordering::Relaxed) > MAX_ROWS {
            return None;
        }
        drop(entries);
        Some(Read { window: Arc::clone(window), at: self.clock.now(), _rows: rows })
    }

    /// Drops a window.
    pub(super) fn forget(&self, grant: &TokenGrant, query: &TransactionsQuery) {
        self.entries().pop(&Key::new(grant, query));
    }
}
