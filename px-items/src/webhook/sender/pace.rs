//! How long a webhook would wait at its endpoint's lane. Pure.

use chrono::{DateTime, TimeDelta, Utc};

/// What an endpoint is thought to take before it answered once.
const UNKNOWN: TimeDelta = TimeDelta::milliseconds(50);
/// Who would wait longer than that waits in the outbox and not at the lane.
const LONGEST_WAIT: TimeDelta = TimeDelta::seconds(5);
/// A webhook is put off by no more than that.
const LONGEST_PUT_OFF: TimeDelta = TimeDelta::minutes(1);

/// How fast an endpoint answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Pace {
    average: Option<TimeDelta>,
    /// When the calls that are under way began.
    begun: Vec<DateTime<Utc>>,
    /// How many were put off for want of room, less those answered since.
    put_off: i32,
}

impl Pace {
    /// How many calls are under way.
    pub(super) fn in_flight(&self) -> usize {
        self.begun.len()
    }

    /// A call begins.
    pub(super) fn began(&mut self, now: DateTime<Utc>) {
        self.begun.push(now);
    }

    /// A call that began then has ended, well or not.
    pub(super) fn ended(&mut self, began: DateTime<Utc>, now: DateTime<Utc>) {
        if let Some(place) = self.begun.iter().position(|begun| *begun == began) {
            self.begun.swap_remove(place);
        }
        let took = (now - began).max(TimeDelta::milliseconds(1));
        self.average = Some(self.average.map_or(took, |average| (average * 3 + took) / 4));
        self.put_off = (self.put_off - 1).max(0);
    }

    /// Finds a place for one more webhook: `None` is at the lane, where so many wait already;
    /// else it is put off by that much. Those that are put off get a place one after the other.
    pub(super) fn put_off(
        &mut self,
        waiting: usize,
        lanes: usize,
        now: DateTime<Utc>,
    ) -> Option<TimeDelta> {
        // A few may wait always: what is slow is not to stand idle.
        if waiting < lanes || self.wait(waiting, lanes, now) <= LONGEST_WAIT {
            return None;
        }
        self.put_off = self.put_off.saturating_add(1);
        let ahead = usize::try_from(self.put_off).unwrap_or_default();
        Some(self.wait(waiting + ahead, lanes, now).min(LONGEST_PUT_OFF))
    }

    /// How long it takes until so many have been sent.
    fn wait(&self, waiting: usize, lanes: usize, now: DateTime<Utc>) -> TimeDelta {
        let average = self.average.unwrap_or(UNKNOWN);
        // A call that has no answer yet takes at least as long as it did.
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

    /// How many find a place at once, when no answer comes.
    fn places(pace: &mut Pace, now: DateTime<Utc>) -> usize {
        (0..).find(|waiting| pace.put_off(*waiting, 4, now).is_some()).unwrap()
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
            (0..60).map(|_| pace.put_off(4, 4, at(0)).unwrap().num_seconds()).collect();
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
