//! Circuit breaker of a partner that keeps failing. Pure.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// Settings of circuit breakers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CircuitSettings {
    /// Number of consecutive failures, over all Items and processes, that open a circuit. Default: 5.
    pub failures: u32,
    /// First time that the circuit stays open. Default: 30 seconds.
    pub open_time_min: TimeDelta,
    /// Maximum time that the circuit stays open. Each failed probe doubles the time. Default: 15
    /// minutes.
    pub open_time_max: TimeDelta,
}

impl Default for CircuitSettings {
    fn default() -> Self {
        Self {
            failures: 5,
            open_time_min: TimeDelta::seconds(30),
            open_time_max: TimeDelta::minutes(15),
        }
    }
}

/// Decision whether a partner may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It may be called.
    Open,
    /// It may be probed by one process ([`Circuit::probe`]).
    Due,
    /// It may not be called before then.
    Closed(DateTime<Utc>),
}

/// Circuit breaker of one partner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Circuit {
    /// Consecutive failures.
    failures: u32,
    open: Option<OpenCircuit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct OpenCircuit {
    until: DateTime<Utc>,
    pause_millis: i64,
    /// A process probes the partner until then.
    #[serde(default)]
    probed_until: Option<DateTime<Utc>>,
}

impl Circuit {
    /// Returns whether the partner keeps failing.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Returns whether nothing is recorded against the partner.
    pub(crate) fn is_clean(&self) -> bool {
        *self == Self::default()
    }

    /// Returns whether the partner may be called.
    pub(crate) fn admission(&self, now: DateTime<Utc>) -> Admission {
        match &self.open {
            None => Admission::Open,
            Some(open) if now < open.until => Admission::Closed(open.until),
            Some(open) => match open.probed_until {
                Some(until) if now < until => Admission::Closed(until),
                _ => Admission::Due,
            },
        }
    }

    /// Lets one process probe the partner until a moment. Returns `false` if another one does or
    /// it is too early.
    pub(crate) fn probe(&mut self, now: DateTime<Utc>, until: DateTime<Utc>) -> bool {
        let due = self.admission(now) == Admission::Due;
        if due && let Some(open) = &mut self.open {
            open.probed_until = Some(until);
        }
        due
    }

    /// Records a response of the partner, successful or not.
    pub(crate) fn responded(&mut self) {
        *self = Self::default();
    }

    /// Records a failure. `retry_at` is the earliest time at which the partner wants to be called.
    pub(crate) fn failed(
        &mut self,
        settings: &CircuitSettings,
        now: DateTime<Utc>,
        retry_at: Option<DateTime<Utc>>,
        probe: bool,
    ) {
        self.failures = self.failures.saturating_add(1);
        let pause = match &self.open {
            Some(open) if probe => {
                (TimeDelta::milliseconds(open.pause_millis) * 2).min(settings.open_time_max)
            }
            // A call that began before the circuit opened adds no information.
            Some(_) => return,
            None if self.failures >= settings.failures => settings.open_time_min,
            None => return,
        };
        let requested = retry_at.map_or(now, |at| at.min(now + settings.open_time_max));
        self.open = Some(OpenCircuit {
            until: requested.max(now + pause),
            pause_millis: pause.num_milliseconds(),
            probed_until: None,
        });
    }

    /// Records that a probe ended without a response or a failure of the partner. Another one may
    /// follow.
    pub(crate) fn probe_lost(&mut self) {
        if let Some(open) = &mut self.open {
            open.probed_until = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    #[test]
    fn it_opens_is_probed_by_one_and_closes() {
        let settings = CircuitSettings::default();
        let mut circuit = Circuit::default();
        for _ in 0..4 {
            circuit.failed(&settings, at(0), None, false);
            assert_eq!(circuit.admission(at(0)), Admission::Open);
        }
        circuit.failed(&settings, at(0), None, false);
        assert_eq!(circuit.admission(at(29)), Admission::Closed(at(30)));
        assert!(!circuit.probe(at(29), at(49)), "too early");
        assert_eq!(circuit.admission(at(30)), Admission::Due);
        assert!(circuit.probe(at(30), at(50)));
        assert!(!circuit.probe(at(30), at(50)), "one probe at a time");
        assert_eq!(circuit.admission(at(30)), Admission::Closed(at(50)));
        circuit.failed(&settings, at(31), None, false);
        circuit.failed(&settings, at(31), None, true);
        assert_eq!(circuit.admission(at(90)), Admission::Closed(at(91)), "twice the pause");
        assert!(circuit.probe(at(91), at(111)));
        circuit.probe_lost();
        assert!(circuit.probe(at(91), at(111)));
        assert!(circuit.probe(at(111), at(131)), "the process that probed it is gone");
        circuit.responded();
        assert_eq!(circuit.admission(at(91)), Admission::Open);
    }

    #[test]
    fn a_response_between_failures_keeps_it_closed() {
        let settings = CircuitSettings::default();
        let mut circuit = Circuit::default();
        for _ in 0..20 {
            circuit.failed(&settings, at(0), None, false);
            circuit.responded();
        }
        assert_eq!(circuit.admission(at(0)), Admission::Open);
    }

    #[test]
    fn what_the_partner_asks_for_is_kept_to_a_limit() {
        let settings = CircuitSettings::default();
        let mut circuit = Circuit::default();
        for _ in 0..5 {
            circuit.failed(&settings, at(0), Some(at(600)), false);
        }
        assert_eq!(circuit.admission(at(599)), Admission::Closed(at(600)));
        circuit = Circuit::default();
        for _ in 0..5 {
            circuit.failed(&settings, at(0), Some(at(1_000_000)), false);
        }
        assert_eq!(circuit.admission(at(899)), Admission::Closed(at(900)));
    }
}
