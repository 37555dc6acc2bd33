//! The state of an Item between updates. Only the worker that holds the lease writes it.
//!
//! Data that other components also write (lifecycle state, schedule, requested updates, tokens,
//! connections) is not part of it. It has columns of its own; see [`crate::store`].

use crate::{
    faults::ItemFaults,
    health::Issues,
    merge::{ByState, DATE_SLACK_DAYS, MergedTransactions},
    review::ItemReview,
    store::unknown_fields::{PreservesUnknownFields, UnknownFields},
};
use chrono::{DateTime, TimeDelta, Utc};
use px_client::Window;
use px_types::{AccountId, Date, TransactionId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The state of an Item between updates: progress, failures and data on hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct SyncState {
    /// Completeness of the transaction history.
    pub history: History,
    /// Age of each kind of data.
    pub fresh: Freshness,
    /// Progress of a deep resync, if one is running.
    pub deep: Option<HistoryScan>,
    /// Rows near the edges of the windows that the current scan has read.
    #[serde(rename = "walk_notes")]
    pub scan_notes: ScanNotes,
    /// Completion time of the last deep resync or of the initial fetch.
    pub deep_at: Option<DateTime<Utc>>,
    /// Number of failed attempts since the last success.
    pub failures: u32,
    /// The last failure; `None` after a success.
    pub last_failure: Option<FailureRecord>,
    /// Token refreshes that the partner refused although the refresh token may be valid.
    pub refused_refresh: Option<RefusedRefresh>,
    /// Faults in the partner's responses that the stored data comes from.
    pub faults: ItemFaults,
    /// Issues that the Item's [health](crate::health) reports.
    pub issues: Issues,
    /// Suspected problem of the partner's data, until it is resolved.
    pub suspicion: Option<Suspicion>,
    /// Data on hold and past decisions about it.
    pub review: ItemReview,
    /// Number of ids that the partner used again for other transactions.
    pub id_collisions: u64,
    /// Number of posted transactions that could not be assigned unambiguously to a pending one.
    pub ambiguous: u64,
    /// Number of transactions by account that were stored after the last 30 days were complete, for
    /// `HISTORICAL_UPDATE`.
    pub fetched: BTreeMap<AccountId, u64>,
    /// Value of [`ItemRecord::notified`](crate::store::ItemRecord::notified) up to which updates have
    /// covered the notifications.
    pub done_for: i64,
    /// Number of recent updates in quick succession. It limits the pace of updates.
    pub quick_updates: u32,
    /// Earliest date named by notifications that a failed update had to cover.
    pub owed_since: Option<Date>,
    /// A wrong row count of the partner, if an attempt found one.
    pub miscount: Option<Miscount>,
    /// Number of rows that the last scan of the whole history lacked according to the partner's
    /// `total`.
    pub history_lacks: u64,
    /// Number of rows that the last update lacked according to the partner's `total`.
    pub update_lacks: u64,
    /// Latest date after today of a row that the partner returned.
    pub ahead_until: Option<Date>,
    /// Time at which each missing account was first missing, by the Item's own ids.
    pub missing_since: BTreeMap<AccountId, DateTime<Utc>>,
    /// Time since which no update or initial fetch has finished, if the last one did not.
    pub unfinished_since: Option<DateTime<Utc>>,
    /// Whether applications were notified that the Item cannot finish.
    pub stall_notified: bool,
    /// Delay after the last failure, in seconds. The next delay is derived from it.
    pub wait_secs: u64,
    /// Digest of the stored identities, so that equal ones are not written again.
    pub identities_digest: String,
    /// Digest of the securities of the last response, so that equal ones are not written again.
    pub securities_digest: String,
    /// Fields that a later version stored.
    #[serde(skip)]
    pub(crate) carried: UnknownFields,
}

impl PreservesUnknownFields for SyncState {
    fn carried(&mut self) -> &mut UnknownFields {
        &mut self.carried
    }

    fn carried_along(&self) -> &UnknownFields {
        &self.carried
    }
}

/// The completeness of the transaction history.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum History {
    /// No application needs transactions, or the fetch has not begun.
    #[default]
    Missing,
    /// The fetch is running. Transactions are readable once the last 30 days are complete.
    Fetching {
        /// Progress of the fetch.
        #[serde(rename = "walk")]
        scan: HistoryScan,
        /// Whether the last 30 days are complete.
        recent: bool,
    },
    /// The history is complete.
    Complete,
}

/// The progress of a scan back through time, window by window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HistoryScan {
    /// Last date of the window to read next. All later dates have been read.
    pub next_end: Date,
    /// First date to read.
    pub start: Date,
    /// Last date of the whole scan.
    pub end: Date,
    /// Start time of the scan.
    pub began_at: DateTime<Utc>,
}

impl HistoryScan {
    /// Creates a scan from one date back to another that begins now.
    #[must_use]
    pub fn new(end: Date, start: Date, now: DateTime<Utc>) -> Self {
        Self { next_end: end, start, end, began_at: now }
    }
}

/// Rows near the edges of the windows that a scan has read, by the Item's own ids.
///
/// A bank files a row by one of its two dates, and in its own time zone. One window alone therefore
/// does not prove that a row near its edge, or with a date outside, was removed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ScanNotes {
    /// Rows that were not found although they have a date in the windows so far. The value is the
    /// date back to which the scan must have read before the row counts as removed.
    pub absent: BTreeMap<TransactionId, Date>,
    /// The same for windows that lacked rows. Such a row may continue under another id, but never
    /// counts as removed.
    pub absent_where_lacking: BTreeMap<TransactionId, Date>,
    /// Rows that were read and that a later window may lack because of their date, with that date.
    pub seen: BTreeMap<TransactionId, Date>,
    /// First date that was read.
    pub read_from: Option<Date>,
    /// Start of the last window that lacked rows according to the partner's `total`.
    pub lacking_from: Option<Date>,
    /// Start of the last window with a row that was set aside because neither its id nor its
    /// account could be read.
    pub any_unread_from: Option<Date>,
    /// The same for rows that may be stored ones under other ids.
    pub unread_under_other_ids_from: ByState<Option<Date>>,
    /// The same for rows with a readable account but an unreadable id, by account.
    pub unread_from: BTreeMap<AccountId, Date>,
}

impl ScanNotes {
    /// Adds a merged window. `next_end` is the end of the next window, if there is one.
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
        // A window also considers stored rows with dates near it.
        let reach = next_end.map(|end| end.plus_days(DATE_SLACK_DAYS));
        self.seen.retain(|_, date| reach.is_some_and(|reach| *date <= reach));
    }

    /// Records that another scan read a row under another date.
    pub(crate) fn found(&mut self, id: &TransactionId) {
        self.absent.remove(id);
        self.absent_where_lacking.remove(id);
    }

    /// Clears all notes, at the start of a scan.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// A partner with a `total` that differs from the number of rows in its windows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Miscount {
    /// Time of the first attempt that found it.
    pub since: DateTime<Utc>,
    /// Number of attempts that found it.
    pub attempts: u32,
    /// Whether `total` is greater than the number of rows.
    pub rows_lack: bool,
    /// Whether shorter windows lack the same number of rows.
    pub shorter_is_no_better: bool,
}

/// Number of attempts after which a miscount is a fault of the partner, and not a window that
/// changes while it is read.
const MISCOUNT_ATTEMPTS: u32 = 3;
/// Minimum time between the first of these attempts and the last.
const MISCOUNT_TIME: TimeDelta = TimeDelta::hours(1);

impl Miscount {
    /// Creates a miscount that was found for the first time.
    pub(crate) fn new(rows_lack: bool, now: DateTime<Utc>) -> Self {
        Self { since: now, attempts: 0, rows_lack, shorter_is_no_better: false }
    }

    /// Returns whether the partner has been shown to count wrongly.
    #[must_use]
    pub fn is_established(&self, now: DateTime<Utc>) -> bool {
        self.attempts >= MISCOUNT_ATTEMPTS && now - self.since >= MISCOUNT_TIME
    }
}

/// The times at which each kind of data was last known to match the partner's.
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

/// A failed attempt, as shown to operators and used by the schedule. It contains no secrets or
/// customer data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FailureRecord {
    /// Time of the failure.
    pub at: DateTime<Utc>,
    /// Kind of the failure.
    pub kind: FailureKind,
    /// Description for operators, in one line.
    pub what: String,
    /// Problem with the Item's tokens, if the token endpoint was the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokenProblem>,
}

impl FailureRecord {
    /// Creates the record of a failure.
    #[must_use]
    pub fn new(at: DateTime<Utc>, kind: FailureKind, what: impl Into<String>) -> Self {
        Self { at, kind, what: what.into(), tokens: None }
    }

    /// Sets the problem with the tokens.
    #[must_use]
    pub fn tokens(mut self, trouble: Option<TokenProblem>) -> Self {
        self.tokens = trouble;
        self
    }
}

/// The reason why the token endpoint returned no usable tokens although it was reachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TokenProblem {
    /// It refused the refresh with another error than `invalid_grant`.
    Refused,
    /// It returned tokens of another user, or no bearer tokens. They are stored separately and not
    /// used.
    KeptApart,
    /// A reason that a later version stored.
    #[serde(other)]
    Unknown,
}

/// Refreshes that the partner refused with another error than `invalid_grant`, or for which it
/// returned tokens that must not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RefusedRefresh {
    /// Time of the first one.
    pub since: DateTime<Utc>,
    /// Number of attempts.
    pub attempts: u32,
}

/// Number of refused refreshes after which the user must authorize again.
const REFUSED_REFRESHES: u32 = 5;
/// Minimum time between the first of them and the last. Also the maximum age of another Item's
/// successful refresh at the same partner.
const REFUSED_REFRESH_TIME: TimeDelta = TimeDelta::hours(24);

impl RefusedRefresh {
    pub(crate) fn one_more(before: Option<Self>, now: DateTime<Utc>) -> Self {
        let before = before.unwrap_or(Self { since: now, attempts: 0 });
        Self { attempts: before.attempts.saturating_add(1), ..before }
    }

    /// Returns whether the tokens are permanently unusable: after enough attempts over a day, while
    /// other Items of the partner are refreshed successfully. `others_at` is the time of the latest
    /// such refresh.
    #[must_use]
    pub fn is_for_good(&self, others_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
        let others_do =
            others_at.is_some_and(|at| at > self.since && now - at <= REFUSED_REFRESH_TIME);
        self.attempts >= REFUSED_REFRESHES && now - self.since >= REFUSED_REFRESH_TIME && others_do
    }
}

/// The kind of a failure. The schedule and the health treat kinds differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureKind {
    /// The institution is unavailable (503).
    Unavailable,
    /// The rate limit was exceeded (429).
    RateLimited,
    /// There was no response, or it was truncated or 5xx.
    Network,
    /// The response violates the contract.
    Invalid,
    /// The window changed during each attempt to read it.
    Moving,
    /// The partner refused the request for another reason (400, 403, 404).
    Rejected,
    /// The token cannot be refreshed now.
    Tokens,
    /// A failure of this program.
    Internal,
    /// A kind that a later version stored. It is written back unchanged.
    #[serde(other)]
    Unknown,
}

impl FailureKind {
    /// Returns whether a failure of this kind can resolve without a repair.
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

    /// Returns the name of the kind, as it is stored.
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

/// A reason why data of a partner was read but is not imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Suspicion {
    /// The same transactions appeared under other ids.
    TransactionIdsChanged,
    /// The same accounts appeared under other ids. An explicit re-map is needed.
    AccountIdsChanged,
    /// The data may belong to another customer.
    AnotherCustomer,
}

impl Suspicion {
    /// Returns the most serious suspicion about the data on hold.
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
