//! Pending rows that get another id when they post, or with every response until then.
//!
//! A posted row is joined with a pending one only if there is no other candidate on either side. A
//! wrong join would mix the histories of two purchases; two separate rows are merely what the partner
//! returned.

use super::{Digest, IncomingRow, KnownTransaction, MergeContext, RowOutcome};
use px_types::{AccountId, Amount, Date, model::transaction::Transaction};
use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet},
    hash::Hash,
};

/// Maximum number of days that the posted row may be dated after the pending one: banks that change
/// the date when a row posts use the next working day.
pub(super) const MAX_DAYS_LATER: u64 = 3;
/// Maximum number of days that the posted row may be dated before the pending one: a purchase does not
/// post before it is made, but the two dates may be of different time zones.
pub(super) const MAX_DAYS_EARLIER: u64 = 1;

/// Joins rows of unknown ids with pending rows that would otherwise be removed. Returns the number of
/// joined posted rows and the number of ambiguous ones.
pub(super) fn join(
    context: &MergeContext<'_>,
    rows: &[IncomingRow],
    outcomes: &mut [RowOutcome],
) -> (u64, u64) {
    let unknown = |outcomes: &[RowOutcome], posted: bool| -> Vec<_> {
        let unknown = rows.iter().enumerate().filter(|(index, row)| {
            outcomes[*index] == (RowOutcome::New { collides: false })
                && row.row.settled_at.is_some() == posted
        });
        unknown.map(|(index, row)| (index, RowTraits::of_row(&row.row))).collect()
    };
    let posted = unknown(outcomes, true);
    let still_pending = unknown(outcomes, false);
    if posted.is_empty() && still_pending.is_empty() {
        return (0, 0);
    }
    let unread_pending = |outcomes: &[RowOutcome]| -> Vec<_> {
        let read = context.were_read(outcomes);
        let pending = context.known.iter().enumerate().filter(|(index, known)| {
            known.settled.is_none() && !read[*index] && context.is_followed(known)
        });
        pending.map(|(index, known)| (index, RowTraits::of_known(known))).collect()
    };
    let pending = unread_pending(outcomes);
    for (row, to) in pair_pending((context, rows), &pending, &still_pending, &posted) {
        outcomes[row] = RowOutcome::Matched { to, collides: false };
    }
    let pending = unread_pending(outcomes);
    let (mut joined, mut ambiguous) = (0, 0);
    let pending_index = CandidateIndex::new(&pending, (MAX_DAYS_LATER, MAX_DAYS_EARLIER));
    let posted_index = CandidateIndex::new(&posted, (MAX_DAYS_EARLIER, MAX_DAYS_LATER));
    let traits_of: HashMap<_, _> = pending.iter().copied().collect();
    for (index, traits) in &posted {
        match pending_index.candidates(traits) {
            Candidates::None => {}
            Candidates::One(to)
                if posted_index.candidates(&traits_of[&to]) == Candidates::One(*index) =>
            {
                outcomes[*index] = RowOutcome::Matched { to, collides: false };
                joined += 1;
            }
            Candidates::One(_) | Candidates::Many => ambiguous += 1,
        }
    }
    (joined, ambiguous)
}

/// Indexes of pending rows with the same account, unit, amount, text and date.
#[derive(Default)]
struct EqualRows {
    stored: Vec<usize>,
    read: Vec<usize>,
    /// Number of posted rows that may be one of the stored rows.
    posted: usize,
}

/// Pairs pending rows of unknown ids with stored rows that would otherwise be removed. Returns pairs
/// of the index of the incoming row and the index of the stored row.
///
/// Equal rows pair off by count. Nothing is paired if there are not enough stored rows for the pending
/// rows together with the posted rows that may be one of them.
fn pair_pending(
    (context, rows): (&MergeContext<'_>, &[IncomingRow]),
    pending: &[(usize, RowTraits<'_>)],
    still_pending: &[(usize, RowTraits<'_>)],
    posted: &[(usize, RowTraits<'_>)],
) -> Vec<(usize, usize)> {
    let mut groups = HashMap::<_, EqualRows>::new();
    for (index, traits) in pending {
        groups.entry(traits.all()).or_default().stored.push(*index);
    }
    for (index, traits) in still_pending {
        if let Some(equal_rows) = groups.get_mut(&traits.all()) {
            equal_rows.read.push(*index);
        }
    }
    // A posted row that differs only in having posted counts for its own group, any other one for
    // every group that it fits.
    let traits_by_index: HashMap<_, _> = pending.iter().copied().collect();
    let side = CandidateIndex::new(pending, (MAX_DAYS_LATER, MAX_DAYS_EARLIER));
    for (_, traits) in posted {
        if let Some(equal_rows) = groups.get_mut(&traits.all()) {
            equal_rows.posted += 1;
            continue;
        }
        let fitting_groups: HashSet<_> =
            side.all_candidates(traits).map(|index| traits_by_index[&index].all()).collect();
        for group in fitting_groups {
            if let Some(equal_rows) = groups.get_mut(&group) {
                equal_rows.posted += 1;
            }
        }
    }
    let mut pairs = Vec::new();
    for equal_rows in groups.into_values().filter(|equal_rows| !equal_rows.read.is_empty()) {
        if equal_rows.posted <= equal_rows.stored.len().saturating_sub(equal_rows.read.len()) {
            equal_rows.pair(context, rows, &mut pairs);
        }
    }
    pairs
}

impl EqualRows {
    fn pair(
        self,
        context: &MergeContext<'_>,
        rows: &[IncomingRow],
        pairs: &mut Vec<(usize, usize)>,
    ) {
        // Rows that a newer window read must be present again; others may be removed. So the former
        // are matched first.
        let was_read_before = |index: &usize| context.was_read_before(&context.known[*index]);
        let mut stored = self.stored;
        stored.sort_by_key(was_read_before);
        let mut by_digest = HashMap::<_, Vec<usize>>::new();
        for index in stored {
            by_digest.entry(context.known[index].digest).or_default().push(index);
        }
        let mut unmatched = HashMap::<_, Vec<usize>>::new();
        for index in self.read {
            let digest = rows[index].digest;
            match by_digest.get_mut(&digest).and_then(Vec::pop) {
                Some(to) => pairs.push((index, to)),
                None => unmatched.entry(digest).or_default().push(index),
            }
        }
        by_digest.retain(|_, indexes| !indexes.is_empty());
        if by_digest.len() == 1 && unmatched.len() == 1 {
            let stored = by_digest.into_values().flat_map(|indexes| indexes.into_iter().rev());
            let read = unmatched.into_values().flatten();
            pairs.extend(read.zip(stored));
        }
    }
}

/// The properties by which a pending row and a posted row are compared.
#[derive(Clone, Copy)]
struct RowTraits<'a> {
    account: &'a AccountId,
    unit: &'a str,
    amount: Amount,
    transacted: Date,
    text: Option<Digest>,
}

impl<'a> RowTraits<'a> {
    fn of_row(row: &'a Transaction) -> Self {
        Self {
            account: &row.account_id,
            unit: row.unit.as_str(),
            amount: row.amount,
            transacted: row.transacted_at.date(),
            text: KnownTransaction::text_digest(row),
        }
    }

    fn of_known(known: &'a KnownTransaction) -> Self {
        Self {
            account: &known.account_id,
            unit: &known.unit,
            amount: known.amount,
            transacted: known.transacted,
            text: known.description,
        }
    }

    fn all(&self) -> (&'a AccountId, &'a str, Amount, Date, Option<Digest>) {
        (self.account, self.unit, self.amount, self.transacted, self.text)
    }

    /// The key of rows with the same amount. If the amount differs, for example by a tip, the text
    /// must be the same: see [`by_text`](Self::by_text).
    fn by_amount(&self) -> (&'a AccountId, &'a str, Amount) {
        (self.account, self.unit, self.amount)
    }

    fn by_text(&self) -> Option<(&'a AccountId, &'a str, Ordering, Digest)> {
        Some((self.account, self.unit, self.amount.cmp(&Amount::ZERO), self.text?))
    }
}

/// The number of candidates on one side for a row of the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Candidates {
    None,
    One(usize),
    Many,
}

impl Candidates {
    fn with(self, index: usize) -> Self {
        match self {
            Self::None => Self::One(index),
            Self::One(other) if other == index => self,
            Self::One(_) | Self::Many => Self::Many,
        }
    }
}

/// Indexes of rows by key, sorted by date.
type ByDate<K> = HashMap<K, Vec<(Date, usize)>>;

/// The rows of one side, indexed so that a lookup takes a few steps however many rows there are.
struct CandidateIndex<'a> {
    by_amount: ByDate<(&'a AccountId, &'a str, Amount)>,
    by_text: ByDate<(&'a AccountId, &'a str, Ordering, Digest)>,
    /// Maximum number of days that a row of this side may be earlier and later than a row of the other
    /// side.
    reach: (u64, u64),
}

impl<'a> CandidateIndex<'a> {
    fn new(all: &[(usize, RowTraits<'a>)], reach: (u64, u64)) -> Self {
        let mut side = Self { by_amount: HashMap::new(), by_text: HashMap::new(), reach };
        for (index, traits) in all {
            let entry = (traits.transacted, *index);
            side.by_amount.entry(traits.by_amount()).or_default().push(entry);
            if let Some(key) = traits.by_text() {
                side.by_text.entry(key).or_default().push(entry);
            }
        }
        side.by_amount.values_mut().for_each(|dated| dated.sort_unstable());
        side.by_text.values_mut().for_each(|dated| dated.sort_unstable());
        side
    }

    /// Returns the number of candidates. Two of each key suffice: a third one would change nothing.
    fn candidates(&self, traits: &RowTraits<'a>) -> Candidates {
        let (same_amount, same_text) = self.near(traits);
        same_amount.take(2).chain(same_text.take(2)).fold(Candidates::None, Candidates::with)
    }

    /// Returns all candidates, some of them twice.
    fn all_candidates(&self, traits: &RowTraits<'a>) -> impl Iterator<Item = usize> {
        let (same_amount, same_text) = self.near(traits);
        same_amount.chain(same_text)
    }

    fn near(
        &self,
        traits: &RowTraits<'a>,
    ) -> (impl Iterator<Item = usize> + use<'_, 'a>, impl Iterator<Item = usize> + use<'_, 'a>)
    {
        let (earlier, later) = self.reach;
        let dates = (traits.transacted.minus_days(earlier), traits.transacted.plus_days(later));
        let same_amount = near(&self.by_amount, Some(traits.by_amount()), dates);
        (same_amount, near(&self.by_text, traits.by_text(), dates))
    }
}

/// Returns the rows of a key between two dates.
fn near<K: Hash + Eq>(
    all: &ByDate<K>,
    key: Option<K>,
    (from, to): (Date, Date),
) -> impl Iterator<Item = usize> + use<'_, K> {
    let dated = key.and_then(|key| all.get(&key)).map_or(&[][..], Vec::as_slice);
    let start = dated.partition_point(|(made, _)| *made < from);
    dated[start..].iter().take_while(move |(made, _)| *made <= to).map(|(_, index)| *index)
}
