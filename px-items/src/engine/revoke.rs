//! Revoking tokens at partners: of Items that are gone, and of authorizations that were replaced.

use super::Inner;
use crate::{life::FailureKind, metrics, schedule, store::Revocation};
use chrono::{DateTime, Utc};
use px_client::Error;
use std::sync::atomic::{AtomicBool, Ordering};

/// How many are taken at once.
const AT_ONCE: usize = 10;
/// The wait after the first failure, as if one had gone before it; it triples at most each time.
const FIRST_WAIT_SECS: u64 = 30;

impl Inner {
    /// Revokes what is due, for ever. `busy` says when it must not be cut off.
    pub(super) async fn keep_revoking(&self, busy: &AtomicBool) {
        loop {
            busy.store(true, Ordering::Relaxed);
            self.revoke_due(self.clock.now()).await;
            busy.store(false, Ordering::Relaxed);
            self.clock.sleep(self.settings.revoke_every).await;
        }
    }

    /// Revokes what is due by a moment.
    pub(super) async fn revoke_due(&self, due_by: DateTime<Utc>) {
        loop {
            let until = self.lease_end(self.clock.now());
            let due = match self.store.claim_revocations(due_by, until, AT_ONCE).await {
                Ok(due) => due,
                Err(error) => {
                    tracing::warn!(%error, "no revocation could be claimed");
                    return;
                }
            };
            if due.is_empty() {
                return;
            }
            for revocation in due {
                self.revoke(revocation).await;
            }
            if self.is_stopping() {
                return;
            }
        }
    }

    async fn revoke(&self, revocation: Revocation) {
        let again_at = match self.ask(&revocation).await {
            Ok(()) => None,
            Err(error) => self.again_at(&revocation, error.as_ref()),
        };
        if again_at.is_some() {
            metrics::revocation("again");
        }
        if let Err(error) = self.store.settle_revocation(&revocation, again_at).await {
            // It is asked once more when its lease has run out, which does no harm.
            tracing::warn!(%error, "a revocation could not be settled");
        }
    }

    /// Asks the partner; the error is `None` when there is no such partner.
    async fn ask(&self, revocation: &Revocation) -> Result<(), Option<Error>> {
        let institution = &revocation.institution_id;
        let partner = self.partners.partner(institution).ok_or(None)?;
        self.gates.request(institution, &partner.budget).await;
        partner.client.revoke_tokens(&revocation.tokens).await.map_err(Some)?;
        metrics::revocation("revoked");
        Ok(())
    }

    /// When to ask again; `None` when enough was asked.
    fn again_at(&self, revocation: &Revocation, error: Option<&Error>) -> Option<DateTime<Utc>> {
        let now = self.clock.now();
        let institution = &revocation.institution_id;
        if now - revocation.created_at >= self.settings.revoke_for {
            metrics::revocation("given_up");
            tracing::warn!(%institution, "a partner did not revoke tokens; it is asked no more");
            return None;
        }
        // The wait as if every one before had been twice the last.
        let last = FIRST_WAIT_SECS << revocation.attempt.saturating_sub(1).min(12);
        let settings = &self.settings.schedule;
        let asked = error.and_then(Error::retry_at);
        let failure = (FailureKind::Network, asked);
        let retry = schedule::retry(settings, now, failure, last, &*self.random);
        tracing::debug!(%institution, attempt = revocation.attempt, "a partner did not revoke tokens");
        Some(retry.due_at)
    }
}
