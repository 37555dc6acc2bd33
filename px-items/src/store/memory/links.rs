//! Connections and tokens.

use super::{ItemEntry, MemoryState};
use crate::{
    connection::Connection,
    item::{Event, State},
    merge::KnownAccount,
    store::{
        Access, AccessDigest, Changed, ConnectionChange, Disconnection, Fence, Linked, LostTokens,
        NewHolder, NewLink, NotifyBatch, NotifyOutcome, Result, Revocation, RevocationDecision,
        RevocationStart, StoreError, Unlinked,
        rules::{self, ItemContext, ItemRequest, JoinOutcome, SideEffects},
    },
    sync_state::SyncState,
};
use chrono::{DateTime, Utc};
use px_client::oauth::TokenSet;
use px_types::{AccountId, ApplicationId, InstitutionId, ItemId};
use std::collections::BTreeMap;

impl MemoryState {
    pub(super) fn link(&mut self, new: &NewLink) -> Result<Linked> {
        self.cancel_revocations(new)?;
        let key = (new.institution_id.clone(), new.user_id.clone());
        let Some(item_id) = self.keys.get(&key).cloned() else { return self.create(new) };
        if new.tokens.is_none() && item_id != new.item_id {
            return Err(StoreError::no_item());
        }
        let Some(entry) = self.items.get_mut(&item_id) else { return self.create(new) };
        let connections = entry.all_connections();
        let known = entry.known_accounts();
        let listed = known.iter().filter(|known| known.is_present());
        let present: Vec<_> = listed.map(|known| known.partner_id.clone()).collect();
        let which = rules::choose_tokens(entry.state, new, &connections, &present);
        let joined = rules::join(
            (entry.state, &entry.sync_state),
            (&connections, entry.epochs),
            &known,
            new,
        )?;
        let spent = match (which, &new.tokens) {
            (rules::TokenChoice::New, Some(tokens)) => {
                entry.token_version += 1;
                entry.linked_version = entry.token_version;
                entry.cycle_tokens = false;
                entry.refresh_begun_at = None;
                let old = entry.tokens.replace(tokens.clone());
                old.filter(|old| rules::is_revocable(old, tokens))
            }
            (rules::TokenChoice::Old, Some(tokens)) => {
                let stored = entry.tokens.as_ref();
                let other = stored.is_none_or(|stored| rules::is_revocable(tokens, stored));
                other.then(|| tokens.clone())
            }
            (rules::TokenChoice::OldOnly, _) | (_, None) => None,
        };
        let context = ItemContext {
            item: &item_id,
            institution: &new.institution_id,
            user: &new.user_id,
            known: &known,
            environment: &self.environment,
        };
        let effects =
            rules::link_effects(new, context, (joined.connection.as_ref(), joined.is_new))?;
        let repaired = joined.repaired;
        self.set_link_access(&item_id, new);
        self.apply(&item_id, joined, new.now)?;
        self.write_side_effects(&item_id, effects, new.now)?;
        if let Some(spent) = spent {
            self.revoke((&item_id, &new.institution_id, &new.user_id), spent, new.now);
        }
        Ok(Linked::new(item_id, false, repaired))
    }

    fn create(&mut self, new: &NewLink) -> Result<Linked> {
        let id = new.item_id.clone();
        let tokens = new.tokens.clone().ok_or_else(StoreError::no_item)?;
        let mut entry = ItemEntry {
            institution_id: new.institution_id.clone(),
            user_id: new.user_id.clone(),
            created_at: new.now,
            state: State::Created,
            sync_state: SyncState::default(),
            fence: 0,
            due_at: Some(new.now),
            leased_until: None,
            not_before: None,
            notified: 0,
            notified_since: None,
            change_seq: 0,
            epochs: 0,
            cycle_tokens: false,
            refresh_begun_at: None,
            lost_leases: 0,
            token_version: 1,
            linked_version: 1,
            tokens: Some(tokens),
            connections: BTreeMap::new(),
            accounts: BTreeMap::new(),
            identities: None,
            securities: BTreeMap::new(),
            transactions: BTreeMap::new(),
            activities: Vec::new(),
            reads: BTreeMap::new(),
            reviews: Vec::new(),
            moved: BTreeMap::new(),
        };
        let mut connection = None;
        if let NewHolder::Application(joins) = &new.holder {
            let joins = Connection { epoch: entry.epochs, ..joins.clone() };
            entry.epochs += 1;
            entry.connections.insert(joins.application_id.clone(), joins.clone());
            connection = Some(joins);
        }
        let context = ItemContext {
            item: &id,
            institution: &new.institution_id,
            user: &new.user_id,
            known: &[],
            environment: &self.environment,
        };
        let effects = rules::link_effects(new, context, (connection.as_ref(), true))?;
        self.keys.insert((new.institution_id.clone(), new.user_id.clone()), id.clone());
        self.items.insert(id.clone(), entry);
        self.set_link_access(&id, new);
        self.write_side_effects(&id, effects, new.now)?;
        Ok(Linked::new(id, true, false))
    }

    /// Sets the access token of the application or partner that links, if the link brings one.
    fn set_link_access(&mut self, item: &ItemId, new: &NewLink) {
        if let Some(access) = new.access {
            self.put_access(item, &new.institution_id, new.application(), access);
        }
    }

    /// Sets the access token of an application or the partner. The earlier one becomes invalid.
    fn put_access(
        &mut self,
        item: &ItemId,
        institution: &InstitutionId,
        holder: Option<&ApplicationId>,
        digest: AccessDigest,
    ) {
        self.end_access(item, holder);
        let access = Access::new(item.clone(), institution.clone(), holder.cloned());
        self.access.insert(digest, access);
    }

    fn end_access(&mut self, item: &ItemId, holder: Option<&ApplicationId>) {
        self.access.retain(|_, access| {
            access.item_id != *item || access.application_id.as_ref() != holder
        });
    }

    pub(super) fn set_access(
        &mut self,
        item: &ItemId,
        holder: Option<&ApplicationId>,
        digest: AccessDigest,
    ) -> bool {
        let Some(entry) = self.items.get(item) else { return false };
        if holder.is_some_and(|application| !entry.connections.contains_key(application)) {
            return false;
        }
        let institution = entry.institution_id.clone();
        self.put_access(item, &institution, holder, digest);
        true
    }

    /// Stores the outcome of a link or a change, and queues the webhooks about it.
    fn apply(&mut self, item: &ItemId, joined: JoinOutcome, now: DateTime<Utc>) -> Result<()> {
        let Some(entry) = self.items.get_mut(item) else { return Ok(()) };
        entry.state = joined.state;
        if let Some(connection) = &joined.connection {
            entry.epochs += 1;
            entry.connections.insert(connection.application_id.clone(), connection.clone());
        }
        if joined.due {
            entry.request_update(now);
        }
        let connections = entry.all_connections();
        let counts = entry.counts();
        let webhooks = joined.webhooks((item, &self.environment), &connections, counts)?;
        self.queue(item, webhooks, now)
    }

    /// Stores the side effects of a change. If the Item was removed, only outgoing messages and the
    /// ticket.
    fn write_side_effects(
        &mut self,
        item: &ItemId,
        effects: SideEffects,
        now: DateTime<Utc>,
    ) -> Result<()> {
        if let Some(entry) = self.items.get_mut(item) {
            entry.activities.extend(effects.activity);
        }
        self.queue(item, effects.entries, now)?;
        if let Some(ticket) = effects.ticket {
            self.tickets.insert(ticket.digest, ticket);
        }
        Ok(())
    }

    pub(super) fn change(&mut self, change: &ConnectionChange) -> Result<Changed> {
        let item = &change.item_id;
        let Some(entry) = self.items.get(item) else { return Ok(Changed::NotConnected) };
        let connections = entry.all_connections();
        let known = entry.known_accounts();
        let at = (entry.state, &entry.sync_state);
        let (old, joined) = match rules::change(change, at, (&connections, entry.epochs), &known) {
            Ok(changed) => changed,
            Err(refused) => return Ok(refused),
        };
        let context = ItemContext {
            item,
            institution: &entry.institution_id,
            user: &entry.user_id,
            known: &known,
            environment: &self.environment,
        };
        let effects = rules::change_effects(change, context, (&old, &joined))?;
        self.apply(item, joined, change.now)?;
        self.write_side_effects(item, effects, change.now)?;
        Ok(Changed::Done)
    }

    pub(super) fn leave(&mut self, leave: &Disconnection) -> Result<Unlinked> {
        let (item, holder) = (&leave.item_id, leave.application_id.as_ref());
        let Some(entry) = self.items.get(item) else { return Ok(Unlinked::NotConnected) };
        let connection = holder.and_then(|application| entry.connections.get(application));
        let is_holder = match holder {
            Some(_) => connection.is_some(),
            None => self
                .access
                .values()
                .any(|access| access.item_id == *item && access.application_id.is_none()),
        };
        if !is_holder {
            return Ok(Unlinked::NotConnected);
        }
        let context = ItemContext {
            item,
            institution: &entry.institution_id,
            user: &entry.user_id,
            known: &entry.known_accounts(),
            environment: &self.environment,
        };
        let effects = rules::leave_effects(leave, context, connection)?;
        let mut last = entry.connections.is_empty();
        if let (Some(application), Some(entry)) = (holder, self.items.get_mut(item)) {
            entry.connections.remove(application);
            last = entry.connections.is_empty();
        }
        if last {
            self.remove(item, leave.now);
        } else {
            self.end_access(item, holder);
            self.outbox.retain(|_, queued| {
                queued.message.item_id != *item
                    || Some(&queued.message.application_id) != holder
                    || queued.message.to.partner().is_some()
            });
        }
        self.write_side_effects(item, effects, leave.now)?;
        Ok(if last { Unlinked::ItemRemoved } else { Unlinked::OthersStay })
    }

    fn remove(&mut self, item: &ItemId, now: DateTime<Utc>) {
        let Some(entry) = self.items.remove(item) else { return };
        self.keys.remove(&(entry.institution_id.clone(), entry.user_id.clone()));
        self.access.retain(|_, access| access.item_id != *item);
        self.outbox.retain(|_, queued| {
            queued.message.item_id != *item || queued.message.to.partner().is_some()
        });
        if let Some(tokens) = entry.tokens {
            self.revoke((item, &entry.institution_id, &entry.user_id), tokens, now);
        }
    }

    /// Deletes queued revocations of the tokens that a link brings.
    fn cancel_revocations(&mut self, new: &NewLink) -> Result<()> {
        let Some(tokens) = &new.tokens else { return Ok(()) };
        let at_partner = |revocation: &Revocation| revocation.institution_id == new.institution_id;
        for (id, queued) in &self.revocations {
            let Some((until, ends_grant)) = self.sent.get(id) else { continue };
            let ends = shares(&queued.message.tokens, tokens)
                || (*ends_grant && queued.message.user_id == new.user_id);
            if at_partner(&queued.message) && ends && *until > new.now {
                return Err(StoreError::revocation_under_way());
            }
        }
        self.revocations.retain(|_, queued| {
            !at_partner(&queued.message) || !shares(&queued.message.tokens, tokens)
        });
        Ok(())
    }

    pub(super) fn begin_revocation(&mut self, start: RevocationStart<'_>) -> RevocationDecision {
        let revocation = start.revocation;
        let present = self.revocations.get(&revocation.id);
        if present.is_none_or(|queued| queued.message.attempt != revocation.attempt) {
            return RevocationDecision::Gone;
        }
        let in_use = self.items.values().any(|entry| {
            entry.institution_id == revocation.institution_id
                && entry.tokens.as_ref().is_some_and(|tokens| {
                    shares(tokens, &revocation.tokens)
                        || (start.ends_grant && entry.user_id == revocation.user_id)
                })
        });
        if in_use {
            self.revocations.remove(&revocation.id);
            self.sent.remove(&revocation.id);
            return RevocationDecision::InUse;
        }
        self.sent.insert(revocation.id, (start.sent_until, start.ends_grant));
        RevocationDecision::Yes
    }

    pub(super) fn revoke_lost(&mut self, lost: &LostTokens) -> bool {
        let linked = self.items.get(&lost.item_id).map(|entry| entry.linked_version);
        if linked.is_some_and(|linked| linked <= lost.version) {
            return false;
        }
        let ids = (&lost.item_id, &lost.institution_id, &lost.user_id);
        self.revoke(ids, lost.tokens.clone(), lost.now);
        true
    }

    pub(super) fn save_tokens(&mut self, item: &ItemId, version: u64, tokens: &TokenSet) -> bool {
        let Some(entry) = self.items.get_mut(item) else { return false };
        if entry.tokens.is_none() || entry.token_version != version {
            return false;
        }
        entry.tokens = Some(tokens.clone());
        entry.token_version += 1;
        entry.cycle_tokens = false;
        entry.refresh_begun_at = None;
        true
    }

    pub(super) fn begin_refresh(
        &mut self,
        item: &ItemId,
        version: u64,
        now: DateTime<Utc>,
    ) -> bool {
        let Some(entry) = self.with_tokens(item, version) else { return false };
        entry.refresh_begun_at.get_or_insert(now);
        true
    }

    pub(super) fn end_refresh(&mut self, item: &ItemId, version: u64) {
        if let Some(entry) = self.with_tokens(item, version) {
            entry.refresh_begun_at = None;
        }
    }

    fn with_tokens(&mut self, item: &ItemId, version: u64) -> Option<&mut ItemEntry> {
        let entry = self.items.get_mut(item)?;
        (entry.tokens.is_some() && entry.token_version == version).then_some(entry)
    }

    pub(super) fn notify(&mut self, batch: &NotifyBatch) -> Result<NotifyOutcome> {
        let requested = rules::group_by_item(batch, |digest| {
            let access = self.access.get(digest)?;
            (access.institution_id == batch.institution_id).then(|| access.item_id.clone())
        });
        let requested = match requested {
            Ok(requested) => requested,
            Err(index) => return Ok(NotifyOutcome::Unknown(index)),
        };
        for (item, requested) in requested {
            self.notify_one(&item, requested, batch.now)?;
        }
        Ok(NotifyOutcome::Applied)
    }

    fn notify_one(
        &mut self,
        item: &ItemId,
        requested: ItemRequest,
        now: DateTime<Utc>,
    ) -> Result<()> {
        let fence = rules::new_fence(&self.random);
        let Some(entry) = self.items.get_mut(item) else { return Ok(()) };
        if !requested.revoked {
            entry.notified_since = rules::earliest(entry.notified_since, requested.since);
            entry.cycle_tokens |= requested.cycle && entry.tokens.is_some();
            entry.request_update(now);
            return Ok(());
        }
        if entry.state.login_required() {
            return Ok(());
        }
        entry.lose_authorization(fence)?;
        let connections = entry.all_connections();
        let entries = rules::compose(&rules::revoked(), (item, &self.environment), &connections)?;
        self.queue(item, entries, now)
    }
}

/// Returns whether two pairs have a token in common.
fn shares(one: &TokenSet, other: &TokenSet) -> bool {
    let refresh = one.refresh_token.is_some() && one.refresh_token == other.refresh_token;
    one.access_token == other.access_token || refresh
}

impl ItemEntry {
    /// Applies a refusal of the tokens by the partner: deletes them, ends the schedule, and
    /// invalidates the lease of a worker.
    fn lose_authorization(&mut self, fence: Fence) -> Result<()> {
        self.state = rules::apply_event(self.state, Event::Refused)?;
        self.fence = fence.0;
        self.leased_until = None;
        self.due_at = None;
        self.drop_tokens();
        Ok(())
    }

    pub(super) fn drop_tokens(&mut self) {
        self.tokens = None;
        self.token_version += 1;
        self.cycle_tokens = false;
        self.refresh_begun_at = None;
    }

    pub(super) fn known_accounts(&self) -> Vec<KnownAccount> {
        self.accounts.values().cloned().collect()
    }

    /// Returns the number of transactions of each account.
    fn counts(&self) -> BTreeMap<AccountId, u64> {
        let mut counts = BTreeMap::new();
        for row in self.transactions.values().filter(|row| row.transaction.is_some()) {
            *counts.entry(row.known.account_id.clone()).or_default() += 1;
        }
        counts
    }
}
