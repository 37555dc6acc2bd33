//! An Item as a table row, as text and as JSON. Contains no tokens and no data of its user.

use crate::events::percent_fetched;
use crate::output::{age, colored, count, length, printable, until};
use chrono::{DateTime, Utc};
use comfy_table::{Cell, Color};
use px_items::{
    health::{self, HealthIssueKind, HealthState, ItemHealth},
    item::Phase,
    store::{ItemRecord, UnreadableItem},
    sync_state::{Freshness, History, SyncState},
};
use px_types::model::item_health::HealthIssue;
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
    lost_leases: u32,
    error: Option<ErrorView<'a>>,
    health: ItemHealth,
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
    kind: px_items::sync_state::FailureKind,
    message: &'a str,
}

impl<'a> ItemView<'a> {
    pub(crate) fn new(record: &'a ItemRecord, now: DateTime<Utc>) -> Self {
        let sync_state = &record.sync_state;
        Self {
            id: record.id.as_str(),
            institution_id: record.institution_id.as_str(),
            phase: phase(record),
            login_required: record.state.login_required(),
            running: is_running(record, now),
            created_at: record.created_at,
            due_at: record.due_at,
            fresh_as_of: &sync_state.fresh,
            history: match (&sync_state.history, record.needs_transactions) {
                (History::Missing, false) => HistoryView::NotNeeded,
                (History::Missing, true) => HistoryView::Waiting,
                (History::Fetching { recent, .. }, _) => {
                    let percent = fetched_percent(sync_state).unwrap_or_default();
                    HistoryView::Fetching { percent, readable: *recent }
                }
                (History::Complete, _) => HistoryView::Complete,
            },
            failures: sync_state.failures,
            lost_leases: record.lost_leases,
            error: sync_state.last_failure.as_ref().map(|note| ErrorView {
                at: note.at,
                kind: note.kind,
                message: &note.what,
            }),
            health: health::of(record),
            id_collisions: sync_state.id_collisions,
            ambiguous: sync_state.ambiguous,
        }
    }
}

/// The header of the rows of [`row`].
pub(crate) const HEADER: [&str; 6] = ["Item", "Institution", "Phase", "Fresh", "Due", "Health"];

/// Returns an Item as a table row.
pub(crate) fn row(record: &ItemRecord, now: DateTime<Utc>) -> Vec<Cell> {
    let health = match (worst_issue(record), health::of(record).state) {
        (None, _) => Cell::new(""),
        (Some(text), HealthState::Degraded | HealthState::DecisionPending) => {
            colored(printable(&text, 60), Color::Yellow)
        }
        (Some(text), _) => colored(printable(&text, 60), Color::Red),
    };
    vec![
        Cell::new(&record.id),
        Cell::new(&record.institution_id),
        phase_cell(record),
        Cell::new(fresh(record, now)),
        Cell::new(due(record, now)),
        health,
    ]
}

/// Returns an Item that this version cannot read as a table row.
pub(crate) fn unreadable(item: &UnreadableItem) -> Vec<Cell> {
    let what = format!("unreadable: {}", item.reason);
    let blank = || Cell::new("");
    let error = colored(printable(&what, 60), Color::Red);
    vec![Cell::new(&item.id), blank(), blank(), blank(), blank(), error]
}

fn phase_cell(record: &ItemRecord) -> Cell {
    let percent = fetched_percent(&record.sync_state)
        .filter(|_| record.state.phase() == Some(Phase::Created));
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

/// Returns the contract's name of the Item's phase.
pub(crate) fn phase(record: &ItemRecord) -> &'static str {
    record.state.phase().map_or("removed", Phase::as_str)
}

/// Returns the age of the oldest data that applications read.
pub(crate) fn fresh(record: &ItemRecord, now: DateTime<Utc>) -> String {
    fresh_as_of(record).map_or_else(|| "–".to_owned(), |moment| age(moment, now))
}

fn fresh_as_of(record: &ItemRecord) -> Option<DateTime<Utc>> {
    let fresh = &record.sync_state.fresh;
    if !record.needs_transactions {
        return fresh.accounts;
    }
    Some(fresh.accounts?.min(fresh.transactions?))
}

/// Returns the time until the next update.
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

/// Returns whether a worker has a lease of the Item.
pub(crate) fn is_running(record: &ItemRecord, now: DateTime<Utc>) -> bool {
    record.leased_until.is_some_and(|until| until > now)
}

/// Describes the most severe issue of an Item. Returns `None` if it is healthy.
pub(crate) fn worst_issue(record: &ItemRecord) -> Option<String> {
    issues(record).into_iter().next()
}

/// Describes the issues of an Item, the most severe first.
pub(crate) fn issues(record: &ItemRecord) -> Vec<String> {
    let health = health::of(record);
    health.issues.iter().map(|issue| described(record, issue)).collect()
}

fn described(record: &ItemRecord, issue: &HealthIssue) -> String {
    let counted = |name: &str| count(issue.count.unwrap_or_default(), name);
    let text = match &issue.kind {
        HealthIssueKind::LoginRequired => "the user must sign in again: `px link`".to_owned(),
        HealthIssueKind::UpdateFailed => {
            let what = record
                .sync_state
                .last_failure
                .as_ref()
                .map_or("the update failed", |note| &note.what);
            match issue.count {
                Some(several @ 2..) => format!("{what} ({several} times)"),
                _ => what.to_owned(),
            }
        }
        HealthIssueKind::CannotFinish => match issue.count {
            Some(leases) if record.lost_leases > 0 => {
                format!("{leases} workers stopped during its updates; it is deferred")
            }
            _ => "updates cannot finish".to_owned(),
        },
        HealthIssueKind::RowsLacking => {
            format!("{} more or fewer than the institution's total", counted("row"))
        }
        HealthIssueKind::FaultyElements => {
            format!("{} in the institution's responses", counted("fault"))
        }
        HealthIssueKind::TokensApart => {
            "the institution issued tokens that are not this user's; they are not used".to_owned()
        }
        HealthIssueKind::TransactionIdsChanged => {
            "transactions arrived under new ids: `px review`".to_owned()
        }
        HealthIssueKind::AccountIdsChanged => {
            "accounts arrived under new ids: `px review`".to_owned()
        }
        HealthIssueKind::AnotherCustomer => {
            "the data may belong to another customer and is not imported: `px review`".to_owned()
        }
        other => other.to_string(),
    };
    let paths: Vec<_> = issue.paths.iter().map(|path| path.path.as_str()).collect();
    if paths.is_empty() { text } else { format!("{text} ({})", paths.join(", ")) }
}

/// Describes the faults of an institution's responses for its engineers: one for each location.
pub(crate) fn faults(record: &ItemRecord) -> Vec<String> {
    let health = health::of(record);
    let paths = health.issues.into_iter().flat_map(|issue| issue.paths);
    let lines = paths.filter_map(|path| {
        let text = path.text?;
        let rule = path.rule.map(|rule| format!(" [{rule}]")).unwrap_or_default();
        Some(match path.count {
            0 | 1 => format!("{text}{rule}"),
            several => format!("{text}{rule}, {several} times"),
        })
    });
    lines.collect()
}

/// Returns the fetched part of the history's dates, in percent. Returns `None` if no fetch is under way.
pub(crate) fn fetched_percent(sync_state: &SyncState) -> Option<u64> {
    match &sync_state.history {
        History::Fetching { scan, .. } => Some(percent_fetched(*scan)),
        _ => None,
    }
}
