//! Tokens of an Item, between the store and the client that refreshes them.

use super::restore::Restore;
use crate::store::{LostTokens, Store, StoreError, StoreErrorKind, UnlinkedTokens};
use async_trait::async_trait;
use px_client::{
    TokenStore,
    oauth::{TokenDefect, TokenSet},
};
use px_core::{Clock, backoff::Backoff};
use px_types::{InstitutionId, ItemId, UserId};
use std::{
    error::Error as StdError,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Delay after the first failure to save a new pair. It doubles each time.
const SAVE_BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(60));
/// Maximum number of attempts to save a new pair, about 50 s in all. After 30 s the partner no
/// longer accepts the old refresh token, so a pair that is not saved is a lost authorization.
const MAX_SAVE_ATTEMPTS: u32 = 10;

/// Store and refresh policy of an Item's tokens.
#[derive(Clone)]
pub(super) struct TokenBackend {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) restore: Option<Arc<Restore>>,
}

/// Tokens of one Item.
///
/// They are replaced only if they are still those that were read. Two workers that refresh at the
/// same time end up with the same pair, the stored one.
pub(super) struct ItemTokens {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    item: ItemId,
    owner: (InstitutionId, UserId),
    /// Tokens of a backup are not refreshed before the partner refuses them.
    restore: Option<Arc<Restore>>,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Version of the tokens that were last read or saved.
    version: Option<u64>,
    /// Version of tokens that are presented as expired, so that they are refreshed.
    expired: Option<u64>,
    /// Whether a new pair was not saved because another one was stored.
    lost: bool,
    /// Whether a new pair was saved.
    refreshed: bool,
}

impl ItemTokens {
    pub(super) fn new(
        TokenBackend { store, clock, restore }: TokenBackend,
        item: ItemId,
        owner: (InstitutionId, UserId),
        expired: Option<u64>,
    ) -> Arc<Self> {
        let state = Mutex::new(State { expired, ..State::default() });
        Arc::new(Self { store, clock, item, owner, restore, state })
    }

    /// Returns the version of the tokens that were last read or saved.
    pub(super) fn version(&self) -> Option<u64> {
        self.lock().version
    }

    /// Returns whether a new pair was saved.
    pub(super) fn refreshed(&self) -> bool {
        self.lock().refreshed
    }

    /// Returns whether a new pair was discarded because another worker had stored one.
    pub(super) fn lost(&self) -> bool {
        self.lock().lost
    }

    /// Saves a new pair once. Returns its version, or `None` if another pair is stored.
    async fn save_once(&self, version: u64, tokens: &TokenSet) -> Result<Option<u64>, StoreError> {
        if self.store.save_tokens(&self.item, version, tokens).await? {
            return Ok(Some(version + 1));
        }
        // An earlier attempt may have succeeded although its response was lost.
        let stored = self.store.tokens(&self.item).await?;
        Ok(stored.filter(|(stored, _)| stored == tokens).map(|(_, version)| version))
    }

    /// Queues the revocation of a new pair that was not stored, unless it is of the same family as
    /// the stored one.
    async fn give_up(&self, version: u64, tokens: &TokenSet) {
        let (institution, user) = self.owner.clone();
        let place = (self.item.clone(), institution, user);
        let lost = LostTokens::new(place, version, tokens.clone(), self.clock.now());
        if let Err(error) = self.store.revoke_lost(&lost).await {
            tracing::warn!(item = %self.item, %error, "tokens that were not stored cannot be revoked");
        }
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
        // A pair that names another user does not belong to this Item.
        tokens.user_id.get_or_insert_with(|| self.owner.1.clone());
        let mut state = self.lock();
        state.version = Some(version);
        if state.expired == Some(version) {
            tokens.expires_at = Some(tokens.issued_at);
        } else if self.restore.as_ref().is_some_and(|restore| restore.concerns(&tokens)) {
            tokens.expires_at = None;
        }
        Ok(Some(tokens))
    }

    async fn save(&self, tokens: &TokenSet) -> Result<(), Box<dyn StdError + Send + Sync>> {
        let Some(version) = self.version() else {
            return Err("there were no tokens to replace".into());
        };
        let mut tries = 1;
        loop {
            match self.save_once(version, tokens).await {
                Ok(Some(version)) => {
                    let mut state = self.lock();
                    (state.version, state.refreshed) = (Some(version), true);
                    return Ok(());
                }
                Ok(None) => break,
                Err(error) if may_pass(&error) && tries < MAX_SAVE_ATTEMPTS => {
                    tracing::warn!(item = %self.item, %error, "new tokens could not be saved; trying again");
                }
                Err(error) => return Err(error.into()),
            }
            self.clock.sleep(SAVE_BACKOFF.delay(tries)).await;
            tries += 1;
        }
        self.lock().lost = true;
        self.give_up(version, tokens).await;
        Err("other tokens were stored meanwhile".into())
    }

    async fn refresh_begins(&self) -> Result<(), Box<dyn StdError + Send + Sync>> {
        let Some(version) = self.version() else {
            return Err("there were no tokens to replace".into());
        };
        if self.store.begin_refresh(&self.item, version, self.clock.now()).await? {
            return Ok(());
        }
        self.lock().lost = true;
        Err("other tokens were stored meanwhile".into())
    }

    async fn save_unusable(
        &self,
        tokens: &TokenSet,
        defect: TokenDefect,
    ) -> Result<(), Box<dyn StdError + Send + Sync>> {
        let (institution, user) = self.owner.clone();
        let mut kept = UnlinkedTokens::new(institution.clone(), tokens.clone(), self.clock.now());
        (kept.item_id, kept.user_id) = (Some(self.item.clone()), Some(user));
        kept.defect = Some(defect);
        let ticket = kept.apart()?;
        let mut tries = 1;
        while let Err(error) = self.store.put_ticket(&ticket).await {
            if !may_pass(&error) || tries >= MAX_SAVE_ATTEMPTS {
                return Err(error.into());
            }
            tracing::warn!(
                item = %self.item,
                %error,
                "tokens that must not be used could not be stored; trying again"
            );
            self.clock.sleep(SAVE_BACKOFF.delay(tries)).await;
            tries += 1;
        }
        tracing::error!(
            item = %self.item,
            %institution,
            "{defect}: they are stored apart, sealed, and are not used"
        );
        crate::metrics::tokens_apart(&institution);
        Ok(())
    }

    async fn refresh_failed(&self) -> Result<(), Box<dyn StdError + Send + Sync>> {
        if let Some(version) = self.version() {
            self.store.end_refresh(&self.item, version).await?;
        }
        Ok(())
    }
}

/// Returns whether a call to the store may succeed if it is repeated.
fn may_pass(error: &StoreError) -> bool {
    matches!(error.kind(), StoreErrorKind::Unavailable | StoreErrorKind::TimedOut)
}

impl fmt::Debug for ItemTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ItemTokens").field("item", &self.item).finish_non_exhaustive()
    }
}
