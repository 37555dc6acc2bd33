//! Errors of a partner's code.
//!
//! An error has a public part, which is sent to the caller, and a private source, which is only
//! logged.

use http::StatusCode;
use px_types::{Timestamp, error_id};
use std::{borrow::Cow, error::Error as StdError, fmt, time::Duration};

/// An error, as the partner's code reports it.
///
/// Create it with a constructor, which determines the kind, the status and the id.
/// Contract: `px.md` sections 2.3 and 8.
pub struct Error {
    pub(crate) kind: ErrorKind,
    pub(crate) id: Cow<'static, str>,
    pub(crate) message: Cow<'static, str>,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) retry_at: Option<Timestamp>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The kind of an [`Error`]; determines the HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request is invalid: 400.
    InvalidRequest,
    /// A sign-in was refused: 401 in credentials mode. On a call with a token the status is
    /// 500, because a 401 would end a valid token.
    SignInRefused,
    /// The caller is not permitted: 403.
    Forbidden,
    /// The partner does not offer the operation: 404.
    NotOffered,
    /// Too many requests: 429.
    TooManyRequests,
    /// The partner's own code failed: 500.
    Internal,
    /// The institution is temporarily unavailable: 503.
    Unavailable,
}

impl Error {
    fn new(kind: ErrorKind, id: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            id: id.into(),
            message: message.into(),
            retry_after: None,
            retry_at: None,
            source: None,
        }
    }

    /// Creates an error for an invalid parameter or body. The message should name the
    /// parameter, not its value.
    #[must_use]
    pub fn invalid_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InvalidRequest, error_id::INVALID_REQUEST, message)
    }

    /// Creates an error for a cursor that is no longer known, or after a change of its window.
    #[must_use]
    pub fn cursor_expired() -> Self {
        let text = "The cursor has expired. Start the window again from its first page.";
        Self::new(ErrorKind::InvalidRequest, error_id::CURSOR_EXPIRED, text)
    }

    /// Creates an error for a window that is longer than the partner serves.
    #[must_use]
    pub fn window_too_long(days: u32) -> Self {
        let text = format!("The window is longer than {days} days. Request shorter windows.");
        Self::new(ErrorKind::InvalidRequest, error_id::WINDOW_TOO_LONG, text)
    }

    /// Creates an error for a wrong user name or password. For credentials mode only.
    #[must_use]
    pub fn invalid_credentials() -> Self {
        let text = "The username or the password is wrong.";
        Self::new(ErrorKind::SignInRefused, error_id::INVALID_CREDENTIALS, text)
    }

    /// Creates an error for a wrong challenge answer or an unknown challenge. For credentials
    /// mode only.
    #[must_use]
    pub fn invalid_challenge() -> Self {
        let text = "The answer is wrong, or the challenge has ended.";
        Self::new(ErrorKind::SignInRefused, error_id::INVALID_CHALLENGE, text)
    }

    /// Creates an error for a user with too many wrong attempts. For credentials mode only.
    #[must_use]
    pub fn user_locked() -> Self {
        let text = "The user is locked out. The user should contact the institution.";
        Self::new(ErrorKind::Forbidden, error_id::USER_LOCKED, text)
    }

    /// Creates an error for an operation that the partner does not offer.
    #[must_use]
    pub fn not_offered() -> Self {
        Self::new(ErrorKind::NotOffered, error_id::NOT_FOUND, "This path does not exist.")
    }

    /// Creates an error for too many requests, with the time after which the caller may retry.
    #[must_use]
    pub fn too_many_requests(retry_after: Duration) -> Self {
        let text = "Too many requests. Retry after the time in `Retry-After`.";
        let mut error = Self::new(ErrorKind::TooManyRequests, error_id::TOO_MANY_REQUESTS, text);
        error.retry_after = Some(retry_after);
        error
    }

    /// Creates an error for a failure of the partner's own code. The source is logged and not
    /// sent.
    #[must_use]
    pub fn internal(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let text = "The institution could not process this request.";
        Self::new(ErrorKind::Internal, error_id::INTERNAL_ERROR, text).with_source(source)
    }

    /// Creates an error for an institution that is temporarily unavailable.
    #[must_use]
    pub fn unavailable() -> Self {
        let text = "The institution is temporarily unavailable.";
        Self::new(ErrorKind::Unavailable, error_id::INSTITUTION_UNAVAILABLE, text)
    }

    /// Sets when the institution expects to be available again; use it with
    /// [`Error::unavailable`].
    #[must_use]
    pub fn retry_at(mut self, at: Timestamp) -> Self {
        self.retry_at = Some(at);
        self
    }

    /// Replaces the id and the message with the partner's own. The status stays.
    #[must_use]
    pub fn with_description(
        mut self,
        id: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.id = id.into();
        self.message = message.into();
        self
    }

    /// Sets the source of the error, which is logged and not sent.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the id that is sent to the caller.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the message that is sent to the caller.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the HTTP status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self.kind {
            ErrorKind::InvalidRequest => StatusCode::BAD_REQUEST,
            ErrorKind::SignInRefused => StatusCode::UNAUTHORIZED,
            ErrorKind::Forbidden => StatusCode::FORBIDDEN,
            ErrorKind::NotOffered => StatusCode::NOT_FOUND,
            ErrorKind::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.id, self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.kind)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}
