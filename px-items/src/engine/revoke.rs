//! Revocation of tokens at partners: of removed Items, and of authorizations that were replaced.

use super::{
    Inner,
    failure::Failure,
    gate::{Deferral, Permit},
};
use crate::{
    metrics, schedule,
    store::{Revocation, RevocationDecision, RevocationStart, StoreError},
    sync_state::FailureKind,
};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use px_client::Error;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Maximum number of revocations under way, over all partners.
const MAX_CONCURRENT_REVOCATIONS: usize = 16;
/// Basis of the first retry delay, in seconds. A delay is at most three times the previous one.
const FIRST_RETRY_DELAY_SECS: u64 = 30;
/// Timeout of a revocation request. A link that brings these tokens waits as long.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

impl Inner {
    /// Revokes tokens that are due; never returns. `busy` is set while it must not be cancelled.
    pub(super) async fn revoke_periodically(self: &Arc<Self>, busy: &AtomicBool) {
        let mut signal = self.store.signals().revocations.listen();
        loop {
            busy.store(true, Ordering::Relaxed);
            self.revoke_due(self.clock.now()).await;
            busy.store(false, Ordering::Relaxed);
            tokio::select! {
                biased;
                () = signal.raised() => {}
                () = self.clock.sleep(self.settings.revoke_every) => {}
            }
        }
    }

    /// Revokes the tokens that are due by a given time. A slow partner does not delay the others.
    pub(super) async fn revoke_due(self: &Arc<Self>, due_by: DateTime<Utc>) {
        if !self.clock_is_right().await {
            return;
        }
        let mut under_way = FuturesUnordered::new();
        let mut more = true;
        loop {
            let free = MAX_CONCURRENT_REVOCATIONS - under_way.len();
            if more && free > 0 && !self.is_stopping() {
                let until = self.lease_end(self.clock.now());
                let due = match self.store.claim_revocations(due_by, until, free).await {
                    Ok(due) => due,
                    Err(error) => {
                        tracing::warn!(%error, "no revocation could be claimed");
                        Vec::new()
                    }
                };
                more = due.len() == free;
                under_way.extend(due.into_iter().map(|revocation| self.revoke(revocation)));
            }
            if under_way.next().await.is_none() {
                return;
            }
        }
    }

    async fn revoke(self: &Arc<Self>, revocation: Revocation) {
        let next_attempt_at = match self.try_to_revoke(&revocation).await {
            Ok(RevocationOutcome::Ended) => None,
            Ok(RevocationOutcome::Gone) => return,
            Ok(RevocationOutcome::Deferred(until)) => Some(until),
            Err(RevocationError::Partner(error)) => {
                self.next_attempt_at(&revocation, error.as_ref())
            }
            Err(RevocationError::Store(error)) => {
                tracing::warn!(
                    %error,
                    "the store failed during a revocation; it is repeated when its lease has run out"
                );
                return;
            }
        };
        if next_attempt_at.is_some() {
            metrics::revocation("again");
        }
        if let Err(error) = self.store.settle_revocation(&revocation, next_attempt_at).await {
            // The revocation is repeated when its lease has run out, which does no harm.
            tracing::warn!(%error, "a revocation could not be settled");
        }
    }

    async fn try_to_revoke(
        self: &Arc<Self>,
        revocation: &Revocation,
    ) -> Result<RevocationOutcome, RevocationError> {
        let institution = &revocation.institution_id;
        let partner = self.partners.partner(institution).ok_or(RevocationError::Partner(None))?;
        let mut tries = 0;
        let permit = loop {
            self.gates.prepare(institution, &partner.budget, 1).await;
            match self.gates.enter(institution, &partner.budget, self.settings.max_deferral_awaited)
            {
                Ok(permit) => break permit,
                // Another Item may have taken the permit that was leased for this one.
                Err(Deferral::AtLimit(_)) if tries < MAX_CONCURRENT_REVOCATIONS => tries += 1,
                Err(deferral) => return Ok(RevocationOutcome::Deferred(deferral.until())),
            }
        };
        self.gates.request(institution, &partner.budget).await;
        // From here on no link may bring these tokens until the request has ended.
        let now = self.clock.now();
        let sent_until = now + TimeDelta::from_std(RESPONSE_TIMEOUT).unwrap_or(TimeDelta::MAX);
        let mut start = RevocationStart::new(revocation, now, sent_until);
        start.ends_grant = partner.revocation_ends_grant;
        match self.store.begin_revocation(start).await.map_err(RevocationError::Store)? {
            RevocationDecision::Yes => {}
            RevocationDecision::InUse => {
                metrics::revocation("in_use");
                return Ok(RevocationOutcome::Gone);
            }
            RevocationDecision::Gone => return Ok(RevocationOutcome::Gone),
        }
        let response = tokio::select! {
            biased;
            response = partner.client.revoke_tokens(&revocation.tokens) => Some(response),
            () = self.clock.sleep(RESPONSE_TIMEOUT) => None,
        };
        match response {
            Some(Ok(())) => {
                permit.responded().await;
                metrics::revocation("revoked");
                Ok(RevocationOutcome::Ended)
            }
            Some(Err(error)) => {
                settle(permit, &Failure::of(&error)).await;
                Err(RevocationError::Partner(Some(error)))
            }
            None => {
                permit.failed(None).await;
                Err(RevocationError::Partner(None))
            }
        }
    }

    /// Returns the time of the next attempt, or `None` if the revocation is given up.
    fn next_attempt_at(
        &self,
        revocation: &Revocation,
        error: Option<&Error>,
    ) -> Option<DateTime<Utc>> {
        let now = self.clock.now();
        let institution = &revocation.institution_id;
        if now - revocation.created_at >= self.settings.revoke_for {
            metrics::revocation("given_up");
            tracing::warn!(%institution, "a partner did not revoke tokens; the revocation is given up");
            return None;
        }
        // As if every previous delay had been twice the one before.
        let last = FIRST_RETRY_DELAY_SECS << revocation.attempt.saturating_sub(1).min(12);
        let settings = &self.settings.schedule;
        let retry_at = error.and_then(Error::retry_at);
        let failure = (FailureKind::Network, retry_at);
        let retry = schedule::retry(settings, now, failure, last, &*self.random);
        tracing::debug!(%institution, attempt = revocation.attempt, "a partner did not revoke tokens");
        Some(retry.due_at)
    }
}

/// Reports a failed call to the partner's circuit.
async fn settle(permit: Permit, failure: &Failure) {
    if failure.partner_is_down() {
        permit.failed(failure.retry_at).await;
    } else if failure.is_internal() {
        permit.unknown().await;
    } else {
        permit.responded().await;
    }
}

/// Outcome of an attempt to revoke tokens.
enum RevocationOutcome {
    /// The partner revoked them.
    Ended,
    /// The tokens are in use, or another worker has the revocation.
    Gone,
    /// The partner is not called now.
    Deferred(DateTime<Utc>),
}

/// Reason why tokens were not revoked.
enum RevocationError {
    /// The partner failed; `None` if it did not respond in time or is not known.
    Partner(Option<Error>),
    Store(StoreError),
}
