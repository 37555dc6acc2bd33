//! What an update asks for, and what it finds. Pure.

use px_types::{Date, TransactionId, model::transaction::Transaction};
use std::collections::BTreeMap;

/// The days that every update asks for.
const USUAL_DAYS: u64 = 7;
/// How far back a pending transaction makes an update look.
const MOST_DAYS_FOR_PENDING: u64 = 30;

/// The first date of an update: a week back, further when the last update is older, and
/// further when something that is still pending lies further back.
pub(crate) fn first_date(
    today: Date,
    last_update: Date,
    known: &BTreeMap<TransactionId, Transaction>,
) -> Date {
    let usual = today.minus_days(USUAL_DAYS).min(last_update);
    let pending = known.values().filter(|row| row.is_pending()).map(Transaction::date).min();
    match pending {
        Some(oldest) => usual.min(oldest.max(today.minus_days(MOST_DAYS_FOR_PENDING))),
        None => usual,
    }
}

/// What an update found.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) new: Vec<Transaction>,
    pub(crate) changed: Vec<(Transaction, Transaction)>,
    pub(crate) gone: Vec<Transaction>,
}

/// Merges a window that was read whole: by id; what lies outside the window stays as it is.
pub(crate) fn merge(
    known: &mut BTreeMap<TransactionId, Transaction>,
    read: Vec<Transaction>,
    start: Date,
    end: Date,
) -> Changes {
    let mut changes = Changes::default();
    let mut read: BTreeMap<_, _> = read.into_iter().map(|row| (row.id.clone(), row)).collect();
    let inside = |row: &Transaction| {
        let pending = (start..=end).contains(&row.transacted_at.date());
        pending && row.settled_at.is_none_or(|at| (start..=end).contains(&at.date()))
    };
    let vanished: Vec<_> =
        known.values().filter(|row| inside(row) && !read.contains_key(&row.id)).cloned().collect();
    for row in vanished {
        known.remove(&row.id);
        changes.gone.push(row);
    }
    while let Some((id, row)) = read.pop_first() {
        match known.insert(id, row.clone()) {
            None => changes.new.push(row),
            Some(before) if before != row => changes.changed.push((before, row)),
            Some(_) => {}
        }
    }
    changes.new.sort_by(|a, b| b.date().cmp(&a.date()).then_with(|| a.id.cmp(&b.id)));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use px_types::{AccountId, Amount, Unit, model::account::AccountType};

    fn row(id: &str, day: u32, settled: bool) -> Transaction {
        let date = Date::from_ymd(2024, 1, day).unwrap();
        let mut row = Transaction::new(
            TransactionId::new(id).unwrap(),
            AccountId::new("a").unwrap(),
            "1.00".parse::<Amount>().unwrap(),
            date,
            AccountType::Depository,
            Unit::iso("USD").unwrap(),
        );
        row.settled_at = settled.then(|| date.into());
        row
    }

    fn known(rows: &[Transaction]) -> BTreeMap<TransactionId, Transaction> {
        rows.iter().map(|row| (row.id.clone(), row.clone())).collect()
    }

    #[test]
    fn an_update_looks_back_as_far_as_it_must() {
        let day = |d| Date::from_ymd(2024, 1, d).unwrap();
        assert_eq!(first_date(day(31), day(30), &known(&[])), day(24));
        assert_eq!(first_date(day(31), day(10), &known(&[])), day(10));
        assert_eq!(first_date(day(31), day(30), &known(&[row("p", 20, false)])), day(20));
        let long_ago = Date::from_ymd(2023, 12, 1).unwrap();
        let mut old = row("p", 1, false);
        old.transacted_at = long_ago.into();
        assert_eq!(first_date(day(31), day(30), &known(&[old])), day(1));
    }

    #[test]
    fn only_what_the_window_covers_can_vanish() {
        let mut stored =
            known(&[row("old", 1, true), row("gone", 20, true), row("posts", 21, false)]);
        let read = vec![row("posts", 21, true), row("new", 25, true)];
        let (start, end) =
            (Date::from_ymd(2024, 1, 18).unwrap(), Date::from_ymd(2024, 1, 31).unwrap());
        let changes = merge(&mut stored, read, start, end);
        assert_eq!(changes.gone[0].id.as_str(), "gone");
        assert_eq!(changes.changed[0].1.id.as_str(), "posts");
        assert_eq!(changes.new[0].id.as_str(), "new");
        assert_eq!(stored.len(), 3);
    }
}
