//! Circuit breaker: nothing is called for a while after it keeps failing, and then one call probes it.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// Settings of a [`Circuit`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CircuitSettings {
    /// Number of consecutive failures that open the circuit. Default: 5.
    pub failures: u32,
    /// First time that the circuit stays open. Default: 30 seconds.
    pub open_time_min: TimeDelta,
    /// Maximum time that the circuit stays open. Each failed probe doubles the time. Default: 15
    /// minutes.
    pub open_time_max: TimeDelta,
    /// Maximum time for which a failed call can keep the circuit open by its `Retry-After`. Default: 15
    /// minutes.
    pub max_retry_after: TimeDelta,
    /// Whether one failed call with a `Retry-After` opens the circuit, or prolongs it. Otherwise
    /// `Retry-After` counts only with the failure that opens the circuit. Default: `false`.
    pub opens_on_retry_after: bool,
}

impl Default for CircuitSettings {
    fn default() -> Self {
        Self {
            failures: 5,
            open_time_min: TimeDelta::seconds(30),
            open_time_max: TimeDelta::minutes(15),
            max_retry_after: TimeDelta::minutes(15),
            opens_on_retry_after: false,
        }
    }
}

/// Decision of a [`Circuit`] about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The call may be made.
    Allowed,
    /// One call may be made as a [probe](Circuit::probe).
    ProbeDue,
    /// A probe is under way. Its outcome decides; another probe may follow at that time.
    Probing(DateTime<Utc>),
    /// No call may be made before that time.
    NotBefore(DateTime<Utc>),
}

/// A circuit breaker. It performs no I/O: the caller passes the time.
///
/// ```
/// use chrono::{DateTime, TimeDelta};
/// use px_core::circuit::{Admission, Circuit, CircuitSettings};
///
/// let (settings, mut circuit) = (CircuitSettings::default(), Circuit::default());
/// let now = DateTime::UNIX_EPOCH;
/// for _ in 0..5 {
///     circuit.failed(&settings, now, None, false);
/// }
/// let later = now + TimeDelta::seconds(30);
/// assert_eq!(circuit.admission(now), Admission::NotBefore(later));
/// assert_eq!(circuit.admission(later), Admission::ProbeDue);
/// assert!(circuit.probe(later, later + TimeDelta::seconds(10)));
/// circuit.responded();
/// assert_eq!(circuit.admission(later), Admission::Allowed);
/// ```
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
    /// A call probes until then.
    #[serde(default)]
    probed_until: Option<DateTime<Utc>>,
}

impl Circuit {
    /// Returns whether the circuit is open: the last calls failed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Returns whether no failure is recorded.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }

    /// Returns whether a call may be made now.
    #[must_use]
    pub fn admission(&self, now: DateTime<Utc>) -> Admission {
        match &self.open {
            None => Admission::Allowed,
            Some(open) if now < open.until => Admission::NotBefore(open.until),
            Some(open) => match open.probed_until {
                Some(until) if now < until => Admission::Probing(until),
                _ => Admission::ProbeDue,
            },
        }
    }

    /// Begins a probe. Another one may follow at `until` if this one has no outcome by then. Returns
    /// `false` if no probe is due.
    pub fn probe(&mut self, now: DateTime<Utc>, until: DateTime<Utc>) -> bool {
        let due = self.admission(now) == Admission::ProbeDue;
        if due && let Some(open) = &mut self.open {
            open.probed_until = Some(until);
        }
        due
    }

    /// Records a response, which closes the circuit.
    pub fn responded(&mut self) {
        *self = Self::default();
    }

    /// Records a failed call. `retry_at` is the earliest time at which the other side wants to be
    /// called, and `probe` says whether the call was the probe.
    pub fn failed(
        &mut self,
        settings: &CircuitSettings,
        now: DateTime<Utc>,
        retry_at: Option<DateTime<Utc>>,
        probe: bool,
    ) {
        self.failures = self.failures.saturating_add(1);
        let requested = retry_at.map(|at| at.min(now + settings.max_retry_after));
        let opens_by_request = settings.opens_on_retry_after && requested.is_some();
        let pause = match &mut self.open {
            Some(open) if probe => {
                (TimeDelta::milliseconds(open.pause_millis) * 2).min(settings.open_time_max)
            }
            // A call that began before the circuit opened says nothing about the time since.
            Some(open) => {
                let requested = requested.filter(|_| opens_by_request);
                open.until = open.until.max(requested.unwrap_or(open.until));
                return;
            }
            None if self.failures >= settings.failures || opens_by_request => {
                settings.open_time_min
            }
            None => return,
        };
        self.open = Some(OpenCircuit {
            until: (now + pause).max(requested.unwrap_or(now)),
            pause_millis: pause.num_milliseconds(),
            probed_until: None,
        });
    }

    /// Records that a probe ended without an outcome. Another one may follow at once.
    pub fn probe_lost(&mut self) {
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

    fn opened(settings: &CircuitSettings) -> Circuit {
        let mut circuit = Circuit::default();
        for _ in 0..settings.failures {
            assert_eq!(circuit.admission(at(0)), Admission::Allowed);
            circuit.failed(settings, at(0), None, false);
        }
        circuit
    }

    #[test]
    fn it_opens_is_probed_by_one_and_closes() {
        let settings = CircuitSettings::default();
        let mut circuit = opened(&settings);
        assert_eq!(circuit.admission(at(29)), Admission::NotBefore(at(30)));
        assert!(!circuit.probe(at(29), at(49)), "too early");
        assert_eq!(circuit.admission(at(30)), Admission::ProbeDue);
        assert!(circuit.probe(at(30), at(50)));
        assert!(!circuit.probe(at(30), at(50)), "one probe at a time");
        assert_eq!(circuit.admission(at(30)), Admission::Probing(at(50)));
        circuit.failed(&settings, at(31), None, false);
        assert_eq!(circuit.admission(at(31)), Admission::Probing(at(50)), "not the probe");
        circuit.failed(&settings, at(31), None, true);
        assert_eq!(circuit.admission(at(90)), Admission::NotBefore(at(91)), "twice the pause");
        assert!(circuit.probe(at(91), at(111)));
        circuit.probe_lost();
        assert!(circuit.probe(at(91), at(111)));
        assert!(circuit.probe(at(111), at(131)), "the probe had no outcome");
        circuit.responded();
        assert!(circuit.is_clean());
        assert_eq!(circuit.admission(at(91)), Admission::Allowed);
    }

    #[test]
    fn a_response_between_failures_keeps_it_closed() {
        let settings = CircuitSettings::default();
        let mut circuit = Circuit::default();
        for n in 1..40 {
            if n % 5 == 0 {
                circuit.responded();
            } else {
                circuit.failed(&settings, at(n), None, false);
            }
            assert_eq!(circuit.admission(at(n)), Admission::Allowed);
        }
    }

    #[test]
    fn each_probe_that_fails_doubles_the_time_up_to_a_limit() {
        let settings = CircuitSettings::default();
        let mut circuit = opened(&settings);
        let (mut now, mut waits) = (at(30), Vec::new());
        for _ in 0..8 {
            assert!(circuit.probe(now, now + TimeDelta::seconds(10)));
            circuit.failed(&settings, now, None, true);
            let Admission::NotBefore(until) = circuit.admission(now) else { panic!("it is open") };
            waits.push((until - now).num_seconds());
            now = until;
        }
        assert_eq!(waits, [60, 120, 240, 480, 900, 900, 900, 900]);
    }

    #[test]
    fn calls_that_began_before_do_not_prolong_it() {
        let settings = CircuitSettings::default();
        let mut circuit = opened(&settings);
        circuit.failed(&settings, at(9), Some(at(600)), false);
        assert_eq!(circuit.admission(at(9)), Admission::NotBefore(at(30)));
    }

    #[test]
    fn a_retry_after_counts_with_the_failure_that_opens_it_and_up_to_a_limit() {
        let settings = CircuitSettings::default();
        for (requested, until) in [(600, 600), (1_000_000, 900)] {
            let mut circuit = Circuit::default();
            for _ in 0..5 {
                assert_eq!(circuit.admission(at(0)), Admission::Allowed);
                circuit.failed(&settings, at(0), Some(at(requested)), false);
            }
            assert_eq!(circuit.admission(at(0)), Admission::NotBefore(at(until)));
        }
    }

    #[test]
    fn a_retry_after_can_open_and_prolong_it() {
        let settings = CircuitSettings { opens_on_retry_after: true, ..CircuitSettings::default() };
        let mut circuit = Circuit::default();
        circuit.failed(&settings, at(0), Some(at(600)), false);
        assert_eq!(circuit.admission(at(599)), Admission::NotBefore(at(600)));
        circuit.failed(&settings, at(1), None, false);
        circuit.failed(&settings, at(2), Some(at(500)), false);
        assert_eq!(circuit.admission(at(599)), Admission::NotBefore(at(600)));
        circuit.failed(&settings, at(3), Some(at(700)), false);
        assert_eq!(circuit.admission(at(699)), Admission::NotBefore(at(700)));
        assert_eq!(circuit.admission(at(700)), Admission::ProbeDue);
    }
}
