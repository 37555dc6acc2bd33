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
/// application; notices by notification. Records can be kept as JSON beside their keys. What a method says of "if" and "unless" must hold when
/// two do it at once: one statement or one transaction. Tokens are secrets.
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

    /// Keeps a notice, unless its notification is known: `false` then. With it, in the same
    /// transaction, the user's applications get the one that was linked, or lose the one that was
    /// unlinked.
    ///
    /// # Errors
    /// When the store is out of reach. For a user whom the bank does not know as well: Plaid
    /// tells again later, for the customer's row may be on its way.
    async fn add_notice(&self, notice: &Notice) -> Result<bool, Source>;

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
