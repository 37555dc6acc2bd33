//! Revoking tokens at partners: of Items that are gone, and of authorizations that were replaced.

use super::{
    Inner,
    failure::Failure,
    gate::{Permit, PutOff},
};
use crate::{
    life::FailureKind,
    metrics, schedule,
    store::{MayRevoke, Revocation, RevocationStart, StoreError},
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

/// How many revocations are under way at once, over all partners.
const AT_ONCE: usize = 16;
/// The wait after the first failure, as if one had gone before it; it triples at most each time.
const FIRST_WAIT_SECS: u64 = 30;
/// How long a partner may take. A link that brings these tokens waits as long.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

impl Inner {
    /// Revokes what is due, for ever. `busy` says when it must not be cut off.
    pub(super) async fn keep_revoking(self: &Arc<Self>, busy: &AtomicBool) {
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

    /// Revokes what is due by a moment. A partner that is slow holds up no other one.
    pub(super) async fn revoke_due(self: &Arc<Self>, due_by: DateTime<Utc>) {
        if !self.clock_is_right().await {
            return;
        }
        let mut under_way = FuturesUnordered::new();
        let mut more = true;
        loop {
            let room = AT_ONCE - under_way.len();
            if more && room > 0 && !self.is_stopping() {
                let until = self.lease_end(self.clock.now());
                let due = match self.store.claim_revocations(due_by, until, room).await {
                    Ok(due) => due,
                    Err(error) => {
                        tracing::warn!(%error, "no revocation could be claimed");
                        Vec::new()
                    }
                };
                more = due.len() == room;
                under_way.extend(due.into_iter().map(|revocation| self.revoke(revocation)));
            }
            if under_way.next().await.is_none() {
                return;
            }
        }
    }

    async fn revoke(self: &Arc<Self>, revocation: Revocation) {
        let again_at = match self.try_to_revoke(&revocation).await {
            Ok(Done::Ended) => None,
            Ok(Done::Gone) => return,
            Ok(Done::Deferred(until)) => Some(until),
            Err(Fault::Partner(error)) => self.again_at(&revocation, error.as_ref()),
            Err(Fault::Store(error)) => {
                tracing::warn!(%error, "a revocation waits for its lease to run out");
                return;
            }
        };
        if again_at.is_some() {
            metrics::revocation("again");
        }
        if let Err(error) = self.store.settle_revocation(&revocation, again_at).await {
            // It is sent once more when its lease has run out, which does no harm.
            tracing::warn!(%error, "a revocation could not be settled");
        }
    }

    async fn try_to_revoke(self: &Arc<Self>, revocation: &Revocation) -> Result<Done, Fault> {
        let institution = &revocation.institution_id;
        let partner = self.partners.partner(institution).ok_or(Fault::Partner(None))?;
        let mut tries = 0;
        let permit = loop {
            self.gates.prepare(institution, &partner.budget, 1).await;
            match self.gates.enter(institution, &partner.budget, self.settings.max_deferral_awaited)
            {
                Ok(permit) => break permit,
                // Another one may have taken the permit that was leased for this one.
                Err(PutOff::Crowded(_)) if tries < AT_ONCE => tries += 1,
                Err(put_off) => return Ok(Done::Deferred(put_off.until())),
            }
        };
        self.gates.request(institution, &partner.budget).await;
        // From here on no link may bring these tokens until the request has ended.
        let now = self.clock.now();
        let sent_until = now + TimeDelta::from_std(RESPONSE_TIMEOUT).unwrap_or(TimeDelta::MAX);
        let mut start = RevocationStart::new(revocation, now, sent_until);
        start.ends_grant = partner.revocation_ends_grant;
        match self.store.begin_revocation(start).await.map_err(Fault::Store)? {
            MayRevoke::Yes => {}
            MayRevoke::InUse => {
                metrics::revocation("in_use");
                return Ok(Done::Gone);
            }
            MayRevoke::Gone => return Ok(Done::Gone),
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
                Ok(Done::Ended)
            }
            Some(Err(error)) => {
                settle(permit, &Failure::of(&error)).await;
                Err(Fault::Partner(Some(error)))
            }
            None => {
                permit.failed(None).await;
                Err(Fault::Partner(None))
            }
        }
    }

    /// When to try again; `None` when it was tried for long enough.
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

/// Reports a failed call to the partner's circuit.
async fn settle(permit: Permit, failure: &Failure) {
    if failure.partner_is_down() {
        permit.failed(failure.retry_at).await;
    } else if failure.is_ours() {
        permit.unknown().await;
    } else {
        permit.responded().await;
    }
}

/// What an attempt to revoke tokens came to.
enum Done {
    /// The partner revoked them.
    Ended,
    /// They are in use, or another worker has the revocation.
    Gone,
    /// The partner is not called now.
    Deferred(DateTime<Utc>),
}

/// Why tokens were not revoked.
enum Fault {
    /// The partner failed; `None` if it did not respond in time or is not known.
    Partner(Option<Error>),
    Store(StoreError),
}
