//! Reads of transactions by date, page by page.

use super::{
    ItemResponse, Items, ItemsError,
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

/// Maximum number of rows of a page.
pub(super) const MAX_ROWS: usize = 500;
/// Default number of rows of a page.
pub(super) const DEFAULT_ROWS: usize = 100;

/// Request for a page of transactions.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TransactionsRequest {
    /// Requested dates, both included.
    pub window: Window,
    /// Requested accounts; `None` for all that the application may see.
    pub account_ids: Option<Vec<AccountId>>,
    /// Cursor of the previous page; `None` for the first page.
    pub cursor: Option<String>,
    /// Maximum number of rows of the page, 1–500.
    pub limit: usize,
}

impl TransactionsRequest {
    /// Creates a request for the first 100 rows of a window.
    #[must_use]
    pub fn new(window: Window) -> Self {
        Self { window, account_ids: None, cursor: None, limit: DEFAULT_ROWS }
    }
}

/// Page of transactions.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Transactions {
    /// Rows, newest date first, then by id.
    pub transactions: Vec<Transaction>,
    /// Securities that the transactions refer to.
    pub securities: Vec<Security>,
    /// Number of rows over all pages when the first one was read.
    pub total: u64,
    /// Cursor of the next page; `None` on the last page.
    pub next_cursor: Option<String>,
}

impl Items {
    /// Returns a page of the transactions of a window of dates. Requires [`Product::Transactions`].
    ///
    /// Pages continue after the last row, not at an offset. Rows that are added or removed
    /// meanwhile never cause a page to skip or repeat another row.
    ///
    /// # Errors
    /// - [`InvalidAccessToken`](super::ItemsErrorKind::InvalidAccessToken) if the token is unknown;
    /// - [`NotForPartners`](super::ItemsErrorKind::NotForPartners) if the token belongs to a
    ///   partner;
    /// - [`ConsentRequired`](super::ItemsErrorKind::ConsentRequired) if the application does not
    ///   use the product;
    /// - [`ProductNotReady`](super::ItemsErrorKind::ProductNotReady),
    ///   [`LoginRequired`](super::ItemsErrorKind::LoginRequired) or
    ///   [`CannotFinish`](super::ItemsErrorKind::CannotFinish) if no data is available yet;
    /// - [`InvalidField`](super::ItemsErrorKind::InvalidField) if the limit is out of range;
    /// - [`InvalidCursor`](super::ItemsErrorKind::InvalidCursor) if the cursor belongs to another
    ///   request;
    /// - [`InvalidAccount`](super::ItemsErrorKind::InvalidAccount), with its index, if the
    ///   application may not see a requested account;
    /// - [`Unavailable`](super::ItemsErrorKind::Unavailable) or
    ///   [`Internal`](super::ItemsErrorKind::Internal) if the store fails.
    pub async fn transactions(
        &self,
        token: &ItemAccessToken,
        request: &TransactionsRequest,
    ) -> Result<ItemResponse<Transactions>, ItemsError> {
        let session = self.session(token).await?;
        session.require_product(Product::Transactions)?;
        session.require_recent()?;
        check_rows("limit", request.limit)?;
        let request_digest = digest(request);
        let mut query = TransactionQuery::new(request.window, request.limit + 1);
        let mut counted = None;
        if let Some(text) = request.cursor.as_deref().filter(|text| !text.is_empty()) {
            let cursor = cursor::open(text, &session.record.id, &session.connection)
                .filter(|cursor: &WindowCursor| cursor.request_digest == request_digest);
            let cursor = cursor.ok_or_else(ItemsError::invalid_cursor)?;
            query.after = Some(cursor.after);
            counted = u64::try_from(cursor.total).ok();
            query.counted = false;
        }
        query.accounts = self.requested_accounts(&session, request.account_ids.as_deref()).await?;
        let mut page = self.store.transactions(&session.record.id, &query).await?;
        let total = page.total.or(counted).unwrap_or_default();
        let more = page.rows.len() > request.limit;
        page.rows.truncate(request.limit);
        let next_cursor = match page.rows.last().filter(|_| more) {
            None => None,
            Some(last) => {
                let after = (last.date(), last.id.clone());
                let cursor = WindowCursor {
                    request_digest,
                    after,
                    total: i64::try_from(total).unwrap_or(i64::MAX),
                };
                Some(self.seal(&cursor, &session)?)
            }
        };
        let securities = self.securities_of(&session, &page.rows).await?;
        self.record_access(&session, [DataKind::Transactions]);
        let fresh_as_of = session.record.sync_state.fresh.transactions;
        let transactions = page.rows;
        Ok(session
            .respond(Transactions { transactions, securities, total, next_cursor }, fresh_as_of))
    }

    /// Returns the accounts to read, by the Item's ids; `None` for all.
    pub(super) async fn requested_accounts(
        &self,
        session: &Session,
        requested: Option<&[AccountId]>,
    ) -> Result<Option<Vec<AccountId>>, ItemsError> {
        let known = self.store.accounts(&session.record.id).await?;
        let Some(requested) = requested else {
            return Ok(view::filter(&known, &session.connection));
        };
        let seen: BTreeSet<_> = known
            .iter()
            .filter(|known| view::sees(&session.connection, known))
            .map(|known| &known.account.id)
            .collect();
        match requested.iter().position(|id| !seen.contains(id)) {
            Some(index) => Err(ItemsError::invalid_account(index)),
            None => Ok(Some(requested.to_vec())),
        }
    }

    /// Returns the securities that transactions refer to.
    pub(super) async fn securities_of(
        &self,
        session: &Session,
        rows: impl IntoIterator<Item = &Transaction>,
    ) -> Result<Vec<Security>, ItemsError> {
        let named: BTreeSet<_> = rows.into_iter().filter_map(view::security_of).collect();
        if named.is_empty() {
            return Ok(Vec::new());
        }
        Ok(view::select(self.store.securities(&session.record.id).await?, named))
    }

    pub(super) fn seal<T: cursor::CursorKind>(
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

/// Returns the digest of what must stay the same on all pages.
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
