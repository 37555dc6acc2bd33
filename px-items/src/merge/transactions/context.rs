//! The stored rows, the response to merge with them, and the outcome of each row.

use super::{
    ByState, Change, KnownTransaction, MergedTransactions, ReadWindow, TransactionWrite,
    content_digest,
};
use crate::{
    merge::{DATE_SLACK_DAYS, Digest, UnreadRows, derived_id},
    plan,
    sync_state::{HistoryScan, ScanNotes},
};
use chrono::{DateTime, Utc};
use px_client::Window;
use px_types::{AccountId, Date, TransactionId, model::transaction::Transaction};
use std::collections::{BTreeSet, HashMap, HashSet};

/// A row of the response, with the digest of its contents.
pub(super) struct IncomingRow {
    pub(super) row: Transaction,
    pub(super) digest: Digest,
}

impl IncomingRow {
    /// Prepares the rows of a response. If an id occurs twice in an account, only the first row is
    /// used; a window that was read completely has no such ids.
    pub(super) fn from_response(rows: Vec<Transaction>) -> Vec<Self> {
        let mut ids = HashSet::with_capacity(rows.len());
        let first =
            rows.into_iter().filter(|row| ids.insert((row.id.clone(), row.account_id.clone())));
        first.map(|mut row| Self { digest: content_digest(&mut row), row }).collect()
    }
}

/// The outcome of the merge for an incoming row. Numbers are indexes of `MergeContext::known`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowOutcome {
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
    pub(super) fn known(self) -> Option<usize> {
        match self {
            Self::Unchanged(known) | Self::Changed(known) | Self::Matched { to: known, .. } => {
                Some(known)
            }
            Self::New { .. } | Self::Withheld | Self::Deferred | Self::Stale | Self::OnHold => None,
        }
    }

    pub(super) fn collides(self) -> bool {
        matches!(self, Self::New { collides: true } | Self::Matched { collides: true, .. })
    }
}

/// The stored rows and the response to merge.
pub(super) struct MergeContext<'a> {
    pub(super) known: &'a [KnownTransaction],
    pub(super) by_partner_id: HashMap<&'a TransactionId, Vec<usize>>,
    pub(super) own_ids: HashMap<&'a TransactionId, &'a KnownTransaction>,
    pub(super) window: Window,
    pub(super) began_at: DateTime<Utc>,
    pub(super) scan: Option<(HistoryScan, ScanNotes)>,
    pub(super) lacks_rows: bool,
    /// Accounts with posted rows that the bank files by posting date.
    pub(super) filed_by_posting: HashSet<AccountId>,
    pub(super) unlisted: &'a BTreeSet<AccountId>,
    /// Accounts with rows on hold already.
    pub(super) accounts_on_hold: BTreeSet<AccountId>,
    /// Date of the last successful read.
    pub(super) last_good: Option<Date>,
    /// Whether rows of the same update had known ids.
    pub(super) recognized: bool,
    /// Number of rows that a newer window withheld.
    pub(super) carried: usize,
    /// Stored rows on hold, by the Item's own ids. They may be missing from the response.
    pub(super) on_hold: HashSet<TransactionId>,
    /// Rows that were set aside. A stored row that may be one of them is not judged.
    pub(super) unread: UnreadRows,
}

impl<'a> MergeContext<'a> {
    pub(super) fn new(
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
    pub(super) fn accounts_filed_by_posting(&self, rows: &[Transaction]) -> HashSet<AccountId> {
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
    pub(super) fn notes(&self) -> Option<&ScanNotes> {
        self.scan.as_ref().map(|(_, notes)| notes)
    }

    /// Returns every stored row and tombstone with an id of the partner.
    pub(super) fn under(&self, partner_id: &TransactionId) -> impl Iterator<Item = usize> {
        self.by_partner_id.get(partner_id).into_iter().flatten().copied()
    }

    /// Returns the outcome for a row according to its id alone.
    pub(super) fn outcome_by_id(&self, row: &IncomingRow) -> RowOutcome {
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

    pub(super) fn moved_on(&self, id: &TransactionId) -> bool {
        self.own_ids.get(id).is_some_and(|known| known.is_newer_than(self.began_at))
    }

    /// Returns whether this response can prove anything about a stored row.
    pub(super) fn is_judged(&self, known: &KnownTransaction) -> bool {
        self.is_comparable(known) && !self.unlisted.contains(&known.account_id)
    }

    /// Returns whether an incoming row of an unknown id may be a stored row. That the partner lists the
    /// account is not necessary, because it returned a row of the account.
    fn is_comparable(&self, known: &KnownTransaction) -> bool {
        known.removed_at.is_none()
            && !known.is_newer_than(self.began_at)
            && !self.on_hold.contains(&known.id)
            && !self.may_be_unread(known)
    }

    /// Returns whether a stored row may be one that was set aside, in this window or in a newer window
    /// of the same scan.
    pub(super) fn may_be_unread(&self, known: &KnownTransaction) -> bool {
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
    pub(super) fn lacks_ids(&self) -> bool {
        let before = self
            .notes()
            .is_some_and(|notes| notes.any_unread_from.is_some() || !notes.unread_from.is_empty());
        self.unread.any || !self.unread.accounts.is_empty() || before
    }

    /// Returns whether a row that was set aside has the id of a stored one.
    pub(super) fn has_unread(&self) -> bool {
        self.unread.ids.iter().any(|id| self.by_partner_id.contains_key(id))
    }

    /// Returns the stored rows with ids of rows that were set aside.
    pub(super) fn rows_set_aside(&self) -> impl Iterator<Item = &KnownTransaction> {
        let unread = |known: &&KnownTransaction| self.unread.ids.contains(&known.partner_id);
        self.known.iter().filter(|known| known.removed_at.is_none()).filter(unread)
    }

    /// Returns whether a stored row counts as removed if it was not read. No row does if rows are
    /// missing from the windows.
    pub(super) fn must_be_read(&self, known: &KnownTransaction) -> bool {
        let (first, last) = known.dates();
        let absent = || self.notes().is_some_and(|notes| notes.absent.contains_key(&known.id));
        let is_clear = || self.is_clear(last) || (absent() && self.is_clear(first));
        !self.lacks_rows && self.is_expected(known) && is_clear()
    }

    /// Returns whether a complete response contains a stored row, by whichever of its dates and in
    /// whichever time zone the bank files it.
    pub(super) fn is_expected(&self, known: &KnownTransaction) -> bool {
        self.is_judged(known) && self.is_filed_only_here(known)
    }

    /// Returns whether a stored row can be in no other window of the scan than in this one.
    fn is_filed_only_here(&self, known: &KnownTransaction) -> bool {
        !self.was_read_before(known) && (self.is_covered(known) || self.is_filed_here(known))
    }

    /// Returns whether an incoming row of an unknown id with the same contents can only be this stored
    /// row: it is expected, or an overlapping newer window of the same scan read it under another id.
    pub(super) fn is_followed(&self, known: &KnownTransaction) -> bool {
        let read_from = self.notes().and_then(|notes| notes.read_from);
        let overlaps = read_from.is_some_and(|from| from <= self.window.end());
        let again = overlaps && self.was_read_before(known);
        let here = || self.is_filed_only_here(known) || self.was_passed(known);
        self.is_comparable(known) && (again || here())
    }

    /// Returns whether the windows of this scan cover all dates under which a row of an unlisted account
    /// may be filed, without the row. No absence is recorded for such rows, since it proves nothing
    /// about them.
    fn was_passed(&self, known: &KnownTransaction) -> bool {
        let (first, last) = known.dates();
        self.unlisted.contains(&known.account_id)
            && !self.was_read_before(known)
            && first.minus_days(DATE_SLACK_DAYS) >= self.window.start()
            && self.scan.as_ref().is_some_and(|(scan, _)| last <= scan.end)
    }

    /// Returns whether the windows that were read so far cover all dates under which a row may be
    /// filed.
    pub(super) fn is_covered(&self, known: &KnownTransaction) -> bool {
        let (first, last) = known.dates();
        first.minus_days(DATE_SLACK_DAYS) >= self.window.start()
            && (self.ends_after(last) || self.was_absent_before(known))
    }

    /// Returns whether a newer window of the same scan covered a date of the row and did not contain
    /// the row.
    pub(super) fn was_absent_before(&self, known: &KnownTransaction) -> bool {
        self.notes().is_some_and(|notes| {
            notes.absent.contains_key(&known.id)
                || notes.absent_where_lacking.contains_key(&known.id)
        })
    }

    /// Returns whether a posted row belongs to the window because the bank files the rows of its
    /// account by posting date.
    pub(super) fn is_filed_here(&self, known: &KnownTransaction) -> bool {
        known.settled.is_some_and(|settled| self.contains(settled))
            && self.filed_by_posting.contains(&known.account_id)
    }

    /// Returns whether a row with this date can be filed only inside the window.
    pub(super) fn contains(&self, date: Date) -> bool {
        date.minus_days(DATE_SLACK_DAYS) >= self.window.start() && self.ends_after(date)
    }

    /// Returns whether no row with this date can be filed after the windows that were read. The newer
    /// windows of the same scan were read, and no row is filed after today.
    pub(super) fn ends_after(&self, date: Date) -> bool {
        let end = self.window.end();
        let goes_on = self.scan.as_ref().is_some_and(|(scan, _)| scan.next_end < scan.end);
        if goes_on || end >= plan::today(self.began_at).1 {
            return date <= end;
        }
        date.plus_days(DATE_SLACK_DAYS) <= end
    }

    /// Returns whether no newer window in which a row of this date may be filed has missing rows.
    pub(super) fn is_clear(&self, date: Date) -> bool {
        let lacking_from = self.notes().and_then(|notes| notes.lacking_from);
        lacking_from.is_none_or(|from| date.plus_days(DATE_SLACK_DAYS) < from)
    }

    /// Returns whether a row was read since the scan began, in a newer window or by another scan.
    pub(super) fn was_read_before(&self, known: &KnownTransaction) -> bool {
        self.scan.as_ref().is_some_and(|(scan, notes)| {
            notes.seen.contains_key(&known.id) || known.read_at > scan.began_at
        })
    }

    pub(super) fn is_in_window(&self, date: Date) -> bool {
        self.window.start() <= date && date <= self.window.end()
    }

    /// Returns for each stored row whether the response contains it.
    pub(super) fn were_read(&self, outcomes: &[RowOutcome]) -> Vec<bool> {
        let mut read = vec![false; self.known.len()];
        for index in outcomes.iter().filter_map(|outcome| outcome.known()) {
            read[index] = true;
        }
        read
    }

    /// Returns whether a row that was set aside may be a stored one under another id: its id is
    /// unknown, and no stored row of the same state was read under its known id.
    pub(super) fn unread_under_other_ids(&self, outcomes: &[RowOutcome]) -> ByState<bool> {
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
    pub(super) fn collect_removed(&self, outcomes: &[RowOutcome], merged: &mut MergedTransactions) {
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
    pub(super) fn write(
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
    pub(super) fn new_id(
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
