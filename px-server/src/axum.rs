//! An [`axum::Router`] around a service. All rules are in the service.

use axum::{Router, extract::Request};
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use std::convert::Infallible;
use tower_service::Service;

/// Returns a router that serves a [`PartnerService`](crate::PartnerService) or a
/// [`PlaidService`](crate::plaid::PlaidService). Merge it with other routes as needed.
///
/// The service is the fallback of the router: other routes take precedence, and unknown paths are
/// refused as the contract requires.
pub fn router<S>(service: S) -> Router
where
    S: Service<Request, Response = Response<Full<Bytes>>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    Router::new().fallback_service(service)
}
