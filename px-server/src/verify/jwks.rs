//! The public keys of an identity provider: fetched, cached, and fetched again if a token names an
//! unknown key, at a limited rate.

use super::{provider, refusal::Fault};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http::{Request, Uri, header};
use jsonwebtoken::{Algorithm, DecodingKey};
use lru::LruCache;
use px_core::{Clock, Digest, HttpTransport};
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::BTreeSet,
    num::NonZeroUsize,
    sync::{Arc, PoisonError, RwLock},
};

/// Age at which keys are fetched again, so that withdrawn keys are dropped.
const MAX_AGE: TimeDelta = TimeDelta::hours(1);
/// Age up to which keys are used if they cannot be fetched again.
const MAX_STALE: TimeDelta = TimeDelta::hours(24);
/// Minimum time between two fetches that are caused by tokens without a suitable key.
const MISSING_KEY_FETCH_INTERVAL: TimeDelta = TimeDelta::minutes(1);
/// Time within which a key change reaches all of the provider's machines and caches.
const KEY_PROPAGATION_TIME: TimeDelta = TimeDelta::minutes(10);
/// Maximum number of unknown key ids that are remembered.
const MAX_UNKNOWN: NonZeroUsize = NonZeroUsize::new(1_000).unwrap();
/// Maximum number of keys that are tried for one token.
const MAX_KEYS_PER_TOKEN: usize = 10;
/// The setting with the address of the keys.
pub(super) const SETTING: &str = "`jwks`";
/// Minimum time before the next fetch after a failed one.
const FAILED_FETCH_INTERVAL: TimeDelta = TimeDelta::seconds(5);
/// Maximum number of keys that are read from one set.
const MAX_KEYS: usize = 100;

/// A fetched set of keys.
pub(super) struct Keys(Vec<Key>);

/// A key with the algorithms that it may be used with.
struct Key {
    id: Option<String>,
    /// The public key as it is published.
    published: String,
    key: DecodingKey,
    fits: Vec<Algorithm>,
}

/// The outcome of a signature check.
pub(super) enum SignatureCheck {
    /// A key of the set made the signature.
    Valid,
    /// No suitable key of the set made the signature.
    Invalid,
    /// The set has no key with the id.
    UnknownKey,
    /// The set has no key for the algorithm (with the id, if one is named).
    NoSuitableKey,
}

impl Keys {
    /// Checks a signature with the named key or, if none is named, with all suitable keys.
    pub(super) fn check(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        message: &[u8],
        signature: &str,
    ) -> SignatureCheck {
        let named = |key: &&Key| id.is_none_or(|id| key.id.as_deref() == Some(id));
        let mut named = self.0.iter().filter(named).peekable();
        if named.peek().is_none() && id.is_some() {
            return SignatureCheck::UnknownKey;
        }
        let fitting = named.filter(|key| key.fits.contains(&algorithm));
        let mut outcome = SignatureCheck::NoSuitableKey;
        for key in fitting.take(MAX_KEYS_PER_TOKEN) {
            let good = jsonwebtoken::crypto::verify(signature, message, &key.key, algorithm);
            if good.is_ok_and(|good| good) {
                return SignatureCheck::Valid;
            }
            outcome = SignatureCheck::Invalid;
        }
        outcome
    }

    fn published(&self) -> BTreeSet<(Option<&str>, &str)> {
        self.0.iter().map(|key| (key.id.as_deref(), &*key.published)).collect()
    }
}

pub(super) struct Jwks {
    transport: Arc<dyn HttpTransport>,
    uri: Uri,
    cached: RwLock<Option<CachedKeys>>,
    /// Locked during a fetch, so that concurrent requests cause one fetch.
    fetching: tokio::sync::Mutex<FetchHistory>,
}

#[derive(Clone)]
struct CachedKeys {
    keys: Arc<Keys>,
    at: DateTime<Utc>,
}

struct FetchHistory {
    /// The last fetch that was caused by a token without a suitable key.
    missing_key_fetch_at: Option<DateTime<Utc>>,
    failed_at: Option<DateTime<Utc>>,
    /// The last fetch that returned different keys than the one before.
    changed_at: Option<DateTime<Utc>>,
    /// The time at which each unknown id was first seen, by the SHA-256 of the id.
    unknown: LruCache<[u8; 32], DateTime<Utc>>,
}

impl Jwks {
    pub(super) fn new(transport: Arc<dyn HttpTransport>, uri: Uri) -> Self {
        let history = FetchHistory {
            missing_key_fetch_at: None,
            failed_at: None,
            changed_at: None,
            unknown: LruCache::new(MAX_UNKNOWN),
        };
        let fetching = tokio::sync::Mutex::new(history);
        Self { transport, uri, cached: RwLock::default(), fetching }
    }

    /// Returns the keys, fetched if there are none or they are too old.
    pub(super) async fn keys(&self, clock: &dyn Clock) -> Result<Arc<Keys>, Fault> {
        let fresh = |cached: &CachedKeys| clock.now() - cached.at < MAX_AGE;
        if let Some(cached) = self.cached().filter(fresh) {
            return Ok(cached.keys);
        }
        let mut history = self.fetching.lock().await;
        if let Some(cached) = self.cached().filter(fresh) {
            return Ok(cached.keys);
        }
        let fetched = self.fetch(&mut history, clock).await;
        let usable = |cached: &CachedKeys| clock.now() - cached.at < MAX_STALE;
        fetched.or_else(|error| match self.cached().filter(usable) {
            Some(cached) => Ok(cached.keys),
            None => Err(error),
        })
    }

    /// Fetches the keys again for a token that does not fit `known`.
    ///
    /// Returns an error if the last such fetch is too recent: the key may have been published
    /// since.
    pub(super) async fn refetch(
        &self,
        known: &Arc<Keys>,
        clock: &dyn Clock,
    ) -> Result<Arc<Keys>, Fault> {
        let mut history = self.fetching.lock().await;
        // A concurrent request may have fetched while this one waited.
        if let Some(cached) = self.cached().filter(|cached| !Arc::ptr_eq(&cached.keys, known)) {
            return Ok(cached.keys);
        }
        let is_too_soon = |at: DateTime<Utc>| clock.now() - at < MISSING_KEY_FETCH_INTERVAL;
        if history.missing_key_fetch_at.is_some_and(is_too_soon) {
            let text = "no key fits the token, and the keys were fetched less than a minute ago";
            return Err(Fault::Unavailable(text.into()));
        }
        history.missing_key_fetch_at = Some(clock.now());
        self.fetch(&mut history, clock).await
    }

    /// Returns whether the keys changed recently. Another machine of the provider may still sign
    /// with other keys.
    pub(super) async fn changed_recently(&self, clock: &dyn Clock) -> bool {
        let history = self.fetching.lock().await;
        history.changed_at.is_some_and(|at| clock.now() - at < KEY_PROPAGATION_TIME)
    }

    /// Returns whether the provider has had enough time to publish the key of an id, but has not.
    pub(super) async fn is_permanently_unknown(&self, id: &str, clock: &dyn Clock) -> bool {
        let (now, key) = (clock.now(), *Digest::of(id).as_bytes());
        let mut history = self.fetching.lock().await;
        let first_seen_at = *history.unknown.get_or_insert(key, || now);
        let passed = |since: DateTime<Utc>, now: DateTime<Utc>| now - since >= KEY_PROPAGATION_TIME;
        // The keys were fetched that long after the id was first seen, and have not changed
        // recently.
        self.cached().is_some_and(|cached| passed(first_seen_at, cached.at))
            && history.changed_at.is_none_or(|at| passed(at, now))
    }

    async fn fetch(
        &self,
        history: &mut FetchHistory,
        clock: &dyn Clock,
    ) -> Result<Arc<Keys>, Fault> {
        let is_too_soon = |at: DateTime<Utc>| clock.now() - at < FAILED_FETCH_INTERVAL;
        if history.failed_at.is_some_and(is_too_soon) {
            return Err(Fault::Unavailable(
                "the last fetch of the keys failed less than 5 s ago".into(),
            ));
        }
        let request = Request::get(self.uri.clone())
            .header(header::ACCEPT, "application/jwk-set+json, application/json")
            .body(Bytes::new())
            .map_err(|error| Fault::unavailable(&error))?;
        let fetched = provider::send(&*self.transport, request, SETTING).await;
        match fetched.and_then(|body| read(&body)) {
            Ok(keys) => {
                let keys = Arc::new(keys);
                history.failed_at = None;
                if self.cached().is_some_and(|cached| cached.keys.published() != keys.published()) {
                    history.changed_at = Some(clock.now());
                }
                let cached = CachedKeys { keys: keys.clone(), at: clock.now() };
                *self.cached.write().unwrap_or_else(PoisonError::into_inner) = Some(cached);
                Ok(keys)
            }
            Err(error) => {
                history.failed_at = Some(clock.now());
                Err(error)
            }
        }
    }

    fn cached(&self) -> Option<CachedKeys> {
        let cached = self.cached.read().unwrap_or_else(PoisonError::into_inner);
        cached.clone()
    }
}

/// Parses a set; keys that this verifier cannot use are omitted.
fn read(body: &[u8]) -> Result<Keys, Fault> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<Value>,
    }
    let set: Set = serde_json::from_slice(body)
        .map_err(|_| Fault::setting(SETTING, "the response is not a JWKS"))?;
    let keys = set.keys.iter().take(MAX_KEYS).filter_map(read_key);
    let keys = Keys(keys.collect());
    if keys.0.is_empty() {
        return Err(Fault::setting(SETTING, "the JWKS has no usable key"));
    }
    Ok(keys)
}

fn read_key(value: &Value) -> Option<Key> {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    if text("use").is_some_and(|usage| usage != "sig") {
        return None;
    }
    let operations = value.get("key_ops").and_then(Value::as_array);
    if operations.is_some_and(|all| !all.iter().any(|op| op.as_str() == Some("verify"))) {
        return None;
    }
    let (key, mut fits) = match (text("kty")?, text("crv")) {
        ("EC", Some("P-256")) => {
            (DecodingKey::from_ec_components(text("x")?, text("y")?), vec![Algorithm::ES256])
        }
        ("EC", Some("P-384")) => {
            (DecodingKey::from_ec_components(text("x")?, text("y")?), vec![Algorithm::ES384])
        }
        ("RSA", _) => (
            DecodingKey::from_rsa_components(text("n")?, text("e")?),
            vec![
                Algorithm::RS256,
                Algorithm::RS384,
                Algorithm::RS512,
                Algorithm::PS256,
                Algorithm::PS384,
                Algorithm::PS512,
            ],
        ),
        ("OKP", Some("Ed25519")) => {
            (DecodingKey::from_ed_components(text("x")?), vec![Algorithm::EdDSA])
        }
        _ => return None,
    };
    if let Some(named) = text("alg") {
        fits.retain(|algorithm| super::jwt::name(*algorithm) == Some(named));
    }
    let published = text("n").or(text("x"))?.to_owned();
    Some(Key { id: text("kid").map(str::to_owned), published, key: key.ok()?, fits })
}
