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

pub use accounts::{AccountStanding, AccountWrite, KnownAccount, MergedAccounts, merge_accounts};
pub use transactions::{
    Change, KnownTransaction, MergedTransactions, ReadWindow, TransactionWrite, merge_transactions,
};

use sha2::{Digest as _, Sha256};
use std::fmt;

/// A digest of contents, to tell whether they changed without keeping or parsing them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 16]);

impl Digest {
    /// The digest of bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut digest = [0; 16];
        digest.copy_from_slice(&Sha256::digest(bytes)[..16]);
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
