//! Errors of a store.

#[cfg(any(feature = "sqlite", feature = "postgres"))]
use px_types::webhook::Environment;
use std::{error::Error as StdError, fmt};

/// The result of a store operation.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// An error of a store.
pub struct StoreError {
    kind: StoreErrorKind,
    what: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The kind of a store error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The fencing token is outdated: another worker has claimed the Item, or it was removed.
    Fenced,
    /// The Item does not exist.
    NoItem,
    /// The tokens are not those that were refused: the user authorized again meanwhile.
    TokensChanged,
    /// A request that revokes these tokens at the partner is being sent. Retry after a moment.
    RevocationUnderWay,
    /// The database is out of reach, busy or failed. A retry may succeed.
    Unavailable,
    /// The call exceeded its time limit. Whether its changes are stored is unknown: read again
    /// before you repeat it.
    TimedOut,
    /// The schema belongs to a version of this program that this version cannot work beside.
    Schema,
    /// The database belongs to another environment than the one that it was opened for.
    Environment,
    /// Stored data cannot be read: a program error, or sealed under another key.
    Corrupt,
}

impl StoreError {
    /// Creates an error from a description in one line, without secrets or data.
    pub fn new(kind: StoreErrorKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), source: None }
    }

    /// Adds the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Creates the error of a commit with an outdated fencing token.
    #[must_use]
    pub fn fenced() -> Self {
        Self::new(
            StoreErrorKind::Fenced,
            "another worker claimed the Item, or the Item was removed; nothing was stored",
        )
    }

    /// Creates the error of a link with tokens that are being revoked.
    #[must_use]
    pub fn revocation_under_way() -> Self {
        Self::new(
            StoreErrorKind::RevocationUnderWay,
            "these tokens are being revoked at the institution; nothing was stored, try again",
        )
    }

    /// Creates the error of a link to an Item that does not exist.
    #[must_use]
    pub fn no_item() -> Self {
        Self::new(StoreErrorKind::NoItem, "the Item does not exist; nothing was stored")
    }

    /// Creates the error of a call that exceeded its time limit.
    #[must_use]
    pub fn timed_out() -> Self {
        Self::new(
            StoreErrorKind::TimedOut,
            "the database did not respond in time; whether the change is stored is unknown",
        )
    }

    /// Creates the error of a schema of a later version that this version cannot work beside.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(super) fn newer_schema(known: i64, needed: i64) -> Self {
        let what = format!(
            "the database belongs to a newer version of this program: it needs migration {needed}, \
             and this version knows {known}; install the newer version on this machine"
        );
        Self::new(StoreErrorKind::Schema, what)
    }

    /// Creates the error of a migration that was edited after it had been applied.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(super) fn other_schema(version: i64) -> Self {
        let what = format!(
            "the database was made by another build of this program: its migration {version} is \
             not that of this build; use that build, or create the database again"
        );
        Self::new(StoreErrorKind::Schema, what)
    }

    /// Checks that a database belongs to the environment that it is opened for.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(super) fn check_environment(owner: &str, opened_for: &Environment) -> Result<()> {
        if owner == opened_for.as_str() {
            return Ok(());
        }
        let what = format!(
            "the database belongs to the environment `{owner}`, and was opened for `{opened_for}`"
        );
        Err(Self::new(StoreErrorKind::Environment, what))
    }

    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreError")
            .field("kind", &self.kind)
            .field("what", &self.what)
            .field("source", &self.source)
            .finish()
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}
