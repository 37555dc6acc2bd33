//! Support for tests of the merge: rows in short form, and a minimal store.

use chrono::{DateTime, TimeDelta, Utc};
use px_client::Window;
use px_items::{
    merge::{
        KnownTransaction, MergedTransactions, ReadWindow, RowRule, TransactionWrite,
        merge_transactions,
    },
    plan::{after, next_window},
    sync_state::{HistoryScan, ScanNotes},
};
use px_types::{AccountId, Date, TransactionId, model::transaction::Transaction};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// Returns the day of a number: the 20th day is 2026-01-21.
pub(crate) fn day(number: u64) -> Date {
    Date::from_ymd(2026, 1, 1).unwrap().plus_days(number)
}

/// Returns the window from one day to another.
pub(crate) fn days(from: u64, to: u64) -> Window {
    Window::new(day(from), day(to)).unwrap()
}

/// Returns the time a number of hours after the epoch.
pub(crate) fn hour(number: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::hours(number)
}

pub(crate) fn id(text: &str) -> TransactionId {
    TransactionId::new(text).unwrap()
}

pub(crate) fn account(text: &str) -> AccountId {
    AccountId::new(text).unwrap()
}

/// Returns a transaction in short form: `("t1", "12.50", "coffee")` of account `a`, made on day 10.
pub(crate) fn pending(id: &str, amount: &str, text: &str) -> Transaction {
    serde_json::from_value(json!({
        "id": id, "account_id": "a", "amount": amount, "currency": "USD",
        "description": text, "settled_at": null, "transacted_at": day(10), "type": "depository",
    }))
    .unwrap()
}

/// Like [`pending`], posted on day 12.
pub(crate) fn posted(id: &str, amount: &str, text: &str) -> Transaction {
    pending(id, amount, text).made(10).posts(12)
}

/// Changes of rows in readable form.
pub(crate) trait Row {
    fn made(self, number: u64) -> Self;
    fn posts(self, number: u64) -> Self;
    fn of(self, account: &str) -> Self;
}

impl Row for Transaction {
    fn made(mut self, number: u64) -> Self {
        self.transacted_at = day(number).into();
        self
    }
    fn posts(mut self, number: u64) -> Self {
        self.settled_at = Some(day(number).into());
        self
    }
    fn of(mut self, id: &str) -> Self {
        self.account_id = account(id);
        self
    }
}

/// Stored rows, including tombstones.
#[derive(Clone, Debug, Default)]
pub(crate) struct RowStore {
    rows: BTreeMap<TransactionId, (KnownTransaction, Transaction)>,
    pub(crate) unlisted: BTreeSet<AccountId>,
}

impl RowStore {
    /// Creates a store with rows that were read in the first hour, in a window of days 0 to 30.
    pub(crate) fn with(rows: impl IntoIterator<Item = Transaction>) -> Self {
        let mut store = Self::default();
        store.read(days(0, 30), rows, 1);
        store
    }

    /// Returns the stored rows of a window and of some ids.
    pub(crate) fn known(
        &self,
        window: Window,
        ids: &BTreeSet<TransactionId>,
    ) -> Vec<KnownTransaction> {
        let known = self.rows.values().map(|(known, _)| known);
        known
            .filter(|known| {
                let inside = window.start() <= known.date() && known.date() <= window.end();
                (inside && known.removed_at.is_none())
                    || ids.contains(&known.id)
                    || ids.contains(&known.partner_id)
            })
            .cloned()
            .collect()
    }

    /// Returns the changes by a response.
    pub(crate) fn merge(
        &self,
        window: Window,
        rows: impl IntoIterator<Item = Transaction>,
        began: i64,
    ) -> MergedTransactions {
        let rows: Vec<_> = rows.into_iter().collect();
        let ids = rows.iter().map(|row| row.id.clone()).collect();
        let read = ReadWindow::new(window, rows, hour(began));
        merge_transactions(&self.known(ReadWindow::reach(window), &ids), read, &self.unlisted)
    }

    /// Merges a response and stores its changes, an hour after the scan began. Merging it once
    /// more must change nothing.
    pub(crate) fn read(
        &mut self,
        window: Window,
        rows: impl IntoIterator<Item = Transaction>,
        began: i64,
    ) -> MergedTransactions {
        let rows: Vec<_> = rows.into_iter().collect();
        let merged = self.merge(window, rows.clone(), began);
        self.store(&merged, began + 1);
        for again in [began, began + 1] {
            let again = self.merge(window, rows.clone(), again);
            assert_eq!((again.writes, again.removed), (vec![], vec![]), "merged twice");
        }
        merged
    }

    /// Merges and stores a response with other ids for all rows, after an operator decided that
    /// they are the same. Merging it once more must change nothing.
    pub(crate) fn read_renumbered(
        &mut self,
        window: Window,
        rows: impl IntoIterator<Item = Transaction>,
        began: i64,
    ) -> MergedTransactions {
        let rows: Vec<_> = rows.into_iter().collect();
        let ids = rows.iter().map(|row| row.id.clone()).collect();
        let read = |began| ReadWindow::new(window, rows.clone(), hour(began)).rule(RowRule::Follow);
        let merged = merge_transactions(&self.known(window, &ids), read(began), &self.unlisted);
        self.store(&merged, began + 1);
        let again = merge_transactions(&self.known(window, &ids), read(began + 1), &self.unlisted);
        assert_eq!((again.writes, again.removed), (vec![], vec![]), "merged twice");
        merged
    }

    /// Reads everything from the last day to the first, in windows of a given length, like a deep
    /// resync.
    pub(crate) fn scan(
        &mut self,
        all: Window,
        length: u64,
        response: impl Fn(Window) -> Vec<Transaction>,
        began: i64,
    ) {
        let mut scan = HistoryScan::new(all.end(), all.start(), hour(began));
        let mut notes = ScanNotes::default();
        while let Some(window) = next_window(scan, length) {
            let rows = response(window);
            let mut ids: BTreeSet<_> = rows.iter().map(|row| row.id.clone()).collect();
            ids.extend(notes.absent.keys().cloned());
            let known = self.known(ReadWindow::reach(window), &ids);
            let read = ReadWindow::new(window, rows, hour(began)).of_scan(scan, notes.clone());
            let merged = merge_transactions(&known, read, &self.unlisted);
            self.store(&merged, began);
            let next = after(scan, window);
            notes.add(&merged, window, next.map(|scan| scan.next_end));
            match next {
                Some(next) => scan = next,
                None => break,
            }
        }
    }

    pub(crate) fn store(&mut self, merged: &MergedTransactions, now: i64) {
        for (account, id) in &merged.removed {
            let (known, _) = self.rows.get_mut(id).expect("only what is stored is removed");
            assert_eq!(known.account_id, *account);
            assert_eq!(known.removed_at.replace(hour(now)), None, "removed twice");
        }
        for TransactionWrite { known, row, .. } in merged.writes.clone() {
            assert_eq!(known.id, row.id);
            self.rows.insert(known.id.clone(), (known, row));
        }
    }

    /// Returns the rows that are not removed.
    pub(crate) fn live(&self) -> impl Iterator<Item = &KnownTransaction> {
        self.rows.values().map(|(known, _)| known).filter(|known| known.removed_at.is_none())
    }

    /// Returns the rows as the partner returned them, ordered by the partner's ids.
    pub(crate) fn as_read(&self) -> Vec<Transaction> {
        let live = self.rows.values().filter(|(known, _)| known.removed_at.is_none());
        let mut rows: Vec<_> = live
            .map(|(known, row)| {
                let mut row = row.clone();
                row.id = known.partner_id.clone();
                row
            })
            .collect();
        rows.sort_by(|a, b| a.id.cmp(&b.id));
        rows
    }

    /// Returns the id that applications know for each text.
    pub(crate) fn shown_ids(&self) -> BTreeMap<String, TransactionId> {
        let live = self.rows.values().filter(|(known, _)| known.removed_at.is_none());
        live.map(|(_, row)| (row.description.clone().unwrap(), row.id.clone())).collect()
    }

    /// Returns the rows as applications see them: own id, amount, text, whether posted.
    pub(crate) fn seen(&self) -> Vec<String> {
        let live = self.rows.values().filter(|(known, _)| known.removed_at.is_none());
        live.map(|(_, row)| {
            let state = if row.is_pending() { "pending" } else { "posted" };
            let text = row.description.as_deref().unwrap_or("-");
            format!("{} {} {text} {state}", row.id, row.amount)
        })
        .collect()
    }
}
