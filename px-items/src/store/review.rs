//! Stored data of reviews: entries for data on hold and past decisions, decisions for institutions,
//! and hourly counts of updates.

use crate::review::{Decision, Subject};
use chrono::{DateTime, Utc};
use px_types::{AccountId, InstitutionId, ItemId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Data of an Item that waits for a decision, or a decision that can be undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Review {
    /// Institution of the Item.
    pub institution_id: InstitutionId,
    /// The Item.
    pub item_id: ItemId,
    /// The subject that is or was on hold.
    pub subject: Subject,
    /// Start of the hold, or time of the decision.
    pub since: DateTime<Utc>,
    /// Number of stored transactions on hold.
    pub rows: u64,
    /// The accounts, by the Item's own ids.
    pub accounts: BTreeSet<AccountId>,
    /// The decision; `None` while it is pending.
    pub decision: Option<Decision>,
}

impl Review {
    /// Creates an entry that waits for a decision.
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

    /// Returns whether it counts as evidence. Transactions that wait for a decision do.
    #[must_use]
    pub fn is_evidence(&self) -> bool {
        self.subject == Subject::Transactions && self.decision.is_none()
    }
}

/// The outcome of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DecisionOutcome {
    /// The data is new, and the old data was removed.
    Accepted,
    /// The data is what the Item has, under other ids.
    Remapped,
    /// Rows with a stored row of equal contents are what the Item has, and the others wait for the
    /// deep resync. Only the program decides this.
    Rebooked,
}

impl DecisionOutcome {
    /// Returns the name of the outcome.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Remapped => "remapped",
            Self::Rebooked => "rebooked",
        }
    }
}

/// An operator's decision about the transactions on hold of all Items of an institution. It also
/// applies to holds that start later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Ruling {
    /// The institution.
    pub institution_id: InstitutionId,
    /// The outcome.
    #[serde(rename = "verdict")]
    pub outcome: DecisionOutcome,
    /// Name of the operator.
    pub by: String,
    /// Time of the decision.
    pub at: DateTime<Utc>,
}

impl Ruling {
    /// Creates a decision that is made now.
    #[must_use]
    pub fn new(
        institution_id: InstitutionId,
        outcome: DecisionOutcome,
        by: impl Into<String>,
        now: DateTime<Utc>,
    ) -> Self {
        Self { institution_id, outcome, by: by.into(), at: now }
    }
}

/// The number of updates of an institution's Items within an hour.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpdateCount {
    /// The institution.
    pub institution_id: InstitutionId,
    /// The hour, counted from 1970.
    pub hour: i64,
    /// Number of updates.
    pub updates: u64,
}

impl UpdateCount {
    /// Creates a count of updates within an hour.
    #[must_use]
    pub fn new(institution_id: InstitutionId, hour: i64, updates: u64) -> Self {
        Self { institution_id, hour, updates }
    }

    /// Returns the hour that contains a moment.
    #[must_use]
    pub fn hour_of(at: DateTime<Utc>) -> i64 {
        at.timestamp().div_euclid(3600)
    }
}

/// Number of hours for which counts of updates are stored.
pub(super) const UPDATE_HOURS: i64 = 8 * 24;

/// Number of hours with updates that make up a full day.
pub(super) const HOURS_OF_A_DAY: i64 = 24;

/// The change of the record of the partner's ids that a decision replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Moves {
    /// They stay stored, so that the decision can be undone.
    #[default]
    Keep,
    /// They are restored: the decision is undone.
    Restore,
    /// They are deleted: the decision is final.
    Forget,
}
