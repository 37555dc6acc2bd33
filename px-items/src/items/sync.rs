//! Reading what changed since a cursor.
//!
//! A pass begins at a cursor at rest and ends at the next one. Its pages are served only while
//! nothing that the application sees changed since the pass began: a row that was served could
//! else be gone, and no later page would say so. Plaid's published answer to that is an error
//! after which a reader begins the pass again.

use super::{
    Answer, HistoryStatus, Items, ItemsError,
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

/// A cursor is good for so long after it was given, and each page gives a new one.
const CURSOR_PROMISE: TimeDelta = TimeDelta::days(90);
/// A pass that began with a good cursor may take so long.
const PASS_LIMIT: TimeDelta = TimeDelta::days(1);
/// Removed transactions are kept for so long: no cursor that is still good misses one.
pub(crate) const REMOVED_RETENTION: TimeDelta = TimeDelta::days(92);

/// How often a first page is read again because the Item changed under it.
const FIRST_PAGE_TRIES: usize = 3;

/// A page of changes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SyncPage {
    /// Transactions to add. One that was gone and came back can be among them though the reader
    /// has it: the newer one counts.
    pub added: Vec<Transaction>,
    /// Transactions that are others now.
    pub modified: Vec<Transaction>,
    /// Transactions that are gone. One that the reader does not have is nothing to it.
    pub removed: Vec<RemovedTransaction>,
    /// The securities that these refer to.
    pub securities: Vec<Security>,
    /// For the next page or, when this was the last one, for the next time. Keep it only when
    /// [`has_more`](Self::has_more) is `false`. It is another text each time, also when nothing
    /// changed, and is good for 90 days.
    pub next_cursor: String,
    /// Whether there are more pages.
    pub has_more: bool,
    /// How much of the history is there.
    pub history: HistoryStatus,
}

/// A transaction that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemovedTransaction {
    /// Its id.
    pub transaction_id: TransactionId,
    /// Its account.
    pub account_id: AccountId,
}

/// Where a page begins.
struct Start {
    base: i64,
    after: (i64, Option<TransactionId>),
    /// The Item's number when the pass began; `None` when it begins now.
    head: Option<i64>,
    /// When the cursor was given that the pass began with.
    given_at: DateTime<Utc>,
}

impl Items {
    /// What changed since a cursor. Needs [`Product::Transactions`].
    ///
    /// `None` and `""` begin with everything there is. `count` is 1–500; `None` is 100. A reader
    /// goes on while [`SyncPage::has_more`], and then keeps the cursor for the next time. On
    /// [`SyncMutated`](super::ItemsErrorKind::SyncMutated) it drops what this pass gave and begins
    /// it again with the cursor that it had kept. On
    /// [`InvalidCursor`](super::ItemsErrorKind::InvalidCursor) (its user let it see something else
    /// since, or the cursor is older than 90 days) it drops everything and begins without one.
    ///
    /// # Errors
    /// These two; and when the token is none of an application, the product is not used,
    /// nothing is there yet, or the count is out of range.
    pub async fn transactions_sync(
        &self,
        token: &ItemAccessToken,
        cursor: Option<&str>,
        count: Option<usize>,
    ) -> Result<Answer<SyncPage>, ItemsError> {
        let session = self.session(token).await?;
        session.must_use(Product::Transactions)?;
        session.must_have_recent()?;
        let count = count.unwrap_or(super::transactions::DEFAULT_ROWS);
        check_rows("count", count)?;
        let now = self.clock.now();
        let start = Start::at(cursor.filter(|text| !text.is_empty()), &session, now)?;
        let accounts = self.asked_accounts(&session, None).await?;
        let (page, head) = self.page(&session, &start, accounts, count).await?;

        let position = match page.more {
            true => {
                let (after, id) = page.last.clone();
                Position::Pass { base: start.base, after, id, head }
            }
            // Everything up to the Item's number was read, also what the application may not see:
            // a reader that polls does not look at that again.
            false => Position::Rest(page.head),
        };
        let given_at = if page.more { start.given_at } else { now };
        let cursor = SyncCursor { given_at: given_at.timestamp(), position };
        let next_cursor = self.seal(&cursor, &session)?;
        let mut data = SyncPage::empty(next_cursor, page.more, HistoryStatus::of(&session.record));
        data.take(page.changes);
        data.securities =
            self.securities_of(&session, data.added.iter().chain(&data.modified)).await?;
        self.note(&session, [DataKind::Transactions]);
        let fresh_as_of = session.record.life.fresh.transactions;
        Ok(session.answer(data, fresh_as_of))
    }

    /// A page, and the Item's number when its pass began.
    async fn page(
        &self,
        session: &Session,
        start: &Start,
        accounts: Option<Vec<AccountId>>,
        count: usize,
    ) -> Result<(ChangePage, i64), ItemsError> {
        let mut query = ChangeQuery::new(start.base, count);
        query.accounts.clone_from(&accounts);
        query.after.clone_from(&start.after);
        // What the Item's number was before the first page was read: what has a later one may
        // not be among what the pass serves.
        let mut began = start.head.unwrap_or(session.record.change_seq);
        for _ in 0..FIRST_PAGE_TRIES {
            let page = self.store.changes(&session.record.id, &query).await?;
            // One page that is the whole pass is one moment by itself.
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

    /// Whether anything that the application sees changed after a number.
    async fn changed_since(
        &self,
        session: &Session,
        number: i64,
        accounts: &Option<Vec<AccountId>>,
    ) -> Result<bool, ItemsError> {
        let mut query = ChangeQuery::new(number, 1);
        query.accounts.clone_from(accounts);
        let page = self.store.changes(&session.record.id, &query).await?;
        // Not whether the page has rows: one that was added and went is left out, and another may
        // follow.
        Ok(page.last != query.after)
    }
}

impl Start {
    fn at(given: Option<&str>, session: &Session, now: DateTime<Utc>) -> Result<Self, ItemsError> {
        let Some(text) = given else { return Ok(Self::resting(0, now)) };
        let opened = cursor::open(text, &session.record.id, &session.connection);
        let SyncCursor { given_at, position } = opened.ok_or_else(ItemsError::invalid_cursor)?;
        let given_at =
            DateTime::from_timestamp(given_at, 0).ok_or_else(ItemsError::invalid_cursor)?;
        // A pass that has begun may end.
        let promised = match position {
            Position::Rest(_) => CURSOR_PROMISE,
            Position::Pass { .. } => CURSOR_PROMISE + PASS_LIMIT,
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
