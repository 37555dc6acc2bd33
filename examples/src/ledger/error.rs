//! Errors of the ledger.

use super::import::ImportReport;

/// An error of the [`Ledger`](super::Ledger).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// The file is a database of another program.
    #[error("the database is not one of this program's; name another file")]
    NotABank,
    /// A stored message cannot be decoded.
    #[error("a stored {what} cannot be read: {source}")]
    Damaged {
        /// The kind of the message.
        what: &'static str,
        /// The position and the reason.
        source: px_types::DecodeError,
    },
    /// The file to import could not be read.
    #[error("the ledger could not be read: {0}")]
    Read(#[from] std::io::Error),
    /// The file to import has invalid lines. Nothing was imported.
    #[error("{0}")]
    Import(ImportReport),
    /// The database has sealed tokens and its key file is missing.
    #[error("{}: the key that opens the tokens in the database is missing; restore it", .0.display())]
    NoKey(std::path::PathBuf),
    /// A sealed token cannot be opened, or the key cannot be used.
    #[error("the sealing key of the database: {0}")]
    Vault(#[from] px_items::vault::VaultError),
    /// The clock cannot be advanced that far. The value is the maximum number of days.
    #[error("the clock can be advanced by 1 to {0} days at a time")]
    Days(i64),
}
