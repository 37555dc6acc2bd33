//! Data on hold, and the decisions about it. Pure.
//!
//! On hold are: transactions that came under other ids, accounts that resemble accounts that are no
//! longer listed, and a response that may be another customer's. An operator decides (see
//! [`Items::reviews`](crate::items::Items::reviews)), or the program does by the evidence of the
//! whole institution: many Items at once are a migration and wait for an operator; one Item alone
//! was rebooked. Contract: `px.md` section 7.2.

use crate::{
    health::{HealthIssueKind, Issue, Issues},
    merge::{self, AccountStanding, KnownAccount, Remapped, RowRule},
    plan::{self, PlanSettings},
    store::{AccountsWrite, DecisionOutcome, ItemRecord, Review},
    sync_state::{History, Suspicion, SyncState},
};
use chrono::{DateTime, TimeDelta, Utc};
use px_types::{
    AccountId, ActivityId, Date, IdentityId,
    model::activity::{Activity, ActivityState, ActivityType},
    primitive::date::Iso8601,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Name of the program in decisions and in the audit log.
pub const PROGRAM: &str = "px";

/// Default name of an operator.
pub const OPERATOR: &str = "operator";

/// Minimum number of Items with rows on hold that count as many.
const MANY_ITEMS: u64 = 3;

/// Minimum share of the Items read since, in percent, that counts as many.
const MANY_PERCENT: u64 = 1;

/// Maximum number of decisions that an Item records.
const MAX_DECISIONS: usize = 20;

/// Data of an Item on hold, and the decisions that can be taken back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ItemReview {
    /// Treatment of rows under other ids.
    pub rule: RowRule,
    /// Transactions on hold.
    pub rows: Option<RowsOnHold>,
    /// A response that may be another customer's.
    pub customer: Option<CustomerInQuestion>,
    /// Signed-in identity of the last response that was imported.
    pub user_identity_id: Option<IdentityId>,
    /// Whether an operator decided that the next response is the customer's, whatever it contains.
    pub trusts_next: bool,
    /// Accounts on hold, by the Item's own ids.
    pub accounts: BTreeMap<AccountId, AccountOnHold>,
    /// Decisions that can be taken back, oldest first.
    pub decisions: Vec<Decision>,
    /// Whether an operator took a decision of the program back. Then only operators decide.
    pub operator_only: bool,
}

/// Transactions on hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RowsOnHold {
    /// Time since which the rows are on hold.
    pub since: DateTime<Utc>,
    /// Affected accounts, by the Item's own ids.
    pub accounts: BTreeSet<AccountId>,
    /// Number of stored rows on hold in the last window that had some.
    pub rows: u64,
    /// First date of the windows that had some.
    pub start: Date,
}

/// A response that may be another customer's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CustomerInQuestion {
    /// Time of the first such response.
    pub since: DateTime<Utc>,
    /// Number of stored rows that were all missing in the response; zero if the accounts are the
    /// reason.
    pub rows: u64,
}

/// An account on hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AccountOnHold {
    /// Time since which the account is on hold.
    pub since: DateTime<Utc>,
    /// Account that it resembles, by the Item's own id.
    pub like: AccountId,
    /// Whether it resembles that account by name and owners only, not by its mask.
    pub by_name: bool,
    /// Whether one of its rows has a twin in the account that it resembles.
    #[serde(default)]
    pub has_twin: bool,
    /// Whether all its dates were compared since it was put on hold.
    #[serde(default)]
    pub compared: bool,
}

/// Decision about data on hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Decision {
    /// Subject of the decision.
    pub subject: Subject,
    /// Outcome of the decision.
    #[serde(rename = "verdict")]
    pub outcome: DecisionOutcome,
    /// Author of the decision: [`PROGRAM`], or an operator.
    pub by: String,
    /// Time of the decision.
    pub at: DateTime<Utc>,
    /// Whether the deep resync that the decision started has still to end. The next deep resync
    /// after that one makes the decision final.
    #[serde(rename = "is_walking")]
    pub is_scanning: bool,
    /// Affected accounts, by the Item's own ids.
    pub accounts: BTreeSet<AccountId>,
}

/// Subject of a decision.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Subject {
    /// The transactions on hold.
    Transactions,
    /// A response that may be another customer's.
    Customer,
    /// An account on hold.
    Account {
        /// The Item's own id of the account that was on hold.
        held: AccountId,
        /// The Item's own id of the account that it resembles.
        like: AccountId,
    },
}

/// Evidence of all Items of an institution about rows on hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Evidence {
    /// Number of Items with transactions on hold.
    pub items_on_hold: u64,
    /// Number of updates of the institution's Items since a given time.
    pub reads_since: u64,
    /// Number of updates in the day before that time.
    pub reads_before: u64,
}

/// Conclusion from the evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The evidence is not sufficient yet.
    Open,
    /// Many Items are affected at once. An operator decides for the institution.
    Migration,
    /// The Item is the only one affected. It was rebooked.
    Alone,
}

impl Evidence {
    /// Creates the evidence of an institution.
    #[must_use]
    pub fn new(items_on_hold: u64, reads_since: u64, reads_before: u64) -> Self {
        Self { items_on_hold, reads_since, reads_before }
    }

    /// Returns the conclusion for an Item with rows on hold since a given time.
    ///
    /// An Item counts as the only one once as many of the institution's Items were updated as in a
    /// day, or after `alone_after`.
    #[must_use]
    pub fn finding(
        &self,
        since: DateTime<Utc>,
        now: DateTime<Utc>,
        alone_after: TimeDelta,
    ) -> Finding {
        let many = (self.reads_since * MANY_PERCENT / 100).max(MANY_ITEMS);
        if self.items_on_hold >= many {
            return Finding::Migration;
        }
        let a_day_was_read = self.reads_before > 0 && self.reads_since >= self.reads_before;
        match a_day_was_read || now - since >= alone_after {
            true => Finding::Alone,
            false => Finding::Open,
        }
    }
}

impl ItemReview {
    /// Returns whether data wait for a decision.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.rows.is_some() || self.customer.is_some() || !self.accounts.is_empty()
    }

    /// Records data on hold as issues of the Item's health.
    pub(crate) fn report(&self, issues: &mut Issues) {
        let rows = self.rows.as_ref().map(|rows| {
            let issue = Issue::new(rows.since).count(rows.rows);
            issue.accounts(rows.accounts.iter().cloned())
        });
        let accounts = self.accounts.values().map(|hold| hold.since).min().map(|since| {
            let like = self.accounts.values().map(|hold| hold.like.clone());
            Issue::new(since).count(self.accounts.len() as u64).accounts(like)
        });
        let customer = self.customer.as_ref().map(|customer| Issue::new(customer.since));
        issues.set(HealthIssueKind::TransactionIdsChanged, rows);
        issues.set(HealthIssueKind::AccountIdsChanged, accounts);
        issues.set(HealthIssueKind::AnotherCustomer, customer);
    }

    /// Records a decision.
    pub(crate) fn record(&mut self, decision: Decision) {
        self.decisions.push(decision);
        let surplus = self.decisions.len().saturating_sub(MAX_DECISIONS);
        self.decisions.drain(..surplus);
    }

    /// Decides that the rows on hold were rebooked, by the evidence of the institution.
    pub(crate) fn rebook(&mut self, now: DateTime<Utc>) -> Option<Decision> {
        let rows = self.rows.take()?;
        let mut accounts = rows.accounts;
        if let RowRule::Rebooked { accounts: before, .. } = &self.rule {
            accounts.extend(before.iter().cloned());
        }
        let decision =
            Decision::new(Subject::Transactions, DecisionOutcome::Rebooked, PROGRAM, now);
        let decision = Decision { accounts: accounts.clone(), ..decision };
        self.rule = RowRule::Rebooked { at: now, accounts };
        self.record(decision.clone());
        Some(decision)
    }

    /// Decides what the rows on hold are. A deep resync applies the decision.
    pub(crate) fn decide_rows(
        &mut self,
        outcome: DecisionOutcome,
        by: &str,
        now: DateTime<Utc>,
    ) -> Option<Decision> {
        let rows = self.rows.take()?;
        self.rule = match outcome {
            DecisionOutcome::Accepted => RowRule::AsGiven,
            _ => RowRule::Follow,
        };
        let decision = Decision::new(Subject::Transactions, outcome, by, now);
        let decision = Decision { accounts: rows.accounts, is_scanning: true, ..decision };
        self.record(decision.clone());
        Some(decision)
    }

    /// Decides that the response is the customer's own.
    pub(crate) fn decide_customer(
        &mut self,
        outcome: DecisionOutcome,
        by: &str,
        now: DateTime<Utc>,
    ) -> Option<Decision> {
        let customer = self.customer.take()?;
        self.trusts_next = true;
        if customer.rows > 0 {
            self.rule = match outcome {
                DecisionOutcome::Accepted => RowRule::AsGiven,
                _ => RowRule::Follow,
            };
        }
        let decision = Decision::new(Subject::Customer, outcome, by, now);
        let decision = Decision { is_scanning: true, ..decision };
        self.record(decision.clone());
        Some(decision)
    }

    /// Records a decision about an account on hold.
    pub(crate) fn decide_account(
        &mut self,
        held: &AccountId,
        like: &AccountId,
        (outcome, by): (DecisionOutcome, &str),
        now: DateTime<Utc>,
    ) -> Decision {
        self.accounts.remove(held);
        let subject = Subject::Account { held: held.clone(), like: like.clone() };
        let mut decision = Decision::new(subject, outcome, by, now);
        decision.accounts = [like.clone()].into();
        decision.is_scanning = true;
        self.record(decision.clone());
        decision
    }

    /// Records the end of a deep resync. Returns whether its decisions are final, so that the data
    /// for taking them back can be deleted.
    pub(crate) fn resynced(&mut self) -> bool {
        let is_scanning = self.decisions.iter().any(|decision| decision.is_scanning);
        self.rule = RowRule::Judge;
        self.trusts_next = false;
        if is_scanning {
            self.decisions.iter_mut().for_each(|decision| decision.is_scanning = false);
            return false;
        }
        self.operator_only &= self.is_pending();
        let any = !self.decisions.is_empty();
        self.decisions.clear();
        any
    }
}

impl RowsOnHold {
    pub(crate) fn new(since: DateTime<Utc>, start: Date) -> Self {
        Self { since, accounts: BTreeSet::new(), rows: 0, start }
    }
}

impl CustomerInQuestion {
    pub(crate) fn new(since: DateTime<Utc>, rows: u64) -> Self {
        Self { since, rows }
    }
}

impl AccountOnHold {
    pub(crate) fn new(since: DateTime<Utc>, like: AccountId, by_name: bool) -> Self {
        Self { since, like, by_name, has_twin: false, compared: false }
    }
}

/// Result of a decision about all data of an Item on hold.
pub(crate) struct DecidedReview {
    pub(crate) sync_state: SyncState,
    pub(crate) accounts: Option<AccountsWrite>,
    pub(crate) new_accounts: Vec<AccountId>,
    pub(crate) decisions: Vec<Decision>,
}

/// Decides about all data of an Item on hold. Includes a response that may be another customer's
/// only if `with_customer` is set. Returns `None` if there is nothing to decide.
///
/// An account on hold that cannot be the account that it resembles stays on hold.
pub(crate) fn decide(
    sync_state: &SyncState,
    known: &[KnownAccount],
    (outcome, by): (DecisionOutcome, &str),
    (plan, now): (&PlanSettings, DateTime<Utc>),
    with_customer: bool,
) -> Option<DecidedReview> {
    let mut sync_state = sync_state.clone();
    let mut decisions = Vec::new();
    decisions.extend(sync_state.review.decide_rows(outcome, by, now));
    if with_customer {
        decisions.extend(sync_state.review.decide_customer(outcome, by, now));
    }
    let mut known = known.to_vec();
    let mut write = AccountsWrite::default();
    for (held, hold) in sync_state.review.accounts.clone() {
        let change = match outcome {
            DecisionOutcome::Accepted => merge::accept(&known, &held),
            _ => merge::remap(&known, &hold.like, &held),
        };
        let Ok(Remapped { writes, forgotten }) = change else { continue };
        known.retain(|known| !forgotten.contains(&known.account.id));
        known = merge::updated(known, &writes);
        write.accounts.extend(writes);
        write.forgotten.extend(forgotten);
        decisions.push(sync_state.review.decide_account(&held, &hold.like, (outcome, by), now));
    }
    if decisions.is_empty() {
        return None;
    }
    sync_state.read_all(plan, now);
    sync_state.refresh_review(&known);
    let new = write.accounts.iter().filter(|write| write.new);
    let new_accounts = new.map(|write| write.known.account.id.clone()).collect();
    let accounts = (!write.accounts.is_empty()).then_some(write);
    Some(DecidedReview { sync_state, accounts, new_accounts, decisions })
}

impl SyncState {
    /// Schedules a scan of all dates: rows that were not imported meanwhile may lie far back.
    pub(crate) fn read_all(&mut self, plan: &PlanSettings, now: DateTime<Utc>) {
        if self.history != History::Missing {
            self.deep = Some(plan::history(plan, now));
            self.scan_notes.clear();
        }
    }

    /// Updates the issues of the Item's health that wait for a decision.
    pub(crate) fn refresh_review(&mut self, known: &[KnownAccount]) {
        let held = || known.iter().any(|known| known.standing == AccountStanding::Held);
        self.review.report(&mut self.issues);
        self.suspicion = Suspicion::of(&self.review)
            .or_else(|| self.suspicion.filter(|_| held()))
            .filter(|suspicion| *suspicion != Suspicion::AccountIdsChanged || held());
    }
}

/// Returns the audit entry for a decision.
pub(crate) fn activity(decision: &Decision, id: ActivityId) -> Activity {
    let at = Iso8601::Timestamp(decision.at.into());
    Activity::new(ActivityType::DataReview, at, id, "plaid", ActivityState::Success)
}

/// Returns the entries of an Item's review in the store: pending ones, and decisions that can be
/// taken back.
pub(crate) fn entries(record: &ItemRecord, review: &ItemReview) -> Vec<Review> {
    let entry = |subject, since| {
        Review::new(record.institution_id.clone(), record.id.clone(), subject, since)
    };
    let mut all = Vec::new();
    if let Some(rows) = &review.rows {
        let mut pending = entry(Subject::Transactions, rows.since);
        (pending.rows, pending.accounts) = (rows.rows, rows.accounts.clone());
        all.push(pending);
    }
    if let Some(customer) = &review.customer {
        let mut pending = entry(Subject::Customer, customer.since);
        pending.rows = customer.rows;
        all.push(pending);
    }
    for (held, hold) in &review.accounts {
        let (held, like) = (held.clone(), hold.like.clone());
        all.push(entry(Subject::Account { held, like }, hold.since));
    }
    for decision in &review.decisions {
        let mut decided = entry(decision.subject.clone(), decision.at);
        decided.accounts = decision.accounts.clone();
        decided.decision = Some(decision.clone());
        all.push(decided);
    }
    all
}

impl Decision {
    /// Creates a decision of the current time.
    #[must_use]
    pub fn new(
        subject: Subject,
        outcome: DecisionOutcome,
        by: impl Into<String>,
        now: DateTime<Utc>,
    ) -> Self {
        Self {
            subject,
            outcome,
            by: by.into(),
            at: now,
            is_scanning: false,
            accounts: BTreeSet::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::hours(hour)
    }

    #[test]
    fn an_item_is_alone_once_a_days_worth_was_read_or_a_day_is_over() {
        let day = TimeDelta::hours(24);
        for (evidence, hours, expected) in [
            ((1, 0, 0), 23, Finding::Open),
            ((1, 0, 0), 24, Finding::Alone),
            ((1, 999, 1000), 5, Finding::Open),
            ((1, 1000, 1000), 5, Finding::Alone),
            ((2, 1000, 1000), 5, Finding::Alone),
            // Many at once are a migration, from the first hour on and for as long as it takes.
            ((3, 3, 1000), 1, Finding::Migration),
            ((900, 1000, 1000), 48, Finding::Migration),
            // A few among very many are independent rebookings.
            ((9, 1_000, 1_000), 24, Finding::Alone),
            ((10, 1_000, 1_000), 24, Finding::Migration),
        ] {
            let (on_hold, since, before) = evidence;
            let evidence = Evidence::new(on_hold, since, before);
            assert_eq!(evidence.finding(at(0), at(hours), day), expected, "{evidence:?} {hours}");
        }
    }
}
