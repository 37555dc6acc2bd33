//! Remembering verified tokens for a while, within bounds.

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

/// How many tokens are remembered by default.
const CAPACITY: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();
/// How long a token is remembered by default.
const TTL: TimeDelta = TimeDelta::seconds(10);

/// Verified tokens, by their SHA-256.
pub(super) struct GrantCache {
    clock: Arc<dyn Clock>,
    ttl: TimeDelta,
    state: Mutex<State>,
}

struct State {
    entries: LruCache<Key, Entry>,
    /// Counts purges: what was being verified during one is not remembered.
    generation: u64,
}

/// A token, by its SHA-256, and the certificate that it was shown with: a verifier of the
/// program's may judge by that.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    token: [u8; 32],
    certificate: Option<[u8; 32]>,
}

struct Entry {
    grant: Arc<TokenGrant>,
    ends: DateTime<Utc>,
}

impl GrantCache {
    pub(super) fn new() -> Self {
        let state = State { entries: LruCache::new(CAPACITY), generation: 0 };
        Self { clock: Arc::new(SystemClock::new()), ttl: TTL, state: Mutex::new(state) }
    }

    pub(super) fn set_capacity(&self, capacity: usize) {
        let capacity = NonZeroUsize::new(capacity).unwrap_or(NonZeroUsize::MIN);
        self.state().entries.resize(capacity);
    }

    pub(super) fn set_ttl(&mut self, ttl: Duration) {
        self.ttl = TimeDelta::from_std(ttl).unwrap_or(TTL).min(TimeDelta::days(1));
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

    fn purge(&self, is_meant: impl Fn(&Key, &TokenGrant) -> bool) {
        let mut state = self.state();
        state.generation += 1;
        let meant = state.entries.iter().filter(|(key, entry)| is_meant(key, &entry.grant));
        let keys: Vec<_> = meant.map(|(key, _)| *key).collect();
        for key in keys {
            state.entries.pop(&key);
        }
    }

    /// Returns the grant that is remembered, or the one that `verify` finds.
    ///
    /// # Errors
    /// As `verify`, and as [`TokenContext::check_binding`] if the grant was remembered.
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
                Some(entry) if now < entry.ends => Some(entry.grant.clone()),
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
        let ends = grant.expires_at.map_or(by_ttl, |end| end.min(by_ttl));
        let mut state = self.state();
        if state.generation == generation {
            let grant = grant.clone();
            state.entries.put(key, Entry { grant, ends });
        }
        Ok(grant)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A cache that was left half changed holds at worst an entry too few.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A verifier that remembers what another one found good.
///
/// Refusals are not remembered, nor that the other verifier was out of reach. A token is
/// forgotten when it ends, after the time to live, or when it is purged; the token itself is
/// not kept, its SHA-256 is. How long a revocation elsewhere may go unnoticed is the time to
/// live, 10 s by default. The certificate that a token is bound to is checked at each call.
///
/// Use it for a [`TokenVerifier`] of your own. [`JwtVerifier`](super::JwtVerifier) and
/// [`IntrospectionVerifier`](super::IntrospectionVerifier) have such a cache themselves.
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
    /// Remembers what a verifier finds good.
    #[must_use]
    pub fn new(inner: Arc<dyn TokenVerifier>) -> Self {
        Self { inner, cache: GrantCache::new() }
    }

    /// How many tokens are remembered at most; the least used is forgotten first.
    #[must_use]
    pub fn capacity(self, capacity: usize) -> Self {
        self.cache.set_capacity(capacity);
        self
    }

    /// How long a token is remembered at most.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.cache.set_ttl(ttl);
        self
    }

    /// Takes the time from elsewhere than the machine.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.cache.set_clock(clock);
        self
    }

    /// Forgets a token.
    pub fn purge_token(&self, token: &AccessToken) {
        self.cache.purge_token(token);
    }

    /// Forgets the tokens of a grant.
    pub fn purge_grant(&self, grant_id: &str) {
        self.cache.purge_grant(grant_id);
    }

    /// Forgets everything.
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
