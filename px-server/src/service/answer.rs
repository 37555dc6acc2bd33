//! How the service answers: bodies, headers and the texts of its own refusals.

use crate::{
    Error, Kind,
    call::{self, Refusal},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
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
        Refusal::NotFound.into()
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
        let until = error.retry_at.and_then(|at| (at.utc() - now).to_std().ok());
        if let Some(wait) = until.max(error.retry_after) {
            answer = answer.with(header::RETRY_AFTER, call::retry_after(wait));
        }
        match error.kind() {
            Kind::Forbidden if error.id() != error_id::USER_LOCKED => {
                answer.challenge("Bearer error=\"insufficient_scope\"")
            }
            _ => answer,
        }
    }

    /// The answer as HTTP.
    pub(crate) fn into_http(self, request_id: &str) -> Response<Bytes> {
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
        let mut response = Response::new(bytes);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        let id = match refusal {
            Refusal::TargetTooLong { .. } => error_id::URI_TOO_LONG,
            Refusal::HeadersTooLarge => error_id::HEADERS_TOO_LARGE,
            Refusal::Hosts | Refusal::CutOff => error_id::INVALID_REQUEST,
            Refusal::NotFound => error_id::NOT_FOUND,
            Refusal::Method { .. } => error_id::METHOD_NOT_ALLOWED,
            Refusal::MediaType => error_id::UNSUPPORTED_MEDIA_TYPE,
            Refusal::TooLarge { .. } => error_id::PAYLOAD_TOO_LARGE,
            Refusal::Busy => error_id::INSTITUTION_UNAVAILABLE,
        };
        let mut answer = Self::refuse(refusal.status(), id, refusal.message());
        if let Some(wait) = refusal.retry_after() {
            answer = answer.with(header::RETRY_AFTER, call::retry_after(wait));
        }
        match refusal.allow() {
            Some(allow) => answer.with(header::ALLOW, allow),
            None => answer,
        }
    }
}
