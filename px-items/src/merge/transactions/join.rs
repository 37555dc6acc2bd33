//! A partner that gives a transaction another id when it posts, or with every response until then.
//!
//! The posted row is joined with the pending one only when nothing else comes into question on
//! either side. A wrong join would give one purchase the history of another; two rows that stay
//! two are merely what the partner says.

use super::{Digest, Fate, KnownTransaction, ReadRow, Stock};
use px_types::{AccountId, Amount, Date, model::transaction::Transaction};
use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet},
    hash::Hash,
};

/// So many days later the posted one may have been made: banks that date anew when they post do
/// so on the next working day.
pub(super) const DAYS_LATER: u64 = 3;
/// And so many days earlier: no purchase posts before it was made, but the two dates can be of two
/// time zones.
pub(super) const DAYS_EARLIER: u64 = 1;

/// Joins rows of unknown ids with pending ones that would be gone. Returns the number of posted rows
/// that were joined, and of those for which it could not be decided.
pub(super) fn join(stock: &Stock<'_>, rows: &[ReadRow], fates: &mut [Fate]) -> (u64, u64) {
    let unknown = |fates: &[Fate], posted: bool| -> Vec<_> {
        let unknown = rows.iter().enumerate().filter(|(place, row)| {
            fates[*place] == (Fate::New { collides: false })
                && row.row.settled_at.is_some() == posted
        });
        unknown.map(|(place, row)| (place, Traits::of_row(&row.row))).collect()
    };
    let posted = unknown(fates, true);
    let still_pending = unknown(fates, false);
    if posted.is_empty() && still_pending.is_empty() {
        return (0, 0);
    }
    let waiting = |fates: &[Fate]| -> Vec<_> {
        let read = stock.were_read(fates);
        let pending = stock.known.iter().enumerate().filter(|(place, known)| {
            known.settled.is_none() && !read[*place] && stock.is_followed(known)
        });
        pending.map(|(place, known)| (place, Traits::of_known(known))).collect()
    };
    let pending = waiting(fates);
    for (row, to) in pair_pending((stock, rows), &pending, &still_pending, &posted) {
        fates[row] = Fate::Moved { to, collides: false };
    }
    let pending = waiting(fates);
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

/// Pending rows with the same account, unit, amount, text and date, by place.
#[derive(Default)]
struct Equals {
    stored: Vec<usize>,
    read: Vec<usize>,
    /// Number of posted rows that may be one of the stored ones.
    posted: usize,
}

/// Pairs pending rows of unknown ids with stored ones that would be gone: places of the rows, and of
/// what is known.
///
/// Equal rows pair off by count. Where a row of other contents may be one of them as well, nothing
/// is paired.
fn pair_pending(
    (stock, rows): (&Stock<'_>, &[ReadRow]),
    pending: &[(usize, Traits<'_>)],
    still_pending: &[(usize, Traits<'_>)],
    posted: &[(usize, Traits<'_>)],
) -> Vec<(usize, usize)> {
    let mut groups = HashMap::<_, Equals>::new();
    for (place, traits) in pending {
        groups.entry(traits.all()).or_default().stored.push(*place);
    }
    for (place, traits) in still_pending {
        if let Some(equals) = groups.get_mut(&traits.all()) {
            equals.read.push(*place);
        }
    }
    // A posted row counts where it is equal but for having posted; else wherever it fits.
    let by_place: HashMap<_, _> = pending.iter().copied().collect();
    let side = Side::new(pending, (DAYS_LATER, DAYS_EARLIER));
    for (_, traits) in posted {
        if let Some(equals) = groups.get_mut(&traits.all()) {
            equals.posted += 1;
            continue;
        }
        let fitting: HashSet<_> =
            side.all_fitting(traits).map(|place| by_place[&place].all()).collect();
        for group in fitting {
            if let Some(equals) = groups.get_mut(&group) {
                equals.posted += 1;
            }
        }
    }
    let mut pairs = Vec::new();
    for equals in groups.into_values().filter(|equals| !equals.read.is_empty()) {
        if equals.posted <= equals.stored.len().saturating_sub(equals.read.len()) {
            equals.pair(stock, rows, &mut pairs);
        }
    }
    pairs
}

impl Equals {
    fn pair(self, stock: &Stock<'_>, rows: &[ReadRow], pairs: &mut Vec<(usize, usize)>) {
        // A row that a newer window had must be here again; another one may be gone.
        let had_before = |place: &usize| stock.was_read_before(&stock.known[*place]);
        let mut stored = self.stored;
        stored.sort_by_key(had_before);
        let mut by_digest = HashMap::<_, Vec<usize>>::new();
        for place in stored {
            by_digest.entry(stock.known[place].digest).or_default().push(place);
        }
        let mut left = HashMap::<_, Vec<usize>>::new();
        for place in self.read {
            let digest = rows[place].digest;
            match by_digest.get_mut(&digest).and_then(Vec::pop) {
                Some(to) => pairs.push((place, to)),
                None => left.entry(digest).or_default().push(place),
            }
        }
        by_digest.retain(|_, places| !places.is_empty());
        if by_digest.len() == 1 && left.len() == 1 {
            let stored = by_digest.into_values().flat_map(|places| places.into_iter().rev());
            let read = left.into_values().flatten();
            pairs.extend(read.zip(stored));
        }
    }
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

    fn all(&self) -> (&'a AccountId, &'a str, Amount, Date, Option<Digest>) {
        (self.account, self.unit, self.amount, self.made, self.text)
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

    /// Looks at two of each key at most: a third would change nothing.
    fn fitting(&self, traits: &Traits<'a>) -> Fitting {
        let (alike, named) = self.near(traits);
        alike.take(2).chain(named.take(2)).fold(Fitting::None, Fitting::with)
    }

    /// All that fit, some of them twice.
    fn all_fitting(&self, traits: &Traits<'a>) -> impl Iterator<Item = usize> {
        let (alike, named) = self.near(traits);
        alike.chain(named)
    }

    fn near(
        &self,
        traits: &Traits<'a>,
    ) -> (impl Iterator<Item = usize> + use<'_, 'a>, impl Iterator<Item = usize> + use<'_, 'a>)
    {
        let (earlier, later) = self.reach;
        let dates = (traits.made.minus_days(earlier), traits.made.plus_days(later));
        let alike = near(&self.by_amount, Some(traits.by_amount()), dates);
        (alike, near(&self.by_text, traits.by_text(), dates))
    }
}

/// Those of a key and between two dates.
fn near<K: Hash + Eq>(
    all: &Dated<K>,
    key: Option<K>,
    (from, to): (Date, Date),
) -> impl Iterator<Item = usize> + use<'_, K> {
    let dated = key.and_then(|key| all.get(&key)).map_or(&[][..], Vec::as_slice);
    let start = dated.partition_point(|(made, _)| *made < from);
    dated[start..].iter().take_while(move |(made, _)| *made <= to).map(|(_, place)| *place)
}
