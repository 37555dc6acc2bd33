//! `Strict-Transport-Security`
//! ([RFC 6797](https://www.rfc-editor.org/rfc/rfc6797#section-7.1)) on every response over TLS.

use axum::{Router, middleware, response::Response};
use http::{HeaderValue, header};

/// One year, the least that browsers' preload lists accept.
const VALUE: HeaderValue = HeaderValue::from_static("max-age=31536000; includeSubDomains");

/// Adds the header to every response if the public URL is https. Browsers ignore it over plain http
/// ([section 8.1](https://www.rfc-editor.org/rfc/rfc6797#section-8.1)), so it is left out there.
pub(crate) fn transport_security(router: Router, public_url: &str) -> Router {
    match public_url.starts_with("https:") {
        true => router.layer(middleware::map_response(with_header)),
        false => router,
    }
}

async fn with_header(mut response: Response) -> Response {
    response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, VALUE);
    response
}
