//! What is asked of an Item's transactions, and the pages that answer.

use px_client::Window;
use px_types::{AccountId, Date, TransactionId, model::transaction::Transaction};

/// Which transactions are read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TransactionQuery {
    /// The accounts; `None` is all. Empty is none.
    pub accounts: Option<Vec<AccountId>>,
    /// The dates.
    pub window: Window,
    /// After this one, by date and id: new ones never shift a page.
    pub after: Option<(Date, TransactionId)>,
    /// At most so many.
    pub limit: usize,
    /// Whether all of the window are counted. It takes as long as there are many, so count
    /// with the first page only.
    pub counted: bool,
}

impl TransactionQuery {
    /// The first page of all accounts, counted.
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
    /// How many the window has over all pages, if the query counts them.
    pub total: Option<u64>,
}

impl TransactionPage {
    /// A page.
    #[must_use]
    pub fn new(rows: Vec<Transaction>, total: Option<u64>) -> Self {
        Self { rows, total }
    }
}

/// Which changes are read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChangeQuery {
    /// The accounts; `None` is all.
    pub accounts: Option<Vec<AccountId>>,
    /// After the change of that number and id.
    pub after: (i64, Option<TransactionId>),
    /// A transaction that was added, or came back, later than this number is added; any other is
    /// modified. One that is gone is left out when it was added later than this for the first
    /// time, and removed otherwise: a reader may have it from before it was gone and came back.
    pub base: i64,
    /// At most so many.
    pub limit: usize,
}

impl ChangeQuery {
    /// The changes after a number.
    #[must_use]
    pub fn new(base: i64, limit: usize) -> Self {
        Self { accounts: None, after: (base, None), base, limit }
    }
}

/// A page of changes, all in the order (number, id).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ChangePage {
    /// The changes. A transaction that was first added after `base` and is gone is none.
    pub changes: Vec<ChangeRow>,
    /// The position after the page; that of the query when there is nothing.
    pub last: (i64, Option<TransactionId>),
    /// Whether there is more.
    pub more: bool,
    /// The Item's number at the moment of the page. On the last page everything up to it was read.
    pub head: i64,
}

impl ChangePage {
    /// A page.
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

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum ChangeRow {
    /// The reader does not have it; or it was gone and came back since.
    Added(Transaction),
    /// The reader has it, as it was.
    Modified(Transaction),
    /// It is gone; the reader has it, or had it once.
    Removed(AccountId, TransactionId),
}
