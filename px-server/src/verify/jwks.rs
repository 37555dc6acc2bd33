//! The keys of an identity provider: read, kept, fetched anew when a token names an
//! unknown one, and never so often that the provider would mind.

use super::provider;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http::{Request, Uri, header};
use jsonwebtoken::{Algorithm, DecodingKey};
use px_core::{Clock, HttpTransport};
use serde::Deserialize;
use serde_json::Value;
use std::{
    error::Error as StdError,
    sync::{Arc, PoisonError, RwLock},
};

/// Keys older than this are fetched anew, so that one that was withdrawn ends.
const MAX_AGE: TimeDelta = TimeDelta::hours(1);
/// Keys older than this are not used any more when they cannot be fetched anew.
const MAX_STALE: TimeDelta = TimeDelta::hours(24);
/// The least time between two fetches that unknown keys cause.
const UNKNOWN_HOLD: TimeDelta = TimeDelta::minutes(1);
/// The least time between two fetches of which the first failed.
const FAILED_HOLD: TimeDelta = TimeDelta::seconds(5);
/// The most keys that are read from one set.
const MAX_KEYS: usize = 100;

type BoxError = Box<dyn StdError + Send + Sync>;

/// A key, and the algorithms it may be used with.
pub(super) struct Key {
    pub(super) id: Option<String>,
    pub(super) key: DecodingKey,
    fits: Vec<Algorithm>,
}

impl Key {
    pub(super) fn fits(&self, algorithm: Algorithm) -> bool {
        self.fits.contains(&algorithm)
    }
}

/// The keys as they were last fetched.
pub(super) struct Keys(Vec<Key>);

/// What a search among the keys found.
pub(super) enum Found<'a> {
    Key(&'a Key),
    /// The set has no key of that id.
    Unknown,
    /// The set has the key but not for that algorithm, or the token does not say which of
    /// several keys is meant.
    Unfit,
}

impl Keys {
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Found<'_> {
        match (id, &*self.0) {
            (None, [key]) if key.fits(algorithm) => Found::Key(key),
            (None, _) => Found::Unfit,
            (Some(id), keys) => {
                let mut named = keys.iter().filter(|key| key.id.as_deref() == Some(id)).peekable();
                if named.peek().is_none() {
                    return Found::Unknown;
                }
                let fitting = named.find(|key| key.fits(algorithm));
                fitting.map_or(Found::Unfit, Found::Key)
            }
        }
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

#[derive(Default)]
struct History {
    for_unknown_at: Option<DateTime<Utc>>,
    failed_at: Option<DateTime<Utc>>,
}

impl Jwks {
    pub(super) fn new(transport: Arc<dyn HttpTransport>, uri: Uri) -> Self {
        Self { transport, uri, kept: RwLock::default(), fetching: tokio::sync::Mutex::default() }
    }

    /// The keys, fetched if there are none yet or they are old.
    pub(super) async fn keys(&self, clock: &dyn Clock) -> Result<Arc<Keys>, BoxError> {
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

    /// The keys after a token named one that `known` does not have.
    ///
    /// An error when it is too early to ask again: the key may have been published since.
    pub(super) async fn keys_beyond(
        &self,
        known: &Arc<Keys>,
        clock: &dyn Clock,
    ) -> Result<Arc<Keys>, BoxError> {
        let mut history = self.fetching.lock().await;
        // Another request may have fetched while this one waited.
        if let Some(kept) = self.kept().filter(|kept| !Arc::ptr_eq(&kept.keys, known)) {
            return Ok(kept.keys);
        }
        let held = |at: DateTime<Utc>| clock.now() - at < UNKNOWN_HOLD;
        if history.for_unknown_at.is_some_and(held) {
            let text = "a token names an unknown key, and the keys were fetched a moment ago";
            return Err(text.into());
        }
        history.for_unknown_at = Some(clock.now());
        self.fetch(&mut history, clock).await
    }

    async fn fetch(&self, history: &mut History, clock: &dyn Clock) -> Result<Arc<Keys>, BoxError> {
        let held = |at: DateTime<Utc>| clock.now() - at < FAILED_HOLD;
        if history.failed_at.is_some_and(held) {
            return Err("the keys could not be fetched a moment ago".into());
        }
        let request = Request::get(self.uri.clone())
            .header(header::ACCEPT, "application/jwk-set+json, application/json")
            .body(Bytes::new())?;
        let fetched = provider::send(&*self.transport, request).await;
        match fetched.and_then(|body| read(&body)) {
            Ok(keys) => {
                let keys = Arc::new(keys);
                history.failed_at = None;
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
fn read(body: &[u8]) -> Result<Keys, BoxError> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<Value>,
    }
    let set: Set = serde_json::from_slice(body).map_err(|_| "the key set is not a JWKS")?;
    let keys = set.keys.iter().take(MAX_KEYS).filter_map(read_key);
    let keys = Keys(keys.collect());
    if keys.0.is_empty() {
        return Err("the key set has no key that can be used".into());
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
        ("RSA", _) => (
            DecodingKey::from_rsa_components(text("n")?, text("e")?),
            vec![Algorithm::RS256, Algorithm::PS256],
        ),
        ("OKP", Some("Ed25519")) => {
            (DecodingKey::from_ed_components(text("x")?), vec![Algorithm::EdDSA])
        }
        _ => return None,
    };
    if let Some(named) = text("alg") {
        fits.retain(|algorithm| super::jwt::name(*algorithm) == Some(named));
    }
    Some(Key { id: text("kid").map(str::to_owned), key: key.ok()?, fits })
}
