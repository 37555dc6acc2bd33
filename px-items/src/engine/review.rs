//! Data on hold: decisions of the program, and the counts of updates that they are based on.

use super::Inner;
use crate::{
    item::{Event, step},
    items::random_id,
    merge::{self, KnownAccount},
    review::{self, DecidedReview, Decision, Finding},
    store::{Commit, ItemRecord, LeaseOutcome, StoreError, UpdateCount},
};
use chrono::{DateTime, TimeDelta, Utc};
use px_types::{InstitutionId, model::activity::Activity};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// Time for which a decision about a whole institution applies to Items that are found later.
const RULING_VALID_FOR: TimeDelta = TimeDelta::days(30);

/// Minimum time between two writes of the update counts.
const COUNT_INTERVAL: TimeDelta = TimeDelta::seconds(60);

/// Updates of each institution's Items that this process did and has not stored. Counts of a killed
/// process are lost. Then it takes longer until an Item counts as the only one affected.
#[derive(Debug, Default)]
pub(super) struct PendingCounts(Mutex<Pending>);

#[derive(Debug, Default)]
struct Pending {
    counts: BTreeMap<(InstitutionId, i64), u64>,
    stored_at: Option<DateTime<Utc>>,
}

impl PendingCounts {
    /// Counts an update. Returns whether the counts are due to be stored.
    fn add(&self, institution: &InstitutionId, now: DateTime<Utc>) -> bool {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (institution.clone(), UpdateCount::hour_of(now));
        *pending.counts.entry(key).or_default() += 1;
        let stored_at = *pending.stored_at.get_or_insert(now);
        (now - stored_at).abs() >= COUNT_INTERVAL
    }

    fn take(&self, now: DateTime<Utc>) -> Vec<UpdateCount> {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pending.stored_at = Some(now);
        let counts = std::mem::take(&mut pending.counts).into_iter();
        counts.map(|((bank, hour), updates)| UpdateCount::new(bank, hour, updates)).collect()
    }
}

impl Inner {
    /// Counts an update of one of an institution's Items.
    pub(super) async fn count_update(&self, institution: &InstitutionId) {
        if self.updates.add(institution, self.clock.now())
            && let Err(error) = self.store_counts().await
        {
            tracing::warn!(%error, "the counts of updates could not be stored");
        }
    }

    async fn store_counts(&self) -> Result<(), StoreError> {
        let counts = self.updates.take(self.clock.now());
        if counts.is_empty() { Ok(()) } else { self.store.count_updates(&counts).await }
    }

    /// Decides about the data of an Item on hold if that is possible: by an operator's decision for
    /// the institution, or by the evidence of its Items. Returns the Item and its accounts after
    /// the decision.
    pub(super) async fn decide(
        &self,
        record: &ItemRecord,
        accounts: Vec<KnownAccount>,
    ) -> Result<(ItemRecord, Vec<KnownAccount>), StoreError> {
        let review = &record.sync_state.review;
        if review.rows.is_none() && review.accounts.is_empty() {
            return Ok((record.clone(), accounts));
        }
        let now = self.clock.now();
        let ruling = self.store.ruling(&record.institution_id).await?;
        let ruling = ruling.filter(|ruling| now - ruling.at < RULING_VALID_FOR);
        let plan = &self.settings.plan;
        let decided = match ruling.filter(|_| !review.operator_only) {
            Some(ruling) => {
                let outcome = (ruling.outcome, &*ruling.by);
                review::decide(&record.sync_state, &accounts, outcome, (plan, now), false)
            }
            None => self.rebooked(record, &accounts, now).await?,
        };
        let Some(decided) = decided else { return Ok((record.clone(), accounts)) };
        let Ok((state, _)) = step(record.state, Event::PartStored) else {
            return Ok((record.clone(), accounts));
        };
        let mut commit = Commit::new(
            record,
            state,
            now,
            LeaseOutcome::Keep { lease_until: self.lease_end(now) },
        );
        let mut record = record.clone();
        record.state = state;
        record.sync_state.clone_from(&decided.sync_state);
        commit.reviews = Some(review::entries(&record, &decided.sync_state.review));
        commit.activities = self.activities(&decided.decisions);
        let mut accounts = accounts;
        if let Some(write) = &decided.accounts {
            accounts.retain(|known| !write.forgotten.contains(&known.account.id));
            accounts = merge::updated(accounts, &write.accounts);
        }
        commit.changes.new_accounts = decided.new_accounts;
        commit.accounts = decided.accounts;
        commit.sync_state = decided.sync_state;
        self.store.commit(commit).await?;
        Ok((record, accounts))
    }

    /// Decides that rows were rebooked, if the Item is the only one of its institution.
    async fn rebooked(
        &self,
        record: &ItemRecord,
        accounts: &[KnownAccount],
        now: DateTime<Utc>,
    ) -> Result<Option<DecidedReview>, StoreError> {
        let review = &record.sync_state.review;
        let Some(rows) = review.rows.as_ref().filter(|_| !review.operator_only) else {
            return Ok(None);
        };
        self.store_counts().await?;
        let evidence = self.store.evidence(&record.institution_id, rows.since).await?;
        let plan = &self.settings.plan;
        if evidence.finding(rows.since, now, plan.alone_after) != Finding::Alone {
            return Ok(None);
        }
        let start = rows.start;
        let mut sync_state = record.sync_state.clone();
        let Some(decision) = sync_state.review.rebook(now) else { return Ok(None) };
        // Updates do not reach back so far.
        if sync_state.owed_since.is_none_or(|owed| owed > start) {
            sync_state.read_all(plan, now);
        }
        sync_state.refresh_review(accounts);
        let (accounts, new_accounts) = (None, Vec::new());
        Ok(Some(DecidedReview { sync_state, accounts, new_accounts, decisions: vec![decision] }))
    }

    /// Returns the audit entries of decisions, and logs them.
    pub(super) fn activities(&self, decisions: &[Decision]) -> Vec<Activity> {
        let of = |decision: &Decision| {
            let outcome = decision.outcome.as_str();
            let by = &*decision.by;
            tracing::warn!(outcome, by, subject = ?decision.subject, "decided about data on hold");
            Some(review::activity(decision, random_id(&*self.random)?))
        };
        decisions.iter().filter_map(of).collect()
    }
}
