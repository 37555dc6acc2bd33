//! What an Item remembers between updates. Only the worker that holds its lease writes it.
//!
//! What others write too (the state, the schedule, who asked for an update, tokens,
//! connections) is not here: it has columns of its own, see [`crate::store`].

use crate::{
    faults::ItemFaults,
    health::Issues,
    merge::{ByState, DATE_SLACK_DAYS, MergedTransactions},
    review::ItemReview,
    store::carried::{Carried, Carries},
};
use chrono::{DateTime, TimeDelta, Utc};
use px_client::Window;
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
    /// What the walk under way has to remember of the windows that it read.
    pub walk_notes: WalkNotes,
    /// When the last deep resync, or the initial fetch of the history, was complete.
    pub deep_at: Option<DateTime<Utc>>,
    /// Attempts that failed since one succeeded.
    pub failures: u32,
    /// How the last one failed; `None` once one succeeded.
    pub last_failure: Option<FailureNote>,
    /// Refreshes of its tokens that the partner refused though their refresh token may be good.
    pub refused_refresh: Option<RefusedRefresh>,
    /// The faults of the partner's responses that the data come from.
    pub faults: ItemFaults,
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
    /// How many updates followed each other at once.
    pub quick_updates: u32,
    /// The earliest date that notifications named whose update failed.
    pub owed_since: Option<Date>,
    /// A partner that counts wrongly, once an attempt found it.
    pub miscount: Option<Miscount>,
    /// Number of rows that the last walk over the whole history lacked by the partner's `total`.
    pub history_lacks: u64,
    /// Number of rows that the last update lacked by the partner's `total`.
    pub update_lacks: u64,
    /// The latest date after today of a row that the partner showed.
    pub ahead_until: Option<Date>,
    /// When each account that is missing was first missing, by the Item's own ids.
    pub missing_since: BTreeMap<AccountId, DateTime<Utc>>,
    /// The time since which no update or initial fetch has finished, if the last one did not.
    pub unfinished_since: Option<DateTime<Utc>>,
    /// Whether applications were notified that the Item cannot finish.
    pub stall_notified: bool,
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
#[non_exhaustive]
pub struct Walk {
    /// The last date of the window to read next. Everything later was read.
    pub next_end: Date,
    /// The first date to read.
    pub start: Date,
    /// The last date of all, with which the walk began.
    pub end: Date,
    /// The time at which the walk began.
    pub began_at: DateTime<Utc>,
}

impl Walk {
    /// A walk from one date back to another that begins now.
    #[must_use]
    pub fn new(end: Date, start: Date, now: DateTime<Utc>) -> Self {
        Self { next_end: end, start, end, began_at: now }
    }
}

/// What a walk remembers of the windows that it read: rows near their edges, by the Item's own ids.
///
/// A bank files a row by one of its two dates, and in a time zone of its own. So one window alone
/// does not say of a row near its edge, or with a date outside, that it is gone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct WalkNotes {
    /// Rows that were not read though they have a date in the windows so far, with the date back
    /// to which the walk must have read before they are gone.
    pub absent: BTreeMap<TransactionId, Date>,
    /// The same of windows that lacked rows: such a row may be followed to another id, and is never
    /// gone.
    pub absent_where_lacking: BTreeMap<TransactionId, Date>,
    /// Rows that were read and that a later window may lack by their date, with that date.
    pub seen: BTreeMap<TransactionId, Date>,
    /// The first date that was read.
    pub read_from: Option<Date>,
    /// The start of the last window that lacked rows by the partner's `total`.
    pub lacking_from: Option<Date>,
    /// The start of the last window with a row that was set aside and of which neither the id nor
    /// the account could be read.
    pub any_unread_from: Option<Date>,
    /// The same for rows that may be stored ones under other ids.
    pub unread_under_other_ids_from: ByState<Option<Date>>,
    /// The same for rows of each account of which the id could not be read.
    pub unread_from: BTreeMap<AccountId, Date>,
}

impl WalkNotes {
    /// Adds a window that was merged. `next_end` is the end of the next one, if there is one.
    pub fn add(&mut self, merged: &MergedTransactions, window: Window, next_end: Option<Date>) {
        for (id, date) in &merged.read {
            self.found(id);
            self.seen.insert(id.clone(), *date);
        }
        self.read_from =
            Some(self.read_from.map_or(window.start(), |from| from.min(window.start())));
        if merged.lacks_rows {
            self.lacking_from = Some(window.start());
        }
        if merged.unread.any {
            self.any_unread_from = Some(window.start());
        }
        let (from, now) = (&mut self.unread_under_other_ids_from, merged.unread_under_other_ids);
        from.pending = now.pending.then_some(window.start()).or(from.pending);
        from.posted = now.posted.then_some(window.start()).or(from.posted);
        for account in &merged.unread.accounts {
            self.unread_from.insert(account.clone(), window.start());
        }
        self.absent.extend(merged.absent.iter().cloned());
        self.absent_where_lacking.extend(merged.absent_where_lacking.iter().cloned());
        for absent in [&mut self.absent, &mut self.absent_where_lacking] {
            absent.retain(|_, reaches| *reaches < window.start());
        }
        // A window looks at stored rows of the dates near it as well.
        let reach = next_end.map(|end| end.plus_days(DATE_SLACK_DAYS));
        self.seen.retain(|_, date| reach.is_some_and(|reach| *date <= reach));
    }

    /// A row was read with another date by another walk.
    pub(crate) fn found(&mut self, id: &TransactionId) {
        self.absent.remove(id);
        self.absent_where_lacking.remove(id);
    }

    /// Forgets everything, for a walk that begins.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// A partner whose windows have fewer or more rows than their `total` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Miscount {
    /// The time of the first attempt that found it.
    pub since: DateTime<Utc>,
    /// Number of attempts that found it.
    pub attempts: u32,
    /// Whether `total` is the larger of the two.
    pub rows_lack: bool,
    /// Whether shorter windows have been found to lack as many rows.
    pub shorter_is_no_better: bool,
}

/// Number of attempts after which a miscount is the partner's fault and not a window that moves.
const MISCOUNT_ATTEMPTS: u32 = 3;
/// Time over which these attempts are spread at least.
const MISCOUNT_TIME: TimeDelta = TimeDelta::hours(1);

impl Miscount {
    /// A miscount that was found for the first time.
    pub(crate) fn new(rows_lack: bool, now: DateTime<Utc>) -> Self {
        Self { since: now, attempts: 0, rows_lack, shorter_is_no_better: false }
    }

    /// Returns whether it is established that the partner counts wrongly.
    #[must_use]
    pub fn is_established(&self, now: DateTime<Utc>) -> bool {
        self.attempts >= MISCOUNT_ATTEMPTS && now - self.since >= MISCOUNT_TIME
    }
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
    /// What was wrong with its tokens, if the token endpoint was the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokenTrouble>,
}

impl FailureNote {
    /// Notes a failure.
    #[must_use]
    pub fn new(at: DateTime<Utc>, kind: FailureKind, what: impl Into<String>) -> Self {
        Self { at, kind, what: what.into(), tokens: None }
    }

    /// Sets what was wrong with the tokens.
    #[must_use]
    pub fn tokens(mut self, trouble: Option<TokenTrouble>) -> Self {
        self.tokens = trouble;
        self
    }
}

/// Why the token endpoint gave no tokens that can be used, though it was in reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TokenTrouble {
    /// It refused the refresh with another error than `invalid_grant`.
    Refused,
    /// It gave tokens of another user, or no bearer tokens. They are kept apart.
    KeptApart,
    /// A reason of a later version.
    #[serde(other)]
    Unknown,
}

/// Refreshes that the partner refused with another error than `invalid_grant`, or answered with
/// tokens that must not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RefusedRefresh {
    /// The time of the first one.
    pub since: DateTime<Utc>,
    /// Number of attempts.
    pub attempts: u32,
}

/// Number of refused refreshes after which the user is asked to authorize again.
const REFUSED_REFRESHES: u32 = 5;
/// Time over which they are spread at least. Also the time within which another Item of the partner
/// must have been refreshed.
const REFUSED_REFRESH_TIME: TimeDelta = TimeDelta::hours(24);

impl RefusedRefresh {
    pub(crate) fn one_more(before: Option<Self>, now: DateTime<Utc>) -> Self {
        let before = before.unwrap_or(Self { since: now, attempts: 0 });
        Self { attempts: before.attempts.saturating_add(1), ..before }
    }

    /// Returns whether these tokens are of no use any more: after enough attempts over a day, while
    /// other Items of the partner are refreshed well. `others_at` is the latest time of that.
    #[must_use]
    pub fn is_for_good(&self, others_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
        let others_do =
            others_at.is_some_and(|at| at > self.since && now - at <= REFUSED_REFRESH_TIME);
        self.attempts >= REFUSED_REFRESHES && now - self.since >= REFUSED_REFRESH_TIME && others_do
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
    /// Returns whether a failure of this kind may pass without anyone mending something.
    #[must_use]
    pub fn may_pass(self) -> bool {
        match self {
            Self::Unavailable
            | Self::RateLimited
            | Self::Network
            | Self::Tokens
            | Self::Internal
            | Self::Unknown => true,
            Self::Invalid | Self::Moving | Self::Rejected => false,
        }
    }

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
