//! When applications read: noted beside the answer, at most once a minute for each application,
//! Item and kind of data.
//!
//! A read compares in memory and goes on. What is due is written by a task of its own, all of it
//! together, however many reads came while the last was written. When the process is killed, what
//! it had not written yet is not noted.

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

/// A read is noted again after that time.
const EVERY: TimeDelta = TimeDelta::seconds(60);
/// When so many are remembered, those that are old are forgotten.
const REMEMBERED: usize = 65_536;

/// Notes reads.
pub(super) struct Reads {
    store: Arc<dyn Store>,
    state: Mutex<State>,
    /// Held while some are written.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    noted: HashMap<(ItemId, ApplicationId, DataKind), DateTime<Utc>>,
    waiting: Vec<DataRead>,
    /// Whether a task is there that writes what waits.
    served: bool,
}

impl Reads {
    pub(super) fn over(store: Arc<dyn Store>) -> Self {
        Self { store, state: Mutex::default(), writing: tokio::sync::Mutex::default() }
    }

    /// Notes that an application read some kinds of data.
    pub(super) fn note(
        self: &Arc<Self>,
        session: &Session,
        kinds: impl IntoIterator<Item = DataKind>,
        now: DateTime<Utc>,
    ) {
        let mut state = self.state();
        for kind in kinds {
            let (item, application) = (&session.record.id, &session.connection.application_id);
            let key = (item.clone(), application.clone(), kind);
            if state.noted.get(&key).is_some_and(|last| (now - *last).abs() < EVERY) {
                continue;
            }
            let (item_id, application_id) = (key.0.clone(), key.1.clone());
            state.waiting.push(DataRead { item_id, application_id, kind, at: now });
            state.remember(key, now);
        }
        if state.waiting.is_empty() || state.served {
            return;
        }
        // Without a runtime it waits for whoever asks for the times.
        if let Ok(runtime) = Handle::try_current() {
            state.served = true;
            let reads = Arc::clone(self);
            runtime.spawn(async move { reads.serve().await });
        }
    }

    async fn serve(&self) {
        loop {
            self.flush().await;
            let mut state = self.state();
            if state.waiting.is_empty() {
                state.served = false;
                return;
            }
        }
    }

    /// Writes what waits; what another task is writing is written then, too.
    pub(super) async fn flush(&self) {
        let _writing = self.writing.lock().await;
        let waiting = std::mem::take(&mut self.state().waiting);
        if waiting.is_empty() {
            return;
        }
        if let Err(error) = self.store.note_reads(&waiting).await {
            tracing::warn!(%error, reads = waiting.len(), "when data was read could not be noted");
            // The next read notes it.
            let mut state = self.state();
            for read in waiting {
                state.noted.remove(&(read.item_id, read.application_id, read.kind));
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remember(&mut self, key: (ItemId, ApplicationId, DataKind), now: DateTime<Utc>) {
        if self.noted.len() >= REMEMBERED {
            self.noted.retain(|_, last| (now - *last).abs() < EVERY);
            if self.noted.len() >= REMEMBERED {
                self.noted.clear();
            }
        }
        self.noted.insert(key, now);
    }
}

impl fmt::Debug for Reads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reads").finish_non_exhaustive()
    }
}

/// The kinds of data that are in accounts as an application gets them.
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
