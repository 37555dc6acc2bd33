//! Data on hold: what the program decides, and the counts of updates that it decides by.

use super::Inner;
use crate::{
    item::{Event, step},
    items::random_id,
    merge::{self, KnownAccount},
    review::{self, Decided, Decision, Finding},
    store::{Commit, ItemRecord, StoreError, Then, UpdateCount},
};
use chrono::{DateTime, TimeDelta, Utc};
use px_types::{InstitutionId, model::activity::Activity};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// Time for which a decision about a whole institution applies to Items that are found later.
const RULING_VALID_FOR: TimeDelta = TimeDelta::days(30);

/// Minimum time between two writes of the counts of updates.
const COUNT_INTERVAL: TimeDelta = TimeDelta::seconds(60);

/// Updates of each institution's Items that this process did and has not stored. What a killed
/// process did not store is missing there: it takes longer then until an Item counts as alone.
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

    /// Decides on what is on hold of an Item, if that can be done: by an operator's decision for
    /// the institution, or by what its Items say together. Returns the Item and its accounts as
    /// they are then.
    pub(super) async fn decide(
        &self,
        record: &ItemRecord,
        accounts: Vec<KnownAccount>,
    ) -> Result<(ItemRecord, Vec<KnownAccount>), StoreError> {
        let review = &record.life.review;
        if review.rows.is_none() && review.accounts.is_empty() {
            return Ok((record.clone(), accounts));
        }
        let now = self.clock.now();
        let ruling = self.store.ruling(&record.institution_id).await?;
        let ruling = ruling.filter(|ruling| now - ruling.at < RULING_VALID_FOR);
        let plan = &self.settings.plan;
        let decided = match ruling.filter(|_| !review.operator_only) {
            Some(ruling) => {
                let verdict = (ruling.verdict, &*ruling.by);
                review::decide(&record.life, &accounts, verdict, (plan, now), false)
            }
            None => self.rebooked(record, &accounts, now).await?,
        };
        let Some(decided) = decided else { return Ok((record.clone(), accounts)) };
        let Ok((state, _)) = step(record.state, Event::PartStored) else {
            return Ok((record.clone(), accounts));
        };
        let mut commit =
            Commit::new(record, state, now, Then::Keep { lease_until: self.lease_end(now) });
        let mut record = record.clone();
        record.state = state;
        record.life.clone_from(&decided.life);
        commit.reviews = Some(review::entries(&record, &decided.life.review));
        commit.activities = self.activities(&decided.decisions);
        let mut accounts = accounts;
        if let Some(write) = &decided.accounts {
            accounts.retain(|known| !write.forgotten.contains(&known.account.id));
            accounts = merge::updated(accounts, &write.accounts);
        }
        commit.news.new_accounts = decided.new_accounts;
        commit.accounts = decided.accounts;
        commit.life = decided.life;
        self.store.commit(commit).await?;
        Ok((record, accounts))
    }

    /// Decides that rows were rebooked, if the Item is the only one of its institution.
    async fn rebooked(
        &self,
        record: &ItemRecord,
        accounts: &[KnownAccount],
        now: DateTime<Utc>,
    ) -> Result<Option<Decided>, StoreError> {
        let review = &record.life.review;
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
        let mut life = record.life.clone();
        let Some(decision) = life.review.rebook(now) else { return Ok(None) };
        // No update reaches back so far.
        if life.owed_since.is_none_or(|owed| owed > start) {
            life.read_all(plan, now);
        }
        life.refresh_review(accounts);
        let (accounts, new_accounts) = (None, Vec::new());
        Ok(Some(Decided { life, accounts, new_accounts, decisions: vec![decision] }))
    }

    /// Entries for the activity log of decisions, which are logged.
    pub(super) fn activities(&self, decisions: &[Decision]) -> Vec<Activity> {
        let of = |decision: &Decision| {
            let verdict = decision.verdict.as_str();
            let by = &*decision.by;
            tracing::warn!(verdict, by, subject = ?decision.subject, "decided what data on hold is");
            Some(review::activity(decision, random_id(&*self.random)?))
        };
        decisions.iter().filter_map(of).collect()
    }
}
