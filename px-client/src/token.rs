//! Where bearer tokens come from, how they are kept, and how they end.

use crate::{
    error::{Error, Kind, Source},
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

/// Gives the bearer token of one user.
#[async_trait]
pub trait TokenSource: Send + Sync + fmt::Debug {
    /// The token for the next call.
    ///
    /// # Errors
    /// When there is none, or none any more.
    async fn token(&self) -> Result<AccessToken, Error>;

    /// The partner answered 401 to this token: it is dead.
    fn ended(&self, token: &AccessToken);
}

/// One token, until the partner refuses it.
#[derive(Debug)]
pub struct StaticToken(AccessToken);

impl StaticToken {
    /// Gives that token.
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

    // The client itself remembers which token has ended.
    fn ended(&self, _: &AccessToken) {}
}

/// A source, and the token of it that has ended; shared by all clones of a client.
pub(crate) struct TokenState {
    pub(crate) source: Arc<dyn TokenSource>,
    dead: watch::Sender<Option<AccessToken>>,
}

impl TokenState {
    pub(crate) fn new(source: Arc<dyn TokenSource>) -> Arc<Self> {
        Arc::new(Self { source, dead: watch::Sender::new(None) })
    }

    /// Ends a token: every call in flight with it is abandoned.
    pub(crate) fn end(&self, token: &AccessToken) {
        self.source.ended(token);
        self.dead.send_replace(Some(token.clone()));
    }

    pub(crate) fn has_ended(&self, token: &AccessToken) -> bool {
        self.dead.borrow().as_ref() == Some(token)
    }

    pub(crate) async fn until_ended(&self, token: &AccessToken) {
        let mut dead = self.dead.subscribe();
        let closed = dead.wait_for(|dead| dead.as_ref() == Some(token)).await.is_err();
        if closed {
            // The sender is part of `self`, so this cannot be; never to end is the safe answer.
            std::future::pending::<()>().await;
        }
    }
}

/// Keeps a user's tokens across restarts.
#[async_trait]
pub trait TokenStore: Send + Sync + fmt::Debug {
    /// The tokens that were saved last.
    ///
    /// # Errors
    /// When the store is out of reach.
    async fn load(&self) -> Result<Option<TokenSet>, Source>;

    /// Replaces the tokens. When it returns, they are safe.
    ///
    /// # Errors
    /// When the store is out of reach.
    async fn save(&self, tokens: &TokenSet) -> Result<(), Source>;

    /// A refresh of the tokens that were loaded or saved last is about to be sent. A process that
    /// stops from here on may leave new tokens behind at the partner, so a store that survives it
    /// can record that here. Does nothing by default.
    ///
    /// # Errors
    /// If the refresh must not be sent, for example because other tokens are stored by now.
    async fn refresh_begins(&self) -> Result<(), Source> {
        Ok(())
    }

    /// The refresh failed, and the partner certainly gave no new tokens. Does nothing by default.
    ///
    /// # Errors
    /// If the store is out of reach. The refresh has failed all the same.
    async fn refresh_failed(&self) -> Result<(), Source> {
        Ok(())
    }

    /// Stores tokens that a refresh gave and that must not be used, apart from those that
    /// [`load`](Self::load) returns. They are secrets, perhaps of another user. Drops them by
    /// default.
    ///
    /// # Errors
    /// If the store is out of reach. It is tried again before the next refresh.
    async fn keep_apart(&self, _: &TokenSet, _: TokenDefect) -> Result<(), Source> {
        Ok(())
    }
}

/// A store in memory: for tests and for programs that forget.
#[derive(Clone, Debug, Default)]
pub struct MemoryTokenStore(Arc<StdMutex<Option<TokenSet>>>);

impl MemoryTokenStore {
    /// A store that holds tokens.
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

/// Gives access tokens that are refreshed before they expire.
///
/// One refresh runs at a time; whoever asks meanwhile waits for it. A new pair is saved
/// **before** it is used. A refresh whose answer was lost is repeated once, because a
/// partner answers a second use within 30 s with another pair. A pair that names another user, or
/// is no bearer token, is stored [apart](TokenStore::keep_apart) and never used. While a token is still good, a
/// refresh that failed is not tried again with every call. On `invalid_grant` the store
/// is read once more, for another process may have refreshed; then the source has ended.
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
    /// The partner gave these, the store does not have them yet.
    unsaved: Option<TokenSet>,
    /// The same, of tokens that must not be used.
    unsaved_apart: Option<(TokenSet, TokenDefect)>,
    /// The refresh token is dead.
    over: bool,
    /// The last refresh failed, and when. Whoever waited for it does not try again in turn.
    failed: Option<(Duration, Error)>,
    /// Until then a token that is still good is used without a new try.
    hold_until: Option<Duration>,
}

/// How long the answer to a refresh is waited for: so short that a second try, and what a slow
/// network adds to both, still comes within the partner's 30 s after the first.
const ANSWER: Duration = Duration::from_secs(10);

/// How long a failed refresh is not tried again, unless the partner asks for longer: short
/// enough for a lost answer to be asked for again within the partner's 30 s.
const HOLD: Duration = Duration::from_secs(5);

impl fmt::Debug for RefreshingTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefreshingTokens(***)")
    }
}

impl RefreshingTokens {
    /// Reads a user's tokens from a store and refreshes them with a client that has id and secret.
    #[must_use]
    pub fn new(client: PartnerClient, store: Arc<dyn TokenStore>) -> Self {
        Self::with_skew(client, store, Duration::from_secs(60))
    }

    /// The same, refreshing that long before a token expires; at most a quarter of its life.
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
        // A task of its own: a caller that goes away must not lose a pair on its way.
        match tokio::spawn(async move { refresher.token().await }).await {
            Ok(token) => token,
            Err(e) => Err(Error::build("token", "the refresh was stopped").caused_by(e)),
        }
    }

    fn ended(&self, token: &AccessToken) {
        *self.0.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
    }
}

impl Refresher {
    async fn token(&self) -> Result<AccessToken, Error> {
        let asked = self.clock().elapsed();
        let mut state = self.state.lock().await;
        if let Some((at, error)) = &state.failed
            && *at > asked
        {
            return Err(error.for_another());
        }
        let result = self.token_now(&mut state).await;
        state.failed = match &result {
            Ok(_) => None,
            Err(error) => Some((self.clock().elapsed(), error.for_another())),
        };
        result
    }

    async fn token_now(&self, state: &mut State) -> Result<AccessToken, Error> {
        if let Some(tokens) = state.unsaved.clone() {
            self.save(state, tokens).await?;
        }
        if let Some((tokens, defect)) = state.unsaved_apart.clone() {
            self.keep_apart(state, tokens, defect).await?;
        }
        if state.tokens.is_none() {
            state.tokens = self.load().await?;
        }
        let Some(tokens) = state.tokens.clone() else {
            return Err(Error::new(Kind::Auth, "token", "the store has no tokens")
                .advice("get an authorization of the user")
                .sent(false));
        };
        if let Some(defect) = tokens.defect(None) {
            return Err(not_usable(defect));
        }
        let refused = self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if state.over || refused.is_some_and(|refused| refused == tokens.access_token) {
            return Err(over());
        }
        let held = state.hold_until.is_some_and(|until| self.clock().elapsed() < until);
        if !self.is_due(&tokens) || held && self.is_good(&tokens) {
            return Ok(tokens.access_token);
        }
        self.refresh(state, tokens).await
    }

    async fn refresh(&self, state: &mut State, old: TokenSet) -> Result<AccessToken, Error> {
        let error = match self.ask(&old).await {
            Ok(new) => match self.take(state, &old, new).await {
                Ok(token) => return Ok(token),
                Err(error) if state.unsaved.is_some() => return Err(error),
                Err(error) => error,
            },
            Err(error) => error,
        };
        if error.error_id() != Some("invalid_grant") {
            // What is still good until it expires is used while the partner is away.
            if !self.is_good(&old) {
                return Err(error);
            }
            let asked = error.retry_at().map(|at| at - self.clock().now());
            let asked = asked.and_then(|wait| wait.to_std().ok()).unwrap_or_default();
            state.hold_until = self.clock().elapsed().checked_add(asked.max(HOLD));
            return Ok(old.access_token);
        }
        let stored = self.load().await?;
        if let Some(stored) = stored.filter(|stored| stored.refresh_token != old.refresh_token) {
            state.tokens = Some(stored.clone());
            if !self.is_due(&stored) {
                return Ok(stored.access_token);
            }
            match self.ask(&stored).await {
                Ok(new) => return self.take(state, &stored, new).await,
                Err(e) if e.error_id() != Some("invalid_grant") => return Err(e),
                Err(_) => {}
            }
        }
        state.over = true;
        Err(over().caused_by(error))
    }

    /// Asks for a new pair, once more if the answer was lost.
    async fn ask(&self, old: &TokenSet) -> Result<TokenSet, Error> {
        let Some(refresh_token) = &old.refresh_token else {
            return Err(over());
        };
        // A response that cannot be read, or an error of the server in its place, is lost as well:
        // the partner may have rotated the refresh token before it failed.
        let lost = |error: &Error| {
            let kind = matches!(error.kind(), Kind::Timeout | Kind::Transport | Kind::Decode);
            let status = matches!(error.status(), Some(500 | 502 | 503 | 504));
            error.may_have_been_sent() && (kind || status)
        };
        self.store.refresh_begins().await.map_err(|e| {
            Error::build("token", "the refresh cannot be recorded")
                .advice("see that the token store is in reach; nothing was sent")
                .caused_by(e)
        })?;
        let mut first_was_lost = false;
        let response = match self.ask_once(refresh_token).await {
            Err(error) if lost(&error) => {
                first_was_lost = true;
                self.ask_once(refresh_token).await
            }
            other => other,
        };
        if let Err(error) = &response {
            let refused = error.error_id() == Some("invalid_grant");
            // Else the partner may have given a pair that is still to be had.
            if refused || !(first_was_lost || lost(error)) {
                // If that cannot be recorded, the refresh is repeated once more, which does no harm.
                let _ = self.store.refresh_failed().await;
            }
        }
        let mut new = response?;
        new.refresh_token = new.refresh_token.or_else(|| old.refresh_token.clone());
        new.user_id = new.user_id.or_else(|| old.user_id.clone());
        new.scope = new.scope.or_else(|| old.scope.clone());
        Ok(new)
    }

    /// Asks for a new pair, and takes an answer that does not come soon for lost.
    async fn ask_once(&self, refresh_token: &RefreshToken) -> Result<TokenSet, Error> {
        let asking = pin!(self.client.refresh(refresh_token));
        match select(asking, self.clock().sleep(ANSWER)).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => {
                let what = format!("the partner gave no tokens within {} s", ANSWER.as_secs());
                Err(Error::new(Kind::Timeout, "token", what).advice("try again later"))
            }
        }
    }

    /// Stores a new pair. Only then it is judged whether it may be used.
    async fn take(
        &self,
        state: &mut State,
        old: &TokenSet,
        new: TokenSet,
    ) -> Result<AccessToken, Error> {
        match new.defect(old.user_id.as_ref()) {
            None => self.save(state, new).await,
            Some(defect) => {
                self.keep_apart(state, new, defect).await?;
                // The outcome is known. If that cannot be recorded, the refresh is repeated once more.
                let _ = self.store.refresh_failed().await;
                Err(not_usable(defect))
            }
        }
    }

    async fn keep_apart(
        &self,
        state: &mut State,
        new: TokenSet,
        defect: TokenDefect,
    ) -> Result<(), Error> {
        state.unsaved_apart = Some((new.clone(), defect));
        self.store.keep_apart(&new, defect).await.map_err(|e| {
            Error::build("token", "tokens that are not to be used cannot be saved")
                .advice("see that the token store is in reach")
                .caused_by(e)
        })?;
        state.unsaved_apart = None;
        Ok(())
    }

    async fn save(&self, state: &mut State, new: TokenSet) -> Result<AccessToken, Error> {
        state.unsaved = Some(new.clone());
        self.store.save(&new).await.map_err(|e| {
            Error::build("token", "the new tokens cannot be saved")
                .advice("see that the token store is in reach; they are not used before")
                .caused_by(e)
        })?;
        (state.unsaved, state.hold_until) = (None, None);
        let access_token = new.access_token.clone();
        state.tokens = Some(new);
        Ok(access_token)
    }

    async fn load(&self) -> Result<Option<TokenSet>, Error> {
        self.store.load().await.map_err(|e| {
            Error::build("token", "the tokens cannot be read")
                .advice("see that the token store is in reach")
                .caused_by(e)
        })
    }

    /// Whether the access token has not expired, as far as the partner said.
    fn is_good(&self, tokens: &TokenSet) -> bool {
        tokens.expires_at.is_some_and(|end| end.utc() > self.clock().now())
    }

    fn is_due(&self, tokens: &TokenSet) -> bool {
        let Some(end) = tokens.expires_at else {
            return false;
        };
        let end = end.utc();
        let life = (end - tokens.issued_at.utc()).to_std().unwrap_or_default();
        end - self.skew.min(life / 4) <= self.clock().now()
    }

    fn clock(&self) -> &dyn Clock {
        &**self.client.clock()
    }
}

fn not_usable(defect: TokenDefect) -> Error {
    Error::new(Kind::Auth, "token", format!("{defect}; they are not used"))
        .advice("this is a fault of the partner; tell them")
        .token_defect_is(defect)
}

fn over() -> Error {
    Error::new(Kind::Auth, "token", "the user's authorization has ended")
        .advice("get a new authorization of the user")
        .sent(false)
        .ending_token()
}
