//! Authorizations: the tokens that a bank issued, the stored ones, and the excused losses.

use super::{Facts, LEASE, Witness};
use crate::{
    bank::Bank,
    life::{Life, THE_END},
};
use chrono::{DateTime, TimeDelta, Utc};
use px_client::oauth::TokenSet;
use px_core::Clock as _;
use px_items::store::{Commit, ItemRecord, Store};
use px_types::ItemId;
use std::sync::Arc;

/// Time for which claims are remembered.
const REMEMBERED: TimeDelta = TimeDelta::minutes(30);
/// Delay after the end of a lease before a worker sees that an Item is free.
const SOON: TimeDelta = TimeDelta::seconds(1);
/// Time for which a used refresh token is accepted again, less the duration of a refresh.
const IN_TIME: TimeDelta = TimeDelta::seconds(24);

impl Witness {
    /// Checks an Item that reports a lost authorization: it must be lost.
    pub(super) async fn lost(&self, life: &Life, commit: &Commit, tokens: &TokenSet) {
        let id = &commit.item_id;
        let institution = self.facts().items.get(id).map(|item| item.institution.clone());
        let Some(bank) = institution.and_then(|id| self.bank(&id)) else { return };
        let Some(grant) = grant_of(&bank, tokens).await else { return };
        if let Some(who) = bank.ended_by(&grant) {
            self.count(|stats| stats.lost += 1);
            return self.trace.note(&life.name, format_args!("{id} lost what {who} ended"));
        }
        let excuse = {
            let facts = self.facts();
            let unsaved = facts.unsaved.get(&grant);
            let lives = unsaved.into_iter().flatten().map(|(life, _)| life);
            let mut late = facts.reused.get(&grant).into_iter().chain(lives);
            let excuse = late.any(|life| life.is_dead() || life.stood());
            let first = unsaved.and_then(|unsaved| unsaved.iter().map(|(_, at)| *at).min());
            let missed = first.and_then(|first| facts.missed_chance(id, first, self.skew));
            if let Some(missed) = missed {
                self.trace.wrong(format!("{id} is lost, though {missed}"));
            }
            excuse
        };
        if excuse {
            self.count(|stats| stats.excused += 1);
            if life.name == THE_END
                && let Some(item) = self.facts().items.get_mut(id)
            {
                // The user of a removed Item does not sign in again.
                item.gone = true;
            }
            let what = "a machine stopped between a refresh and its storing";
            return self.trace.note(&life.name, format_args!("{id} is lost, excused: {what}"));
        }
        self.trace.wrong(format!("{id} gave up an authorization that nobody ended ({grant})"));
    }

    /// Checks that a grant that is about to be revoked at its bank is not used by an Item.
    pub(crate) async fn revoking(&self, store: &dyn Store, life: &Life, bank: &Bank, grant: &str) {
        for (item, institution, _) in self.items() {
            if institution != bank.id {
                continue;
            }
            let Ok(Some((tokens, _))) = store.tokens(&item).await else { continue };
            if grant_of(bank, &tokens).await.as_deref() == Some(grant) {
                self.trace.wrong(format!("{} revokes the authorization of {item}", life.name));
            }
        }
    }

    /// Records that a worker claimed Items. To be called before [`claimed`](Self::claimed) for each
    /// of them.
    pub(crate) fn claim_made(&self, life: &Life, records: &[ItemRecord]) {
        let now = self.clock.now();
        let mut facts = self.facts();
        let left = |record: &ItemRecord| {
            facts.items.get(&record.id).is_some_and(|item| item.lease.is_some())
        };
        let claim = ClaimMade {
            at: now,
            by: life.name.clone(),
            items: records.iter().map(|record| record.id.clone()).collect(),
            all_left: records.iter().all(left),
        };
        while facts.claims.front().is_some_and(|claim| now - claim.at > REMEMBERED) {
            facts.claims.pop_front();
        }
        if !claim.items.is_empty() {
            facts.claims.push_back(claim);
        }
    }

    /// Records that a bank responded to a refresh.
    pub(crate) fn refreshed(&self, life: &Arc<Life>, grant: String) {
        let mut facts = self.facts();
        facts.stats.refreshes += 1;
        let refresh = (life.clone(), self.clock.now());
        facts.unsaved.entry(grant).or_default().push(refresh);
    }

    /// Records that a bank ended a grant because a refresh token was used again too late.
    pub(crate) fn reused(&self, life: &Arc<Life>, grant: String) {
        self.trace.note(&life.name, format_args!("used a refresh token of {grant} again"));
        self.facts().reused.insert(grant, life.clone());
    }

    pub(crate) async fn saved_tokens(&self, life: &Life, item: &ItemId, tokens: &TokenSet) {
        self.trace.note(&life.name, format_args!("saved tokens of {item}"));
        let institution = self.facts().items.get(item).map(|item| item.institution.clone());
        let Some(bank) = institution.and_then(|id| self.bank(&id)) else { return };
        if let Some(grant) = bank.grant_of(&tokens.access_token).await {
            // If a machine does not save a pair within a lease, another one requests it again. That
            // one may be too late although the first one saves its pair in the end.
            let late = self.clock.now() - LEASE;
            if let Some(unsaved) = self.facts().unsaved.get_mut(&grant) {
                unsaved.retain(|(_, at)| *at < late);
            }
        }
    }
}

/// A claim of a worker and its result.
pub(super) struct ClaimMade {
    at: DateTime<Utc>,
    by: String,
    items: Vec<ItemId>,
    /// Whether each Item was left by a dead worker.
    all_left: bool,
}

impl Facts {
    /// Returns a worker that was free after a refresh was lost, while the Item had no worker and
    /// the bank still accepted the old refresh token, but that took another Item instead.
    fn missed_chance(
        &self,
        item: &ItemId,
        refreshed: DateTime<Utc>,
        skew: TimeDelta,
    ) -> Option<String> {
        let takeovers = &self.items.get(item)?.takeovers;
        let (taken, free_since) = takeovers.iter().find(|(taken, _)| *taken > refreshed)?;
        let (from, to) = (*free_since + skew + SOON, (*taken).min(refreshed + IN_TIME));
        let mut claims = self.claims.iter().filter(|claim| from < claim.at && claim.at < to);
        let missed = claims.find(|claim| !claim.all_left && !claim.items.contains(item))?;
        Some(format!("{} took {} Items at {}", missed.by, missed.items.len(), missed.at))
    }
}

/// Returns the grant of tokens.
pub(crate) async fn grant_of(bank: &Bank, tokens: &TokenSet) -> Option<String> {
    let refresh = tokens.refresh_token.as_ref().map(|token| token.expose());
    bank.grant_of_any(refresh.unwrap_or_else(|| tokens.access_token.expose())).await
}
