//! Reading transactions by date, page by page.

use super::{
    Answer, Items, ItemsError,
    cursor::{self, WindowCursor},
    read::Session,
    view,
};
use crate::store::{DataKind, TransactionQuery};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use px_client::Window;
use px_types::{
    AccountId, ItemAccessToken,
    model::{product::Product, security::Security, transaction::Transaction},
};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;

/// The most rows of a page.
pub(super) const MAX_ROWS: usize = 500;
/// The rows of a page, unless told otherwise.
pub(super) const DEFAULT_ROWS: usize = 100;

/// Which transactions are read.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TransactionsRequest {
    /// The dates, both included.
    pub window: Window,
    /// The accounts; `None` is all that the application sees.
    pub account_ids: Option<Vec<AccountId>>,
    /// From the page before; `None` on the first.
    pub cursor: Option<String>,
    /// The rows of a page, 1–500.
    pub limit: usize,
}

impl TransactionsRequest {
    /// The first 100 rows of a window.
    #[must_use]
    pub fn new(window: Window) -> Self {
        Self { window, account_ids: None, cursor: None, limit: DEFAULT_ROWS }
    }
}

/// A page of transactions.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Transactions {
    /// Newest date first, then by id.
    pub transactions: Vec<Transaction>,
    /// The securities that these refer to.
    pub securities: Vec<Security>,
    /// How many there were over all pages when the first one was read.
    pub total: u64,
    /// For the next page; `None` on the last.
    pub next_cursor: Option<String>,
}

impl Items {
    /// A page of the transactions of some dates. Needs [`Product::Transactions`].
    ///
    /// Pages go on after the last row, not by counting: what is added or goes meanwhile never
    /// makes a page skip or repeat another row.
    ///
    /// # Errors
    /// When the token is none of an application, the product is not used, nothing is there
    /// yet, or the request is wrong.
    pub async fn transactions(
        &self,
        token: &ItemAccessToken,
        request: &TransactionsRequest,
    ) -> Result<Answer<Transactions>, ItemsError> {
        let session = self.session(token).await?;
        session.must_use(Product::Transactions)?;
        session.must_have_recent()?;
        check_rows("limit", request.limit)?;
        let asked = digest(request);
        let mut query = TransactionQuery::new(request.window, request.limit + 1);
        let mut counted = None;
        if let Some(text) = request.cursor.as_deref().filter(|text| !text.is_empty()) {
            let cursor = cursor::open(text, &session.record.id, &session.connection)
                .filter(|cursor: &WindowCursor| cursor.asked == asked);
            let cursor = cursor.ok_or_else(ItemsError::invalid_cursor)?;
            query.after = Some(cursor.after);
            counted = u64::try_from(cursor.total).ok();
            query.counted = false;
        }
        query.accounts = self.asked_accounts(&session, request.account_ids.as_deref()).await?;
        let mut page = self.store.transactions(&session.record.id, &query).await?;
        let total = page.total.or(counted).unwrap_or_default();
        let more = page.rows.len() > request.limit;
        page.rows.truncate(request.limit);
        let next_cursor = match page.rows.last().filter(|_| more) {
            None => None,
            Some(last) => {
                let after = (last.date(), last.id.clone());
                let cursor =
                    WindowCursor { asked, after, total: i64::try_from(total).unwrap_or(i64::MAX) };
                Some(self.seal(&cursor, &session)?)
            }
        };
        let securities = self.securities_of(&session, &page.rows).await?;
        self.note(&session, [DataKind::Transactions]);
        let fresh_as_of = session.record.life.fresh.transactions;
        let transactions = page.rows;
        Ok(session
            .answer(Transactions { transactions, securities, total, next_cursor }, fresh_as_of))
    }

    /// The accounts to read, by the Item's ids; `None` is all.
    pub(super) async fn asked_accounts(
        &self,
        session: &Session,
        asked: Option<&[AccountId]>,
    ) -> Result<Option<Vec<AccountId>>, ItemsError> {
        let known = self.store.accounts(&session.record.id).await?;
        let Some(asked) = asked else { return Ok(view::filter(&known, &session.connection)) };
        let seen: BTreeSet<_> = known
            .iter()
            .filter(|known| view::sees(&session.connection, known))
            .map(|known| &known.account.id)
            .collect();
        match asked.iter().position(|id| !seen.contains(id)) {
            Some(index) => Err(ItemsError::invalid_account(index)),
            None => Ok(Some(asked.to_vec())),
        }
    }

    /// The securities that transactions refer to.
    pub(super) async fn securities_of(
        &self,
        session: &Session,
        rows: impl IntoIterator<Item = &Transaction>,
    ) -> Result<Vec<Security>, ItemsError> {
        let named: BTreeSet<_> = rows.into_iter().filter_map(view::traded).collect();
        if named.is_empty() {
            return Ok(Vec::new());
        }
        Ok(view::pick(self.store.securities(&session.record.id).await?, named))
    }

    pub(super) fn seal<T: cursor::Kind>(
        &self,
        cursor: &T,
        session: &Session,
    ) -> Result<String, ItemsError> {
        cursor::seal(cursor, &session.record.id, &session.connection, &*self.random).ok_or_else(
            || ItemsError::new(super::ItemsErrorKind::Internal, "a cursor could not be sealed"),
        )
    }
}

pub(super) fn check_rows(field: &str, rows: usize) -> Result<(), ItemsError> {
    if (1..=MAX_ROWS).contains(&rows) {
        return Ok(());
    }
    Err(ItemsError::invalid_field(field, &format!("must be 1 to {MAX_ROWS}")))
}

/// What must stay the same on all pages.
fn digest(request: &TransactionsRequest) -> String {
    let mut digest = Sha256::new();
    digest.update(format!("{} {}", request.window.start(), request.window.end()));
    let mut accounts: Vec<_> = request.account_ids.iter().flatten().collect();
    accounts.sort();
    accounts.dedup();
    digest.update([u8::from(request.account_ids.is_some())]);
    for account in accounts {
        digest.update(account.as_str().len().to_be_bytes());
        digest.update(account.as_str());
    }
    BASE64_URL_SAFE_NO_PAD.encode(digest.finalize())
}
