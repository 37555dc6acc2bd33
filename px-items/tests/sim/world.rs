//! What everyone in a run shares.

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

/// What everyone in a run shares.
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) clock: SimClock,
    pub(crate) trace: Arc<Trace>,
    pub(crate) witness: Arc<Witness>,
    /// As it is, without faults.
    pub(crate) store: Arc<dyn Store>,
    /// The service that applications and banks call.
    pub(crate) items: Items,
    /// The same without faults, for the end.
    pub(crate) good_items: Items,
    pub(crate) banks: Vec<Arc<Bank>>,
    pub(crate) sabotage: Option<Sabotage>,
    /// Whether anything is bad: network, store, receivers, machines.
    pub(crate) bad: Arc<AtomicBool>,
    /// The last token of each user that was given out, where a bank gives it out again.
    given: Mutex<BTreeMap<(InstitutionId, UserId), TokenSet>>,
    /// What the partners call their Items by.
    names: Mutex<BTreeMap<(InstitutionId, UserId), ItemAccessToken>>,
    phase: Mutex<Phase>,
    next_phase: Notify,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Things happen, and go wrong.
    Busy,
    /// Nothing happens and nothing goes wrong; workers catch up.
    Calm,
    /// Machines stop.
    Over,
}

impl World {
    /// A world in which things go wrong; the service reaches its store that well.
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
            given: Mutex::default(),
            names: Mutex::default(),
            phase,
            next_phase,
        }
    }

    /// Whether a bank of the run has many users.
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

    /// Waits until nothing goes wrong any more.
    pub(crate) async fn until_calm(&self) {
        self.until(Phase::Calm).await;
    }

    /// Waits until machines are to stop.
    pub(crate) async fn until_over(&self) {
        self.until(Phase::Over).await;
    }

    async fn until(&self, phase: Phase) {
        // Not a `watch` of tokio, which wakes those who wait in an order that differs.
        while self.phase() < phase {
            let next = self.next_phase.notified();
            if self.phase() < phase {
                next.await;
            }
        }
    }

    /// Waits; if all is calm before, for ever or until the caller is dropped.
    pub(crate) async fn sleep_while_busy(&self, time: Duration) {
        self.clock.sleep(time).await;
        if !self.is_busy() {
            std::future::pending::<()>().await;
        }
    }

    /// A user authorizes, on a good network; some banks give out the token that they gave before.
    pub(crate) async fn authorize(
        &self,
        bank: &Arc<Bank>,
        user: &UserId,
        dice: &SharedDice,
    ) -> TokenSet {
        if !bank.style.has(Habit::ReusesTokens) {
            return self.authorize_anew(bank, user, dice).await;
        }
        let key = (bank.id.clone(), user.clone());
        let given = self.given().get(&key).cloned();
        if let Some(given) = given
            && dice.throw(|dice| dice.chance(700))
            && bank.is_good(&given.access_token).await
        {
            self.trace.note(bank.id.as_str(), format_args!("{user}: gets the token from before"));
            return given;
        }
        let mut tokens = self.authorize_anew(bank, user, dice).await;
        tokens.refresh_token = None;
        self.given().insert(key, tokens.clone());
        tokens
    }

    pub(crate) fn names(
        &self,
    ) -> MutexGuard<'_, BTreeMap<(InstitutionId, UserId), ItemAccessToken>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn given(&self) -> MutexGuard<'_, BTreeMap<(InstitutionId, UserId), TokenSet>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn authorize_anew(&self, bank: &Arc<Bank>, user: &UserId, dice: &SharedDice) -> TokenSet {
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
