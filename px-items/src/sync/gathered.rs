//! Data that was read and is to be stored, and its counts.

use crate::{
    changes::ItemChanges,
    merge::{Change, MergedTransactions},
    store::{AccountsWrite, Commit},
    sync_state::History,
};
use px_types::model::security::Security;

/// Counts of what was read and what it changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Number of windows that were read completely.
    pub windows: u64,
    /// Number of transactions in them.
    pub rows_read: u64,
    /// Number of new transactions.
    pub added: u64,
    /// Number of modified transactions.
    pub modified: u64,
    /// Number of transactions with another partner id and no other change.
    pub renumbered: u64,
    /// Number of removed transactions.
    pub removed: u64,
    /// Number of rows that were not imported because they may be stored ones under other ids.
    pub withheld: u64,
    /// Number of new or changed accounts.
    pub accounts_changed: u64,
    /// Number of posted transactions that were joined with a pending one of another id.
    pub joined: u64,
    /// Number of posted transactions that match more than one pending one.
    pub ambiguous: u64,
    /// Number of ids that came back with another transaction.
    pub collisions: u64,
    /// Number of faults of the responses: repaired, ignored or set aside.
    pub faults: u64,
}

impl Counts {
    pub(super) fn take(&mut self, merged: &MergedTransactions) {
        for write in &merged.writes {
            match write.change {
                Change::Added => self.added += 1,
                Change::Modified => self.modified += 1,
                Change::Renumbered => self.renumbered += 1,
            }
        }
        self.removed += merged.removed.len() as u64;
        self.withheld += merged.withheld.map_or(0, |withheld| withheld.rows);
        self.joined += merged.joined;
        self.ambiguous += merged.ambiguous;
        self.collisions += merged.collisions;
    }
}

/// Data that was read and is to be stored.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) accounts: Option<AccountsWrite>,
    pub(super) securities: Vec<Security>,
    pub(super) transactions: MergedTransactions,
    pub(super) changes: ItemChanges,
}

impl Gathered {
    /// Adds the changes of a window. A commit has one window.
    pub(super) fn take(&mut self, merged: MergedTransactions, securities: Vec<Security>) {
        for write in &merged.writes {
            let counts = match write.change {
                Change::Added => &mut self.changes.added,
                Change::Modified => &mut self.changes.modified,
                Change::Renumbered => continue,
            };
            *counts.entry(write.row.account_id.clone()).or_default() += 1;
        }
        self.changes.removed.extend(merged.removed.iter().cloned());
        self.securities = securities;
        self.transactions = merged;
    }

    pub(super) fn fill(self, commit: &mut Commit, history: &History) {
        commit.accounts = self.accounts;
        commit.securities = self.securities;
        commit.transactions = self.transactions;
        commit.changes = self.changes;
        commit.changes.initial_complete =
            matches!(history, History::Complete | History::Fetching { recent: true, .. });
        commit.changes.historical_complete = matches!(history, History::Complete);
    }
}
