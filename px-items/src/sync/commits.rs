//! What is stored of a run: its parts, its end, and its failure.

use super::{Moment, Run, Stage};
use crate::{
    health::{HealthIssueKind, Issue},
    item::{Event, Impossible, step},
    items,
    life::{FailureNote, Freshness, RefusedRefresh, Suspicion, TokenTrouble},
    review::entries,
    schedule::Retry,
    store::{Commit, ItemRecord, Moves, Then},
};
use chrono::{DateTime, TimeDelta, Utc};
use px_types::{
    Date,
    model::plaid_error::{PlaidError, PlaidErrorType},
};
use std::collections::HashMap;

/// Time after which an Item whose failures may pass by themselves counts as one that cannot finish.
const LONG_UNFINISHED: TimeDelta = TimeDelta::hours(24);

impl Run {
    /// What is to be stored now; the run goes on as if it were.
    ///
    /// # Errors
    /// When the Item cannot make that move, which is a fault of this program.
    pub fn commit(&mut self, moment: Moment) -> Result<Commit, Impossible> {
        let over = self.window().is_none() && !matches!(self.stage, Stage::User);
        let halted = matches!(self.stage, Stage::Halted);
        let event = match (halted, over) {
            (true, _) => Event::Failed,
            (false, true) => Event::Finished,
            (false, false) => Event::PartStored,
        };
        let (state, _) = step(self.record.state, event)?;
        self.life.review.report(&mut self.life.issues);
        self.life.suspicion = Suspicion::of(&self.life.review);
        self.life.issues.clear(&HealthIssueKind::UpdateFailed);
        self.life.issues.clear(&HealthIssueKind::LoginRequired);
        self.life.issues.clear(&HealthIssueKind::TokensApart);
        self.life.refused_refresh = None;
        if halted {
            // It was not read, and the store forgets what it was asked for.
            self.life.owed_since = owed(&self.record);
        }
        if over && !halted {
            self.finished();
        }
        self.report_lacking(moment.now);
        self.report_faults(moment.now);
        self.life.failures = 0;
        self.life.wait_secs = 0;
        self.life.last_failure = None;
        let then = match (halted, over) {
            (false, false) => Then::Keep { lease_until: moment.lease_until },
            (false, true) => Then::Release {
                due_at: Some(self.due_at(moment)),
                not_before: None,
                seen: self.life.done_for,
            },
            // To ask again at once would not make it right.
            (true, _) => Then::Release {
                due_at: Some(moment.now + moment.timeout),
                not_before: None,
                seen: self.record.notified,
            },
        };
        let mut commit = Commit::new(&self.record, state, moment.now, then);
        commit.life = self.life.clone();
        commit.life.deep = self.resumable_deep();
        std::mem::take(&mut self.gathered).put(&mut commit, &self.life.history);
        if self.life.review != self.record.life.review {
            commit.reviews = Some(entries(&self.record, &self.life.review));
        }
        commit.moved = std::mem::take(&mut self.moved);
        if std::mem::take(&mut self.is_final) {
            commit.moves = Moves::Forget;
        }
        self.stored.clone_from(&self.accounts);
        self.record.life = commit.life.clone();
        self.record.state = state;
        self.store = false;
        if over {
            self.stage = Stage::Done;
        }
        Ok(commit)
    }

    /// Everything was read.
    pub(super) fn finished(&mut self) {
        self.life.unfinished_since = None;
        self.life.stall_notified = false;
        self.life.issues.clear(&HealthIssueKind::CannotFinish);
        if !self.miscounted && self.counts.windows > 0 {
            self.life.miscount = None;
        }
    }

    /// Reports in the Item's health how many rows are lacking by the partner's `total`.
    pub(super) fn report_lacking(&mut self, now: DateTime<Utc>) {
        let life = &mut self.life;
        let counts_wrongly = life.miscount.as_ref().is_some_and(|found| found.is_established(now));
        let lacks = life.history_lacks.max(life.update_lacks);
        let issue = (counts_wrongly || lacks > 0).then(|| Issue::new(now).count(lacks));
        life.issues.set(HealthIssueKind::RowsLacking, issue);
    }

    /// Reports in the Item's health what is wrong with the partner's responses.
    pub(super) fn report_faults(&mut self, now: DateTime<Utc>) {
        let own: HashMap<_, _> =
            self.accounts.iter().map(|known| (&known.partner_id, &known.account.id)).collect();
        let issue = self.life.faults.issue(now, |id| own.get(id).map(|id| (*id).clone()));
        self.life.issues.set(HealthIssueKind::FaultyElements, issue);
    }

    /// What is to be stored if an attempt failed: the accounts, if they were read. Windows that
    /// were read and not stored are lost.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn failed(
        mut self,
        note: FailureNote,
        retry: Retry,
        stall_notice_after: TimeDelta,
    ) -> Result<Commit, Impossible> {
        if self.refreshed {
            self.record.life.refused_refresh = None;
        }
        let mut commit = failed(&self.record, note, retry, stall_notice_after)?;
        self.life.miscount.clone_into(&mut commit.life.miscount);
        if self.gathered.accounts.is_none() {
            return Ok(commit);
        }
        let (faults, now) = (self.life.faults.user.clone(), commit.now);
        self.life.faults.clone_from(&self.record.life.faults);
        self.life.faults.user = faults;
        self.report_faults(now);
        let issue = self.life.issues.get(&HealthIssueKind::FaultyElements).cloned();
        commit.life.issues.set(HealthIssueKind::FaultyElements, issue);
        commit.life.faults = self.life.faults.clone();
        let deep = self.resumable_deep();
        let from = self.life;
        let life = &mut commit.life;
        life.fresh = Freshness { transactions: life.fresh.transactions, ..from.fresh };
        life.identities_digest = from.identities_digest;
        life.securities_digest = from.securities_digest;
        life.missing_since = from.missing_since;
        life.deep = deep;
        life.walk_notes = from.walk_notes;
        life.review = from.review;
        life.review.report(&mut life.issues);
        life.suspicion = Suspicion::of(&life.review);
        if life.review != self.record.life.review {
            commit.reviews = Some(entries(&self.record, &life.review));
        }
        commit.accounts = self.gathered.accounts.take();
        commit.news.new_accounts = std::mem::take(&mut self.gathered.news.new_accounts);
        Ok(commit)
    }

    /// The tokens were refreshed well.
    pub fn tokens_refreshed(&mut self) {
        self.refreshed = true;
    }

    /// Returns whether the user has to authorize again because refreshes are refused for good.
    /// `others_at` is when another Item of the partner was last refreshed well.
    #[must_use]
    pub fn tokens_are_useless(&self, others_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
        let before = self.record.life.refused_refresh.filter(|_| !self.refreshed);
        RefusedRefresh::one_more(before, now).is_for_good(others_at, now)
    }

    /// What is to be stored when the partner refuses the tokens of that version for good.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn refused(&self, version: Option<u64>, now: DateTime<Utc>) -> Result<Commit, Impossible> {
        let (state, _) = step(self.record.state, Event::Refused)?;
        let then =
            Then::Release { due_at: None, not_before: None, seen: self.record.life.done_for };
        let mut commit = Commit::new(&self.record, state, now, then);
        commit.life.owed_since = owed(&self.record);
        commit.life.refused_refresh = None;
        commit.life.issues.clear(&HealthIssueKind::UpdateFailed);
        commit.life.issues.clear(&HealthIssueKind::TokensApart);
        commit.life.issues.report(HealthIssueKind::LoginRequired, Issue::new(now));
        commit.refused_tokens = version;
        commit.news.fault = Some(login_required());
        Ok(commit)
    }

    /// When the Item is due after everything was read: a timeout after the oldest of its data.
    pub(super) fn due_at(&self, moment: Moment) -> DateTime<Utc> {
        let fresh = self.life.fresh;
        let transactions = fresh.transactions.filter(|_| self.record.needs_transactions);
        let oldest = [fresh.accounts, transactions].into_iter().flatten().min();
        (oldest.unwrap_or(moment.now).min(moment.now) + moment.timeout).max(moment.now)
    }
}

/// What is to be stored if work on an Item failed.
///
/// Applications are notified once if nothing has finished for `stall_notice_after`.
///
/// # Errors
/// If the Item is not being worked on, which is a fault of this program.
pub fn failed(
    record: &ItemRecord,
    note: FailureNote,
    retry: Retry,
    stall_notice_after: TimeDelta,
) -> Result<Commit, Impossible> {
    let (state, _) = step(record.state, Event::Failed)?;
    // What was asked for stays owed; the retry comes when it is time, not at once.
    let then = Then::Release {
        due_at: Some(retry.due_at),
        not_before: Some(retry.not_before),
        seen: record.notified,
    };
    let mut commit = Commit::new(record, state, note.at, then);
    let life = &mut commit.life;
    life.owed_since = owed(record);
    life.failures = record.life.failures.saturating_add(1);
    let issue = Issue::new(note.at).count(life.failures.into());
    life.issues.report(HealthIssueKind::UpdateFailed, issue);
    life.wait_secs = retry.wait_secs;
    if note.tokens.is_some() {
        let refused = RefusedRefresh::one_more(life.refused_refresh, note.at);
        life.refused_refresh = Some(refused);
        if note.tokens == Some(TokenTrouble::KeptApart) {
            let issue = Issue::new(note.at).count(refused.attempts.into());
            life.issues.report(HealthIssueKind::TokensApart, issue);
        }
    }
    let since = *life.unfinished_since.get_or_insert(note.at);
    if !note.kind.may_pass() || note.at - since >= LONG_UNFINISHED {
        life.issues.report(HealthIssueKind::CannotFinish, Issue::new(since));
    }
    if note.at - since >= stall_notice_after && !life.stall_notified {
        life.stall_notified = true;
        commit.news.fault = Some(items::cannot_finish());
    }
    life.last_failure = Some(note);
    Ok(commit)
}

/// The earliest date that was asked for and not read yet.
pub(super) fn owed(record: &ItemRecord) -> Option<Date> {
    let asked = record.notified_since.filter(|_| record.notified > record.life.done_for);
    [asked, record.life.owed_since].into_iter().flatten().min()
}

/// What applications are told when the authorization is lost.
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
