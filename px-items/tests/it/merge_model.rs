//! A model of a bank that does what banks do, and the merge that must follow it.

use crate::kept::{Kept, Row as _, day, days, id, pending};
use proptest::prelude::*;
use px_client::Window;
use px_types::{TransactionId, model::transaction::Transaction};
use std::collections::{BTreeMap, BTreeSet};

const LAST_DAY: u64 = 40;

/// What a bank and its reader do. Numbers choose among what there is.
#[derive(Clone, Debug)]
enum Deed {
    Add {
        account: u8,
        cents: i64,
        made: u64,
        posts_after: Option<u64>,
    },
    /// One more of the same, to the letter, under an id of its own.
    AddTwin(usize),
    /// A pending one posts, under its id or another, with a tip or without.
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
    /// An answer of long ago comes once more.
    Replay(usize),
}

/// `honest` banks never give a posted row another amount and another date at once.
fn deeds(honest: bool) -> impl Strategy<Value = Vec<Deed>> {
    let which = || any::<prop::sample::Index>().prop_map(|index| index.index(1 << 20));
    let cents = || prop_oneof![-2000_i64..2000, Just(450)];
    let deed = prop_oneof![
        4 => (0_u8..3, cents(), 0..LAST_DAY, prop::option::of(0_u64..5))
            .prop_map(|(account, cents, made, posts_after)|
                Deed::Add { account, cents, made, posts_after }),
        1 => which().prop_map(Deed::AddTwin),
        4 => (which(), 0_u64..6, 0_i64..300, any::<bool>())
            .prop_map(|(which, after, tip, new_id)| Deed::Post { which, after, tip, new_id }),
        1 => (which(), cents()).prop_map(|(which, cents)| Deed::Correct { which, cents }),
        1 => which().prop_map(|which| Deed::Rename { which }),
        u32::from(!honest) => (which(), 0..LAST_DAY)
            .prop_map(|(which, to)| Deed::Redate { which, to }),
        2 => which().prop_map(Deed::Delete),
        6 => (0..LAST_DAY, 0..LAST_DAY).prop_map(|(from, days)| Deed::Read { from, days }),
        1 => which().prop_map(Deed::Replay),
    ];
    prop::collection::vec(deed, 1..80)
}

#[derive(Default)]
struct Bank {
    rows: BTreeMap<TransactionId, Transaction>,
    /// Twins, which stay as they are: what else has the same contents cannot be told from them.
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

    /// One of its rows that may change and is as asked for.
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

    fn answer(&self, window: Window) -> Vec<Transaction> {
        let inside =
            |row: &&Transaction| window.start() <= row.date() && row.date() <= window.end();
        self.rows.values().filter(inside).cloned().collect()
    }

    fn does(&mut self, deed: &Deed) {
        match *deed {
            Deed::Add { account, cents, made, posts_after } => {
                let text = format!("text {}", self.ids);
                let mut row =
                    pending("-", &money(cents), &text).of(&account.to_string()).made(made);
                row.settled_at = posts_after.map(|after| day(made + after).into());
                self.add(row);
            }
            Deed::AddTwin(which) => {
                let Some(twin) = self.pick(which, |_| true) else { return };
                let other = self.add(self.rows[&twin].clone());
                self.frozen.extend([twin, other]);
            }
            Deed::Post { which, after, tip, new_id } => {
                let Some(id) = self.pick(which, Transaction::is_pending) else { return };
                let Some(mut row) = self.rows.remove(&id) else { return };
                row.settled_at = Some(row.transacted_at.date().plus_days(after).into());
                row.amount = row.amount.checked_add(money(tip).parse().unwrap()).unwrap();
                if new_id {
                    row.id = self.new_id();
                }
                self.rows.insert(row.id.clone(), row);
            }
            Deed::Correct { which, cents } => {
                self.change(self.pick(which, |_| true), |row| {
                    row.amount = money(cents).parse().unwrap();
                });
            }
            Deed::Rename { which } => {
                self.change(self.pick(which, |_| true), |row| {
                    row.description = row.description.take().map(|text| text + "!");
                });
            }
            Deed::Redate { which, to } => {
                self.change(self.pick(which, |row| !row.is_pending()), |row| {
                    row.settled_at = Some(day(to).max(row.transacted_at.date()).into());
                });
            }
            Deed::Delete(which) => {
                let Some(row) = self.rows.keys().nth(which % self.rows.len().max(1)) else {
                    return;
                };
                let row = row.clone();
                self.rows.remove(&row);
            }
            Deed::Read { .. } | Deed::Replay(_) => {}
        }
    }
}

fn money(cents: i64) -> String {
    let sign = if cents < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", cents.abs() / 100, cents.abs() % 100)
}

/// Where applications saw each of the partner's ids: it must not change, and no two live rows may
/// have the same. But an id that was taken for that of a pending row, gone when another one posted
/// that fits, can come back; then it is a row of its own.
#[derive(Default)]
struct Homes {
    homes: BTreeMap<TransactionId, TransactionId>,
    given_away: BTreeSet<TransactionId>,
}

impl Homes {
    fn check(&mut self, kept: &Kept) {
        let mut ids = BTreeSet::new();
        for known in kept.live() {
            assert!(ids.insert(known.partner_id.clone()), "{:?} is there twice", known.partner_id);
            if known.id != known.partner_id {
                self.given_away.insert(known.id.clone());
            }
        }
        for known in kept.live() {
            let before = self.homes.insert(known.partner_id.clone(), known.id.clone());
            let stays = before.is_none_or(|before| before == known.id);
            assert!(stays || self.given_away.contains(&known.partner_id), "{known:?} moved");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn the_merge_follows_the_bank(deeds in deeds(true)) {
        follow(&deeds, true)?;
    }

    #[test]
    fn the_merge_follows_a_bank_that_turns_rows_into_others(deeds in deeds(false)) {
        follow(&deeds, false)?;
    }
}

/// A bank whose ids are positions within the day: rows are put in anywhere, and taken out.
#[derive(Clone, Debug)]
enum Shift {
    PutIn { day: u64, at: usize, cents: i64 },
    TakeOut { day: u64, at: usize },
}

fn shifts() -> impl Strategy<Value = Vec<Vec<Shift>>> {
    let put_in = (10_u64..13, 0_usize..6, 0_i64..3).prop_map(|(day, at, cents)| Shift::PutIn {
        day,
        at,
        cents,
    });
    let take_out = (10_u64..13, 0_usize..6).prop_map(|(day, at)| Shift::TakeOut { day, at });
    prop::collection::vec(
        prop::collection::vec(prop_oneof![2 => put_in, 1 => take_out], 1..6),
        1..8,
    )
}

proptest! {
    /// Whatever the bank calls it, a transaction stays what it is to applications.
    #[test]
    fn case_08_rows_are_never_written_over_by_those_that_take_their_positions(
        rounds in shifts(),
    ) {
        let mut bank: BTreeMap<u64, Vec<(String, i64)>> = BTreeMap::new();
        let mut kept = Kept::default();
        let mut homes: BTreeMap<String, TransactionId> = BTreeMap::new();
        let mut made = 0;
        for (round, shifts) in rounds.iter().enumerate() {
            for shift in shifts {
                match *shift {
                    Shift::PutIn { day, at, cents } => {
                        made += 1;
                        let rows = bank.entry(day).or_default();
                        rows.insert(at.min(rows.len()), (format!("text {made}"), cents));
                    }
                    Shift::TakeOut { day, at } => {
                        let rows = bank.entry(day).or_default();
                        if at < rows.len() {
                            rows.remove(at);
                        }
                    }
                }
            }
            let mut answer: Vec<_> = bank.iter().flat_map(|(number, rows)| {
                rows.iter().enumerate().map(move |(at, (text, cents))| {
                    let id = format!("{}-{at}", day(*number));
                    pending(&id, &money(*cents), text).made(*number).posts(*number)
                })
            }).collect();
            kept.read(days(0, 30), answer.clone(), 10 * round as i64 + 1);
            answer.sort_by(|a, b| a.id.cmp(&b.id));
            prop_assert_eq!(kept.as_read(), answer);
            let now = kept.homes();
            for (text, home) in &now {
                prop_assert_eq!(homes.get(text).unwrap_or(home), home, "{} moved", text);
            }
            homes = now;
        }
    }
}

/// Does the deeds; in the end everything is read, and must be there as the bank has it.
fn follow(deeds: &[Deed], honest: bool) -> Result<(), TestCaseError> {
    let (mut bank, mut kept) = (Bank::default(), Kept::default());
    let mut homes = Homes::default();
    let mut answers: Vec<(Window, Vec<Transaction>, i64)> = Vec::new();
    let mut now = 1;
    for deed in deeds {
        bank.does(deed);
        now += 10;
        match *deed {
            Deed::Read { from, days: length } => {
                let window = days(from, from + length);
                let answer = bank.answer(window);
                kept.read(window, answer.clone(), now);
                answers.push((window, answer, now));
            }
            Deed::Replay(which) if !answers.is_empty() => {
                let (window, answer, began) = answers[which % answers.len()].clone();
                let mut merged = kept.merge(window, answer, began);
                // The stored row may have been followed to its twin: then this id is unknown.
                merged.writes.retain(|write| !bank.frozen.contains(&write.row.id));
                prop_assert_eq!((merged.writes, merged.removed), (vec![], vec![]));
            }
            _ => {}
        }
        if honest {
            homes.check(&kept);
        }
    }
    // Nothing is judged at the start of a window.
    let all = Window::new(day(0).minus_days(5), day(10 * LAST_DAY)).unwrap();
    match deeds.len() % 3 {
        0 => drop(kept.read(all, bank.answer(all), now + 10)),
        // A length of 1 to 12 days: short enough that most rows' dates fall apart.
        _ => kept.walk(all, 1 + deeds.len() as u64 % 12, |window| bank.answer(window), now + 10),
    }
    let wanted: Vec<_> = bank.rows.into_values().collect();
    prop_assert_eq!(kept.as_read(), wanted);
    Ok(())
}
