//! Plaid's notifications of a user's applications, and notices for users.

use super::{
    Portal,
    error::PortalError,
    store::{Noted, Notice, NoticeKind},
};
use px_types::{UserId, partner::NewApplicationLinkNotification};

impl Portal {
    /// Processes a notification whose signature was checked: records a notice for its user and updates
    /// open pages. A notification that is known already changes nothing.
    ///
    /// Notifications arrive at least once and in any order. The list of applications is changed only
    /// if the notification [is the latest](Noted::is_latest) that is known of its application, and only
    /// then is there a reason to [`import`](Self::import). A notification of a link does not end a
    /// disconnection that the user has begun: it is not certain which of them was first, and the user can
    /// link again.
    ///
    /// # Errors
    /// If the records are out of reach or do not know the user. After an unlink that leaves no
    /// application, also if Plaid cannot be asked whether it was the last, or the bank's tokens
    /// cannot be ended. Respond with an error, and Plaid sends the notification again.
    pub async fn application_linked(
        &self,
        notification: &NewApplicationLinkNotification,
    ) -> Result<Noted, PortalError> {
        let user = &notification.user_id;
        let _turn = self.lock(user).await;
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
        let noted = self.store().add_notice(&notice).await.map_err(PortalError::store)?;
        if noted.is_new {
            tracing::info!(kind = ?notice.kind, late = !noted.is_latest, "a user has a notice");
            self.tell_watchers(user);
        }
        if noted.is_latest {
            match notice.kind {
                NoticeKind::Linked => self.keep_tokens(user).await?,
                NoticeKind::Unlinked if self.recorded(user).await?.is_empty() => {
                    self.end_if_last(user, notice.occurred_at.utc()).await?;
                }
                NoticeKind::Unlinked => {}
            }
        }
        Ok(noted)
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
        self.tell_watchers(user);
        Ok(())
    }
}
