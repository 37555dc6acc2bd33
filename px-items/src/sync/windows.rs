//! What a window changes that was read, or that failed.

use super::{Miscounted, Recent, Run, Split, Stage};
use crate::{
    life::{FailureKind, Miscount, Walk, WalkNotes},
    merge::{
        AccountIds, DATE_SLACK_DAYS, KnownTransaction, ReadWindow, UnreadRows, Withheld,
        Withholding, merge_transactions,
    },
    plan,
};
use chrono::{DateTime, Utc};
use px_client::Window;
use px_types::{
    Date, TransactionId,
    model::{security::Security, transaction::Transaction},
};
use std::collections::BTreeSet;

/// A window that fails may be too heavy at once if it is longer than this; an update's is not.
const LONG_WINDOW_DAYS: u64 = 14;

impl Run {
    /// Takes in a window that was read whole, with the securities that came with it. `known` is
    /// what the store has of it, see [`known_query`](Self::known_query).
    pub fn window_read(
        &mut self,
        read: ReadWindow,
        securities: Vec<Security>,
        known: &[KnownTransaction],
    ) {
        self.merge_window(read, securities, known);
    }

    /// Takes in a window whose rows are not as many as its `total`, after
    /// [`miscounted`](Self::miscounted) said so.
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
            _ => self.life.history_lacks += lacks,
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
        self.note_faults(&read);
        let ids = AccountIds::of(&self.accounts);
        read.unread = read.unread.translated(&ids);
        self.compare_held(&read, known);
        read.rows = ids.translate(read.rows);
        if let Some(walk) = self.walk() {
            read = read.of_walk(walk, self.notes().clone());
        }
        let mut read = read.withholding(Some(self.withholding(window))).rule(self.rule());
        read = read.carrying(std::mem::take(&mut self.carried));
        read.oldest_pending = self.record.oldest_pending;
        let open = self.life.review.rows.as_ref();
        read.open = open.map_or_else(BTreeSet::new, |rows| rows.accounts.clone());
        (read.last_good, read.recognized) = (self.last_good, self.recognized);
        let mut merged = merge_transactions(known, read, ids.silent());
        self.life.ambiguous += merged.ambiguous;
        self.life.id_collisions += merged.collisions;
        self.store = true;
        match merged.question.take() {
            Some(question) if question.another_customer => {
                self.hold_all(question.rows, began_at);
                return;
            }
            Some(question) => self.hold_rows(question, window, began_at),
            None => {}
        }
        self.recognized |= merged.recognized;
        self.moved.append(&mut merged.moved);
        self.counts.take(&merged);
        let next = self.next_walk(window, merged.withheld);
        let next_end = next.map(|walk| walk.next_end);
        self.notes_mut().add(&merged, window, next_end);
        if matches!(self.stage, Stage::Recent(..) | Stage::Deep) {
            self.carry(std::mem::take(&mut merged.withheld_rows), window);
        }
        if matches!(self.stage, Stage::Recent(..)) {
            // A row that has another date by now is not absent, whichever walk lacked it.
            merged.read.iter().for_each(|(id, _)| self.life.walk_notes.found(id));
        }
        if let Some(split) = self.split
            && window.start() <= split.start
        {
            self.split = None;
            if let Some(miscount) = &mut self.life.miscount {
                miscount.shorter_is_no_better = split.parts >= split.whole;
                if miscount.shorter_is_no_better {
                    self.lengths.not_dense();
                }
            }
        }
        self.gathered.take(merged, securities);
        self.advance(window, next, began_at);
    }

    /// Keeps rows for the next windows of the walk.
    pub(super) fn carry(&mut self, rows: Vec<Transaction>, window: Window) {
        let before = std::mem::take(&mut self.carried_from);
        let from = |row: &Transaction| before.get(&row.id).copied().unwrap_or(window.end());
        self.carried_from = rows.iter().map(|row| (row.id.clone(), from(row))).collect();
        self.carried = rows;
    }

    /// Where another worker would go on with a deep resync: rows that are carried are only here, so
    /// the windows that had them are read again.
    pub(super) fn resumable_deep(&self) -> Option<Walk> {
        let walk = self.life.deep?;
        let is_deep = matches!(self.stage, Stage::Deep);
        let carried_from = self.carried_from.values().copied().filter(|_| is_deep);
        Some(Walk { next_end: carried_from.fold(walk.next_end, Date::max), ..walk })
    }

    /// Notes the faults of a window.
    pub(super) fn note_faults(&mut self, read: &ReadWindow) {
        self.counts.faults += read.faults.count;
        // The next update begins that much earlier, with this window.
        let since = read.window.start().plus_days(DATE_SLACK_DAYS);
        let since = Some(since).filter(|_| !read.unread.is_empty());
        let (tally, first) = match self.stage {
            Stage::Recent(..) => (&mut self.recent_faults, &mut self.recent_rows_since),
            _ => (&mut self.life.faults.walk, &mut self.life.faults.walk_rows_since),
        };
        tally.merge(read.faults.clone());
        *first = [*first, since].into_iter().flatten().min();
    }

    /// An update was read whole back to a date: its faults replace those of the last one.
    pub(super) fn recent_faults_read(&mut self, start: Date) {
        let faults = &mut self.life.faults;
        let recent = std::mem::replace(&mut faults.recent, std::mem::take(&mut self.recent_faults));
        // What the partner mended is right in the history, too.
        self.is_mended =
            !recent.is_empty() && faults.recent.is_empty() && !faults.history.is_empty();
        let before = faults.rows_since.filter(|since| *since < start);
        faults.rows_since = [before, self.recent_rows_since.take()].into_iter().flatten().min();
    }

    /// The whole history was read: the faults of its walk replace those of the last one.
    pub(super) fn history_faults_read(&mut self) {
        let faults = &mut self.life.faults;
        faults.history = std::mem::take(&mut faults.walk);
        faults.rows_since = faults.walk_rows_since.take();
    }

    /// The first date that updates look at again because rows could not be read, as far back as one
    /// looks for pending rows. What is older waits for the deep resync.
    pub(super) fn unread_since(&self, now: DateTime<Utc>) -> Option<Date> {
        let reach = plan::today(now).0.minus_days(self.plan.pending_days);
        self.life.faults.rows_since.filter(|since| *since >= reach)
    }

    /// What the store has to be asked for before a window is merged: stored rows of these dates,
    /// and those that have one of these ids.
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

    pub(super) fn notes(&self) -> &WalkNotes {
        match self.stage {
            Stage::Recent(..) => &self.notes,
            _ => &self.life.walk_notes,
        }
    }

    pub(super) fn notes_mut(&mut self) -> &mut WalkNotes {
        match self.stage {
            Stage::Recent(..) => &mut self.notes,
            _ => &mut self.life.walk_notes,
        }
    }

    /// Who decides on rows that this window cannot decide on. Updates and deep resyncs carry them on;
    /// what waits after an update waits for the deep resync. While the history is fetched, one later
    /// window decides. No window decides on rows of the first dates of the history: what is stored of
    /// them stays as it is.
    pub(super) fn withholding(&self, window: Window) -> Withholding {
        let is_last = self.walk().is_none_or(|walk| window.start() <= walk.start);
        match self.stage {
            Stage::Recent(Recent { walk, .. }) => {
                let history_start = plan::history(&self.plan, walk.began_at).start;
                Withholding::Carried { history_start }
            }
            _ if is_last => Withholding::OneWindow(u64::MAX),
            Stage::Deep => {
                let history_start = self.walk().map_or(window.start(), |walk| walk.start);
                Withholding::Carried { history_start }
            }
            _ => Withholding::OneWindow(self.lengths.longest()),
        }
    }

    /// Where the walk under way is once a window of it is stored.
    pub(super) fn next_walk(&self, window: Window, withheld: Option<Withheld>) -> Option<Walk> {
        let walk = self.walk()?;
        let Some(withheld) = withheld else { return plan::after(walk, window) };
        match self.stage {
            Stage::Recent(Recent { extended: false, .. }) if window.start() <= walk.start => {
                // Further back once, for rows at the start that wait to be decided.
                plan::after(Walk { start: withheld.from.min(walk.start), ..walk }, window)
            }
            Stage::Recent(..) | Stage::Deep => plan::after(walk, window),
            _ => plan::after_with_overlap(walk, window, withheld),
        }
    }

    /// Takes in the rows of the dates after today. They belong to the update's first window: they
    /// add and join, and nothing is gone because it is not among them.
    pub fn ahead_read(&mut self, rows: Vec<Transaction>, securities: Vec<Security>) {
        self.ahead = None;
        self.life.ahead_until = rows.iter().map(Transaction::date).max();
        self.ahead_rows = Some((rows, securities));
    }

    /// Takes in rows of the dates after today that were set aside.
    pub fn ahead_unread(&mut self, unread: UnreadRows) {
        self.ahead_unread = unread;
    }

    /// The partner refuses the dates after today, or failed. That is remembered for a day.
    pub fn ahead_failed(&mut self, now: DateTime<Utc>) {
        self.ahead = None;
        self.lengths.ahead_failed(now);
    }

    /// Decides on a window of which two readings had the same number of rows, which is not its
    /// `total`. The rows are handed to [`miscounted_window_read`](Self::miscounted_window_read) if
    /// they are to be taken.
    #[must_use]
    pub fn miscounted(
        &mut self,
        window: Window,
        rows: u64,
        total: u64,
        now: DateTime<Utc>,
    ) -> Miscounted {
        let rows_lack = rows < total;
        let miscount = self.life.miscount.take().filter(|found| found.rows_lack == rows_lack);
        let mut miscount = miscount.unwrap_or_else(|| Miscount::new(rows_lack, now));
        let is_established = miscount.is_established(now);
        if !is_established {
            miscount.attempts = miscount.attempts.saturating_add(1);
        }
        let splits = rows_lack && window.days() > 1 && !miscount.shorter_is_no_better;
        // The third attempt may be the one that establishes it.
        let is_established = is_established || miscount.is_established(now);
        self.life.miscount = Some(miscount);
        if !is_established {
            return Miscounted::Fail;
        }
        if !splits {
            return Miscounted::Take;
        }
        let split = Split { start: window.start(), whole: total - rows, parts: 0 };
        self.split.get_or_insert(split);
        self.lengths.lacking(window);
        Miscounted::Split
    }

    /// Whether the partner was found to give a `total` that is smaller than the number of rows.
    #[must_use]
    pub fn total_is_too_small(&self) -> bool {
        self.life.miscount.as_ref().is_some_and(|found| !found.rows_lack)
    }

    /// The window has more transactions than are read at once: it is split.
    pub fn too_many(&mut self, window: Window, total: u64, at_most: u64) {
        self.lengths.too_many(window, total, at_most);
    }

    /// Returns whether a window that failed may be too heavy: a long one, one that is as short as it is
    /// because of that, or one of an Item that failed at a window before. A failure alone is no sign
    /// of it.
    #[must_use]
    pub fn may_be_too_heavy(&self, window: Window) -> bool {
        let before = self.record.life.last_failure.as_ref();
        let failed_before = before.is_some_and(|note| {
            matches!(note.kind, FailureKind::Network | FailureKind::Unavailable)
                && note.what.starts_with("transactions:")
        });
        let is_long = window.days() > LONG_WINDOW_DAYS;
        window.days() > 1 && (is_long || failed_before || self.lengths.is_shortening())
    }

    /// The partner fails at the window while it serves what is smaller: a much shorter one is read.
    pub fn too_heavy(&mut self, window: Window) {
        self.lengths.too_heavy(window);
    }

    /// The partner refuses the window for its length. `false`: it cannot be split any more.
    #[must_use]
    pub fn too_long(&mut self, window: Window) -> bool {
        self.lengths.too_long(window)
    }
}
