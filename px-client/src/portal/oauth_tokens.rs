//! The bank's tokens for Plaid, made by the OAuth kit of `px-server`.

use super::{Left, MintReason, MintToken};
use crate::error::Source;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use lru::LruCache;
use px_server::{PermittedAccounts, oauth::OAuth};
use px_types::{AccessToken, ClientId, UserId};
use std::{
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
/// and end with it. For a user who has asked to connect an application and shares nothing yet, it
/// makes a token over all accounts that ends within the hour, unless the application is connected
/// by then. With the user's last application it ends every token and consent of Plaid's.
///
/// ```
/// # use px_client::portal::OAuthTokens;
/// # use px_server::oauth::OAuth;
/// # fn example(oauth: OAuth) -> Result<(), Box<dyn std::error::Error>> {
/// // `plaid` is the client id that Plaid has at the bank.
/// let tokens = OAuthTokens::new(oauth, "plaid".parse()?);
/// # Ok(()) }
/// ```
pub struct OAuthTokens {
    oauth: OAuth,
    client: ClientId,
    /// The latest token of each user, with the id of its consent. Without it every import that
    /// fails would leave a token.
    made: Mutex<LruCache<UserId, (String, AccessToken)>>,
}

impl OAuthTokens {
    /// Makes tokens for a client of the kit: Plaid.
    #[must_use]
    pub fn new(oauth: OAuth, client: ClientId) -> Arc<Self> {
        Arc::new(Self { oauth, client, made: Mutex::new(LruCache::new(MAX_REMEMBERED)) })
    }

    /// Returns the token that was made before under a consent, if it is still good.
    async fn made_before(
        &self,
        user: &UserId,
        consent: &str,
    ) -> Result<Option<AccessToken>, Source> {
        let made = self.made().get(user).cloned();
        let Some((_, token)) = made.filter(|(under, _)| under == consent) else { return Ok(None) };
        Ok(self.oauth.is_good(&token).await?.then_some(token))
    }

    fn made(&self) -> MutexGuard<'_, LruCache<UserId, (String, AccessToken)>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl MintToken for OAuthTokens {
    async fn mint(&self, user: &UserId, reason: MintReason) -> Result<Option<AccessToken>, Source> {
        let consents = self.oauth.consents(&self.client, user).await?;
        // What waits for the user's consent is none.
        let consent = consents.iter().find(|consent| consent.pending_until.is_none());
        let Some(consent) = consent else {
            if reason != MintReason::Connect {
                return Ok(None);
            }
            let (client, user) = (&self.client, user.clone());
            let pending =
                self.oauth.issue_pending(client, user, PermittedAccounts::All, CONNECT_WITHIN);
            return Ok(Some(pending.await?));
        };
        if let Some(token) = self.made_before(user, &consent.id).await? {
            return Ok(Some(token));
        }
        let token = self.oauth.issue_under(&consent.id).await?;
        if let Some(token) = &token {
            self.made().put(user.clone(), (consent.id.clone(), token.clone()));
        }
        Ok(token)
    }

    async fn connected(&self, user: &UserId) -> Result<(), Source> {
        Ok(self.oauth.confirm(&self.client, user).await?)
    }

    async fn end(&self, user: &UserId, up_to: DateTime<Utc>) -> Result<Left, Source> {
        self.made().pop(user);
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
