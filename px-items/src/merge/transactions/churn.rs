//! A partner that gives known transactions new ids, or that serves another customer's.
//!
//! Rows whose ids changed are on hold until it is decided what they are: nothing of them is
//! imported and nothing is judged gone. New rows are imported meanwhile.

use super::{Fate, KnownTransaction, ReadRow, RowRule, Stock};
use px_types::{AccountId, Date, model::transaction::Transaction};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

/// Number of rows that must come back under new ids at least: fewer may be a coincidence.
const MIN_MOVED: usize = 3;

/// Share of the missing rows that must have a twin, in percent. A bank that changes its ids may
/// change a text along with them.
const MIN_TWINS_PERCENT: usize = 80;

/// Number of rows that must be there at least before "none of them came" means another customer.
const MIN_OF_A_CUSTOMER: usize = 10;

/// Number of days by which a row and its edited form may differ.
const EDIT_DAYS: u64 = 3;

/// What a window leaves in question.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Question {
    /// Whether the rows may be another customer's; nothing of the window is taken then.
    pub another_customer: bool,
    /// The accounts whose rows are on hold, by the Item's own ids.
    pub accounts: BTreeSet<AccountId>,
    /// The number of stored rows on hold.
    pub rows: u64,
}

/// The rows of one account, as far as they say whether ids changed.
#[derive(Default)]
struct Tally {
    /// Places of stored posted rows that must be in the response and are not.
    missing: Vec<usize>,
    /// Missing rows with their twins: the place, and the index of the row read.
    twins: Vec<(usize, usize)>,
    /// Number of rows that came under known ids.
    kept: usize,
}

impl Tally {
    /// Whether the account's ids changed. Once they were found to, rows that are imported
    /// meanwhile do not outweigh those on hold.
    fn changed(&self, is_open: bool) -> bool {
        let moved = self.twins.len();
        let like = moved * 100 >= self.missing.len() * MIN_TWINS_PERCENT;
        match is_open {
            true => moved > 0,
            false => moved >= MIN_MOVED && like && moved > self.kept,
        }
    }

    fn add(&mut self, other: &Self) {
        self.missing.extend(&other.missing);
        self.twins.extend(&other.twins);
        self.kept += other.kept;
    }
}

/// Puts rows on hold whose ids changed.
///
/// Each account is judged by itself, and all of them together: a bank may renumber one account
/// only, or an Item may have few rows in each.
pub(super) fn hold(
    stock: &mut Stock<'_>,
    rows: &[ReadRow],
    fates: &mut [Fate],
    rule: &RowRule,
) -> Option<Question> {
    if matches!(rule, RowRule::Follow | RowRule::AsGiven) {
        return None;
    }
    let tallies = tally(stock, rows, fates);
    let mut all = Tally::default();
    tallies.values().for_each(|tally| all.add(tally));
    if is_another_customers(stock, rows, fates, &all) {
        let accounts = BTreeSet::new();
        let rows = all.missing.len() as u64;
        return Some(Question { another_customer: true, accounts, rows });
    }
    let decided = match rule {
        RowRule::Rebooked { accounts, .. } => accounts,
        _ => &BTreeSet::new(),
    };
    let is_open = |account: &AccountId| stock.open.contains(account);
    let together = all.changed(false);
    let accounts: BTreeSet<AccountId> = tallies
        .iter()
        .filter(|(account, _)| !decided.contains::<AccountId>(account))
        .filter(|(account, tally)| {
            tally.changed(is_open(account)) || (together && !tally.missing.is_empty())
        })
        .map(|(account, _)| (*account).clone())
        .collect();
    let mut held = HashSet::new();
    let mut on_hold = 0;
    for (account, tally) in &tallies {
        let edited = match rule {
            // The missing rows that were there when it was decided wait for the deep resync.
            RowRule::Rebooked { at, .. } if decided.contains(*account) => {
                let before = |place: &&usize| stock.known[**place].read_at < *at;
                tally.missing.iter().filter(before).copied().collect()
            }
            _ if accounts.contains(*account) => {
                on_hold += tally.missing.len() as u64;
                tally.missing.clone()
            }
            _ => continue,
        };
        hold_rows(stock, rows, fates, (account, &tally.twins, &edited));
        held.extend(edited.iter().map(|place| stock.known[*place].id.clone()));
    }
    stock.held = held;
    (!accounts.is_empty()).then_some(Question { another_customer: false, accounts, rows: on_hold })
}

/// Puts the rows read on hold that are the missing ones under other ids: those with equal
/// contents, and those that may be an edited form. What is older than the last good read and of
/// an unknown id is on hold too, for it is not new.
fn hold_rows(
    stock: &Stock<'_>,
    rows: &[ReadRow],
    fates: &mut [Fate],
    (account, twins, missing): (&AccountId, &[(usize, usize)], &[usize]),
) {
    let paired: HashSet<usize> = twins.iter().map(|(_, index)| *index).collect();
    let with_twin: HashSet<usize> = twins.iter().map(|(place, _)| *place).collect();
    let alone: Vec<_> = missing
        .iter()
        .filter(|place| !with_twin.contains(place))
        .map(|place| &stock.known[*place])
        .collect();
    for (index, read) in rows.iter().enumerate() {
        let row = &read.row;
        let is_unknown = fates[index] == Fate::New { collides: false };
        if !is_unknown || row.account_id != *account || row.settled_at.is_none() {
            continue;
        }
        let is_later = stock.last_good.is_some_and(|date| row.date() >= date);
        let is_edited = alone.iter().any(|known| may_be_edited(known, row));
        if paired.contains(&index) || is_edited || !is_later {
            fates[index] = Fate::Held;
        }
    }
}

fn may_be_edited(known: &KnownTransaction, row: &Transaction) -> bool {
    let text = KnownTransaction::text_digest(row);
    let same_text = text.is_some() && text == known.description;
    let made = row.transacted_at.date();
    let near = |date: Date| {
        known.transacted.minus_days(EDIT_DAYS) <= date
            && date <= known.transacted.plus_days(EDIT_DAYS)
    };
    known.unit == row.unit.as_str() && (known.amount == row.amount || same_text) && near(made)
}

fn tally<'a>(
    stock: &Stock<'a>,
    rows: &'a [ReadRow],
    fates: &[Fate],
) -> BTreeMap<&'a AccountId, Tally> {
    let mut tallies = BTreeMap::<&AccountId, Tally>::new();
    let mut unknown = HashMap::<_, VecDeque<usize>>::new();
    for (index, (read, fate)) in rows.iter().zip(fates).enumerate() {
        match fate {
            Fate::New { collides: false } if read.row.settled_at.is_some() => {
                unknown.entry(read.digest).or_default().push_back(index);
            }
            Fate::New { .. } | Fate::Withheld | Fate::Unjudged | Fate::Held => {}
            Fate::Same(_) | Fate::Changed(_) | Fate::Moved { .. } | Fate::Stale => {
                tallies.entry(&read.row.account_id).or_default().kept += 1;
            }
        }
    }
    let read: HashSet<_> = rows.iter().map(|row| &row.row.id).collect();
    let was_read = stock.were_read(fates);
    for (place, known) in stock.known.iter().enumerate() {
        let missing = known.settled.is_some()
            && !was_read[place]
            && !read.contains(&known.partner_id)
            && stock.must_be_read(known);
        if !missing {
            continue;
        }
        let tally = tallies.entry(&known.account_id).or_default();
        tally.missing.push(place);
        if let Some(index) = unknown.get_mut(&known.digest).and_then(VecDeque::pop_front) {
            tally.twins.push((place, index));
        }
    }
    tallies
}

/// Whether nothing of what must be there came, neither by id nor by twin.
///
/// An empty window of a response that was recognized by its newer rows is merely empty: banks
/// forget what is old.
fn is_another_customers(stock: &Stock<'_>, rows: &[ReadRow], fates: &[Fate], all: &Tally) -> bool {
    let none_came = all.twins.is_empty()
        && fates.iter().all(|fate| matches!(fate, Fate::New { .. }))
        && !rows.iter().any(|row| stock.under(&row.row.id).next().is_some());
    let is_empty = rows.len() == stock.carried;
    all.missing.len() >= MIN_OF_A_CUSTOMER && none_came && !(is_empty && stock.recognized)
}
