//! Where entries are kept until Plaid has them.

use super::entry::{Entry, Lane};
use crate::error::Source;
use async_trait::async_trait;
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// An entry as a store keeps it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Kept {
    /// Names the entry in its store; a later entry has a higher number.
    pub number: u64,
    /// What is to be told.
    pub entry: Entry,
}

impl Kept {
    /// An entry under its number.
    #[must_use]
    pub fn new(number: u64, entry: Entry) -> Self {
        Self { number, entry }
    }
}

/// Keeps entries until Plaid has them.
///
/// A table with a rising number, the lane and the entry as JSON is enough; its index is
/// `(lane, number)`. The rows hold access tokens: keep them as you keep secrets. One
/// [`Notifier`](super::Notifier) works on one store.
#[async_trait]
pub trait NotificationStore: Send + Sync + fmt::Debug {
    /// Keeps entries, all or none, in this order. When it returns, they survive a crash.
    ///
    /// # Errors
    /// When the store is out of reach or full.
    async fn append(&self, entries: &[Entry]) -> Result<(), Source>;

    /// The oldest entries of a lane, in order, at most so many.
    ///
    /// # Errors
    /// When the store is out of reach.
    async fn next_batch(&self, lane: Lane, at_most: usize) -> Result<Vec<Kept>, Source>;

    /// Forgets entries: Plaid has them, or will not take them. Unknown numbers are no error.
    ///
    /// # Errors
    /// When the store is out of reach; the entries are told again then.
    async fn done(&self, lane: Lane, numbers: &[u64]) -> Result<(), Source>;

    /// How many entries it keeps.
    ///
    /// # Errors
    /// When the store is out of reach.
    async fn waiting(&self) -> Result<usize, Source>;
}

/// A store in memory: for tests, and for banks that can do without what a crash loses.
///
/// It is bounded: when it is full, it refuses.
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
    /// A store for at most so many entries.
    #[must_use]
    pub fn with_capacity(entries: usize) -> Self {
        Self { capacity: entries, rows: Arc::default() }
    }

    /// Every entry that it keeps, lane by lane.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.locked(|rows| rows.lanes.iter().flat_map(BTreeMap::values).cloned().collect())
    }

    fn locked<T>(&self, work: impl FnOnce(&mut Rows) -> T) -> T {
        work(&mut self.rows.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Default for MemoryNotificationStore {
    /// A store for 100,000 entries.
    fn default() -> Self {
        Self::with_capacity(100_000)
    }
}

#[async_trait]
impl NotificationStore for MemoryNotificationStore {
    async fn append(&self, entries: &[Entry]) -> Result<(), Source> {
        self.locked(|rows| {
            let held: usize = rows.lanes.iter().map(BTreeMap::len).sum();
            if held.saturating_add(entries.len()) > self.capacity {
                return Err(format!("the store is full with {held} entries").into());
            }
            for entry in entries {
                rows.last += 1;
                rows.lanes[entry.lane() as usize].insert(rows.last, entry.clone());
            }
            Ok(())
        })
    }

    async fn next_batch(&self, lane: Lane, at_most: usize) -> Result<Vec<Kept>, Source> {
        Ok(self.locked(|rows| {
            let oldest = rows.lanes[lane as usize].iter().take(at_most);
            oldest.map(|(number, entry)| Kept::new(*number, entry.clone())).collect()
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
