//! The merge of transactions: the changes of one complete window.
//!
//! The rules that compare rows of different ids are in the submodules: `suspect` (changed ids and data
//! of another customer), `renumber` (changed ids after a decision), `shift` (ids that are positions),
//! `twin` (equal contents, withheld rows) and `join` (pending rows that post under another id). They work
//! on the `context`.

mod context;
mod join;
mod renumber;
mod shift;
mod suspect;
mod twin;

use super::{DATE_SLACK_DAYS, Digest, UnreadRows};
use crate::{
    faults::FaultTally,
    sync_state::{HistoryScan, ScanNotes},
};
use chrono::{DateTime, Utc};
use context::{IncomingRow, MergeContext, RowOutcome};
use px_client::Window;
use px_types::{AccountId, Amount, Date, TransactionId, model::transaction::Transaction};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeSet, HashSet},
    sync::LazyLock,
};
pub use suspect::SuspectRows;

/// The metadata of a stored or removed transaction, without its text.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KnownTransaction {
    /// Item's own id, visible to applications.
    pub id: TransactionId,
    /// Current id of the partner.
    pub partner_id: TransactionId,
    /// Item's own id of the account.
    pub account_id: AccountId,
    /// Amount.
    pub amount: Amount,
    /// Unit of the amount, as in the wire format.
    pub unit: String,
    /// Transaction date.
    pub transacted: Date,
    /// Posting date; `None` while pending.
    pub settled: Option<Date>,
    /// Digest of the description; `None` if there is no description.
    pub description: Option<Digest>,
    /// Digest of the contents without the id.
    pub digest: Digest,
    /// Start time of the scan that read the stored contents. Older responses have no effect.
    pub read_at: DateTime<Utc>,
    /// Time of the removal; if set, this is a tombstone.
    pub removed_at: Option<DateTime<Utc>>,
}

impl KnownTransaction {
    /// Returns the metadata of a row that is about to be stored. The account id of `row` must be the
    /// Item's own.
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
            description: Self::text_digest(row),
            digest,
            read_at,
            removed_at: None,
        }
    }

    fn text_digest(row: &Transaction) -> Option<Digest> {
        row.description.as_ref().map(|text| Digest::of(text.as_bytes()))
    }

    /// Returns whether the transaction was stored or removed by a response that is newer than
    /// `began_at`. An older response that arrives late or twice then has no effect on it.
    fn is_newer_than(&self, began_at: DateTime<Utc>) -> bool {
        self.removed_at.unwrap_or(self.read_at).max(self.read_at) > began_at
    }

    /// Returns the date by which windows and pages sort the transaction; see [`Transaction::date`].
    #[must_use]
    pub fn date(&self) -> Date {
        self.settled.unwrap_or(self.transacted)
    }

    /// Returns whether a row with this id can be the same transaction.
    ///
    /// While a transaction is pending, everything but the account may change. If a posted transaction
    /// returns with another amount and another date at once, it is another transaction.
    fn can_be(&self, row: &Transaction) -> bool {
        let amount_stays = self.amount == row.amount && self.unit == row.unit.as_str();
        self.account_id == row.account_id
            && (self.settled.is_none() || amount_stays || self.date() == row.date())
    }

    /// Returns the earlier and the later of its two dates.
    fn dates(&self) -> (Date, Date) {
        let settled = self.settled.unwrap_or(self.transacted);
        (self.transacted.min(settled), self.transacted.max(settled))
    }
}

/// The rows of a window that was read completely.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReadWindow {
    /// Window.
    pub window: Window,
    /// All rows of the window, as the partner returned them.
    pub rows: Vec<Transaction>,
    /// Start time of the scan that read the window. No data in the window is newer.
    pub began_at: DateTime<Utc>,
    /// Treatment of rows with other ids than the stored ones.
    pub rule: RowRule,
    /// Accounts with rows on hold already; see [`MergedTransactions::suspect`].
    pub accounts_on_hold: BTreeSet<AccountId>,
    /// Date of the last successful read. While rows are on hold, a row of an unknown id is new only if
    /// its date is not earlier.
    pub last_good: Option<Date>,
    /// Whether rows of the same update had known ids. An empty window then does not raise the
    /// suspicion of another customer's data.
    pub recognized: bool,
    /// Scan that the window belongs to, with its notes about newer windows.
    pub scan: Option<(HistoryScan, ScanNotes)>,
    /// Whether rows are missing according to the partner's `total`. If so, no row counts as removed.
    pub lacks_rows: bool,
    /// Condition for [withholding](MergedTransactions::withheld) rows that may be stored ones under
    /// other ids; `None` to withhold none.
    pub withholding: Option<Withholding>,
    /// Number of rows at the end of `rows` that come from a newer window of the scan, which withheld
    /// them.
    pub carried: usize,
    /// Date of the oldest stored pending row, inside or outside of the window.
    pub oldest_pending: Option<Date>,
    /// Rows that were set aside. A stored row that may be one of them is not judged.
    pub unread: UnreadRows,
    /// Number of rows that the partner returned, including those missing from `rows` because they were
    /// set aside or are duplicates.
    pub rows_sent: u64,
    /// Faults of the pages of the window.
    pub faults: FaultTally,
}

/// The later windows that decide about withheld rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withholding {
    /// A single later window, of at most this many days, that covers all dates of the withheld rows.
    OneWindow(u64),
    /// The next windows of the scan, to which the rows are carried over.
    UnknownFields {
        /// First date of the history. Earlier dates are not read.
        history_start: Date,
    },
}

/// The treatment of rows with other ids than the stored ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowRule {
    /// The merge decides. If ids seem to have changed, rows are put on hold.
    #[default]
    Judge,
    /// An operator decided that they are the same rows. Stored rows are matched by their contents;
    /// rows with other contents are new or removed.
    Follow,
    /// An operator decided to accept the response as it is: unknown ids are new rows, missing ids are
    /// removed rows.
    AsGiven,
    /// The program decided that some accounts were rebooked. A row with a twin of equal contents keeps
    /// the Item's own id; other rows wait for the deep resync.
    Rebooked {
        /// Time of the decision.
        at: DateTime<Utc>,
        /// Affected accounts, by the Item's own ids.
        accounts: BTreeSet<AccountId>,
    },
}

impl ReadWindow {
    /// Creates a window that is not part of a scan.
    #[must_use]
    pub fn new(window: Window, rows: Vec<Transaction>, began_at: DateTime<Utc>) -> Self {
        Self {
            rows_sent: rows.len() as u64,
            window,
            rows,
            began_at,
            rule: RowRule::Judge,
            accounts_on_hold: BTreeSet::new(),
            last_good: None,
            recognized: false,
            scan: None,
            lacks_rows: false,
            withholding: None,
            carried: 0,
            oldest_pending: None,
            unread: UnreadRows::default(),
            faults: FaultTally::default(),
        }
    }

    /// Returns the dates of the stored rows that the merge of a window needs: the dates of the window,
    /// and [`DATE_SLACK_DAYS`] on either side, since the bank may file such a row inside the window.
    #[must_use]
    pub fn reach(window: Window) -> Window {
        let start = window.start().minus_days(DATE_SLACK_DAYS);
        Window::new(start, window.end().plus_days(DATE_SLACK_DAYS)).unwrap_or(window)
    }

    /// Sets the scan that the window belongs to, with its notes about newer windows.
    #[must_use]
    pub fn of_scan(mut self, scan: HistoryScan, notes: ScanNotes) -> Self {
        self.scan = Some((scan, notes));
        self
    }

    /// Sets the treatment of rows with other ids than the stored ones.
    #[must_use]
    pub fn rule(mut self, rule: RowRule) -> Self {
        self.rule = rule;
        self
    }

    /// Sets whether rows are missing according to the partner's `total`.
    #[must_use]
    pub fn lacking(mut self, lacks_rows: bool) -> Self {
        self.lacks_rows = lacks_rows;
        self
    }

    /// Sets the rows that were set aside, with the Item's own account ids.
    #[must_use]
    pub fn unread(mut self, unread: UnreadRows) -> Self {
        self.unread = unread;
        self
    }

    /// Sets the condition for withholding rows.
    #[must_use]
    pub fn withholding(mut self, withholding: Option<Withholding>) -> Self {
        self.withholding = withholding;
        self
    }

    /// Adds rows that a newer window of the scan withheld.
    #[must_use]
    pub fn carrying(mut self, rows: Vec<Transaction>) -> Self {
        let ids: HashSet<_> = self.rows.iter().map(|row| row.id.clone()).collect();
        let rows: Vec<_> = rows.into_iter().filter(|row| !ids.contains(&row.id)).collect();
        self.carried = rows.len();
        self.rows.extend(rows);
        self
    }
}

/// The kind of a change to a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// The transaction is new, or returned after its removal.
    Added,
    /// The contents changed.
    Modified,
    /// Only the partner's id changed.
    Renumbered,
}

/// A transaction to store.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TransactionWrite {
    /// Metadata after the write.
    pub known: KnownTransaction,
    /// Transaction as applications read it, with the Item's own ids.
    pub row: Transaction,
    /// Kind of the change.
    pub change: Change,
}

impl TransactionWrite {
    /// Creates a write of `row`, which a scan that began at `read_at` read under the partner's id.
    /// `id` is the Item's own id.
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

/// The changes by a window.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct MergedTransactions {
    /// New and changed transactions.
    pub writes: Vec<TransactionWrite>,
    /// Removed transactions: account and transaction, by the Item's own ids.
    pub removed: Vec<(AccountId, TransactionId)>,
    /// Number of posted transactions that were joined with a pending one of another id.
    pub joined: u64,
    /// Number of posted transactions that were not joined because more than one pending transaction
    /// fits, or more than one posted one fits the pending transaction.
    pub ambiguous: u64,
    /// Number of ids that returned as another transaction: in another account, or posted before and
    /// now with another amount and another date at once, or with the contents of a neighbouring row.
    /// The new transaction does not replace the stored one.
    pub collisions: u64,
    /// Rows with other ids that are on hold.
    pub suspect: Option<SuspectRows>,
    /// Rows that keep the Item's own id under a new id of the partner because of a decision: the
    /// Item's own id, and the partner's previous id.
    pub moved: Vec<(TransactionId, TransactionId)>,
    /// Stored rows with a date in the window that were not read but may be filed under an earlier
    /// date. The value is the date back to which the scan must read before the row counts as removed.
    pub absent: Vec<(TransactionId, Date)>,
    /// Like [`absent`](Self::absent), for windows with missing rows.
    pub absent_where_lacking: Vec<(TransactionId, Date)>,
    /// Rows that were read, by the Item's own ids, with their dates.
    pub read: Vec<(TransactionId, Date)>,
    /// Withheld rows: each may be a stored row under another id.
    pub withheld: Option<WithheldSpan>,
    /// Contents of the withheld rows.
    pub withheld_rows: Vec<Transaction>,
    /// Whether rows are missing according to the partner's `total`.
    pub lacks_rows: bool,
    /// Rows that were set aside.
    pub unread: UnreadRows,
    /// Whether a row that was set aside may be a stored row under another id.
    pub unread_under_other_ids: ByState<bool>,
    /// Whether any stored row was read.
    pub recognized: bool,
}

/// A value for pending rows and one for posted rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByState<T> {
    /// Value for pending rows.
    pub pending: T,
    /// Value for posted rows.
    pub posted: T,
}

impl<T> ByState<T> {
    fn of(&self, known: &KnownTransaction) -> &T {
        if known.settled.is_none() { &self.pending } else { &self.posted }
    }

    fn of_mut(&mut self, known: &KnownTransaction) -> &mut T {
        if known.settled.is_none() { &mut self.pending } else { &mut self.posted }
    }
}

/// Withheld rows: their number, and the dates to read for a decision.
///
/// Each of these rows is either new, or a stored row under another id and with other contents that the
/// window cannot judge. A read of all the dates decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WithheldSpan {
    /// Number of withheld rows.
    pub rows: u64,
    /// First date of the deciding windows.
    pub from: Date,
    /// Last date of the deciding windows.
    pub until: Date,
}

/// Merges a window into the stored transactions.
///
/// `known` must contain the stored rows with dates inside [`ReadWindow::reach`], and every row or
/// tombstone with an id of the response, as the partner's id or as the Item's own. `unlisted` are
/// accounts that the partner does not list; their stored rows are not judged. The rows of `read` must
/// have the Item's own account ids; see [`AccountIds`](super::AccountIds).
///
/// # Terms
///
/// - A stored row is *judged* if the response can prove something about it. Not judged are rows of
///   unlisted accounts, rows on hold, rows that a newer response stored or removed, and rows that may
///   be among those that were [set aside](ReadWindow::unread). Such a row does not count as removed,
///   and no incoming row of another id is matched with it.
/// - A stored row is *expected* if it is judged, no newer window of the scan has read it, and a
///   complete response contains it, by whichever of its two dates and in whichever time zone the bank
///   files it.
/// - An expected row is *missing* if the response does not contain its id. It is *provably missing*
///   if, in addition, no window that may contain it lacks rows according to the partner's `total`.
/// - The id of an incoming row is *unknown* if no stored row or tombstone has it as the partner's id.
///
/// # Rules
///
/// The rules apply in this order. A row that one rule decides is skipped by the later ones, except for
/// rule 3, which also corrects the result of rule 1.
///
/// 1. **Same id.** An incoming row is the stored row of the same id, whatever else changed, unless it
///    [cannot be the same transaction](MergedTransactions::collisions). Stored rows and tombstones of
///    newer responses win over an older response.
/// 2. **Changed ids.** If at least 80 % of the provably missing posted rows, and at least three,
///    return with unknown ids and the same contents, and outnumber the rows with known ids, the
///    partner changed its ids. The missing rows and their possible new forms are then on hold. Each
///    account is checked on its own, and all of them together. If rows of the account are on hold
///    already, one such row is enough. If at least ten posted rows are provably missing and the
///    response contains no known id and no such row, it may be another customer's, and nothing is
///    imported; an empty window is no evidence if newer rows of the same update were recognized. After
///    a decision, [`RowRule`] applies instead.
/// 3. **Shifted ids.** A posted row keeps the Item's own id if its contents return under another id of
///    the response while its former id carries other contents. A missing posted row keeps it as well
///    if its contents return under the former id of such a row.
/// 4. **Equal contents.** An incoming row of an unknown id is the posted row with the same contents
///    that is missing, or that an overlapping newer window of the scan read under another id. Missing
///    pending rows are left to rule 5. Pending rows that are judged but not expected are matched here,
///    unless the caller withholds rows.
/// 5. **Posting.** A posted row of an unknown id is withheld if it has the account, unit and dates of
///    a stored row that this window cannot judge, and the same amount or description. Then a missing
///    pending row is matched with an equal pending row of an unknown id, or joined with a posted row
///    of an unknown id, if nothing else fits on either side.
/// 6. **The rest.** An incoming row that no rule matched is deferred if it may be a stored row that
///    was set aside, withheld if it may be a stored row that this window cannot judge, and new
///    otherwise. A provably missing row that no rule matched is removed, unless it may be a row that
///    was set aside.
///
/// With [`RowRule::AsGiven`], rules 2 and 4 do not apply, and no row is withheld or deferred.
#[must_use]
pub fn merge_transactions(
    known: &[KnownTransaction],
    read: ReadWindow,
    unlisted: &BTreeSet<AccountId>,
) -> MergedTransactions {
    let mut context = MergeContext::new(known, &read, unlisted);
    let rule = read.rule;
    let withholding = read.withholding.filter(|_| rule != RowRule::AsGiven);
    let oldest_pending = read.oldest_pending;
    let rows = IncomingRow::from_response(read.rows);
    let mut outcomes: Vec<RowOutcome> = rows.iter().map(|row| context.outcome_by_id(row)).collect();
    let followed = renumber::follow(&context, &rows, &mut outcomes, &rule);
    let suspect = suspect::hold(&mut context, &rows, &mut outcomes, &rule);
    if suspect.as_ref().is_some_and(|suspect| suspect.another_customer) {
        return MergedTransactions { suspect, ..MergedTransactions::default() };
    }
    shift::follow(&context, &rows, &mut outcomes);
    if rule != RowRule::AsGiven {
        twin::follow(&context, &rows, &mut outcomes, withholding.is_some());
    }
    let mut withholder = withholding
        .map(|withholding| twin::Withholder::new(&context, &outcomes, withholding, oldest_pending));
    if let Some(withholder) = &mut withholder {
        withholder.withhold_posted(&rows, &mut outcomes);
    }
    let (joined, ambiguous) = join::join(&context, &rows, &mut outcomes);
    if rule != RowRule::AsGiven {
        twin::defer_unread(&context, &rows, &mut outcomes);
    }
    let withheld = withholder
        .and_then(|withholder| withholder.withhold_others(&context, &rows, &mut outcomes));
    let moved = followed.into_iter().map(|index| &context.known[index]);
    let mut merged = MergedTransactions {
        joined,
        ambiguous,
        suspect,
        withheld,
        moved: moved.map(|known| (known.id.clone(), known.partner_id.clone())).collect(),
        lacks_rows: context.lacks_rows,
        unread: context.unread.clone(),
        recognized: outcomes.iter().any(|outcome| outcome.known().is_some())
            || context.has_unread(),
        ..MergedTransactions::default()
    };
    context.collect_removed(&outcomes, &mut merged);
    // A row that was set aside was present, even if its contents could not be read.
    merged.read.extend(context.rows_set_aside().map(|known| (known.id.clone(), known.date())));
    let mut assigned = HashSet::new();
    for (row, outcome) in rows.into_iter().zip(outcomes) {
        if outcome.collides() {
            merged.collisions += 1;
        }
        if outcome == RowOutcome::Withheld {
            merged.withheld_rows.push(row.row);
            continue;
        }
        let date = row.row.date();
        let write = context.write(row, outcome, &mut assigned);
        let id = match (&write, outcome.known()) {
            (Some(write), _) => Some(write.known.id.clone()),
            (None, index) => index.map(|index| context.known[index].id.clone()),
        };
        merged.read.extend(id.map(|id| (id, date)));
        merged.writes.extend(write);
    }
    merged
}

/// Returns the digest of a transaction's contents without its id.
///
/// The id is replaced during the computation and restored afterwards, which is cheaper than a copy of
/// each row.
pub(super) fn content_digest(row: &mut Transaction) -> Digest {
    static PLACEHOLDER: LazyLock<TransactionId> =
        LazyLock::new(|| TransactionId::new("-").expect("a hyphen is an id"));
    let id = std::mem::replace(&mut row.id, PLACEHOLDER.clone());
    let digest = Digest::of_json(row);
    row.id = id;
    digest
}
