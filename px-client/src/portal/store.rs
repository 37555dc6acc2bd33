//! The bank's own records: what a page needs when Plaid cannot be asked, and what must be
//! durable before Plaid is told.

use crate::error::Source;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use px_types::{
    AccountId, ApplicationId, ItemAccessToken, NotificationId, Timestamp, UserId,
    model::application::ConnectedApplication,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The bank's records of what its users share.
///
/// Four tables are enough: a token per user; applications and disconnections, both by user and
/// application; notices by notification. Records can be kept as JSON beside their keys. What a
/// method says of "if" and "unless" must hold when two do it at once: one statement or one
/// transaction. Tokens are secrets.
#[async_trait]
pub trait PortalStore: Send + Sync + fmt::Debug {
    /// The user's token at Plaid.
    ///
    /// # Errors
    /// When the store is out of reach, as with every method here.
    async fn token(&self, user: &UserId) -> Result<Option<ItemAccessToken>, Source>;

    /// Keeps the user's token, unless there is one already. Gives the one that is kept.
    ///
    /// # Errors
    /// When the store is out of reach.
    async fn keep_token(
        &self,
        user: &UserId,
        token: &ItemAccessToken,
    ) -> Result<ItemAccessToken, Source>;

    /// Forgets the user's token, if it is still this one.
    ///
    /// # Errors
    /// When the store is out of reach.
    async fn forget_token(&self, user: &UserId, token: &ItemAccessToken) -> Result<(), Source>;

    /// The user's applications, as they were kept last.
    ///
    /// # Errors
    /// When the store is out of reach.
    async fn applications(&self, user: &UserId) -> Result<Vec<ConnectedApplication>, Source>;

    /// Replaces the user's applications.
    ///
    /// # Errors
    /// When the store is out of reach.
    async fn keep_applications(
        &self,
        user: &UserId,
        applications: &[ConnectedApplication],
    ) -> Result<(), Source>;

    /// The user's disconnections, those that are done too.
    ///
    /// # Errors
    /// When the store is out of reach.
    async fn disconnections(&self, user: &UserId) -> Result<Vec<Disconnection>, Source>;

    /// Keeps a disconnection, in the place of an earlier one of the same user and application.
    /// When it returns, it survives a crash.
    ///
    /// # Errors
    /// When the store is out of reach.
    async fn keep_disconnection(&self, disconnection: &Disconnection) -> Result<(), Source>;

    /// Forgets a disconnection: the application was linked again.
    ///
    /// # Errors
    /// When the store is out of reach.
    async fn forget_disconnection(
        &self,
        user: &UserId,
        application: &ApplicationId,
    ) -> Result<(), Source>;

    /// Pending disconnections of all users whose next try is due, at most so many.
    ///
    /// # Errors
    /// When the store is out of reach.
    async fn due_disconnections(
        &self,
        now: DateTime<Utc>,
        at_most: usize,
    ) -> Result<Vec<Disconnection>, Source>;

    /// Keeps a notice, unless its notification is known, and says what became of it. With a new
    /// one, in the same transaction, the user's applications get the one that was linked, or lose
    /// the one that was unlinked.
    ///
    /// Notices come in any order. The list stays as it is when something later is known of the
    /// application, or else one that was disconnected would come back with a notice that was
    /// late: [`Notice::is_latest`] decides, over the user's other notices and disconnections.
    ///
    /// # Errors
    /// When the store is out of reach. For a user whom the bank does not know as well: Plaid
    /// tells again later, for the customer's row may be on its way.
    async fn add_notice(&self, notice: &Notice) -> Result<Noted, Source>;

    /// The user's notices, the latest first, at most so many.
    ///
    /// # Errors
    /// When the store is out of reach.
    async fn notices(&self, user: &UserId, at_most: usize) -> Result<Vec<Notice>, Source>;

    /// Marks all notices of the user as read.
    ///
    /// # Errors
    /// When the store is out of reach.
    async fn mark_notices_read(&self, user: &UserId) -> Result<(), Source>;
}

/// A user's wish to end an application's access, and how far it has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Disconnection {
    /// The user.
    pub user_id: UserId,
    /// The application.
    pub application_id: ApplicationId,
    /// When the user ended it.
    pub begun_at: Timestamp,
    /// How far it has come.
    pub state: DisconnectionState,
}

/// How far a disconnection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum DisconnectionState {
    /// Plaid has not done it yet.
    Pending {
        /// How often it was tried.
        attempts: u32,
        /// When it is tried again.
        next_try: Timestamp,
    },
    /// Plaid has done it.
    Done {
        /// When that was known.
        at: Timestamp,
    },
}

impl Disconnection {
    /// A wish that Plaid does not know of yet.
    #[must_use]
    pub fn begun(user_id: UserId, application_id: ApplicationId, at: Timestamp) -> Self {
        let state = DisconnectionState::Pending { attempts: 0, next_try: at };
        Self { user_id, application_id, begun_at: at, state }
    }

    /// Whether Plaid has not done it yet.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        matches!(self.state, DisconnectionState::Pending { .. })
    }
}

/// Something that a user is to be told, as an e-mail would.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Notice {
    /// The notification that it comes from.
    pub notification_id: NotificationId,
    /// The user.
    pub user_id: UserId,
    /// What happened.
    pub kind: NoticeKind,
    /// The application. Its texts are foreign: [`name`](Self::name) is fit to be shown.
    pub application: ConnectedApplication,
    /// The accounts that it may see; empty where Plaid does not say.
    #[serde(default)]
    pub account_ids: Vec<AccountId>,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// When the bank heard of it.
    pub recorded_at: Timestamp,
    /// Whether the user has seen it.
    pub read: bool,
}

impl Notice {
    /// The application's name, one short line. Foreign text: escape it.
    #[must_use]
    pub fn name(&self) -> String {
        super::view::name(&self.application)
    }

    /// Whether nothing later is known of its application: no other notice, and no disconnection
    /// that the user began at that moment or after. Of a link and an unlink at the same moment
    /// the unlink is the later one.
    ///
    /// A disconnection has the bank's time and a notice has Plaid's. Where their clocks differ,
    /// the list may be wrong until it is read from Plaid, as it is for every page.
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

/// What became of a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted {
    /// Whether it was kept now; else its notification was known, and nothing is done twice.
    pub is_new: bool,
    /// Whether nothing later is known of its application, so that the list follows it.
    pub is_latest: bool,
}

/// What a notice tells.
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
