//! The task of a lane: waits for entries, collects them for a moment, and sends until the store is empty.

use super::{
    batch::{Batch, BatchBody, MAX_BATCH_ENTRIES, batches_of},
    current_token::CurrentTokenSource,
    entry::{Entry, Lane},
    observer::{Counters, NotifierObserver, Stall, StallCause, count},
    outcome::{FailureOutcome, backoff, failure_outcome, is_unknown_token},
    store::NotificationStore,
};
use crate::{
    error::{Error, Source},
    plaid::PlaidClient,
};
use futures_util::future::{Either, select};
use px_core::{Clock, Random};
use px_types::ItemAccessToken;
use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::{Notify, watch};

/// Number of entries that are read from the store at once.
const MAX_READ_ENTRIES: usize = 5 * MAX_BATCH_ENTRIES;

/// Number of consecutive refusals, without a success, after which the fault is not in the entries.
const MAX_CONSECUTIVE_REFUSALS: u32 = 64;

/// The phase of a notifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Entries are accepted and sent.
    Open,
    /// Everything in the store is sent, then the task ends.
    Flush,
    /// The notifier was dropped: the stored entries are sent if Plaid accepts them at once.
    Dropped,
}

/// Signals to a lane that there are new entries.
#[derive(Debug, Default)]
pub(super) struct Signals {
    some: Notify,
    full: Notify,
    since_collected: AtomicUsize,
}

impl Signals {
    /// Signals that `more` entries were stored.
    pub(super) fn stored(&self, more: usize) {
        if more == 0 {
            return;
        }
        let before = self.since_collected.fetch_add(more, Ordering::SeqCst);
        self.some.notify_one();
        if before + more >= MAX_BATCH_ENTRIES {
            self.full.notify_one();
        }
    }

    fn collected(&self) {
        self.since_collected.store(0, Ordering::SeqCst);
    }
}

/// State that all lanes share.
pub(super) struct Shared {
    pub(super) client: PlaidClient,
    pub(super) store: Arc<dyn NotificationStore>,
    pub(super) observer: Arc<dyn NotifierObserver>,
    pub(super) tokens: Option<Arc<dyn CurrentTokenSource>>,
    pub(super) counters: Arc<Counters>,
    pub(super) signals: Arc<[Signals; 3]>,
    pub(super) collect_for: Duration,
    pub(super) max_backoff: Duration,
    /// Whether Plaid has accepted a batch since the start: then address, id and secret are right.
    pub(super) proven: AtomicBool,
}

/// The task of one lane.
pub(super) struct Worker {
    pub(super) lane: Lane,
    pub(super) shared: Arc<Shared>,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) random: Arc<dyn Random>,
    pub(super) failures: u32,
}

/// The reason for a lane's wait.
enum Blocked {
    Call(Error),
    Refused(Error),
    Store(Source),
    Token(Source),
}

/// The end of a wait.
#[derive(PartialEq)]
enum WaitEnd {
    Elapsed,
    NewEntries,
}

/// Results of sending the batches of one plan.
#[derive(Default)]
struct DrainResult {
    accepted: usize,
    refusals_in_a_row: u32,
    /// Refused entries that may not be at fault.
    suspects: Vec<(Batch, Error)>,
    /// The error for entries without an available token; they stay in the store.
    token_error: Option<Source>,
}

impl Worker {
    /// Sends stored and new entries until the notifier ends.
    pub(super) async fn run(mut self) {
        loop {
            // The phase is read before the store, so that entries that were stored before it changed are
            // sent.
            let phase = *self.phase.borrow_and_update();
            match self.drain().await {
                Ok(()) if phase != Phase::Open => return,
                Ok(()) => {
                    self.failures = 0;
                    self.wait_for_entries().await;
                    self.collect().await;
                }
                Err(_) if phase == Phase::Dropped => return,
                Err(blocked) => {
                    if self.wait_after_failure(blocked).await == WaitEnd::NewEntries {
                        self.collect().await;
                    }
                }
            }
        }
    }

    fn signals(&self) -> &Signals {
        &self.shared.signals[self.lane as usize]
    }

    fn clock(&self) -> &dyn Clock {
        &**self.shared.client.clock()
    }

    /// Waits until there are new entries, or the phase changes.
    async fn wait_for_entries(&mut self) {
        let shared = Arc::clone(&self.shared);
        let some = pin!(shared.signals[self.lane as usize].some.notified());
        let changed = pin!(phase_changed(&mut self.phase));
        select(some, changed).await;
    }

    /// Waits for the collection time, unless a batch is full before.
    async fn collect(&mut self) {
        let shared = Arc::clone(&self.shared);
        if *self.phase.borrow() == Phase::Open && !shared.collect_for.is_zero() {
            let full = pin!(shared.signals[self.lane as usize].full.notified());
            let moment = pin!(shared.client.clock().sleep(shared.collect_for));
            let changed = pin!(phase_changed(&mut self.phase));
            select(select(full, moment), changed).await;
        }
        self.signals().collected();
    }

    /// Reports the reason and waits.
    async fn wait_after_failure(&mut self, blocked: Blocked) -> WaitEnd {
        let shared = Arc::clone(&self.shared);
        self.failures = self.failures.saturating_add(1);
        let requested = match &blocked {
            Blocked::Call(error) | Blocked::Refused(error) => error.retry_at(),
            Blocked::Store(_) | Blocked::Token(_) => None,
        };
        let now = self.clock().now();
        let wait = backoff(self.failures, shared.max_backoff, requested, now, &*self.random);
        count(&shared.counters.stalls, 1);
        let (cause, error) = match &blocked {
            Blocked::Call(error) => (StallCause::Call(error), Some(error)),
            Blocked::Refused(error) => (StallCause::Refused(error), Some(error)),
            Blocked::Store(source) => (StallCause::Store(source), None),
            Blocked::Token(source) => (StallCause::Token(source), None),
        };
        tracing::warn!(
            lane = %self.lane,
            failures = self.failures,
            wait_seconds = wait.as_secs(),
            error = error.map(tracing::field::display),
            "notifications are delayed"
        );
        let (lane, failures, until) = (self.lane, self.failures, now + wait);
        shared.observer.stalled(&Stall { lane, cause, failures, until });
        let over = pin!(shared.client.clock().sleep(wait));
        let changed = pin!(phase_changed(&mut self.phase));
        let stop = select(over, changed);
        if matches!(blocked, Blocked::Call(_) | Blocked::Store(_)) {
            stop.await;
            return WaitEnd::Elapsed;
        }
        // Refused entries do not delay later ones. If Plaid accepts these, the refused ones are at fault.
        let some = pin!(shared.signals[lane as usize].some.notified());
        match select(some, stop).await {
            Either::Left(_) => WaitEnd::NewEntries,
            Either::Right(_) => WaitEnd::Elapsed,
        }
    }

    /// Sends everything that is stored.
    async fn drain(&mut self) -> Result<(), Blocked> {
        loop {
            let stored = self.shared.store.next_batch(self.lane, MAX_READ_ENTRIES).await;
            let stored = stored.map_err(Blocked::Store)?;
            if stored.is_empty() {
                return Ok(());
            }
            let mut result = DrainResult::default();
            for batch in batches_of(self.lane, stored, self.clock().now()) {
                self.send(batch, &mut result).await?;
            }
            self.remove_suspects(result).await?;
        }
    }

    /// Sends one batch. If Plaid refuses it, sends it without the entries that are at fault.
    async fn send(&mut self, batch: Batch, result: &mut DrainResult) -> Result<(), Blocked> {
        let mut pieces = vec![batch];
        while let Some(mut piece) = pieces.pop() {
            let entries = piece.parts.len();
            let Err(error) = self.call(&piece).await else {
                self.accepted(&piece, result).await?;
                continue;
            };
            count(&self.shared.counters.failed_calls, 1);
            let outcome = failure_outcome(&error, entries);
            if outcome == FailureOutcome::Later {
                return Err(Blocked::Call(error));
            }
            if let FailureOutcome::Entry(index) = outcome
                && is_unknown_token(&error)
                && let Some(part) = piece.parts.get(index)
            {
                match self.replacement_token(&part.entry).await {
                    Ok(Some(current)) => {
                        let ended = part.entry.access_token().clone();
                        pieces.push(piece);
                        pieces.iter_mut().for_each(|piece| piece.replace_token(&ended, &current));
                        continue;
                    }
                    Ok(None) => {}
                    // Other entries do not wait for this token.
                    Err(why) => {
                        result.refusals_in_a_row += 1;
                        if result.refusals_in_a_row > MAX_CONSECUTIVE_REFUSALS
                            && result.accepted == 0
                        {
                            return Err(Blocked::Token(why));
                        }
                        piece.parts.remove(index);
                        result.token_error = Some(why);
                        if !piece.parts.is_empty() {
                            pieces.push(piece);
                        }
                        continue;
                    }
                }
            }
            result.refusals_in_a_row += 1;
            let certain = is_unknown_token(&error) && self.shared.proven.load(Ordering::SeqCst);
            if result.refusals_in_a_row > MAX_CONSECUTIVE_REFUSALS
                && result.accepted == 0
                && !certain
            {
                return Err(Blocked::Refused(error));
            }
            match outcome {
                FailureOutcome::Entry(index) => {
                    let part = piece.parts.remove(index);
                    let lane = piece.lane;
                    let suspect = Batch { lane, parts: vec![part] };
                    match certain || result.accepted > 0 {
                        true => self.remove_refused(suspect, &error).await?,
                        false => result.suspects.push((suspect, error)),
                    }
                    if !piece.parts.is_empty() {
                        pieces.push(piece);
                    }
                }
                FailureOutcome::Halve => {
                    let (first, second) = piece.halves();
                    // The first half goes first: events of one account keep their order.
                    pieces.push(second);
                    pieces.push(first);
                }
                FailureOutcome::Later => {}
            }
        }
        Ok(())
    }

    /// Returns the current token of a refused entry's Item, if it differs from the entry's token.
    async fn replacement_token(&self, entry: &Entry) -> Result<Option<ItemAccessToken>, Source> {
        let Some(tokens) = &self.shared.tokens else { return Ok(None) };
        let current = tokens.current_token(entry).await?;
        Ok(current.filter(|current| current != entry.access_token()))
    }

    async fn call(&self, batch: &Batch) -> Result<(), Error> {
        let client = &self.shared.client;
        let response = match batch.body() {
            Some(BatchBody::Transactions(body)) => client.notify_transactions(body).await,
            Some(BatchBody::Accounts(body)) => client.notify_accounts(body).await,
            Some(BatchBody::Tokens(body)) => client.notify_tokens(body).await,
            // The batches have 1 to 2000 entries, so this does not happen.
            None => return Err(Error::build("notifier", "the batch has an invalid size")),
        };
        response.map(|_| ())
    }

    async fn accepted(&mut self, batch: &Batch, result: &mut DrainResult) -> Result<(), Blocked> {
        let numbers = batch.numbers();
        let shared = &self.shared;
        shared.proven.store(true, Ordering::SeqCst);
        count(&shared.counters.calls, 1);
        count(&shared.counters.accepted, numbers.len());
        result.accepted += batch.parts.len();
        result.refusals_in_a_row = 0;
        self.failures = 0;
        tracing::debug!(lane = %self.lane, entries = batch.parts.len(), "Plaid was notified");
        shared.observer.accepted(self.lane, batch.parts.len());
        shared.store.done(self.lane, &numbers).await.map_err(Blocked::Store)
    }

    /// Reports a refused entry, then deletes it. After a crash between the two it is reported again.
    async fn remove_refused(&self, suspect: Batch, why: &Error) -> Result<(), Blocked> {
        let numbers = suspect.numbers();
        let shared = &self.shared;
        count(&shared.counters.refused, numbers.len());
        tracing::warn!(lane = %self.lane, error = %why, "Plaid refuses a notification; it is removed");
        for part in &suspect.parts {
            shared.observer.refused(&part.entry, why);
        }
        shared.store.done(self.lane, &numbers).await.map_err(Blocked::Store)
    }

    /// Removes the suspects if Plaid accepted other entries; otherwise they may not be at fault.
    async fn remove_suspects(&self, mut result: DrainResult) -> Result<(), Blocked> {
        if result.accepted == 0
            && let Some((_, error)) = result.suspects.pop()
        {
            return Err(Blocked::Refused(error));
        }
        for (suspect, error) in result.suspects {
            self.remove_refused(suspect, &error).await?;
        }
        result.token_error.map_or(Ok(()), |why| Err(Blocked::Token(why)))
    }
}

/// Waits until the phase changes. After the last phase it waits forever.
async fn phase_changed(phase: &mut watch::Receiver<Phase>) {
    if phase.changed().await.is_err() {
        // The sender sets the last phase before it is dropped.
        std::future::pending::<()>().await;
    }
}
