//! Transactions: what a window that was read whole changes.

use super::Digest;
use chrono::{DateTime, Utc};
use px_client::Window;
use px_types::{AccountId, Amount, Date, TransactionId, model::transaction::Transaction};
use std::collections::BTreeSet;

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
    /// Of its contents without the id.
    pub digest: Digest,
    /// When it was found to be gone; a tombstone then.
    pub removed_at: Option<DateTime<Utc>>,
}

impl KnownTransaction {
    /// What is known of a transaction once it is stored. Its account's id is the Item's own.
    #[must_use]
    pub fn of(id: TransactionId, row: &Transaction) -> Self {
        Self {
            id,
            partner_id: row.id.clone(),
            account_id: row.account_id.clone(),
            amount: row.amount,
            unit: row.unit.as_str().to_owned(),
            transacted: row.transacted_at.date(),
            settled: row.settled_at.map(|at| at.date()),
            digest: content_digest(row),
            removed_at: None,
        }
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
    /// A transaction to be stored, read under the partner's ids.
    #[must_use]
    pub fn new(id: TransactionId, mut row: Transaction, change: Change) -> Self {
        let known = KnownTransaction::of(id.clone(), &row);
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
}

/// Merges a window into what is stored.
///
/// `known` has what lies inside the window or touches it, and what has an id of the answer,
/// tombstones among them. `silent` are accounts whose rows are not judged: missing in the last
/// answer, closed or held. Accounts' ids in `read` are the Item's own already.
#[must_use]
pub fn merge_transactions(
    known: &[KnownTransaction],
    read: ReadWindow,
    silent: &BTreeSet<AccountId>,
) -> MergedTransactions {
    let mut merged = MergedTransactions::default();
    let mut seen = BTreeSet::new();
    for row in read.rows {
        let before = known.iter().find(|known| known.partner_id == row.id);
        seen.insert(row.id.clone());
        let change = match before {
            None => Change::Added,
            Some(before) if before.removed_at.is_some() => Change::Added,
            Some(before) if before.digest != content_digest(&row) => Change::Modified,
            Some(_) => continue,
        };
        let id = before.map_or_else(|| row.id.clone(), |before| before.id.clone());
        merged.writes.push(TransactionWrite::new(id, row, change));
    }
    for row in known {
        let gone = row.removed_at.is_none() && row.lies_inside(read.window);
        if gone && !seen.contains(&row.partner_id) && !silent.contains(&row.account_id) {
            merged.removed.push((row.account_id.clone(), row.id.clone()));
        }
    }
    merged
}

/// The digest of a transaction's contents without its id.
fn content_digest(row: &Transaction) -> Digest {
    let mut row = row.clone();
    if let Ok(id) = TransactionId::new("-") {
        row.id = id;
    }
    Digest::of(&serde_json::to_vec(&row).unwrap_or_default())
}
