//! The source of an Item's current token, for entries with a token that Plaid does not know.

use super::entry::Entry;
use crate::error::Source;
use async_trait::async_trait;
use px_types::ItemAccessToken;
use std::fmt;

/// A source of an Item's current token.
///
/// It is used if Plaid refuses the token of an entry. An entry is stored with the token of its time. Another
/// import, or `/item/access_token/invalidate`, ends that token but not the event. So the notifier calls this
/// before it removes an entry. [`Portal`](crate::portal::Portal) implements it for entries that [name their
/// user](Entry::of).
#[async_trait]
pub trait CurrentTokenSource: Send + Sync + fmt::Debug {
    /// Returns the current token of an entry's Item.
    ///
    /// If it returns `None`, or the entry's own token, the Item no longer exists and the entry counts as
    /// refused.
    ///
    /// # Errors
    /// If the token is not available now. The entry waits; others are sent.
    async fn current_token(&self, entry: &Entry) -> Result<Option<ItemAccessToken>, Source>;
}
