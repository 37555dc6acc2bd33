//! Webhooks: what was promised, and what became of it.

use super::{Facts, TRIED_FOR, Witness};
use crate::life::Life;
use chrono::{DateTime, Utc};
use px_core::Clock as _;
use px_items::{connection::Connection, news::News, store::QueuedWebhook};
use px_types::{
    ApplicationId, ItemId, TransactionId,
    webhook::{Environment, Webhook, WebhookEvent},
};
use std::collections::BTreeSet;

/// A webhook: its Item, its application and its body.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Told {
    pub(super) item: ItemId,
    pub(super) application: ApplicationId,
    body: String,
}

/// What became of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delivery {
    /// How often it arrived, doubles included.
    arrived: u64,
    /// When it arrived last.
    arrived_at: Option<DateTime<Utc>>,
    /// How often it left the outbox because it arrived.
    settled: u64,
}

/// The subject of webhooks: an Item, an application and a code.
pub(super) type Subject = (ItemId, ApplicationId, String);

/// What an application must learn of one kind, however many webhooks tell it: those that wait are
/// sent as one.
#[derive(Clone, Debug, Default)]
pub(super) struct Promise {
    /// The latest, and since when.
    latest: Option<(Webhook, DateTime<Utc>)>,
    /// When any of the kind arrived last.
    arrived_at: Option<DateTime<Utc>>,
    /// Whether it was given up since.
    given_up: bool,
    /// How many new transactions there are to count, and how many were counted.
    new: u64,
    counted: u64,
    /// The removed transactions that were not named yet.
    unnamed: BTreeSet<TransactionId>,
}

impl Promise {
    /// One webhook left the outbox.
    fn settle(&mut self, event: &WebhookEvent) {
        self.counted += new_transactions(event);
        for id in removed_transactions(event) {
            self.unnamed.remove(id);
        }
    }
}

fn new_transactions(event: &WebhookEvent) -> u64 {
    match event {
        WebhookEvent::InitialUpdate(new)
        | WebhookEvent::HistoricalUpdate(new)
        | WebhookEvent::DefaultUpdate(new) => new.new_transactions,
        _ => 0,
    }
}

fn removed_transactions(event: &WebhookEvent) -> &[TransactionId] {
    match event {
        WebhookEvent::TransactionsRemoved(removed) => &removed.removed_transactions,
        _ => &[],
    }
}

/// Whether the latest webhook stands for the earlier ones as it is. Counts are added, ids united.
fn stands_as_it_is(event: &WebhookEvent) -> bool {
    !matches!(
        event,
        WebhookEvent::InitialUpdate(_)
            | WebhookEvent::HistoricalUpdate(_)
            | WebhookEvent::DefaultUpdate(_)
            | WebhookEvent::TransactionsRemoved(_)
    )
}

fn subject(application: &ApplicationId, webhook: &Webhook) -> Subject {
    (webhook.item_id.clone(), application.clone(), webhook.event.webhook_code().to_string())
}

impl Witness {
    /// A webhook was settled for good: it arrived, or may be given up.
    pub(crate) fn settled(&self, life: &Life, webhook: &QueuedWebhook) {
        let told = Told {
            item: webhook.item_id.clone(),
            application: webhook.application_id.clone(),
            body: webhook.body.clone(),
        };
        let now = self.clock.now();
        let mut facts = self.facts();
        if !facts.settled.insert(webhook.id) {
            return;
        }
        let subject = px_types::decode::<Webhook>(webhook.body.as_bytes())
            .map(|sent| (subject(&told.application, &sent), sent.event));
        let delivery = facts.webhooks.entry(told).or_default();
        let has_arrived = delivery.settled < delivery.arrived;
        delivery.settled += u64::from(has_arrived);
        if let Ok((subject, event)) = subject {
            let promise = facts.promises.entry(subject).or_default();
            promise.settle(&event);
            promise.given_up |= !has_arrived;
        }
        if has_arrived {
            return;
        }
        facts.stats.given_up += 1;
        drop(facts);
        let id = webhook.id;
        self.trace.note(&life.name, format_args!("gave webhook {id} up"));
        // The last try is the one whose successor would come too late.
        if now - webhook.created_at < TRIED_FOR / 5 {
            let what = format!("webhook {id} was given up {} after", now - webhook.created_at);
            self.trace.wrong(what);
        }
    }

    /// A webhook arrived at an application, which said 200.
    pub(crate) fn arrived(&self, application: &ApplicationId, body: &str) {
        let Ok(webhook) = px_types::decode::<Webhook>(body.as_bytes()) else {
            return self.trace.wrong(format!("{application} got no webhook: {body}"));
        };
        let told = Told {
            item: webhook.item_id.clone(),
            application: application.clone(),
            body: body.to_owned(),
        };
        let mut facts = self.facts();
        let delivery = facts.webhooks.entry(told).or_default();
        delivery.arrived += 1;
        delivery.arrived_at = Some(self.clock.now());
        let promise = facts.promises.entry(subject(application, &webhook)).or_default();
        promise.arrived_at = Some(self.clock.now());
        facts.stats.webhooks += 1;
        let Some(item) = facts.items.get(&webhook.item_id) else {
            drop(facts);
            return self.trace.wrong(format!("{application} is told of an Item that is not"));
        };
        let mut wrong = Vec::new();
        if let WebhookEvent::TransactionsRemoved(removed) = &webhook.event {
            let may_know = item.gone_rows.get(application);
            for id in &removed.removed_transactions {
                if !may_know.is_some_and(|ids| ids.contains(id)) {
                    wrong.push(format!("{application} is told of {id}, which it may not see"));
                }
            }
        }
        drop(facts);
        wrong.into_iter().for_each(|what| self.trace.wrong(what));
    }

    /// What was promised and did not arrive.
    pub(crate) fn undelivered(&self) -> Vec<String> {
        let facts = self.facts();
        let mut missing = Vec::new();
        for ((item, application, code), promise) in &facts.promises {
            if promise.counted < promise.new || !promise.unnamed.is_empty() {
                missing.push(format!(
                    "{application} was not told all of {code} of {item}: {promise:?}"
                ));
            }
            let Some((webhook, since)) = &promise.latest else { continue };
            let body = serde_json::to_string(webhook).unwrap_or_default();
            let told =
                Told { item: item.clone(), application: application.clone(), body: body.clone() };
            let arrived_at = match stands_as_it_is(&webhook.event) {
                true => facts.webhooks.get(&told).and_then(|delivery| delivery.arrived_at),
                false => promise.arrived_at,
            };
            if !promise.given_up && arrived_at.is_none_or(|at| at < *since) {
                missing.push(format!("{application} was not told {body} of {since}"));
            }
        }
        missing
    }
}

impl Facts {
    pub(super) fn promise(
        &mut self,
        now: DateTime<Utc>,
        item: &ItemId,
        news: &News,
        connections: &[Connection],
    ) {
        for outgoing in news.webhooks(item, &Environment::Sandbox, connections) {
            let webhook = outgoing.webhook;
            let subject = subject(&outgoing.application_id, &webhook);
            let promise = self.promises.entry(subject).or_default();
            promise.new += new_transactions(&webhook.event);
            promise.unnamed.extend(removed_transactions(&webhook.event).iter().cloned());
            promise.given_up = false;
            promise.latest = Some((webhook, now));
        }
    }
}
