//! What a caller of Plaid is told when something is refused or fails.
//!
//! The public half is a [`PlaidError`] with the types and codes that Plaid publishes; the
//! private source goes to the log and nowhere else.

use http::StatusCode;
use px_types::model::plaid_error::{PlaidError, PlaidErrorType};
use std::{borrow::Cow, error::Error as StdError, fmt, time::Duration};

/// A refusal or a failure.
pub struct Error {
    status: StatusCode,
    body: Box<PlaidError>,
    retry_after: Option<Duration>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of Plaid's list, answered with 400. The message names no value of the request.
    #[must_use]
    pub fn new(
        error_type: PlaidErrorType,
        error_code: impl Into<String>,
        error_message: impl Into<String>,
    ) -> Self {
        let body = PlaidError::new(error_type, error_code, error_message);
        Self {
            status: StatusCode::BAD_REQUEST,
            body: Box::new(body),
            retry_after: None,
            source: None,
        }
    }

    /// The access token is unknown, ended, or another holder's. One answer for all three, so that
    /// nobody learns which tokens exist.
    #[must_use]
    pub fn invalid_access_token() -> Self {
        let text = "The access token is not one of this client's, or no longer.";
        Self::new(PlaidErrorType::InvalidInput, "INVALID_ACCESS_TOKEN", text)
    }

    /// A field is out of its range; the message names it.
    #[must_use]
    pub fn invalid_field(message: impl Into<String>) -> Self {
        Self::new(PlaidErrorType::InvalidRequest, "INVALID_FIELD", message)
    }

    /// The client is not of the kind that may call this.
    #[must_use]
    pub fn unauthorized_route() -> Self {
        let text = "This client may not call this endpoint.";
        Self::new(PlaidErrorType::InvalidInput, "UNAUTHORIZED_ROUTE_ACCESS", text)
    }

    /// Too many requests; the caller may come back after a while. 429.
    #[must_use]
    pub fn rate_limit(wait: Duration) -> Self {
        let text = "Too many requests. Wait as `Retry-After` says.";
        Self::new(PlaidErrorType::RateLimitExceeded, "RATE_LIMIT", text)
            .with_status(StatusCode::TOO_MANY_REQUESTS)
            .with_retry_after(wait)
    }

    /// This side's own code failed. 500; the source is logged, and the answer says nothing of it.
    #[must_use]
    pub fn internal(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let text = "Something went wrong on this side. Try again later.";
        Self::new(PlaidErrorType::ApiError, "INTERNAL_SERVER_ERROR", text)
            .with_status(StatusCode::INTERNAL_SERVER_ERROR)
            .with_source(source)
    }

    /// What is needed is out of reach, and trying again can help. 503.
    #[must_use]
    pub fn unavailable(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::internal(source).with_status(StatusCode::SERVICE_UNAVAILABLE)
    }

    /// Passes on an error that is one of Plaid's already.
    #[must_use]
    pub fn from_plaid_error(status: StatusCode, body: PlaidError) -> Self {
        Self { status, body: Box::new(body), retry_after: None, source: None }
    }

    /// Answers with another status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Says how long the caller is to wait, in `Retry-After`.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Adds a text that may be shown to the user.
    #[must_use]
    pub fn with_display_message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.body.display_message = Some(message.into().into_owned());
        self
    }

    /// Adds what led to it; it is logged and never answered.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The status that it is answered with.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Plaid's code, `INVALID_ACCESS_TOKEN`.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.body.error_code
    }

    /// How long the caller is to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The body that answers a request.
    #[must_use]
    pub fn to_plaid_error(&self, request_id: &str) -> PlaidError {
        let mut body = (*self.body).clone();
        body.request_id = Some(request_id.to_owned());
        body.status = Some(u64::from(self.status.as_u16()));
        body
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.body.error_code, self.body.error_message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("status", &self.status)
            .field("error_code", &self.body.error_code)
            .finish_non_exhaustive()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}
