//! A partner that gives a transaction another id when it posts.
//!
//! The posted row is joined with the pending one only when nothing else comes into question on
//! either side. A wrong join would give one purchase the history of another; two rows that stay
//! two are merely what the partner says.

use super::{Digest, Fate, KnownTransaction, ReadRow, Stock};
use px_types::{AccountId, Amount, Date, model::transaction::Transaction};
use std::{cmp::Ordering, collections::HashMap, hash::Hash};

/// So many days later the posted one may have been made: banks that date anew when they post do
/// so on the next working day.
const DAYS_LATER: u64 = 3;
/// And so many days earlier: no purchase posts before it was made, but the two dates can be of two
/// time zones.
const DAYS_EARLIER: u64 = 1;

/// Joins posted rows of unknown ids with pending ones that would be gone. How many were joined,
/// and for how many it could not be told.
pub(super) fn join(stock: &Stock<'_>, rows: &[ReadRow], fates: &mut [Fate]) -> (u64, u64) {
    let posted: Vec<_> = rows
        .iter()
        .enumerate()
        .filter(|(place, row)| {
            fates[*place] == Fate::New { collides: false } && row.row.settled_at.is_some()
        })
        .map(|(place, row)| (place, Traits::of_row(&row.row)))
        .collect();
    if posted.is_empty() {
        return (0, 0);
    }
    let read = stock.were_read(fates);
    let pending: Vec<_> = stock
        .known
        .iter()
        .enumerate()
        .filter(|(place, known)| {
            known.settled.is_none() && !read[*place] && stock.must_be_read(known)
        })
        .map(|(place, known)| (place, Traits::of_known(known)))
        .collect();
    let (mut joined, mut ambiguous) = (0, 0);
    let pending_side = Side::new(&pending, (DAYS_LATER, DAYS_EARLIER));
    let posted_side = Side::new(&posted, (DAYS_EARLIER, DAYS_LATER));
    let traits_of: HashMap<_, _> = pending.iter().copied().collect();
    for (place, traits) in &posted {
        match pending_side.fitting(traits) {
            Fitting::None => {}
            Fitting::One(to) if posted_side.fitting(&traits_of[&to]) == Fitting::One(*place) => {
                fates[*place] = Fate::Moved { to, collides: false };
                joined += 1;
            }
            Fitting::One(_) | Fitting::More => ambiguous += 1,
        }
    }
    (joined, ambiguous)
}

/// What a pending row and the posted one have in common.
#[derive(Clone, Copy)]
struct Traits<'a> {
    account: &'a AccountId,
    unit: &'a str,
    amount: Amount,
    made: Date,
    text: Option<Digest>,
}

impl<'a> Traits<'a> {
    fn of_row(row: &'a Transaction) -> Self {
        Self {
            account: &row.account_id,
            unit: row.unit.as_str(),
            amount: row.amount,
            made: row.transacted_at.date(),
            text: KnownTransaction::text_digest(row),
        }
    }

    fn of_known(known: &'a KnownTransaction) -> Self {
        Self {
            account: &known.account_id,
            unit: &known.unit,
            amount: known.amount,
            made: known.transacted,
            text: known.description,
        }
    }

    /// With another amount, such as a tip changes it, the text must be the same.
    fn by_amount(&self) -> (&'a AccountId, &'a str, Amount) {
        (self.account, self.unit, self.amount)
    }

    fn by_text(&self) -> Option<(&'a AccountId, &'a str, Ordering, Digest)> {
        Some((self.account, self.unit, self.amount.cmp(&Amount::ZERO), self.text?))
    }
}

/// How many of a side fit one of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fitting {
    None,
    One(usize),
    More,
}

impl Fitting {
    fn with(self, place: usize) -> Self {
        match self {
            Self::None => Self::One(place),
            Self::One(other) if other == place => self,
            Self::One(_) | Self::More => Self::More,
        }
    }
}

/// Places by a key, by date.
type Dated<K> = HashMap<K, Vec<(Date, usize)>>;

/// One side of the fits, so ordered that each lookup takes a few steps, however many there are.
struct Side<'a> {
    by_amount: Dated<(&'a AccountId, &'a str, Amount)>,
    by_text: Dated<(&'a AccountId, &'a str, Ordering, Digest)>,
    /// How many days earlier and later than one of the other side one of this side may be.
    reach: (u64, u64),
}

impl<'a> Side<'a> {
    fn new(all: &[(usize, Traits<'a>)], reach: (u64, u64)) -> Self {
        let mut side = Self { by_amount: HashMap::new(), by_text: HashMap::new(), reach };
        for (place, traits) in all {
            let entry = (traits.made, *place);
            side.by_amount.entry(traits.by_amount()).or_default().push(entry);
            if let Some(key) = traits.by_text() {
                side.by_text.entry(key).or_default().push(entry);
            }
        }
        side.by_amount.values_mut().for_each(|dated| dated.sort_unstable());
        side.by_text.values_mut().for_each(|dated| dated.sort_unstable());
        side
    }

    fn fitting(&self, traits: &Traits<'a>) -> Fitting {
        let (earlier, later) = self.reach;
        let dates = (traits.made.minus_days(earlier), traits.made.plus_days(later));
        let alike = near(&self.by_amount, Some(traits.by_amount()), dates);
        let named = near(&self.by_text, traits.by_text(), dates);
        alike.chain(named).fold(Fitting::None, Fitting::with)
    }
}

/// Two at most of a key and between two dates: a third would tell nothing more.
fn near<K: Hash + Eq>(
    all: &Dated<K>,
    key: Option<K>,
    (from, to): (Date, Date),
) -> impl Iterator<Item = usize> + use<'_, K> {
    let dated = key.and_then(|key| all.get(&key)).map_or(&[][..], Vec::as_slice);
    let start = dated.partition_point(|(made, _)| *made < from);
    dated[start..].iter().take(2).take_while(move |(made, _)| *made <= to).map(|(_, place)| *place)
}
