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
        match &self.milestone {
            Some(Milestone::Initial(counts)) => {
                events.push(WebhookEvent::InitialUpdate(NewTransactions::new(seen(counts))));
            }
            Some(Milestone::Historical(counts)) => {
                events.push(WebhookEvent::HistoricalUpdate(NewTransactions::new(seen(counts))));
            }
            Some(Milestone::Both(counts)) => {
                events.push(WebhookEvent::InitialUpdate(NewTransactions::new(seen(counts))));
                events.push(WebhookEvent::HistoricalUpdate(NewTransactions::new(0_u64)));
            }
            // While the history is on its way, its windows are no updates.
            None if !self.historical_complete => {}
            None => {
                if added + modified > 0 {
                    events.push(WebhookEvent::DefaultUpdate(NewTransactions::new(added)));
                }
                if !removed.is_empty() {
                    events.push(WebhookEvent::TransactionsRemoved(RemovedTransactions::new(
                        removed.clone(),
                    )));
                }
            }
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
