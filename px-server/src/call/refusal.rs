//! Why a request is refused before any endpoint sees it. Each service words it in its own form
//! of an error.

use http::{HeaderValue, StatusCode};

/// A refusal that both services share. It holds no value of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
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
}

impl Refusal {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Hosts | Self::CutOff => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        }
    }

    pub(crate) fn message(&self) -> String {
        match self {
            Self::HeadersTooLarge => "The headers are too large, or too many.".into(),
            Self::Hosts => "HTTP/1.1 asks for exactly one `Host` header.".into(),
            Self::NotFound => "There is nothing at this path.".into(),
            Self::Method { allow } => format!("This path takes {allow}."),
            Self::MediaType => {
                "The body must be `application/json`, in UTF-8 and not compressed.".into()
            }
            Self::TooLarge { limit } => format!("The body is larger than {limit} bytes."),
            Self::CutOff => "The body was cut off.".into(),
        }
    }

    /// The value of `Allow`, where it belongs.
    pub(crate) fn allow(&self) -> Option<HeaderValue> {
        match self {
            Self::Method { allow } => HeaderValue::from_str(allow).ok(),
            _ => None,
        }
    }
}
