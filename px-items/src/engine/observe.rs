//! Events of the engine for an observer, and the report of work on an Item.

use crate::{
    item::State,
    sync::Counts,
    sync_state::{FailureRecord, HistoryScan, Suspicion},
};
use chrono::{DateTime, Utc};
use px_client::Window;
use px_types::{InstitutionId, ItemId};
use std::{fmt, time::Duration};

/// Observer of the engine: for a live table, or for tests.
///
/// It is called between two steps of the work, so it must be quick and must not block.
pub trait Observer: Send + Sync + fmt::Debug {
    /// Handles an event.
    fn observe(&self, event: &Observed);
}

/// Event that concerns an Item.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Observed {
    /// A worker claimed it.
    Claimed {
        /// The Item.
        item_id: ItemId,
        /// Its institution.
        institution_id: InstitutionId,
        /// State of the Item.
        state: State,
    },
    /// Its accounts, identities and securities were read.
    UserRead {
        /// The Item.
        item_id: ItemId,
        /// Number of its accounts.
        accounts: usize,
    },
    /// A window of its transactions was read completely, and is stored next.
    WindowRead {
        /// The Item.
        item_id: ItemId,
        /// Window that was read.
        window: Window,
        /// Number of transactions in it.
        rows: u64,
        /// Rest of the scan; `None` if this was its last window.
        left: Option<HistoryScan>,
    },
    /// It was deferred because its partner is at its limit or keeps failing.
    Deferred {
        /// The Item.
        item_id: ItemId,
        /// End of the deferral.
        until: DateTime<Utc>,
    },
    /// It was deferred because its leases ran out repeatedly without a commit. The work on it may
    /// crash processes.
    LeasesLost {
        /// The Item.
        item_id: ItemId,
        /// Number of leases that ran out since the last commit.
        lost_leases: u32,
        /// End of the deferral.
        until: DateTime<Utc>,
    },
    /// The work on it ended, successfully or not.
    Ended(Report),
}

/// Outcome of work on an Item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Outcome {
    /// Everything that was to be read is stored.
    Finished,
    /// Part of the partner's data is on hold; see [`Report::suspicion`].
    Suspicious,
    /// It failed and will be tried again; see [`Report::failure`].
    Failed,
    /// The partner refuses the tokens: the user has to authorize again.
    LoginRequired,
    /// It was handed back because the process shuts down. What was stored stays.
    HandedBack,
    /// Another worker has it, or it was removed. Nothing was stored since then.
    Lost,
}

impl Outcome {
    /// Returns the name of the outcome, for metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Suspicious => "suspicious",
            Self::Failed => "failed",
            Self::LoginRequired => "login_required",
            Self::HandedBack => "handed_back",
            Self::Lost => "lost",
        }
    }
}

/// Report of the work on an Item.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// The Item.
    pub item_id: ItemId,
    /// Its institution.
    pub institution_id: InstitutionId,
    /// Outcome.
    pub outcome: Outcome,
    /// Numbers of rows that were read and changed.
    pub counts: Counts,
    /// Duration of the work.
    pub took: Duration,
    /// Failure, if it failed.
    pub failure: Option<FailureRecord>,
    /// Suspicion about the partner's data, if any.
    pub suspicion: Option<Suspicion>,
    /// Time at which the Item is due again, if it is known and this worker's lease was not lost.
    /// `None` for an Item that is never due.
    pub due_at: Option<DateTime<Utc>>,
}

/// Observer that ignores all events.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NoObserver;

impl Observer for NoObserver {
    fn observe(&self, _: &Observed) {}
}
