//! Connections of an Item, and what each application may see: computed from the choices of users.

use super::{ItemFacts, Witness};
use crate::life::Life;
use px_core::Clock as _;
use px_items::{
    changes::ItemChanges,
    connection::Connection,
    store::{
        ChangeTo, ConnectionChange, Fence, ItemRecord, Linked, NewHolder, NewLink, Store, Unlinked,
    },
};
use px_types::{AccountId, ApplicationId, InstitutionId, ItemId, TransactionId, UserId};
use std::collections::{BTreeMap, BTreeSet};

/// Choice of a user for an application.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    accounts: Option<BTreeSet<AccountId>>,
    later_ones: bool,
    transactions: bool,
}

impl Choice {
    pub(super) fn of(connection: &Connection, item: &ItemFacts) -> Self {
        let accounts = match &connection.accounts {
            // "All, but not later ones" are the present accounts, or those of the first response.
            None if !connection.new_accounts && item.has_response => Some(item.accounts.clone()),
            other => other.clone(),
        };
        Self {
            accounts,
            later_ones: connection.new_accounts,
            transactions: connection.needs_transactions(),
        }
    }

    pub(super) fn sees(&self, account: &AccountId) -> bool {
        self.accounts.as_ref().is_none_or(|accounts| accounts.contains(account))
    }

    pub(super) fn add_accounts(&mut self, new: &BTreeSet<AccountId>, first: bool) {
        match &mut self.accounts {
            None if self.later_ones => {}
            None if first => self.accounts = Some(new.clone()),
            Some(accounts) if self.later_ones && !first => accounts.extend(new.iter().cloned()),
            _ => {}
        }
    }
}

impl Witness {
    /// Returns the record of the Item before a link, if it exists.
    pub(crate) async fn before_link(&self, store: &dyn Store, new: &NewLink) -> Option<ItemRecord> {
        let id = store.find(&new.institution_id, &new.user_id).await.ok()??;
        store.item(&id).await.ok()?
    }

    pub(crate) async fn linked(
        &self,
        store: &dyn Store,
        life: &Life,
        new: &NewLink,
        linked: &Linked,
        old: Option<ItemRecord>,
    ) {
        let grant = match (self.banks.get(&new.institution_id), &new.tokens) {
            (Some(bank), Some(tokens)) => bank.grant_of(&tokens.access_token).await,
            _ => None,
        };
        let connections = store.connections(&linked.item_id).await.unwrap_or_default();
        let who = match &new.holder {
            NewHolder::Application(connection) => connection.application_id.as_str(),
            NewHolder::Partner => "the partner",
        };
        self.trace.note(
            &life.name,
            format_args!(
                "linked {who} to {} (created {}, repaired {})",
                linked.item_id, linked.created, linked.repaired
            ),
        );
        let expected =
            new.tokens.is_some() && old.as_ref().is_some_and(|old| old.state.login_required());
        if linked.repaired != expected || linked.created == old.is_some() {
            self.trace.wrong(format!("link says {linked:?} of an Item that was {old:?}"));
        }
        let mut facts = self.facts();
        let item = facts.items.entry(linked.item_id.clone()).or_insert_with(|| ItemFacts {
            institution: new.institution_id.clone(),
            user: new.user_id.clone(),
            fence: Fence(0),
            lease: None,
            accounts: BTreeSet::new(),
            has_response: false,
            choices: BTreeMap::new(),
            rows: BTreeMap::new(),
            partner_ids: BTreeMap::new(),
            returned: BTreeSet::new(),
            gone_rows: BTreeMap::new(),
            grants: BTreeSet::new(),
            takeovers: Vec::new(),
            gone: false,
        });
        // The partner's view of an Item with an authorization does not change.
        if linked.created || linked.repaired || new.holder != NewHolder::Partner {
            item.grants.extend(grant);
        }
        if let NewHolder::Application(connection) = &new.holder {
            let choice = Choice::of(connection, item);
            item.choices.insert(connection.application_id.clone(), choice);
        }
        if linked.repaired {
            // A worker on the Item lost it together with the authorization.
            item.lease = None;
            let mut changes = ItemChanges::default();
            changes.repaired = true;
            facts.promise(self.clock.now(), &linked.item_id, &changes, &connections);
        }
    }

    pub(crate) fn unlinked(
        &self,
        life: &Life,
        item_id: &ItemId,
        application: Option<&ApplicationId>,
        unlinked: Unlinked,
    ) {
        let who = application.map_or("the partner", ApplicationId::as_str);
        self.trace.note(&life.name, format_args!("unlinked {who} from {item_id}: {unlinked:?}"));
        let mut facts = self.facts();
        // Promises to an application that left are void.
        facts.promises.retain(|(item, recipient, _), _| {
            let left = Some(recipient) == application;
            item != item_id || !(left || unlinked == Unlinked::ItemRemoved)
        });
        let Some(item) = facts.items.get_mut(item_id) else { return };
        if let Some(application) = application {
            item.choices.remove(application);
        }
        let was_gone = item.gone;
        item.gone |= unlinked == Unlinked::ItemRemoved;
        let left = item.choices.len();
        // An Item that another party removed before has no application to disconnect.
        let is_right = match was_gone {
            true => unlinked == Unlinked::NotConnected,
            false => application.is_none() || (left == 0) == (unlinked == Unlinked::ItemRemoved),
        };
        if !is_right {
            drop(facts);
            self.trace.wrong(format!("unlinking {who} with {left} others left is {unlinked:?}"));
        }
    }

    /// Records a change of a connection, by the application or by the partner's scopes.
    pub(crate) async fn connection_changed(
        &self,
        store: &dyn Store,
        life: &Life,
        change: &ConnectionChange,
    ) {
        let (item_id, application) = (&change.item_id, &change.application_id);
        let connections = store.connections(item_id).await.unwrap_or_default();
        let connection = match &change.to {
            ChangeTo::Connection(connection) => Some(connection),
            _ => connections.iter().find(|one| one.application_id == *application),
        };
        let Some(connection) = connection else { return };
        self.trace.note(
            &life.name,
            format_args!(
                "{item_id}: {application} may see {:?}, later ones {}",
                connection.accounts, connection.new_accounts
            ),
        );
        let mut facts = self.facts();
        let Some(item) = facts.items.get_mut(item_id) else { return };
        let choice = Choice::of(connection, item);
        item.choices.insert(application.clone(), choice);
    }

    /// Returns the accounts of the Item that an application may see now, or `None` if it is not
    /// connected.
    pub(crate) fn visible(
        &self,
        item: &ItemId,
        application: &ApplicationId,
    ) -> Option<BTreeSet<AccountId>> {
        let facts = self.facts();
        let item = facts.items.get(item)?;
        let choice = item.choices.get(application)?;
        Some(item.accounts.iter().filter(|account| choice.sees(account)).cloned().collect())
    }

    /// Returns whether an application requested transactions.
    pub(crate) fn wants_transactions(&self, item: &ItemId, application: &ApplicationId) -> bool {
        let facts = self.facts();
        let choice = facts.items.get(item).and_then(|item| item.choices.get(application));
        choice.is_some_and(|choice| choice.transactions)
    }

    /// Returns whether a transaction was removed and restored.
    pub(crate) fn returned(&self, item: &ItemId, id: &TransactionId) -> bool {
        self.facts().items.get(item).is_some_and(|item| item.returned.contains(id))
    }

    /// Returns the existing Items with their users.
    pub(crate) fn items(&self) -> Vec<(ItemId, InstitutionId, UserId)> {
        let facts = self.facts();
        let live = facts.items.iter().filter(|(_, item)| !item.gone);
        live.map(|(id, item)| (id.clone(), item.institution.clone(), item.user.clone())).collect()
    }

    /// Returns whether an Item still exists.
    pub(crate) fn has(&self, item: &ItemId) -> bool {
        self.facts().items.get(item).is_some_and(|item| !item.gone)
    }

    /// Returns every grant that an Item of a user was ever given.
    pub(crate) fn grants_of(&self, institution: &InstitutionId, user: &UserId) -> BTreeSet<String> {
        let facts = self.facts();
        let own = |item: &&ItemFacts| item.institution == *institution && item.user == *user;
        facts.items.values().filter(own).flat_map(|item| item.grants.iter().cloned()).collect()
    }
}
