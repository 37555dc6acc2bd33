//! Tells Plaid what happened at the bank: one function per event, and nothing is lost.
//!
//! A bank calls [`Notifier::transactions`] for each transaction that it books. The call returns
//! once a [`NotificationStore`] has the entry. Tasks of the notifier collect for a moment, make
//! one entry of equal ones, and send at most 2000 in a call until Plaid takes them.
//!
//! # What can go wrong, and what happens
//!
//! | what | what the notifier does |
//! |---|---|
//! | Plaid is out of reach, fails or answers 429 | keeps all, tries again with growing waits, keeps `Retry-After` |
//! | the bank's program is killed | a persistent store has all; what Plaid may have is told again (at least once) |
//! | an Item has another token by now | asks [`PresentToken`], where the bank gave one, and tells it under that |
//! | one entry is refused, its index named or not | finds it, tells [`NotifierObserver::taken_out`], goes on with the rest |
//! | Plaid refuses everything | takes nothing out: the fault is elsewhere. Rests, and tells [`NotifierObserver::stalled`] |
//! | the id and secret are wrong (401) | the same |
//! | the store refuses or is out of reach | the caller gets [`NotKept`] |
//!
//! # Examples
//!
//! Plaid is in the same process here; over the network the transport is `ReqwestTransport::new()?`.
//!
//! ```
//! use px_client::{PlaidClient, notifier::Notifier};
//! use px_core::InProcessTransport;
//! use px_types::{ClientSecret, ItemAccessToken, Timestamp};
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use bytes::Bytes;
//! # use http_body_util::Full;
//! # let a_plaid = tower::service_fn(|_: http::Request<Full<Bytes>>| async {
//! #     http::Response::builder()
//! #         .header("content-type", "application/json")
//! #         .body(Full::new(Bytes::from_static(br#"{"request_id": "r-1"}"#)))
//! # });
//! let plaid = PlaidClient::builder("https://plaid.example", InProcessTransport::new(a_plaid))
//!     .client("the-bank".parse()?, ClientSecret::new("its-secret"))
//!     .build()?;
//! // With `store` it survives a restart.
//! let notifier = Notifier::builder(plaid).start();
//!
//! // Where the bank books a transaction of a customer who connected an application:
//! let token = ItemAccessToken::new("the Item's token, from `import`");
//! let booked_at: Timestamp = "2024-05-06T12:00:00Z".parse()?;
//! notifier.transactions(token, "account-1".parse()?, booked_at).await?;
//!
//! // When the program ends:
//! let left = notifier.shutdown(Duration::from_secs(10)).await?;
//! assert_eq!((left, notifier.figures().accepted), (0, 1));
//! # Ok(())
//! # }
//! ```
//!
//! Contract: `px.md` section 6.

// The parts, for who works on them:
// - `entry`: what is told; `store`: where it is kept; `keep`: how it gets there;
// - `plan`: which entries go into which batch, and its `new_since` (pure);
// - `lane`: the task that sends; `verdict`: what a failed call means (pure);
// - `present`: which token an Item has by now;
// - `observer`: what the notifier tells of itself.

mod entry;
mod keep;
mod lane;
mod observer;
mod plan;
mod present;
mod store;
mod verdict;

pub use self::{
    entry::{Entry, Lane},
    observer::{Figures, NotifierObserver, Stall, StallCause},
    plan::MOST_IN_A_BATCH,
    present::PresentToken,
    store::{Kept, MemoryNotificationStore, NotificationStore},
};

use crate::{error::Source, plaid::PlaidClient};
use futures_util::future::{Either, join_all, select};
use keep::{Ask, QUEUE};
use lane::{Phase, Shared, Signals, Worker};
use observer::{Counters, Nobody};
use px_types::{
    AccountId, ItemAccessToken,
    plaid::{AccountEvent, TokenAction},
    primitive::date::Iso8601,
};
use std::{
    error::Error as StdError,
    fmt,
    pin::pin,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

/// Tells Plaid what happened at the bank.
///
/// Cheap to clone. Its tasks run until [`shutdown`](Self::shutdown), or until the last clone is
/// dropped: then what is kept is tried once more, and what Plaid does not take stays in the store.
#[derive(Clone)]
pub struct Notifier(Arc<Handle>);

struct Handle {
    asks: mpsc::Sender<Ask>,
    phase: watch::Sender<Phase>,
    shared: Arc<Shared>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.phase.send_replace(Phase::Dropped);
    }
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notifier")
            .field("client", &self.0.shared.client)
            .field("store", &self.0.shared.store)
            .field("figures", &self.figures())
            .finish_non_exhaustive()
    }
}

/// Sets up a [`Notifier`].
#[derive(Debug)]
#[must_use]
pub struct NotifierBuilder {
    client: PlaidClient,
    store: Arc<dyn NotificationStore>,
    observer: Arc<dyn NotifierObserver>,
    tokens: Option<Arc<dyn PresentToken>>,
    collect_for: Duration,
    longest_rest: Duration,
}

impl NotifierBuilder {
    /// Keeps entries there; in memory, when no store is given.
    pub fn store(mut self, store: Arc<dyn NotificationStore>) -> Self {
        self.store = store;
        self
    }

    /// Tells what happens.
    pub fn observer(mut self, observer: Arc<dyn NotifierObserver>) -> Self {
        self.observer = observer;
        self
    }

    /// Asks for the present token of an Item whose earlier one Plaid refuses. Without it such an
    /// entry is taken out.
    pub fn tokens(mut self, tokens: Arc<dyn PresentToken>) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// How long entries are collected after the first; 100 ms by default, zero for not at all.
    ///
    /// A full batch does not wait. At most one minute: Plaid wants to hear within two.
    pub fn collect_for(mut self, time: Duration) -> Self {
        self.collect_for = time.min(Duration::from_secs(60));
        self
    }

    /// The longest rest after failures, unless Plaid asks for more; 5 minutes by default.
    pub fn longest_rest(mut self, time: Duration) -> Self {
        self.longest_rest = time;
        self
    }

    /// Starts the tasks, on the tokio runtime that it is called on, and tells what the store
    /// still keeps.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(self) -> Notifier {
        let signals: Arc<[Signals; 3]> = Arc::default();
        let counters: Arc<Counters> = Arc::default();
        let shared = Arc::new(Shared {
            client: self.client,
            store: Arc::clone(&self.store),
            observer: self.observer,
            tokens: self.tokens,
            counters: Arc::clone(&counters),
            signals: Arc::clone(&signals),
            collect_for: self.collect_for,
            longest_rest: self.longest_rest,
            proven: AtomicBool::new(false),
        });
        let (asks, asked) = mpsc::channel(QUEUE);
        let phase = watch::Sender::new(Phase::Open);
        let mut tasks = vec![tokio::spawn(keep::run(asked, self.store, signals, counters))];
        let random = shared.client.random();
        for lane in Lane::ALL {
            let (shared, phase) = (Arc::clone(&shared), phase.subscribe());
            let worker = Worker { lane, shared, phase, random: Arc::clone(random), failures: 0 };
            tasks.push(tokio::spawn(worker.run()));
        }
        Notifier(Arc::new(Handle { asks, phase, shared, tasks: Mutex::new(tasks) }))
    }
}

impl Notifier {
    /// Sets up a notifier that calls Plaid through a client.
    pub fn builder(client: PlaidClient) -> NotifierBuilder {
        NotifierBuilder {
            client,
            store: Arc::new(MemoryNotificationStore::default()),
            observer: Arc::new(Nobody),
            tokens: None,
            collect_for: Duration::from_millis(100),
            longest_rest: Duration::from_secs(300),
        }
    }

    /// An account has transactions that were booked at that moment or later.
    ///
    /// Call it once the transaction can be read through the bank's API. `new_since` is the moment
    /// of the booking, or its date. Where the token may be replaced before Plaid is reached, say
    /// whose it is: [`notify`](Self::notify) with [`Entry::of`].
    ///
    /// # Errors
    /// When it was not kept. Plaid is not waited for.
    pub async fn transactions(
        &self,
        access_token: ItemAccessToken,
        account_id: AccountId,
        new_since: impl Into<Iso8601>,
    ) -> Result<(), NotKept> {
        self.notify(vec![Entry::transactions(access_token, account_id, new_since)]).await
    }

    /// An account was opened, closed or changed, or has a new statement.
    ///
    /// # Errors
    /// When it was not kept. Plaid is not waited for.
    pub async fn account(
        &self,
        access_token: ItemAccessToken,
        account_id: AccountId,
        event: AccountEvent,
    ) -> Result<(), NotKept> {
        self.notify(vec![Entry::account(access_token, account_id, event)]).await
    }

    /// The bank's tokens for an Item were revoked, or are to be refreshed now.
    ///
    /// # Errors
    /// When it was not kept. Plaid is not waited for.
    pub async fn token(
        &self,
        access_token: ItemAccessToken,
        action: TokenAction,
    ) -> Result<(), NotKept> {
        self.notify(vec![Entry::token(access_token, action)]).await
    }

    /// Many entries at once, all kept or none.
    ///
    /// # Errors
    /// When they were not kept. Plaid is not waited for.
    pub async fn notify(&self, entries: Vec<Entry>) -> Result<(), NotKept> {
        let (caller, kept) = oneshot::channel();
        let ask = Ask::Keep(entries, caller);
        self.0.asks.send(ask).await.map_err(|_| NotKept::closed())?;
        kept.await.map_err(|_| NotKept::closed())?
    }

    /// What it did since it was started.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.0.shared.counters.figures()
    }

    /// How many entries wait in the store.
    ///
    /// # Errors
    /// When the store is out of reach.
    pub async fn waiting(&self) -> Result<usize, NotKept> {
        self.0.shared.store.waiting().await.map_err(NotKept::store)
    }

    /// Takes no more entries, tells what is kept within a time, and ends.
    ///
    /// Gives the number of entries that are left: they are in the store, which a later notifier
    /// goes on with. With a store in memory they are in
    /// [`entries`](MemoryNotificationStore::entries).
    ///
    /// # Errors
    /// When the store does not say how many it keeps.
    pub async fn shutdown(&self, within: Duration) -> Result<usize, NotKept> {
        // An error says that it was stopped before.
        let _ = self.0.asks.send(Ask::Stop).await;
        let tasks: Vec<_> = {
            let mut tasks = self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.drain(..).collect()
        };
        let stop: Vec<_> = tasks.iter().map(JoinHandle::abort_handle).collect();
        let over = pin!(self.0.shared.client.clock().sleep(within));
        let mut tasks = tasks.into_iter();
        let keeper = tasks.next();
        let ending = pin!(async {
            if let Some(keeper) = keeper {
                // A task that panicked has ended as well.
                let _ = keeper.await;
            }
            self.0.phase.send_replace(Phase::Flush);
            join_all(tasks).await;
        });
        if let Either::Right(_) = select(ending, over).await {
            stop.iter().for_each(tokio::task::AbortHandle::abort);
        }
        self.waiting().await
    }
}

/// Why an entry was not kept: Plaid will not hear of it, unless it is tried again.
#[derive(Clone)]
pub struct NotKept(Arc<Option<Source>>);

impl NotKept {
    fn closed() -> Self {
        Self(Arc::new(None))
    }

    fn store(source: Source) -> Self {
        Self(Arc::new(Some(source)))
    }

    /// Whether the notifier was shut down; else the store refused or is out of reach.
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        self.0.is_none()
    }
}

impl fmt::Display for NotKept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.is_shut_down() {
            true => "the notification was not kept: the notifier was shut down",
            false => "the notification was not kept: the store did not take it; try again",
        })
    }
}

impl fmt::Debug for NotKept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NotKept").field(&format_args!("{self}")).field(&self.0).finish()
    }
}

impl StdError for NotKept {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        (*self.0).as_ref().map(|source| &**source as _)
    }
}
