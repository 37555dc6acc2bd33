//! Webhooks: what was promised, and what became of it.

use super::{Facts, TRIED_FOR, Witness};
use crate::life::Life;
use px_core::Clock as _;
use px_items::{connection::Connection, news::News, store::QueuedWebhook};
use px_types::{
    ApplicationId, ItemId,
    webhook::{Environment, Webhook, WebhookEvent},
};

/// Who is told what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Told {
    pub(super) item: ItemId,
    pub(super) application: ApplicationId,
    body: String,
}

/// What became of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delivery {
    pub(super) promised: u64,
    /// How often it arrived, doubles included.
    arrived: u64,
    /// How many left the outbox because they arrived, and because they were given up.
    pub(super) settled: u64,
    pub(super) given_up: u64,
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
        let delivery = facts.webhooks.entry(told).or_default();
        if delivery.settled < delivery.arrived {
            delivery.settled += 1;
            return;
        }
        delivery.given_up += 1;
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
        facts.webhooks.entry(told).or_default().arrived += 1;
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
        let missing = facts
            .webhooks
            .iter()
            .filter(|(_, delivery)| delivery.settled + delivery.given_up < delivery.promised);
        missing
            .map(|(told, delivery)| {
                format!("{} was not told {} ({delivery:?})", told.application, told.body)
            })
            .collect()
    }
}

impl Facts {
    pub(super) fn promise(&mut self, item: &ItemId, news: &News, connections: &[Connection]) {
        for outgoing in news.webhooks(item, &Environment::Sandbox, connections) {
            let Ok(body) = serde_json::to_string(&outgoing.webhook) else { continue };
            let told = Told { item: item.clone(), application: outgoing.application_id, body };
            self.webhooks.entry(told).or_default().promised += 1;
        }
    }
}
