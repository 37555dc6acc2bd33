//! What waits to be sent: webhooks, and tokens to be revoked.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use px_client::oauth::TokenSet;
use px_types::{ApplicationId, InstitutionId, ItemId, UserId};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// A webhook, or a notification of a partner, that a worker took from the outbox.
///
/// `Debug` shows no body: there may be a public token in it.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct QueuedWebhook {
    /// Its number.
    pub id: i64,
    /// The Item.
    pub item_id: ItemId,
    /// The application that is told, or of which a partner is told.
    pub application_id: ApplicationId,
    /// Where to.
    pub to: Destination,
    /// The body, as it is signed and sent.
    pub body: String,
    /// When it was put there.
    pub created_at: DateTime<Utc>,
    /// How many times it was taken, this time included.
    pub attempt: u32,
}

impl QueuedWebhook {
    /// A webhook of the outbox.
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

    /// Returns the id by which its receiver distinguishes it from others. It is the same on every
    /// attempt.
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

/// What becomes of a webhook that was taken.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct WebhookSettlement {
    /// The webhook, as it was taken. If it was taken again since, it is left alone.
    pub webhook: QueuedWebhook,
    /// When it is sent again; `None` if it was delivered or given up.
    pub again_at: Option<DateTime<Utc>>,
}

impl WebhookSettlement {
    /// Settles the attempt for which a webhook was taken.
    #[must_use]
    pub fn new(webhook: QueuedWebhook, again_at: Option<DateTime<Utc>>) -> Self {
        Self { webhook, again_at }
    }
}

/// Where something of the outbox goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Destination {
    /// To an application, at the address that it chose.
    Url(String),
    /// To the Item's partner, at `POST /applications/notify`. It outlives the Item.
    Partner(InstitutionId),
}

impl Destination {
    /// The address, where it is an application's.
    #[must_use]
    pub fn url(&self) -> Option<&str> {
        match self {
            Self::Url(url) => Some(url),
            Self::Partner(_) => None,
        }
    }

    /// The partner, where it is one.
    #[must_use]
    pub fn partner(&self) -> Option<&InstitutionId> {
        match self {
            Self::Url(_) => None,
            Self::Partner(institution) => Some(institution),
        }
    }
}

/// Tokens that wait to be revoked at their partner.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Revocation {
    /// Its number.
    pub id: i64,
    /// The Item, which may be gone.
    pub item_id: ItemId,
    /// The partner.
    pub institution_id: InstitutionId,
    /// The user there.
    pub user_id: UserId,
    /// The tokens.
    pub tokens: TokenSet,
    /// How many times it was taken, this time included.
    pub attempt: u32,
    /// When it was put there.
    pub created_at: DateTime<Utc>,
}

impl Revocation {
    /// Tokens that wait to be revoked.
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
    /// The revocation, as it was taken.
    pub revocation: &'a Revocation,
    /// Whether the partner ends the user's whole grant with any token of it.
    pub ends_grant: bool,
    /// Now.
    pub now: DateTime<Utc>,
    /// Until when the request may take effect. A link that brings these tokens waits until then.
    pub sent_until: DateTime<Utc>,
}

impl<'a> RevocationStart<'a> {
    /// A revocation that is sent now and that ends the given tokens alone.
    #[must_use]
    pub fn new(revocation: &'a Revocation, now: DateTime<Utc>, sent_until: DateTime<Utc>) -> Self {
        Self { revocation, ends_grant: false, now, sent_until }
    }
}

/// Whether tokens may be revoked at their partner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MayRevoke {
    /// Yes, and at once: links that bring these tokens wait.
    Yes,
    /// No: an Item uses them. The revocation is deleted.
    InUse,
    /// No: a link took the revocation out, or another worker took it.
    Gone,
}

/// Tokens that a refresh gave and that were not stored, because others are by now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LostTokens {
    /// The Item, which may be gone.
    pub item_id: ItemId,
    /// Its institution.
    pub institution_id: InstitutionId,
    /// The user there.
    pub user_id: UserId,
    /// The version of the tokens that were refreshed.
    pub version: u64,
    /// What the refresh gave.
    pub tokens: TokenSet,
    /// Now.
    pub now: DateTime<Utc>,
}

impl LostTokens {
    /// Tokens of a refresh that were not stored.
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
