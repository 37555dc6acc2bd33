//! The webhooks that a sender holds: which of them is sent next, and which go back.
//!
//! Each endpoint has a lane of its own, so that one that is slow or down holds up nobody else.

use super::{
    Inner,
    circuit::Permit,
    delivery::{self, Outcome},
    pace::Pace,
};
use crate::{
    store::{Destination, QueuedWebhook, WebhookSettlement},
    webhook::{
        schedule::{self, GIVEN_UP},
        url,
    },
};
use chrono::{DateTime, TimeDelta, Utc};
use metrics::{counter, gauge, histogram};
use px_types::{ApplicationId, InstitutionId};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};
use tokio::task::{JoinError, JoinSet};
use tracing::Instrument as _;

/// How many webhooks are held for each that can be sent at once, over all lanes.
const HELD: usize = 8;
/// How long one is put off while another run of the sender probes its endpoint.
const PROBED: TimeDelta = TimeDelta::seconds(10);
/// How long one is put off that cannot be signed, or whose partner is not known here.
const NO_KEY: TimeDelta = TimeDelta::seconds(30);

/// Where things go: to an application and its host, or to a partner. Two applications at one
/// host are two endpoints, so that neither can hold up the other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Endpoint {
    Application(ApplicationId, String),
    Partner(InstitutionId),
}

impl Endpoint {
    fn of(webhook: &QueuedWebhook) -> Self {
        match &webhook.to {
            Destination::Url(url) => {
                Self::Application(webhook.application_id.clone(), url::origin(url))
            }
            Destination::Partner(institution) => Self::Partner(institution.clone()),
        }
    }

    /// What may be logged.
    fn name(&self) -> &str {
        match self {
            Self::Application(_, origin) => origin,
            Self::Partner(institution) => institution.as_str(),
        }
    }
}

/// What is in hand.
pub(super) struct Desk {
    inner: Arc<Inner>,
    /// Tasks of their own: one that waits for the store must go on while the desk does, too.
    flights: JoinSet<Flight>,
    lanes: BTreeMap<Endpoint, Lane>,
    back: Vec<(QueuedWebhook, DateTime<Utc>)>,
    /// Attempts that ended and are not settled in the store yet. All of them are settled in one call.
    settlements: Vec<WebhookSettlement>,
    sent: usize,
}

#[derive(Default)]
struct Lane {
    pace: Pace,
    waiting: VecDeque<Held>,
}

impl Lane {
    fn held(&self) -> usize {
        self.pace.in_flight() + self.waiting.len()
    }

    /// Keeps a webhook, or answers by how much it is put off.
    fn admit(&mut self, held: Held, lanes: usize, now: DateTime<Utc>) -> Option<(Held, TimeDelta)> {
        match self.pace.put_off(self.waiting.len(), lanes, now) {
            Some(wait) => Some((held, wait)),
            None => {
                self.waiting.push_back(held);
                None
            }
        }
    }
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
            flights: JoinSet::new(),
            lanes: BTreeMap::new(),
            back: Vec::new(),
            settlements: Vec::new(),
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
        let settings = self.inner.settings;
        let batch = settings.at_once.clamp(1, 64);
        if self.held() + batch > settings.at_once.max(1).saturating_mul(HELD) {
            self.make_room();
        }
        let room = settings.at_once.max(1).saturating_mul(HELD).saturating_sub(self.held());
        if room == 0 {
            self.flush().await;
            return Look::Full;
        }
        let limit = batch.min(room);
        if !self.inner.clock_is_right().await {
            return Look::Done;
        }
        let now = self.inner.clock.now();
        let leased_until = now + settings.lease;
        let claimed = match self.inner.store.claim_webhooks(due, leased_until, limit).await {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::warn!(%error, "the outbox cannot be read; webhooks wait");
                return Look::Done;
            }
        };
        let look = if claimed.len() < limit { Look::Done } else { Look::More };
        for webhook in claimed {
            let lane = self.lanes.entry(Endpoint::of(&webhook)).or_default();
            let held = Held { webhook, leased_until };
            if let Some((held, wait)) = lane.admit(held, settings.per_endpoint.max(1), now) {
                self.back.push((held.webhook, now + wait));
            }
        }
        self.begin().await;
        look
    }

    /// Waits until an attempt has ended; for ever when none is under way. May be dropped while
    /// it waits. [`go_on`](Self::go_on) is to follow.
    pub(super) async fn landed(&mut self) {
        match self.flights.join_next().await {
            None => return std::future::pending().await,
            Some(flight) => self.note(flight),
        }
        // Whatever else has ended is settled in the same call.
        while let Some(flight) = self.flights.try_join_next() {
            self.note(flight);
        }
    }

    /// Notes an attempt that ended; [`flush`](Self::flush) settles it.
    fn note(&mut self, flight: Result<Flight, JoinError>) {
        let flight = match flight {
            Ok(flight) => flight,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => return,
            },
        };
        if let Some(lane) = self.lanes.get_mut(&flight.endpoint) {
            lane.pace.ended(flight.began_at, self.inner.clock.now());
        }
        match flight.next {
            Next::Settle(again_at) => {
                self.settlements.push(WebhookSettlement::new(flight.webhook, again_at));
            }
            Next::HandBack => self.back.push((flight.webhook, self.inner.spread(NO_KEY))),
            Next::Leave => {}
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
        while let Some(flight) = self.flights.join_next().await {
            self.note(flight);
        }
        self.flush().await;
        gauge!("px_webhook_pending").set(0_u32);
    }

    /// Sends what may be sent now, and gives back what may not.
    async fn begin(&mut self) {
        if !self.inner.clock_is_right().await {
            return self.flush().await;
        }
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
        self.lanes.retain(|_, lane| lane.held() > 0);
        self.flush().await;
    }

    /// Gives back what has come to wait too long, when a lane is slower than it was thought.
    fn make_room(&mut self) {
        let (now, lanes) = (self.inner.clock.now(), self.inner.settings.per_endpoint.max(1));
        for lane in self.lanes.values_mut() {
            for held in std::mem::take(&mut lane.waiting) {
                if let Some((held, wait)) = lane.admit(held, lanes, now) {
                    self.back.push((held.webhook, now + wait));
                }
            }
        }
    }

    fn held(&self) -> usize {
        self.lanes.values().map(Lane::held).sum()
    }

    /// Sends one webhook of a lane, if there is one and it may be sent.
    fn begin_one(&mut self, endpoint: &Endpoint, now: DateTime<Utc>) -> bool {
        let inner = self.inner.clone();
        let Some(lane) = self.lanes.get_mut(endpoint) else { return false };
        match inner.circuits().entry(endpoint.clone()).or_default().permit(now) {
            Permit::Go => {}
            Permit::Wait if lane.pace.in_flight() > 0 => return false,
            // Another run of this sender makes the probe.
            Permit::Wait => {
                let waiting = lane.waiting.drain(..);
                self.back.extend(waiting.map(|held| (held.webhook, inner.spread(PROBED))));
                return false;
            }
            Permit::NotBefore(until) => {
                for held in lane.waiting.drain(..) {
                    if now - held.webhook.created_at >= GIVEN_UP {
                        give_up(&held.webhook, "its endpoint has been down");
                        self.settlements.push(WebhookSettlement::new(held.webhook, None));
                    } else {
                        self.back.push((held.webhook, inner.spread(until - now)));
                    }
                }
                return false;
            }
        }
        let settings = &inner.settings;
        let busy = lane.pace.in_flight() >= settings.per_endpoint.max(1);
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
        lane.pace.began(now);
        self.sent += 1;
        self.flights.spawn(fly(inner, held.webhook, endpoint.clone(), now));
        true
    }

    /// Tells the store what is given back or given up unsent.
    async fn flush(&mut self) {
        let back = std::mem::take(&mut self.back);
        // By a wrong clock they would be due at a wrong time; their lease ends by itself.
        if !back.is_empty()
            && self.inner.clock_is_right().await
            && let Err(error) = self.inner.store.hand_back_webhooks(&back).await
        {
            tracing::warn!(%error, "webhooks stay held until their lease ends");
        }
        if !self.settlements.is_empty() {
            let settlements = std::mem::take(&mut self.settlements);
            if let Err(error) = self.inner.store.settle_webhooks(&settlements).await {
                tracing::warn!(%error, "webhooks are sent once more when their lease ends");
            }
        }
        gauge!("px_webhook_pending").set(u32::try_from(self.held()).unwrap_or(u32::MAX));
    }
}

/// An attempt that ended.
struct Flight {
    webhook: QueuedWebhook,
    endpoint: Endpoint,
    began_at: DateTime<Utc>,
    next: Next,
}

/// What becomes of a webhook after an attempt.
enum Next {
    /// It ends, or is sent again at that time.
    Settle(Option<DateTime<Utc>>),
    /// This process cannot send it. The attempt does not count.
    HandBack,
    /// It failed while the machine's clock was wrong: it is sent again when its lease has ended.
    Leave,
}

/// Makes one attempt to deliver a webhook.
async fn fly(
    inner: Arc<Inner>,
    webhook: QueuedWebhook,
    endpoint: Endpoint,
    began_at: DateTime<Utc>,
) -> Flight {
    let span = tracing::info_span!(
        "webhook",
        item = webhook.item_id.as_str(),
        application = webhook.application_id.as_str(),
        attempt = webhook.attempt,
        endpoint = endpoint.name(),
    );
    let next = async {
        let outcome = delivery::attempt(&inner, &webhook).await;
        let failed = matches!(outcome, Outcome::Failed { .. } | Outcome::NoPartner);
        if failed && !inner.clock_is_right().await {
            return Next::Leave;
        }
        inner.learn(&endpoint, &outcome);
        report(&inner, &webhook, outcome)
    }
    .instrument(span)
    .await;
    Flight { webhook, endpoint, began_at, next }
}

/// Logs and counts the outcome of an attempt, and decides what becomes of the webhook.
fn report(inner: &Inner, webhook: &QueuedWebhook, outcome: Outcome) -> Next {
    let now = inner.clock.now();
    match outcome {
        Outcome::Delivered => {
            let lag = (now - webhook.created_at).to_std().unwrap_or_default();
            counter!("px_webhook_deliveries_total", "outcome" => "delivered").increment(1);
            histogram!("px_webhook_lag_seconds").record(lag);
            tracing::debug!(lag = ?lag, "delivered");
            Next::Settle(None)
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
            Next::Settle(next)
        }
        Outcome::NotOffered => {
            counter!("px_webhook_deliveries_total", "outcome" => "not_offered").increment(1);
            tracing::debug!("the partner takes no notifications");
            Next::Settle(None)
        }
        Outcome::NotSigned => {
            tracing::error!(
                "nothing can be signed: no signing key is in force, or a partner's client has no \
                 signer"
            );
            Next::HandBack
        }
        Outcome::NoPartner if now - webhook.created_at < GIVEN_UP => Next::HandBack,
        Outcome::NoPartner => {
            give_up(webhook, "no sender knows the partner");
            Next::Settle(None)
        }
        Outcome::NoAddress => {
            give_up(webhook, "nothing can be sent there");
            Next::Settle(None)
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
            Outcome::Delivered | Outcome::NotOffered => circuit.succeeded(),
            Outcome::Failed { asked, .. } => {
                let asked = asked.map(|moment| now + schedule::kept(moment, now));
                circuit.failed(now, asked);
            }
            Outcome::NotSigned | Outcome::NoPartner | Outcome::NoAddress => circuit.abandoned(),
        }
        circuits.retain(|_, circuit| !circuit.is_forgotten(now));
    }

    /// A moment after a wait, up to a quarter later: what waits together does not come together.
    fn spread(&self, wait: TimeDelta) -> DateTime<Utc> {
        let quarter = u64::try_from(wait.num_milliseconds() / 4).unwrap_or_default();
        let more = i64::try_from(self.random.below(quarter)).unwrap_or_default();
        self.clock.now() + wait + TimeDelta::milliseconds(more)
    }
}
