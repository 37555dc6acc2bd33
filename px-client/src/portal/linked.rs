//! Plaid's notifications of a user's applications, and notices for users.

use super::{
    Portal,
    error::PortalError,
    store::{Notice, NoticeKind, NoticeOutcome},
};
use px_types::{UserId, partner::NewApplicationLinkNotification};

impl Portal {
    /// Processes a notification from Plaid after its signature was checked.
    ///
    /// Records a notice for the user and updates open pages. A notification that is already known changes
    /// nothing.
    ///
    /// Notifications arrive at least once and in any order. The list of applications is changed only if the
    /// notification [is the latest](NoticeOutcome::is_latest) for its application; only then is there a reason to
    /// [`import`](Self::import). A notification of a link does not end a disconnection that the user has
    /// begun: it is not certain which was first, and the user can link again.
    ///
    /// # Errors
    /// If the records are out of reach or do not know the user. After an unlink that leaves no application,
    /// also if Plaid does not respond whether it was the last one, or the bank's tokens cannot be ended.
    /// Respond with an error, and Plaid sends the notification again.
    pub async fn application_linked(
        &self,
        notification: &NewApplicationLinkNotification,
    ) -> Result<NoticeOutcome, PortalError> {
        let user = &notification.user_id;
        let _guard = self.lock(user).await;
        let notice = Notice {
            notification_id: notification.notification_id.clone(),
            user_id: user.clone(),
            kind: match notification.is_unlink() {
                true => NoticeKind::Unlinked,
                false => NoticeKind::Linked,
            },
            application: notification.application.clone(),
            account_ids: notification.account_ids.clone(),
            occurred_at: notification.occurred_at,
            recorded_at: self.clock().now().into(),
            read: false,
        };
        let outcome = self.store().add_notice(&notice).await.map_err(PortalError::store)?;
        if outcome.is_new {
            tracing::info!(kind = ?notice.kind, late = !outcome.is_latest, "a notice was recorded");
            self.notify_watchers(user);
        }
        if outcome.is_latest {
            match notice.kind {
                NoticeKind::Linked => self.confirm_tokens(user).await?,
                NoticeKind::Unlinked if self.recorded(user).await?.is_empty() => {
                    self.end_if_last(user, notice.occurred_at.utc()).await?;
                }
                NoticeKind::Unlinked => {}
            }
        }
        Ok(outcome)
    }

    /// Returns the user's notices, at most `at_most`, the latest first.
    ///
    /// # Errors
    /// If the records are out of reach.
    pub async fn notices(&self, user: &UserId, at_most: usize) -> Result<Vec<Notice>, PortalError> {
        self.store().notices(user, at_most).await.map_err(PortalError::store)
    }

    /// Marks the user's notices as read.
    ///
    /// # Errors
    /// If the records are out of reach.
    pub async fn mark_notices_read(&self, user: &UserId) -> Result<(), PortalError> {
        self.store().mark_notices_read(user).await.map_err(PortalError::store)?;
        self.notify_watchers(user);
        Ok(())
    }
}
