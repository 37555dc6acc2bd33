//! An Item's tokens, between the store and the client that refreshes them.

use crate::store::Store;
use async_trait::async_trait;
use px_client::{TokenStore, oauth::TokenSet};
use px_types::ItemId;
use std::{
    error::Error as StdError,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The tokens of one Item.
///
/// They are replaced only if they are still those that were read: two workers that refresh at
/// once end up with the same pair, the stored one.
pub(super) struct ItemTokens {
    store: Arc<dyn Store>,
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
    pub(super) fn new(store: Arc<dyn Store>, item: ItemId, expired: Option<u64>) -> Arc<Self> {
        let state = Mutex::new(State { expired, ..State::default() });
        Arc::new(Self { store, item, state })
    }

    /// The version of the tokens that were read or saved last.
    pub(super) fn version(&self) -> Option<u64> {
        self.lock().version
    }

    /// Whether a new pair was given up for one that someone else had stored.
    pub(super) fn lost(&self) -> bool {
        self.lock().lost
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
        if self.store.save_tokens(&self.item, version, tokens).await? {
            self.lock().version = Some(version + 1);
            return Ok(());
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
