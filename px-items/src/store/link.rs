//! Who is connected to an Item: what a link needs and gives, and whose an access token is.

use super::{NewPublicToken, Trail};
use crate::connection::{Connection, CursorKey, ScopeFault};
use chrono::{DateTime, Utc};
use px_client::oauth::TokenSet;
use px_types::{AccountId, ApplicationId, InstitutionId, ItemId, UserId, model::scopes::Scopes};
use std::{collections::BTreeSet, fmt};

/// What is needed to connect an application.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NewLink {
    /// The id of the Item, if it has to be made.
    pub item_id: ItemId,
    /// The institution.
    pub institution_id: InstitutionId,
    /// The user there.
    pub user_id: UserId,
    /// The partner's tokens. `None`: the user authorized nothing anew. The Item must be there then,
    /// under `item_id`, and keeps its own.
    pub tokens: Option<TokenSet>,
    /// The accounts that these tokens show, by the partner's ids; `None` is all of the user's.
    pub covers: Option<BTreeSet<AccountId>>,
    /// Who connects.
    pub holder: NewHolder,
    /// Of the token by which the holder reads from now on. `None`: it gets none now, and one that
    /// it has goes on.
    pub access: Option<AccessDigest>,
    /// To be exchanged by the application for an access token.
    pub public_token: Option<NewPublicToken>,
    /// What is noted of it. The partner is told of an application that was not connected before.
    pub trail: Trail,
    /// Now.
    pub now: DateTime<Utc>,
}

/// Who connects to an Item.
#[derive(Clone, Debug, PartialEq)]
pub enum NewHolder {
    /// An application.
    Application(Connection),
    /// The partner itself, which reads nothing, is told nothing and does not keep the Item.
    Partner,
}

impl NewLink {
    /// Connects an application, or the partner itself.
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
            trail: Trail::default(),
            now,
        }
    }

    /// The application that connects; `None` is the partner.
    #[must_use]
    pub fn application(&self) -> Option<&ApplicationId> {
        match &self.holder {
            NewHolder::Application(connection) => Some(&connection.application_id),
            NewHolder::Partner => None,
        }
    }
}

/// What became of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Linked {
    /// The Item.
    pub item_id: ItemId,
    /// Whether it was made.
    pub created: bool,
    /// Whether it had lost its authorization and has it again.
    pub repaired: bool,
}

impl Linked {
    /// What became of a link.
    #[must_use]
    pub fn new(item_id: ItemId, created: bool, repaired: bool) -> Self {
        Self { item_id, created, repaired }
    }
}

/// What became of an unlinking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlinked {
    /// There was no such connection.
    NotConnected,
    /// The application is off; others stay.
    OthersStay,
    /// It was the last one: the Item is gone.
    ItemRemoved,
}

/// SHA-256 of an access token; the token itself is not kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccessDigest(pub [u8; 32]);

impl fmt::Debug for AccessDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessDigest(***)")
    }
}

/// Whose an access token is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Access {
    /// The Item.
    pub item_id: ItemId,
    /// The institution of the Item.
    pub institution_id: InstitutionId,
    /// The application; `None` is the partner itself.
    pub application_id: Option<ApplicationId>,
}

impl Access {
    /// Whose an access token is.
    #[must_use]
    pub fn new(
        item_id: ItemId,
        institution_id: InstitutionId,
        application_id: Option<ApplicationId>,
    ) -> Self {
        Self { item_id, institution_id, application_id }
    }
}

/// A change of a connection that there is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionChange {
    /// The Item.
    pub item_id: ItemId,
    /// The application.
    pub application_id: ApplicationId,
    /// What becomes of its connection.
    pub to: ChangeTo,
    /// What is noted of it, unless the application sees what it saw.
    pub trail: Trail,
    /// Now.
    pub now: DateTime<Utc>,
}

/// What becomes of a connection.
#[derive(Clone, Debug)]
pub enum ChangeTo {
    /// This one.
    Connection(Connection),
    /// The same with [other scopes](Connection::with_scopes), and this key for its cursors if it
    /// sees something else then.
    Scopes(Scopes, CursorKey),
    /// The same with another address for webhooks, which is told so
    /// (`WEBHOOK_UPDATE_ACKNOWLEDGED`); `None` stops them.
    Webhook(Option<String>),
}

impl ConnectionChange {
    /// A change of which nothing is noted.
    #[must_use]
    pub fn new(
        item_id: ItemId,
        application_id: ApplicationId,
        to: ChangeTo,
        now: DateTime<Utc>,
    ) -> Self {
        Self { item_id, application_id, to, trail: Trail::default(), now }
    }
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// It was made.
    Done,
    /// There is no such connection.
    NotConnected,
    /// The scopes cannot be given; nothing was changed.
    Refused(ScopeFault),
}
