//! Tickets: link tokens, public tokens, and the sessions of Plaid's page.
//!
//! Each is valid once and for a limited time. The store contains the digest of its token, and its
//! payload, which is sealed.
//! [`Items::exchange_public_token`](crate::items::Items::exchange_public_token) exchanges a public
//! token.

use crate::{
    items::{ItemsError, ItemsErrorKind, unguessable},
    store::{PublicGrant, Store, Ticket, TicketDigest, TicketKind, UnlinkedTokens},
};
use chrono::{DateTime, TimeDelta, Utc};
use px_core::{Clock, Digest, Random};
use px_types::{ApplicationId, ItemId, LinkToken, PublicToken, webhook::Environment};
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt, sync::Arc};
use zeroize::Zeroizing;

/// Lifetime of a public token.
pub const PUBLIC_TOKEN_LIFETIME: TimeDelta = TimeDelta::minutes(30);
/// Lifetime of a link token.
pub const LINK_TOKEN_LIFETIME: TimeDelta = TimeDelta::hours(4);
/// Lifetime of a link token that is tied to an Item.
pub const TIED_LINK_TOKEN_LIFETIME: TimeDelta = TimeDelta::minutes(30);
/// Lifetime of a session of Plaid's page, from one step to the next.
pub const SESSION_LIFETIME: TimeDelta = TimeDelta::minutes(30);

/// Number of expired tickets that are deleted with each new one: more than one, so that they never
/// pile up, and few, so that the delay is small.
const PURGED_AT_ONCE: usize = 4;

/// A new token and its time of expiry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Minted<T> {
    /// The token. It is not stored; only its digest is.
    pub token: T,
    /// Time of expiry.
    pub expires_at: DateTime<Utc>,
}

/// The token of a session of a user on Plaid's page.
///
/// Each step ends the session and creates the next one, so that no form can be submitted twice.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionToken(Zeroizing<String>);

impl SessionToken {
    /// Creates a session token from a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// Returns the token. Never log it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionToken(***)")
    }
}

/// Creates, reads and redeems tickets. The payload of link tokens and sessions is any type of the
/// caller.
///
/// ```
/// # use px_items::{items::{Items, ItemsErrorKind}, store::MemoryStore, tickets::LINK_TOKEN_LIFETIME};
/// # use px_types::webhook::Environment;
/// # use std::sync::Arc;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let items = Items::builder(Arc::new(MemoryStore::new(Environment::Sandbox))).build();
/// let tickets = items.tickets();
/// let minted = tickets.mint_link(&"for budget-app", LINK_TOKEN_LIFETIME).await?;
/// let seen: String = tickets.peek_link(&minted.token).await?;
/// assert_eq!(seen, "for budget-app");
/// let opened: String = tickets.take_link(&minted.token).await?;
/// let again = tickets.take_link::<String>(&minted.token).await.unwrap_err();
/// assert_eq!(again.kind(), ItemsErrorKind::InvalidLinkToken);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Tickets {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl Tickets {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        Self { store, clock, random }
    }

    /// Creates a link token. Use [`LINK_TOKEN_LIFETIME`], or [`TIED_LINK_TOKEN_LIFETIME`] if it is tied to an Item.
    ///
    /// # Errors
    /// If the store fails, or the payload cannot be serialized as JSON.
    pub async fn mint_link(
        &self,
        payload: &(impl Serialize + Sync),
        lifetime: TimeDelta,
    ) -> Result<Minted<LinkToken>, ItemsError> {
        let (token, expires_at) = self.mint(TicketKind::Link, payload, lifetime).await?;
        Ok(Minted { token: LinkToken::new(token), expires_at })
    }

    /// Returns the payload of a link token and leaves the token valid.
    ///
    /// # Errors
    /// [`InvalidLinkToken`](ItemsErrorKind::InvalidLinkToken) if the token is unknown or expired. Also if the store fails, or the payload is of another type.
    pub async fn peek_link<T: DeserializeOwned>(&self, token: &LinkToken) -> Result<T, ItemsError> {
        let found = self.peek(TicketKind::Link, token.expose()).await?;
        found.ok_or_else(ItemsError::invalid_link_token)
    }

    /// Redeems a link token and returns its payload. If two callers redeem it at the same time, one
    /// of them gets it.
    ///
    /// # Errors
    /// As [`peek_link`](Self::peek_link).
    pub async fn take_link<T: DeserializeOwned>(&self, token: &LinkToken) -> Result<T, ItemsError> {
        let found = self.take(TicketKind::Link, token.expose()).await?;
        found.ok_or_else(ItemsError::invalid_link_token)
    }

    /// Creates a public token for an application that is connected to an Item.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn mint_public(
        &self,
        item: &ItemId,
        application: &ApplicationId,
    ) -> Result<Minted<PublicToken>, ItemsError> {
        let grant = PublicGrant::new(item.clone(), application.clone());
        let (token, expires_at) =
            self.mint(TicketKind::Public, &grant, PUBLIC_TOKEN_LIFETIME).await?;
        Ok(Minted { token: PublicToken::new(token), expires_at })
    }

    /// Returns the payload of a public token and leaves the token valid.
    ///
    /// # Errors
    /// [`InvalidPublicToken`](ItemsErrorKind::InvalidPublicToken) if the token is unknown or expired. Also if the store fails.
    pub async fn peek_public(&self, token: &PublicToken) -> Result<PublicGrant, ItemsError> {
        let found = self.peek(TicketKind::Public, token.expose()).await?;
        found.ok_or_else(ItemsError::invalid_public_token)
    }

    /// Creates a session. The usual lifetime is [`SESSION_LIFETIME`].
    ///
    /// # Errors
    /// If the store fails, or the payload cannot be serialized as JSON.
    pub async fn mint_session(
        &self,
        payload: &(impl Serialize + Sync),
        lifetime: TimeDelta,
    ) -> Result<Minted<SessionToken>, ItemsError> {
        let (token, expires_at) = self.mint(TicketKind::Session, payload, lifetime).await?;
        Ok(Minted { token: SessionToken::new(token), expires_at })
    }

    /// Returns the payload of a session and leaves the session valid, for displaying a page.
    /// Returns `None` if it is unknown or expired.
    ///
    /// # Errors
    /// If the store fails, or the payload is of another type.
    pub async fn peek_session<T: DeserializeOwned>(
        &self,
        token: &SessionToken,
    ) -> Result<Option<T>, ItemsError> {
        self.peek(TicketKind::Session, token.expose()).await
    }

    /// Ends a session and returns its payload, for a step that the user submits. If two callers
    /// take it at the same time, one of them gets it, and the other gets `None`.
    ///
    /// # Errors
    /// If the store fails, or the payload is of another type.
    pub async fn take_session<T: DeserializeOwned>(
        &self,
        token: &SessionToken,
    ) -> Result<Option<T>, ItemsError> {
        self.take(TicketKind::Session, token.expose()).await
    }

    /// Stores a partner's tokens under a new session token until they are linked, so that they are
    /// not lost if the link fails.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn store_tokens(
        &self,
        tokens: &UnlinkedTokens,
        lifetime: TimeDelta,
    ) -> Result<Minted<SessionToken>, ItemsError> {
        let (token, expires_at) = self.mint(TicketKind::Tokens, tokens, lifetime).await?;
        Ok(Minted { token: SessionToken::new(token), expires_at })
    }

    /// Returns tokens that were stored by [`store_tokens`](Self::store_tokens), and leaves them
    /// stored. Returns `None` if they are unknown or expired.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn peek_tokens(
        &self,
        token: &SessionToken,
    ) -> Result<Option<UnlinkedTokens>, ItemsError> {
        self.peek(TicketKind::Tokens, token.expose()).await
    }

    /// Deletes tokens that were stored by [`store_tokens`](Self::store_tokens), once an Item has
    /// them.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn end_tokens(&self, token: &SessionToken) -> Result<(), ItemsError> {
        let _: Option<UnlinkedTokens> = self.take(TicketKind::Tokens, token.expose()).await?;
        Ok(())
    }

    async fn mint(
        &self,
        kind: TicketKind,
        payload: &(impl Serialize + Sync),
        lifetime: TimeDelta,
    ) -> Result<(String, DateTime<Utc>), ItemsError> {
        let token = unguessable(kind.as_str(), &*self.random, self.store.environment());
        let now = self.clock.now();
        let expires_at = now + lifetime;
        let payload = serde_json::to_vec(payload).map(Zeroizing::new).map_err(|_| {
            ItemsError::new(ItemsErrorKind::Internal, "a ticket cannot be written as JSON")
        })?;
        let ticket = Ticket::new(digest(&token), kind, payload, expires_at);
        self.store.put_ticket(&ticket).await?;
        if let Err(error) = self.store.purge_tickets(now, PURGED_AT_ONCE).await {
            tracing::warn!(%error, "expired tickets could not be deleted; this is retried later");
        }
        Ok((token, expires_at))
    }

    async fn peek<T: DeserializeOwned>(
        &self,
        kind: TicketKind,
        token: &str,
    ) -> Result<Option<T>, ItemsError> {
        let found = self.store.ticket(&digest(token), kind, self.clock.now()).await?;
        found.map(|ticket| read(&ticket)).transpose()
    }

    async fn take<T: DeserializeOwned>(
        &self,
        kind: TicketKind,
        token: &str,
    ) -> Result<Option<T>, ItemsError> {
        let found = self.store.take_ticket(&digest(token), kind, self.clock.now()).await?;
        found.map(|ticket| read(&ticket)).transpose()
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("store", &self.store).finish_non_exhaustive()
    }
}

// serde's message is omitted, because it can quote the payload.
fn read<T: DeserializeOwned>(ticket: &Ticket) -> Result<T, ItemsError> {
    serde_json::from_slice(&ticket.payload).map_err(|_| {
        ItemsError::new(ItemsErrorKind::Internal, "the payload of a ticket has an unexpected type")
    })
}

pub(crate) fn digest(token: &str) -> TicketDigest {
    TicketDigest(*Digest::of(token).as_bytes())
}

pub(crate) fn mint_public(random: &dyn Random, environment: &Environment) -> String {
    unguessable(TicketKind::Public.as_str(), random, environment)
}
