//! The bank's tokens for Plaid, made by the OAuth kit of `px-server`.

use super::{Left, MintReason, MintToken};
use crate::error::Source;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use lru::LruCache;
use px_server::{PermittedAccounts, oauth::OAuth};
use px_types::{AccessToken, ClientId, UserId};
use std::{
    collections::HashMap,
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Maximum number of tokens that are remembered, to be shown again when an import failed.
const MAX_REMEMBERED: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();
/// Lifetime of a token that was made to connect an application, unless the user consents: twice
/// that of a link token.
const CONNECT_WITHIN: Duration = Duration::from_secs(3_600);

/// A [`MintToken`] over the OAuth kit of `px-server`.
///
/// Its tokens hang on the user's latest consent to Plaid: they show the same scopes and accounts,
/// and end with it. For a user who shares nothing it makes a token only to connect an application,
/// over the accounts that the user [agreed to share](Self::consent) on a page of the bank. That token
/// ends within the hour, unless the application is connected by then. With the user's last
/// application every token and consent of Plaid's ends.
///
/// ```
/// # use px_client::portal::OAuthTokens;
/// # use px_server::oauth::OAuth;
/// # use px_client::portal::Portal;
/// # use px_server::PermittedAccounts;
/// # use px_types::{TargetApplicationToken, UserId};
/// # async fn example(
/// #     oauth: OAuth, portal: Portal, ann: UserId, target: TargetApplicationToken,
/// # ) -> Result<(), Box<dyn std::error::Error>> {
/// // `plaid` is the client id that Plaid has at the bank.
/// let tokens = OAuthTokens::new(oauth, "plaid".parse()?);
/// // Ann picked an account on the bank's page and pressed "Connect".
/// let consent = tokens.consent(&ann, PermittedAccounts::Only(["checking".parse()?].into()));
/// let link = portal.connect(&ann, &target, None).await?;
/// drop(consent);
/// # Ok(()) }
/// ```
pub struct OAuthTokens {
    oauth: OAuth,
    client: ClientId,
    /// The latest token of each user, with the id of its consent. Without it every import that
    /// fails would leave a token.
    made: Mutex<LruCache<UserId, (String, AccessToken)>>,
    /// The accounts of each [`BankConsent`] in force.
    agreed: Mutex<HashMap<UserId, Arc<PermittedAccounts>>>,
}

/// The accounts that a user agreed to share on a page of the bank's own.
///
/// Until it is dropped, [`Portal::connect`](super::Portal::connect) makes a token over them for a user
/// who shares nothing yet.
#[must_use = "the user's consent ends when it is dropped"]
pub struct BankConsent {
    user: UserId,
    accounts: Arc<PermittedAccounts>,
    tokens: Arc<OAuthTokens>,
}

impl Drop for BankConsent {
    fn drop(&mut self) {
        let mut agreed = locked(&self.tokens.agreed);
        // A later consent of the same user stays.
        if agreed.get(&self.user).is_some_and(|latest| Arc::ptr_eq(latest, &self.accounts)) {
            agreed.remove(&self.user);
        }
    }
}

impl fmt::Debug for BankConsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BankConsent").finish_non_exhaustive()
    }
}

/// Each change is complete before anything can panic, so a poisoned lock is sound.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OAuthTokens {
    /// Makes tokens for a client of the kit: Plaid.
    #[must_use]
    pub fn new(oauth: OAuth, client: ClientId) -> Arc<Self> {
        let made = Mutex::new(LruCache::new(MAX_REMEMBERED));
        Arc::new(Self { oauth, client, made, agreed: Mutex::default() })
    }

    /// Records that a user agreed to share these accounts, on a page of the bank's own. Of several
    /// consents of one user, the latest counts.
    pub fn consent(self: &Arc<Self>, user: &UserId, accounts: PermittedAccounts) -> BankConsent {
        let accounts = Arc::new(accounts);
        locked(&self.agreed).insert(user.clone(), Arc::clone(&accounts));
        BankConsent { user: user.clone(), accounts, tokens: Arc::clone(self) }
    }

    /// Returns the accounts that Plaid may read of a user: one entry for each consent that holds.
    ///
    /// # Errors
    /// Unavailable if the grant store fails.
    pub async fn shared(&self, user: &UserId) -> Result<Vec<PermittedAccounts>, px_server::Error> {
        let consents = self.oauth.consents(&self.client, user).await?;
        Ok(consents.iter().map(|consent| consent.accounts.clone()).collect())
    }

    /// Returns the token that was made before under a consent, if it is still good.
    async fn made_before(
        &self,
        user: &UserId,
        consent: &str,
    ) -> Result<Option<AccessToken>, Source> {
        let made = locked(&self.made).get(user).cloned();
        let Some((_, token)) = made.filter(|(under, _)| under == consent) else { return Ok(None) };
        Ok(self.oauth.is_good(&token).await?.then_some(token))
    }
}

#[async_trait]
impl MintToken for OAuthTokens {
    async fn mint(&self, user: &UserId, reason: MintReason) -> Result<Option<AccessToken>, Source> {
        let consents = self.oauth.consents(&self.client, user).await?;
        // A pending grant is no consent yet.
        let consent = consents.iter().find(|consent| consent.pending_until.is_none());
        let Some(consent) = consent else {
            let agreed = locked(&self.agreed).get(user).map(|accounts| (**accounts).clone());
            let Some(accounts) = agreed.filter(|_| reason == MintReason::Connect) else {
                return Ok(None);
            };
            let (client, user) = (&self.client, user.clone());
            let pending = self.oauth.issue_pending(client, user, accounts, CONNECT_WITHIN);
            return Ok(Some(pending.await?));
        };
        if let Some(token) = self.made_before(user, &consent.id).await? {
            return Ok(Some(token));
        }
        let token = self.oauth.issue_under(&consent.id).await?;
        if let Some(token) = &token {
            locked(&self.made).put(user.clone(), (consent.id.clone(), token.clone()));
        }
        Ok(token)
    }

    async fn connected(&self, user: &UserId) -> Result<(), Source> {
        Ok(self.oauth.confirm(&self.client, user).await?)
    }

    async fn end(&self, user: &UserId, up_to: DateTime<Utc>) -> Result<Left, Source> {
        locked(&self.made).pop(user);
        self.oauth.revoke_client(&self.client, user, up_to).await?;
        Ok(match self.oauth.consents(&self.client, user).await?.is_empty() {
            true => Left::Nothing,
            false => Left::Later,
        })
    }

    async fn given_up(&self, user: &UserId) -> Result<(), Source> {
        Ok(self.oauth.revoke_pending(&self.client, user).await?)
    }
}

impl fmt::Debug for OAuthTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuthTokens").field("client", &self.client).finish_non_exhaustive()
    }
}
