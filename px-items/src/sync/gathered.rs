//! What was read and waits to be stored, and the counts of it.

use crate::{
    life::History,
    merge::{Change, MergedTransactions},
    news::News,
    store::{AccountsWrite, Commit},
};
use px_types::model::security::Security;

/// What was read and what it changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Windows that were read whole.
    pub windows: u64,
    /// Transactions in them.
    pub rows_read: u64,
    /// Transactions that are new.
    pub added: u64,
    /// Transactions that changed.
    pub modified: u64,
    /// Transactions whose id changed at the partner and that are the same otherwise.
    pub renumbered: u64,
    /// Transactions that are gone.
    pub removed: u64,
    /// Rows that were not taken because they may be stored ones under other ids.
    pub withheld: u64,
    /// Accounts that are new or changed.
    pub accounts_changed: u64,
    /// Posted transactions that were joined with a pending one of another id.
    pub joined: u64,
    /// Posted transactions that could not be told to belong to one pending one.
    pub ambiguous: u64,
    /// Ids that came back as another transaction.
    pub collisions: u64,
    /// Faults of the responses: what was repaired, ignored or set aside.
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

/// What was read and waits to be stored.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) accounts: Option<AccountsWrite>,
    pub(super) securities: Vec<Security>,
    pub(super) transactions: MergedTransactions,
    pub(super) news: News,
}

impl Gathered {
    /// Takes in what a window changes. There is one window to a commit.
    pub(super) fn take(&mut self, merged: MergedTransactions, securities: Vec<Security>) {
        for write in &merged.writes {
            let counts = match write.change {
                Change::Added => &mut self.news.added,
                Change::Modified => &mut self.news.modified,
                Change::Renumbered => continue,
            };
            *counts.entry(write.row.account_id.clone()).or_default() += 1;
        }
        self.news.removed.extend(merged.removed.iter().cloned());
        self.securities = securities;
        self.transactions = merged;
    }

    pub(super) fn put(self, commit: &mut Commit, history: &History) {
        commit.accounts = self.accounts;
        commit.securities = self.securities;
        commit.transactions = self.transactions;
        commit.news = self.news;
        commit.news.initial_complete =
            matches!(history, History::Complete | History::Fetching { recent: true, .. });
        commit.news.historical_complete = matches!(history, History::Complete);
    }
}
