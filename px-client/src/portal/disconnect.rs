//! Ending an application's access: the bank's record first, then Plaid, until it is done.

use super::{
    MintReason, Portal,
    error::{PortalError, PortalErrorKind},
    store::{Disconnection, DisconnectionState},
};
use crate::error::{Error as CallError, Kind};
use chrono::{DateTime, TimeDelta, Utc};
use px_types::{ApplicationId, ItemAccessToken, UserId, plaid::UnlinkApplication};
use std::time::Duration;

/// The result of a first attempt to disconnect an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disconnected {
    /// Plaid has ended the application's access.
    Done,
    /// The disconnection is recorded. Plaid was not reached and is called again until it succeeds.
    Underway,
}

/// The results of [`Portal::work_off`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkedOff {
    /// Number of completed disconnections.
    pub done: usize,
    /// Number of failed attempts; they are repeated later.
    pub waiting: usize,
}

/// Number of disconnections that are read from the records at once.
const AT_ONCE: usize = 100;

/// Poll interval of [`Portal::run`].
const LOOK: Duration = Duration::from_secs(5);

impl Portal {
    /// Ends an application's access.
    ///
    /// The disconnection is recorded first and survives a crash from then on. If Plaid cannot be
    /// reached, [`run`](Self::run) repeats the call until it succeeds. Once Plaid has responded, every
    /// further call of the application is refused. Two disconnections at once are one.
    ///
    /// With the last application the bank's own tokens for Plaid end too
    /// ([`MintToken::end`](super::MintToken::end)).
    ///
    /// It is complete if Plaid unlinked the application or does not list it, or if
    /// [`MintToken`](super::MintToken) makes no token for the user: then no data of the user can be read
    /// through this bank. A token that Plaid does not know proves nothing, because every import ends the
    /// token before: then the Item is imported again and the call is repeated. Without a `MintToken`
    /// it is repeated until the store has a valid token.
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
        let _turn = self.lock(user).await;
        let earlier = self.disconnection(user, application).await?;
        let wish = match earlier {
            Some(earlier) if earlier.is_pending() => earlier,
            // Another call has completed it at the same time.
            Some(_) if !self.has_record_of(user, application).await? => {
                return Ok(Disconnected::Done);
            }
            _ => {
                self.check_is_connected(user, application).await?;
                let now = self.clock().now().into();
                let wish = Disconnection::begun(user.clone(), application.clone(), now);
                self.store().keep_disconnection(&wish).await.map_err(PortalError::store)?;
                tracing::info!("a user disconnects an application");
                self.tell_watchers(user);
                wish
            }
        };
        match self.try_to_end(&wish).await {
            Ok(()) => Ok(Disconnected::Done),
            // It is recorded, so it will be completed.
            Err(_) => Ok(Disconnected::Underway),
        }
    }

    /// Repeats the disconnections that are due.
    ///
    /// [`run`](Self::run) calls it periodically. After a failure that would affect other disconnections
    /// too, the remaining ones are left for the next call.
    ///
    /// # Errors
    /// If the records are out of reach.
    pub async fn work_off(&self, now: DateTime<Utc>) -> Result<WorkedOff, PortalError> {
        let mut worked = WorkedOff::default();
        let due = self.store().due_disconnections(now, AT_ONCE).await;
        for wish in due.map_err(PortalError::store)? {
            let _turn = self.lock(&wish.user_id).await;
            // It may have been completed or tried while this waited for the lock.
            let kept = self.disconnection(&wish.user_id, &wish.application_id).await?;
            let due = |one: &Disconnection| one.is_pending() && one.state == wish.state;
            let Some(wish) = kept.filter(due) else { continue };
            let Err(error) = self.try_to_end(&wish).await else {
                worked.done += 1;
                continue;
            };
            worked.waiting += 1;
            if error.plaid().is_some_and(concerns_all) {
                break;
            }
        }
        Ok(worked)
    }

    /// Repeats pending disconnections. Never returns: spawn it once in each process that serves the page.
    pub async fn run(&self) {
        loop {
            if let Err(error) = self.work_off(self.clock().now()).await {
                tracing::warn!(%error, "disconnections wait");
            }
            self.clock().sleep(LOOK).await;
        }
    }

    async fn disconnection(
        &self,
        user: &UserId,
        application: &ApplicationId,
    ) -> Result<Option<Disconnection>, PortalError> {
        let all = self.store().disconnections(user).await.map_err(PortalError::store)?;
        Ok(all.into_iter().find(|one| one.application_id == *application))
    }

    /// Makes one attempt and records its result. The user's lock is held.
    async fn try_to_end(&self, wish: &Disconnection) -> Result<(), PortalError> {
        let (user, application) = (&wish.user_id, &wish.application_id);
        let now = || self.clock().now();
        let tried = self.end_at_plaid(wish).await;
        let mut after = wish.clone();
        match tried {
            Ok(()) => {
                after.state = DisconnectionState::Done { at: now().into() };
                let mut left = self.recorded(user).await?;
                left.retain(|one| one.application_id != *application);
                self.keep_recorded(user, &left).await?;
                self.store().keep_disconnection(&after).await.map_err(PortalError::store)?;
                tracing::info!("an application is disconnected");
                self.tell_watchers(user);
                Ok(())
            }
            Err(error) => {
                let attempts = match wish.state {
                    DisconnectionState::Pending { attempts, .. } => attempts.saturating_add(1),
                    DisconnectionState::Done { .. } => 1,
                };
                let asked = error.plaid().and_then(CallError::retry_at);
                let next_try = next_try(attempts, asked, now()).into();
                tracing::warn!(%error, cause = error.plaid().map(tracing::field::display),
                    attempts, "an application is not disconnected yet");
                after.state = DisconnectionState::Pending { attempts, next_try };
                self.store().keep_disconnection(&after).await.map_err(PortalError::store)?;
                Err(error)
            }
        }
    }

    /// Ends the access at Plaid, or finds that there is none.
    ///
    /// A stored token that Plaid does not know proves nothing: an import by another process may have
    /// ended it while the application reads on. So the call is repeated with a new one, and the list
    /// decides.
    async fn end_at_plaid(&self, wish: &Disconnection) -> Result<(), PortalError> {
        let (user, application) = (&wish.user_id, &wish.application_id);
        let before = self.store().token(user).await.map_err(PortalError::store)?;
        let unlinked = self
            .with_token(user, MintReason::View, |token| {
                let request = UnlinkApplication::new(token, application.clone());
                async move { self.client().unlink_application(request).await }
            })
            .await;
        let error = match unlinked {
            Ok(Some(_)) => return self.end_if_last(user, wish.begun_at.utc()).await,
            Ok(None) => return self.nothing_is_shared(wish).await,
            Err(error) => error,
        };
        if !error.plaid().is_some_and(is_refusal) {
            return Err(error);
        }
        // An earlier attempt whose response was lost may have succeeded, or the Item was removed before.
        let Some(listed) = self.list_at_plaid(user).await? else {
            return self.nothing_is_shared(wish).await;
        };
        if listed.iter().any(|one| one.application_id == *application) {
            return Err(error);
        }
        if listed.is_empty() {
            self.remove_what_was_made_to_look(user, before.as_ref()).await;
            self.end_tokens(user, wish.begun_at.utc()).await?;
        }
        Ok(())
    }

    /// Completes the disconnection of a user for whom the bank makes no token: no data of the user can be
    /// read through this bank. Without a [`MintToken`](super::MintToken) that is not known.
    async fn nothing_is_shared(&self, wish: &Disconnection) -> Result<(), PortalError> {
        match self.makes_tokens() {
            true => self.end_tokens(&wish.user_id, wish.begun_at.utc()).await.map(drop),
            false => Err(PortalError::new(PortalErrorKind::NotShared)),
        }
    }

    /// Removes an Item without applications that was imported only to list them. If that fails, the Item
    /// stays and nobody can read it.
    async fn remove_what_was_made_to_look(&self, user: &UserId, before: Option<&ItemAccessToken>) {
        let kept = self.store().token(user).await.ok().flatten();
        let Some(token) = kept.filter(|token| Some(token) != before) else { return };
        if let Err(error) = self.remove_item(user, token).await {
            tracing::warn!(%error, "an Item without an application stays");
        }
    }
}

/// Returns whether Plaid understood the request and refused it.
pub(super) fn is_refusal(error: &CallError) -> bool {
    matches!(error.status(), Some(400 | 404 | 409 | 422))
}

/// Returns whether a failure would affect every other call as well.
fn concerns_all(error: &CallError) -> bool {
    !is_refusal(error) && error.kind() != Kind::Decode
}

/// Returns the time of the next attempt: after 2 s, doubled each time up to 10 minutes, or when Plaid
/// requests it, up to 4 hours.
fn next_try(attempts: u32, asked: Option<DateTime<Utc>>, now: DateTime<Utc>) -> DateTime<Utc> {
    let own = TimeDelta::seconds((1_i64 << attempts.min(20)).min(600));
    let latest = now + TimeDelta::hours(4);
    (now + own).max(asked.unwrap_or(now).min(latest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_get_rarer_but_do_not_end() {
        let now: DateTime<Utc> = "2024-05-06T12:00:00Z".parse().unwrap();
        let after = |attempts, asked: Option<i64>| {
            let asked = asked.map(|seconds| now + TimeDelta::seconds(seconds));
            (next_try(attempts, asked, now) - now).num_seconds()
        };
        assert_eq!([1, 2, 9, 10, u32::MAX].map(|n| after(n, None)), [2, 4, 512, 600, 600]);
        assert_eq!([-9, 1, 90, 999_999].map(|at| after(1, Some(at))), [2, 2, 90, 4 * 3600]);
    }
}
