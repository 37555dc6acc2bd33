//! How much each partner is called by this process: its budget and its circuit.

use super::circuit::{Circuit, CircuitSettings, Word};
use crate::{
    metrics,
    partners::{Budget, Partner},
    schedule::between,
    store::{PermitLease, Store},
    sync::PartnerLengths,
};
use chrono::{DateTime, TimeDelta, Utc};
use px_core::{Clock, Random};
use px_types::InstitutionId;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// How late an Item is put off at least that its partner has no room for now.
const SOONEST: TimeDelta = TimeDelta::seconds(1);
/// How long work on an Item is thought to take before any ended.
const UNKNOWN: TimeDelta = TimeDelta::seconds(1);
/// So many Items are given the time in which one ends. Who comes a moment too late must not leave
/// the partner idle; who comes too early goes to the end of the queue.
const DENSITY: usize = 2;
/// Time after which a share of the rate limit is computed again while other processes hold permits.
const SHARED_FOR: TimeDelta = TimeDelta::seconds(2);
/// Maximum number of permits in the computation of a share.
const MAX_SHARE: usize = 10_000;
/// Over how long Items are spread once a circuit may be probed.
const SPREAD: TimeDelta = TimeDelta::seconds(60);

/// The gates of all partners.
#[derive(Debug)]
pub(super) struct Gates {
    settings: CircuitSettings,
    /// How late an Item is put off at most for want of room.
    latest: TimeDelta,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    permits: Permits,
    all: Mutex<BTreeMap<InstitutionId, Gate>>,
}

/// Leases permits in the store: they count over all processes of its database.
#[derive(Debug)]
pub(super) struct Permits {
    store: Arc<dyn Store>,
    holder: String,
    lease: TimeDelta,
    turn: tokio::sync::Mutex<()>,
}

impl Permits {
    pub(super) fn new(store: Arc<dyn Store>, random: &dyn Random, lease: Duration) -> Self {
        let lease = TimeDelta::from_std(lease).unwrap_or(TimeDelta::MAX);
        let holder = px_core::random::identifier(random);
        Self { store, holder, lease, turn: tokio::sync::Mutex::new(()) }
    }
}

#[derive(Debug, Default)]
struct Gate {
    working: usize,
    /// Permits that this process has leased, the end of their lease, and permits of other processes.
    held: usize,
    held_until: DateTime<Utc>,
    others: usize,
    /// Maximum number in use since unused permits were last given back.
    peak: usize,
    /// Permits over all processes.
    at_once: usize,
    /// Time of the latest lease.
    leased_at: DateTime<Utc>,
    circuit: Circuit,
    lengths: PartnerLengths,
    /// When the next request would be on time, by the clock's `elapsed`.
    next_request: Duration,
    /// How long work on an Item takes.
    took: Option<TimeDelta>,
    /// The end of the queue of those that are put off for want of room.
    queued_until: DateTime<Utc>,
}

/// Why an Item is not worked on now, and when to come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PutOff {
    /// As many of its partner's Items as it bears are being worked on.
    Crowded(DateTime<Utc>),
    /// Its partner keeps failing.
    Failing(DateTime<Utc>),
}

impl PutOff {
    pub(super) fn until(self) -> DateTime<Utc> {
        let (Self::Crowded(until) | Self::Failing(until)) = self;
        until
    }
}

/// Leave to work on one Item of a partner; given back when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    gates: Arc<Gates>,
    institution: InstitutionId,
    begun: DateTime<Utc>,
    probe: bool,
    settled: bool,
}

impl Gates {
    pub(super) fn new(
        settings: CircuitSettings,
        latest: TimeDelta,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        permits: Permits,
    ) -> Arc<Self> {
        Arc::new(Self { settings, latest, clock, random, permits, all: Mutex::default() })
    }

    /// Leases permits for `more` Items of a partner, unless this process holds enough of them.
    pub(super) async fn prepare(&self, institution: &InstitutionId, budget: &Budget, more: usize) {
        let at_once = budget.at_once.max(1);
        let wanted = {
            let now = self.clock.now();
            let mut all = self.lock();
            let gate = all.entry(institution.clone()).or_default();
            gate.at_once = at_once;
            let held = gate.usable(now);
            let wanted = (gate.working + more).min(at_once);
            if wanted <= held {
                return;
            }
            wanted
        };
        self.lease(institution, wanted, at_once).await;
    }

    async fn lease(&self, institution: &InstitutionId, wanted: usize, at_once: usize) {
        let permits = &self.permits;
        // One call at a time, so that the results are recorded in the order of the store.
        let _turn = permits.turn.lock().await;
        let now = self.clock.now();
        let wanted = {
            let mut all = self.lock();
            let gate = all.entry(institution.clone()).or_default();
            // Permits in use are not given back; permits to be given back are not used from now on.
            let wanted = if wanted == 0 { 0 } else { wanted.max(gate.working).min(at_once) };
            gate.held = gate.held.min(wanted);
            wanted
        };
        let small = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let count = (small(wanted), small(at_once));
        let until = now + permits.lease;
        let lease = PermitLease::new(institution.clone(), &*permits.holder, count, now, until);
        let share = permits.store.lease_permits(&lease).await;
        let mut all = self.lock();
        let gate = all.entry(institution.clone()).or_default();
        match share {
            Ok(share) => {
                let large = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
                (gate.held, gate.others) = (large(share.granted), large(share.others));
                (gate.held_until, gate.leased_at) = (until, now);
            }
            // The permits stay with this process until their lease ends.
            Err(error) => tracing::warn!(%institution, %error, "permits could not be leased"),
        }
    }

    /// Renews the permits in use and gives back the others; never returns.
    pub(super) async fn keep_permits(&self, every: Duration) {
        loop {
            self.clock.sleep(every).await;
            // Under a clock that never waits, the work goes on nevertheless.
            tokio::task::yield_now().await;
            let now = self.clock.now();
            let due: Vec<_> = {
                let mut all = self.lock();
                let held = all.iter_mut().filter(|(_, gate)| gate.held > 0);
                let due = held.filter_map(|(institution, gate)| {
                    let wanted = gate.peak.max(gate.working).min(gate.at_once);
                    gate.peak = gate.working;
                    let age = now - gate.leased_at;
                    let shared = gate.others > 0 && age >= SHARED_FOR;
                    let due = wanted < gate.held || shared || age >= self.permits.lease / 3;
                    due.then(|| (institution.clone(), wanted, gate.at_once))
                });
                due.collect()
            };
            for (institution, wanted, at_once) in due {
                self.lease(&institution, wanted, at_once).await;
            }
        }
    }

    /// Renews the permits of a partner that are in use, once a third of their lease has passed.
    pub(super) async fn prolong_permits(&self, institution: &InstitutionId) {
        let due = {
            let now = self.clock.now();
            let mut all = self.lock();
            let gate = all.entry(institution.clone()).or_default();
            let due = gate.held > 0 && now - gate.leased_at >= self.permits.lease / 3;
            due.then(|| (gate.working.min(gate.at_once).max(1), gate.at_once))
        };
        if let Some((wanted, at_once)) = due {
            self.lease(institution, wanted, at_once).await;
        }
    }

    /// Gives all permits back.
    pub(super) async fn release_permits(&self) {
        let held: Vec<_> = {
            let all = self.lock();
            let held = all.iter().filter(|(_, gate)| gate.held > 0);
            held.map(|(institution, gate)| (institution.clone(), gate.at_once)).collect()
        };
        for (institution, at_once) in held {
            self.lease(&institution, 0, at_once).await;
        }
    }

    /// Asks for leave to work on an Item.
    ///
    /// # Errors
    /// When to come again instead.
    pub(super) fn enter(
        self: &Arc<Self>,
        institution: &InstitutionId,
        budget: &Budget,
    ) -> Result<Permit, PutOff> {
        let now = self.clock.now();
        let mut all = self.lock();
        let gate = all.entry(institution.clone()).or_default();
        if gate.working >= budget.at_once.max(1).min(gate.usable(now)) {
            let until = gate.queue((budget, self.latest), now, &*self.random);
            return Err(PutOff::Crowded(until));
        }
        let probe = match gate.circuit.ask(&self.settings, now) {
            Word::Go => false,
            Word::Probe => true,
            Word::Wait(until) => {
                let until = until + between(TimeDelta::zero(), SPREAD, &*self.random);
                return Err(PutOff::Failing(until));
            }
        };
        gate.working += 1;
        gate.peak = gate.peak.max(gate.working);
        drop(all);
        Ok(self.permit(institution, probe))
    }

    /// Admits the repetition of a refresh: past a crowd, but not past an open circuit.
    ///
    /// # Errors
    /// When to try again instead.
    pub(super) fn enter_to_refresh(
        self: &Arc<Self>,
        institution: &InstitutionId,
    ) -> Result<Permit, PutOff> {
        let now = self.clock.now();
        let word =
            self.lock().entry(institution.clone()).or_default().circuit.ask(&self.settings, now);
        let probe = match word {
            Word::Go => false,
            Word::Probe => true,
            Word::Wait(until) => return Err(PutOff::Failing(until)),
        };
        self.lock().entry(institution.clone()).or_default().working += 1;
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
        let (held, all) = self.share(institution);
        let interval = Duration::from_secs(1) / budget.per_second.max(1) * all / held;
        let burst = u32::try_from(budget.at_once.max(1)).unwrap_or(u32::MAX) * held / all;
        let burst = burst.max(1) - 1;
        let ahead = interval.saturating_mul(burst);
        let wait = self.book(institution, interval).saturating_sub(self.clock.elapsed() + ahead);
        if !wait.is_zero() {
            self.clock.sleep(wait).await;
        }
    }

    /// The share of the partner's permits in use that this process holds, and of its rate limit.
    fn share(&self, institution: &InstitutionId) -> (u32, u32) {
        let mut all = self.lock();
        let gate = all.entry(institution.clone()).or_default();
        let small = |count: usize| u32::try_from(count.min(MAX_SHARE)).unwrap_or(1);
        let held = small(gate.held.max(1));
        (held, held + small(gate.others))
    }

    /// Books a request, and returns when it would be on time.
    fn book(&self, institution: &InstitutionId, interval: Duration) -> Duration {
        let now = self.clock.elapsed();
        let mut all = self.lock();
        let gate = all.entry(institution.clone()).or_default();
        let on_time = gate.next_request.max(now);
        gate.next_request = on_time + interval;
        on_time
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
        let begun = self.clock.now();
        Permit { gates: Arc::clone(self), institution, begun, probe, settled: false }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<InstitutionId, Gate>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate {
    /// Returns the number of permits that may be used.
    fn usable(&self, now: DateTime<Utc>) -> usize {
        if now < self.held_until { self.held } else { 0 }
    }

    /// Puts one more Item at the end of the queue: when its turn comes. So a crowd comes back one
    /// after the other, as fast as it is worked on, and not all of it again and again.
    fn queue(
        &mut self,
        (budget, latest): (&Budget, TimeDelta),
        now: DateTime<Utc>,
        random: &dyn Random,
    ) -> DateTime<Utc> {
        let places =
            |count: usize| i32::try_from(count.max(1).saturating_mul(DENSITY)).unwrap_or(i32::MAX);
        let apart = self.took.unwrap_or(UNKNOWN) / places(budget.at_once);
        // Work on an Item is one request at least.
        let requests = usize::try_from(budget.per_second).unwrap_or(usize::MAX);
        let apart = apart.max(TimeDelta::seconds(1) / places(requests));
        self.queued_until = self.queued_until.max(now + SOONEST) + apart;
        if self.queued_until - now <= latest {
            return self.queued_until;
        }
        // How long so many take is a guess, and they must not come all at once.
        self.queued_until = now + latest;
        now + between(latest / 2, latest, random)
    }

    /// Work on an Item ended that took so long.
    fn ended(&mut self, took: TimeDelta) {
        self.working = self.working.saturating_sub(1);
        let took = took.max(TimeDelta::milliseconds(1));
        self.took = Some(self.took.map_or(took, |before| (before * 3 + took) / 4));
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
        gate.ended(self.gates.clock.now() - self.begun);
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

    /// Counts one more request, and does not wait.
    pub(super) fn request_at_once(&self) {
        let interval = Duration::from_secs(1) / self.partner.budget.per_second.max(1);
        self.gates.book(&self.institution, interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use px_core::SeededRandom;

    const LATEST: TimeDelta = TimeDelta::minutes(10);

    fn at(millis: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::milliseconds(millis)
    }

    /// When so many come again that are put off at once, in milliseconds.
    fn queue(gate: &mut Gate, count: usize, now: DateTime<Utc>) -> Vec<i64> {
        let random = SeededRandom::new(1);
        let budget = Budget::default();
        let one = |_| gate.queue((&budget, LATEST), now, &random);
        (0..count).map(one).map(|until| (until - now).num_milliseconds()).collect()
    }

    #[test]
    fn those_put_off_come_one_after_the_other_as_fast_as_they_are_worked_on() {
        let mut gate = Gate { took: Some(TimeDelta::seconds(4)), ..Gate::default() };
        let waits = queue(&mut gate, 4, at(0));
        assert_eq!(waits, [1125, 1250, 1375, 1500], "two for each place");
        // The queue moves on meanwhile, and never comes at once.
        assert_eq!(queue(&mut gate, 2, at(1_000)), [1125, 1250]);
        assert_eq!(queue(&mut gate, 1, at(60_000)), [1125]);
    }

    #[test]
    fn a_crowd_is_spread_and_waits_ten_minutes_at_most() {
        let mut gate = Gate { took: Some(TimeDelta::seconds(4)), ..Gate::default() };
        let waits = queue(&mut gate, 100_000, at(0));
        assert!(waits.iter().all(|wait| (1_000..=600_000).contains(wait)));
        for minute in 5..10 {
            let then = minute * 60_000..(minute + 1) * 60_000;
            let many = waits.iter().filter(|wait| then.contains(*wait)).count();
            assert!((15_000..25_000).contains(&many), "{many} in minute {minute}");
        }
        // Once it is gone, the next one does not wait behind it.
        assert_eq!(queue(&mut gate, 1, at(700_000)), [1125]);
    }

    #[test]
    fn what_work_takes_is_learned() {
        let mut gate = Gate::default();
        for _ in 0..40 {
            gate.ended(TimeDelta::seconds(32));
        }
        assert_eq!(queue(&mut gate, 2, at(0)), [2000, 3000]);
        for _ in 0..40 {
            gate.ended(TimeDelta::zero());
        }
        let waits = queue(&mut gate, 2, at(60_000));
        assert_eq!(waits, [1010, 1020], "no more than twice the requests within the budget");
    }
}
