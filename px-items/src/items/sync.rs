//! Reading what changed since a cursor.
//!
//! A pass begins at a cursor at rest and ends at the next one. Its pages are served only while
//! nothing that the application sees changed since the pass began: a row that was served could
//! else be gone, and no later page would say so. Plaid's published answer to that is an error
//! after which a reader begins the pass again.

use super::{
    Answer, HistoryStatus, Items, ItemsError,
    cursor::{self, SyncCursor},
    read::Session,
    transactions::check_rows,
};
use crate::store::{ChangePage, ChangeQuery, ChangeRow, DataKind};
use px_types::{
    AccountId, ItemAccessToken, TransactionId,
    model::{product::Product, security::Security, transaction::Transaction},
};

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
    /// [`has_more`](Self::has_more) is `false`.
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
}

impl Items {
    /// What changed since a cursor. Needs [`Product::Transactions`].
    ///
    /// `None` and `""` begin with everything there is. `count` is 1–500; `None` is 100. A reader
    /// goes on while [`SyncPage::has_more`], and then keeps the cursor for the next time. On
    /// [`SyncMutated`](super::ItemsErrorKind::SyncMutated) it drops what this pass gave and begins
    /// it again with the cursor that it had kept. On
    /// [`InvalidCursor`](super::ItemsErrorKind::InvalidCursor) (its user let it see something else
    /// since) it drops everything and begins without one.
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
        let given = cursor.filter(|text| !text.is_empty());
        let start = Start::at(given, &session)?;
        let accounts = self.asked_accounts(&session, None).await?;
        let (page, head) = self.page(&session, &start, accounts, count).await?;

        let next = if page.more {
            let (after, id) = page.last.clone();
            Some(SyncCursor::Pass { base: start.base, after, id, head })
        } else if start.head.is_some() || page.last != start.after {
            // The last change that it sees, not the Item's: others leave no trace.
            Some(SyncCursor::Rest(page.last.0))
        } else {
            None
        };
        let next_cursor = match (next, given) {
            (None, Some(same)) => same.to_owned(),
            (next, _) => self.seal(&next.unwrap_or(SyncCursor::Rest(start.base)), &session)?,
        };
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
    fn at(given: Option<&str>, session: &Session) -> Result<Self, ItemsError> {
        let Some(text) = given else { return Ok(Self::resting(0)) };
        match cursor::open(text, &session.record.id, &session.connection) {
            None => Err(ItemsError::invalid_cursor()),
            Some(SyncCursor::Rest(base)) => Ok(Self::resting(base)),
            Some(SyncCursor::Pass { base, after, id, head }) => {
                Ok(Self { base, after: (after, id), head: Some(head) })
            }
        }
    }

    fn resting(base: i64) -> Self {
        Self { base, after: (base, None), head: None }
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
