//! Webhooks: those that were promised, and their deliveries.

use super::{Facts, TRIED_FOR, Witness};
use crate::life::Life;
use chrono::{DateTime, Utc};
use px_core::Clock as _;
use px_items::{changes::ItemChanges, connection::Connection, store::QueuedWebhook};
use px_types::{
    ApplicationId, ItemId, TransactionId,
    webhook::{Environment, Webhook, WebhookEvent},
};
use std::collections::BTreeSet;

/// Webhook, identified by its Item, application and body.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WebhookKey {
    pub(super) item: ItemId,
    pub(super) application: ApplicationId,
    body: String,
}

/// Delivery of a webhook.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delivery {
    /// Number of arrivals, including duplicates.
    arrived: u64,
    /// Time of the last arrival.
    arrived_at: Option<DateTime<Utc>>,
    /// Number of times that it left the outbox because it arrived.
    settled: u64,
}

/// Subject of webhooks: an Item, an application and a code.
pub(super) type Subject = (ItemId, ApplicationId, String);

/// Content that an application must receive for one subject, in any number of webhooks: those that
/// wait are merged.
#[derive(Clone, Debug, Default)]
pub(super) struct Promise {
    /// Latest webhook and its time.
    latest: Option<(Webhook, DateTime<Utc>)>,
    /// Time of the last arrival for the subject.
    arrived_at: Option<DateTime<Utc>>,
    /// Whether it was given up since.
    given_up: bool,
    /// Number of new transactions to be counted, and the number that was counted.
    new: u64,
    counted: u64,
    /// Removed transactions that were not named yet.
    unnamed: BTreeSet<TransactionId>,
}

impl Promise {
    /// Records that one webhook left the outbox.
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

/// Returns whether the latest webhook replaces the earlier ones as it is. Otherwise counts are
/// added and ids united.
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
    /// Records that a webhook was settled: it arrived, or may be given up.
    pub(crate) fn settled(&self, life: &Life, webhook: &QueuedWebhook) {
        let key = WebhookKey {
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
            .map(|sent| (subject(&key.application, &sent), sent.event));
        let delivery = facts.webhooks.entry(key).or_default();
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
        // The next attempt after the last one would come too late.
        if now - webhook.created_at < TRIED_FOR / 5 {
            let what = format!("webhook {id} was given up {} after", now - webhook.created_at);
            self.trace.wrong(what);
        }
    }

    /// Records that a webhook arrived at an application, which responded with 200.
    pub(crate) fn arrived(&self, application: &ApplicationId, body: &str) {
        let Ok(webhook) = px_types::decode::<Webhook>(body.as_bytes()) else {
            return self.trace.wrong(format!("{application} got no webhook: {body}"));
        };
        let key = WebhookKey {
            item: webhook.item_id.clone(),
            application: application.clone(),
            body: body.to_owned(),
        };
        let mut facts = self.facts();
        let delivery = facts.webhooks.entry(key).or_default();
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

    /// Returns the promises that were not delivered.
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
            let key = WebhookKey {
                item: item.clone(),
                application: application.clone(),
                body: body.clone(),
            };
            let arrived_at = match stands_as_it_is(&webhook.event) {
                true => facts.webhooks.get(&key).and_then(|delivery| delivery.arrived_at),
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
        changes: &ItemChanges,
        connections: &[Connection],
    ) {
        for outgoing in changes.webhooks(item, &Environment::Sandbox, connections) {
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
