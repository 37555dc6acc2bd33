//! How secrets are kept at rest: sealed under a key that the database does not have.

use std::fmt;
use zeroize::Zeroizing;

/// Seals and opens secrets. A key service can stand behind it; [`Sealed::key_id`] tells which
/// key a row is under, so that keys can be changed while rows are read.
pub trait Envelope: Send + Sync + fmt::Debug {
    /// Seals a secret, bound to the row that it belongs to: it opens nowhere else.
    ///
    /// # Errors
    /// When the key cannot be used.
    fn seal(&self, plain: &[u8], row: &str) -> Result<Sealed, VaultError>;

    /// Opens a sealed secret of that row.
    ///
    /// # Errors
    /// When the key is unknown, or the bytes are not what was sealed for that row.
    fn open(&self, sealed: &Sealed, row: &str) -> Result<Zeroizing<Vec<u8>>, VaultError>;
}

/// A sealed secret.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sealed {
    /// The key that it is under.
    pub key_id: String,
    /// Nonce, ciphertext and tag.
    pub bytes: Vec<u8>,
}

impl Sealed {
    /// A sealed secret that a store kept.
    #[must_use]
    pub fn new(key_id: String, bytes: Vec<u8>) -> Self {
        Self { key_id, bytes }
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// Why a secret cannot be sealed or opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// There is no such key.
    #[error("there is no key {0:?}: add it to the key file, or restore the one that sealed this")]
    UnknownKey(String),
    /// The bytes are not what was sealed for this row.
    #[error("a sealed secret is damaged, or belongs to another row")]
    Damaged,
    /// The key or its source failed.
    #[error("the key cannot be used: {0}")]
    Key(String),
}
