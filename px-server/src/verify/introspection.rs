//! Verification of tokens by token introspection at the partner's identity provider (RFC 7662).

use super::{
    TokenContext, TokenVerifier, VerifierBuildError, VerifyError,
    cache::GrantCache,
    claims::{self, ClaimRules, ClaimsSource},
    profile::TokenProfile,
    provider,
    refusal::{AcceptanceFlag, Fault, TokenRefusal},
};
use crate::TokenGrant;
use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderValue, Request, Uri, header};
use lru::LruCache;
use px_core::{Clock, Digest, HttpTransport, SystemClock};
use px_types::{AccessToken, ClientId, ClientSecret};
use serde_json::Value;
use std::{
    collections::HashMap,
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, Once, PoisonError},
    time::Duration,
};
use tokio::sync::{OnceCell, Semaphore};

/// Maximum length of a token that is sent to the provider, in bytes.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// Default and maximum time for which a token is cached as inactive.
const MAX_INACTIVE_TTL: TimeDelta = TimeDelta::seconds(10);
/// Maximum number of tokens that are cached as inactive.
const MAX_INACTIVE: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();
/// The setting with the address of the introspection endpoint.
const ENDPOINT: &str = "`endpoint`";
/// Default maximum of concurrent calls to the provider.
const MAX_OPEN_CALLS: usize = 64;

/// Verifies tokens by token introspection at the identity provider.
///
/// The format of the responses is a [`TokenProfile`]; the default is that of RFC 7662, and
/// [`profile`](Self::profile) changes it. An unclear response (a transport error, a status other
/// than 200, an invalid body) is not a refusal: a failing provider ends no token.
///
/// Valid tokens are cached for 10 s ([`cache_ttl`](Self::cache_ttl)); a revocation at the provider
/// takes effect after that time.
///
/// Unauthenticated callers cannot overload the provider: concurrent calls for the same token are
/// merged into one, an inactive token is cached for 10 s, and at most 64 calls are open at once. If
/// the provider issues a token that a caller tried before it existed, call
/// [`token_issued`](Self::token_issued).
///
/// A token that is bound to a certificate (`cnf.x5t#S256` of RFC 8705) is valid for calls from a
/// peer that presents the certificate. A token with any other binding is invalid.
///
/// Contract: `px.md` section 4.1; RFC 7662.
pub struct IntrospectionVerifier {
    transport: Arc<dyn HttpTransport>,
    endpoint: Uri,
    authorization: HeaderValue,
    clock: Arc<dyn Clock>,
    profile: TokenProfile,
    audience: Option<String>,
    any_audience: bool,
    warned: Once,
    inactive_ttl: TimeDelta,
    open_calls: Semaphore,
    state: Mutex<State>,
    cache: GrantCache,
    acceptance: AcceptanceFlag,
}

#[derive(Debug)]
struct State {
    /// Inactive tokens, by their SHA-256, with the end of their cache time.
    inactive: LruCache<[u8; 32], DateTime<Utc>>,
    /// Calls in progress.
    pending: HashMap<[u8; 32], Arc<OnceCell<CallResult>>>,
    /// Number of calls of [`IntrospectionVerifier::token_issued`].
    generation: u64,
}

/// The result of a call to the provider, shared by all callers that wait for it.
type CallResult = Result<Arc<TokenGrant>, Fault>;

/// Returns the fault for a token that the provider reported as inactive without a reason.
fn inactive() -> Fault {
    let setting = "`endpoint`, and `id` of this client, which must be permitted to see the tokens";
    Fault::Suspect(setting, TokenRefusal::Inactive)
}

impl fmt::Debug for IntrospectionVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntrospectionVerifier")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl IntrospectionVerifier {
    /// Creates a verifier that calls an endpoint as a client of the provider.
    ///
    /// # Errors
    /// - [`VerifierBuildError::InsecureAddress`] if the endpoint is neither https nor http on
    ///   loopback.
    /// - [`VerifierBuildError::Credentials`] if the credentials cannot be written in a header.
    pub fn new(
        transport: Arc<dyn HttpTransport>,
        endpoint: Uri,
        id: &ClientId,
        secret: &ClientSecret,
    ) -> Result<Self, VerifierBuildError> {
        provider::check_address(&endpoint)?;
        let encode = |text: &str| -> String {
            url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
        };
        let pair = format!("{}:{}", encode(id.as_str()), encode(secret.expose()));
        let authorization = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair)));
        let mut authorization = authorization.map_err(|_| VerifierBuildError::Credentials)?;
        authorization.set_sensitive(true);
        Ok(Self {
            transport,
            endpoint,
            authorization,
            clock: Arc::new(SystemClock::new()),
            audience: None,
            any_audience: false,
            warned: Once::new(),
            profile: TokenProfile::default(),
            cache: GrantCache::new(),
            acceptance: AcceptanceFlag::default(),
            inactive_ttl: MAX_INACTIVE_TTL,
            open_calls: Semaphore::new(MAX_OPEN_CALLS),
            state: Mutex::new(State {
                inactive: LruCache::new(MAX_INACTIVE),
                pending: HashMap::new(),
                generation: 0,
            }),
        })
    }

    /// Sets the format of the responses: a [`Preset`](super::Preset), or a profile of your own.
    #[must_use]
    pub fn profile(mut self, profile: impl Into<TokenProfile>) -> Self {
        self.profile = profile.into();
        self
    }

    /// Sets the audience: tokens without it in `aud` are refused.
    ///
    /// Without an audience, every token of the provider is accepted, including one that a user gave
    /// to an unrelated service, and a warning is logged.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// Accepts tokens for any audience without a warning. For a provider that issues tokens for
    /// this API only.
    #[must_use]
    pub fn any_audience(mut self) -> Self {
        self.any_audience = true;
        self
    }

    /// Sets how long a token is cached as inactive; 10 s by default and at most, 0 disables the
    /// cache.
    #[must_use]
    pub fn inactive_ttl(mut self, ttl: Duration) -> Self {
        self.inactive_ttl =
            TimeDelta::from_std(ttl).unwrap_or(MAX_INACTIVE_TTL).min(MAX_INACTIVE_TTL);
        self
    }

    /// Sets how long a valid token is cached; 10 s by default, 0 disables the cache.
    #[must_use]
    pub fn cache_ttl(mut self, ttl: Duration) -> Self {
        self.cache.set_ttl(ttl);
        self
    }

    /// Sets the maximum number of cached valid tokens; 10,000 by default.
    #[must_use]
    pub fn cache_capacity(self, tokens: usize) -> Self {
        self.cache.set_capacity(tokens);
        self
    }

    /// Removes a valid token from the cache, for example after its revocation.
    pub fn purge_token(&self, token: &AccessToken) {
        self.cache.purge_token(token);
    }

    /// Removes all valid tokens from the cache.
    pub fn purge_all(&self) {
        self.cache.purge_all();
    }

    /// Sets the maximum number of concurrent calls to the provider; 64 by default. Further calls
    /// wait.
    #[must_use]
    pub fn max_open_calls(mut self, calls: usize) -> Self {
        self.open_calls = Semaphore::new(calls.clamp(1, Semaphore::MAX_PERMITS));
        self
    }

    /// Clears the cache of inactive tokens, because the provider has issued a token.
    pub fn token_issued(&self) {
        let mut state = self.state();
        state.generation += 1;
        state.inactive.clear();
        // Calls that begin from now on are not merged with earlier ones.
        state.pending.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the member of the response with the permitted accounts, a list of account ids. A
    /// response without it permits no account. By default, a token permits all accounts.
    ///
    /// This sets [`TokenProfile::accounts_claim`]; call it after [`profile`](Self::profile).
    #[must_use]
    pub fn accounts_claim(mut self, name: impl Into<String>) -> Self {
        self.profile.accounts_claim = Some(name.into());
        self
    }

    /// Sets the clock; the system clock by default.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.cache.set_clock(Arc::clone(&clock));
        self.clock = clock;
        self
    }

    fn request(&self, token: &AccessToken) -> Result<Request<Bytes>, http::Error> {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("token", token.expose());
        form.append_pair("token_type_hint", "access_token");
        Request::post(self.endpoint.clone())
            .header(header::AUTHORIZATION, self.authorization.clone())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json")
            .body(form.finish().into())
    }
}

impl IntrospectionVerifier {
    /// Returns the provider's result for a token. Concurrent calls for one token share one request.
    async fn outcome(&self, token: &AccessToken) -> CallResult {
        if token.expose().len() > MAX_TOKEN_BYTES {
            return Err(Fault::Refused(TokenRefusal::TooLong));
        }
        let key = *Digest::of(token.expose()).as_bytes();
        let (call, generation) = {
            let (now, mut state) = (self.clock.now(), self.state());
            match state.inactive.get(&key) {
                Some(until) if now < *until => return Err(inactive()),
                Some(_) => {
                    state.inactive.pop(&key);
                }
                None => {}
            }
            (Arc::clone(state.pending.entry(key).or_default()), state.generation)
        };
        // If the caller is dropped during the call, the next waiting caller makes the call.
        let outcome = call.get_or_init(|| self.call(token)).await.clone();
        let mut state = self.state();
        if state.pending.get(&key).is_some_and(|known| Arc::ptr_eq(known, &call)) {
            state.pending.remove(&key);
            let is_inactive = matches!(outcome, Err(Fault::Suspect(_, TokenRefusal::Inactive)));
            if is_inactive && state.generation == generation {
                let until = self.clock.now() + self.inactive_ttl;
                state.inactive.put(key, until);
            }
        }
        outcome
    }

    async fn call(&self, token: &AccessToken) -> CallResult {
        let permit =
            tokio::time::timeout(provider::REQUEST_TIMEOUT, self.open_calls.acquire()).await;
        let Ok(Ok(_permit)) = permit else {
            let why = "too many calls to the identity provider are open";
            return Err(Fault::Unavailable(why.into()));
        };
        let request = self.request(token).map_err(|error| Fault::unavailable(&error))?;
        let body = provider::send(&*self.transport, request, ENDPOINT).await?;
        self.read(&body).map(Arc::new)
    }

    /// Parses a response.
    fn read(&self, body: &[u8]) -> Result<TokenGrant, Fault> {
        // The source of a JSON error may quote the response, which contains personal data.
        let response: claims::Claims = serde_json::from_slice(body).map_err(|_| {
            Fault::setting(ENDPOINT, "the introspection response is not a JSON object")
        })?;
        match response.get("active").and_then(Value::as_bool) {
            Some(true) => {}
            Some(false) => return Err(inactive()),
            None => {
                let problem = "the introspection response does not say `active`";
                return Err(Fault::setting(ENDPOINT, problem));
            }
        }
        let rules = ClaimRules {
            profile: &self.profile,
            issuer: None,
            audience: self.audience.as_deref(),
            leeway: TimeDelta::zero(),
            now: self.clock.now(),
        };
        rules.grant(&ClaimsSource::Introspection, &response)
    }

    async fn verify_now(
        &self,
        token: &AccessToken,
        context: &TokenContext,
    ) -> Result<Arc<TokenGrant>, VerifyError> {
        let grant = self.outcome(token).await;
        let grant = grant.map_err(|fault| self.acceptance.classify(fault))?;
        self.acceptance.accepted();
        context.check_binding(&grant)?;
        Ok(grant)
    }

    fn warn_of_any_audience(&self) {
        if self.audience.is_none() && !self.any_audience {
            self.warned.call_once(|| {
                tracing::warn!(
                    "tokens of the identity provider are accepted for any audience; \
                     call `IntrospectionVerifier::audience`"
                );
            });
        }
    }
}

#[async_trait]
impl TokenVerifier for IntrospectionVerifier {
    async fn verify(&self, token: &AccessToken) -> Result<Arc<TokenGrant>, VerifyError> {
        self.verify_call(token, &TokenContext::default()).await
    }

    async fn verify_call(
        &self,
        token: &AccessToken,
        context: &TokenContext,
    ) -> Result<Arc<TokenGrant>, VerifyError> {
        self.warn_of_any_audience();
        self.cache.verify_call(token, context, self.verify_now(token, context)).await
    }
}
