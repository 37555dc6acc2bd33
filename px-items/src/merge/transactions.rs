//! Transactions: what a window that was read whole changes.

use super::Digest;
use chrono::{DateTime, Utc};
use px_client::Window;
use px_types::{AccountId, Amount, Date, TransactionId, model::transaction::Transaction};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::LazyLock,
};

/// A transaction that is stored, or was and is gone; without its text.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KnownTransaction {
    /// The Item's own id of it, which applications see.
    pub id: TransactionId,
    /// The partner's present id of it.
    pub partner_id: TransactionId,
    /// The Item's own id of its account.
    pub account_id: AccountId,
    /// The amount.
    pub amount: Amount,
    /// What the amount is counted in, as the wire spells it.
    pub unit: String,
    /// The date on which it was made.
    pub transacted: Date,
    /// The date on which it posted; `None` while pending.
    pub settled: Option<Date>,
    /// Of the institution's text; `None` when there is none.
    pub description: Option<Digest>,
    /// Of its contents without the id.
    pub digest: Digest,
    /// When the walk began that it was stored from: what is older says nothing of it.
    pub read_at: DateTime<Utc>,
    /// When it was found to be gone; a tombstone then.
    pub removed_at: Option<DateTime<Utc>>,
}

impl KnownTransaction {
    /// What is known of a transaction once it is stored. Its account's id is the Item's own.
    #[must_use]
    pub fn of(id: TransactionId, row: &Transaction, read_at: DateTime<Utc>) -> Self {
        Self::with_digest(id, row, content_digest(&mut row.clone()), read_at)
    }

    fn with_digest(
        id: TransactionId,
        row: &Transaction,
        digest: Digest,
        read_at: DateTime<Utc>,
    ) -> Self {
        Self {
            id,
            partner_id: row.id.clone(),
            account_id: row.account_id.clone(),
            amount: row.amount,
            unit: row.unit.as_str().to_owned(),
            transacted: row.transacted_at.date(),
            settled: row.settled_at.map(|at| at.date()),
            description: row.description.as_ref().map(|text| Digest::of(text.as_bytes())),
            digest,
            read_at,
            removed_at: None,
        }
    }

    /// Whether it was stored or removed from what was read later than that. An older answer, come
    /// late or twice, says nothing of it then.
    fn is_younger_than(&self, began_at: DateTime<Utc>) -> bool {
        self.removed_at.unwrap_or(self.read_at).max(self.read_at) > began_at
    }

    /// The date by which windows and pages sort it; see [`Transaction::date`].
    #[must_use]
    pub fn date(&self) -> Date {
        self.settled.unwrap_or(self.transacted)
    }

    /// Whether each of its dates lies inside a window, so that the window's answer must have it.
    #[must_use]
    pub fn lies_inside(&self, window: Window) -> bool {
        let inside = |date| window.start() <= date && date <= window.end();
        inside(self.transacted) && self.settled.is_none_or(inside)
    }
}

/// A window that was read whole.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReadWindow {
    /// Which.
    pub window: Window,
    /// All its rows, as the partner gave them.
    pub rows: Vec<Transaction>,
    /// When the walk that read it began: nothing in it is younger.
    pub began_at: DateTime<Utc>,
}

impl ReadWindow {
    /// A window that was read whole.
    #[must_use]
    pub fn new(window: Window, rows: Vec<Transaction>, began_at: DateTime<Utc>) -> Self {
        Self { window, rows, began_at }
    }
}

/// How a stored transaction changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// The Item did not have it, or had it and lost it.
    Added,
    /// It is another now.
    Modified,
}

/// A transaction to be stored.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TransactionWrite {
    /// What is known of it from then on.
    pub known: KnownTransaction,
    /// Its text as applications read it: under the Item's own ids.
    pub row: Transaction,
    /// How it changed.
    pub change: Change,
}

impl TransactionWrite {
    /// A transaction to be stored, read under the partner's id by a walk that began then.
    #[must_use]
    pub fn new(
        id: TransactionId,
        mut row: Transaction,
        change: Change,
        read_at: DateTime<Utc>,
    ) -> Self {
        let digest = content_digest(&mut row);
        Self::with_digest(id, row, digest, change, read_at)
    }

    fn with_digest(
        id: TransactionId,
        mut row: Transaction,
        digest: Digest,
        change: Change,
        read_at: DateTime<Utc>,
    ) -> Self {
        let known = KnownTransaction::with_digest(id.clone(), &row, digest, read_at);
        row.id = id;
        Self { known, row, change }
    }
}

/// What a window changes.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct MergedTransactions {
    /// What is new or changed.
    pub writes: Vec<TransactionWrite>,
    /// What is gone: the account, and the Item's own id.
    pub removed: Vec<(AccountId, TransactionId)>,
    /// Posted transactions that were joined with a pending one of another id.
    pub joined: u64,
    /// Posted transactions for which more than one pending one fitted, or the reverse.
    pub ambiguous: u64,
    /// Ids that came back as another transaction.
    pub collisions: u64,
    /// All ids are new and the contents are the same: nothing is imported.
    pub ids_changed: bool,
    /// Up to where the next window back must reach as well; `None` is the usual. A stored row
    /// that by its date should have been read was not, and has another date outside the window:
    /// only a window that covers both can tell that it is gone. For [`crate::plan::after`].
    pub straddling: Option<Date>,
}

/// Merges a window into what is stored.
///
/// `known` has what lies inside the window or touches it, and what has an id of the answer, as
/// the partner's or as the Item's own, tombstones among them. `silent` are accounts whose rows
/// are not judged; see [`AccountIds`](super::AccountIds), which has also put the Item's own
/// account ids into what was read.
#[must_use]
pub fn merge_transactions(
    known: &[KnownTransaction],
    read: ReadWindow,
    silent: &BTreeSet<AccountId>,
) -> MergedTransactions {
    let mut merged = MergedTransactions::default();
    let by_id: HashMap<_, _> = known.iter().map(|known| (&known.partner_id, known)).collect();
    let mut seen = HashSet::new();
    for mut row in read.rows {
        if !seen.insert(row.id.clone()) {
            continue;
        }
        let digest = content_digest(&mut row);
        let (id, change) = match by_id.get(&row.id) {
            None => (row.id.clone(), Change::Added),
            Some(before) if before.is_younger_than(read.began_at) => continue,
            Some(before) if before.removed_at.is_some() => (before.id.clone(), Change::Added),
            Some(before) if before.digest == digest => continue,
            Some(before) => (before.id.clone(), Change::Modified),
        };
        merged.writes.push(TransactionWrite::with_digest(id, row, digest, change, read.began_at));
    }
    for row in known {
        let unread = row.removed_at.is_none() && !seen.contains(&row.partner_id);
        if !unread || row.is_younger_than(read.began_at) || silent.contains(&row.account_id) {
            continue;
        }
        if row.lies_inside(read.window) {
            merged.removed.push((row.account_id.clone(), row.id.clone()));
        }
    }
    merged.removed.sort_by(|(_, a), (_, b)| a.cmp(b));
    merged
}

/// The digest of a transaction's contents without its id.
///
/// The id is taken out while it is made, and put back: a copy of each row would cost more.
fn content_digest(row: &mut Transaction) -> Digest {
    static NONE: LazyLock<TransactionId> =
        LazyLock::new(|| TransactionId::new("-").expect("a hyphen is an id"));
    let id = std::mem::replace(&mut row.id, NONE.clone());
    let digest = Digest::of_json(row);
    row.id = id;
    digest
}
