//! The webhooks that a sender holds: which of them is sent next, and which go back.
//!
//! Each endpoint has a lane of its own, so that one that is slow or down holds up nobody else.

use super::{
    Inner,
    circuit::Permit,
    delivery::{self, Outcome, Reason},
};
use crate::{
    store::QueuedWebhook,
    webhook::{
        schedule::{self, GIVEN_UP},
        url,
    },
};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{
    future::BoxFuture,
    stream::{FuturesUnordered, StreamExt as _},
};
use metrics::{counter, gauge, histogram};
use px_types::ApplicationId;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};
use tracing::Instrument as _;

/// So many webhooks wait at a lane for each that it can send at once.
const WAITING: usize = 4;
/// How long one is put off that finds its lane full, or the answer of a probe awaited.
const PUT_OFF: TimeDelta = TimeDelta::seconds(10);
/// How long one is put off that cannot be signed.
const NO_KEY: TimeDelta = TimeDelta::seconds(30);

/// Where webhooks go: an application and its host. Two applications at one host are two
/// endpoints, so that neither can hold up the other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Endpoint {
    application: ApplicationId,
    origin: String,
}

impl Endpoint {
    fn of(webhook: &QueuedWebhook) -> Self {
        let origin = url::origin(&webhook.url);
        Self { application: webhook.application_id.clone(), origin }
    }
}

/// What is in hand.
pub(super) struct Desk {
    inner: Arc<Inner>,
    flights: FuturesUnordered<BoxFuture<'static, Endpoint>>,
    lanes: BTreeMap<Endpoint, Lane>,
    back: Vec<(QueuedWebhook, DateTime<Utc>)>,
    too_old: Vec<QueuedWebhook>,
    sent: usize,
}

#[derive(Default)]
struct Lane {
    in_flight: usize,
    waiting: VecDeque<Held>,
}

struct Held {
    webhook: QueuedWebhook,
    leased_until: DateTime<Utc>,
}

/// What a look into the outbox found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// There may be more.
    More,
    /// There is nothing else due.
    Done,
    /// There is no room to take more.
    Full,
}

impl Desk {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self {
            inner,
            flights: FuturesUnordered::new(),
            lanes: BTreeMap::new(),
            back: Vec::new(),
            too_old: Vec::new(),
            sent: 0,
        }
    }

    /// How many attempts were made.
    pub(super) fn sent(&self) -> usize {
        self.sent
    }

    /// Whether nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.flights.is_empty()
    }

    /// Takes webhooks that were due at a moment, and begins to send.
    pub(super) async fn take(&mut self, due: DateTime<Utc>) -> Look {
        let settings = &self.inner.settings;
        let batch = settings.at_once.clamp(1, 64);
        let held: usize = self.lanes.values().map(|lane| lane.in_flight + lane.waiting.len()).sum();
        let room = (settings.at_once.max(1) * 2).saturating_sub(held);
        if room < batch.div_ceil(2) {
            return Look::Full;
        }
        let limit = batch.min(room);
        let leased_until = self.inner.clock.now() + settings.lease;
        let claimed = match self.inner.store.claim_webhooks(due, leased_until, limit).await {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::warn!(%error, "the outbox cannot be read; webhooks wait");
                return Look::Done;
            }
        };
        let look = if claimed.len() < limit { Look::Done } else { Look::More };
        let most = settings.per_endpoint.max(1) * WAITING;
        for webhook in claimed {
            let lane = self.lanes.entry(Endpoint::of(&webhook)).or_default();
            if lane.waiting.len() < most {
                lane.waiting.push_back(Held { webhook, leased_until });
            } else {
                self.back.push((webhook, self.inner.spread(PUT_OFF)));
            }
        }
        self.begin().await;
        look
    }

    /// Waits until an attempt has ended; for ever when none is under way. May be dropped while
    /// it waits. [`go_on`](Self::go_on) is to follow.
    pub(super) async fn landed(&mut self) {
        let Some(endpoint) = self.flights.next().await else {
            return std::future::pending().await;
        };
        if let Some(lane) = self.lanes.get_mut(&endpoint) {
            lane.in_flight -= 1;
        }
    }

    /// Sends what an ended attempt made room for; answers whether to look for more.
    pub(super) async fn go_on(&mut self, look: Look) -> Look {
        self.begin().await;
        if look == Look::Full { Look::More } else { look }
    }

    /// Gives back what waits, and ends what is under way.
    pub(super) async fn close(mut self) {
        let now = self.inner.clock.now();
        for lane in self.lanes.values_mut() {
            self.back.extend(lane.waiting.drain(..).map(|held| (held.webhook, now)));
        }
        self.flush().await;
        while self.flights.next().await.is_some() {}
        gauge!("px_webhook_pending").set(0_u32);
    }

    /// Sends what may be sent now, and gives back what may not.
    async fn begin(&mut self) {
        let now = self.inner.clock.now();
        let mut endpoints: Vec<_> = self
            .lanes
            .iter()
            .filter_map(|(endpoint, lane)| Some((lane.waiting.front()?.webhook.id, endpoint)))
            .collect();
        // When there is not room for all, who waits longest is first.
        endpoints.sort_unstable();
        let endpoints: Vec<_> =
            endpoints.into_iter().map(|(_, endpoint)| endpoint.clone()).collect();
        for endpoint in endpoints {
            while self.begin_one(&endpoint, now) {}
        }
        self.lanes.retain(|_, lane| lane.in_flight > 0 || !lane.waiting.is_empty());
        self.flush().await;
    }

    /// Sends one webhook of a lane, if there is one and it may be sent.
    fn begin_one(&mut self, endpoint: &Endpoint, now: DateTime<Utc>) -> bool {
        let inner = self.inner.clone();
        let Some(lane) = self.lanes.get_mut(endpoint) else { return false };
        match inner.circuits().entry(endpoint.clone()).or_default().permit(now) {
            Permit::Go => {}
            Permit::Wait if lane.in_flight > 0 => return false,
            // Another run of this sender makes the probe.
            Permit::Wait => {
                let waiting = lane.waiting.drain(..);
                self.back.extend(waiting.map(|held| (held.webhook, inner.spread(PUT_OFF))));
                return false;
            }
            Permit::NotBefore(until) => {
                for held in lane.waiting.drain(..) {
                    if now - held.webhook.created_at >= GIVEN_UP {
                        self.too_old.push(held.webhook);
                    } else {
                        self.back.push((held.webhook, inner.spread(until - now)));
                    }
                }
                return false;
            }
        }
        let settings = &inner.settings;
        let busy = lane.in_flight >= settings.per_endpoint.max(1);
        if busy || self.flights.len() >= settings.at_once.max(1) {
            return false;
        }
        let Some(held) = lane.waiting.pop_front() else { return false };
        if now + settings.answer >= held.leased_until {
            // It may be another one's before it is answered.
            self.back.push((held.webhook, now));
            return true;
        }
        inner.circuits().entry(endpoint.clone()).or_default().begin();
        lane.in_flight += 1;
        self.sent += 1;
        self.flights.push(Box::pin(fly(inner.clone(), held.webhook, endpoint.clone())));
        true
    }

    /// Tells the store what is given back or given up unsent.
    async fn flush(&mut self) {
        if !self.back.is_empty() {
            let back = std::mem::take(&mut self.back);
            if let Err(error) = self.inner.store.hand_back_webhooks(&back).await {
                tracing::warn!(%error, "webhooks stay held until their lease ends");
            }
        }
        for webhook in std::mem::take(&mut self.too_old) {
            give_up(&webhook, "its endpoint has been down");
            self.inner.settle(&webhook, None).await;
        }
        let held: usize = self.lanes.values().map(|lane| lane.in_flight + lane.waiting.len()).sum();
        gauge!("px_webhook_pending").set(u32::try_from(held).unwrap_or(u32::MAX));
    }
}

/// Sends a webhook and settles it.
async fn fly(inner: Arc<Inner>, webhook: QueuedWebhook, endpoint: Endpoint) -> Endpoint {
    let span = tracing::info_span!(
        "webhook",
        item = webhook.item_id.as_str(),
        application = webhook.application_id.as_str(),
        attempt = webhook.attempt,
        endpoint = endpoint.origin,
    );
    async {
        let transport = (&*inner.transport, &inner.limits);
        let outcome = delivery::attempt(&webhook, transport, &inner.signer, &*inner.clock).await;
        inner.learn(&endpoint, &outcome);
        settle(&inner, &webhook, outcome).await;
    }
    .instrument(span)
    .await;
    endpoint
}

/// Says in the store what an attempt came to.
async fn settle(inner: &Inner, webhook: &QueuedWebhook, outcome: Outcome) {
    let now = inner.clock.now();
    match outcome {
        Outcome::Delivered => {
            let lag = (now - webhook.created_at).to_std().unwrap_or_default();
            counter!("px_webhook_deliveries_total", "outcome" => "delivered").increment(1);
            histogram!("px_webhook_lag_seconds").record(lag);
            tracing::debug!(lag = ?lag, "delivered");
            inner.settle(webhook, None).await;
        }
        Outcome::Failed { reason, asked } => {
            let next = schedule::next_attempt(webhook.created_at, webhook.attempt, now, asked);
            match next {
                Some(next) => {
                    counter!("px_webhook_deliveries_total", "outcome" => "failed").increment(1);
                    tracing::info!(%reason, %next, "not delivered; it is sent again");
                }
                None => give_up(webhook, &reason.to_string()),
            }
            inner.settle(webhook, next).await;
        }
        Outcome::NotSigned => {
            tracing::error!("no webhook can be signed: no signing key is in force");
            let back = [(webhook.clone(), inner.spread(NO_KEY))];
            if let Err(error) = inner.store.hand_back_webhooks(&back).await {
                tracing::warn!(%error, "a webhook stays held until its lease ends");
            }
        }
        Outcome::NoAddress => {
            give_up(webhook, "its address is no URL");
            inner.settle(webhook, None).await;
        }
    }
}

fn give_up(webhook: &QueuedWebhook, reason: &str) {
    counter!("px_webhook_deliveries_total", "outcome" => "given_up").increment(1);
    tracing::warn!(
        item = webhook.item_id.as_str(),
        application = webhook.application_id.as_str(),
        attempts = webhook.attempt,
        reason,
        "a webhook is given up; the application learns of it when it reads",
    );
}

impl Inner {
    /// Takes an outcome into account for the endpoint's circuit.
    fn learn(&self, endpoint: &Endpoint, outcome: &Outcome) {
        let now = self.clock.now();
        let mut circuits = self.circuits();
        let circuit = circuits.entry(endpoint.clone()).or_default();
        match outcome {
            Outcome::Delivered => circuit.succeeded(),
            Outcome::Failed { reason: Reason::Status(_) | Reason::Transport(_), asked } => {
                let asked = asked.map(|moment| now + schedule::kept(moment, now));
                circuit.failed(now, asked);
            }
            Outcome::NotSigned | Outcome::NoAddress => circuit.abandoned(),
        }
        circuits.retain(|_, circuit| !circuit.is_forgotten(now));
    }

    /// A moment after a wait, up to a quarter later: what waits together does not come together.
    fn spread(&self, wait: TimeDelta) -> DateTime<Utc> {
        let quarter = u64::try_from(wait.num_milliseconds() / 4).unwrap_or_default();
        let more = i64::try_from(self.random.below(quarter)).unwrap_or_default();
        self.clock.now() + wait + TimeDelta::milliseconds(more)
    }

    async fn settle(&self, webhook: &QueuedWebhook, again_at: Option<DateTime<Utc>>) {
        if let Err(error) = self.store.settle_webhook(webhook, again_at).await {
            tracing::warn!(%error, "a webhook is sent once more when its lease ends");
        }
    }
}
