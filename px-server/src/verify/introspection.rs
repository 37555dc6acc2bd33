//! Tokens of the partner's identity provider, checked by asking it (RFC 7662).

use super::{TokenContext, TokenVerifier, VerifierBuildError, VerifyError, claims, provider};
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
/// Maximum number of calls to the provider at once, unless set.
const MAX_OPEN_CALLS: usize = 64;

/// Checks each token with the identity provider.
///
/// Wrap it in a [`CachedVerifier`](super::CachedVerifier) with a time to live of a few
/// seconds. `sub` is the principal. Whatever is not a clear response (a fault, another status
/// than 200, junk) is [`VerifyError::Unavailable`]: a provider that stumbles ends no token.
///
/// Strangers cannot use the provider up: calls for the same token at the same time are one call, a
/// token that the provider said is inactive is remembered for 10 s, and at most 64 calls are open
/// at once. A provider that gives a token which somebody tried before it existed must say so by
/// [`token_given`](Self::token_given).
///
/// A token that is bound to a certificate (`cnf.x5t#S256` of RFC 8705) is good for calls of a peer
/// that shows it; one that is bound to anything else is invalid.
pub struct IntrospectionVerifier {
    transport: Arc<dyn HttpTransport>,
    endpoint: Uri,
    authorization: HeaderValue,
    clock: Arc<dyn Clock>,
    audience: Option<String>,
    any_audience: bool,
    warned: Once,
    accounts_claim: Option<String>,
    inactive_ttl: TimeDelta,
    open_calls: Semaphore,
    state: Mutex<State>,
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
#[derive(Clone, Debug)]
enum Outcome {
    Good(Arc<TokenGrant>),
    /// The provider said so, and nothing else.
    Inactive,
    /// The token is active and not for this API.
    Invalid,
    Unavailable(Arc<str>),
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
            accounts_claim: None,
            inactive_ttl: MAX_INACTIVE_TTL,
            open_calls: Semaphore::new(MAX_OPEN_CALLS),
            state: Mutex::new(State {
                inactive: LruCache::new(MAX_INACTIVE),
                under_way: HashMap::new(),
                generation: 0,
            }),
        })
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

    /// Takes the permitted accounts from a member of the answer, a list of account ids; an
    /// answer without it permits none. Unless this is set, a token sees all accounts.
    #[must_use]
    pub fn accounts_claim(mut self, name: impl Into<String>) -> Self {
        self.accounts_claim = Some(name.into());
        self
    }

    /// Takes the time from elsewhere than the machine.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
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
            return Outcome::Invalid;
        }
        let key = *Digest::of(token.expose()).as_bytes();
        let (call, generation) = {
            let (now, mut state) = (self.clock.now(), self.state());
            match state.inactive.get(&key) {
                Some(until) if now < *until => return Outcome::Inactive,
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
            if matches!(outcome, Outcome::Inactive) && state.generation == generation {
                let until = self.clock.now() + self.inactive_ttl;
                state.inactive.put(key, until);
            }
        }
        outcome
    }

    async fn call(&self, token: &AccessToken) -> Outcome {
        let unavailable = |error: &dyn fmt::Display| Outcome::Unavailable(error.to_string().into());
        let permit =
            tokio::time::timeout(provider::REQUEST_TIMEOUT, self.open_calls.acquire()).await;
        let Ok(Ok(_permit)) = permit else {
            return Outcome::Unavailable("too many calls to the identity provider are open".into());
        };
        let request = match self.request(token) {
            Ok(request) => request,
            Err(error) => return unavailable(&error),
        };
        match provider::send(&*self.transport, request).await {
            Ok(body) => self.read(&body).unwrap_or_else(|junk| Outcome::Unavailable(junk.into())),
            Err(error) => unavailable(&error),
        }
    }

    /// Reads a response. An error says what makes it none.
    fn read(&self, body: &[u8]) -> Result<Outcome, &'static str> {
        // The source of a JSON error may quote the response, which describes a person.
        let answer: claims::Claims = serde_json::from_slice(body)
            .map_err(|_| "the introspection answer is not a JSON object")?;
        match answer.get("active").and_then(Value::as_bool) {
            Some(true) => {}
            Some(false) => return Ok(Outcome::Inactive),
            None => return Err("the introspection answer does not say `active`"),
        }
        let moment = |name| {
            claims::moment(&answer, name)
                .map_err(|()| "the introspection answer has a time that is none")
        };
        let (now, expires, begins) = (self.clock.now(), moment("exp")?, moment("nbf")?);
        if expires.is_some_and(|at| now >= at) || begins.is_some_and(|at| now < at) {
            return Ok(Outcome::Invalid);
        }
        let bearer = claims::text(&answer, "token_type")
            .is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"));
        let meant = match &self.audience {
            Some(audience) => claims::names(&answer, "aud", audience),
            None => true,
        };
        let (true, true, Ok(bound_to)) = (bearer, meant, claims::binding(&answer)) else {
            return Ok(Outcome::Invalid);
        };
        let grant = claims::grant(&answer, self.accounts_claim.as_deref());
        let mut grant = grant.ok_or("the introspection answer names no principal in `sub`")?;
        grant.expires_at = expires;
        grant.certificate_thumbprint = bound_to;
        Ok(Outcome::Good(Arc::new(grant)))
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
        match self.outcome(token).await {
            Outcome::Good(grant) => {
                context.check_binding(&grant)?;
                Ok(grant)
            }
            Outcome::Inactive | Outcome::Invalid => Err(VerifyError::Invalid),
            Outcome::Unavailable(why) => Err(VerifyError::unavailable(&*why)),
        }
    }
}
