//! How the service answers: bodies, headers and the texts of its own refusals.

use crate::{Error, Kind};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use px_types::{
    ErrorDetail, ErrorResponse, Timestamp,
    endpoint::codec::{Reply, ReplyKind},
    error_id,
};

/// What goes out, before it has a request id.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
}

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Body {
    /// Bytes as they are.
    Bytes(Bytes),
    /// An error; it is written once the request id is known.
    Error { id: String, message: String, retry_at: Option<Timestamp> },
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

impl Answer {
    /// An endpoint's answer when all is well.
    pub(crate) fn ok<R: Reply>(reply: &R) -> Self {
        let mut headers = HeaderMap::with_capacity(4);
        if R::KIND == ReplyKind::Json {
            headers.insert(header::CONTENT_TYPE, JSON);
        }
        Self { status: StatusCode::OK, headers, body: Body::Bytes(reply.encode().into()) }
    }

    /// A JSON document that is no endpoint's answer.
    pub(crate) fn json(status: StatusCode, document: Vec<u8>) -> Self {
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(header::CONTENT_TYPE, JSON);
        Self { status, headers, body: Body::Bytes(document.into()) }
    }

    /// A refusal.
    pub(crate) fn refuse(status: StatusCode, id: &str, message: impl Into<String>) -> Self {
        let body = Body::Error { id: id.to_owned(), message: message.into(), retry_at: None };
        Self { status, headers: HeaderMap::with_capacity(4), body }
    }

    /// Adds a header.
    pub(crate) fn with(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Adds `WWW-Authenticate`.
    pub(crate) fn challenge(self, value: &'static str) -> Self {
        self.with(header::WWW_AUTHENTICATE, HeaderValue::from_static(value))
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::refuse(StatusCode::BAD_REQUEST, error_id::INVALID_REQUEST, message)
    }

    pub(crate) fn not_found() -> Self {
        let text = "There is nothing at this path.";
        Self::refuse(StatusCode::NOT_FOUND, error_id::NOT_FOUND, text)
    }

    pub(crate) fn method_not_allowed(allow: &str) -> Self {
        let text = format!("This path takes {allow}.");
        let answer =
            Self::refuse(StatusCode::METHOD_NOT_ALLOWED, error_id::METHOD_NOT_ALLOWED, text);
        match HeaderValue::from_str(allow) {
            Ok(allow) => answer.with(header::ALLOW, allow),
            Err(_) => answer,
        }
    }

    pub(crate) fn no_token() -> Self {
        let text = "This request needs a bearer token.";
        Self::refuse(StatusCode::UNAUTHORIZED, error_id::INVALID_TOKEN, text)
            .challenge("Bearer realm=\"px\"")
    }

    pub(crate) fn invalid_token() -> Self {
        let text = "The token is not valid, or no longer. The user must connect again.";
        Self::refuse(StatusCode::UNAUTHORIZED, error_id::INVALID_TOKEN, text)
            .challenge("Bearer realm=\"px\", error=\"invalid_token\"")
    }

    pub(crate) fn forbidden() -> Self {
        let text = "The token does not allow this.";
        Self::refuse(StatusCode::FORBIDDEN, error_id::FORBIDDEN, text)
            .challenge("Bearer error=\"insufficient_scope\"")
    }

    pub(crate) fn insufficient_scope(scope: &str) -> Self {
        let text = format!("The token lacks the scope `{scope}`.");
        Self::refuse(StatusCode::FORBIDDEN, error_id::INSUFFICIENT_SCOPE, text)
            .challenge("Bearer error=\"insufficient_scope\"")
    }

    pub(crate) fn invalid_client() -> Self {
        let text = "The client's id or secret is wrong or missing.";
        Self::refuse(StatusCode::UNAUTHORIZED, error_id::INVALID_CLIENT, text)
            .challenge("Basic realm=\"px\"")
    }

    pub(crate) fn invalid_signature(why: &str) -> Self {
        Self::refuse(
            StatusCode::UNAUTHORIZED,
            error_id::INVALID_SIGNATURE,
            format!("Refused: {why}."),
        )
    }

    pub(crate) fn payload_too_large(limit: usize) -> Self {
        let text = format!("The body is larger than {limit} bytes.");
        Self::refuse(StatusCode::PAYLOAD_TOO_LARGE, error_id::PAYLOAD_TOO_LARGE, text)
    }

    pub(crate) fn unsupported_media_type(wanted: &str) -> Self {
        let text = format!("The body must be {wanted}, in UTF-8 and not compressed.");
        Self::refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, error_id::UNSUPPORTED_MEDIA_TYPE, text)
    }

    pub(crate) fn headers_too_large() -> Self {
        let text = "The headers are too large, or too many.";
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        Self::refuse(status, error_id::HEADERS_TOO_LARGE, text)
    }

    pub(crate) fn internal() -> Self {
        let text = "The institution could not answer this request.";
        Self::refuse(StatusCode::INTERNAL_SERVER_ERROR, error_id::INTERNAL_ERROR, text)
    }

    /// What the partner's code reported; only the public half of it.
    pub(crate) fn from_error(error: &Error, now: DateTime<Utc>) -> Self {
        let mut answer = Self::refuse(error.status(), error.id(), error.message());
        if let Body::Error { retry_at, .. } = &mut answer.body {
            *retry_at = error.retry_at;
        }
        let until = error.retry_at.map(|at| at.utc() - now);
        let until = until.and_then(|wait| {
            let rest = i64::from(wait.subsec_nanos() > 0);
            u64::try_from(wait.num_seconds() + rest).ok()
        });
        let after =
            error.retry_after.map(|wait| wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
        if let Some(seconds) = until.max(after) {
            answer = answer.with(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        match error.kind() {
            Kind::Forbidden if error.id() != error_id::USER_LOCKED => {
                answer.challenge("Bearer error=\"insufficient_scope\"")
            }
            _ => answer,
        }
    }

    /// The answer as HTTP. To `HEAD` it keeps the length and loses the body.
    pub(crate) fn into_http(self, request_id: &str, head: bool) -> Response<Full<Bytes>> {
        let Self { status, mut headers, body } = self;
        let bytes = match body {
            Body::Bytes(bytes) => bytes,
            Body::Error { id, message, retry_at } => {
                let mut body = ErrorResponse::new(ErrorDetail::new(id, message));
                body.request_id = Some(request_id.to_owned());
                body.retry_at = retry_at;
                headers.insert(header::CONTENT_TYPE, JSON);
                px_types::wire::encode(&body).into()
            }
        };
        headers.entry(header::CACHE_CONTROL).or_insert(NO_STORE);
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
        if let Ok(id) = HeaderValue::from_str(request_id) {
            headers.insert(crate::request_id::HEADER, id);
        }
        let mut response = Response::new(Full::new(if head { Bytes::new() } else { bytes }));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}
