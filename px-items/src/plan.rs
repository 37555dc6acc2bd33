//! Which windows of dates an Item reads, and when. Pure.
//!
//! Dates are a bank's own, and a bank is somewhere on earth: "today" is a span from the
//! westernmost date to the easternmost. A window that covers both covers every bank, so no time
//! zone is kept anywhere.

use crate::life::Walk;
use chrono::{DateTime, TimeDelta, Utc};
use px_client::Window;
use px_types::Date;

/// The figures of the plan. The defaults are the contract's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlanSettings {
    /// How far back the history goes.
    pub history_days: u64,
    /// How many of its days must be in before it is readable.
    pub recent_days: u64,
    /// How far back an update looks.
    pub update_days: u64,
    /// How far back a pending transaction makes an update look.
    pub pending_days: u64,
    /// How long a window of the history is at most.
    pub window_days: u64,
    /// The time between deep resyncs.
    pub deep_every: TimeDelta,
}

impl Default for PlanSettings {
    fn default() -> Self {
        Self {
            history_days: 730,
            recent_days: 30,
            update_days: 7,
            pending_days: 30,
            window_days: 90,
            deep_every: TimeDelta::days(30),
        }
    }
}

/// The dates that it may be somewhere: the earliest, and the latest.
#[must_use]
pub fn today(now: DateTime<Utc>) -> (Date, Date) {
    let west = Date::from((now - TimeDelta::hours(12)).date_naive());
    let east = Date::from((now + TimeDelta::hours(14)).date_naive());
    (west, east)
}

/// The window of an update.
///
/// A week back; further when the last good update is older, when something that is still
/// pending lies further back (to a limit), or when a notification says so.
#[must_use]
pub fn update_window(
    settings: &PlanSettings,
    now: DateTime<Utc>,
    last_good: Option<DateTime<Utc>>,
    oldest_pending: Option<Date>,
    notified_since: Option<Date>,
) -> Option<Window> {
    let (west, east) = today(now);
    let mut start = west.minus_days(settings.update_days);
    if let Some(last_good) = last_good {
        start = start.min(today(last_good).0);
    }
    if let Some(pending) = oldest_pending {
        start = start.min(pending.max(west.minus_days(settings.pending_days)));
    }
    if let Some(since) = notified_since {
        start = start.min(since);
    }
    Window::new(start.max(west.minus_days(settings.history_days)), east)
}

/// The walk over the whole history that begins now.
#[must_use]
pub fn history(settings: &PlanSettings, now: DateTime<Utc>) -> Walk {
    let (west, east) = today(now);
    Walk { next_end: east, start: west.minus_days(settings.history_days) }
}

/// The next window of a walk, no longer than `longest` days; `None` when the walk is over.
#[must_use]
pub fn next_window(walk: Walk, longest: u64) -> Option<Window> {
    let start = walk.next_end.minus_days(longest.saturating_sub(1));
    Window::new(start.max(walk.start), walk.next_end)
}

/// Where a walk is once a window of it was stored; `None` when that was the last.
///
/// `straddling` is what the merge of that window said, see
/// [`MergedTransactions::straddling`](crate::merge::MergedTransactions::straddling): the next
/// window then overlaps this one up to there, though by half at most, so that the walk ends.
#[must_use]
pub fn after(walk: Walk, stored: Window, straddling: Option<Date>) -> Option<Walk> {
    let next_end = stored.start().minus_days(1);
    let reach = straddling
        .map_or(next_end, |date| date.min(next_end.plus_days(stored.days() / 2)).max(next_end));
    (stored.start() > walk.start).then_some(Walk { next_end: reach, ..walk })
}
