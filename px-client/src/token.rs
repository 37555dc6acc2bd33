//! Bearer tokens: their sources, their storage and their end.

use crate::{
    error::{Error, ErrorKind, Source},
    oauth::{TokenDefect, TokenSet},
    partner::PartnerClient,
};
use async_trait::async_trait;
use futures_util::future::{Either, select};
use px_core::Clock;
use px_types::{AccessToken, RefreshToken};
use std::{
    fmt,
    pin::pin,
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::Duration,
};
use tokio::sync::{Mutex, watch};

/// A source of the bearer token of one user.
#[async_trait]
pub trait TokenSource: Send + Sync + fmt::Debug {
    /// Returns the token for the next call.
    ///
    /// # Errors
    /// If no token is available, or the user's authorization has ended.
    async fn token(&self) -> Result<AccessToken, Error>;

    /// Called when the partner responded with 401 to this token: the token has ended.
    fn ended(&self, token: &AccessToken);
}

/// A source of one token, which is used until the partner refuses it.
#[derive(Debug)]
pub struct StaticToken(AccessToken);

impl StaticToken {
    /// Returns a source of this token.
    #[must_use]
    pub fn new(token: AccessToken) -> Self {
        Self(token)
    }
}

#[async_trait]
impl TokenSource for StaticToken {
    async fn token(&self) -> Result<AccessToken, Error> {
        Ok(self.0.clone())
    }

    // The client itself remembers the token that has ended.
    fn ended(&self, _: &AccessToken) {}
}

/// A token source, and its token that has ended. All clones of a client share it.
pub(crate) struct TokenState {
    pub(crate) source: Arc<dyn TokenSource>,
    ended: watch::Sender<Option<AccessToken>>,
}

impl TokenState {
    pub(crate) fn new(source: Arc<dyn TokenSource>) -> Arc<Self> {
        Arc::new(Self { source, ended: watch::Sender::new(None) })
    }

    /// Ends a token: every call in flight with it is aborted.
    pub(crate) fn end(&self, token: &AccessToken) {
        self.source.ended(token);
        self.ended.send_replace(Some(token.clone()));
    }

    pub(crate) fn has_ended(&self, token: &AccessToken) -> bool {
        self.ended.borrow().as_ref() == Some(token)
    }

    pub(crate) async fn until_ended(&self, token: &AccessToken) {
        let mut ended = self.ended.subscribe();
        let closed = ended.wait_for(|ended| ended.as_ref() == Some(token)).await.is_err();
        if closed {
            // The sender is part of `self`, so this cannot happen; waiting forever is the safe result.
            std::future::pending::<()>().await;
        }
    }
}

/// A store of one user's tokens that survives restarts.
#[async_trait]
pub trait TokenStore: Send + Sync + fmt::Debug {
    /// Returns the tokens that were saved last.
    ///
    /// # Errors
    /// If the store is out of reach.
    async fn load(&self) -> Result<Option<TokenSet>, Source>;

    /// Replaces the tokens. Once it has returned, they are durable.
    ///
    /// # Errors
    /// If the store is out of reach.
    async fn save(&self, tokens: &TokenSet) -> Result<(), Source>;

    /// Called before a refresh of the tokens that were loaded or saved last is sent.
    ///
    /// The default does nothing.
    ///
    /// If the process stops after this, the partner may have issued new tokens that are not stored. A
    /// persistent store can record that here.
    ///
    /// # Errors
    /// If the refresh must not be sent, for example because other tokens have been stored meanwhile.
    async fn refresh_begins(&self) -> Result<(), Source> {
        Ok(())
    }

    /// Called when the refresh failed and the partner certainly issued no new tokens.
    ///
    /// The default does nothing.
    ///
    /// # Errors
    /// If the store is out of reach. The refresh has failed anyway.
    async fn refresh_failed(&self) -> Result<(), Source> {
        Ok(())
    }

    /// Stores tokens from a refresh that must not be used. The default drops them.
    ///
    /// They are stored separately from those that [`load`](Self::load) returns. They are secrets, possibly of
    /// another user.
    ///
    /// # Errors
    /// If the store is out of reach. The call is repeated before the next refresh.
    async fn save_unusable(&self, _: &TokenSet, _: TokenDefect) -> Result<(), Source> {
        Ok(())
    }
}

/// A token store in memory, for tests and for programs that need no persistence.
#[derive(Clone, Debug, Default)]
pub struct MemoryTokenStore(Arc<StdMutex<Option<TokenSet>>>);

impl MemoryTokenStore {
    /// Returns a store that contains these tokens.
    #[must_use]
    pub fn new(tokens: TokenSet) -> Self {
        Self(Arc::new(StdMutex::new(Some(tokens))))
    }
}

#[async_trait]
impl TokenStore for MemoryTokenStore {
    async fn load(&self) -> Result<Option<TokenSet>, Source> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    async fn save(&self, tokens: &TokenSet) -> Result<(), Source> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(tokens.clone());
        Ok(())
    }
}

/// A source of access tokens that are refreshed before they expire.
///
/// - One refresh runs at a time; concurrent callers wait for its result.
/// - A new pair is saved **before** it is used.
/// - A refresh without a usable response is repeated once, because a partner responds to a second use of a
///   refresh token within 30 s with another pair.
/// - A pair that names another user, or is not a bearer token, is [stored separately](TokenStore::save_unusable)
///   and never used.
/// - While a token is still valid, a failed refresh is not repeated with every call.
/// - On `invalid_grant` the store is read once more, because another process may have refreshed the tokens.
///   If it has no other tokens, the authorization has ended.
///
/// Contract: `px.md` section 4, refresh.
#[derive(Clone)]
pub struct RefreshingTokens(Arc<Refresher>);

struct Refresher {
    client: PartnerClient,
    store: Arc<dyn TokenStore>,
    skew: Duration,
    state: Mutex<State>,
    ended: StdMutex<Option<AccessToken>>,
}

#[derive(Default)]
struct State {
    tokens: Option<TokenSet>,
    /// New tokens from the partner that the store does not have yet.
    unsaved: Option<TokenSet>,
    /// New tokens that must not be used and that the store does not have yet, with their defect.
    unsaved_unusable: Option<(TokenSet, TokenDefect)>,
    /// Whether the user's authorization has ended: the refresh token is no longer accepted.
    has_ended: bool,
    /// Time and error of the last failed refresh. Callers that waited for it get the same error.
    failed: Option<(Duration, Error)>,
    /// Until this time a token that is still valid is used without another refresh.
    no_refresh_until: Option<Duration>,
}

/// Maximum wait for the response to a refresh. It is short, so that a second attempt, with the delays of a
/// slow network for both, arrives within the partner's 30 s after the first.
const REFRESH_RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Minimum delay after a failed refresh, unless the partner requests a longer one. It is short enough to
/// repeat a refresh without a response within the partner's 30 s.
const FAILED_REFRESH_BACKOFF: Duration = Duration::from_secs(5);

impl fmt::Debug for RefreshingTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefreshingTokens(***)")
    }
}

impl RefreshingTokens {
    /// Returns a source that reads a user's tokens from a store and refreshes them 60 s before they expire.
    ///
    /// The client must have an id and a secret.
    #[must_use]
    pub fn new(client: PartnerClient, store: Arc<dyn TokenStore>) -> Self {
        Self::with_skew(client, store, Duration::from_secs(60))
    }

    /// Returns a source like [`new`](Self::new) that refreshes tokens `skew` before they expire.
    ///
    /// The time is limited to a quarter of a token's lifetime.
    #[must_use]
    pub fn with_skew(client: PartnerClient, store: Arc<dyn TokenStore>, skew: Duration) -> Self {
        Self(Arc::new(Refresher {
            client,
            store,
            skew,
            state: Mutex::default(),
            ended: StdMutex::new(None),
        }))
    }
}

#[async_trait]
impl TokenSource for RefreshingTokens {
    async fn token(&self) -> Result<AccessToken, Error> {
        let refresher = Arc::clone(&self.0);
        // A separate task, so that a cancelled caller does not lose a pair in transit.
        match tokio::spawn(async move { refresher.token().await }).await {
            Ok(token) => token,
            Err(e) => Err(Error::build("token", "the refresh task was cancelled").with_source(e)),
        }
    }

    fn ended(&self, token: &AccessToken) {
        *self.0.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
    }
}

impl Refresher {
    async fn token(&self) -> Result<AccessToken, Error> {
        let requested_at = self.clock().elapsed();
        let mut state = self.state.lock().await;
        if let Some((at, error)) = &state.failed
            && *at > requested_at
        {
            return Err(error.for_waiter());
        }
        let result = self.current_token(&mut state).await;
        state.failed = match &result {
            Ok(_) => None,
            Err(error) => Some((self.clock().elapsed(), error.for_waiter())),
        };
        result
    }

    async fn current_token(&self, state: &mut State) -> Result<AccessToken, Error> {
        if let Some(tokens) = state.unsaved.clone() {
            self.save(state, tokens).await?;
        }
        if let Some((tokens, defect)) = state.unsaved_unusable.clone() {
            self.save_unusable(state, tokens, defect).await?;
        }
        if state.tokens.is_none() {
            state.tokens = self.load().await?;
        }
        let Some(tokens) = state.tokens.clone() else {
            return Err(Error::new(ErrorKind::Auth, "token", "the store has no tokens")
                .with_advice("get an authorization from the user")
                .with_may_have_been_sent(false));
        };
        if let Some(defect) = tokens.defect(None) {
            return Err(not_usable(defect));
        }
        let refused = self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if state.has_ended || refused.is_some_and(|refused| refused == tokens.access_token) {
            return Err(authorization_ended());
        }
        let is_deferred =
            state.no_refresh_until.is_some_and(|until| self.clock().elapsed() < until);
        if !self.is_due(&tokens) || is_deferred && self.is_valid(&tokens) {
            return Ok(tokens.access_token);
        }
        self.refresh(state, tokens).await
    }

    async fn refresh(&self, state: &mut State, old: TokenSet) -> Result<AccessToken, Error> {
        let error = match self.request_refresh(&old).await {
            Ok(new) => match self.accept(state, &old, new).await {
                Ok(token) => return Ok(token),
                Err(error) if state.unsaved.is_some() => return Err(error),
                Err(error) => error,
            },
            Err(error) => error,
        };
        if error.error_id() != Some("invalid_grant") {
            // A token that is still valid is used while the partner is out of reach.
            if !self.is_valid(&old) {
                return Err(error);
            }
            let delay = error.retry_at().map(|at| at - self.clock().now());
            let delay = delay.and_then(|wait| wait.to_std().ok()).unwrap_or_default();
            state.no_refresh_until =
                self.clock().elapsed().checked_add(delay.max(FAILED_REFRESH_BACKOFF));
            return Ok(old.access_token);
        }
        let stored = self.load().await?;
        if let Some(stored) = stored.filter(|stored| stored.refresh_token != old.refresh_token) {
            state.tokens = Some(stored.clone());
            if !self.is_due(&stored) {
                return Ok(stored.access_token);
            }
            match self.request_refresh(&stored).await {
                Ok(new) => return self.accept(state, &stored, new).await,
                Err(e) if e.error_id() != Some("invalid_grant") => return Err(e),
                Err(_) => {}
            }
        }
        state.has_ended = true;
        Err(authorization_ended().with_source(error))
    }

    /// Requests a new pair, a second time if the first response was lost.
    async fn request_refresh(&self, old: &TokenSet) -> Result<TokenSet, Error> {
        let Some(refresh_token) = &old.refresh_token else {
            return Err(authorization_ended());
        };
        // An unreadable response, or a server error, counts as lost too: the partner may have rotated the
        // refresh token before it failed.
        let lost = |error: &Error| {
            let kind = matches!(
                error.kind(),
                ErrorKind::Timeout | ErrorKind::Transport | ErrorKind::Decode
            );
            let status = matches!(error.status(), Some(500 | 502 | 503 | 504));
            error.may_have_been_sent() && (kind || status)
        };
        self.store.refresh_begins().await.map_err(|e| {
            Error::build("token", "the refresh cannot be recorded")
                .with_advice("check that the token store can be reached; nothing was sent")
                .with_source(e)
        })?;
        let mut first_was_lost = false;
        let response = match self.send_refresh(refresh_token).await {
            Err(error) if lost(&error) => {
                first_was_lost = true;
                self.send_refresh(refresh_token).await
            }
            other => other,
        };
        if let Err(error) = &response {
            let refused = error.error_id() == Some("invalid_grant");
            // Otherwise the partner may have issued a pair, and a repetition returns it.
            if refused || !(first_was_lost || lost(error)) {
                // If this cannot be recorded, the refresh is repeated once more, which is harmless.
                let _ = self.store.refresh_failed().await;
            }
        }
        let mut new = response?;
        new.refresh_token = new.refresh_token.or_else(|| old.refresh_token.clone());
        new.user_id = new.user_id.or_else(|| old.user_id.clone());
        new.scope = new.scope.or_else(|| old.scope.clone());
        Ok(new)
    }

    /// Requests a new pair. A response that does not arrive in time counts as lost.
    async fn send_refresh(&self, refresh_token: &RefreshToken) -> Result<TokenSet, Error> {
        let sending = pin!(self.client.refresh(refresh_token));
        match select(sending, self.clock().sleep(REFRESH_RESPONSE_TIMEOUT)).await {
            Either::Left((response, _)) => response,
            Either::Right(_) => {
                let what = format!(
                    "the partner sent no tokens within {} s",
                    REFRESH_RESPONSE_TIMEOUT.as_secs()
                );
                Err(Error::new(ErrorKind::Timeout, "token", what).with_advice("try again later"))
            }
        }
    }

    /// Stores a new pair, and returns its access token if it may be used.
    async fn accept(
        &self,
        state: &mut State,
        old: &TokenSet,
        new: TokenSet,
    ) -> Result<AccessToken, Error> {
        match new.defect(old.user_id.as_ref()) {
            None => self.save(state, new).await,
            Some(defect) => {
                self.save_unusable(state, new, defect).await?;
                // The outcome is known. If this cannot be recorded, the refresh is repeated once more.
                let _ = self.store.refresh_failed().await;
                Err(not_usable(defect))
            }
        }
    }

    async fn save_unusable(
        &self,
        state: &mut State,
        new: TokenSet,
        defect: TokenDefect,
    ) -> Result<(), Error> {
        state.unsaved_unusable = Some((new.clone(), defect));
        self.store.save_unusable(&new, defect).await.map_err(|e| {
            Error::build("token", "tokens that must not be used cannot be saved")
                .with_advice("check that the token store can be reached")
                .with_source(e)
        })?;
        state.unsaved_unusable = None;
        Ok(())
    }

    async fn save(&self, state: &mut State, new: TokenSet) -> Result<AccessToken, Error> {
        state.unsaved = Some(new.clone());
        self.store.save(&new).await.map_err(|e| {
            Error::build("token", "the new tokens cannot be saved")
                .with_advice("check that the token store can be reached; they are not used before")
                .with_source(e)
        })?;
        (state.unsaved, state.no_refresh_until) = (None, None);
        let access_token = new.access_token.clone();
        state.tokens = Some(new);
        Ok(access_token)
    }

    async fn load(&self) -> Result<Option<TokenSet>, Error> {
        self.store.load().await.map_err(|e| {
            Error::build("token", "the tokens cannot be read")
                .with_advice("check that the token store can be reached")
                .with_source(e)
        })
    }

    /// Returns whether the access token has not expired, by the expiry that the partner gave.
    fn is_valid(&self, tokens: &TokenSet) -> bool {
        tokens.expires_at.is_some_and(|end| end.utc() > self.clock().now())
    }

    fn is_due(&self, tokens: &TokenSet) -> bool {
        let Some(end) = tokens.expires_at else {
            return false;
        };
        let end = end.utc();
        let lifetime = (end - tokens.issued_at.utc()).to_std().unwrap_or_default();
        end - self.skew.min(lifetime / 4) <= self.clock().now()
    }

    fn clock(&self) -> &dyn Clock {
        &**self.client.clock()
    }
}

fn not_usable(defect: TokenDefect) -> Error {
    Error::new(ErrorKind::Auth, "token", format!("{defect}; they are not used"))
        .with_advice("this is a fault of the partner; report it to them")
        .with_token_defect(defect)
}

fn authorization_ended() -> Error {
    Error::new(ErrorKind::Auth, "token", "the user's authorization has ended")
        .with_advice("get a new authorization from the user")
        .with_may_have_been_sent(false)
        .with_ended_token()
}
