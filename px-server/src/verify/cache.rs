//! A bounded cache of verified tokens.

use super::{TokenContext, TokenVerifier, VerifyError};
use crate::TokenGrant;
use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use lru::LruCache;
use px_core::{Clock, Digest, SystemClock};
use px_types::AccessToken;
use std::{
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Default maximum number of cached tokens.
const DEFAULT_CAPACITY: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();
/// Default time for which a token is cached.
const DEFAULT_TTL: TimeDelta = TimeDelta::seconds(10);

/// Grants of verified tokens, by the SHA-256 of the token.
pub(super) struct GrantCache {
    clock: Arc<dyn Clock>,
    ttl: TimeDelta,
    state: Mutex<State>,
}

struct State {
    entries: LruCache<Key, Entry>,
    /// Number of purges. A verification that overlaps a purge is not cached.
    generation: u64,
}

/// Key of an entry: the SHA-256 of the token, and the certificate that it was presented with,
/// because a custom verifier may depend on it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    token: [u8; 32],
    certificate: Option<[u8; 32]>,
}

struct Entry {
    grant: Arc<TokenGrant>,
    expires_at: DateTime<Utc>,
}

impl GrantCache {
    pub(super) fn new() -> Self {
        let state = State { entries: LruCache::new(DEFAULT_CAPACITY), generation: 0 };
        Self { clock: Arc::new(SystemClock::new()), ttl: DEFAULT_TTL, state: Mutex::new(state) }
    }

    pub(super) fn set_capacity(&self, capacity: usize) {
        let capacity = NonZeroUsize::new(capacity).unwrap_or(NonZeroUsize::MIN);
        self.state().entries.resize(capacity);
    }

    pub(super) fn set_ttl(&mut self, ttl: Duration) {
        self.ttl = TimeDelta::from_std(ttl).unwrap_or(DEFAULT_TTL).min(TimeDelta::days(1));
    }

    pub(super) fn set_clock(&mut self, clock: Arc<dyn Clock>) {
        self.clock = clock;
    }

    pub(super) fn purge_token(&self, token: &AccessToken) {
        let token = *Digest::of(token.expose()).as_bytes();
        self.purge(|key, _| key.token == token);
    }

    pub(super) fn purge_grant(&self, grant_id: &str) {
        self.purge(|_, grant| grant.grant_id.as_deref() == Some(grant_id));
    }

    pub(super) fn purge_all(&self) {
        let mut state = self.state();
        state.generation += 1;
        state.entries.clear();
    }

    fn purge(&self, matches: impl Fn(&Key, &TokenGrant) -> bool) {
        let mut state = self.state();
        state.generation += 1;
        let matching = state.entries.iter().filter(|(key, entry)| matches(key, &entry.grant));
        let keys: Vec<_> = matching.map(|(key, _)| *key).collect();
        for key in keys {
            state.entries.pop(&key);
        }
    }

    /// Returns the cached grant, or the result of `verify`.
    ///
    /// # Errors
    /// The errors of `verify`, and of [`TokenContext::check_binding`] if the grant was cached.
    pub(super) async fn verify_call(
        &self,
        token: &AccessToken,
        context: &TokenContext,
        verify: impl Future<Output = Result<Arc<TokenGrant>, VerifyError>> + Send,
    ) -> Result<Arc<TokenGrant>, VerifyError> {
        if self.ttl <= TimeDelta::zero() {
            return verify.await;
        }
        let certificate = context.certificate.presented().map(|shown| *shown.thumbprint());
        let key = Key { token: *Digest::of(token.expose()).as_bytes(), certificate };
        let (known, generation) = {
            let (now, mut state) = (self.clock.now(), self.state());
            let known = match state.entries.get(&key) {
                Some(entry) if now < entry.expires_at => Some(entry.grant.clone()),
                Some(_) => {
                    state.entries.pop(&key);
                    None
                }
                None => None,
            };
            (known, state.generation)
        };
        if let Some(grant) = known {
            context.check_binding(&grant)?;
            return Ok(grant);
        }
        let grant = verify.await?;
        let by_ttl = self.clock.now() + self.ttl;
        let expires_at = grant.expires_at.map_or(by_ttl, |end| end.min(by_ttl));
        let mut state = self.state();
        if state.generation == generation {
            let grant = grant.clone();
            state.entries.put(key, Entry { grant, expires_at });
        }
        Ok(grant)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic during a change can at worst lose an entry, so a poisoned lock is sound.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A verifier that caches the accepted tokens of another verifier.
///
/// Errors are not cached. A token is removed when it expires, after the time to live, or when it is
/// purged. The cache stores the SHA-256 of a token, not the token. A revocation elsewhere takes
/// effect after the time to live, 10 s by default. The certificate that a token is bound to is
/// checked at each call.
///
/// Use it for a [`TokenVerifier`] of your own. [`JwtVerifier`](super::JwtVerifier) and
/// [`IntrospectionVerifier`](super::IntrospectionVerifier) have such a cache built in.
pub struct CachedVerifier {
    inner: Arc<dyn TokenVerifier>,
    cache: GrantCache,
}

impl fmt::Debug for CachedVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedVerifier").finish_non_exhaustive()
    }
}

impl CachedVerifier {
    /// Creates a cache around a verifier.
    #[must_use]
    pub fn new(inner: Arc<dyn TokenVerifier>) -> Self {
        Self { inner, cache: GrantCache::new() }
    }

    /// Sets the maximum number of cached tokens; 10,000 by default. The least recently used token
    /// is removed first.
    #[must_use]
    pub fn capacity(self, capacity: usize) -> Self {
        self.cache.set_capacity(capacity);
        self
    }

    /// Sets the maximum time for which a token is cached; 10 s by default, one day at most.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.cache.set_ttl(ttl);
        self
    }

    /// Sets the clock; the system clock by default.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.cache.set_clock(clock);
        self
    }

    /// Removes a token from the cache.
    pub fn purge_token(&self, token: &AccessToken) {
        self.cache.purge_token(token);
    }

    /// Removes the tokens of a grant from the cache.
    pub fn purge_grant(&self, grant_id: &str) {
        self.cache.purge_grant(grant_id);
    }

    /// Removes all tokens from the cache.
    pub fn purge_all(&self) {
        self.cache.purge_all();
    }
}

#[async_trait]
impl TokenVerifier for CachedVerifier {
    async fn verify(&self, token: &AccessToken) -> Result<Arc<TokenGrant>, VerifyError> {
        self.verify_call(token, &TokenContext::default()).await
    }

    async fn verify_call(
        &self,
        token: &AccessToken,
        context: &TokenContext,
    ) -> Result<Arc<TokenGrant>, VerifyError> {
        let verify = self.inner.verify_call(token, context);
        self.cache.verify_call(token, context, verify).await
    }
}
