//! Webhook sender: signs and sends the due webhooks of the outbox, and repeats failed ones.
//!
//! [`check_url`](super::check_url) decides which URLs are accepted. The transport decides where
//! connections may go.

mod delivery;
mod dispatcher;
mod pace;

use self::dispatcher::{ClaimStatus, Dispatcher, Endpoint, EndpointCircuit};
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

/// Maximum number of bytes of a response body, which is ignored.
const MAX_RESPONSE_BYTES: usize = 1 << 20;

/// Settings of a webhook sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SenderSettings {
    /// Timeout of a response. Default: 10 s.
    pub response_timeout: Duration,
    /// Maximum number of concurrent requests. Default: 512.
    pub max_concurrent: usize,
    /// Maximum number of concurrent requests to one endpoint. Default: 4.
    pub max_concurrent_per_endpoint: usize,
    /// Interval of outbox polls without a notification. Default: 1 s.
    pub poll: Duration,
    /// Time for which this process claims a webhook. If the process dies, another one sends the
    /// webhook after that. Default: 2 minutes.
    pub lease: Duration,
}

impl Default for SenderSettings {
    fn default() -> Self {
        Self {
            response_timeout: Duration::from_secs(10),
            max_concurrent: 512,
            max_concurrent_per_endpoint: 4,
            poll: Duration::from_secs(1),
            lease: Duration::from_secs(120),
        }
    }
}

/// Sender of the webhooks of the outbox. Any number of senders may run, in any number of processes.
///
/// A webhook is delivered if the response has a 2xx status and comes within 10 s. Any other
/// response, including a redirect, is a failure. The webhook is sent again after 30 s and then
/// after four times as long each time, for 24 hours. A `Retry-After` of a 429 is respected up to 4
/// hours. Each attempt is signed again, with the same `jti`. So a webhook arrives at least once or
/// is given up, and webhooks may arrive in any order.
///
/// Notifications of partners (`POST /applications/notify`) are sent by the partner's own client, on
/// the same schedule. A 404 means that the partner does not offer the endpoint, and the
/// notification is dropped.
///
/// An endpoint is an application and its host, or a partner. An endpoint that keeps failing is
/// probed instead of called for each of its webhooks. A slow endpoint has a limited number of
/// concurrent requests. Neither delays other endpoints.
///
/// Nothing is sent while the machine's clock and the store's differ by more than a quarter of
/// [`lease`](SenderSettings::lease).
///
/// The transport must reach public addresses only ([`public_addresses_only`](px_core::is_public)),
/// since applications choose the URLs, and must not follow redirects.
///
/// Metrics: `px_webhook_deliveries_total` with `outcome` `delivered`, `failed`, `given_up` or
/// `not_offered`; `px_webhook_lag_seconds`, from the commit to the delivery; `px_webhook_pending`,
/// the number of webhooks that this process has claimed.
///
/// Contract: `px.md` section 9.
#[derive(Clone)]
pub struct Sender(Arc<Inner>);

/// Builder of a [`Sender`].
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
    circuits: Mutex<BTreeMap<Endpoint, EndpointCircuit>>,
}

impl Sender {
    /// Returns a builder.
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

    /// Sends due webhooks until `stop`. Then completes the requests under way and hands the rest
    /// back.
    pub async fn run(&self, stop: impl Future<Output = ()> + Send) {
        let inner = &self.0;
        let mut stop = pin!(stop);
        let mut dispatcher = Dispatcher::new(inner.clone());
        let mut outbox = inner.store.signals().outbox.listen();
        let mut poll = inner.clock.sleep(inner.settings.poll);
        let mut status = ClaimStatus::More;
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                () = dispatcher.attempt_ended() => status = dispatcher.refill(status).await,
                () = outbox.raised() => status = ClaimStatus::More,
                () = &mut poll => {
                    poll = inner.clock.sleep(inner.settings.poll);
                    status = ClaimStatus::More;
                }
                () = std::future::ready(()), if status == ClaimStatus::More => {
                    status = dispatcher.claim(inner.clock.now()).await;
                }
            }
        }
        dispatcher.close().await;
    }

    /// Sends everything that is due now, once. Returns the number of attempts.
    ///
    /// Does not wait for retries, for webhooks that an endpoint cannot take within seconds, or for
    /// endpoints that are down.
    pub async fn deliver_due(&self) -> usize {
        let due = self.0.clock.now();
        let mut dispatcher = Dispatcher::new(self.0.clone());
        let mut status = ClaimStatus::More;
        while status == ClaimStatus::More || !dispatcher.is_idle() {
            tokio::select! {
                biased;
                () = dispatcher.attempt_ended() => status = dispatcher.refill(status).await,
                () = std::future::ready(()), if status == ClaimStatus::More => {
                    status = dispatcher.claim(due).await;
                }
            }
        }
        dispatcher.sent()
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
    /// Sets the partners that are notified of applications that connect or leave. Their clients
    /// need a signer ([`Signer::for_partner`]). Notifications for other partners are left to other
    /// senders, and given up after a day.
    #[must_use]
    pub fn partners(mut self, partners: Arc<dyn Partners>) -> Self {
        self.partners = Some(partners);
        self
    }

    /// Sets the client ids of applications, which their webhooks name as recipient. Webhooks to
    /// other applications name no recipient.
    #[must_use]
    pub fn client_ids(
        mut self,
        client_ids: impl IntoIterator<Item = (ApplicationId, ClientId)>,
    ) -> Self {
        self.client_ids = Arc::new(client_ids.into_iter().collect());
        self
    }

    /// Sets the clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the source of randomness.
    #[must_use]
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// Sets the settings.
    #[must_use]
    pub fn settings(mut self, settings: SenderSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Builds the sender.
    #[must_use]
    pub fn build(self) -> Sender {
        let mut limits = HttpLimits::default();
        limits.request_timeout = self.settings.response_timeout;
        limits.max_body_bytes = MAX_RESPONSE_BYTES;
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
    /// Returns whether this machine's clock agrees with the store's. If not, nothing may be sent or
    /// scheduled: a webhook that seems to be days old would be given up.
    async fn clock_is_right(&self) -> bool {
        self.clock_guard.is_right(self.settings.lease).await
    }

    fn circuits(&self) -> MutexGuard<'_, BTreeMap<Endpoint, EndpointCircuit>> {
        self.circuits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
