//! Tokens of the partner's identity provider, checked by asking it (RFC 7662).

use super::{
    TokenContext, TokenVerifier, VerifierBuildError, VerifyError,
    cache::GrantCache,
    claims::{self, Origin, Rules},
    profile::TokenProfile,
    provider,
    refusal::{Experience, Fault, Refusal},
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

/// Maximum length of a token that the provider is asked about.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// Time for which a token is remembered as inactive, unless set; also the maximum.
const MAX_INACTIVE_TTL: TimeDelta = TimeDelta::seconds(10);
/// Maximum number of tokens that are remembered as inactive.
const MAX_INACTIVE: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();
/// The setting with the address of the introspection endpoint.
const ENDPOINT: &str = "`endpoint`";
/// Maximum number of calls to the provider at once, unless set.
const MAX_OPEN_CALLS: usize = 64;

/// Checks tokens by asking the identity provider.
///
/// The form of the responses is a [`TokenProfile`]; unless [`profile`](Self::profile) is called it
/// is that of RFC 7662. Whatever is not a clear response (a fault, another status than 200, junk)
/// is no refusal: a provider that stumbles ends no token.
///
/// Good tokens are remembered for 10 s ([`cache_ttl`](Self::cache_ttl)): for that long a revocation
/// at the provider may go unnoticed.
///
/// Strangers cannot use the provider up: calls for the same token at the same time are one call, a
/// token that the provider said is inactive is remembered for 10 s, and at most 64 calls are open
/// at once. A provider that gives a token which somebody tried before it existed must say so by
/// [`token_given`](Self::token_given).
///
/// A token that is bound to a certificate (`cnf.x5t#S256` of RFC 8705) is good for calls of a peer
/// that shows it; one that is bound to anything else is invalid.
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
    experience: Experience,
}

#[derive(Debug)]
struct State {
    /// Tokens that are inactive, by their SHA-256, and until when that is believed.
    inactive: LruCache<[u8; 32], DateTime<Utc>>,
    /// Calls that are under way.
    under_way: HashMap<[u8; 32], Arc<OnceCell<Outcome>>>,
    /// Counts the times that tokens were given.
    generation: u64,
}

/// What a call to the provider gave, for all who wait for it.
type Outcome = Result<Arc<TokenGrant>, Fault>;

/// The provider said so, and nothing else.
fn inactive() -> Fault {
    let setting = "`endpoint`, and `id` of this client, which must be permitted to see the tokens";
    Fault::Suspect(setting, Refusal::Inactive)
}

impl fmt::Debug for IntrospectionVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntrospectionVerifier")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl IntrospectionVerifier {
    /// Asks an endpoint, as a client of the provider.
    ///
    /// # Errors
    /// If the endpoint is neither https nor http on loopback, or the credentials cannot be written
    /// in a header.
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
            experience: Experience::default(),
            inactive_ttl: MAX_INACTIVE_TTL,
            open_calls: Semaphore::new(MAX_OPEN_CALLS),
            state: Mutex::new(State {
                inactive: LruCache::new(MAX_INACTIVE),
                under_way: HashMap::new(),
                generation: 0,
            }),
        })
    }

    /// The form of the responses: a [`Preset`](super::Preset), or a profile of your own.
    #[must_use]
    pub fn profile(mut self, profile: impl Into<TokenProfile>) -> Self {
        self.profile = profile.into();
        self
    }

    /// Refuses tokens whose `aud` does not name the partner's API.
    ///
    /// Without it, every token of the provider is accepted, also one that a user gave to an
    /// entirely different service, and the log warns of it.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// Accepts tokens for any audience, without a warning: for a provider whose tokens are all for
    /// this API.
    #[must_use]
    pub fn any_audience(mut self) -> Self {
        self.any_audience = true;
        self
    }

    /// Time for which a token is remembered as inactive; 10 s by default and at most, 0 for none.
    #[must_use]
    pub fn inactive_ttl(mut self, ttl: Duration) -> Self {
        self.inactive_ttl =
            TimeDelta::from_std(ttl).unwrap_or(MAX_INACTIVE_TTL).min(MAX_INACTIVE_TTL);
        self
    }

    /// Time for which a good token is remembered; 10 s by default, 0 for none.
    #[must_use]
    pub fn cache_ttl(mut self, ttl: Duration) -> Self {
        self.cache.set_ttl(ttl);
        self
    }

    /// Maximum number of good tokens that are remembered; 10,000 by default.
    #[must_use]
    pub fn cache_capacity(self, tokens: usize) -> Self {
        self.cache.set_capacity(tokens);
        self
    }

    /// Forgets a good token, because it was revoked.
    pub fn purge_token(&self, token: &AccessToken) {
        self.cache.purge_token(token);
    }

    /// Forgets all good tokens.
    pub fn purge_all(&self) {
        self.cache.purge_all();
    }

    /// Maximum number of calls to the provider at once; 64 by default. Further ones wait.
    #[must_use]
    pub fn max_open_calls(mut self, calls: usize) -> Self {
        self.open_calls = Semaphore::new(calls.clamp(1, Semaphore::MAX_PERMITS));
        self
    }

    /// Forgets which tokens were inactive, because the provider gave a token.
    pub fn token_given(&self) {
        let mut state = self.state();
        state.generation += 1;
        state.inactive.clear();
        // Those that begin from now on make calls of their own.
        state.under_way.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the permitted accounts from a member of the response, a list of account ids; a
    /// response without it permits none. Unless this is set, a token sees all accounts.
    ///
    /// This is [`TokenProfile::accounts_claim`]; call it after [`profile`](Self::profile).
    #[must_use]
    pub fn accounts_claim(mut self, name: impl Into<String>) -> Self {
        self.profile.accounts_claim = Some(name.into());
        self
    }

    /// Takes the time from elsewhere than the machine.
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
    /// What the provider says of a token, by one call for all who ask at the same time.
    async fn outcome(&self, token: &AccessToken) -> Outcome {
        if token.expose().len() > MAX_TOKEN_BYTES {
            return Err(Fault::Refused(Refusal::TooLong));
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
            (Arc::clone(state.under_way.entry(key).or_default()), state.generation)
        };
        // One that gives up while it calls leaves the call to the next.
        let outcome = call.get_or_init(|| self.call(token)).await.clone();
        let mut state = self.state();
        if state.under_way.get(&key).is_some_and(|known| Arc::ptr_eq(known, &call)) {
            state.under_way.remove(&key);
            let is_inactive = matches!(outcome, Err(Fault::Suspect(_, Refusal::Inactive)));
            if is_inactive && state.generation == generation {
                let until = self.clock.now() + self.inactive_ttl;
                state.inactive.put(key, until);
            }
        }
        outcome
    }

    async fn call(&self, token: &AccessToken) -> Outcome {
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

    /// Reads a response.
    fn read(&self, body: &[u8]) -> Result<TokenGrant, Fault> {
        // The source of a JSON error may quote the response, which describes a person.
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
        let rules = Rules {
            profile: &self.profile,
            issuer: None,
            audience: self.audience.as_deref(),
            leeway: TimeDelta::zero(),
            now: self.clock.now(),
        };
        rules.grant(&Origin::Introspection, &response)
    }

    async fn verify_now(
        &self,
        token: &AccessToken,
        context: &TokenContext,
    ) -> Result<Arc<TokenGrant>, VerifyError> {
        let grant = self.outcome(token).await;
        let grant = grant.map_err(|fault| self.experience.judge(fault))?;
        self.experience.accepted();
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
