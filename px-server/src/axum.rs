//! An [`axum::Router`] around the service. Only wraps: all rules live in the service.

use crate::PartnerService;
use axum::Router;

/// A router that serves the partner's API, to be merged with a bank's own routes.
///
/// The service is the fallback, so that a path that nobody knows is refused as the
/// contract says, and a bank's own routes come first.
pub fn router(service: PartnerService) -> Router {
    Router::new().fallback_service(service)
}
