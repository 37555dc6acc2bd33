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
/// It keeps the SHA-256 of a secret, which is enough for a long random one and for no other: give
/// each client a generated secret of 256 bits. For secrets that people choose, implement
/// [`Clients`] over a password hash such as Argon2id.
#[derive(Clone, Debug, Default)]
pub struct MemoryClients(HashMap<ClientId, (Client, Digest)>);

/// Minimum length of a client's secret: one of 128 random bits has 22 characters.
pub const MIN_SECRET_BYTES: usize = 16;

/// Why a client cannot be registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidClient {
    /// A redirect URI is not https in ASCII, or has a fragment. Plain http is for loopback alone,
    /// because anybody on the way could read the code.
    #[error("a redirect URI must be an https URL in ASCII without a fragment, or http on loopback")]
    RedirectUri,
    /// The secret is shorter than [`MIN_SECRET_BYTES`].
    #[error("a client's secret must have at least 16 characters; generate a random one")]
    ShortSecret,
}

impl MemoryClients {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a client, or replaces the one with its id.
    ///
    /// # Errors
    /// If one of its redirect URIs is not https (or http on loopback) or has a fragment, or the
    /// secret is short.
    pub fn with(mut self, client: Client, secret: &ClientSecret) -> Result<Self, InvalidClient> {
        for uri in &client.redirect_uris {
            let plain = uri.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
            if !plain || !is_secure_url(uri) {
                return Err(InvalidClient::RedirectUri);
            }
        }
        if secret.expose().len() < MIN_SECRET_BYTES {
            return Err(InvalidClient::ShortSecret);
        }
        let digest = Digest::of(secret.expose());
        self.0.insert(client.id.clone(), (client, digest));
        Ok(self)
    }
}

/// Whether a URL is https, or http on loopback. A `javascript:` or `data:` URL, which would run on
/// the bank's own page, is neither.
pub(crate) fn is_secure_url(text: &str) -> bool {
    let Ok(url) = url::Url::parse(text) else { return false };
    match url.scheme() {
        "https" => url.has_host(),
        "http" => match url.host() {
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.to_canonical().is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            None => false,
        },
        _ => false,
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
            MemoryClients::new().with(client, &ClientSecret::new("a-secret-of-the-tests"))
        };
        assert!(add(PLAID_REDIRECT_URI).is_ok());
        for loopback in ["http://127.0.0.1:4000/back?x=1", "http://[::1]/", "http://localhost:1/"] {
            assert!(add(loopback).is_ok(), "{loopback}");
        }
        for uri in [
            "",
            "/back",
            "javascript:alert(1)",
            "data:,x",
            "https://a/#b",
            "https://ü/",
            "http://app.example/back",
            "http://10.0.0.1/back",
            "http://localhost.example/",
            "http://127.0.0.1.example/",
            "https://a/ b",
        ] {
            assert!(add(uri).is_err(), "{uri}");
        }
    }

    #[test]
    fn a_secret_has_a_least_length() {
        let add = |secret: &str| {
            let client = Client::new(ClientId::new("c").unwrap(), "C", [PLAID_REDIRECT_URI]);
            MemoryClients::new().with(client, &ClientSecret::new(secret)).err()
        };
        for short in ["", "s", &"s".repeat(MIN_SECRET_BYTES - 1)] {
            assert_eq!(add(short), Some(InvalidClient::ShortSecret), "{short}");
        }
        assert_eq!(add(&"s".repeat(MIN_SECRET_BYTES)), None);
    }
}
