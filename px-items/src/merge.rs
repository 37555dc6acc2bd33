//! The merge of a partner's responses into the stored data, without I/O.
//!
//! Only responses that were read completely and consistently are merged. [`crate::plan`] selects the
//! windows to read, and [`crate::store`] stores the changes.
//!
//! The partner's id of an account or a transaction can change, for example when a pending transaction
//! posts. The Item therefore has its own id for each: the first id that the partner used. Applications
//! see only this id, and it never changes.

mod accounts;
mod transactions;
mod unread;

pub use accounts::{
    Absences, AccountIds, AccountStanding, AccountWrite, KnownAccount, MergedAccounts, RemapError,
    Remapped, Resemblance, accept, merge_accounts, merge_accounts_on_hold, remap, updated,
};
pub use transactions::{
    ByState, Change, KnownTransaction, MergedTransactions, ReadWindow, RowRule, SuspectRows,
    TransactionWrite, WithheldSpan, Withholding, merge_transactions,
};
pub use unread::{UnreadRows, UnreadUser};

use px_types::MAX_ID_BYTES;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::{
    fmt::{self, Write as _},
    io,
};

/// Maximum number of days between the date by which a bank files a row and the date that the row
/// contains.
///
/// A bank may file by the date in UTC and write the date in a local time zone, or the reverse: the
/// difference is one day. If it uses two time zones, one in the far west and one in the far east, the
/// difference is at most two days.
pub const DATE_SLACK_DAYS: u64 = 2;

/// A digest of contents, for detecting changes without storing or parsing the contents.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 16]);

impl Digest {
    /// Returns the digest of bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_hash(Sha256::new_with_prefix(bytes))
    }

    /// Returns the digest of a value's JSON form, without building the text.
    ///
    /// Amounts such as `1.0` and `1.00` have different digests, since applications receive them as
    /// written.
    #[must_use]
    pub fn of_json(value: &impl Serialize) -> Self {
        let mut hash = HashWriter(Sha256::new());
        // Messages have no maps with keys other than strings, and hashing cannot fail. If it failed
        // anyway, the digest would cover what was written so far.
        let _ = serde_json::to_writer(&mut hash, value);
        Self::from_hash(hash.0)
    }

    fn from_hash(hash: Sha256) -> Self {
        let mut digest = [0; 16];
        digest.copy_from_slice(&hash.finalize()[..16]);
        Self(digest)
    }

    /// Returns the bytes, for a store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Creates a digest from stored bytes. Returns `None` if the length is wrong.
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

/// Returns an Item's own id for an entity if the Item already uses the partner's id for another one.
///
/// The id is derived from the partner's id and `parts`, in a form that no partner will use.
fn derived_id(partner_id: &str, parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new_with_prefix(partner_id);
    parts.iter().for_each(|part| hash.update(part));
    let digest = Digest::from_hash(hash);
    let max_prefix_bytes = MAX_ID_BYTES - 1 - 2 * digest.0.len();
    let prefix = &partner_id[..partner_id.floor_char_boundary(max_prefix_bytes)];
    digest.0.iter().fold(format!("{prefix}#"), |mut id, byte| {
        let _ = write!(id, "{byte:02x}");
        id
    })
}

/// A writer that hashes its input.
struct HashWriter(Sha256);

impl io::Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
