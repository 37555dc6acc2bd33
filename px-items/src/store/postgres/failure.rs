//! What can go wrong between this store and its database, and what is said of it.

use crate::store::{StoreError, StoreErrorKind};
use sqlx::error::DatabaseError;
use std::fmt;

/// SQLSTATEs of statements that met another one and can be run again as they are: a deadlock,
/// and what databases that detect conflicts late say instead.
const COLLISIONS: [&str; 2] = ["40P01", "40001"];

/// What can go wrong.
#[derive(Debug)]
pub(super) enum Failure {
    /// It is said as it is.
    Store(StoreError),
    /// The database, or the way to it.
    Database(sqlx::Error),
    /// What was read first was gone when it was needed; at the next attempt it is not read.
    Outrun,
}

pub(super) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// What is stored is not what this program stores.
    pub(super) fn corrupt(what: &str) -> Self {
        let what = format!("a stored {what} cannot be read");
        Self::Store(StoreError::new(StoreErrorKind::Corrupt, what))
    }

    /// Whether the same call, made again from its beginning, is likely to succeed.
    pub(super) fn is_collision(&self) -> bool {
        match self {
            Self::Store(_) => false,
            Self::Database(sqlx::Error::Database(error)) => {
                error.code().is_some_and(|code| COLLISIONS.contains(&code.as_ref()))
            }
            Self::Database(_) => false,
            Self::Outrun => true,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            // Says which column, and can say what was in it.
            Self::Database(sqlx::Error::ColumnDecode { index, .. }) => {
                write!(f, "the stored column {index} cannot be read")
            }
            Self::Database(_) => f.write_str("the database failed"),
            Self::Outrun => f.write_str("the Item changed meanwhile"),
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
            Failure::Database(error) => say(error),
            Failure::Outrun => Self::new(
                StoreErrorKind::Unavailable,
                "the Item changed again and again while this was tried; try later",
            ),
        }
    }
}

fn say(error: sqlx::Error) -> StoreError {
    use StoreErrorKind::{Corrupt, Unavailable};
    match error {
        sqlx::Error::Database(error) => refused(&*error),
        sqlx::Error::PoolTimedOut => StoreError::new(
            Unavailable,
            "no connection to the database became free in time; allow more of them, or see what \
             holds them",
        ),
        // Says which column, and can say what was in it.
        sqlx::Error::ColumnDecode { index, .. } => {
            StoreError::new(Corrupt, format!("the stored column {index} cannot be read"))
        }
        // X.509 version 1, which libpq takes and rustls does not.
        error @ (sqlx::Error::Io(_) | sqlx::Error::Tls(_))
            if error.to_string().contains("UnsupportedCertVersion") =>
        {
            let what = "the database's TLS certificate is of X.509 version 1, which is not \
                        supported: give the server a certificate of version 3 (`ssl_cert_file`), \
                        or say `sslmode=disable` in the database's URL, without encryption";
            StoreError::new(Unavailable, what).caused_by(error)
        }
        error @ (sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolClosed) => {
            StoreError::new(Unavailable, "the database is out of reach").caused_by(error)
        }
        error => StoreError::new(Unavailable, "the database failed").caused_by(error),
    }
}

/// What PostgreSQL says itself is left out: its messages can quote rows.
fn refused(error: &dyn DatabaseError) -> StoreError {
    let code = error.code().unwrap_or_default();
    let table = error.table().map(|table| format!(" on {table}")).unwrap_or_default();
    let what = format!("the database refused a statement{table}: SQLSTATE {code}");
    // `query_canceled`: the server's own time limit.
    if code == "57014" {
        return StoreError::timed_out();
    }
    // Bad data, a broken constraint and an unknown table do not get better by trying again.
    let lasting = ["22", "23", "42"].iter().any(|class| code.starts_with(class));
    let kind = if lasting { StoreErrorKind::Corrupt } else { StoreErrorKind::Unavailable };
    StoreError::new(kind, what)
}
