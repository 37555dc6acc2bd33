//! Limits of calls to each partner: permits, rate limit and circuit breaker.
//!
//! The limits hold over all processes of a database. This module has a copy for one process, so
//! that work on an Item calls the store only when permits, circuit or lengths change.

use crate::{
    metrics,
    partners::{CallLimits, CircuitSettings, Partner, PartnerEvent, PartnerState, PartnerUpdate},
    schedule::between,
    store::{PermitLease, Store},
    sync::PartnerLengths,
};
use chrono::{DateTime, TimeDelta, Utc};
use px_core::{Clock, Random, circuit::Admission};
use px_types::InstitutionId;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Minimum delay of an Item that is deferred because its partner is at its limit.
const MIN_DEFERRAL: TimeDelta = TimeDelta::seconds(1);
/// Assumed duration of work on an Item before any has ended.
const ASSUMED_WORK_DURATION: TimeDelta = TimeDelta::seconds(1);
/// Number of deferred Items that get the same slot, the time in which one Item ends. An Item that
/// returns late must not leave the partner idle; one that returns early is queued again.
const ITEMS_PER_SLOT: usize = 2;
/// Time after which a share of the rate limit is computed again while other processes hold permits.
const SHARE_LIFETIME: Duration = Duration::from_secs(2);
/// Maximum number of permits in the computation of a share.
const MAX_SHARE: usize = 10_000;
/// Time over which Items are spread once a circuit may be probed.
const PROBE_SPREAD: TimeDelta = TimeDelta::seconds(60);

/// The gates of all partners.
#[derive(Debug)]
pub(super) struct Gates {
    settings: CircuitSettings,
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
    lease: Duration,
}

impl Permits {
    pub(super) fn new(store: Arc<dyn Store>, random: &dyn Random, lease: Duration) -> Self {
        Self { store, holder: px_core::random::identifier(random), lease }
    }
}

#[derive(Debug, Default)]
struct Gate {
    working: usize,
    /// Permits that this process has leased.
    held: usize,
    /// Time of the latest lease and its end, by the clock's `elapsed`.
    leased_at: Option<Duration>,
    held_until: Duration,
    /// Permits that other processes held then.
    others: usize,
    /// Maximum number in use since unused permits were last given back.
    peak: usize,
    /// Permits over all processes.
    at_once: usize,
    /// One call at a time, so that the results are recorded in the order of the store.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Shared state of the partner, as last read.
    state: PartnerState,
    /// Time until which this process may begin to probe an open circuit.
    may_probe_until: Option<DateTime<Utc>>,
    /// Time of the next request by the rate limit, by the clock's `elapsed`.
    next_request: Duration,
    /// Average duration of work on an Item.
    took: Option<TimeDelta>,
    /// The end of the queue of Items that were deferred because the partner is at its limit.
    queued_until: DateTime<Utc>,
}

/// Reason why an Item is deferred, and the time until which it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deferral {
    /// The limit of concurrent Items of the partner is reached.
    AtLimit(DateTime<Utc>),
    /// The partner keeps failing.
    CircuitOpen(DateTime<Utc>),
}

impl Deferral {
    pub(super) fn until(self) -> DateTime<Utc> {
        let (Self::AtLimit(until) | Self::CircuitOpen(until)) = self;
        until
    }
}

/// Permission to work on one Item of a partner. It is returned on drop.
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
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        permits: Permits,
    ) -> Arc<Self> {
        Arc::new(Self { settings, clock, random, permits, all: Mutex::default() })
    }

    /// Leases permits for `more` Items of a partner, unless this process holds enough of them, and
    /// requests the probe if one is due.
    pub(super) async fn prepare(
        &self,
        institution: &InstitutionId,
        budget: &CallLimits,
        more: usize,
    ) {
        if matches!(self.admission(institution), Admission::Probing(_) | Admission::NotBefore(_)) {
            return;
        }
        let at_once = budget.at_once.max(1);
        self.lease(institution, |gate, elapsed| {
            gate.at_once = at_once;
            let wanted = (gate.working + more).min(at_once);
            (wanted > gate.usable(elapsed)).then_some(wanted)
        })
        .await;
        self.prepare_probe(institution).await;
    }

    /// Reads what other processes found out, and requests the probe if one is due.
    pub(super) async fn prepare_refresh(&self, institution: &InstitutionId) {
        self.lease(institution, |gate, elapsed| {
            (gate.age(elapsed) >= self.permits.lease / 3).then_some(gate.held)
        })
        .await;
        self.prepare_probe(institution).await;
    }

    /// Requests the probe of an open circuit if one is due.
    async fn prepare_probe(&self, institution: &InstitutionId) {
        if self.admission(institution) == Admission::ProbeDue {
            let until = self.clock.now() + span(self.permits.lease);
            self.update(institution, PartnerEvent::Probe { until }).await;
        }
    }

    fn admission(&self, institution: &InstitutionId) -> Admission {
        self.lock().entry(institution.clone()).or_default().admission(self.clock.now())
    }

    /// Leases the number of permits that `wanted` returns once it is this call's turn.
    async fn lease(
        &self,
        institution: &InstitutionId,
        wanted: impl Fn(&mut Gate, Duration) -> Option<usize> + Send,
    ) {
        let permits = &self.permits;
        let turn = Arc::clone(&self.lock().entry(institution.clone()).or_default().turn);
        let _turn = turn.lock().await;
        let (now, elapsed) = (self.clock.now(), self.clock.elapsed());
        let (wanted, at_once) = {
            let mut all = self.lock();
            let gate = all.entry(institution.clone()).or_default();
            let Some(wanted) = wanted(gate, elapsed) else { return };
            // Permits in use are not given back; permits to be given back are not used from now on.
            let wanted = if wanted == 0 { 0 } else { wanted.max(gate.working).min(gate.at_once) };
            gate.held = gate.held.min(wanted);
            (wanted, gate.at_once)
        };
        let small = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let count = (small(wanted), small(at_once));
        let until = now + span(permits.lease);
        let lease = PermitLease::new(institution.clone(), &*permits.holder, count, now, until);
        match permits.store.lease_permits(&lease).await {
            Ok(share) => {
                let large = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
                let mut all = self.lock();
                let gate = all.entry(institution.clone()).or_default();
                (gate.held, gate.others) = (large(share.granted), large(share.others));
                (gate.leased_at, gate.held_until) = (Some(elapsed), elapsed + permits.lease);
                drop(all);
                self.adopt(institution, share.state);
            }
            // The permits stay with this process until their lease ends.
            Err(error) => tracing::warn!(%institution, %error, "permits could not be leased"),
        }
    }

    /// Renews the permits in use and gives back the others; never returns.
    pub(super) async fn renew_permits(&self, every: Duration) {
        loop {
            self.clock.sleep(every).await;
            // With a clock that never waits, other tasks must still make progress.
            tokio::task::yield_now().await;
            for institution in self.holding() {
                self.lease(&institution, |gate, elapsed| {
                    let wanted = gate.peak.max(gate.working).min(gate.at_once);
                    gate.peak = gate.working;
                    let is_old = gate.age(elapsed) >= self.permits.lease / 3;
                    (wanted < gate.held || is_old).then_some(wanted)
                })
                .await;
            }
        }
    }

    /// Renews the permits of a partner that are in use, once a third of their lease has passed.
    pub(super) async fn renew_permits_in_use(&self, institution: &InstitutionId) {
        self.lease(institution, |gate, elapsed| {
            let is_old = gate.age(elapsed) >= self.permits.lease / 3;
            (gate.held > 0 && is_old).then(|| gate.working.max(1))
        })
        .await;
    }

    /// Gives all permits back.
    pub(super) async fn release_permits(&self) {
        for institution in self.holding() {
            self.lease(&institution, |_, _| Some(0)).await;
        }
    }

    /// Returns the partners for which this process holds permits.
    fn holding(&self) -> Vec<InstitutionId> {
        let all = self.lock();
        all.iter().filter(|(_, gate)| gate.held > 0).map(|(id, _)| id.clone()).collect()
    }

    /// Stores what was found out about a partner.
    async fn update(&self, institution: &InstitutionId, event: PartnerEvent) {
        let mut update = PartnerUpdate::new(institution.clone(), event, self.clock.now());
        update.circuit = self.settings.clone();
        let is_probe = matches!(event, PartnerEvent::Probe { .. });
        if !is_probe {
            self.apply(&update);
        }
        let may_probe = match self.permits.store.update_partner(&update).await {
            Ok(updated) => {
                self.adopt(institution, updated.state);
                updated.may_probe
            }
            Err(error) => {
                tracing::warn!(%institution, %error, "the state of a partner could not be stored");
                is_probe && self.apply(&update)
            }
        };
        if let (PartnerEvent::Probe { until }, true) = (event, may_probe) {
            self.lock().entry(institution.clone()).or_default().may_probe_until = Some(until);
        }
    }

    /// Changes this process's copy alone. Its version stays that of the store.
    fn apply(&self, update: &PartnerUpdate) -> bool {
        self.change(&update.institution_id, |state| {
            let version = state.version;
            let may_probe = state.apply(update);
            state.version = version;
            may_probe
        })
    }

    /// Adopts a copy of the shared state, unless the local copy is later.
    fn adopt(&self, institution: &InstitutionId, latest: PartnerState) {
        self.change(institution, |state| {
            if latest.version >= state.version {
                *state = latest;
            }
        });
    }

    fn change<T>(
        &self,
        institution: &InstitutionId,
        change: impl FnOnce(&mut PartnerState) -> T,
    ) -> T {
        let mut all = self.lock();
        let state = &mut all.entry(institution.clone()).or_default().state;
        let was_open = state.circuit.is_open();
        let changed = change(state);
        let is_open = state.circuit.is_open();
        drop(all);
        if was_open != is_open {
            metrics::circuit(institution, is_open);
            if is_open {
                tracing::warn!(
                    %institution,
                    "a partner keeps failing: its Items are deferred, one of them probes it"
                );
            } else {
                tracing::info!(%institution, "a partner responds again");
            }
        }
        changed
    }

    /// Admits an Item, or defers it by `latest` at most if the partner is at its limit.
    ///
    /// # Errors
    /// Returns the deferral if the Item must wait.
    pub(super) fn enter(
        self: &Arc<Self>,
        institution: &InstitutionId,
        budget: &CallLimits,
        latest: TimeDelta,
    ) -> Result<Permit, Deferral> {
        let (now, elapsed) = (self.clock.now(), self.clock.elapsed());
        let mut all = self.lock();
        let gate = all.entry(institution.clone()).or_default();
        if let Some(until) = gate.closed_until(now, &self.settings) {
            let until = until + between(TimeDelta::zero(), PROBE_SPREAD, &*self.random);
            return Err(Deferral::CircuitOpen(until));
        }
        if gate.working >= budget.at_once.max(1).min(gate.usable(elapsed)) {
            let until = gate.queue((budget, latest), now, &*self.random);
            return Err(Deferral::AtLimit(until));
        }
        let probe = gate.begin();
        gate.peak = gate.peak.max(gate.working);
        drop(all);
        Ok(self.permit(institution, probe))
    }

    /// Admits the repetition of a refresh, beyond the concurrency limit but not past an open
    /// circuit.
    ///
    /// # Errors
    /// Returns the deferral if the circuit is open.
    pub(super) fn admit_refresh_call(
        self: &Arc<Self>,
        institution: &InstitutionId,
    ) -> Result<Permit, Deferral> {
        let now = self.clock.now();
        let mut all = self.lock();
        let gate = all.entry(institution.clone()).or_default();
        if let Some(until) = gate.closed_until(now, &self.settings) {
            return Err(Deferral::CircuitOpen(until));
        }
        let probe = gate.begin();
        drop(all);
        Ok(self.permit(institution, probe))
    }

    /// Admits an Item that a caller waits for, whatever the budget and the circuit say.
    pub(super) fn admit_always(self: &Arc<Self>, institution: &InstitutionId) -> Permit {
        self.lock().entry(institution.clone()).or_default().working += 1;
        self.permit(institution, false)
    }

    /// Waits until one more request is within the budget.
    ///
    /// As many requests as Items may be worked on at once may follow each other without a delay.
    /// The delay is computed from the latest share of this process.
    pub(super) async fn request(&self, institution: &InstitutionId, budget: &CallLimits) {
        if self.is_behind(institution, self.pace(institution, budget).1) {
            self.lease(institution, |gate, elapsed| {
                let is_old = gate.age(elapsed) >= SHARE_LIFETIME;
                (gate.held > 0 && is_old).then_some(gate.held)
            })
            .await;
        }
        let (interval, ahead) = self.pace(institution, budget);
        let wait = self.book(institution, interval).saturating_sub(self.clock.elapsed() + ahead);
        if !wait.is_zero() {
            self.clock.sleep(wait).await;
        }
    }

    /// Returns the interval between requests of this process, and the time by which they may be
    /// early.
    fn pace(&self, institution: &InstitutionId, budget: &CallLimits) -> (Duration, Duration) {
        let (held, all) = self.share(institution, budget);
        let interval = Duration::from_secs(1) / budget.per_second.max(1) * all / held;
        let burst = u32::try_from(budget.at_once.clamp(1, MAX_SHARE)).unwrap_or(1) * held / all;
        (interval, interval.saturating_mul(burst.max(1) - 1))
    }

    /// Returns the permits of this process, and the total that they are a share of.
    fn share(&self, institution: &InstitutionId, budget: &CallLimits) -> (u32, u32) {
        let elapsed = self.clock.elapsed();
        let mut all = self.lock();
        let gate = all.entry(institution.clone()).or_default();
        let small = |count: usize| u32::try_from(count.min(MAX_SHARE)).unwrap_or(1);
        let held = small(gate.usable(elapsed).max(1));
        let known = held + small(gate.others);
        if gate.age(elapsed) < SHARE_LIFETIME {
            (held, known)
        } else {
            (held, known.max(small(budget.at_once)))
        }
    }

    /// Returns whether the next request has to wait.
    fn is_behind(&self, institution: &InstitutionId, ahead: Duration) -> bool {
        let next = self.lock().entry(institution.clone()).or_default().next_request;
        next > self.clock.elapsed() + ahead
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
        self.lock().entry(institution.clone()).or_default().state.lengths(self.clock.now())
    }

    pub(super) async fn learn(&self, institution: &InstitutionId, lengths: PartnerLengths) {
        let known = self.lengths(institution);
        if known.and(lengths) != known {
            self.update(institution, PartnerEvent::Learned(lengths)).await;
        }
    }

    /// Records that the partner refreshed the tokens of an Item, once an hour.
    pub(super) async fn refreshed(&self, institution: &InstitutionId) {
        let now = self.clock.now();
        let records = |gate: &mut Gate| gate.state.records_refresh(now);
        if records(self.lock().entry(institution.clone()).or_default()) {
            self.update(institution, PartnerEvent::Refreshed).await;
        }
    }

    /// Returns when the tokens of one of the partner's Items were last refreshed.
    pub(super) fn refreshed_at(&self, institution: &InstitutionId) -> Option<DateTime<Utc>> {
        self.lock().entry(institution.clone()).or_default().state.refreshed_at()
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
    /// Returns the time since the latest lease.
    fn age(&self, elapsed: Duration) -> Duration {
        self.leased_at.map_or(Duration::MAX, |at| elapsed.saturating_sub(at))
    }

    /// Returns the number of permits that may be used.
    fn usable(&self, elapsed: Duration) -> usize {
        if elapsed < self.held_until { self.held } else { 0 }
    }

    fn admission(&self, now: DateTime<Utc>) -> Admission {
        match self.state.circuit.admission(now) {
            _ if self.may_probe_until.is_some_and(|until| now < until) => Admission::Allowed,
            admission => admission,
        }
    }

    /// Returns the time before which the partner is not called because it keeps failing.
    fn closed_until(
        &self,
        now: DateTime<Utc>,
        settings: &CircuitSettings,
    ) -> Option<DateTime<Utc>> {
        match self.admission(now) {
            Admission::Allowed => None,
            Admission::Probing(until) | Admission::NotBefore(until) => Some(until),
            // Another process may probe it, or the store failed.
            Admission::ProbeDue => Some(now + settings.open_time_min),
        }
    }

    /// Counts one more Item at work. Returns whether it probes an open circuit.
    fn begin(&mut self) -> bool {
        self.working += 1;
        self.may_probe_until.take().is_some() && self.state.circuit.is_open()
    }

    /// Puts one more Item at the end of the queue and returns the time of its turn. So deferred
    /// Items return one after the other, as fast as they are worked on, and not all at once.
    fn queue(
        &mut self,
        (budget, latest): (&CallLimits, TimeDelta),
        now: DateTime<Utc>,
        random: &dyn Random,
    ) -> DateTime<Utc> {
        let slots = |count: usize| {
            i32::try_from(count.max(1).saturating_mul(ITEMS_PER_SLOT)).unwrap_or(i32::MAX)
        };
        let apart = self.took.unwrap_or(ASSUMED_WORK_DURATION) / slots(budget.at_once);
        // Work on an Item is one request at least.
        let requests = usize::try_from(budget.per_second).unwrap_or(usize::MAX);
        let apart = apart.max(TimeDelta::seconds(1) / slots(requests));
        self.queued_until = self.queued_until.max(now + MIN_DEFERRAL) + apart;
        if self.queued_until - now <= latest {
            return self.queued_until;
        }
        // The duration of a long queue is an estimate, and its Items must not return at the same time.
        self.queued_until = now + latest;
        now + between(latest / 2, latest, random)
    }

    /// Records the end of work on an Item and its duration.
    fn ended(&mut self, took: TimeDelta) {
        self.working = self.working.saturating_sub(1);
        let took = took.max(TimeDelta::milliseconds(1));
        self.took = Some(self.took.map_or(took, |before| (before * 3 + took) / 4));
    }
}

impl Permit {
    /// Reports that the partner responded.
    pub(super) async fn responded(mut self) {
        self.settled = true;
        if !self.is_clean() {
            self.gates.update(&self.institution, PartnerEvent::Responded).await;
        }
    }

    /// Reports that the partner failed.
    pub(super) async fn failed(mut self, retry_at: Option<DateTime<Utc>>) {
        self.settled = true;
        let event = PartnerEvent::Failed { retry_at, probe: self.probe };
        self.gates.update(&self.institution, event).await;
    }

    /// Reports that nothing was found out about the partner.
    pub(super) async fn unknown(mut self) {
        self.settled = true;
        if self.probe {
            self.gates.update(&self.institution, PartnerEvent::ProbeLost).await;
        }
    }

    fn is_clean(&self) -> bool {
        let mut all = self.gates.lock();
        all.entry(self.institution.clone()).or_default().state.circuit.is_clean()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut all = self.gates.lock();
        let gate = all.entry(self.institution.clone()).or_default();
        gate.ended(self.gates.clock.now() - self.begun);
        if self.probe && !self.settled {
            // Cancelled. Other processes may probe the partner once the lease of the probe has
            // ended.
            gate.state.circuit.probe_lost();
        }
    }
}

fn span(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

/// A partner with its gate.
#[derive(Clone, Debug)]
pub(super) struct GatedPartner {
    pub(super) partner: Partner,
    pub(super) institution: InstitutionId,
    pub(super) gates: Arc<Gates>,
}

impl GatedPartner {
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

    /// Returns the delays of Items that are deferred at the same time, in milliseconds.
    fn queue(gate: &mut Gate, count: usize, now: DateTime<Utc>) -> Vec<i64> {
        let random = SeededRandom::new(1);
        let budget = CallLimits::default();
        let one = |_| gate.queue((&budget, LATEST), now, &random);
        (0..count).map(one).map(|until| (until - now).num_milliseconds()).collect()
    }

    #[test]
    fn those_put_off_come_one_after_the_other_as_fast_as_they_are_worked_on() {
        let mut gate = Gate { took: Some(TimeDelta::seconds(4)), ..Gate::default() };
        let waits = queue(&mut gate, 4, at(0));
        assert_eq!(waits, [1125, 1250, 1375, 1500], "two for each slot");
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
