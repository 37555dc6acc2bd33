//! Claims, leases and commits.

use super::{Facts, ItemFacts, Lease, Witness};
use crate::life::Life;
use chrono::{DateTime, Utc};
use px_client::oauth::TokenSet;
use px_core::Clock as _;
use px_items::{
    connection::Connection,
    item::State,
    merge::{AccountStanding, Change},
    store::{Commit, Fence, ItemRecord, LeaseOutcome, Store},
};
use px_types::ItemId;
use std::collections::BTreeSet;

impl Witness {
    pub(crate) fn claimed(&self, life: &Life, record: &ItemRecord, until: DateTime<Utc>) {
        let (id, fence) = (&record.id, record.fence);
        self.trace
            .note(&life.name, format_args!("claimed {id}, {}, fence {}", record.state, fence.0));
        let now = self.clock.now();
        let mut facts = self.facts();
        let Some(item) = facts.items.get_mut(id) else {
            drop(facts);
            return self.trace.wrong(format!("{} claimed {id}, which is not there", life.name));
        };
        let mut wrong = Vec::new();
        if item.gone {
            wrong.push(format!("{} claimed {id}, which is gone", life.name));
        }
        if fence == item.fence {
            wrong.push(format!("fence {} of {id} was given twice", fence.0));
        }
        let lease = item.lease.replace(Lease { by: life.name.clone(), until });
        item.fence = fence;
        if let Some(lease) = lease {
            item.takeovers.push((now, lease.until));
            if lease.until > now + self.skew {
                let name = &life.name;
                wrong.push(format!("{name} claimed {id}, which {} holds", lease.by));
            }
            facts.stats.takeovers += 1;
        }
        drop(facts);
        wrong.into_iter().for_each(|what| self.trace.wrong(what));
    }

    pub(crate) fn renewed(&self, item: &ItemId, fence: Fence, until: DateTime<Utc>) {
        let mut facts = self.facts();
        let Some(item) = facts.items.get_mut(item) else { return };
        if item.fence == fence
            && let Some(lease) = &mut item.lease
        {
            lease.until = until;
        }
    }

    /// Notes that a commit was refused because its lease had ended: another worker has the Item, or
    /// the user took the consent back.
    pub(crate) fn fenced(&self, item: &ItemId, fence: Fence) {
        if let Some(item) = self.facts().items.get_mut(item).filter(|item| item.fence == fence) {
            item.lease = None;
        }
    }

    pub(crate) fn released(&self, life: &Life, item_id: &ItemId, fence: Fence) {
        self.trace.note(&life.name, format_args!("handed {item_id} back"));
        let mut facts = self.facts();
        let Some(item) = facts.items.get_mut(item_id) else { return };
        if item.fence == fence {
            item.lease = None;
        }
    }

    /// Returns an Item that a machine has a lease of. A machine that was shut down must not have
    /// one.
    pub(crate) fn holds(&self, life: &Life) -> Option<ItemId> {
        let facts = self.facts();
        let holds = |item: &&ItemFacts| {
            !item.gone && item.lease.as_ref().is_some_and(|lease| lease.by == life.name)
        };
        facts.items.iter().find(|(_, item)| holds(item)).map(|(id, _)| id.clone())
    }

    /// Returns the tokens that a commit is about to delete.
    pub(crate) async fn before_commit(
        &self,
        store: &dyn Store,
        commit: &Commit,
    ) -> Option<TokenSet> {
        commit.refused_tokens?;
        Some(store.tokens(&commit.item_id).await.ok()??.0)
    }

    pub(crate) async fn committed(
        &self,
        store: &dyn Store,
        life: &Life,
        commit: &Commit,
        tokens: Option<TokenSet>,
    ) {
        self.note_commit(life, commit);
        let connections = store.connections(&commit.item_id).await.unwrap_or_default();
        let wrong = self.facts().take_commit(self.clock.now(), life, commit, &connections);
        wrong.into_iter().for_each(|what| self.trace.wrong(what));
        self.check_losses(life, commit);
        self.facts().note_partner_ids(commit);
        self.check_shown(store, life, commit).await;
        if let Some(tokens) = tokens {
            self.lost(life, commit, &tokens).await;
        }
    }

    fn note_commit(&self, life: &Life, commit: &Commit) {
        let merged = &commit.transactions;
        let accounts = commit.accounts.as_ref().map_or(0, |accounts| accounts.accounts.len());
        self.trace.note(
            &life.name,
            format_args!(
                "stored {} with fence {}: {}, {} accounts, {} rows, {} gone, {} joined, {:?}",
                commit.item_id,
                commit.fence.0,
                commit.state,
                accounts,
                merged.writes.len(),
                merged.removed.len(),
                merged.joined,
                commit.lease
            ),
        );
        for write in commit.accounts.iter().flat_map(|accounts| &accounts.accounts) {
            let (known, new) = (&write.known, if write.new { ", new" } else { "" });
            let (own, partner) = (&known.account.id, &known.partner_id);
            self.trace.note(
                &life.name,
                format_args!("  account {own} = {partner}, {:?}{new}", known.standing),
            );
        }
        for write in &merged.writes {
            let (own, partner, row) = (&write.known.id, &write.known.partner_id, &write.row);
            let posted = row.settled_at.map(|at| at.date());
            self.trace.note(
                &life.name,
                format_args!(
                    "  {:?} {own} = {partner} of {}, made {}, posted {posted:?}, {} {:?}",
                    write.change,
                    row.account_id,
                    row.transacted_at.date(),
                    row.amount,
                    row.description,
                ),
            );
        }
        for (_, id) in &merged.removed {
            self.trace.note(&life.name, format_args!("  gone {id}"));
        }
        if let Some(failure) = &commit.sync_state.last_failure
            && commit.state != State::Created
        {
            self.trace.note(&life.name, format_args!("  failed: {:?}", failure.kind));
        }
    }
}

impl Facts {
    /// Records a commit that took effect. Returns the violations.
    pub(super) fn take_commit(
        &mut self,
        now: DateTime<Utc>,
        life: &Life,
        commit: &Commit,
        connections: &[Connection],
    ) -> Vec<String> {
        let id = &commit.item_id;
        self.stats.commits += 1;
        let Some(item) = self.items.get_mut(id) else {
            return vec![format!("{} stored {id}, which is not there", life.name)];
        };
        let mut wrong = Vec::new();
        if item.gone {
            wrong.push(format!("{} stored {id}, which is gone", life.name));
        }
        if commit.fence != item.fence {
            wrong.push(format!(
                "{} stored {id} with fence {} while {} is the present one",
                life.name, commit.fence.0, item.fence.0
            ));
        }
        match (&mut item.lease, commit.lease) {
            (Some(lease), LeaseOutcome::Keep { lease_until }) => lease.until = lease_until,
            (Some(_), LeaseOutcome::Release { .. }) => item.lease = None,
            (None, _) => {
                wrong.push(format!("{} stored {id} that nobody holds", life.name));
            }
            #[allow(unreachable_patterns, reason = "later versions may have more")]
            _ => {}
        }
        if let Some(accounts) = &commit.accounts {
            let new: BTreeSet<_> = accounts
                .accounts
                .iter()
                .filter(|write| write.new && write.known.standing != AccountStanding::Held)
                .map(|write| write.known.account.id.clone())
                .collect();
            let first = !std::mem::replace(&mut item.has_response, true);
            for choice in item.choices.values_mut() {
                choice.add_accounts(&new, first);
            }
            item.accounts.extend(new);
        }
        for (application, choice) in &item.choices {
            let visible = commit.transactions.removed.iter();
            let visible = visible.filter(|(account, _)| choice.sees(account));
            let ids = item.gone_rows.entry(application.clone()).or_default();
            ids.extend(visible.map(|(_, id)| id.clone()));
        }
        for write in &commit.transactions.writes {
            if !item.accounts.contains(&write.known.account_id) {
                let (row, account) = (&write.known.id, &write.known.account_id);
                wrong.push(format!("{row} is stored, and its account {account} is not"));
            }
            let before = item.rows.insert(write.known.id.clone(), write.known.account_id.clone());
            if before.is_some() && write.change == Change::Added {
                item.returned.insert(write.known.id.clone());
            }
        }
        self.promise(now, id, &commit.changes, connections);
        wrong
    }
}
