//! Estimate of the waiting time in an endpoint's lane. Pure.

use chrono::{DateTime, TimeDelta, Utc};

/// Assumed duration of a request to an endpoint before its first response.
const ASSUMED_DURATION: TimeDelta = TimeDelta::milliseconds(50);
/// Maximum waiting time in a lane. Webhooks that would wait longer wait in the outbox.
const MAX_LANE_WAIT: TimeDelta = TimeDelta::seconds(5);
/// Maximum deferral of a webhook.
const MAX_DEFERRAL: TimeDelta = TimeDelta::minutes(1);

/// Speed of an endpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Pace {
    average: Option<TimeDelta>,
    /// Start times of the requests under way.
    begun: Vec<DateTime<Utc>>,
    /// Number of deferred webhooks, less the requests that ended since.
    deferral: i32,
}

impl Pace {
    /// Returns the number of requests under way.
    pub(super) fn in_flight(&self) -> usize {
        self.begun.len()
    }

    /// Records the start of a request.
    pub(super) fn began(&mut self, now: DateTime<Utc>) {
        self.begun.push(now);
    }

    /// Records the end of a request, successful or not.
    pub(super) fn ended(&mut self, began: DateTime<Utc>, now: DateTime<Utc>) {
        if let Some(place) = self.begun.iter().position(|begun| *begun == began) {
            self.begun.swap_remove(place);
        }
        let took = (now - began).max(TimeDelta::milliseconds(1));
        self.average = Some(self.average.map_or(took, |average| (average * 3 + took) / 4));
        self.deferral = (self.deferral - 1).max(0);
    }

    /// Admits one more webhook to a lane with `waiting` others: returns `None`, or the time by
    /// which it is deferred. Deferred webhooks get consecutive slots.
    pub(super) fn deferral(
        &mut self,
        waiting: usize,
        lanes: usize,
        now: DateTime<Utc>,
    ) -> Option<TimeDelta> {
        // A few may always wait, so that a slow endpoint is never idle.
        if waiting < lanes || self.wait(waiting, lanes, now) <= MAX_LANE_WAIT {
            return None;
        }
        self.deferral = self.deferral.saturating_add(1);
        let ahead = usize::try_from(self.deferral).unwrap_or_default();
        Some(self.wait(waiting + ahead, lanes, now).min(MAX_DEFERRAL))
    }

    /// Returns the time until a number of webhooks have been sent.
    fn wait(&self, waiting: usize, lanes: usize, now: DateTime<Utc>) -> TimeDelta {
        let average = self.average.unwrap_or(ASSUMED_DURATION);
        // A request without a response takes at least as long as it has taken so far.
        let slowest = self.begun.iter().min().map_or(average, |begun| (now - *begun).max(average));
        let rounds = i32::try_from(waiting.div_ceil(lanes.max(1))).unwrap_or(i32::MAX);
        slowest.checked_mul(rounds).unwrap_or(TimeDelta::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::milliseconds(millis)
    }

    /// Returns how many webhooks are admitted at once if no response comes.
    fn places(pace: &mut Pace, now: DateTime<Utc>) -> usize {
        (0..).find(|waiting| pace.deferral(*waiting, 4, now).is_some()).unwrap()
    }

    fn of(millis: i64) -> Pace {
        let mut pace = Pace::default();
        for n in 0..100 {
            pace.began(at(n));
            pace.ended(at(n), at(n + millis));
        }
        pace
    }

    #[test]
    fn a_lane_holds_what_is_sent_within_five_seconds() {
        assert_eq!(places(&mut Pace::default(), at(0)), 401);
        assert_eq!(places(&mut of(50), at(0)), 401);
        assert_eq!(places(&mut of(1_000), at(0)), 21);
        assert_eq!(places(&mut of(9_000), at(0)), 4);
    }

    #[test]
    fn who_does_not_answer_is_slow_before_the_answer() {
        let mut pace = of(50);
        pace.began(at(0));
        assert_eq!(places(&mut pace, at(2_500)), 9);
        assert_eq!(pace.in_flight(), 1);
    }

    #[test]
    fn those_put_off_come_one_after_the_other_within_a_minute() {
        let mut pace = of(8_000);
        let waits: Vec<_> =
            (0..60).map(|_| pace.deferral(4, 4, at(0)).unwrap().num_seconds()).collect();
        assert_eq!(waits[..9], [16, 16, 16, 16, 24, 24, 24, 24, 32]);
        assert!(waits.is_sorted() && waits[59] == 60);
    }

    #[test]
    fn a_lane_that_speeds_up_holds_more() {
        let mut pace = of(9_000);
        for n in 0..40 {
            pace.began(at(n));
            pace.ended(at(n), at(n + 20));
        }
        assert!(places(&mut pace, at(0)) > 400);
    }
}
