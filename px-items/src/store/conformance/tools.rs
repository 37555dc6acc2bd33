//! Tools for checks of failures: direct access to rows, keys that can be lost, and clocks.

use crate::{
    store::Store,
    vault::{Envelope, FileKeys, Sealed, VaultError},
};
use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use px_core::{Clock, SharedClock, SharedClockError, SystemClock, SystemRandom};
use std::{
    any::Any,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::watch;
use zeroize::Zeroizing;

/// Direct access to the database of an SQL store.
///
/// `migrations` defines the names of tables and columns.
#[async_trait]
pub trait RawSql: Send + Sync {
    /// Executes a statement.
    async fn execute(&self, sql: &str);

    /// Returns the first column of the first row, as text.
    async fn text(&self, sql: &str) -> Option<String>;

    /// Blocks all other writers of the table of Items until the guard is dropped.
    async fn block(&self) -> Box<dyn Any + Send>;
}

/// Keys that can be lost and found again.
pub struct LosableKeys(Mutex<Keys>);

struct Keys {
    all: Vec<FileKeys>,
    lost: Vec<String>,
}

impl Default for LosableKeys {
    fn default() -> Self {
        Self(Mutex::new(Keys { all: vec![key(1)], lost: Vec::new() }))
    }
}

impl LosableKeys {
    /// Loses the sealing key. Another key seals from now on.
    pub fn lose(&self) {
        let mut keys = self.keys();
        let lost = format!("key-{}", keys.all.len());
        keys.lost.push(lost);
        let next = key(keys.all.len() + 1);
        keys.all.push(next);
    }

    /// Makes all lost keys available again.
    pub fn find(&self) {
        self.keys().lost.clear();
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(number: usize) -> FileKeys {
    FileKeys::generate(&format!("key-{number}"), Arc::new(SystemRandom)).unwrap()
}

impl Envelope for LosableKeys {
    fn seal(&self, plain: &[u8], row: &str) -> Result<Sealed, VaultError> {
        self.keys().all.last().unwrap().seal(plain, row)
    }

    fn open(&self, sealed: &Sealed, row: &str) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let keys = self.keys();
        if keys.lost.contains(&sealed.key_id) {
            return Err(VaultError::UnknownKey(sealed.key_id.clone()));
        }
        let unknown = || VaultError::UnknownKey(sealed.key_id.clone());
        let number = sealed.key_id.strip_prefix("key-").and_then(|text| text.parse::<usize>().ok());
        keys.all.get(number.ok_or_else(unknown)? - 1).ok_or_else(unknown)?.open(sealed, row)
    }

    fn is_current(&self, sealed: &Sealed) -> bool {
        self.keys().all.last().is_some_and(|key| key.is_current(sealed))
    }
}

impl fmt::Debug for LosableKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LosableKeys")
    }
}

/// A clock with sleeps that end when a check advances it.
///
/// Sleeps of less than a second are real. Stores use them between attempts.
#[derive(Clone, Debug)]
pub struct StepClock(watch::Sender<Duration>);

impl Default for StepClock {
    fn default() -> Self {
        Self(watch::Sender::new(Duration::ZERO))
    }
}

impl StepClock {
    /// Advances the clock.
    pub fn advance(&self, by: Duration) {
        self.0.send_modify(|elapsed| *elapsed += by);
    }
}

#[async_trait]
impl Clock for StepClock {
    fn now(&self) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + self.elapsed()
    }

    fn elapsed(&self) -> Duration {
        *self.0.borrow()
    }

    async fn sleep(&self, time: Duration) {
        if time < Duration::from_secs(1) {
            SystemClock::new().sleep(time).await;
            return;
        }
        let mut elapsed = self.0.subscribe();
        let end = *elapsed.borrow() + time;
        // The sender lives as long as this clock.
        let _ = elapsed.wait_for(|elapsed| *elapsed >= end).await;
    }
}

/// A shared clock that a check sets. Its initial time is far in the future.
#[derive(Clone, Debug)]
pub struct SharedCalendar(Arc<Mutex<DateTime<Utc>>>);

impl Default for SharedCalendar {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(DateTime::UNIX_EPOCH + TimeDelta::days(365 * 150))))
    }
}

impl SharedCalendar {
    /// Sets the time.
    pub fn set(&self, now: DateTime<Utc>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

#[async_trait]
impl SharedClock for SharedCalendar {
    async fn now(&self) -> Result<DateTime<Utc>, SharedClockError> {
        Ok(*self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A store with the tools of its fixture.
pub(super) struct Bench {
    pub(super) store: Arc<dyn Store>,
    pub(super) sql: Option<Arc<dyn RawSql>>,
    pub(super) keys: Option<Arc<LosableKeys>>,
    pub(super) clock: Option<StepClock>,
    pub(super) calendar: Option<SharedCalendar>,
}
