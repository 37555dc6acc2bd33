//! Notifications to Plaid: one method for each event. No event is lost.
//!
//! A bank calls [`Notifier::transactions`] for each transaction that it books. The call returns
//! once a [`NotificationStore`] has stored the entry. Background tasks collect entries for a moment,
//! merge equal ones, and send batches of at most 2000 until Plaid accepts them.
//!
//! # Failures
//!
//! | failure | the notifier |
//! |---|---|
//! | Plaid is out of reach, fails or responds with 429 | keeps the entries and retries with exponential backoff; respects `Retry-After` |
//! | the bank's program is killed | sends what a persistent store has; an entry may be sent twice (at least once) |
//! | an Item has another token | requests the current token from [`CurrentTokenSource`], if the bank set one, and sends the entry with it |
//! | Plaid refuses one entry, with its index or without | finds it, reports it to [`NotifierObserver::refused`], and sends the others |
//! | Plaid refuses everything | removes nothing, because the fault is elsewhere; waits, and reports [`NotifierObserver::stalled`] |
//! | Plaid refuses the id and secret (401) | the same |
//! | the store refuses entries or is out of reach | returns [`NotifierError`] to the caller |
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
//! // At shutdown:
//! let left = notifier.shutdown(Duration::from_secs(10)).await?;
//! assert_eq!((left, notifier.metrics().accepted), (0, 1));
//! # Ok(())
//! # }
//! ```
//!
//! Contract: `px.md` section 6.

// Modules:
// - `entry`: the entries; `store`: the trait that stores them; `writer`: the task that stores them;
// - `batch`: the batches of entries and their `new_since` (pure);
// - `lane`: the task that sends; `outcome`: the outcome of a failed call (pure);
// - `current_token`: the source of an Item's current token;
// - `observer`: events and metrics of the notifier.

mod batch;
mod current_token;
mod entry;
mod lane;
mod observer;
mod outcome;
mod store;
mod writer;

pub use self::{
    batch::MAX_BATCH_ENTRIES,
    current_token::CurrentTokenSource,
    entry::{Entry, Lane},
    observer::{NotifierMetrics, NotifierObserver, Stall, StallCause},
    store::{MemoryNotificationStore, NotificationStore, StoredEntry},
};

use crate::{error::Source, plaid::PlaidClient};
use futures_util::future::{Either, join_all, select};
use lane::{Phase, Shared, Signals, Worker};
use observer::{Counters, NoObserver};
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
use writer::{MAX_QUEUED_CALLERS, StoreRequest};

/// A client that notifies Plaid of events at the bank.
///
/// Cheap to clone. Its tasks run until [`shutdown`](Self::shutdown), or until the last clone is
/// dropped. Then they try once more to send the stored entries; what Plaid does not accept stays in the
/// store.
#[derive(Clone)]
pub struct Notifier(Arc<Handle>);

struct Handle {
    requests: mpsc::Sender<StoreRequest>,
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
            .field("metrics", &self.metrics())
            .finish_non_exhaustive()
    }
}

/// A builder of a [`Notifier`].
#[derive(Debug)]
#[must_use]
pub struct NotifierBuilder {
    client: PlaidClient,
    store: Arc<dyn NotificationStore>,
    observer: Arc<dyn NotifierObserver>,
    tokens: Option<Arc<dyn CurrentTokenSource>>,
    collect_for: Duration,
    max_backoff: Duration,
}

impl NotifierBuilder {
    /// Sets the store of entries. Default: [`MemoryNotificationStore`].
    pub fn store(mut self, store: Arc<dyn NotificationStore>) -> Self {
        self.store = store;
        self
    }

    /// Sets the observer of the notifier's events. Default: none.
    pub fn observer(mut self, observer: Arc<dyn NotifierObserver>) -> Self {
        self.observer = observer;
        self
    }

    /// Sets the source of an Item's current token, which is used if Plaid refuses the token of an entry.
    /// Without it, such an entry is removed. Default: none.
    pub fn tokens(mut self, tokens: Arc<dyn CurrentTokenSource>) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// Sets the time for which entries are collected after the first one. Default: 100 ms.
    ///
    /// Zero sends each entry at once. A full batch does not wait. The maximum is one minute, because
    /// Plaid expects notifications within two.
    pub fn collect_for(mut self, time: Duration) -> Self {
        self.collect_for = time.min(Duration::from_secs(60));
        self
    }

    /// Sets the maximum delay after failures, unless Plaid requests a longer one. Default: 5 minutes.
    pub fn max_backoff(mut self, time: Duration) -> Self {
        self.max_backoff = time;
        self
    }

    /// Starts the tasks on the current tokio runtime. They send what the store already has.
    ///
    /// # Panics
    /// If called outside of a tokio runtime.
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
            max_backoff: self.max_backoff,
            proven: AtomicBool::new(false),
        });
        let (requests, receiver) = mpsc::channel(MAX_QUEUED_CALLERS);
        let phase = watch::Sender::new(Phase::Open);
        let mut tasks = vec![tokio::spawn(writer::run(receiver, self.store, signals, counters))];
        let random = shared.client.random();
        for lane in Lane::ALL {
            let (shared, phase) = (Arc::clone(&shared), phase.subscribe());
            let worker = Worker { lane, shared, phase, random: Arc::clone(random), failures: 0 };
            tasks.push(tokio::spawn(worker.run()));
        }
        Notifier(Arc::new(Handle { requests, phase, shared, tasks: Mutex::new(tasks) }))
    }
}

impl Notifier {
    /// Returns a builder of a notifier that calls Plaid with this client.
    pub fn builder(client: PlaidClient) -> NotifierBuilder {
        NotifierBuilder {
            client,
            store: Arc::new(MemoryNotificationStore::default()),
            observer: Arc::new(NoObserver),
            tokens: None,
            collect_for: Duration::from_millis(100),
            max_backoff: Duration::from_secs(300),
        }
    }

    /// Notifies Plaid that an account has transactions that were booked at `new_since` or later.
    ///
    /// Call it once the transaction can be read through the bank's API. `new_since` is the time or the date
    /// of the booking. If the token may be replaced before Plaid accepts the notification, name the user:
    /// call [`notify`](Self::notify) with [`Entry::of`].
    ///
    /// # Errors
    /// If the notifier was shut down or the store did not store the entry. The call does not wait for Plaid.
    pub async fn transactions(
        &self,
        access_token: ItemAccessToken,
        account_id: AccountId,
        new_since: impl Into<Iso8601>,
    ) -> Result<(), NotifierError> {
        self.notify(vec![Entry::transactions(access_token, account_id, new_since)]).await
    }

    /// Notifies Plaid that an account was opened, closed or changed, or has a new statement.
    ///
    /// # Errors
    /// If the notifier was shut down or the store did not store the entry. The call does not wait for Plaid.
    pub async fn account(
        &self,
        access_token: ItemAccessToken,
        account_id: AccountId,
        event: AccountEvent,
    ) -> Result<(), NotifierError> {
        self.notify(vec![Entry::account(access_token, account_id, event)]).await
    }

    /// Notifies Plaid that the bank's tokens for an Item were revoked, or must be refreshed now.
    ///
    /// # Errors
    /// If the notifier was shut down or the store did not store the entry. The call does not wait for Plaid.
    pub async fn token(
        &self,
        access_token: ItemAccessToken,
        action: TokenAction,
    ) -> Result<(), NotifierError> {
        self.notify(vec![Entry::token(access_token, action)]).await
    }

    /// Stores and sends several entries. All of them are stored, or none.
    ///
    /// # Errors
    /// If the notifier was shut down or the store did not store them. The call does not wait for Plaid.
    pub async fn notify(&self, entries: Vec<Entry>) -> Result<(), NotifierError> {
        let (caller, stored) = oneshot::channel();
        let request = StoreRequest::Append(entries, caller);
        self.0.requests.send(request).await.map_err(|_| NotifierError::closed())?;
        stored.await.map_err(|_| NotifierError::closed())?
    }

    /// Returns the metrics of the notifier since its start.
    #[must_use]
    pub fn metrics(&self) -> NotifierMetrics {
        self.0.shared.counters.metrics()
    }

    /// Returns the number of entries in the store.
    ///
    /// # Errors
    /// If the store is out of reach.
    pub async fn waiting(&self) -> Result<usize, NotifierError> {
        self.0.shared.store.waiting().await.map_err(NotifierError::store)
    }

    /// Stops accepting entries, sends the stored ones for at most `within`, and ends the tasks.
    ///
    /// Returns the number of entries that are left. They stay in the store, and a later notifier sends
    /// them. With a store in memory they are in [`entries`](MemoryNotificationStore::entries).
    ///
    /// # Errors
    /// If the store cannot count its entries.
    pub async fn shutdown(&self, within: Duration) -> Result<usize, NotifierError> {
        // An error means that it was stopped already.
        let _ = self.0.requests.send(StoreRequest::Stop).await;
        let tasks: Vec<_> = {
            let mut tasks = self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.drain(..).collect()
        };
        let stop: Vec<_> = tasks.iter().map(JoinHandle::abort_handle).collect();
        let over = pin!(self.0.shared.client.clock().sleep(within));
        let mut tasks = tasks.into_iter();
        let writer = tasks.next();
        let ending = pin!(async {
            if let Some(writer) = writer {
                // A task that panicked has ended too.
                let _ = writer.await;
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

/// The error of a notifier: the entry was not stored, or the store is out of reach.
///
/// If an entry was not stored, Plaid is not notified unless the caller tries again.
#[derive(Clone)]
pub struct NotifierError(Arc<Option<Source>>);

impl NotifierError {
    fn closed() -> Self {
        Self(Arc::new(None))
    }

    fn store(source: Source) -> Self {
        Self(Arc::new(Some(source)))
    }

    /// Returns whether the notifier was shut down.
    ///
    /// Otherwise the store refused the entry or is out of reach.
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        self.0.is_none()
    }
}

impl fmt::Display for NotifierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.is_shut_down() {
            true => "the notifier was shut down; the notification was not stored",
            false => "the store of notifications failed; try again",
        })
    }
}

impl fmt::Debug for NotifierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NotifierError").field(&format_args!("{self}")).field(&self.0).finish()
    }
}

impl StdError for NotifierError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        (*self.0).as_ref().map(|source| &**source as _)
    }
}
