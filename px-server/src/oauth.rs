//! Issues tokens: OAuth 2.0 with PKCE, rotation and revocation, as a kit.
//!
//! The bank supplies its login and consent pages, its registry of clients and a store for grants;
//! [`OAuth`] does the rest. The state transitions of a grant are in [`grant`], without I/O; the
//! storage interface is in [`store`]. Contract: `px.md` section 4; RFC 6749, 7009, 7636, 8414,
//! 9207, 9700.
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
//! if let Authorization::Prompt(request) = oauth.authorize(query).await {
//!     // The user signs in and consents.
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
pub use error::{OAuthBuildError, OAuthError, OAuthErrorKind};
pub use grant::GrantRecord;
pub use pages::AuthorizePages;
pub use px_core::Digest;
pub use store::{GrantStore, MemoryGrantStore, StoreError, Swap, VersionedGrant};

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

/// Default lifetime of an access token, the maximum that the FDX profile allows.
const DEFAULT_ACCESS_TOKEN_LIFETIME: TimeDelta = TimeDelta::seconds(900);

/// The OAuth kit of a partner. Cheap to clone; clones share their state.
#[derive(Clone)]
pub struct OAuth(Arc<OAuthState>);

struct OAuthState {
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

/// Builder of an [`OAuth`]. The contract names the default of each setting.
#[must_use]
pub struct OAuthBuilder {
    state: OAuthState,
}

impl fmt::Debug for OAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuth").field("issuer", &self.0.issuer).finish_non_exhaustive()
    }
}

impl fmt::Debug for OAuthBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuthBuilder").field("issuer", &self.state.issuer).finish_non_exhaustive()
    }
}

impl OAuthBuilder {
    /// Sets the clock; the system clock by default.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.state.clock = clock;
        self
    }

    /// Sets the source of randomness; the operating system's generator by default. For tests
    /// only.
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.state.random = random;
        self
    }

    /// Sets the scopes that the partner supports. A request without `scope` requests all of
    /// them.
    pub fn scopes(mut self, scopes: ScopeSet) -> Self {
        self.state.scopes = scopes;
        self
    }

    /// Sets the lifetime of an access token; 900 s by default. A longer one is logged as a
    /// warning.
    pub fn access_token_lifetime(mut self, lifetime: Duration) -> Self {
        self.state.access_token_lifetime = delta(lifetime);
        self
    }

    /// Sets the lifetime of an authorization code; 60 s by default, 10 minutes at most.
    pub fn code_lifetime(mut self, lifetime: Duration) -> Self {
        self.state.code_lifetime = delta(lifetime);
        self
    }

    /// Sets the lifetime of refresh tokens, counted from the grant; 13 months by default.
    pub fn refresh_lifetime(mut self, lifetime: Months) -> Self {
        self.state.refresh_lifetime = lifetime;
        self
    }

    /// Accepts authorization requests without PKCE. The method `plain` is still refused.
    pub fn pkce_optional(mut self) -> Self {
        self.state.pkce_optional = true;
        self
    }

    /// Checks the settings and builds the kit.
    ///
    /// # Errors
    /// - [`OAuthBuildError::Issuer`] if the issuer is not an https URL (or http on loopback), or has
    ///   a query or a fragment.
    /// - [`OAuthBuildError::Scopes`] if there are no scopes.
    /// - [`OAuthBuildError::CodeLifetime`] if the lifetime of a code is not from 1 second to 10
    ///   minutes.
    /// - [`OAuthBuildError::AccessTokenLifetime`] if that of an access token is not from 1 second to
    ///   366 days.
    /// - [`OAuthBuildError::RefreshLifetime`] if that of refresh tokens is not from 1 to 1200
    ///   months.
    pub fn build(self) -> Result<OAuth, OAuthBuildError> {
        let state = self.state;
        if !is_secure_url(&state.issuer) || state.issuer.contains(['?', '#']) {
            return Err(OAuthBuildError::Issuer);
        }
        if state.scopes.is_empty() {
            return Err(OAuthBuildError::Scopes);
        }
        let (second, ten_minutes) = (TimeDelta::seconds(1), TimeDelta::minutes(10));
        if !(second..=ten_minutes).contains(&state.code_lifetime) {
            return Err(OAuthBuildError::CodeLifetime);
        }
        if !(second..=TimeDelta::days(366)).contains(&state.access_token_lifetime) {
            return Err(OAuthBuildError::AccessTokenLifetime);
        }
        if !(1..=1200).contains(&state.refresh_lifetime.as_u32()) {
            return Err(OAuthBuildError::RefreshLifetime);
        }
        if state.access_token_lifetime > DEFAULT_ACCESS_TOKEN_LIFETIME {
            tracing::warn!(
                seconds = state.access_token_lifetime.num_seconds(),
                "access tokens live longer than 900 s, and so does a stolen one"
            );
        }
        Ok(OAuth(Arc::new(state)))
    }
}

impl OAuth {
    /// Starts a builder.
    ///
    /// `issuer` is the partner's public address, such as `https://bank.example`; it is never
    /// taken from a request. Plain http is accepted on loopback only.
    pub fn builder(
        issuer: impl Into<String>,
        clients: Arc<dyn Clients>,
        store: Arc<dyn GrantStore>,
    ) -> OAuthBuilder {
        OAuthBuilder {
            state: OAuthState {
                issuer: issuer.into(),
                clients,
                store,
                clock: Arc::new(SystemClock::new()),
                random: Arc::new(SystemRandom),
                scopes: ScopeSet::defaults(),
                access_token_lifetime: DEFAULT_ACCESS_TOKEN_LIFETIME,
                code_lifetime: TimeDelta::seconds(60),
                refresh_lifetime: Months::new(13),
                pkce_optional: false,
                caches: Mutex::default(),
            },
        }
    }

    /// Returns the issuer.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// Returns the metadata document of RFC 8414.
    #[must_use]
    pub fn metadata(&self) -> serde_json::Value {
        let state = &*self.0;
        let base = state.issuer.trim_end_matches('/');
        let authentication = ["client_secret_basic", "client_secret_post"];
        serde_json::json!({
            "issuer": state.issuer,
            "authorization_endpoint": format!("{base}/oauth2/auth"),
            "token_endpoint": format!("{base}/oauth2/token"),
            "revocation_endpoint": format!("{base}/oauth2/revoke"),
            "scopes_supported": state.scopes.iter().map(Scope::as_str).collect::<Vec<_>>(),
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": authentication,
            "revocation_endpoint_auth_methods_supported": authentication,
            "authorization_response_iss_parameter_supported": true,
        })
    }

    /// Authenticates the client of a request by HTTP Basic; for credentials mode.
    ///
    /// # Errors
    /// The errors of [`authenticate_client`].
    pub async fn authenticate_client(&self, headers: &HeaderMap) -> Result<Client, OAuthError> {
        authenticate_client(&*self.0.clients, headers).await
    }

    /// Returns the registry of clients.
    #[must_use]
    pub fn clients(&self) -> Arc<dyn Clients> {
        self.0.clients.clone()
    }

    /// Returns a verifier of the kit's own access tokens, which reads the store at each call.
    ///
    /// A revocation takes effect immediately, in every process that shares the store.
    #[must_use]
    pub fn verifier(&self) -> Arc<dyn TokenVerifier> {
        Arc::new(verifier::GrantStoreVerifier(self.clone()))
    }

    /// Returns a verifier like [`verifier`](Self::verifier) with a cache. A revocation by this
    /// kit takes effect immediately; one by another process takes effect after `ttl`.
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

    /// Revokes every grant of a user, for example when the user changes the password.
    ///
    /// # Errors
    /// [`Error::unavailable`] if the store fails. Some grants may be revoked; call it again.
    pub async fn revoke_principal(&self, principal: &UserId) -> Result<(), Error> {
        let unavailable = |source: StoreError| Error::unavailable().with_source(source);
        let grants = self.0.store.find_by_principal(principal).await;
        for grant in grants.map_err(unavailable)? {
            self.revoke_grant(&grant.record.id).await?;
        }
        Ok(())
    }

    /// Revokes a grant and every token that was issued under it. An unknown grant has ended
    /// already.
    ///
    /// # Errors
    /// [`Error::unavailable`] if the store fails.
    pub async fn revoke_grant(&self, id: &str) -> Result<(), Error> {
        let unavailable = |source: StoreError| Error::unavailable().with_source(source);
        loop {
            let found = self.0.store.find_by_id(id).await.map_err(unavailable)?;
            let Some(found) = found else { return Ok(()) };
            let step = found.record.revoke(self.now());
            // Each concurrent change brings the record nearer to its end, so the loop
            // terminates.
            if self.commit(&found, step).await.map_err(unavailable)?.is_some() {
                return Ok(());
            }
        }
    }

    /// Issues an access token without a code: for credentials mode, where the user signed in
    /// through the client.
    ///
    /// The token lives as long as a refresh token would (13 months by default), because this
    /// mode has no refresh. [`revoke_grant`](Self::revoke_grant) and the revocation endpoint
    /// end it.
    ///
    /// # Errors
    /// [`Error::unavailable`] if the store fails.
    pub async fn issue_for(
        &self,
        client: &ClientId,
        principal: UserId,
        scopes: ScopeSet,
        accounts: PermittedAccounts,
    ) -> Result<AccessToken, Error> {
        let (now, token) = (self.now(), self.secret());
        let (id, ends) = (self.identifier(), self.ends_at(now));
        let client = client.clone();
        let record = GrantRecord::new(id, principal, client, scopes, accounts, now, ends);
        let record = record.with_access(Digest::of(&token), ends);
        let stored = self.0.store.create(record).await;
        stored.map_err(|source| Error::unavailable().with_source(source))?;
        Ok(AccessToken::new(token))
    }

    /// Returns the scopes that the partner supports.
    #[must_use]
    pub fn scopes(&self) -> &ScopeSet {
        &self.0.scopes
    }

    /// Removes expired grants from the store and returns their number. Call it periodically.
    ///
    /// # Errors
    /// [`Error::unavailable`] if the store fails.
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

    fn identifier(&self) -> String {
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
