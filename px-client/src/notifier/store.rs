//! The store of entries that Plaid has not accepted yet.

use super::entry::{Entry, Lane};
use crate::error::Source;
use async_trait::async_trait;
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// A stored entry.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StoredEntry {
    /// The number of the entry in its store. A later entry has a higher number.
    pub number: u64,
    /// The entry.
    pub entry: Entry,
}

impl StoredEntry {
    /// Returns a stored entry with its number.
    #[must_use]
    pub fn new(number: u64, entry: Entry) -> Self {
        Self { number, entry }
    }
}

/// A store of entries that Plaid has not accepted yet.
///
/// A table with an ascending number, the lane and the entry as JSON is enough; its index is
/// `(lane, number)`. The rows contain access tokens and must be protected as secrets. A store is used
/// by one [`Notifier`](super::Notifier).
#[async_trait]
pub trait NotificationStore: Send + Sync + fmt::Debug {
    /// Stores all entries or none, in this order. Once it has returned they survive a crash.
    ///
    /// # Errors
    /// If the store is out of reach or full.
    async fn append(&self, entries: &[Entry]) -> Result<(), Source>;

    /// Returns the oldest entries of a lane, at most `at_most`, in order.
    ///
    /// # Errors
    /// If the store is out of reach.
    async fn next_batch(&self, lane: Lane, at_most: usize) -> Result<Vec<StoredEntry>, Source>;

    /// Deletes entries that Plaid accepted or refused for good. Unknown numbers are ignored.
    ///
    /// # Errors
    /// If the store is out of reach. Then the entries are sent again.
    async fn done(&self, lane: Lane, numbers: &[u64]) -> Result<(), Source>;

    /// Returns the number of stored entries.
    ///
    /// # Errors
    /// If the store is out of reach.
    async fn waiting(&self) -> Result<usize, Source>;
}

/// A bounded store in memory, for tests. A crash loses its entries.
#[derive(Clone, Debug)]
pub struct MemoryNotificationStore {
    capacity: usize,
    rows: Arc<Mutex<Rows>>,
}

#[derive(Debug, Default)]
struct Rows {
    last: u64,
    lanes: [BTreeMap<u64, Entry>; 3],
}

impl MemoryNotificationStore {
    /// Returns a store for at most `entries` entries. It refuses further ones.
    #[must_use]
    pub fn with_capacity(entries: usize) -> Self {
        Self { capacity: entries, rows: Arc::default() }
    }

    /// Returns all entries, lane by lane.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.locked(|rows| rows.lanes.iter().flat_map(BTreeMap::values).cloned().collect())
    }

    fn locked<T>(&self, work: impl FnOnce(&mut Rows) -> T) -> T {
        work(&mut self.rows.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Default for MemoryNotificationStore {
    /// Returns a store for at most 100,000 entries.
    fn default() -> Self {
        Self::with_capacity(100_000)
    }
}

#[async_trait]
impl NotificationStore for MemoryNotificationStore {
    async fn append(&self, entries: &[Entry]) -> Result<(), Source> {
        self.locked(|rows| {
            let stored: usize = rows.lanes.iter().map(BTreeMap::len).sum();
            if stored.saturating_add(entries.len()) > self.capacity {
                return Err(format!("the store is full with {stored} entries").into());
            }
            for entry in entries {
                rows.last += 1;
                rows.lanes[entry.lane() as usize].insert(rows.last, entry.clone());
            }
            Ok(())
        })
    }

    async fn next_batch(&self, lane: Lane, at_most: usize) -> Result<Vec<StoredEntry>, Source> {
        Ok(self.locked(|rows| {
            let oldest = rows.lanes[lane as usize].iter().take(at_most);
            oldest.map(|(number, entry)| StoredEntry::new(*number, entry.clone())).collect()
        }))
    }

    async fn done(&self, lane: Lane, numbers: &[u64]) -> Result<(), Source> {
        self.locked(|rows| {
            for number in numbers {
                rows.lanes[lane as usize].remove(number);
            }
        });
        Ok(())
    }

    async fn waiting(&self) -> Result<usize, Source> {
        Ok(self.locked(|rows| rows.lanes.iter().map(BTreeMap::len).sum()))
    }
}
