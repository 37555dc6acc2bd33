//! Times of data access by applications: recorded asynchronously, at most once a minute for each
//! application, Item and kind of data.
//!
//! A read only compares times in memory. A background task writes the pending times, all of them in
//! one statement, however many reads came while the previous ones were written. Times that were not
//! written yet when the process is killed are lost.

use super::read::Session;
use crate::store::{DataKind, DataRead, Store};
use chrono::{DateTime, TimeDelta, Utc};
use px_types::{
    ApplicationId, ItemId,
    model::account::{Account, AccountKind},
};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::runtime::Handle;

/// Minimum interval between two records of the same access.
const MIN_RECORD_INTERVAL: TimeDelta = TimeDelta::seconds(60);
/// Number of remembered accesses above which old ones are dropped.
const MAX_REMEMBERED: usize = 65_536;

/// Recorder of data accesses.
pub(super) struct AccessRecorder {
    store: Arc<dyn Store>,
    state: Mutex<State>,
    /// Lock that is held while accesses are written.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    recorded: HashMap<(ItemId, ApplicationId, DataKind), DateTime<Utc>>,
    pending: Vec<DataRead>,
    /// Whether a task is running that writes the pending accesses.
    is_writing: bool,
}

impl AccessRecorder {
    pub(super) fn over(store: Arc<dyn Store>) -> Self {
        Self { store, state: Mutex::default(), writing: tokio::sync::Mutex::default() }
    }

    /// Records that an application read some kinds of data.
    pub(super) fn record(
        self: &Arc<Self>,
        session: &Session,
        kinds: impl IntoIterator<Item = DataKind>,
        now: DateTime<Utc>,
    ) {
        let mut state = self.state();
        for kind in kinds {
            let (item, application) = (&session.record.id, &session.connection.application_id);
            let key = (item.clone(), application.clone(), kind);
            if state
                .recorded
                .get(&key)
                .is_some_and(|last| (now - *last).abs() < MIN_RECORD_INTERVAL)
            {
                continue;
            }
            let (item_id, application_id) = (key.0.clone(), key.1.clone());
            state.pending.push(DataRead { item_id, application_id, kind, at: now });
            state.remember(key, now);
        }
        if state.pending.is_empty() || state.is_writing {
            return;
        }
        // Without a runtime the accesses wait until the times are requested.
        if let Ok(runtime) = Handle::try_current() {
            state.is_writing = true;
            let recorder = Arc::clone(self);
            runtime.spawn(async move { recorder.write_pending().await });
        }
    }

    async fn write_pending(&self) {
        loop {
            self.flush().await;
            let mut state = self.state();
            if state.pending.is_empty() {
                state.is_writing = false;
                return;
            }
        }
    }

    /// Writes the pending accesses. Waits for a concurrent write.
    pub(super) async fn flush(&self) {
        let _writing = self.writing.lock().await;
        let pending = std::mem::take(&mut self.state().pending);
        if pending.is_empty() {
            return;
        }
        if let Err(error) = self.store.record_reads(&pending).await {
            tracing::warn!(%error, reads = pending.len(), "the times of data access could not be stored");
            // The next read records it again.
            let mut state = self.state();
            for read in pending {
                state.recorded.remove(&(read.item_id, read.application_id, read.kind));
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remember(&mut self, key: (ItemId, ApplicationId, DataKind), now: DateTime<Utc>) {
        if self.recorded.len() >= MAX_REMEMBERED {
            self.recorded.retain(|_, last| (now - *last).abs() < MIN_RECORD_INTERVAL);
            if self.recorded.len() >= MAX_REMEMBERED {
                self.recorded.clear();
            }
        }
        self.recorded.insert(key, now);
    }
}

impl fmt::Debug for AccessRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reads").finish_non_exhaustive()
    }
}

/// Returns the kinds of data that are in the accounts of a response.
pub(super) fn kinds(accounts: &[Account]) -> Vec<DataKind> {
    let mut kinds = vec![DataKind::Balances];
    let mut add = |kind, there: &dyn Fn(&AccountKind) -> bool| {
        if accounts.iter().any(|account| there(&account.kind)) {
            kinds.push(kind);
        }
    };
    add(DataKind::Numbers, &|kind| match kind {
        AccountKind::Depository(depository) => depository.transfer_codes.is_some(),
        _ => false,
    });
    add(DataKind::Liabilities, &|kind| {
        matches!(kind, AccountKind::Credit(_) | AccountKind::Loan(_))
    });
    add(DataKind::Investments, &|kind| match kind {
        AccountKind::Investment(investment) => !investment.holdings.is_empty(),
        _ => false,
    });
    kinds
}
