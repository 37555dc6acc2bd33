//! The source of an Item's present token, for entries whose token Plaid does not know.

use super::entry::Entry;
use crate::error::Source;
use async_trait::async_trait;
use px_types::ItemAccessToken;
use std::fmt;

/// A source of the present token of an Item whose earlier one Plaid refuses.
///
/// An entry is stored with the token of that time. Another import, and
/// `/item/access_token/invalidate`, end that token but not the event. So the notifier calls this before
/// it removes an entry. [`Portal`](crate::portal::Portal) implements it for entries that
/// [name their user](Entry::of).
#[async_trait]
pub trait PresentToken: Send + Sync + fmt::Debug {
    /// Returns the present token of an entry's Item. If it returns `None`, or the entry's own token, the
    /// Item no longer exists and the entry counts as refused.
    ///
    /// # Errors
    /// If the token is not available now. The entry waits; others are sent.
    async fn present(&self, entry: &Entry) -> Result<Option<ItemAccessToken>, Source>;
}
