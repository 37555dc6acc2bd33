//! The context of a command: the store, the clock and the output format.

use crate::{
    cli::Common,
    database,
    failure::{Failure, Result},
};
use chrono::{DateTime, Utc};
use px_core::{Clock, SystemClock};
use px_items::store::{ItemRecord, Store};
use px_types::ItemId;
use std::sync::Arc;

/// The context of a command.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) json: bool,
}

impl Context {
    /// Opens the database. `IfMissing::Create` creates an SQLite database and its key.
    pub(crate) async fn open(common: &Common, if_missing: database::IfMissing) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let store = database::open(common, &*clock, if_missing).await?;
        Ok(Self { store, clock, json: common.json })
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Returns an existing Item.
    pub(crate) async fn item(&self, id: &ItemId) -> Result<ItemRecord> {
        self.store.item(id).await?.ok_or_else(|| no_item(id))
    }
}

/// Returns the failure for an unknown Item.
pub(crate) fn no_item(id: &ItemId) -> Failure {
    Failure::not_found(format!("there is no Item {id}; `px items` lists them"))
}
