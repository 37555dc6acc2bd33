//! What goes wrong in a call, told in one line.
//!
//! An error never holds a secret, a query string or the text of a body. What the other side
//! says of itself (the id and the messages of its error body) is cut to a short printable text
//! in which nothing is left of what the call sent.

use crate::oauth::TokenDefect;
use chrono::{DateTime, SecondsFormat, Utc};
use px_types::model::plaid_error::PlaidErrorType;
use std::{error::Error as StdError, fmt};

pub(crate) type Source = Box<dyn StdError + Send + Sync>;

/// The stage of a call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The request could not be made; nothing was sent.
    Build,
    /// The other side does not accept who calls (401), or a token has ended before the call.
    Auth,
    /// No connection; nothing was sent.
    Connect,
    /// No whole answer in time.
    Timeout,
    /// The connection failed, the answer was cut off, too large or not HTTP.
    Transport,
    /// The other side refused or failed, with a status.
    Api,
    /// The answer is not the message that was asked for.
    Decode,
    /// The pages of a window do not fit together.
    Paging,
}

/// Why a call failed.
///
/// `Display` is one line that says what happened and what to do next. The cause below it,
/// if there is one, is [`source`](StdError::source) and is never part of the line.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    operation: &'static str,
    what: String,
    advice: &'static str,
    status: Option<u16>,
    request_id: Option<String>,
    error_id: Option<String>,
    retry_at: Option<DateTime<Utc>>,
    may_have_been_sent: bool,
    ends_token: bool,
    attempts: u32,
    paging: Option<PagingFault>,
    token_defect: Option<TokenDefect>,
    error_type: Option<PlaidErrorType>,
    display_message: Option<String>,
    entry: Option<usize>,
    source: Option<Source>,
}

/// How the pages of a window did not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PagingFault {
    /// The window was not the same on every page, even after it was begun again.
    NeverSettled,
    /// A cursor came a second time in one walk.
    RepeatedCursor,
    /// Pages without a transaction went on and on.
    NoProgress,
    /// The whole changed while its parts were read.
    ChangedWhileRead,
}

impl Error {
    pub(crate) fn new(kind: Kind, operation: &'static str, what: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            operation,
            what: what.into(),
            advice: "",
            status: None,
            request_id: None,
            error_id: None,
            retry_at: None,
            may_have_been_sent: !matches!(kind, Kind::Build | Kind::Connect),
            ends_token: false,
            attempts: 0,
            paging: None,
            token_defect: None,
            error_type: None,
            display_message: None,
            entry: None,
            source: None,
        }))
    }

    pub(crate) fn build(operation: &'static str, what: impl Into<String>) -> Self {
        Self::new(Kind::Build, operation, what)
    }

    pub(crate) fn paging(fault: PagingFault, what: impl Into<String>) -> Self {
        let mut error = Self::new(Kind::Paging, "transactions", what);
        error.0.paging = Some(fault);
        error.advice(match fault {
            PagingFault::NeverSettled | PagingFault::ChangedWhileRead => {
                "nothing of it was taken for the truth; read it again later"
            }
            PagingFault::RepeatedCursor | PagingFault::NoProgress => {
                "this is a fault of the partner; tell them"
            }
        })
    }

    pub(crate) fn advice(mut self, advice: &'static str) -> Self {
        self.0.advice = advice;
        self
    }

    pub(crate) fn status_is(mut self, status: http::StatusCode) -> Self {
        self.0.status = Some(status.as_u16());
        self
    }

    pub(crate) fn request_id_is(mut self, id: Option<String>) -> Self {
        self.0.request_id = id;
        self
    }

    pub(crate) fn error_id_is(mut self, id: Option<String>) -> Self {
        self.0.error_id = id;
        self
    }

    /// What only Plaid's error bodies say.
    pub(crate) fn plaid_says(
        mut self,
        error_type: Option<PlaidErrorType>,
        display_message: Option<String>,
        entry: Option<usize>,
    ) -> Self {
        self.0.error_type = error_type;
        self.0.display_message = display_message;
        self.0.entry = entry;
        self
    }

    pub(crate) fn token_defect_is(mut self, defect: TokenDefect) -> Self {
        self.0.token_defect = Some(defect);
        self
    }

    pub(crate) fn retry_at_is(mut self, at: Option<DateTime<Utc>>) -> Self {
        self.0.retry_at = at;
        self
    }

    pub(crate) fn sent(mut self, may_have_been_sent: bool) -> Self {
        self.0.may_have_been_sent = may_have_been_sent;
        self
    }

    pub(crate) fn ending_token(mut self) -> Self {
        self.0.ends_token = true;
        self
    }

    pub(crate) fn after(mut self, attempts: u32) -> Self {
        self.0.attempts = attempts;
        self
    }

    pub(crate) fn caused_by(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same error for another caller who waited for the same thing; without its cause.
    pub(crate) fn for_another(&self) -> Self {
        let inner = &*self.0;
        Self(Box::new(Inner {
            what: inner.what.clone(),
            request_id: inner.request_id.clone(),
            error_id: inner.error_id.clone(),
            error_type: inner.error_type.clone(),
            display_message: inner.display_message.clone(),
            source: None,
            ..*inner
        }))
    }

    /// The stage that failed.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The id of the operation, `transactions`.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// The status of the answer, if there was one.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// The id of the request, to be quoted to the other side.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }

    /// The other side's id of the error: a partner's `window_too_long`, OAuth's
    /// `invalid_grant`, or Plaid's `INVALID_ACCESS_TOKEN`.
    #[must_use]
    pub fn error_id(&self) -> Option<&str> {
        self.0.error_id.as_deref()
    }

    /// The `error_type` of a `PlaidError`; `None` for anything else.
    #[must_use]
    pub fn plaid_error_type(&self) -> Option<&PlaidErrorType> {
        self.0.error_type.as_ref()
    }

    /// The `error_code` of a `PlaidError`, `INVALID_ACCESS_TOKEN`; `None` for anything else.
    #[must_use]
    pub fn plaid_error_code(&self) -> Option<&str> {
        self.0.error_type.as_ref().and(self.error_id())
    }

    /// What Plaid would have the user told. Foreign text: escape it where it is shown.
    #[must_use]
    pub fn display_message(&self) -> Option<&str> {
        self.0.display_message.as_deref()
    }

    /// The index of the entry of a batch for which Plaid refuses all of it, where it says so.
    ///
    /// Contract: `px.md` section 6; the form is this project's decision.
    #[must_use]
    pub fn batch_entry(&self) -> Option<usize> {
        self.0.entry
    }

    /// When the other side wants to be asked again, the later of `Retry-After` and `retry_at`.
    #[must_use]
    pub fn retry_at(&self) -> Option<DateTime<Utc>> {
        self.0.retry_at
    }

    /// Whether the other side may have seen the request. `false` is certain.
    #[must_use]
    pub fn may_have_been_sent(&self) -> bool {
        self.0.may_have_been_sent
    }

    /// Whether the bearer token is dead: delete it and ask the user for a new authorization.
    #[must_use]
    pub fn ends_token(&self) -> bool {
        self.0.ends_token
    }

    /// How often the request was tried.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// What was wrong with the message or the pages, for [`Kind::Decode`] and [`Kind::Paging`]: a
    /// place and what was expected there, and no value but an id.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        matches!(self.0.kind, Kind::Decode | Kind::Paging).then_some(&self.0.what)
    }

    /// Why tokens that the partner gave are not used.
    #[must_use]
    pub fn token_defect(&self) -> Option<TokenDefect> {
        self.0.token_defect
    }

    /// How pages did not fit together, for [`Kind::Paging`].
    #[must_use]
    pub fn paging_fault(&self) -> Option<PagingFault> {
        self.0.paging
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        write!(f, "{}: {}", inner.operation, inner.what)?;
        if inner.attempts > 1 {
            write!(f, ", after {} attempts", inner.attempts)?;
        }
        if let Some(at) = inner.retry_at {
            let at = at.to_rfc3339_opts(SecondsFormat::Secs, true);
            write!(f, "; try again at {at} or later")?;
        } else if !inner.advice.is_empty() {
            write!(f, "; {}", inner.advice)?;
        }
        if let Some(id) = &inner.request_id {
            write!(f, " (request id {id})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &format_args!("{self}"))
            .field("status", &self.0.status)
            .field("error_id", &self.0.error_id)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|source| &**source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_says_what_and_what_next() {
        let error = Error::new(Kind::Timeout, "user", "no whole answer within 30 s")
            .advice("try again later")
            .after(3)
            .request_id_is(Some("r-1".into()));
        assert_eq!(
            error.to_string(),
            "user: no whole answer within 30 s, after 3 attempts; try again later (request id r-1)"
        );
    }
}
