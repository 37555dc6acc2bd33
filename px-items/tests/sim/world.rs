//! Shared state of a run.

use crate::{
    bank::{self, Bank, Habit},
    dice::SharedDice,
    life::Life,
    machine::Badness,
    sabotage::Sabotage,
    store::WatchedStore,
    time::SimClock,
    trace::Trace,
    witness::Witness,
};
use chrono::TimeDelta;
use px_client::{
    PartnerClient, RetryPolicy,
    oauth::{AuthorizationRequest, TokenSet},
};
use px_core::{Clock as _, InProcessTransport, SeededRandom};
use px_items::{items::Items, store::Store};
use px_types::{InstitutionId, ItemAccessToken, UserId};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;

/// Shared state of a run.
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) clock: SimClock,
    pub(crate) trace: Arc<Trace>,
    pub(crate) witness: Arc<Witness>,
    /// Store without faults.
    pub(crate) store: Arc<dyn Store>,
    /// Service that applications and banks call.
    pub(crate) items: Items,
    /// Service without faults, for the end of the run.
    pub(crate) good_items: Items,
    pub(crate) banks: Vec<Arc<Bank>>,
    pub(crate) sabotage: Option<Sabotage>,
    /// Whether there are faults: network, store, receivers, machines.
    pub(crate) bad: Arc<AtomicBool>,
    /// Last token of each user that was issued, at banks that issue it again.
    issued_tokens: Mutex<BTreeMap<(InstitutionId, UserId), TokenSet>>,
    /// Tokens by which the partners name their Items.
    names: Mutex<BTreeMap<(InstitutionId, UserId), ItemAccessToken>>,
    phase: Mutex<Phase>,
    next_phase: Notify,
}

/// Phase of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Events and faults.
    Busy,
    /// No events and no faults; workers catch up.
    Calm,
    /// Machines shut down.
    Over,
}

impl World {
    /// Creates a world with faults, also on the way from the service to its store.
    pub(crate) fn new(
        (seed, sabotage): (u64, Option<Sabotage>),
        (clock, trace): (SimClock, Arc<Trace>),
        store: Arc<dyn Store>,
        banks: Vec<Arc<Bank>>,
        badness: &Badness,
    ) -> Self {
        let rates = badness.store;
        let skew = TimeDelta::milliseconds(badness.skew * 2);
        let witness = Arc::new(Witness::new(&banks, clock, trace.clone(), (skew, badness.damage)));
        let bad = Arc::new(AtomicBool::new(true));
        let items = |name: &str, bad: Arc<AtomicBool>| {
            let reached = WatchedStore {
                inner: store.clone(),
                witness: witness.clone(),
                life: Arc::new(Life::new(name.to_owned(), clock, trace.clone())),
                rates,
                bad,
                dice: SharedDice::new(seed, name),
                clock,
                trace: trace.clone(),
                spare_next_save: AtomicBool::new(false),
                machine: None,
                compares_with_itself: false,
            };
            Items::builder(Arc::new(reached))
                .clock(Arc::new(clock))
                .random(Arc::new(SharedDice::new(seed, &format!("{name} random"))))
                .build()
        };
        let (items, good_items) = (items("service", bad.clone()), items("good", Arc::default()));
        let (phase, next_phase) = (Mutex::new(Phase::Busy), Notify::new());
        Self {
            seed,
            clock,
            trace,
            witness,
            store,
            items,
            good_items,
            banks,
            sabotage,
            bad,
            issued_tokens: Mutex::default(),
            names: Mutex::default(),
            phase,
            next_phase,
        }
    }

    /// Returns whether a bank of the run has many users.
    pub(crate) fn is_crowded(&self) -> bool {
        self.banks.iter().any(|bank| bank.style.crowded)
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.phase() == Phase::Busy
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.trace.note("world", format_args!("{phase:?}"));
        self.bad.store(phase == Phase::Busy, Ordering::Relaxed);
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
        self.next_phase.notify_waiters();
    }

    /// Waits until the faults are over.
    pub(crate) async fn until_calm(&self) {
        self.until(Phase::Calm).await;
    }

    /// Waits until machines have to shut down.
    pub(crate) async fn until_over(&self) {
        self.until(Phase::Over).await;
    }

    async fn until(&self, phase: Phase) {
        // Not a `watch` of tokio, which wakes its waiters in a varying order.
        while self.phase() < phase {
            let next = self.next_phase.notified();
            if self.phase() < phase {
                next.await;
            }
        }
    }

    /// Sleeps. If the faults end meanwhile, waits forever or until the caller is dropped.
    pub(crate) async fn sleep_while_busy(&self, time: Duration) {
        self.clock.sleep(time).await;
        if !self.is_busy() {
            std::future::pending::<()>().await;
        }
    }

    /// The user authorizes on a network without faults. Some banks return the token that they
    /// issued before.
    pub(crate) async fn authorize(
        &self,
        bank: &Arc<Bank>,
        user: &UserId,
        dice: &SharedDice,
    ) -> TokenSet {
        if !bank.style.has(Habit::ReusesTokens) {
            return self.sign_in(bank, user, dice).await;
        }
        let key = (bank.id.clone(), user.clone());
        let issued_tokens = self.issued_tokens().get(&key).cloned();
        if let Some(issued_tokens) = issued_tokens
            && dice.throw(|dice| dice.chance(700))
            && bank.is_good(&issued_tokens.access_token).await
        {
            self.trace.note(bank.id.as_str(), format_args!("{user}: gets the token from before"));
            return issued_tokens;
        }
        let mut tokens = self.sign_in(bank, user, dice).await;
        tokens.refresh_token = None;
        self.issued_tokens().insert(key, tokens.clone());
        tokens
    }

    pub(crate) fn names(
        &self,
    ) -> MutexGuard<'_, BTreeMap<(InstitutionId, UserId), ItemAccessToken>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn issued_tokens(&self) -> MutexGuard<'_, BTreeMap<(InstitutionId, UserId), TokenSet>> {
        self.issued_tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn sign_in(&self, bank: &Arc<Bank>, user: &UserId, dice: &SharedDice) -> TokenSet {
        let (id, secret) = bank::credentials();
        let client = PartnerClient::builder(
            "https://bank.example",
            InProcessTransport::new(bank.service(self.seed)),
        )
        .client(id, secret)
        .clock(Arc::new(self.clock))
        .retry(RetryPolicy::never())
        .random(Arc::new(SeededRandom::new(dice.throw(|dice| dice.bits()))))
        .build()
        .unwrap();
        let request = AuthorizationRequest::new(bank::REDIRECT_URI);
        let (url, pending) = client.begin_authorization(request).unwrap();
        let back = bank.authorize(user, url.query().unwrap_or_default()).await.unwrap();
        let callback = pending.check_callback(&back).unwrap();
        client.exchange_code(callback).await.unwrap()
    }
}
