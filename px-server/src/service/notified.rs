//! Notifications that were handed on, by their ids: each is handed on once, however it was signed.

use crate::webhook::{Replays, State};
use chrono::{DateTime, TimeDelta, Utc};
use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Maximum number of notifications that are remembered.
const MAX_NOTIFICATIONS: usize = 10_000;
/// Time for which one is remembered. Its sender repeats it for a day.
const RETENTION: TimeDelta = TimeDelta::hours(25);

/// The notifications of this process.
pub(super) struct Notified(Mutex<Replays>);

/// A notification that is being handed on; forgotten when dropped before [`done`](Self::done).
pub(super) struct Handing<'n> {
    notified: &'n Notified,
    id: Option<&'n str>,
}

impl Notified {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Replays::new(MAX_NOTIFICATIONS)))
    }

    /// Begins to hand a notification on, or returns how far it was handed on before.
    pub(super) fn begin<'n>(
        &'n self,
        id: &'n str,
        now: DateTime<Utc>,
    ) -> Result<Handing<'n>, State> {
        match self.lock().begin(id, now + RETENTION, now) {
            None => Ok(Handing { notified: self, id: Some(id) }),
            Some(state) => Err(state),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Replays> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handing<'_> {
    /// It was handed on: from now on a copy of it is not.
    pub(super) fn done(mut self) {
        if let Some(id) = self.id.take() {
            self.notified.lock().done(id);
        }
    }
}

impl Drop for Handing<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.notified.lock().remove(id);
        }
    }
}

impl fmt::Debug for Notified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notified")
    }
}
