//! The live table: the Items that matter most now, and how their initial fetches come along.

use crate::{
    events::{Event, walked},
    output::{age, count, print_above, printable, safe_table, table},
    view::{self, HEADER},
};
use chrono::{DateTime, TimeDelta, Utc};
use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use px_items::{
    engine::{Observed, Outcome},
    item::State,
    store::{ItemRecord, ListedItem, Overview, Store},
};
use px_types::ItemId;
use std::collections::{BTreeMap, BTreeSet};

/// How many Items the table has.
const ROWS: usize = 10;
/// How many initial fetches have a bar.
const BARS: usize = 8;
/// How many Items are remembered; the table shows the most important of them.
const KNOWN: usize = 100;
/// How many Items are read anew for a picture.
const READS: usize = 20;
/// The Items are counted with every so manyth picture.
const COUNT_EVERY: u32 = 4;
/// Who waits for less is not late.
const LATE: TimeDelta = TimeDelta::seconds(2);
/// The width where the terminal does not tell its own.
const WIDTH: u16 = 100;

/// The picture, and what it is made of.
pub(super) struct Live {
    bars: MultiProgress,
    table: ProgressBar,
    fetches: BTreeMap<ItemId, Fetch>,
    known: BTreeMap<ItemId, Known>,
    /// Items of which something happened since they were read.
    stale: BTreeSet<ItemId>,
    overview: Overview,
    width: u16,
    pictures: u32,
    ended: u64,
    failed: u64,
    /// Whether the last picture could not be made from the database.
    blind: bool,
}

struct Fetch {
    bar: ProgressBar,
    rows: u64,
}

struct Known {
    record: ItemRecord,
    /// When something last happened.
    touched: u64,
}

impl Live {
    pub(super) async fn new(store: &dyn Store, now: DateTime<Utc>) -> Self {
        let target = ProgressDrawTarget::stderr_with_hz(4);
        let size = Term::stderr().size_checked();
        // A line that is as wide as the terminal counts as two on some.
        let width = size.map_or(WIDTH, |(_, columns)| columns).saturating_sub(1);
        let bars = MultiProgress::with_draw_target(target);
        print_above(&bars);
        let table = bars.add(ProgressBar::new_spinner());
        table.set_style(style("{msg}"));
        let mut live = Self {
            bars,
            table,
            fetches: BTreeMap::new(),
            known: BTreeMap::new(),
            stale: BTreeSet::new(),
            overview: Overview::default(),
            width,
            pictures: 0,
            ended: 0,
            failed: 0,
            blind: false,
        };
        let listed = store.list(None, KNOWN).await.unwrap_or_default();
        for record in listed.into_iter().filter_map(ListedItem::into_record) {
            live.known.insert(record.id.clone(), Known { record, touched: 0 });
        }
        live.draw(store, now).await;
        live
    }

    /// Takes an event in. Nothing is drawn.
    pub(super) fn take(&mut self, event: &Event) {
        match &event.what {
            Observed::Claimed { item_id, state, .. } => {
                self.stale.insert(item_id.clone());
                if *state == State::Created && self.fetches.len() < BARS {
                    self.begin(item_id);
                }
            }
            Observed::WindowRead { item_id, rows, left, .. } => {
                self.stale.insert(item_id.clone());
                if let Some(fetch) = self.fetches.get_mut(item_id) {
                    fetch.rows += rows;
                    fetch.bar.set_position(left.map_or(100, walked));
                    fetch.bar.set_message(count(fetch.rows, "transaction"));
                }
            }
            Observed::Ended(report) => {
                self.stale.insert(report.item_id.clone());
                self.ended += u64::from(report.outcome == Outcome::Finished);
                self.failed += u64::from(matches!(
                    report.outcome,
                    Outcome::Failed | Outcome::LoginRequired | Outcome::Suspicious
                ));
                if let Some(fetch) = self.fetches.remove(&report.item_id) {
                    fetch.bar.finish_and_clear();
                    self.bars.remove(&fetch.bar);
                }
            }
            _ => {}
        }
    }

    fn begin(&mut self, item: &ItemId) {
        let bar = self.bars.add(ProgressBar::new(100));
        bar.set_style(style("{prefix}  {bar:30}  {percent:>3} %  {msg}"));
        bar.set_prefix(item.to_string());
        self.fetches.insert(item.clone(), Fetch { bar, rows: 0 });
    }

    /// Reads what happened and draws it.
    pub(super) async fn draw(&mut self, store: &dyn Store, now: DateTime<Utc>) {
        let read = self.read(store, now).await;
        self.blind = read.is_err();
        self.pictures = self.pictures.wrapping_add(1);
        self.table.set_message(self.text(now));
        self.table.tick();
    }

    async fn read(&mut self, store: &dyn Store, now: DateTime<Utc>) -> px_items::store::Result<()> {
        if self.pictures.is_multiple_of(COUNT_EVERY) {
            self.overview = store.overview(now).await?;
        }
        for _ in 0..READS {
            let Some(id) = self.stale.pop_first() else { break };
            match store.item(&id).await? {
                Some(record) => {
                    let touched = u64::from(self.pictures);
                    self.known.insert(id, Known { record, touched });
                }
                None => drop(self.known.remove(&id)),
            }
        }
        while self.known.len() > KNOWN {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.touched);
            let Some(id) = oldest.map(|(id, _)| id.clone()) else { break };
            self.known.remove(&id);
        }
        Ok(())
    }

    fn text(&self, now: DateTime<Utc>) -> String {
        let mut records: Vec<_> = self.known.values().collect();
        // What needs eyes first, then what happened last.
        records.sort_by_key(|known| {
            let calm = view::trouble(&known.record).is_none();
            let still = !view::is_running(&known.record, now);
            (calm, still, std::cmp::Reverse(known.touched), known.record.id.clone())
        });
        let mut rows = table(&HEADER);
        rows.set_width(self.width);
        for known in records.iter().take(ROWS) {
            rows.add_row(view::row(&known.record, now));
        }
        let mut text = self.headline(now);
        if !records.is_empty() {
            text += &format!("\n{}", safe_table(&rows));
        }
        let all: u64 = self.overview.states.values().sum();
        let shown = u64::try_from(records.len().min(ROWS)).unwrap_or_default();
        if all > shown {
            text += &format!("\n… and {} more; `px items` lists all", all - shown);
        }
        text
    }

    /// `12 Items: 2 created, 10 idle · 1 due for 3 s · 0 webhooks to send · 15 updates, 1 failed`.
    fn headline(&self, now: DateTime<Utc>) -> String {
        let overview = &self.overview;
        let mut by_name = BTreeMap::<_, u64>::new();
        for (state, number) in overview.states.iter().filter(|(_, number)| **number > 0) {
            let name = if state.login_required() { "lack a sign-in" } else { state.as_str() };
            *by_name.entry(name).or_default() += number;
        }
        let states: Vec<_> =
            by_name.iter().map(|(name, number)| format!("{number} {name}")).collect();
        let all: u64 = overview.states.values().sum();
        let lag = |since: Option<DateTime<Utc>>| match since {
            Some(since) if now - since >= LATE => format!(" for {}", age(since, now)),
            _ => String::new(),
        };
        let blind = if self.blind { " · the database does not answer" } else { "" };
        let line = format!(
            "{}{}{} · {} due{} · {} to send{} · {}, {} failed{blind}",
            count(all, "Item"),
            if states.is_empty() { "" } else { ": " },
            states.join(", "),
            overview.due,
            lag(overview.due_since),
            count(overview.webhooks, "webhook"),
            lag(overview.webhooks_since),
            count(self.ended, "update"),
            self.failed,
        );
        printable(&line, usize::from(self.width).saturating_sub(1))
    }

    /// Takes the bars away; how the Items are at the end stays on the terminal.
    pub(super) async fn finish(mut self, store: &dyn Store, now: DateTime<Utc>) {
        self.pictures = self.pictures.next_multiple_of(COUNT_EVERY);
        self.draw(store, now).await;
        for fetch in self.fetches.values() {
            fetch.bar.finish_and_clear();
        }
        self.table.abandon();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
