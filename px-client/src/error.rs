//! The error of a call, as one line of text.
//!
//! An error never contains a secret, a query string or the text of a body. The other side's own error id and
//! messages are cut to a short printable text, and everything that the call sent is removed from them.

use crate::oauth::TokenDefect;
use chrono::{DateTime, SecondsFormat, Utc};
use px_types::model::plaid_error::PlaidErrorType;
use std::{error::Error as StdError, fmt};

pub(crate) type Source = Box<dyn StdError + Send + Sync>;

/// The stage of a call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request could not be built; nothing was sent.
    Build,
    /// The other side refuses the authentication (401), or the token had ended before the call.
    Auth,
    /// The connection could not be established; nothing was sent.
    Connect,
    /// No complete response in time.
    Timeout,
    /// The connection failed, or the response was cut off, too large or not HTTP.
    Transport,
    /// The other side refused or failed, with a status.
    Api,
    /// The response is not the expected message.
    Decode,
    /// The pages of a window are inconsistent.
    Paging,
}

/// The error of a call.
///
/// `Display` is one line: what happened and what to do next. An underlying cause is available as
/// [`source`](StdError::source) and is never part of the line.
pub struct Error(Box<ErrorFields>);

struct ErrorFields {
    kind: ErrorKind,
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

/// An inconsistency between the pages of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PagingFault {
    /// The window was not the same on every page, even after restarts.
    NeverSettled,
    /// The partner returned a cursor twice for one window.
    RepeatedCursor,
    /// Too many consecutive pages have no new transactions.
    NoProgress,
    /// The whole range changed while its parts were read.
    ChangedWhileRead,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, operation: &'static str, what: impl Into<String>) -> Self {
        Self(Box::new(ErrorFields {
            kind,
            operation,
            what: what.into(),
            advice: "",
            status: None,
            request_id: None,
            error_id: None,
            retry_at: None,
            may_have_been_sent: !matches!(kind, ErrorKind::Build | ErrorKind::Connect),
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
        Self::new(ErrorKind::Build, operation, what)
    }

    pub(crate) fn paging(fault: PagingFault, what: impl Into<String>) -> Self {
        let mut error = Self::new(ErrorKind::Paging, "transactions", what);
        error.0.paging = Some(fault);
        error.with_advice(match fault {
            PagingFault::NeverSettled | PagingFault::ChangedWhileRead => {
                "the rows that were read are not reliable; read them again later"
            }
            PagingFault::RepeatedCursor | PagingFault::NoProgress => {
                "this is a fault of the partner; report it to them"
            }
        })
    }

    pub(crate) fn with_advice(mut self, advice: &'static str) -> Self {
        self.0.advice = advice;
        self
    }

    pub(crate) fn with_status(mut self, status: http::StatusCode) -> Self {
        self.0.status = Some(status.as_u16());
        self
    }

    pub(crate) fn with_request_id(mut self, id: Option<String>) -> Self {
        self.0.request_id = id;
        self
    }

    pub(crate) fn with_error_id(mut self, id: Option<String>) -> Self {
        self.0.error_id = id;
        self
    }

    /// Adds the fields that only Plaid's error bodies have.
    pub(crate) fn with_plaid_fields(
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

    pub(crate) fn with_token_defect(mut self, defect: TokenDefect) -> Self {
        self.0.token_defect = Some(defect);
        self
    }

    pub(crate) fn with_retry_at(mut self, at: Option<DateTime<Utc>>) -> Self {
        self.0.retry_at = at;
        self
    }

    pub(crate) fn with_may_have_been_sent(mut self, may_have_been_sent: bool) -> Self {
        self.0.may_have_been_sent = may_have_been_sent;
        self
    }

    pub(crate) fn with_ended_token(mut self) -> Self {
        self.0.ends_token = true;
        self
    }

    pub(crate) fn with_attempts(mut self, attempts: u32) -> Self {
        self.0.attempts = attempts;
        self
    }

    pub(crate) fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Returns the same error for another caller that waited for the same result; without its cause.
    pub(crate) fn for_waiter(&self) -> Self {
        let inner = &*self.0;
        Self(Box::new(ErrorFields {
            what: inner.what.clone(),
            request_id: inner.request_id.clone(),
            error_id: inner.error_id.clone(),
            error_type: inner.error_type.clone(),
            display_message: inner.display_message.clone(),
            source: None,
            ..*inner
        }))
    }

    /// Returns the stage that failed.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the id of the operation, such as `transactions`.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// Returns the status of the response. Returns `None` if there was none.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// Returns the id of the request, for a report to the other side.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }

    /// Returns the other side's error id.
    ///
    /// It is a partner's id such as `window_too_long`, one of OAuth such as `invalid_grant`, or one of Plaid
    /// such as `INVALID_ACCESS_TOKEN`.
    #[must_use]
    pub fn error_id(&self) -> Option<&str> {
        self.0.error_id.as_deref()
    }

    /// Returns the `error_type` of a `PlaidError`. Returns `None` for other errors.
    #[must_use]
    pub fn plaid_error_type(&self) -> Option<&PlaidErrorType> {
        self.0.error_type.as_ref()
    }

    /// Returns the `error_code` of a `PlaidError`, such as `INVALID_ACCESS_TOKEN`.
    ///
    /// Returns `None` for other errors.
    #[must_use]
    pub fn plaid_error_code(&self) -> Option<&str> {
        self.0.error_type.as_ref().and(self.error_id())
    }

    /// Returns Plaid's message for the user. Foreign text: escape it where it is shown.
    #[must_use]
    pub fn display_message(&self) -> Option<&str> {
        self.0.display_message.as_deref()
    }

    /// Returns the index of the batch entry that makes Plaid refuse the batch, if Plaid names one.
    ///
    /// Contract: `px.md` section 6; the form is this project's decision.
    #[must_use]
    pub fn batch_entry(&self) -> Option<usize> {
        self.0.entry
    }

    /// Returns the time before which the other side wants no retry.
    ///
    /// It is the later of `Retry-After` and `retry_at`.
    #[must_use]
    pub fn retry_at(&self) -> Option<DateTime<Utc>> {
        self.0.retry_at
    }

    /// Returns whether the other side may have received the request. `false` is certain.
    #[must_use]
    pub fn may_have_been_sent(&self) -> bool {
        self.0.may_have_been_sent
    }

    /// Returns whether the bearer token has ended: delete it and get a new authorization from the user.
    #[must_use]
    pub fn ends_token(&self) -> bool {
        self.0.ends_token
    }

    /// Returns the number of attempts.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// Returns the defect of a message or of pages, for [`ErrorKind::Decode`] and [`ErrorKind::Paging`].
    ///
    /// It is a location and what was expected there, and contains no values except ids.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        matches!(self.0.kind, ErrorKind::Decode | ErrorKind::Paging).then_some(&self.0.what)
    }

    /// Returns the reason why tokens from the partner are not used.
    #[must_use]
    pub fn token_defect(&self) -> Option<TokenDefect> {
        self.0.token_defect
    }

    /// Returns the inconsistency of the pages, for [`ErrorKind::Paging`].
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
        let error = Error::new(ErrorKind::Timeout, "user", "no complete response within 30 s")
            .with_advice("try again later")
            .with_attempts(3)
            .with_request_id(Some("r-1".into()));
        assert_eq!(
            error.to_string(),
            "user: no complete response within 30 s, after 3 attempts; try again later (request id r-1)"
        );
    }
}
