//! Rows of unknown ids that may be stored rows that were not read.

use super::{
    DATE_SLACK_DAYS, IncomingRow, KnownTransaction, MergeContext, RowOutcome, WithheldSpan,
    Withholding,
    join::{MAX_DAYS_EARLIER, MAX_DAYS_LATER},
};
use px_types::{AccountId, Amount, Date, model::transaction::Transaction};
use std::collections::{HashMap, VecDeque};

/// Matches stored rows that would otherwise be removed with rows of unknown ids that have the same
/// contents.
///
/// Rows with the same contents are interchangeable: any of them is used, and as many rows stay as the
/// partner has. Unless rows are [withheld](Withholder), pending rows that the window cannot judge are
/// matched as well, because their ids may change with every response.
pub(super) fn follow(
    context: &MergeContext<'_>,
    rows: &[IncomingRow],
    outcomes: &mut [RowOutcome],
    withholds: bool,
) {
    let read = context.were_read(outcomes);
    let mut unread = HashMap::<_, VecDeque<_>>::new();
    for (index, known) in context.known.iter().enumerate() {
        // An expected pending row may have posted: `join` decides.
        let open = match (known.settled, context.is_followed(known)) {
            (Some(_), expected) => expected,
            (None, true) => false,
            (None, false) => {
                !withholds && context.is_judged(known) && !context.was_read_before(known)
            }
        };
        if open && !read[index] {
            let indexes = unread.entry(known.digest).or_default();
            // Rows that a newer window read must be present again; others may be removed. So the
            // former are matched first.
            match context.was_read_before(known) {
                true => indexes.push_front(index),
                false => indexes.push_back(index),
            }
        }
    }
    if unread.is_empty() {
        return;
    }
    for (row, outcome) in rows.iter().zip(outcomes) {
        if *outcome == (RowOutcome::New { collides: false })
            && let Some(to) = unread.get_mut(&row.digest).and_then(VecDeque::pop_front)
        {
            *outcome = RowOutcome::Matched { to, collides: false };
        }
    }
}

/// Withholds rows of unknown ids that may be stored rows that this window cannot judge.
///
/// If such a row were imported and the stored row has a new id, the transaction would exist twice. If
/// it were matched with the stored row, a transaction might be lost.
pub(super) struct Withholder<'a> {
    /// Stored rows that were not read and that this window cannot judge, by the properties that an
    /// edit does not change.
    undecided: HashMap<RowKey<'a>, Vec<(usize, &'a KnownTransaction)>>,
    withholding: Withholding,
    /// Date of the oldest pending row, if posted rows may be pending rows of older windows.
    oldest_pending: Option<Date>,
    starts: Date,
    withheld: Option<WithheldSpan>,
}

impl<'a> Withholder<'a> {
    pub(super) fn new(
        context: &MergeContext<'a>,
        outcomes: &[RowOutcome],
        withholding: Withholding,
        oldest_pending: Option<Date>,
    ) -> Self {
        let read = context.were_read(outcomes);
        let mut undecided = HashMap::<_, Vec<_>>::new();
        for (index, known) in context.known.iter().enumerate() {
            let open = !read[index] && context.is_judged(known) && !context.was_read_before(known);
            if open && !context.is_expected(known) {
                undecided.entry(RowKey::of_known(known)).or_default().push((index, known));
            }
        }
        let starts = context.window.start();
        let oldest_pending = oldest_pending.filter(|oldest| {
            matches!(withholding, Withholding::UnknownFields { .. })
                && *oldest < starts.plus_days(DATE_SLACK_DAYS)
        });
        Self { undecided, withholding, oldest_pending, starts, withheld: None }
    }

    /// Withholds posted rows with the account, unit and dates of an undecided row and with the same
    /// amount or text.
    ///
    /// This happens before rows are joined with pending ones: such a row is more likely the undecided
    /// row under another id than a pending row that posted.
    pub(super) fn withhold_posted(&mut self, rows: &'a [IncomingRow], outcomes: &mut [RowOutcome]) {
        let posted = |row: &IncomingRow| row.row.settled_at.is_some();
        for (row, outcome) in rows.iter().zip(outcomes).filter(|(row, _)| posted(row)) {
            if *outcome == (RowOutcome::New { collides: false })
                && let Some(at) = self.find(row, |known| is_alike(known, &row.row))
                && self.take(row, Some(at))
            {
                *outcome = RowOutcome::Withheld;
            }
        }
    }

    /// Withholds the remaining rows that may be an undecided row, including pending rows, by the same
    /// condition.
    ///
    /// If rows are carried to the next windows, the amount and the text may both differ. A posted row
    /// that was made before the window is then withheld as well if a pending row of its date may be
    /// stored. A row is withheld only if later windows can decide it.
    pub(super) fn withhold_others(
        mut self,
        context: &MergeContext<'_>,
        rows: &'a [IncomingRow],
        outcomes: &mut [RowOutcome],
    ) -> Option<WithheldSpan> {
        let read = context.were_read(outcomes);
        self.undecided.values_mut().for_each(|rows| rows.retain(|(index, _)| !read[*index]));
        let carries = matches!(self.withholding, Withholding::UnknownFields { .. });
        for (row, outcome) in rows.iter().zip(outcomes) {
            if *outcome == (RowOutcome::New { collides: false }) {
                let at = self.find(row, |known| carries || is_alike(known, &row.row));
                if self.take(row, at) {
                    *outcome = RowOutcome::Withheld;
                }
            }
        }
        self.withheld
    }

    /// Returns the position of an undecided row with the same key that satisfies `may_be`.
    fn find(
        &self,
        row: &'a IncomingRow,
        may_be: impl Fn(&KnownTransaction) -> bool,
    ) -> Option<usize> {
        let candidates = self.undecided.get(&RowKey::of_row(&row.row))?;
        candidates.iter().position(|(_, known)| may_be(known))
    }

    /// Counts a row as withheld, for the undecided row at position `at` or else for a pending row.
    /// Returns `false` if there is neither, or if no later window can decide the row together with the
    /// other withheld rows.
    fn take(&mut self, row: &'a IncomingRow, at: Option<usize>) -> bool {
        let candidates = self.undecided.get_mut(&RowKey::of_row(&row.row));
        let alike = candidates.zip(at);
        let dates = match &alike {
            Some((candidates, at)) => Some(candidates[*at].1.dates()),
            None => pending_dates(&row.row, self.oldest_pending),
        };
        let together = dates
            .and_then(|dates| add_dates(self.withheld, dates, (self.withholding, self.starts)));
        if together.is_none() {
            return false;
        }
        self.withheld = together;
        if let Some((candidates, at)) = alike {
            candidates.swap_remove(at);
        }
        true
    }
}

/// Defers rows of unknown ids with the contents of a stored row that may have been set aside.
///
/// Such a row is most likely the stored row under another id. The decision is left until all rows are
/// readable.
pub(super) fn defer_unread(
    context: &MergeContext<'_>,
    rows: &[IncomingRow],
    outcomes: &mut [RowOutcome],
) {
    if !context.lacks_ids() {
        return;
    }
    let read = context.were_read(outcomes);
    let mut stored = HashMap::<_, usize>::new();
    for (index, known) in context.known.iter().enumerate() {
        if !read[index] && known.removed_at.is_none() && context.may_be_unread(known) {
            *stored.entry(known.digest).or_default() += 1;
        }
    }
    for (row, outcome) in rows.iter().zip(outcomes) {
        if *outcome == (RowOutcome::New { collides: false })
            && let Some(left) = stored.get_mut(&row.digest)
            && *left > 0
        {
            *left -= 1;
            *outcome = RowOutcome::Deferred;
        }
    }
}

/// Returns the dates that must be read to find out whether a posted row is a stored pending one.
fn pending_dates(row: &Transaction, oldest_pending: Option<Date>) -> Option<(Date, Date)> {
    let (settled, made) = (row.settled_at?.date(), row.transacted_at.date());
    let earliest = made.minus_days(MAX_DAYS_LATER);
    oldest_pending
        .filter(|oldest| *oldest <= made.plus_days(MAX_DAYS_EARLIER))
        .map(|_| (earliest, settled.max(made)))
}

/// Adds the dates of a row to the withheld ones. Returns `None` if later windows cannot decide it
/// together with the others.
fn add_dates(
    withheld: Option<WithheldSpan>,
    (first, last): (Date, Date),
    (withholding, starts): (Withholding, Date),
) -> Option<WithheldSpan> {
    let (from, until) = (first.minus_days(DATE_SLACK_DAYS), last.plus_days(DATE_SLACK_DAYS));
    let span = withheld.map_or(WithheldSpan { rows: 1, from, until }, |others| WithheldSpan {
        rows: others.rows + 1,
        from: others.from.min(from),
        until: others.until.max(until),
    });
    let is_decidable = match withholding {
        Withholding::OneWindow(longest) => {
            span.until.days_since(span.from).unsigned_abs() < longest
        }
        Withholding::UnknownFields { history_start } => history_start <= from && from < starts,
    };
    is_decidable.then_some(span)
}

/// The properties of a row that an edit does not change.
#[derive(PartialEq, Eq, Hash)]
struct RowKey<'a> {
    account: &'a AccountId,
    unit: &'a str,
    transacted: Date,
    settled: Option<Date>,
}

impl<'a> RowKey<'a> {
    fn of_known(known: &'a KnownTransaction) -> Self {
        Self {
            account: &known.account_id,
            unit: &known.unit,
            transacted: known.transacted,
            settled: known.settled,
        }
    }

    fn of_row(row: &'a Transaction) -> Self {
        Self {
            account: &row.account_id,
            unit: row.unit.as_str(),
            transacted: row.transacted_at.date(),
            settled: row.settled_at.map(|at| at.date()),
        }
    }
}

fn is_alike(known: &KnownTransaction, row: &Transaction) -> bool {
    let amount: Amount = row.amount;
    known.amount == amount
        || (known.description.is_some() && known.description == KnownTransaction::text_digest(row))
}
