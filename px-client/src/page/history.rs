//! A long history: windows read side by side, each whole before it is given out, in order.

use super::{
    Window,
    plan::cut,
    walk::{PageEvent, PageWalk},
};
use crate::{
    error::{Error, Kind, PagingFault},
    partner::PartnerClient,
};
use futures_util::{
    Stream, StreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream, FuturesUnordered},
};
use px_types::{
    Fault, UserId, error_id,
    model::transaction::Transaction,
    partner::{ListTransactions, MAX_LIMIT, TransactionsQuery},
};
use std::{
    collections::{HashSet, VecDeque, hash_map::RandomState},
    fmt,
    hash::BuildHasher as _,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    vec,
};

/// How a long history is read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HistoryOptions {
    /// How many windows are read at once; with `1` they are read one after the other.
    ///
    /// When a partner cannot bear it (429, 5xx, time-outs), the rest is read one by one.
    pub windows_at_once: usize,
    /// How many transactions a window should have.
    pub rows_per_window: u64,
    /// A window of up to so many transactions is not cut.
    pub whole_up_to: u64,
    /// The transactions on a page, at most 500.
    pub page_limit: u64,
}

impl Default for HistoryOptions {
    fn default() -> Self {
        Self {
            windows_at_once: 16,
            // Just under two pages: the number of windows varies about its mean.
            rows_per_window: 900,
            whole_up_to: 8 * MAX_LIMIT,
            page_limit: MAX_LIMIT,
        }
    }
}

/// A user's transactions, newest window first.
///
/// Made by [`PartnerClient::transactions`].
#[must_use = "nothing is fetched before it is polled"]
pub struct Transactions {
    events: BoxStream<'static, Result<HistoryEvent, Error>>,
    total: Arc<AtomicU64>,
}

/// A user's transactions with the faults of the pages, newest window first.
///
/// Made by [`Transactions::into_events`].
#[derive(Debug)]
#[must_use = "nothing is fetched before it is polled"]
pub struct HistoryEvents(Transactions);

impl HistoryEvents {
    /// As [`Transactions::total`].
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        self.0.total()
    }
}

impl Stream for HistoryEvents {
    type Item = Result<HistoryEvent, Error>;
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.events.poll_next_unpin(context)
    }
}

/// An event of reading a history.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum HistoryEvent {
    /// The next transaction.
    Transaction(Box<Transaction>),
    /// A page deviates from the contract. Indices are those of the page.
    Fault(Box<Fault>),
}

impl Transactions {
    pub(super) fn new(
        client: PartnerClient,
        user_id: UserId,
        range: Option<Window>,
        options: HistoryOptions,
    ) -> Self {
        let total = Arc::new(AtomicU64::new(UNKNOWN));
        let Some(range) = range else {
            let events = stream::empty().boxed();
            return Self { events, total };
        };
        let history = History::new(client, user_id, range, options, Arc::clone(&total));
        let events = stream::unfold(Some(history), |history| async {
            let mut history = history?;
            match history.next().await {
                Ok(Some(event)) => Some((Ok(event), Some(history))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        });
        Self { events: events.boxed(), total }
    }

    /// Tells of faults as well: what was repaired, ignored or set aside, before the rows of the
    /// window in which it was found.
    pub fn into_events(self) -> HistoryEvents {
        HistoryEvents(self)
    }

    /// How many there will be, as the partner said at the beginning; for a progress bar.
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        Some(self.total.load(Ordering::Relaxed)).filter(|total| *total != UNKNOWN)
    }
}

const UNKNOWN: u64 = u64::MAX;

impl Stream for Transactions {
    type Item = Result<Transaction, Error>;
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            return match ready!(self.events.poll_next_unpin(context)) {
                Some(Ok(HistoryEvent::Transaction(row))) => Poll::Ready(Some(Ok(*row))),
                Some(Ok(HistoryEvent::Fault(_))) => continue,
                Some(Err(error)) => Poll::Ready(Some(Err(error))),
                None => Poll::Ready(None),
            };
        }
    }
}

impl fmt::Debug for Transactions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transactions").field("total", &self.total()).finish_non_exhaustive()
    }
}

struct History {
    client: PartnerClient,
    user_id: UserId,
    range: Window,
    options: HistoryOptions,
    /// What is not given out yet, newest first.
    slots: VecDeque<Slot>,
    running: FuturesUnordered<BoxFuture<'static, (u64, Outcome)>>,
    next_key: u64,
    at_once: usize,
    /// The longest window that the partner may serve, once it refused a longer one.
    longest: Option<u64>,
    /// What the partner said of the whole range, if it answered for the whole.
    whole: Option<u64>,
    /// Parts that claim to hold as much as the whole.
    as_large_as_whole: Vec<Window>,
    cutting: bool,
    in_parts: bool,
    ready: vec::IntoIter<Transaction>,
    faults: vec::IntoIter<Fault>,
    seen: HashSet<u64>,
    hasher: RandomState,
    given: u64,
    total: Arc<AtomicU64>,
}

struct Slot {
    key: u64,
    window: Window,
    state: SlotState,
}

enum SlotState {
    Waiting,
    Running,
    Read(Rows),
}

/// The rows of a window that was read whole.
#[derive(Default)]
struct Rows {
    read: Vec<Transaction>,
    faults: Vec<Fault>,
    /// How many rows were set aside, or left out because another one is the same.
    set_aside: u64,
}

/// What became of a window.
enum Outcome {
    Rows(Rows),
    /// More than is read in one piece.
    TooMany(u64),
    /// The partner does not serve windows of this length.
    TooLong(Error),
    Failed(Error),
}

impl History {
    fn new(
        client: PartnerClient,
        user_id: UserId,
        range: Window,
        options: HistoryOptions,
        total: Arc<AtomicU64>,
    ) -> Self {
        let mut history = Self {
            client,
            user_id,
            range,
            options,
            slots: VecDeque::new(),
            running: FuturesUnordered::new(),
            next_key: 0,
            // One, until it is known what the whole is like.
            at_once: 1,
            longest: None,
            whole: None,
            as_large_as_whole: Vec::new(),
            cutting: true,
            in_parts: false,
            ready: Vec::new().into_iter(),
            faults: Vec::new().into_iter(),
            seen: HashSet::new(),
            hasher: RandomState::new(),
            given: 0,
            total,
        };
        history.slots = history.waiting(vec![range]);
        history
    }

    async fn next(&mut self) -> Result<Option<HistoryEvent>, Error> {
        loop {
            if let Some(fault) = self.faults.next() {
                return Ok(Some(HistoryEvent::Fault(Box::new(fault))));
            }
            for row in self.ready.by_ref() {
                // Two rows of different accounts can have one id.
                if self.seen.insert(self.hasher.hash_one((&row.id, &row.account_id))) {
                    self.given += 1;
                    return Ok(Some(HistoryEvent::Transaction(Box::new(row))));
                }
            }
            match self.slots.pop_front() {
                None => return self.count_again().await.map(|()| None),
                Some(Slot { state: SlotState::Read(rows), .. }) => {
                    self.ready = rows.read.into_iter();
                    self.faults = rows.faults.into_iter();
                    // They are rows of the partner's, so they count.
                    self.given += rows.set_aside;
                    continue;
                }
                Some(slot) => self.slots.push_front(slot),
            }
            self.start();
            if let Some((key, outcome)) = self.running.next().await {
                self.take_in(key, outcome)?;
            }
        }
    }

    /// Starts the newest windows that wait, as many as may be in memory.
    fn start(&mut self) {
        let cap = self.cutting.then_some(self.options.whole_up_to);
        let limit = self.options.page_limit.clamp(1, MAX_LIMIT);
        for slot in self.slots.iter_mut().take(self.at_once.max(1)) {
            if matches!(slot.state, SlotState::Waiting) {
                slot.state = SlotState::Running;
                let cap = cap.filter(|_| slot.window.days() > 1);
                let walk =
                    PageWalk::new(self.client.clone(), self.user_id.clone(), slot.window, limit);
                let (key, total) = (slot.key, (!self.in_parts).then(|| Arc::clone(&self.total)));
                self.running.push(Box::pin(async move { (key, read(walk, cap, total).await) }));
            }
        }
    }

    fn take_in(&mut self, key: u64, outcome: Outcome) -> Result<(), Error> {
        let Some(at) = self.slots.iter().position(|slot| slot.key == key) else {
            return Ok(());
        };
        let window = self.slots[at].window;
        match outcome {
            Outcome::Rows(rows) => {
                self.at_once_from_now_on();
                self.slots[at].state = SlotState::Read(rows);
            }
            Outcome::TooMany(total) => {
                if self.ignores_dates(window, total) {
                    return self.as_one_window();
                }
                self.at_once_from_now_on();
                self.in_parts = true;
                let parts = total.div_ceil(self.options.rows_per_window.max(1)).max(2);
                self.replace(at, cut(window, parts, self.longest));
            }
            Outcome::TooLong(error) => {
                if window.days() == 1 {
                    return Err(error);
                }
                let longest = (window.days() / 2).min(self.longest.unwrap_or(u64::MAX));
                self.longest = Some(longest);
                self.in_parts = true;
                // All that wait are as long: they would be refused too.
                let slots = std::mem::take(&mut self.slots);
                for slot in slots {
                    if slot.key == key || matches!(slot.state, SlotState::Waiting) {
                        let cuts = self.waiting(cut(slot.window, 1, Some(longest)));
                        self.slots.extend(cuts);
                    } else {
                        self.slots.push_back(slot);
                    }
                }
            }
            Outcome::Failed(error) => {
                let may_pass =
                    matches!(error.kind(), Kind::Timeout | Kind::Transport | Kind::Connect)
                        || matches!(error.status(), Some(408 | 429 | 500..=599));
                if self.at_once == 1 || !may_pass {
                    return Err(error);
                }
                // Perhaps it was too much at once. What is not read yet is read one by one.
                tracing::debug!(%error, "reading the rest of a history one window at a time");
                self.at_once = 1;
                self.options.windows_at_once = 1;
                self.running = FuturesUnordered::new();
                for slot in &mut self.slots {
                    if matches!(slot.state, SlotState::Running) {
                        slot.state = SlotState::Waiting;
                    }
                }
            }
        }
        Ok(())
    }

    fn at_once_from_now_on(&mut self) {
        self.at_once = self.options.windows_at_once.max(1);
    }

    /// Whether the partner gives the same answer for whatever dates: two parts that do not
    /// touch cannot both be the whole.
    fn ignores_dates(&mut self, window: Window, total: u64) -> bool {
        let Some(whole) = self.whole else {
            if window == self.range {
                self.whole = Some(total);
            }
            return false;
        };
        if total < whole {
            return false;
        }
        let apart = |other: &Window| other.end() < window.start() || window.end() < other.start();
        let ignored = self.as_large_as_whole.iter().any(apart);
        self.as_large_as_whole.push(window);
        ignored
    }

    /// Begins again with the whole range as one window.
    fn as_one_window(&mut self) -> Result<(), Error> {
        if self.given > 0 {
            return Err(changed(self.range, "the parts are more than the whole"));
        }
        self.running = FuturesUnordered::new();
        self.cutting = false;
        self.in_parts = false;
        self.options.windows_at_once = 1;
        self.at_once = 1;
        self.slots = self.waiting(vec![self.range]);
        Ok(())
    }

    fn waiting(&mut self, windows: Vec<Window>) -> VecDeque<Slot> {
        let mut slot = |window| {
            self.next_key += 1;
            Slot { key: self.next_key, window, state: SlotState::Waiting }
        };
        windows.into_iter().map(&mut slot).collect()
    }

    fn replace(&mut self, at: usize, windows: Vec<Window>) {
        let later = self.slots.split_off(at + 1);
        self.slots.pop_back();
        let cuts = self.waiting(windows);
        self.slots.extend(cuts);
        self.slots.extend(later);
    }

    /// Windows that are each consistent may still not fit together, when a transaction moved
    /// from one to another. So the whole is counted once more at the end.
    async fn count_again(&mut self) -> Result<(), Error> {
        if !self.in_parts {
            return Ok(());
        }
        let counts = cut(self.range, 1, self.longest).into_iter().map(|window| {
            let mut query = TransactionsQuery::new(window.start(), window.end());
            query.limit = 1;
            let (client, user_id) = (self.client.clone(), self.user_id.clone());
            async move {
                let request = ListTransactions::new(user_id, query);
                client.transactions_page(request).await.map(|page| page.total)
            }
        });
        let mut counts = stream::iter(counts).buffered(self.at_once);
        let mut total: u64 = 0;
        while let Some(count) = counts.next().await {
            total = total.saturating_add(count?);
        }
        if total != self.given {
            let what = format!("{} were read and {total} are there now", self.given);
            return Err(changed(self.range, &what));
        }
        Ok(())
    }
}

/// Reads one window whole.
async fn read(mut walk: PageWalk, cap: Option<u64>, told: Option<Arc<AtomicU64>>) -> Outcome {
    let mut rows = Rows::default();
    let mut first = true;
    loop {
        match walk.next().await {
            Ok(Some(PageEvent::Page(page))) => {
                if let Some(told) = told.as_ref().filter(|_| first) {
                    told.store(page.total, Ordering::Relaxed);
                }
                if first && cap.is_some_and(|cap| page.total > cap) {
                    return Outcome::TooMany(page.total);
                }
                first = false;
                rows.set_aside += page.rows_sent() - page.transactions.len() as u64;
                rows.read.extend(page.transactions);
                rows.faults.extend(page.faults);
            }
            Ok(Some(PageEvent::Restart)) => {
                rows = Rows::default();
                first = true;
            }
            Ok(None) => return Outcome::Rows(rows),
            Err(e) if e.error_id() == Some(error_id::WINDOW_TOO_LONG) => {
                return Outcome::TooLong(e);
            }
            Err(e) => return Outcome::Failed(e),
        }
    }
}

fn changed(range: Window, what: &str) -> Error {
    Error::paging(
        PagingFault::ChangedWhileRead,
        format!("{range} changed while it was read: {what}"),
    )
}
