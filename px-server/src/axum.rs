//! An [`axum::Router`] around a service. Only wraps: all rules live in the service.

use axum::{Router, extract::Request};
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use std::convert::Infallible;
use tower_service::Service;

/// A router that serves [`PartnerService`](crate::PartnerService) or
/// [`PlaidService`](crate::plaid::PlaidService), to be merged with routes of one's own.
///
/// The service is the fallback, so that a path that nobody knows is refused as the
/// contract says, and one's own routes come first.
pub fn router<S>(service: S) -> Router
where
    S: Service<Request, Response = Response<Full<Bytes>>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    Router::new().fallback_service(service)
}
