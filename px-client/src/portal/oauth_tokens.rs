//! The bank's tokens for Plaid, made by the OAuth kit of `px-server`.

use super::{MintReason, MintToken, RemainingGrants};
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

/// Maximum number of tokens in memory, which are reused if an import failed.
const MAX_CACHED_TOKENS: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();
/// Lifetime of a token that was made to connect an application, unless the user consents: twice that of a
/// link token.
const PENDING_TOKEN_LIFETIME: Duration = Duration::from_secs(3_600);

/// A [`MintToken`] over the OAuth kit of `px-server`.
///
/// Its tokens belong to the user's latest consent to Plaid: they have the same scopes and accounts, and end
/// with it. For a user who shares nothing, it makes a token only to connect an application, for the accounts
/// that the user [agreed to share](Self::consent) on a page of the bank. That token ends within the hour
/// unless the application is connected. With the user's last application, all tokens and consents of Plaid
/// end.
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
/// // Ann selected an account on the bank's page and pressed "Connect".
/// let consent = tokens.consent(&ann, PermittedAccounts::Only(["checking".parse()?].into()));
/// let link = portal.connect(&ann, &target, None).await?;
/// drop(consent);
/// # Ok(()) }
/// ```
pub struct OAuthTokens {
    oauth: OAuth,
    client: ClientId,
    /// The latest token of each user, with the id of its consent. Otherwise each failed import would leave
    /// another token.
    issued: Mutex<LruCache<UserId, (String, AccessToken)>>,
    /// The accounts of each [`BankConsent`] in force.
    bank_consents: Mutex<HashMap<UserId, Arc<PermittedAccounts>>>,
}

/// The accounts that a user agreed to share on a page of the bank's own.
///
/// Until it is dropped, [`Portal::connect`](super::Portal::connect) makes a token for these accounts if the
/// user shares nothing yet.
#[must_use = "the user's consent ends when it is dropped"]
pub struct BankConsent {
    user: UserId,
    accounts: Arc<PermittedAccounts>,
    tokens: Arc<OAuthTokens>,
}

impl Drop for BankConsent {
    fn drop(&mut self) {
        let mut agreed = locked(&self.tokens.bank_consents);
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
    /// Returns a source of tokens for a client of the kit, which is Plaid.
    #[must_use]
    pub fn new(oauth: OAuth, client: ClientId) -> Arc<Self> {
        let issued = Mutex::new(LruCache::new(MAX_CACHED_TOKENS));
        Arc::new(Self { oauth, client, issued, bank_consents: Mutex::default() })
    }

    /// Records that a user agreed to share these accounts on a page of the bank.
    ///
    /// If there are several consents of one user, the latest one is used.
    pub fn consent(self: &Arc<Self>, user: &UserId, accounts: PermittedAccounts) -> BankConsent {
        let accounts = Arc::new(accounts);
        locked(&self.bank_consents).insert(user.clone(), Arc::clone(&accounts));
        BankConsent { user: user.clone(), accounts, tokens: Arc::clone(self) }
    }

    /// Returns the accounts that Plaid may read of a user, one entry for each consent in force.
    ///
    /// # Errors
    /// If the grant store fails.
    pub async fn shared(&self, user: &UserId) -> Result<Vec<PermittedAccounts>, px_server::Error> {
        let consents = self.oauth.consents(&self.client, user).await?;
        Ok(consents.iter().map(|consent| consent.accounts.clone()).collect())
    }

    /// Returns the token that was issued earlier under a consent, if it is still valid.
    async fn cached_token(
        &self,
        user: &UserId,
        consent: &str,
    ) -> Result<Option<AccessToken>, Source> {
        let issued = locked(&self.issued).get(user).cloned();
        let Some((_, token)) = issued.filter(|(under, _)| under == consent) else {
            return Ok(None);
        };
        Ok(self.oauth.is_valid(&token).await?.then_some(token))
    }
}

#[async_trait]
impl MintToken for OAuthTokens {
    async fn mint(&self, user: &UserId, reason: MintReason) -> Result<Option<AccessToken>, Source> {
        let consents = self.oauth.consents(&self.client, user).await?;
        // A pending grant is not a consent yet.
        let consent = consents.iter().find(|consent| consent.pending_until.is_none());
        let Some(consent) = consent else {
            let agreed = locked(&self.bank_consents).get(user).map(|accounts| (**accounts).clone());
            let Some(accounts) = agreed.filter(|_| reason == MintReason::Connect) else {
                return Ok(None);
            };
            let (client, user) = (&self.client, user.clone());
            let pending = self.oauth.issue_pending(client, user, accounts, PENDING_TOKEN_LIFETIME);
            return Ok(Some(pending.await?));
        };
        if let Some(token) = self.cached_token(user, &consent.id).await? {
            return Ok(Some(token));
        }
        let token = self.oauth.issue_under(&consent.id).await?;
        if let Some(token) = &token {
            locked(&self.issued).put(user.clone(), (consent.id.clone(), token.clone()));
        }
        Ok(token)
    }

    async fn connected(&self, user: &UserId) -> Result<(), Source> {
        Ok(self.oauth.confirm(&self.client, user).await?)
    }

    async fn end(&self, user: &UserId, up_to: DateTime<Utc>) -> Result<RemainingGrants, Source> {
        locked(&self.issued).pop(user);
        self.oauth.revoke_client(&self.client, user, up_to).await?;
        Ok(match self.oauth.consents(&self.client, user).await?.is_empty() {
            true => RemainingGrants::None,
            false => RemainingGrants::Newer,
        })
    }

    async fn connect_cancelled(&self, user: &UserId) -> Result<(), Source> {
        Ok(self.oauth.revoke_pending(&self.client, user).await?)
    }
}

impl fmt::Debug for OAuthTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuthTokens").field("client", &self.client).finish_non_exhaustive()
    }
}
