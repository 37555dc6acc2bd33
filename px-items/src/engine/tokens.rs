//! An Item's tokens, between the store and the client that refreshes them.

use crate::store::{Store, StoreError, StoreErrorKind};
use async_trait::async_trait;
use px_client::{TokenStore, oauth::TokenSet};
use px_core::Clock;
use px_types::ItemId;
use std::{
    error::Error as StdError,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// The wait after the first time that a new pair could not be saved; it doubles each time.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// How many times it is tried, for about 50 s in all. Later than 30 s the partner no longer takes
/// the old refresh token, so a pair that nobody keeps is an authorization that is lost.
const MOST_TRIES: u32 = 10;

/// The tokens of one Item.
///
/// They are replaced only if they are still those that were read: two workers that refresh at
/// once end up with the same pair, the stored one.
pub(super) struct ItemTokens {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    item: ItemId,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Of the tokens that were read or saved last.
    version: Option<u64>,
    /// Tokens of this version are shown as expired, so that they are refreshed.
    expired: Option<u64>,
    /// A new pair was not saved, because another one was there.
    lost: bool,
}

impl ItemTokens {
    pub(super) fn new(
        (store, clock): (Arc<dyn Store>, Arc<dyn Clock>),
        item: ItemId,
        expired: Option<u64>,
    ) -> Arc<Self> {
        let state = Mutex::new(State { expired, ..State::default() });
        Arc::new(Self { store, clock, item, state })
    }

    /// The version of the tokens that were read or saved last.
    pub(super) fn version(&self) -> Option<u64> {
        self.lock().version
    }

    /// Whether a new pair was given up for one that someone else had stored.
    pub(super) fn lost(&self) -> bool {
        self.lock().lost
    }

    /// Saves a new pair once. The version under which it is stored; `None` when another one is.
    async fn save_once(&self, version: u64, tokens: &TokenSet) -> Result<Option<u64>, StoreError> {
        if self.store.save_tokens(&self.item, version, tokens).await? {
            return Ok(Some(version + 1));
        }
        // An earlier try may have been done, and its answer lost.
        let stored = self.store.tokens(&self.item).await?;
        Ok(stored.filter(|(stored, _)| stored == tokens).map(|(_, version)| version))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl TokenStore for ItemTokens {
    async fn load(&self) -> Result<Option<TokenSet>, Box<dyn StdError + Send + Sync>> {
        let Some((mut tokens, version)) = self.store.tokens(&self.item).await? else {
            self.lock().version = None;
            return Ok(None);
        };
        let mut state = self.lock();
        state.version = Some(version);
        if state.expired == Some(version) {
            tokens.expires_at = Some(tokens.issued_at);
        }
        Ok(Some(tokens))
    }

    async fn save(&self, tokens: &TokenSet) -> Result<(), Box<dyn StdError + Send + Sync>> {
        let Some(version) = self.version() else {
            return Err("there were no tokens to replace".into());
        };
        let (mut tries, mut wait) = (1, FIRST_WAIT);
        loop {
            match self.save_once(version, tokens).await {
                Ok(Some(version)) => {
                    self.lock().version = Some(version);
                    return Ok(());
                }
                Ok(None) => break,
                Err(error) if error.kind() == StoreErrorKind::Unavailable && tries < MOST_TRIES => {
                    tracing::warn!(item = %self.item, %error, "new tokens are not saved yet");
                }
                Err(error) => return Err(error.into()),
            }
            self.clock.sleep(wait).await;
            (tries, wait) = (tries + 1, wait * 2);
        }
        self.lock().lost = true;
        Err("other tokens were stored meanwhile".into())
    }
}

impl fmt::Debug for ItemTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ItemTokens").field("item", &self.item).finish_non_exhaustive()
    }
}
