//! What a commit has to tell applications, and how each one is told. Pure.
//!
//! An application is told of what it may see and of nothing else. Signing and sending are in
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

/// What a commit has to tell.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct News {
    /// Transactions that are new, by account.
    pub added: BTreeMap<AccountId, u64>,
    /// How many changed, by account.
    pub modified: BTreeMap<AccountId, u64>,
    /// Transactions that are gone, with their accounts.
    pub removed: Vec<(AccountId, TransactionId)>,
    /// Accounts that are new to an Item that had some.
    pub new_accounts: Vec<AccountId>,
    /// How far the history is, when that is news.
    pub milestone: Option<Milestone>,
    /// How much of the history is there after the commit.
    pub initial_complete: bool,
    /// Whether all of it is there after the commit.
    pub historical_complete: bool,
    /// The Item cannot be updated any more, and why.
    pub fault: Option<PlaidError>,
    /// The Item can be updated again.
    pub repaired: bool,
}

/// A stage of the history that was reached.
#[derive(Clone, Debug, PartialEq)]
pub enum Milestone {
    /// The last 30 days are in; how many of each account.
    Initial(BTreeMap<AccountId, u64>),
    /// All is in; how many of each account since the last 30 days were.
    Historical(BTreeMap<AccountId, u64>),
    /// Both at once.
    Both(BTreeMap<AccountId, u64>),
}

/// A webhook that waits to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// The application.
    pub application_id: ApplicationId,
    /// Where to.
    pub url: String,
    /// What.
    pub webhook: Webhook,
}

impl News {
    /// Whether there is nothing to tell, whoever is connected.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        let Self { added, modified, removed, new_accounts, milestone, fault, repaired, .. } = self;
        added.is_empty()
            && modified.is_empty()
            && removed.is_empty()
            && new_accounts.is_empty()
            && milestone.is_none()
            && fault.is_none()
            && !repaired
    }

    /// The webhooks that tell it, in the order in which they are sent.
    #[must_use]
    pub fn webhooks(
        &self,
        item_id: &ItemId,
        environment: &Environment,
        connections: &[Connection],
    ) -> Vec<Outgoing> {
        let mut all = Vec::new();
        for connection in connections {
            let Some(url) = &connection.webhook else { continue };
            for event in self.for_one(connection) {
                all.push(Outgoing {
                    application_id: connection.application_id.clone(),
                    url: url.clone(),
                    webhook: Webhook::new(item_id.clone(), environment.clone(), event),
                });
            }
        }
        all
    }

    fn for_one(&self, connection: &Connection) -> Vec<WebhookEvent> {
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
        // Only who was promised later accounts learns that there are some.
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
            // While the history is on its way, its windows are no updates.
            None if !self.historical_complete => {}
            None if added + modified > 0 => {
                events.push(WebhookEvent::DefaultUpdate(NewTransactions::new(added)));
            }
            None => {}
        }
        // Whatever else is told: what an application may have read and is gone is named.
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

    /// News of an Item of which everything is there.
    fn complete() -> News {
        News { initial_complete: true, historical_complete: true, ..News::default() }
    }

    fn told(news: &News, connection: Connection) -> Vec<String> {
        let item = ItemId::new("i1").unwrap();
        let all = news.webhooks(&item, &Environment::Sandbox, &[connection]);
        let show = |outgoing: Outgoing| {
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
    fn changes_are_told_with_what_may_be_seen_of_them() {
        let news = News {
            added: counts(&[("a", 2), ("b", 3)]),
            modified: counts(&[("b", 1)]),
            removed: removed(&[("a", "t1"), ("b", "t2")]),
            ..complete()
        };
        let sync = "SYNC_UPDATES_AVAILABLE true true";
        assert_eq!(
            told(&news, connection(Product::Transactions)),
            ["DEFAULT_UPDATE 5", "TRANSACTIONS_REMOVED t1,t2", sync]
        );
        let seen = told(&news, only(&["a"]));
        assert_eq!(seen, ["DEFAULT_UPDATE 2", "TRANSACTIONS_REMOVED t1", sync]);
        assert!(told(&news, only(&["c"])).is_empty());
        assert!(told(&news, connection(Product::Auth)).is_empty());
        let silent = Connection { webhook: None, ..connection(Product::Transactions) };
        assert!(told(&news, silent).is_empty());
        // A change alone is an update without new ones.
        let news = News { modified: counts(&[("b", 1)]), ..complete() };
        assert_eq!(told(&news, only(&["b"])), ["DEFAULT_UPDATE 0", sync]);
    }

    #[test]
    fn case_23_each_stage_of_the_history_is_told_once_and_as_what_it_is() {
        let all = || connection(Product::Transactions);
        let initial = News {
            milestone: Some(Milestone::Initial(counts(&[("a", 7), ("b", 1)]))),
            added: counts(&[("a", 7), ("b", 1)]),
            initial_complete: true,
            ..News::default()
        };
        let sync = "SYNC_UPDATES_AVAILABLE true false";
        assert_eq!(told(&initial, all()), ["INITIAL_UPDATE 8", sync]);
        assert_eq!(told(&initial, only(&["b"])), ["INITIAL_UPDATE 1", sync]);
        // A window of the history on its way is there to be read, and is no update.
        let window = News { added: counts(&[("a", 9)]), initial_complete: true, ..News::default() };
        assert_eq!(told(&window, all()), [sync]);
        let before = News { added: counts(&[("a", 9)]), ..News::default() };
        assert!(told(&before, all()).is_empty(), "nothing can be read yet");
        let historical =
            News { milestone: Some(Milestone::Historical(counts(&[("a", 90)]))), ..complete() };
        let sync = "SYNC_UPDATES_AVAILABLE true true";
        assert_eq!(told(&historical, all()), ["HISTORICAL_UPDATE 90", sync]);
        let both = News { milestone: Some(Milestone::Both(counts(&[("a", 4)]))), ..complete() };
        let expected = ["INITIAL_UPDATE 4", "HISTORICAL_UPDATE 0", sync];
        assert_eq!(told(&both, all()), expected);
        // Whoever needs no transactions is not told of them.
        assert!(told(&both, connection(Product::Auth)).is_empty());
    }

    #[test]
    fn what_could_be_read_and_is_gone_is_named_while_the_history_is_on_its_way_too() {
        let gone =
            News { removed: removed(&[("a", "t1")]), initial_complete: true, ..News::default() };
        let all = || connection(Product::Transactions);
        let sync = "SYNC_UPDATES_AVAILABLE true false";
        assert_eq!(told(&gone, all()), ["TRANSACTIONS_REMOVED t1", sync]);
        let last = News {
            removed: removed(&[("a", "t1")]),
            milestone: Some(Milestone::Historical(BTreeMap::new())),
            ..complete()
        };
        let sync = "SYNC_UPDATES_AVAILABLE true true";
        let expected = ["HISTORICAL_UPDATE 0", "TRANSACTIONS_REMOVED t1", sync];
        assert_eq!(told(&last, all()), expected);
        let never_read = News { initial_complete: false, ..gone };
        assert!(told(&never_read, all()).is_empty());
    }

    #[test]
    fn only_who_was_promised_later_accounts_learns_of_them() {
        let news = News { new_accounts: vec![account("n")], ..complete() };
        assert_eq!(told(&news, connection(Product::Auth)), ["NEW_ACCOUNTS_AVAILABLE"]);
        assert_eq!(told(&news, only(&["a", "n"])), ["NEW_ACCOUNTS_AVAILABLE"]);
        assert!(told(&news, only(&["a"])).is_empty());
        let not_promised = Connection { new_accounts: false, ..connection(Product::Auth) };
        assert!(told(&news, not_promised).is_empty());
    }

    #[test]
    fn case_39_the_end_of_an_authorization_and_its_repair_are_told_to_everyone() {
        let fault = PlaidError::new(PlaidErrorType::ItemError, "ITEM_LOGIN_REQUIRED", "m");
        let lost = News { fault: Some(fault), ..News::default() };
        let repaired = News { repaired: true, ..News::default() };
        for connection in [connection(Product::Auth), only(&[]), only(&["a"])] {
            assert_eq!(told(&lost, connection.clone()), ["ERROR"]);
            assert_eq!(told(&repaired, connection), ["LOGIN_REPAIRED"]);
        }
    }

    proptest! {
        #[test]
        fn nothing_is_told_of_what_may_not_be_seen(
            added in proptest::collection::btree_map("[ab]", 1_u64..9, 0..3),
            gone in proptest::collection::vec("[ab]", 0..3),
            new in proptest::collection::vec("[ab]", 0..2),
            complete in any::<(bool, bool)>(),
        ) {
            let hidden: BTreeMap<_, _> =
                added.iter().map(|(name, count)| (account(name), *count)).collect();
            let news = News {
                added: hidden.clone(),
                modified: hidden,
                removed: gone.iter().map(|a| (account(a), TransactionId::new("t").unwrap())).collect(),
                new_accounts: new.iter().map(|name| account(name)).collect(),
                initial_complete: complete.0,
                historical_complete: complete.0 && complete.1,
                ..News::default()
            };
            prop_assert!(told(&news, only(&["seen"])).is_empty());
        }
    }
}
