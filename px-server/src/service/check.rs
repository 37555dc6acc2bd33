//! The response check: does what the partner's code returned keep the contract?

use super::answer::Answer;
use crate::Caller;
use px_types::partner::{TransactionsQuery, TransactionsResponse, UserAccountInfoResponse};

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
        if cfg!(debug_assertions) {
            Self::Refuse
        } else {
            Self::Log
        }
    }
}

pub(crate) fn user(
    _check: ResponseCheck,
    _answer: &UserAccountInfoResponse,
    _caller: &Caller,
) -> Result<(), Answer> {
    Ok(())
}

pub(crate) fn transactions(
    _check: ResponseCheck,
    _answer: &TransactionsResponse,
    _query: &TransactionsQuery,
    _caller: &Caller,
) -> Result<(), Answer> {
    Ok(())
}
