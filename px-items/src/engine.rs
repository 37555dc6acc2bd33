//! The engine: claims due Items, reads their partners, merges and stores.
//!
//! Only this module connects the pure parts to a store and a network. [`crate::sync`] decides what
//! is read and stored, [`crate::schedule`] when; [`crate::webhook`] delivers webhooks. Many engines
//! may work on one store: an Item has one worker at a time.
//!
//! A shutdown finishes or hands back the Items under work. A kill at any moment loses nothing: what
//! was stored stays, the rest is read again once the lease has run out.

mod error;
mod failure;
mod gate;
mod observe;
mod restore;
mod review;
mod revoke;
mod run;
mod session;
mod settings;
mod tokens;
mod work;

pub use error::{EngineError, EngineErrorKind};
pub use observe::{Observed, Observer, Outcome, Report};
pub use restore::RestoreSettings;
pub use settings::Settings;

pub use crate::partners::CircuitSettings;

use crate::{
    item::Phase,
    metrics,
    partners::Partners,
    schedule,
    skew::ClockGuard,
    store::{ItemRecord, Store},
};
use chrono::{DateTime, TimeDelta, Utc};
use gate::{Gates, Permits};
use observe::NoObserver;
use px_core::{Clock, Random, SystemClock, SystemRandom};
use px_types::ItemId;
use restore::Restore;
use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use work::Task;

/// Engine that keeps the Items of a store up to date with their partners.
///
/// Cheap to clone; all clones share budgets, circuits and what they learned of partners.
#[derive(Clone, Debug)]
pub struct Engine(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    partners: Arc<dyn Partners>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    observer: Arc<dyn Observer>,
    settings: Settings,
    gates: Arc<Gates>,
    clock_guard: ClockGuard,
    restore: Option<Arc<Restore>>,
    updates: review::PendingCounts,
    stopping: AtomicBool,
}

/// Builder of an [`Engine`].
#[derive(Debug)]
#[must_use]
pub struct EngineBuilder {
    store: Arc<dyn Store>,
    partners: Arc<dyn Partners>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    observer: Arc<dyn Observer>,
    settings: Settings,
}

impl EngineBuilder {
    /// Sets the clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the source of randomness, which spreads work over time.
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// Sets the settings.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Sets the observer of the engine's events.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = observer;
        self
    }

    /// Builds the engine. It does nothing before it is run.
    #[must_use]
    pub fn build(self) -> Engine {
        let (clock, random) = (Arc::clone(&self.clock), Arc::clone(&self.random));
        let restore = self.settings.after_restore.as_ref();
        let restore = restore.map(|settings| Restore::new(settings, Arc::clone(&self.clock)));
        let clock_guard = ClockGuard::new(Arc::clone(&self.store), Arc::clone(&self.clock));
        let permits = Permits::new(Arc::clone(&self.store), &*random, self.settings.lease);
        Engine(Arc::new(Inner {
            gates: Gates::new(self.settings.circuit.clone(), clock, random, permits),
            store: self.store,
            partners: self.partners,
            clock: self.clock,
            random: self.random,
            observer: self.observer,
            settings: self.settings,
            clock_guard,
            restore,
            updates: review::PendingCounts::default(),
            stopping: AtomicBool::new(false),
        }))
    }
}

impl Engine {
    /// Returns a builder of an engine on a store.
    pub fn builder(store: Arc<dyn Store>, partners: Arc<dyn Partners>) -> EngineBuilder {
        EngineBuilder {
            store,
            partners,
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SystemRandom),
            observer: Arc::new(NoObserver),
            settings: Settings::default(),
        }
    }

    /// Works until `stop`, on up to `workers` Items at once and on tokens that are to be revoked.
    ///
    /// After `stop` no new work begins. Work under way ends, or is handed back after the next
    /// window that is stored. Work that exceeds [`Settings::grace`] is cancelled and handed back.
    /// Dropping the future earlier is like a kill: nothing is lost, but its Items wait until their
    /// leases run out.
    pub async fn run(&self, workers: usize, stop: impl Future<Output = ()> + Send) {
        self.0.run(workers.max(1), stop).await;
    }

    /// Works on everything that is due now, one Item after the other. Returns the number of Items.
    ///
    /// Items that become due meanwhile are not included. Tokens that are to be revoked are revoked
    /// too.
    pub async fn run_due(&self) -> usize {
        self.0.run_due().await
    }

    /// Works on one Item now, due or not, whatever the circuit of its partner says.
    ///
    /// # Errors
    /// - [`EngineErrorKind::NoSuchItem`] if the Item does not exist;
    /// - [`EngineErrorKind::Busy`] if a worker has it already;
    /// - [`EngineErrorKind::LoginRequired`] if its user must authorize again first;
    /// - [`EngineErrorKind::WrongClock`] if the machine's clock is wrong;
    /// - [`EngineErrorKind::Store`] if the store fails.
    ///
    /// A failure at the partner is not an error: it is in the report.
    pub async fn update(&self, item: &ItemId) -> Result<Report, EngineError> {
        let inner = &self.0;
        if !inner.clock_is_right().await {
            return Err(EngineError::wrong_clock());
        }
        let now = inner.clock.now();
        match inner.store.claim_one(item, now, inner.lease_end(now)).await? {
            Some(record) => {
                inner.prepare(std::slice::from_ref(&record), 1).await;
                let permit = inner.gates.admit_always(&record.institution_id);
                Ok(inner.work(record, permit, Task::Update).await)
            }
            None => Err(EngineError::why_not(inner.store.item(item).await?)),
        }
    }
}

impl Inner {
    fn lease_end(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        now + TimeDelta::from_std(self.settings.lease).unwrap_or(TimeDelta::MAX)
    }

    /// Returns whether this machine's clock agrees with the store's. If not, no Item may be worked
    /// on.
    async fn clock_is_right(&self) -> bool {
        self.clock_guard.is_right(self.settings.lease).await
    }

    fn observe(&self, event: Observed) {
        self.observer.observe(&event);
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Returns the deferral of an Item with leases that ran out repeatedly.
    fn deferral(&self, record: &ItemRecord) -> Option<TimeDelta> {
        // An Item that was deferred is worked on when its time has come.
        let deferral =
            schedule::deferral(record.lost_leases, self.settings.max_lost_leases, &*self.random);
        deferral.filter(|_| record.took_over)
    }

    /// Reports an Item that is deferred because its leases ran out repeatedly.
    fn report_lost_leases(&self, record: &ItemRecord, until: DateTime<Utc>) {
        let (item_id, lost_leases) = (record.id.clone(), record.lost_leases);
        tracing::error!(
            item = %item_id,
            lost_leases,
            %until,
            "the leases of an Item ran out repeatedly without a commit; the work on it may crash the process"
        );
        metrics::leases_lost();
        self.observe(Observed::LeasesLost { item_id, lost_leases, until });
    }

    /// Admits an Item, or returns its deferral. Items of an unknown partner are admitted, so that
    /// they fail with a clear error.
    fn admit(&self, record: &ItemRecord) -> Result<gate::Permit, gate::Deferral> {
        match self.partners.partner(&record.institution_id) {
            Some(partner) => {
                let is_awaited = record.state.phase() == Some(Phase::Created)
                    || record.notified > record.sync_state.done_for;
                let settings = &self.settings;
                let latest =
                    if is_awaited { settings.max_deferral_awaited } else { settings.max_deferral };
                self.gates.enter(&record.institution_id, &partner.budget, latest)
            }
            None => Ok(self.gates.admit_always(&record.institution_id)),
        }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("store", &self.store)
            .field("partners", &self.partners)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
