//! Effects of windows that were read, or that failed.

use super::{Miscounted, Recent, Run, Split, Stage};
use crate::{
    merge::{
        AccountIds, DATE_SLACK_DAYS, KnownTransaction, ReadWindow, UnreadRows, WithheldSpan,
        Withholding, merge_transactions,
    },
    plan,
    sync_state::{FailureKind, HistoryScan, Miscount, ScanNotes},
};
use chrono::{DateTime, Utc};
use px_client::Window;
use px_types::{
    Date, TransactionId,
    model::{security::Security, transaction::Transaction},
};
use std::collections::BTreeSet;

/// Length in days above which a failed window may be too heavy. Windows of updates are shorter.
const LONG_WINDOW_DAYS: u64 = 14;

impl Run {
    /// Applies a window that was read completely, with its securities. `known` are the stored rows
    /// that [`known_query`](Self::known_query) selects.
    pub fn window_read(
        &mut self,
        read: ReadWindow,
        securities: Vec<Security>,
        known: &[KnownTransaction],
    ) {
        self.merge_window(read, securities, known);
    }

    /// Applies a window if its number of rows differs from its `total`, after
    /// [`miscounted`](Self::miscounted) returned [`Miscounted::Import`].
    pub fn miscounted_window_read(
        &mut self,
        read: ReadWindow,
        securities: Vec<Security>,
        known: &[KnownTransaction],
        total: u64,
    ) {
        let lacks = total.saturating_sub(read.rows_sent);
        self.miscounted = true;
        match self.stage {
            Stage::Recent(..) => self.update_lacks += lacks,
            _ => self.sync_state.history_lacks += lacks,
        }
        if let Some(split) = &mut self.split {
            split.parts += lacks;
        }
        self.merge_window(read.lacking(true), securities, known);
    }

    pub(super) fn merge_window(
        &mut self,
        mut read: ReadWindow,
        mut securities: Vec<Security>,
        known: &[KnownTransaction],
    ) {
        let (window, began_at) = (read.window, read.began_at);
        if read.lacks_rows {
            self.lengths.accepted(window, u64::MAX);
        } else {
            self.lengths.accepted(window, read.rows.len() as u64);
        }
        self.counts.windows += 1;
        self.counts.rows_read += read.rows.len() as u64;
        if let Some((rows, more)) = self.ahead_rows.take() {
            let ids: BTreeSet<_> = read.rows.iter().map(|row| row.id.clone()).collect();
            read.rows.extend(rows.into_iter().filter(|row| !ids.contains(&row.id)));
            securities.extend(more);
            read.unread.extend(std::mem::take(&mut self.ahead_unread));
        }
        self.record_faults(&read);
        let ids = AccountIds::of(&self.accounts);
        read.unread = read.unread.translated(&ids);
        self.compare_on_hold(&read, known);
        read.rows = ids.translate(read.rows);
        if let Some(scan) = self.scan() {
            read = read.of_scan(scan, self.notes().clone());
        }
        let mut read = read.withholding(Some(self.withholding(window))).rule(self.rule());
        read = read.carrying(std::mem::take(&mut self.carried));
        read.oldest_pending = self.record.oldest_pending;
        let open = self.sync_state.review.rows.as_ref();
        read.accounts_on_hold = open.map_or_else(BTreeSet::new, |rows| rows.accounts.clone());
        (read.last_good, read.recognized) = (self.last_good, self.recognized);
        let mut merged = merge_transactions(known, read, ids.unlisted());
        self.sync_state.ambiguous += merged.ambiguous;
        self.sync_state.id_collisions += merged.collisions;
        self.store = true;
        match merged.suspect.take() {
            Some(suspect) if suspect.another_customer => {
                self.put_all_on_hold(suspect.rows, began_at);
                return;
            }
            Some(suspect) => self.hold_rows(suspect, window, began_at),
            None => {}
        }
        self.recognized |= merged.recognized;
        self.moved.append(&mut merged.moved);
        self.counts.take(&merged);
        let next = self.next_scan(window, merged.withheld);
        let next_end = next.map(|scan| scan.next_end);
        self.notes_mut().add(&merged, window, next_end);
        if matches!(self.stage, Stage::Recent(..) | Stage::Deep) {
            self.carry(std::mem::take(&mut merged.withheld_rows), window);
        }
        if matches!(self.stage, Stage::Recent(..)) {
            // A row that has another date now is not absent, whichever scan lacked it.
            merged.read.iter().for_each(|(id, _)| self.sync_state.scan_notes.found(id));
        }
        if let Some(split) = self.split
            && window.start() <= split.start
        {
            self.split = None;
            if let Some(miscount) = &mut self.sync_state.miscount {
                miscount.shorter_is_no_better = split.parts >= split.whole;
                if miscount.shorter_is_no_better {
                    self.lengths.not_dense();
                }
            }
        }
        self.gathered.take(merged, securities);
        self.advance(window, next, began_at);
    }

    /// Carries rows over to the next windows of the scan.
    pub(super) fn carry(&mut self, rows: Vec<Transaction>, window: Window) {
        let before = std::mem::take(&mut self.carried_from);
        let from = |row: &Transaction| before.get(&row.id).copied().unwrap_or(window.end());
        self.carried_from = rows.iter().map(|row| (row.id.clone(), from(row))).collect();
        self.carried = rows;
    }

    /// Returns the point at which another worker would resume a deep resync. Carried rows are in
    /// memory only, so the windows that had them are read again.
    pub(super) fn resumable_deep(&self) -> Option<HistoryScan> {
        let scan = self.sync_state.deep?;
        let is_deep = matches!(self.stage, Stage::Deep);
        let carried_from = self.carried_from.values().copied().filter(|_| is_deep);
        Some(HistoryScan { next_end: carried_from.fold(scan.next_end, Date::max), ..scan })
    }

    /// Records the faults of a window.
    pub(super) fn record_faults(&mut self, read: &ReadWindow) {
        self.counts.faults += read.faults.count;
        // The next update begins earlier by this slack, with this window.
        let since = read.window.start().plus_days(DATE_SLACK_DAYS);
        let since = Some(since).filter(|_| !read.unread.is_empty());
        let (tally, first) = match self.stage {
            Stage::Recent(..) => (&mut self.recent_faults, &mut self.recent_rows_since),
            _ => (&mut self.sync_state.faults.scan, &mut self.sync_state.faults.scan_rows_since),
        };
        tally.merge(read.faults.clone());
        *first = [*first, since].into_iter().flatten().min();
    }

    /// Records that an update was read completely back to a date. Its faults replace those of the
    /// last one.
    pub(super) fn recent_faults_read(&mut self, start: Date) {
        let faults = &mut self.sync_state.faults;
        let recent = std::mem::replace(&mut faults.recent, std::mem::take(&mut self.recent_faults));
        // If the partner fixed recent rows, it may have fixed older ones too.
        self.is_mended =
            !recent.is_empty() && faults.recent.is_empty() && !faults.history.is_empty();
        let before = faults.rows_since.filter(|since| *since < start);
        faults.rows_since = [before, self.recent_rows_since.take()].into_iter().flatten().min();
    }

    /// Records that the whole history was read. Its faults replace those of the last scan.
    pub(super) fn history_faults_read(&mut self) {
        let faults = &mut self.sync_state.faults;
        faults.history = std::mem::take(&mut faults.scan);
        faults.rows_since = faults.scan_rows_since.take();
    }

    /// Returns the first date that updates read again because rows could not be read. It is bounded
    /// like that for pending rows. Older rows wait for the deep resync.
    pub(super) fn unread_since(&self, now: DateTime<Utc>) -> Option<Date> {
        let reach = plan::today(now).0.minus_days(self.plan.pending_days);
        self.sync_state.faults.rows_since.filter(|since| *since >= reach)
    }

    /// Returns the query for the stored rows that are needed to merge a window: the dates, and the
    /// ids of other rows.
    #[must_use]
    pub fn known_query(
        &self,
        window: Window,
        rows: &[Transaction],
    ) -> (Window, Vec<TransactionId>) {
        let ahead = self.ahead_rows.iter().flat_map(|(rows, _)| rows);
        let ids = rows.iter().chain(ahead).chain(&self.carried).map(|row| row.id.clone());
        let unread = self.ahead_unread.ids.iter().cloned();
        let ids = ids.chain(unread);
        let notes = self.notes();
        let absent = notes.absent.keys().chain(notes.absent_where_lacking.keys()).cloned();
        (ReadWindow::reach(window), ids.chain(absent).collect())
    }

    pub(super) fn notes(&self) -> &ScanNotes {
        match self.stage {
            Stage::Recent(..) => &self.notes,
            _ => &self.sync_state.scan_notes,
        }
    }

    pub(super) fn notes_mut(&mut self) -> &mut ScanNotes {
        match self.stage {
            Stage::Recent(..) => &mut self.notes,
            _ => &mut self.sync_state.scan_notes,
        }
    }

    /// Returns how rows are decided that this window cannot decide. Updates and deep resyncs carry
    /// them over to later windows; rows that remain after an update wait for the deep resync. While
    /// the history is fetched, one later window decides. No window decides rows of the first dates
    /// of the history: their stored rows stay as they are.
    pub(super) fn withholding(&self, window: Window) -> Withholding {
        let is_last = self.scan().is_none_or(|scan| window.start() <= scan.start);
        match self.stage {
            Stage::Recent(Recent { scan, .. }) => {
                let history_start = plan::history(&self.plan, scan.began_at).start;
                Withholding::UnknownFields { history_start }
            }
            _ if is_last => Withholding::OneWindow(u64::MAX),
            Stage::Deep => {
                let history_start = self.scan().map_or(window.start(), |scan| scan.start);
                Withholding::UnknownFields { history_start }
            }
            _ => Withholding::OneWindow(self.lengths.longest()),
        }
    }

    /// Returns the rest of the current scan once a window of it is stored.
    pub(super) fn next_scan(
        &self,
        window: Window,
        withheld: Option<WithheldSpan>,
    ) -> Option<HistoryScan> {
        let scan = self.scan()?;
        let Some(withheld) = withheld else { return plan::after(scan, window) };
        match self.stage {
            Stage::Recent(Recent { extended: false, .. }) if window.start() <= scan.start => {
                // Reads further back once, for undecided rows at the start.
                plan::after(HistoryScan { start: withheld.from.min(scan.start), ..scan }, window)
            }
            Stage::Recent(..) | Stage::Deep => plan::after(scan, window),
            _ => plan::after_with_overlap(scan, window, withheld),
        }
    }

    /// Applies the rows of the dates after today. They are merged with the update's first window:
    /// they add and join, and no row is removed because it is not among them.
    pub fn ahead_read(&mut self, rows: Vec<Transaction>, securities: Vec<Security>) {
        self.ahead = None;
        self.sync_state.ahead_until = rows.iter().map(Transaction::date).max();
        self.ahead_rows = Some((rows, securities));
    }

    /// Records rows of the dates after today that were set aside.
    pub fn ahead_unread(&mut self, unread: UnreadRows) {
        self.ahead_unread = unread;
    }

    /// Records that the partner refused or failed to serve the dates after today. It is remembered
    /// for a day.
    pub fn ahead_failed(&mut self, now: DateTime<Utc>) {
        self.ahead = None;
        self.lengths.ahead_failed(now);
    }

    /// Decides about a window if its number of rows differs from its `total`, in the same way in two
    /// readings. Rows that are to be imported are passed to
    /// [`miscounted_window_read`](Self::miscounted_window_read).
    #[must_use]
    pub fn miscounted(
        &mut self,
        window: Window,
        rows: u64,
        total: u64,
        now: DateTime<Utc>,
    ) -> Miscounted {
        let rows_lack = rows < total;
        let miscount = self.sync_state.miscount.take().filter(|found| found.rows_lack == rows_lack);
        let mut miscount = miscount.unwrap_or_else(|| Miscount::new(rows_lack, now));
        let is_established = miscount.is_established(now);
        if !is_established {
            miscount.attempts = miscount.attempts.saturating_add(1);
        }
        let splits = rows_lack && window.days() > 1 && !miscount.shorter_is_no_better;
        // The third attempt may be the one that establishes it.
        let is_established = is_established || miscount.is_established(now);
        self.sync_state.miscount = Some(miscount);
        if !is_established {
            return Miscounted::Fail;
        }
        if !splits {
            return Miscounted::Import;
        }
        let split = Split { start: window.start(), whole: total - rows, parts: 0 };
        self.split.get_or_insert(split);
        self.lengths.lacking(window);
        Miscounted::Split
    }

    /// Returns whether the partner is known to return a `total` that is smaller than the number of
    /// rows.
    #[must_use]
    pub fn total_is_too_small(&self) -> bool {
        self.sync_state.miscount.as_ref().is_some_and(|found| !found.rows_lack)
    }

    /// Records that the window has more transactions than are read at once. It is split.
    pub fn too_many(&mut self, window: Window, total: u64, at_most: u64) {
        self.lengths.too_many(window, total, at_most);
    }

    /// Returns whether a failed window may be too heavy: a long window, one that was shortened for
    /// this reason, or one of an Item with a previous failure at a window. A single
    /// failure is not sufficient.
    #[must_use]
    pub fn may_be_too_heavy(&self, window: Window) -> bool {
        let before = self.record.sync_state.last_failure.as_ref();
        let failed_before = before.is_some_and(|failure| {
            matches!(failure.kind, FailureKind::Network | FailureKind::Unavailable)
                && failure.what.starts_with("transactions:")
        });
        let is_long = window.days() > LONG_WINDOW_DAYS;
        window.days() > 1 && (is_long || failed_before || self.lengths.is_shortening())
    }

    /// Records that the partner fails at the window while it serves smaller ones. A much shorter
    /// one is read.
    pub fn too_heavy(&mut self, window: Window) {
        self.lengths.too_heavy(window);
    }

    /// Records that the partner refuses the window for its length. Returns `false` if it cannot be
    /// split further.
    #[must_use]
    pub fn too_long(&mut self, window: Window) -> bool {
        self.lengths.too_long(window)
    }
}
