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
/// [withheld](withhold), pending ones among them are followed too: their ids may change with every
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

/// Withholds rows of unknown ids if each may be a stored row that this window cannot judge:
/// of the same account, unit and dates, with the same amount or text. Where rows are carried on,
/// amount and text may both be others, and a posted one is withheld as well that was made before the
/// window, while a pending row of its date may be stored. All of them must be such as later windows
/// decide.
///
/// Taken, such a row would be there twice if the stored one has a new id; if the stored one were
/// taken for it, a row might be lost.
pub(super) fn withhold(
    stock: &Stock<'_>,
    rows: &[ReadRow],
    fates: &mut [Fate],
    (withholding, oldest_pending): (Withholding, Option<Date>),
) -> Option<Withheld> {
    let read = stock.were_read(fates);
    let mut undecided = HashMap::<_, Vec<&KnownTransaction>>::new();
    for (place, known) in stock.known.iter().enumerate() {
        let open = !read[place] && stock.is_judged(known) && !stock.was_read_before(known);
        if open && !stock.is_expected(known) {
            undecided.entry(Place::of_known(known)).or_default().push(known);
        }
    }
    let starts = stock.window.start();
    let oldest_pending = oldest_pending.filter(|oldest| {
        matches!(withholding, Withholding::Carried { .. })
            && *oldest < starts.plus_days(DATE_SLACK_DAYS)
    });
    if undecided.is_empty() && oldest_pending.is_none() {
        return None;
    }
    let mut withheld = None;
    for (row, fate) in rows.iter().zip(fates) {
        if *fate != (Fate::New { collides: false }) {
            continue;
        }
        let alike = undecided.get_mut(&Place::of_row(&row.row)).and_then(|candidates| {
            let carries = matches!(withholding, Withholding::Carried { .. });
            let may_be = |known: &&KnownTransaction| carries || is_alike(known, &row.row);
            let at = candidates.iter().position(may_be)?;
            Some((candidates, at))
        });
        let dates = match &alike {
            Some((candidates, at)) => candidates[*at].dates(),
            None => match pending_dates(&row.row, oldest_pending) {
                Some(dates) => dates,
                None => continue,
            },
        };
        let Some(with) = with(withheld, dates, (withholding, starts)) else { continue };
        withheld = Some(with);
        if let Some((candidates, at)) = alike {
            candidates.swap_remove(at);
        }
        *fate = Fate::Withheld;
    }
    withheld
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
