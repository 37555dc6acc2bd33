//! The OAuth clients of a partner (Plaid is one), and how one shows who it is.

#[cfg(feature = "argon2")]
mod chosen;

#[cfg(feature = "argon2")]
pub use chosen::ChosenSecret;

use async_trait::async_trait;
use px_core::Digest;
#[cfg(feature = "argon2")]
use px_core::{Random as _, SystemRandom};
use px_types::{ClientId, ClientSecret};
use std::{collections::HashMap, error::Error as StdError, fmt};

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
    /// Returns the client with an id.
    ///
    /// # Errors
    /// If the registry is out of reach; the response is 503.
    async fn find(&self, id: &ClientId) -> Result<Option<Client>, Box<dyn StdError + Send + Sync>>;

    /// Returns whether a secret is a client's. Compares in constant time, and takes as long for an
    /// unknown client as for a wrong secret.
    ///
    /// # Errors
    /// If the registry is out of reach; the response is 503.
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
/// It holds the SHA-256 of a secret, which is enough for a long random one and for no other: give
/// each client a generated secret of 256 bits. For a secret that a person chose there is
/// `with_chosen_secret` (feature `argon2`), which holds its Argon2id hash.
#[derive(Clone, Default)]
pub struct MemoryClients {
    clients: HashMap<ClientId, (Client, Secret)>,
    /// Keys the digests of chosen secrets that were right.
    #[cfg(feature = "argon2")]
    process_key: Option<[u8; 32]>,
}

/// The secret of a client, as the registry holds it.
#[derive(Clone)]
enum Secret {
    /// The digest of a generated one.
    Generated(Digest),
    /// The hash of one that a person chose.
    #[cfg(feature = "argon2")]
    Chosen(ChosenSecret),
}

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
    /// The hash of the secret is not a PHC string of Argon2id, or its parameters are too weak or
    /// too expensive.
    #[error(
        "the hash of a client's secret is not one of Argon2id with at least 19 MiB and 2 passes"
    )]
    SecretHash,
}

impl MemoryClients {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a client with a generated secret, or replaces the one with its id.
    ///
    /// # Errors
    /// If one of its redirect URIs is not https (or http on loopback) or has a fragment, or the
    /// secret is short.
    pub fn with(self, client: Client, secret: &ClientSecret) -> Result<Self, InvalidClient> {
        if secret.expose().len() < MIN_SECRET_BYTES {
            return Err(InvalidClient::ShortSecret);
        }
        self.add(client, Secret::Generated(Digest::of(secret.expose())))
    }

    /// Adds a client with a secret that a person chose, or replaces the one with its id.
    ///
    /// A wrong secret, and the first use of the right one, cost 20 ms of a core and 19 MiB; four
    /// are hashed at once. Later uses cost no more than those of a generated secret.
    ///
    /// # Errors
    /// If one of its redirect URIs is not https (or http on loopback) or has a fragment.
    #[cfg(feature = "argon2")]
    pub fn with_chosen_secret(
        mut self,
        client: Client,
        secret: ChosenSecret,
    ) -> Result<Self, InvalidClient> {
        self.process_key.get_or_insert_with(|| {
            let mut key = [0; 32];
            SystemRandom.fill(&mut key);
            key
        });
        self.add(client, Secret::Chosen(secret))
    }

    fn add(mut self, client: Client, secret: Secret) -> Result<Self, InvalidClient> {
        for uri in &client.redirect_uris {
            let plain = uri.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
            if !plain || !is_secure_url(uri) {
                return Err(InvalidClient::RedirectUri);
            }
        }
        self.clients.insert(client.id.clone(), (client, secret));
        Ok(self)
    }
}

impl fmt::Debug for MemoryClients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clients.values().map(|(client, _)| client)).finish()
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
        Ok(self.clients.get(id).map(|(client, _)| client.clone()))
    }

    async fn check_secret(
        &self,
        id: &ClientId,
        secret: &ClientSecret,
    ) -> Result<bool, Box<dyn StdError + Send + Sync>> {
        let shown = Digest::of(secret.expose());
        let known = self.clients.get(id).map(|(_, secret)| secret);
        let digest = match known {
            Some(Secret::Generated(digest)) => *digest,
            #[cfg(feature = "argon2")]
            Some(Secret::Chosen(chosen)) => {
                let Some(key) = &self.process_key else { return Ok(false) };
                return Ok(chosen.check(secret, key).await);
            }
            // An unknown client costs the same comparison, and no secret has this digest.
            None => Digest::of(""),
        };
        let is_right = shown == digest && known.is_some();
        // Where secrets are hashed, an unknown client costs a hash too.
        #[cfg(feature = "argon2")]
        if !is_right && self.process_key.is_some() {
            chosen::spend(secret).await;
        }
        Ok(is_right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(id: &str) -> Client {
        Client::new(ClientId::new(id).unwrap(), "C", [PLAID_REDIRECT_URI])
    }

    #[tokio::test]
    async fn a_generated_secret_is_its_clients_alone() {
        let secret = ClientSecret::new("a-secret-of-the-tests");
        let clients = MemoryClients::new().with(client("a"), &secret).unwrap();
        let other = ClientSecret::new("another-secret-of-the-tests");
        let clients = clients.with(client("b"), &other).unwrap();
        for (id, shown, is_right) in [
            ("a", &secret, true),
            ("a", &other, false),
            ("b", &secret, false),
            ("c", &secret, false),
        ] {
            let checked = clients.check_secret(&ClientId::new(id).unwrap(), shown).await.unwrap();
            assert_eq!(checked, is_right, "{id}");
        }
        let empty = ClientSecret::new("");
        assert!(!clients.check_secret(&ClientId::new("c").unwrap(), &empty).await.unwrap());
        assert!(!format!("{clients:?}").contains("secret"));
    }

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
