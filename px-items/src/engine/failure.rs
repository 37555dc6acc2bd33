//! Consequences of a failed call for an Item and for its partner. Pure.

use crate::{
    store::StoreError,
    sync_state::{FailureKind, FailureRecord, TokenProblem},
};
use chrono::{DateTime, Utc};
use px_client::{Error, ErrorKind, PagingFault};

/// Failed attempt to work on an Item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: FailureKind,
    /// One line for operators, without any text of the partner about its customer.
    pub(super) what: String,
    /// Time before which the partner must not be called, as it requested.
    pub(super) retry_at: Option<DateTime<Utc>>,
    /// Problem with the tokens, if any.
    pub(super) tokens: Option<TokenProblem>,
}

impl Failure {
    fn new(kind: FailureKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), retry_at: None, tokens: None }
    }

    pub(super) fn internal(what: impl Into<String>) -> Self {
        Self::new(FailureKind::Internal, what)
    }

    /// Returns the failure of a store call.
    pub(super) fn store(error: &StoreError) -> Self {
        Self::internal(format!("the store failed: {error}"))
    }

    /// Returns the failure for a partner that refuses the window of a single day.
    pub(super) fn rejected_day() -> Self {
        let what = "transactions: the partner refuses even a single day as too long";
        Self::new(FailureKind::Rejected, what)
    }

    /// Returns the failure for a window with a number of rows that differs from its constant
    /// `total`.
    pub(super) fn miscounted() -> Self {
        let what = "transactions: the number of rows differs from the total";
        Self::new(FailureKind::Moving, what)
    }

    /// Returns whether the failure is on this side and says nothing about the partner.
    pub(super) fn is_internal(&self) -> bool {
        self.kind == FailureKind::Internal
    }

    /// Returns the failure of a call, for another reason than a refused token.
    pub(super) fn of(error: &Error) -> Self {
        let (kind, what, tokens) = (kind(error), describe(error), tokens(error));
        Self { kind, what, retry_at: error.retry_at(), tokens }
    }

    /// Returns whether the partner as a whole seems to be down, and not only this Item at fault.
    pub(super) fn partner_is_down(&self) -> bool {
        use FailureKind as K;
        match self.kind {
            K::Unavailable | K::RateLimited | K::Network => true,
            K::Invalid | K::Moving | K::Rejected | K::Tokens | K::Internal | K::Unknown => false,
        }
    }

    /// Returns whether the window may have failed because the partner cannot serve so much at once.
    /// Returns `false` if the partner names a time for the next call.
    pub(super) fn may_be_too_heavy(&self) -> bool {
        let kind = matches!(self.kind, FailureKind::Network | FailureKind::Unavailable);
        kind && self.retry_at.is_none()
    }

    pub(super) fn note(&self, at: DateTime<Utc>) -> FailureRecord {
        FailureRecord::new(at, self.kind, self.what.clone()).tokens(self.tokens)
    }
}

fn kind(error: &Error) -> FailureKind {
    use FailureKind as K;
    match (error.kind(), error.status()) {
        (_, Some(503)) => K::Unavailable,
        (_, Some(429)) => K::RateLimited,
        (ErrorKind::Api, Some(408 | 500..=599)) => K::Network,
        (ErrorKind::Connect | ErrorKind::Timeout | ErrorKind::Transport, _) => K::Network,
        (ErrorKind::Decode, _) => K::Invalid,
        (ErrorKind::Paging, _) => match error.paging_fault() {
            Some(PagingFault::RepeatedCursor | PagingFault::NoProgress) => K::Invalid,
            _ => K::Moving,
        },
        // 401 for the id and secret of this side, and refusals of the token endpoint.
        (ErrorKind::Auth, _) => K::Tokens,
        (ErrorKind::Api, _) if error.operation() == "token" => K::Tokens,
        (ErrorKind::Api, _) => K::Rejected,
        _ => K::Internal,
    }
}

/// Returns the problem with the tokens that a failed refresh shows. A refusal with `invalid_grant`
/// is none of these: it ends the authorization.
fn tokens(error: &Error) -> Option<TokenProblem> {
    if error.token_defect().is_some() {
        return Some(TokenProblem::KeptApart);
    }
    let is_refusal = error.operation() == "token"
        && error.error_id() != Some("invalid_grant")
        && matches!(error.status(), Some(400..=499))
        && !matches!(error.status(), Some(408 | 429));
    is_refusal.then_some(TokenProblem::Refused)
}

fn describe(error: &Error) -> String {
    let operation = error.operation();
    if let Some(defect) = error.token_defect() {
        return format!("{operation}: {defect}; they are kept apart and not used");
    }
    let mut what = match (error.kind(), error.status()) {
        (ErrorKind::Decode, _) => {
            let detail = error.detail().unwrap_or("the response does not follow the contract");
            format!("{operation}: {detail}")
        }
        (_, Some(status)) => match error.error_id() {
            Some(id) => format!("{operation}: responded with {status} {id}"),
            None => format!("{operation}: responded with {status}"),
        },
        (ErrorKind::Auth, None) => format!("{operation}: the authorization was not accepted"),
        (ErrorKind::Connect, None) => format!("{operation}: could not connect"),
        (ErrorKind::Timeout, None) => {
            format!("{operation}: timed out before the response was complete")
        }
        (ErrorKind::Transport, None) => {
            format!("{operation}: the response was cut off or malformed")
        }
        (ErrorKind::Paging, None) => match error.paging_fault() {
            Some(PagingFault::RepeatedCursor) => {
                format!("{operation}: a cursor came a second time")
            }
            Some(PagingFault::NoProgress) => {
                format!("{operation}: too many pages without a transaction")
            }
            _ => {
                let detail = error.detail().map(|detail| format!(" ({detail})"));
                let detail = detail.unwrap_or_default();
                format!("{operation}: the window changed during each reading{detail}")
            }
        },
        _ => format!("{operation}: the request could not be sent"),
    };
    if let Some(id) = error.request_id() {
        what.push_str(&format!(" (request id {id})"));
    }
    what
}
