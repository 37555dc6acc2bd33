//! Limits on the length of windows: of the plan, of the partner, and of memory. Pure.

use chrono::{DateTime, TimeDelta, Utc};
use px_client::Window;
use serde::{Deserialize, Serialize};

/// Window lengths that a partner serves. All processes of a database share them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PartnerLengths {
    /// Length in days of the shortest window that was refused for its length.
    refused: Option<u64>,
    /// Length in days of the longest window that was served.
    accepted: u64,
    /// Time at which the partner last refused, or failed to serve, the dates after today.
    ahead_failed_at: Option<DateTime<Utc>>,
}

/// Time for which the dates after today are not requested again after a failure.
const AHEAD_BACKOFF: TimeDelta = TimeDelta::days(1);

impl PartnerLengths {
    /// Returns the longest window worth requesting, if a window was refused.
    fn longest(self) -> Option<u64> {
        let refused = self.refused?;
        Some(
            if self.accepted > 0 { self.accepted } else { refused / 2 }
                .clamp(1, refused.max(2) - 1),
        )
    }

    /// Returns whether a window was refused for its length.
    pub(crate) fn is_limited(self) -> bool {
        self.refused.is_some()
    }

    /// Combines what two runs learned.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let refused = [self.refused, other.refused].into_iter().flatten().min();
        let fits = |days: u64| refused.is_none_or(|refused| days < refused);
        let accepted = [self.accepted, other.accepted].into_iter().filter(|days| fits(*days)).max();
        let ahead_failed_at = self.ahead_failed_at.max(other.ahead_failed_at);
        Self { refused, accepted: accepted.unwrap_or(0), ahead_failed_at }
    }
}

/// Window lengths of one run.
#[derive(Clone, Copy, Debug)]
pub struct Lengths {
    planned: u64,
    partner: PartnerLengths,
    /// Number of days with as many transactions as are read at once.
    dense: Option<u64>,
    /// Length in days of the shortest window that the partner failed at, until a shorter one shows
    /// that it was too heavy.
    heavy: Option<u64>,
}

impl Lengths {
    /// Creates lengths for windows of `planned` days, or of the length that the partner is known to
    /// serve.
    #[must_use]
    pub fn new(planned: u64, partner: PartnerLengths) -> Self {
        Self { planned: planned.max(1), partner, dense: None, heavy: None }
    }

    /// Returns the length in days of the longest window to request.
    #[must_use]
    pub fn longest(&self) -> u64 {
        let longest = self.planned.min(self.partner.longest().unwrap_or(u64::MAX));
        let longest = longest.min(self.heavy.map_or(u64::MAX, |heavy| heavy / HEAVY_PARTS));
        longest.min(self.dense.unwrap_or(u64::MAX)).max(1)
    }

    /// Returns what was learned about the partner.
    #[must_use]
    pub fn partner(&self) -> PartnerLengths {
        self.partner
    }

    /// Records that the partner refused a window for its length.
    #[cfg(test)]
    pub(crate) fn refuse(&mut self, window: Window) {
        self.too_long(window);
    }

    /// Records that a window was served, with its number of transactions.
    pub(super) fn accepted(&mut self, window: Window, rows: u64) {
        let days = window.days();
        if let Some(heavy) = self.heavy.take() {
            // A shorter window is served, so the other one was too heavy. Other Items need not find
            // out.
            self.refused(heavy);
        }
        self.partner.accepted = self.partner.accepted.max(days);
        // After a window with few transactions the next one may be longer again.
        if let Some(dense) = self.dense
            && days >= dense
            && rows < MAX_SPARSE_ROWS
        {
            self.dense = Some(dense.saturating_mul(2));
        }
    }

    /// Records that a window lacks rows by its `total`. The next one is half as long.
    pub(super) fn lacking(&mut self, window: Window) {
        self.dense = Some((window.days() / 2).max(1));
    }

    /// Records that shorter windows do not help.
    pub(super) fn not_dense(&mut self) {
        self.dense = None;
    }

    /// Records that the partner does not serve the dates after today.
    pub(super) fn ahead_failed(&mut self, now: DateTime<Utc>) {
        self.partner.ahead_failed_at = Some(now);
    }

    /// Returns whether the partner may serve the dates after today.
    pub(super) fn may_read_ahead(&self, now: DateTime<Utc>) -> bool {
        self.partner.ahead_failed_at.is_none_or(|failed| now - failed >= AHEAD_BACKOFF)
    }

    /// Records that a window has more transactions than are read at once.
    pub(super) fn too_many(&mut self, window: Window, total: u64, at_most: u64) {
        let parts = total.div_ceil(at_most.max(1)).max(2);
        self.dense = Some((window.days() / parts).max(1));
    }

    /// Records that the partner refused a window for its length. Returns `false` if it was one day
    /// long.
    pub(super) fn too_long(&mut self, window: Window) -> bool {
        self.refused(window.days());
        window.days() > 1
    }

    /// Records that the partner failed at a window, though it is up. The next one is a quarter as
    /// long.
    pub(super) fn too_heavy(&mut self, window: Window) {
        self.heavy = Some(window.days());
    }

    /// Returns whether windows are shortened because longer ones failed.
    pub(super) fn is_shortening(&self) -> bool {
        self.heavy.is_some()
    }

    fn refused(&mut self, days: u64) {
        let partner = &mut self.partner;
        partner.refused = Some(partner.refused.map_or(days, |refused| refused.min(days)));
        if partner.accepted >= days {
            // The partner now refuses a length that it served before.
            partner.accepted = 0;
        }
    }
}

/// Number of parts of a window that may be too heavy. A large factor reaches a day in few steps.
const HEAVY_PARTS: u64 = 4;

/// Number of transactions below which a window was shorter than necessary.
const MAX_SPARSE_ROWS: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use px_types::Date;

    fn window(days: u64) -> Window {
        let end = Date::from_ymd(2026, 11, 23).unwrap();
        Window::new(end.minus_days(days - 1), end).unwrap()
    }

    #[test]
    fn a_refused_length_is_never_asked_for_again() {
        let mut lengths = Lengths::new(90, PartnerLengths::default());
        assert_eq!(lengths.longest(), 90);
        assert!(lengths.too_long(window(90)));
        assert_eq!(lengths.longest(), 45);
        assert!(lengths.too_long(window(45)));
        assert_eq!(lengths.longest(), 22);
        lengths.accepted(window(22), 10_000);
        assert_eq!(lengths.longest(), 22, "the served length is requested from then on");
        assert_eq!(Lengths::new(90, lengths.partner()).longest(), 22, "and by the next run");
        assert!(!lengths.too_long(window(1)), "a day is never cut");
    }

    #[test]
    fn dense_windows_get_shorter_and_longer_again() {
        let mut lengths = Lengths::new(90, PartnerLengths::default());
        lengths.too_many(window(90), 12_345, 5_000);
        assert_eq!(lengths.longest(), 30);
        lengths.accepted(window(30), 4_200);
        assert_eq!(lengths.longest(), 30);
        lengths.accepted(window(30), 12);
        assert_eq!(lengths.longest(), 60);
    }

    proptest! {
        /// For any limit of a partner, a window within it is found, and no length is refused twice.
        #[test]
        fn the_limit_of_a_partner_is_found(limit in 1_u64..200, planned in 1_u64..200) {
            let mut lengths = Lengths::new(planned, PartnerLengths::default());
            let mut refusals = 0;
            while lengths.longest() > limit {
                let requested = lengths.longest();
                prop_assert!(lengths.too_long(window(requested)));
                prop_assert!(lengths.longest() < requested);
                refusals += 1;
            }
            prop_assert!(refusals <= 8);
            lengths.accepted(window(lengths.longest()), 5_000);
            prop_assert!(lengths.longest() <= limit);
        }
    }
}
