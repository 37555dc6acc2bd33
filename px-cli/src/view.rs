//! How an Item is shown: for people and as JSON. No token and nothing of its user gets here.

use crate::events::walked;
use crate::output::{age, colored, length, printable, until};
use chrono::{DateTime, Utc};
use comfy_table::{Cell, Color};
use px_items::{
    item::Phase,
    life::{Freshness, History, Life},
    store::ItemRecord,
};
use serde::Serialize;

/// An Item as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct ItemView<'a> {
    id: &'a str,
    institution_id: &'a str,
    phase: &'static str,
    login_required: bool,
    running: bool,
    created_at: DateTime<Utc>,
    due_at: Option<DateTime<Utc>>,
    fresh_as_of: &'a Freshness,
    history: HistoryView,
    failures: u32,
    error: Option<ErrorView<'a>>,
    suspicion: Option<px_items::life::Suspicion>,
    id_collisions: u64,
    ambiguous: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum HistoryView {
    NotNeeded,
    Waiting,
    Fetching { percent: u64, readable: bool },
    Complete,
}

#[derive(Debug, Serialize)]
struct ErrorView<'a> {
    at: DateTime<Utc>,
    kind: px_items::life::FailureKind,
    message: &'a str,
}

impl<'a> ItemView<'a> {
    pub(crate) fn new(record: &'a ItemRecord, now: DateTime<Utc>) -> Self {
        let life = &record.life;
        Self {
            id: record.id.as_str(),
            institution_id: record.institution_id.as_str(),
            phase: phase(record),
            login_required: record.state.login_required(),
            running: is_running(record, now),
            created_at: record.created_at,
            due_at: record.due_at,
            fresh_as_of: &life.fresh,
            history: match (&life.history, record.needs_transactions) {
                (History::Missing, false) => HistoryView::NotNeeded,
                (History::Missing, true) => HistoryView::Waiting,
                (History::Fetching { recent, .. }, _) => {
                    let percent = fetched_percent(life).unwrap_or_default();
                    HistoryView::Fetching { percent, readable: *recent }
                }
                (History::Complete, _) => HistoryView::Complete,
            },
            failures: life.failures,
            error: life.last_failure.as_ref().map(|note| ErrorView {
                at: note.at,
                kind: note.kind,
                message: &note.what,
            }),
            suspicion: life.suspicion,
            id_collisions: life.id_collisions,
            ambiguous: life.ambiguous,
        }
    }
}

/// The header of [`row`].
pub(crate) const HEADER: [&str; 6] = ["Item", "Institution", "Phase", "Fresh", "Due", "Error"];

/// An Item as a row of a table.
pub(crate) fn row(record: &ItemRecord, now: DateTime<Utc>) -> Vec<Cell> {
    let error = match trouble(record) {
        Some(text) => colored(printable(&text, 60), Color::Red),
        None => Cell::new(""),
    };
    vec![
        Cell::new(&record.id),
        Cell::new(&record.institution_id),
        phase_cell(record),
        Cell::new(fresh(record, now)),
        Cell::new(due(record, now)),
        error,
    ]
}

fn phase_cell(record: &ItemRecord) -> Cell {
    let percent =
        fetched_percent(&record.life).filter(|_| record.state.phase() == Some(Phase::Created));
    let text = match percent {
        Some(percent) => format!("{} {percent} %", phase(record)),
        None => phase(record).to_owned(),
    };
    match record.state.phase() {
        Some(Phase::Created) => colored(text, Color::Yellow),
        Some(Phase::Updating) => colored(text, Color::Cyan),
        _ => Cell::new(text),
    }
}

/// The contract's name of the phase.
pub(crate) fn phase(record: &ItemRecord) -> &'static str {
    record.state.phase().map_or("removed", Phase::as_str)
}

/// How old the oldest data is that applications read.
pub(crate) fn fresh(record: &ItemRecord, now: DateTime<Utc>) -> String {
    fresh_as_of(record).map_or_else(|| "–".to_owned(), |moment| age(moment, now))
}

fn fresh_as_of(record: &ItemRecord) -> Option<DateTime<Utc>> {
    let fresh = &record.life.fresh;
    if !record.needs_transactions {
        return fresh.accounts;
    }
    Some(fresh.accounts?.min(fresh.transactions?))
}

/// When it is worked on next.
pub(crate) fn due(record: &ItemRecord, now: DateTime<Utc>) -> String {
    if is_running(record, now) {
        return "running".to_owned();
    }
    match record.due_at {
        None => "–".to_owned(),
        Some(due) if due <= now && (now - due).num_seconds() >= 5 => {
            format!("late by {}", length(now - due))
        }
        Some(due) => until(due, now),
    }
}

/// Whether a worker holds it.
pub(crate) fn is_running(record: &ItemRecord, now: DateTime<Utc>) -> bool {
    record.leased_until.is_some_and(|until| until > now)
}

/// What is wrong with it, for people.
pub(crate) fn trouble(record: &ItemRecord) -> Option<String> {
    use px_items::life::Suspicion;
    if record.state.login_required() {
        return Some("the user must sign in again: `px link`".to_owned());
    }
    if let Some(note) = &record.life.last_failure {
        let tries = match record.life.failures {
            0 | 1 => String::new(),
            several => format!(" ({several} times)"),
        };
        return Some(format!("{}{tries}", note.what));
    }
    match record.life.suspicion.as_ref()? {
        Suspicion::TransactionIdsChanged => {
            Some("transactions came under other ids: not imported".to_owned())
        }
        Suspicion::AccountIdsChanged => {
            Some("accounts came under other ids: a re-map is needed".to_owned())
        }
        _ => Some("the institution's data is in doubt".to_owned()),
    }
}

/// How much of the history's dates is in, in percent; `None` when it is not being fetched.
pub(crate) fn fetched_percent(life: &Life) -> Option<u64> {
    match &life.history {
        History::Fetching { walk, .. } => Some(walked(*walk)),
        _ => None,
    }
}
