//! Tokens that belong to a user's consent: issued under it and revoked with it.

use super::{Digest, GrantRecord, OAuth, Swap, VersionedGrant, store::StoreError};
use crate::{Error, PermittedAccounts};
use chrono::{DateTime, Utc};
use px_types::{AccessToken, ClientId, UserId};
use std::{sync::Arc, time::Duration};

/// Maximum number of live tokens under one consent. A further one revokes the oldest.
const MAX_TOKENS_PER_CONSENT: usize = 16;

fn unavailable(source: StoreError) -> Error {
    Error::unavailable().with_source(source)
}

impl OAuth {
    /// Returns the active consents of a user to a client, latest first.
    ///
    /// Grants that were issued [under](Self::issue_under) a consent are not included;
    /// [pending](Self::issue_pending) ones are.
    ///
    /// # Errors
    /// [`Error::unavailable`] if the store fails.
    pub async fn consents(
        &self,
        client: &ClientId,
        principal: &UserId,
    ) -> Result<Vec<Arc<GrantRecord>>, Error> {
        let now = self.now();
        let grants = self.0.store.find_by_principal(principal).await.map_err(unavailable)?;
        let mut consents: Vec<_> = grants
            .into_iter()
            .map(|grant| grant.record)
            .filter(|grant| grant.client_id == *client && grant.parent.is_none())
            .filter(|grant| grant.is_active(now))
            .collect();
        consents.sort_by_key(|grant| std::cmp::Reverse(grant.granted_at));
        Ok(consents)
    }

    /// Issues an access token with the permissions of a consent, which ends with the consent.
    /// Returns `None` if the consent is not active.
    ///
    /// Use it for a token that the bank passes to the client itself, for example in
    /// [`ImportItem`](px_types::plaid::ImportItem); a token with a grant of its own would
    /// outlive the consent. The token is refused as soon as the consent ends, by a revocation
    /// or otherwise. One consent has at most 16 live tokens; a further one revokes the oldest.
    ///
    /// # Errors
    /// [`Error::unavailable`] if the store fails.
    pub async fn issue_under(&self, consent_id: &str) -> Result<Option<AccessToken>, Error> {
        let now = self.now();
        let found = self.0.store.find_by_id(consent_id).await.map_err(unavailable)?;
        let Some(consent) = found.map(|found| found.record) else { return Ok(None) };
        if !consent.is_active(now) || consent.parent.is_some() {
            return Ok(None);
        }
        self.revoke_oldest_children(&consent).await?;
        // The consent is checked at each use, so the token ends with it in any case.
        let ends_at = consent.ends_at;
        let token = self.secret();
        let mut record = GrantRecord::new(
            self.identifier(),
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

    /// Issues an access token for a user who has requested a connection and consents elsewhere,
    /// for example on Plaid's page.
    ///
    /// The token ends after `lifetime` unless it is [confirmed](Self::confirm) first; then it
    /// lives as long as a refresh token would.
    ///
    /// # Errors
    /// [`Error::unavailable`] if the store fails.
    pub async fn issue_pending(
        &self,
        client: &ClientId,
        principal: UserId,
        accounts: PermittedAccounts,
        lifetime: Duration,
    ) -> Result<AccessToken, Error> {
        let (now, token) = (self.now(), self.secret());
        let (id, ends_at) = (self.identifier(), self.ends_at(now));
        let scopes = self.0.scopes.clone();
        let mut record =
            GrantRecord::new(id, principal, client.clone(), scopes, accounts, now, ends_at)
                .with_access(Digest::of(&token), ends_at);
        record.pending_until = Some(now + super::delta(lifetime).min(ends_at - now));
        self.0.store.create(record).await.map_err(unavailable)?;
        Ok(AccessToken::new(token))
    }

    /// Confirms the [pending](Self::issue_pending) grants of a user to a client: the user has
    /// consented.
    ///
    /// # Errors
    /// [`Error::unavailable`] if the store fails.
    pub async fn confirm(&self, client: &ClientId, principal: &UserId) -> Result<(), Error> {
        for consent in self.consents(client, principal).await? {
            if consent.pending_until.is_some() {
                self.change(&consent.id, GrantRecord::confirm).await.map_err(unavailable)?;
            }
        }
        Ok(())
    }

    /// Revokes the [pending](Self::issue_pending) grants of a user to a client: the user has
    /// not consented.
    ///
    /// # Errors
    /// [`Error::unavailable`] if the store fails.
    pub async fn revoke_pending(&self, client: &ClientId, principal: &UserId) -> Result<(), Error> {
        for consent in self.consents(client, principal).await? {
            if consent.pending_until.is_some() {
                self.revoke_grant(&consent.id).await?;
            }
        }
        Ok(())
    }

    /// Revokes every grant of a user to a client that was given at or before `up_to`: the user
    /// stopped sharing data with that client.
    ///
    /// # Errors
    /// [`Error::unavailable`] if the store fails. Some grants may be revoked; call it again.
    pub async fn revoke_client(
        &self,
        client: &ClientId,
        principal: &UserId,
        up_to: DateTime<Utc>,
    ) -> Result<(), Error> {
        let grants = self.0.store.find_by_principal(principal).await.map_err(unavailable)?;
        for grant in grants.iter().map(|grant| &grant.record) {
            if grant.client_id == *client && grant.granted_at <= up_to {
                self.revoke_grant(&grant.id).await?;
            }
        }
        Ok(())
    }

    /// Returns whether an access token of this kit is valid now. Unlike a
    /// [verifier](Self::verifier), this does not count as a use of the token.
    ///
    /// # Errors
    /// [`Error::unavailable`] if the store fails.
    pub async fn is_valid(&self, token: &AccessToken) -> Result<bool, Error> {
        let digest = Digest::of(token.expose());
        let found = self.0.store.find(&digest).await.map_err(unavailable)?;
        let Some(grant) = found.map(|found| found.record) else { return Ok(false) };
        let is_good = grant.present(&digest, self.now()).outcome.is_ok();
        Ok(is_good && self.is_parent_active(&grant).await.map_err(unavailable)?)
    }

    /// Returns whether the consent of a grant is active; `true` for a consent itself.
    pub(super) async fn is_parent_active(&self, grant: &GrantRecord) -> Result<bool, StoreError> {
        let Some(parent) = &grant.parent else { return Ok(true) };
        let found = self.0.store.find_by_id(parent).await?;
        Ok(found.is_some_and(|found| found.record.is_active(self.now())))
    }

    /// Revokes the grants under a revoked grant.
    ///
    /// A grant that is missed here is still refused, by
    /// [`is_parent_active`](Self::is_parent_active).
    pub(super) async fn revoke_children(&self, revoked: &GrantRecord) -> Result<(), StoreError> {
        for grant in self.children(revoked).await? {
            self.change(&grant.record.id, |record, now| record.revoke(now).record).await?;
        }
        Ok(())
    }

    async fn revoke_oldest_children(&self, consent: &GrantRecord) -> Result<(), Error> {
        let now = self.now();
        let mut living = self.children(consent).await.map_err(unavailable)?;
        living.retain(|grant| grant.record.is_active(now));
        living.sort_by_key(|grant| grant.record.granted_at);
        let surplus = (living.len() + 1).saturating_sub(MAX_TOKENS_PER_CONSENT);
        for grant in living.iter().take(surplus) {
            self.change(&grant.record.id, |record, now| record.revoke(now).record)
                .await
                .map_err(unavailable)?;
        }
        Ok(())
    }

    async fn children(&self, consent: &GrantRecord) -> Result<Vec<VersionedGrant>, StoreError> {
        let mut grants = self.0.store.find_by_principal(&consent.principal).await?;
        grants.retain(|grant| grant.record.parent.as_deref() == Some(&consent.id));
        Ok(grants)
    }

    /// Changes one grant; retries if another change was stored first.
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
