//! Public keys: where they come from, how long they are kept, how often they are requested.

use super::{
    VerifyError, VerifyErrorKind,
    token::decoding_key,
    turns::{Origin, Ticket, Turn, Turns},
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
const FRESH: TimeDelta = TimeDelta::hours(1);
/// Age up to which a key is used that cannot be requested again.
const USABLE: TimeDelta = TimeDelta::hours(24);
/// Time between two requests for one name.
const HOLD: TimeDelta = TimeDelta::minutes(1);
/// Time between two requests for one name, when the first one failed.
const HOLD_FAILED: TimeDelta = TimeDelta::seconds(10);
/// Maximum number of keys that are kept. Only what the source knows gets among them.
const MAX_KEYS: usize = 32;
/// Maximum number of webhooks that wait for one request.
const MAX_FOLLOWERS: usize = 64;
/// Maximum time that a webhook waits for its key.
const MAX_WAIT: Duration = Duration::from_secs(4);
/// Maximum time of a request to the source.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

type Failure = Box<dyn StdError + Send + Sync>;

/// Where the public keys of webhooks come from.
///
/// Usually `POST /webhook_verification_key/get`.
#[async_trait]
pub trait KeySource: Send + Sync + fmt::Debug {
    /// The key of that name as it is now; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be found out now.
    async fn key(
        &self,
        kid: &KeyId,
    ) -> Result<Option<VerificationKey>, Box<dyn StdError + Send + Sync>>;
}

/// Persists the keys that were found, so that a program finds them at once after a restart.
///
/// One row, or one small file, is enough: the keys are public, and there are at most 32.
#[async_trait]
pub trait KeyStore: Send + Sync + fmt::Debug {
    /// Returns the keys that were saved last; none if none were.
    ///
    /// # Errors
    /// If the store is out of reach. Then the verifier begins without keys.
    async fn load(&self) -> Result<Vec<FoundKey>, Box<dyn StdError + Send + Sync>>;

    /// Saves all keys in place of those that were saved before.
    ///
    /// # Errors
    /// If the store is out of reach. It is called again with the next key.
    async fn save(&self, keys: &[FoundKey]) -> Result<(), Box<dyn StdError + Send + Sync>>;
}

/// A key as its source returned it, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FoundKey {
    /// The key.
    pub key: VerificationKey,
    /// When the source returned it.
    pub found_at: DateTime<Utc>,
}

/// Keys that are known from the start.
#[derive(Clone, Debug)]
pub struct FixedKeys(Vec<VerificationKey>);

impl FixedKeys {
    /// These keys and no others.
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

/// A [`KeySource`] made of a function: one line over a client of Plaid's API.
pub struct AskedKeys<F>(F);

impl<F> AskedKeys<F> {
    /// Asks this function for each key. It answers `None` for a name that is not known.
    pub fn new(ask: F) -> Self {
        Self(ask)
    }
}

impl<F> fmt::Debug for AskedKeys<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AskedKeys")
    }
}

#[async_trait]
impl<F, A, E> KeySource for AskedKeys<F>
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

/// A key that the source knew.
pub(super) struct Known {
    pub(super) key: DecodingKey,
    pub(super) expired_at: Option<DateTime<Utc>>,
    found: FoundKey,
}

impl Known {
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

/// The keys at hand.
pub(super) struct Keys {
    source: Arc<dyn KeySource>,
    store: Option<Arc<dyn KeyStore>>,
    loaded: OnceCell<()>,
    state: Mutex<State>,
    /// Notified when a request ended, and when a place in the order is free.
    changed: Notify,
}

#[derive(Default)]
struct State {
    kept: Kept,
    /// What the source said lately.
    said: BTreeMap<KeyId, (DateTime<Utc>, Said)>,
    /// The names that are being requested, and how many other webhooks wait for each.
    requested: BTreeMap<KeyId, usize>,
    turns: Turns,
}

#[derive(Default)]
struct Kept {
    keys: BTreeMap<KeyId, Arc<Known>>,
    /// When a key turned up that was not kept: those of before may have ended with it.
    rotated_at: Option<DateTime<Utc>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Said {
    Key,
    Unknown,
    Failed,
}

/// What a webhook does to get its key.
enum Step {
    Use(Arc<Known>),
    Refuse(VerifyErrorKind),
    Request,
    /// Waits for a change, or until a moment.
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

    /// The key of a name, requested if need be.
    pub(super) async fn find(
        &self,
        kid: &KeyId,
        from: Origin,
        clock: &dyn Clock,
    ) -> Result<Arc<Known>, VerifyError> {
        self.loaded.get_or_init(|| self.load()).await;
        let deadline = clock.elapsed() + MAX_WAIT;
        let mut place = Place { keys: self, ticket: None, follows: false };
        loop {
            let changed = self.changed.notified();
            let mut changed = pin!(changed);
            changed.as_mut().enable();
            let now = clock.elapsed();
            let until = match self.step(kid, from, &mut place, (clock.now(), now)) {
                Step::Use(known) => return Ok(known),
                Step::Refuse(kind) => return Err(kind.into()),
                Step::Request => break,
                Step::Wait(_) if now >= deadline => {
                    return Err(VerifyErrorKind::KeyUnavailable.into());
                }
                Step::Wait(until) => until.map_or(deadline, |until| until.min(deadline)),
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
        place: &mut Place<'_>,
        (now, elapsed): (DateTime<Utc>, Duration),
    ) -> Step {
        let mut state = self.state();
        let state = &mut *state;
        if let Some(known) = state.kept.fresh(kid, now) {
            return Step::Use(known);
        }
        let kept = state.kept.keys.get(kid).cloned();
        let is_kept = kept.is_some();
        let usable = kept.filter(|known| now - known.found.found_at < USABLE);
        let or_unavailable = |usable: Option<Arc<Known>>| match usable {
            Some(known) => Step::Use(known),
            None => Step::Refuse(VerifyErrorKind::KeyUnavailable),
        };
        match state.said_lately(kid, now) {
            Some(Said::Unknown) => return Step::Refuse(VerifyErrorKind::UnknownKey),
            Some(Said::Key | Said::Failed) => return or_unavailable(usable),
            None => {}
        }
        if is_kept {
            // Whoever comes first asks; the others go on with what is kept.
            if !state.requested.contains_key(kid) && state.turns.known(elapsed) {
                state.requested.insert(kid.clone(), 0);
                return Step::Request;
            }
            return match usable {
                Some(known) => Step::Use(known),
                None => state.requested.get_mut(kid).map_or_else(
                    || Step::Refuse(VerifyErrorKind::KeyUnavailable),
                    |followers| place.follow(followers),
                ),
            };
        }
        if let Some(followers) = state.requested.get_mut(kid) {
            return place.follow(followers);
        }
        let step = place.wait(&mut state.turns, from, elapsed);
        if matches!(step, Step::Request) {
            state.requested.insert(kid.clone(), 0);
        }
        step
    }

    /// Requests a key, whose name is among the requested ones.
    async fn request(&self, kid: &KeyId, clock: &dyn Clock) -> Result<Arc<Known>, VerifyError> {
        let ended = Requested { keys: self, kid };
        let answer = {
            let request = pin!(self.source.key(kid));
            match select(request, pin!(clock.sleep(REQUEST_TIMEOUT))).await {
                Either::Left((answer, _)) => answer,
                Either::Right(_) => Err("the source of keys did not respond in time".into()),
            }
        };
        let now = clock.now();
        let known = match answer {
            Ok(Some(key)) => Known::read(FoundKey { key, found_at: now }, kid)
                .map(Some)
                .ok_or_else(|| "the published key is not one of ES256, or of another name".into()),
            Ok(None) => Ok(None),
            Err(failure) => Err(failure),
        };
        let (found, is_new) = {
            let mut state = self.state();
            let said = match &known {
                Ok(Some(_)) => Said::Key,
                Ok(None) => Said::Unknown,
                Err(_) => Said::Failed,
            };
            state.said.insert(kid.clone(), (now, said));
            match known {
                Ok(Some(known)) => {
                    let is_new = !state.kept.keys.contains_key(kid);
                    (Ok(state.kept.keep(kid, known)), is_new)
                }
                Ok(None) => {
                    let was_kept = state.kept.keys.remove(kid).is_some();
                    (Err(VerifyErrorKind::UnknownKey.into()), was_kept)
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

    /// What is kept of a name whose request failed.
    fn usable(
        &self,
        state: &State,
        kid: &KeyId,
        failure: Failure,
        now: DateTime<Utc>,
    ) -> Result<Arc<Known>, VerifyError> {
        let kept = state.kept.keys.get(kid);
        let usable = kept.filter(|known| now - known.found.found_at < USABLE).cloned();
        usable.ok_or(VerifyError { kind: VerifyErrorKind::KeyUnavailable, source: Some(failure) })
    }

    /// Takes in the keys of the last run.
    async fn load(&self) {
        let Some(store) = &self.store else { return };
        match store.load().await {
            Ok(keys) => {
                let mut state = self.state();
                for found in keys.into_iter().take(MAX_KEYS) {
                    let kid = found.key.kid.clone();
                    if let Some(known) = Known::read(found, &kid) {
                        state.kept.keys.insert(kid, Arc::new(known));
                    }
                }
            }
            Err(error) => {
                tracing::warn!(error, "the keys of webhooks are not loaded; they are requested");
            }
        }
    }

    async fn save(&self) {
        let Some(store) = &self.store else { return };
        let all: Vec<_> =
            self.state().kept.keys.values().map(|known| known.found.clone()).collect();
        if let Err(error) = store.save(&all).await {
            tracing::warn!(error, "the keys of webhooks are not saved");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is complete before anything can panic, so a poisoned lock is sound.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the order of requests; given up when dropped.
struct Place<'k> {
    keys: &'k Keys,
    ticket: Option<Ticket>,
    /// Whether it waits for a request of another webhook.
    follows: bool,
}

impl Place<'_> {
    /// Waits for the request of another webhook.
    fn follow(&mut self, followers: &mut usize) -> Step {
        if !self.follows {
            if *followers >= MAX_FOLLOWERS {
                return Step::Refuse(VerifyErrorKind::KeyUnavailable);
            }
            *followers += 1;
            self.follows = true;
        }
        Step::Wait(None)
    }

    /// Takes a place, or finds out whether it is its turn.
    fn wait(&mut self, turns: &mut Turns, from: Origin, now: Duration) -> Step {
        self.follows = false;
        let unavailable = Step::Refuse(VerifyErrorKind::KeyUnavailable);
        let ticket = match self.ticket {
            Some(ticket) => ticket,
            None => match turns.arrive(from, now) {
                Some(ticket) => *self.ticket.insert(ticket),
                None => return unavailable,
            },
        };
        match turns.turn(ticket, now) {
            Turn::Go => {
                self.ticket = None;
                Step::Request
            }
            Turn::Wait(until) => Step::Wait(until),
            Turn::Lost => unavailable,
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.keys.state().turns.leave(ticket);
        }
        // Another one may be the first now.
        self.keys.changed.notify_waiters();
    }
}

/// A name that is being requested; over when dropped, also by a caller that hung up.
struct Requested<'k> {
    keys: &'k Keys,
    kid: &'k KeyId,
}

impl Drop for Requested<'_> {
    fn drop(&mut self) {
        self.keys.state().requested.remove(self.kid);
        self.keys.changed.notify_waiters();
    }
}

impl State {
    /// What the source said within the hold.
    fn said_lately(&mut self, kid: &KeyId, now: DateTime<Utc>) -> Option<Said> {
        self.said.retain(|_, (at, said)| {
            let hold = if *said == Said::Failed { HOLD_FAILED } else { HOLD };
            now - *at < hold
        });
        self.said.get(kid).map(|(_, said)| *said)
    }
}

impl Kept {
    fn fresh(&self, kid: &KeyId, now: DateTime<Utc>) -> Option<Arc<Known>> {
        let known = self.keys.get(kid)?;
        let found_at = known.found.found_at;
        let since_rotation = self.rotated_at.is_none_or(|moment| found_at >= moment);
        (since_rotation && now - found_at < FRESH).then(|| known.clone())
    }

    fn keep(&mut self, kid: &KeyId, known: Known) -> Arc<Known> {
        let known = Arc::new(known);
        if self.keys.insert(kid.clone(), known.clone()).is_none() {
            self.rotated_at = Some(known.found.found_at);
        }
        while self.keys.len() > MAX_KEYS {
            let oldest = self.keys.iter().min_by_key(|(_, known)| known.found.found_at);
            let Some(oldest) = oldest.map(|(kid, _)| kid.clone()) else { break };
            self.keys.remove(&oldest);
        }
        known
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("source", &self.source).finish_non_exhaustive()
    }
}
