//! The live table: the most important Items now, and the progress of initial fetches.

use crate::{
    events::{Event, percent_fetched},
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

/// Maximum number of rows of the table.
const MAX_ROWS: usize = 10;
/// Maximum number of bars for initial fetches.
const MAX_BARS: usize = 8;
/// Maximum number of Items in memory. The table shows the most important of them.
const MAX_KNOWN_ITEMS: usize = 100;
/// Maximum number of Items that are read again for one drawing.
const MAX_READS_PER_DRAWING: usize = 20;
/// Number of drawings between two counts of the Items.
const COUNT_EVERY: u32 = 4;
/// A shorter delay is not shown as lag.
const MIN_SHOWN_LAG: TimeDelta = TimeDelta::seconds(2);
/// Width of the terminal if it is not known.
const DEFAULT_WIDTH: u16 = 100;

/// The live table and its data.
pub(super) struct LiveTable {
    bars: MultiProgress,
    table: ProgressBar,
    fetches: BTreeMap<ItemId, Fetch>,
    known: BTreeMap<ItemId, KnownItem>,
    /// Items with events since they were last read.
    stale: BTreeSet<ItemId>,
    overview: Overview,
    width: u16,
    drawings: u32,
    ended: u64,
    failed: u64,
    /// Whether the database failed when it was last read.
    database_failed: bool,
}

struct Fetch {
    bar: ProgressBar,
    rows: u64,
}

struct KnownItem {
    record: ItemRecord,
    /// Number of the drawing for which it was last read.
    last_drawing: u64,
}

impl LiveTable {
    pub(super) async fn new(store: &dyn Store, now: DateTime<Utc>) -> Self {
        let target = ProgressDrawTarget::stderr_with_hz(4);
        let size = Term::stderr().size_checked();
        // On some terminals a line of the full width counts as two.
        let width = size.map_or(DEFAULT_WIDTH, |(_, columns)| columns).saturating_sub(1);
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
            drawings: 0,
            ended: 0,
            failed: 0,
            database_failed: false,
        };
        let listed = store.list(None, MAX_KNOWN_ITEMS).await.unwrap_or_default();
        for record in listed.into_iter().filter_map(ListedItem::into_record) {
            live.known.insert(record.id.clone(), KnownItem { record, last_drawing: 0 });
        }
        live.draw(store, now).await;
        live
    }

    /// Processes an event without drawing.
    pub(super) fn update(&mut self, event: &Event) {
        match &event.what {
            Observed::Claimed { item_id, state, .. } => {
                self.stale.insert(item_id.clone());
                if *state == State::Created && self.fetches.len() < MAX_BARS {
                    self.begin(item_id);
                }
            }
            Observed::WindowRead { item_id, rows, left, .. } => {
                self.stale.insert(item_id.clone());
                if let Some(fetch) = self.fetches.get_mut(item_id) {
                    fetch.rows += rows;
                    fetch.bar.set_position(left.map_or(100, percent_fetched));
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

    /// Reads Items with new events, then draws the table.
    pub(super) async fn draw(&mut self, store: &dyn Store, now: DateTime<Utc>) {
        let read = self.read(store, now).await;
        self.database_failed = read.is_err();
        self.drawings = self.drawings.wrapping_add(1);
        self.table.set_message(self.text(now));
        self.table.tick();
    }

    async fn read(&mut self, store: &dyn Store, now: DateTime<Utc>) -> px_items::store::Result<()> {
        if self.drawings.is_multiple_of(COUNT_EVERY) {
            self.overview = store.overview(now).await?;
        }
        for _ in 0..MAX_READS_PER_DRAWING {
            let Some(id) = self.stale.pop_first() else { break };
            match store.item(&id).await? {
                Some(record) => {
                    let last_drawing = u64::from(self.drawings);
                    self.known.insert(id, KnownItem { record, last_drawing });
                }
                None => drop(self.known.remove(&id)),
            }
        }
        while self.known.len() > MAX_KNOWN_ITEMS {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.last_drawing);
            let Some(id) = oldest.map(|(id, _)| id.clone()) else { break };
            self.known.remove(&id);
        }
        Ok(())
    }

    fn text(&self, now: DateTime<Utc>) -> String {
        let mut records: Vec<_> = self.known.values().collect();
        // Items with an issue first, then running ones, then those with the latest events.
        records.sort_by_key(|known| {
            let is_healthy = view::worst_issue(&known.record).is_none();
            let is_waiting = !view::is_running(&known.record, now);
            (is_healthy, is_waiting, std::cmp::Reverse(known.last_drawing), known.record.id.clone())
        });
        let mut rows = table(&HEADER);
        rows.set_width(self.width);
        for known in records.iter().take(MAX_ROWS) {
            rows.add_row(view::row(&known.record, now));
        }
        let mut text = self.headline(now);
        if !records.is_empty() {
            text += &format!("\n{}", safe_table(&rows));
        }
        let all: u64 = self.overview.states.values().sum();
        let shown = u64::try_from(records.len().min(MAX_ROWS)).unwrap_or_default();
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
            Some(since) if now - since >= MIN_SHOWN_LAG => format!(" for {}", age(since, now)),
            _ => String::new(),
        };
        let failure = if self.database_failed { " · the database does not respond" } else { "" };
        let line = format!(
            "{}{}{} · {} due{} · {} to send{} · {}, {} failed{failure}",
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

    /// Removes the bars. The final state of the Items stays on the terminal.
    pub(super) async fn finish(mut self, store: &dyn Store, now: DateTime<Utc>) {
        self.drawings = self.drawings.next_multiple_of(COUNT_EVERY);
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
