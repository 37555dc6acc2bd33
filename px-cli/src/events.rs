//! Events of the engine for the display, and their form as JSON and as text.

use crate::output::{count, printable, seconds};
use chrono::{DateTime, Utc};
use px_core::Clock;
use px_items::{
    engine::{Observed, Observer, Outcome, Report},
    plan::PlanSettings,
    sync_state::{HistoryScan, Suspicion},
};
use px_types::ItemId;
use serde::Serialize;
use std::{fmt, sync::Arc};
use tokio::sync::mpsc;

/// An event with its time.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) at: DateTime<Utc>,
    pub(crate) what: Observed,
}

/// An observer that forwards the engine's events. The engine never waits for the display.
pub(crate) struct EventFeed {
    clock: Arc<dyn Clock>,
    events: mpsc::UnboundedSender<Event>,
}

impl EventFeed {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> (Self, mpsc::UnboundedReceiver<Event>) {
        let (events, received) = mpsc::unbounded_channel();
        (Self { clock, events }, received)
    }
}

impl Observer for EventFeed {
    fn observe(&self, event: &Observed) {
        // If the display has ended, the work continues.
        let _ = self.events.send(Event { at: self.clock.now(), what: event.clone() });
    }
}

impl fmt::Debug for EventFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventFeed")
    }
}

/// An event as a line of JSON.
#[derive(Serialize)]
pub(crate) struct EventLine<'a> {
    at: DateTime<Utc>,
    event: &'static str,
    item_id: &'a ItemId,
    #[serde(flatten)]
    what: Option<Details<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Details<'a> {
    User { accounts: usize },
    Window { start: String, end: String, rows: u64, percent: Option<u64> },
    Deferred { until: DateTime<Utc> },
    Report(ReportLine<'a>),
}

/// A report as JSON.
#[derive(Serialize)]
pub(crate) struct ReportLine<'a> {
    institution_id: &'a str,
    outcome: &'static str,
    took_ms: u128,
    windows: u64,
    rows_read: u64,
    added: u64,
    modified: u64,
    removed: u64,
    accounts_changed: u64,
    joined: u64,
    ambiguous: u64,
    collisions: u64,
    faults: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    suspicion: Option<Suspicion>,
    due_at: Option<DateTime<Utc>>,
}

impl<'a> EventLine<'a> {
    /// Returns `None` for an event that this version does not know.
    pub(crate) fn of(event: &'a Event) -> Option<Self> {
        let (name, item_id, what) = match &event.what {
            Observed::Claimed { item_id, .. } => ("claimed", item_id, None),
            Observed::UserRead { item_id, accounts } => {
                ("user_read", item_id, Some(Details::User { accounts: *accounts }))
            }
            Observed::WindowRead { item_id, window, rows, left } => {
                let details = Details::Window {
                    start: window.start().to_string(),
                    end: window.end().to_string(),
                    rows: *rows,
                    percent: left.map(percent_fetched),
                };
                ("window_read", item_id, Some(details))
            }
            Observed::Deferred { item_id, until } => {
                ("put_off", item_id, Some(Details::Deferred { until: *until }))
            }
            Observed::Ended(report) => {
                (report.outcome.as_str(), &report.item_id, Some(Details::Report(report.into())))
            }
            _ => return None,
        };
        Some(Self { at: event.at, event: name, item_id, what })
    }
}

impl<'a> From<&'a Report> for ReportLine<'a> {
    fn from(report: &'a Report) -> Self {
        let counts = &report.counts;
        Self {
            institution_id: report.institution_id.as_str(),
            outcome: report.outcome.as_str(),
            took_ms: report.took.as_millis(),
            windows: counts.windows,
            rows_read: counts.rows_read,
            added: counts.added,
            modified: counts.modified,
            removed: counts.removed,
            accounts_changed: counts.accounts_changed,
            joined: counts.joined,
            ambiguous: counts.ambiguous,
            collisions: counts.collisions,
            faults: counts.faults,
            error: report.failure.as_ref().map(|note| note.what.as_str()),
            suspicion: report.suspicion,
            due_at: report.due_at,
        }
    }
}

/// Returns the fetched part of two years of dates, in percent, given the part that is left.
pub(crate) fn percent_fetched(left: HistoryScan) -> u64 {
    let days = PlanSettings::default().history_days.max(1);
    let left = u64::try_from(left.next_end.days_since(left.start)).unwrap_or_default().min(days);
    (days - left) * 100 / days
}

/// Describes the end of an update as a line without the Item's id.
pub(crate) fn outcome(report: &Report) -> String {
    let took = seconds(report.took);
    let failed = || {
        let what = report.failure.as_ref().map_or("unknown cause", |note| &note.what);
        printable(what, 300)
    };
    match report.outcome {
        Outcome::Finished => format!("{} in {took}", changes(report)),
        Outcome::Suspicious => {
            "the institution's data look wrong and were not imported: see `px item`".to_owned()
        }
        Outcome::Failed => format!("failed after {took}: {}", failed()),
        Outcome::LoginRequired => "the user must sign in again: `px link`".to_owned(),
        Outcome::HandedBack => "handed back unfinished; it is continued later".to_owned(),
        Outcome::Lost => "another worker has taken it over, or it was removed".to_owned(),
        _ => report.outcome.as_str().to_owned(),
    }
}

/// Describes the changes of an update: `3 new, 1 changed, 0 gone`.
pub(crate) fn changes(report: &Report) -> String {
    let counts = &report.counts;
    let mut text = match (counts.added, counts.modified, counts.removed) {
        (0, 0, 0) => "nothing new".to_owned(),
        (added, modified, removed) => format!("{added} new, {modified} changed, {removed} gone"),
    };
    if counts.accounts_changed > 0 {
        text += &format!(", {} changed", count(counts.accounts_changed, "account"));
    }
    if counts.faults > 0 {
        let faults = count(counts.faults, "fault");
        text += &format!(", {faults} in the institution's responses (see `px item`)");
    }
    text
}
