//! What commands work with: the store, the clock, how to print.

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

/// What commands work with.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) json: bool,
}

impl Context {
    /// Opens the database. `Make::IfMissing` makes an SQLite database and its key.
    pub(crate) async fn open(common: &Common, make: database::Make) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let store = database::open(common, &*clock, make).await?;
        Ok(Self { store, clock, json: common.json })
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// An Item that must be there.
    pub(crate) async fn item(&self, id: &ItemId) -> Result<ItemRecord> {
        self.store.item(id).await?.ok_or_else(|| no_item(id))
    }
}

/// What is said of an Item that is not there.
pub(crate) fn no_item(id: &ItemId) -> Failure {
    Failure::not_found(format!("there is no Item {id}; `px items` lists them"))
}
