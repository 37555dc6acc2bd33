//! The health of an Item: one object for everything that is wrong with its data.
//!
//! An Item records [`Issues`]; [`of`] adds those that follow from its state, and returns the
//! [`ItemHealth`] that operators see. Applications see [`seen_by`] a connection, and partners
//! [`for_partner`]. Pure. Contract: `px.md` section 7.1.

use crate::{connection::Connection, schedule::MAX_LOST_LEASES, store::ItemRecord};
use chrono::{DateTime, TimeDelta, Utc};
pub use px_types::model::item_health::{HealthIssueKind, HealthState, ItemHealth};
use px_types::{
    AccountId,
    model::item_health::{HealthIssue, HealthPath},
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Maximum number of paths that an issue names.
pub const MAX_ISSUE_PATHS: usize = 20;

/// Time after which applications are notified that an Item cannot finish; operators see it at once.
pub const DEFAULT_STALL_NOTICE_AFTER: TimeDelta = TimeDelta::hours(72);

/// Recorded issues of an Item, at most one of each kind.
///
/// A kind that a newer version reported is preserved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Issues(BTreeMap<HealthIssueKind, Issue>);

/// Recorded issue of an Item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Issue {
    /// The time of the first observation.
    pub since: DateTime<Utc>,
    /// The number of things that are affected, if the kind counts something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The accounts that are affected, by the Item's own ids; empty if it is the whole Item.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub accounts: BTreeSet<AccountId>,
    /// Places in the partner's responses without indices, with the number of faults there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub paths: BTreeMap<String, IssuePath>,
}

/// A place in the partner's responses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct IssuePath {
    /// Number of faults there.
    pub count: u64,
    /// The rule that is broken, `PX-AGG-014`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// One of the faults in words, without a value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl Issue {
    /// Creates an issue that is observed now and affects the whole Item.
    #[must_use]
    pub fn new(now: DateTime<Utc>) -> Self {
        Self { since: now, count: None, accounts: BTreeSet::new(), paths: BTreeMap::new() }
    }

    /// Sets the number of things that are affected.
    #[must_use]
    pub fn count(mut self, count: u64) -> Self {
        self.count = Some(count);
        self
    }

    /// Sets the accounts that are affected, by the Item's own ids.
    #[must_use]
    pub fn accounts(mut self, accounts: impl IntoIterator<Item = AccountId>) -> Self {
        self.accounts = accounts.into_iter().collect();
        self
    }

    /// Adds faults at a path. Paths beyond [`MAX_ISSUE_PATHS`] are dropped.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>, count: u64) -> Self {
        let path = path.into();
        if self.paths.len() < MAX_ISSUE_PATHS || self.paths.contains_key(&path) {
            self.paths.entry(path).or_default().count += count;
        }
        self
    }
}

impl Issues {
    /// Records an issue in place of the one of the same kind. Keeps the earlier `since` of
    /// the two.
    pub fn report(&mut self, kind: HealthIssueKind, mut issue: Issue) {
        if let Some(before) = self.0.get(&kind) {
            issue.since = issue.since.min(before.since);
        }
        self.0.insert(kind, issue);
    }

    /// Removes the issue of a kind. Returns whether there was one.
    pub fn clear(&mut self, kind: &HealthIssueKind) -> bool {
        self.0.remove(kind).is_some()
    }

    /// Records an issue, or removes the one of that kind if there is none now.
    pub fn set(&mut self, kind: HealthIssueKind, issue: Option<Issue>) {
        match issue {
            Some(issue) => self.report(kind, issue),
            None => drop(self.clear(&kind)),
        }
    }

    /// Returns the issue of a kind.
    #[must_use]
    pub fn get(&self, kind: &HealthIssueKind) -> Option<&Issue> {
        self.0.get(kind)
    }

    /// Returns all issues.
    pub fn iter(&self) -> impl Iterator<Item = (&HealthIssueKind, &Issue)> {
        self.0.iter()
    }

    /// Returns whether there are no issues.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Returns the health of an Item as operators see it.
#[must_use]
pub fn of(record: &ItemRecord) -> ItemHealth {
    ItemHealth::of_issues(issues(record).collect())
}

/// Returns the health of an Item as an application sees it.
///
/// - Issues of transactions are shown to applications that use transactions.
/// - An issue that affects certain accounts is shown if the application sees one of them, and
///   names no other.
/// - A count is shown if it counts nothing that the application may not see. Paths are shown to
///   operators and partners only.
/// - [`CannotFinish`](HealthIssueKind::CannotFinish) is shown after `stall_notice_after`.
#[must_use]
pub fn seen_by(
    record: &ItemRecord,
    connection: &Connection,
    now: DateTime<Utc>,
    stall_notice_after: TimeDelta,
) -> ItemHealth {
    let seen = issues(record).filter_map(|mut issue| {
        // Operators and the partner have to fix it, and it affects no data.
        if issue.kind == HealthIssueKind::TokensApart {
            return None;
        }
        let of_transactions = matches!(
            issue.kind,
            HealthIssueKind::TransactionIdsChanged | HealthIssueKind::RowsLacking
        );
        let of_transactions = of_transactions
            || (issue.kind == HealthIssueKind::FaultyElements
                && !issue.paths.is_empty()
                && issue.paths.iter().all(|path| path.path.starts_with("transactions")));
        if of_transactions && !connection.needs_transactions() {
            return None;
        }
        let recent = |since: DateTime<Utc>| now - since < stall_notice_after;
        if issue.kind == HealthIssueKind::CannotFinish
            && issue.since.is_none_or(|since| recent(since.utc()))
        {
            return None;
        }
        let affected = issue.account_ids.len();
        issue.account_ids.retain(|account| connection.sees(account));
        if affected > 0 && issue.account_ids.is_empty() {
            return None;
        }
        let sees_all = match affected {
            0 => connection.accounts.is_none(),
            affected => affected == issue.account_ids.len(),
        };
        let of_attempts = issue.kind == HealthIssueKind::UpdateFailed;
        issue.count = issue.count.filter(|_| sees_all || of_attempts);
        issue.paths.clear();
        Some(issue)
    });
    ItemHealth::of_issues(seen.collect())
}

/// Returns the health of an Item as its partner sees it: whole, but without account ids, which
/// are the Item's own.
#[must_use]
pub fn for_partner(record: &ItemRecord) -> ItemHealth {
    let mut health = of(record);
    for issue in &mut health.issues {
        issue.account_ids.clear();
    }
    health
}

/// Returns the recorded issues of an Item, and those that follow from its state and its leases.
fn issues(record: &ItemRecord) -> impl Iterator<Item = HealthIssue> {
    let login_required = record.state.login_required();
    let known = record.sync_state.issues.get(&HealthIssueKind::LoginRequired).is_some();
    let remembered = record.sync_state.issues.iter();
    let remembered = remembered
        .filter(move |(kind, _)| **kind != HealthIssueKind::LoginRequired || login_required);
    let from_state =
        (login_required && !known).then(|| HealthIssue::new(HealthIssueKind::LoginRequired));
    // The workers of such an Item die before they can store the issue.
    let stalled = record.sync_state.issues.get(&HealthIssueKind::CannotFinish).is_some();
    let from_leases = (record.lost_leases >= MAX_LOST_LEASES && !stalled).then(|| {
        let mut issue = HealthIssue::new(HealthIssueKind::CannotFinish);
        issue.count = Some(record.lost_leases.into());
        issue
    });
    let remembered = remembered.map(|(kind, issue)| shown(kind, issue));
    remembered.chain(from_state).chain(from_leases)
}

fn shown(kind: &HealthIssueKind, issue: &Issue) -> HealthIssue {
    let mut shown = HealthIssue::new(kind.clone());
    shown.since = Some(issue.since.into());
    shown.count = issue.count;
    shown.account_ids = issue.accounts.iter().cloned().collect();
    let paths = issue.paths.iter().take(MAX_ISSUE_PATHS).map(|(name, path)| {
        let mut shown = HealthPath::new(name.as_str(), path.count);
        (shown.rule, shown.text) = (path.rule.clone(), path.text.clone());
        shown
    });
    shown.paths = paths.collect();
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::hours(hour)
    }

    #[test]
    fn an_issue_keeps_the_time_since_which_it_is_there() {
        let mut issues = Issues::default();
        issues.report(HealthIssueKind::RowsLacking, Issue::new(at(1)).count(1));
        issues.report(HealthIssueKind::RowsLacking, Issue::new(at(9)).count(4));
        let issue = issues.get(&HealthIssueKind::RowsLacking).unwrap();
        assert_eq!((issue.since, issue.count), (at(1), Some(4)));
        issues.set(HealthIssueKind::RowsLacking, None);
        assert!(issues.is_empty());
        issues.report(HealthIssueKind::RowsLacking, Issue::new(at(10)));
        assert_eq!(issues.get(&HealthIssueKind::RowsLacking).unwrap().since, at(10));
    }

    #[test]
    fn paths_are_bounded() {
        let mut issue = Issue::new(at(0));
        for number in 0..100 {
            issue = issue.path(format!("accounts[].f{number}"), 1).path("accounts[].f0", 1);
        }
        assert_eq!(issue.paths.len(), MAX_ISSUE_PATHS);
        assert_eq!(issue.paths["accounts[].f0"].count, 101);
    }

    /// A worker of an older version stores an Item that a newer one reported on.
    #[test]
    fn an_issue_of_a_newer_version_survives() {
        let text = r#"{"eclipse_of_the_sun":{"since":"1970-01-01T01:00:00Z","count":3}}"#;
        let issues: Issues = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&issues).unwrap(), text);
    }
}
