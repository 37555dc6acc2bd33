//! Ending an application's access: first recorded at the bank, then sent to Plaid until it succeeds.

use super::{
    MintReason, Portal,
    error::{PortalError, PortalErrorKind},
    store::{Disconnection, DisconnectionState},
};
use crate::error::{Error as CallError, ErrorKind};
use chrono::{DateTime, TimeDelta, Utc};
use px_types::{ApplicationId, ItemAccessToken, UserId, plaid::UnlinkApplication};
use std::time::Duration;

/// The result of a first attempt to disconnect an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disconnected {
    /// Plaid has ended the application's access.
    Done,
    /// The disconnection is recorded. Plaid has not completed it yet and is called again until it succeeds.
    Underway,
}

/// The results of [`Portal::retry_due`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetrySummary {
    /// Number of completed disconnections.
    pub done: usize,
    /// Number of failed attempts; they are repeated later.
    pub waiting: usize,
}

/// Number of disconnections that are read from the records at once.
const MAX_DUE_PER_POLL: usize = 100;

/// Poll interval of [`Portal::run`].
const POLL_INTERVAL: Duration = Duration::from_secs(5);

impl Portal {
    /// Ends an application's access.
    ///
    /// The disconnection is recorded first and survives a crash from then on. If the call to Plaid fails,
    /// [`run`](Self::run) repeats it until it succeeds. Once Plaid has accepted it, every further call of the
    /// application is refused. Two concurrent disconnections count as one.
    ///
    /// With the last application the bank's own tokens for Plaid end too
    /// ([`MintToken::end`](super::MintToken::end)).
    ///
    /// It is complete if Plaid unlinked the application or does not list it, or if
    /// [`MintToken`](super::MintToken) makes no token for the user: then no data of the user can be read
    /// through this bank. A token that Plaid does not know proves nothing, because every import ends the
    /// previous token: then the Item is imported again and the call is repeated. Without a `MintToken` it is
    /// repeated until the store has a valid token.
    ///
    /// # Errors
    /// [`UnknownApplication`](PortalErrorKind::UnknownApplication) if the user has no such application;
    /// if the records are out of reach; or if Plaid is out of reach **and** the bank has no record of
    /// the application.
    pub async fn disconnect(
        &self,
        user: &UserId,
        application: &ApplicationId,
    ) -> Result<Disconnected, PortalError> {
        let _guard = self.lock(user).await;
        let earlier = self.stored_disconnection(user, application).await?;
        let disconnection = match earlier {
            Some(earlier) if earlier.is_pending() => earlier,
            // Another call has completed it meanwhile.
            Some(_) if !self.has_record_of(user, application).await? => {
                return Ok(Disconnected::Done);
            }
            _ => {
                self.check_is_connected(user, application).await?;
                let now = self.clock().now().into();
                let disconnection = Disconnection::begun(user.clone(), application.clone(), now);
                self.store()
                    .save_disconnection(&disconnection)
                    .await
                    .map_err(PortalError::store)?;
                tracing::info!("a user disconnects an application");
                self.notify_watchers(user);
                disconnection
            }
        };
        match self.try_to_end(&disconnection).await {
            Ok(()) => Ok(Disconnected::Done),
            // It is recorded, so it will be completed later.
            Err(_) => Ok(Disconnected::Underway),
        }
    }

    /// Repeats the disconnections that are due.
    ///
    /// [`run`](Self::run) calls it periodically. After a failure that would affect other disconnections too,
    /// the remaining ones are left for the next call.
    ///
    /// # Errors
    /// If the records are out of reach.
    pub async fn retry_due(&self, now: DateTime<Utc>) -> Result<RetrySummary, PortalError> {
        let mut summary = RetrySummary::default();
        let due = self.store().due_disconnections(now, MAX_DUE_PER_POLL).await;
        for disconnection in due.map_err(PortalError::store)? {
            let _guard = self.lock(&disconnection.user_id).await;
            // It may have been completed or attempted while this call waited for the lock.
            let stored = self
                .stored_disconnection(&disconnection.user_id, &disconnection.application_id)
                .await?;
            let due = |one: &Disconnection| one.is_pending() && one.state == disconnection.state;
            let Some(disconnection) = stored.filter(due) else { continue };
            let Err(error) = self.try_to_end(&disconnection).await else {
                summary.done += 1;
                continue;
            };
            summary.waiting += 1;
            if error.plaid().is_some_and(affects_all) {
                break;
            }
        }
        Ok(summary)
    }

    /// Repeats pending disconnections.
    ///
    /// Never returns: spawn it once in each process that serves the page.
    pub async fn run(&self) {
        loop {
            if let Err(error) = self.retry_due(self.clock().now()).await {
                tracing::warn!(%error, "due disconnections could not be repeated");
            }
            self.clock().sleep(POLL_INTERVAL).await;
        }
    }

    async fn stored_disconnection(
        &self,
        user: &UserId,
        application: &ApplicationId,
    ) -> Result<Option<Disconnection>, PortalError> {
        let all = self.store().disconnections(user).await.map_err(PortalError::store)?;
        Ok(all.into_iter().find(|one| one.application_id == *application))
    }

    /// Makes one attempt and records its result. The user's lock is held.
    async fn try_to_end(&self, disconnection: &Disconnection) -> Result<(), PortalError> {
        let (user, application) = (&disconnection.user_id, &disconnection.application_id);
        let now = || self.clock().now();
        let tried = self.end_at_plaid(disconnection).await;
        let mut after = disconnection.clone();
        match tried {
            Ok(()) => {
                after.state = DisconnectionState::Done { at: now().into() };
                let mut left = self.recorded(user).await?;
                left.retain(|one| one.application_id != *application);
                self.save_recorded(user, &left).await?;
                self.store().save_disconnection(&after).await.map_err(PortalError::store)?;
                tracing::info!("an application is disconnected");
                self.notify_watchers(user);
                Ok(())
            }
            Err(error) => {
                let attempts = match disconnection.state {
                    DisconnectionState::Pending { attempts, .. } => attempts.saturating_add(1),
                    DisconnectionState::Done { .. } => 1,
                };
                let requested = error.plaid().and_then(CallError::retry_at);
                let next_try = next_try(attempts, requested, now()).into();
                tracing::warn!(%error, cause = error.plaid().map(tracing::field::display),
                    attempts, "an application could not be disconnected yet; it is tried again later");
                after.state = DisconnectionState::Pending { attempts, next_try };
                self.store().save_disconnection(&after).await.map_err(PortalError::store)?;
                Err(error)
            }
        }
    }

    /// Ends the access at Plaid, or finds that there is none.
    ///
    /// A stored token that Plaid does not know proves nothing: an import by another process may have ended it
    /// while the application can still read. So the call is repeated with a new token, and Plaid's list of
    /// applications decides.
    async fn end_at_plaid(&self, disconnection: &Disconnection) -> Result<(), PortalError> {
        let (user, application) = (&disconnection.user_id, &disconnection.application_id);
        let before = self.store().token(user).await.map_err(PortalError::store)?;
        let unlinked = self
            .with_token(user, MintReason::View, |token| {
                let request = UnlinkApplication::new(token, application.clone());
                async move { self.client().unlink_application(request).await }
            })
            .await;
        let error = match unlinked {
            Ok(Some(_)) => return self.end_if_last(user, disconnection.begun_at.utc()).await,
            Ok(None) => return self.complete_unshared(disconnection).await,
            Err(error) => error,
        };
        if !error.plaid().is_some_and(is_refusal) {
            return Err(error);
        }
        // An earlier attempt may have succeeded although its response was lost, or the Item was removed.
        let Some(listed) = self.list_at_plaid(user).await? else {
            return self.complete_unshared(disconnection).await;
        };
        if listed.iter().any(|one| one.application_id == *application) {
            return Err(error);
        }
        if listed.is_empty() {
            self.remove_listing_item(user, before.as_ref()).await;
            self.end_tokens(user, disconnection.begun_at.utc()).await?;
        }
        Ok(())
    }

    /// Completes the disconnection of a user for whom the bank makes no token.
    ///
    /// No data of the user can be read through this bank. Without a [`MintToken`](super::MintToken) this is
    /// not certain.
    async fn complete_unshared(&self, disconnection: &Disconnection) -> Result<(), PortalError> {
        match self.makes_tokens() {
            true => self
                .end_tokens(&disconnection.user_id, disconnection.begun_at.utc())
                .await
                .map(drop),
            false => Err(PortalError::new(PortalErrorKind::NotShared)),
        }
    }

    /// Removes an Item without applications that was imported only to list them.
    ///
    /// If that fails, the Item stays, but no application can read it.
    async fn remove_listing_item(&self, user: &UserId, before: Option<&ItemAccessToken>) {
        let stored = self.store().token(user).await.ok().flatten();
        let Some(token) = stored.filter(|token| Some(token) != before) else { return };
        if let Err(error) = self.remove_item(user, token).await {
            tracing::warn!(%error, "an Item without applications could not be removed");
        }
    }
}

/// Returns whether Plaid understood the request and refused it.
pub(super) fn is_refusal(error: &CallError) -> bool {
    matches!(error.status(), Some(400 | 404 | 409 | 422))
}

/// Returns whether a failure would affect every other call too.
fn affects_all(error: &CallError) -> bool {
    !is_refusal(error) && error.kind() != ErrorKind::Decode
}

/// Returns the time of the next attempt.
///
/// The delay is 2 s, doubled each time up to 10 minutes; or what Plaid requests, up to 4 hours.
fn next_try(attempts: u32, requested: Option<DateTime<Utc>>, now: DateTime<Utc>) -> DateTime<Utc> {
    let own = TimeDelta::seconds((1_i64 << attempts.min(20)).min(600));
    let latest = now + TimeDelta::hours(4);
    (now + own).max(requested.unwrap_or(now).min(latest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_get_rarer_but_do_not_end() {
        let now: DateTime<Utc> = "2024-05-06T12:00:00Z".parse().unwrap();
        let after = |attempts, requested: Option<i64>| {
            let requested = requested.map(|seconds| now + TimeDelta::seconds(seconds));
            (next_try(attempts, requested, now) - now).num_seconds()
        };
        assert_eq!([1, 2, 9, 10, u32::MAX].map(|n| after(n, None)), [2, 4, 512, 600, 600]);
        assert_eq!([-9, 1, 90, 999_999].map(|at| after(1, Some(at))), [2, 2, 90, 4 * 3600]);
    }
}
