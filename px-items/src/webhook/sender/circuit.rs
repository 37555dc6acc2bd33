//! Circuit breaker of an endpoint that keeps failing. Pure.

use chrono::{DateTime, TimeDelta, Utc};

/// Number of consecutive failures that open the circuit.
const FAILURE_THRESHOLD: u32 = 5;
/// First time that the circuit stays open.
const OPEN_TIME_MIN: TimeDelta = TimeDelta::seconds(30);
/// Maximum time that the circuit stays open. Each failed probe doubles the time.
const OPEN_TIME_MAX: TimeDelta = TimeDelta::minutes(15);

/// State of an endpoint in this process.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Circuit {
    /// Number of consecutive failures.
    failures: u32,
    open: Option<OpenCircuit>,
    last_failure_at: Option<DateTime<Utc>>,
}

#[derive(Clone, Debug, PartialEq)]
struct OpenCircuit {
    until: DateTime<Utc>,
    length: TimeDelta,
    probing: bool,
}

/// Decision whether a call may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permit {
    /// The call may be made. If the circuit is open, this is the one probe.
    Go,
    /// A probe is under way, and its outcome decides.
    Wait,
    /// No call may be made before that time.
    NotBefore(DateTime<Utc>),
}

impl Circuit {
    /// Returns whether a call may be made now.
    pub(super) fn permit(&self, now: DateTime<Utc>) -> Permit {
        match &self.open {
            None => Permit::Go,
            Some(open) if open.probing => Permit::Wait,
            Some(open) if now < open.until => Permit::NotBefore(open.until),
            Some(_) => Permit::Go,
        }
    }

    /// Records the start of a permitted call.
    pub(super) fn begin(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = true;
        }
    }

    /// Records a successful call.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Records a failed call. `retry_at` is the earliest time at which the endpoint wants to be
    /// called.
    pub(super) fn failed(&mut self, now: DateTime<Utc>, retry_at: Option<DateTime<Utc>>) {
        self.failures = self.failures.saturating_add(1);
        self.last_failure_at = Some(now);
        let length = match &self.open {
            Some(open) if open.probing => (open.length * 2).min(OPEN_TIME_MAX),
            // The call was under way when others opened the circuit.
            Some(open) => open.length,
            None if self.failures >= FAILURE_THRESHOLD || retry_at.is_some() => OPEN_TIME_MIN,
            None => return,
        };
        let until = (now + length).max(retry_at.unwrap_or(now));
        let before = self.open.as_ref().filter(|open| !open.probing).map(|open| open.until);
        let until = before.map_or(until, |before| before.max(retry_at.unwrap_or(before)));
        self.open = Some(OpenCircuit { until, length, probing: false });
    }

    /// Records that a permitted call was not made.
    pub(super) fn abandoned(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = false;
        }
    }

    /// Returns whether the state can be dropped: the endpoint never failed, or not for 5 hours.
    pub(super) fn is_forgotten(&self, now: DateTime<Utc>) -> bool {
        let long_ago = |at: DateTime<Utc>| now - at > TimeDelta::hours(5);
        let probing = self.open.as_ref().is_some_and(|open| open.probing);
        !probing && self.last_failure_at.is_none_or(long_ago)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    fn opened() -> Circuit {
        let mut circuit = Circuit::default();
        for _ in 0..FAILURE_THRESHOLD {
            assert_eq!(circuit.permit(at(0)), Permit::Go);
            circuit.begin();
            circuit.failed(at(0), None);
        }
        circuit
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_one_probe_closes_it() {
        let mut circuit = opened();
        assert_eq!(circuit.permit(at(29)), Permit::NotBefore(at(30)));
        assert_eq!(circuit.permit(at(30)), Permit::Go);
        circuit.begin();
        assert_eq!(circuit.permit(at(31)), Permit::Wait);
        circuit.succeeded();
        assert_eq!(circuit, Circuit::default());
    }

    #[test]
    fn a_success_between_failures_keeps_it_closed() {
        let mut circuit = Circuit::default();
        for n in 0..40 {
            assert_eq!(circuit.permit(at(n)), Permit::Go);
            circuit.begin();
            if n % 5 == 4 { circuit.succeeded() } else { circuit.failed(at(n), None) }
        }
    }

    #[test]
    fn each_probe_that_fails_doubles_the_time_up_to_a_limit() {
        let mut circuit = opened();
        let (mut now, mut waits) = (at(30), Vec::new());
        for _ in 0..8 {
            assert_eq!(circuit.permit(now), Permit::Go);
            circuit.begin();
            circuit.failed(now, None);
            let Permit::NotBefore(until) = circuit.permit(now) else { panic!("it is open") };
            waits.push((until - now).num_seconds());
            now = until;
        }
        assert_eq!(waits, [60, 120, 240, 480, 900, 900, 900, 900]);
    }

    #[test]
    fn calls_that_were_under_way_do_not_prolong_it() {
        let mut circuit = opened();
        circuit.failed(at(9), None);
        assert_eq!(circuit.permit(at(9)), Permit::NotBefore(at(30)));
    }

    #[test]
    fn an_endpoint_that_asks_to_be_left_alone_is() {
        let mut circuit = Circuit::default();
        circuit.begin();
        circuit.failed(at(0), Some(at(600)));
        assert_eq!(circuit.permit(at(599)), Permit::NotBefore(at(600)));
        circuit.failed(at(1), None);
        assert_eq!(circuit.permit(at(599)), Permit::NotBefore(at(600)));
        assert_eq!(circuit.permit(at(600)), Permit::Go);
    }

    #[test]
    fn a_probe_that_was_not_made_leaves_it_to_another() {
        let mut circuit = opened();
        circuit.begin();
        circuit.abandoned();
        assert_eq!(circuit.permit(at(30)), Permit::Go);
    }

    #[test]
    fn what_is_long_past_is_forgotten() {
        let circuit = opened();
        assert!(!circuit.is_forgotten(at(5 * 3_600)));
        assert!(circuit.is_forgotten(at(5 * 3_600 + 1)));
        assert!(Circuit::default().is_forgotten(at(0)));
    }
}
