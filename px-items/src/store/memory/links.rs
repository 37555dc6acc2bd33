//! Who is connected, and the tokens.

use super::{Entry, Inner};
use crate::{
    connection::Connection,
    item::{Event, State},
    life::Life,
    store::{
        Access, Linked, NewHolder, NewLink, NotifyBatch, NotifyOutcome, Result, Unlinked,
        rules::{self, Asked, Joined},
    },
};
use chrono::{DateTime, Utc};
use px_client::oauth::TokenSet;
use px_types::{AccountId, ApplicationId, ItemId};
use std::collections::BTreeMap;

impl Inner {
    pub(super) fn link(&mut self, new: NewLink) -> Result<Linked> {
        let key = (new.institution_id.clone(), new.user_id.clone());
        let Some(item_id) = self.keys.get(&key).cloned() else { return Ok(self.create(new)) };
        let holder = match &new.holder {
            NewHolder::Application(connection) => Some(connection.application_id.clone()),
            NewHolder::Partner => None,
        };
        self.give_access(&item_id, &new, holder);
        let Some(entry) = self.items.get_mut(&item_id) else { return Ok(self.create(new)) };
        let connections = entry.all_connections();
        let listed = entry.accounts.values().filter(|known| known.is_present());
        let present: Vec<_> = listed.map(|known| known.partner_id.clone()).collect();
        let which = rules::which_tokens(entry.state, &new, &connections, &present);
        let joined =
            rules::join((entry.state, &entry.life), &connections, entry.epochs, new.holder)?;
        let spent = match which {
            rules::Tokens::New => {
                entry.token_version += 1;
                entry.cycle_tokens = false;
                let old = entry.tokens.replace(new.tokens.clone());
                old.filter(|old| rules::outlived(old, &new.tokens))
            }
            rules::Tokens::Old => {
                let kept = entry.tokens.as_ref();
                let other = kept.is_none_or(|kept| rules::outlived(&new.tokens, kept));
                other.then_some(new.tokens)
            }
            rules::Tokens::OldAlone => None,
        };
        let repaired = joined.repaired;
        self.apply(&item_id, joined, new.now)?;
        if let Some(spent) = spent {
            self.revoke(&item_id, &new.institution_id, spent, new.now);
        }
        Ok(Linked::new(item_id, false, repaired))
    }

    fn create(&mut self, new: NewLink) -> Linked {
        let id = new.item_id.clone();
        let mut entry = Entry {
            institution_id: new.institution_id.clone(),
            user_id: new.user_id.clone(),
            created_at: new.now,
            state: State::Created,
            life: Life::default(),
            fence: 0,
            due_at: Some(new.now),
            leased_until: None,
            not_before: None,
            notified: 0,
            notified_since: None,
            change_seq: 0,
            epochs: 0,
            cycle_tokens: false,
            token_version: 1,
            tokens: Some(new.tokens.clone()),
            connections: BTreeMap::new(),
            accounts: BTreeMap::new(),
            identities: None,
            securities: BTreeMap::new(),
            transactions: BTreeMap::new(),
        };
        let mut holder = None;
        if let NewHolder::Application(connection) = &new.holder {
            let application = connection.application_id.clone();
            holder = Some(application.clone());
            let connection = Connection { epoch: entry.epochs, ..connection.clone() };
            entry.epochs += 1;
            entry.connections.insert(application, connection);
        }
        self.keys.insert((new.institution_id.clone(), new.user_id.clone()), id.clone());
        self.items.insert(id.clone(), entry);
        self.give_access(&id, &new, holder);
        Linked::new(id, true, false)
    }

    /// Gives a holder its token, and ends its earlier one.
    fn give_access(&mut self, item: &ItemId, new: &NewLink, holder: Option<ApplicationId>) {
        self.access.retain(|_, access| access.item_id != *item || access.application_id != holder);
        let access = Access::new(item.clone(), new.institution_id.clone(), holder);
        self.access.insert(new.access, access);
    }

    /// Stores what a link or a change of a connection makes of an Item, and tells it.
    fn apply(&mut self, item: &ItemId, joined: Joined, now: DateTime<Utc>) -> Result<()> {
        let Some(entry) = self.items.get_mut(item) else { return Ok(()) };
        entry.state = joined.state;
        if let Some(connection) = &joined.connection {
            entry.epochs += 1;
            entry.connections.insert(connection.application_id.clone(), connection.clone());
        }
        if joined.due {
            entry.ask(now);
        }
        let connections = entry.all_connections();
        let counts = entry.counts();
        let webhooks = joined.webhooks((item, &self.environment), &connections, counts)?;
        self.queue(item, webhooks, now);
        Ok(())
    }

    pub(super) fn set_connection(
        &mut self,
        item: &ItemId,
        connection: Connection,
        now: DateTime<Utc>,
    ) -> Result<bool> {
        let Some(entry) = self.items.get(item) else { return Ok(false) };
        if !entry.connections.contains_key(&connection.application_id) {
            return Ok(false);
        }
        let connections = entry.all_connections();
        let joined =
            rules::connect((entry.state, &entry.life), &connections, entry.epochs, connection);
        self.apply(item, joined, now)?;
        Ok(true)
    }

    pub(super) fn unlink(
        &mut self,
        item: &ItemId,
        holder: Option<&ApplicationId>,
        now: DateTime<Utc>,
    ) -> Unlinked {
        let Some(entry) = self.items.get_mut(item) else { return Unlinked::NotConnected };
        let was_connected = match holder {
            Some(application) => entry.connections.remove(application).is_some(),
            None => self
                .access
                .values()
                .any(|access| access.item_id == *item && access.application_id.is_none()),
        };
        if !was_connected {
            return Unlinked::NotConnected;
        }
        if entry.connections.is_empty() {
            self.remove(item, now);
            return Unlinked::ItemRemoved;
        }
        self.access.retain(|_, access| {
            access.item_id != *item || access.application_id.as_ref() != holder
        });
        self.outbox.retain(|_, queued| {
            queued.what.item_id != *item || Some(&queued.what.application_id) != holder
        });
        Unlinked::OthersStay
    }

    fn remove(&mut self, item: &ItemId, now: DateTime<Utc>) {
        let Some(entry) = self.items.remove(item) else { return };
        self.keys.remove(&(entry.institution_id.clone(), entry.user_id));
        self.access.retain(|_, access| access.item_id != *item);
        self.outbox.retain(|_, queued| queued.what.item_id != *item);
        if let Some(tokens) = entry.tokens {
            self.revoke(item, &entry.institution_id, tokens, now);
        }
    }

    pub(super) fn save_tokens(&mut self, item: &ItemId, version: u64, tokens: &TokenSet) -> bool {
        let Some(entry) = self.items.get_mut(item) else { return false };
        if entry.tokens.is_none() || entry.token_version != version {
            return false;
        }
        entry.tokens = Some(tokens.clone());
        entry.token_version += 1;
        entry.cycle_tokens = false;
        true
    }

    pub(super) fn notify(&mut self, batch: &NotifyBatch) -> Result<NotifyOutcome> {
        let asked = rules::gather(batch, |digest| {
            let access = self.access.get(digest)?;
            (access.institution_id == batch.institution_id).then(|| access.item_id.clone())
        });
        let asked = match asked {
            Ok(asked) => asked,
            Err(index) => return Ok(NotifyOutcome::Unknown(index)),
        };
        for (item, asked) in asked {
            self.notify_one(&item, asked, batch.now)?;
        }
        Ok(NotifyOutcome::Applied)
    }

    fn notify_one(&mut self, item: &ItemId, asked: Asked, now: DateTime<Utc>) -> Result<()> {
        let Some(entry) = self.items.get_mut(item) else { return Ok(()) };
        if !asked.revoked {
            entry.notified_since = rules::earliest(entry.notified_since, asked.since);
            entry.cycle_tokens |= asked.cycle && entry.tokens.is_some();
            entry.ask(now);
            return Ok(());
        }
        if entry.state.login_required() {
            return Ok(());
        }
        entry.lose_authorization()?;
        let connections = entry.all_connections();
        let told = rules::compose(&rules::revoked(), (item, &self.environment), &connections)?;
        self.queue(item, told, now);
        Ok(())
    }
}

impl Entry {
    /// The partner refuses the tokens: they go, the Item rests, and a worker that has it is late.
    fn lose_authorization(&mut self) -> Result<()> {
        self.state = rules::moved(self.state, Event::Refused)?;
        self.fence += 1;
        self.leased_until = None;
        self.due_at = None;
        self.drop_tokens();
        Ok(())
    }

    pub(super) fn drop_tokens(&mut self) {
        self.tokens = None;
        self.token_version += 1;
        self.cycle_tokens = false;
    }

    /// How many transactions each account has.
    fn counts(&self) -> BTreeMap<AccountId, u64> {
        let mut counts = BTreeMap::new();
        for row in self.transactions.values().filter(|row| row.text.is_some()) {
            *counts.entry(row.known.account_id.clone()).or_default() += 1;
        }
        counts
    }
}
