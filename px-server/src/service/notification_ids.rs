//! Ids of delivered notifications: each is delivered once, however it was signed.

use crate::webhook::{ReplayCache, ReplayState};
use chrono::{DateTime, TimeDelta, Utc};
use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Maximum number of ids that are remembered.
const MAX_NOTIFICATIONS: usize = 10_000;
/// Time for which an id is remembered. The sender repeats a notification for a day.
const RETENTION: TimeDelta = TimeDelta::hours(25);

/// The notification ids that this process remembers.
pub(super) struct NotificationIds(Mutex<ReplayCache>);

/// A delivery in progress. The id is forgotten if it is dropped before [`done`](Self::done).
pub(super) struct Delivery<'n> {
    ids: &'n NotificationIds,
    id: Option<&'n str>,
}

impl NotificationIds {
    pub(super) fn new() -> Self {
        Self(Mutex::new(ReplayCache::new(MAX_NOTIFICATIONS)))
    }

    /// Begins a delivery. Returns the state of the earlier delivery if the id is known.
    pub(super) fn begin<'n>(
        &'n self,
        id: &'n str,
        now: DateTime<Utc>,
    ) -> Result<Delivery<'n>, ReplayState> {
        match self.lock().begin(id, now + RETENTION, now) {
            None => Ok(Delivery { ids: self, id: Some(id) }),
            Some(state) => Err(state),
        }
    }

    fn lock(&self) -> MutexGuard<'_, ReplayCache> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Delivery<'_> {
    /// Marks the delivery as done: further copies are not delivered.
    pub(super) fn done(mut self) {
        if let Some(id) = self.id.take() {
            self.ids.lock().done(id);
        }
    }
}

impl Drop for Delivery<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.ids.lock().remove(id);
        }
    }
}

impl fmt::Debug for NotificationIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NotificationIds")
    }
}
