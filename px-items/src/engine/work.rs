//! Work on one Item, from its claim to the commit that gives it back.

use super::{
    Inner,
    failure::Failure,
    gate::{Gated, Permit},
    observe::{Observed, Outcome, Report},
    session::{Read, Session, Stop},
    tokens::Place,
};
use crate::{
    item::Impossible,
    merge::{ReadWindow, UnreadUser},
    metrics,
    schedule::{self, Retry},
    store::{Commit, ItemRecord, StoreError, StoreErrorKind, Then},
    sync::{self, Miscounted, Moment, Run, Step},
};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt as _;
use px_types::model::security::Security;
use std::{panic::AssertUnwindSafe, sync::Arc};
use tracing::Instrument as _;

/// How many times work begins again because the user authorized anew meanwhile.
const MOST_RESTARTS: u32 = 3;

/// How long a refresh is repeated whose outcome is not known. Partners give the new tokens once more
/// for 30 seconds (`px.md` section 4); some may give them for longer.
const REFRESH_REPEATED_FOR: TimeDelta = TimeDelta::seconds(60);

/// How a piece of work ended.
struct End {
    outcome: Outcome,
    failure: Option<Failure>,
    due_at: Option<DateTime<Utc>>,
}

impl End {
    fn new(outcome: Outcome) -> Self {
        Self { outcome, failure: None, due_at: None }
    }
}

/// What the work has come to, seen from outside of it: it may be cut off or panic.
#[derive(Default)]
struct Progress {
    counts: sync::Counts,
    suspicion: Option<crate::life::Suspicion>,
}

/// What is done with a claimed Item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// It is brought up to date.
    Update,
    /// Its tokens are refreshed, because the outcome of the last refresh is not known. Then it is
    /// given back, due as it was.
    RepeatRefresh,
}

impl Inner {
    /// Works on an Item that was claimed. It never fails: what fails is reported and planned.
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
            let work = AssertUnwindSafe(self.attempts(&record, &mut progress, task)).catch_unwind();
            tokio::select! {
                biased;
                end = work => Some(end),
                () = self.keep_lease(&record) => None,
            }
        };
        let end = match end {
            Some(Ok(end)) => end,
            Some(Err(_)) => self.after_panic(&record).await,
            None => End::new(Outcome::Lost),
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
        tell(&report);
        metrics::ended(&report);
        self.observe(Observed::Ended(report.clone()));
        report
    }

    /// Works on it, again when the user authorized anew while the old tokens were refused.
    async fn attempts(&self, record: &ItemRecord, progress: &mut Progress, task: Task) -> End {
        let mut record = record.clone();
        for _ in 0..MOST_RESTARTS {
            match self.attempt(&record, progress, task).await {
                Ok(end) => return end,
                Err(error) if error.kind() == StoreErrorKind::TokensChanged => {}
                Err(error) if error.kind() == StoreErrorKind::Fenced => {
                    return End::new(Outcome::Lost);
                }
                Err(error) => return self.after_store_error(&record, &error).await,
            }
            match self.present(&record).await {
                Some(present) => record = present,
                None => return End::new(Outcome::Lost),
            }
        }
        let failure = Failure::internal("the tokens never stayed the same");
        self.fail(&record, failure).await
    }

    /// One attempt; an error is the store's.
    async fn attempt(
        &self,
        record: &ItemRecord,
        progress: &mut Progress,
        task: Task,
    ) -> Result<End, StoreError> {
        let Some(partner) = self.partners.partner(&record.institution_id) else {
            let failure = Failure::internal("no partner is known by the id of its institution");
            return Ok(self.fail(record, failure).await);
        };
        let institution = record.institution_id.clone();
        let gated = Gated { partner, institution, gates: Arc::clone(&self.gates) };
        let place = Place {
            store: Arc::clone(&self.store),
            clock: Arc::clone(&self.clock),
            restore: self.restore.clone(),
        };
        let accounts = self.store.accounts(&record.id).await?;
        let (record, accounts) = self.decide(record, accounts).await?;
        let record = &record;
        let mut session = Session::open(place, gated, record);
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
            Err(Stop::Failed(failure))
                if task == Task::Update && self.tokens_are_useless(&run, &failure) =>
            {
                let version = self.store.tokens(&record.id).await?.map(|(_, version)| version);
                Err(Stop::Refused(version))
            }
            stopped => stopped,
        };
        match stopped {
            Ok(end) => Ok(end),
            Err(Stop::Failed(failure)) if task == Task::RepeatRefresh => {
                let end = self.give_back(record).await?;
                Ok(End { failure: Some(failure), ..end })
            }
            Err(Stop::Failed(failure)) => Ok(self.fail_run(run, failure).await),
            Err(Stop::Store(error)) => match error.kind() {
                StoreErrorKind::Fenced | StoreErrorKind::TokensChanged => Err(error),
                _ => Ok(self.after_store_error(run.record(), &error).await),
            },
            Err(Stop::Stopping) => {
                let now = self.clock.now();
                let record = run.record();
                self.store.hand_back(&[(record.id.clone(), record.fence, now)]).await?;
                Ok(End { due_at: Some(now), ..End::new(Outcome::HandedBack) })
            }
            Err(Stop::WrongClock) => Ok(self.give_back(run.record()).await?),
            Err(Stop::Deferred(until)) => {
                let record = run.record();
                self.store.hand_back(&[(record.id.clone(), record.fence, until)]).await?;
                Ok(End { due_at: Some(until), ..End::new(Outcome::HandedBack) })
            }
            Err(Stop::Refused(version)) => match run.refused(version, self.clock.now()) {
                Ok(commit) => {
                    self.store.commit(commit).await?;
                    Ok(End::new(Outcome::LoginRequired))
                }
                Err(impossible) => Ok(self.fail(run.record(), fault(impossible)).await),
            },
        }
    }

    /// Returns whether a refresh was refused often enough while other Items of the partner are
    /// refreshed well.
    fn tokens_are_useless(&self, run: &Run, failure: &Failure) -> bool {
        let others_at = self.gates.refreshed_at(&run.record().institution_id);
        failure.tokens.is_some() && run.tokens_are_useless(others_at, self.clock.now())
    }

    /// Repeats a refresh while the partner still gives the new tokens once more.
    async fn repeat_refresh(
        &self,
        record: &ItemRecord,
        session: &mut Session,
    ) -> Result<End, Stop> {
        if self.may_repeat_refresh(record) {
            session.repeat_refresh().await?;
        } else if let Some((_, version)) = self.store.tokens(&record.id).await? {
            // Too late. Its next update shows whether the tokens are good.
            self.store.end_refresh(&record.id, version).await?;
        }
        Ok(self.give_back(record).await?)
    }

    /// Gives an Item back, due as it was.
    async fn give_back(&self, record: &ItemRecord) -> Result<End, StoreError> {
        let due_at = record.due_at.unwrap_or(self.clock.now());
        self.store.hand_back(&[(record.id.clone(), record.fence, due_at)]).await?;
        Ok(End { due_at: Some(due_at), ..End::new(Outcome::HandedBack) })
    }

    fn may_repeat_refresh(&self, record: &ItemRecord) -> bool {
        let now = self.clock.now();
        record.refresh_begun_at.is_some_and(|begun_at| now - begun_at < REFRESH_REPEATED_FOR)
    }

    /// Reads and stores, step by step, until all is done.
    async fn drive(
        &self,
        run: &mut Run,
        session: &mut Session,
        progress: &mut Progress,
    ) -> Result<End, Stop> {
        let item_id = run.record().id.clone();
        if self.may_repeat_refresh(run.record()) {
            session.repeat_refresh().await?;
        } else if run.record().cycle_tokens {
            session.cycle().await?;
        }
        let previous = run.record().life.fresh.accounts;
        let mut due = None;
        loop {
            match run.next() {
                Step::ReadUser => {
                    let (answer, began_at) = session.user().await?;
                    let accounts = answer.accounts.len();
                    if UnreadUser::of(&answer.faults).lacks_identities()
                        && let Some((_, stored)) = self.store.identities(&item_id).await?
                    {
                        run.keep_identities(stored);
                    }
                    run.user_read(answer, began_at);
                    self.observe(Observed::UserRead { item_id: item_id.clone(), accounts });
                }
                Step::ReadWindow(window) => {
                    // A day cannot be split.
                    let at_most = (window.days() > 1).then_some(self.settings.rows_at_once);
                    let beyond_total = run.total_is_too_small();
                    let read = match session.window(window, at_most, beyond_total).await {
                        Err(Stop::Failed(failure))
                            if failure.may_be_too_heavy()
                                && run.may_be_too_heavy(window)
                                && session.serves_accounts().await? =>
                        {
                            // The partner is not down: it cannot serve so much at once.
                            tracing::info!(why = failure.what, %window, "a window may be too heavy");
                            run.too_heavy(window);
                            continue;
                        }
                        read => read?,
                    };
                    match read {
                        Read::TooMany(total) => {
                            run.too_many(window, total, self.settings.rows_at_once);
                        }
                        Read::TooLong if run.too_long(window) => {
                            // Others may learn it at once.
                            let institution = &run.record().institution_id;
                            self.gates.learn(institution, run.partner_lengths()).await;
                        }
                        Read::TooLong => return Err(Stop::Failed(Failure::rejected_day())),
                        Read::Whole(read, securities) => {
                            self.take(run, read, securities, None).await?;
                        }
                        Read::Miscounted(read, securities, total) => {
                            let rows = read.rows_sent;
                            match run.miscounted(window, rows, total, self.clock.now()) {
                                Miscounted::Fail => {
                                    return Err(Stop::Failed(Failure::miscounted()));
                                }
                                Miscounted::Split => {}
                                Miscounted::Take => {
                                    self.take(run, read, securities, Some(total)).await?;
                                }
                            }
                        }
                    }
                }
                Step::ReadAhead(window) => {
                    let at_most = Some(self.settings.rows_at_once);
                    match session.window(window, at_most, run.total_is_too_small()).await {
                        Ok(Read::Whole(read, securities)) => {
                            run.ahead_unread(read.unread);
                            run.ahead_read(read.rows, securities);
                        }
                        Ok(_) => run.ahead_failed(self.clock.now()),
                        Err(Stop::Failed(failure)) => {
                            tracing::debug!(why = failure.what, "no dates after today");
                            run.ahead_failed(self.clock.now());
                        }
                        Err(stop) => return Err(stop),
                    }
                }
                Step::Store => {
                    if !self.clock_is_right().await {
                        return Err(Stop::WrongClock);
                    }
                    let mut commit =
                        run.commit(self.moment()).map_err(|e| Stop::Failed(fault(e)))?;
                    commit.activities = self.activities(&run.take_decided());
                    self.space_out(run.record(), previous, &mut commit).await?;
                    let keeps = matches!(commit.then, Then::Keep { .. });
                    due = due_of(&commit);
                    self.store.commit(commit).await?;
                    (progress.counts, progress.suspicion) = (run.counts(), run.suspicion());
                    if keeps && self.is_stopping() {
                        return Err(Stop::Stopping);
                    }
                }
                Step::Done => {
                    let outcome = match run.suspicion() {
                        Some(_) => Outcome::Suspicious,
                        None => Outcome::Finished,
                    };
                    return Ok(End { due_at: due, ..End::new(outcome) });
                }
            }
        }
    }

    /// Hands a window to the run, with what the store has of it. `total` is given if it is not the
    /// number of rows.
    async fn take(
        &self,
        run: &mut Run,
        read: ReadWindow,
        securities: Vec<Security>,
        total: Option<u64>,
    ) -> Result<(), Stop> {
        let (window, rows) = (read.window, read.rows.len() as u64);
        let item_id = run.record().id.clone();
        let (dates, mut ids) = run.known_query(window, &read.rows);
        ids.extend(read.unread.ids.iter().cloned());
        let known = self.store.known(&item_id, dates, &ids).await?;
        match total {
            None => run.window_read(read, securities, &known),
            Some(total) => run.miscounted_window_read(read, securities, &known, total),
        }
        let left = run.walk();
        self.observe(Observed::WindowRead { item_id, window, rows, left });
        Ok(())
    }

    /// Keeps updates apart that notifications cause without a pause, and those of Items that no
    /// application is connected to.
    async fn space_out(
        &self,
        record: &ItemRecord,
        previous_began_at: Option<DateTime<Utc>>,
        commit: &mut Commit,
    ) -> Result<(), StoreError> {
        let (settings, now) = (&self.settings.schedule, commit.now);
        let Then::Release { due_at: Some(due_at), not_before, .. } = &mut commit.then else {
            return Ok(());
        };
        let quick = commit.life.quick_updates;
        let (quick, soonest) = schedule::pace(settings, quick, previous_began_at, now);
        commit.life.quick_updates = quick;
        *not_before = (*not_before).max(soonest);
        // Whoever connects meanwhile is counted as a notification, which makes it due at once.
        let unused =
            !record.needs_transactions && self.store.connections(&record.id).await?.is_empty();
        if unused {
            *due_at = now + settings.unused_timeout;
        }
        Ok(())
    }

    fn moment(&self) -> Moment {
        let now = self.clock.now();
        let timeout = schedule::timeout(&self.settings.schedule, &*self.random);
        Moment { now, lease_until: self.lease_end(now), timeout }
    }

    /// Prolongs the lease while the work goes on; ends when it is lost.
    async fn keep_lease(&self, record: &ItemRecord) {
        let mut held_until = self.lease_end(self.clock.now());
        loop {
            self.clock.sleep(self.settings.lease / 3).await;
            // Under a clock that never waits, the work goes on nevertheless.
            tokio::task::yield_now().await;
            let now = self.clock.now();
            let until = self.lease_end(now);
            match self.store.renew(&record.id, record.fence, until).await {
                Ok(true) => {
                    held_until = until;
                    self.gates.prolong_permits(&record.institution_id).await;
                }
                Ok(false) => return,
                // The store may be back before the lease has run out.
                Err(error) if now < held_until => {
                    tracing::warn!(%error, "a lease could not be prolonged");
                }
                Err(_) => return,
            }
        }
    }

    /// Records a failure and plans the next attempt.
    async fn fail(&self, record: &ItemRecord, failure: Failure) -> End {
        let now = self.clock.now();
        let retry = self.retry(record, &failure, now);
        let stall_notice_after = self.settings.stall_notice_after;
        let commit = sync::failed(record, failure.note(now), retry, stall_notice_after);
        self.store_failure(commit, failure).await
    }

    /// Like [`fail`](Self::fail), and stores what the run has read that does not depend on windows.
    async fn fail_run(&self, mut run: Run, failure: Failure) -> End {
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
            record.life.wait_secs,
            &*self.random,
        )
    }

    async fn store_failure(&self, commit: Result<Commit, Impossible>, failure: Failure) -> End {
        let commit = match commit {
            Ok(commit) => commit,
            Err(impossible) => {
                tracing::error!(%impossible, "work on an Item that nobody works on");
                return End::new(Outcome::Lost);
            }
        };
        let due_at = due_of(&commit);
        match self.store.commit(commit).await {
            Ok(()) => End { failure: Some(failure), due_at, ..End::new(Outcome::Failed) },
            Err(error) if error.kind() == StoreErrorKind::Fenced => End::new(Outcome::Lost),
            Err(error) => {
                // The lease runs out by itself, and another worker takes it from there.
                tracing::warn!(%error, "a failure could not be stored");
                End { failure: Some(failure), ..End::new(Outcome::Failed) }
            }
        }
    }

    /// The store failed. What it did before that is not certain, so the Item is read again.
    async fn after_store_error(&self, record: &ItemRecord, error: &StoreError) -> End {
        tracing::warn!(%error, "the store failed");
        match self.present(record).await {
            Some(present) => self.fail(&present, Failure::store(error)).await,
            None => End::new(Outcome::Lost),
        }
    }

    async fn after_panic(&self, record: &ItemRecord) -> End {
        tracing::error!("work on an Item panicked: a fault of this program");
        match self.present(record).await {
            Some(present) => {
                self.fail(&present, Failure::internal("the work on it panicked")).await
            }
            None => End::new(Outcome::Lost),
        }
    }

    /// The Item as it is stored, if this worker still has it.
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

/// Reports to the partner's circuit what the work found out.
async fn settle(permit: Permit, end: &End) {
    match (&end.failure, end.outcome) {
        (Some(failure), _) if failure.partner_is_down() => permit.failed(failure.retry_at).await,
        (Some(failure), _) if failure.is_ours() => permit.unknown().await,
        (None, Outcome::HandedBack | Outcome::Lost) => permit.unknown().await,
        _ => permit.responded().await,
    }
}

fn due_of(commit: &Commit) -> Option<DateTime<Utc>> {
    match commit.then {
        Then::Keep { .. } => None,
        Then::Release { due_at, .. } => due_at,
    }
}

fn fault(impossible: Impossible) -> Failure {
    Failure::internal(impossible.to_string())
}

/// One line in the log for each piece of work.
fn tell(report: &Report) {
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
        Outcome::Lost => tracing::info!(outcome, took_ms, "an Item is another worker's by now"),
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
            "data of a partner is on hold until it is decided what it is"
        ),
    }
}
