//! Rows that come under unknown ids where a stored row was not read.

use super::{
    DATE_SLACK_DAYS, Fate, KnownTransaction, ReadRow, Stock, Withheld, Withholding,
    join::{DAYS_EARLIER, DAYS_LATER},
};
use px_types::{AccountId, Amount, Date, model::transaction::Transaction};
use std::collections::{HashMap, VecDeque};

/// Follows stored rows that would be gone to rows of unknown ids with the same contents.
///
/// Nothing distinguishes rows with the same contents, so any of them will do, and there stay as
/// many as the partner has. Where rows that the window cannot judge are not
/// [withheld](Withholder), pending ones among them are followed too: their ids may change with every
/// response.
pub(super) fn follow(stock: &Stock<'_>, rows: &[ReadRow], fates: &mut [Fate], withholds: bool) {
    let read = stock.were_read(fates);
    let mut unread = HashMap::<_, VecDeque<_>>::new();
    for (place, known) in stock.known.iter().enumerate() {
        // Of a pending row that is gone there may be a posted one: that is for `join` to decide.
        let open = match (known.settled, stock.is_followed(known)) {
            (Some(_), expected) => expected,
            (None, true) => false,
            (None, false) => !withholds && stock.is_judged(known) && !stock.was_read_before(known),
        };
        if open && !read[place] {
            let places = unread.entry(known.digest).or_default();
            // A row that a newer window had must be here again; another one may be gone.
            match stock.was_read_before(known) {
                true => places.push_front(place),
                false => places.push_back(place),
            }
        }
    }
    if unread.is_empty() {
        return;
    }
    for (row, fate) in rows.iter().zip(fates) {
        if *fate == (Fate::New { collides: false })
            && let Some(to) = unread.get_mut(&row.digest).and_then(VecDeque::pop_front)
        {
            *fate = Fate::Moved { to, collides: false };
        }
    }
}

/// Withholds rows of unknown ids if each may be a stored row that this window cannot judge.
///
/// If such a row were taken, it would be there twice if the stored one has a new id. If the stored
/// row were followed to it, a row might be lost.
pub(super) struct Withholder<'a> {
    /// Stored rows that were not read and that this window cannot judge, by what an edit of a row
    /// leaves as it is.
    undecided: HashMap<Place<'a>, Vec<(usize, &'a KnownTransaction)>>,
    withholding: Withholding,
    /// The date of the oldest pending row, if posted rows may be pending ones of older windows.
    oldest_pending: Option<Date>,
    starts: Date,
    withheld: Option<Withheld>,
}

impl<'a> Withholder<'a> {
    pub(super) fn new(
        stock: &Stock<'a>,
        fates: &[Fate],
        withholding: Withholding,
        oldest_pending: Option<Date>,
    ) -> Self {
        let read = stock.were_read(fates);
        let mut undecided = HashMap::<_, Vec<_>>::new();
        for (place, known) in stock.known.iter().enumerate() {
            let open = !read[place] && stock.is_judged(known) && !stock.was_read_before(known);
            if open && !stock.is_expected(known) {
                undecided.entry(Place::of_known(known)).or_default().push((place, known));
            }
        }
        let starts = stock.window.start();
        let oldest_pending = oldest_pending.filter(|oldest| {
            matches!(withholding, Withholding::Carried { .. })
                && *oldest < starts.plus_days(DATE_SLACK_DAYS)
        });
        Self { undecided, withholding, oldest_pending, starts, withheld: None }
    }

    /// Withholds posted rows of the account, unit and dates of an undecided row, with the same amount
    /// or text.
    ///
    /// This comes before rows are joined with pending ones: such a row is more likely the undecided
    /// row under another id than a pending one that posted.
    pub(super) fn withhold_posted(&mut self, rows: &'a [ReadRow], fates: &mut [Fate]) {
        let posted = |row: &ReadRow| row.row.settled_at.is_some();
        for (row, fate) in rows.iter().zip(fates).filter(|(row, _)| posted(row)) {
            if *fate == (Fate::New { collides: false })
                && let Some(at) = self.find(row, |known| is_alike(known, &row.row))
                && self.take(row, Some(at))
            {
                *fate = Fate::Withheld;
            }
        }
    }

    /// Withholds the other rows that may be an undecided row, pending ones by the same rule. Where rows
    /// are carried on, amount and text may both be others, and a posted row is withheld as well that
    /// was made before the window, while a pending row of its date may be stored. All of them must be
    /// such as later windows decide.
    pub(super) fn withhold_others(
        mut self,
        stock: &Stock<'_>,
        rows: &'a [ReadRow],
        fates: &mut [Fate],
    ) -> Option<Withheld> {
        let read = stock.were_read(fates);
        self.undecided.values_mut().for_each(|rows| rows.retain(|(place, _)| !read[*place]));
        let carries = matches!(self.withholding, Withholding::Carried { .. });
        for (row, fate) in rows.iter().zip(fates) {
            if *fate == (Fate::New { collides: false }) {
                let at = self.find(row, |known| carries || is_alike(known, &row.row));
                if self.take(row, at) {
                    *fate = Fate::Withheld;
                }
            }
        }
        self.withheld
    }

    /// Finds an undecided row at the place of a row that was read.
    fn find(&self, row: &'a ReadRow, may_be: impl Fn(&KnownTransaction) -> bool) -> Option<usize> {
        let candidates = self.undecided.get(&Place::of_row(&row.row))?;
        candidates.iter().position(|(_, known)| may_be(known))
    }

    /// Counts a row as withheld for an undecided row, or else for a pending one. Returns `false` if
    /// there is none, or if no later window decides it together with the others.
    fn take(&mut self, row: &'a ReadRow, at: Option<usize>) -> bool {
        let candidates = self.undecided.get_mut(&Place::of_row(&row.row));
        let alike = candidates.zip(at);
        let dates = match &alike {
            Some((candidates, at)) => Some(candidates[*at].1.dates()),
            None => pending_dates(&row.row, self.oldest_pending),
        };
        let together =
            dates.and_then(|dates| with(self.withheld, dates, (self.withholding, self.starts)));
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

/// Leaves rows of unknown ids unjudged that have the contents of a stored row that may have been set
/// aside.
///
/// It most likely is that row under another id. Nothing is judged before all rows can be read.
pub(super) fn leave_unjudged(stock: &Stock<'_>, rows: &[ReadRow], fates: &mut [Fate]) {
    if !stock.lacks_ids() {
        return;
    }
    let read = stock.were_read(fates);
    let mut stored = HashMap::<_, usize>::new();
    for (place, known) in stock.known.iter().enumerate() {
        if !read[place] && known.removed_at.is_none() && stock.may_be_unread(known) {
            *stored.entry(known.digest).or_default() += 1;
        }
    }
    for (row, fate) in rows.iter().zip(fates) {
        if *fate == (Fate::New { collides: false })
            && let Some(left) = stored.get_mut(&row.digest)
            && *left > 0
        {
            *left -= 1;
            *fate = Fate::Unjudged;
        }
    }
}

/// Returns the dates that must be read to know whether a posted row is a pending one.
fn pending_dates(row: &Transaction, oldest_pending: Option<Date>) -> Option<(Date, Date)> {
    let (settled, made) = (row.settled_at?.date(), row.transacted_at.date());
    let earliest = made.minus_days(DAYS_LATER);
    oldest_pending
        .filter(|oldest| *oldest <= made.plus_days(DAYS_EARLIER))
        .map(|_| (earliest, settled.max(made)))
}

/// Adds a row, if later windows can decide it together with the others.
fn with(
    withheld: Option<Withheld>,
    (first, last): (Date, Date),
    (withholding, starts): (Withholding, Date),
) -> Option<Withheld> {
    let (from, until) = (first.minus_days(DATE_SLACK_DAYS), last.plus_days(DATE_SLACK_DAYS));
    let with = withheld.map_or(Withheld { rows: 1, from, until }, |others| Withheld {
        rows: others.rows + 1,
        from: others.from.min(from),
        until: others.until.max(until),
    });
    let fits = match withholding {
        Withholding::OneWindow(longest) => {
            with.until.days_since(with.from).unsigned_abs() < longest
        }
        Withholding::Carried { history_start } => history_start <= from && from < starts,
    };
    fits.then_some(with)
}

/// What an edit of a row leaves as it is.
#[derive(PartialEq, Eq, Hash)]
struct Place<'a> {
    account: &'a AccountId,
    unit: &'a str,
    made: Date,
    settled: Option<Date>,
}

impl<'a> Place<'a> {
    fn of_known(known: &'a KnownTransaction) -> Self {
        Self {
            account: &known.account_id,
            unit: &known.unit,
            made: known.transacted,
            settled: known.settled,
        }
    }

    fn of_row(row: &'a Transaction) -> Self {
        Self {
            account: &row.account_id,
            unit: row.unit.as_str(),
            made: row.transacted_at.date(),
            settled: row.settled_at.map(|at| at.date()),
        }
    }
}

fn is_alike(known: &KnownTransaction, row: &Transaction) -> bool {
    let amount: Amount = row.amount;
    known.amount == amount
        || (known.description.is_some() && known.description == KnownTransaction::text_digest(row))
}
