//! Token buckets by key, the algorithm of all rate limits.

use chrono::{DateTime, TimeDelta, Utc};
use lru::LruCache;
use px_core::{Clock, SystemClock};
use std::{
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Default maximum number of keys.
const DEFAULT_KEYS: usize = 100_000;

/// A bounded number of token buckets. The least recently used bucket is removed first.
#[derive(Debug)]
pub(super) struct Buckets<K: Hash + Eq> {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) max_keys: usize,
    /// The time to refill one call.
    interval: TimeDelta,
    /// The time to refill an empty bucket.
    burst: TimeDelta,
    /// For each key, the time at which its bucket is full.
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
            // Not `period`: the interval is rounded down, and a full bucket must hold exactly
            // `calls`.
            burst: interval * calls,
            // A bounded cache would allocate the memory of all keys at once.
            full_at: Mutex::new(LruCache::unbounded()),
        }
    }

    fn full_at(&self) -> MutexGuard<'_, LruCache<K, DateTime<Utc>>> {
        self.full_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one call from a bucket. If none is left, takes none and returns the time to wait.
    pub(super) fn take(&self, key: K) -> Result<(), Duration> {
        let now = self.clock.now();
        let mut full_at = self.full_at();
        if full_at.len() >= self.max_keys && !full_at.contains(&key) {
            full_at.pop_lru();
        }
        let bucket = full_at.get_or_insert_mut(key, || now);
        // If the clock is set back, no key must wait longer than for a full bucket.
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

    /// Checks that a bucket has a call left, without taking it. Otherwise returns the time to wait.
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
