//! Why a request is refused before any endpoint sees it. Each service words it in its own form
//! of an error.

use http::{HeaderValue, StatusCode};
use std::time::Duration;

/// A refusal that both services share. It holds no value of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The path with its query is longer than this.
    TargetTooLong { limit: usize },
    /// The headers are too large, or too many.
    HeadersTooLarge,
    /// HTTP/1.1 without exactly one `Host`.
    Hosts,
    /// There is no such path.
    NotFound,
    /// The path takes other methods.
    Method { allow: String },
    /// The body is not what it must be, or does not say so.
    MediaType,
    /// The body is larger than this.
    TooLarge { limit: usize },
    /// The body ended too soon, or came too late.
    CutOff,
    /// There is no memory for the body, or too many calls are open.
    Busy,
}

impl Refusal {
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
            Self::Hosts => "HTTP/1.1 asks for exactly one `Host` header.".into(),
            Self::NotFound => "There is nothing at this path.".into(),
            Self::Method { allow } => format!("This path takes {allow}."),
            Self::MediaType => {
                "The body must be `application/json`, in UTF-8 and not compressed.".into()
            }
            Self::TooLarge { limit } => format!("The body is larger than {limit} bytes."),
            Self::CutOff => "The body was cut off.".into(),
            Self::Busy => "There are too many requests at the moment. Try again later.".into(),
        }
    }

    /// How long the caller is to wait, where that is known.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        matches!(self, Self::Busy).then_some(Duration::from_secs(1))
    }

    /// The value of `Allow`, where it belongs.
    pub(crate) fn allow(&self) -> Option<HeaderValue> {
        match self {
            Self::Method { allow } => HeaderValue::from_str(allow).ok(),
            _ => None,
        }
    }
}
