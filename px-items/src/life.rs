//! What an Item remembers between updates. Only the worker that holds its lease writes it.
//!
//! What others write too (the state, the schedule, who asked for an update, tokens,
//! connections) is not here: it has columns of its own, see [`crate::store`].

use crate::{
    health::Issues,
    review::ItemReview,
    store::carried::{Carried, Carries},
};
use chrono::{DateTime, Utc};
use px_types::{AccountId, Date, TransactionId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What an Item remembers between updates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Life {
    /// How much of the transactions is there.
    pub history: History,
    /// How old each kind of data is.
    pub fresh: Freshness,
    /// A deep resync that is under way.
    pub deep: Option<Walk>,
    /// Rows that the walk under way lacked where their date is, by the Item's own ids, with the
    /// other date that it has yet to look at.
    pub absent: BTreeMap<TransactionId, Date>,
    /// When the last deep resync, or the initial fetch of the history, was complete.
    pub deep_at: Option<DateTime<Utc>>,
    /// Attempts that failed since one succeeded.
    pub failures: u32,
    /// How the last one failed; `None` once one succeeded.
    pub last_failure: Option<FailureNote>,
    /// The issues that the Item's [health](crate::health) reports.
    pub issues: Issues,
    /// What is wrong with the partner's data, kept until it is right again.
    pub suspicion: Option<Suspicion>,
    /// What is on hold until it is decided what it is, and what was decided.
    pub review: ItemReview,
    /// How many times ids came back as other transactions.
    pub id_collisions: u64,
    /// How many posted transactions could not be told to belong to one pending one.
    pub ambiguous: u64,
    /// Transactions stored since the last 30 days were in, for `HISTORICAL_UPDATE`.
    pub fetched: BTreeMap<AccountId, u64>,
    /// The count of notifications up to which an update has done what they asked for.
    pub done_for: i64,
    /// The earliest date that notifications named whose update failed.
    pub owed_since: Option<Date>,
    /// The wait after the last failure, in seconds: the next one is chosen by it.
    pub wait_secs: u64,
    /// Of the identities that are stored, so that the same ones are not written again.
    pub identities_digest: String,
    /// Of the securities of the last answer, so that the same ones are not written again.
    pub securities_digest: String,
    /// Fields that a later version stored.
    #[serde(skip)]
    pub(crate) carried: Carried,
}

impl Carries for Life {
    fn carried(&mut self) -> &mut Carried {
        &mut self.carried
    }

    fn carried_along(&self) -> &Carried {
        &self.carried
    }
}

/// How much of the transactions is there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum History {
    /// No application needs them, or the fetch has not begun.
    #[default]
    Missing,
    /// The fetch is under way. Readable once the last 30 days are in.
    Fetching {
        /// How far it is.
        walk: Walk,
        /// Whether the last 30 days are in.
        recent: bool,
    },
    /// All of it is there.
    Complete,
}

/// A walk back through time, window by window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Walk {
    /// The last date of the window to read next. Everything later was read.
    pub next_end: Date,
    /// The first date to read.
    pub start: Date,
}

/// When each kind of data was last known to be what the partner has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Freshness {
    /// Accounts and balances.
    pub accounts: Option<DateTime<Utc>>,
    /// Identities.
    pub identities: Option<DateTime<Utc>>,
    /// Holdings and securities.
    pub holdings: Option<DateTime<Utc>>,
    /// Recent transactions.
    pub transactions: Option<DateTime<Utc>>,
}

/// How an attempt failed: for people and for the schedule, without a secret or a customer's data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FailureNote {
    /// When.
    pub at: DateTime<Utc>,
    /// What kind of failure.
    pub kind: FailureKind,
    /// One line for people.
    pub what: String,
}

impl FailureNote {
    /// Notes a failure.
    #[must_use]
    pub fn new(at: DateTime<Utc>, kind: FailureKind, what: impl Into<String>) -> Self {
        Self { at, kind, what: what.into() }
    }
}

/// The kinds of failure that are treated differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureKind {
    /// The institution cannot answer now (503).
    Unavailable,
    /// Too many requests (429).
    RateLimited,
    /// No answer, a broken one, or 5xx.
    Network,
    /// An answer that breaks the contract.
    Invalid,
    /// The window never held still while it was read.
    Moving,
    /// The partner refused for another reason (400, 403, 404).
    Rejected,
    /// The token cannot be refreshed now.
    Tokens,
    /// A fault of this side.
    Internal,
    /// A kind of a later version. It is stored again as it was.
    #[serde(other)]
    Unknown,
}

impl FailureKind {
    /// The name of it, as it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::RateLimited => "rate_limited",
            Self::Network => "network",
            Self::Invalid => "invalid",
            Self::Moving => "moving",
            Self::Rejected => "rejected",
            Self::Tokens => "tokens",
            Self::Internal => "internal",
            Self::Unknown => "unknown",
        }
    }
}

/// Why data of a partner is not imported though it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Suspicion {
    /// The same transactions came under other ids.
    TransactionIdsChanged,
    /// The same accounts came under other ids: an explicit re-map is needed.
    AccountIdsChanged,
    /// The data may be another customer's.
    AnotherCustomer,
}

impl Suspicion {
    /// Returns the gravest suspicion about what is on hold.
    #[must_use]
    pub fn of(review: &ItemReview) -> Option<Self> {
        if review.customer.is_some() {
            Some(Self::AnotherCustomer)
        } else if review.rows.is_some() {
            Some(Self::TransactionIdsChanged)
        } else {
            (!review.accounts.is_empty()).then_some(Self::AccountIdsChanged)
        }
    }
}
