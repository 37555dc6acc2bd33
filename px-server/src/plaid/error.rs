//! Errors of Plaid's API.
//!
//! The public part is a [`PlaidError`] with the types and codes that Plaid publishes. The private
//! source is only logged.

use http::StatusCode;
use px_types::model::plaid_error::{PlaidError, PlaidErrorType};
use std::{borrow::Cow, error::Error as StdError, fmt, time::Duration};

/// An error of Plaid's API.
///
/// Create it with one of the constructors, and change it with the `with_…` methods. Contract:
/// `px.md` section 6.
pub struct Error {
    status: StatusCode,
    body: Box<PlaidError>,
    retry_after: Option<Duration>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Creates an error with status 400. The message must contain no value of the request.
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

    /// Creates an error for an access token that is unknown, ended, or belongs to another
    /// client. The response is the same for all three, so that it does not reveal which tokens
    /// exist.
    #[must_use]
    pub fn invalid_access_token() -> Self {
        let text = "The access token is unknown, ended, or belongs to another client.";
        Self::new(PlaidErrorType::InvalidInput, "INVALID_ACCESS_TOKEN", text)
    }

    /// Creates an error for a field with an invalid value. The message should name the field.
    #[must_use]
    pub fn invalid_field(message: impl Into<String>) -> Self {
        Self::new(PlaidErrorType::InvalidRequest, "INVALID_FIELD", message)
    }

    /// Creates an error for a client of a kind that may not call the endpoint.
    #[must_use]
    pub fn unauthorized_route() -> Self {
        let text = "This client may not call this endpoint.";
        Self::new(PlaidErrorType::InvalidInput, "UNAUTHORIZED_ROUTE_ACCESS", text)
    }

    /// Creates an error for too many requests, with the time to wait: status 429.
    #[must_use]
    pub fn rate_limit(wait: Duration) -> Self {
        let text = "Too many requests. Retry after the time in `Retry-After`.";
        Self::new(PlaidErrorType::RateLimitExceeded, "RATE_LIMIT", text)
            .with_status(StatusCode::TOO_MANY_REQUESTS)
            .with_retry_after(wait)
    }

    /// Creates an error for a failure of the service's own code: status 500. The source is
    /// logged and not sent.
    #[must_use]
    pub fn internal(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let text = "The server failed to process the request. Try again later.";
        Self::new(PlaidErrorType::ApiError, "INTERNAL_SERVER_ERROR", text)
            .with_status(StatusCode::INTERNAL_SERVER_ERROR)
            .with_source(source)
    }

    /// Creates an error for a dependency that is temporarily unavailable: status 503. The
    /// source is logged and not sent.
    #[must_use]
    pub fn unavailable(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::internal(source).with_status(StatusCode::SERVICE_UNAVAILABLE)
    }

    /// Creates an error from one in Plaid's format.
    #[must_use]
    pub fn from_plaid_error(status: StatusCode, body: PlaidError) -> Self {
        Self { status, body: Box::new(body), retry_after: None, source: None }
    }

    /// Replaces the HTTP status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Sets `Retry-After`.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Sets a text that may be shown to the user.
    #[must_use]
    pub fn with_display_message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.body.display_message = Some(message.into().into_owned());
        self
    }

    /// Sets the source of the error, which is logged and not sent.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Returns the HTTP status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns Plaid's error code, such as `INVALID_ACCESS_TOKEN`.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.body.error_code
    }

    /// Returns how long the caller should wait, if known.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Returns the body of the response.
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
