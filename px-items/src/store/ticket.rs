//! Tickets: stored one-time tokens.

use chrono::{DateTime, TimeDelta, Utc};
use px_client::oauth::{TokenDefect, TokenSet};
use px_core::Digest;
use px_types::{ApplicationId, InstitutionId, ItemId, PublicToken, UserId};
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::Zeroizing;

/// The SHA-256 digest of a ticket's token. The token itself is not stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TicketDigest(pub [u8; 32]);

impl fmt::Debug for TicketDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketDigest(***)")
    }
}

/// The kind of a ticket. A token of one kind is not accepted as another kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TicketKind {
    /// A link token, which opens Plaid's page.
    Link,
    /// A public token, which is exchanged for an access token.
    Public,
    /// A session of a user on Plaid's page.
    Session,
    /// A partner's tokens that no Item uses; see [`UnlinkedTokens`].
    Tokens,
}

impl TicketKind {
    /// Returns the name under which stores save it. Tokens begin with it, too.
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

/// A stored ticket. Stores seal its payload.
#[derive(Clone)]
#[non_exhaustive]
pub struct Ticket {
    /// Digest of the token.
    pub digest: TicketDigest,
    /// Kind of the ticket.
    pub kind: TicketKind,
    /// Data that the ticket stands for.
    pub payload: Zeroizing<Vec<u8>>,
    /// Time of expiry. After it the ticket is treated as unknown.
    pub expires_at: DateTime<Utc>,
}

impl Ticket {
    /// Creates a ticket.
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

/// A partner's tokens that no Item uses, stored like tickets.
///
/// Either a link that needs them is in progress, or they must not be used: see
/// [`defect`](Self::defect). Unusable tokens are stored for [`UNLINKED_TOKENS_RETENTION`] under the
/// digest of their access token, and are never used for requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UnlinkedTokens {
    /// Institution of the partner.
    pub institution_id: InstitutionId,
    /// The Item that they were requested for, if it existed.
    #[serde(default)]
    pub item_id: Option<ItemId>,
    /// The user that they were requested for, if known.
    #[serde(default)]
    pub user_id: Option<UserId>,
    /// Time at which they were stored.
    pub kept_at: DateTime<Utc>,
    /// Reason why they must not be used, if there is one.
    #[serde(default)]
    pub defect: Option<TokenDefect>,
    /// The tokens.
    pub tokens: TokenSet,
}

/// Retention of tokens that must not be used.
pub const UNLINKED_TOKENS_RETENTION: TimeDelta = TimeDelta::days(92);

impl UnlinkedTokens {
    /// Creates a record of a partner's tokens that are stored at `kept_at`.
    #[must_use]
    pub fn new(institution_id: InstitutionId, tokens: TokenSet, kept_at: DateTime<Utc>) -> Self {
        Self { institution_id, item_id: None, user_id: None, kept_at, defect: None, tokens }
    }

    /// Returns the ticket that stores tokens that must not be used.
    ///
    /// # Errors
    /// If they cannot be serialized as JSON.
    pub(crate) fn apart(self) -> serde_json::Result<Ticket> {
        let digest = TicketDigest(*Digest::of(self.tokens.access_token.expose()).as_bytes());
        let payload = Zeroizing::new(serde_json::to_vec(&self)?);
        let expires_at = self.kept_at + UNLINKED_TOKENS_RETENTION;
        Ok(Ticket::new(digest, TicketKind::Tokens, payload, expires_at))
    }
}

/// The payload of a public token: a connection of an application to an Item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PublicGrant {
    /// The Item.
    pub item_id: ItemId,
    /// The only application that can exchange the token.
    pub application_id: ApplicationId,
}

impl PublicGrant {
    /// Creates the payload of a public token.
    #[must_use]
    pub fn new(item_id: ItemId, application_id: ApplicationId) -> Self {
        Self { item_id, application_id }
    }
}

/// A new public token for the application that a link connects.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NewPublicToken {
    /// The token. Only its digest is stored.
    pub token: PublicToken,
    /// Digest of the token.
    pub digest: TicketDigest,
    /// Time of expiry.
    pub expires_at: DateTime<Utc>,
    /// User ids for the webhook `LINK: ITEM_ADD_RESULT`, which delivers the token to the
    /// application's address, if it has one. `None` sends no webhook.
    pub tell: Option<ApplicationUser>,
}

/// The ids by which an application knows the user of a new Item.
///
/// An application with several users needs them to attribute the webhook to one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ApplicationUser {
    /// The application's id of the user, as the partner returned it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign_id: Option<String>,
    /// The id that the application passed itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_user_id: Option<String>,
}

impl ApplicationUser {
    /// Creates a reference from the id that the partner returned, if any.
    #[must_use]
    pub fn by_partner(foreign_id: Option<String>) -> Self {
        Self { foreign_id, client_user_id: None }
    }

    /// Creates a reference from the id that the application passed.
    #[must_use]
    pub fn by_application(client_user_id: impl Into<String>) -> Self {
        Self { foreign_id: None, client_user_id: Some(client_user_id.into()) }
    }
}

impl NewPublicToken {
    /// Creates a public token that is returned only to the caller.
    #[must_use]
    pub fn new(token: PublicToken, digest: TicketDigest, expires_at: DateTime<Utc>) -> Self {
        Self { token, digest, expires_at, tell: None }
    }
}
