//! When a webhook that was not taken is sent again. Pure.
//!
//! When an Item is updated again is in the engine's schedule, not here.

use chrono::{DateTime, TimeDelta, Utc};

/// The wait after the first attempt.
const FIRST: TimeDelta = TimeDelta::seconds(30);
/// Each wait is so many times the one before.
const FACTOR: i32 = 4;
/// A webhook is given up when it is that old.
pub(super) const GIVEN_UP: TimeDelta = TimeDelta::hours(24);
/// The longest wait that an endpoint can ask for.
const LONGEST_ASKED: TimeDelta = TimeDelta::hours(4);

/// The moment of the next attempt; `None` when there is none.
///
/// `attempts` were made, the last one ended `now`. `asked` is what a 429 said in `Retry-After`:
/// it stands in for the planned wait, from 30 s to 4 h.
///
/// Contract: `px.md` section 9.
pub(super) fn next_attempt(
    created_at: DateTime<Utc>,
    attempts: u32,
    now: DateTime<Utc>,
    asked: Option<DateTime<Utc>>,
) -> Option<DateTime<Utc>> {
    let wait = match asked {
        Some(moment) => kept(moment, now),
        None => planned(attempts),
    };
    let next = now.checked_add_signed(wait)?;
    let end = created_at.checked_add_signed(GIVEN_UP)?;
    (next <= end).then_some(next)
}

/// How much of a `Retry-After` is kept.
pub(super) fn kept(asked: DateTime<Utc>, now: DateTime<Utc>) -> TimeDelta {
    asked.signed_duration_since(now).clamp(FIRST, LONGEST_ASKED)
}

/// The wait after so many attempts.
fn planned(attempts: u32) -> TimeDelta {
    let mut wait = FIRST;
    for _ in 1..attempts {
        if wait >= GIVEN_UP {
            break;
        }
        wait = wait * FACTOR;
    }
    wait
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
        assert_eq!(next_attempt(created(), 1, now, None), Some(now + FIRST));
        let now = created() + TimeDelta::hours(24) - TimeDelta::seconds(30);
        assert_eq!(next_attempt(created(), 1, now, None), Some(created() + GIVEN_UP));
        assert_eq!(next_attempt(created(), 1, now + TimeDelta::seconds(1), None), None);
    }

    #[test]
    fn what_a_429_asks_for_is_kept_up_to_four_hours() {
        let now = created() + TimeDelta::minutes(1);
        for (asked, kept) in
            [(-5, 30), (0, 30), (30, 30), (600, 600), (14_400, 14_400), (90_000, 14_400)]
        {
            let next = next_attempt(created(), 5, now, Some(now + TimeDelta::seconds(asked)));
            assert_eq!(next, Some(now + TimeDelta::seconds(kept)), "{asked}");
        }
        let late = created() + TimeDelta::hours(21);
        assert_eq!(next_attempt(created(), 1, late, Some(late + TimeDelta::hours(4))), None);
    }

    proptest! {
        #[test]
        fn no_attempt_is_at_once_nor_after_a_day(
            attempts: u32,
            age in 0_i64..200_000,
            asked in proptest::option::of(-100_000_000_i64..100_000_000),
        ) {
            let now = created() + TimeDelta::seconds(age);
            let asked = asked.map(|seconds| now + TimeDelta::seconds(seconds));
            if let Some(next) = next_attempt(created(), attempts, now, asked) {
                prop_assert!(next >= now + FIRST && next <= created() + GIVEN_UP);
            }
        }
    }
}
