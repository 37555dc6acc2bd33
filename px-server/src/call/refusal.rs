//! Reasons to refuse a request before any endpoint runs. Each service renders them in its own error
//! format.

use http::{HeaderValue, StatusCode};
use std::time::Duration;

/// A refusal that both services share. It contains no value of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RequestRefusal {
    /// The path with its query exceeds this limit.
    TargetTooLong { limit: usize },
    /// The headers are too large, or too many.
    HeadersTooLarge,
    /// HTTP/1.1 without exactly one `Host` header.
    Hosts,
    /// The path does not exist.
    NotFound,
    /// The path does not support the method.
    Method { allow: String },
    /// The media type, charset or encoding of the body is not supported or not declared.
    MediaType,
    /// The body exceeds this limit.
    TooLarge { limit: usize },
    /// The body ended early or arrived too late.
    CutOff,
    /// No memory is left for the body, or too many calls are open.
    Busy,
}

impl RequestRefusal {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::TargetTooLong { .. } => StatusCode::URI_TOO_LONG,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Hosts | Self::CutOff => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    pub(crate) fn message(&self) -> String {
        match self {
            Self::TargetTooLong { limit } => {
                format!("The path with its query is longer than {limit} bytes.")
            }
            Self::HeadersTooLarge => "The headers are too large, or too many.".into(),
            Self::Hosts => "HTTP/1.1 requires exactly one `Host` header.".into(),
            Self::NotFound => "This path does not exist.".into(),
            Self::Method { allow } => format!("This path supports {allow}."),
            Self::MediaType => {
                "The body must be `application/json`, in UTF-8 and not compressed.".into()
            }
            Self::TooLarge { limit } => format!("The body is larger than {limit} bytes."),
            Self::CutOff => "The body is incomplete or arrived too late.".into(),
            Self::Busy => "The server is handling too many requests. Try again later.".into(),
        }
    }

    /// Returns how long the caller should wait, if known.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        matches!(self, Self::Busy).then_some(Duration::from_secs(1))
    }

    /// Returns the value of `Allow`, for a refused method.
    pub(crate) fn allow(&self) -> Option<HeaderValue> {
        match self {
            Self::Method { allow } => HeaderValue::from_str(allow).ok(),
            _ => None,
        }
    }
}
