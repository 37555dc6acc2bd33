//! Errors of [`Engine::update`](super::Engine::update).

use crate::store::{ItemRecord, StoreError};
use std::{error::Error as StdError, fmt};

/// Reason why one Item was not worked on.
#[derive(Debug)]
pub struct EngineError {
    kind: EngineErrorKind,
    source: Option<StoreError>,
}

/// Kind of an [`EngineError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EngineErrorKind {
    /// The Item does not exist.
    NoSuchItem,
    /// A worker has the Item already.
    Busy,
    /// The partner refuses the tokens of the Item.
    LoginRequired,
    /// The clock of this machine differs from that of the store.
    WrongClock,
    /// The store failed.
    Store,
}

impl EngineError {
    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(&self) -> EngineErrorKind {
        self.kind
    }

    pub(super) fn wrong_clock() -> Self {
        Self { kind: EngineErrorKind::WrongClock, source: None }
    }

    /// Returns the reason why an Item could not be claimed.
    pub(super) fn why_not(record: Option<ItemRecord>) -> Self {
        let kind = match record {
            None => EngineErrorKind::NoSuchItem,
            Some(record) if record.state.login_required() => EngineErrorKind::LoginRequired,
            Some(_) => EngineErrorKind::Busy,
        };
        Self { kind, source: None }
    }
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        Self { kind: EngineErrorKind::Store, source: Some(error) }
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            EngineErrorKind::NoSuchItem => "the Item does not exist; it may have been removed",
            EngineErrorKind::Busy => {
                "a worker is updating the Item already; wait until it has finished"
            }
            EngineErrorKind::LoginRequired => {
                "the partner refuses the tokens; have the user authorize again"
            }
            EngineErrorKind::WrongClock => {
                "the clock of this machine differs from that of the store; synchronize it by NTP"
            }
            EngineErrorKind::Store => "the store failed; check that it can be reached",
        })
    }
}

impl StdError for EngineError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
