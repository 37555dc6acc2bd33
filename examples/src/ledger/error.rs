//! What can go wrong with the books.

use super::import::ImportReport;

/// Why the ledger could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// The file is a database, but not a bank's.
    #[error("the database is not one of this program's; name another file")]
    NotABank,
    /// A message in the database is not what it should be.
    #[error("the database holds a {what} that cannot be read: {source}")]
    Damaged {
        /// What it is.
        what: &'static str,
        /// Where and why.
        source: px_types::DecodeError,
    },
    /// The file to import could not be read.
    #[error("the ledger could not be read: {0}")]
    Read(#[from] std::io::Error),
    /// The file to import has bad lines; nothing was imported.
    #[error("{0}")]
    Import(ImportReport),
    /// The books have sealed tokens and their key file is missing.
    #[error("{}: the key that opens the tokens in the database is missing; restore it", .0.display())]
    NoKey(std::path::PathBuf),
    /// A sealed token cannot be opened, or the key cannot be used.
    #[error("the key of the books: {0}")]
    Vault(#[from] px_items::vault::VaultError),
    /// The clock cannot be moved that far.
    #[error("the clock moves by 1 to {0} days at a time")]
    Days(i64),
}
