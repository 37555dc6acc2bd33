//! The OAuth clients of a partner (Plaid is one), and how one shows who it is.

use async_trait::async_trait;
use px_types::{ClientId, ClientSecret};
use std::error::Error as StdError;

/// A client that registered with the partner.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Client {
    /// Its id.
    pub id: ClientId,
    /// Its name, to be shown to users.
    pub name: String,
    /// Where answers may go; compared byte by byte.
    pub redirect_uris: Vec<String>,
}

/// The clients of a partner.
#[async_trait]
pub trait Clients: Send + Sync + 'static {
    /// The client with an id.
    ///
    /// # Errors
    /// When the registry is out of reach; answered 503.
    async fn find(&self, id: &ClientId) -> Result<Option<Client>, Box<dyn StdError + Send + Sync>>;

    /// Whether a secret is a client's. Compares in constant time, and takes as long for an
    /// unknown client as for a wrong secret.
    ///
    /// # Errors
    /// When the registry is out of reach; answered 503.
    async fn check_secret(
        &self,
        id: &ClientId,
        secret: &ClientSecret,
    ) -> Result<bool, Box<dyn StdError + Send + Sync>>;
}
