//! The bank's own tokens for Plaid: for whom they are made, and when they end.
//!
//! A token is made for a customer who shares, by a consent at an application's request or on the
//! bank's own site, and for nobody else: looking at a page is no consent. What Plaid does with one
//! is its matter, so the bank ends what it made as soon as its customer shares nothing.

use crate::ledger::{Ledger, grants::SqliteGrants, portal::SqlitePortal};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use lru::LruCache;
use px_client::portal::{Left, MintReason, MintToken, NoticeKind, PortalStore as _};
use px_core::{Clock, Digest};
use px_server::{
    PermittedAccounts,
    oauth::{GrantRecord, GrantStore as _, OAuth, StoreError},
};
use px_types::{AccessToken, ClientId, ScopeSet, UserId};
use std::{
    collections::HashMap,
    error::Error,
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The tokens that are remembered, to be shown again when an import failed.
const MADE: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();
/// The notices that are looked through for the latest unlink.
const NOTICES: usize = 100;

type Failed = Box<dyn Error + Send + Sync>;

/// The bank's tokens for Plaid, made by its OAuth server.
pub(super) struct OurTokens {
    ledger: Ledger,
    grants: SqliteGrants,
    records: SqlitePortal,
    oauth: OAuth,
    client: ClientId,
    clock: Arc<dyn Clock>,
    /// The consents that are being carried out, with the accounts of each.
    consents: Mutex<HashMap<UserId, Arc<PermittedAccounts>>>,
    /// The latest token of each user. Without it every import that fails would leave a grant.
    made: Mutex<LruCache<UserId, AccessToken>>,
}

impl fmt::Debug for OurTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OurTokens").finish_non_exhaustive()
    }
}

/// A customer's consent on the bank's own site. Until it is dropped, a token over its accounts is
/// made for the customer. Of several consents of one customer, the latest counts.
pub(crate) struct Consent {
    user: UserId,
    accounts: Arc<PermittedAccounts>,
    tokens: Arc<OurTokens>,
}

impl Drop for Consent {
    fn drop(&mut self) {
        let mut consents = locked(&self.tokens.consents);
        // A later consent of the same customer stays.
        if consents.get(&self.user).is_some_and(|latest| Arc::ptr_eq(latest, &self.accounts)) {
            consents.remove(&self.user);
        }
    }
}

/// Each change is complete before anything can panic, so a poisoned lock is sound.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OurTokens {
    pub(super) fn new(
        ledger: Ledger,
        oauth: OAuth,
        client: ClientId,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let grants = SqliteGrants::new(ledger.clone());
        let records = SqlitePortal::new(ledger.clone());
        let (consents, made) = (Mutex::default(), Mutex::new(LruCache::new(MADE)));
        Self { ledger, grants, records, oauth, client, clock, consents, made }
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub(super) fn consent_of(
        self: &Arc<Self>,
        user: &UserId,
        accounts: PermittedAccounts,
    ) -> Consent {
        let accounts = Arc::new(accounts);
        locked(&self.consents).insert(user.clone(), accounts.clone());
        Consent { user: user.clone(), accounts, tokens: self.clone() }
    }

    fn current_consent(&self, user: &UserId) -> Option<PermittedAccounts> {
        locked(&self.consents).get(user).map(|accounts| (**accounts).clone())
    }

    /// What Plaid may read of a user: the accounts of every grant that holds.
    pub(super) async fn shared(
        &self,
        user: &UserId,
    ) -> Result<Vec<PermittedAccounts>, super::TellError> {
        let grants = self.grants_of(user).await.map_err(super::TellError::Grants)?;
        Ok(grants.iter().map(|grant| grant.accounts.clone()).collect())
    }

    /// The grants of Plaid over a user's accounts that hold.
    async fn grants_of(&self, user: &UserId) -> Result<Vec<Arc<GrantRecord>>, StoreError> {
        let now = self.clock.now();
        let all = self.grants.of_principal(user).await?.into_iter().map(|found| found.record);
        Ok(all.filter(|grant| grant.client_id == self.client && holds(grant, now)).collect())
    }

    /// What the user shares with Plaid by a consent: the latest one that holds and counts.
    async fn consent(&self, user: &UserId) -> Result<Option<Arc<GrantRecord>>, Failed> {
        let minted = self.ledger.minted(user).await?;
        let grants = self.grants_of(user).await?.into_iter();
        // What was made for Plaid here is no consent of the user's.
        let consents = grants.filter(|grant| !minted.contains(&grant.id));
        let Some(latest) = consents.max_by_key(|grant| grant.granted_at) else { return Ok(None) };
        let ended = self.ended_at(user).await?;
        Ok(ended.is_none_or(|ended| latest.granted_at > ended).then_some(latest))
    }

    /// Returns the latest grant in force that was made by a consent on the bank's site. As long as
    /// there is one, the user shares something.
    async fn consented_here(&self, user: &UserId) -> Result<Option<Arc<GrantRecord>>, Failed> {
        let minted = self.ledger.minted(user).await?;
        let grants = self.grants_of(user).await?.into_iter();
        let ours = grants.filter(|grant| minted.contains(&grant.id));
        Ok(ours.max_by_key(|grant| grant.granted_at))
    }

    /// When the user stopped sharing; `None` for one who has not. Plaid revokes the consent a
    /// moment after its last application is gone, or later where the bank cannot be reached, and
    /// in between the consent must not be taken for a wish to share again.
    async fn ended_at(&self, user: &UserId) -> Result<Option<DateTime<Utc>>, Failed> {
        if self.has_applications(user).await? {
            return Ok(None);
        }
        let ended = self.records.disconnections(user).await?;
        let here = ended.iter().map(|one| one.begun_at.utc());
        let notices = self.records.notices(user, NOTICES).await?;
        let unlinks = notices.iter().filter(|notice| notice.kind == NoticeKind::Unlinked);
        Ok(here.chain(unlinks.map(|notice| notice.occurred_at.utc())).max())
    }

    async fn has_applications(&self, user: &UserId) -> Result<bool, Failed> {
        Ok(!self.records.applications(user).await?.is_empty())
    }

    /// The token that was made before, if it is still good and shows the same: the import that it
    /// was made for failed, or its answer was lost.
    async fn made_before(
        &self,
        user: &UserId,
        (scopes, accounts): (&ScopeSet, &PermittedAccounts),
    ) -> Result<Option<AccessToken>, Failed> {
        let made = locked(&self.made).get(user).cloned();
        let Some(token) = made else { return Ok(None) };
        let found = self.grants.find(&Digest::of(token.expose())).await?;
        let same = |grant: &GrantRecord| grant.accounts == *accounts && grant.scopes == *scopes;
        let good = |grant: &GrantRecord| holds(grant, self.clock.now()) && same(grant);
        Ok(found.is_some_and(|found| good(&found.record)).then_some(token))
    }

    /// Revokes the tokens that were made for a user, unless an application is connected.
    pub(super) async fn end_unused(&self, user: &UserId) -> Result<(), Failed> {
        if !self.has_applications(user).await? {
            self.end_all(user).await?;
        }
        Ok(())
    }

    /// The user shares nothing: what was made for Plaid ends.
    async fn end_all(&self, user: &UserId) -> Result<(), Failed> {
        locked(&self.made).pop(user);
        for grant in self.ledger.minted(user).await? {
            self.oauth.revoke_grant(&grant).await?;
            self.ledger.forget_minted(user, &grant).await?;
        }
        Ok(())
    }
}

fn holds(grant: &GrantRecord, now: DateTime<Utc>) -> bool {
    grant.revoked_at.is_none() && grant.keep_until() > now
}

#[async_trait]
impl MintToken for OurTokens {
    async fn mint(&self, user: &UserId, _: MintReason) -> Result<Option<AccessToken>, Failed> {
        let shared = match self.consent(user).await? {
            Some(consent) => Some(consent),
            // An application that is still there reads by what was made when it was connected.
            None if self.has_applications(user).await? => self.consented_here(user).await?,
            None => None,
        };
        let (scopes, accounts) = match (shared, self.current_consent(user)) {
            (Some(grant), _) => (grant.scopes.clone(), grant.accounts.clone()),
            (None, Some(accounts)) => (self.oauth.scopes().clone(), accounts),
            (None, None) => {
                self.end_all(user).await?;
                return Ok(None);
            }
        };
        if let Some(token) = self.made_before(user, (&scopes, &accounts)).await? {
            return Ok(Some(token));
        }
        let token = self.oauth.issue_for(&self.client, user.clone(), scopes, accounts).await?;
        if let Some(made) = self.grants.find(&Digest::of(token.expose())).await? {
            self.ledger.note_minted(user, &made.record.id).await?;
        }
        locked(&self.made).put(user.clone(), token.clone());
        Ok(Some(token))
    }

    async fn connected(&self, _: &UserId) -> Result<(), Failed> {
        Ok(())
    }

    async fn end(&self, user: &UserId, up_to: DateTime<Utc>) -> Result<Left, Failed> {
        locked(&self.made).pop(user);
        self.oauth.revoke_client(&self.client, user, up_to).await?;
        for grant in self.ledger.minted(user).await? {
            let found = self.grants.find_by_id(&grant).await?;
            if found.is_none_or(|found| found.record.revoked_at.is_some()) {
                self.ledger.forget_minted(user, &grant).await?;
            }
        }
        Ok(match self.grants_of(user).await?.is_empty() {
            true => Left::Nothing,
            false => Left::Later,
        })
    }
}
