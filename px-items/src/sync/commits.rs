//! Commits of a run: its parts, its end, and its failure.

use super::{Moment, Run, Stage};
use crate::{
    health::{HealthIssueKind, Issue},
    item::{Event, InvalidTransition, step},
    items,
    review::entries,
    schedule::Retry,
    store::{Commit, ItemRecord, LeaseOutcome, Moves},
    sync_state::{FailureRecord, Freshness, RefusedRefresh, Suspicion, TokenProblem},
};
use chrono::{DateTime, TimeDelta, Utc};
use px_types::{
    Date,
    model::plaid_error::{PlaidError, PlaidErrorType},
};
use std::collections::HashMap;

/// Time after which an Item with failures that may pass counts as one that cannot finish.
const MAX_UNFINISHED_TIME: TimeDelta = TimeDelta::hours(24);

impl Run {
    /// Returns the next commit. The run continues as if it were stored.
    ///
    /// # Errors
    /// Returns an error if the Item's state does not allow it, which is a bug in this program.
    pub fn commit(&mut self, moment: Moment) -> Result<Commit, InvalidTransition> {
        let over = self.window().is_none() && !matches!(self.stage, Stage::User);
        let halted = matches!(self.stage, Stage::Halted);
        let event = match (halted, over) {
            (true, _) => Event::Failed,
            (false, true) => Event::Finished,
            (false, false) => Event::PartStored,
        };
        let (state, _) = step(self.record.state, event)?;
        self.sync_state.review.report(&mut self.sync_state.issues);
        self.sync_state.suspicion = Suspicion::of(&self.sync_state.review);
        self.sync_state.issues.clear(&HealthIssueKind::UpdateFailed);
        self.sync_state.issues.clear(&HealthIssueKind::LoginRequired);
        self.sync_state.issues.clear(&HealthIssueKind::TokensApart);
        self.sync_state.refused_refresh = None;
        if halted {
            // The data was not read, and the store forgets the notified date.
            self.sync_state.owed_since = owed(&self.record);
        }
        if over && !halted {
            self.finished();
        }
        self.report_lacking(moment.now);
        self.report_faults(moment.now);
        self.sync_state.failures = 0;
        self.sync_state.wait_secs = 0;
        self.sync_state.last_failure = None;
        let then = match (halted, over) {
            (false, false) => LeaseOutcome::Keep { lease_until: moment.lease_until },
            (false, true) => LeaseOutcome::Release {
                due_at: Some(self.due_at(moment)),
                not_before: None,
                seen: self.sync_state.done_for,
            },
            // An immediate retry would not fix it.
            (true, _) => LeaseOutcome::Release {
                due_at: Some(moment.now + moment.timeout),
                not_before: None,
                seen: self.record.notified,
            },
        };
        let mut commit = Commit::new(&self.record, state, moment.now, then);
        commit.sync_state = self.sync_state.clone();
        commit.sync_state.deep = self.resumable_deep();
        std::mem::take(&mut self.gathered).fill(&mut commit, &self.sync_state.history);
        if self.sync_state.review != self.record.sync_state.review {
            commit.reviews = Some(entries(&self.record, &self.sync_state.review));
        }
        commit.moved = std::mem::take(&mut self.moved);
        if std::mem::take(&mut self.is_final) {
            commit.moves = Moves::Forget;
        }
        self.stored.clone_from(&self.accounts);
        self.record.sync_state = commit.sync_state.clone();
        self.record.state = state;
        self.store = false;
        if over {
            self.stage = Stage::Done;
        }
        Ok(commit)
    }

    /// Records that everything was read.
    pub(super) fn finished(&mut self) {
        self.sync_state.unfinished_since = None;
        self.sync_state.stall_notified = false;
        self.sync_state.issues.clear(&HealthIssueKind::CannotFinish);
        if !self.miscounted && self.counts.windows > 0 {
            self.sync_state.miscount = None;
        }
    }

    /// Reports in the Item's health how many rows are missing according to the partner's `total`.
    pub(super) fn report_lacking(&mut self, now: DateTime<Utc>) {
        let sync_state = &mut self.sync_state;
        let counts_wrongly =
            sync_state.miscount.as_ref().is_some_and(|found| found.is_established(now));
        let lacks = sync_state.history_lacks.max(sync_state.update_lacks);
        let issue = (counts_wrongly || lacks > 0).then(|| Issue::new(now).count(lacks));
        sync_state.issues.set(HealthIssueKind::RowsLacking, issue);
    }

    /// Reports the faults of the partner's responses in the Item's health.
    pub(super) fn report_faults(&mut self, now: DateTime<Utc>) {
        let own: HashMap<_, _> =
            self.accounts.iter().map(|known| (&known.partner_id, &known.account.id)).collect();
        let issue = self.sync_state.faults.issue(now, |id| own.get(id).map(|id| (*id).clone()));
        self.sync_state.issues.set(HealthIssueKind::FaultyElements, issue);
    }

    /// Returns the commit for a failed attempt, with the accounts if they were read. Windows that
    /// were read and not stored are lost.
    ///
    /// # Errors
    /// See [`commit`](Self::commit).
    pub fn failed(
        mut self,
        failure: FailureRecord,
        retry: Retry,
        stall_notice_after: TimeDelta,
    ) -> Result<Commit, InvalidTransition> {
        if self.refreshed {
            self.record.sync_state.refused_refresh = None;
        }
        let mut commit = failed(&self.record, failure, retry, stall_notice_after)?;
        self.sync_state.miscount.clone_into(&mut commit.sync_state.miscount);
        if self.gathered.accounts.is_none() {
            return Ok(commit);
        }
        let (faults, now) = (self.sync_state.faults.user.clone(), commit.now);
        self.sync_state.faults.clone_from(&self.record.sync_state.faults);
        self.sync_state.faults.user = faults;
        self.report_faults(now);
        let issue = self.sync_state.issues.get(&HealthIssueKind::FaultyElements).cloned();
        commit.sync_state.issues.set(HealthIssueKind::FaultyElements, issue);
        commit.sync_state.faults = self.sync_state.faults.clone();
        let deep = self.resumable_deep();
        let from = self.sync_state;
        let sync_state = &mut commit.sync_state;
        sync_state.fresh = Freshness { transactions: sync_state.fresh.transactions, ..from.fresh };
        sync_state.identities_digest = from.identities_digest;
        sync_state.securities_digest = from.securities_digest;
        sync_state.missing_since = from.missing_since;
        sync_state.deep = deep;
        sync_state.scan_notes = from.scan_notes;
        sync_state.review = from.review;
        sync_state.review.report(&mut sync_state.issues);
        sync_state.suspicion = Suspicion::of(&sync_state.review);
        if sync_state.review != self.record.sync_state.review {
            commit.reviews = Some(entries(&self.record, &sync_state.review));
        }
        commit.accounts = self.gathered.accounts.take();
        commit.changes.new_accounts = std::mem::take(&mut self.gathered.changes.new_accounts);
        Ok(commit)
    }

    /// Records that the tokens were refreshed successfully.
    pub fn tokens_refreshed(&mut self) {
        self.refreshed = true;
    }

    /// Returns whether the user must authorize again because refreshes are refused permanently.
    /// `others_at` is the time at which another Item of the partner was last refreshed
    /// successfully.
    #[must_use]
    pub fn tokens_are_unusable(
        &self,
        others_at: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> bool {
        let before = self.record.sync_state.refused_refresh.filter(|_| !self.refreshed);
        RefusedRefresh::one_more(before, now).is_for_good(others_at, now)
    }

    /// Returns the commit for tokens of a version that the partner refuses permanently.
    ///
    /// # Errors
    /// See [`commit`](Self::commit).
    pub fn refused(
        &self,
        version: Option<u64>,
        now: DateTime<Utc>,
    ) -> Result<Commit, InvalidTransition> {
        let (state, _) = step(self.record.state, Event::Refused)?;
        let then = LeaseOutcome::Release {
            due_at: None,
            not_before: None,
            seen: self.record.sync_state.done_for,
        };
        let mut commit = Commit::new(&self.record, state, now, then);
        commit.sync_state.owed_since = owed(&self.record);
        commit.sync_state.refused_refresh = None;
        commit.sync_state.issues.clear(&HealthIssueKind::UpdateFailed);
        commit.sync_state.issues.clear(&HealthIssueKind::TokensApart);
        commit.sync_state.issues.report(HealthIssueKind::LoginRequired, Issue::new(now));
        commit.refused_tokens = version;
        commit.changes.fault = Some(login_required());
        Ok(commit)
    }

    /// Returns the due time after a complete update: a timeout after the oldest of its data.
    pub(super) fn due_at(&self, moment: Moment) -> DateTime<Utc> {
        let fresh = self.sync_state.fresh;
        let transactions = fresh.transactions.filter(|_| self.record.needs_transactions);
        let oldest = [fresh.accounts, transactions].into_iter().flatten().min();
        (oldest.unwrap_or(moment.now).min(moment.now) + moment.timeout).max(moment.now)
    }
}

/// Returns the commit for failed work on an Item.
///
/// Applications are notified once if nothing has finished for `stall_notice_after`.
///
/// # Errors
/// Returns an error if the Item is not being worked on, which is a bug in this program.
pub fn failed(
    record: &ItemRecord,
    failure: FailureRecord,
    retry: Retry,
    stall_notice_after: TimeDelta,
) -> Result<Commit, InvalidTransition> {
    let (state, _) = step(record.state, Event::Failed)?;
    // The requested dates stay recorded. The retry comes at its time, not at once.
    let then = LeaseOutcome::Release {
        due_at: Some(retry.due_at),
        not_before: Some(retry.not_before),
        seen: record.notified,
    };
    let mut commit = Commit::new(record, state, failure.at, then);
    let sync_state = &mut commit.sync_state;
    sync_state.owed_since = owed(record);
    sync_state.failures = record.sync_state.failures.saturating_add(1);
    let issue = Issue::new(failure.at).count(sync_state.failures.into());
    sync_state.issues.report(HealthIssueKind::UpdateFailed, issue);
    sync_state.wait_secs = retry.wait_secs;
    if failure.tokens.is_some() {
        let refused = RefusedRefresh::one_more(sync_state.refused_refresh, failure.at);
        sync_state.refused_refresh = Some(refused);
        if failure.tokens == Some(TokenProblem::KeptApart) {
            let issue = Issue::new(failure.at).count(refused.attempts.into());
            sync_state.issues.report(HealthIssueKind::TokensApart, issue);
        }
    }
    let since = *sync_state.unfinished_since.get_or_insert(failure.at);
    if !failure.kind.may_pass() || failure.at - since >= MAX_UNFINISHED_TIME {
        sync_state.issues.report(HealthIssueKind::CannotFinish, Issue::new(since));
    }
    if failure.at - since >= stall_notice_after && !sync_state.stall_notified {
        sync_state.stall_notified = true;
        commit.changes.fault = Some(items::cannot_finish());
    }
    sync_state.last_failure = Some(failure);
    Ok(commit)
}

/// Returns the earliest date that was requested and not read yet.
pub(super) fn owed(record: &ItemRecord) -> Option<Date> {
    let notified = record.notified_since.filter(|_| record.notified > record.sync_state.done_for);
    [notified, record.sync_state.owed_since].into_iter().flatten().min()
}

/// Returns the error that applications are notified of if the authorization has ended.
fn login_required() -> PlaidError {
    let mut error = PlaidError::new(
        PlaidErrorType::ItemError,
        "ITEM_LOGIN_REQUIRED",
        "the institution no longer accepts this authorization; have the user authorize again",
    );
    error.display_message =
        Some("Your institution asks you to sign in again to keep your accounts up to date.".into());
    error
}
