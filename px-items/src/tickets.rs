//! Tickets: link tokens, public tokens, and the sessions of Plaid's page.
//!
//! Each works once, for a time. The store keeps the digest of its token, and what it stands for
//! sealed. A public token is exchanged by
//! [`Items::exchange_public_token`](crate::items::Items::exchange_public_token).

use crate::{
    items::{ItemsError, ItemsErrorKind, unguessable},
    store::{KeptTokens, PublicGrant, Store, Ticket, TicketDigest, TicketKind},
};
use chrono::{DateTime, TimeDelta, Utc};
use px_core::{Clock, Digest, Random};
use px_types::{ApplicationId, ItemId, LinkToken, PublicToken, webhook::Environment};
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt, sync::Arc};
use zeroize::Zeroizing;

/// How long a public token lives.
pub const PUBLIC_LIFE: TimeDelta = TimeDelta::minutes(30);
/// How long a link token lives.
pub const LINK_LIFE: TimeDelta = TimeDelta::hours(4);
/// How long a link token lives that is tied to an Item.
pub const TIED_LINK_LIFE: TimeDelta = TimeDelta::minutes(30);
/// How long a session of Plaid's page lives, from one step to the next.
pub const SESSION_LIFE: TimeDelta = TimeDelta::minutes(30);

/// How many tickets are cleared away with each that is made: more than one, so that they never
/// pile up, and few, so that nobody waits.
const PURGED_AT_ONCE: usize = 4;

/// A token that was made, and when it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Minted<T> {
    /// The token. It is kept nowhere: only its digest is.
    pub token: T,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
}

/// Names a user's way through Plaid's page.
///
/// A step takes the session and mints the next one: so no form works twice.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionToken(Zeroizing<String>);

impl SessionToken {
    /// Takes a text as a session's token.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The token itself. Never log it.
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

/// Makes tickets, looks at them and takes them. What one stands for is the caller's: any message.
///
/// ```
/// # use px_items::{items::{Items, ItemsErrorKind}, store::MemoryStore, tickets::LINK_LIFE};
/// # use px_types::webhook::Environment;
/// # use std::sync::Arc;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let items = Items::builder(Arc::new(MemoryStore::new(Environment::Sandbox))).build();
/// let tickets = items.tickets();
/// let minted = tickets.mint_link(&"for budget-app", LINK_LIFE).await?;
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

    /// Makes a link token; [`LINK_LIFE`], or [`TIED_LINK_LIFE`] when it is tied to an Item.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn mint_link(
        &self,
        payload: &(impl Serialize + Sync),
        life: TimeDelta,
    ) -> Result<Minted<LinkToken>, ItemsError> {
        let (token, expires_at) = self.mint(TicketKind::Link, payload, life).await?;
        Ok(Minted { token: LinkToken::new(token), expires_at })
    }

    /// What a link token stands for, and leaves it.
    ///
    /// # Errors
    /// [`InvalidLinkToken`](ItemsErrorKind::InvalidLinkToken) when there is no such token.
    pub async fn peek_link<T: DeserializeOwned>(&self, token: &LinkToken) -> Result<T, ItemsError> {
        let found = self.peek(TicketKind::Link, token.expose()).await?;
        found.ok_or_else(ItemsError::invalid_link_token)
    }

    /// What a link token stands for, and ends it. Of two who take it at once, one gets it.
    ///
    /// # Errors
    /// [`InvalidLinkToken`](ItemsErrorKind::InvalidLinkToken) when there is no such token.
    pub async fn take_link<T: DeserializeOwned>(&self, token: &LinkToken) -> Result<T, ItemsError> {
        let found = self.take(TicketKind::Link, token.expose()).await?;
        found.ok_or_else(ItemsError::invalid_link_token)
    }

    /// Makes a public token for an application that is connected to an Item.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn mint_public(
        &self,
        item: &ItemId,
        application: &ApplicationId,
    ) -> Result<Minted<PublicToken>, ItemsError> {
        let grant = PublicGrant::new(item.clone(), application.clone());
        let (token, expires_at) = self.mint(TicketKind::Public, &grant, PUBLIC_LIFE).await?;
        Ok(Minted { token: PublicToken::new(token), expires_at })
    }

    /// What a public token stands for, and leaves it.
    ///
    /// # Errors
    /// [`InvalidPublicToken`](ItemsErrorKind::InvalidPublicToken) when there is no such token.
    pub async fn peek_public(&self, token: &PublicToken) -> Result<PublicGrant, ItemsError> {
        let found = self.peek(TicketKind::Public, token.expose()).await?;
        found.ok_or_else(ItemsError::invalid_public_token)
    }

    /// Makes a session; its life is mostly [`SESSION_LIFE`].
    ///
    /// # Errors
    /// When the store fails.
    pub async fn mint_session(
        &self,
        payload: &(impl Serialize + Sync),
        life: TimeDelta,
    ) -> Result<Minted<SessionToken>, ItemsError> {
        let (token, expires_at) = self.mint(TicketKind::Session, payload, life).await?;
        Ok(Minted { token: SessionToken::new(token), expires_at })
    }

    /// What a session stands for, and leaves it: for a page that is shown.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn peek_session<T: DeserializeOwned>(
        &self,
        token: &SessionToken,
    ) -> Result<Option<T>, ItemsError> {
        self.peek(TicketKind::Session, token.expose()).await
    }

    /// What a session stands for, and ends it: for a step that is made. Of two who take it at
    /// once, one gets it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn take_session<T: DeserializeOwned>(
        &self,
        token: &SessionToken,
    ) -> Result<Option<T>, ItemsError> {
        self.take(TicketKind::Session, token.expose()).await
    }

    /// Stores a partner's tokens until they are linked, under a token of their own. What the
    /// partner gave is safe then, whatever comes of the link.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn keep_tokens(
        &self,
        kept: &KeptTokens,
        life: TimeDelta,
    ) -> Result<Minted<SessionToken>, ItemsError> {
        let (token, expires_at) = self.mint(TicketKind::Tokens, kept, life).await?;
        Ok(Minted { token: SessionToken::new(token), expires_at })
    }

    /// Returns tokens that were stored by [`keep_tokens`](Self::keep_tokens), and leaves them.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn peek_tokens(
        &self,
        token: &SessionToken,
    ) -> Result<Option<KeptTokens>, ItemsError> {
        self.peek(TicketKind::Tokens, token.expose()).await
    }

    /// Ends what was stored by [`keep_tokens`](Self::keep_tokens): an Item has the tokens by now.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn end_tokens(&self, token: &SessionToken) -> Result<(), ItemsError> {
        let _: Option<KeptTokens> = self.take(TicketKind::Tokens, token.expose()).await?;
        Ok(())
    }

    async fn mint(
        &self,
        kind: TicketKind,
        payload: &(impl Serialize + Sync),
        life: TimeDelta,
    ) -> Result<(String, DateTime<Utc>), ItemsError> {
        let token = unguessable(kind.as_str(), &*self.random, self.store.environment());
        let now = self.clock.now();
        let expires_at = now + life;
        let payload = serde_json::to_vec(payload).map(Zeroizing::new).map_err(|_| {
            ItemsError::new(ItemsErrorKind::Internal, "a ticket cannot be written as JSON")
        })?;
        let ticket = Ticket::new(digest(&token), kind, payload, expires_at);
        self.store.put_ticket(&ticket).await?;
        if let Err(error) = self.store.purge_tickets(now, PURGED_AT_ONCE).await {
            tracing::warn!(%error, "old tickets stay for now");
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

// What serde says of a broken one is left out: it can quote it.
fn read<T: DeserializeOwned>(ticket: &Ticket) -> Result<T, ItemsError> {
    serde_json::from_slice(&ticket.payload).map_err(|_| {
        ItemsError::new(ItemsErrorKind::Internal, "a ticket is not what its reader expects")
    })
}

pub(crate) fn digest(token: &str) -> TicketDigest {
    TicketDigest(*Digest::of(token).as_bytes())
}

pub(crate) fn mint_public(random: &dyn Random, environment: &Environment) -> String {
    unguessable(TicketKind::Public.as_str(), random, environment)
}
