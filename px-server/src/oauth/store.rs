//! Where grants are kept: [`GrantStore`], and one in memory.
//!
//! A grant is one record, and every change is one compare-and-swap, so that a store needs
//! neither transactions nor locks that outlive a call.

pub mod conformance;

use super::{Digest, GrantRecord};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use px_types::UserId;
use std::{
    collections::HashMap,
    error::Error as StdError,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What a store failed with. It is logged and answered 503, never 401.
pub type StoreError = Box<dyn StdError + Send + Sync>;

/// A record, and which of its versions it is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Versioned {
    /// The record.
    pub record: Arc<GrantRecord>,
    /// Changes with each swap.
    pub version: u64,
}

impl Versioned {
    /// A version of a record.
    #[must_use]
    pub fn new(record: GrantRecord, version: u64) -> Self {
        Self { record: Arc::new(record), version }
    }
}

/// How a compare-and-swap ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swap {
    /// The record is the new one.
    Done,
    /// Someone else changed or dropped the record since it was read; nothing was stored.
    Lost,
}

/// Keeps grants.
///
/// [`conformance::check`] tells whether an implementation keeps what this page promises.
/// No method may answer "not there" for what it could not read: that is an error.
///
/// In SQL it is two tables: `grants (id PRIMARY KEY, version, principal, keep_until, record)`
/// with the record as JSON, and `grant_digests (digest PRIMARY KEY, grant_id)`. A swap is one
/// transaction that begins with `UPDATE grants SET … WHERE id = ? AND version = ?`; no row
/// changed is [`Swap::Lost`].
#[async_trait]
pub trait GrantStore: Send + Sync + 'static {
    /// Stores a new grant, to be found by its id and each of its digests.
    ///
    /// # Errors
    /// When the store fails, or knows the id or one of the digests already.
    async fn create(&self, record: GrantRecord) -> Result<(), StoreError>;

    /// The grant that has a digest.
    ///
    /// # Errors
    /// When the store fails.
    async fn find(&self, digest: &Digest) -> Result<Option<Versioned>, StoreError>;

    /// The grant with an id.
    ///
    /// # Errors
    /// When the store fails.
    async fn find_by_id(&self, id: &str) -> Result<Option<Versioned>, StoreError>;

    /// The grants of a person.
    ///
    /// # Errors
    /// When the store fails.
    async fn of_principal(&self, principal: &UserId) -> Result<Vec<Versioned>, StoreError>;

    /// Replaces the record with the same id, and what it is found by, if it still has the
    /// version that was read. Atomic.
    ///
    /// # Errors
    /// When the store fails; whether the record was replaced is then unknown.
    async fn swap(&self, expected: u64, record: GrantRecord) -> Result<Swap, StoreError>;

    /// Drops every record whose [`keep_until`](GrantRecord::keep_until) is not after `now`,
    /// and says how many.
    ///
    /// # Errors
    /// When the store fails.
    async fn purge(&self, now: DateTime<Utc>) -> Result<u64, StoreError>;
}

/// A store in memory: for tests, and for a bank of one process that may forget.
///
/// It drops what is over by itself, now and then, when a grant is created.
#[derive(Debug, Default)]
pub struct MemoryGrantStore(Mutex<Grants>);

#[derive(Debug, Default)]
struct Grants {
    records: HashMap<String, Versioned>,
    by_digest: HashMap<[u8; 32], String>,
    by_principal: HashMap<UserId, Vec<String>>,
    /// Counts creations down to the next purge.
    until_purge: usize,
}

/// How many grants are created between two purges of the store in memory.
const PURGE_EVERY: usize = 1024;

impl MemoryGrantStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn grants(&self) -> MutexGuard<'_, Grants> {
        // Each change is complete before anything can panic, so a poisoned lock is sound.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Grants {
    fn index(&mut self, record: &GrantRecord) {
        for digest in record.digests() {
            self.by_digest.insert(*digest.as_bytes(), record.id.clone());
        }
    }

    fn unindex(&mut self, record: &GrantRecord) {
        for digest in record.digests() {
            self.by_digest.remove(digest.as_bytes());
        }
    }

    fn purge(&mut self, now: DateTime<Utc>) -> u64 {
        let over = |stored: &&Versioned| stored.record.keep_until() <= now;
        let gone: Vec<_> = self.records.values().filter(over).map(|v| v.record.clone()).collect();
        for record in &gone {
            self.unindex(record);
            self.records.remove(&record.id);
            if let Some(ids) = self.by_principal.get_mut(&record.principal) {
                ids.retain(|id| *id != record.id);
                if ids.is_empty() {
                    self.by_principal.remove(&record.principal);
                }
            }
        }
        gone.len() as u64
    }
}

#[async_trait]
impl GrantStore for MemoryGrantStore {
    async fn create(&self, record: GrantRecord) -> Result<(), StoreError> {
        let mut grants = self.grants();
        let known = |digest: &Digest| grants.by_digest.contains_key(digest.as_bytes());
        if grants.records.contains_key(&record.id) || record.digests().iter().any(known) {
            return Err("the grant, or one of its digests, is stored already".into());
        }
        grants.until_purge = match grants.until_purge {
            0 => {
                grants.purge(record.granted_at);
                PURGE_EVERY
            }
            left => left - 1,
        };
        grants.index(&record);
        let ids = grants.by_principal.entry(record.principal.clone()).or_default();
        ids.push(record.id.clone());
        let id = record.id.clone();
        grants.records.insert(id, Versioned::new(record, 0));
        Ok(())
    }

    async fn find(&self, digest: &Digest) -> Result<Option<Versioned>, StoreError> {
        let grants = self.grants();
        let id = grants.by_digest.get(digest.as_bytes());
        Ok(id.and_then(|id| grants.records.get(id)).cloned())
    }

    async fn find_by_id(&self, id: &str) -> Result<Option<Versioned>, StoreError> {
        Ok(self.grants().records.get(id).cloned())
    }

    async fn of_principal(&self, principal: &UserId) -> Result<Vec<Versioned>, StoreError> {
        let grants = self.grants();
        let ids = grants.by_principal.get(principal).into_iter().flatten();
        Ok(ids.filter_map(|id| grants.records.get(id)).cloned().collect())
    }

    async fn swap(&self, expected: u64, record: GrantRecord) -> Result<Swap, StoreError> {
        let mut grants = self.grants();
        let old = match grants.records.get(&record.id) {
            Some(stored) if stored.version == expected => stored.record.clone(),
            _ => return Ok(Swap::Lost),
        };
        grants.unindex(&old);
        grants.index(&record);
        let id = record.id.clone();
        let versioned = Versioned::new(record, expected + 1);
        grants.records.insert(id, versioned);
        Ok(Swap::Done)
    }

    async fn purge(&self, now: DateTime<Utc>) -> Result<u64, StoreError> {
        Ok(self.grants().purge(now))
    }
}
