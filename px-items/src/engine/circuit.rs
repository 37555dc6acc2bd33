//! Whether a partner is called at all: a circuit that opens when it keeps failing. Pure.

use chrono::{DateTime, TimeDelta, Utc};

/// The figures of a circuit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CircuitSettings {
    /// So many failures one after the other, over all Items, open it. Default: 5.
    pub failures: u32,
    /// How long it is open at first. Default: 30 seconds.
    pub first_pause: TimeDelta,
    /// How long at most; each failed probe doubles the pause. Default: 15 minutes.
    pub longest_pause: TimeDelta,
}

impl Default for CircuitSettings {
    fn default() -> Self {
        Self {
            failures: 5,
            first_pause: TimeDelta::seconds(30),
            longest_pause: TimeDelta::minutes(15),
        }
    }
}

/// What the circuit says to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Go,
    /// Go, and say whether it worked: others wait for that.
    Probe,
    /// Not before then.
    Wait(DateTime<Utc>),
}

/// The circuit of one partner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Circuit {
    /// Failures one after the other.
    failures: u32,
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Open {
    until: DateTime<Utc>,
    pause: TimeDelta,
    probing: bool,
}

impl Circuit {
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Asks whether the partner may be called.
    pub(super) fn ask(&mut self, settings: &CircuitSettings, now: DateTime<Utc>) -> Word {
        match &mut self.open {
            None => Word::Go,
            Some(open) if now < open.until => Word::Wait(open.until),
            Some(open) if open.probing => Word::Wait(now + settings.first_pause),
            Some(open) => {
                open.probing = true;
                Word::Probe
            }
        }
    }

    /// The partner answered, well or not.
    pub(super) fn alive(&mut self) {
        *self = Self::default();
    }

    /// The partner failed; `retry_at` is when it wants to be called again.
    pub(super) fn down(
        &mut self,
        settings: &CircuitSettings,
        now: DateTime<Utc>,
        retry_at: Option<DateTime<Utc>>,
        probe: bool,
    ) {
        self.failures = self.failures.saturating_add(1);
        let pause = match &self.open {
            Some(open) if probe => (open.pause * 2).min(settings.longest_pause),
            // A call that began before it opened says nothing new.
            Some(_) => return,
            None if self.failures >= settings.failures => settings.first_pause,
            None => return,
        };
        let asked = retry_at.map_or(now, |at| at.min(now + settings.longest_pause));
        self.open = Some(Open { until: asked.max(now + pause), pause, probing: false });
    }

    /// The probe ended without a word about the partner: another one may follow.
    pub(super) fn probe_lost(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = false;
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
            circuit.down(&settings, at(0), None, false);
            assert_eq!(circuit.ask(&settings, at(0)), Word::Go);
        }
        circuit.down(&settings, at(0), None, false);
        assert_eq!(circuit.ask(&settings, at(29)), Word::Wait(at(30)));
        assert_eq!(circuit.ask(&settings, at(30)), Word::Probe);
        assert_eq!(circuit.ask(&settings, at(30)), Word::Wait(at(60)), "one probe at a time");
        circuit.down(&settings, at(31), None, false);
        circuit.down(&settings, at(31), None, true);
        assert_eq!(circuit.ask(&settings, at(90)), Word::Wait(at(91)), "twice the pause");
        assert_eq!(circuit.ask(&settings, at(91)), Word::Probe);
        circuit.probe_lost();
        assert_eq!(circuit.ask(&settings, at(91)), Word::Probe);
        circuit.alive();
        assert_eq!(circuit.ask(&settings, at(91)), Word::Go);
    }

    #[test]
    fn an_answer_between_failures_keeps_it_closed() {
        let settings = CircuitSettings::default();
        let mut circuit = Circuit::default();
        for _ in 0..20 {
            circuit.down(&settings, at(0), None, false);
            circuit.alive();
        }
        assert_eq!(circuit.ask(&settings, at(0)), Word::Go);
    }

    #[test]
    fn what_the_partner_asks_for_is_kept_to_a_limit() {
        let settings = CircuitSettings::default();
        let mut circuit = Circuit::default();
        for _ in 0..5 {
            circuit.down(&settings, at(0), Some(at(600)), false);
        }
        assert_eq!(circuit.ask(&settings, at(599)), Word::Wait(at(600)));
        circuit = Circuit::default();
        for _ in 0..5 {
            circuit.down(&settings, at(0), Some(at(1_000_000)), false);
        }
        assert_eq!(circuit.ask(&settings, at(899)), Word::Wait(at(900)));
    }
}
