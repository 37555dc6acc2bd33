//! How much each partner is called by this process: its budget and its circuit.

use super::circuit::{Circuit, CircuitSettings, Word};
use crate::{
    metrics,
    partners::{Budget, Partner},
    random::Random,
    schedule::between,
    sync::PartnerLengths,
};
use chrono::{DateTime, TimeDelta, Utc};
use px_client::clock::Clock;
use px_types::InstitutionId;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// How late an Item is put off that its partner has no room for now.
const CROWDED: (TimeDelta, TimeDelta) = (TimeDelta::seconds(1), TimeDelta::seconds(10));
/// Over how long Items are spread once a circuit may be probed.
const SPREAD: TimeDelta = TimeDelta::seconds(60);

/// The gates of all partners.
#[derive(Debug)]
pub(super) struct Gates {
    settings: CircuitSettings,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    all: Mutex<BTreeMap<InstitutionId, Gate>>,
}

#[derive(Debug, Default)]
struct Gate {
    working: usize,
    circuit: Circuit,
    lengths: PartnerLengths,
    /// When the next request would be on time, by the clock's `elapsed`.
    next_request: Duration,
}

/// Leave to work on one Item of a partner; given back when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    gates: Arc<Gates>,
    institution: InstitutionId,
    probe: bool,
    settled: bool,
}

impl Gates {
    pub(super) fn new(
        settings: CircuitSettings,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Arc<Self> {
        Arc::new(Self { settings, clock, random, all: Mutex::default() })
    }

    /// Asks for leave to work on an Item.
    ///
    /// # Errors
    /// When to come again instead.
    pub(super) fn enter(
        self: &Arc<Self>,
        institution: &InstitutionId,
        budget: &Budget,
    ) -> Result<Permit, DateTime<Utc>> {
        let now = self.clock.now();
        let mut all = self.lock();
        let gate = all.entry(institution.clone()).or_default();
        if gate.working >= budget.at_once.max(1) {
            return Err(now + between(CROWDED.0, CROWDED.1, &*self.random));
        }
        let probe = match gate.circuit.ask(&self.settings, now) {
            Word::Go => false,
            Word::Probe => true,
            Word::Wait(until) => {
                return Err(until + between(TimeDelta::zero(), SPREAD, &*self.random));
            }
        };
        gate.working += 1;
        drop(all);
        Ok(self.permit(institution, probe))
    }

    /// Leave for an Item that someone waits for, whatever the budget and the circuit say.
    pub(super) fn enter_anyway(self: &Arc<Self>, institution: &InstitutionId) -> Permit {
        self.lock().entry(institution.clone()).or_default().working += 1;
        self.permit(institution, false)
    }

    /// Waits until one more request is within the budget.
    ///
    /// As many requests as Items may be worked on at once may follow each other without a wait.
    pub(super) async fn request(&self, institution: &InstitutionId, budget: &Budget) {
        let interval = Duration::from_secs(1) / budget.per_second.max(1);
        let burst = u32::try_from(budget.at_once.max(1)).unwrap_or(u32::MAX) - 1;
        let ahead = interval.saturating_mul(burst);
        let wait = {
            let now = self.clock.elapsed();
            let mut all = self.lock();
            let gate = all.entry(institution.clone()).or_default();
            let on_time = gate.next_request.max(now);
            gate.next_request = on_time + interval;
            on_time.saturating_sub(now + ahead)
        };
        if !wait.is_zero() {
            self.clock.sleep(wait).await;
        }
    }

    pub(super) fn lengths(&self, institution: &InstitutionId) -> PartnerLengths {
        self.lock().entry(institution.clone()).or_default().lengths
    }

    pub(super) fn learn(&self, institution: &InstitutionId, lengths: PartnerLengths) {
        let mut all = self.lock();
        let gate = all.entry(institution.clone()).or_default();
        gate.lengths = gate.lengths.and(lengths);
    }

    fn permit(self: &Arc<Self>, institution: &InstitutionId, probe: bool) -> Permit {
        let institution = institution.clone();
        Permit { gates: Arc::clone(self), institution, probe, settled: false }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<InstitutionId, Gate>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// The partner answered.
    pub(super) fn alive(mut self) {
        self.settled = true;
        self.tell(|circuit, _, _| circuit.alive());
    }

    /// The partner failed.
    pub(super) fn down(mut self, retry_at: Option<DateTime<Utc>>) {
        self.settled = true;
        let probe = self.probe;
        self.tell(|circuit, settings, now| circuit.down(settings, now, retry_at, probe));
    }

    fn tell(&self, change: impl FnOnce(&mut Circuit, &CircuitSettings, DateTime<Utc>)) {
        let mut all = self.gates.lock();
        let gate = all.entry(self.institution.clone()).or_default();
        let was_open = gate.circuit.is_open();
        change(&mut gate.circuit, &self.gates.settings, self.gates.clock.now());
        let is_open = gate.circuit.is_open();
        if was_open != is_open {
            drop(all);
            metrics::circuit(&self.institution, is_open);
            match is_open {
                true => tracing::warn!(
                    institution = %self.institution,
                    "a partner keeps failing: its Items wait, one of them probes it"
                ),
                false => tracing::info!(institution = %self.institution, "a partner is back"),
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut all = self.gates.lock();
        let gate = all.entry(self.institution.clone()).or_default();
        gate.working = gate.working.saturating_sub(1);
        if self.probe && !self.settled {
            gate.circuit.probe_lost();
        }
    }
}

/// A partner with its gate.
#[derive(Clone, Debug)]
pub(super) struct Gated {
    pub(super) partner: Partner,
    pub(super) institution: InstitutionId,
    pub(super) gates: Arc<Gates>,
}

impl Gated {
    /// Waits until one more request is within the budget.
    pub(super) async fn request(&self) {
        self.gates.request(&self.institution, &self.partner.budget).await;
    }
}
