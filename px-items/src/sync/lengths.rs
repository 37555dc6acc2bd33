//! How long a window may be: as the plan says, as the partner answers, as memory holds. Pure.

use chrono::{DateTime, TimeDelta, Utc};
use px_client::Window;
use serde::{Deserialize, Serialize};

/// What is known of the windows that a partner answers. All processes of a database share it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PartnerLengths {
    /// The days of the shortest window that was refused for its length.
    refused: Option<u64>,
    /// The days of the longest window that was answered.
    accepted: u64,
    /// When it last refused, or failed to serve, the dates after today.
    ahead_failed_at: Option<DateTime<Utc>>,
}

/// Time for which a partner that does not serve the dates after today is not asked for them again.
const AHEAD_BACKOFF: TimeDelta = TimeDelta::days(1);

impl PartnerLengths {
    /// The longest window worth asking for, where something was refused.
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

    /// What two runs learned, together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let refused = [self.refused, other.refused].into_iter().flatten().min();
        let fits = |days: u64| refused.is_none_or(|refused| days < refused);
        let accepted = [self.accepted, other.accepted].into_iter().filter(|days| fits(*days)).max();
        let ahead_failed_at = self.ahead_failed_at.max(other.ahead_failed_at);
        Self { refused, accepted: accepted.unwrap_or(0), ahead_failed_at }
    }
}

/// How long the windows of one run may be.
#[derive(Clone, Copy, Debug)]
pub struct Lengths {
    planned: u64,
    partner: PartnerLengths,
    /// So many days have as many transactions as are read at once.
    dense: Option<u64>,
    /// The days of the shortest window that the partner failed at, until a shorter one shows that it
    /// was too heavy.
    heavy: Option<u64>,
}

impl Lengths {
    /// Windows of so many days, or what the partner is known to answer.
    #[must_use]
    pub fn new(planned: u64, partner: PartnerLengths) -> Self {
        Self { planned: planned.max(1), partner, dense: None, heavy: None }
    }

    /// The days of the longest window to ask for.
    #[must_use]
    pub fn longest(&self) -> u64 {
        let longest = self.planned.min(self.partner.longest().unwrap_or(u64::MAX));
        let longest = longest.min(self.heavy.map_or(u64::MAX, |heavy| heavy / HEAVY_PARTS));
        longest.min(self.dense.unwrap_or(u64::MAX)).max(1)
    }

    /// What was learned of the partner.
    #[must_use]
    pub fn partner(&self) -> PartnerLengths {
        self.partner
    }

    /// The partner refused a window for its length.
    #[cfg(test)]
    pub(crate) fn refuse(&mut self, window: Window) {
        self.too_long(window);
    }

    /// A window was answered, with so many transactions.
    pub(super) fn accepted(&mut self, window: Window, rows: u64) {
        let days = window.days();
        if let Some(heavy) = self.heavy.take() {
            // A shorter one is served, so it was the weight: other Items need not find out.
            self.refused(heavy);
        }
        self.partner.accepted = self.partner.accepted.max(days);
        // Where there is little, the next window may be longer again.
        if let Some(dense) = self.dense
            && days >= dense
            && rows < SPARSE
        {
            self.dense = Some(dense.saturating_mul(2));
        }
    }

    /// A window lacks rows by its `total`: the next one is half as long.
    pub(super) fn lacking(&mut self, window: Window) {
        self.dense = Some((window.days() / 2).max(1));
    }

    /// Shorter windows are of no use.
    pub(super) fn not_dense(&mut self) {
        self.dense = None;
    }

    /// The partner does not serve the dates after today.
    pub(super) fn ahead_failed(&mut self, now: DateTime<Utc>) {
        self.partner.ahead_failed_at = Some(now);
    }

    /// Whether the partner may serve the dates after today.
    pub(super) fn may_read_ahead(&self, now: DateTime<Utc>) -> bool {
        self.partner.ahead_failed_at.is_none_or(|failed| now - failed >= AHEAD_BACKOFF)
    }

    /// A window has more transactions than are read at once.
    pub(super) fn too_many(&mut self, window: Window, total: u64, at_most: u64) {
        let parts = total.div_ceil(at_most.max(1)).max(2);
        self.dense = Some((window.days() / parts).max(1));
    }

    /// The partner refused a window for its length. `false`: it was one day long.
    pub(super) fn too_long(&mut self, window: Window) -> bool {
        self.refused(window.days());
        window.days() > 1
    }

    /// The partner failed at a window, though it is not down: the next one is a quarter as long.
    pub(super) fn too_heavy(&mut self, window: Window) {
        self.heavy = Some(window.days());
    }

    /// Whether windows are shortened because longer ones failed.
    pub(super) fn is_shortening(&self) -> bool {
        self.heavy.is_some()
    }

    fn refused(&mut self, days: u64) {
        let partner = &mut self.partner;
        partner.refused = Some(partner.refused.map_or(days, |refused| refused.min(days)));
        if partner.accepted >= days {
            // What it answered before it refuses now.
            partner.accepted = 0;
        }
    }
}

/// Into so many parts a window is cut that may be too heavy: few steps lead down to a day.
const HEAVY_PARTS: u64 = 4;

/// A window with fewer transactions than this did not need to be as short as it was.
const SPARSE: u64 = 1000;

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
        assert_eq!(lengths.longest(), 22, "what was answered is asked for from then on");
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
        /// Whatever limit a partner has, a window within it is found, each refusal once.
        #[test]
        fn the_limit_of_a_partner_is_found(limit in 1_u64..200, planned in 1_u64..200) {
            let mut lengths = Lengths::new(planned, PartnerLengths::default());
            let mut refusals = 0;
            while lengths.longest() > limit {
                let asked = lengths.longest();
                prop_assert!(lengths.too_long(window(asked)));
                prop_assert!(lengths.longest() < asked);
                refusals += 1;
            }
            prop_assert!(refusals <= 8);
            lengths.accepted(window(lengths.longest()), 5_000);
            prop_assert!(lengths.longest() <= limit);
        }
    }
}
