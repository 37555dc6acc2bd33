//! What the store keeps of data on hold: an entry for each thing that waits or was decided, the
//! decision that holds for an institution, and how many updates its Items had.

use crate::review::{Decision, Subject};
use chrono::{DateTime, Utc};
use px_types::{AccountId, InstitutionId, ItemId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Something of an Item that waits for a decision, or that was decided and can be taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Review {
    /// The institution.
    pub institution_id: InstitutionId,
    /// The Item.
    pub item_id: ItemId,
    /// What is on hold, or was.
    pub subject: Subject,
    /// The time since which it is on hold, or of the decision.
    pub since: DateTime<Utc>,
    /// The number of stored transactions on hold.
    pub rows: u64,
    /// The accounts, by the Item's own ids.
    pub accounts: BTreeSet<AccountId>,
    /// The decision; `None` while it waits for one.
    pub decision: Option<Decision>,
}

impl Review {
    /// Something that waits for a decision.
    #[must_use]
    pub fn new(
        institution_id: InstitutionId,
        item_id: ItemId,
        subject: Subject,
        since: DateTime<Utc>,
    ) -> Self {
        let accounts = BTreeSet::new();
        Self { institution_id, item_id, subject, since, rows: 0, accounts, decision: None }
    }

    /// Whether it counts as evidence: transactions that wait for a decision.
    #[must_use]
    pub fn is_evidence(&self) -> bool {
        self.subject == Subject::Transactions && self.decision.is_none()
    }
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// It is what it seems: new data, and the old is gone.
    Accepted,
    /// It is what the Item has, under other ids.
    Remapped,
    /// Rows with a twin of equal contents are what the Item has, the others wait for the deep
    /// resync. The program decides so.
    Rebooked,
}

impl Verdict {
    /// Returns the name of the verdict.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Remapped => "remapped",
            Self::Rebooked => "rebooked",
        }
    }
}

/// An operator's decision about the transactions on hold of all Items of an institution, of
/// those too that are found later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Ruling {
    /// The institution.
    pub institution_id: InstitutionId,
    /// What was decided.
    pub verdict: Verdict,
    /// Who decided.
    pub by: String,
    /// When.
    pub at: DateTime<Utc>,
}

impl Ruling {
    /// A decision of now.
    #[must_use]
    pub fn new(
        institution_id: InstitutionId,
        verdict: Verdict,
        by: impl Into<String>,
        now: DateTime<Utc>,
    ) -> Self {
        Self { institution_id, verdict, by: by.into(), at: now }
    }
}

/// How many updates the Items of an institution had within an hour.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpdateCount {
    /// The institution.
    pub institution_id: InstitutionId,
    /// The hour, counted from 1970.
    pub hour: i64,
    /// The number of updates.
    pub updates: u64,
}

impl UpdateCount {
    /// Updates within an hour.
    #[must_use]
    pub fn new(institution_id: InstitutionId, hour: i64, updates: u64) -> Self {
        Self { institution_id, hour, updates }
    }

    /// Returns the hour that a moment lies in.
    #[must_use]
    pub fn hour_of(at: DateTime<Utc>) -> i64 {
        at.timestamp().div_euclid(3600)
    }
}

/// Number of hours for which updates are counted.
pub(super) const UPDATE_HOURS: i64 = 8 * 24;

/// Number of hours that make a day's worth of updates.
pub(super) const HOURS_OF_A_DAY: i64 = 24;

/// What becomes of the partner's earlier ids that a decision replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Moves {
    /// They are kept, so that the decision can be taken back.
    #[default]
    Keep,
    /// They are put back: the decision is taken back.
    Restore,
    /// They are forgotten: the decision is final.
    Forget,
}
