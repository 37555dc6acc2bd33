//! What the engine tells those who watch it: events, and the report of a piece of work.

use crate::{
    item::State,
    life::{FailureNote, Suspicion, Walk},
    sync::Counts,
};
use chrono::{DateTime, Utc};
use px_client::Window;
use px_types::{InstitutionId, ItemId};
use std::{fmt, time::Duration};

/// Watches the engine at work: for a live table, or for tests.
///
/// It is called between two steps of the work, so it must be quick and must not block.
pub trait Observer: Send + Sync + fmt::Debug {
    /// Something happened.
    fn observe(&self, event: &Observed);
}

/// Something that happened to an Item.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Observed {
    /// A worker took it.
    Claimed {
        /// The Item.
        item_id: ItemId,
        /// Its institution.
        institution_id: InstitutionId,
        /// Where it is in its life.
        state: State,
    },
    /// Its accounts, identities and securities were read.
    UserRead {
        /// The Item.
        item_id: ItemId,
        /// How many accounts it has.
        accounts: usize,
    },
    /// A window of its transactions was read whole, and is stored next.
    WindowRead {
        /// The Item.
        item_id: ItemId,
        /// The window.
        window: Window,
        /// The transactions in it.
        rows: u64,
        /// What is still to be read of the walk; `None` when that was its last window.
        left: Option<Walk>,
    },
    /// It was put off because its partner has no room for it now.
    PutOff {
        /// The Item.
        item_id: ItemId,
        /// Until then.
        until: DateTime<Utc>,
    },
    /// It was deferred because its leases ran out again and again without a commit. The work on it
    /// may be what ends processes.
    LeasesLost {
        /// The Item.
        item_id: ItemId,
        /// How many leases ran out since the last commit.
        lost_leases: u32,
        /// Deferred until then.
        until: DateTime<Utc>,
    },
    /// The work on it ended, well or not.
    Ended(Report),
}

/// How work on an Item ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Outcome {
    /// All that was to be read is stored.
    Finished,
    /// Part of the partner's data is on hold; see [`Report::suspicion`].
    Suspicious,
    /// It failed and is tried again; see [`Report::failure`].
    Failed,
    /// The partner refuses the tokens: the user has to authorize again.
    LoginRequired,
    /// It was given back because the process stops. What was stored stays.
    HandedBack,
    /// Someone else has it by now, or it is gone. Nothing was stored from then on.
    Lost,
}

impl Outcome {
    /// The name of it, for metrics and logs.
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

/// What became of a piece of work on an Item.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// The Item.
    pub item_id: ItemId,
    /// Its institution.
    pub institution_id: InstitutionId,
    /// How it ended.
    pub outcome: Outcome,
    /// What was read and what it changed.
    pub counts: Counts,
    /// How long it took.
    pub took: Duration,
    /// How it failed, if it did.
    pub failure: Option<FailureNote>,
    /// What is wrong with the partner's data, if something is.
    pub suspicion: Option<Suspicion>,
    /// When the Item is due again, as far as is known; `None` when it rests or is someone else's.
    pub due_at: Option<DateTime<Utc>>,
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Nobody;

impl Observer for Nobody {
    fn observe(&self, _: &Observed) {}
}
