//! The store's time. Workers compare their clocks with it, and it caps stored times.

use super::{Commit, ItemRecord, LeaseOutcome, PermitLease, Result, StoreError, StoreErrorKind};
use crate::merge::KnownTransaction;
use chrono::{DateTime, TimeDelta, Utc};
use px_core::{Clock, LocalClock, SharedClock};
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Interval between two reads of the shared clock. The steady clock extrapolates in between.
const MEASURE_INTERVAL: Duration = Duration::from_secs(10);
/// Maximum difference between the estimates of one time by two machines: a quarter of the engine's
/// default lease.
const TOLERANCE: TimeDelta = TimeDelta::seconds(5);
/// Duration after which a step of the machine's only clock is accepted.
const STEP_ACCEPTANCE_DELAY: Duration = Duration::from_secs(60);

/// The store's time: the last value of the shared clock, extrapolated by the machine's steady
/// clock.
pub(crate) struct StoreTime {
    shared: Arc<dyn SharedClock>,
    clock: Arc<dyn Clock>,
    /// Whether the shared clock is this machine's own. A step of it then proves nothing.
    is_local: bool,
    state: Mutex<TimeState>,
}

#[derive(Clone, Copy, Debug, Default)]
struct TimeState {
    measured: Option<Measurement>,
    /// Longest lease claimed so far.
    longest_lease: Option<TimeDelta>,
}

#[derive(Clone, Copy, Debug)]
struct Measurement {
    time: DateTime<Utc>,
    /// Steady time of the measurement.
    at: Duration,
    /// Steady time since which the machine's calendar has differed.
    differs_since: Option<Duration>,
}

impl Measurement {
    fn extrapolated(self, elapsed: Duration) -> DateTime<Utc> {
        self.time + span(elapsed.saturating_sub(self.at))
    }
}

impl StoreTime {
    /// Assumed duration of a lease before any claim.
    pub(super) const MAX_LEASE: TimeDelta = TimeDelta::minutes(15);

    /// Creates the time of a clock that several machines share.
    pub(crate) fn shared(shared: Arc<dyn SharedClock>, clock: Arc<dyn Clock>) -> Self {
        Self { shared, clock, is_local: false, state: Mutex::default() }
    }

    /// Creates the time of this machine. A step of its calendar is accepted once it has lasted a
    /// minute.
    pub(crate) fn local(clock: Arc<dyn Clock>) -> Self {
        let shared = Arc::new(LocalClock::new(Arc::clone(&clock)));
        Self { is_local: true, ..Self::shared(shared, clock) }
    }

    /// Returns the store's time. Reads the shared clock again if the last read is too old, or if
    /// this machine's calendar disagrees with it: either of the two clocks may have been set.
    pub(crate) async fn now(&self) -> Result<DateTime<Utc>> {
        let elapsed = self.clock.elapsed();
        let known = self.state().measured;
        if let Some(known) = known
            && !self.is_local
            && elapsed < known.at + MEASURE_INTERVAL
            && (self.clock.now() - known.extrapolated(elapsed)).abs() <= TOLERANCE
        {
            return Ok(known.extrapolated(elapsed));
        }
        let time = self.shared.now().await.map_err(|error| {
            let what = "the clock of the database cannot be read";
            StoreError::new(StoreErrorKind::Unavailable, what).caused_by(error)
        })?;
        let now = self.clock.elapsed();
        let new = match known {
            Some(known) if self.is_local => accept_step(known, time, now),
            // The read took a moment; assume that the clock was read halfway.
            _ => {
                let at = elapsed + now.saturating_sub(elapsed) / 2;
                Measurement { time, at, differs_since: None }
            }
        };
        self.state().measured = Some(new);
        Ok(new.extrapolated(now))
    }

    /// Reads the store's time, and returns the present time and the end of a lease according to it.
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

    /// Returns the cap according to the last read of the store's time.
    pub(super) fn cap(&self) -> Cap {
        let state = *self.state();
        let longest_lease = state.longest_lease.unwrap_or(StoreTime::MAX_LEASE);
        Cap {
            time: state.measured.map(|known| known.extrapolated(self.clock.elapsed())),
            longest_lease,
        }
    }

    fn state(&self) -> MutexGuard<'_, TimeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Accepts a step of the machine's only clock once it has lasted for [`STEP_ACCEPTANCE_DELAY`].
fn accept_step(known: Measurement, time: DateTime<Utc>, now: Duration) -> Measurement {
    let step = time - known.extrapolated(now);
    if step.abs() <= TOLERANCE {
        return Measurement { time, at: now, differs_since: None };
    }
    match known.differs_since {
        Some(since) if now >= since + STEP_ACCEPTANCE_DELAY => {
            Measurement { time, at: now, differs_since: None }
        }
        since => Measurement { differs_since: since.or(Some(now)), ..known },
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

/// The cap of stored times: the store's time. A store without a clock of its own caps nothing.
///
/// A stored time in the future would be later than anything read afterwards, so nothing could
/// change the row, and a lease would outlive its worker by the difference.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cap {
    time: Option<DateTime<Utc>>,
    longest_lease: TimeDelta,
}

impl Cap {
    /// The cap of a store without a clock of its own.
    pub(super) const NONE: Self = Self { time: None, longest_lease: StoreTime::MAX_LEASE };

    /// Returns the present time: that of the store's clock if the worker's is ahead of it.
    pub(super) fn now(self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.time.map_or(now, |store| store.min(now))
    }

    /// Returns the end of a lease that has the length that the worker intended.
    pub(super) fn lease(self, now: DateTime<Utc>, until: DateTime<Utc>) -> DateTime<Utc> {
        self.now(now) + (until - now)
    }

    /// Returns the end of an extended lease.
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

    /// Caps the times of a commit. If the worker's clock is ahead, its planned times are shifted
    /// back by the difference.
    pub(super) fn commit(self, commit: &mut Commit) {
        let Some(store) = self.time else { return };
        let ahead = (commit.now - store).max(TimeDelta::zero());
        commit.now -= ahead;
        match &mut commit.lease {
            LeaseOutcome::Keep { lease_until } => *lease_until -= ahead,
            LeaseOutcome::Release { due_at, not_before, .. } => {
                for time in [due_at, not_before].into_iter().flatten() {
                    *time -= ahead;
                }
            }
        }
        for write in &mut commit.transactions.writes {
            write.known.read_at = write.known.read_at.min(store);
        }
        let sync_state = &mut commit.sync_state;
        let fresh = &mut sync_state.fresh;
        let times = [
            &mut sync_state.deep_at,
            &mut fresh.accounts,
            &mut fresh.identities,
            &mut fresh.holdings,
            &mut fresh.transactions,
        ];
        for time in times.into_iter().flatten() {
            *time = store.min(*time);
        }
    }

    /// Returns whether a stored time is ahead by more than the tolerance.
    fn lies_ahead(self, time: DateTime<Utc>) -> bool {
        self.time.is_some_and(|store| time > store + TOLERANCE)
    }

    /// Makes times that lie ahead older than anything that is read now.
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

    /// Makes a time that lies ahead older than anything that is read now.
    pub(super) fn record(self, mut record: ItemRecord) -> ItemRecord {
        if record.sync_state.deep_at.is_some_and(|at| self.lies_ahead(at)) {
            record.sync_state.deep_at = Some(DateTime::UNIX_EPOCH);
        }
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use px_core::ManualClock;

    /// A machine with a calendar that can be set independently of its steady time.
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

    /// A step of the machine's calendar is accepted if the database's clock was set as well.
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
