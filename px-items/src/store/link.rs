//! Who is connected to an Item: what a link needs and gives, and whose an access token is.

use crate::connection::Connection;
use chrono::{DateTime, Utc};
use px_client::oauth::TokenSet;
use px_types::{AccountId, ApplicationId, InstitutionId, ItemId, UserId};
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
    /// The partner's tokens.
    pub tokens: TokenSet,
    /// The accounts that these tokens show, by the partner's ids; `None` is all of the user's.
    pub covers: Option<BTreeSet<AccountId>>,
    /// Who connects.
    pub holder: NewHolder,
    /// Of the token by which the holder reads from now on.
    pub access: AccessDigest,
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
        tokens: TokenSet,
        holder: NewHolder,
        access: AccessDigest,
        now: DateTime<Utc>,
    ) -> Self {
        Self { item_id, institution_id, user_id, tokens, covers: None, holder, access, now }
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
