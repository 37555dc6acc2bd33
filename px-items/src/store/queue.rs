//! Queued messages: webhooks in the outbox, and revocations of tokens.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use px_client::oauth::TokenSet;
use px_types::{ApplicationId, InstitutionId, ItemId, UserId};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// A webhook, or a notification of a partner, that a worker claimed from the outbox.
///
/// `Debug` does not show the body, because it can contain a public token.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct QueuedWebhook {
    /// Number of the entry.
    pub id: i64,
    /// The Item.
    pub item_id: ItemId,
    /// The application that receives the webhook, or that the partner's notification is about.
    pub application_id: ApplicationId,
    /// The receiver.
    pub to: Destination,
    /// The body, as it is signed and sent.
    pub body: String,
    /// Time at which it was queued.
    pub created_at: DateTime<Utc>,
    /// Number of claims, including this one.
    pub attempt: u32,
}

impl QueuedWebhook {
    /// Creates an entry of the outbox.
    #[must_use]
    pub fn new(
        id: i64,
        (item_id, application_id): (ItemId, ApplicationId),
        (to, body): (Destination, String),
        created_at: DateTime<Utc>,
        attempt: u32,
    ) -> Self {
        Self { id, item_id, application_id, to, body, created_at, attempt }
    }

    /// Returns the id by which the receiver distinguishes this webhook from others. It is the same
    /// on every attempt.
    #[must_use]
    pub fn signature_id(&self) -> String {
        let entry =
            format!("{}\n{}\n{}", self.item_id, self.id, self.created_at.timestamp_micros());
        URL_SAFE_NO_PAD.encode(Sha256::digest(entry))
    }
}

impl fmt::Debug for QueuedWebhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueuedWebhook")
            .field("id", &self.id)
            .field("item_id", &self.item_id)
            .field("application_id", &self.application_id)
            .field("created_at", &self.created_at)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

/// The outcome of a claimed webhook.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct WebhookSettlement {
    /// The webhook as claimed. If it was claimed again since, the settlement has no effect.
    pub webhook: QueuedWebhook,
    /// Time of the next attempt; `None` if it was delivered or given up.
    pub again_at: Option<DateTime<Utc>>,
}

impl WebhookSettlement {
    /// Creates the outcome of an attempt.
    #[must_use]
    pub fn new(webhook: QueuedWebhook, again_at: Option<DateTime<Utc>>) -> Self {
        Self { webhook, again_at }
    }
}

/// The receiver of an entry of the outbox.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Destination {
    /// An application, at the address that it registered.
    Url(String),
    /// The Item's partner, at `POST /applications/notify`. Such an entry remains when the Item is
    /// removed.
    Partner(InstitutionId),
}

impl Destination {
    /// Returns the address, if the receiver is an application.
    #[must_use]
    pub fn url(&self) -> Option<&str> {
        match self {
            Self::Url(url) => Some(url),
            Self::Partner(_) => None,
        }
    }

    /// Returns the institution, if the receiver is a partner.
    #[must_use]
    pub fn partner(&self) -> Option<&InstitutionId> {
        match self {
            Self::Url(_) => None,
            Self::Partner(institution) => Some(institution),
        }
    }
}

/// Tokens that are queued for revocation at their partner.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Revocation {
    /// Number of the revocation.
    pub id: i64,
    /// The Item, which may have been removed.
    pub item_id: ItemId,
    /// The institution of the partner.
    pub institution_id: InstitutionId,
    /// User at the institution.
    pub user_id: UserId,
    /// The tokens.
    pub tokens: TokenSet,
    /// Number of claims, including this one.
    pub attempt: u32,
    /// Time at which it was queued.
    pub created_at: DateTime<Utc>,
}

impl Revocation {
    /// Creates a queued revocation.
    #[must_use]
    pub fn new(
        id: i64,
        (item_id, institution_id, user_id): (ItemId, InstitutionId, UserId),
        tokens: TokenSet,
        attempt: u32,
        created_at: DateTime<Utc>,
    ) -> Self {
        Self { id, item_id, institution_id, user_id, tokens, attempt, created_at }
    }
}

/// A revocation that is about to be sent.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RevocationStart<'a> {
    /// The revocation as claimed.
    pub revocation: &'a Revocation,
    /// Whether the partner ends the user's whole grant with any token of it.
    pub ends_grant: bool,
    /// The present time.
    pub now: DateTime<Utc>,
    /// Time until which the request can take effect. A link that brings these tokens is refused
    /// until then.
    pub sent_until: DateTime<Utc>,
}

impl<'a> RevocationStart<'a> {
    /// Creates the start of a revocation that ends only the given tokens.
    #[must_use]
    pub fn new(revocation: &'a Revocation, now: DateTime<Utc>, sent_until: DateTime<Utc>) -> Self {
        Self { revocation, ends_grant: false, now, sent_until }
    }
}

/// The permission to revoke tokens at their partner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevocationDecision {
    /// They may be revoked now. Links that bring these tokens are refused meanwhile.
    Yes,
    /// An Item uses them. The revocation was deleted.
    InUse,
    /// The revocation is no longer there: a link deleted it, or another worker claimed it.
    Gone,
}

/// Tokens that no Item has: those of a refresh that were not stored because the Item had other tokens
/// or was removed, or those of an authorization that was not linked yet.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LostTokens {
    /// The Item, which may have been removed.
    pub item_id: ItemId,
    /// Institution of the Item.
    pub institution_id: InstitutionId,
    /// User at the institution.
    pub user_id: UserId,
    /// Version of the tokens that were refreshed.
    pub version: u64,
    /// The tokens that the refresh returned.
    pub tokens: TokenSet,
    /// The time from which they are revoked: the present time, or the end of the sign-in.
    pub now: DateTime<Utc>,
}

impl LostTokens {
    /// Creates the record of tokens that were not stored.
    #[must_use]
    pub fn new(
        (item_id, institution_id, user_id): (ItemId, InstitutionId, UserId),
        version: u64,
        tokens: TokenSet,
        now: DateTime<Utc>,
    ) -> Self {
        Self { item_id, institution_id, user_id, version, tokens, now }
    }
}
