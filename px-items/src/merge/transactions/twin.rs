//! Rows that come under unknown ids where a stored row was not read.

use super::{DATE_SLACK_DAYS, Fate, KnownTransaction, ReadRow, Stock, Withheld};
use px_types::{AccountId, Amount, Date, model::transaction::Transaction};
use std::collections::{HashMap, VecDeque};

/// Follows stored rows that would be gone to rows of unknown ids with the same contents.
///
/// Rows with the same contents are told apart by nothing, so any of them will do, and there stay as
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

/// Withholds rows of unknown ids of which each may be a stored row that this window cannot judge:
/// of the same account, unit and dates, with the same amount or text; as many as one window of
/// `longest` days can decide.
///
/// Taken, such a row would be there twice if the stored one has a new id; if the stored one were
/// taken for it, a row might be lost.
pub(super) fn withhold(
    stock: &Stock<'_>,
    rows: &[ReadRow],
    fates: &mut [Fate],
    longest: u64,
) -> Option<Withheld> {
    let read = stock.were_read(fates);
    let mut undecided = HashMap::<_, Vec<&KnownTransaction>>::new();
    for (place, known) in stock.known.iter().enumerate() {
        let open = !read[place] && stock.is_judged(known) && !stock.was_read_before(known);
        if open && !stock.is_expected(known) {
            undecided.entry(Place::of_known(known)).or_default().push(known);
        }
    }
    if undecided.is_empty() {
        return None;
    }
    let mut withheld = None;
    for (row, fate) in rows.iter().zip(fates) {
        if *fate != (Fate::New { collides: false }) {
            continue;
        }
        let Some(candidates) = undecided.get_mut(&Place::of_row(&row.row)) else { continue };
        let alike = |known: &&KnownTransaction| is_alike(known, &row.row);
        let Some(at) = candidates.iter().position(alike) else { continue };
        let Some(with) = with(withheld, candidates[at], longest) else { continue };
        withheld = Some(with);
        candidates.swap_remove(at);
        *fate = Fate::Withheld;
    }
    withheld
}

/// Adds a row, if one window can decide it together with the others.
fn with(withheld: Option<Withheld>, known: &KnownTransaction, longest: u64) -> Option<Withheld> {
    let (first, last) = known.dates();
    let (from, until) = (first.minus_days(DATE_SLACK_DAYS), last.plus_days(DATE_SLACK_DAYS));
    let with = withheld.map_or(Withheld { rows: 1, from, until }, |others| Withheld {
        rows: others.rows + 1,
        from: others.from.min(from),
        until: others.until.max(until),
    });
    (with.until.days_since(with.from).unsigned_abs() < longest).then_some(with)
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
