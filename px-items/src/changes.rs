//! Changes of a commit that applications are notified of, and the webhooks for them. Pure.
//!
//! An application is notified only of what it may see. Signing and sending are in
//! [`crate::webhook`].

use crate::connection::Connection;
use px_types::{
    AccountId, ApplicationId, ItemId, TransactionId,
    model::plaid_error::PlaidError,
    webhook::{
        Environment, ItemFault, NewTransactions, RemovedTransactions, SyncUpdates, Webhook,
        WebhookEvent,
    },
};
use std::collections::BTreeMap;

/// Changes of one commit that applications are notified of.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ItemChanges {
    /// Number of new transactions, by account.
    pub added: BTreeMap<AccountId, u64>,
    /// Number of modified transactions, by account.
    pub modified: BTreeMap<AccountId, u64>,
    /// Removed transactions with their accounts.
    pub removed: Vec<(AccountId, TransactionId)>,
    /// Accounts that are new to an Item that already had some.
    pub new_accounts: Vec<AccountId>,
    /// Stage of the history that this commit reached, if any.
    pub milestone: Option<Milestone>,
    /// Whether the last 30 days of the history are complete after the commit.
    pub initial_complete: bool,
    /// Whether the whole history is complete after the commit.
    pub historical_complete: bool,
    /// Error that prevents further updates of the Item, if any.
    pub fault: Option<PlaidError>,
    /// Whether the Item can be updated again.
    pub repaired: bool,
}

/// Stage of the history that was reached. Counts are by account.
#[derive(Clone, Debug, PartialEq)]
pub enum Milestone {
    /// The last 30 days are stored, with the number of their transactions.
    Initial(BTreeMap<AccountId, u64>),
    /// The whole history is stored, with the number of transactions since the initial stage.
    Historical(BTreeMap<AccountId, u64>),
    /// Both stages at once.
    Both(BTreeMap<AccountId, u64>),
}

/// Webhook that is to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct OutgoingWebhook {
    /// Application that receives it.
    pub application_id: ApplicationId,
    /// URL that it is sent to.
    pub url: String,
    /// Content of the webhook.
    pub webhook: Webhook,
}

impl ItemChanges {
    /// Returns whether no application has to be notified.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { added, modified, removed, new_accounts, milestone, fault, repaired, .. } = self;
        added.is_empty()
            && modified.is_empty()
            && removed.is_empty()
            && new_accounts.is_empty()
            && milestone.is_none()
            && fault.is_none()
            && !repaired
    }

    /// Returns the webhooks for these changes, in the order in which they are sent.
    #[must_use]
    pub fn webhooks(
        &self,
        item_id: &ItemId,
        environment: &Environment,
        connections: &[Connection],
    ) -> Vec<OutgoingWebhook> {
        let mut all = Vec::new();
        for connection in connections {
            let Some(url) = &connection.webhook else { continue };
            for event in self.events_for_connection(connection) {
                all.push(OutgoingWebhook {
                    application_id: connection.application_id.clone(),
                    url: url.clone(),
                    webhook: Webhook::new(item_id.clone(), environment.clone(), event),
                });
            }
        }
        all
    }

    fn events_for_connection(&self, connection: &Connection) -> Vec<WebhookEvent> {
        let seen = |counts: &BTreeMap<AccountId, u64>| -> u64 {
            counts.iter().filter(|(id, _)| connection.sees(id)).map(|(_, count)| count).sum()
        };
        let mut events = Vec::new();
        if let Some(fault) = &self.fault {
            events.push(WebhookEvent::Error(ItemFault::new(fault.clone())));
        }
        if self.repaired {
            events.push(WebhookEvent::LoginRepaired);
        }
        // Only applications with access to later accounts are notified of new ones.
        if connection.new_accounts && self.new_accounts.iter().any(|id| connection.sees(id)) {
            events.push(WebhookEvent::NewAccountsAvailable);
        }
        if !connection.needs_transactions() {
            return events;
        }
        let (added, modified) = (seen(&self.added), seen(&self.modified));
        let removed: Vec<_> = self
            .removed
            .iter()
            .filter(|(account, _)| connection.sees(account))
            .map(|(_, id)| id.clone())
            .collect();
        let mut readable = self.initial_complete;
        match &self.milestone {
            Some(Milestone::Initial(counts)) => {
                readable = false;
                events.push(WebhookEvent::InitialUpdate(NewTransactions::new(seen(counts))));
            }
            Some(Milestone::Historical(counts)) => {
                events.push(WebhookEvent::HistoricalUpdate(NewTransactions::new(seen(counts))));
            }
            Some(Milestone::Both(counts)) => {
                readable = false;
                events.push(WebhookEvent::InitialUpdate(NewTransactions::new(seen(counts))));
                events.push(WebhookEvent::HistoricalUpdate(NewTransactions::new(0_u64)));
            }
            // While the history is being fetched, its windows are not reported as updates.
            None if !self.historical_complete => {}
            None if added + modified > 0 => {
                events.push(WebhookEvent::DefaultUpdate(NewTransactions::new(added)));
            }
            None => {}
        }
        // Removed transactions that an application may have read are always named.
        if readable && !removed.is_empty() {
            let gone = RemovedTransactions::new(removed.clone());
            events.push(WebhookEvent::TransactionsRemoved(gone));
        }
        let changed = added + modified > 0 || !removed.is_empty();
        if self.milestone.is_some() || (changed && self.initial_complete) {
            events.push(WebhookEvent::SyncUpdatesAvailable(SyncUpdates::new(
                self.initial_complete,
                self.historical_complete,
            )));
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use proptest::prelude::*;
    use px_types::model::{plaid_error::PlaidErrorType, product::Product};

    fn account(name: &str) -> AccountId {
        AccountId::new(name).unwrap()
    }

    fn connection(product: Product) -> Connection {
        let application = ApplicationId::new("app").unwrap();
        let mut connection = Connection::new(application, [product], DateTime::UNIX_EPOCH);
        connection.webhook = Some("https://app.example/".into());
        connection
    }

    fn only(accounts: &[&str]) -> Connection {
        let accounts = Some(accounts.iter().map(|name| account(name)).collect());
        Connection { accounts, ..connection(Product::Transactions) }
    }

    fn counts(all: &[(&str, u64)]) -> BTreeMap<AccountId, u64> {
        all.iter().map(|(name, count)| (account(name), *count)).collect()
    }

    fn removed(all: &[(&str, &str)]) -> Vec<(AccountId, TransactionId)> {
        all.iter().map(|(name, id)| (account(name), TransactionId::new(id).unwrap())).collect()
    }

    /// Changes of an Item with a complete history.
    fn complete() -> ItemChanges {
        ItemChanges { initial_complete: true, historical_complete: true, ..ItemChanges::default() }
    }

    fn events_for(changes: &ItemChanges, connection: Connection) -> Vec<String> {
        let item = ItemId::new("i1").unwrap();
        let all = changes.webhooks(&item, &Environment::Sandbox, &[connection]);
        let show = |outgoing: OutgoingWebhook| {
            assert_eq!(outgoing.url, "https://app.example/");
            let event = outgoing.webhook.event;
            let code = event.webhook_code();
            let code = code.as_str();
            match event {
                WebhookEvent::InitialUpdate(new)
                | WebhookEvent::HistoricalUpdate(new)
                | WebhookEvent::DefaultUpdate(new) => format!("{code} {}", new.new_transactions),
                WebhookEvent::TransactionsRemoved(gone) => {
                    let ids: Vec<_> =
                        gone.removed_transactions.iter().map(TransactionId::as_str).collect();
                    format!("{code} {}", ids.join(","))
                }
                WebhookEvent::SyncUpdatesAvailable(updates) => format!(
                    "{code} {} {}",
                    updates.initial_update_complete, updates.historical_update_complete
                ),
                _ => code.to_owned(),
            }
        };
        all.into_iter().map(show).collect()
    }

    #[test]
    fn notifications_of_changes_contain_only_what_is_visible() {
        let changes = ItemChanges {
            added: counts(&[("a", 2), ("b", 3)]),
            modified: counts(&[("b", 1)]),
            removed: removed(&[("a", "t1"), ("b", "t2")]),
            ..complete()
        };
        let sync = "SYNC_UPDATES_AVAILABLE true true";
        assert_eq!(
            events_for(&changes, connection(Product::Transactions)),
            ["DEFAULT_UPDATE 5", "TRANSACTIONS_REMOVED t1,t2", sync]
        );
        let seen = events_for(&changes, only(&["a"]));
        assert_eq!(seen, ["DEFAULT_UPDATE 2", "TRANSACTIONS_REMOVED t1", sync]);
        assert!(events_for(&changes, only(&["c"])).is_empty());
        assert!(events_for(&changes, connection(Product::Auth)).is_empty());
        let silent = Connection { webhook: None, ..connection(Product::Transactions) };
        assert!(events_for(&changes, silent).is_empty());
        // A change alone is an update without new ones.
        let changes = ItemChanges { modified: counts(&[("b", 1)]), ..complete() };
        assert_eq!(events_for(&changes, only(&["b"])), ["DEFAULT_UPDATE 0", sync]);
    }

    #[test]
    fn case_23_each_stage_of_the_history_is_notified_once() {
        let all = || connection(Product::Transactions);
        let initial = ItemChanges {
            milestone: Some(Milestone::Initial(counts(&[("a", 7), ("b", 1)]))),
            added: counts(&[("a", 7), ("b", 1)]),
            initial_complete: true,
            ..ItemChanges::default()
        };
        let sync = "SYNC_UPDATES_AVAILABLE true false";
        assert_eq!(events_for(&initial, all()), ["INITIAL_UPDATE 8", sync]);
        assert_eq!(events_for(&initial, only(&["b"])), ["INITIAL_UPDATE 1", sync]);
        // A window of the unfinished history can be read and is not an update.
        let window = ItemChanges {
            added: counts(&[("a", 9)]),
            initial_complete: true,
            ..ItemChanges::default()
        };
        assert_eq!(events_for(&window, all()), [sync]);
        let before = ItemChanges { added: counts(&[("a", 9)]), ..ItemChanges::default() };
        assert!(events_for(&before, all()).is_empty(), "nothing can be read yet");
        let historical = ItemChanges {
            milestone: Some(Milestone::Historical(counts(&[("a", 90)]))),
            ..complete()
        };
        let sync = "SYNC_UPDATES_AVAILABLE true true";
        assert_eq!(events_for(&historical, all()), ["HISTORICAL_UPDATE 90", sync]);
        let both =
            ItemChanges { milestone: Some(Milestone::Both(counts(&[("a", 4)]))), ..complete() };
        let expected = ["INITIAL_UPDATE 4", "HISTORICAL_UPDATE 0", sync];
        assert_eq!(events_for(&both, all()), expected);
        // Applications without transactions are not notified.
        assert!(events_for(&both, connection(Product::Auth)).is_empty());
    }

    #[test]
    fn what_could_be_read_and_is_gone_is_named_while_the_history_is_on_its_way_too() {
        let gone = ItemChanges {
            removed: removed(&[("a", "t1")]),
            initial_complete: true,
            ..ItemChanges::default()
        };
        let all = || connection(Product::Transactions);
        let sync = "SYNC_UPDATES_AVAILABLE true false";
        assert_eq!(events_for(&gone, all()), ["TRANSACTIONS_REMOVED t1", sync]);
        let last = ItemChanges {
            removed: removed(&[("a", "t1")]),
            milestone: Some(Milestone::Historical(BTreeMap::new())),
            ..complete()
        };
        let sync = "SYNC_UPDATES_AVAILABLE true true";
        let expected = ["HISTORICAL_UPDATE 0", "TRANSACTIONS_REMOVED t1", sync];
        assert_eq!(events_for(&last, all()), expected);
        let never_read = ItemChanges { initial_complete: false, ..gone };
        assert!(events_for(&never_read, all()).is_empty());
    }

    #[test]
    fn only_who_was_promised_later_accounts_learns_of_them() {
        let changes = ItemChanges { new_accounts: vec![account("n")], ..complete() };
        assert_eq!(events_for(&changes, connection(Product::Auth)), ["NEW_ACCOUNTS_AVAILABLE"]);
        assert_eq!(events_for(&changes, only(&["a", "n"])), ["NEW_ACCOUNTS_AVAILABLE"]);
        assert!(events_for(&changes, only(&["a"])).is_empty());
        let not_promised = Connection { new_accounts: false, ..connection(Product::Auth) };
        assert!(events_for(&changes, not_promised).is_empty());
    }

    #[test]
    fn case_39_every_application_is_notified_of_the_end_of_an_authorization_and_its_repair() {
        let fault = PlaidError::new(PlaidErrorType::ItemError, "ITEM_LOGIN_REQUIRED", "m");
        let lost = ItemChanges { fault: Some(fault), ..ItemChanges::default() };
        let repaired = ItemChanges { repaired: true, ..ItemChanges::default() };
        for connection in [connection(Product::Auth), only(&[]), only(&["a"])] {
            assert_eq!(events_for(&lost, connection.clone()), ["ERROR"]);
            assert_eq!(events_for(&repaired, connection), ["LOGIN_REPAIRED"]);
        }
    }

    proptest! {
        #[test]
        fn nothing_is_notified_of_invisible_data(
            added in proptest::collection::btree_map("[ab]", 1_u64..9, 0..3),
            gone in proptest::collection::vec("[ab]", 0..3),
            new in proptest::collection::vec("[ab]", 0..2),
            complete in any::<(bool, bool)>(),
        ) {
            let hidden: BTreeMap<_, _> =
                added.iter().map(|(name, count)| (account(name), *count)).collect();
            let changes = ItemChanges {
                added: hidden.clone(),
                modified: hidden,
                removed: gone.iter().map(|a| (account(a), TransactionId::new("t").unwrap())).collect(),
                new_accounts: new.iter().map(|name| account(name)).collect(),
                initial_complete: complete.0,
                historical_complete: complete.0 && complete.1,
                ..ItemChanges::default()
            };
            prop_assert!(events_for(&changes, only(&["seen"])).is_empty());
        }
    }
}
