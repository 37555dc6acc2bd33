//! The store's time, which workers are compared with and times are capped by.

use super::{Commit, ItemRecord, PermitLease, Result, StoreError, StoreErrorKind, Then};
use crate::merge::KnownTransaction;
use chrono::{DateTime, TimeDelta, Utc};
use px_core::{Clock, LocalClock, SharedClock};
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// The shared clock is read again after this; the steady clock carries it on until then.
const MEASURE_INTERVAL: Duration = Duration::from_secs(10);
/// The difference that two machines' estimates of one time may have: a quarter of the engine's
/// default lease.
const TOLERANCE: TimeDelta = TimeDelta::seconds(5);
/// How long a step of the only machine's clock is doubted.
const STEP_DOUBT: Duration = Duration::from_secs(60);

/// The store's time: what the shared clock said last, carried on by the machine's steady clock.
pub(crate) struct StoreTime {
    shared: Arc<dyn SharedClock>,
    clock: Arc<dyn Clock>,
    /// Whether the shared clock is this machine's own, so that a step of it proves nothing.
    is_local: bool,
    state: Mutex<TimeState>,
}

#[derive(Clone, Copy, Debug, Default)]
struct TimeState {
    measured: Option<Measured>,
    /// The longest lease that was claimed.
    longest_lease: Option<TimeDelta>,
}

#[derive(Clone, Copy, Debug)]
struct Measured {
    time: DateTime<Utc>,
    /// The steady time then.
    at: Duration,
    /// Since when the machine's calendar says something else.
    doubted_since: Option<Duration>,
}

impl Measured {
    fn carried_on(self, elapsed: Duration) -> DateTime<Utc> {
        self.time + span(elapsed.saturating_sub(self.at))
    }
}

impl StoreTime {
    /// Maximum duration of a lease whose real one is not known.
    pub(super) const MAX_LEASE: TimeDelta = TimeDelta::minutes(15);

    /// The time of a clock that several machines share.
    pub(crate) fn shared(shared: Arc<dyn SharedClock>, clock: Arc<dyn Clock>) -> Self {
        Self { shared, clock, is_local: false, state: Mutex::default() }
    }

    /// The time of this machine. A step of its calendar is believed once it has lasted a minute.
    pub(crate) fn local(clock: Arc<dyn Clock>) -> Self {
        let shared = Arc::new(LocalClock::new(Arc::clone(&clock)));
        Self { is_local: true, ..Self::shared(shared, clock) }
    }

    /// Returns the store's time now. Reads the shared clock if that was long ago, or if this machine's
    /// calendar does not agree with what it said then: either of the two may have been set.
    pub(crate) async fn now(&self) -> Result<DateTime<Utc>> {
        let elapsed = self.clock.elapsed();
        let known = self.state().measured;
        if let Some(known) = known
            && !self.is_local
            && elapsed < known.at + MEASURE_INTERVAL
            && (self.clock.now() - known.carried_on(elapsed)).abs() <= TOLERANCE
        {
            return Ok(known.carried_on(elapsed));
        }
        let time = self.shared.now().await.map_err(|error| {
            let what = "the clock of the database cannot be read";
            StoreError::new(StoreErrorKind::Unavailable, what).caused_by(error)
        })?;
        let now = self.clock.elapsed();
        let new = match known {
            Some(known) if self.is_local => judged(known, time, now),
            // The request took a moment, half of it after the clock was read.
            _ => {
                let at = elapsed + now.saturating_sub(elapsed) / 2;
                Measured { time, at, doubted_since: None }
            }
        };
        self.state().measured = Some(new);
        Ok(new.carried_on(now))
    }

    /// Reads the store's time, and returns the present moment and the end of a lease by it.
    pub(super) async fn claim(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
    ) -> Result<(DateTime<Utc>, DateTime<Utc>)> {
        self.now().await?;
        let mut state = self.state();
        state.longest_lease = state.longest_lease.max(Some(lease_until - now));
        drop(state);
        let cap = self.cap();
        Ok((cap.now(now), cap.lease(now, lease_until)))
    }

    /// Caps what is stored, by the store's time as it was read last.
    pub(super) fn cap(&self) -> Cap {
        let state = *self.state();
        let longest_lease = state.longest_lease.unwrap_or(StoreTime::MAX_LEASE);
        Cap {
            time: state.measured.map(|known| known.carried_on(self.clock.elapsed())),
            longest_lease,
        }
    }

    fn state(&self) -> MutexGuard<'_, TimeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A step of the machine's only clock is believed once it has lasted.
fn judged(known: Measured, time: DateTime<Utc>, now: Duration) -> Measured {
    let step = time - known.carried_on(now);
    if step.abs() <= TOLERANCE {
        return Measured { time, at: now, doubted_since: None };
    }
    match known.doubted_since {
        Some(since) if now >= since + STEP_DOUBT => Measured { time, at: now, doubted_since: None },
        since => Measured { doubted_since: since.or(Some(now)), ..known },
    }
}

fn span(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

impl fmt::Debug for StoreTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreTime").field("shared", &self.shared).finish_non_exhaustive()
    }
}

/// The store's time, by which times are capped when they are stored. A store without a clock of its
/// own caps nothing.
///
/// A time that lies ahead is later than anything that is read afterwards: nothing could change the
/// row any more, and a lease would outlive its worker by as much.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cap {
    time: Option<DateTime<Utc>>,
    longest_lease: TimeDelta,
}

impl Cap {
    /// The cap of a store without a clock of its own.
    pub(super) const NONE: Self = Self { time: None, longest_lease: StoreTime::MAX_LEASE };

    /// Returns the present moment, by the store's clock if the worker's is ahead of it.
    pub(super) fn now(self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.time.map_or(now, |store| store.min(now))
    }

    /// Returns the end of a lease that is as long as the worker meant it.
    pub(super) fn lease(self, now: DateTime<Utc>, until: DateTime<Utc>) -> DateTime<Utc> {
        self.now(now) + (until - now)
    }

    /// Returns the end of a lease that is prolonged.
    pub(super) fn renewed(self, until: DateTime<Utc>) -> DateTime<Utc> {
        self.time.map_or(until, |store| until.min(store + self.longest_lease))
    }

    /// Caps a lease of permits.
    pub(super) fn permits(self, lease: &PermitLease) -> PermitLease {
        let mut capped = lease.clone();
        capped.now = self.now(lease.now);
        capped.until = self.lease(lease.now, lease.until);
        capped
    }

    /// Caps a commit. What a worker planned is planned from the store's time if the worker's clock
    /// is ahead of it.
    pub(super) fn commit(self, commit: &mut Commit) {
        let Some(store) = self.time else { return };
        let ahead = (commit.now - store).max(TimeDelta::zero());
        commit.now -= ahead;
        match &mut commit.then {
            Then::Keep { lease_until } => *lease_until -= ahead,
            Then::Release { due_at, not_before, .. } => {
                for time in [due_at, not_before].into_iter().flatten() {
                    *time -= ahead;
                }
            }
        }
        for write in &mut commit.transactions.writes {
            write.known.read_at = write.known.read_at.min(store);
        }
        let life = &mut commit.life;
        let fresh = &mut life.fresh;
        let times = [
            &mut life.deep_at,
            &mut fresh.accounts,
            &mut fresh.identities,
            &mut fresh.holdings,
            &mut fresh.transactions,
        ];
        for time in times.into_iter().flatten() {
            *time = store.min(*time);
        }
    }

    /// Returns whether a stored time lies ahead, by more than clocks may differ.
    fn lies_ahead(self, time: DateTime<Utc>) -> bool {
        self.time.is_some_and(|store| time > store + TOLERANCE)
    }

    /// Makes what lies ahead older than whatever is read now.
    pub(super) fn known(self, rows: &mut [KnownTransaction]) {
        for row in rows {
            if self.lies_ahead(row.read_at) {
                row.read_at = DateTime::UNIX_EPOCH;
            }
            if row.removed_at.is_some_and(|at| self.lies_ahead(at)) {
                row.removed_at = Some(DateTime::UNIX_EPOCH);
            }
        }
    }

    /// Makes what lies ahead older than whatever is read now.
    pub(super) fn record(self, mut record: ItemRecord) -> ItemRecord {
        if record.life.deep_at.is_some_and(|at| self.lies_ahead(at)) {
            record.life.deep_at = Some(DateTime::UNIX_EPOCH);
        }
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use px_core::ManualClock;

    /// A machine whose calendar is set apart from its steady time.
    #[derive(Debug)]
    struct Machine(ManualClock, Mutex<TimeDelta>);

    #[async_trait]
    impl Clock for Machine {
        fn now(&self) -> DateTime<Utc> {
            self.0.now() + *self.1.lock().unwrap()
        }

        fn elapsed(&self) -> Duration {
            self.0.elapsed()
        }

        async fn sleep(&self, duration: Duration) {
            self.0.sleep(duration).await;
        }
    }

    #[tokio::test]
    async fn a_step_of_the_only_clock_is_doubted_for_a_minute() {
        for step in [TimeDelta::days(3), TimeDelta::days(-3), TimeDelta::seconds(-6)] {
            let start = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
            let machine = Arc::new(Machine(ManualClock::new(start), Mutex::default()));
            let time = StoreTime::local(Arc::clone(&machine) as _);
            assert_eq!(time.now().await.unwrap(), start);
            *machine.1.lock().unwrap() = step;
            for second in 1..=60 {
                machine.0.advance(TimeDelta::seconds(1));
                let steady = start + TimeDelta::seconds(second);
                assert_eq!(time.now().await.unwrap(), steady, "doubted");
                assert_eq!(time.cap().now(start + TimeDelta::days(9)), steady);
            }
            machine.0.advance(TimeDelta::seconds(1));
            let lasting = start + step + TimeDelta::seconds(61);
            assert_eq!(time.now().await.unwrap(), lasting, "it lasted");
        }
    }

    /// A step of the machine's calendar is not doubted if the database's was set as well.
    #[tokio::test]
    async fn a_machine_that_differs_has_the_shared_clock_read_again() {
        let start = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
        let machine = Arc::new(Machine(ManualClock::new(start), Mutex::default()));
        let shared = Arc::new(Machine(ManualClock::new(start), Mutex::default()));
        let time = StoreTime::shared(
            Arc::new(LocalClock::new(Arc::clone(&shared) as _)),
            Arc::clone(&machine) as _,
        );
        assert_eq!(time.now().await.unwrap(), start);
        let step = TimeDelta::days(14);
        *shared.1.lock().unwrap() = step;
        assert_eq!(time.now().await.unwrap(), start, "read a moment ago");
        *machine.1.lock().unwrap() = step;
        assert_eq!(time.now().await.unwrap(), start + step);
        *machine.1.lock().unwrap() = TimeDelta::zero();
        assert_eq!(time.now().await.unwrap(), start + step, "the machine alone was set back");
    }

    #[tokio::test]
    async fn a_step_that_is_taken_back_is_never_believed() {
        let start = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
        let machine = Arc::new(Machine(ManualClock::new(start), Mutex::default()));
        let time = StoreTime::local(Arc::clone(&machine) as _);
        time.now().await.unwrap();
        for second in 1..600 {
            let step = if second % 40 < 30 { TimeDelta::days(1) } else { TimeDelta::zero() };
            *machine.1.lock().unwrap() = step;
            machine.0.advance(TimeDelta::seconds(1));
            assert_eq!(time.now().await.unwrap(), start + TimeDelta::seconds(second));
        }
    }
}
