//! What waits to be sent: webhooks, and tokens to be revoked.

use chrono::{DateTime, Utc};
use px_client::oauth::TokenSet;
use px_types::{ApplicationId, InstitutionId, ItemId};

/// A webhook that a worker took from the outbox.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct QueuedWebhook {
    /// Its number.
    pub id: i64,
    /// The Item.
    pub item_id: ItemId,
    /// The application.
    pub application_id: ApplicationId,
    /// Where to.
    pub url: String,
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
        (url, body): (String, String),
        created_at: DateTime<Utc>,
        attempt: u32,
    ) -> Self {
        Self { id, item_id, application_id, url, body, created_at, attempt }
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
        (item_id, institution_id): (ItemId, InstitutionId),
        tokens: TokenSet,
        attempt: u32,
        created_at: DateTime<Utc>,
    ) -> Self {
        Self { id, item_id, institution_id, tokens, attempt, created_at }
    }
}
