//! Faults of a partner's responses, as an Item records them. Pure.
//!
//! Each reading (of the user, of the recent transactions, of the whole history) replaces the faults
//! of the previous one. So a fault that the partner fixed disappears with the next reading.

use crate::health::{Issue, IssuePath, MAX_ISSUE_PATHS};
use chrono::{DateTime, Utc};
use px_core::text;
use px_types::{AccountId, Date, Fault, FaultSeverity};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Maximum number of characters of the text of a fault.
const MAX_TEXT_CHARS: usize = 300;

/// Faults of the responses that an Item's data come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ItemFaults {
    /// Faults of the last response about the user.
    pub user: FaultTally,
    /// Faults of the windows of the last update.
    pub recent: FaultTally,
    /// Faults of the last complete scan of the history.
    pub history: FaultTally,
    /// Faults of the scan of the history that is under way.
    #[serde(rename = "walk")]
    pub scan: FaultTally,
    /// First date of windows with rows that were set aside. Updates read these dates again.
    pub rows_since: Option<Date>,
    /// The same for the scan that is under way.
    #[serde(rename = "walk_rows_since")]
    pub scan_rows_since: Option<Date>,
}

/// Faults of some responses, by path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct FaultTally {
    /// Number of faults.
    pub count: u64,
    /// Number of faults that set an element aside.
    pub set_aside: u64,
    /// Accounts with faults, by the partner's ids.
    pub accounts: BTreeSet<AccountId>,
    /// Whether a fault lies outside of all accounts.
    pub elsewhere: bool,
    /// Paths without indices, at most [`MAX_ISSUE_PATHS`].
    pub paths: BTreeMap<String, IssuePath>,
}

impl FaultTally {
    /// Counts the faults of a response.
    #[must_use]
    pub fn of<'f>(faults: impl IntoIterator<Item = &'f Fault>) -> Self {
        let mut tally = Self::default();
        tally.add_all(faults);
        tally
    }

    /// Counts the faults of another response.
    pub fn add_all<'f>(&mut self, faults: impl IntoIterator<Item = &'f Fault>) {
        for fault in faults {
            self.add(fault);
        }
    }

    fn add(&mut self, fault: &Fault) {
        self.count += 1;
        self.set_aside += u64::from(fault.severity() == FaultSeverity::SetAside);
        match fault.element().and_then(|element| element.account_id.clone()) {
            Some(account) => drop(self.accounts.insert(account)),
            None => self.elsewhere = true,
        }
        let pattern = text::printable(&fault.pattern(), MAX_TEXT_CHARS);
        if self.paths.len() < MAX_ISSUE_PATHS || self.paths.contains_key(&pattern) {
            let path = self.paths.entry(pattern).or_default();
            path.count += 1;
            if path.text.is_none() {
                path.rule = Some(fault.rule().id().to_owned());
                path.text = Some(text::printable(&fault.to_string(), MAX_TEXT_CHARS));
            }
        }
    }

    /// Adds the faults of other responses.
    pub fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.set_aside += other.set_aside;
        self.accounts.extend(other.accounts);
        self.elsewhere |= other.elsewhere;
        for (pattern, path) in other.paths {
            if self.paths.len() < MAX_ISSUE_PATHS || self.paths.contains_key(&pattern) {
                let known = self.paths.entry(pattern).or_default();
                known.count += path.count;
                known.rule = known.rule.take().or(path.rule);
                known.text = known.text.take().or(path.text);
            }
        }
    }

    /// Returns whether there are no faults.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl ItemFaults {
    /// Returns the issue for the Item's health, or `None` if there are no faults. `own` maps a
    /// partner's account id to the Item's own.
    ///
    /// The same row may be in an update and in the history, so the larger of the two counts is
    /// used.
    #[must_use]
    pub fn issue(
        &self,
        now: DateTime<Utc>,
        own: impl Fn(&AccountId) -> Option<AccountId>,
    ) -> Option<Issue> {
        let windows = [&self.recent, &self.history, &self.scan];
        let parts = || windows.into_iter().chain([&self.user]);
        if parts().all(|part| part.is_empty()) {
            return None;
        }
        let rows = windows.iter().map(|part| part.count).max().unwrap_or(0);
        let mut issue = Issue::new(now).count(self.user.count + rows);
        let accounts: Option<BTreeSet<_>> =
            parts().flat_map(|part| &part.accounts).map(own).collect();
        if let Some(accounts) = accounts.filter(|_| !parts().any(|part| part.elsewhere)) {
            issue.accounts = accounts;
        }
        for (pattern, path) in parts().flat_map(|part| &part.paths) {
            let is_known = issue.paths.contains_key(pattern);
            if is_known || issue.paths.len() < MAX_ISSUE_PATHS {
                let known = issue.paths.entry(pattern.clone()).or_default();
                known.count = known.count.max(path.count);
                known.rule = known.rule.take().or_else(|| path.rule.clone());
                known.text = known.text.take().or_else(|| path.text.clone());
            }
        }
        Some(issue)
    }
}
