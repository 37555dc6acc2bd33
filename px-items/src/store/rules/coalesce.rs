//! Merging of queued webhooks of one Item, application and code.
//!
//! A webhook is a hint to read, so the latest is enough as long as no count and no id is lost. A
//! webhook that was sent before is not changed, because its receiver may have acted on it.

use super::{OutboxEntry, to_json};
use crate::store::Result;
use px_types::{
    ApplicationId, ItemId,
    webhook::{NewTransactions, RemovedTransactions, Webhook, WebhookEvent},
};

/// Maximum number of transactions that a merged `TRANSACTIONS_REMOVED` names.
const MAX_REMOVED: usize = 2_000;

/// A webhook to an application that was never sent, is not being sent, and contains no token.
#[derive(Clone, Debug)]
pub(in crate::store) struct UnsentWebhook {
    pub(in crate::store) id: i64,
    pub(in crate::store) item_id: ItemId,
    pub(in crate::store) application_id: ApplicationId,
    pub(in crate::store) url: String,
    pub(in crate::store) body: String,
}

/// The changes of the outbox.
pub(in crate::store) struct CoalescedWebhooks<'i> {
    /// Unsent webhooks with a new body.
    pub(in crate::store) rewritten: Vec<UnsentWebhook>,
    /// New webhooks.
    pub(in crate::store) added: Vec<(&'i ItemId, OutboxEntry)>,
}

/// Merges new webhooks with unsent ones to the same address.
pub(in crate::store) fn coalesce<'i>(
    mut unsent: Vec<UnsentWebhook>,
    entries: impl IntoIterator<Item = (&'i ItemId, OutboxEntry)>,
) -> Result<CoalescedWebhooks<'i>> {
    unsent.sort_unstable_by_key(|one| one.id);
    let mut rewritten = vec![false; unsent.len()];
    let mut added = Vec::new();
    for (item, entry) in entries {
        match merge_into(&unsent, item, &entry)? {
            Some((index, body)) => {
                unsent[index].body = body;
                rewritten[index] = true;
            }
            None => added.push((item, entry)),
        }
    }
    let rewritten = unsent.into_iter().zip(rewritten).filter(|(_, is_rewritten)| *is_rewritten);
    Ok(CoalescedWebhooks { rewritten: rewritten.map(|(unsent, _)| unsent).collect(), added })
}

/// Returns the index of the unsent webhook that a new one is merged into, and its new body.
fn merge_into(
    unsent: &[UnsentWebhook],
    item: &ItemId,
    new: &OutboxEntry,
) -> Result<Option<(usize, String)>> {
    let Some(url) = new.coalesces_at() else { return Ok(None) };
    let Ok(new_webhook) = px_types::decode::<Webhook>(new.body.as_bytes()) else {
        return Ok(None);
    };
    let same = |one: &UnsentWebhook| {
        one.item_id == *item && one.application_id == new.application_id && one.url == url
    };
    for (index, earlier) in unsent.iter().enumerate().rev().filter(|(_, one)| same(one)) {
        let Ok(webhook) = px_types::decode::<Webhook>(earlier.body.as_bytes()) else { continue };
        if let Some(event) = merged_event(&webhook.event, &new_webhook.event) {
            let mut merged = new_webhook;
            merged.event = event;
            return Ok(Some((index, to_json(&merged)?)));
        }
        if is_health(&webhook.event) && is_health(&new_webhook.event) {
            // The order of an error, a repair and another error must be preserved.
            return Ok(None);
        }
    }
    Ok(None)
}

/// Returns one event in place of two of the same code, or `None` if both must be sent.
fn merged_event(earlier: &WebhookEvent, new: &WebhookEvent) -> Option<WebhookEvent> {
    use WebhookEvent as E;
    Some(match (earlier, new) {
        (E::InitialUpdate(earlier), E::InitialUpdate(new)) => E::InitialUpdate(sum(earlier, new)),
        (E::HistoricalUpdate(earlier), E::HistoricalUpdate(new)) => {
            E::HistoricalUpdate(sum(earlier, new))
        }
        (E::DefaultUpdate(earlier), E::DefaultUpdate(new)) => E::DefaultUpdate(sum(earlier, new)),
        (E::TransactionsRemoved(earlier), E::TransactionsRemoved(new)) => {
            E::TransactionsRemoved(union(earlier, new)?)
        }
        (E::SyncUpdatesAvailable(_), E::SyncUpdatesAvailable(_))
        | (E::Error(_), E::Error(_))
        | (E::LoginRepaired, E::LoginRepaired)
        | (E::NewAccountsAvailable, E::NewAccountsAvailable)
        | (E::WebhookUpdateAcknowledged(_), E::WebhookUpdateAcknowledged(_)) => new.clone(),
        _ => return None,
    })
}

fn sum(earlier: &NewTransactions, new: &NewTransactions) -> NewTransactions {
    let count = earlier.new_transactions.saturating_add(new.new_transactions);
    let mut sum = NewTransactions::new(count);
    sum.error = new.error.clone().or_else(|| earlier.error.clone());
    sum
}

fn union(earlier: &RemovedTransactions, new: &RemovedTransactions) -> Option<RemovedTransactions> {
    let mut ids = earlier.removed_transactions.clone();
    let known: std::collections::BTreeSet<_> = earlier.removed_transactions.iter().collect();
    ids.extend(new.removed_transactions.iter().filter(|id| !known.contains(id)).cloned());
    if ids.len() > MAX_REMOVED {
        return None;
    }
    let mut union = RemovedTransactions::new(ids);
    union.error = new.error.clone().or_else(|| earlier.error.clone());
    Some(union)
}

fn is_health(event: &WebhookEvent) -> bool {
    matches!(event, WebhookEvent::Error(_) | WebhookEvent::LoginRepaired)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Destination;
    use proptest::prelude::*;
    use px_types::{
        InstitutionId, TransactionId,
        model::plaid_error::{PlaidError, PlaidErrorType},
        webhook::{Environment, ItemFault, SyncUpdates},
    };

    fn item() -> ItemId {
        ItemId::new("i").unwrap()
    }

    fn entry(event: WebhookEvent) -> OutboxEntry {
        let webhook = Webhook::new(item(), Environment::Sandbox, event);
        OutboxEntry {
            application_id: ApplicationId::new("app").unwrap(),
            to: Destination::Url("https://app.example/".to_owned()),
            body: to_json(&webhook).unwrap(),
            secret: false,
        }
    }

    fn fault() -> WebhookEvent {
        let error = PlaidError::new(PlaidErrorType::ItemError, "ITEM_LOGIN_REQUIRED", "m");
        WebhookEvent::Error(ItemFault::new(error))
    }

    fn added(count: u64) -> WebhookEvent {
        WebhookEvent::DefaultUpdate(NewTransactions::new(count))
    }

    fn removed(ids: &[&str]) -> WebhookEvent {
        let ids: Vec<_> = ids.iter().map(|id| TransactionId::new(*id).unwrap()).collect();
        WebhookEvent::TransactionsRemoved(RemovedTransactions::new(ids))
    }

    /// An outbox of unsent webhooks, and the number of those with a token.
    #[derive(Default)]
    struct Outbox(Vec<UnsentWebhook>, usize);

    impl Outbox {
        fn put(&mut self, entry: OutboxEntry) {
            let item = item();
            let CoalescedWebhooks { rewritten, added } =
                coalesce(self.0.clone(), [(&item, entry)]).unwrap();
            for one in rewritten {
                let index = self.0.iter().position(|known| known.id == one.id).unwrap();
                self.0[index] = one;
            }
            for (item, entry) in added {
                // Stores never return a webhook with a token as unsent.
                if entry.secret {
                    self.1 += 1;
                    continue;
                }
                let id = i64::try_from(self.0.len()).unwrap();
                let url = entry.to.url().unwrap_or_default().to_owned();
                let (item_id, application_id) = (item.clone(), entry.application_id);
                self.0.push(UnsentWebhook { id, item_id, application_id, url, body: entry.body });
            }
        }

        fn events(&self) -> Vec<WebhookEvent> {
            let events = self.0.iter().map(|one| px_types::decode::<Webhook>(one.body.as_bytes()));
            events.map(|webhook| webhook.unwrap().event).collect()
        }
    }

    #[test]
    fn counts_are_added_ids_united_and_the_latest_state_counts() {
        let mut outbox = Outbox::default();
        for event in [
            added(2),
            removed(&["a", "b"]),
            WebhookEvent::SyncUpdatesAvailable(SyncUpdates::new(true, false)),
            added(3),
            removed(&["b", "c"]),
            WebhookEvent::SyncUpdatesAvailable(SyncUpdates::new(true, true)),
        ] {
            outbox.put(entry(event));
        }
        assert_eq!(
            outbox.events(),
            [
                added(5),
                removed(&["a", "b", "c"]),
                WebhookEvent::SyncUpdatesAvailable(SyncUpdates::new(true, true)),
            ]
        );
    }

    #[test]
    fn an_error_after_a_repair_comes_after_it() {
        let mut outbox = Outbox::default();
        for event in [fault(), fault(), WebhookEvent::LoginRepaired, added(1), fault(), fault()] {
            outbox.put(entry(event));
        }
        let expected = [fault(), WebhookEvent::LoginRepaired, added(1), fault()];
        assert_eq!(outbox.events(), expected);
    }

    #[test]
    fn nothing_else_becomes_one() {
        let mut outbox = Outbox::default();
        let other = ApplicationId::new("other").unwrap();
        let partner = Destination::Partner(InstitutionId::new("ins").unwrap());
        let elsewhere = Destination::Url("https://app.example/new".to_owned());
        let plain = entry(added(1));
        for one in [
            OutboxEntry { application_id: other, ..plain.clone() },
            OutboxEntry { to: elsewhere, ..plain.clone() },
            OutboxEntry { secret: true, ..plain.clone() },
            OutboxEntry { to: partner, ..plain.clone() },
            entry(WebhookEvent::HistoricalUpdate(NewTransactions::new(1_u64))),
            plain,
        ] {
            outbox.put(one);
        }
        assert_eq!((outbox.0.len(), outbox.1), (5, 1));
        let many: Vec<_> = (0..MAX_REMOVED).map(|n| n.to_string()).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let mut outbox = Outbox::default();
        outbox.put(entry(removed(&many)));
        outbox.put(entry(removed(&["one more"])));
        assert_eq!(outbox.0.len(), 2, "the size of a body is limited");
    }

    proptest! {
        #[test]
        fn nothing_that_is_counted_or_named_is_lost(
            all in proptest::collection::vec((0_u64..9, proptest::collection::vec("[a-f]", 0..4)), 0..20)
        ) {
            let mut outbox = Outbox::default();
            let (mut count, mut gone) = (0, std::collections::BTreeSet::new());
            for (new, ids) in &all {
                outbox.put(entry(added(*new)));
                outbox.put(entry(removed(&ids.iter().map(String::as_str).collect::<Vec<_>>())));
                count += new;
                gone.extend(ids.iter().cloned());
            }
            prop_assert!(outbox.0.len() <= 2);
            for event in outbox.events() {
                match event {
                    WebhookEvent::DefaultUpdate(new) => prop_assert_eq!(new.new_transactions, count),
                    WebhookEvent::TransactionsRemoved(all) => {
                        let all: std::collections::BTreeSet<_> =
                            all.removed_transactions.iter().map(|id| id.as_str().to_owned()).collect();
                        prop_assert_eq!(&all, &gone);
                    }
                    _ => prop_assert!(false),
                }
            }
        }
    }
}
