//! The authenticated client of a request.

use px_types::ClientId;
use std::{fmt, sync::Arc};

/// The client that sent a request (a partner or an application), and the id of the request.
#[derive(Clone)]
pub struct Caller {
    pub(super) client_id: ClientId,
    pub(super) request_id: Arc<str>,
}

impl Caller {
    /// Creates a caller, for code that calls a [`Plaid`](super::Plaid) directly: tests, and
    /// other routes of a service.
    #[must_use]
    pub fn new(client_id: ClientId, request_id: impl Into<Arc<str>>) -> Self {
        Self { client_id, request_id: request_id.into() }
    }

    /// Returns the client.
    #[must_use]
    pub fn client_id(&self) -> &ClientId {
        &self.client_id
    }

    /// Returns the id of the request, which every response contains.
    #[must_use]
    pub fn request_id(&self) -> &str {
        &self.request_id
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller")
            .field("client_id", &self.client_id)
            .field("request_id", &self.request_id)
            .finish()
    }
}
