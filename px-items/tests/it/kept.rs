//! For tests of the merge: rows in short form, and a store as simple as can be.

use chrono::{DateTime, TimeDelta, Utc};
use px_client::Window;
use px_items::{
    life::{Walk, WalkNotes},
    merge::{
        KnownTransaction, MergedTransactions, ReadWindow, RowRule, TransactionWrite,
        merge_transactions,
    },
    plan::{after, next_window},
};
use px_types::{AccountId, Date, TransactionId, model::transaction::Transaction};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// The day with that number: the 20th day is 2026-01-21.
pub(crate) fn day(number: u64) -> Date {
    Date::from_ymd(2026, 1, 1).unwrap().plus_days(number)
}

/// The days from one to another.
pub(crate) fn days(from: u64, to: u64) -> Window {
    Window::new(day(from), day(to)).unwrap()
}

/// A moment: so many hours after the beginning of time.
pub(crate) fn hour(number: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::hours(number)
}

pub(crate) fn id(text: &str) -> TransactionId {
    TransactionId::new(text).unwrap()
}

pub(crate) fn account(text: &str) -> AccountId {
    AccountId::new(text).unwrap()
}

/// A transaction in short: `("t1", "12.50", "coffee")` of account `a`, made on day 10.
pub(crate) fn pending(id: &str, amount: &str, text: &str) -> Transaction {
    serde_json::from_value(json!({
        "id": id, "account_id": "a", "amount": amount, "currency": "USD",
        "description": text, "settled_at": null, "transacted_at": day(10), "type": "depository",
    }))
    .unwrap()
}

/// As [`pending`], posted on day 12.
pub(crate) fn posted(id: &str, amount: &str, text: &str) -> Transaction {
    pending(id, amount, text).made(10).posts(12)
}

/// Changes to rows that read well.
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

/// Rows as a store keeps them, tombstones too.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    rows: BTreeMap<TransactionId, (KnownTransaction, Transaction)>,
    pub(crate) silent: BTreeSet<AccountId>,
}

impl Kept {
    /// What was read of days 0 to 30 in the first hour.
    pub(crate) fn with(rows: impl IntoIterator<Item = Transaction>) -> Self {
        let mut kept = Self::default();
        kept.read(days(0, 30), rows, 1);
        kept
    }

    /// What a store gives for a window and ids.
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

    /// What an answer would change.
    pub(crate) fn merge(
        &self,
        window: Window,
        rows: impl IntoIterator<Item = Transaction>,
        began: i64,
    ) -> MergedTransactions {
        let rows: Vec<_> = rows.into_iter().collect();
        let ids = rows.iter().map(|row| row.id.clone()).collect();
        let read = ReadWindow::new(window, rows, hour(began));
        merge_transactions(&self.known(ReadWindow::reach(window), &ids), read, &self.silent)
    }

    /// Merges an answer and stores what it changes, an hour after its reading began. Merging it
    /// once more must change nothing.
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

    /// Merges and stores an answer of a partner that has given everything other ids, of which a
    /// person said that it is the same. Merging it once more must change nothing.
    pub(crate) fn read_renumbered(
        &mut self,
        window: Window,
        rows: impl IntoIterator<Item = Transaction>,
        began: i64,
    ) -> MergedTransactions {
        let rows: Vec<_> = rows.into_iter().collect();
        let ids = rows.iter().map(|row| row.id.clone()).collect();
        let read = |began| ReadWindow::new(window, rows.clone(), hour(began)).rule(RowRule::Follow);
        let merged = merge_transactions(&self.known(window, &ids), read(began), &self.silent);
        self.store(&merged, began + 1);
        let again = merge_transactions(&self.known(window, &ids), read(began + 1), &self.silent);
        assert_eq!((again.writes, again.removed), (vec![], vec![]), "merged twice");
        merged
    }

    /// Reads everything from the last day to the first, in windows of so many days, as a deep
    /// resync does.
    pub(crate) fn walk(
        &mut self,
        all: Window,
        length: u64,
        answer: impl Fn(Window) -> Vec<Transaction>,
        began: i64,
    ) {
        let mut walk = Walk::new(all.end(), all.start(), hour(began));
        let mut notes = WalkNotes::default();
        while let Some(window) = next_window(walk, length) {
            let rows = answer(window);
            let mut ids: BTreeSet<_> = rows.iter().map(|row| row.id.clone()).collect();
            ids.extend(notes.absent.keys().cloned());
            let known = self.known(ReadWindow::reach(window), &ids);
            let read = ReadWindow::new(window, rows, hour(began)).of_walk(walk, notes.clone());
            let merged = merge_transactions(&known, read, &self.silent);
            self.store(&merged, began);
            let next = after(walk, window);
            notes.add(&merged, window, next.map(|walk| walk.next_end));
            match next {
                Some(next) => walk = next,
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

    /// What is known of what is there.
    pub(crate) fn live(&self) -> impl Iterator<Item = &KnownTransaction> {
        self.rows.values().map(|(known, _)| known).filter(|known| known.removed_at.is_none())
    }

    /// What is there, as the partner gave it: under the partner's ids, by them.
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

    /// Under which id applications see each text.
    pub(crate) fn homes(&self) -> BTreeMap<String, TransactionId> {
        let live = self.rows.values().filter(|(known, _)| known.removed_at.is_none());
        live.map(|(_, row)| (row.description.clone().unwrap(), row.id.clone())).collect()
    }

    /// What is there as applications see it: own id, amount, text, whether it is posted.
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
