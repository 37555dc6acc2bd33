//! The merge of transactions: the changes of one complete window.
//!
//! The rules that compare rows of different ids are in the submodules: `suspect` (changed ids and data
//! of another customer), `renumber` (changed ids after a decision), `shift` (ids that are positions),
//! `twin` (equal contents, withheld rows) and `join` (pending rows that post under another id).

mod join;
mod renumber;
mod shift;
mod suspect;
mod twin;

use super::{DATE_SLACK_DAYS, Digest, UnreadRows, derived_id};
use crate::{
    faults::FaultTally,
    plan,
    sync_state::{HistoryScan, ScanNotes},
};
use chrono::{DateTime, Utc};
use px_client::Window;
use px_types::{AccountId, Amount, Date, TransactionId, model::transaction::Transaction};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
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

/// A row of the response, with the digest of its contents.
struct IncomingRow {
    row: Transaction,
    digest: Digest,
}

impl IncomingRow {
    /// Prepares the rows of a response. If an id occurs twice in an account, only the first row is
    /// used; a window that was read completely has no such ids.
    fn from_response(rows: Vec<Transaction>) -> Vec<Self> {
        let mut ids = HashSet::with_capacity(rows.len());
        let first =
            rows.into_iter().filter(|row| ids.insert((row.id.clone(), row.account_id.clone())));
        first.map(|mut row| Self { digest: content_digest(&mut row), row }).collect()
    }
}

/// The outcome of the merge for an incoming row. Numbers are indexes of `MergeContext::known`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RowOutcome {
    /// The stored row has the same contents.
    Unchanged(usize),
    /// The stored row changed, or returned after its removal.
    Changed(usize),
    /// The row is a stored one under another id of the partner.
    Matched { to: usize, collides: bool },
    /// The row is not stored yet.
    New { collides: bool },
    /// The row may be a stored one under another id. It is not imported.
    Withheld,
    /// The row may be a stored one that was set aside. It is not imported until all rows are readable.
    Deferred,
    /// The stored data is newer.
    Stale,
    /// The row is on hold until a decision.
    OnHold,
}

impl RowOutcome {
    fn known(self) -> Option<usize> {
        match self {
            Self::Unchanged(known) | Self::Changed(known) | Self::Matched { to: known, .. } => {
                Some(known)
            }
            Self::New { .. } | Self::Withheld | Self::Deferred | Self::Stale | Self::OnHold => None,
        }
    }

    fn collides(self) -> bool {
        matches!(self, Self::New { collides: true } | Self::Matched { collides: true, .. })
    }
}

/// The stored rows and the response to merge.
struct MergeContext<'a> {
    known: &'a [KnownTransaction],
    by_partner_id: HashMap<&'a TransactionId, Vec<usize>>,
    own_ids: HashMap<&'a TransactionId, &'a KnownTransaction>,
    window: Window,
    began_at: DateTime<Utc>,
    scan: Option<(HistoryScan, ScanNotes)>,
    lacks_rows: bool,
    /// Accounts with posted rows that the bank files by posting date.
    filed_by_posting: HashSet<AccountId>,
    unlisted: &'a BTreeSet<AccountId>,
    /// Accounts with rows on hold already.
    accounts_on_hold: BTreeSet<AccountId>,
    /// Date of the last successful read.
    last_good: Option<Date>,
    /// Whether rows of the same update had known ids.
    recognized: bool,
    /// Number of rows that a newer window withheld.
    carried: usize,
    /// Stored rows on hold, by the Item's own ids. They may be missing from the response.
    on_hold: HashSet<TransactionId>,
    /// Rows that were set aside. A stored row that may be one of them is not judged.
    unread: UnreadRows,
}

impl<'a> MergeContext<'a> {
    fn new(
        known: &'a [KnownTransaction],
        read: &ReadWindow,
        unlisted: &'a BTreeSet<AccountId>,
    ) -> Self {
        let (window, began_at) = (read.window, read.began_at);
        let mut by_partner_id = HashMap::<_, Vec<_>>::with_capacity(known.len());
        for (index, known) in known.iter().enumerate() {
            by_partner_id.entry(&known.partner_id).or_default().push(index);
        }
        let own_ids = known.iter().map(|known| (&known.id, known)).collect();
        let mut context = Self {
            known,
            by_partner_id,
            own_ids,
            window,
            began_at,
            accounts_on_hold: read.accounts_on_hold.clone(),
            last_good: read.last_good,
            recognized: read.recognized,
            carried: read.carried,
            on_hold: HashSet::new(),
            scan: read.scan.clone(),
            lacks_rows: read.lacks_rows,
            unread: read.unread.clone(),
            filed_by_posting: HashSet::new(),
            unlisted,
        };
        context.filed_by_posting = context.accounts_filed_by_posting(&read.rows);
        context
    }

    /// Returns the accounts with rows that the bank files by posting date, judged by this response
    /// alone. The evidence is posted rows that were made well before the window: the response must
    /// contain at least as many of them as it lacks. In doubt, an account is left out.
    fn accounts_filed_by_posting(&self, rows: &[Transaction]) -> HashSet<AccountId> {
        let made_before = self.window.start().minus_days(DATE_SLACK_DAYS);
        let mut ids = HashSet::with_capacity(rows.len());
        let mut read = HashMap::<_, usize>::new();
        for row in rows {
            ids.insert(&row.id);
            let settled = row.settled_at.map(|at| at.date());
            let inside = settled.is_some_and(|on| self.contains(on) && self.is_clear(on));
            if row.transacted_at.date() < made_before && inside {
                *read.entry(&row.account_id).or_default() += 1;
            }
        }
        let mut lacking = HashMap::<_, usize>::new();
        for known in self.known.iter().filter(|known| self.is_judged(known)) {
            let inside = known.settled.is_some_and(|on| self.contains(on) && self.is_clear(on));
            if known.transacted < made_before && inside && !ids.contains(&known.partner_id) {
                *lacking.entry(&known.account_id).or_default() += 1;
            }
        }
        let enough = |(account, read): &(&AccountId, usize)| {
            lacking.get(account).is_none_or(|lacking| lacking <= read)
        };
        read.into_iter().filter(enough).map(|(account, _)| account.clone()).collect()
    }

    /// Returns the notes of the scan about newer windows.
    fn notes(&self) -> Option<&ScanNotes> {
        self.scan.as_ref().map(|(_, notes)| notes)
    }

    /// Returns every stored row and tombstone with an id of the partner.
    fn under(&self, partner_id: &TransactionId) -> impl Iterator<Item = usize> {
        self.by_partner_id.get(partner_id).into_iter().flatten().copied()
    }

    /// Returns the outcome for a row according to its id alone.
    fn outcome_by_id(&self, row: &IncomingRow) -> RowOutcome {
        let mut unknown = true;
        let mut newer = false;
        let mut best = None;
        for index in self.under(&row.row.id) {
            let known = &self.known[index];
            unknown = false;
            newer |= known.is_newer_than(self.began_at);
            if !known.can_be(&row.row) {
                continue;
            }
            let removed = known.removed_at.is_some();
            let differs = (known.digest != row.digest, known.date() != row.row.date());
            let candidate = (removed, differs, &known.id, index);
            best = Some(best.map_or(candidate, |best| candidate.min(best)));
        }
        match best {
            // The stored row has another id of the partner since it posted.
            _ if unknown && self.moved_on(&row.row.id) => RowOutcome::Stale,
            _ if unknown => RowOutcome::New { collides: false },
            Some((.., index)) if self.known[index].is_newer_than(self.began_at) => {
                RowOutcome::Stale
            }
            Some((false, (false, _), _, index)) => RowOutcome::Unchanged(index),
            Some((.., index)) => RowOutcome::Changed(index),
            None if newer => RowOutcome::Stale,
            None => RowOutcome::New { collides: true },
        }
    }

    fn moved_on(&self, id: &TransactionId) -> bool {
        self.own_ids.get(id).is_some_and(|known| known.is_newer_than(self.began_at))
    }

    /// Returns whether this response can prove anything about a stored row.
    fn is_judged(&self, known: &KnownTransaction) -> bool {
        known.removed_at.is_none()
            && !known.is_newer_than(self.began_at)
            && !self.unlisted.contains(&known.account_id)
            && !self.on_hold.contains(&known.id)
            && !self.may_be_unread(known)
    }

    /// Returns whether a stored row may be one that was set aside, in this window or in a newer window
    /// of the same scan.
    fn may_be_unread(&self, known: &KnownTransaction) -> bool {
        let unread = &self.unread;
        let before = self.notes().and_then(|notes| {
            let of_account = notes.unread_from.get(&known.account_id);
            of_account.into_iter().chain(&notes.any_unread_from).min()
        });
        unread.any
            || unread.accounts.contains(&known.account_id)
            || unread.ids.contains(&known.partner_id)
            || before.is_some_and(|from| known.dates().1.plus_days(DATE_SLACK_DAYS) >= *from)
    }

    /// Returns whether rows with unreadable ids were set aside.
    fn lacks_ids(&self) -> bool {
        let before = self
            .notes()
            .is_some_and(|notes| notes.any_unread_from.is_some() || !notes.unread_from.is_empty());
        self.unread.any || !self.unread.accounts.is_empty() || before
    }

    /// Returns whether a row that was set aside has the id of a stored one.
    fn has_unread(&self) -> bool {
        self.unread.ids.iter().any(|id| self.by_partner_id.contains_key(id))
    }

    /// Returns the stored rows with ids of rows that were set aside.
    fn rows_set_aside(&self) -> impl Iterator<Item = &KnownTransaction> {
        let unread = |known: &&KnownTransaction| self.unread.ids.contains(&known.partner_id);
        self.known.iter().filter(|known| known.removed_at.is_none()).filter(unread)
    }

    /// Returns whether a stored row counts as removed if it was not read. No row does if rows are
    /// missing from the windows.
    fn must_be_read(&self, known: &KnownTransaction) -> bool {
        let (first, last) = known.dates();
        let absent = || self.notes().is_some_and(|notes| notes.absent.contains_key(&known.id));
        let is_clear = || self.is_clear(last) || (absent() && self.is_clear(first));
        !self.lacks_rows && self.is_expected(known) && is_clear()
    }

    /// Returns whether a complete response contains a stored row, by whichever of its dates and in
    /// whichever time zone the bank files it.
    fn is_expected(&self, known: &KnownTransaction) -> bool {
        self.is_judged(known)
            && !self.was_read_before(known)
            && (self.is_covered(known) || self.is_filed_here(known))
    }

    /// Returns whether an incoming row of an unknown id with the same contents can only be this stored
    /// row: it is expected, or an overlapping newer window of the same scan read it under another id.
    fn is_followed(&self, known: &KnownTransaction) -> bool {
        let read_from = self.notes().and_then(|notes| notes.read_from);
        let overlaps = read_from.is_some_and(|from| from <= self.window.end());
        let again = overlaps && self.is_judged(known) && self.was_read_before(known);
        again || self.is_expected(known)
    }

    /// Returns whether the windows that were read so far cover all dates under which a row may be
    /// filed.
    fn is_covered(&self, known: &KnownTransaction) -> bool {
        let (first, last) = known.dates();
        first.minus_days(DATE_SLACK_DAYS) >= self.window.start()
            && (self.ends_after(last) || self.was_absent_before(known))
    }

    /// Returns whether a newer window of the same scan covered a date of the row and did not contain
    /// the row.
    fn was_absent_before(&self, known: &KnownTransaction) -> bool {
        self.notes().is_some_and(|notes| {
            notes.absent.contains_key(&known.id)
                || notes.absent_where_lacking.contains_key(&known.id)
        })
    }

    /// Returns whether a posted row belongs to the window because the bank files the rows of its
    /// account by posting date.
    fn is_filed_here(&self, known: &KnownTransaction) -> bool {
        known.settled.is_some_and(|settled| self.contains(settled))
            && self.filed_by_posting.contains(&known.account_id)
    }

    /// Returns whether a row with this date can be filed only inside the window.
    fn contains(&self, date: Date) -> bool {
        date.minus_days(DATE_SLACK_DAYS) >= self.window.start() && self.ends_after(date)
    }

    /// Returns whether no row with this date can be filed after the windows that were read. The newer
    /// windows of the same scan were read, and no row is filed after today.
    fn ends_after(&self, date: Date) -> bool {
        let end = self.window.end();
        let goes_on = self.scan.as_ref().is_some_and(|(scan, _)| scan.next_end < scan.end);
        if goes_on || end >= plan::today(self.began_at).1 {
            return date <= end;
        }
        date.plus_days(DATE_SLACK_DAYS) <= end
    }

    /// Returns whether no newer window in which a row of this date may be filed has missing rows.
    fn is_clear(&self, date: Date) -> bool {
        let lacking_from = self.notes().and_then(|notes| notes.lacking_from);
        lacking_from.is_none_or(|from| date.plus_days(DATE_SLACK_DAYS) < from)
    }

    /// Returns whether a row was read since the scan began, in a newer window or by another scan.
    fn was_read_before(&self, known: &KnownTransaction) -> bool {
        self.scan.as_ref().is_some_and(|(scan, notes)| {
            notes.seen.contains_key(&known.id) || known.read_at > scan.began_at
        })
    }

    fn is_in_window(&self, date: Date) -> bool {
        self.window.start() <= date && date <= self.window.end()
    }

    /// Returns for each stored row whether the response contains it.
    fn were_read(&self, outcomes: &[RowOutcome]) -> Vec<bool> {
        let mut read = vec![false; self.known.len()];
        for index in outcomes.iter().filter_map(|outcome| outcome.known()) {
            read[index] = true;
        }
        read
    }

    /// Returns whether a row that was set aside may be a stored one under another id: its id is
    /// unknown, and no stored row of the same state was read under its known id.
    fn unread_under_other_ids(&self, outcomes: &[RowOutcome]) -> ByState<bool> {
        let mut ids = self.unread.ids.iter();
        let has_unknown = ids.any(|id| !self.by_partner_id.contains_key(id));
        let mut may_be = ByState { pending: has_unknown, posted: has_unknown };
        for outcome in outcomes {
            if let RowOutcome::Unchanged(index) | RowOutcome::Changed(index) = outcome {
                *may_be.of_mut(&self.known[*index]) = false;
            }
        }
        may_be
    }

    /// Collects the removed rows, and the absent rows that older windows must confirm.
    fn collect_removed(&self, outcomes: &[RowOutcome], merged: &mut MergedTransactions) {
        let read = self.were_read(outcomes);
        let here = self.unread_under_other_ids(outcomes);
        merged.unread_under_other_ids = here;
        let before = self.notes().map(|notes| notes.unread_under_other_ids_from);
        let may_be_unread = |known: &KnownTransaction| {
            let from = before.and_then(|before| *before.of(known));
            let latest = known.dates().1.plus_days(DATE_SLACK_DAYS);
            *here.of(known) || from.is_some_and(|from| latest >= from)
        };
        let unread = self.known.iter().zip(read).filter(|(_, read)| !read).map(|(known, _)| known);
        for known in unread.filter(|known| self.is_judged(known) && !may_be_unread(known)) {
            let reaches = known.dates().0.minus_days(DATE_SLACK_DAYS);
            if self.must_be_read(known) {
                merged.removed.push((known.account_id.clone(), known.id.clone()));
            } else if !self.was_read_before(known)
                && self.is_in_window(known.date())
                && self.ends_after(known.date())
                && reaches < self.window.start()
            {
                let lacks = self.lacks_rows || !self.is_clear(known.date());
                let absent =
                    if lacks { &mut merged.absent_where_lacking } else { &mut merged.absent };
                absent.push((known.id.clone(), reaches));
            }
        }
        merged.removed.sort_by(|(_, a), (_, b)| a.cmp(b));
    }

    /// Returns the write for a row, or `None` if nothing is stored.
    fn write(
        &self,
        read: IncomingRow,
        outcome: RowOutcome,
        assigned: &mut HashSet<TransactionId>,
    ) -> Option<TransactionWrite> {
        let IncomingRow { row, digest } = read;
        let (id, change) = match outcome {
            RowOutcome::Unchanged(_)
            | RowOutcome::Withheld
            | RowOutcome::Deferred
            | RowOutcome::Stale
            | RowOutcome::OnHold => {
                return None;
            }
            RowOutcome::Changed(index) if self.known[index].removed_at.is_some() => {
                (self.known[index].id.clone(), Change::Added)
            }
            RowOutcome::Matched { to: index, .. } if self.known[index].digest == digest => {
                (self.known[index].id.clone(), Change::Renumbered)
            }
            RowOutcome::Changed(index) | RowOutcome::Matched { to: index, .. } => {
                (self.known[index].id.clone(), Change::Modified)
            }
            RowOutcome::New { .. } => (self.new_id(&row, digest, assigned), Change::Added),
        };
        Some(TransactionWrite::with_digest(id, row, digest, change, self.began_at))
    }

    /// Returns the Item's own id for a new row: the partner's id, unless another row already has it,
    /// in the store or in this response.
    fn new_id(
        &self,
        row: &Transaction,
        digest: Digest,
        assigned: &mut HashSet<TransactionId>,
    ) -> TransactionId {
        let partner_id = &row.id;
        if !self.own_ids.contains_key(partner_id) && assigned.insert(partner_id.clone()) {
            return partner_id.clone();
        }
        let instant = self.began_at.timestamp_micros().to_be_bytes();
        let text = derived_id(partner_id.as_str(), &[digest.as_bytes(), &instant]);
        TransactionId::new(text).unwrap_or_else(|_| partner_id.clone())
    }
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
