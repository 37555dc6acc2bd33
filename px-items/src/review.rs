//! Data on hold until it is decided what it is, and the decisions. Pure.
//!
//! What waits: transactions that came under other ids, accounts that resemble accounts that are no
//! longer listed, and a response that may be another customer's. An operator decides (see
//! [`Items::reviews`](crate::items::Items::reviews)), or the program by the evidence of the whole
//! institution: many Items at once are a migration and wait for an operator, one Item alone was
//! rebooked. Contract: `px.md` section 7.2.

use crate::{
    health::{HealthIssueKind, Issue, Issues},
    life::{History, Life, Suspicion},
    merge::{self, AccountStanding, KnownAccount, Remapped, RowRule},
    plan::{self, PlanSettings},
    store::{AccountsWrite, ItemRecord, Review, Verdict},
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

/// Name of an operator who gave none.
pub const OPERATOR: &str = "operator";

/// Number of Items with rows on hold from which on they are many.
const MANY_ITEMS: u64 = 3;

/// Share of the Items read since, in percent, from which on they are many.
const MANY_PERCENT: u64 = 1;

/// Maximum number of decisions that an Item remembers.
const MAX_DECISIONS: usize = 20;

/// What is on hold of an Item, and what was decided and can be taken back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ItemReview {
    /// How rows under other ids are treated.
    pub rule: RowRule,
    /// Transactions on hold.
    pub rows: Option<RowsOnHold>,
    /// A response that may be another customer's.
    pub customer: Option<CustomerInQuestion>,
    /// The signed-in identity of the last response that was taken.
    pub user_identity_id: Option<IdentityId>,
    /// Whether an operator said that the next response is the customer's, whatever it says.
    pub trusts_next: bool,
    /// Accounts on hold, by the Item's own ids.
    pub accounts: BTreeMap<AccountId, AccountOnHold>,
    /// Decisions that can be taken back, the oldest first.
    pub decisions: Vec<Decision>,
    /// Whether an operator took a decision of the program back: then it decides no more.
    pub operator_only: bool,
}

/// Transactions on hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RowsOnHold {
    /// Since when.
    pub since: DateTime<Utc>,
    /// The accounts, by the Item's own ids.
    pub accounts: BTreeSet<AccountId>,
    /// The number of stored rows on hold in the last window that had some.
    pub rows: u64,
    /// The first date of the windows that had some.
    pub start: Date,
}

/// A response that may be another customer's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CustomerInQuestion {
    /// Since when.
    pub since: DateTime<Utc>,
    /// The number of stored rows of which none came; zero if the accounts say it.
    pub rows: u64,
}

/// An account on hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AccountOnHold {
    /// Since when.
    pub since: DateTime<Utc>,
    /// The account that it resembles, by the Item's own id.
    pub like: AccountId,
    /// Whether it is alike by name and owners only, not by its mask.
    pub by_name: bool,
    /// Whether one of its rows has a twin in the account that it resembles.
    #[serde(default)]
    pub has_twin: bool,
    /// Whether all its dates were compared since it is on hold.
    #[serde(default)]
    pub compared: bool,
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Decision {
    /// What was decided on.
    pub subject: Subject,
    /// What was decided.
    pub verdict: Verdict,
    /// Who decided: [`PROGRAM`], or an operator.
    pub by: String,
    /// When.
    pub at: DateTime<Utc>,
    /// Whether the deep resync that it began is still to end. The next one after that makes the
    /// decision final.
    pub is_walking: bool,
    /// The accounts, by the Item's own ids.
    pub accounts: BTreeSet<AccountId>,
}

/// What a decision is about.
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

/// What the Items of an institution say together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Evidence {
    /// The number of Items with transactions on hold.
    pub items_on_hold: u64,
    /// The number of updates of the institution's Items since a moment.
    pub reads_since: u64,
    /// The number of updates in the day before that moment.
    pub reads_before: u64,
}

/// What evidence amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Too little is known yet.
    Open,
    /// Many Items at once: an operator decides for the institution.
    Migration,
    /// The Item alone: it was rebooked.
    Alone,
}

impl Evidence {
    /// Evidence of an institution.
    #[must_use]
    pub fn new(items_on_hold: u64, reads_since: u64, reads_before: u64) -> Self {
        Self { items_on_hold, reads_since, reads_before }
    }

    /// Returns what the evidence amounts to for an Item with rows on hold since a moment.
    ///
    /// An Item is alone only once as many of the institution's Items were read as in a day, or
    /// after `alone_after`.
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
    /// Returns whether something waits for a decision.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.rows.is_some() || self.customer.is_some() || !self.accounts.is_empty()
    }

    /// Returns the issues that the Item's health reports of it.
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

    /// Notes a decision.
    pub(crate) fn note(&mut self, decision: Decision) {
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
        let decision = Decision::new(Subject::Transactions, Verdict::Rebooked, PROGRAM, now);
        let decision = Decision { accounts: accounts.clone(), ..decision };
        self.rule = RowRule::Rebooked { at: now, accounts };
        self.note(decision.clone());
        Some(decision)
    }

    /// Decides what the rows on hold are; a deep resync carries it out.
    pub(crate) fn decide_rows(
        &mut self,
        verdict: Verdict,
        by: &str,
        now: DateTime<Utc>,
    ) -> Option<Decision> {
        let rows = self.rows.take()?;
        self.rule = match verdict {
            Verdict::Accepted => RowRule::AsGiven,
            _ => RowRule::Follow,
        };
        let decision = Decision::new(Subject::Transactions, verdict, by, now);
        let decision = Decision { accounts: rows.accounts, is_walking: true, ..decision };
        self.note(decision.clone());
        Some(decision)
    }

    /// Decides that a response is the customer's.
    pub(crate) fn decide_customer(
        &mut self,
        verdict: Verdict,
        by: &str,
        now: DateTime<Utc>,
    ) -> Option<Decision> {
        let customer = self.customer.take()?;
        self.trusts_next = true;
        if customer.rows > 0 {
            self.rule = match verdict {
                Verdict::Accepted => RowRule::AsGiven,
                _ => RowRule::Follow,
            };
        }
        let decision = Decision::new(Subject::Customer, verdict, by, now);
        let decision = Decision { is_walking: true, ..decision };
        self.note(decision.clone());
        Some(decision)
    }

    /// Notes a decision about an account on hold.
    pub(crate) fn decide_account(
        &mut self,
        held: &AccountId,
        like: &AccountId,
        (verdict, by): (Verdict, &str),
        now: DateTime<Utc>,
    ) -> Decision {
        self.accounts.remove(held);
        let subject = Subject::Account { held: held.clone(), like: like.clone() };
        let mut decision = Decision::new(subject, verdict, by, now);
        decision.accounts = [like.clone()].into();
        decision.is_walking = true;
        self.note(decision.clone());
        decision
    }

    /// A deep resync is over. Returns whether its decisions are final, so that what is kept to
    /// take them back can go.
    pub(crate) fn resynced(&mut self) -> bool {
        let walking = self.decisions.iter().any(|decision| decision.is_walking);
        self.rule = RowRule::Judge;
        self.trusts_next = false;
        if walking {
            self.decisions.iter_mut().for_each(|decision| decision.is_walking = false);
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

/// What a decision about all that waits of an Item changes.
pub(crate) struct Decided {
    pub(crate) life: Life,
    pub(crate) accounts: Option<AccountsWrite>,
    pub(crate) new_accounts: Vec<AccountId>,
    pub(crate) decisions: Vec<Decision>,
}

/// Decides on all that waits of an Item; a response that may be another customer's only if
/// `with_customer`. Returns `None` if nothing waits that can be decided so.
///
/// An account on hold that cannot be what it resembles stays on hold.
pub(crate) fn decide(
    life: &Life,
    known: &[KnownAccount],
    (verdict, by): (Verdict, &str),
    (plan, now): (&PlanSettings, DateTime<Utc>),
    with_customer: bool,
) -> Option<Decided> {
    let mut life = life.clone();
    let mut decisions = Vec::new();
    decisions.extend(life.review.decide_rows(verdict, by, now));
    if with_customer {
        decisions.extend(life.review.decide_customer(verdict, by, now));
    }
    let mut known = known.to_vec();
    let mut write = AccountsWrite::default();
    for (held, hold) in life.review.accounts.clone() {
        let change = match verdict {
            Verdict::Accepted => merge::accept(&known, &held),
            _ => merge::remap(&known, &hold.like, &held),
        };
        let Ok(Remapped { writes, forgotten }) = change else { continue };
        known.retain(|known| !forgotten.contains(&known.account.id));
        known = merge::updated(known, &writes);
        write.accounts.extend(writes);
        write.forgotten.extend(forgotten);
        decisions.push(life.review.decide_account(&held, &hold.like, (verdict, by), now));
    }
    if decisions.is_empty() {
        return None;
    }
    life.read_all(plan, now);
    life.refresh_review(&known);
    let new = write.accounts.iter().filter(|write| write.new);
    let new_accounts = new.map(|write| write.known.account.id.clone()).collect();
    let accounts = (!write.accounts.is_empty()).then_some(write);
    Some(Decided { life, accounts, new_accounts, decisions })
}

impl Life {
    /// Reads all dates again: what was not imported meanwhile may lie far back.
    pub(crate) fn read_all(&mut self, plan: &PlanSettings, now: DateTime<Utc>) {
        if self.history != History::Missing {
            self.deep = Some(plan::history(plan, now));
            self.walk_notes.clear();
        }
    }

    /// Says in the Item's health what waits for a decision.
    pub(crate) fn refresh_review(&mut self, known: &[KnownAccount]) {
        let held = || known.iter().any(|known| known.standing == AccountStanding::Held);
        self.review.report(&mut self.issues);
        self.suspicion = Suspicion::of(&self.review)
            .or_else(|| self.suspicion.filter(|_| held()))
            .filter(|suspicion| *suspicion != Suspicion::AccountIdsChanged || held());
    }
}

/// An entry for the activity log of a decision.
pub(crate) fn activity(decision: &Decision, id: ActivityId) -> Activity {
    let at = Iso8601::Timestamp(decision.at.into());
    Activity::new(ActivityType::DataReview, at, id, "plaid", ActivityState::Success)
}

/// Returns what an Item's review shows in the store: what waits, and what can be taken back.
pub(crate) fn entries(record: &ItemRecord, review: &ItemReview) -> Vec<Review> {
    let entry = |subject, since| {
        Review::new(record.institution_id.clone(), record.id.clone(), subject, since)
    };
    let mut all = Vec::new();
    if let Some(rows) = &review.rows {
        let mut waits = entry(Subject::Transactions, rows.since);
        (waits.rows, waits.accounts) = (rows.rows, rows.accounts.clone());
        all.push(waits);
    }
    if let Some(customer) = &review.customer {
        let mut waits = entry(Subject::Customer, customer.since);
        waits.rows = customer.rows;
        all.push(waits);
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
    /// A decision of now.
    #[must_use]
    pub fn new(
        subject: Subject,
        verdict: Verdict,
        by: impl Into<String>,
        now: DateTime<Utc>,
    ) -> Self {
        Self {
            subject,
            verdict,
            by: by.into(),
            at: now,
            is_walking: false,
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
            // A few among very many are rebookings that came together by chance.
            ((9, 1_000, 1_000), 24, Finding::Alone),
            ((10, 1_000, 1_000), 24, Finding::Migration),
        ] {
            let (on_hold, since, before) = evidence;
            let evidence = Evidence::new(on_hold, since, before);
            assert_eq!(evidence.finding(at(0), at(hours), day), expected, "{evidence:?} {hours}");
        }
    }
}
