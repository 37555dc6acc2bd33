//! The response check: does what the partner's code returned keep the contract?

use super::answer::Answer;
use crate::Caller;
use px_types::{
    partner::{TransactionsQuery, TransactionsResponse, UserAccountInfoResponse},
    validate::{PageContext, Report, UserContext},
};

/// The breaches of one answer that are logged; a broken page can have thousands.
const MOST_LOGGED: usize = 20;

/// What happens to an answer of the partner's code that breaks the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResponseCheck {
    /// It is not looked at.
    Off,
    /// It goes out, and the log names what is wrong.
    Log,
    /// It is answered 500 instead, and the log names what is wrong.
    Refuse,
}

impl Default for ResponseCheck {
    /// Strict while the program is developed and tested, lenient in release builds.
    fn default() -> Self {
        if cfg!(debug_assertions) { Self::Refuse } else { Self::Log }
    }
}

/// Checks a user's answer.
pub(crate) fn user(
    check: ResponseCheck,
    answer: &UserAccountInfoResponse,
    caller: &Caller,
) -> Result<(), Answer> {
    check.apply(caller, || answer.validate(&UserContext::for_scopes(&caller.grant.scopes)))
}

/// Checks a page.
pub(crate) fn transactions(
    check: ResponseCheck,
    answer: &TransactionsResponse,
    query: &TransactionsQuery,
    caller: &Caller,
) -> Result<(), Answer> {
    check.apply(caller, || answer.validate(&PageContext::new().query(query)))
}

impl ResponseCheck {
    fn apply(self, caller: &Caller, validate: impl FnOnce() -> Report) -> Result<(), Answer> {
        if self == Self::Off {
            return Ok(());
        }
        let report = validate();
        if !report.has_errors() {
            return Ok(());
        }
        for breach in report.errors().take(MOST_LOGGED) {
            // Path, rule and text of a breach hold no value of the answer.
            tracing::error!(request_id = &*caller.request_id, %breach, "the answer breaks the contract");
        }
        match self {
            Self::Refuse => Err(Answer::internal()),
            Self::Log | Self::Off => Ok(()),
        }
    }
}
