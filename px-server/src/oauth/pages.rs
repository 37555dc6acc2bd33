//! What the bank brings to the authorization endpoint: its own pages.

use super::{AuthorizationRequest, PageRefusal};
use async_trait::async_trait;
use bytes::Bytes;
use http::{Response, request::Parts};

/// The bank's pages at `GET /oauth2/auth`.
///
/// The service has checked the request when [`ask`](Self::ask) runs, and adds the request id
/// to whatever is answered. Forms post to routes of the bank's own, which end with
/// [`OAuth::approve`](super::OAuth::approve) or [`OAuth::deny`](super::OAuth::deny).
#[async_trait]
pub trait AuthorizePages: Send + Sync + 'static {
    /// Begins to ask the user: usually a redirect to the login page, with the request kept
    /// in the user's session.
    async fn ask(&self, request: AuthorizationRequest, parts: &Parts) -> Response<Bytes>;

    /// Says that the request cannot be answered to any client.
    async fn refuse(&self, refusal: PageRefusal) -> Response<Bytes>;
}
