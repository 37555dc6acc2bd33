//! State of a partner that all processes of a database share: one row. Pure.

use crate::sync::PartnerLengths;
use chrono::{DateTime, TimeDelta, Utc};
use px_core::circuit::{Circuit, CircuitSettings};
use px_types::InstitutionId;
use serde::{Deserialize, Serialize};

/// Time after which the refusal of a window length is forgotten, since partners change.
const REFUSAL_RETENTION: TimeDelta = TimeDelta::days(7);

/// Shared state of a partner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct PartnerState {
    /// Number of changes. The higher version of two copies is the later one.
    pub version: u64,
    /// Circuit breaker of the partner.
    pub circuit: Circuit,
    lengths: PartnerLengths,
    /// Time at which a window was first refused for its length.
    refused_at: Option<DateTime<Utc>>,
    /// Time at which the tokens of one of its Items were last refreshed, to the hour.
    refreshed_at: Option<DateTime<Utc>>,
}

/// Minimum interval between two recorded refreshes of a partner's Items.
const REFRESH_RECORD_INTERVAL: TimeDelta = TimeDelta::hours(1);

impl PartnerState {
    /// Returns the window lengths that the partner serves. A refusal counts for a week.
    #[must_use]
    pub fn lengths(&self, now: DateTime<Utc>) -> PartnerLengths {
        match self.refused_at {
            Some(at) if now - at >= REFUSAL_RETENTION => PartnerLengths::default(),
            _ => self.lengths,
        }
    }

    /// Returns when the tokens of one of its Items were last refreshed, to the hour.
    #[must_use]
    pub fn refreshed_at(&self) -> Option<DateTime<Utc>> {
        self.refreshed_at
    }

    /// Returns whether a refresh that succeeded now is worth recording.
    pub(crate) fn records_refresh(&self, now: DateTime<Utc>) -> bool {
        self.refreshed_at.is_none_or(|at| now - at >= REFRESH_RECORD_INTERVAL)
    }

    /// Changes the state. Returns whether the process may probe the partner, if it requested that.
    pub fn apply(&mut self, update: &PartnerUpdate) -> bool {
        let before = *self;
        let may_probe = match update.event {
            PartnerEvent::Responded => {
                self.circuit.responded();
                false
            }
            PartnerEvent::Failed { retry_at, probe } => {
                self.circuit.failed(&update.circuit, update.now, retry_at, probe);
                false
            }
            PartnerEvent::Probe { until } => self.circuit.probe(update.now, until),
            PartnerEvent::ProbeLost => {
                self.circuit.probe_lost();
                false
            }
            PartnerEvent::Learned(lengths) => {
                self.learn(lengths, update.now);
                false
            }
            PartnerEvent::Refreshed => {
                self.refreshed_at = self.refreshed_at.max(Some(update.now));
                false
            }
        };
        if *self != before {
            self.version = before.version.saturating_add(1);
        }
        may_probe
    }

    fn learn(&mut self, lengths: PartnerLengths, now: DateTime<Utc>) {
        let known = self.lengths(now);
        self.lengths = known.and(lengths);
        let refused_at = if known.is_limited() { self.refused_at } else { Some(now) };
        self.refused_at = refused_at.filter(|_| self.lengths.is_limited());
    }
}

/// Observation of a process about a partner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartnerEvent {
    /// The partner responded, successfully or not.
    Responded,
    /// The partner failed.
    Failed {
        /// Earliest time at which it wants to be called again.
        retry_at: Option<DateTime<Utc>>,
        /// Whether the call was the probe of an open circuit.
        probe: bool,
    },
    /// The process requests the probe of an open circuit.
    Probe {
        /// Time after which another process may probe if the probe has no outcome.
        until: DateTime<Utc>,
    },
    /// The probe ended without a response or a failure of the partner.
    ProbeLost,
    /// Window lengths that the partner served or refused.
    Learned(PartnerLengths),
    /// The partner refreshed the tokens of an Item.
    Refreshed,
}

/// Update of the state of a partner.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartnerUpdate {
    /// Partner.
    pub institution_id: InstitutionId,
    /// Observation.
    pub event: PartnerEvent,
    /// Settings of the circuit breaker.
    pub circuit: CircuitSettings,
    /// Current time.
    pub now: DateTime<Utc>,
}

impl PartnerUpdate {
    /// Creates an update with the default circuit settings.
    #[must_use]
    pub fn new(institution_id: InstitutionId, event: PartnerEvent, now: DateTime<Utc>) -> Self {
        Self { institution_id, event, circuit: CircuitSettings::default(), now }
    }
}

/// State of a partner after an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartnerUpdated {
    /// New state.
    pub state: PartnerState,
    /// Whether the process may probe the partner, if it requested that.
    pub may_probe: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use px_client::Window;
    use px_types::Date;

    fn day(day: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(day)
    }

    fn refused(days: u64) -> PartnerLengths {
        let end = Date::from_ymd(2026, 11, 23).unwrap();
        let mut lengths = crate::sync::Lengths::new(90, PartnerLengths::default());
        lengths.refuse(Window::new(end.minus_days(days - 1), end).unwrap());
        lengths.partner()
    }

    fn learn(state: &mut PartnerState, lengths: PartnerLengths, at: i64) {
        let event = PartnerEvent::Learned(lengths);
        let update = PartnerUpdate::new(InstitutionId::new("bank").unwrap(), event, day(at));
        assert!(!state.apply(&update));
    }

    #[test]
    fn a_refused_length_is_remembered_for_a_week() {
        let mut state = PartnerState::default();
        learn(&mut state, PartnerLengths::default(), 0);
        assert_eq!(state.version, 0, "nothing was learned");
        learn(&mut state, refused(60), 1);
        learn(&mut state, refused(30), 5);
        learn(&mut state, refused(30), 6);
        assert_eq!(state.version, 2);
        assert_eq!(state.lengths(day(7)), refused(60).and(refused(30)));
        assert_eq!(state.lengths(day(8)), PartnerLengths::default(), "a week after the first");
        learn(&mut state, refused(40), 9);
        assert_eq!(state.lengths(day(15)), refused(40));
    }
}
