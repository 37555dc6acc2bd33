//! The store for many machines: PostgreSQL.
//!
//! Why READ COMMITTED is enough: whatever changes an Item begins by locking its row in `items`,
//! and looks at fence, lease and state in the statement that locks, or after it. A statement
//! that had to wait for the lock looks at the row anew, as it is then. What hangs on an Item is
//! read after its lock, in a later statement, and so as it is then. Two rows are locked at once
//! only in the order of their ids, or without waiting.
//!
//! Schema: `migrations/postgres`. Sharding, clocks and connections: `DESIGN.md`, "Many machines".

/// Makes a call on a connection of its own, within a time limit. On a serialization failure or a
/// deadlock nothing of it was stored, and it is made again from its beginning.
macro_rules! call {
    ($store:expr, $limit:expr, |$db:ident| $call:expr) => {{
        let work = async {
            let mut attempt = 1;
            loop {
                let mut held = $store.hold().await?;
                let result = {
                    let $db = &mut *held.connection;
                    $call.await
                };
                held.done = true;
                drop(held);
                match result {
                    Err(failure) if failure.is_collision() && attempt < MAX_ATTEMPTS => {
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
/// A call of the daily round.
macro_rules! daily {
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
    Fence, ItemRecord, KeyUsage, Leave, Linked, ListedItem, LostTokens, MayRevoke, NewLink,
    NotifyBatch, NotifyOutcome, Overview, PermitLease, PermitShare, QueuedWebhook, ResealPosition,
    Resealed, Result, Review, Revocation, RevocationStart, Ruling, Signal, Signals, Store,
    StoreError, StoreOptions, Ticket, TicketDigest, TicketKind, TransactionPage, TransactionQuery,
    Unlinked, UpdateCount, WebhookSettlement, clock::StoreTime, digests::DigestKey,
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
use px_core::{Clock, SharedClock, SharedClockError};
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

/// The most attempts of a call that meets others.
const MAX_ATTEMPTS: u32 = 10;
/// Delay before the second attempt, at most; it doubles with each further one.
const RETRY_DELAY: Duration = Duration::from_millis(10);
const MAX_RETRY_DELAY: Duration = Duration::from_millis(500);

/// A connection that was idle for longer is checked before it is used.
const IDLE_CHECK: Duration = Duration::from_secs(10);
/// Time limit of that check.
const IDLE_CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// Time limit for ending connections at shutdown.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A store on PostgreSQL. Cheap to clone; any number of machines may use one database.
#[derive(Clone)]
pub struct PostgresStore {
    pool: PgPool,
    options: StoreOptions,
    signals: Signals,
    time: Arc<StoreTime>,
    digest_key: Arc<OnceCell<DigestKey>>,
}

impl PostgresStore {
    /// Connects, with at most so many connections at once, and brings the schema up to date.
    ///
    /// Over a network the URL should say `sslmode=verify-full` (and `sslrootcert=…` for an
    /// authority of one's own): by default TLS is used where the server has it, and not insisted on.
    ///
    /// The settings that the store relies on travel as connection options (`-c name=value` at the
    /// start of a session). A pooler in between must pass them on, or set them for the role.
    ///
    /// # Errors
    /// If the database cannot be reached in time; with [`StoreErrorKind::Schema`](super::StoreErrorKind::Schema) if its schema
    /// belongs to a version that this one cannot work beside; if it belongs to another environment.
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
                    // A connection whose server is gone without a word is replaced.
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
        // A wrong setting shows now and not at the first call.
        call!(store, store.options.call_timeout, |db| store.check(db))?;
        Ok(store)
    }

    async fn check(&self, db: &mut PgConnection) -> Result<(), Failure> {
        Ok(db.ping().await?)
    }

    /// Ends all connections, once they are free, for five seconds at most.
    pub async fn close(&self) {
        let closed = within(&*self.options.clock, CLOSE_TIMEOUT, self.pool.close()).await;
        if closed.is_err() {
            tracing::warn!("connections to the database did not end in time");
        }
    }

    /// The settings of a session that the store relies on, as the server shows them.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub async fn settings(&self) -> Result<Vec<String>> {
        call!(self, self.options.call_timeout, |db| shown_settings(db))
    }

    /// Takes a connection for one call.
    async fn hold(&self) -> Result<Held, Failure> {
        Ok(Held { connection: self.pool.acquire().await?, done: false })
    }

    /// The delay before the next attempt of a call that met another one, with full jitter.
    async fn back_off(&self, attempt: u32) {
        let longest = RETRY_DELAY.saturating_mul(1 << attempt.min(16)).min(MAX_RETRY_DELAY);
        let longest = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
        let delay = Duration::from_micros(self.options.random.below(longest.saturating_add(1)));
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
/// If the call is cut off, the connection is closed: what the server still sends belongs to
/// a statement that nobody waits for.
struct Held {
    connection: PoolConnection<Postgres>,
    done: bool,
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.done {
            self.connection.close_on_drop();
        }
    }
}

/// What every connection begins with, whatever the database or the role says.
///
/// A machine that vanishes within a transaction must not keep Items locked, and the server finds
/// out by keepalives. No statement here is long enough for its compilation to pay off. The server
/// ends a statement soon after its caller has given up.
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

/// Waits for a result, for so long at most.
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
        let linked = daily!(self, |db| self.connect_holder(db, &new))?;
        self.signals.raise_all();
        Ok(linked)
    }

    async fn leave(&self, leave: &Leave) -> Result<Unlinked> {
        let (unlinked, more) = daily!(self, |db| self.disconnect(db, leave))?;
        self.signals.raise_all();
        if more {
            self.clear_leftovers(&leave.item_id).await;
        }
        Ok(unlinked)
    }

    async fn change(&self, change: &ConnectionChange) -> Result<Changed> {
        let changed = daily!(self, |db| self.change_connection(db, change))?;
        self.signals.raise_all();
        Ok(changed)
    }

    async fn connections(&self, item: &ItemId) -> Result<Vec<Connection>> {
        daily!(self, |db| self.read_connections(db, item))
    }

    async fn access(&self, token: &AccessDigest) -> Result<Option<Access>> {
        daily!(self, |db| self.read_access(db, token))
    }

    async fn replace_access(&self, old: &AccessDigest, new: &AccessDigest) -> Result<bool> {
        daily!(self, |db| self.swap_access(db, old, new))
    }

    async fn give_access(
        &self,
        item: &ItemId,
        application: Option<&ApplicationId>,
        new: &AccessDigest,
    ) -> Result<bool> {
        daily!(self, |db| self.grant_access(db, item, application, new))
    }

    async fn activities(
        &self,
        item: &ItemId,
        after: Option<&ActivityId>,
        limit: usize,
    ) -> Result<Option<Vec<Activity>>> {
        daily!(self, |db| self.read_activities(db, item, after, limit))
    }

    async fn note_reads(&self, reads: &[DataRead]) -> Result<()> {
        daily!(self, |db| self.write_reads(db, reads))
    }

    async fn last_reads(&self, item: &ItemId) -> Result<Vec<DataRead>> {
        daily!(self, |db| self.read_reads(db, item))
    }

    async fn put_ticket(&self, ticket: &Ticket) -> Result<()> {
        daily!(self, |db| self.keep_ticket(db, ticket))
    }

    async fn ticket(
        &self,
        digest: &TicketDigest,
        kind: TicketKind,
        now: DateTime<Utc>,
    ) -> Result<Option<Ticket>> {
        daily!(self, |db| self.read_ticket(db, (digest, kind, now)))
    }

    async fn take_ticket(
        &self,
        digest: &TicketDigest,
        kind: TicketKind,
        now: DateTime<Utc>,
    ) -> Result<Option<Ticket>> {
        daily!(self, |db| self.remove_ticket(db, (digest, kind, now)))
    }

    async fn exchange(
        &self,
        digest: &TicketDigest,
        application: &ApplicationId,
        new: &AccessDigest,
        now: DateTime<Utc>,
    ) -> Result<Option<ItemId>> {
        daily!(self, |db| self.exchange_ticket(db, digest, application, new, now))
    }

    async fn purge_tickets(&self, now: DateTime<Utc>, limit: usize) -> Result<u64> {
        daily!(self, |db| self.clear_tickets(db, now, limit))
    }

    async fn item(&self, item: &ItemId) -> Result<Option<ItemRecord>> {
        let record = daily!(self, |db| self.read_item(db, item))?;
        Ok(record.map(|record| self.time.cap().record(record)))
    }

    async fn find(&self, institution: &InstitutionId, user: &UserId) -> Result<Option<ItemId>> {
        daily!(self, |db| self.read_find(db, institution, user))
    }

    async fn accounts(&self, item: &ItemId) -> Result<Vec<KnownAccount>> {
        daily!(self, |db| self.read_accounts(db, item))
    }

    async fn identities(&self, item: &ItemId) -> Result<Option<(IdentityId, Vec<Identity>)>> {
        daily!(self, |db| self.read_identities(db, item))
    }

    async fn securities(&self, item: &ItemId) -> Result<Vec<Security>> {
        daily!(self, |db| self.read_securities(db, item))
    }

    async fn transactions(
        &self,
        item: &ItemId,
        query: &TransactionQuery,
    ) -> Result<TransactionPage> {
        daily!(self, |db| self.read_transactions(db, item, query))
    }

    async fn changes(&self, item: &ItemId, query: &ChangeQuery) -> Result<ChangePage> {
        daily!(self, |db| self.read_changes(db, item, query))
    }

    async fn claim(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<ItemRecord>> {
        let times = self.time.claim(now, lease_until).await?;
        let claimed = daily!(self, |db| self.take_due(db, work::CLAIM, times, limit))?;
        Ok(claimed.into_iter().map(|record| self.time.cap().record(record)).collect())
    }

    async fn claim_refreshes(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<ItemRecord>> {
        let times = self.time.claim(now, lease_until).await?;
        let claimed = daily!(self, |db| self.take_due(db, work::CLAIM_REFRESHES, times, limit))?;
        Ok(claimed.into_iter().map(|record| self.time.cap().record(record)).collect())
    }

    async fn claim_one(
        &self,
        item: &ItemId,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
    ) -> Result<Option<ItemRecord>> {
        let (now, lease_until) = self.time.claim(now, lease_until).await?;
        let claimed = daily!(self, |db| self.take_one(db, item, now, lease_until))?;
        Ok(claimed.map(|record| self.time.cap().record(record)))
    }

    async fn lease_permits(&self, lease: &PermitLease) -> Result<PermitShare> {
        let lease = self.time.cap().permits(lease);
        daily!(self, |db| self.lease(db, &lease))
    }

    async fn update_partner(&self, update: &PartnerUpdate) -> Result<PartnerUpdated> {
        let mut update = update.clone();
        update.now = self.time.cap().now(update.now);
        daily!(self, |db| self.note_partner(db, &update))
    }

    async fn renew(&self, item: &ItemId, fence: Fence, lease_until: DateTime<Utc>) -> Result<bool> {
        let lease_until = self.time.cap().renewed(lease_until);
        daily!(self, |db| self.prolong(db, item, fence, lease_until))
    }

    async fn hand_back(&self, items: &[(ItemId, Fence, DateTime<Utc>)]) -> Result<()> {
        daily!(self, |db| self.give_back(db, items))
    }

    async fn known(
        &self,
        item: &ItemId,
        window: Window,
        ids: &[TransactionId],
    ) -> Result<Vec<KnownTransaction>> {
        let mut known = daily!(self, |db| self.read_known(db, item, window, ids))?;
        self.time.cap().known(&mut known);
        Ok(known)
    }

    async fn commit(&self, mut commit: Commit) -> Result<()> {
        self.time.cap().commit(&mut commit);
        daily!(self, |db| self.store(db, &commit))?;
        self.signals.of_commit(&commit).into_iter().flatten().for_each(Signal::raise);
        Ok(())
    }

    async fn tokens(&self, item: &ItemId) -> Result<Option<(TokenSet, u64)>> {
        daily!(self, |db| self.read_tokens(db, item))
    }

    async fn save_tokens(&self, item: &ItemId, version: u64, tokens: &TokenSet) -> Result<bool> {
        daily!(self, |db| self.replace_tokens(db, item, version, tokens))
    }

    async fn begin_refresh(&self, item: &ItemId, version: u64, now: DateTime<Utc>) -> Result<bool> {
        let now = self.time.cap().now(now);
        daily!(self, |db| self.note_refresh(db, item, version, Some(now)))
    }

    async fn end_refresh(&self, item: &ItemId, version: u64) -> Result<()> {
        daily!(self, |db| self.note_refresh(db, item, version, None)).map(drop)
    }

    async fn claim_revocations(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<Revocation>> {
        let (now, lease_until) = self.time.claim(now, lease_until).await?;
        daily!(self, |db| self.take_revocations(db, now, lease_until, limit))
    }

    async fn begin_revocation(&self, start: RevocationStart<'_>) -> Result<MayRevoke> {
        daily!(self, |db| self.start_revocation(db, start))
    }

    async fn revoke_lost(&self, lost: &LostTokens) -> Result<bool> {
        let queued = daily!(self, |db| self.queue_lost(db, lost))?;
        self.signals.revocations.raise();
        Ok(queued)
    }

    async fn settle_revocation(
        &self,
        revocation: &Revocation,
        again_at: Option<DateTime<Utc>>,
    ) -> Result<()> {
        daily!(self, |db| self.end_revocation(db, revocation, again_at))
    }

    async fn notify(&self, batch: &NotifyBatch) -> Result<NotifyOutcome> {
        let outcome = daily!(self, |db| self.apply(db, batch))?;
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
        daily!(self, |db| self.take_webhooks(db, now, lease_until, limit))
    }

    async fn settle_webhooks(&self, settlements: &[WebhookSettlement]) -> Result<()> {
        daily!(self, |db| self.end_webhooks(db, settlements))
    }

    async fn hand_back_webhooks(&self, webhooks: &[(QueuedWebhook, DateTime<Utc>)]) -> Result<()> {
        daily!(self, |db| self.return_webhooks(db, webhooks))
    }

    async fn reviews(
        &self,
        institution: Option<&InstitutionId>,
        after: Option<&ItemId>,
        limit: usize,
    ) -> Result<Vec<Review>> {
        daily!(self, |db| self.read_reviews(db, institution, after, limit))
    }

    async fn evidence(
        &self,
        institution: &InstitutionId,
        since: DateTime<Utc>,
    ) -> Result<Evidence> {
        daily!(self, |db| self.read_evidence(db, institution, since))
    }

    async fn count_updates(&self, counts: &[UpdateCount]) -> Result<()> {
        daily!(self, |db| self.add_updates(db, counts))
    }

    async fn put_ruling(&self, ruling: &Ruling) -> Result<()> {
        daily!(self, |db| self.write_ruling(db, ruling))
    }

    async fn ruling(&self, institution: &InstitutionId) -> Result<Option<Ruling>> {
        daily!(self, |db| self.read_ruling(db, institution))
    }

    async fn end_ruling(&self, institution: &InstitutionId) -> Result<bool> {
        daily!(self, |db| self.delete_ruling(db, institution))
    }

    async fn overview(&self, now: DateTime<Utc>) -> Result<Overview> {
        call!(self, self.options.bulk_timeout, |db| self.read_overview(db, now))
    }

    async fn list(&self, after: Option<&ItemId>, limit: usize) -> Result<Vec<ListedItem>> {
        daily!(self, |db| self.read_list(db, after, limit))
    }
    async fn purge(&self, removed_before: DateTime<Utc>, limit: usize) -> Result<u64> {
        daily!(self, |db| self.clear_removed(db, removed_before, limit))
    }
    async fn key_usage(&self) -> Result<BTreeMap<String, KeyUsage>> {
        call!(self, self.options.bulk_timeout, |db| self.read_key_usage(db))
    }

    async fn reseal(&self, position: &ResealPosition, limit: usize) -> Result<Resealed> {
        daily!(self, |db| self.reseal_some(db, position, limit))
    }
}
