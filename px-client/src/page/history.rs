//! Reads a long history: concurrent windows, each read completely before it is returned, in order.

use super::{
    Window,
    plan::cut,
    reader::{PageEvent, PageReader},
};
use crate::{
    error::{Error, ErrorKind, PagingFault},
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

/// Settings for reading a long history.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HistoryOptions {
    /// Maximum number of windows that are read concurrently. With `1` they are read one after another.
    ///
    /// If the partner fails under the load (429, 408, 5xx, timeouts, connection failures), the rest is read
    /// one window at a time.
    pub concurrent_windows: usize,
    /// Intended number of transactions of a window.
    pub rows_per_window: u64,
    /// Maximum number of transactions of a window that is not split.
    pub max_rows_uncut: u64,
    /// Maximum number of transactions of a page, at most 500.
    pub page_limit: u64,
}

impl Default for HistoryOptions {
    fn default() -> Self {
        Self {
            concurrent_windows: 16,
            // Just under two pages, because the number of rows of a window varies about its mean.
            rows_per_window: 900,
            max_rows_uncut: 8 * MAX_LIMIT,
            page_limit: MAX_LIMIT,
        }
    }
}

/// A stream of a user's transactions, newest window first.
///
/// Returned by [`PartnerClient::transactions`].
#[must_use = "nothing is fetched before it is polled"]
pub struct Transactions {
    events: BoxStream<'static, Result<HistoryEvent, Error>>,
    total: Arc<AtomicU64>,
}

/// A stream of a user's transactions and of the faults of the pages, newest window first.
///
/// Returned by [`Transactions::into_events`].
#[derive(Debug)]
#[must_use = "nothing is fetched before it is polled"]
pub struct HistoryEvents(Transactions);

impl HistoryEvents {
    /// Returns the number of transactions; see [`Transactions::total`].
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
    /// A deviation of a page from the contract. Indices are those of the page.
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
        let history = HistoryReader::new(client, user_id, range, options, Arc::clone(&total));
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

    /// Returns a stream that also reports faults: what was repaired, ignored or set aside.
    ///
    /// Faults come before the rows of their window.
    pub fn into_events(self) -> HistoryEvents {
        HistoryEvents(self)
    }

    /// Returns the number of transactions that the partner reported at the beginning, for a progress bar.
    /// Returns `None` before the first response.
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

struct HistoryReader {
    client: PartnerClient,
    user_id: UserId,
    range: Window,
    options: HistoryOptions,
    /// Windows that have not been returned yet, newest first.
    slots: VecDeque<WindowSlot>,
    running: FuturesUnordered<BoxFuture<'static, (u64, WindowOutcome)>>,
    next_key: u64,
    concurrency: usize,
    /// The longest window to request, in days, once the partner refused a longer one.
    longest: Option<u64>,
    /// The partner's `total` of the whole range, if it responded to a request for the whole range.
    whole_total: Option<u64>,
    /// Parts with a `total` of at least that of the whole.
    parts_as_large_as_whole: Vec<Window>,
    cutting: bool,
    in_parts: bool,
    ready: vec::IntoIter<Transaction>,
    faults: vec::IntoIter<Fault>,
    seen: HashSet<u64>,
    hasher: RandomState,
    returned_rows: u64,
    total: Arc<AtomicU64>,
}

struct WindowSlot {
    key: u64,
    window: Window,
    state: WindowState,
}

enum WindowState {
    Waiting,
    Running,
    Read(WindowRows),
}

/// The rows of a window that was read completely.
#[derive(Default)]
struct WindowRows {
    read: Vec<Transaction>,
    faults: Vec<Fault>,
    /// Number of rows that were set aside, or left out because another row is the same.
    set_aside: u64,
}

/// The result of reading a window.
enum WindowOutcome {
    Read(WindowRows),
    /// More rows than are read as one window.
    TooMany(u64),
    /// The partner does not serve windows of this length.
    TooLong(Error),
    Failed(Error),
}

impl HistoryReader {
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
            // One, until the total of the whole range is known.
            concurrency: 1,
            longest: None,
            whole_total: None,
            parts_as_large_as_whole: Vec::new(),
            cutting: true,
            in_parts: false,
            ready: Vec::new().into_iter(),
            faults: Vec::new().into_iter(),
            seen: HashSet::new(),
            hasher: RandomState::new(),
            returned_rows: 0,
            total,
        };
        history.slots = history.new_slots(vec![range]);
        history
    }

    async fn next(&mut self) -> Result<Option<HistoryEvent>, Error> {
        loop {
            if let Some(fault) = self.faults.next() {
                return Ok(Some(HistoryEvent::Fault(Box::new(fault))));
            }
            for row in self.ready.by_ref() {
                // Transactions of different accounts can share an id.
                if self.seen.insert(self.hasher.hash_one((&row.id, &row.account_id))) {
                    self.returned_rows += 1;
                    return Ok(Some(HistoryEvent::Transaction(Box::new(row))));
                }
            }
            match self.slots.pop_front() {
                None => return self.verify_count().await.map(|()| None),
                Some(WindowSlot { state: WindowState::Read(rows), .. }) => {
                    self.ready = rows.read.into_iter();
                    self.faults = rows.faults.into_iter();
                    // They are rows of the partner, so they count.
                    self.returned_rows += rows.set_aside;
                    continue;
                }
                Some(slot) => self.slots.push_front(slot),
            }
            self.start();
            if let Some((key, outcome)) = self.running.next().await {
                self.apply_outcome(key, outcome)?;
            }
        }
    }

    /// Starts the newest waiting windows, as many as may be in memory.
    fn start(&mut self) {
        let cap = self.cutting.then_some(self.options.max_rows_uncut);
        let limit = self.options.page_limit.clamp(1, MAX_LIMIT);
        for slot in self.slots.iter_mut().take(self.concurrency.max(1)) {
            if matches!(slot.state, WindowState::Waiting) {
                slot.state = WindowState::Running;
                let cap = cap.filter(|_| slot.window.days() > 1);
                let reader =
                    PageReader::new(self.client.clone(), self.user_id.clone(), slot.window, limit);
                let (key, total) = (slot.key, (!self.in_parts).then(|| Arc::clone(&self.total)));
                self.running.push(Box::pin(async move { (key, read(reader, cap, total).await) }));
            }
        }
    }

    fn apply_outcome(&mut self, key: u64, outcome: WindowOutcome) -> Result<(), Error> {
        let Some(at) = self.slots.iter().position(|slot| slot.key == key) else {
            return Ok(());
        };
        let window = self.slots[at].window;
        match outcome {
            WindowOutcome::Read(rows) => {
                self.raise_concurrency();
                self.slots[at].state = WindowState::Read(rows);
            }
            WindowOutcome::TooMany(total) => {
                if self.ignores_dates(window, total) {
                    return self.read_as_one_window();
                }
                self.raise_concurrency();
                self.in_parts = true;
                let parts = total.div_ceil(self.options.rows_per_window.max(1)).max(2);
                self.replace(at, cut(window, parts, self.longest));
            }
            WindowOutcome::TooLong(error) => {
                if window.days() == 1 {
                    return Err(error);
                }
                let longest = (window.days() / 2).min(self.longest.unwrap_or(u64::MAX));
                self.longest = Some(longest);
                self.in_parts = true;
                // All waiting windows are as long, so they would be refused too.
                let slots = std::mem::take(&mut self.slots);
                for slot in slots {
                    if slot.key == key || matches!(slot.state, WindowState::Waiting) {
                        let cuts = self.new_slots(cut(slot.window, 1, Some(longest)));
                        self.slots.extend(cuts);
                    } else {
                        self.slots.push_back(slot);
                    }
                }
            }
            WindowOutcome::Failed(error) => {
                let may_pass = matches!(
                    error.kind(),
                    ErrorKind::Timeout | ErrorKind::Transport | ErrorKind::Connect
                ) || matches!(error.status(), Some(408 | 429 | 500..=599));
                if self.concurrency == 1 || !may_pass {
                    return Err(error);
                }
                // The load may have been too high, so the remaining windows are read one at a time.
                tracing::debug!(%error, "the rest of a history is read one window at a time");
                self.concurrency = 1;
                self.options.concurrent_windows = 1;
                self.running = FuturesUnordered::new();
                for slot in &mut self.slots {
                    if matches!(slot.state, WindowState::Running) {
                        slot.state = WindowState::Waiting;
                    }
                }
            }
        }
        Ok(())
    }

    fn raise_concurrency(&mut self) {
        self.concurrency = self.options.concurrent_windows.max(1);
    }

    /// Returns whether the partner ignores the dates of a request.
    ///
    /// Two parts that do not overlap cannot both contain the whole.
    fn ignores_dates(&mut self, window: Window, total: u64) -> bool {
        let Some(whole) = self.whole_total else {
            if window == self.range {
                self.whole_total = Some(total);
            }
            return false;
        };
        if total < whole {
            return false;
        }
        let apart = |other: &Window| other.end() < window.start() || window.end() < other.start();
        let ignored = self.parts_as_large_as_whole.iter().any(apart);
        self.parts_as_large_as_whole.push(window);
        ignored
    }

    /// Starts over with the whole range as one window.
    fn read_as_one_window(&mut self) -> Result<(), Error> {
        if self.returned_rows > 0 {
            return Err(changed(self.range, "the parts have more rows than the whole"));
        }
        self.running = FuturesUnordered::new();
        self.cutting = false;
        self.in_parts = false;
        self.options.concurrent_windows = 1;
        self.concurrency = 1;
        self.slots = self.new_slots(vec![self.range]);
        Ok(())
    }

    fn new_slots(&mut self, windows: Vec<Window>) -> VecDeque<WindowSlot> {
        let mut slot = |window| {
            self.next_key += 1;
            WindowSlot { key: self.next_key, window, state: WindowState::Waiting }
        };
        windows.into_iter().map(&mut slot).collect()
    }

    fn replace(&mut self, at: usize, windows: Vec<Window>) {
        let later = self.slots.split_off(at + 1);
        self.slots.pop_back();
        let cuts = self.new_slots(windows);
        self.slots.extend(cuts);
        self.slots.extend(later);
    }

    /// Counts the whole range again at the end.
    ///
    /// Windows that are each consistent may still be inconsistent with each other, if a transaction moved
    /// from one to another meanwhile.
    async fn verify_count(&mut self) -> Result<(), Error> {
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
        let mut counts = stream::iter(counts).buffered(self.concurrency);
        let mut total: u64 = 0;
        while let Some(count) = counts.next().await {
            total = total.saturating_add(count?);
        }
        if total != self.returned_rows {
            let what =
                format!("{} rows were read and the total is now {total}", self.returned_rows);
            return Err(changed(self.range, &what));
        }
        Ok(())
    }
}

/// Reads one window completely.
async fn read(
    mut reader: PageReader,
    cap: Option<u64>,
    total_out: Option<Arc<AtomicU64>>,
) -> WindowOutcome {
    let mut rows = WindowRows::default();
    let mut first = true;
    loop {
        match reader.next().await {
            Ok(Some(PageEvent::Page(page))) => {
                if let Some(total_out) = total_out.as_ref().filter(|_| first) {
                    total_out.store(page.total, Ordering::Relaxed);
                }
                if first && cap.is_some_and(|cap| page.total > cap) {
                    return WindowOutcome::TooMany(page.total);
                }
                first = false;
                rows.set_aside += page.rows_sent() - page.transactions.len() as u64;
                rows.read.extend(page.transactions);
                rows.faults.extend(page.faults);
            }
            Ok(Some(PageEvent::Restart)) => {
                rows = WindowRows::default();
                first = true;
            }
            Ok(None) => return WindowOutcome::Read(rows),
            Err(e) if e.error_id() == Some(error_id::WINDOW_TOO_LONG) => {
                return WindowOutcome::TooLong(e);
            }
            Err(e) => return WindowOutcome::Failed(e),
        }
    }
}

fn changed(range: Window, what: &str) -> Error {
    Error::paging(
        PagingFault::ChangedWhileRead,
        format!("{range} changed while it was read: {what}"),
    )
}
