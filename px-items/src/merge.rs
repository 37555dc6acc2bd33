//! What an answer of the partner changes. Pure.
//!
//! An answer gets here only when it was read whole and consistently. Which windows are read is
//! [`crate::plan`]'s; how changes are stored is [`crate::store`]'s.
//!
//! The partner's ids can change under an entity that stays the same (a pending transaction that
//! posts, accounts after a re-map). So an Item keeps an id of its own for each, which
//! applications see and which never changes: the first id that the partner gave it.

mod accounts;
mod transactions;
mod unread;

pub use accounts::{
    Absences, AccountIds, AccountStanding, AccountWrite, KnownAccount, MergedAccounts, RemapError,
    Remapped, Resemblance, accept, merge_accounts, merge_accounts_on_hold, remap, updated,
};
pub use transactions::{
    ByState, Change, KnownTransaction, MergedTransactions, Question, ReadWindow, RowRule,
    TransactionWrite, Withheld, Withholding, merge_transactions,
};
pub use unread::{UnreadRows, UnreadUser};

use px_types::MAX_ID_BYTES;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::{
    fmt::{self, Write as _},
    io,
};

/// Number of days by which the date that a bank files a row under may differ from the one that it
/// writes.
///
/// A bank may file by the date in UTC and write one in a local zone, or the reverse: that is one
/// day. Two zones, one in the far west and one in the far east, are two days apart at most.
pub const DATE_SLACK_DAYS: u64 = 2;

/// A digest of contents, to tell whether they changed without keeping or parsing them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 16]);

impl Digest {
    /// The digest of bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_hash(Sha256::new_with_prefix(bytes))
    }

    /// The digest of what a value is as JSON, without making the text.
    ///
    /// So `1.0` and `1.00` are two, as they are to whoever reads them.
    #[must_use]
    pub fn of_json(value: &impl Serialize) -> Self {
        let mut hash = Hashing(Sha256::new());
        // A message has no map with keys that are no strings, and hashing cannot fail. If that
        // were ever wrong, what was written so far is a digest as good as any.
        let _ = serde_json::to_writer(&mut hash, value);
        Self::from_hash(hash.0)
    }

    fn from_hash(hash: Sha256) -> Self {
        let mut digest = [0; 16];
        digest.copy_from_slice(&hash.finalize()[..16]);
        Self(digest)
    }

    /// Its bytes, for a store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A digest that a store kept; `None` when it has another length.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// An id of the Item's own for what came under an id that is given away already.
///
/// Told apart by `by`, as text that no partner will ever give.
fn another_id(partner_id: &str, by: &[&[u8]]) -> String {
    let mut hash = Sha256::new_with_prefix(partner_id);
    by.iter().for_each(|part| hash.update(part));
    let digest = Digest::from_hash(hash);
    let room = MAX_ID_BYTES - 1 - 2 * digest.0.len();
    let kept = &partner_id[..partner_id.floor_char_boundary(room)];
    digest.0.iter().fold(format!("{kept}#"), |mut id, byte| {
        let _ = write!(id, "{byte:02x}");
        id
    })
}

/// Hashes what is written to it.
struct Hashing(Sha256);

impl io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
