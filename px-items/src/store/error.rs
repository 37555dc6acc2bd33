//! Why a store did not do something.

#[cfg(any(feature = "sqlite", feature = "postgres"))]
use px_types::webhook::Environment;
use std::{error::Error as StdError, fmt};

/// A result of a store.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Why a store did not do something.
pub struct StoreError {
    kind: StoreErrorKind,
    what: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The claim is no longer the present one: someone else has the Item, or it is gone.
    Fenced,
    /// There is no such Item, though the call needs one that is there.
    NoItem,
    /// The tokens are not those that were refused: the user authorized again meanwhile.
    TokensChanged,
    /// A request that revokes these tokens at the partner is on the wire. Try again in a moment.
    RevocationUnderWay,
    /// The database is out of reach, busy or failed. Trying again can help.
    Unavailable,
    /// The call took longer than it may. Whether its changes are stored is unknown: read again
    /// before you repeat it.
    TimedOut,
    /// The schema belongs to a version of this program that this one cannot work beside.
    Schema,
    /// The database belongs to another environment than the one that it was opened for.
    Environment,
    /// What is stored cannot be read: a fault of a program, or another key.
    Corrupt,
}

impl StoreError {
    /// Says what happened, in one line without secrets or data.
    pub fn new(kind: StoreErrorKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), source: None }
    }

    /// Adds the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The commit came too late.
    #[must_use]
    pub fn fenced() -> Self {
        Self::new(
            StoreErrorKind::Fenced,
            "the Item is another worker's by now, or gone; nothing was stored",
        )
    }

    /// The tokens of a link are being revoked at this moment.
    #[must_use]
    pub fn revocation_under_way() -> Self {
        Self::new(
            StoreErrorKind::RevocationUnderWay,
            "these tokens are being revoked at the institution; nothing was stored, try again",
        )
    }

    /// The Item that an application was to join is gone.
    #[must_use]
    pub fn no_item() -> Self {
        Self::new(StoreErrorKind::NoItem, "the Item is gone, or never was; nothing was stored")
    }

    /// The call took longer than it may.
    #[must_use]
    pub fn timed_out() -> Self {
        Self::new(
            StoreErrorKind::TimedOut,
            "the database did not respond in time; whether the change is stored is unknown",
        )
    }

    /// The schema belongs to a later version that this one cannot work beside.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(super) fn newer_schema(known: i64, needed: i64) -> Self {
        let what = format!(
            "the database belongs to a newer version of this program: it needs migration {needed}, \
             and this version knows {known}; install the newer version on this machine"
        );
        Self::new(StoreErrorKind::Schema, what)
    }

    /// A migration was edited after it had been applied.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(super) fn other_schema(version: i64) -> Self {
        let what = format!(
            "the database was made by another build of this program: its migration {version} is \
             not that of this build; use that build, or make the database again"
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

    /// What kind of failure it is.
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
