//! How an Item is.

use super::{Items, ItemsError, read::Session};
use crate::{
    health,
    item::Phase,
    life::{Freshness, History},
    store::ItemRecord,
};
use px_types::{
    ItemAccessToken,
    model::{
        item::{Item, ItemUpdateType},
        item_status::{ItemStatus, UpdateStatus},
        product::Product,
    },
};

/// An Item as an application sees it, and how it is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Status {
    /// The Item.
    pub item: Item,
    /// When it was last updated, as `POST /item/get` tells it.
    pub status: ItemStatus,
    /// Where it is in its life.
    pub phase: Phase,
    /// How old each kind of data is that the application reads.
    pub fresh_as_of: Freshness,
    /// How much of the history of transactions is there.
    pub history: HistoryStatus,
}

/// How much of the history of transactions is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HistoryStatus {
    /// Nothing can be read yet, or the application does not use transactions.
    NotReady,
    /// The last 30 days are there, the rest is on its way.
    InitialUpdateComplete,
    /// All of it is there.
    HistoricalUpdateComplete,
}

impl HistoryStatus {
    /// Plaid's name of it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotReady => "NOT_READY",
            Self::InitialUpdateComplete => "INITIAL_UPDATE_COMPLETE",
            Self::HistoricalUpdateComplete => "HISTORICAL_UPDATE_COMPLETE",
        }
    }

    pub(super) fn of(record: &ItemRecord) -> Self {
        match record.life.history {
            History::Missing | History::Fetching { recent: false, .. } => Self::NotReady,
            History::Fetching { recent: true, .. } => Self::InitialUpdateComplete,
            History::Complete => Self::HistoricalUpdateComplete,
        }
    }
}

impl Items {
    /// How an Item is. Answers before anything of it can be read, and after its authorization
    /// was lost.
    ///
    /// # Errors
    /// When the token is none of an application.
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
    /// Of the kinds of data that the application reads.
    fn fresh(&self) -> Freshness {
        let all = self.record.life.fresh;
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
        // Not the Item's: an earlier date would tell of another application.
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
        let failed = self.record.life.last_failure.as_ref().map(|failure| failure.at.into());
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
