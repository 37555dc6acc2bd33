//! The keys of an identity provider: read, kept, fetched anew when a token names an
//! unknown one, and never so often that the provider would mind.

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

/// Keys older than this are fetched anew, so that one that was withdrawn ends.
const MAX_AGE: TimeDelta = TimeDelta::hours(1);
/// Keys older than this are not used any more when they cannot be fetched anew.
const MAX_STALE: TimeDelta = TimeDelta::hours(24);
/// Minimum time between two fetches that tokens without a fitting key cause.
const FOR_TOKEN_HOLD: TimeDelta = TimeDelta::minutes(1);
/// Time in which a provider's key change reaches all of its machines and caches.
const KEY_CHANGE: TimeDelta = TimeDelta::minutes(10);
/// Maximum number of unknown key ids that are remembered.
const MAX_UNKNOWN: NonZeroUsize = NonZeroUsize::new(1_000).unwrap();
/// Maximum number of keys that are tried for one token.
const MAX_TRIED_KEYS: usize = 10;
/// The setting with the address of the keys.
pub(super) const SETTING: &str = "`jwks`";
/// The least time between two fetches of which the first failed.
const FAILED_HOLD: TimeDelta = TimeDelta::seconds(5);
/// The most keys that are read from one set.
const MAX_KEYS: usize = 100;

/// The keys as they were last fetched.
pub(super) struct Keys(Vec<Key>);

/// A key, and the algorithms it may be used with.
struct Key {
    id: Option<String>,
    /// The public half, as it is published.
    published: String,
    key: DecodingKey,
    fits: Vec<Algorithm>,
}

/// The outcome of a check of a signature.
pub(super) enum Checked {
    /// A key of the set made it.
    Good,
    /// No key of the set made it.
    Bad,
    /// The set has no key of that id.
    Unknown,
    /// The set has no key of that id, or none at all, for the algorithm.
    Unfit,
}

impl Keys {
    /// Checks a signature with the key that is named or, if none is, with all that fit.
    pub(super) fn check(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        message: &[u8],
        signature: &str,
    ) -> Checked {
        let named = |key: &&Key| id.is_none_or(|id| key.id.as_deref() == Some(id));
        let mut named = self.0.iter().filter(named).peekable();
        if named.peek().is_none() && id.is_some() {
            return Checked::Unknown;
        }
        let fitting = named.filter(|key| key.fits.contains(&algorithm));
        let mut outcome = Checked::Unfit;
        for key in fitting.take(MAX_TRIED_KEYS) {
            let good = jsonwebtoken::crypto::verify(signature, message, &key.key, algorithm);
            if good.is_ok_and(|good| good) {
                return Checked::Good;
            }
            outcome = Checked::Bad;
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
    kept: RwLock<Option<Kept>>,
    /// Held over a fetch, so that many requests cause one.
    fetching: tokio::sync::Mutex<History>,
}

#[derive(Clone)]
struct Kept {
    keys: Arc<Keys>,
    at: DateTime<Utc>,
}

struct History {
    /// The last fetch because of a token that the keys did not fit.
    for_token_at: Option<DateTime<Utc>>,
    failed_at: Option<DateTime<Utc>>,
    /// The last fetch that found other keys than the one before.
    changed_at: Option<DateTime<Utc>>,
    /// When an id that the set does not have was met first, by the SHA-256 of the id.
    unknown: LruCache<[u8; 32], DateTime<Utc>>,
}

impl Jwks {
    pub(super) fn new(transport: Arc<dyn HttpTransport>, uri: Uri) -> Self {
        let history = History {
            for_token_at: None,
            failed_at: None,
            changed_at: None,
            unknown: LruCache::new(MAX_UNKNOWN),
        };
        let fetching = tokio::sync::Mutex::new(history);
        Self { transport, uri, kept: RwLock::default(), fetching }
    }

    /// The keys, fetched if there are none yet or they are old.
    pub(super) async fn keys(&self, clock: &dyn Clock) -> Result<Arc<Keys>, Fault> {
        let fresh = |kept: &Kept| clock.now() - kept.at < MAX_AGE;
        if let Some(kept) = self.kept().filter(fresh) {
            return Ok(kept.keys);
        }
        let mut history = self.fetching.lock().await;
        if let Some(kept) = self.kept().filter(fresh) {
            return Ok(kept.keys);
        }
        let fetched = self.fetch(&mut history, clock).await;
        let usable = |kept: &Kept| clock.now() - kept.at < MAX_STALE;
        fetched.or_else(|error| match self.kept().filter(usable) {
            Some(kept) => Ok(kept.keys),
            None => Err(error),
        })
    }

    /// The keys after a token was met that `known` does not fit.
    ///
    /// An error when it is too early to ask again: the key may have been published since.
    pub(super) async fn keys_beyond(
        &self,
        known: &Arc<Keys>,
        clock: &dyn Clock,
    ) -> Result<Arc<Keys>, Fault> {
        let mut history = self.fetching.lock().await;
        // Another request may have fetched while this one waited.
        if let Some(kept) = self.kept().filter(|kept| !Arc::ptr_eq(&kept.keys, known)) {
            return Ok(kept.keys);
        }
        let held = |at: DateTime<Utc>| clock.now() - at < FOR_TOKEN_HOLD;
        if history.for_token_at.is_some_and(held) {
            let text = "no key fits the token, and the keys were fetched a moment ago";
            return Err(Fault::Unavailable(text.into()));
        }
        history.for_token_at = Some(clock.now());
        self.fetch(&mut history, clock).await
    }

    /// Whether the keys changed a short time ago, so that another machine of the provider may still
    /// sign with others.
    pub(super) async fn changed_lately(&self, clock: &dyn Clock) -> bool {
        let history = self.fetching.lock().await;
        history.changed_at.is_some_and(|at| clock.now() - at < KEY_CHANGE)
    }

    /// Whether the provider has had time to publish the key of an id, and has not.
    pub(super) async fn is_unknown_for_good(&self, id: &str, clock: &dyn Clock) -> bool {
        let (now, key) = (clock.now(), *Digest::of(id).as_bytes());
        let mut history = self.fetching.lock().await;
        let met_at = *history.unknown.get_or_insert(key, || now);
        let passed = |since: DateTime<Utc>, now: DateTime<Utc>| now - since >= KEY_CHANGE;
        // The keys were read that long after the id was met, and nothing has changed lately.
        self.kept().is_some_and(|kept| passed(met_at, kept.at))
            && history.changed_at.is_none_or(|at| passed(at, now))
    }

    async fn fetch(&self, history: &mut History, clock: &dyn Clock) -> Result<Arc<Keys>, Fault> {
        let held = |at: DateTime<Utc>| clock.now() - at < FAILED_HOLD;
        if history.failed_at.is_some_and(held) {
            return Err(Fault::Unavailable("the keys could not be fetched a moment ago".into()));
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
                if self.kept().is_some_and(|kept| kept.keys.published() != keys.published()) {
                    history.changed_at = Some(clock.now());
                }
                let kept = Kept { keys: keys.clone(), at: clock.now() };
                *self.kept.write().unwrap_or_else(PoisonError::into_inner) = Some(kept);
                Ok(keys)
            }
            Err(error) => {
                history.failed_at = Some(clock.now());
                Err(error)
            }
        }
    }

    fn kept(&self) -> Option<Kept> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        kept.clone()
    }
}

/// Reads a set; keys that this verifier cannot use are left out.
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
        return Err(Fault::setting(SETTING, "the JWKS has no key that can be used"));
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
