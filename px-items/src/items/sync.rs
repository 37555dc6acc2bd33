//! Reads of the changes since a cursor.
//!
//! A pass begins at a cursor and ends at the cursor for the next pass. Its pages are served only
//! while no data that the application sees has changed since the pass began. Otherwise a row that
//! was served could have been removed, and no later page would say so. As published by Plaid, such
//! a change is an error after which the reader restarts the pass.

use super::{
    HistoryStatus, ItemResponse, Items, ItemsError,
    cursor::{self, Position, SyncCursor},
    read::Session,
    transactions::check_rows,
};
use crate::store::{ChangePage, ChangeQuery, ChangeRow, DataKind};
use chrono::{DateTime, TimeDelta, Utc};
use px_types::{
    AccountId, ItemAccessToken, TransactionId,
    model::{product::Product, security::Security, transaction::Transaction},
};

/// Time for which a cursor is valid after it was returned. Each page returns a new one.
const CURSOR_VALIDITY: TimeDelta = TimeDelta::days(90);
/// Maximum duration of a pass that began with a valid cursor.
const MAX_PASS_DURATION: TimeDelta = TimeDelta::days(1);
/// Time for which removed transactions are stored: longer than any cursor is valid.
pub(crate) const REMOVED_RETENTION: TimeDelta = TimeDelta::days(92);

/// Maximum number of readings of a first page during which the Item changes.
const MAX_FIRST_PAGE_READS: usize = 3;

/// Page of changes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SyncPage {
    /// Transactions to add. A transaction that was removed and restored can be among them although
    /// the reader has it: the newer version counts.
    pub added: Vec<Transaction>,
    /// Transactions that changed.
    pub modified: Vec<Transaction>,
    /// Transactions that were removed. The reader ignores those that it does not have.
    pub removed: Vec<RemovedTransaction>,
    /// Securities that the transactions refer to.
    pub securities: Vec<Security>,
    /// Cursor for the next page or, after the last page, for the next pass. Store it only if
    /// [`has_more`](Self::has_more) is `false`. Its text changes each time, even if nothing else
    /// changed. It is valid for 90 days.
    pub next_cursor: String,
    /// Whether there are more pages.
    pub has_more: bool,
    /// Completeness of the history.
    pub history: HistoryStatus,
}

/// Transaction that was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemovedTransaction {
    /// Id of the transaction.
    pub transaction_id: TransactionId,
    /// Id of its account.
    pub account_id: AccountId,
}

/// Start of a page.
struct PageStart {
    base: i64,
    after: (i64, Option<TransactionId>),
    /// The Item's number when the pass began; `None` if it begins now.
    head: Option<i64>,
    /// Time at which the cursor that began the pass was returned.
    given_at: DateTime<Utc>,
}

impl Items {
    /// Returns a page of the changes since a cursor. Requires [`Product::Transactions`].
    ///
    /// Without a cursor (`None` or `""`) it begins with all transactions. `count` is 1–500, by
    /// default 100. The reader continues while [`SyncPage::has_more`] is `true`, and then stores
    /// the cursor for the next pass. On [`SyncMutated`](super::ItemsErrorKind::SyncMutated) it
    /// drops the pages of this pass and restarts it with the stored cursor. On
    /// [`InvalidCursor`](super::ItemsErrorKind::InvalidCursor) (its scopes changed, or the cursor
    /// is older than 90 days) it drops all transactions and restarts without a cursor.
    ///
    /// # Errors
    /// - [`SyncMutated`](super::ItemsErrorKind::SyncMutated) and
    ///   [`InvalidCursor`](super::ItemsErrorKind::InvalidCursor), see above;
    /// - [`InvalidAccessToken`](super::ItemsErrorKind::InvalidAccessToken) if the token is unknown;
    /// - [`NotForPartners`](super::ItemsErrorKind::NotForPartners) if the token belongs to a
    ///   partner;
    /// - [`ConsentRequired`](super::ItemsErrorKind::ConsentRequired) if the application does not
    ///   use the product;
    /// - [`ProductNotReady`](super::ItemsErrorKind::ProductNotReady),
    ///   [`LoginRequired`](super::ItemsErrorKind::LoginRequired) or
    ///   [`CannotFinish`](super::ItemsErrorKind::CannotFinish) if no data is available yet;
    /// - [`InvalidField`](super::ItemsErrorKind::InvalidField) if the count is out of range;
    /// - [`Unavailable`](super::ItemsErrorKind::Unavailable) or
    ///   [`Internal`](super::ItemsErrorKind::Internal) if the store fails.
    pub async fn transactions_sync(
        &self,
        token: &ItemAccessToken,
        cursor: Option<&str>,
        count: Option<usize>,
    ) -> Result<ItemResponse<SyncPage>, ItemsError> {
        let session = self.session(token).await?;
        session.require_product(Product::Transactions)?;
        session.require_recent()?;
        let count = count.unwrap_or(super::transactions::DEFAULT_ROWS);
        check_rows("count", count)?;
        let now = self.clock.now();
        let start = PageStart::at(cursor.filter(|text| !text.is_empty()), &session, now)?;
        let accounts = self.requested_accounts(&session, None).await?;
        let (page, head) = self.page(&session, &start, accounts, count).await?;

        let position = match page.more {
            true => {
                let (after, id) = page.last.clone();
                Position::Pass { base: start.base, after, id, head }
            }
            // The position includes changes that the application may not see, so that a polling
            // reader does not scan them again.
            false => Position::Rest(page.head),
        };
        let given_at = if page.more { start.given_at } else { now };
        let cursor = SyncCursor { given_at: given_at.timestamp(), position };
        let next_cursor = self.seal(&cursor, &session)?;
        let mut data = SyncPage::empty(next_cursor, page.more, HistoryStatus::of(&session.record));
        data.take(page.changes);
        data.securities =
            self.securities_of(&session, data.added.iter().chain(&data.modified)).await?;
        self.record_access(&session, [DataKind::Transactions]);
        let fresh_as_of = session.record.sync_state.fresh.transactions;
        Ok(session.respond(data, fresh_as_of))
    }

    /// Returns a page, and the Item's number when its pass began.
    async fn page(
        &self,
        session: &Session,
        start: &PageStart,
        accounts: Option<Vec<AccountId>>,
        count: usize,
    ) -> Result<(ChangePage, i64), ItemsError> {
        let mut query = ChangeQuery::new(start.base, count);
        query.accounts.clone_from(&accounts);
        query.after.clone_from(&start.after);
        // The Item's number before the first page was read. The pass may lack rows with a later
        // number.
        let mut began = start.head.unwrap_or(session.record.change_seq);
        for _ in 0..MAX_FIRST_PAGE_READS {
            let page = self.store.changes(&session.record.id, &query).await?;
            // A pass of a single page is consistent by itself.
            let whole = start.head.is_none() && !page.more;
            if whole || page.head == began || !self.changed_since(session, began, &accounts).await?
            {
                return Ok((page, began));
            }
            if start.head.is_some() {
                break;
            }
            began = page.head;
        }
        Err(ItemsError::sync_mutated())
    }

    /// Returns whether data that the application sees changed after a number.
    async fn changed_since(
        &self,
        session: &Session,
        number: i64,
        accounts: &Option<Vec<AccountId>>,
    ) -> Result<bool, ItemsError> {
        let mut query = ChangeQuery::new(number, 1);
        query.accounts.clone_from(accounts);
        let page = self.store.changes(&session.record.id, &query).await?;
        // The rows of the page are not sufficient: a row that was added and removed again is left
        // out, and another may follow.
        Ok(page.last != query.after)
    }
}

impl PageStart {
    fn at(given: Option<&str>, session: &Session, now: DateTime<Utc>) -> Result<Self, ItemsError> {
        let Some(text) = given else { return Ok(Self::resting(0, now)) };
        let opened = cursor::open(text, &session.record.id, &session.connection);
        let SyncCursor { given_at, position } = opened.ok_or_else(ItemsError::invalid_cursor)?;
        let given_at =
            DateTime::from_timestamp(given_at, 0).ok_or_else(ItemsError::invalid_cursor)?;
        // A pass that has begun may be completed.
        let promised = match position {
            Position::Rest(_) => CURSOR_VALIDITY,
            Position::Pass { .. } => CURSOR_VALIDITY + MAX_PASS_DURATION,
        };
        if now - given_at > promised {
            return Err(ItemsError::expired_cursor());
        }
        Ok(match position {
            Position::Rest(base) => Self::resting(base, given_at),
            Position::Pass { base, after, id, head } => {
                Self { base, after: (after, id), head: Some(head), given_at }
            }
        })
    }

    fn resting(base: i64, given_at: DateTime<Utc>) -> Self {
        Self { base, after: (base, None), head: None, given_at }
    }
}

impl SyncPage {
    fn empty(next_cursor: String, has_more: bool, history: HistoryStatus) -> Self {
        Self {
            added: Vec::new(),
            modified: Vec::new(),
            removed: Vec::new(),
            securities: Vec::new(),
            next_cursor,
            has_more,
            history,
        }
    }

    fn take(&mut self, changes: Vec<ChangeRow>) {
        for change in changes {
            match change {
                ChangeRow::Added(row) => self.added.push(row),
                ChangeRow::Modified(row) => self.modified.push(row),
                ChangeRow::Removed(account_id, transaction_id) => {
                    self.removed.push(RemovedTransaction { transaction_id, account_id });
                }
            }
        }
    }
}
