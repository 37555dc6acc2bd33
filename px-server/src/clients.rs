//! The OAuth clients of a partner (for example Plaid), and their authentication.

#[cfg(feature = "argon2")]
mod hashed_secret;

#[cfg(feature = "argon2")]
pub use hashed_secret::ChosenSecret;

use async_trait::async_trait;
use px_core::Digest;
#[cfg(feature = "argon2")]
use px_core::{Random as _, SystemRandom};
use px_types::{ClientId, ClientSecret};
use std::{collections::HashMap, error::Error as StdError, fmt};

/// The redirect URI of Plaid's own pages, which receives authorization responses.
pub const PLAID_REDIRECT_URI: &str = "https://cdn.plaid.com/link/v2/stable/oauth.html";

/// A client that is registered with the partner.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Client {
    /// The id of the client.
    pub id: ClientId,
    /// The name of the client, to be shown to users.
    pub name: String,
    /// The permitted redirect URIs; compared byte by byte.
    pub redirect_uris: Vec<String>,
}

/// The registry of a partner's clients.
#[async_trait]
pub trait Clients: Send + Sync + 'static {
    /// Returns the client with an id. Returns `None` if there is none.
    ///
    /// # Errors
    /// If the registry is not reachable; the response is then 503.
    async fn find(&self, id: &ClientId) -> Result<Option<Client>, Box<dyn StdError + Send + Sync>>;

    /// Returns whether a secret belongs to a client. Must compare in constant time, and take as
    /// long for an unknown client as for a wrong secret.
    ///
    /// # Errors
    /// If the registry is not reachable; the response is then 503.
    async fn check_secret(
        &self,
        id: &ClientId,
        secret: &ClientSecret,
    ) -> Result<bool, Box<dyn StdError + Send + Sync>>;
}

impl Client {
    /// Creates a client with its redirect URIs.
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

/// A registry in memory, for a partner that configures its clients.
///
/// It stores the SHA-256 of a secret, which is safe only for a long random one: give each client a
/// generated secret of 256 bits. For a secret chosen by a person, use `with_chosen_secret` (feature
/// `argon2`), which stores its Argon2id hash.
#[derive(Clone, Default)]
pub struct MemoryClients {
    clients: HashMap<ClientId, (Client, Secret)>,
    /// Key of the digests of verified chosen secrets.
    #[cfg(feature = "argon2")]
    process_key: Option<[u8; 32]>,
}

/// The secret of a client, as the registry stores it.
#[derive(Clone)]
enum Secret {
    /// The digest of a generated secret.
    Generated(Digest),
    /// The hash of a secret that a person chose.
    #[cfg(feature = "argon2")]
    Chosen(ChosenSecret),
}

/// Minimum length of a client secret, in bytes. A secret of 128 random bits has 22 characters.
pub const MIN_SECRET_BYTES: usize = 16;

/// Error of registering a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidClient {
    /// A redirect URI is not an https URL in ASCII, or has a fragment. Plain http is accepted
    /// on loopback only, because anyone on the network path could read the code.
    #[error("a redirect URI must be an https URL in ASCII without a fragment, or http on loopback")]
    RedirectUri,
    /// The secret is shorter than [`MIN_SECRET_BYTES`].
    #[error("a client's secret must have at least 16 characters; generate a random one")]
    ShortSecret,
    /// The hash of the secret is not a PHC string of Argon2id, or its parameters are too weak
    /// or too expensive.
    #[error("the hash of a client's secret is not Argon2id of 19 to 256 MiB and 2 to 16 passes")]
    SecretHash,
}

impl MemoryClients {
    /// Creates an empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a client with a generated secret, or replaces the client with the same id.
    ///
    /// # Errors
    /// - [`InvalidClient::RedirectUri`] if a redirect URI is not https (or http on loopback),
    ///   is not ASCII or has a fragment.
    /// - [`InvalidClient::ShortSecret`] if the secret is shorter than [`MIN_SECRET_BYTES`].
    pub fn with(self, client: Client, secret: &ClientSecret) -> Result<Self, InvalidClient> {
        if secret.expose().len() < MIN_SECRET_BYTES {
            return Err(InvalidClient::ShortSecret);
        }
        self.add(client, Secret::Generated(Digest::of(secret.expose())))
    }

    /// Adds a client with a secret chosen by a person, or replaces the client with the same id.
    ///
    /// A wrong secret, and the first use of the right one, cost 20 ms of a core and 19 MiB of
    /// memory. At most four are hashed at once. Later uses cost no more than those of a
    /// generated secret.
    ///
    /// # Errors
    /// [`InvalidClient::RedirectUri`] if a redirect URI is not https (or http on loopback), is
    /// not ASCII or has a fragment.
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

/// Returns whether a URL is https, or http on loopback. Excludes `javascript:` and `data:` URLs,
/// which would run on the bank's own page.
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
            // An unknown client costs the same comparison. No accepted secret has this
            // digest.
            None => Digest::of(""),
        };
        let is_right = shown == digest && known.is_some();
        // If secrets are hashed, an unknown client costs a hash too.
        #[cfg(feature = "argon2")]
        if !is_right && self.process_key.is_some() {
            hashed_secret::verify_dummy(secret).await;
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
