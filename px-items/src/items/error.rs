//! Why a call of an application or a partner is refused, and what it is told.
//!
//! The codes and types are those that Plaid publishes, so that programs written for them know
//! what to do.

use crate::store::{ItemRecord, StoreError, StoreErrorKind};
use px_types::model::{
    plaid_error::{PlaidError, PlaidErrorType},
    product::Product,
};
use std::{error::Error as StdError, fmt};

/// Why a call was refused or failed.
///
/// Holds no secret and no customer's data.
pub struct ItemsError {
    kind: ItemsErrorKind,
    what: String,
    index: Option<usize>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The code of Plaid's for an Item whose institution does not serve all of its data.
const CANNOT_FINISH: &str = "INSTITUTION_NOT_RESPONDING";

/// What kind of refusal or failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ItemsErrorKind {
    /// The access token is unknown, ended or another environment's; or the Item is gone.
    InvalidAccessToken,
    /// The token is a partner's, and a partner reads nothing.
    NotForPartners,
    /// What was asked for is not there yet.
    ProductNotReady,
    /// Nothing is there, and the user must authorize again before anything can be.
    LoginRequired,
    /// Nothing is there, since the institution's data cannot be read to its end.
    CannotFinish,
    /// The user did not let the application use that product.
    ConsentRequired,
    /// The application sees no account of that id.
    InvalidAccount,
    /// A cursor of another Item, application, or view of it; or one that was altered.
    InvalidCursor,
    /// Transactions changed between two pages: begin again where the first page began.
    SyncMutated,
    /// A field is out of its range or malformed.
    InvalidField,
    /// There is no such Item.
    ItemNotFound,
    /// The application is not connected to the Item.
    NotConnected,
    /// There is no such link token: it was used, has expired, or never was.
    InvalidLinkToken,
    /// There is no such public token: it was used, has expired, or is another application's.
    InvalidPublicToken,
    /// A worker has the Item now, or it rests. Trying again can help.
    Busy,
    /// The store is out of reach. Trying again can help.
    Unavailable,
    /// A fault of this side.
    Internal,
}

impl ItemsErrorKind {
    /// Every kind.
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

    /// Plaid's type and code.
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

    /// The HTTP status of the refusal.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Busy | Self::Unavailable | Self::Internal => 500,
            _ => 400,
        }
    }

    /// What a user can be shown, where the user can do something.
    fn for_the_user(self) -> Option<&'static str> {
        match self {
            Self::LoginRequired => Some("Please sign in at your bank again."),
            _ => None,
        }
    }

    /// What a developer is told when the cause is not theirs to know.
    fn in_public(self) -> Option<&'static str> {
        match self {
            Self::Busy | Self::Unavailable | Self::Internal => {
                Some("something went wrong on this side; try again later")
            }
            _ => None,
        }
    }
}

impl ItemsError {
    pub(crate) fn new(kind: ItemsErrorKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), index: None, source: None }
    }

    pub(super) fn at(mut self, index: usize) -> Self {
        self.index = Some(index);
        self
    }

    pub(super) fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
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
            "there is no such link token: it was used, has expired, or is of another environment",
        )
    }

    pub(crate) fn invalid_public_token() -> Self {
        Self::new(
            ItemsErrorKind::InvalidPublicToken,
            "there is no such public token: it was used, has expired, or is of another environment",
        )
    }

    pub(super) fn no_id() -> Self {
        Self::new(ItemsErrorKind::Internal, "no id could be made")
    }

    pub(super) fn invalid_access_token() -> Self {
        Self::new(
            ItemsErrorKind::InvalidAccessToken,
            "there is no such access token: it ended, or is of another environment",
        )
    }

    pub(super) fn not_ready() -> Self {
        Self::new(
            ItemsErrorKind::ProductNotReady,
            "this is still being fetched: wait for the webhook, or try again later",
        )
    }

    pub(super) fn login_required() -> Self {
        Self::new(
            ItemsErrorKind::LoginRequired,
            "the institution refuses this Item's authorization: the user has to sign in there again",
        )
    }

    pub(super) fn cannot_finish() -> Self {
        Self::new(
            ItemsErrorKind::CannotFinish,
            "the institution's data could not be read to its end for days; it is tried again",
        )
    }

    pub(super) fn consent_required(product: &Product) -> Self {
        Self::new(
            ItemsErrorKind::ConsentRequired,
            format!("the user did not let this application use {product}: ask for it"),
        )
    }

    pub(super) fn invalid_account(index: usize) -> Self {
        Self::new(
            ItemsErrorKind::InvalidAccount,
            format!("the Item has no account of the id at index {index} of account_ids"),
        )
        .at(index)
    }

    // The text is the one that readers of Plaid know: some look for it to begin anew.
    pub(super) fn invalid_cursor() -> Self {
        Self::new(ItemsErrorKind::InvalidCursor, "cursor not associated with access_token")
    }

    // It begins as the other one does, for readers that look for that text.
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
            "transactions changed since the page before: begin again with the cursor that the \
             first page was read with",
        )
    }

    pub(super) fn invalid_field(field: &str, what: &str) -> Self {
        Self::new(ItemsErrorKind::InvalidField, format!("{field} {what}"))
    }

    pub(super) fn item_not_found() -> Self {
        Self::new(
            ItemsErrorKind::ItemNotFound,
            "there is no such Item: it was removed, or never was",
        )
    }

    /// What kind of refusal or failure it is.
    #[must_use]
    pub fn kind(&self) -> ItemsErrorKind {
        self.kind
    }

    /// The index of the entry that it is about, in a batch or a list.
    #[must_use]
    pub fn index(&self) -> Option<usize> {
        self.index
    }

    /// The HTTP status of the answer that tells it.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.kind.status()
    }

    /// The body of the answer that tells it.
    #[must_use]
    pub fn to_plaid_error(&self, request_id: impl Into<String>) -> PlaidError {
        let (error_type, code) = self.kind.code();
        let what = self.kind.in_public().map_or_else(|| self.what.clone(), str::to_owned);
        let mut error = PlaidError::new(error_type, code, what);
        error.display_message = self.kind.for_the_user().map(str::to_owned);
        error.request_id = Some(request_id.into());
        error.status = Some(u64::from(self.status()));
        error
    }
}

/// Returns the error of an Item whose authorization is lost or that has not finished an update for
/// long: part of what is read of it.
pub(super) fn of(record: &ItemRecord) -> Option<PlaidError> {
    if record.state.login_required() {
        return Some(of_item(&ItemsError::login_required()));
    }
    record.life.stall_notified.then(cannot_finish)
}

/// Returns the error that applications are notified of if an Item has not finished for long.
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
        let (kind, what) = match error.kind() {
            StoreErrorKind::Unavailable | StoreErrorKind::TimedOut => {
                (ItemsErrorKind::Unavailable, "the store cannot be reached or is busy; try again")
            }
            StoreErrorKind::RevocationUnderWay => (
                ItemsErrorKind::Busy,
                "the institution is ending these tokens at this moment; nothing was changed, try again",
            ),
            StoreErrorKind::Fenced => (
                ItemsErrorKind::Busy,
                "a worker took the Item meanwhile; nothing was changed, try again",
            ),
            _ => (ItemsErrorKind::Internal, "the store failed; see the source of this error"),
        };
        Self::new(kind, what).caused_by(error)
    }
}

impl fmt::Display for ItemsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl fmt::Debug for ItemsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ItemsError")
            .field("kind", &self.kind)
            .field("what", &self.what)
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
    fn each_kind_is_told_as_plaid_tells_it() {
        let told: Vec<_> = ItemsErrorKind::ALL
            .into_iter()
            .map(|kind| {
                let error = ItemsError::new(kind, "why").to_plaid_error("r1");
                assert_eq!(error.status, Some(u64::from(kind.status())));
                assert_eq!(error.request_id.as_deref(), Some("r1"));
                format!("{} {} {}", kind.status(), error.error_type, error.error_code)
            })
            .collect();
        assert_eq!(
            told,
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
    fn a_fault_of_this_side_is_told_without_its_cause() {
        let cause = StoreError::new(StoreErrorKind::Corrupt, "row 7 of accounts");
        let error = ItemsError::from(cause);
        assert_eq!(error.kind(), ItemsErrorKind::Internal);
        let told = error.to_plaid_error("r1");
        assert_eq!(told.error_message, "something went wrong on this side; try again later");
        assert!(!error.to_string().contains("row 7"), "the source is for the log, in its own line");
        assert!(error.source().is_some_and(|source| source.to_string().contains("row 7")));
    }
}
