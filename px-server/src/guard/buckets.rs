//! Token buckets by key: the one algorithm behind every limit of a rate.

use chrono::{DateTime, TimeDelta, Utc};
use lru::LruCache;
use px_core::{Clock, SystemClock};
use std::{
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Keys that are remembered unless set.
const DEFAULT_KEYS: usize = 100_000;

/// A bounded number of token buckets. The one that was silent for longest is forgotten first.
#[derive(Debug)]
pub(super) struct Buckets<K: Hash + Eq> {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) max_keys: usize,
    /// The time that one call costs.
    interval: TimeDelta,
    /// The time that a full bucket is worth.
    burst: TimeDelta,
    /// Per key, when its bucket will be full again.
    full_at: Mutex<LruCache<K, DateTime<Utc>>>,
}

impl<K: Hash + Eq> Buckets<K> {
    pub(super) fn new(calls: u32, period: TimeDelta) -> Self {
        let calls = calls.clamp(1, i32::MAX as u32) as i32;
        let interval = period / calls;
        Self {
            clock: Arc::new(SystemClock::new()),
            max_keys: DEFAULT_KEYS,
            interval,
            // Not the period: the interval is rounded down, and the last call of a full
            // bucket must not be missing.
            burst: interval * calls,
            // A bounded one would take the memory of all keys at once.
            full_at: Mutex::new(LruCache::unbounded()),
        }
    }

    fn full_at(&self) -> MutexGuard<'_, LruCache<K, DateTime<Utc>>> {
        self.full_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one call of a bucket, or says how long until there is one. That takes none.
    pub(super) fn take(&self, key: K) -> Result<(), Duration> {
        let now = self.clock.now();
        let mut full_at = self.full_at();
        if full_at.len() >= self.max_keys && !full_at.contains(&key) {
            full_at.pop_lru();
        }
        let bucket = full_at.get_or_insert_mut(key, || now);
        // A clock that was set back must not lock anyone out for longer than a full bucket.
        let filled = (*bucket).clamp(now, now + self.burst);
        let spent = filled + self.interval;
        let wait = spent - (now + self.burst);
        if wait > TimeDelta::zero() {
            *bucket = filled;
            return Err(wait.to_std().unwrap_or_default());
        }
        *bucket = spent;
        Ok(())
    }

    /// Whether a bucket has a call left, else how long until it has. Takes none.
    pub(super) fn peek(&self, key: &K) -> Result<(), Duration> {
        let now = self.clock.now();
        let full_at = self.full_at();
        let Some(bucket) = full_at.peek(key) else { return Ok(()) };
        let filled = (*bucket).clamp(now, now + self.burst);
        let wait = filled + self.interval - (now + self.burst);
        if wait > TimeDelta::zero() { Err(wait.to_std().unwrap_or_default()) } else { Ok(()) }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.full_at().len()
    }
}
