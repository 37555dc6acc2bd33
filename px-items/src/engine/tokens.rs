//! An Item's tokens, between the store and the client that refreshes them.

use super::restore::Restore;
use crate::store::{KeptTokens, LostTokens, Store, StoreError, StoreErrorKind};
use async_trait::async_trait;
use px_client::{
    TokenStore,
    oauth::{TokenDefect, TokenSet},
};
use px_core::Clock;
use px_types::{InstitutionId, ItemId, UserId};
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

/// Where an Item's tokens are stored, and how they are refreshed.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) restore: Option<Arc<Restore>>,
}

/// The tokens of one Item.
///
/// They are replaced only if they are still those that were read: two workers that refresh at
/// once end up with the same pair, the stored one.
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
    /// Of the tokens that were read or saved last.
    version: Option<u64>,
    /// Tokens of this version are shown as expired, so that they are refreshed.
    expired: Option<u64>,
    /// A new pair was not saved, because another one was there.
    lost: bool,
    /// A new pair was saved.
    refreshed: bool,
}

impl ItemTokens {
    pub(super) fn new(
        Place { store, clock, restore }: Place,
        item: ItemId,
        owner: (InstitutionId, UserId),
        expired: Option<u64>,
    ) -> Arc<Self> {
        let state = Mutex::new(State { expired, ..State::default() });
        Arc::new(Self { store, clock, item, owner, restore, state })
    }

    /// The version of the tokens that were read or saved last.
    pub(super) fn version(&self) -> Option<u64> {
        self.lock().version
    }

    /// Whether a new pair was saved.
    pub(super) fn refreshed(&self) -> bool {
        self.lock().refreshed
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

    /// Has a new pair revoked that was not stored, unless it is of the same family as the stored one.
    async fn give_up(&self, version: u64, tokens: &TokenSet) {
        let (institution, user) = self.owner.clone();
        let place = (self.item.clone(), institution, user);
        let lost = LostTokens::new(place, version, tokens.clone(), self.clock.now());
        if let Err(error) = self.store.revoke_lost(&lost).await {
            tracing::warn!(item = %self.item, %error, "tokens that were replaced are not revoked");
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
        // A pair that names another user is not this Item's.
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
        let (mut tries, mut wait) = (1, FIRST_WAIT);
        loop {
            match self.save_once(version, tokens).await {
                Ok(Some(version)) => {
                    let mut state = self.lock();
                    (state.version, state.refreshed) = (Some(version), true);
                    return Ok(());
                }
                Ok(None) => break,
                Err(error) if may_pass(&error) && tries < MOST_TRIES => {
                    tracing::warn!(item = %self.item, %error, "new tokens are not saved yet");
                }
                Err(error) => return Err(error.into()),
            }
            self.clock.sleep(wait).await;
            (tries, wait) = (tries + 1, wait * 2);
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

    async fn keep_apart(
        &self,
        tokens: &TokenSet,
        defect: TokenDefect,
    ) -> Result<(), Box<dyn StdError + Send + Sync>> {
        let (institution, user) = self.owner.clone();
        let mut kept = KeptTokens::new(institution.clone(), tokens.clone(), self.clock.now());
        (kept.item_id, kept.user_id) = (Some(self.item.clone()), Some(user));
        kept.defect = Some(defect);
        let ticket = kept.apart()?;
        let (mut tries, mut wait) = (1, FIRST_WAIT);
        while let Err(error) = self.store.put_ticket(&ticket).await {
            if !may_pass(&error) || tries >= MOST_TRIES {
                return Err(error.into());
            }
            tracing::warn!(item = %self.item, %error, "tokens are not kept apart yet");
            self.clock.sleep(wait).await;
            (tries, wait) = (tries + 1, wait * 2);
        }
        tracing::error!(
            item = %self.item,
            %institution,
            "{defect}: they are kept apart, sealed, and are not used"
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

/// Whether a call to the store may succeed if it is made again.
fn may_pass(error: &StoreError) -> bool {
    matches!(error.kind(), StoreErrorKind::Unavailable | StoreErrorKind::TimedOut)
}

impl fmt::Debug for ItemTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ItemTokens").field("item", &self.item).finish_non_exhaustive()
    }
}
