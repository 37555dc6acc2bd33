//! Queries for an Item's transactions and their changes, and the pages that they return.

use px_client::Window;
use px_types::{AccountId, Date, TransactionId, model::transaction::Transaction};

/// A query for a page of transactions.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TransactionQuery {
    /// The accounts; `None` selects all, an empty list selects none.
    pub accounts: Option<Vec<AccountId>>,
    /// The range of dates.
    pub window: Window,
    /// Position after which the page begins, by date and id, so that new rows never shift a page.
    pub after: Option<(Date, TransactionId)>,
    /// Maximum number of rows.
    pub limit: usize,
    /// Whether to count all rows of the window. The duration of a count grows with the number of
    /// rows, so request it with the first page only.
    pub counted: bool,
}

impl TransactionQuery {
    /// Creates a query for the first page of all accounts, with a count.
    #[must_use]
    pub fn new(window: Window, limit: usize) -> Self {
        Self { accounts: None, window, after: None, limit, counted: true }
    }
}

/// A page of transactions.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TransactionPage {
    /// The rows, under the Item's own ids.
    pub rows: Vec<Transaction>,
    /// Number of rows of the window over all pages, if the query requested it.
    pub total: Option<u64>,
}

impl TransactionPage {
    /// Creates a page.
    #[must_use]
    pub fn new(rows: Vec<Transaction>, total: Option<u64>) -> Self {
        Self { rows, total }
    }
}

/// A query for changes of transactions.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChangeQuery {
    /// The accounts; `None` selects all.
    pub accounts: Option<Vec<AccountId>>,
    /// Position after which the page begins: number and id of a change.
    pub after: (i64, Option<TransactionId>),
    /// Number that the classification refers to. A transaction that was added, or came back, after
    /// it is `Added`; any other that exists is `Modified`. A removed transaction is left out if it
    /// was first added after this number. Otherwise it is `Removed`, because a reader may have it
    /// from before it was removed and came back.
    pub base: i64,
    /// Maximum number of rows.
    pub limit: usize,
}

impl ChangeQuery {
    /// Creates a query for the changes after a number.
    #[must_use]
    pub fn new(base: i64, limit: usize) -> Self {
        Self { accounts: None, after: (base, None), base, limit }
    }
}

/// A page of changes, ordered by number and id.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ChangePage {
    /// The changes. They do not include transactions that were first added after `base` and removed
    /// since.
    pub changes: Vec<ChangeRow>,
    /// Position after the page; the position of the query if the page is empty.
    pub last: (i64, Option<TransactionId>),
    /// Whether there are more changes.
    pub more: bool,
    /// The Item's number at the time of the page. On the last page everything up to it has been
    /// read.
    pub head: i64,
}

impl ChangePage {
    /// Creates a page.
    #[must_use]
    pub fn new(
        changes: Vec<ChangeRow>,
        last: (i64, Option<TransactionId>),
        more: bool,
        head: i64,
    ) -> Self {
        Self { changes, last, more, head }
    }
}

/// A change of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub enum ChangeRow {
    /// The reader does not have it, or it was removed and came back since.
    Added(Transaction),
    /// The reader has an earlier version of it.
    Modified(Transaction),
    /// It was removed. The reader has it, or had it once.
    Removed(AccountId, TransactionId),
}
