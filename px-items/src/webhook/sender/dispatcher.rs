//! Dispatcher of a sender: decides which of the claimed webhooks is sent next, and which are handed
//! back.
//!
//! Each endpoint has a lane (queue) of its own, so that a slow or failing one does not delay
//! others.

use super::{
    Inner,
    delivery::{self, Outcome},
    pace::Pace,
};
use crate::{
    store::{Destination, QueuedWebhook, WebhookSettlement},
    webhook::{
        schedule::{self, MAX_REQUESTED_DELAY, MAX_WEBHOOK_AGE},
        url,
    },
};
use chrono::{DateTime, TimeDelta, Utc};
use metrics::{counter, gauge, histogram};
use px_core::circuit::{Admission, Circuit, CircuitSettings};
use px_types::{ApplicationId, InstitutionId};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};
use tokio::task::{JoinError, JoinSet};
use tracing::Instrument as _;

/// Maximum number of claimed webhooks per concurrent request, over all lanes.
const MAX_CLAIMED_PER_REQUEST: usize = 8;
/// Deferral of a webhook while another run of the sender probes its endpoint.
const PROBE_DEFERRAL: TimeDelta = TimeDelta::seconds(10);
/// Deferral of a webhook that cannot be signed, or for a partner that is unknown here.
const UNSENDABLE_DEFERRAL: TimeDelta = TimeDelta::seconds(30);

/// Recipient of webhooks: an application and its host, or a partner. Two applications on one host
/// are two endpoints, so that neither can delay the other.
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

    /// Returns the part that may be logged.
    fn name(&self) -> &str {
        match self {
            Self::Application(_, origin) => origin,
            Self::Partner(institution) => institution.as_str(),
        }
    }
}

/// Time after which the failures of an endpoint are forgotten. Longer than a `Retry-After` counts.
const FAILURE_RETENTION: TimeDelta = TimeDelta::hours(5);

/// Circuit breaker of an endpoint in this process.
#[derive(Debug, Default)]
pub(super) struct EndpointCircuit {
    circuit: Circuit,
    last_failure_at: Option<DateTime<Utc>>,
}

impl EndpointCircuit {
    fn settings() -> CircuitSettings {
        let mut settings = CircuitSettings::default();
        settings.max_retry_after = MAX_REQUESTED_DELAY;
        settings.opens_on_retry_after = true;
        settings
    }

    fn is_forgotten(&self, now: DateTime<Utc>) -> bool {
        let is_old = |at: DateTime<Utc>| now - at > FAILURE_RETENTION;
        let is_probing = matches!(self.circuit.admission(now), Admission::Probing(_));
        !is_probing && (self.circuit.is_clean() || self.last_failure_at.is_none_or(is_old))
    }
}

/// Dispatcher of claimed webhooks.
pub(super) struct Dispatcher {
    inner: Arc<Inner>,
    /// Separate tasks: one that waits for the store must continue while the dispatcher waits for
    /// it, too.
    attempts: JoinSet<EndedAttempt>,
    lanes: BTreeMap<Endpoint, Lane>,
    returned: Vec<(QueuedWebhook, DateTime<Utc>)>,
    /// Attempts that ended and are not settled in the store yet. One call settles all of them.
    settlements: Vec<WebhookSettlement>,
    sent: usize,
}

#[derive(Default)]
struct Lane {
    pace: Pace,
    queued: VecDeque<ClaimedWebhook>,
}

impl Lane {
    fn claimed(&self) -> usize {
        self.pace.in_flight() + self.queued.len()
    }

    /// Queues a webhook, or returns it with the time by which it is deferred.
    fn admit(
        &mut self,
        claimed: ClaimedWebhook,
        lanes: usize,
        now: DateTime<Utc>,
    ) -> Option<(ClaimedWebhook, TimeDelta)> {
        match self.pace.deferral(self.queued.len(), lanes, now) {
            Some(wait) => Some((claimed, wait)),
            None => {
                self.queued.push_back(claimed);
                None
            }
        }
    }
}

struct ClaimedWebhook {
    webhook: QueuedWebhook,
    leased_until: DateTime<Utc>,
}

/// Result of a claim from the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClaimStatus {
    /// More webhooks may be due.
    More,
    /// No other webhook is due.
    Done,
    /// The dispatcher is at its limit.
    Full,
}

impl Dispatcher {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self {
            inner,
            attempts: JoinSet::new(),
            lanes: BTreeMap::new(),
            returned: Vec::new(),
            settlements: Vec::new(),
            sent: 0,
        }
    }

    /// Returns the number of attempts.
    pub(super) fn sent(&self) -> usize {
        self.sent
    }

    /// Returns whether no attempt is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.attempts.is_empty()
    }

    /// Claims webhooks that were due at a given time, and starts to send them.
    pub(super) async fn claim(&mut self, due: DateTime<Utc>) -> ClaimStatus {
        let settings = self.inner.settings;
        let batch = settings.max_concurrent.clamp(1, 64);
        if self.claimed() + batch
            > settings.max_concurrent.max(1).saturating_mul(MAX_CLAIMED_PER_REQUEST)
        {
            self.shed();
        }
        let free = settings
            .max_concurrent
            .max(1)
            .saturating_mul(MAX_CLAIMED_PER_REQUEST)
            .saturating_sub(self.claimed());
        if free == 0 {
            self.flush().await;
            return ClaimStatus::Full;
        }
        let limit = batch.min(free);
        if !self.inner.clock_is_right().await {
            return ClaimStatus::Done;
        }
        let now = self.inner.clock.now();
        let leased_until = now + settings.lease;
        let claimed = match self.inner.store.claim_webhooks(due, leased_until, limit).await {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::warn!(%error, "the outbox cannot be read; webhooks wait");
                return ClaimStatus::Done;
            }
        };
        let status = if claimed.len() < limit { ClaimStatus::Done } else { ClaimStatus::More };
        for webhook in claimed {
            let lane = self.lanes.entry(Endpoint::of(&webhook)).or_default();
            let claimed = ClaimedWebhook { webhook, leased_until };
            if let Some((claimed, wait)) =
                lane.admit(claimed, settings.max_concurrent_per_endpoint.max(1), now)
            {
                self.returned.push((claimed.webhook, now + wait));
            }
        }
        self.send_queued().await;
        status
    }

    /// Waits until an attempt has ended, or forever if none is under way. Cancel safe. Call
    /// [`refill`](Self::refill) afterwards.
    pub(super) async fn attempt_ended(&mut self) {
        match self.attempts.join_next().await {
            None => return std::future::pending().await,
            Some(ended) => self.record_ended(ended),
        }
        // All other attempts that have ended are settled in the same call.
        while let Some(ended) = self.attempts.try_join_next() {
            self.record_ended(ended);
        }
    }

    /// Records an attempt that ended. [`flush`](Self::flush) settles it.
    fn record_ended(&mut self, ended: Result<EndedAttempt, JoinError>) {
        let ended = match ended {
            Ok(ended) => ended,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => return,
            },
        };
        if let Some(lane) = self.lanes.get_mut(&ended.endpoint) {
            lane.pace.ended(ended.began_at, self.inner.clock.now());
        }
        match ended.next {
            NextState::Settle(again_at) => {
                self.settlements.push(WebhookSettlement::new(ended.webhook, again_at));
            }
            NextState::HandBack => {
                self.returned.push((ended.webhook, self.inner.spread(UNSENDABLE_DEFERRAL)))
            }
            NextState::Disconnection => {}
        }
    }

    /// Sends webhooks in the place of ended attempts. Returns whether to claim more.
    pub(super) async fn refill(&mut self, status: ClaimStatus) -> ClaimStatus {
        self.send_queued().await;
        if status == ClaimStatus::Full { ClaimStatus::More } else { status }
    }

    /// Hands queued webhooks back, and waits for the attempts under way.
    pub(super) async fn close(mut self) {
        let now = self.inner.clock.now();
        for lane in self.lanes.values_mut() {
            self.returned.extend(lane.queued.drain(..).map(|claimed| (claimed.webhook, now)));
        }
        self.flush().await;
        while let Some(ended) = self.attempts.join_next().await {
            self.record_ended(ended);
        }
        self.flush().await;
        gauge!("px_webhook_pending").set(0_u32);
    }

    /// Sends the webhooks that may be sent now, and hands back those that must wait.
    async fn send_queued(&mut self) {
        if !self.inner.clock_is_right().await {
            return self.flush().await;
        }
        let now = self.inner.clock.now();
        let mut endpoints: Vec<_> = self
            .lanes
            .iter()
            .filter_map(|(endpoint, lane)| Some((lane.queued.front()?.webhook.id, endpoint)))
            .collect();
        // The oldest webhooks go first if the limits do not allow all.
        endpoints.sort_unstable();
        let endpoints: Vec<_> =
            endpoints.into_iter().map(|(_, endpoint)| endpoint.clone()).collect();
        for endpoint in endpoints {
            while self.send_next(&endpoint, now) {}
        }
        self.lanes.retain(|_, lane| lane.claimed() > 0);
        self.flush().await;
    }

    /// Hands back webhooks that would wait too long because a lane is slower than expected.
    fn shed(&mut self) {
        let (now, lanes) =
            (self.inner.clock.now(), self.inner.settings.max_concurrent_per_endpoint.max(1));
        for lane in self.lanes.values_mut() {
            for claimed in std::mem::take(&mut lane.queued) {
                if let Some((claimed, wait)) = lane.admit(claimed, lanes, now) {
                    self.returned.push((claimed.webhook, now + wait));
                }
            }
        }
    }

    fn claimed(&self) -> usize {
        self.lanes.values().map(Lane::claimed).sum()
    }

    /// Sends one webhook of a lane, if there is one that may be sent.
    fn send_next(&mut self, endpoint: &Endpoint, now: DateTime<Utc>) -> bool {
        let inner = self.inner.clone();
        let Some(lane) = self.lanes.get_mut(endpoint) else { return false };
        match inner.admission(endpoint, now) {
            Admission::Allowed | Admission::ProbeDue => {}
            Admission::Probing(_) if lane.pace.in_flight() > 0 => return false,
            // Another run of this sender makes the probe.
            Admission::Probing(_) => {
                let queued = lane.queued.drain(..);
                self.returned
                    .extend(queued.map(|claimed| (claimed.webhook, inner.spread(PROBE_DEFERRAL))));
                return false;
            }
            Admission::NotBefore(until) => {
                for claimed in lane.queued.drain(..) {
                    if now - claimed.webhook.created_at >= MAX_WEBHOOK_AGE {
                        give_up(&claimed.webhook, "the endpoint has been down");
                        self.settlements.push(WebhookSettlement::new(claimed.webhook, None));
                    } else {
                        self.returned.push((claimed.webhook, inner.spread(until - now)));
                    }
                }
                return false;
            }
        }
        let settings = &inner.settings;
        let busy = lane.pace.in_flight() >= settings.max_concurrent_per_endpoint.max(1);
        if busy || self.attempts.len() >= settings.max_concurrent.max(1) {
            return false;
        }
        let Some(claimed) = lane.queued.pop_front() else { return false };
        if now + settings.response_timeout >= claimed.leased_until {
            // Its lease may end before the response.
            self.returned.push((claimed.webhook, now));
            return true;
        }
        let probe = inner.probe(endpoint, now, claimed.leased_until);
        lane.pace.began(now);
        self.sent += 1;
        self.attempts.spawn(attempt_delivery(inner, claimed.webhook, endpoint.clone(), probe, now));
        true
    }

    /// Hands webhooks back in the store, and settles ended attempts.
    async fn flush(&mut self) {
        let returned = std::mem::take(&mut self.returned);
        // With a wrong clock they would get a wrong due time. Their lease ends by itself.
        if !returned.is_empty()
            && self.inner.clock_is_right().await
            && let Err(error) = self.inner.store.hand_back_webhooks(&returned).await
        {
            tracing::warn!(%error, "webhooks could not be handed back; they wait until their lease ends");
        }
        if !self.settlements.is_empty() {
            let settlements = std::mem::take(&mut self.settlements);
            if let Err(error) = self.inner.store.settle_webhooks(&settlements).await {
                tracing::warn!(
                    %error,
                    "deliveries could not be recorded; the webhooks are sent again when their lease ends"
                );
            }
        }
        gauge!("px_webhook_pending").set(u32::try_from(self.claimed()).unwrap_or(u32::MAX));
    }
}

/// Attempt that ended.
struct EndedAttempt {
    webhook: QueuedWebhook,
    endpoint: Endpoint,
    began_at: DateTime<Utc>,
    next: NextState,
}

/// Next state of a webhook after an attempt.
enum NextState {
    /// It is complete, or will be sent again at that time.
    Settle(Option<DateTime<Utc>>),
    /// This process cannot send it. The attempt does not count.
    HandBack,
    /// It failed while the machine's clock was wrong. It is sent again when its lease has ended.
    Disconnection,
}

/// Makes one attempt to deliver a webhook. `probe` says whether it is the probe of an open circuit.
async fn attempt_delivery(
    inner: Arc<Inner>,
    webhook: QueuedWebhook,
    endpoint: Endpoint,
    probe: bool,
    began_at: DateTime<Utc>,
) -> EndedAttempt {
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
            return NextState::Disconnection;
        }
        inner.update_circuit(&endpoint, &outcome, probe);
        report(&inner, &webhook, outcome)
    }
    .instrument(span)
    .await;
    EndedAttempt { webhook, endpoint, began_at, next }
}

/// Logs and counts the outcome of an attempt, and returns the next state of the webhook.
fn report(inner: &Inner, webhook: &QueuedWebhook, outcome: Outcome) -> NextState {
    let now = inner.clock.now();
    match outcome {
        Outcome::Delivered => {
            let lag = (now - webhook.created_at).to_std().unwrap_or_default();
            counter!("px_webhook_deliveries_total", "outcome" => "delivered").increment(1);
            histogram!("px_webhook_lag_seconds").record(lag);
            tracing::debug!(lag = ?lag, "delivered");
            NextState::Settle(None)
        }
        Outcome::Failed { reason, retry_at } => {
            let next = schedule::next_attempt(webhook.created_at, webhook.attempt, now, retry_at);
            match next {
                Some(next) => {
                    counter!("px_webhook_deliveries_total", "outcome" => "failed").increment(1);
                    tracing::info!(%reason, %next, "not delivered; it will be sent again");
                }
                None => give_up(webhook, &reason.to_string()),
            }
            NextState::Settle(next)
        }
        Outcome::NotOffered => {
            counter!("px_webhook_deliveries_total", "outcome" => "not_offered").increment(1);
            tracing::debug!("the partner does not accept notifications");
            NextState::Settle(None)
        }
        Outcome::NotSigned => {
            tracing::error!(
                "the webhook cannot be signed: no signing key is valid now, or the partner's client has no \
                 signer"
            );
            NextState::HandBack
        }
        Outcome::NoPartner if now - webhook.created_at < MAX_WEBHOOK_AGE => NextState::HandBack,
        Outcome::NoPartner => {
            give_up(webhook, "the partner is not configured in any sender");
            NextState::Settle(None)
        }
        Outcome::Unsendable => {
            give_up(webhook, "nothing can be sent to its URL");
            NextState::Settle(None)
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
        "a webhook is given up; the application sees the change with its next read",
    );
}

impl Inner {
    /// Returns whether the endpoint's circuit allows a call.
    fn admission(&self, endpoint: &Endpoint, now: DateTime<Utc>) -> Admission {
        let circuits = self.circuits();
        circuits.get(endpoint).map_or(Admission::Allowed, |one| one.circuit.admission(now))
    }

    /// Begins the probe of an open circuit. Returns `false` if no probe is due.
    fn probe(&self, endpoint: &Endpoint, now: DateTime<Utc>, until: DateTime<Utc>) -> bool {
        self.circuits().get_mut(endpoint).is_some_and(|one| one.circuit.probe(now, until))
    }

    /// Applies an outcome to the endpoint's circuit.
    fn update_circuit(&self, endpoint: &Endpoint, outcome: &Outcome, probe: bool) {
        let now = self.clock.now();
        let mut circuits = self.circuits();
        let EndpointCircuit { circuit, last_failure_at } =
            circuits.entry(endpoint.clone()).or_default();
        match outcome {
            Outcome::Delivered | Outcome::NotOffered => circuit.responded(),
            Outcome::Failed { retry_at, .. } => {
                let retry_at = retry_at.map(|moment| now + schedule::clamped_delay(moment, now));
                circuit.failed(&EndpointCircuit::settings(), now, retry_at, probe);
                *last_failure_at = Some(now);
            }
            Outcome::NotSigned | Outcome::NoPartner | Outcome::Unsendable if probe => {
                circuit.probe_lost();
            }
            Outcome::NotSigned | Outcome::NoPartner | Outcome::Unsendable => {}
        }
        circuits.retain(|_, circuit| !circuit.is_forgotten(now));
    }

    /// Returns the current time plus a delay, with up to a quarter more at random, so that waiting
    /// webhooks are spread.
    fn spread(&self, wait: TimeDelta) -> DateTime<Utc> {
        let quarter = u64::try_from(wait.num_milliseconds() / 4).unwrap_or_default();
        let more = i64::try_from(self.random.below(quarter)).unwrap_or_default();
        self.clock.now() + wait + TimeDelta::milliseconds(more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_long_ago_are_forgotten_but_not_during_a_probe() {
        let at = |seconds: i64| DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds);
        let mut endpoint = EndpointCircuit::default();
        assert!(endpoint.is_forgotten(at(0)));
        endpoint.circuit.failed(&EndpointCircuit::settings(), at(0), Some(at(60)), false);
        endpoint.last_failure_at = Some(at(0));
        assert!(!endpoint.is_forgotten(at(5 * 3_600)));
        assert!(endpoint.is_forgotten(at(5 * 3_600 + 1)));
        assert!(endpoint.circuit.probe(at(5 * 3_600), at(5 * 3_600 + 120)));
        assert!(!endpoint.is_forgotten(at(5 * 3_600 + 1)));
        endpoint.circuit.responded();
        assert!(endpoint.is_forgotten(at(0)));
    }
}
