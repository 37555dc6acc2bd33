//! Giving tokens out: OAuth 2.0 with PKCE, rotation and revocation, as a kit.
//!
//! The bank brings its login and consent pages, its clients and a place to keep grants;
//! [`OAuth`] does the rest. What a grant may become is in [`grant`], pure; where grants are
//! kept in [`store`]. Contract: `px.md` section 4; RFC 6749, 7009, 7636, 8414, 9207, 9700.
//!
//! ```
//! # async fn run() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! use px_server::{PermittedAccounts, clients::{Client, MemoryClients}, oauth::{Authorization, MemoryGrantStore, OAuth}};
//! use px_types::{ClientId, ClientSecret, UserId};
//! use std::sync::Arc;
//!
//! let plaid = Client::new(ClientId::new("plaid")?, "Plaid", ["https://plaid.example/back"]);
//! let clients = MemoryClients::new().with(plaid, &ClientSecret::new("a long random secret"))?;
//! let oauth = OAuth::builder("https://bank.example", Arc::new(clients), Arc::new(MemoryGrantStore::new())).build()?;
//!
//! let query = "response_type=code&client_id=plaid&redirect_uri=https%3A%2F%2Fplaid.example%2Fback\
//!     &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256";
//! if let Authorization::Ask(request) = oauth.authorize(query).await {
//!     // The user signs in and consents …
//!     let back = oauth.approve(&request, UserId::new("u-1")?, PermittedAccounts::All).await?;
//!     assert!(back.starts_with("https://plaid.example/back?code="));
//! }
//! # Ok(()) }
//! ```

mod authorize;
mod client_auth;
mod consent;
mod error;
pub mod grant;
mod pages;
pub mod store;
mod token;
mod verifier;

pub use authorize::{Authorization, AuthorizationRequest, PageRefusal, PageRefusalKind};
pub use client_auth::authenticate_client;
pub use error::{BuildError, OAuthError, OAuthErrorKind};
pub use grant::GrantRecord;
pub use pages::AuthorizePages;
pub use px_core::Digest;
pub use store::{GrantStore, MemoryGrantStore, StoreError, Swap, Versioned};

use crate::{
    Error, PermittedAccounts,
    clients::{Client, Clients, is_secure_url},
    verify::{CachedVerifier, TokenVerifier},
};
use chrono::{DateTime, Months, TimeDelta, Utc};
use http::HeaderMap;
use px_core::{Clock, Random, SystemClock, SystemRandom, random};
use px_types::{AccessToken, ClientId, Scope, ScopeSet, UserId};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

/// Lifetime of an access token, unless set. The FDX profile allows no more.
const ACCESS_TOKEN_LIFETIME: TimeDelta = TimeDelta::seconds(900);

/// The OAuth kit of a partner. Cheap to clone; clones are one and the same.
#[derive(Clone)]
pub struct OAuth(Arc<Inner>);

struct Inner {
    issuer: String,
    clients: Arc<dyn Clients>,
    store: Arc<dyn GrantStore>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    scopes: ScopeSet,
    access_token_lifetime: TimeDelta,
    code_lifetime: TimeDelta,
    refresh_lifetime: Months,
    pkce_optional: bool,
    caches: Mutex<Vec<Weak<CachedVerifier>>>,
}

/// Collects the settings of an [`OAuth`]; each has a default that the contract names.
#[must_use]
pub struct OAuthBuilder {
    inner: Inner,
}

impl fmt::Debug for OAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuth").field("issuer", &self.0.issuer).finish_non_exhaustive()
    }
}

impl fmt::Debug for OAuthBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuthBuilder").field("issuer", &self.inner.issuer).finish_non_exhaustive()
    }
}

impl OAuthBuilder {
    /// Takes the time from elsewhere than the machine.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.inner.clock = clock;
        self
    }

    /// Takes randomness from elsewhere than the operating system: for tests alone.
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.inner.random = random;
        self
    }

    /// The scopes that the partner knows, all of which a request without `scope` asks for.
    pub fn scopes(mut self, scopes: ScopeSet) -> Self {
        self.inner.scopes = scopes;
        self
    }

    /// How long an access token lives; 900 s by default. The log warns of more.
    pub fn access_token_lifetime(mut self, lifetime: Duration) -> Self {
        self.inner.access_token_lifetime = delta(lifetime);
        self
    }

    /// How long a code lives; 60 s by default, 10 minutes at most.
    pub fn code_lifetime(mut self, lifetime: Duration) -> Self {
        self.inner.code_lifetime = delta(lifetime);
        self
    }

    /// How long refresh tokens live from the grant on; 13 months by default.
    pub fn refresh_lifetime(mut self, lifetime: Months) -> Self {
        self.inner.refresh_lifetime = lifetime;
        self
    }

    /// Takes requests without PKCE too. `plain` stays refused.
    pub fn pkce_optional(mut self) -> Self {
        self.inner.pkce_optional = true;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`BuildError`] names the setting that would not be safe.
    pub fn build(self) -> Result<OAuth, BuildError> {
        let inner = self.inner;
        if !is_secure_url(&inner.issuer) || inner.issuer.contains(['?', '#']) {
            return Err(BuildError::Issuer);
        }
        if inner.scopes.is_empty() {
            return Err(BuildError::Scopes);
        }
        let (second, ten_minutes) = (TimeDelta::seconds(1), TimeDelta::minutes(10));
        if !(second..=ten_minutes).contains(&inner.code_lifetime) {
            return Err(BuildError::CodeLifetime);
        }
        if !(second..=TimeDelta::days(366)).contains(&inner.access_token_lifetime) {
            return Err(BuildError::AccessTokenLifetime);
        }
        if !(1..=1200).contains(&inner.refresh_lifetime.as_u32()) {
            return Err(BuildError::RefreshLifetime);
        }
        if inner.access_token_lifetime > ACCESS_TOKEN_LIFETIME {
            tracing::warn!(
                seconds = inner.access_token_lifetime.num_seconds(),
                "access tokens live for longer than 900 s: a stolen one is good for as long"
            );
        }
        Ok(OAuth(Arc::new(inner)))
    }
}

impl OAuth {
    /// Begins a kit.
    ///
    /// The issuer is the partner's public address, `https://bank.example`; it is never
    /// taken from a request. Plain http is accepted on loopback alone.
    pub fn builder(
        issuer: impl Into<String>,
        clients: Arc<dyn Clients>,
        store: Arc<dyn GrantStore>,
    ) -> OAuthBuilder {
        OAuthBuilder {
            inner: Inner {
                issuer: issuer.into(),
                clients,
                store,
                clock: Arc::new(SystemClock::new()),
                random: Arc::new(SystemRandom),
                scopes: ScopeSet::defaults(),
                access_token_lifetime: ACCESS_TOKEN_LIFETIME,
                code_lifetime: TimeDelta::seconds(60),
                refresh_lifetime: Months::new(13),
                pkce_optional: false,
                caches: Mutex::default(),
            },
        }
    }

    /// The issuer.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// The metadata document of RFC 8414.
    #[must_use]
    pub fn metadata(&self) -> serde_json::Value {
        let inner = &*self.0;
        let base = inner.issuer.trim_end_matches('/');
        let authentication = ["client_secret_basic", "client_secret_post"];
        serde_json::json!({
            "issuer": inner.issuer,
            "authorization_endpoint": format!("{base}/oauth2/auth"),
            "token_endpoint": format!("{base}/oauth2/token"),
            "revocation_endpoint": format!("{base}/oauth2/revoke"),
            "scopes_supported": inner.scopes.iter().map(Scope::as_str).collect::<Vec<_>>(),
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": authentication,
            "revocation_endpoint_auth_methods_supported": authentication,
            "authorization_response_iss_parameter_supported": true,
        })
    }

    /// The client that a request shows by HTTP Basic; for credentials mode.
    ///
    /// # Errors
    /// As [`authenticate_client`].
    pub async fn authenticate_client(&self, headers: &HeaderMap) -> Result<Client, OAuthError> {
        authenticate_client(&*self.0.clients, headers).await
    }

    /// The clients that it knows.
    #[must_use]
    pub fn clients(&self) -> Arc<dyn Clients> {
        self.0.clients.clone()
    }

    /// Tells what the kit's own access tokens allow, from the store each time.
    ///
    /// A revocation counts at once, in every process that shares the store.
    #[must_use]
    pub fn verifier(&self) -> Arc<dyn TokenVerifier> {
        Arc::new(verifier::OwnTokens(self.clone()))
    }

    /// As [`verifier`](Self::verifier), with a cache that revocations by this kit purge at
    /// once. A revocation by another process counts after `ttl`.
    #[must_use]
    pub fn cached_verifier(&self, capacity: usize, ttl: Duration) -> Arc<CachedVerifier> {
        let cache = CachedVerifier::new(self.verifier())
            .capacity(capacity)
            .ttl(ttl)
            .clock(self.0.clock.clone());
        let cache = Arc::new(cache);
        let mut caches = self.0.caches.lock().unwrap_or_else(PoisonError::into_inner);
        caches.retain(|cache| cache.strong_count() > 0);
        caches.push(Arc::downgrade(&cache));
        cache
    }

    /// Ends every grant of a person, as when the password is changed.
    ///
    /// # Errors
    /// Unavailable when the store fails; some grants may have ended by then. Call it again.
    pub async fn revoke_principal(&self, principal: &UserId) -> Result<(), Error> {
        let unavailable = |source: StoreError| Error::unavailable().with_source(source);
        let grants = self.0.store.of_principal(principal).await;
        for grant in grants.map_err(unavailable)? {
            self.revoke_grant(&grant.record.id).await?;
        }
        Ok(())
    }

    /// Ends a grant and every token it gave. An unknown one has ended already.
    ///
    /// # Errors
    /// Unavailable when the store fails.
    pub async fn revoke_grant(&self, id: &str) -> Result<(), Error> {
        let unavailable = |source: StoreError| Error::unavailable().with_source(source);
        loop {
            let found = self.0.store.find_by_id(id).await.map_err(unavailable)?;
            let Some(found) = found else { return Ok(()) };
            let step = found.record.revoke(self.now());
            // Everyone who is faster brings the record nearer to its end, so this ends too.
            if self.take(&found, step).await.map_err(unavailable)?.is_some() {
                return Ok(());
            }
        }
    }

    /// Gives an access token without a code: for credentials mode, where the user has
    /// signed in through the client. It lives as long as a refresh token would (13 months
    /// by default), because this mode has no refresh; [`revoke_grant`](Self::revoke_grant)
    /// and the revocation endpoint end it.
    ///
    /// # Errors
    /// Unavailable when the store fails.
    pub async fn issue_for(
        &self,
        client: &ClientId,
        principal: UserId,
        scopes: ScopeSet,
        accounts: PermittedAccounts,
    ) -> Result<AccessToken, Error> {
        let (now, token) = (self.now(), self.secret());
        let (id, ends) = (self.name(), self.ends_at(now));
        let client = client.clone();
        let record = GrantRecord::new(id, principal, client, scopes, accounts, now, ends);
        let record = record.with_access(Digest::of(&token), ends);
        let stored = self.0.store.create(record).await;
        stored.map_err(|source| Error::unavailable().with_source(source))?;
        Ok(AccessToken::new(token))
    }

    /// The scopes that the partner knows.
    #[must_use]
    pub fn scopes(&self) -> &ScopeSet {
        &self.0.scopes
    }

    /// Drops what is over from the store; to be called now and then.
    ///
    /// # Errors
    /// Unavailable when the store fails.
    pub async fn purge(&self) -> Result<u64, Error> {
        let purged = self.0.store.purge(self.now()).await;
        purged.map_err(|source| Error::unavailable().with_source(source))
    }

    fn now(&self) -> DateTime<Utc> {
        self.0.clock.now()
    }

    fn ends_at(&self, granted_at: DateTime<Utc>) -> DateTime<Utc> {
        let end = granted_at.checked_add_months(self.0.refresh_lifetime);
        end.unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    fn secret(&self) -> String {
        random::secret(&*self.0.random)
    }

    fn name(&self) -> String {
        random::identifier(&*self.0.random)
    }

    fn purge_caches(&self, grant_id: &str) {
        let caches = self.0.caches.lock().unwrap_or_else(PoisonError::into_inner);
        for cache in caches.iter().filter_map(Weak::upgrade) {
            cache.purge_grant(grant_id);
        }
    }
}

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}
