//! Banks of every style over many days, and an Item that must show the same rows.
//!
//! A style defines the date by which a bank files the rows of an account, the time zone of that date,
//! and the time zone of the written date. The model knows which rows are the same transaction under
//! different ids. It therefore detects a live row that was removed, a row that is shown twice, and a
//! removed row that is still shown.

use chrono::{DateTime, FixedOffset, TimeDelta, Utc};
use futures_util::FutureExt as _;
use proptest::prelude::*;
use px_client::{Window, oauth::TokenSet};
use px_items::{
    connection::Connection,
    merge::{KnownTransaction, ReadWindow},
    plan::PlanSettings,
    store::{AccessDigest, MemoryStore, NewHolder, NewLink, Store as _, TransactionQuery},
    sync::{Counts, Moment, PartnerLengths, Run, Step},
};
use px_types::{
    AccessToken, Date, ItemId, TransactionId,
    model::{product::Product, transaction::Transaction},
    partner::UserAccountInfoResponse,
    webhook::Environment,
};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

const ACCOUNTS: u8 = 3;
/// Number of days at each edge of a window on which rows need not be judged.
const SLACK: u64 = 2;
const HISTORY_DAYS: u64 = 120;
/// Number of rows with new ids from which rows may be put on hold.
const MANY_RENUMBERED: usize = 3;
/// Number of days after which a deep resync has read every row under its new id.
const RENUMBERED_DAYS: i64 = 14;

/// The filing style of one account.
#[derive(Clone, Copy, Debug)]
struct Style {
    /// Whether rows are filed by the transaction date even after posting.
    by_purchase: bool,
    /// Whether rows are filed by the UTC date, not by the written one.
    in_utc: bool,
    /// UTC offset of written times, in minutes.
    offset: i32,
    /// Whether dates are written without times.
    plain: bool,
}

#[derive(Clone, Debug)]
enum Action {
    /// A purchase, posted at once or pending.
    Buy {
        account: u8,
        kind: u8,
        hours_ago: i64,
        posted: bool,
    },
    /// A row that the bank adds days after it was made and posted.
    Late {
        account: u8,
        kind: u8,
        days_ago: i64,
        posts_after: i64,
    },
    /// A pending row posts, under its id or another one, with or without a tip.
    Post {
        which: usize,
        new_id: bool,
        tip: bool,
    },
    /// A posted row gets another id. `edit`: 1 also changes the text, 2 the amount.
    Renumber {
        which: usize,
        edit: u8,
    },
    Correct {
        which: usize,
    },
    Delete {
        which: usize,
    },
}

#[derive(Clone, Debug)]
struct ScriptDay {
    hours: i64,
    actions: Vec<Action>,
}

#[derive(Clone, Debug)]
struct Script {
    styles: Vec<Style>,
    /// Whether pending rows get another id with every response.
    unstable: bool,
    /// Whether no two rows have the same contents.
    unique: bool,
    window_days: u64,
    start_hour: i64,
    /// Rows that exist when the Item is linked: account, kind, hours ago, hours until posting.
    past: Vec<(u8, u8, i64, i64)>,
    days: Vec<ScriptDay>,
}

#[derive(Clone, Debug)]
struct BankRow {
    truth: usize,
    id: TransactionId,
    account: u8,
    cents: i64,
    text: String,
    made: DateTime<Utc>,
    posted: Option<DateTime<Utc>>,
}

struct Bank {
    styles: Vec<Style>,
    unstable: bool,
    unique: bool,
    rows: Vec<BankRow>,
    truths: usize,
    ids: usize,
    /// Transaction that each id was assigned to.
    issued: BTreeMap<TransactionId, usize>,
}

impl Bank {
    fn new_id(&mut self, truth: usize) -> TransactionId {
        self.ids += 1;
        let id = TransactionId::new(format!("t{}", self.ids)).unwrap();
        self.issued.insert(id.clone(), truth);
        id
    }

    fn add(&mut self, account: u8, kind: u8, made: DateTime<Utc>, posted: Option<DateTime<Utc>>) {
        let truth = self.truths;
        self.truths += 1;
        let (mut cents, mut text) = (100 + i64::from(kind % 2), format!("shop {}", kind / 2));
        if self.unique {
            (cents, text) = (cents + 10 * truth as i64, format!("{text} {truth}"));
        }
        let id = self.new_id(truth);
        self.rows.push(BankRow {
            truth,
            id,
            account: account % ACCOUNTS,
            cents,
            text,
            made,
            posted,
        });
    }

    fn pick(&self, which: usize, wanted: impl Fn(&BankRow) -> bool) -> Option<usize> {
        let fit: Vec<_> = (0..self.rows.len()).filter(|at| wanted(&self.rows[*at])).collect();
        (!fit.is_empty()).then(|| fit[which % fit.len()])
    }

    fn apply(&mut self, action: &Action, now: DateTime<Utc>) {
        match *action {
            Action::Buy { account, kind, hours_ago, posted } => {
                let made = now - TimeDelta::hours(hours_ago);
                self.add(account, kind, made, posted.then_some(made));
            }
            Action::Late { account, kind, days_ago, posts_after } => {
                let made = now - TimeDelta::days(days_ago);
                let posted = (made + TimeDelta::hours(posts_after)).min(now);
                self.add(account, kind, made, Some(posted));
            }
            Action::Post { which, new_id, tip } => {
                let Some(at) = self.pick(which, |row| row.posted.is_none()) else { return };
                self.rows[at].posted = Some(now);
                if tip {
                    self.rows[at].cents += 5;
                }
                if new_id {
                    self.rows[at].id = self.new_id(self.rows[at].truth);
                }
            }
            Action::Renumber { which, edit } => {
                let Some(at) = self.pick(which, |row| row.posted.is_some()) else { return };
                self.rows[at].id = self.new_id(self.rows[at].truth);
                match edit {
                    1 => self.rows[at].text.push('!'),
                    2 => self.rows[at].cents += 1,
                    _ => {}
                }
            }
            Action::Correct { which } => {
                let Some(at) = self.pick(which, |_| true) else { return };
                self.rows[at].cents += 1;
            }
            Action::Delete { which } => {
                let Some(at) = self.pick(which, |_| true) else { return };
                self.rows.remove(at);
            }
        }
    }

    fn style(&self, row: &BankRow) -> Style {
        self.styles[usize::from(row.account)]
    }

    /// Returns the date under which the bank files a row.
    fn filed(&self, row: &BankRow) -> Date {
        let style = self.style(row);
        let at = if style.by_purchase { row.made } else { row.posted.unwrap_or(row.made) };
        let offset = if style.in_utc { 0 } else { style.offset };
        local(at, offset)
    }

    /// Returns the earlier and the later of the written dates of a row.
    fn written(&self, row: &BankRow) -> (Date, Date) {
        let offset = self.style(row).offset;
        let (made, posted) = (local(row.made, offset), row.posted.map(|at| local(at, offset)));
        let posted = posted.unwrap_or(made);
        (made.min(posted), made.max(posted))
    }

    fn wire(&self, row: &BankRow) -> Transaction {
        let style = self.style(row);
        let write = |at: DateTime<Utc>| match style.plain {
            true => local(at, style.offset).to_string(),
            false => at.with_timezone(&zone(style.offset)).to_rfc3339(),
        };
        serde_json::from_value(json!({
            "id": row.id, "account_id": format!("a-{}", row.account),
            "amount": format!("{}.{:02}", row.cents / 100, row.cents % 100), "currency": "USD",
            "description": row.text, "settled_at": row.posted.map(write),
            "transacted_at": write(row.made), "type": "depository",
        }))
        .unwrap()
    }

    fn response(&mut self, window: Window) -> Vec<Transaction> {
        if self.unstable {
            for at in 0..self.rows.len() {
                if self.rows[at].posted.is_none() {
                    self.rows[at].id = self.new_id(self.rows[at].truth);
                }
            }
        }
        let inside = |date| window.start() <= date && date <= window.end();
        let rows = self.rows.iter().filter(|row| inside(self.filed(row)));
        rows.map(|row| self.wire(row)).collect()
    }

    fn truth_of(&self, id: &TransactionId) -> usize {
        self.issued[id]
    }
}

fn zone(minutes: i32) -> FixedOffset {
    FixedOffset::east_opt(minutes * 60).unwrap()
}

fn local(at: DateTime<Utc>, offset: i32) -> Date {
    Date::from(at.with_timezone(&zone(offset)).date_naive())
}

/// Returns the first date from which a scan of the whole history judges rows.
fn first_judged(now: DateTime<Utc>) -> Date {
    px_items::plan::today(now).0.minus_days(HISTORY_DAYS).plus_days(SLACK)
}

fn user() -> UserAccountInfoResponse {
    let account = |number: u8| {
        json!({
            "id": format!("a-{number}"), "type": "depository", "subtype": "checking",
            "name": format!("Account {number}"), "status": "active", "owner_identity_ids": ["i"],
            "current_balance": "1.00", "currency": "USD", "transfer_codes": [],
        })
    };
    serde_json::from_value(json!({
        "user_identity_id": "i", "identities": [{"id": "i", "name": "Ada"}], "securities": [],
        "accounts": (0..ACCOUNTS).map(account).collect::<Vec<_>>(),
    }))
    .unwrap()
}

/// An Item in a store.
struct World {
    store: MemoryStore,
    item: ItemId,
    plan: PlanSettings,
    now: DateTime<Utc>,
    bank: Bank,
    /// Times at which rows got other ids.
    renumbered: Vec<DateTime<Utc>>,
}

/// The outcome of one unit of work on an Item.
enum Work {
    Finished {
        counts: Counts,
        /// Whether it completed a scan of the whole history.
        deep: bool,
    },
    /// Enough rows came under new ids that they are on hold, until an operator decides.
    OnHold,
}

impl World {
    fn new(script: &Script) -> Self {
        let store = MemoryStore::new(Environment::Sandbox);
        let now: DateTime<Utc> = "2026-11-01T00:00:00Z".parse().unwrap();
        let now = now + TimeDelta::hours(script.start_hour);
        let connection = Connection::new("app".parse().unwrap(), [Product::Transactions], now);
        let new = NewLink::new(
            ("bank".parse().unwrap(), "u".parse().unwrap()),
            "item".parse().unwrap(),
            TokenSet::new(AccessToken::new("token"), now),
            NewHolder::Application(connection),
            AccessDigest([0; 32]),
            now,
        );
        let item = store.link(new).now_or_never().unwrap().unwrap().item_id;
        let mut plan = PlanSettings::default();
        plan.history_days = HISTORY_DAYS;
        plan.window_days = script.window_days;
        plan.deep_every = TimeDelta::days(7);
        let mut bank = Bank {
            styles: script.styles.clone(),
            unstable: script.unstable,
            unique: script.unique,
            rows: Vec::new(),
            truths: 0,
            ids: 0,
            issued: BTreeMap::new(),
        };
        for (account, kind, hours_ago, posts_after) in &script.past {
            let made = now - TimeDelta::hours(*hours_ago);
            let posted = (made + TimeDelta::hours(*posts_after)).min(now);
            bank.add(*account, *kind, made, Some(posted));
        }
        Self { store, item, plan, now, bank, renumbered: Vec::new() }
    }

    fn act(&mut self, action: &Action) {
        if matches!(action, Action::Renumber { .. }) {
            self.renumbered.push(self.now);
        }
        self.bank.apply(action, self.now);
    }

    /// Returns whether enough rows got other ids recently that rows may be on hold.
    fn renumbered_many(&self) -> bool {
        let since = self.now - TimeDelta::days(RENUMBERED_DAYS);
        self.renumbered.iter().filter(|at| **at >= since).count() >= MANY_RENUMBERED
    }

    /// Performs one unit of work on the Item, as the engine does.
    fn work(&mut self) -> Work {
        let lease_until = self.now + TimeDelta::minutes(1);
        let record = self.store.claim_one(&self.item, self.now, lease_until);
        let record = record.now_or_never().unwrap().unwrap().unwrap();
        let deep_at = record.sync_state.deep_at;
        let accounts = self.store.accounts(&self.item).now_or_never().unwrap().unwrap();
        let (plan, lengths) = (self.plan.clone(), PartnerLengths::default());
        let mut run = Run::begin(record, accounts, plan, lengths, self.now);
        for _ in 0..1000 {
            self.now += TimeDelta::seconds(1);
            match run.next() {
                Step::ReadUser => run.user_read(user(), self.now),
                Step::ReadWindow(window) => {
                    let rows = self.bank.response(window);
                    let (dates, ids) = run.known_query(window, &rows);
                    let known = self.store.known(&self.item, dates, &ids);
                    let known = known.now_or_never().unwrap().unwrap();
                    run.window_read(ReadWindow::new(window, rows, self.now), Vec::new(), &known);
                }
                Step::ReadAhead(window) => {
                    let rows = self.bank.response(window);
                    run.ahead_read(rows, Vec::new());
                }
                Step::Store => {
                    let lease_until = self.now + TimeDelta::minutes(1);
                    let timeout = TimeDelta::hours(24);
                    let moment = Moment { now: self.now, lease_until, timeout };
                    let commit = run.commit(moment).unwrap();
                    self.store.commit(commit).now_or_never().unwrap().unwrap();
                }
                Step::Done => {
                    if run.suspicion().is_some() && self.renumbered_many() {
                        return Work::OnHold;
                    }
                    assert_eq!(run.suspicion(), None);
                    let deep = run.record().sync_state.deep_at != deep_at;
                    return Work::Finished { counts: run.counts(), deep };
                }
            }
        }
        panic!("the update does not end: {:?}", run.next());
    }

    fn live(&self) -> Vec<KnownTransaction> {
        let (start, end) = (self.day(5000), self.day(0).plus_days(400));
        let known = self.store.known(&self.item, Window::new(start, end).unwrap(), &[]);
        known.now_or_never().unwrap().unwrap()
    }

    fn day(&self, ago: u64) -> Date {
        Date::from(self.now.date_naive()).minus_days(ago)
    }

    /// Compares the shown rows, without ids, with the bank's rows, for all dates that a scan of the
    /// whole history judges.
    fn assert_equal(&self) -> Result<(), TestCaseError> {
        let judged = first_judged(self.now);
        let is_judged = |row: &Transaction| {
            let made = row.transacted_at.date();
            row.settled_at.map_or(made, |settled| settled.date().min(made)) >= judged
        };
        let window = Window::new(self.day(5000), self.day(0).plus_days(400)).unwrap();
        let query = TransactionQuery::new(window, 1_000_000);
        let page = self.store.transactions(&self.item, &query);
        let bare = |mut row: Transaction| {
            row.id = TransactionId::new("-").unwrap();
            format!("{row:?}")
        };
        let shown = page.now_or_never().unwrap().unwrap().rows.into_iter();
        let mut shown: Vec<_> = shown.filter(is_judged).map(bare).collect();
        let there = self.bank.rows.iter().map(|row| self.bank.wire(row));
        let mut there: Vec<_> = there.filter(is_judged).map(bare).collect();
        shown.sort();
        there.sort();
        prop_assert_eq!(shown, there, "after all dates were read");
        Ok(())
    }
}

/// Plays a script and checks the Item after every update.
fn play(script: &Script) -> Result<(), TestCaseError> {
    let mut world = World::new(script);
    world.work();
    world.assert_equal()?;
    let mut shown: BTreeMap<usize, TransactionId> = BTreeMap::new();
    // Transactions that are shown, or were shown since the first update.
    let mut ever: BTreeSet<_> = world.bank.rows.iter().map(|row| row.truth).collect();
    let mut may_move = 0;
    // A deep resync with shorter windows may not have a row and its earlier form in one window. Such a
    // row gets another id.
    let fits = script.window_days >= 60;
    // Transactions that the bank removed: their dates, and the number of updates that covered these
    // dates.
    let mut removed: BTreeMap<usize, (Date, Date, u32)> = BTreeMap::new();
    for (number, day) in script.days.iter().enumerate() {
        world.now += TimeDelta::hours(day.hours);
        let before: BTreeMap<_, _> =
            world.bank.rows.iter().map(|row| (row.truth, world.bank.written(row))).collect();
        for action in &day.actions {
            world.act(action);
        }
        let now = world.now;
        let Work::Finished { counts, deep } = world.work() else { return Ok(()) };
        let alive: BTreeSet<_> = world.bank.rows.iter().map(|row| row.truth).collect();
        for (truth, (first, last)) in before {
            if !alive.contains(&truth) {
                removed.insert(truth, (first, last, 0));
            }
        }
        let mut shown_ids = BTreeMap::new();
        for known in world.live() {
            let truth = world.bank.truth_of(&known.partner_id);
            let twice = shown_ids.insert(truth, known.id.clone());
            // No row is judged on the first days of the history.
            let is_judged = known.transacted >= first_judged(now);
            prop_assert!(
                twice.is_none() || !is_judged,
                "update {number}: {truth} is shown twice: {known:?}"
            );
        }
        for truth in shown.keys().filter(|truth| alive.contains(truth)) {
            let row = world.bank.rows.iter().find(|row| row.truth == *truth);
            prop_assert!(
                shown_ids.contains_key(truth),
                "update {number}: a live row was removed: {row:?}"
            );
        }
        let (west, _) = px_items::plan::today(now);
        let inside_since = west.minus_days(7 - SLACK);
        for row in &world.bank.rows {
            let inside = world.bank.written(row).0 >= inside_since;
            prop_assert!(
                !inside || shown_ids.contains_key(&row.truth),
                "update {number}: a row is not shown: {row:?}"
            );
        }
        for (truth, (first, _, updates)) in &mut removed {
            *updates += u32::from(*first >= inside_since);
            prop_assert!(
                *updates < 2 || !shown_ids.contains_key(truth),
                "update {number}: {truth} was removed by the bank and is still shown"
            );
        }
        if deep {
            world.assert_equal()?;
        }
        if script.unique && fits {
            // A row with another id and other contents may be a new one. A window that has it in its
            // middle decides, which can be days later.
            may_move += moving(day, script.unstable);
            let new = shown_ids.keys().filter(|truth| !ever.contains(*truth)).count() as u64;
            let again = counts.added.saturating_sub(new);
            let moved = |(truth, shown_id): &(&usize, &TransactionId)| {
                shown.get(*truth).is_some_and(|before| before != *shown_id)
            };
            let moved = shown_ids.iter().filter(moved).count() as u64;
            prop_assert!(
                again.max(moved) <= may_move,
                "update {number}: {counts:?}, {new} are new, {moved} have another id"
            );
            may_move -= again.max(moved);
        }
        ever.extend(shown_ids.keys().copied());
        shown = shown_ids;
    }
    Ok(())
}

/// Returns the number of rows that may get other contents and another id at once on a day.
fn moving(day: &ScriptDay, unstable: bool) -> u64 {
    let moves = |action: &&Action| match action {
        Action::Renumber { .. } => true,
        Action::Correct { .. } => unstable,
        Action::Buy { .. } | Action::Late { .. } | Action::Post { .. } | Action::Delete { .. } => {
            false
        }
    };
    day.actions.iter().filter(moves).count() as u64
}

fn styles() -> impl Strategy<Value = Vec<Style>> {
    let offset = prop_oneof![
        4 => (-48_i32..=56).prop_map(|quarters| quarters * 15),
        1 => Just(-720),
        1 => Just(840),
        1 => Just(0),
    ];
    let style = (any::<bool>(), any::<bool>(), offset, any::<bool>()).prop_map(
        |(by_purchase, in_utc, offset, plain)| Style { by_purchase, in_utc, offset, plain },
    );
    prop::collection::vec(style, usize::from(ACCOUNTS))
}

fn scripts(renumbers: bool) -> impl Strategy<Value = Script> {
    let which = || any::<prop::sample::Index>().prop_map(|index| index.index(1 << 20));
    let action = prop_oneof![
        6 => (any::<u8>(), 0_u8..6, 0_i64..30, any::<bool>()).prop_map(
            |(account, kind, hours_ago, posted)| Action::Buy { account, kind, hours_ago, posted }),
        2 => (any::<u8>(), 0_u8..6, 1_i64..9, 0_i64..100).prop_map(
            |(account, kind, days_ago, posts_after)|
                Action::Late { account, kind, days_ago, posts_after }),
        4 => (which(), any::<bool>(), any::<bool>())
            .prop_map(|(which, new_id, tip)| Action::Post { which, new_id, tip: tip && !new_id }),
        1 => which().prop_map(|which| Action::Correct { which }),
        2 => which().prop_map(|which| Action::Delete { which }),
        if renumbers { 2 } else { 0 } => (which(), 0_u8..3)
            .prop_map(|(which, edit)| Action::Renumber { which, edit }),
    ];
    let day = (24_i64..48, prop::collection::vec(action, 0..4))
        .prop_map(|(hours, actions)| ScriptDay { hours, actions });
    let past = (any::<u8>(), 0_u8..6, 0_i64..(HISTORY_DAYS as i64 - 8) * 24, 0_i64..150);
    let past = prop::collection::vec(past, 0..60);
    let window_days = prop_oneof![2 => Just(90_u64), 1 => 20_u64..90, 1 => 1_u64..20];
    (
        (styles(), any::<bool>(), any::<bool>()),
        (window_days, 0_i64..48),
        past,
        prop::collection::vec(day, 1..25),
    )
        .prop_map(|((styles, unstable, unique), (window_days, start_hour), past, days)| {
            Script { styles, unstable, unique, window_days, start_hour, past, days }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// For every filing style: no live row is removed, no row is shown twice, and removed rows
    /// disappear.
    #[test]
    fn an_item_follows_a_bank_of_any_style(script in scripts(false)) {
        play(&script)?;
    }

    /// The same if posted rows get other ids, with or without other contents.
    #[test]
    fn an_item_follows_a_bank_of_any_style_that_renumbers(script in scripts(true)) {
        play(&script)?;
    }
}
