//! What the engine tells, on its way to the display; and how it looks as JSON and as a line.

use crate::output::{count, printable, seconds};
use chrono::{DateTime, Utc};
use px_core::Clock;
use px_items::{
    engine::{Observed, Observer, Outcome, Report},
    life::{Suspicion, Walk},
    plan::PlanSettings,
};
use px_types::ItemId;
use serde::Serialize;
use std::{fmt, sync::Arc};
use tokio::sync::mpsc;

/// What happened, and when.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) at: DateTime<Utc>,
    pub(crate) what: Observed,
}

/// Takes events from the engine. Nothing that happens waits for the display.
pub(crate) struct Feed {
    clock: Arc<dyn Clock>,
    events: mpsc::UnboundedSender<Event>,
}

impl Feed {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> (Self, mpsc::UnboundedReceiver<Event>) {
        let (events, received) = mpsc::unbounded_channel();
        (Self { clock, events }, received)
    }
}

impl Observer for Feed {
    fn observe(&self, event: &Observed) {
        // Nobody looks any more: the work goes on all the same.
        let _ = self.events.send(Event { at: self.clock.now(), what: event.clone() });
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Feed")
    }
}

/// An event as a line of JSON.
#[derive(Serialize)]
pub(crate) struct Line<'a> {
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
    PutOff { until: DateTime<Utc> },
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

impl<'a> Line<'a> {
    /// `None` for what this version does not know.
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
                    percent: left.map(walked),
                };
                ("window_read", item_id, Some(details))
            }
            Observed::PutOff { item_id, until } => {
                ("put_off", item_id, Some(Details::PutOff { until: *until }))
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

/// How much of a walk's dates is behind it, in percent, when this is left of two years.
pub(crate) fn walked(left: Walk) -> u64 {
    let days = PlanSettings::default().history_days.max(1);
    let left = u64::try_from(left.next_end.days_since(left.start)).unwrap_or_default().min(days);
    (days - left) * 100 / days
}

/// How work on an Item ended, as a line without the Item's name.
pub(crate) fn outcome(report: &Report) -> String {
    let took = seconds(report.took);
    let failed = || {
        let what = report.failure.as_ref().map_or("no reason is known", |note| &note.what);
        printable(what, 300)
    };
    match report.outcome {
        Outcome::Finished => format!("{} in {took}", changes(report)),
        Outcome::Suspicious => {
            "the institution's data look wrong and were not taken: `px item` says more".to_owned()
        }
        Outcome::Failed => format!("failed after {took}: {}", failed()),
        Outcome::LoginRequired => "the user must sign in again: `px link`".to_owned(),
        Outcome::HandedBack => "given back, to be gone on with".to_owned(),
        Outcome::Lost => "another worker has it by now, or it is gone".to_owned(),
        _ => report.outcome.as_str().to_owned(),
    }
}

/// What an update changed: `3 new, 1 changed, 0 gone`.
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
        text += &format!(", {faults} in the institution's responses (`px item` names them)");
    }
    text
}
