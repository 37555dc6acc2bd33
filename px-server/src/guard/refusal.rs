//! The answer to a request that is refused before it reaches the service.

use crate::clock::{Random as _, SystemRandom};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use px_types::{ErrorDetail, ErrorResponse};
use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
};

const REQUEST_ID: &str = "x-request-id";

/// An `ErrorResponse`, with a request id in header and body.
pub(crate) fn refusal(
    status: StatusCode,
    id: &'static str,
    message: &'static str,
    request_headers: &HeaderMap,
) -> Response<Bytes> {
    let request_id = request_id(request_headers);
    let mut body = ErrorResponse::new(ErrorDetail::new(id.to_owned(), message.to_owned()));
    body.request_id = Some(request_id.clone());
    let mut response = Response::new(Bytes::from(px_types::wire::encode(&body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        headers.insert(REQUEST_ID, value);
    }
    response
}

/// The caller's own request id if it is one, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let own = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    match own {
        Some(id) if is_request_id(id) => id.to_owned(),
        _ => new_request_id(),
    }
}

fn is_request_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

fn new_request_id() -> String {
    // An id that is only unique in this process is better than no answer.
    static REFUSALS: AtomicU64 = AtomicU64::new(0);
    let mut bytes = [0; 16];
    if SystemRandom.fill(&mut bytes).is_err() {
        let count = REFUSALS.fetch_add(1, Ordering::Relaxed);
        bytes[8..].copy_from_slice(&count.to_be_bytes());
    }
    let mut text = String::with_capacity(32);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
