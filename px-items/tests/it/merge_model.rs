//! A model of a bank that changes its rows in every usual way. The merge must follow it.

use crate::row_store::{Row as _, RowStore, day, days, id, pending};
use proptest::prelude::*;
use px_client::Window;
use px_types::{TransactionId, model::transaction::Transaction};
use std::collections::{BTreeMap, BTreeSet};

const LAST_DAY: u64 = 40;

/// An action of the bank or of its reader. Numbers select an existing row, modulo the number of rows.
#[derive(Clone, Debug)]
enum Action {
    Add {
        account: u8,
        cents: i64,
        made: u64,
        posts_after: Option<u64>,
    },
    /// Another row with the same contents and its own id.
    AddTwin(usize),
    /// A pending row posts, under its id or another one, with or without a tip.
    Post {
        which: usize,
        after: u64,
        tip: i64,
        new_id: bool,
    },
    Correct {
        which: usize,
        cents: i64,
    },
    Rename {
        which: usize,
    },
    Redate {
        which: usize,
        to: u64,
    },
    Delete(usize),
    Read {
        from: u64,
        days: u64,
    },
    /// An old response arrives once more.
    Replay(usize),
}

/// Generates actions. With `honest`, a posted row never gets another amount and another date at once.
fn actions(honest: bool) -> impl Strategy<Value = Vec<Action>> {
    let which = || any::<prop::sample::Index>().prop_map(|index| index.index(1 << 20));
    let cents = || prop_oneof![-2000_i64..2000, Just(450)];
    let action = prop_oneof![
        4 => (0_u8..3, cents(), 0..LAST_DAY, prop::option::of(0_u64..5))
            .prop_map(|(account, cents, made, posts_after)|
                Action::Add { account, cents, made, posts_after }),
        1 => which().prop_map(Action::AddTwin),
        4 => (which(), 0_u64..6, 0_i64..300, any::<bool>())
            .prop_map(|(which, after, tip, new_id)| Action::Post { which, after, tip, new_id }),
        1 => (which(), cents()).prop_map(|(which, cents)| Action::Correct { which, cents }),
        1 => which().prop_map(|which| Action::Rename { which }),
        u32::from(!honest) => (which(), 0..LAST_DAY)
            .prop_map(|(which, to)| Action::Redate { which, to }),
        2 => which().prop_map(Action::Delete),
        6 => (0..LAST_DAY, 0..LAST_DAY).prop_map(|(from, days)| Action::Read { from, days }),
        1 => which().prop_map(Action::Replay),
    ];
    prop::collection::vec(action, 1..80)
}

#[derive(Default)]
struct Bank {
    rows: BTreeMap<TransactionId, Transaction>,
    /// Rows with the same contents as another row. They stay unchanged, because they cannot be
    /// distinguished.
    frozen: BTreeSet<TransactionId>,
    ids: u32,
}

impl Bank {
    fn new_id(&mut self) -> TransactionId {
        self.ids += 1;
        id(&format!("t{}", self.ids))
    }

    fn add(&mut self, mut row: Transaction) -> TransactionId {
        row.id = self.new_id();
        let id = row.id.clone();
        self.rows.insert(id.clone(), row);
        id
    }

    /// Picks a row that may change and satisfies `wanted`.
    fn pick(&self, which: usize, wanted: impl Fn(&Transaction) -> bool) -> Option<TransactionId> {
        let fit = |row: &&Transaction| !self.frozen.contains(&row.id) && wanted(row);
        let all: Vec<_> = self.rows.values().filter(fit).collect();
        (!all.is_empty()).then(|| all[which % all.len()].id.clone())
    }

    fn change(&mut self, id: Option<TransactionId>, change: impl FnOnce(&mut Transaction)) {
        if let Some(row) = id.and_then(|id| self.rows.get_mut(&id)) {
            change(row);
        }
    }

    fn response(&self, window: Window) -> Vec<Transaction> {
        let inside =
            |row: &&Transaction| window.start() <= row.date() && row.date() <= window.end();
        self.rows.values().filter(inside).cloned().collect()
    }

    fn apply(&mut self, action: &Action) {
        match *action {
            Action::Add { account, cents, made, posts_after } => {
                let text = format!("text {}", self.ids);
                let mut row =
                    pending("-", &money(cents), &text).of(&account.to_string()).made(made);
                row.settled_at = posts_after.map(|after| day(made + after).into());
                self.add(row);
            }
            Action::AddTwin(which) => {
                let Some(twin) = self.pick(which, |_| true) else { return };
                let other = self.add(self.rows[&twin].clone());
                self.frozen.extend([twin, other]);
            }
            Action::Post { which, after, tip, new_id } => {
                let Some(id) = self.pick(which, Transaction::is_pending) else { return };
                let Some(mut row) = self.rows.remove(&id) else { return };
                row.settled_at = Some(row.transacted_at.date().plus_days(after).into());
                row.amount = row.amount.checked_add(money(tip).parse().unwrap()).unwrap();
                if new_id {
                    row.id = self.new_id();
                }
                self.rows.insert(row.id.clone(), row);
            }
            Action::Correct { which, cents } => {
                self.change(self.pick(which, |_| true), |row| {
                    row.amount = money(cents).parse().unwrap();
                });
            }
            Action::Rename { which } => {
                self.change(self.pick(which, |_| true), |row| {
                    row.description = row.description.take().map(|text| text + "!");
                });
            }
            Action::Redate { which, to } => {
                self.change(self.pick(which, |row| !row.is_pending()), |row| {
                    row.settled_at = Some(day(to).max(row.transacted_at.date()).into());
                });
            }
            Action::Delete(which) => {
                let Some(row) = self.rows.keys().nth(which % self.rows.len().max(1)) else {
                    return;
                };
                let row = row.clone();
                self.rows.remove(&row);
            }
            Action::Read { .. } | Action::Replay(_) => {}
        }
    }
}

fn money(cents: i64) -> String {
    let sign = if cents < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", cents.abs() / 100, cents.abs() % 100)
}

/// The id that applications see for each of the partner's ids. It must not change, and no two live
/// rows may have the same. Exception: an own id that was joined with a posted row may return as the
/// partner's id of another row, which then is a separate row.
#[derive(Default)]
struct ShownIds {
    shown_ids: BTreeMap<TransactionId, TransactionId>,
    reassigned: BTreeSet<TransactionId>,
}

impl ShownIds {
    fn check(&mut self, store: &RowStore) {
        let mut ids = BTreeSet::new();
        for known in store.live() {
            assert!(ids.insert(known.partner_id.clone()), "{:?} is there twice", known.partner_id);
            if known.id != known.partner_id {
                self.reassigned.insert(known.id.clone());
            }
        }
        for known in store.live() {
            let before = self.shown_ids.insert(known.partner_id.clone(), known.id.clone());
            let stays = before.is_none_or(|before| before == known.id);
            assert!(stays || self.reassigned.contains(&known.partner_id), "{known:?} moved");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn the_merge_follows_the_bank(actions in actions(true)) {
        follow(&actions, true)?;
    }

    #[test]
    fn the_merge_follows_a_bank_that_turns_rows_into_others(actions in actions(false)) {
        follow(&actions, false)?;
    }
}

/// A change at a bank that uses positions within the day as ids: rows are inserted and removed
/// anywhere.
#[derive(Clone, Debug)]
enum Shift {
    Insert { day: u64, at: usize, cents: i64 },
    Remove { day: u64, at: usize },
}

fn shifts() -> impl Strategy<Value = Vec<Vec<Shift>>> {
    let insert = (10_u64..13, 0_usize..6, 0_i64..3).prop_map(|(day, at, cents)| Shift::Insert {
        day,
        at,
        cents,
    });
    let remove = (10_u64..13, 0_usize..6).prop_map(|(day, at)| Shift::Remove { day, at });
    prop::collection::vec(prop::collection::vec(prop_oneof![2 => insert, 1 => remove], 1..6), 1..8)
}

proptest! {
    /// A transaction keeps the id that applications see, whatever id the bank uses.
    #[test]
    fn case_08_rows_are_never_written_over_by_those_that_take_their_positions(
        rounds in shifts(),
    ) {
        let mut bank: BTreeMap<u64, Vec<(String, i64)>> = BTreeMap::new();
        let mut store = RowStore::default();
        let mut shown_ids: BTreeMap<String, TransactionId> = BTreeMap::new();
        let mut made = 0;
        for (round, shifts) in rounds.iter().enumerate() {
            for shift in shifts {
                match *shift {
                    Shift::Insert { day, at, cents } => {
                        made += 1;
                        let rows = bank.entry(day).or_default();
                        rows.insert(at.min(rows.len()), (format!("text {made}"), cents));
                    }
                    Shift::Remove { day, at } => {
                        let rows = bank.entry(day).or_default();
                        if at < rows.len() {
                            rows.remove(at);
                        }
                    }
                }
            }
            let mut response: Vec<_> = bank.iter().flat_map(|(number, rows)| {
                rows.iter().enumerate().map(move |(at, (text, cents))| {
                    let id = format!("{}-{at}", day(*number));
                    pending(&id, &money(*cents), text).made(*number).posts(*number)
                })
            }).collect();
            store.read(days(0, 30), response.clone(), 10 * round as i64 + 1);
            response.sort_by(|a, b| a.id.cmp(&b.id));
            prop_assert_eq!(store.as_read(), response);
            let now = store.shown_ids();
            for (text, shown_id) in &now {
                prop_assert_eq!(shown_ids.get(text).unwrap_or(shown_id), shown_id, "{} moved", text);
            }
            shown_ids = now;
        }
    }
}

/// Applies the actions. In the end everything is read, and the stored rows must equal the bank's.
fn follow(actions: &[Action], honest: bool) -> Result<(), TestCaseError> {
    let (mut bank, mut store) = (Bank::default(), RowStore::default());
    let mut shown_ids = ShownIds::default();
    let mut responses: Vec<(Window, Vec<Transaction>, i64)> = Vec::new();
    let mut now = 1;
    for action in actions {
        bank.apply(action);
        now += 10;
        match *action {
            Action::Read { from, days: length } => {
                let window = days(from, from + length);
                let response = bank.response(window);
                store.read(window, response.clone(), now);
                responses.push((window, response, now));
            }
            Action::Replay(which) if !responses.is_empty() => {
                let (window, response, began) = responses[which % responses.len()].clone();
                let mut merged = store.merge(window, response, began);
                // The stored row may have been matched with its twin, so that this id is unknown.
                merged.writes.retain(|write| !bank.frozen.contains(&write.row.id));
                prop_assert_eq!((merged.writes, merged.removed), (vec![], vec![]));
            }
            _ => {}
        }
        if honest {
            shown_ids.check(&store);
        }
    }
    // No row is judged at the start of a window.
    let all = Window::new(day(0).minus_days(5), day(10 * LAST_DAY)).unwrap();
    match actions.len() % 3 {
        0 => drop(store.read(all, bank.response(all), now + 10)),
        // A length of 1 to 12 days: short enough that the two dates of most rows lie in different
        // windows.
        _ => {
            store.scan(all, 1 + actions.len() as u64 % 12, |window| bank.response(window), now + 10)
        }
    }
    let wanted: Vec<_> = bank.rows.into_values().collect();
    prop_assert_eq!(store.as_read(), wanted);
    Ok(())
}
