//! The response check: validates the responses of the partner's code against the contract.

use super::response::ApiResponse;
use crate::Caller;
use px_types::{
    partner::{TransactionsQuery, TransactionsResponse, UserAccountInfoResponse},
    validate::{PageContext, Report, UserContext},
};

/// Maximum number of violations of one response that are logged; a broken page can have thousands.
const MAX_LOGGED_BREACHES: usize = 20;

/// The handling of a response of the partner's code that violates the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResponseCheck {
    /// Responses are not checked.
    Off,
    /// The response is sent, and each violation is logged.
    Log,
    /// The response is replaced by status 500, and each violation is logged.
    Refuse,
}

impl Default for ResponseCheck {
    /// Returns [`Refuse`](Self::Refuse) in debug builds and [`Log`](Self::Log) in release
    /// builds.
    fn default() -> Self {
        if cfg!(debug_assertions) { Self::Refuse } else { Self::Log }
    }
}

/// Checks a response with a user's accounts.
pub(crate) fn user(
    check: ResponseCheck,
    response: &UserAccountInfoResponse,
    caller: &Caller,
) -> Result<(), ApiResponse> {
    check.apply(caller, || response.validate(&UserContext::for_scopes(&caller.grant.scopes)))
}

/// Checks a page of transactions.
pub(crate) fn transactions(
    check: ResponseCheck,
    response: &TransactionsResponse,
    query: &TransactionsQuery,
    caller: &Caller,
) -> Result<(), ApiResponse> {
    check.apply(caller, || response.validate(&PageContext::new().query(query)))
}

impl ResponseCheck {
    fn apply(self, caller: &Caller, validate: impl FnOnce() -> Report) -> Result<(), ApiResponse> {
        if self == Self::Off {
            return Ok(());
        }
        let report = validate();
        if !report.has_errors() {
            return Ok(());
        }
        for breach in report.errors().take(MAX_LOGGED_BREACHES) {
            // The path, rule and text of a violation contain no value of the response.
            tracing::error!(request_id = &*caller.request_id, %breach, "the response violates the contract");
        }
        match self {
            Self::Refuse => Err(ApiResponse::internal()),
            Self::Log | Self::Off => Ok(()),
        }
    }
}
