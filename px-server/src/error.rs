//! What a partner's code answers when it cannot give what was asked for.
//!
//! An error has a public half, which goes on the wire, and a private source,
//! which goes to the log and nowhere else.

use http::StatusCode;
use px_types::{Timestamp, error_id};
use std::{borrow::Cow, error::Error as StdError, fmt, time::Duration};

/// A failure, as the partner's code reports it.
///
/// Made by one of the constructors, each of which fixes status and id. Contract:
/// `px.md` sections 2.3 and 8.
pub struct Error {
    pub(crate) kind: Kind,
    pub(crate) id: Cow<'static, str>,
    pub(crate) message: Cow<'static, str>,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) retry_at: Option<Timestamp>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What kind of failure it is; decides the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// The request is wrong: 400.
    InvalidRequest,
    /// A sign-in was refused: 401 in credentials mode. Elsewhere it is answered 500, because a
    /// 401 would end a token that lives.
    SignInRefused,
    /// The caller may not: 403.
    Forbidden,
    /// The partner does not offer it: 404.
    NotOffered,
    /// Too many requests: 429.
    TooManyRequests,
    /// The partner's own code failed: 500.
    Internal,
    /// The institution cannot answer now: 503.
    Unavailable,
}

impl Error {
    fn new(kind: Kind, id: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            id: id.into(),
            message: message.into(),
            retry_after: None,
            retry_at: None,
            source: None,
        }
    }

    /// A parameter or the body is wrong. The message names it and not its value.
    #[must_use]
    pub fn invalid_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::InvalidRequest, error_id::INVALID_REQUEST, message)
    }

    /// The cursor is no longer known, or the window changed under it.
    #[must_use]
    pub fn cursor_expired() -> Self {
        let text = "The cursor has expired. Begin the window again.";
        Self::new(Kind::InvalidRequest, error_id::CURSOR_EXPIRED, text)
    }

    /// The window is longer than the partner serves.
    #[must_use]
    pub fn window_too_long(days: u32) -> Self {
        let text = format!("The window is longer than {days} days. Ask for shorter ones.");
        Self::new(Kind::InvalidRequest, error_id::WINDOW_TOO_LONG, text)
    }

    /// The user's name or password is wrong. Credentials mode alone.
    #[must_use]
    pub fn invalid_credentials() -> Self {
        let text = "The username or the password is wrong.";
        Self::new(Kind::SignInRefused, error_id::INVALID_CREDENTIALS, text)
    }

    /// The answer is wrong, or there is no such challenge. Credentials mode alone.
    #[must_use]
    pub fn invalid_challenge() -> Self {
        let text = "The answer is wrong, or the challenge is over.";
        Self::new(Kind::SignInRefused, error_id::INVALID_CHALLENGE, text)
    }

    /// The tries are spent. Credentials mode alone.
    #[must_use]
    pub fn user_locked() -> Self {
        let text = "The user is locked out. The institution can help.";
        Self::new(Kind::Forbidden, error_id::USER_LOCKED, text)
    }

    /// The partner does not offer this.
    #[must_use]
    pub fn not_offered() -> Self {
        Self::new(Kind::NotOffered, error_id::NOT_FOUND, "There is nothing at this path.")
    }

    /// Too many requests; the caller may come back after a while.
    #[must_use]
    pub fn too_many_requests(retry_after: Duration) -> Self {
        let text = "Too many requests. Wait as `Retry-After` says.";
        let mut error = Self::new(Kind::TooManyRequests, error_id::TOO_MANY_REQUESTS, text);
        error.retry_after = Some(retry_after);
        error
    }

    /// The partner's own code failed. The source is logged; the answer says nothing of it.
    #[must_use]
    pub fn internal(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let text = "The institution could not answer this request.";
        Self::new(Kind::Internal, error_id::INTERNAL_ERROR, text).with_source(source)
    }

    /// The institution cannot answer now.
    #[must_use]
    pub fn unavailable() -> Self {
        let text = "The institution cannot answer at the moment.";
        Self::new(Kind::Unavailable, error_id::INSTITUTION_UNAVAILABLE, text)
    }

    /// Says when the institution expects to answer again; with [`Error::unavailable`].
    #[must_use]
    pub fn retry_at(mut self, at: Timestamp) -> Self {
        self.retry_at = Some(at);
        self
    }

    /// Gives the failure an id and a text of the partner's own; the status stays.
    #[must_use]
    pub fn described(
        mut self,
        id: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.id = id.into();
        self.message = message.into();
        self
    }

    /// Adds what led to the failure; it is logged and never answered.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The id that goes on the wire.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The text that goes on the wire.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The status that it is answered with.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self.kind {
            Kind::InvalidRequest => StatusCode::BAD_REQUEST,
            Kind::SignInRefused => StatusCode::UNAUTHORIZED,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::NotOffered => StatusCode::NOT_FOUND,
            Kind::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
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
