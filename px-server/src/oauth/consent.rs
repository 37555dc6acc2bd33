//! Tokens that hang on a user's consent: given under it, and ended with it.

use super::{Digest, GrantRecord, OAuth, Swap, Versioned, store::StoreError};
use crate::{Error, PermittedAccounts};
use chrono::{DateTime, Utc};
use px_types::{AccessToken, ClientId, UserId};
use std::{sync::Arc, time::Duration};

/// Maximum number of living tokens under one consent. Beyond it the oldest ends.
const MAX_UNDER_CONSENT: usize = 16;

fn unavailable(source: StoreError) -> Error {
    Error::unavailable().with_source(source)
}

impl OAuth {
    /// Returns the consents of a user to a client that hold, the latest first.
    ///
    /// Grants that were given [under](Self::issue_under) a consent are not among them; those that
    /// are [pending](Self::issue_pending) are.
    ///
    /// # Errors
    /// Unavailable if the store fails.
    pub async fn consents(
        &self,
        client: &ClientId,
        principal: &UserId,
    ) -> Result<Vec<Arc<GrantRecord>>, Error> {
        let now = self.now();
        let grants = self.0.store.of_principal(principal).await.map_err(unavailable)?;
        let mut consents: Vec<_> = grants
            .into_iter()
            .map(|grant| grant.record)
            .filter(|grant| grant.client_id == *client && grant.parent.is_none())
            .filter(|grant| grant.holds(now))
            .collect();
        consents.sort_by_key(|grant| std::cmp::Reverse(grant.granted_at));
        Ok(consents)
    }

    /// Issues an access token that shows what a consent shows, and ends with it. Returns `None` if
    /// the consent does not hold.
    ///
    /// For a token that the bank hands to the client itself, such as
    /// [`ImportItem`](px_types::plaid::ImportItem): one of its own would outlive the consent. It is
    /// refused as soon as the consent ends, by a revocation or otherwise. At most 16 live under
    /// one consent; the next one ends the oldest.
    ///
    /// # Errors
    /// Unavailable if the store fails.
    pub async fn issue_under(&self, consent_id: &str) -> Result<Option<AccessToken>, Error> {
        let now = self.now();
        let found = self.0.store.find_by_id(consent_id).await.map_err(unavailable)?;
        let Some(consent) = found.map(|found| found.record) else { return Ok(None) };
        if !consent.holds(now) || consent.parent.is_some() {
            return Ok(None);
        }
        self.end_oldest_under(&consent).await?;
        // The consent is looked at with each use, so its end is this one's, whenever that is.
        let ends_at = consent.ends_at;
        let token = self.secret();
        let mut record = GrantRecord::new(
            self.name(),
            consent.principal.clone(),
            consent.client_id.clone(),
            consent.scopes.clone(),
            consent.accounts.clone(),
            now,
            ends_at,
        );
        record.parent = Some(consent.id.clone());
        let record = record.with_access(Digest::of(&token), ends_at);
        self.0.store.create(record).await.map_err(unavailable)?;
        Ok(Some(AccessToken::new(token)))
    }

    /// Issues an access token for a user who has asked to connect something and consents elsewhere,
    /// such as on Plaid's page. It ends after `lifetime`, unless it is [confirmed](Self::confirm)
    /// before; then it lives as long as a refresh token would.
    ///
    /// # Errors
    /// Unavailable if the store fails.
    pub async fn issue_pending(
        &self,
        client: &ClientId,
        principal: UserId,
        accounts: PermittedAccounts,
        lifetime: Duration,
    ) -> Result<AccessToken, Error> {
        let (now, token) = (self.now(), self.secret());
        let (id, ends_at) = (self.name(), self.ends_at(now));
        let scopes = self.0.scopes.clone();
        let mut record =
            GrantRecord::new(id, principal, client.clone(), scopes, accounts, now, ends_at)
                .with_access(Digest::of(&token), ends_at);
        record.pending_until = Some(now + super::delta(lifetime).min(ends_at - now));
        self.0.store.create(record).await.map_err(unavailable)?;
        Ok(AccessToken::new(token))
    }

    /// Confirms what is [pending](Self::issue_pending): the user has consented.
    ///
    /// # Errors
    /// Unavailable if the store fails.
    pub async fn confirm(&self, client: &ClientId, principal: &UserId) -> Result<(), Error> {
        for consent in self.consents(client, principal).await? {
            if consent.pending_until.is_some() {
                self.change(&consent.id, GrantRecord::confirm).await.map_err(unavailable)?;
            }
        }
        Ok(())
    }

    /// Revokes what is [pending](Self::issue_pending): the user has not consented.
    ///
    /// # Errors
    /// Unavailable if the store fails.
    pub async fn revoke_pending(&self, client: &ClientId, principal: &UserId) -> Result<(), Error> {
        for consent in self.consents(client, principal).await? {
            if consent.pending_until.is_some() {
                self.revoke_grant(&consent.id).await?;
            }
        }
        Ok(())
    }

    /// Revokes every grant of a user to a client that began up to a moment: the user has ended
    /// what was shared with that client.
    ///
    /// # Errors
    /// Unavailable if the store fails; some grants may be revoked by then. Call it again.
    pub async fn revoke_client(
        &self,
        client: &ClientId,
        principal: &UserId,
        up_to: DateTime<Utc>,
    ) -> Result<(), Error> {
        let grants = self.0.store.of_principal(principal).await.map_err(unavailable)?;
        for grant in grants.iter().map(|grant| &grant.record) {
            if grant.client_id == *client && grant.granted_at <= up_to {
                self.revoke_grant(&grant.id).await?;
            }
        }
        Ok(())
    }

    /// Returns whether an access token of this kit is good now. Unlike a
    /// [verifier](Self::verifier) it does not count as a use of the token.
    ///
    /// # Errors
    /// Unavailable if the store fails.
    pub async fn is_good(&self, token: &AccessToken) -> Result<bool, Error> {
        let digest = Digest::of(token.expose());
        let found = self.0.store.find(&digest).await.map_err(unavailable)?;
        let Some(grant) = found.map(|found| found.record) else { return Ok(false) };
        let is_good = grant.present(&digest, self.now()).outcome.is_ok();
        Ok(is_good && self.parent_holds(&grant).await.map_err(unavailable)?)
    }

    /// Returns whether the consent that a grant was given under holds; `true` for a consent itself.
    pub(super) async fn parent_holds(&self, grant: &GrantRecord) -> Result<bool, StoreError> {
        let Some(parent) = &grant.parent else { return Ok(true) };
        let found = self.0.store.find_by_id(parent).await?;
        Ok(found.is_some_and(|found| found.record.holds(self.now())))
    }

    /// Ends what was given under a grant that was revoked.
    ///
    /// Whatever is missed here is refused all the same, by [`parent_holds`](Self::parent_holds).
    pub(super) async fn end_under(&self, revoked: &GrantRecord) -> Result<(), StoreError> {
        for grant in self.under(revoked).await? {
            self.change(&grant.record.id, |record, now| record.revoke(now).record).await?;
        }
        Ok(())
    }

    async fn end_oldest_under(&self, consent: &GrantRecord) -> Result<(), Error> {
        let now = self.now();
        let mut living = self.under(consent).await.map_err(unavailable)?;
        living.retain(|grant| grant.record.holds(now));
        living.sort_by_key(|grant| grant.record.granted_at);
        let surplus = (living.len() + 1).saturating_sub(MAX_UNDER_CONSENT);
        for grant in living.iter().take(surplus) {
            self.change(&grant.record.id, |record, now| record.revoke(now).record)
                .await
                .map_err(unavailable)?;
        }
        Ok(())
    }

    async fn under(&self, consent: &GrantRecord) -> Result<Vec<Versioned>, StoreError> {
        let mut grants = self.0.store.of_principal(&consent.principal).await?;
        grants.retain(|grant| grant.record.parent.as_deref() == Some(&consent.id));
        Ok(grants)
    }

    /// Changes one grant, and again if another change came first.
    async fn change(
        &self,
        id: &str,
        change: impl Fn(&GrantRecord, DateTime<Utc>) -> Option<GrantRecord>,
    ) -> Result<(), StoreError> {
        loop {
            let Some(found) = self.0.store.find_by_id(id).await? else { return Ok(()) };
            let Some(record) = change(&found.record, self.now()) else { return Ok(()) };
            if self.0.store.swap(found.version, record).await? == Swap::Done {
                self.purge_caches(id);
                return Ok(());
            }
        }
    }
}
