//! What the token and revocation endpoints answer when they refuse, and why an
//! [`OAuth`](super::OAuth) could not be built.

use http::StatusCode;
use std::{error::Error as StdError, fmt, time::Duration};

/// A refusal of the token or the revocation endpoint (RFC 6749 section 5.2).
///
/// Says what is answered: [`status`](Self::status), [`body`](Self::body) and two headers.
pub struct OAuthError {
    kind: OAuthErrorKind,
    description: &'static str,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What kind of refusal it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OAuthErrorKind {
    /// The request is malformed.
    InvalidRequest,
    /// The client did not show who it is.
    InvalidClient,
    /// The code or the token is not good, or no longer.
    InvalidGrant,
    /// There is no such grant type here.
    UnsupportedGrantType,
    /// More was asked for than was granted.
    InvalidScope,
    /// What the partner keeps is out of reach for now.
    TemporarilyUnavailable,
    /// The partner failed.
    ServerError,
}

impl OAuthErrorKind {
    /// The kind, as the wire spells it.
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
        let text = "The institution cannot answer at the moment. Try again later.";
        let mut error = Self::new(OAuthErrorKind::TemporarilyUnavailable, text);
        error.source = Some(source.into());
        error
    }

    /// What kind of refusal it is.
    #[must_use]
    pub fn kind(&self) -> OAuthErrorKind {
        self.kind
    }

    /// What `error_description` says: a text for developers, free of values.
    #[must_use]
    pub fn description(&self) -> &'static str {
        self.description
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self.kind {
            OAuthErrorKind::InvalidClient => StatusCode::UNAUTHORIZED,
            OAuthErrorKind::TemporarilyUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            OAuthErrorKind::ServerError => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The JSON body: `error` and `error_description`.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let body = serde_json::json!({
            "error": self.kind.as_str(),
            "error_description": self.description,
        });
        body.to_string().into_bytes()
    }

    /// The value of `WWW-Authenticate`, where it belongs.
    #[must_use]
    pub fn www_authenticate(&self) -> Option<&'static str> {
        (self.kind == OAuthErrorKind::InvalidClient).then_some(r#"Basic realm="px""#)
    }

    /// The value of `Retry-After`, where it belongs.
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

/// Why an [`OAuth`](super::OAuth) could not be built: a setting that would not be safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The issuer.
    #[error("the issuer is not an https URL (or http on loopback) without query and fragment")]
    Issuer,
    /// The scopes.
    #[error("the scopes are empty: name at least one")]
    Scopes,
    /// The life of a code.
    #[error("a code must live from 1 second to 10 minutes")]
    CodeLifetime,
    /// The life of an access token.
    #[error("an access token must live at least 1 second")]
    AccessTokenLifetime,
    /// The life of refresh tokens.
    #[error("refresh tokens must live at least 1 month")]
    RefreshLifetime,
}
