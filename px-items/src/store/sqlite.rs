//! A store in one SQLite file, for a single machine.
//!
//! A single connection writes. Each of its transactions begins as a writer, so write transactions
//! never conflict. Other connections read the last committed state at the same time. A commit
//! passes its rows as JSON arrays: one for each kind of row, or a few if there are thousands of
//! rows.
//!
//! Data that must be durable is on the disk before the call returns (`synchronous = FULL`): if a
//! power cut reverted a rotated refresh token, the Item would lose its authorization. Concurrent
//! commits share a transaction, and thus the latency of the disk. Claims and leases need not be
//! durable, because a power cut also stops the workers, which all run on this machine.
//!
//! Schema: `migrations/sqlite`.

/// Runs a call with a time limit. A call that exceeds it is rolled back or stored completely.
macro_rules! with_timeout {
    ($owner:expr, $limit:expr, $call:expr) => {{
        let options = &$owner;
        tokio::select! {
            biased;
            result = $call => result.map_err(StoreError::from),
            () = options.clock.sleep($limit) => Err(StoreError::timed_out()),
        }
    }};
}
/// Runs a call of normal operation, with its time limit.
macro_rules! regular {
    ($store:ident, $call:expr) => {
        with_timeout!($store.options, $store.options.call_timeout, $call)
    };
}
mod commit;
mod group_commit;
mod keys;
mod links;
mod log;
mod permits;
#[cfg(test)]
mod plans;
mod purge;
mod queues;
mod reads;
mod review;
mod row;
mod sealed;
mod tickets;
mod tokens;
mod work;

use super::{
    Access, AccessDigest, ChangePage, ChangeQuery, Changed, Commit, ConnectionChange, DataRead,
    Disconnection, Fence, ItemRecord, KeyUsage, Linked, ListedItem, LostTokens, NewLink,
    NotifyBatch, NotifyOutcome, Overview, PermitLease, PermitShare, QueuedWebhook, ResealPosition,
    Resealed, Result, Review, Revocation, RevocationDecision, RevocationStart, Ruling, Signal,
    Signals, Store, StoreError, StoreErrorKind, StoreOptions, Ticket, TicketDigest, TicketKind,
    TransactionPage, TransactionQuery, Unlinked, UpdateCount, WebhookSettlement, clock::StoreTime,
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
use group_commit::WriteQueue;
use px_client::{Window, oauth::TokenSet};
use px_types::{
    ActivityId, ApplicationId, IdentityId, InstitutionId, ItemId, TransactionId, UserId,
    model::{activity::Activity, identity::Identity, security::Security},
    webhook::Environment,
};
use row::Failure;
use sqlx::{
    ConnectOptions as _, Sqlite, SqlitePool, Transaction,
    error::DatabaseError,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{
    collections::BTreeMap,
    error::Error as _,
    fmt,
    path::Path,
    sync::{Arc, LazyLock},
    time::Duration,
};
use tokio::sync::OnceCell;

/// The migrations. Applied migrations of later versions are ignored.
static MIGRATOR: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrator = sqlx::migrate!("migrations/sqlite");
    migrator.set_ignore_missing(true);
    migrator
});

/// Maximum number of connections that read at the same time.
const MAX_READERS: u32 = 4;
/// Page caches of the writer and of each reader, in KiB. The operating system caches more of the
/// file. The sum over five connections is the minimum memory use of a process.
const WRITER_CACHE_KIB: u32 = 8 * 1024;
const READER_CACHE_KIB: u32 = 2 * 1024;
/// Size of the write-ahead log, in pages, at which it is checkpointed into the file. Each update
/// changes pages all over the file; the longer the log, the more of these pages are the same.
const WAL_CHECKPOINT_PAGES: &str = "4000";

/// Delay between two attempts to open a file that another program is creating.
const LOCKED_RETRY_DELAY: Duration = Duration::from_millis(5);

/// Statements that begin a durable transaction: it is on the disk before the call returns.
const BEGIN_DURABLE: &str = "PRAGMA synchronous = FULL; BEGIN IMMEDIATE";
/// Statements that begin a transaction that a power cut may revert, together with all later ones.
const BEGIN_TRANSIENT: &str = "PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE";

/// A store in one SQLite file. Cheap to clone.
///
/// Every method can fail as described for [`Store`].
#[derive(Clone)]
pub struct SqliteStore {
    writer: SqlitePool,
    write_queue: Arc<WriteQueue>,
    readers: SqlitePool,
    options: StoreOptions,
    signals: Signals,
    time: Arc<StoreTime>,
    digest_key: Arc<OnceCell<DigestKey>>,
}

impl SqliteStore {
    /// Opens a file, creates it if it does not exist, and migrates its schema.
    ///
    /// Several processes of one machine can use the same file. They wait for each other's commits.
    ///
    /// # Errors
    /// - [`StoreErrorKind::Schema`] if the schema belongs to a newer version or another build.
    /// - [`StoreErrorKind::Environment`] if the file belongs to another environment.
    /// - [`StoreErrorKind::Unavailable`] or [`StoreErrorKind::TimedOut`] if the file cannot be
    ///   used.
    pub async fn open(file: impl AsRef<Path>, options: StoreOptions) -> Result<Self> {
        let connect = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let writer =
            with_timeout!(options, options.call_timeout, open_writer(connect.clone(), &options))?;
        with_timeout!(options, options.bulk_timeout, migrate(&writer, &options.environment))?;
        if options.shared_clock.is_none() {
            with_timeout!(
                options,
                options.bulk_timeout,
                end_leases_ahead(&writer, options.clock.now())
            )?;
        }
        let readers = pool(connect, MAX_READERS, READER_CACHE_KIB, &options).await?;
        Ok(Self::from_pools(writer, readers, options))
    }

    /// Creates a store in memory. It is lost when the process ends.
    ///
    /// # Errors
    /// If SQLite cannot create the database.
    pub async fn in_memory(options: StoreOptions) -> Result<Self> {
        let connect = SqliteConnectOptions::new().in_memory(true);
        let writer = pool(connect, 1, WRITER_CACHE_KIB, &options).await?;
        migrate(&writer, &options.environment).await?;
        Ok(Self::from_pools(writer.clone(), writer, options))
    }

    fn from_pools(writer: SqlitePool, readers: SqlitePool, options: StoreOptions) -> Self {
        let (write_queue, signals, digest_key) =
            (Arc::default(), Signals::default(), Arc::default());
        let time = Arc::new(options.local_time());
        Self { writer, write_queue, readers, options, signals, time, digest_key }
    }

    /// Closes all connections, once the running calls have finished.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, Failure> {
        Ok(self.writer.begin_with(BEGIN_DURABLE).await?)
    }

    async fn begin_transient(&self) -> Result<Transaction<'static, Sqlite>, Failure> {
        Ok(self.writer.begin_with(BEGIN_TRANSIENT).await?)
    }
}

/// Opens the first connection of a process, and creates the file if it does not exist.
///
/// When SQLite switches a new file to a write-ahead log, it does not wait for other programs. If
/// two programs create the file at the same time, one of them fails and retries here.
async fn open_writer(connect: SqliteConnectOptions, options: &StoreOptions) -> Result<SqlitePool> {
    loop {
        match pool(connect.clone(), 1, WRITER_CACHE_KIB, options).await {
            Err(error) if is_locked(&error) => options.clock.sleep(LOCKED_RETRY_DELAY).await,
            opened => return opened,
        }
    }
}

/// Returns whether another program has locked the file (`SQLITE_BUSY`).
fn is_locked(error: &StoreError) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<sqlx::Error>());
    let code = source.and_then(sqlx::Error::as_database_error).and_then(DatabaseError::code);
    code.is_some_and(|code| code == "5")
}

async fn pool(
    connect: SqliteConnectOptions,
    max_connections: u32,
    cache_kib: u32,
    options: &StoreOptions,
) -> Result<SqlitePool> {
    let connect = connect
        .busy_timeout(options.call_timeout)
        .statement_cache_capacity(128)
        .pragma("cache_size", format!("-{cache_kib}"))
        .pragma("temp_store", "memory")
        .pragma("wal_autocheckpoint", WAL_CHECKPOINT_PAGES)
        .disable_statement_logging();
    // A connection in memory is the database itself, so it must not be closed when it is idle.
    let pool = SqlitePoolOptions::new()
        .max_connections(max_connections)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(options.call_timeout)
        .test_before_acquire(false)
        .connect_with(connect)
        .await
        .map_err(Failure::from)?;
    Ok(pool)
}

/// Migrates the schema. As with PostgreSQL, it may belong to a later version.
async fn migrate(pool: &SqlitePool, environment: &Environment) -> Result<(), Failure> {
    let mut migrated = MIGRATOR.run(pool).await;
    // Another program may have applied the same migration at the same time. Then it is done, and
    // the next attempt finds it applied.
    for _ in 0..MIGRATOR.iter().count() {
        if !matches!(migrated, Err(MigrateError::ExecuteMigration(..))) {
            break;
        }
        migrated = MIGRATOR.run(pool).await;
    }
    migrated.map_err(|error| match error {
        MigrateError::VersionMismatch(version) => StoreError::other_schema(version),
        error => {
            let what = "the schema of the database file cannot be migrated";
            StoreError::new(StoreErrorKind::Unavailable, what).caused_by(error)
        }
    })?;
    let oldest: i64 =
        sqlx::query_scalar("SELECT oldest FROM compatibility").fetch_one(pool).await?;
    let known = MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or_default();
    if known < oldest {
        return Err(StoreError::newer_schema(known, oldest).into());
    }
    // If two programs open the file at the same time, the first one decides.
    let own = "UPDATE compatibility SET environment = ? WHERE environment IS NULL";
    sqlx::query(own).bind(environment.as_str()).execute(pool).await?;
    let owner: String =
        sqlx::query_scalar("SELECT environment FROM compatibility").fetch_one(pool).await?;
    Ok(StoreError::check_environment(&owner, environment)?)
}

/// Ends leases that last longer than any lease should. They were claimed while this machine's clock
/// was ahead, and their workers no longer run.
async fn end_leases_ahead(pool: &SqlitePool, now: DateTime<Utc>) -> Result<(), Failure> {
    let sql = "UPDATE items SET leased_until = ?1 WHERE leased_until > ?2 AND item_id IN \
               (SELECT item_id FROM items WHERE wake_at > ?2 AND state IN ('created', 'updating'))";
    let latest = now + StoreTime::MAX_LEASE;
    let query = sqlx::query(sql).bind(row::micros(now)).bind(row::micros(latest));
    query.execute(pool).await?;
    Ok(())
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for SqliteStore {
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
        let linked = regular!(self, self.connect_holder(&new))?;
        self.signals.raise_all();
        Ok(linked)
    }

    async fn leave(&self, leave: &Disconnection) -> Result<Unlinked> {
        let (unlinked, more) = regular!(self, self.disconnect(leave))?;
        self.signals.raise_all();
        if more {
            self.clear_leftovers(&leave.item_id).await;
        }
        Ok(unlinked)
    }

    async fn change(&self, change: &ConnectionChange) -> Result<Changed> {
        let changed = regular!(self, self.change_connection(change))?;
        self.signals.raise_all();
        Ok(changed)
    }

    async fn connections(&self, item: &ItemId) -> Result<Vec<Connection>> {
        regular!(self, commit::connections(&self.readers, item))
    }

    async fn access(&self, token: &AccessDigest) -> Result<Option<Access>> {
        regular!(self, self.read_access(token))
    }

    async fn replace_access(&self, old: &AccessDigest, new: &AccessDigest) -> Result<bool> {
        regular!(self, self.swap_access(old, new))
    }

    async fn set_access(
        &self,
        item: &ItemId,
        application: Option<&ApplicationId>,
        new: &AccessDigest,
    ) -> Result<bool> {
        regular!(self, self.grant_access(item, application, new))
    }

    async fn activities(
        &self,
        item: &ItemId,
        after: Option<&ActivityId>,
        limit: usize,
    ) -> Result<Option<Vec<Activity>>> {
        regular!(self, self.read_activities(item, after, limit))
    }

    async fn record_reads(&self, reads: &[DataRead]) -> Result<()> {
        regular!(self, self.write_reads(reads))
    }

    async fn last_reads(&self, item: &ItemId) -> Result<Vec<DataRead>> {
        regular!(self, self.read_reads(item))
    }

    async fn put_ticket(&self, ticket: &Ticket) -> Result<()> {
        regular!(self, self.save_ticket(ticket))
    }

    async fn ticket(
        &self,
        digest: &TicketDigest,
        kind: TicketKind,
        now: DateTime<Utc>,
    ) -> Result<Option<Ticket>> {
        regular!(self, self.read_ticket((digest, kind, now)))
    }

    async fn take_ticket(
        &self,
        digest: &TicketDigest,
        kind: TicketKind,
        now: DateTime<Utc>,
    ) -> Result<Option<Ticket>> {
        regular!(self, self.remove_ticket((digest, kind, now)))
    }

    async fn exchange(
        &self,
        digest: &TicketDigest,
        application: &ApplicationId,
        new: &AccessDigest,
        now: DateTime<Utc>,
    ) -> Result<Option<ItemId>> {
        regular!(self, self.exchange_ticket(digest, application, new, now))
    }

    async fn purge_tickets(&self, now: DateTime<Utc>, limit: usize) -> Result<u64> {
        regular!(self, self.clear_tickets(now, limit))
    }

    async fn item(&self, item: &ItemId) -> Result<Option<ItemRecord>> {
        let record = regular!(self, self.read_item(item))?;
        Ok(record.map(|record| self.time.cap().record(record)))
    }

    async fn find(&self, institution: &InstitutionId, user: &UserId) -> Result<Option<ItemId>> {
        regular!(self, self.read_find(institution, user))
    }

    async fn accounts(&self, item: &ItemId) -> Result<Vec<KnownAccount>> {
        regular!(self, self.read_accounts(item))
    }

    async fn identities(&self, item: &ItemId) -> Result<Option<(IdentityId, Vec<Identity>)>> {
        regular!(self, self.read_identities(item))
    }

    async fn securities(&self, item: &ItemId) -> Result<Vec<Security>> {
        regular!(self, self.read_securities(item))
    }

    async fn transactions(
        &self,
        item: &ItemId,
        query: &TransactionQuery,
    ) -> Result<TransactionPage> {
        regular!(self, self.read_transactions(item, query))
    }

    async fn changes(&self, item: &ItemId, query: &ChangeQuery) -> Result<ChangePage> {
        regular!(self, self.read_changes(item, query))
    }

    async fn claim(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<ItemRecord>> {
        let times = self.time.claim(now, lease_until).await?;
        let claimed = regular!(self, self.take_due(work::DUE, times, limit))?;
        Ok(claimed.into_iter().map(|record| self.time.cap().record(record)).collect())
    }

    async fn claim_refreshes(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<ItemRecord>> {
        let times = self.time.claim(now, lease_until).await?;
        let claimed = regular!(self, self.take_due(work::REFRESHES, times, limit))?;
        Ok(claimed.into_iter().map(|record| self.time.cap().record(record)).collect())
    }

    async fn claim_one(
        &self,
        item: &ItemId,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
    ) -> Result<Option<ItemRecord>> {
        let (now, lease_until) = self.time.claim(now, lease_until).await?;
        let claimed = regular!(self, self.take_one(item, now, lease_until))?;
        Ok(claimed.map(|record| self.time.cap().record(record)))
    }

    async fn lease_permits(&self, lease: &PermitLease) -> Result<PermitShare> {
        let lease = self.time.cap().permits(lease);
        regular!(self, self.lease(&lease))
    }

    async fn update_partner(&self, update: &PartnerUpdate) -> Result<PartnerUpdated> {
        let mut update = update.clone();
        update.now = self.time.cap().now(update.now);
        regular!(self, self.write_partner(&update))
    }

    async fn renew(&self, item: &ItemId, fence: Fence, lease_until: DateTime<Utc>) -> Result<bool> {
        let lease_until = self.time.cap().renewed(lease_until);
        regular!(self, self.prolong(item, fence, lease_until))
    }

    async fn hand_back(&self, items: &[(ItemId, Fence, DateTime<Utc>)]) -> Result<()> {
        regular!(self, self.give_back(items))
    }

    async fn known(
        &self,
        item: &ItemId,
        window: Window,
        ids: &[TransactionId],
    ) -> Result<Vec<KnownTransaction>> {
        let mut known = regular!(self, self.read_known(item, window, ids))?;
        self.time.cap().known(&mut known);
        Ok(known)
    }

    async fn commit(&self, mut commit: Commit) -> Result<()> {
        self.time.cap().commit(&mut commit);
        let signals = self.signals.of_commit(&commit);
        regular!(self, self.store(commit))?;
        signals.into_iter().flatten().for_each(Signal::raise);
        Ok(())
    }

    async fn tokens(&self, item: &ItemId) -> Result<Option<(TokenSet, u64)>> {
        regular!(self, self.read_tokens(item))
    }

    async fn save_tokens(&self, item: &ItemId, version: u64, tokens: &TokenSet) -> Result<bool> {
        regular!(self, self.replace_tokens(item, version, tokens))
    }

    async fn begin_refresh(&self, item: &ItemId, version: u64, now: DateTime<Utc>) -> Result<bool> {
        let now = self.time.cap().now(now);
        regular!(self, self.record_refresh(item, version, Some(now)))
    }

    async fn end_refresh(&self, item: &ItemId, version: u64) -> Result<()> {
        regular!(self, self.record_refresh(item, version, None)).map(drop)
    }

    async fn claim_revocations(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<Revocation>> {
        let (now, lease_until) = self.time.claim(now, lease_until).await?;
        regular!(self, self.take_revocations(now, lease_until, limit))
    }

    async fn begin_revocation(&self, start: RevocationStart<'_>) -> Result<RevocationDecision> {
        regular!(self, self.start_revocation(start))
    }

    async fn revoke_lost(&self, lost: &LostTokens) -> Result<bool> {
        let queued = regular!(self, self.queue_lost(lost))?;
        self.signals.revocations.raise();
        Ok(queued)
    }

    async fn settle_revocation(
        &self,
        revocation: &Revocation,
        again_at: Option<DateTime<Utc>>,
    ) -> Result<()> {
        regular!(self, self.end_revocation(revocation, again_at))
    }

    async fn notify(&self, batch: &NotifyBatch) -> Result<NotifyOutcome> {
        let outcome = regular!(self, self.apply(batch))?;
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
        regular!(self, self.take_webhooks(now, lease_until, limit))
    }

    async fn settle_webhooks(&self, settlements: &[WebhookSettlement]) -> Result<()> {
        regular!(self, self.end_webhooks(settlements))
    }

    async fn hand_back_webhooks(&self, webhooks: &[(QueuedWebhook, DateTime<Utc>)]) -> Result<()> {
        regular!(self, self.return_webhooks(webhooks))
    }

    async fn reviews(
        &self,
        institution: Option<&InstitutionId>,
        after: Option<&ItemId>,
        limit: usize,
    ) -> Result<Vec<Review>> {
        regular!(self, self.read_reviews(institution, after, limit))
    }

    async fn evidence(
        &self,
        institution: &InstitutionId,
        since: DateTime<Utc>,
    ) -> Result<Evidence> {
        regular!(self, self.read_evidence(institution, since))
    }

    async fn count_updates(&self, counts: &[UpdateCount]) -> Result<()> {
        regular!(self, self.add_updates(counts))
    }

    async fn put_ruling(&self, ruling: &Ruling) -> Result<()> {
        regular!(self, self.write_ruling(ruling))
    }

    async fn ruling(&self, institution: &InstitutionId) -> Result<Option<Ruling>> {
        regular!(self, self.read_ruling(institution))
    }

    async fn end_ruling(&self, institution: &InstitutionId) -> Result<bool> {
        regular!(self, self.delete_ruling(institution))
    }

    async fn overview(&self, now: DateTime<Utc>) -> Result<Overview> {
        with_timeout!(self.options, self.options.bulk_timeout, self.read_overview(now))
    }

    async fn list(&self, after: Option<&ItemId>, limit: usize) -> Result<Vec<ListedItem>> {
        regular!(self, self.read_list(after, limit))
    }
    async fn purge(&self, removed_before: DateTime<Utc>, limit: usize) -> Result<u64> {
        regular!(self, self.clear_removed(removed_before, limit))
    }
    async fn key_usage(&self) -> Result<BTreeMap<String, KeyUsage>> {
        with_timeout!(self.options, self.options.bulk_timeout, self.read_key_usage())
    }

    async fn reseal(&self, position: &ResealPosition, limit: usize) -> Result<Resealed> {
        regular!(self, self.reseal_some(position, limit))
    }
}
