//! Links: connecting applications to Items, changing and ending connections, and owners of access
//! tokens.

use super::{AuditRecord, NewPublicToken};
use crate::connection::{Connection, CursorKey, ScopeError};
use chrono::{DateTime, Utc};
use px_client::oauth::TokenSet;
use px_types::{AccountId, ApplicationId, InstitutionId, ItemId, UserId, model::scopes::Scopes};
use std::{collections::BTreeSet, fmt};

/// A request to connect an application, or the partner, to an Item.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NewLink {
    /// Id of the Item, if it has to be created.
    pub item_id: ItemId,
    /// Institution of the Item.
    pub institution_id: InstitutionId,
    /// User at the institution.
    pub user_id: UserId,
    /// The partner's tokens. `None` if the user did not authorize again; then the Item `item_id`
    /// must exist and keeps its tokens.
    pub tokens: Option<TokenSet>,
    /// The accounts that these tokens cover, by the partner's ids; `None` for all accounts of the
    /// user.
    pub covers: Option<BTreeSet<AccountId>>,
    /// The application or partner that connects.
    pub holder: NewHolder,
    /// Digest of the new access token. `None` issues none, and an existing one stays valid.
    pub access: Option<AccessDigest>,
    /// A public token, which the application exchanges for an access token.
    pub public_token: Option<NewPublicToken>,
    /// The audit entry and the notification. The partner is notified of an application that was not
    /// connected before.
    pub audit: AuditRecord,
    /// The present time.
    pub now: DateTime<Utc>,
}

/// The party that connects to an Item.
#[derive(Clone, Debug, PartialEq)]
pub enum NewHolder {
    /// An application.
    Application(Connection),
    /// The partner itself. It reads nothing, is not notified, and does not keep the Item.
    Partner,
}

impl NewLink {
    /// Creates a request to connect an application or the partner itself.
    #[must_use]
    pub fn new(
        (institution_id, user_id): (InstitutionId, UserId),
        item_id: ItemId,
        tokens: impl Into<Option<TokenSet>>,
        holder: NewHolder,
        access: impl Into<Option<AccessDigest>>,
        now: DateTime<Utc>,
    ) -> Self {
        Self {
            item_id,
            institution_id,
            user_id,
            tokens: tokens.into(),
            covers: None,
            holder,
            access: access.into(),
            public_token: None,
            audit: AuditRecord::default(),
            now,
        }
    }

    /// Returns the application that connects; `None` for the partner.
    #[must_use]
    pub fn application(&self) -> Option<&ApplicationId> {
        match &self.holder {
            NewHolder::Application(connection) => Some(&connection.application_id),
            NewHolder::Partner => None,
        }
    }
}

/// The result of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Linked {
    /// The Item.
    pub item_id: ItemId,
    /// Whether the Item was created.
    pub created: bool,
    /// Whether the Item had lost its authorization and has it again.
    pub repaired: bool,
}

impl Linked {
    /// Creates the result of a link.
    #[must_use]
    pub fn new(item_id: ItemId, created: bool, repaired: bool) -> Self {
        Self { item_id, created, repaired }
    }
}

/// The outcome of a disconnection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlinked {
    /// The connection does not exist.
    NotConnected,
    /// The application is disconnected; other applications remain connected.
    OthersStay,
    /// It was the last application: the Item was removed.
    ItemRemoved,
}

/// The SHA-256 digest of an access token. The token itself is not stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccessDigest(pub [u8; 32]);

impl fmt::Debug for AccessDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessDigest(***)")
    }
}

/// The owner of an access token.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Access {
    /// The Item.
    pub item_id: ItemId,
    /// Institution of the Item.
    pub institution_id: InstitutionId,
    /// The application; `None` for the partner itself.
    pub application_id: Option<ApplicationId>,
}

impl Access {
    /// Creates the owner of an access token.
    #[must_use]
    pub fn new(
        item_id: ItemId,
        institution_id: InstitutionId,
        application_id: Option<ApplicationId>,
    ) -> Self {
        Self { item_id, institution_id, application_id }
    }
}

/// A change of an existing connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionChange {
    /// The Item.
    pub item_id: ItemId,
    /// The application.
    pub application_id: ApplicationId,
    /// The new connection, or the part of it that changes.
    pub to: ChangeTo,
    /// The audit entry. It is written only if the application can see different data afterwards, or
    /// if its scopes were set.
    pub audit: AuditRecord,
    /// The present time.
    pub now: DateTime<Utc>,
}

/// The new values of a connection.
#[derive(Clone, Debug)]
pub enum ChangeTo {
    /// This connection.
    Connection(Connection),
    /// The same connection with [other scopes](Connection::with_scopes). The key replaces its
    /// cursor key, and is used if the application can see different data afterwards.
    Scopes(Scopes, CursorKey),
    /// The same connection with another webhook address, which receives
    /// `WEBHOOK_UPDATE_ACKNOWLEDGED`. `None` stops webhooks.
    Webhook(Option<String>),
}

impl ConnectionChange {
    /// Creates a change without an audit entry.
    #[must_use]
    pub fn new(
        item_id: ItemId,
        application_id: ApplicationId,
        to: ChangeTo,
        now: DateTime<Utc>,
    ) -> Self {
        Self { item_id, application_id, to, audit: AuditRecord::default(), now }
    }
}

/// The outcome of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// The change was made.
    Done,
    /// The connection does not exist.
    NotConnected,
    /// The scopes cannot be granted. Nothing was changed.
    Refused(ScopeError),
}
