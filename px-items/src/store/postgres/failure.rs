//! Failures of the database, and the errors that they are reported as.

use crate::store::{StoreError, StoreErrorKind};
use sqlx::error::DatabaseError;
use std::fmt;

/// SQLSTATEs of statements that conflicted with another one and can be retried unchanged:
/// deadlocks, and serialization failures of databases that detect conflicts late.
const RETRYABLE_SQLSTATES: [&str; 2] = ["40P01", "40001"];

/// A failure of a call.
#[derive(Debug)]
pub(super) enum Failure {
    /// An error that is returned as it is.
    Store(StoreError),
    /// A failure of the database or of the connection to it.
    Database(sqlx::Error),
    /// A row that was read first no longer existed when it was needed. A retry does not read it.
    RowVanished,
}

pub(super) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// Creates the failure of a stored value that cannot be read.
    pub(super) fn corrupt(what: &str) -> Self {
        let what = format!("a stored {what} cannot be read");
        Self::Store(StoreError::new(StoreErrorKind::Corrupt, what))
    }

    /// Creates the failure of a value that cannot be serialized.
    pub(super) fn unserializable(what: &str) -> Self {
        let what = format!("a {what} cannot be serialized");
        Self::Store(StoreError::new(StoreErrorKind::Corrupt, what))
    }

    /// Returns whether a retry of the call from its beginning is likely to succeed.
    pub(super) fn is_retryable(&self) -> bool {
        match self {
            Self::Store(_) => false,
            Self::Database(sqlx::Error::Database(error)) => {
                error.code().is_some_and(|code| RETRYABLE_SQLSTATES.contains(&code.as_ref()))
            }
            Self::Database(_) => false,
            Self::RowVanished => true,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            // Names the column only: sqlx's message can contain the value.
            Self::Database(sqlx::Error::ColumnDecode { index, .. }) => {
                write!(f, "the stored column {index} cannot be read")
            }
            Self::Database(_) => f.write_str("the database failed"),
            Self::RowVanished => f.write_str("the Item changed meanwhile"),
        }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Store(error) => error,
            Failure::Database(error) => describe(error),
            Failure::RowVanished => Self::new(
                StoreErrorKind::Unavailable,
                "the Item changed during every attempt; retry later",
            ),
        }
    }
}

fn describe(error: sqlx::Error) -> StoreError {
    use StoreErrorKind::{Corrupt, Unavailable};
    match error {
        sqlx::Error::Database(error) => refused(&*error),
        sqlx::Error::PoolTimedOut => StoreError::new(
            Unavailable,
            "no connection to the database became free in time; allow more connections, or \
             check what occupies them",
        ),
        // Names the column only: sqlx's message can contain the value.
        sqlx::Error::ColumnDecode { index, .. } => {
            StoreError::new(Corrupt, format!("the stored column {index} cannot be read"))
        }
        // X.509 version 1 is accepted by libpq, but not by rustls.
        error @ (sqlx::Error::Io(_) | sqlx::Error::Tls(_))
            if error.to_string().contains("UnsupportedCertVersion") =>
        {
            let what = "the database's TLS certificate is of X.509 version 1, which is not \
                        supported: give the server a certificate of version 3 (`ssl_cert_file`), \
                        or set `sslmode=disable` in the database URL, which disables encryption";
            StoreError::new(Unavailable, what).caused_by(error)
        }
        error @ (sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolClosed) => {
            StoreError::new(Unavailable, "the database is out of reach").caused_by(error)
        }
        error => StoreError::new(Unavailable, "the database failed").caused_by(error),
    }
}

/// Describes a refused statement. PostgreSQL's own message is omitted, because it can quote rows.
fn refused(error: &dyn DatabaseError) -> StoreError {
    let code = error.code().unwrap_or_default();
    let table = error.table().map(|table| format!(" on {table}")).unwrap_or_default();
    let what = format!("the database refused a statement{table}: SQLSTATE {code}");
    // `query_canceled`: the time limit of the server.
    if code == "57014" {
        return StoreError::timed_out();
    }
    // Invalid data, a constraint violation and an unknown table are not resolved by a retry.
    let lasting = ["22", "23", "42"].iter().any(|class| code.starts_with(class));
    let kind = if lasting { StoreErrorKind::Corrupt } else { StoreErrorKind::Unavailable };
    StoreError::new(kind, what)
}
