//! Responses of the service: bodies, headers and the texts of its own errors.

use crate::{
    Error, ErrorKind,
    call::{self, RequestRefusal},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use px_types::{
    ErrorDetail, ErrorResponse, Timestamp,
    endpoint::codec::{ResponseBody, ResponseKind},
    error_id,
};

/// A response without its request id.
#[derive(Debug)]
pub(crate) struct ApiResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
}

/// The body of a response.
#[derive(Debug)]
pub(crate) enum Body {
    /// A body that is already encoded.
    Bytes(Bytes),
    /// An error body, which is encoded once the request id is known.
    Error { id: String, message: String, retry_at: Option<Timestamp> },
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");

impl ApiResponse {
    /// Returns the successful response of an endpoint.
    pub(crate) fn ok<R: ResponseBody>(reply: &R) -> Self {
        let mut headers = HeaderMap::with_capacity(4);
        if R::KIND == ResponseKind::Json {
            headers.insert(header::CONTENT_TYPE, JSON);
        }
        Self { status: StatusCode::OK, headers, body: Body::Bytes(reply.encode().into()) }
    }

    /// Returns a JSON document that is not the response of an endpoint.
    pub(crate) fn json(status: StatusCode, document: Vec<u8>) -> Self {
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(header::CONTENT_TYPE, JSON);
        Self { status, headers, body: Body::Bytes(document.into()) }
    }

    /// Returns an error response.
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
        RequestRefusal::NotFound.into()
    }

    pub(crate) fn no_token() -> Self {
        let text = "This request needs a bearer token.";
        Self::refuse(StatusCode::UNAUTHORIZED, error_id::INVALID_TOKEN, text)
            .challenge("Bearer realm=\"px\"")
    }

    pub(crate) fn invalid_token() -> Self {
        let text = "The token is invalid, expired or revoked. The user must connect again.";
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

    #[cfg(feature = "jwt")]
    pub(crate) fn invalid_signature(why: &str) -> Self {
        Self::refuse(
            StatusCode::UNAUTHORIZED,
            error_id::INVALID_SIGNATURE,
            format!("Refused: {why}."),
        )
    }

    pub(crate) fn internal() -> Self {
        let text = "The institution could not process this request.";
        Self::refuse(StatusCode::INTERNAL_SERVER_ERROR, error_id::INTERNAL_ERROR, text)
    }

    /// Returns the response for an error of the partner's code: only its public part.
    pub(crate) fn from_error(error: &Error, now: DateTime<Utc>) -> Self {
        let mut response = Self::refuse(error.status(), error.id(), error.message());
        if let Body::Error { retry_at, .. } = &mut response.body {
            *retry_at = error.retry_at;
        }
        let until = error.retry_at.and_then(|at| (at.utc() - now).to_std().ok());
        if let Some(wait) = until.max(error.retry_after) {
            response = response.with(header::RETRY_AFTER, call::retry_after(wait));
        }
        match error.kind() {
            ErrorKind::Forbidden if error.id() != error_id::USER_LOCKED => {
                response.challenge("Bearer error=\"insufficient_scope\"")
            }
            _ => response,
        }
    }

    /// Encodes the response as HTTP.
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

impl From<RequestRefusal> for ApiResponse {
    fn from(refusal: RequestRefusal) -> Self {
        let id = match refusal {
            RequestRefusal::TargetTooLong { .. } => error_id::URI_TOO_LONG,
            RequestRefusal::HeadersTooLarge => error_id::HEADERS_TOO_LARGE,
            RequestRefusal::Hosts | RequestRefusal::CutOff => error_id::INVALID_REQUEST,
            RequestRefusal::NotFound => error_id::NOT_FOUND,
            RequestRefusal::Method { .. } => error_id::METHOD_NOT_ALLOWED,
            RequestRefusal::MediaType => error_id::UNSUPPORTED_MEDIA_TYPE,
            RequestRefusal::TooLarge { .. } => error_id::PAYLOAD_TOO_LARGE,
            RequestRefusal::Busy => error_id::INSTITUTION_UNAVAILABLE,
        };
        let mut response = Self::refuse(refusal.status(), id, refusal.message());
        if let Some(wait) = refusal.retry_after() {
            response = response.with(header::RETRY_AFTER, call::retry_after(wait));
        }
        match refusal.allow() {
            Some(allow) => response.with(header::ALLOW, allow),
            None => response,
        }
    }
}
