//! Work on one Item, from its claim to the commit that releases it.

use super::{
    Inner,
    failure::Failure,
    gate::{GatedPartner, Permit},
    observe::{Observed, Outcome, Report},
    session::{Session, StopReason, WindowReading},
    tokens::TokenBackend,
};
use crate::{
    item::InvalidTransition,
    merge::{ReadWindow, UnreadUser},
    metrics,
    schedule::{self, Retry},
    store::{Commit, ItemRecord, LeaseOutcome, StoreError, StoreErrorKind},
    sync::{self, Miscounted, Moment, Run, Step},
};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt as _;
use px_types::model::security::Security;
use std::{panic::AssertUnwindSafe, sync::Arc};
use tracing::Instrument as _;

/// Maximum number of times that work starts over because the user authorized again meanwhile.
const MAX_RESTARTS: u32 = 3;

/// Time during which a refresh with an unknown outcome is repeated. Partners return the new tokens
/// again for 30 seconds (`px.md` section 4), some for longer.
const REFRESH_REPEAT_PERIOD: TimeDelta = TimeDelta::seconds(60);

/// Result of the work on an Item.
struct WorkResult {
    outcome: Outcome,
    failure: Option<Failure>,
    due_at: Option<DateTime<Utc>>,
}

impl WorkResult {
    fn new(outcome: Outcome) -> Self {
        Self { outcome, failure: None, due_at: None }
    }
}

/// Progress of the work, kept outside of it because it may be cancelled or panic.
#[derive(Default)]
struct Progress {
    counts: sync::Counts,
    suspicion: Option<crate::sync_state::Suspicion>,
}

/// Kind of work on a claimed Item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Update the Item.
    Update,
    /// Refresh its tokens, because the outcome of the last refresh is unknown. Then hand it back
    /// with an unchanged due time.
    RepeatRefresh,
}

impl Inner {
    /// Works on a claimed Item. Never fails: failures are reported and a retry is scheduled.
    pub(super) async fn work(
        self: &Arc<Self>,
        record: ItemRecord,
        permit: Permit,
        task: Task,
    ) -> Report {
        let span = tracing::info_span!(
            "item",
            item = %record.id,
            institution = %record.institution_id,
            state = %record.state,
        );
        self.work_in_span(record, permit, task).instrument(span).await
    }

    async fn work_in_span(
        self: &Arc<Self>,
        record: ItemRecord,
        permit: Permit,
        task: Task,
    ) -> Report {
        let started = self.clock.elapsed();
        self.observe(Observed::Claimed {
            item_id: record.id.clone(),
            institution_id: record.institution_id.clone(),
            state: record.state,
        });
        let mut progress = Progress::default();
        let end = {
            let work = AssertUnwindSafe(self.work_with_restarts(&record, &mut progress, task))
                .catch_unwind();
            tokio::select! {
                biased;
                end = work => Some(end),
                () = self.renew_lease(&record) => None,
            }
        };
        let end = match end {
            Some(Ok(end)) => end,
            Some(Err(_)) => self.after_panic(&record).await,
            None => WorkResult::new(Outcome::Lost),
        };
        settle(permit, &end).await;
        let report = Report {
            item_id: record.id,
            institution_id: record.institution_id,
            outcome: end.outcome,
            counts: progress.counts,
            took: self.clock.elapsed().saturating_sub(started),
            failure: end.failure.map(|failure| failure.note(self.clock.now())),
            suspicion: progress.suspicion,
            due_at: end.due_at,
        };
        if matches!(report.outcome, Outcome::Finished | Outcome::Suspicious) {
            self.count_update(&report.institution_id).await;
        }
        log_report(&report);
        metrics::ended(&report);
        self.observe(Observed::Ended(report.clone()));
        report
    }

    /// Works on the Item. Starts over if the user authorized again while the old tokens were
    /// refused.
    async fn work_with_restarts(
        &self,
        record: &ItemRecord,
        progress: &mut Progress,
        task: Task,
    ) -> WorkResult {
        let mut record = record.clone();
        for _ in 0..MAX_RESTARTS {
            match self.attempt(&record, progress, task).await {
                Ok(end) => return end,
                Err(error) if error.kind() == StoreErrorKind::TokensChanged => {}
                Err(error) if error.kind() == StoreErrorKind::Fenced => {
                    return WorkResult::new(Outcome::Lost);
                }
                Err(error) => return self.after_store_error(&record, &error).await,
            }
            match self.present(&record).await {
                Some(present) => record = present,
                None => return WorkResult::new(Outcome::Lost),
            }
        }
        let failure = Failure::internal("the tokens kept changing");
        self.fail(&record, failure).await
    }

    /// Makes one attempt. An error is the store's.
    async fn attempt(
        &self,
        record: &ItemRecord,
        progress: &mut Progress,
        task: Task,
    ) -> Result<WorkResult, StoreError> {
        let Some(partner) = self.partners.partner(&record.institution_id) else {
            let failure =
                Failure::internal("no partner is configured for the institution of the Item");
            return Ok(self.fail(record, failure).await);
        };
        let institution = record.institution_id.clone();
        let gated = GatedPartner { partner, institution, gates: Arc::clone(&self.gates) };
        let backend = TokenBackend {
            store: Arc::clone(&self.store),
            clock: Arc::clone(&self.clock),
            restore: self.restore.clone(),
        };
        let accounts = self.store.accounts(&record.id).await?;
        let (record, accounts) = self.decide(record, accounts).await?;
        let record = &record;
        let mut session = Session::open(backend, gated, record);
        let lengths = self.gates.lengths(&record.institution_id);
        let (plan, now) = (self.settings.plan.clone(), self.clock.now());
        let mut run = Run::begin(record.clone(), accounts, plan, lengths, now);
        let stopped = match task {
            Task::Update => self.drive(&mut run, &mut session, progress).await,
            Task::RepeatRefresh => self.repeat_refresh(record, &mut session).await,
        };
        self.gates.learn(&record.institution_id, run.partner_lengths()).await;
        if session.has_refreshed() {
            run.tokens_refreshed();
            self.gates.refreshed(&record.institution_id).await;
        }
        let stopped = match stopped {
            Err(StopReason::Failed(failure))
                if task == Task::Update && self.tokens_are_unusable(&run, &failure) =>
            {
                let version = self.store.tokens(&record.id).await?.map(|(_, version)| version);
                Err(StopReason::Refused(version))
            }
            stopped => stopped,
        };
        match stopped {
            Ok(end) => Ok(end),
            Err(StopReason::Failed(failure)) if task == Task::RepeatRefresh => {
                let end = self.give_back(record).await?;
                Ok(WorkResult { failure: Some(failure), ..end })
            }
            Err(StopReason::Failed(failure)) => Ok(self.fail_run(run, failure).await),
            Err(StopReason::Store(error)) => match error.kind() {
                StoreErrorKind::Fenced | StoreErrorKind::TokensChanged => Err(error),
                _ => Ok(self.after_store_error(run.record(), &error).await),
            },
            Err(StopReason::Stopping) => {
                let now = self.clock.now();
                let record = run.record();
                self.store.hand_back(&[(record.id.clone(), record.fence, now)]).await?;
                Ok(WorkResult { due_at: Some(now), ..WorkResult::new(Outcome::HandedBack) })
            }
            Err(StopReason::WrongClock) => Ok(self.give_back(run.record()).await?),
            Err(StopReason::Deferred(until)) => {
                let record = run.record();
                self.store.hand_back(&[(record.id.clone(), record.fence, until)]).await?;
                Ok(WorkResult { due_at: Some(until), ..WorkResult::new(Outcome::HandedBack) })
            }
            Err(StopReason::Refused(version)) => match run.refused(version, self.clock.now()) {
                Ok(commit) => {
                    self.store.commit(commit).await?;
                    Ok(WorkResult::new(Outcome::LoginRequired))
                }
                Err(invalid) => Ok(self.fail(run.record(), internal_failure(invalid)).await),
            },
        }
    }

    /// Returns whether a refresh was refused often enough while refreshes of other Items of the
    /// partner succeed.
    fn tokens_are_unusable(&self, run: &Run, failure: &Failure) -> bool {
        let others_at = self.gates.refreshed_at(&run.record().institution_id);
        failure.tokens.is_some() && run.tokens_are_unusable(others_at, self.clock.now())
    }

    /// Repeats a refresh while the partner still returns the new tokens again.
    async fn repeat_refresh(
        &self,
        record: &ItemRecord,
        session: &mut Session,
    ) -> Result<WorkResult, StopReason> {
        if self.may_repeat_refresh(record) {
            session.repeat_refresh().await?;
        } else if let Some((_, version)) = self.store.tokens(&record.id).await? {
            // Too late. The next update shows whether the tokens are valid.
            self.store.end_refresh(&record.id, version).await?;
        }
        Ok(self.give_back(record).await?)
    }

    /// Hands an Item back with an unchanged due time.
    async fn give_back(&self, record: &ItemRecord) -> Result<WorkResult, StoreError> {
        let due_at = record.due_at.unwrap_or(self.clock.now());
        self.store.hand_back(&[(record.id.clone(), record.fence, due_at)]).await?;
        Ok(WorkResult { due_at: Some(due_at), ..WorkResult::new(Outcome::HandedBack) })
    }

    fn may_repeat_refresh(&self, record: &ItemRecord) -> bool {
        let now = self.clock.now();
        record.refresh_begun_at.is_some_and(|begun_at| now - begun_at < REFRESH_REPEAT_PERIOD)
    }

    /// Reads and stores step by step until the update is complete.
    async fn drive(
        &self,
        run: &mut Run,
        session: &mut Session,
        progress: &mut Progress,
    ) -> Result<WorkResult, StopReason> {
        let item_id = run.record().id.clone();
        if self.may_repeat_refresh(run.record()) {
            session.repeat_refresh().await?;
        } else if run.record().cycle_tokens {
            session.cycle().await?;
        }
        let previous = run.record().sync_state.fresh.accounts;
        let mut due = None;
        loop {
            match run.next() {
                Step::ReadUser => {
                    let (response, began_at) = session.user().await?;
                    let accounts = response.accounts.len();
                    if UnreadUser::of(&response.faults).lacks_identities()
                        && let Some((_, stored)) = self.store.identities(&item_id).await?
                    {
                        run.keep_identities(stored);
                    }
                    run.user_read(response, began_at);
                    self.observe(Observed::UserRead { item_id: item_id.clone(), accounts });
                }
                Step::ReadWindow(window) => {
                    // The window of a single day cannot be split.
                    let at_most = (window.days() > 1).then_some(self.settings.rows_at_once);
                    let beyond_total = run.total_is_too_small();
                    let read = match session.window(window, at_most, beyond_total).await {
                        Err(StopReason::Failed(failure))
                            if failure.may_be_too_heavy()
                                && run.may_be_too_heavy(window)
                                && session.serves_accounts().await? =>
                        {
                            // The partner is up, but cannot serve so much at once.
                            tracing::info!(why = failure.what, %window, "a window may be too heavy");
                            run.too_heavy(window);
                            continue;
                        }
                        read => read?,
                    };
                    match read {
                        WindowReading::TooMany(total) => {
                            run.too_many(window, total, self.settings.rows_at_once);
                        }
                        WindowReading::TooLong if run.too_long(window) => {
                            // Other processes can use the length at once.
                            let institution = &run.record().institution_id;
                            self.gates.learn(institution, run.partner_lengths()).await;
                        }
                        WindowReading::TooLong => {
                            return Err(StopReason::Failed(Failure::rejected_day()));
                        }
                        WindowReading::Whole(read, securities) => {
                            self.take(run, read, securities, None).await?;
                        }
                        WindowReading::Miscounted(read, securities, total) => {
                            let rows = read.rows_sent;
                            match run.miscounted(window, rows, total, self.clock.now()) {
                                Miscounted::Fail => {
                                    return Err(StopReason::Failed(Failure::miscounted()));
                                }
                                Miscounted::Split => {}
                                Miscounted::Import => {
                                    self.take(run, read, securities, Some(total)).await?;
                                }
                            }
                        }
                    }
                }
                Step::ReadAhead(window) => {
                    let at_most = Some(self.settings.rows_at_once);
                    match session.window(window, at_most, run.total_is_too_small()).await {
                        Ok(WindowReading::Whole(read, securities)) => {
                            run.ahead_unread(read.unread);
                            run.ahead_read(read.rows, securities);
                        }
                        Ok(_) => run.ahead_failed(self.clock.now()),
                        Err(StopReason::Failed(failure)) => {
                            tracing::debug!(
                                why = failure.what,
                                "dates after today could not be read"
                            );
                            run.ahead_failed(self.clock.now());
                        }
                        Err(stop) => return Err(stop),
                    }
                }
                Step::Store => {
                    if !self.clock_is_right().await {
                        return Err(StopReason::WrongClock);
                    }
                    let mut commit = run
                        .commit(self.moment())
                        .map_err(|e| StopReason::Failed(internal_failure(e)))?;
                    commit.activities = self.activities(&run.take_decided());
                    self.limit_pace(run.record(), previous, &mut commit).await?;
                    let keeps = matches!(commit.lease, LeaseOutcome::Keep { .. });
                    due = due_of(&commit);
                    self.store.commit(commit).await?;
                    (progress.counts, progress.suspicion) = (run.counts(), run.suspicion());
                    if keeps && self.is_stopping() {
                        return Err(StopReason::Stopping);
                    }
                }
                Step::Done => {
                    let outcome = match run.suspicion() {
                        Some(_) => Outcome::Suspicious,
                        None => Outcome::Finished,
                    };
                    return Ok(WorkResult { due_at: due, ..WorkResult::new(outcome) });
                }
            }
        }
    }

    /// Passes a window to the run, with the stored rows that it may concern. `total` is set if it
    /// differs from the number of rows.
    async fn take(
        &self,
        run: &mut Run,
        read: ReadWindow,
        securities: Vec<Security>,
        total: Option<u64>,
    ) -> Result<(), StopReason> {
        let (window, rows) = (read.window, read.rows.len() as u64);
        let item_id = run.record().id.clone();
        let (dates, mut ids) = run.known_query(window, &read.rows);
        ids.extend(read.unread.ids.iter().cloned());
        let known = self.store.known(&item_id, dates, &ids).await?;
        match total {
            None => run.window_read(read, securities, &known),
            Some(total) => run.miscounted_window_read(read, securities, &known, total),
        }
        let left = run.scan();
        self.observe(Observed::WindowRead { item_id, window, rows, left });
        Ok(())
    }

    /// Limits the pace of updates that notifications cause one after the other, and of Items
    /// without a connected application.
    async fn limit_pace(
        &self,
        record: &ItemRecord,
        previous_began_at: Option<DateTime<Utc>>,
        commit: &mut Commit,
    ) -> Result<(), StoreError> {
        let (settings, now) = (&self.settings.schedule, commit.now);
        let LeaseOutcome::Release { due_at: Some(due_at), not_before, .. } = &mut commit.lease
        else {
            return Ok(());
        };
        let quick = commit.sync_state.quick_updates;
        let (quick, soonest) = schedule::pace(settings, quick, previous_began_at, now);
        commit.sync_state.quick_updates = quick;
        *not_before = (*not_before).max(soonest);
        // An application that connects meanwhile counts as a notification, which makes the Item due
        // at once.
        let unused =
            !record.needs_transactions && self.store.connections(&record.id).await?.is_empty();
        if unused {
            *due_at = now + settings.unused_update_interval;
        }
        Ok(())
    }

    fn moment(&self) -> Moment {
        let now = self.clock.now();
        let timeout = schedule::timeout(&self.settings.schedule, &*self.random);
        Moment { now, lease_until: self.lease_end(now), timeout }
    }

    /// Renews the lease while the work goes on. Returns when the lease is lost.
    async fn renew_lease(&self, record: &ItemRecord) {
        let mut held_until = self.lease_end(self.clock.now());
        loop {
            self.clock.sleep(self.settings.lease / 3).await;
            // With a clock that never waits, other tasks must still make progress.
            tokio::task::yield_now().await;
            let now = self.clock.now();
            let until = self.lease_end(now);
            match self.store.renew(&record.id, record.fence, until).await {
                Ok(true) => {
                    held_until = until;
                    self.gates.renew_permits_in_use(&record.institution_id).await;
                }
                Ok(false) => return,
                // The store may recover before the lease has run out.
                Err(error) if now < held_until => {
                    tracing::warn!(%error, "a lease could not be renewed");
                }
                Err(_) => return,
            }
        }
    }

    /// Records a failure and schedules the next attempt.
    async fn fail(&self, record: &ItemRecord, failure: Failure) -> WorkResult {
        let now = self.clock.now();
        let retry = self.retry(record, &failure, now);
        let stall_notice_after = self.settings.stall_notice_after;
        let commit = sync::failed(record, failure.note(now), retry, stall_notice_after);
        self.store_failure(commit, failure).await
    }

    /// Like [`fail`](Self::fail), but also stores results of the run that do not depend on windows.
    async fn fail_run(&self, mut run: Run, failure: Failure) -> WorkResult {
        let now = self.clock.now();
        let retry = self.retry(run.record(), &failure, now);
        let stall_notice_after = self.settings.stall_notice_after;
        let decided = self.activities(&run.take_decided());
        let mut commit = run.failed(failure.note(now), retry, stall_notice_after);
        if let Ok(commit) = &mut commit
            && commit.accounts.is_some()
        {
            commit.activities = decided;
        }
        self.store_failure(commit, failure).await
    }

    fn retry(&self, record: &ItemRecord, failure: &Failure, now: DateTime<Utc>) -> Retry {
        schedule::retry(
            &self.settings.schedule,
            now,
            (failure.kind, failure.retry_at),
            record.sync_state.wait_secs,
            &*self.random,
        )
    }

    async fn store_failure(
        &self,
        commit: Result<Commit, InvalidTransition>,
        failure: Failure,
    ) -> WorkResult {
        let commit = match commit {
            Ok(commit) => commit,
            Err(invalid) => {
                tracing::error!(%invalid, "work ended on an Item that has no lease");
                return WorkResult::new(Outcome::Lost);
            }
        };
        let due_at = due_of(&commit);
        match self.store.commit(commit).await {
            Ok(()) => {
                WorkResult { failure: Some(failure), due_at, ..WorkResult::new(Outcome::Failed) }
            }
            Err(error) if error.kind() == StoreErrorKind::Fenced => WorkResult::new(Outcome::Lost),
            Err(error) => {
                // The lease runs out, and another worker continues from there.
                tracing::warn!(%error, "a failure could not be stored");
                WorkResult { failure: Some(failure), ..WorkResult::new(Outcome::Failed) }
            }
        }
    }

    /// Handles a store error. Its effect is uncertain, so the Item is read again.
    async fn after_store_error(&self, record: &ItemRecord, error: &StoreError) -> WorkResult {
        tracing::warn!(%error, "the store failed");
        match self.present(record).await {
            Some(present) => self.fail(&present, Failure::store(error)).await,
            None => WorkResult::new(Outcome::Lost),
        }
    }

    async fn after_panic(&self, record: &ItemRecord) -> WorkResult {
        tracing::error!("work on an Item panicked; this is a bug in this program");
        match self.present(record).await {
            Some(present) => {
                self.fail(&present, Failure::internal("the work on it panicked")).await
            }
            None => WorkResult::new(Outcome::Lost),
        }
    }

    /// Returns the Item as it is stored, if this worker still has its lease.
    async fn present(&self, record: &ItemRecord) -> Option<ItemRecord> {
        match self.store.item(&record.id).await {
            Ok(present) => present
                .filter(|present| present.fence == record.fence && present.leased_until.is_some()),
            Err(error) => {
                tracing::warn!(%error, "an Item could not be read again");
                None
            }
        }
    }
}

/// Reports the result of the work to the partner's circuit.
async fn settle(permit: Permit, end: &WorkResult) {
    match (&end.failure, end.outcome) {
        (Some(failure), _) if failure.partner_is_down() => permit.failed(failure.retry_at).await,
        (Some(failure), _) if failure.is_internal() => permit.unknown().await,
        (None, Outcome::HandedBack | Outcome::Lost) => permit.unknown().await,
        _ => permit.responded().await,
    }
}

fn due_of(commit: &Commit) -> Option<DateTime<Utc>> {
    match commit.lease {
        LeaseOutcome::Keep { .. } => None,
        LeaseOutcome::Release { due_at, .. } => due_at,
    }
}

fn internal_failure(invalid: InvalidTransition) -> Failure {
    Failure::internal(invalid.to_string())
}

/// Writes one log line about the work.
fn log_report(report: &Report) {
    let outcome = report.outcome.as_str();
    let took_ms = u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX);
    let counts = report.counts;
    match report.outcome {
        Outcome::Finished | Outcome::HandedBack => tracing::debug!(
            outcome,
            took_ms,
            read = counts.rows_read,
            added = counts.added,
            modified = counts.modified,
            removed = counts.removed,
            "worked on an Item"
        ),
        Outcome::Lost => tracing::info!(outcome, took_ms, "another worker took over the Item"),
        Outcome::LoginRequired => {
            tracing::info!(outcome, took_ms, "a partner refuses the tokens of an Item");
        }
        Outcome::Failed => {
            let why = report.failure.as_ref().map(|failure| &*failure.what);
            tracing::info!(outcome, took_ms, why, "an Item could not be updated");
        }
        Outcome::Suspicious => tracing::warn!(
            outcome,
            took_ms,
            suspicion = ?report.suspicion,
            "data of a partner is on hold until a decision"
        ),
    }
}
