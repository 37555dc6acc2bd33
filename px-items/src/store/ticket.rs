//! One-time tokens that open a page or are exchanged: what is kept of them.

use chrono::{DateTime, TimeDelta, Utc};
use px_client::oauth::{TokenDefect, TokenSet};
use px_core::Digest;
use px_types::{ApplicationId, InstitutionId, ItemId, PublicToken, UserId};
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::Zeroizing;

/// SHA-256 of a ticket's token; the token itself is not kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TicketDigest(pub [u8; 32]);

impl fmt::Debug for TicketDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketDigest(***)")
    }
}

/// What a ticket is for. A token of one kind is unknown as another kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TicketKind {
    /// Opens Plaid's page.
    Link,
    /// Is exchanged for an access token.
    Public,
    /// A user's way through Plaid's page.
    Session,
    /// A partner's tokens that no Item uses: see [`KeptTokens`].
    Tokens,
}

impl TicketKind {
    /// The name that stores keep, and that tokens begin with.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Public => "public",
            Self::Session => "session",
            Self::Tokens => "tokens",
        }
    }
}

/// A ticket as it is kept: its payload is sealed at rest.
#[derive(Clone)]
#[non_exhaustive]
pub struct Ticket {
    /// Of its token.
    pub digest: TicketDigest,
    /// What it is for.
    pub kind: TicketKind,
    /// What it stands for.
    pub payload: Zeroizing<Vec<u8>>,
    /// From then on it is as if it had never been.
    pub expires_at: DateTime<Utc>,
}

impl Ticket {
    /// A ticket.
    #[must_use]
    pub fn new(
        digest: TicketDigest,
        kind: TicketKind,
        payload: Zeroizing<Vec<u8>>,
        expires_at: DateTime<Utc>,
    ) -> Self {
        Self { digest, kind, payload, expires_at }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("kind", &self.kind)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// A partner's tokens that no Item uses, sealed as tickets are.
///
/// Either a link that needs them has not ended yet, or they must not be used: see
/// [`defect`](Self::defect). Such tokens are kept for [`KEPT_TOKENS_RETENTION`], under the digest of
/// their access token, and nothing reads with them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KeptTokens {
    /// The partner.
    pub institution_id: InstitutionId,
    /// The Item that they were requested for, if it was one.
    #[serde(default)]
    pub item_id: Option<ItemId>,
    /// The user that they were requested for, if that was known.
    #[serde(default)]
    pub user_id: Option<UserId>,
    /// The time at which they were stored.
    pub kept_at: DateTime<Utc>,
    /// Why they must not be used, if they must not.
    #[serde(default)]
    pub defect: Option<TokenDefect>,
    /// The tokens.
    pub tokens: TokenSet,
}

/// Retention of tokens that must not be used.
pub const KEPT_TOKENS_RETENTION: TimeDelta = TimeDelta::days(92);

impl KeptTokens {
    /// Tokens of a partner that are stored now.
    #[must_use]
    pub fn new(institution_id: InstitutionId, tokens: TokenSet, kept_at: DateTime<Utc>) -> Self {
        Self { institution_id, item_id: None, user_id: None, kept_at, defect: None, tokens }
    }

    /// Returns the ticket under which tokens are stored that must not be used.
    ///
    /// # Errors
    /// If they cannot be written as JSON.
    pub(crate) fn apart(self) -> serde_json::Result<Ticket> {
        let digest = TicketDigest(*Digest::of(self.tokens.access_token.expose()).as_bytes());
        let payload = Zeroizing::new(serde_json::to_vec(&self)?);
        let expires_at = self.kept_at + KEPT_TOKENS_RETENTION;
        Ok(Ticket::new(digest, TicketKind::Tokens, payload, expires_at))
    }
}

/// What a public token stands for: an application's place at an Item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PublicGrant {
    /// The Item.
    pub item_id: ItemId,
    /// The application; nobody else can exchange it.
    pub application_id: ApplicationId,
}

impl PublicGrant {
    /// An application's place at an Item.
    #[must_use]
    pub fn new(item_id: ItemId, application_id: ApplicationId) -> Self {
        Self { item_id, application_id }
    }
}

/// A public token that is made with a link, for the application that connects.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NewPublicToken {
    /// The token; only its digest is kept.
    pub token: PublicToken,
    /// Of the token.
    pub digest: TicketDigest,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
    /// Whether the application is told it by `LINK: ITEM_ADD_RESULT`, where it has an address;
    /// and whose Item it is told that it is.
    pub tell: Option<Whose>,
}

/// Whose Item it is, for the application that is told of it by webhook: the ids by which it knows
/// its user. An application that has more than one user cannot tell without.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Whose {
    /// What the partner gave as the application's id of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign_id: Option<String>,
    /// What the application itself gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_user_id: Option<String>,
}

impl Whose {
    /// By the id that the partner gave, if it gave one.
    #[must_use]
    pub fn by_partner(foreign_id: Option<String>) -> Self {
        Self { foreign_id, client_user_id: None }
    }

    /// By the id that the application itself gave.
    #[must_use]
    pub fn by_application(client_user_id: impl Into<String>) -> Self {
        Self { foreign_id: None, client_user_id: Some(client_user_id.into()) }
    }
}

impl NewPublicToken {
    /// A public token that only the caller learns.
    #[must_use]
    pub fn new(token: PublicToken, digest: TicketDigest, expires_at: DateTime<Utc>) -> Self {
        Self { token, digest, expires_at, tell: None }
    }
}
