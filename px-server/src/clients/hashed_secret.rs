//! Client secrets chosen by people, hashed with Argon2id (RFC 9106).

use super::{InvalidClient, MIN_SECRET_BYTES};
use argon2::{
    ARGON2ID_IDENT, Argon2, Params, PasswordHasher as _, PasswordVerifier as _,
    password_hash::phc::PasswordHash,
};
use px_core::{Digest, Random};
use px_types::ClientSecret;
use std::{
    fmt,
    str::FromStr,
    sync::{Arc, OnceLock, PoisonError, RwLock},
};
use tokio::sync::Semaphore;

/// Maximum number of secrets that are hashed at once; further ones wait in order. Each needs 19 MiB
/// and a thread.
const MAX_CONCURRENT_HASHES: usize = 4;
/// Maximum memory of an accepted hash, in KiB.
const MAX_MEMORY_KIB: u32 = 256 << 10;
/// Maximum number of passes of an accepted hash.
const MAX_PASSES: u32 = 16;

/// The Argon2id hash of a client secret that a person chose.
///
/// It is formatted and parsed as a [PHC string](https://github.com/P-H-C/phc-string-format), so
/// that a configuration contains the hash instead of the secret. The parameters are those that
/// OWASP recommends (19 MiB, two passes); a weaker hash is not accepted.
///
/// ```
/// use px_core::SystemRandom;
/// use px_server::clients::ChosenSecret;
/// use px_types::ClientSecret;
///
/// let chosen = ClientSecret::new("correct horse battery staple");
/// let text = ChosenSecret::hash(&chosen, &SystemRandom)?.to_string();
/// assert!(text.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
/// let read: ChosenSecret = text.parse()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ChosenSecret(Arc<HashedSecret>);

struct HashedSecret {
    hash: PasswordHash,
    /// The digest of the secret after it was verified, under a key of this process. A client
    /// sends its secret with every call, and one hash takes as long as a thousand calls.
    verified: RwLock<Option<Digest>>,
}

impl ChosenSecret {
    /// Hashes a secret. This takes about 20 ms of one core.
    ///
    /// # Errors
    /// [`InvalidClient::ShortSecret`] if the secret is shorter than [`MIN_SECRET_BYTES`].
    pub fn hash(secret: &ClientSecret, random: &dyn Random) -> Result<Self, InvalidClient> {
        if secret.expose().len() < MIN_SECRET_BYTES {
            return Err(InvalidClient::ShortSecret);
        }
        let mut salt = [0; 16];
        random.fill(&mut salt);
        let hash = Argon2::default().hash_password_with_salt(secret.expose().as_bytes(), &salt);
        Ok(Self::of(hash.map_err(|_| InvalidClient::SecretHash)?))
    }

    fn of(hash: PasswordHash) -> Self {
        Self(Arc::new(HashedSecret { hash, verified: RwLock::default() }))
    }

    /// Returns whether a secret is the one that was hashed.
    pub(super) async fn check(&self, secret: &ClientSecret, process_key: &[u8; 32]) -> bool {
        let shown = keyed_digest(secret, process_key);
        if *self.0.verified.read().unwrap_or_else(PoisonError::into_inner) == Some(shown) {
            return true;
        }
        let (hashed, text) = (Arc::clone(&self.0), secret.clone());
        let is_right = hash_blocking(move || {
            Argon2::default().verify_password(text.expose().as_bytes(), &hashed.hash).is_ok()
        });
        let is_right = is_right.await;
        if is_right {
            *self.0.verified.write().unwrap_or_else(PoisonError::into_inner) = Some(shown);
        }
        is_right
    }
}

/// Takes as long as verifying a wrong secret of a client with a hashed secret.
pub(super) async fn verify_dummy(secret: &ClientSecret) {
    let text = secret.clone();
    hash_blocking(move || {
        let mut hash = [0; Params::DEFAULT_OUTPUT_LEN];
        let salt = b"of an unknown client";
        Argon2::default().hash_password_into(text.expose().as_bytes(), salt, &mut hash).is_ok()
    })
    .await;
}

/// Runs a hash on a blocking thread; limits the number of concurrent hashes.
async fn hash_blocking(work: impl FnOnce() -> bool + Send + 'static) -> bool {
    static PERMITS: OnceLock<Semaphore> = OnceLock::new();
    let permits = PERMITS.get_or_init(|| Semaphore::new(MAX_CONCURRENT_HASHES));
    // The semaphore is never closed.
    let Ok(_permit) = permits.acquire().await else { return false };
    tokio::task::spawn_blocking(work).await.unwrap_or(false)
}

/// Returns the digest of a secret under a key.
fn keyed_digest(secret: &ClientSecret, key: &[u8; 32]) -> Digest {
    let mut text = Vec::with_capacity(key.len() + 32);
    text.extend_from_slice(key);
    text.extend_from_slice(Digest::of(secret.expose()).as_bytes());
    Digest::of(&text)
}

impl FromStr for ChosenSecret {
    type Err = InvalidClient;

    /// Parses a PHC string of Argon2id.
    ///
    /// # Errors
    /// [`InvalidClient::SecretHash`] if the text is not a PHC string of Argon2id, has no hash,
    /// or its parameters are weaker than those of [`hash`](Self::hash) or exceed 256 MiB or 16
    /// passes.
    fn from_str(text: &str) -> Result<Self, InvalidClient> {
        let hash = PasswordHash::new(text).map_err(|_| InvalidClient::SecretHash)?;
        let params = Params::try_from(&hash).map_err(|_| InvalidClient::SecretHash)?;
        let memory = Params::DEFAULT_M_COST..=MAX_MEMORY_KIB;
        let passes = Params::DEFAULT_T_COST..=MAX_PASSES;
        let fits = hash.algorithm == ARGON2ID_IDENT
            && hash.version == Some(u32::from(argon2::Version::V0x13))
            && hash.salt.is_some()
            && hash.hash.is_some_and(|hash| hash.len() >= 32)
            && memory.contains(&params.m_cost())
            && passes.contains(&params.t_cost());
        fits.then(|| Self::of(hash)).ok_or(InvalidClient::SecretHash)
    }
}

impl fmt::Display for ChosenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hash.fmt(f)
    }
}

impl fmt::Debug for ChosenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChosenSecret(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Client, Clients as _, MemoryClients, PLAID_REDIRECT_URI},
        *,
    };
    use px_core::SeededRandom;
    use px_types::ClientId;
    use std::time::{Duration, Instant};

    fn client(id: &str) -> Client {
        Client::new(ClientId::new(id).unwrap(), "C", [PLAID_REDIRECT_URI])
    }

    fn chosen(text: &str) -> ChosenSecret {
        ChosenSecret::hash(&ClientSecret::new(text), &SeededRandom::new(1)).unwrap()
    }

    #[tokio::test]
    async fn the_secret_that_was_hashed_is_right_and_no_other() {
        let text = chosen("correct horse battery staple").to_string();
        let clients = MemoryClients::new().with_chosen_secret(client("a"), text.parse().unwrap());
        let clients = clients.unwrap();
        let check = async |id: &str, secret: &str| {
            let id = ClientId::new(id).unwrap();
            clients.check_secret(&id, &ClientSecret::new(secret)).await.unwrap()
        };
        // Before and after the right secret was used once.
        for _ in 0..2 {
            assert!(!check("a", "correct horse battery staplf").await);
            assert!(!check("a", "").await);
            assert!(!check("b", "correct horse battery staple").await);
            assert!(check("a", "correct horse battery staple").await);
        }
        assert!(!format!("{clients:?} {:?}", chosen("sixteen letters!")).contains("argon"));
    }

    #[test]
    fn equal_secrets_have_different_hashes() {
        let (random, secret) = (SeededRandom::new(1), ClientSecret::new("sixteen letters!"));
        let hash = || ChosenSecret::hash(&secret, &random).unwrap().to_string();
        assert_ne!(hash(), hash());
    }

    #[test]
    fn what_is_no_good_hash_is_refused() {
        let short =
            ChosenSecret::hash(&ClientSecret::new("fifteen letters"), &SeededRandom::new(1));
        assert_eq!(short.unwrap_err(), InvalidClient::ShortSecret);
        let good = chosen("sixteen letters!").to_string();
        assert!(good.parse::<ChosenSecret>().is_ok());
        let (head, _) = good.rsplit_once('$').unwrap();
        for bad in [
            "",
            "sixteen letters!",
            head,
            &format!("{head}$AAAAAAAAAAAAAAAAAAAAAA"),
            &good.replace("argon2id", "argon2i"),
            &good.replace("argon2id", "argon2d"),
            &good.replace("v=19", "v=16"),
            &good.replace("$v=19", ""),
            &good.replace("m=19456", "m=4096"),
            &good.replace("m=19456", "m=4294967295"),
            &good.replace("t=2", "t=1"),
            &good.replace("t=2", "t=1000000"),
            "$2b$12$GhvMmNVjRW29ulnudl.LbuAnUtN/LRfe1JsBm1Xu6LE3059z5Tr8m",
        ] {
            let refused = bad.parse::<ChosenSecret>().map(drop).unwrap_err();
            assert_eq!(refused, InvalidClient::SecretHash, "{bad}");
        }
    }

    /// The response time must not reveal which clients exist.
    #[tokio::test]
    #[allow(clippy::disallowed_methods, reason = "measures")]
    async fn an_unknown_client_takes_as_long_as_a_wrong_secret() {
        let clients = MemoryClients::new()
            .with_chosen_secret(client("chosen"), chosen("sixteen letters!"))
            .unwrap()
            .with(client("generated"), &ClientSecret::new("a-secret-of-the-tests"))
            .unwrap();
        let fastest = async |id: &str| {
            let mut fastest = Duration::MAX;
            for _ in 0..3 {
                let (id, secret) = (ClientId::new(id).unwrap(), ClientSecret::new("wrong"));
                let began = Instant::now();
                assert!(!clients.check_secret(&id, &secret).await.unwrap());
                fastest = fastest.min(began.elapsed());
            }
            fastest
        };
        let wrong = fastest("chosen").await;
        for id in ["unknown", "generated"] {
            let other = fastest(id).await;
            assert!(other * 4 > wrong && wrong * 4 > other, "{id}: {other:?}, {wrong:?}");
        }
    }
}
