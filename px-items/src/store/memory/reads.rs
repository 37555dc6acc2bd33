//! Reads: pages, changes, and the overview.

use super::{ItemEntry, MemoryState, TransactionRow};
use crate::{
    merge::KnownTransaction,
    store::{
        ChangePage, ChangeQuery, ChangeRow, ItemRecord, Overview, TransactionPage, TransactionQuery,
    },
};
use chrono::{DateTime, Utc};
use px_client::Window;
use px_types::{AccountId, ItemId, TransactionId, model::transaction::Transaction};
use std::{cmp::Reverse, collections::BTreeSet, ops::Bound};

impl MemoryState {
    /// Reads from an Item. Returns the default value if the Item does not exist.
    pub(super) fn read<T: Default>(&self, item: &ItemId, read: impl Fn(&ItemEntry) -> T) -> T {
        self.items.get(item).map(read).unwrap_or_default()
    }

    pub(super) fn transactions(&self, item: &ItemId, query: &TransactionQuery) -> TransactionPage {
        let entry = self.items.get(item);
        let mut found: Vec<&Transaction> = entry
            .into_iter()
            .flat_map(|entry| entry.transactions.values())
            .filter_map(|row| row.transaction.as_ref())
            .filter(|row| {
                contains(query.window, row.date()) && selects(&query.accounts, &row.account_id)
            })
            .collect();
        found.sort_unstable_by_key(|row| (Reverse(row.date()), &row.id));
        let total = u64::try_from(found.len()).ok().filter(|_| query.counted);
        let is_after = |row: &&&Transaction| match &query.after {
            Some((date, id)) => (Reverse(row.date()), &row.id) > (Reverse(*date), id),
            None => true,
        };
        let rows = found.iter().filter(is_after).take(query.limit).map(|row| (*row).clone());
        TransactionPage::new(rows.collect(), total)
    }

    pub(super) fn changes(&self, item: &ItemId, query: &ChangeQuery) -> ChangePage {
        let Some(entry) = self.items.get(item) else {
            return ChangePage::new(Vec::new(), query.after.clone(), false, 0);
        };
        let is_after = |row: &&TransactionRow| match &query.after {
            (seq, None) => row.changed_seq > *seq,
            (seq, Some(id)) => (row.changed_seq, &row.known.id) > (*seq, id),
        };
        let mut found: Vec<&TransactionRow> = entry
            .transactions
            .values()
            .filter(is_after)
            .filter(|row| selects(&query.accounts, &row.known.account_id))
            .filter(|row| row.transaction.is_some() || row.first_seq <= query.base)
            .collect();
        found.sort_unstable_by_key(|row| (row.changed_seq, &row.known.id));
        let more = found.len() > query.limit;
        found.truncate(query.limit);
        let last = found.last().map(|row| (row.changed_seq, Some(row.known.id.clone())));
        ChangePage::new(
            found.into_iter().filter_map(|row| row.change_since(query.base)).collect(),
            last.unwrap_or_else(|| query.after.clone()),
            more,
            entry.change_seq,
        )
    }

    pub(super) fn known(
        &self,
        item: &ItemId,
        window: Window,
        ids: &[TransactionId],
    ) -> Vec<KnownTransaction> {
        let ids: BTreeSet<_> = ids.iter().collect();
        let touches = |row: &&TransactionRow| {
            let in_window = row.transaction.is_some() && contains(window, row.known.date());
            in_window || ids.contains(&row.known.partner_id) || ids.contains(&row.known.id)
        };
        self.read(item, |entry| {
            entry.transactions.values().filter(touches).map(|row| row.known.clone()).collect()
        })
    }

    pub(super) fn overview(&self, now: DateTime<Utc>) -> Overview {
        let mut overview = Overview::default();
        for entry in self.items.values() {
            *overview.states.entry(entry.state).or_default() += 1;
            if let Some(wake_at) = entry.wake_at().filter(|wake_at| *wake_at <= now) {
                overview.due += 1;
                overview.due_since = Some(overview.due_since.map_or(wake_at, |at| at.min(wake_at)));
            }
        }
        overview.webhooks = u64::try_from(self.outbox.len()).unwrap_or(u64::MAX);
        overview.webhooks_since =
            self.outbox.values().map(|queued| queued.message.created_at).min();
        overview
    }

    /// Deletes at most `limit` transactions that were removed before a moment.
    pub(super) fn purge(&mut self, removed_before: DateTime<Utc>, limit: usize) -> u64 {
        let mut purged = 0;
        for entry in self.items.values_mut() {
            entry.transactions.retain(|_, row| {
                let old = row.known.removed_at.is_some_and(|at| at < removed_before);
                let purge = old && row.transaction.is_none() && purged < limit;
                purged += usize::from(purge);
                !purge
            });
        }
        u64::try_from(purged).unwrap_or(u64::MAX)
    }

    pub(super) fn list(&self, after: Option<&ItemId>, limit: usize) -> Vec<ItemRecord> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let items = self.items.range::<ItemId, _>((from, Bound::Unbounded));
        items.take(limit).map(|(id, entry)| entry.record(id)).collect()
    }
}

impl TransactionRow {
    /// Returns the change for a reader with the state of `base`, or `None` if such a reader never
    /// had the transaction.
    fn change_since(&self, base: i64) -> Option<ChangeRow> {
        let known = &self.known;
        match &self.transaction {
            Some(transaction) if self.added_seq > base => {
                Some(ChangeRow::Added(transaction.clone()))
            }
            Some(transaction) => Some(ChangeRow::Modified(transaction.clone())),
            None if self.first_seq > base => None,
            None => Some(ChangeRow::Removed(known.account_id.clone(), known.id.clone())),
        }
    }
}

fn contains(window: Window, date: px_types::Date) -> bool {
    window.start() <= date && date <= window.end()
}

fn selects(accounts: &Option<Vec<AccountId>>, account: &AccountId) -> bool {
    accounts.as_ref().is_none_or(|accounts| accounts.contains(account))
}
