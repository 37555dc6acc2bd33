//! Storage of grants: [`GrantStore`], and an implementation in memory.
//!
//! A grant is one record, and every change is one compare-and-swap. A store therefore needs neither
//! transactions across calls nor locks that outlive a call.

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

/// Error of a grant store. It is logged, and the response is 503, never 401.
pub type StoreError = Box<dyn StdError + Send + Sync>;

/// A record with its version.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VersionedGrant {
    /// The record.
    pub record: Arc<GrantRecord>,
    /// The version, which changes with each swap.
    pub version: u64,
}

impl VersionedGrant {
    /// Creates a version of a record.
    #[must_use]
    pub fn new(record: GrantRecord, version: u64) -> Self {
        Self { record: Arc::new(record), version }
    }
}

/// The outcome of a compare-and-swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swap {
    /// The new record was stored.
    Done,
    /// The record was changed or deleted since it was read. Nothing was stored.
    Lost,
}

/// Storage of grants.
///
/// Test an implementation with [`conformance::check`]. A method must never return "not found" for a
/// record that it could not read; that is an error.
///
/// In SQL, use two tables: `grants (id PRIMARY KEY, version, principal, keep_until, record)` with
/// the record as JSON, and `grant_digests (digest PRIMARY KEY, grant_id)`. A swap is one
/// transaction that begins with `UPDATE grants SET … WHERE id = ? AND version = ?`; if no row
/// changes, it is [`Swap::Lost`].
#[async_trait]
pub trait GrantStore: Send + Sync + 'static {
    /// Stores a new grant, findable by its id and each of its digests.
    ///
    /// # Errors
    /// If the store fails, or already has the id or one of the digests.
    async fn create(&self, record: GrantRecord) -> Result<(), StoreError>;

    /// Returns the grant with a digest. Returns `None` if there is none.
    ///
    /// # Errors
    /// If the store fails.
    async fn find(&self, digest: &Digest) -> Result<Option<VersionedGrant>, StoreError>;

    /// Returns the grant with an id. Returns `None` if there is none.
    ///
    /// # Errors
    /// If the store fails.
    async fn find_by_id(&self, id: &str) -> Result<Option<VersionedGrant>, StoreError>;

    /// Returns the grants of a user.
    ///
    /// # Errors
    /// If the store fails.
    async fn find_by_principal(
        &self,
        principal: &UserId,
    ) -> Result<Vec<VersionedGrant>, StoreError>;

    /// Replaces the record with the same id, and its digests, if its version is still
    /// `expected`. Atomic.
    ///
    /// # Errors
    /// If the store fails. The record may have been replaced or not.
    async fn swap(&self, expected: u64, record: GrantRecord) -> Result<Swap, StoreError>;

    /// Deletes every record with a [`retain_until`](GrantRecord::retain_until) at or before `now`,
    /// and returns their number.
    ///
    /// # Errors
    /// If the store fails.
    async fn purge(&self, now: DateTime<Utc>) -> Result<u64, StoreError>;
}

/// A grant store in memory, for tests and for a bank with one process that may lose its grants.
///
/// It deletes expired grants itself, once in 1,024 creations.
#[derive(Debug, Default)]
pub struct MemoryGrantStore(Mutex<Grants>);

#[derive(Debug, Default)]
struct Grants {
    records: HashMap<String, VersionedGrant>,
    by_digest: HashMap<[u8; 32], String>,
    by_principal: HashMap<UserId, Vec<String>>,
    /// Number of creations until the next purge.
    until_purge: usize,
}

/// Number of creations between two purges of the store in memory.
const CREATIONS_PER_PURGE: usize = 1024;

impl MemoryGrantStore {
    /// Creates an empty store.
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
        let over = |stored: &&VersionedGrant| stored.record.retain_until() <= now;
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
            return Err("the store already has the grant or one of its digests".into());
        }
        grants.until_purge = match grants.until_purge {
            0 => {
                grants.purge(record.granted_at);
                CREATIONS_PER_PURGE
            }
            left => left - 1,
        };
        grants.index(&record);
        let ids = grants.by_principal.entry(record.principal.clone()).or_default();
        ids.push(record.id.clone());
        let id = record.id.clone();
        grants.records.insert(id, VersionedGrant::new(record, 0));
        Ok(())
    }

    async fn find(&self, digest: &Digest) -> Result<Option<VersionedGrant>, StoreError> {
        let grants = self.grants();
        let id = grants.by_digest.get(digest.as_bytes());
        Ok(id.and_then(|id| grants.records.get(id)).cloned())
    }

    async fn find_by_id(&self, id: &str) -> Result<Option<VersionedGrant>, StoreError> {
        Ok(self.grants().records.get(id).cloned())
    }

    async fn find_by_principal(
        &self,
        principal: &UserId,
    ) -> Result<Vec<VersionedGrant>, StoreError> {
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
        let versioned = VersionedGrant::new(record, expected + 1);
        grants.records.insert(id, versioned);
        Ok(Swap::Done)
    }

    async fn purge(&self, now: DateTime<Utc>) -> Result<u64, StoreError> {
        Ok(self.grants().purge(now))
    }
}
