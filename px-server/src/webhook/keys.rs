//! Public keys of webhooks: their source, their cache, and the rate of requests.

use super::{
    VerifyError, WebhookErrorKind,
    fair_queue::{FairQueue, Origin, QueueStatus, Ticket},
    token::decoding_key,
};
use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::{Either, select};
use jsonwebtoken::DecodingKey;
use px_core::Clock;
use px_types::{KeyId, model::verification_key::VerificationKey};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    error::Error as StdError,
    fmt,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{Notify, OnceCell};

/// Age at which a key is requested again.
const REFRESH_AGE: TimeDelta = TimeDelta::hours(1);
/// Age up to which a key is used if it cannot be requested again.
const MAX_STALE_AGE: TimeDelta = TimeDelta::hours(24);
/// Minimum time between two requests for one id.
const LOOKUP_INTERVAL: TimeDelta = TimeDelta::minutes(1);
/// Minimum time between two requests for one id if the first failed.
const FAILED_LOOKUP_INTERVAL: TimeDelta = TimeDelta::seconds(10);
/// Maximum number of cached keys. Only keys of the source are cached.
const MAX_KEYS: usize = 32;
/// Maximum number of webhooks that wait for one request.
const MAX_FOLLOWERS: usize = 64;
/// Maximum time that a webhook waits for its key.
const MAX_WAIT: Duration = Duration::from_secs(4);
/// Time limit of a request to the source.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

type Failure = Box<dyn StdError + Send + Sync>;

/// The source of the public keys of webhooks.
///
/// Usually it calls `POST /webhook_verification_key/get`.
#[async_trait]
pub trait KeySource: Send + Sync + fmt::Debug {
    /// Returns the current key with an id. Returns `None` if it does not exist.
    ///
    /// # Errors
    /// If the key cannot be determined now.
    async fn key(
        &self,
        kid: &KeyId,
    ) -> Result<Option<VerificationKey>, Box<dyn StdError + Send + Sync>>;
}

/// Persistent storage of keys, so that they are available immediately after a restart.
///
/// One row or one small file is enough: the keys are public, and there are at most 32.
#[async_trait]
pub trait KeyStore: Send + Sync + fmt::Debug {
    /// Returns the keys that were saved last; empty if none were.
    ///
    /// # Errors
    /// If the store is not reachable. The verifier then starts without keys.
    async fn load(&self) -> Result<Vec<FoundKey>, Box<dyn StdError + Send + Sync>>;

    /// Saves all keys, replacing those that were saved before.
    ///
    /// # Errors
    /// If the store is not reachable. The verifier calls it again with the next new key.
    async fn save(&self, keys: &[FoundKey]) -> Result<(), Box<dyn StdError + Send + Sync>>;
}

/// A key with the time at which its source returned it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FoundKey {
    /// The key.
    pub key: VerificationKey,
    /// Time at which the source returned the key.
    pub found_at: DateTime<Utc>,
}

/// A key source with a fixed set of keys.
#[derive(Clone, Debug)]
pub struct FixedKeys(Vec<VerificationKey>);

impl FixedKeys {
    /// Creates a source with these keys.
    #[must_use]
    pub fn new(keys: Vec<VerificationKey>) -> Self {
        Self(keys)
    }
}

#[async_trait]
impl KeySource for FixedKeys {
    async fn key(
        &self,
        kid: &KeyId,
    ) -> Result<Option<VerificationKey>, Box<dyn StdError + Send + Sync>> {
        Ok(self.0.iter().find(|key| key.kid == *kid).cloned())
    }
}

/// A [`KeySource`] that calls a function, for example one over a client of Plaid's API.
pub struct KeySourceFn<F>(F);

impl<F> KeySourceFn<F> {
    /// Creates a source from a function, which returns `None` for an unknown id.
    pub fn new(fetch: F) -> Self {
        Self(fetch)
    }
}

impl<F> fmt::Debug for KeySourceFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AskedKeys")
    }
}

#[async_trait]
impl<F, A, E> KeySource for KeySourceFn<F>
where
    F: Fn(KeyId) -> A + Send + Sync,
    A: Future<Output = Result<Option<VerificationKey>, E>> + Send,
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    async fn key(
        &self,
        kid: &KeyId,
    ) -> Result<Option<VerificationKey>, Box<dyn StdError + Send + Sync>> {
        (self.0)(kid.clone()).await.map_err(Into::into)
    }
}

/// A key with the data that its checks need.
pub(super) struct CachedKey {
    pub(super) key: DecodingKey,
    pub(super) expired_at: Option<DateTime<Utc>>,
    found: FoundKey,
}

impl CachedKey {
    fn read(found: FoundKey, kid: &KeyId) -> Option<Self> {
        if found.key.kid != *kid {
            return None;
        }
        let expired_at = match found.key.expired_at {
            None => None,
            Some(seconds) => Some(DateTime::from_timestamp(seconds, 0)?),
        };
        Some(Self { key: decoding_key(&found.key)?, expired_at, found })
    }
}

/// The cached keys, with the source to request others from.
pub(super) struct Keys {
    source: Arc<dyn KeySource>,
    store: Option<Arc<dyn KeyStore>>,
    loaded: OnceCell<()>,
    state: Mutex<State>,
    /// Notified when a request ends, and when the queue changes.
    changed: Notify,
}

#[derive(Default)]
struct State {
    cache: KeyCache,
    /// Recent results of the source.
    recent_lookups: BTreeMap<KeyId, (DateTime<Utc>, LookupResult)>,
    /// The ids that are being requested, with the number of other webhooks that wait for each.
    requested: BTreeMap<KeyId, usize>,
    queue: FairQueue,
}

#[derive(Default)]
struct KeyCache {
    keys: BTreeMap<KeyId, Arc<CachedKey>>,
    /// When a new key appeared. Keys that were found before may have ended with it.
    rotated_at: Option<DateTime<Utc>>,
}

#[derive(Clone, Copy, PartialEq)]
enum LookupResult {
    Found,
    Unknown,
    Failed,
}

/// The next step of a webhook to get its key.
enum NextStep {
    Use(Arc<CachedKey>),
    Refuse(WebhookErrorKind),
    Request,
    /// Waits for a change, or until a time.
    Wait(Option<Duration>),
}

impl Keys {
    pub(super) fn new(source: Arc<dyn KeySource>) -> Self {
        Self {
            source,
            store: None,
            loaded: OnceCell::new(),
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    pub(super) fn store(&mut self, store: Arc<dyn KeyStore>) {
        self.store = Some(store);
    }

    /// Returns the key with an id, requested from the source if necessary.
    pub(super) async fn find(
        &self,
        kid: &KeyId,
        from: Origin,
        clock: &dyn Clock,
    ) -> Result<Arc<CachedKey>, VerifyError> {
        self.loaded.get_or_init(|| self.load()).await;
        let deadline = clock.elapsed() + MAX_WAIT;
        let mut place = QueuePlace { keys: self, ticket: None, is_following: false };
        loop {
            let changed = self.changed.notified();
            let mut changed = pin!(changed);
            changed.as_mut().enable();
            let now = clock.elapsed();
            let until = match self.step(kid, from, &mut place, (clock.now(), now)) {
                NextStep::Use(key) => return Ok(key),
                NextStep::Refuse(kind) => return Err(kind.into()),
                NextStep::Request => break,
                NextStep::Wait(_) if now >= deadline => {
                    return Err(WebhookErrorKind::KeyUnavailable.into());
                }
                NextStep::Wait(until) => until.map_or(deadline, |until| until.min(deadline)),
            };
            let sleep = pin!(clock.sleep(until.saturating_sub(now)));
            select(changed, sleep).await;
        }
        drop(place);
        self.request(kid, clock).await
    }

    fn step(
        &self,
        kid: &KeyId,
        from: Origin,
        place: &mut QueuePlace<'_>,
        (now, elapsed): (DateTime<Utc>, Duration),
    ) -> NextStep {
        let mut state = self.state();
        let state = &mut *state;
        if let Some(key) = state.cache.fresh(kid, now) {
            return NextStep::Use(key);
        }
        let cached = state.cache.keys.get(kid).cloned();
        let is_cached = cached.is_some();
        let usable = cached.filter(|key| now - key.found.found_at < MAX_STALE_AGE);
        let or_unavailable = |usable: Option<Arc<CachedKey>>| match usable {
            Some(key) => NextStep::Use(key),
            None => NextStep::Refuse(WebhookErrorKind::KeyUnavailable),
        };
        match state.recent_lookup(kid, now) {
            Some(LookupResult::Unknown) => return NextStep::Refuse(WebhookErrorKind::UnknownKey),
            Some(LookupResult::Found | LookupResult::Failed) => return or_unavailable(usable),
            None => {}
        }
        if is_cached {
            // The first webhook requests the key; the others use the cached one meanwhile.
            if !state.requested.contains_key(kid) && state.queue.take_known(elapsed) {
                state.requested.insert(kid.clone(), 0);
                return NextStep::Request;
            }
            return match usable {
                Some(key) => NextStep::Use(key),
                None => state.requested.get_mut(kid).map_or_else(
                    || NextStep::Refuse(WebhookErrorKind::KeyUnavailable),
                    |followers| place.follow(followers),
                ),
            };
        }
        if let Some(followers) = state.requested.get_mut(kid) {
            return place.follow(followers);
        }
        let step = place.wait(&mut state.queue, from, elapsed);
        if matches!(step, NextStep::Request) {
            state.requested.insert(kid.clone(), 0);
        }
        step
    }

    /// Requests a key. Its id must be in `requested`.
    async fn request(&self, kid: &KeyId, clock: &dyn Clock) -> Result<Arc<CachedKey>, VerifyError> {
        let ended = PendingRequest { keys: self, kid };
        let response = {
            let request = pin!(self.source.key(kid));
            match select(request, pin!(clock.sleep(REQUEST_TIMEOUT))).await {
                Either::Left((response, _)) => response,
                Either::Right(_) => Err("the key source did not respond within 10 s".into()),
            }
        };
        let now = clock.now();
        let key = match response {
            Ok(Some(key)) => CachedKey::read(FoundKey { key, found_at: now }, kid)
                .map(Some)
                .ok_or_else(|| "the published key is not an ES256 key, or has another id".into()),
            Ok(None) => Ok(None),
            Err(failure) => Err(failure),
        };
        let (found, is_new) = {
            let mut state = self.state();
            let result = match &key {
                Ok(Some(_)) => LookupResult::Found,
                Ok(None) => LookupResult::Unknown,
                Err(_) => LookupResult::Failed,
            };
            state.recent_lookups.insert(kid.clone(), (now, result));
            match key {
                Ok(Some(key)) => {
                    let is_new = !state.cache.keys.contains_key(kid);
                    (Ok(state.cache.insert(kid, key)), is_new)
                }
                Ok(None) => {
                    let was_cached = state.cache.keys.remove(kid).is_some();
                    (Err(WebhookErrorKind::UnknownKey.into()), was_cached)
                }
                Err(failure) => (self.usable(&state, kid, failure, now), false),
            }
        };
        drop(ended);
        if is_new {
            self.save().await;
        }
        found
    }

    /// Returns the cached key if it can still be used although the request failed.
    fn usable(
        &self,
        state: &State,
        kid: &KeyId,
        failure: Failure,
        now: DateTime<Utc>,
    ) -> Result<Arc<CachedKey>, VerifyError> {
        let cached = state.cache.keys.get(kid);
        let usable = cached.filter(|key| now - key.found.found_at < MAX_STALE_AGE).cloned();
        usable.ok_or(VerifyError { kind: WebhookErrorKind::KeyUnavailable, source: Some(failure) })
    }

    /// Loads the keys of the last run from the store.
    async fn load(&self) {
        let Some(store) = &self.store else { return };
        match store.load().await {
            Ok(keys) => {
                let mut state = self.state();
                for found in keys.into_iter().take(MAX_KEYS) {
                    let kid = found.key.kid.clone();
                    if let Some(key) = CachedKey::read(found, &kid) {
                        state.cache.keys.insert(kid, Arc::new(key));
                    }
                }
            }
            Err(error) => {
                tracing::warn!(
                    error,
                    "the stored webhook keys could not be loaded; they will be requested again"
                );
            }
        }
    }

    async fn save(&self) {
        let Some(store) = &self.store else { return };
        let all: Vec<_> = self.state().cache.keys.values().map(|key| key.found.clone()).collect();
        if let Err(error) = store.save(&all).await {
            tracing::warn!(error, "the webhook keys could not be saved");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is complete before anything can panic, so a poisoned lock is sound.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue, which is given up on drop.
struct QueuePlace<'k> {
    keys: &'k Keys,
    ticket: Option<Ticket>,
    /// Whether it waits for a request of another webhook.
    is_following: bool,
}

impl QueuePlace<'_> {
    /// Waits for the request of another webhook.
    fn follow(&mut self, followers: &mut usize) -> NextStep {
        if !self.is_following {
            if *followers >= MAX_FOLLOWERS {
                return NextStep::Refuse(WebhookErrorKind::KeyUnavailable);
            }
            *followers += 1;
            self.is_following = true;
        }
        NextStep::Wait(None)
    }

    /// Takes a place in the queue, or polls its status.
    fn wait(&mut self, queue: &mut FairQueue, from: Origin, now: Duration) -> NextStep {
        self.is_following = false;
        let unavailable = NextStep::Refuse(WebhookErrorKind::KeyUnavailable);
        let ticket = match self.ticket {
            Some(ticket) => ticket,
            None => match queue.enqueue(from, now) {
                Some(ticket) => *self.ticket.insert(ticket),
                None => return unavailable,
            },
        };
        match queue.poll(ticket, now) {
            QueueStatus::Ready => {
                self.ticket = None;
                NextStep::Request
            }
            QueueStatus::Wait(until) => NextStep::Wait(until),
            QueueStatus::Evicted => unavailable,
        }
    }
}

impl Drop for QueuePlace<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.keys.state().queue.remove(ticket);
        }
        // Another webhook may be the first in the queue now.
        self.keys.changed.notify_waiters();
    }
}

/// A request in progress, which ends on drop, also if the caller disconnects.
struct PendingRequest<'k> {
    keys: &'k Keys,
    kid: &'k KeyId,
}

impl Drop for PendingRequest<'_> {
    fn drop(&mut self) {
        self.keys.state().requested.remove(self.kid);
        self.keys.changed.notify_waiters();
    }
}

impl State {
    /// Returns the last result of the source, if it is too recent to request the key again.
    fn recent_lookup(&mut self, kid: &KeyId, now: DateTime<Utc>) -> Option<LookupResult> {
        self.recent_lookups.retain(|_, (at, result)| {
            let hold = if *result == LookupResult::Failed {
                FAILED_LOOKUP_INTERVAL
            } else {
                LOOKUP_INTERVAL
            };
            now - *at < hold
        });
        self.recent_lookups.get(kid).map(|(_, result)| *result)
    }
}

impl KeyCache {
    fn fresh(&self, kid: &KeyId, now: DateTime<Utc>) -> Option<Arc<CachedKey>> {
        let key = self.keys.get(kid)?;
        let found_at = key.found.found_at;
        let since_rotation = self.rotated_at.is_none_or(|moment| found_at >= moment);
        (since_rotation && now - found_at < REFRESH_AGE).then(|| key.clone())
    }

    fn insert(&mut self, kid: &KeyId, key: CachedKey) -> Arc<CachedKey> {
        let key = Arc::new(key);
        if self.keys.insert(kid.clone(), key.clone()).is_none() {
            self.rotated_at = Some(key.found.found_at);
        }
        while self.keys.len() > MAX_KEYS {
            let oldest = self.keys.iter().min_by_key(|(_, key)| key.found.found_at);
            let Some(oldest) = oldest.map(|(kid, _)| kid.clone()) else { break };
            self.keys.remove(&oldest);
        }
        key
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("source", &self.source).finish_non_exhaustive()
    }
}
