//! Which token an Item has now: what the bank is asked when Plaid does not know the one of an entry.

use super::entry::Entry;
use crate::error::Source;
use async_trait::async_trait;
use px_types::ItemAccessToken;
use std::fmt;

/// Gives the present token of an Item whose earlier one Plaid refuses.
///
/// An entry is kept with the token of its day. An import anew, and
/// `/item/access_token/invalidate`, end that token, but not what is to be told. So before an entry
/// is taken out, this is asked. [`Portal`](crate::portal::Portal) answers it, for entries that say
/// [whose they are](Entry::of).
#[async_trait]
pub trait PresentToken: Send + Sync + fmt::Debug {
    /// The token of an entry's Item now. `None`, or the entry's own: there is no Item any more,
    /// and the entry is dealt with as refused.
    ///
    /// # Errors
    /// When it cannot be told now: the entry waits, and what can be told goes on.
    async fn present(&self, entry: &Entry) -> Result<Option<ItemAccessToken>, Source>;
}
