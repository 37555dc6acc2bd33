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
    /// The clock cannot be moved that far.
    #[error("the clock moves by 1 to {0} days at a time")]
    Days(i64),
}
