//! When an Item is due again: timeouts, back-off, and what partners ask for. Pure.
//!
//! Nothing here gates an Item for ever: every failure has a next attempt. Only the loss of the
//! authorization lets an Item rest, and that is [`crate::item`]'s.

use crate::life::FailureKind;
use chrono::{DateTime, TimeDelta, Utc};
use px_core::Random;

/// The figures of the schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScheduleSettings {
    /// The shortest time from one update to the next. Default: 24 hours.
    pub shortest_timeout: TimeDelta,
    /// The longest. Default: 48 hours.
    pub longest_timeout: TimeDelta,
    /// The shortest wait after a failure that may go away by itself. Default: 30 seconds.
    pub first_wait: TimeDelta,
    /// The longest wait after such failures. Default: 6 hours.
    pub longest_wait: TimeDelta,
    /// The shortest wait after a failure that someone must mend. Default: 10 minutes.
    pub first_slow_wait: TimeDelta,
    /// The longest wait after such failures. Default: 12 hours.
    pub longest_slow_wait: TimeDelta,
    /// The longest wait that a partner may ask for. Default: 24 hours.
    pub longest_asked: TimeDelta,
    /// How soon a notification may cause another attempt after a failure. Default: 1 minute.
    pub notified_wait: TimeDelta,
    /// The same after a failure to refresh the tokens, whose attempts over a day are bounded. Default:
    /// 1 hour.
    pub notified_wait_for_tokens: TimeDelta,
    /// The shortest time between updates that notifications cause one after the other, once three of
    /// them followed each other at once. Default: 1 minute.
    pub notified_interval_min: TimeDelta,
    /// The time from one update to the next of an Item that no application is connected to: its
    /// partner brought it, and its tokens are kept alive. Default: 30 days.
    pub unused_timeout: TimeDelta,
}

impl Default for ScheduleSettings {
    fn default() -> Self {
        Self {
            shortest_timeout: TimeDelta::hours(24),
            longest_timeout: TimeDelta::hours(48),
            first_wait: TimeDelta::seconds(30),
            longest_wait: TimeDelta::hours(6),
            first_slow_wait: TimeDelta::minutes(10),
            longest_slow_wait: TimeDelta::hours(12),
            longest_asked: TimeDelta::hours(24),
            notified_wait: TimeDelta::minutes(1),
            notified_wait_for_tokens: TimeDelta::hours(1),
            notified_interval_min: TimeDelta::minutes(1),
            unused_timeout: TimeDelta::days(30),
        }
    }
}

/// When the next attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// When the Item is due.
    pub due_at: DateTime<Utc>,
    /// Not before this, whoever asks for it.
    pub not_before: DateTime<Utc>,
    /// The wait that was chosen, for the next choice.
    pub wait_secs: u64,
}

/// The time to the next update, spread at random.
#[must_use]
pub fn timeout(settings: &ScheduleSettings, random: &dyn Random) -> TimeDelta {
    between(settings.shortest_timeout, settings.longest_timeout, random)
}

/// When to try again after a failure.
///
/// What the partner asks for is kept to a limit, and spread a little: all its Items were told
/// the same moment. Else the wait is decorrelated jitter: random between the shortest wait and three
/// times the last. A notification may bring the attempt forward, but only what the partner
/// asked for is asked of notifications too, beyond a short wait.
#[must_use]
pub fn retry(
    settings: &ScheduleSettings,
    now: DateTime<Utc>,
    (kind, retry_at): (FailureKind, Option<DateTime<Utc>>),
    last_wait_secs: u64,
    random: &dyn Random,
) -> Retry {
    let (first, longest) = match kind {
        FailureKind::Unavailable
        | FailureKind::RateLimited
        | FailureKind::Network
        | FailureKind::Moving
        | FailureKind::Internal
        | FailureKind::Unknown => (settings.first_wait, settings.longest_wait),
        FailureKind::Invalid | FailureKind::Rejected | FailureKind::Tokens => {
            (settings.first_slow_wait, settings.longest_slow_wait)
        }
    };
    let last = TimeDelta::try_seconds(i64::try_from(last_wait_secs).unwrap_or(i64::MAX));
    let thrice = last.and_then(|last| last.checked_mul(3)).unwrap_or(longest);
    let wait = between(first, thrice.clamp(first * 3, longest.max(first * 3)), random).min(longest);
    let wait_secs = wait.num_seconds().unsigned_abs();
    match retry_at.filter(|at| *at > now) {
        Some(asked) => {
            let asked = asked.min(now + settings.longest_asked);
            let spread = (asked - now) / 10;
            let due_at = asked + between(TimeDelta::zero(), spread.min(first * 2), random);
            Retry { due_at, not_before: asked, wait_secs }
        }
        None => {
            let due_at = now + wait;
            let notified_wait = match kind {
                FailureKind::Tokens => settings.notified_wait_for_tokens,
                _ => settings.notified_wait,
            };
            Retry { due_at, not_before: due_at.min(now + notified_wait), wait_secs }
        }
    }
}

/// Updates that may follow each other at once before the next one has to wait.
const MAX_QUICK_UPDATES: u32 = 3;

/// The pace of updates after one that ends now: how many followed each other at once, and the earliest
/// time of the next one.
#[must_use]
pub fn pace(
    settings: &ScheduleSettings,
    quick_updates: u32,
    previous_began_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> (u32, Option<DateTime<Utc>>) {
    let interval = settings.notified_interval_min;
    if previous_began_at.is_none_or(|began_at| now - began_at >= interval) {
        return (quick_updates.saturating_sub(1), None);
    }
    let quick_updates = (quick_updates + 1).min(MAX_QUICK_UPDATES);
    let is_full = quick_updates == MAX_QUICK_UPDATES;
    (quick_updates, is_full.then(|| now + interval))
}

/// Default for [`Settings::max_lost_leases`](crate::engine::Settings::max_lost_leases); from so many
/// on an Item's health says that it cannot finish.
pub(crate) const MAX_LOST_LEASES: u32 = 3;

const FIRST_DEFERRAL: TimeDelta = TimeDelta::minutes(1);
const LONGEST_DEFERRAL: TimeDelta = TimeDelta::hours(6);

/// How long an Item is deferred of which so many leases ran out without a commit: a minute, and
/// twice as long each time, up to six hours, and up to a quarter more. `None` while they
/// are fewer than `max`.
///
/// Whatever ends a process ends the leases of all its Items. They are spread, so that the others are
/// worked on apart from the one that ends it.
#[must_use]
pub fn deferral(lost_leases: u32, max: u32, random: &dyn Random) -> Option<TimeDelta> {
    let doublings = lost_leases.checked_sub(max)?.min(16);
    let wait = (FIRST_DEFERRAL * (1 << doublings)).min(LONGEST_DEFERRAL);
    Some(wait + between(TimeDelta::zero(), wait / 4, random))
}

/// A time between two, both included, at random.
#[must_use]
pub fn between(shortest: TimeDelta, longest: TimeDelta, random: &dyn Random) -> TimeDelta {
    let span = (longest - shortest).num_milliseconds();
    let span = u64::try_from(span).unwrap_or(0).saturating_add(1);
    let extra = i64::try_from(random.below(span)).unwrap_or(0);
    shortest + TimeDelta::milliseconds(extra)
}
