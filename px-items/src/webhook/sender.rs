//! Sending webhooks: what is due in the outbox is signed, sent, and sent again until it is taken.
//!
//! Which address is accepted is said in [`check_url`](super::check_url); where connections may
//! go is the transport's matter.

mod circuit;
mod delivery;
mod desk;
mod pace;

use self::{
    circuit::Circuit,
    desk::{Desk, Endpoint, Look},
};
use super::Signer;
use crate::{partners::Partners, skew::ClockGuard, store::Store};
use px_core::{Clock, HttpLimits, HttpTransport, Random, SystemClock, SystemRandom};
use px_types::{ApplicationId, ClientId};
use std::{
    collections::BTreeMap,
    fmt,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// The most that is read of an answer's body, which says nothing.
const BODY: usize = 1 << 20;

/// How webhooks are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SenderSettings {
    /// The time within which 200 must be answered: 10 s.
    pub answer: Duration,
    /// How many are sent at once: 512.
    pub at_once: usize,
    /// How many are sent at once to one endpoint: 4.
    pub per_endpoint: usize,
    /// How often the outbox is looked into when nobody says that there is something: each second.
    pub poll: Duration,
    /// For how long this process takes a webhook: 2 minutes. When it stops without a word,
    /// another one sends it after that.
    pub lease: Duration,
}

impl Default for SenderSettings {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(10),
            at_once: 512,
            per_endpoint: 4,
            poll: Duration::from_secs(1),
            lease: Duration::from_secs(120),
        }
    }
}

/// Sends the webhooks of the outbox. Any number may, in any number of processes.
///
/// A webhook is delivered when it was answered 200 within 10 s; any other answer, a redirect
/// too, is a failure. It is sent again after 30 s and then after four times as long each
/// time, for 24 hours. What a 429 says in `Retry-After` is kept up to 4 hours. Each attempt is
/// signed again, with the same `jti`. So a webhook arrives at least once, or is given up; several
/// arrive in any order.
///
/// What a partner is told (`POST /applications/notify`) goes by the partner's own client, at the
/// same times. A partner that answers 404 does not offer it, and is left alone.
///
/// An endpoint (an application and its host, or a partner) that keeps failing is probed and not called for
/// each of its webhooks; one that is slow has a few lanes of its own. Others wait for neither.
///
/// While the machine's clock and the store's differ by more than a quarter of
/// [`lease`](SenderSettings::lease), nothing is sent.
///
/// The transport is to reach public addresses only
/// ([`public_addresses_only`](px_core::is_public)),
/// since applications choose the addresses, and is to follow no redirect.
///
/// Metrics: `px_webhook_deliveries_total` with `outcome` `delivered`, `failed`, `given_up`
/// or `not_offered`;
/// `px_webhook_lag_seconds`, from the commit to the 200; `px_webhook_pending`, how many this
/// process holds.
///
/// Contract: `px.md` section 9.
#[derive(Clone)]
pub struct Sender(Arc<Inner>);

/// Sets up a [`Sender`].
#[derive(Debug)]
pub struct SenderBuilder {
    store: Arc<dyn Store>,
    transport: Arc<dyn HttpTransport>,
    signer: Arc<Signer>,
    partners: Option<Arc<dyn Partners>>,
    client_ids: Arc<BTreeMap<ApplicationId, ClientId>>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    settings: SenderSettings,
}

struct Inner {
    store: Arc<dyn Store>,
    transport: Arc<dyn HttpTransport>,
    signer: Arc<Signer>,
    partners: Option<Arc<dyn Partners>>,
    client_ids: Arc<BTreeMap<ApplicationId, ClientId>>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    settings: SenderSettings,
    limits: HttpLimits,
    clock_guard: ClockGuard,
    circuits: Mutex<BTreeMap<Endpoint, Circuit>>,
}

impl Sender {
    /// Begins to set one up.
    #[must_use]
    pub fn builder(
        store: Arc<dyn Store>,
        transport: Arc<dyn HttpTransport>,
        signer: Arc<Signer>,
    ) -> SenderBuilder {
        SenderBuilder {
            store,
            transport,
            signer,
            partners: None,
            client_ids: Arc::default(),
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SystemRandom),
            settings: SenderSettings::default(),
        }
    }

    /// Sends what is due, until `stop`; then ends what is under way and gives the rest back.
    pub async fn run(&self, stop: impl Future<Output = ()> + Send) {
        let inner = &self.0;
        let mut stop = pin!(stop);
        let mut desk = Desk::new(inner.clone());
        let mut outbox = inner.store.signals().outbox.listen();
        let mut poll = inner.clock.sleep(inner.settings.poll);
        let mut look = Look::More;
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                () = desk.landed() => look = desk.go_on(look).await,
                () = outbox.raised() => look = Look::More,
                () = &mut poll => {
                    poll = inner.clock.sleep(inner.settings.poll);
                    look = Look::More;
                }
                () = std::future::ready(()), if look == Look::More => {
                    look = desk.take(inner.clock.now()).await;
                }
            }
        }
        desk.close().await;
    }

    /// Sends everything that is due now, once; answers how many attempts were made.
    ///
    /// What fails is due again later, and is not waited for; nor is what an endpoint cannot take
    /// within seconds, or that waits for an endpoint which is down.
    pub async fn deliver_due(&self) -> usize {
        let due = self.0.clock.now();
        let mut desk = Desk::new(self.0.clone());
        let mut look = Look::More;
        while look == Look::More || !desk.is_idle() {
            tokio::select! {
                biased;
                () = desk.landed() => look = desk.go_on(look).await,
                () = std::future::ready(()), if look == Look::More => {
                    look = desk.take(due).await;
                }
            }
        }
        desk.sent()
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("signer", &self.0.signer)
            .field("settings", &self.0.settings)
            .finish_non_exhaustive()
    }
}

impl SenderBuilder {
    /// The partners, which are told of applications that are connected and that leave. Their
    /// clients need a signer ([`Signer::for_partner`]). What is queued for a partner that is not
    /// among them is left to other senders, and given up after a day.
    #[must_use]
    pub fn partners(mut self, partners: Arc<dyn Partners>) -> Self {
        self.partners = Some(partners);
        self
    }

    /// The client ids of applications, which their webhooks name as the recipient. A webhook to
    /// any other application names none.
    #[must_use]
    pub fn client_ids(
        mut self,
        client_ids: impl IntoIterator<Item = (ApplicationId, ClientId)>,
    ) -> Self {
        self.client_ids = Arc::new(client_ids.into_iter().collect());
        self
    }

    /// Takes the time from elsewhere than the machine.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Takes randomness from elsewhere than the machine.
    #[must_use]
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// Other settings.
    #[must_use]
    pub fn settings(mut self, settings: SenderSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Makes the sender.
    #[must_use]
    pub fn build(self) -> Sender {
        let mut limits = HttpLimits::default();
        limits.request_timeout = self.settings.answer;
        limits.max_body_bytes = BODY;
        let clock_guard = ClockGuard::new(Arc::clone(&self.store), Arc::clone(&self.clock));
        Sender(Arc::new(Inner {
            store: self.store,
            transport: self.transport,
            signer: self.signer,
            partners: self.partners,
            client_ids: self.client_ids,
            clock: self.clock,
            random: self.random,
            settings: self.settings,
            limits,
            clock_guard,
            circuits: Mutex::default(),
        }))
    }
}

impl Inner {
    /// Whether this machine's clock agrees with the store's. If not, nothing may be sent or planned:
    /// a webhook that looks days old would be given up.
    async fn clock_is_right(&self) -> bool {
        self.clock_guard.is_right(self.settings.lease).await
    }

    fn circuits(&self) -> MutexGuard<'_, BTreeMap<Endpoint, Circuit>> {
        self.circuits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
