//! Errors of the token and revocation endpoints, and of building an [`OAuth`](super::OAuth).

use http::StatusCode;
use std::{error::Error as StdError, fmt, time::Duration};

/// An error of the token or the revocation endpoint (RFC 6749 section 5.2).
///
/// The HTTP response consists of [`status`](Self::status), [`body`](Self::body),
/// [`www_authenticate`](Self::www_authenticate) and [`retry_after`](Self::retry_after).
pub struct OAuthError {
    kind: OAuthErrorKind,
    description: &'static str,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The kind of an [`OAuthError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OAuthErrorKind {
    /// The request is malformed.
    InvalidRequest,
    /// The client is not authenticated.
    InvalidClient,
    /// The code or the token is invalid, expired or revoked.
    InvalidGrant,
    /// The grant type is not supported.
    UnsupportedGrantType,
    /// The requested scopes exceed those of the grant.
    InvalidScope,
    /// The partner's storage is temporarily unavailable.
    TemporarilyUnavailable,
    /// The partner failed.
    ServerError,
}

impl OAuthErrorKind {
    /// Returns the value of `error` on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidScope => "invalid_scope",
            Self::TemporarilyUnavailable => "temporarily_unavailable",
            Self::ServerError => "server_error",
        }
    }
}

impl OAuthError {
    pub(crate) fn new(kind: OAuthErrorKind, description: &'static str) -> Self {
        Self { kind, description, source: None }
    }

    pub(crate) fn invalid_request(description: &'static str) -> Self {
        Self::new(OAuthErrorKind::InvalidRequest, description)
    }

    pub(crate) fn invalid_client() -> Self {
        let text = "The client id or the client secret is missing or wrong.";
        Self::new(OAuthErrorKind::InvalidClient, text)
    }

    pub(crate) fn unavailable(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let text = "The institution is temporarily unavailable. Try again later.";
        let mut error = Self::new(OAuthErrorKind::TemporarilyUnavailable, text);
        error.source = Some(source.into());
        error
    }

    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(&self) -> OAuthErrorKind {
        self.kind
    }

    /// Returns `error_description`: a text for developers, without values of the request.
    #[must_use]
    pub fn description(&self) -> &'static str {
        self.description
    }

    /// Returns the HTTP status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self.kind {
            OAuthErrorKind::InvalidClient => StatusCode::UNAUTHORIZED,
            OAuthErrorKind::TemporarilyUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            OAuthErrorKind::ServerError => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// Returns the JSON body with `error` and `error_description`.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let body = serde_json::json!({
            "error": self.kind.as_str(),
            "error_description": self.description,
        });
        body.to_string().into_bytes()
    }

    /// Returns the value of `WWW-Authenticate`, for `invalid_client`.
    #[must_use]
    pub fn www_authenticate(&self) -> Option<&'static str> {
        (self.kind == OAuthErrorKind::InvalidClient).then_some(r#"Basic realm="px""#)
    }

    /// Returns the value of `Retry-After`, for `temporarily_unavailable`.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let unavailable = self.kind == OAuthErrorKind::TemporarilyUnavailable;
        unavailable.then_some(Duration::from_secs(5))
    }
}

impl fmt::Display for OAuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.as_str(), self.description)
    }
}

impl fmt::Debug for OAuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuthError")
            .field("kind", &self.kind)
            .field("description", &self.description)
            .finish_non_exhaustive()
    }
}

impl StdError for OAuthError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}

/// Error of building an [`OAuth`](super::OAuth): a setting that is not safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OAuthBuildError {
    /// The issuer is not an https URL (or http on loopback), or has a query or a fragment.
    #[error("the issuer is not an https URL (or http on loopback) without query and fragment")]
    Issuer,
    /// There are no scopes.
    #[error("the scopes are empty; set at least one")]
    Scopes,
    /// The lifetime of a code is out of range.
    #[error("the lifetime of a code must be from 1 second to 10 minutes")]
    CodeLifetime,
    /// The lifetime of an access token is out of range.
    #[error("the lifetime of an access token must be from 1 second to 366 days")]
    AccessTokenLifetime,
    /// The lifetime of refresh tokens is out of range.
    #[error("the lifetime of refresh tokens must be from 1 to 1200 months")]
    RefreshLifetime,
}
