//! The bank's own pages at the authorization endpoint.

use super::{AuthorizationRequest, PageRefusal};
use async_trait::async_trait;
use bytes::Bytes;
use http::{Response, request::Parts};

/// The bank's pages at `GET /oauth2/auth`.
///
/// The service checks the request before it calls [`ask`](Self::ask), and adds the request id to
/// the response. Forms post to the bank's own routes, which end with
/// [`OAuth::approve`](super::OAuth::approve) or [`OAuth::deny`](super::OAuth::deny).
#[async_trait]
pub trait AuthorizePages: Send + Sync + 'static {
    /// Starts the sign-in and consent of the user: usually a redirect to the login page, with
    /// the request stored in the user's session.
    async fn ask(&self, request: AuthorizationRequest, parts: &Parts) -> Response<Bytes>;

    /// Returns the error page of a request that must not be redirected to a client.
    async fn refuse(&self, refusal: PageRefusal) -> Response<Bytes>;
}
