//! Public keys: where they come from, how long they are kept, how often they are asked for.

use super::{VerifyError, VerifyErrorKind, token::decoding_key};
use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::DecodingKey;
use px_types::{KeyId, model::verification_key::VerificationKey};
use std::{
    collections::BTreeMap,
    error::Error as StdError,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A key is asked for again when it was kept for so long.
const FRESH: TimeDelta = TimeDelta::hours(1);
/// A key that cannot be asked for again is used for so long.
const USABLE: TimeDelta = TimeDelta::hours(24);
/// The least time between two questions for one name.
const HOLD: TimeDelta = TimeDelta::minutes(1);
/// How many names that are not kept are asked for within [`HOLD`]: anyone can invent names.
const MOST_NAMES: usize = 16;
/// How many keys are kept. Only what the source knows gets among them.
const MOST_KEYS: usize = 32;

/// Where the public keys of webhooks come from.
///
/// Usually `POST /webhook_verification_key/get`. Give the call a time limit: webhooks that
/// need the key wait for it.
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
    at: DateTime<Utc>,
}

impl Known {
    fn read(key: &VerificationKey, kid: &KeyId, at: DateTime<Utc>) -> Option<Self> {
        if key.kid != *kid {
            return None;
        }
        let expired_at = match key.expired_at {
            None => None,
            Some(seconds) => Some(DateTime::from_timestamp(seconds, 0)?),
        };
        Some(Self { key: decoding_key(key)?, expired_at, at })
    }
}

/// The keys at hand.
pub(super) struct Keys {
    source: Arc<dyn KeySource>,
    kept: Mutex<Kept>,
    /// Held over a question, so that many webhooks cause one. Those whose key is kept do not
    /// wait for it.
    asked: tokio::sync::Mutex<Asked>,
}

#[derive(Default)]
struct Kept {
    keys: BTreeMap<KeyId, Arc<Known>>,
    /// When a key turned up that was not kept: those of before may have ended with it.
    rotated_at: Option<DateTime<Utc>>,
}

/// What was asked lately.
#[derive(Default)]
struct Asked(BTreeMap<KeyId, (DateTime<Utc>, Answer)>);

#[derive(Clone, Copy)]
enum Answer {
    Key,
    None,
    Failed,
}

impl Keys {
    pub(super) fn new(source: Arc<dyn KeySource>) -> Self {
        Self { source, kept: Mutex::default(), asked: tokio::sync::Mutex::default() }
    }

    /// The key of a name, asked for if need be.
    pub(super) async fn find(
        &self,
        kid: &KeyId,
        now: DateTime<Utc>,
    ) -> Result<Arc<Known>, VerifyError> {
        if let Some(known) = self.kept().fresh(kid, now) {
            return Ok(known);
        }
        let mut asked = self.asked.lock().await;
        // Another webhook may have asked while this one waited.
        if let Some(known) = self.kept().fresh(kid, now) {
            return Ok(known);
        }
        let kept = self.kept().keys.get(kid).cloned();
        let usable = kept.clone().filter(|known| now - known.at < USABLE);
        let unavailable = || VerifyError::from(VerifyErrorKind::KeyUnavailable);
        match asked.lately(kid, now) {
            Some(Answer::None) => return Err(VerifyErrorKind::UnknownKey.into()),
            Some(Answer::Key | Answer::Failed) => return usable.ok_or_else(unavailable),
            None if kept.is_none() && asked.0.len() >= MOST_NAMES => return Err(unavailable()),
            None => {}
        }
        let answer = self.source.key(kid).await;
        let note = match &answer {
            Ok(Some(_)) => Answer::Key,
            Ok(None) => Answer::None,
            Err(_) => Answer::Failed,
        };
        asked.0.insert(kid.clone(), (now, note));
        match answer {
            Ok(Some(key)) => {
                let unfit = "the published key is not one of ES256, or of another name";
                let known = Known::read(&key, kid, now).ok_or_else(|| VerifyError {
                    kind: VerifyErrorKind::KeyUnavailable,
                    source: Some(unfit.into()),
                })?;
                Ok(self.kept().keep(kid, known))
            }
            Ok(None) => {
                self.kept().keys.remove(kid);
                Err(VerifyErrorKind::UnknownKey.into())
            }
            Err(source) => usable
                .ok_or(VerifyError { kind: VerifyErrorKind::KeyUnavailable, source: Some(source) }),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn fresh(&self, kid: &KeyId, now: DateTime<Utc>) -> Option<Arc<Known>> {
        let known = self.keys.get(kid)?;
        let since_rotation = self.rotated_at.is_none_or(|moment| known.at >= moment);
        (since_rotation && now - known.at < FRESH).then(|| known.clone())
    }

    fn keep(&mut self, kid: &KeyId, known: Known) -> Arc<Known> {
        let known = Arc::new(known);
        if self.keys.insert(kid.clone(), known.clone()).is_none() {
            self.rotated_at = Some(known.at);
        }
        while self.keys.len() > MOST_KEYS {
            let oldest = self.keys.iter().min_by_key(|(_, known)| known.at);
            let Some(oldest) = oldest.map(|(kid, _)| kid.clone()) else { break };
            self.keys.remove(&oldest);
        }
        known
    }
}

impl Asked {
    /// What was answered within the hold.
    fn lately(&mut self, kid: &KeyId, now: DateTime<Utc>) -> Option<Answer> {
        self.0.retain(|_, (at, _)| now - *at < HOLD);
        self.0.get(kid).map(|(_, answer)| *answer)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("source", &self.source).finish_non_exhaustive()
    }
}
