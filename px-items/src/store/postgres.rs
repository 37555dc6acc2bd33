//! A store on PostgreSQL, for any number of machines.
//!
//! Isolation level: READ COMMITTED is sufficient. Every change of an Item first locks its row in
//! `items`, and checks fencing token, lease and state in the locking statement or after it. A
//! statement that had to wait for the lock checks the new version of the row. Dependent rows are
//! read after the lock, in a later statement, and are therefore current. Two rows are locked
//! together only in the order of their ids, or without waiting.
//!
//! Schema: `migrations/postgres`. For sharding, clocks and connections see `DESIGN.md`, "Many
//! machines".

/// Runs a call on a connection of its own, within a time limit. After a serialization failure or a
/// deadlock nothing was stored, and the call is retried from the beginning.
macro_rules! call {
    ($store:expr, $limit:expr, |$db:ident| $call:expr) => {{
        let work = async {
            let mut attempt = 1;
            loop {
                let mut lease = $store.acquire().await?;
                let result = {
                    let $db = &mut *lease.connection;
                    $call.await
                };
                lease.done = true;
                drop(lease);
                match result {
                    Err(failure) if failure.is_retryable() && attempt < MAX_ATTEMPTS => {
                        $store.back_off(attempt).await;
                        attempt += 1;
                    }
                    result => break result.map_err(StoreError::from),
                }
            }
        };
        within(&*$store.options.clock, $limit, work).await?
    }};
}
/// Runs a call of normal operation, with its time limit.
macro_rules! regular {
    ($store:ident, |$db:ident| $call:expr) => {
        call!($store, $store.options.call_timeout, |$db| $call)
    };
}
mod commit;
mod failure;
mod keys;
mod links;
mod log;
mod notify;
mod permits;
mod purge;
mod queues;
mod reads;
mod review;
mod row;
mod schema;
mod sealed;
mod tickets;
mod time;
mod tokens;
mod work;

use super::{
    Access, AccessDigest, ChangePage, ChangeQuery, Changed, Commit, ConnectionChange, DataRead,
    Disconnection, Fence, ItemRecord, KeyUsage, Linked, ListedItem, LostTokens, NewLink,
    NotifyBatch, NotifyOutcome, Overview, PermitLease, PermitShare, QueuedWebhook, ResealPosition,
    Resealed, Result, Review, Revocation, RevocationDecision, RevocationStart, Ruling, Signal,
    Signals, Store, StoreError, StoreOptions, Ticket, TicketDigest, TicketKind, TransactionPage,
    TransactionQuery, Unlinked, UpdateCount, WebhookSettlement, clock::StoreTime,
    digests::DigestKey,
};
use crate::{
    connection::Connection,
    merge::{KnownAccount, KnownTransaction},
    partners::{PartnerUpdate, PartnerUpdated},
    review::Evidence,
};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use failure::Failure;
use px_client::{Window, oauth::TokenSet};
use px_core::{Clock, SharedClock, SharedClockError, backoff::Backoff};
use px_types::{
    ActivityId, ApplicationId, IdentityId, InstitutionId, ItemId, TransactionId, UserId,
    model::{activity::Activity, identity::Identity, security::Security},
    webhook::Environment,
};
#[cfg(all(feature = "testing", unix))]
pub(crate) use schema::MIGRATOR;
use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection, PgPool, Postgres,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::{collections::BTreeMap, fmt, future::Future, sync::Arc, time::Duration};
use tokio::sync::OnceCell;
use url::Url;

/// Maximum number of attempts of a call that conflicts with others.
const MAX_ATTEMPTS: u32 = 10;
/// Maximum delay before the second attempt. It doubles with each further attempt.
const RETRY_BACKOFF: Backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(500));

/// Idle time after which a connection is checked before use.
const IDLE_CHECK: Duration = Duration::from_secs(10);
/// Time limit of this check.
const IDLE_CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// Time limit for closing connections at shutdown.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A store on PostgreSQL. Cheap to clone. Any number of machines can use one database.
///
/// Every method can fail as described for [`Store`].
#[derive(Clone)]
pub struct PostgresStore {
    pool: PgPool,
    options: StoreOptions,
    signals: Signals,
    time: Arc<StoreTime>,
    digest_key: Arc<OnceCell<DigestKey>>,
}

impl PostgresStore {
    /// Connects with at most `connections` connections, and migrates the schema.
    ///
    /// For a database on the network, set `sslmode=verify-full` in the URL (and `sslrootcert=…` for
    /// a private certificate authority). By default TLS is used if the server supports it, but is
    /// not required.
    ///
    /// Required session settings are sent as connection options (`-c name=value` at the start of a
    /// session). A pooler in between must forward them, or the role must have them.
    ///
    /// # Errors
    /// - [`StoreErrorKind::Schema`](super::StoreErrorKind::Schema) if the schema belongs to a
    ///   version that this one cannot work beside.
    /// - [`StoreErrorKind::Environment`](super::StoreErrorKind::Environment) if the database
    ///   belongs to another environment.
    /// - [`StoreErrorKind::Unavailable`](super::StoreErrorKind::Unavailable) or
    ///   [`StoreErrorKind::TimedOut`](super::StoreErrorKind::TimedOut) if the database cannot be
    ///   reached in time.
    pub async fn connect(url: &Url, connections: u32, options: StoreOptions) -> Result<Self> {
        let connect = PgConnectOptions::from_url(url).map_err(Failure::from)?;
        let connect = connect.application_name("px-items").disable_statement_logging();
        let migrating = connect.clone().options(settings(options.bulk_timeout));
        let migrated = schema::migrate(&migrating, &options.environment);
        within(&*options.clock, options.bulk_timeout, migrated).await??;
        let clock = Arc::clone(&options.clock);
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(options.call_timeout)
            .test_before_acquire(false)
            .before_acquire(move |connection, meta| {
                let clock = Arc::clone(&clock);
                Box::pin(async move {
                    if meta.idle_for <= IDLE_CHECK {
                        return Ok(true);
                    }
                    // Replaces a connection to a server that disappeared without closing it.
                    let alive = within(&*clock, IDLE_CHECK_TIMEOUT, connection.ping()).await;
                    Ok(matches!(alive, Ok(Ok(()))))
                })
            })
            .connect_lazy_with(connect.options(settings(options.call_timeout)));
        let database: Arc<dyn SharedClock> = Arc::new(DatabaseClock {
            pool: pool.clone(),
            clock: Arc::clone(&options.clock),
            timeout: options.call_timeout,
        });
        let shared = options.shared_clock.clone().unwrap_or(database);
        let time = Arc::new(StoreTime::shared(shared, Arc::clone(&options.clock)));
        let (signals, digest_key) = (Signals::default(), Arc::default());
        let store = Self { pool, options, signals, time, digest_key };
        // Wrong settings are detected here, and not by the first call.
        call!(store, store.options.call_timeout, |db| store.check(db))?;
        Ok(store)
    }

    async fn check(&self, db: &mut PgConnection) -> Result<(), Failure> {
        Ok(db.ping().await?)
    }

    /// Closes all connections once they are idle. Waits at most five seconds.
    pub async fn close(&self) {
        let closed = within(&*self.options.clock, CLOSE_TIMEOUT, self.pool.close()).await;
        if closed.is_err() {
            tracing::warn!("connections to the database were not closed in time");
        }
    }

    /// Returns the required settings of a session, as the server shows them.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub async fn settings(&self) -> Result<Vec<String>> {
        call!(self, self.options.call_timeout, |db| shown_settings(db))
    }

    /// Acquires a connection for one call.
    async fn acquire(&self) -> Result<CallConnection, Failure> {
        Ok(CallConnection { connection: self.pool.acquire().await?, done: false })
    }

    /// Waits before the next attempt of a call that conflicted with another one. The delay has full
    /// jitter.
    async fn back_off(&self, attempt: u32) {
        let delay = RETRY_BACKOFF.full_jitter(attempt.saturating_add(1), &*self.options.random);
        self.options.clock.sleep(delay).await;
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("connections", &self.pool.size())
            .finish_non_exhaustive()
    }
}

/// The clock of the database server.
#[derive(Debug)]
struct DatabaseClock {
    pool: PgPool,
    clock: Arc<dyn Clock>,
    timeout: Duration,
}

#[async_trait]
impl SharedClock for DatabaseClock {
    async fn now(&self) -> Result<DateTime<Utc>, SharedClockError> {
        let read = async {
            let row = sqlx::query("SELECT clock_timestamp() AS now").fetch_one(&self.pool).await;
            row::moment(&row?, "now")
        };
        match within(&*self.clock, self.timeout, read).await {
            Ok(Ok(now)) => Ok(now),
            Ok(Err(failure)) => Err(SharedClockError::new(StoreError::from(failure))),
            Err(late) => Err(SharedClockError::new(late)),
        }
    }
}

/// A connection during one call.
///
/// If the call is cancelled, the connection is closed, because the server may still send the result
/// of a statement that is no longer awaited.
struct CallConnection {
    connection: PoolConnection<Postgres>,
    done: bool,
}

impl Drop for CallConnection {
    fn drop(&mut self) {
        if !self.done {
            self.connection.close_on_drop();
        }
    }
}

/// Returns the settings of every connection, regardless of those of the database or the role.
///
/// A machine that disappears within a transaction must not keep Items locked; the server detects
/// this by keepalives. JIT compilation does not pay off for these short statements. The server
/// cancels a statement soon after its caller has timed out.
fn settings(statement_timeout: Duration) -> [(&'static str, String); 8] {
    let end = (statement_timeout + Duration::from_secs(1)).as_millis();
    [
        ("default_transaction_isolation", "read committed".to_owned()),
        ("synchronous_commit", "on".to_owned()),
        ("idle_in_transaction_session_timeout", "60s".to_owned()),
        ("statement_timeout", format!("{end}ms")),
        ("tcp_keepalives_idle", "30".to_owned()),
        ("tcp_keepalives_interval", "10".to_owned()),
        ("tcp_keepalives_count", "3".to_owned()),
        ("jit", "off".to_owned()),
    ]
}

#[cfg(feature = "testing")]
async fn shown_settings(db: &mut PgConnection) -> Result<Vec<String>, Failure> {
    let sql = "SELECT unnest(ARRAY[current_setting('default_transaction_isolation'), \
               current_setting('synchronous_commit'), current_setting('statement_timeout'), \
               current_setting('idle_in_transaction_session_timeout'), current_setting('jit')])";
    Ok(sqlx::query_scalar(sql).fetch_all(db).await?)
}

/// Waits for a result up to a time limit.
async fn within<T>(clock: &dyn Clock, limit: Duration, work: impl Future<Output = T>) -> Result<T> {
    tokio::select! {
        biased;
        result = work => Ok(result),
        () = clock.sleep(limit) => Err(StoreError::timed_out()),
    }
}

#[async_trait]
impl Store for PostgresStore {
    fn signals(&self) -> &Signals {
        &self.signals
    }

    fn environment(&self) -> &Environment {
        &self.options.environment
    }

    async fn time(&self) -> Result<Option<DateTime<Utc>>> {
        self.time.now().await.map(Some)
    }

    async fn link(&self, new: NewLink) -> Result<Linked> {
        let linked = regular!(self, |db| self.connect_holder(db, &new))?;
        self.signals.raise_all();
        Ok(linked)
    }

    async fn leave(&self, leave: &Disconnection) -> Result<Unlinked> {
        let (unlinked, more) = regular!(self, |db| self.disconnect(db, leave))?;
        self.signals.raise_all();
        if more {
            self.clear_leftovers(&leave.item_id).await;
        }
        Ok(unlinked)
    }

    async fn change(&self, change: &ConnectionChange) -> Result<Changed> {
        let changed = regular!(self, |db| self.change_connection(db, change))?;
        self.signals.raise_all();
        Ok(changed)
    }

    async fn connections(&self, item: &ItemId) -> Result<Vec<Connection>> {
        regular!(self, |db| self.read_connections(db, item))
    }

    async fn access(&self, token: &AccessDigest) -> Result<Option<Access>> {
        regular!(self, |db| self.read_access(db, token))
    }

    async fn replace_access(&self, old: &AccessDigest, new: &AccessDigest) -> Result<bool> {
        regular!(self, |db| self.swap_access(db, old, new))
    }

    async fn set_access(
        &self,
        item: &ItemId,
        application: Option<&ApplicationId>,
        new: &AccessDigest,
    ) -> Result<bool> {
        regular!(self, |db| self.grant_access(db, item, application, new))
    }

    async fn activities(
        &self,
        item: &ItemId,
        after: Option<&ActivityId>,
        limit: usize,
    ) -> Result<Option<Vec<Activity>>> {
        regular!(self, |db| self.read_activities(db, item, after, limit))
    }

    async fn record_reads(&self, reads: &[DataRead]) -> Result<()> {
        regular!(self, |db| self.write_reads(db, reads))
    }

    async fn last_reads(&self, item: &ItemId) -> Result<Vec<DataRead>> {
        regular!(self, |db| self.read_reads(db, item))
    }

    async fn put_ticket(&self, ticket: &Ticket) -> Result<()> {
        regular!(self, |db| self.save_ticket(db, ticket))
    }

    async fn ticket(
        &self,
        digest: &TicketDigest,
        kind: TicketKind,
        now: DateTime<Utc>,
    ) -> Result<Option<Ticket>> {
        regular!(self, |db| self.read_ticket(db, (digest, kind, now)))
    }

    async fn take_ticket(
        &self,
        digest: &TicketDigest,
        kind: TicketKind,
        now: DateTime<Utc>,
    ) -> Result<Option<Ticket>> {
        regular!(self, |db| self.remove_ticket(db, (digest, kind, now)))
    }

    async fn exchange(
        &self,
        digest: &TicketDigest,
        application: &ApplicationId,
        new: &AccessDigest,
        now: DateTime<Utc>,
    ) -> Result<Option<ItemId>> {
        regular!(self, |db| self.exchange_ticket(db, digest, application, new, now))
    }

    async fn purge_tickets(&self, now: DateTime<Utc>, limit: usize) -> Result<u64> {
        regular!(self, |db| self.clear_tickets(db, now, limit))
    }

    async fn item(&self, item: &ItemId) -> Result<Option<ItemRecord>> {
        let record = regular!(self, |db| self.read_item(db, item))?;
        Ok(record.map(|record| self.time.cap().record(record)))
    }

    async fn find(&self, institution: &InstitutionId, user: &UserId) -> Result<Option<ItemId>> {
        regular!(self, |db| self.read_find(db, institution, user))
    }

    async fn accounts(&self, item: &ItemId) -> Result<Vec<KnownAccount>> {
        regular!(self, |db| self.read_accounts(db, item))
    }

    async fn identities(&self, item: &ItemId) -> Result<Option<(IdentityId, Vec<Identity>)>> {
        regular!(self, |db| self.read_identities(db, item))
    }

    async fn securities(&self, item: &ItemId) -> Result<Vec<Security>> {
        regular!(self, |db| self.read_securities(db, item))
    }

    async fn transactions(
        &self,
        item: &ItemId,
        query: &TransactionQuery,
    ) -> Result<TransactionPage> {
        regular!(self, |db| self.read_transactions(db, item, query))
    }

    async fn changes(&self, item: &ItemId, query: &ChangeQuery) -> Result<ChangePage> {
        regular!(self, |db| self.read_changes(db, item, query))
    }

    async fn claim(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<ItemRecord>> {
        let times = self.time.claim(now, lease_until).await?;
        let claimed = regular!(self, |db| self.take_due(db, work::CLAIM, times, limit))?;
        Ok(claimed.into_iter().map(|record| self.time.cap().record(record)).collect())
    }

    async fn claim_refreshes(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<ItemRecord>> {
        let times = self.time.claim(now, lease_until).await?;
        let claimed = regular!(self, |db| self.take_due(db, work::CLAIM_REFRESHES, times, limit))?;
        Ok(claimed.into_iter().map(|record| self.time.cap().record(record)).collect())
    }

    async fn claim_one(
        &self,
        item: &ItemId,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
    ) -> Result<Option<ItemRecord>> {
        let (now, lease_until) = self.time.claim(now, lease_until).await?;
        let claimed = regular!(self, |db| self.take_one(db, item, now, lease_until))?;
        Ok(claimed.map(|record| self.time.cap().record(record)))
    }

    async fn lease_permits(&self, lease: &PermitLease) -> Result<PermitShare> {
        let lease = self.time.cap().permits(lease);
        regular!(self, |db| self.lease(db, &lease))
    }

    async fn update_partner(&self, update: &PartnerUpdate) -> Result<PartnerUpdated> {
        let mut update = update.clone();
        update.now = self.time.cap().now(update.now);
        regular!(self, |db| self.write_partner(db, &update))
    }

    async fn renew(&self, item: &ItemId, fence: Fence, lease_until: DateTime<Utc>) -> Result<bool> {
        let lease_until = self.time.cap().renewed(lease_until);
        regular!(self, |db| self.prolong(db, item, fence, lease_until))
    }

    async fn hand_back(&self, items: &[(ItemId, Fence, DateTime<Utc>)]) -> Result<()> {
        regular!(self, |db| self.give_back(db, items))
    }

    async fn known(
        &self,
        item: &ItemId,
        window: Window,
        ids: &[TransactionId],
    ) -> Result<Vec<KnownTransaction>> {
        let mut known = regular!(self, |db| self.read_known(db, item, window, ids))?;
        self.time.cap().known(&mut known);
        Ok(known)
    }

    async fn commit(&self, mut commit: Commit) -> Result<()> {
        self.time.cap().commit(&mut commit);
        regular!(self, |db| self.store(db, &commit))?;
        self.signals.of_commit(&commit).into_iter().flatten().for_each(Signal::raise);
        Ok(())
    }

    async fn tokens(&self, item: &ItemId) -> Result<Option<(TokenSet, u64)>> {
        regular!(self, |db| self.read_tokens(db, item))
    }

    async fn save_tokens(&self, item: &ItemId, version: u64, tokens: &TokenSet) -> Result<bool> {
        regular!(self, |db| self.replace_tokens(db, item, version, tokens))
    }

    async fn begin_refresh(&self, item: &ItemId, version: u64, now: DateTime<Utc>) -> Result<bool> {
        let now = self.time.cap().now(now);
        regular!(self, |db| self.record_refresh(db, item, version, Some(now)))
    }

    async fn end_refresh(&self, item: &ItemId, version: u64) -> Result<()> {
        regular!(self, |db| self.record_refresh(db, item, version, None)).map(drop)
    }

    async fn claim_revocations(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<Revocation>> {
        let (now, lease_until) = self.time.claim(now, lease_until).await?;
        regular!(self, |db| self.take_revocations(db, now, lease_until, limit))
    }

    async fn begin_revocation(&self, start: RevocationStart<'_>) -> Result<RevocationDecision> {
        regular!(self, |db| self.start_revocation(db, start))
    }

    async fn revoke_lost(&self, lost: &LostTokens) -> Result<bool> {
        let queued = regular!(self, |db| self.queue_lost(db, lost))?;
        self.signals.revocations.raise();
        Ok(queued)
    }

    async fn settle_revocation(
        &self,
        revocation: &Revocation,
        again_at: Option<DateTime<Utc>>,
    ) -> Result<()> {
        regular!(self, |db| self.end_revocation(db, revocation, again_at))
    }

    async fn notify(&self, batch: &NotifyBatch) -> Result<NotifyOutcome> {
        let outcome = regular!(self, |db| self.apply(db, batch))?;
        if outcome == NotifyOutcome::Applied {
            self.signals.items.raise();
            self.signals.outbox.raise();
        }
        Ok(outcome)
    }

    async fn claim_webhooks(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<QueuedWebhook>> {
        let (now, lease_until) = self.time.claim(now, lease_until).await?;
        regular!(self, |db| self.take_webhooks(db, now, lease_until, limit))
    }

    async fn settle_webhooks(&self, settlements: &[WebhookSettlement]) -> Result<()> {
        regular!(self, |db| self.end_webhooks(db, settlements))
    }

    async fn hand_back_webhooks(&self, webhooks: &[(QueuedWebhook, DateTime<Utc>)]) -> Result<()> {
        regular!(self, |db| self.return_webhooks(db, webhooks))
    }

    async fn reviews(
        &self,
        institution: Option<&InstitutionId>,
        after: Option<&ItemId>,
        limit: usize,
    ) -> Result<Vec<Review>> {
        regular!(self, |db| self.read_reviews(db, institution, after, limit))
    }

    async fn evidence(
        &self,
        institution: &InstitutionId,
        since: DateTime<Utc>,
    ) -> Result<Evidence> {
        regular!(self, |db| self.read_evidence(db, institution, since))
    }

    async fn count_updates(&self, counts: &[UpdateCount]) -> Result<()> {
        regular!(self, |db| self.add_updates(db, counts))
    }

    async fn put_ruling(&self, ruling: &Ruling) -> Result<()> {
        regular!(self, |db| self.write_ruling(db, ruling))
    }

    async fn ruling(&self, institution: &InstitutionId) -> Result<Option<Ruling>> {
        regular!(self, |db| self.read_ruling(db, institution))
    }

    async fn end_ruling(&self, institution: &InstitutionId) -> Result<bool> {
        regular!(self, |db| self.delete_ruling(db, institution))
    }

    async fn overview(&self, now: DateTime<Utc>) -> Result<Overview> {
        call!(self, self.options.bulk_timeout, |db| self.read_overview(db, now))
    }

    async fn list(&self, after: Option<&ItemId>, limit: usize) -> Result<Vec<ListedItem>> {
        regular!(self, |db| self.read_list(db, after, limit))
    }
    async fn purge(&self, removed_before: DateTime<Utc>, limit: usize) -> Result<u64> {
        regular!(self, |db| self.clear_removed(db, removed_before, limit))
    }
    async fn key_usage(&self) -> Result<BTreeMap<String, KeyUsage>> {
        call!(self, self.options.bulk_timeout, |db| self.read_key_usage(db))
    }

    async fn reseal(&self, position: &ResealPosition, limit: usize) -> Result<Resealed> {
        regular!(self, |db| self.reseal_some(db, position, limit))
    }
}
