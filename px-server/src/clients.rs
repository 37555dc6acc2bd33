//! The OAuth clients of a partner (Plaid is one), and how one shows who it is.

use async_trait::async_trait;
use px_core::Digest;
use px_types::{ClientId, ClientSecret};
use std::{collections::HashMap, error::Error as StdError};

/// Where Plaid's own pages take the answer of an authorization request.
pub const PLAID_REDIRECT_URI: &str = "https://cdn.plaid.com/link/v2/stable/oauth.html";

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

impl Client {
    /// A client and its redirect URIs.
    #[must_use]
    pub fn new(
        id: ClientId,
        name: impl Into<String>,
        redirect_uris: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self {
            id,
            name: name.into(),
            redirect_uris: redirect_uris.into_iter().map(Into::into).collect(),
        }
    }
}

/// A registry in memory: for a partner whose clients stand in its configuration.
///
/// It keeps the SHA-256 of a secret, which is enough for a long random one and for no
/// other.
#[derive(Clone, Debug, Default)]
pub struct MemoryClients(HashMap<ClientId, (Client, Digest)>);

/// A redirect URI that no client can have: no http or https URL in ASCII, or one with a
/// fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a redirect URI must be an http or https URL in ASCII without a fragment")]
pub struct InvalidRedirectUri;

impl MemoryClients {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a client, or replaces the one with its id.
    ///
    /// # Errors
    /// When one of its redirect URIs is no http or https URL, or has a fragment.
    pub fn with(
        mut self,
        client: Client,
        secret: &ClientSecret,
    ) -> Result<Self, InvalidRedirectUri> {
        for uri in &client.redirect_uris {
            // A `javascript:` or `data:` URL would run on the bank's own page.
            let scheme = url::Url::parse(uri).map(|url| url.scheme().to_owned());
            let web = scheme.is_ok_and(|scheme| matches!(&*scheme, "http" | "https"));
            let plain = uri.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
            if !web || !plain {
                return Err(InvalidRedirectUri);
            }
        }
        let digest = Digest::of(secret.expose());
        self.0.insert(client.id.clone(), (client, digest));
        Ok(self)
    }
}

#[async_trait]
impl Clients for MemoryClients {
    async fn find(&self, id: &ClientId) -> Result<Option<Client>, Box<dyn StdError + Send + Sync>> {
        Ok(self.0.get(id).map(|(client, _)| client.clone()))
    }

    async fn check_secret(
        &self,
        id: &ClientId,
        secret: &ClientSecret,
    ) -> Result<bool, Box<dyn StdError + Send + Sync>> {
        let shown = Digest::of(secret.expose());
        // An unknown client costs the same comparison, and no secret has this digest.
        let known = self.0.get(id).map(|(_, digest)| *digest);
        let same = shown == known.unwrap_or_else(|| Digest::of(""));
        Ok(same && known.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirect_uris_that_no_client_can_have() {
        let add = |uri: &str| {
            let client = Client::new(ClientId::new("c").unwrap(), "C", [uri]);
            MemoryClients::new().with(client, &ClientSecret::new("s"))
        };
        assert!(add(PLAID_REDIRECT_URI).is_ok());
        assert!(add("http://127.0.0.1:4000/back?x=1").is_ok());
        for uri in [
            "",
            "/back",
            "javascript:alert(1)",
            "data:,x",
            "https://a/#b",
            "https://ü/",
            "https://a/ b",
        ] {
            assert!(add(uri).is_err(), "{uri}");
        }
    }
}
