//! What a failed call means for an Item and for its partner. Pure.

use crate::{
    life::{FailureKind, FailureNote, TokenTrouble},
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
    /// What is wrong with the tokens.
    pub(super) tokens: Option<TokenTrouble>,
}

impl Failure {
    fn new(kind: FailureKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), retry_at: None, tokens: None }
    }

    pub(super) fn internal(what: impl Into<String>) -> Self {
        Self::new(FailureKind::Internal, what)
    }

    /// The store did not do what was needed.
    pub(super) fn store(error: &StoreError) -> Self {
        Self::internal(format!("the store failed: {error}"))
    }

    /// The partner refuses the window of a single day.
    pub(super) fn rejected_day() -> Self {
        let what = "transactions: the partner refuses even a single day as too long";
        Self::new(FailureKind::Rejected, what)
    }

    /// The rows of a window are not as many as its `total`, though it did not change.
    pub(super) fn miscounted() -> Self {
        let what = "transactions: the rows are not as many as the total says";
        Self::new(FailureKind::Moving, what)
    }

    /// Whether it says nothing of the partner.
    pub(super) fn is_ours(&self) -> bool {
        self.kind == FailureKind::Internal
    }

    /// A call failed, for another reason than a refused token.
    pub(super) fn of(error: &Error) -> Self {
        let (kind, what, tokens) = (kind(error), what(error), tokens(error));
        Self { kind, what, retry_at: error.retry_at(), tokens }
    }

    /// Whether the partner as a whole seems to be down, and not this Item alone at fault.
    pub(super) fn partner_is_down(&self) -> bool {
        use FailureKind as K;
        match self.kind {
            K::Unavailable | K::RateLimited | K::Network => true,
            K::Invalid | K::Moving | K::Rejected | K::Tokens | K::Internal | K::Unknown => false,
        }
    }

    /// Whether a window may have failed because the partner cannot serve so much at once. A partner
    /// that names a time does not mean that.
    pub(super) fn may_be_too_heavy(&self) -> bool {
        let kind = matches!(self.kind, FailureKind::Network | FailureKind::Unavailable);
        kind && self.retry_at.is_none()
    }

    pub(super) fn note(&self, at: DateTime<Utc>) -> FailureNote {
        FailureNote::new(at, self.kind, self.what.clone()).tokens(self.tokens)
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

/// What a failed refresh says of the tokens. A refusal with `invalid_grant` is none of these: it ends
/// them.
fn tokens(error: &Error) -> Option<TokenTrouble> {
    if error.token_defect().is_some() {
        return Some(TokenTrouble::KeptApart);
    }
    let is_refusal = error.operation() == "token"
        && error.error_id() != Some("invalid_grant")
        && matches!(error.status(), Some(400..=499))
        && !matches!(error.status(), Some(408 | 429));
    is_refusal.then_some(TokenTrouble::Refused)
}

fn what(error: &Error) -> String {
    let operation = error.operation();
    if let Some(defect) = error.token_defect() {
        return format!("{operation}: {defect}; they are kept apart and not used");
    }
    let mut what = match (error.kind(), error.status()) {
        (Kind::Decode, _) => {
            let detail = error.detail().unwrap_or("the answer is not what the contract says");
            format!("{operation}: {detail}")
        }
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
            _ => {
                let detail = error.detail().map(|detail| format!(" ({detail})"));
                let detail = detail.unwrap_or_default();
                format!("{operation}: the window changed whenever it was read{detail}")
            }
        },
        _ => format!("{operation}: the request could not be made"),
    };
    if let Some(id) = error.request_id() {
        what.push_str(&format!(" (request id {id})"));
    }
    what
}
