//! Retry schedule of webhooks. Pure.
//!
//! The schedule of Item updates is in [`crate::schedule`].

use chrono::{DateTime, TimeDelta, Utc};
use px_core::backoff::Backoff;
use std::time::Duration;

/// Planned delays: 30 s, then four times as long each time.
const BACKOFF: Backoff =
    Backoff::new(Duration::from_secs(30), Duration::from_secs(2 * 86_400)).factor(4);
/// Age at which a webhook is given up.
pub(super) const MAX_WEBHOOK_AGE: TimeDelta = TimeDelta::hours(24);
/// Maximum delay that an endpoint can request.
pub(super) const MAX_REQUESTED_DELAY: TimeDelta = TimeDelta::hours(4);

/// Returns the time of the next attempt, or `None` if the webhook is given up.
///
/// `attempts` is the number of attempts so far; the last one ended `now`. `retry_after` is the time
/// in the `Retry-After` header of a 429. It replaces the planned delay, within 30 s to 4 h.
///
/// Contract: `px.md` section 9.
pub(super) fn next_attempt(
    created_at: DateTime<Utc>,
    attempts: u32,
    now: DateTime<Utc>,
    retry_after: Option<DateTime<Utc>>,
) -> Option<DateTime<Utc>> {
    let wait = match retry_after {
        Some(at) => clamped_delay(at, now),
        None => planned_delay(attempts),
    };
    let next = now.checked_add_signed(wait)?;
    let end = created_at.checked_add_signed(MAX_WEBHOOK_AGE)?;
    (next <= end).then_some(next)
}

/// Returns the delay for a `Retry-After` time, within the limits.
pub(super) fn clamped_delay(retry_after: DateTime<Utc>, now: DateTime<Utc>) -> TimeDelta {
    retry_after.signed_duration_since(now).clamp(planned_delay(1), MAX_REQUESTED_DELAY)
}

/// Returns the delay after a number of attempts.
fn planned_delay(attempts: u32) -> TimeDelta {
    TimeDelta::from_std(BACKOFF.delay(attempts)).unwrap_or(MAX_WEBHOOK_AGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn created() -> DateTime<Utc> {
        "2024-05-01T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn thirty_seconds_then_four_times_as_long_each_time_for_a_day() {
        let (mut now, mut waits) = (created(), Vec::new());
        while let Some(next) =
            next_attempt(created(), u32::try_from(waits.len()).unwrap() + 1, now, None)
        {
            waits.push((next - now).num_seconds());
            now = next;
        }
        assert_eq!(waits, [30, 120, 480, 1_920, 7_680, 30_720]);
    }

    #[test]
    fn one_that_was_first_sent_late_has_its_first_retry_all_the_same() {
        let now = created() + TimeDelta::hours(12);
        assert_eq!(next_attempt(created(), 1, now, None), Some(now + planned_delay(1)));
        let now = created() + TimeDelta::hours(24) - TimeDelta::seconds(30);
        assert_eq!(next_attempt(created(), 1, now, None), Some(created() + MAX_WEBHOOK_AGE));
        assert_eq!(next_attempt(created(), 1, now + TimeDelta::seconds(1), None), None);
    }

    #[test]
    fn what_a_429_asks_for_is_kept_up_to_four_hours() {
        let now = created() + TimeDelta::minutes(1);
        for (retry_after, clamped_delay) in
            [(-5, 30), (0, 30), (30, 30), (600, 600), (14_400, 14_400), (90_000, 14_400)]
        {
            let next = next_attempt(created(), 5, now, Some(now + TimeDelta::seconds(retry_after)));
            assert_eq!(next, Some(now + TimeDelta::seconds(clamped_delay)), "{retry_after}");
        }
        let late = created() + TimeDelta::hours(21);
        assert_eq!(next_attempt(created(), 1, late, Some(late + TimeDelta::hours(4))), None);
    }

    proptest! {
        #[test]
        fn no_attempt_is_at_once_nor_after_a_day(
            attempts: u32,
            age in 0_i64..200_000,
            retry_after in proptest::option::of(-100_000_000_i64..100_000_000),
        ) {
            let now = created() + TimeDelta::seconds(age);
            let retry_after = retry_after.map(|seconds| now + TimeDelta::seconds(seconds));
            if let Some(next) = next_attempt(created(), attempts, now, retry_after) {
                prop_assert!(next >= now + planned_delay(1) && next <= created() + MAX_WEBHOOK_AGE);
            }
        }
    }
}
