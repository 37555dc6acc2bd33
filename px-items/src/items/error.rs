//! Errors of [`Items`](super::Items), and their HTTP form.
//!
//! The codes and types are those that Plaid publishes, so that existing programs can handle them.

use crate::store::{ItemRecord, StoreError, StoreErrorKind};
use px_types::model::{
    plaid_error::{PlaidError, PlaidErrorType},
    product::Product,
};
use std::{error::Error as StdError, fmt};

/// Error of a call of an application or a partner.
///
/// Contains no secret and no customer data.
pub struct ItemsError {
    kind: ItemsErrorKind,
    message: String,
    index: Option<usize>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// Plaid's code for an institution that does not serve all data of an Item.
const CANNOT_FINISH: &str = "INSTITUTION_NOT_RESPONDING";

/// Kind of an [`ItemsError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ItemsErrorKind {
    /// The access token is unknown, has ended or belongs to another environment; or the Item was
    /// removed.
    InvalidAccessToken,
    /// The token belongs to a partner, and partners may not read data.
    NotForPartners,
    /// The requested data is not available yet.
    ProductNotReady,
    /// No data is available, and the user must authorize again first.
    LoginRequired,
    /// No data is available, because the institution's data could not be read completely.
    CannotFinish,
    /// The user did not allow the application to use the product.
    ConsentRequired,
    /// The application may not see an account with that id.
    InvalidAccount,
    /// The cursor belongs to another Item, application or view of it, or was altered.
    InvalidCursor,
    /// Transactions changed between two pages. Restart with the cursor of the first page.
    SyncMutated,
    /// A field is out of its range or malformed.
    InvalidField,
    /// The Item does not exist.
    ItemNotFound,
    /// The application is not connected to the Item.
    NotConnected,
    /// The link token was used, has expired, or never existed.
    InvalidLinkToken,
    /// The public token was used, has expired, or belongs to another application.
    InvalidPublicToken,
    /// A worker has the Item now, or its user must authorize again. Trying again can help.
    Busy,
    /// The store cannot be reached. Trying again can help.
    Unavailable,
    /// An internal error of this side.
    Internal,
}

impl ItemsErrorKind {
    /// All kinds.
    pub const ALL: [Self; 17] = [
        Self::InvalidAccessToken,
        Self::NotForPartners,
        Self::ProductNotReady,
        Self::LoginRequired,
        Self::CannotFinish,
        Self::ConsentRequired,
        Self::InvalidAccount,
        Self::InvalidCursor,
        Self::SyncMutated,
        Self::InvalidField,
        Self::ItemNotFound,
        Self::NotConnected,
        Self::InvalidLinkToken,
        Self::InvalidPublicToken,
        Self::Busy,
        Self::Unavailable,
        Self::Internal,
    ];

    /// Returns Plaid's type and code.
    #[must_use]
    pub fn code(self) -> (PlaidErrorType, &'static str) {
        use PlaidErrorType as Type;
        match self {
            Self::InvalidAccessToken => (Type::InvalidInput, "INVALID_ACCESS_TOKEN"),
            Self::NotForPartners => (Type::InvalidInput, "UNAUTHORIZED_ROUTE_ACCESS"),
            Self::ProductNotReady => (Type::ItemError, "PRODUCT_NOT_READY"),
            Self::LoginRequired => (Type::ItemError, "ITEM_LOGIN_REQUIRED"),
            Self::CannotFinish => (Type::InstitutionError, CANNOT_FINISH),
            Self::ConsentRequired => (Type::InvalidInput, "ADDITIONAL_CONSENT_REQUIRED"),
            Self::InvalidAccount => (Type::InvalidInput, "INVALID_ACCOUNT_ID"),
            Self::InvalidLinkToken => (Type::InvalidInput, "INVALID_LINK_TOKEN"),
            Self::InvalidPublicToken => (Type::InvalidInput, "INVALID_PUBLIC_TOKEN"),
            Self::InvalidCursor | Self::InvalidField | Self::NotConnected => {
                (Type::InvalidRequest, "INVALID_FIELD")
            }
            Self::SyncMutated => {
                (Type::TransactionsError, "TRANSACTIONS_SYNC_MUTATION_DURING_PAGINATION")
            }
            Self::ItemNotFound => (Type::ItemError, "ITEM_NOT_FOUND"),
            Self::Busy | Self::Unavailable | Self::Internal => {
                (Type::ApiError, "INTERNAL_SERVER_ERROR")
            }
        }
    }

    /// Returns the HTTP status.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Busy | Self::Unavailable | Self::Internal => 500,
            _ => 400,
        }
    }

    /// Returns the text for the user, if the user can fix the cause.
    fn display_text(self) -> Option<&'static str> {
        match self {
            Self::LoginRequired => Some("Please sign in at your bank again."),
            _ => None,
        }
    }

    /// Returns the public text if the cause must not be disclosed.
    fn public_text(self) -> Option<&'static str> {
        match self {
            Self::Busy | Self::Unavailable | Self::Internal => {
                Some("something went wrong on this side; try again later")
            }
            _ => None,
        }
    }
}

impl ItemsError {
    pub(crate) fn new(kind: ItemsErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), index: None, source: None }
    }

    pub(super) fn at(mut self, index: usize) -> Self {
        self.index = Some(index);
        self
    }

    pub(super) fn with_source(
        mut self,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    pub(super) fn not_connected() -> Self {
        Self::new(
            ItemsErrorKind::NotConnected,
            "application_id names no application that is connected to this Item",
        )
    }

    pub(crate) fn invalid_link_token() -> Self {
        Self::new(
            ItemsErrorKind::InvalidLinkToken,
            "the link token is unknown: it was used, has expired, or belongs to another environment",
        )
    }

    pub(crate) fn invalid_public_token() -> Self {
        Self::new(
            ItemsErrorKind::InvalidPublicToken,
            "the public token is unknown: it was used, has expired, or belongs to another environment",
        )
    }

    pub(super) fn id_generation_failed() -> Self {
        Self::new(ItemsErrorKind::Internal, "an id could not be generated")
    }

    pub(super) fn invalid_access_token() -> Self {
        Self::new(
            ItemsErrorKind::InvalidAccessToken,
            "the access token is unknown: it has ended, or belongs to another environment",
        )
    }

    pub(super) fn not_ready() -> Self {
        Self::new(
            ItemsErrorKind::ProductNotReady,
            "the data is still being fetched: wait for the webhook, or try again later",
        )
    }

    pub(super) fn login_required() -> Self {
        Self::new(
            ItemsErrorKind::LoginRequired,
            "the institution refuses this Item's authorization: the user must sign in there again",
        )
    }

    pub(super) fn cannot_finish() -> Self {
        Self::new(
            ItemsErrorKind::CannotFinish,
            "the institution's data could not be read completely for days; attempts continue",
        )
    }

    pub(super) fn consent_required(product: &Product) -> Self {
        Self::new(
            ItemsErrorKind::ConsentRequired,
            format!("the user did not allow this application to use {product}: request it first"),
        )
    }

    pub(super) fn invalid_account(index: usize) -> Self {
        Self::new(
            ItemsErrorKind::InvalidAccount,
            format!("the Item has no account with the id at index {index} of account_ids"),
        )
        .at(index)
    }

    // The text is the one that readers of Plaid know. Some search for it to restart.
    pub(super) fn invalid_cursor() -> Self {
        Self::new(ItemsErrorKind::InvalidCursor, "cursor not associated with access_token")
    }

    // It begins like the text above, for readers that search for that.
    pub(super) fn expired_cursor() -> Self {
        Self::new(
            ItemsErrorKind::InvalidCursor,
            "cursor not associated with access_token: it was given more than 90 days ago; drop \
             all transactions and begin without a cursor",
        )
    }

    pub(super) fn sync_mutated() -> Self {
        Self::new(
            ItemsErrorKind::SyncMutated,
            "transactions changed since the previous page: restart with the cursor that the \
             first page was requested with",
        )
    }

    pub(super) fn invalid_field(field: &str, message: &str) -> Self {
        Self::new(ItemsErrorKind::InvalidField, format!("{field} {message}"))
    }

    pub(super) fn item_not_found() -> Self {
        Self::new(
            ItemsErrorKind::ItemNotFound,
            "the Item does not exist: it was removed, or never existed",
        )
    }

    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(&self) -> ItemsErrorKind {
        self.kind
    }

    /// Returns the index of the entry in a batch or a list that caused the error.
    #[must_use]
    pub fn index(&self) -> Option<usize> {
        self.index
    }

    /// Returns the HTTP status of the response.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.kind.status()
    }

    /// Returns the body of the response.
    #[must_use]
    pub fn to_plaid_error(&self, request_id: impl Into<String>) -> PlaidError {
        let (error_type, code) = self.kind.code();
        let message = self.kind.public_text().map_or_else(|| self.message.clone(), str::to_owned);
        let mut error = PlaidError::new(error_type, code, message);
        error.display_message = self.kind.display_text().map(str::to_owned);
        error.request_id = Some(request_id.into());
        error.status = Some(u64::from(self.status()));
        error
    }
}

/// Returns the error of an Item that is part of each response about it: its authorization has
/// ended, or no update has finished for long.
pub(super) fn of(record: &ItemRecord) -> Option<PlaidError> {
    if record.state.login_required() {
        return Some(of_item(&ItemsError::login_required()));
    }
    record.sync_state.stall_notified.then(cannot_finish)
}

/// Returns the error that applications are notified of if no update of an Item has finished for
/// long.
pub(crate) fn cannot_finish() -> PlaidError {
    of_item(&ItemsError::cannot_finish())
}

fn of_item(error: &ItemsError) -> PlaidError {
    let mut error = error.to_plaid_error("");
    error.request_id = None;
    error
}

impl From<StoreError> for ItemsError {
    fn from(error: StoreError) -> Self {
        let (kind, message) = match error.kind() {
            StoreErrorKind::Unavailable | StoreErrorKind::TimedOut => {
                (ItemsErrorKind::Unavailable, "the store cannot be reached or is busy; try again")
            }
            StoreErrorKind::RevocationUnderWay => (
                ItemsErrorKind::Busy,
                "the institution is revoking these tokens now; nothing was changed, try again",
            ),
            StoreErrorKind::Fenced => (
                ItemsErrorKind::Busy,
                "a worker claimed the Item meanwhile; nothing was changed, try again",
            ),
            _ => (ItemsErrorKind::Internal, "the store failed; see the source of this error"),
        };
        Self::new(kind, message).with_source(error)
    }
}

impl fmt::Display for ItemsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for ItemsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ItemsError")
            .field("kind", &self.kind)
            .field("message", &self.message)
            .field("index", &self.index)
            .field("source", &self.source)
            .finish()
    }
}

impl StdError for ItemsError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_reported_as_plaid_does() {
        let responses: Vec<_> = ItemsErrorKind::ALL
            .into_iter()
            .map(|kind| {
                let error = ItemsError::new(kind, "why").to_plaid_error("r1");
                assert_eq!(error.status, Some(u64::from(kind.status())));
                assert_eq!(error.request_id.as_deref(), Some("r1"));
                format!("{} {} {}", kind.status(), error.error_type, error.error_code)
            })
            .collect();
        assert_eq!(
            responses,
            [
                "400 INVALID_INPUT INVALID_ACCESS_TOKEN",
                "400 INVALID_INPUT UNAUTHORIZED_ROUTE_ACCESS",
                "400 ITEM_ERROR PRODUCT_NOT_READY",
                "400 ITEM_ERROR ITEM_LOGIN_REQUIRED",
                "400 INSTITUTION_ERROR INSTITUTION_NOT_RESPONDING",
                "400 INVALID_INPUT ADDITIONAL_CONSENT_REQUIRED",
                "400 INVALID_INPUT INVALID_ACCOUNT_ID",
                "400 INVALID_REQUEST INVALID_FIELD",
                "400 TRANSACTIONS_ERROR TRANSACTIONS_SYNC_MUTATION_DURING_PAGINATION",
                "400 INVALID_REQUEST INVALID_FIELD",
                "400 ITEM_ERROR ITEM_NOT_FOUND",
                "400 INVALID_REQUEST INVALID_FIELD",
                "400 INVALID_INPUT INVALID_LINK_TOKEN",
                "400 INVALID_INPUT INVALID_PUBLIC_TOKEN",
                "500 API_ERROR INTERNAL_SERVER_ERROR",
                "500 API_ERROR INTERNAL_SERVER_ERROR",
                "500 API_ERROR INTERNAL_SERVER_ERROR",
            ]
        );
    }

    #[test]
    fn an_internal_error_is_reported_without_its_cause() {
        let cause = StoreError::new(StoreErrorKind::Corrupt, "row 7 of accounts");
        let error = ItemsError::from(cause);
        assert_eq!(error.kind(), ItemsErrorKind::Internal);
        let body = error.to_plaid_error("r1");
        assert_eq!(body.error_message, "something went wrong on this side; try again later");
        assert!(!error.to_string().contains("row 7"), "the source is for the log, in its own line");
        assert!(error.source().is_some_and(|source| source.to_string().contains("row 7")));
    }
}
