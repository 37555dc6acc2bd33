//! Status of an Item.

use super::{Items, ItemsError, read::Session};
use crate::{
    health,
    item::Phase,
    store::ItemRecord,
    sync_state::{Freshness, History},
};
use px_types::{
    ItemAccessToken,
    model::{
        item::{Item, ItemUpdateType},
        item_status::{ItemStatus, UpdateStatus},
        product::Product,
    },
};

/// An Item and its status, as an application sees them.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Status {
    /// The Item.
    pub item: Item,
    /// Status in the form of `POST /item/get`.
    pub status: ItemStatus,
    /// Phase of the Item.
    pub phase: Phase,
    /// Freshness of each kind of data that the application reads.
    pub fresh_as_of: Freshness,
    /// Completeness of the history of transactions.
    pub history: HistoryStatus,
}

/// Completeness of the history of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HistoryStatus {
    /// No transactions can be read yet, or the application does not use them.
    NotReady,
    /// The last 30 days are available, the rest is being fetched.
    InitialUpdateComplete,
    /// The whole history is available.
    HistoricalUpdateComplete,
}

impl HistoryStatus {
    /// Returns Plaid's name of the status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotReady => "NOT_READY",
            Self::InitialUpdateComplete => "INITIAL_UPDATE_COMPLETE",
            Self::HistoricalUpdateComplete => "HISTORICAL_UPDATE_COMPLETE",
        }
    }

    pub(super) fn of(record: &ItemRecord) -> Self {
        match record.sync_state.history {
            History::Missing | History::Fetching { recent: false, .. } => Self::NotReady,
            History::Fetching { recent: true, .. } => Self::InitialUpdateComplete,
            History::Complete => Self::HistoricalUpdateComplete,
        }
    }
}

impl Items {
    /// Returns the status of an Item. Succeeds also before any data can be read, and after the
    /// authorization has ended.
    ///
    /// # Errors
    /// - [`InvalidAccessToken`](super::ItemsErrorKind::InvalidAccessToken) if the token is unknown;
    /// - [`NotForPartners`](super::ItemsErrorKind::NotForPartners) if the token belongs to a
    ///   partner;
    /// - [`Unavailable`](super::ItemsErrorKind::Unavailable) or
    ///   [`Internal`](super::ItemsErrorKind::Internal) if the store fails.
    pub async fn status(&self, token: &ItemAccessToken) -> Result<Status, ItemsError> {
        let session = self.session(token).await?;
        let phase = session.record.state.phase().ok_or_else(ItemsError::invalid_access_token)?;
        let history = match session.connection.needs_transactions() {
            true => HistoryStatus::of(&session.record),
            false => HistoryStatus::NotReady,
        };
        let fresh_as_of = session.fresh();
        let mut status = session.status();
        let (record, connection) = (&session.record, &session.connection);
        let now = self.clock.now();
        status.health = Some(health::seen_by(record, connection, now, self.stall_notice_after));
        Ok(Status { item: session.item(), status, phase, fresh_as_of, history })
    }
}

impl Session {
    /// Returns the freshness of the kinds of data that the application reads.
    fn fresh(&self) -> Freshness {
        let all = self.record.sync_state.fresh;
        let uses = |product| self.connection.uses(&product);
        Freshness {
            accounts: all.accounts,
            identities: all.identities.filter(|_| uses(Product::Identity)),
            holdings: all.holdings.filter(|_| uses(Product::Investments)),
            transactions: all.transactions.filter(|_| uses(Product::Transactions)),
        }
    }

    fn item(&self) -> Item {
        let mut item = Item::new(self.record.id.clone());
        item.institution_id = Some(self.record.institution_id.clone());
        // Not the date of the Item: an earlier date would reveal another application.
        item.created_at = Some(self.connection.created_at.into());
        item.webhook.clone_from(&self.connection.webhook);
        item.error = self.error();
        item.update_type = Some(ItemUpdateType::Background);
        item.products =
            self.connection.products.iter().map(|name| Product::from(name.as_str())).collect();
        item.consented_products.clone_from(&item.products);
        item
    }

    fn status(&self) -> ItemStatus {
        let fresh = self.fresh();
        let failed = self.record.sync_state.last_failure.as_ref().map(|failure| failure.at.into());
        let update = |product, at: Option<chrono::DateTime<chrono::Utc>>| {
            self.connection.uses(&product).then(|| {
                let mut update = UpdateStatus::new();
                update.last_successful_update = at.map(Into::into);
                update.last_failed_update = failed;
                update
            })
        };
        let mut status = ItemStatus::new();
        status.investments = update(Product::Investments, fresh.holdings);
        status.transactions = update(Product::Transactions, fresh.transactions);
        status
    }
}
