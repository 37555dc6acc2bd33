//! Why one Item was not worked on.

use crate::store::{ItemRecord, StoreError};
use std::{error::Error as StdError, fmt};

/// Why one Item was not worked on.
#[derive(Debug)]
pub struct EngineError {
    kind: EngineErrorKind,
    source: Option<StoreError>,
}

/// What kind of reason it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EngineErrorKind {
    /// There is no such Item.
    NoSuchItem,
    /// A worker has it already.
    Busy,
    /// The partner refuses its tokens.
    LoginRequired,
    /// The clock of this machine is not that of the store.
    WrongClock,
    /// The store failed.
    Store,
}

impl EngineError {
    /// What kind of reason it is.
    #[must_use]
    pub fn kind(&self) -> EngineErrorKind {
        self.kind
    }

    pub(super) fn wrong_clock() -> Self {
        Self { kind: EngineErrorKind::WrongClock, source: None }
    }

    /// Why an Item could not be claimed.
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
            EngineErrorKind::NoSuchItem => "there is no such Item; it may have been removed",
            EngineErrorKind::Busy => "a worker has the Item already; wait for it to end",
            EngineErrorKind::LoginRequired => {
                "the institution refuses the tokens; have the user authorize again"
            }
            EngineErrorKind::WrongClock => {
                "the clock of this machine is not that of the store; set it by NTP"
            }
            EngineErrorKind::Store => "the store failed; see that it is in reach",
        })
    }
}

impl StdError for EngineError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
