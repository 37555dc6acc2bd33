//! Claims and commits.

use super::{ItemEntry, MemoryState, TransactionRow, review::ReviewWrite};
use crate::{
    item::Event,
    merge::{AccountStanding, MergedTransactions},
    partners::{PartnerUpdate, PartnerUpdated},
    store::{
        AccountsWrite, Commit, Fence, ItemRecord, LeaseOutcome, PermitLease, PermitShare, Result,
        StoreError, StoreErrorKind, rules,
    },
};
use chrono::{DateTime, Utc};
use px_types::{ItemId, model::security::Security};

impl MemoryState {
    pub(super) fn claim(
        &mut self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<ItemRecord>> {
        let awake = self.items.iter().filter_map(|(id, entry)| Some((entry.wake_at()?, id)));
        let mut due: Vec<_> = awake.filter(|(wake_at, _)| *wake_at <= now).collect();
        due.sort_unstable();
        let due: Vec<_> = due.into_iter().take(limit).map(|(_, id)| id.clone()).collect();
        due.iter().filter_map(|id| self.take(id, lease_until).transpose()).collect()
    }

    pub(super) fn claim_refreshes(
        &mut self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<ItemRecord>> {
        let free = |entry: &ItemEntry| entry.leased_until.is_none_or(|until| until <= now);
        let begun = self.items.iter().filter(|(_, entry)| free(entry));
        let mut begun: Vec<_> =
            begun.filter_map(|(id, entry)| Some((entry.refresh_begun_at?, id))).collect();
        begun.sort_unstable();
        let begun: Vec<_> = begun.into_iter().take(limit).map(|(_, id)| id.clone()).collect();
        begun.iter().filter_map(|id| self.take(id, lease_until).transpose()).collect()
    }

    pub(super) fn claim_one(
        &mut self,
        item: &ItemId,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
    ) -> Result<Option<ItemRecord>> {
        let Some(entry) = self.items.get(item) else { return Ok(None) };
        let leased = entry.leased_until.is_some_and(|until| until > now);
        if leased || entry.state.login_required() {
            return Ok(None);
        }
        self.take(item, lease_until)
    }

    fn take(&mut self, item: &ItemId, lease_until: DateTime<Utc>) -> Result<Option<ItemRecord>> {
        let fence = rules::new_fence(&self.random);
        let Some(entry) = self.items.get_mut(item) else { return Ok(None) };
        entry.state = rules::apply_event(entry.state, Event::Claimed)?;
        entry.fence = fence.0;
        let took_over = entry.leased_until.replace(lease_until).is_some();
        entry.lost_leases += u32::from(took_over);
        Ok(Some(ItemRecord { took_over, ..entry.record(item) }))
    }

    pub(super) fn lease_permits(&mut self, lease: &PermitLease) -> PermitShare {
        self.permits.retain(|(institution, _), (_, until)| {
            *institution != lease.institution_id || *until > lease.now
        });
        let others = self.permits.iter().filter(|((institution, holder), _)| {
            *institution == lease.institution_id && *holder != lease.holder
        });
        let others = others.map(|(_, (permits, _))| permits).sum();
        let granted = lease.granted(others);
        let key = (lease.institution_id.clone(), lease.holder.clone());
        match granted {
            0 => drop(self.permits.remove(&key)),
            granted => drop(self.permits.insert(key, (granted, lease.until))),
        }
        let state = self.partners.get(&lease.institution_id).copied().unwrap_or_default();
        PermitShare { granted, others, state }
    }

    pub(super) fn update_partner(&mut self, update: &PartnerUpdate) -> PartnerUpdated {
        let state = self.partners.entry(update.institution_id.clone()).or_default();
        let may_probe = state.apply(update);
        PartnerUpdated { state: *state, may_probe }
    }

    /// Returns an Item that is leased under that fencing token.
    fn leased(&mut self, item: &ItemId, fence: Fence) -> Option<&mut ItemEntry> {
        let entry = self.items.get_mut(item)?;
        (entry.fence == fence.0 && entry.leased_until.is_some()).then_some(entry)
    }

    pub(super) fn renew(
        &mut self,
        item: &ItemId,
        fence: Fence,
        lease_until: DateTime<Utc>,
    ) -> bool {
        self.leased(item, fence).map(|entry| entry.leased_until = Some(lease_until)).is_some()
    }

    pub(super) fn hand_back(&mut self, items: &[(ItemId, Fence, DateTime<Utc>)]) -> Result<()> {
        for (item, fence, due_at) in items {
            let Some(entry) = self.leased(item, *fence) else { continue };
            entry.state = rules::apply_event(entry.state, Event::HandedBack)?;
            entry.leased_until = None;
            entry.due_at = Some(*due_at);
        }
        Ok(())
    }

    pub(super) fn commit(&mut self, mut commit: Commit) -> Result<()> {
        let Commit { item_id, now, .. } = &commit;
        let (item_id, now) = (item_id.clone(), *now);
        let leased = self
            .items
            .get_mut(&item_id)
            .filter(|entry| entry.fence == commit.fence.0 && entry.leased_until.is_some());
        let Some(entry) = leased else { return Err(StoreError::fenced()) };
        if commit.refused_tokens.is_some_and(|version| version != entry.token_version) {
            return Err(tokens_changed());
        }
        // Steps that can fail come first, so that a failure changes nothing.
        let mut connections = entry.all_connections();
        let changed = commit.accounts.as_ref().map(|accounts| {
            let present = entry.accounts.values();
            let present: Vec<_> = present
                .filter(|known| known.standing != AccountStanding::Held)
                .map(|known| known.account.id.clone())
                .collect();
            rules::extend_connections(&mut connections, accounts, &present)
        });
        let entries = rules::compose(&commit.changes, (&item_id, &self.environment), &connections)?;
        let review = ReviewWrite::of(&mut commit);
        for connection in changed.into_iter().flatten() {
            entry.connections.insert(connection.application_id.clone(), connection);
        }
        if let Some(accounts) = commit.accounts {
            entry.write_accounts(accounts);
        }
        entry.write_securities(commit.securities);
        entry.write_transactions(commit.transactions, now);
        entry.write_review(review);
        entry.state = commit.state;
        entry.sync_state = commit.sync_state;
        entry.lost_leases = 0;
        if commit.refused_tokens.is_some() {
            entry.drop_tokens();
        }
        entry.then(commit.lease, now);
        self.queue(&item_id, entries, now)
    }
}

impl ItemEntry {
    /// Updates the lease and the schedule after a commit.
    fn then(&mut self, then: LeaseOutcome, now: DateTime<Utc>) {
        match then {
            LeaseOutcome::Keep { lease_until } => self.leased_until = Some(lease_until),
            LeaseOutcome::Release { due_at, not_before, seen } => {
                self.leased_until = None;
                self.not_before = not_before;
                self.due_at = due_at;
                if self.notified > seen {
                    self.due_at = Some(rules::due_at_once(due_at, not_before, now));
                } else {
                    self.notified_since = None;
                }
                if self.state.login_required() {
                    self.due_at = None;
                }
            }
        }
    }

    fn write_accounts(&mut self, write: AccountsWrite) {
        for forgotten in &write.forgotten {
            self.accounts.remove(forgotten);
        }
        for account in write.accounts {
            self.accounts.insert(account.known.account.id.clone(), account.known);
        }
        if write.identities.is_some() {
            self.identities = write.identities;
        }
        self.write_securities(write.securities);
    }

    fn write_securities(&mut self, securities: Vec<Security>) {
        for security in securities {
            self.securities.insert(security.id.clone(), security);
        }
    }

    fn write_transactions(&mut self, merged: MergedTransactions, now: DateTime<Utc>) {
        if merged.writes.is_empty() && merged.removed.is_empty() {
            return;
        }
        self.change_seq += 1;
        let seq = self.change_seq;
        for (_, id) in &merged.removed {
            if let Some(row) = self.transactions.get_mut(id).filter(|row| row.transaction.is_some())
            {
                row.transaction = None;
                row.known.removed_at = Some(now);
                row.changed_seq = seq;
            }
        }
        for write in merged.writes {
            let old = self.transactions.get(&write.known.id);
            let first_seq = old.map_or(seq, |old| old.first_seq);
            let added_seq =
                old.filter(|old| old.transaction.is_some()).map_or(seq, |old| old.added_seq);
            // A change of the partner's id does not change what applications read.
            let same = old
                .filter(|old| old.transaction.is_some() && old.known.digest == write.known.digest)
                .map(|old| old.changed_seq);
            let row = TransactionRow {
                transaction: Some(write.row),
                first_seq,
                added_seq,
                changed_seq: same.unwrap_or(seq),
                known: write.known,
            };
            self.transactions.insert(row.known.id.clone(), row);
        }
    }
}

fn tokens_changed() -> StoreError {
    StoreError::new(
        StoreErrorKind::TokensChanged,
        "the tokens are not those that were refused; nothing was stored",
    )
}
