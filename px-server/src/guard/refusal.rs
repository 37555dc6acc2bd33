//! The response to a request that is refused before it reaches the service.

use crate::request_id;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use px_core::SystemRandom;
use px_types::{ErrorDetail, ErrorResponse};

/// Returns an `ErrorResponse` with a request id in header and body.
pub(crate) fn error_response(
    status: StatusCode,
    id: &'static str,
    message: &'static str,
    request_headers: &HeaderMap,
) -> Response<Bytes> {
    let request_id = request_id::of(request_headers, &SystemRandom);
    let mut body = ErrorResponse::new(ErrorDetail::new(id.to_owned(), message.to_owned()));
    body.request_id = Some(request_id.to_string());
    let mut response = Response::new(Bytes::from(px_types::wire::encode(&body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        headers.insert(request_id::HEADER, value);
    }
    response
}
