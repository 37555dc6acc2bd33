//! Cache of transaction windows, for banks that do not filter accounts.
//!
//! Without it, each page would read the whole window. Entries are short-lived and bounded, and the
//! first page of a pagination always reads from the bank, so the cache never hides a change.

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

/// Time for which a window is cached after it was read.
const TTL: TimeDelta = TimeDelta::minutes(2);
/// Maximum number of cached windows.
const MAX_WINDOWS: NonZeroUsize = NonZeroUsize::new(1024).unwrap();
/// Maximum number of rows of all windows; about 100 MB. A window beyond it is read for each page.
const MAX_ROWS: usize = 100_000;

/// The permitted rows of a window.
#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) transactions: Vec<Transaction>,
    pub(super) securities: Vec<Security>,
}

impl Window {
    /// Returns a page, with the securities that its rows refer to.
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

/// Key of a cached window. Two grants over the same accounts of a user see the same rows.
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

/// A window with the time at which it was read.
#[derive(Debug)]
pub(super) struct CachedWindow {
    window: Arc<Window>,
    read_at: DateTime<Utc>,
    _rows: CachedRows,
}

pub(super) type Entry = Arc<tokio::sync::Mutex<Option<CachedWindow>>>;

/// The cached windows of a service.
pub(super) struct WindowCache {
    clock: Arc<dyn Clock>,
    entries: Mutex<LruCache<Key, (Entry, DateTime<Utc>)>>,
    rows: Arc<AtomicUsize>,
}

impl fmt::Debug for WindowCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WindowCache").field("rows", &self.rows).finish_non_exhaustive()
    }
}

/// Rows that count against [`MAX_ROWS`] until this is dropped.
#[derive(Debug)]
struct CachedRows {
    all: Arc<AtomicUsize>,
    count: usize,
}

impl Drop for CachedRows {
    fn drop(&mut self) {
        self.all.fetch_sub(self.count, Ordering::Relaxed);
    }
}

impl WindowCache {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, entries: Mutex::new(LruCache::new(MAX_WINDOWS)), rows: Arc::default() }
    }

    fn entries(&self) -> MutexGuard<'_, LruCache<Key, (Entry, DateTime<Utc>)>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the cache entry of a window, and drops expired entries.
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

    /// Returns the cached window if it has not expired.
    pub(super) fn fresh(&self, cached: &Option<CachedWindow>) -> Option<Arc<Window>> {
        let cached = cached.as_ref()?;
        (self.clock.now() - cached.read_at < TTL).then(|| Arc::clone(&cached.window))
    }

    /// Returns a window as a cache entry. Returns `None` if it exceeds the row limit.
    pub(super) fn cache(&self, window: &Arc<Window>) -> Option<CachedWindow> {
        let count = window.transactions.len();
        self.rows.fetch_add(count, Ordering::Relaxed);
        let rows = CachedRows { all: Arc::clone(&self.rows), count };
        let mut entries = self.entries();
        // Evicts the least recently used windows. The last entry is the one of this window.
        while self.rows.load(Ordering::Relaxed) > MAX_ROWS && entries.len() > 1 {
            entries.pop_lru();
        }
        if self.rows.load(Ordering::Relaxed) > MAX_ROWS {
            return None;
        }
        drop(entries);
        Some(CachedWindow { window: Arc::clone(window), read_at: self.clock.now(), _rows: rows })
    }

    /// Removes a window.
    pub(super) fn remove(&self, grant: &TokenGrant, query: &TransactionsQuery) {
        self.entries().pop(&Key::new(grant, query));
    }
}
