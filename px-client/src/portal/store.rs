//! The bank's own records: data for pages while Plaid is out of reach, and data that must be durable before
//! Plaid is called.

use crate::error::Source;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use px_types::{
    AccountId, ApplicationId, ItemAccessToken, NotificationId, Timestamp, UserId,
    model::application::ConnectedApplication,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A store of the bank's records of what its users share.
///
/// Four tables are enough: a token per user; applications and disconnections, both by user and
/// application; notices by notification. Records can be stored as JSON beside their keys. The conditions
/// of a method must hold for concurrent calls too: use one statement or one transaction. Tokens are
/// secrets.
#[async_trait]
pub trait PortalStore: Send + Sync + fmt::Debug {
    /// Returns the user's token at Plaid.
    ///
    /// # Errors
    /// If the store is out of reach.
    async fn token(&self, user: &UserId) -> Result<Option<ItemAccessToken>, Source>;

    /// Stores the user's token, unless there is one already. Returns the stored one.
    ///
    /// # Errors
    /// If the store is out of reach.
    async fn save_token(
        &self,
        user: &UserId,
        token: &ItemAccessToken,
    ) -> Result<ItemAccessToken, Source>;

    /// Deletes the user's token, if it is still this one.
    ///
    /// # Errors
    /// If the store is out of reach.
    async fn delete_token(&self, user: &UserId, token: &ItemAccessToken) -> Result<(), Source>;

    /// Returns the user's applications, as they were stored last.
    ///
    /// # Errors
    /// If the store is out of reach.
    async fn applications(&self, user: &UserId) -> Result<Vec<ConnectedApplication>, Source>;

    /// Replaces the user's applications.
    ///
    /// # Errors
    /// If the store is out of reach.
    async fn save_applications(
        &self,
        user: &UserId,
        applications: &[ConnectedApplication],
    ) -> Result<(), Source>;

    /// Returns the user's disconnections, including completed ones.
    ///
    /// # Errors
    /// If the store is out of reach.
    async fn disconnections(&self, user: &UserId) -> Result<Vec<Disconnection>, Source>;

    /// Stores a disconnection and replaces an earlier one of the same user and application.
    ///
    /// Once the call has returned, it survives a crash.
    ///
    /// # Errors
    /// If the store is out of reach.
    async fn save_disconnection(&self, disconnection: &Disconnection) -> Result<(), Source>;

    /// Deletes a disconnection: the application was linked again.
    ///
    /// # Errors
    /// If the store is out of reach.
    async fn delete_disconnection(
        &self,
        user: &UserId,
        application: &ApplicationId,
    ) -> Result<(), Source>;

    /// Returns at most `at_most` pending disconnections of all users with a due next attempt.
    ///
    /// # Errors
    /// If the store is out of reach.
    async fn due_disconnections(
        &self,
        now: DateTime<Utc>,
        at_most: usize,
    ) -> Result<Vec<Disconnection>, Source>;

    /// Stores a notice, unless its notification is already known.
    ///
    /// In the same transaction, a linked application is added to the user's list, and an unlinked one is
    /// removed from it. Notices arrive in any order. The list is not changed if a later event of the
    /// application is known; otherwise a late notice would restore an application that was disconnected.
    /// [`Notice::is_latest`] decides this, given the user's other notices and disconnections.
    ///
    /// # Errors
    /// If the store is out of reach, or the bank does not know the user. Plaid sends the notification again
    /// later, because the customer's row may not be stored yet.
    async fn add_notice(&self, notice: &Notice) -> Result<NoticeOutcome, Source>;

    /// Returns the user's notices, at most `at_most`, the latest first.
    ///
    /// # Errors
    /// If the store is out of reach.
    async fn notices(&self, user: &UserId, at_most: usize) -> Result<Vec<Notice>, Source>;

    /// Marks all notices of the user as read.
    ///
    /// # Errors
    /// If the store is out of reach.
    async fn mark_notices_read(&self, user: &UserId) -> Result<(), Source>;
}

/// A user's request to end an application's access, and its state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Disconnection {
    /// The user.
    pub user_id: UserId,
    /// The application.
    pub application_id: ApplicationId,
    /// Time of the user's request.
    pub begun_at: Timestamp,
    /// The state.
    pub state: DisconnectionState,
}

/// The state of a disconnection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum DisconnectionState {
    /// Plaid has not done it yet.
    Pending {
        /// Number of attempts.
        attempts: u32,
        /// Time of the next attempt.
        next_try: Timestamp,
    },
    /// Plaid has done it.
    Done {
        /// Time of Plaid's response.
        at: Timestamp,
    },
}

impl Disconnection {
    /// Returns a disconnection that was not sent to Plaid yet.
    #[must_use]
    pub fn begun(user_id: UserId, application_id: ApplicationId, at: Timestamp) -> Self {
        let state = DisconnectionState::Pending { attempts: 0, next_try: at };
        Self { user_id, application_id, begun_at: at, state }
    }

    /// Returns whether Plaid has not completed it yet.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        matches!(self.state, DisconnectionState::Pending { .. })
    }
}

/// A notice for a user, such as an e-mail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Notice {
    /// The notification that caused it.
    pub notification_id: NotificationId,
    /// The user.
    pub user_id: UserId,
    /// The event.
    pub kind: NoticeKind,
    /// The application. Its texts are foreign: [`name`](Self::name) is safe to show.
    pub application: ConnectedApplication,
    /// The accounts that it may see; empty if Plaid does not list them.
    #[serde(default)]
    pub account_ids: Vec<AccountId>,
    /// Time of the event.
    pub occurred_at: Timestamp,
    /// Time at which the bank recorded it.
    pub recorded_at: Timestamp,
    /// Whether the user has read it.
    pub read: bool,
}

impl Notice {
    /// Returns the application's name as one short line. Foreign text: escape it.
    #[must_use]
    pub fn name(&self) -> String {
        super::view::name(&self.application)
    }

    /// Returns whether no later event of its application is known.
    ///
    /// Later events are later notices, and disconnections that the user began at that moment or later. If a
    /// link and an unlink have the same time, the unlink is the later one.
    ///
    /// A disconnection has the bank's time and a notice has Plaid's. If their clocks differ, the list may be
    /// wrong until it is next read from Plaid, as it is for every page.
    #[must_use]
    pub fn is_latest<'a>(
        &self,
        notices: impl IntoIterator<Item = &'a Self>,
        disconnections: impl IntoIterator<Item = &'a Disconnection>,
    ) -> bool {
        let (user, id) = (&self.user_id, &self.application.application_id);
        let order = |one: &Self| (one.occurred_at, one.kind == NoticeKind::Unlinked);
        let mut notices = notices
            .into_iter()
            .filter(|one| one.user_id == *user && one.application.application_id == *id);
        let mut disconnections = disconnections
            .into_iter()
            .filter(|one| one.user_id == *user && one.application_id == *id);
        notices.all(|one| order(one) <= order(self))
            && disconnections.all(|one| one.begun_at < self.occurred_at)
    }
}

/// The result of storing a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoticeOutcome {
    /// Whether the notice was stored now.
    ///
    /// Otherwise its notification was already known, and nothing is to be done again.
    pub is_new: bool,
    /// Whether no later event of its application is known, so that the list was updated.
    pub is_latest: bool,
}

/// The event of a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NoticeKind {
    /// An application was connected.
    Linked,
    /// An application was disconnected, from Plaid's side.
    Unlinked,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: u32) -> Timestamp {
        format!("2024-05-06T12:{minute:02}:00Z").parse().unwrap()
    }

    fn notice(user: &str, application: &str, kind: NoticeKind, minute: u32) -> Notice {
        let id = ApplicationId::new(application).unwrap();
        Notice {
            notification_id: NotificationId::new(format!("{minute}-{kind:?}")).unwrap(),
            user_id: UserId::new(user).unwrap(),
            kind,
            application: ConnectedApplication::new(id, "App", at(0)),
            account_ids: Vec::new(),
            occurred_at: at(minute),
            recorded_at: at(59),
            read: false,
        }
    }

    #[test]
    fn what_came_later_counts_whatever_order_it_is_heard_in() {
        use NoticeKind::{Linked, Unlinked};
        let (early, late) = (notice("u", "a", Linked, 1), notice("u", "a", Unlinked, 2));
        assert!(!early.is_latest([&late], []));
        assert!(late.is_latest([&early, &late], []), "itself among them");
        let others = [notice("u", "b", Unlinked, 3), notice("v", "a", Unlinked, 3)];
        assert!(early.is_latest(&others, []));
        let together = notice("u", "a", Unlinked, 1);
        assert!(!early.is_latest([&together], []) && together.is_latest([&early], []));
        for (begun, application, latest) in
            [(0, "a", true), (1, "a", false), (2, "a", false), (2, "b", true)]
        {
            let application = ApplicationId::new(application).unwrap();
            let ended = Disconnection::begun(early.user_id.clone(), application, at(begun));
            assert_eq!(early.is_latest([], [&ended]), latest, "{begun}");
        }
    }
}
