//! What everyone in a run shares.

use crate::{
    bank::{self, Bank},
    dice::SharedDice,
    life::Life,
    store::{StoreRates, WatchedStore},
    time::SimClock,
    trace::Trace,
    witness::Witness,
};
use px_client::{
    PartnerClient, RetryPolicy,
    clock::Clock as _,
    oauth::{AuthorizationRequest, TokenSet},
    transport::InProcess,
};
use px_items::{items::Items, store::Store};
use px_types::{UserId, webhook::Environment};
use rand::{SeedableRng as _, rngs::StdRng};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;

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
    /// Whether anything is bad: network, store, receivers, machines.
    pub(crate) bad: Arc<AtomicBool>,
    pub(crate) phase: watch::Sender<Phase>,
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
    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.phase() == Phase::Busy
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.trace.note("world", format_args!("{phase:?}"));
        self.bad.store(phase == Phase::Busy, Ordering::Relaxed);
        self.phase.send_replace(phase);
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
        // The sender is part of `self`, so it is there while anyone waits.
        let _ = self.phase.subscribe().wait_for(|now| *now >= phase).await;
    }

    /// Waits; if all is calm before, for ever or until the caller is dropped.
    pub(crate) async fn sleep_while_busy(&self, time: Duration) {
        self.clock.sleep(time).await;
        if !self.is_busy() {
            std::future::pending::<()>().await;
        }
    }

    /// The same, with the service behind a way to the store that fails at times.
    pub(crate) fn with_watched_items(mut self, rates: StoreRates) -> Self {
        let store = |name: &str, bad: Arc<AtomicBool>| -> Arc<dyn Store> {
            Arc::new(WatchedStore {
                inner: self.store.clone(),
                witness: self.witness.clone(),
                life: Arc::new(Life::new(name.to_owned(), self.clock)),
                rates,
                bad,
                dice: SharedDice::new(self.seed, name),
                clock: self.clock,
                trace: self.trace.clone(),
                spare_next_save: AtomicBool::new(false),
            })
        };
        let (service, good) =
            (store("service", self.bad.clone()), store("good service", Arc::default()));
        self.items = items(service, self.seed, self.clock, "items");
        self.good_items = items(good, self.seed, self.clock, "good items");
        self
    }

    /// A user authorizes, on a good network.
    pub(crate) async fn authorize(
        &self,
        bank: &Arc<Bank>,
        user: &UserId,
        dice: &SharedDice,
    ) -> TokenSet {
        let (id, secret) = bank::credentials();
        let client =
            PartnerClient::builder("https://bank.example", InProcess::new(bank.service(self.seed)))
                .client(id, secret)
                .clock(Arc::new(self.clock))
                .retry(RetryPolicy::never())
                .seed(self.seed)
                .build()
                .unwrap();
        let mut rng = StdRng::seed_from_u64(dice.throw(|dice| dice.bits()));
        let request = AuthorizationRequest::new(bank::REDIRECT_URI);
        let (url, pending) = client.begin_authorization(request, &mut rng).unwrap();
        let back = bank.authorize(user, url.query().unwrap_or_default()).await.unwrap();
        let callback = pending.check_callback(&back).unwrap();
        client.exchange_code(callback).await.unwrap()
    }
}

fn items(store: Arc<dyn Store>, seed: u64, clock: SimClock, part: &str) -> Items {
    Items::builder(store)
        .clock(Arc::new(clock))
        .random(Arc::new(SharedDice::new(seed, part)))
        .environment(Environment::Sandbox)
        .build()
}
