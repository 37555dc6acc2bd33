//! Due times of Items: timeouts, backoff, and times that partners request. Pure.
//!
//! No failure takes an Item out of the schedule: each has a next attempt. Only the loss of the
//! authorization does, and [`crate::item`] handles that.

use crate::sync_state::FailureKind;
use chrono::{DateTime, TimeDelta, Utc};
use px_core::{Random, backoff::Backoff};
use std::time::Duration;

/// Settings of the schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScheduleSettings {
    /// Minimum time from one update to the next. Default: 24 hours.
    pub update_interval_min: TimeDelta,
    /// Maximum time from one update to the next. Default: 48 hours.
    pub update_interval_max: TimeDelta,
    /// Minimum delay after a failure that may pass by itself. Default: 30 seconds.
    pub retry_delay_min: TimeDelta,
    /// Maximum delay after such a failure. Default: 6 hours.
    pub retry_delay_max: TimeDelta,
    /// Minimum delay after a failure that an operator or the partner must fix. Default: 10 minutes.
    pub slow_retry_delay_min: TimeDelta,
    /// Maximum delay after such a failure. Default: 12 hours.
    pub slow_retry_delay_max: TimeDelta,
    /// Maximum delay that a partner may request. Default: 24 hours.
    pub requested_delay_max: TimeDelta,
    /// Minimum delay before a notification may cause another attempt after a failure. Default: 1
    /// minute.
    pub notified_retry_delay: TimeDelta,
    /// The same after a failure to refresh the tokens, for which the number of attempts per day is
    /// limited. Default: 1 hour.
    pub notified_token_retry_delay: TimeDelta,
    /// Minimum interval between updates that notifications cause, once three of them followed each
    /// other at once. Default: 1 minute.
    pub notified_interval_min: TimeDelta,
    /// Time from one update to the next of an Item without a connected application. A partner
    /// created such an Item, and updates keep its tokens alive. Default: 30 days.
    pub unused_update_interval: TimeDelta,
}

impl Default for ScheduleSettings {
    fn default() -> Self {
        Self {
            update_interval_min: TimeDelta::hours(24),
            update_interval_max: TimeDelta::hours(48),
            retry_delay_min: TimeDelta::seconds(30),
            retry_delay_max: TimeDelta::hours(6),
            slow_retry_delay_min: TimeDelta::minutes(10),
            slow_retry_delay_max: TimeDelta::hours(12),
            requested_delay_max: TimeDelta::hours(24),
            notified_retry_delay: TimeDelta::minutes(1),
            notified_token_retry_delay: TimeDelta::hours(1),
            notified_interval_min: TimeDelta::minutes(1),
            unused_update_interval: TimeDelta::days(30),
        }
    }
}

/// Time of the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Time at which the Item is due.
    pub due_at: DateTime<Utc>,
    /// Earliest time of an attempt, also after a notification.
    pub not_before: DateTime<Utc>,
    /// Chosen delay in seconds, from which the next one is derived.
    pub wait_secs: u64,
}

/// Returns a random time to the next update.
#[must_use]
pub fn timeout(settings: &ScheduleSettings, random: &dyn Random) -> TimeDelta {
    between(settings.update_interval_min, settings.update_interval_max, random)
}

/// Returns the time of the next attempt after a failure.
///
/// A delay that the partner requests is capped, and spread a little because all its Items received
/// the same one. Otherwise the delay is decorrelated jitter: random between the minimum and three
/// times the last one. A notification may bring the attempt forward to a short delay, but never
/// before the time that the partner requested.
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
        | FailureKind::Unknown => (settings.retry_delay_min, settings.retry_delay_max),
        FailureKind::Invalid | FailureKind::Rejected | FailureKind::Tokens => {
            (settings.slow_retry_delay_min, settings.slow_retry_delay_max)
        }
    };
    let last = TimeDelta::try_seconds(i64::try_from(last_wait_secs).unwrap_or(i64::MAX));
    let thrice = last.and_then(|last| last.checked_mul(3)).unwrap_or(longest);
    let wait = between(first, thrice.clamp(first * 3, longest.max(first * 3)), random).min(longest);
    let wait_secs = wait.num_seconds().unsigned_abs();
    match retry_at.filter(|at| *at > now) {
        Some(requested) => {
            let requested = requested.min(now + settings.requested_delay_max);
            let spread = (requested - now) / 10;
            let due_at = requested + between(TimeDelta::zero(), spread.min(first * 2), random);
            Retry { due_at, not_before: requested, wait_secs }
        }
        None => {
            let due_at = now + wait;
            let notified_retry_delay = match kind {
                FailureKind::Tokens => settings.notified_token_retry_delay,
                _ => settings.notified_retry_delay,
            };
            Retry { due_at, not_before: due_at.min(now + notified_retry_delay), wait_secs }
        }
    }
}

/// Number of updates that may follow each other at once before the next one is delayed.
const MAX_QUICK_UPDATES: u32 = 3;

/// Returns the pace after an update that ends now: the number of updates that followed each other
/// at once, and the earliest time of the next one.
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

/// Default of [`Settings::max_lost_leases`](crate::engine::Settings::max_lost_leases). From this
/// number on, the health of an Item says that it cannot finish.
pub(crate) const MAX_LOST_LEASES: u32 = 3;

const DEFERRAL: Backoff = Backoff::new(Duration::from_secs(60), Duration::from_secs(6 * 3_600));

/// Returns the deferral of an Item after `lost_leases` leases that ran out without a commit: a
/// minute, doubled each time up to six hours, plus up to a quarter at random. Returns `None` while
/// there are fewer than `max`.
///
/// A crash ends the leases of all Items of a process. The random part spreads them, so that the
/// others are worked on apart from the one that causes the crash.
#[must_use]
pub fn deferral(lost_leases: u32, max: u32, random: &dyn Random) -> Option<TimeDelta> {
    let repeated = lost_leases.checked_sub(max)?.saturating_add(1);
    let wait = TimeDelta::from_std(DEFERRAL.delay(repeated)).unwrap_or(TimeDelta::MAX);
    Some(wait + between(TimeDelta::zero(), wait / 4, random))
}

/// Returns a random time between two, both included.
#[must_use]
pub fn between(shortest: TimeDelta, longest: TimeDelta, random: &dyn Random) -> TimeDelta {
    let span = (longest - shortest).num_milliseconds();
    let span = u64::try_from(span).unwrap_or(0).saturating_add(1);
    let extra = i64::try_from(random.below(span)).unwrap_or(0);
    shortest + TimeDelta::milliseconds(extra)
}
