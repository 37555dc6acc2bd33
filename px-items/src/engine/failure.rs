//! What a failed call means for an Item and for its partner. Pure.

use crate::{
    life::{FailureKind, FailureNote},
    store::StoreError,
};
use chrono::{DateTime, Utc};
use px_client::{Error, Kind, PagingFault};

/// A failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: FailureKind,
    /// One line for people, without a word of what the partner wrote of its customer.
    pub(super) what: String,
    /// Before this the partner asked not to be called.
    pub(super) retry_at: Option<DateTime<Utc>>,
}

impl Failure {
    pub(super) fn internal(what: impl Into<String>) -> Self {
        Self { kind: FailureKind::Internal, what: what.into(), retry_at: None }
    }

    /// The store did not do what was needed.
    pub(super) fn store(error: &StoreError) -> Self {
        Self::internal(format!("the store failed: {error}"))
    }

    /// The partner refuses the window of a single day.
    pub(super) fn rejected_day() -> Self {
        let what = "transactions: the partner refuses even a single day as too long".into();
        Self { kind: FailureKind::Rejected, what, retry_at: None }
    }

    /// The rows of a window are not as many as its `total`, though it did not change.
    pub(super) fn miscounted() -> Self {
        let what = "transactions: the rows are not as many as the total says".into();
        Self { kind: FailureKind::Moving, what, retry_at: None }
    }

    /// Whether it says nothing of the partner.
    pub(super) fn is_ours(&self) -> bool {
        self.kind == FailureKind::Internal
    }

    /// A call failed, for another reason than a refused token.
    pub(super) fn of(error: &Error) -> Self {
        Self { kind: kind(error), what: what(error), retry_at: error.retry_at() }
    }

    /// Whether the partner as a whole seems to be down, and not this Item alone at fault.
    pub(super) fn partner_is_down(&self) -> bool {
        use FailureKind as K;
        match self.kind {
            K::Unavailable | K::RateLimited | K::Network => true,
            K::Invalid | K::Moving | K::Rejected | K::Tokens | K::Internal | K::Unknown => false,
        }
    }

    pub(super) fn note(&self, at: DateTime<Utc>) -> FailureNote {
        FailureNote::new(at, self.kind, self.what.clone())
    }
}

fn kind(error: &Error) -> FailureKind {
    use FailureKind as K;
    match (error.kind(), error.status()) {
        (_, Some(503)) => K::Unavailable,
        (_, Some(429)) => K::RateLimited,
        (Kind::Api, Some(408 | 500..=599)) => K::Network,
        (Kind::Connect | Kind::Timeout | Kind::Transport, _) => K::Network,
        (Kind::Decode, _) => K::Invalid,
        (Kind::Paging, _) => match error.paging_fault() {
            Some(PagingFault::RepeatedCursor | PagingFault::NoProgress) => K::Invalid,
            _ => K::Moving,
        },
        // 401 to this side's own id and secret, and what the token endpoint refuses.
        (Kind::Auth, _) => K::Tokens,
        (Kind::Api, _) if error.operation() == "token" => K::Tokens,
        (Kind::Api, _) => K::Rejected,
        _ => K::Internal,
    }
}

fn what(error: &Error) -> String {
    let operation = error.operation();
    let mut what = match (error.kind(), error.status()) {
        (Kind::Decode, _) => format!("{operation}: the answer is not what the contract says"),
        (_, Some(status)) => match error.error_id() {
            Some(id) => format!("{operation}: answered {status} {id}"),
            None => format!("{operation}: answered {status}"),
        },
        (Kind::Auth, None) => format!("{operation}: the authorization was not accepted"),
        (Kind::Connect, None) => format!("{operation}: no connection"),
        (Kind::Timeout, None) => format!("{operation}: no whole answer in time"),
        (Kind::Transport, None) => format!("{operation}: the answer was cut off or broken"),
        (Kind::Paging, None) => match error.paging_fault() {
            Some(PagingFault::RepeatedCursor) => {
                format!("{operation}: a cursor came a second time")
            }
            Some(PagingFault::NoProgress) => {
                format!("{operation}: pages without a transaction go on and on")
            }
            _ => format!("{operation}: the window changed whenever it was read"),
        },
        _ => format!("{operation}: the request could not be made"),
    };
    if let Some(id) = error.request_id() {
        what.push_str(&format!(" (request id {id})"));
    }
    what
}
