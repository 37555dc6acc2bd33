//! Windows of dates that an Item reads. Pure.
//!
//! Dates are the bank's own, and the bank's time zone is unknown. So "today" is a span from the
//! westernmost date on earth to the easternmost. A window that covers both covers every bank, and
//! no time zone is stored.

use crate::{
    merge::{DATE_SLACK_DAYS, WithheldSpan},
    sync_state::HistoryScan,
};
use chrono::{DateTime, TimeDelta, Utc};
use px_client::Window;
use px_types::Date;

/// Settings of the read windows. The defaults are the contract's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlanSettings {
    /// Length of the history in days.
    pub history_days: u64,
    /// Number of days of the history that make it readable.
    pub recent_days: u64,
    /// Number of days that an update reads.
    pub update_days: u64,
    /// Number of days that an update reads before the last good one, however long ago that was:
    /// banks post rows some days after the date that they write.
    pub overlap_days: u64,
    /// Maximum number of days that an update reads back for a pending transaction.
    pub pending_days: u64,
    /// Maximum length of a window of the history, in days.
    pub window_days: u64,
    /// Interval between deep resyncs.
    pub deep_every: TimeDelta,
    /// Interval between deep resyncs while rows of the history could not be read.
    pub deep_every_with_faults: TimeDelta,
    /// Time after which an account on hold that is alike by name only is released, if the account
    /// that it resembles is closed and none of its rows has a twin there.
    pub release_after: TimeDelta,
    /// Time after which an Item with rows on hold counts as the only one of its institution,
    /// however few other Items were read meanwhile.
    pub alone_after: TimeDelta,
    /// Time after which a second response without an account confirms that it is closed.
    /// Default: 6 hours.
    pub close_confirmed_after: TimeDelta,
    /// Number of days after today that are requested for rows that post weeks ahead; 0 for none.
    /// Default: 62.
    pub ahead_days: u64,
}

impl Default for PlanSettings {
    fn default() -> Self {
        Self {
            history_days: 730,
            recent_days: 30,
            update_days: 7,
            // The remainder of the 7 days when the last update is 48 hours old.
            overlap_days: 5,
            pending_days: 30,
            window_days: 90,
            deep_every: TimeDelta::days(30),
            deep_every_with_faults: TimeDelta::days(7),
            release_after: TimeDelta::days(7),
            alone_after: TimeDelta::hours(24),
            close_confirmed_after: TimeDelta::hours(6),
            ahead_days: 62,
        }
    }
}

/// Returns the earliest and the latest date that it is anywhere on earth.
#[must_use]
pub fn today(now: DateTime<Utc>) -> (Date, Date) {
    let west = Date::from((now - TimeDelta::hours(12)).date_naive());
    let east = Date::from((now + TimeDelta::hours(14)).date_naive());
    (west, east)
}

/// Returns the window of an update.
///
/// It is a week long. It is longer if the last good update is older, if a pending transaction lies
/// further back (up to a limit), or if a notification names an earlier date. The last two begin
/// [`DATE_SLACK_DAYS`] earlier, since rows at the edge of a window are not judged. `last_good` is
/// the time at which the reading of that update began. Returns `None` only for contradictory
/// settings.
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
        start = start.min(today(last_good).0.minus_days(settings.overlap_days));
    }
    if let Some(pending) = oldest_pending {
        let pending = pending.max(west.minus_days(settings.pending_days));
        start = start.min(pending.minus_days(DATE_SLACK_DAYS));
    }
    if let Some(since) = notified_since {
        start = start.min(since.minus_days(DATE_SLACK_DAYS));
    }
    Window::new(start.max(west.minus_days(settings.history_days)), east)
}

/// Returns the window of the dates after today, in which partners show rows that post weeks ahead.
#[must_use]
pub fn ahead_window(settings: &PlanSettings, now: DateTime<Utc>) -> Option<Window> {
    let (_, east) = today(now);
    let start = east.plus_days(1);
    (settings.ahead_days > 0)
        .then(|| Window::new(start, east.plus_days(settings.ahead_days)))
        .flatten()
}

/// Returns whether a deep resync is due. Update windows do not find rows that were dated back, or
/// that vanished, long ago.
#[must_use]
pub fn deep_due(settings: &PlanSettings, last: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
    last.is_none_or(|last| now - last >= settings.deep_every)
}

/// Returns a scan of the whole history that begins now.
#[must_use]
pub fn history(settings: &PlanSettings, now: DateTime<Utc>) -> HistoryScan {
    let (west, east) = today(now);
    HistoryScan::new(east, west.minus_days(settings.history_days), now)
}

/// Returns the next window of a scan, at most `longest` days long, or `None` if the scan is
/// complete.
#[must_use]
pub fn next_window(scan: HistoryScan, longest: u64) -> Option<Window> {
    let start = scan.next_end.minus_days(longest.saturating_sub(1));
    Window::new(start.max(scan.start), scan.next_end)
}

/// Returns the rest of a scan once a window of it was stored, or `None` if that was the last one.
#[must_use]
pub fn after(scan: HistoryScan, stored: Window) -> Option<HistoryScan> {
    (stored.start() > scan.start)
        .then(|| HistoryScan { next_end: stored.start().minus_days(1), ..scan })
}

/// Like [`after`], but the next window overlaps the stored one. It decides on rows that were
/// withheld, since it has all of their dates.
#[must_use]
pub fn after_with_overlap(
    scan: HistoryScan,
    stored: Window,
    withheld: WithheldSpan,
) -> Option<HistoryScan> {
    let next_end = withheld.until.clamp(stored.start(), stored.end());
    (stored.start() > scan.start).then_some(HistoryScan { next_end, ..scan })
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{FixedOffset, TimeZone as _};
    use proptest::prelude::*;

    const WEST: i32 = -12 * 60;
    const EAST: i32 = 14 * 60;

    fn at(seconds: i64) -> DateTime<Utc> {
        Utc.timestamp_opt(seconds, 0).unwrap()
    }

    fn day(text: &str) -> Date {
        text.parse().unwrap()
    }

    /// Generates any existing UTC offset, often one of the outermost.
    fn offsets() -> impl Strategy<Value = i32> {
        prop_oneof![WEST..=EAST, Just(WEST), Just(EAST)]
    }

    /// Returns the local date of a bank at `now`.
    fn wall(now: DateTime<Utc>, offset_minutes: i32) -> Date {
        let zone = FixedOffset::east_opt(offset_minutes * 60).unwrap();
        Date::from(now.with_timezone(&zone).date_naive())
    }

    fn instants() -> impl Strategy<Value = DateTime<Utc>> {
        // 2001 to 2096.
        (978_307_200_i64..4_000_000_000).prop_map(at)
    }

    fn settings() -> PlanSettings {
        PlanSettings::default()
    }

    proptest! {
        #[test]
        fn today_is_today_everywhere(now in instants(), offset in offsets()) {
            let (west, east) = today(now);
            prop_assert!((west..=east).contains(&wall(now, offset)));
            // The span is as short as possible: two dates, or three during two hours a day.
            prop_assert!(east.days_since(west) <= 2);
        }

        /// Cases 25, 26 and 28: whatever the zone, and though it changes between two updates,
        /// the next window begins before any date on which the bank can have posted since.
        #[test]
        fn what_posts_after_an_update_is_in_the_next_window(
            last in instants(),
            pause in 0_i64..200 * 86_400,
            posts_after in 0_i64..200 * 86_400,
            offset in offsets(),
            moved in -120_i32..=120,
        ) {
            let now = last + TimeDelta::seconds(pause);
            let posted = last + TimeDelta::seconds(posts_after.min(pause));
            let offset = (offset + moved).clamp(WEST, EAST);
            let window = update_window(&settings(), now, Some(last), None, None).unwrap();
            let dated = wall(posted, offset);
            prop_assert!(window.start() <= dated && dated <= window.end());
            // The same if the bank dates the row back a little.
            prop_assert!(window.start() <= dated.minus_days(settings().overlap_days));
        }

        #[test]
        fn an_update_in_time_asks_for_a_week(now in instants(), age in 0_i64..=48 * 3600) {
            let last = now - TimeDelta::seconds(age);
            let window = update_window(&settings(), now, Some(last), None, None).unwrap();
            let (west, east) = today(now);
            prop_assert_eq!((window.start(), window.end()), (west.minus_days(7), east));
        }

        #[test]
        fn what_makes_a_window_longer_is_kept_in_bounds(
            now in instants(),
            last in proptest::option::of(0_i64..3000),
            pending in proptest::option::of(0_u64..3000),
            since in proptest::option::of(0_u64..3000),
        ) {
            let (west, east) = today(now);
            let days_ago = |days: u64| west.minus_days(days);
            let window = update_window(
                &settings(),
                now,
                last.map(|days| now - TimeDelta::days(days)),
                pending.map(days_ago),
                since.map(days_ago),
            ).unwrap();
            prop_assert_eq!(window.end(), east);
            prop_assert!(window.start() >= days_ago(730));
            prop_assert!(window.start() <= days_ago(7));
            if let Some(days) = since {
                prop_assert!(window.start() <= days_ago(days.min(730)));
            }
            if let Some(days) = pending {
                prop_assert!(window.start() <= days_ago(days.min(30) + DATE_SLACK_DAYS));
            }
            // A pending row alone reaches back 30 days, plus two for the edge.
            if last.is_none() && since.is_none() {
                prop_assert!(window.start() >= days_ago(30 + DATE_SLACK_DAYS));
            }
        }

        /// A scan reads every date once, from the newest back. Case 22: also when the partner
        /// accepts ever shorter windows only.
        #[test]
        fn case_22_a_walk_reads_every_date_whatever_the_lengths(
            now in instants(),
            lengths in proptest::collection::vec(1_u64..120, 1..8),
        ) {
            let mut scan = history(&settings(), now);
            let (first, last) = (scan.start, scan.next_end);
            let mut read_from = last.plus_days(1);
            let mut longest = u64::MAX;
            for step in 0_usize..10_000 {
                // A learned limit stays: it only shrinks.
                longest = longest.min(lengths[step.min(lengths.len() - 1)]);
                let window = next_window(scan, longest).unwrap();
                prop_assert!(window.days() <= longest);
                prop_assert_eq!(window.end(), read_from.minus_days(1), "a gap, or a date twice");
                prop_assert!(window.start() >= first);
                read_from = read_from.min(window.start());
                let before = scan.next_end;
                match after(scan, window) {
                    Some(next) => scan = next,
                    None => {
                        prop_assert_eq!(read_from, first);
                        return Ok(());
                    }
                }
                prop_assert!(scan.next_end < before, "no progress");
            }
            prop_assert!(false, "the scan never ended");
        }
    }

    /// A date stays as written, wherever the program runs: nothing is converted, and the date of a
    /// timestamp is the one in its text.
    #[test]
    fn case_25_a_date_is_never_moved_by_a_zone() {
        for text in ["2026-03-01T00:30:00+14:00", "2026-03-01T23:59:59-12:00", "2026-03-01"] {
            let written: px_types::Iso8601 = text.parse().unwrap();
            assert_eq!(written.date(), day("2026-03-01"), "{text}");
        }
    }

    /// A night with a clock change has 23 or 25 hours. Dates are not affected.
    #[test]
    fn case_26_no_row_is_lost_on_the_night_the_clocks_change() {
        // Europe/London switches to summer time at 2026-03-29 01:00 UTC, America/New_York leaves it
        // on 2026-11-01 at 06:00 UTC.
        for (change, before, after) in
            [("2026-03-29T01:00:00Z", 0, 60), ("2026-11-01T06:00:00Z", -240, -300)]
        {
            let change: DateTime<Utc> = change.parse().unwrap();
            for minutes in -180..180 {
                let now = change + TimeDelta::minutes(minutes);
                let offset = if minutes < 0 { before } else { after };
                let (west, east) = today(now);
                assert!((west..=east).contains(&wall(now, offset)), "{now}");
            }
        }
    }

    /// Local time without an offset is refused.
    #[test]
    fn case_27_a_time_without_an_offset_is_refused() {
        assert!("2026-03-29T00:30:00".parse::<px_types::Iso8601>().is_err());
        assert!("2026-03-29 00:30:00".parse::<px_types::Iso8601>().is_err());
    }

    /// The server is a day ahead of a bank in the far west. Rows that the bank posts after the
    /// update for "yesterday" are read by the next one.
    #[test]
    fn case_28_a_watermark_that_ran_ahead_misses_nothing() {
        let last: DateTime<Utc> = "2026-11-23T00:05:00Z".parse().unwrap();
        let settings = PlanSettings { update_days: 0, overlap_days: 0, ..settings() };
        let now = last + TimeDelta::hours(30);
        let window = update_window(&settings, now, Some(last), None, None).unwrap();
        assert_eq!(window.start(), day("2026-11-22"));
        assert!(window.end() >= day("2026-11-24"));
    }

    #[test]
    fn after_a_long_pause_an_update_reaches_back_with_an_overlap() {
        let last: DateTime<Utc> = "2026-06-10T12:00:00Z".parse().unwrap();
        let now: DateTime<Utc> = "2026-11-23T12:00:00Z".parse().unwrap();
        let window = update_window(&settings(), now, Some(last), None, None).unwrap();
        assert_eq!(window.start(), day("2026-06-05"));
    }

    #[test]
    fn a_pending_row_reaches_back_thirty_days_at_most() {
        let now: DateTime<Utc> = "2026-11-23T12:00:00Z".parse().unwrap();
        let start = |pending| {
            update_window(&settings(), now, Some(now), Some(day(pending)), None).unwrap().start()
        };
        assert_eq!(start("2026-11-01"), day("2026-10-30"));
        assert_eq!(start("2026-01-01"), day("2026-10-22"));
    }

    #[test]
    fn a_deep_resync_is_due_when_the_last_one_is_old_or_there_was_none() {
        let now: DateTime<Utc> = "2026-11-23T12:00:00Z".parse().unwrap();
        let settings = settings();
        assert!(deep_due(&settings, None, now));
        assert!(!deep_due(&settings, Some(now - TimeDelta::days(29)), now));
        assert!(deep_due(&settings, Some(now - TimeDelta::days(30)), now));
    }
}
