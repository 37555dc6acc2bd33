//! The task of a lane: waits for entries, collects them for a moment, and sends until the store is empty.

use super::{
    entry::{Entry, Lane},
    observer::{Counters, NotifierObserver, Stall, StallCause, count},
    plan::{Batch, Body, MOST_IN_A_BATCH, plan},
    present::PresentToken,
    store::NotificationStore,
    verdict::{Verdict, names_a_token, rest, verdict},
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
const WINDOW: usize = 5 * MOST_IN_A_BATCH;

/// Number of consecutive refusals, without a success, after which the fault is not in the entries.
const MOST_REFUSALS: u32 = 64;

/// The phase of the notifier's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Entries are accepted and sent.
    Open,
    /// Everything that is stored is sent, then the task ends.
    Flush,
    /// The notifier was dropped: the stored entries are sent if Plaid accepts them at once.
    Dropped,
}

/// Signals of new entries to a lane.
#[derive(Debug, Default)]
pub(super) struct Signals {
    some: Notify,
    full: Notify,
    since_collected: AtomicUsize,
}

impl Signals {
    /// Signals that `more` entries were stored.
    pub(super) fn kept(&self, more: usize) {
        if more == 0 {
            return;
        }
        let before = self.since_collected.fetch_add(more, Ordering::SeqCst);
        self.some.notify_one();
        if before + more >= MOST_IN_A_BATCH {
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
    pub(super) tokens: Option<Arc<dyn PresentToken>>,
    pub(super) counters: Arc<Counters>,
    pub(super) signals: Arc<[Signals; 3]>,
    pub(super) collect_for: Duration,
    pub(super) longest_rest: Duration,
    /// Whether Plaid accepted something since the start: then address, id and secret are right.
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

/// The reason why a lane waits.
enum Blocked {
    Call(Error),
    Refused(Error),
    Store(Source),
    Token(Source),
}

/// The end of a wait.
#[derive(PartialEq)]
enum Woken {
    Rested,
    BySomethingNew,
}

/// Results of sending the batches of one plan.
#[derive(Default)]
struct Round {
    accepted: usize,
    refusals_in_a_row: u32,
    /// Refused entries that may not be at fault.
    suspects: Vec<(Batch, Error)>,
    /// The error for entries whose token is not available; they stay in the store.
    unknown: Option<Source>,
}

impl Worker {
    /// Sends stored and new entries until the notifier ends.
    pub(super) async fn run(mut self) {
        loop {
            // Read before the store, so that what was stored before the phase changed is sent.
            let phase = *self.phase.borrow_and_update();
            match self.drain().await {
                Ok(()) if phase != Phase::Open => return,
                Ok(()) => {
                    self.failures = 0;
                    self.something_new().await;
                    self.collect().await;
                }
                Err(_) if phase == Phase::Dropped => return,
                Err(blocked) => {
                    if self.rest(blocked).await == Woken::BySomethingNew {
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
    async fn something_new(&mut self) {
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
    async fn rest(&mut self, blocked: Blocked) -> Woken {
        let shared = Arc::clone(&self.shared);
        self.failures = self.failures.saturating_add(1);
        let asked = match &blocked {
            Blocked::Call(error) | Blocked::Refused(error) => error.retry_at(),
            Blocked::Store(_) | Blocked::Token(_) => None,
        };
        let now = self.clock().now();
        let wait = rest(self.failures, shared.longest_rest, asked, now, &*self.random);
        count(&shared.counters.stalls, 1);
        let (why, error) = match &blocked {
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
            "notifications wait"
        );
        let (lane, failures, until) = (self.lane, self.failures, now + wait);
        shared.observer.stalled(&Stall { lane, why, failures, until });
        let over = pin!(shared.client.clock().sleep(wait));
        let changed = pin!(phase_changed(&mut self.phase));
        let stop = select(over, changed);
        if matches!(blocked, Blocked::Call(_) | Blocked::Store(_)) {
            stop.await;
            return Woken::Rested;
        }
        // Refused entries do not delay later ones. If Plaid accepts these, the refused ones are at fault.
        let some = pin!(shared.signals[lane as usize].some.notified());
        match select(some, stop).await {
            Either::Left(_) => Woken::BySomethingNew,
            Either::Right(_) => Woken::Rested,
        }
    }

    /// Sends everything that is stored.
    async fn drain(&mut self) -> Result<(), Blocked> {
        loop {
            let kept = self.shared.store.next_batch(self.lane, WINDOW).await;
            let kept = kept.map_err(Blocked::Store)?;
            if kept.is_empty() {
                return Ok(());
            }
            let mut round = Round::default();
            for batch in plan(self.lane, kept, self.clock().now()) {
                self.tell(batch, &mut round).await?;
            }
            self.sentence(round).await?;
        }
    }

    /// Sends one batch: whole if Plaid accepts it, otherwise without the entries that are at fault.
    async fn tell(&mut self, batch: Batch, round: &mut Round) -> Result<(), Blocked> {
        let mut pieces = vec![batch];
        while let Some(mut piece) = pieces.pop() {
            let entries = piece.parts.len();
            let Err(error) = self.call(&piece).await else {
                self.accepted(&piece, round).await?;
                continue;
            };
            count(&self.shared.counters.failed_calls, 1);
            let verdict = verdict(&error, entries);
            if verdict == Verdict::Later {
                return Err(Blocked::Call(error));
            }
            if let Verdict::Entry(index) = verdict
                && names_a_token(&error)
                && let Some(part) = piece.parts.get(index)
            {
                match self.present_token(&part.entry).await {
                    Ok(Some(present)) => {
                        let dead = part.entry.access_token().clone();
                        pieces.push(piece);
                        pieces.iter_mut().for_each(|piece| piece.renew(&dead, &present));
                        continue;
                    }
                    Ok(None) => {}
                    // Other entries do not wait for it.
                    Err(why) => {
                        round.refusals_in_a_row += 1;
                        if round.refusals_in_a_row > MOST_REFUSALS && round.accepted == 0 {
                            return Err(Blocked::Token(why));
                        }
                        piece.parts.remove(index);
                        round.unknown = Some(why);
                        if !piece.parts.is_empty() {
                            pieces.push(piece);
                        }
                        continue;
                    }
                }
            }
            round.refusals_in_a_row += 1;
            let certain = names_a_token(&error) && self.shared.proven.load(Ordering::SeqCst);
            if round.refusals_in_a_row > MOST_REFUSALS && round.accepted == 0 && !certain {
                return Err(Blocked::Refused(error));
            }
            match verdict {
                Verdict::Entry(index) => {
                    let part = piece.parts.remove(index);
                    let lane = piece.lane;
                    let suspect = Batch { lane, parts: vec![part] };
                    match certain || round.accepted > 0 {
                        true => self.take_out(suspect, &error).await?,
                        false => round.suspects.push((suspect, error)),
                    }
                    if !piece.parts.is_empty() {
                        pieces.push(piece);
                    }
                }
                Verdict::Halve => {
                    let (first, second) = piece.halves();
                    // The first half goes first: events of one account keep their order.
                    pieces.push(second);
                    pieces.push(first);
                }
                Verdict::Later => {}
            }
        }
        Ok(())
    }

    /// Returns the present token of a refused entry's Item, if it is another one.
    async fn present_token(&self, entry: &Entry) -> Result<Option<ItemAccessToken>, Source> {
        let Some(tokens) = &self.shared.tokens else { return Ok(None) };
        let present = tokens.present(entry).await?;
        Ok(present.filter(|present| present != entry.access_token()))
    }

    async fn call(&self, batch: &Batch) -> Result<(), Error> {
        let client = &self.shared.client;
        let answer = match batch.body() {
            Some(Body::Transactions(body)) => client.notify_transactions(body).await,
            Some(Body::Accounts(body)) => client.notify_accounts(body).await,
            Some(Body::Tokens(body)) => client.notify_tokens(body).await,
            // A plan has no empty batch and none that is too large.
            None => return Err(Error::build("notifier", "a batch of a size that is not taken")),
        };
        answer.map(|_| ())
    }

    async fn accepted(&mut self, batch: &Batch, round: &mut Round) -> Result<(), Blocked> {
        let numbers = batch.numbers();
        let shared = &self.shared;
        shared.proven.store(true, Ordering::SeqCst);
        count(&shared.counters.calls, 1);
        count(&shared.counters.accepted, numbers.len());
        round.accepted += batch.parts.len();
        round.refusals_in_a_row = 0;
        self.failures = 0;
        tracing::debug!(lane = %self.lane, entries = batch.parts.len(), "Plaid was notified");
        shared.observer.accepted(self.lane, batch.parts.len());
        shared.store.done(self.lane, &numbers).await.map_err(Blocked::Store)
    }

    /// Reports an entry, then deletes it. After a crash between the two it is reported again.
    async fn take_out(&self, suspect: Batch, why: &Error) -> Result<(), Blocked> {
        let numbers = suspect.numbers();
        let shared = &self.shared;
        count(&shared.counters.taken_out, numbers.len());
        tracing::warn!(lane = %self.lane, error = %why, "Plaid does not take a notification");
        for part in &suspect.parts {
            shared.observer.taken_out(&part.entry, why);
        }
        shared.store.done(self.lane, &numbers).await.map_err(Blocked::Store)
    }

    /// Removes the suspects if Plaid accepted other entries; otherwise they may not be at fault.
    async fn sentence(&self, mut round: Round) -> Result<(), Blocked> {
        if round.accepted == 0
            && let Some((_, error)) = round.suspects.pop()
        {
            return Err(Blocked::Refused(error));
        }
        for (suspect, error) in round.suspects {
            self.take_out(suspect, &error).await?;
        }
        round.unknown.map_or(Ok(()), |why| Err(Blocked::Token(why)))
    }
}

/// Waits until the phase changes. After the last phase it waits forever.
async fn phase_changed(phase: &mut watch::Receiver<Phase>) {
    if phase.changed().await.is_err() {
        // The sender sets the last phase before it is dropped.
        std::future::pending::<()>().await;
    }
}
