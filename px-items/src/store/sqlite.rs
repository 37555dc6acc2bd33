//! The embedded store: one SQLite file.
//!
//! One connection writes, each time in a transaction that begins as a writer, so that no two of
//! them ever meet; others read beside it what was committed last. What a commit has in rows goes
//! in as JSON arrays, one for each kind of row, or a few where there are thousands.
//!
//! What must last is on the disk before it is answered (`synchronous = FULL`): a rotated refresh
//! token that a power cut takes back would lose the Item's authorization. Commits that come
//! together share a transaction, and so the time that the disk takes. A claim or a lease need not
//! last: a power cut ends the workers too, who are all on this machine.
//!
//! Schema: `migrations/sqlite`.

/// Makes a call, for so long at most. One that is cut off is taken back, or stored as a whole.
macro_rules! limited {
    ($place:expr, $limit:expr, $call:expr) => {{
        let options = &$place;
        tokio::select! {
            biased;
            result = $call => result.map_err(StoreError::from),
            () = options.clock.sleep($limit) => Err(StoreError::timed_out()),
        }
    }};
}
/// A call of the daily round.
macro_rules! daily {
    ($store:ident, $call:expr) => {
        limited!($store.options, $store.options.call_timeout, $call)
    };
}
mod commit;
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
mod shared;
mod tickets;
mod tokens;
mod work;

use super::{
    Access, AccessDigest, ChangePage, ChangeQuery, Changed, Commit, ConnectionChange, DataRead,
    Fence, ItemRecord, KeyUsage, Leave, Linked, ListedItem, LostTokens, MayRevoke, NewLink,
    NotifyBatch, NotifyOutcome, Overview, PermitLease, PermitShare, QueuedWebhook, ResealPosition,
    Resealed, Result, Review, Revocation, RevocationStart, Ruling, Signal, Signals, Store,
    StoreError, StoreErrorKind, StoreOptions, Ticket, TicketDigest, TicketKind, TransactionPage,
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
use px_client::{Window, oauth::TokenSet};
use px_types::{
    ActivityId, ApplicationId, IdentityId, InstitutionId, ItemId, TransactionId, UserId,
    model::{activity::Activity, identity::Identity, security::Security},
    webhook::Environment,
};
use row::Failure;
use shared::Line;
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

/// The migrations. Those of later versions are not missed.
static MIGRATOR: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrator = sqlx::migrate!("migrations/sqlite");
    migrator.set_ignore_missing(true);
    migrator
});

/// Connections that read at once.
const READERS: u32 = 4;
/// What the writer and each reader keep of the file in memory, in KiB; the machine's own cache
/// has more of it. What five connections keep is what a process takes whatever it does.
const WRITER_CACHE: u32 = 8 * 1024;
const READER_CACHE: u32 = 2 * 1024;
/// Pages of the log after which it is brought into the file. Each update changes pages all over
/// the file; the longer the log, the more of them are the same ones again.
const LOG_PAGES: &str = "4000";

/// Between two attempts to open a file that another program is making.
const LOCKED_PAUSE: Duration = Duration::from_millis(5);

/// How a transaction begins that is on the disk before it is answered.
const LASTING: &str = "PRAGMA synchronous = FULL; BEGIN IMMEDIATE";
/// How one begins that a power cut may take back; what comes after it is lost with it or stays with
/// it.
const PASSING: &str = "PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE";

/// A store in one SQLite file. Cheap to clone.
#[derive(Clone)]
pub struct SqliteStore {
    writer: SqlitePool,
    line: Arc<Line>,
    readers: SqlitePool,
    options: StoreOptions,
    signals: Signals,
    time: Arc<StoreTime>,
    digest_key: Arc<OnceCell<DigestKey>>,
}

impl SqliteStore {
    /// Opens a file, which is made if there is none, and brings its schema up to date.
    ///
    /// Several processes of one machine may use it; each waits for the others' commits.
    ///
    /// # Errors
    /// If the file cannot be used, its schema is of a newer version, or it belongs to another
    /// environment.
    pub async fn open(file: impl AsRef<Path>, options: StoreOptions) -> Result<Self> {
        let connect = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let writer = limited!(options, options.call_timeout, first(connect.clone(), &options))?;
        limited!(options, options.bulk_timeout, migrate(&writer, &options.environment))?;
        if options.shared_clock.is_none() {
            limited!(
                options,
                options.bulk_timeout,
                end_leases_ahead(&writer, options.clock.now())
            )?;
        }
        let readers = pool(connect, READERS, READER_CACHE, &options).await?;
        Ok(Self::over(writer, readers, options))
    }

    /// A store that ends with the process.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub async fn in_memory(options: StoreOptions) -> Result<Self> {
        let connect = SqliteConnectOptions::new().in_memory(true);
        let writer = pool(connect, 1, WRITER_CACHE, &options).await?;
        migrate(&writer, &options.environment).await?;
        Ok(Self::over(writer.clone(), writer, options))
    }

    fn over(writer: SqlitePool, readers: SqlitePool, options: StoreOptions) -> Self {
        let (line, signals, digest_key) = (Arc::default(), Signals::default(), Arc::default());
        let time = Arc::new(options.local_time());
        Self { writer, line, readers, options, signals, time, digest_key }
    }

    /// Ends all connections, once they are free.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, Failure> {
        Ok(self.writer.begin_with(LASTING).await?)
    }

    async fn begin_passing(&self) -> Result<Transaction<'static, Sqlite>, Failure> {
        Ok(self.writer.begin_with(PASSING).await?)
    }
}

/// The first connection of a process to a file, which makes the file if there is none.
///
/// SQLite does not wait for another program when it changes a new file to a write-ahead log: of two
/// programs that make a file at once, one is refused, and tries again here.
async fn first(connect: SqliteConnectOptions, options: &StoreOptions) -> Result<SqlitePool> {
    loop {
        match pool(connect.clone(), 1, WRITER_CACHE, options).await {
            Err(error) if is_locked(&error) => options.clock.sleep(LOCKED_PAUSE).await,
            opened => return opened,
        }
    }
}

/// Whether another program has the file for itself at this moment (`SQLITE_BUSY`).
fn is_locked(error: &StoreError) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<sqlx::Error>());
    let code = source.and_then(sqlx::Error::as_database_error).and_then(DatabaseError::code);
    code.is_some_and(|code| code == "5")
}

async fn pool(
    connect: SqliteConnectOptions,
    most: u32,
    cache: u32,
    options: &StoreOptions,
) -> Result<SqlitePool> {
    let connect = connect
        .busy_timeout(options.call_timeout)
        .statement_cache_capacity(128)
        .pragma("cache_size", format!("-{cache}"))
        .pragma("temp_store", "memory")
        .pragma("wal_autocheckpoint", LOG_PAGES)
        .disable_statement_logging();
    // A connection in memory is the database: it must not be ended for being idle.
    let pool = SqlitePoolOptions::new()
        .max_connections(most)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(options.call_timeout)
        .test_before_acquire(false)
        .connect_with(connect)
        .await
        .map_err(Failure::from)?;
    Ok(pool)
}

/// Brings the schema up to date. Like the one of PostgreSQL, it may be a later version's.
async fn migrate(pool: &SqlitePool, environment: &Environment) -> Result<(), Failure> {
    let mut migrated = MIGRATOR.run(pool).await;
    // Another program may have been at the same step; that step is done then, and the next look
    // sees it.
    for _ in 0..MIGRATOR.iter().count() {
        if !matches!(migrated, Err(MigrateError::ExecuteMigration(..))) {
            break;
        }
        migrated = MIGRATOR.run(pool).await;
    }
    migrated.map_err(|error| match error {
        MigrateError::VersionMismatch(version) => StoreError::other_schema(version),
        error => {
            let what = "the schema of the database file cannot be brought up to date";
            StoreError::new(StoreErrorKind::Unavailable, what).caused_by(error)
        }
    })?;
    let oldest: i64 =
        sqlx::query_scalar("SELECT oldest FROM compatibility").fetch_one(pool).await?;
    let known = MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or_default();
    if known < oldest {
        return Err(StoreError::newer_schema(known, oldest).into());
    }
    // Of two programs that open it at once the first one decides.
    let own = "UPDATE compatibility SET environment = ? WHERE environment IS NULL";
    sqlx::query(own).bind(environment.as_str()).execute(pool).await?;
    let owner: String =
        sqlx::query_scalar("SELECT environment FROM compatibility").fetch_one(pool).await?;
    Ok(StoreError::check_environment(&owner, environment)?)
}

/// Ends leases that run for longer than any lease does: the clock of this machine was ahead when they
/// were taken, and their workers are gone.
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
        let linked = daily!(self, self.connect_holder(&new))?;
        self.signals.raise_all();
        Ok(linked)
    }

    async fn leave(&self, leave: &Leave) -> Result<Unlinked> {
        let (unlinked, more) = daily!(self, self.disconnect(leave))?;
        self.signals.raise_all();
        if more {
            self.clear_leftovers(&leave.item_id).await;
        }
        Ok(unlinked)
    }

    async fn change(&self, change: &ConnectionChange) -> Result<Changed> {
        let changed = daily!(self, self.change_connection(change))?;
        self.signals.raise_all();
        Ok(changed)
    }

    async fn connections(&self, item: &ItemId) -> Result<Vec<Connection>> {
        daily!(self, commit::connections(&self.readers, item))
    }

    async fn access(&self, token: &AccessDigest) -> Result<Option<Access>> {
        daily!(self, self.read_access(token))
    }

    async fn replace_access(&self, old: &AccessDigest, new: &AccessDigest) -> Result<bool> {
        daily!(self, self.swap_access(old, new))
    }

    async fn give_access(
        &self,
        item: &ItemId,
        application: Option<&ApplicationId>,
        new: &AccessDigest,
    ) -> Result<bool> {
        daily!(self, self.grant_access(item, application, new))
    }

    async fn activities(
        &self,
        item: &ItemId,
        after: Option<&ActivityId>,
        limit: usize,
    ) -> Result<Option<Vec<Activity>>> {
        daily!(self, self.read_activities(item, after, limit))
    }

    async fn note_reads(&self, reads: &[DataRead]) -> Result<()> {
        daily!(self, self.write_reads(reads))
    }

    async fn last_reads(&self, item: &ItemId) -> Result<Vec<DataRead>> {
        daily!(self, self.read_reads(item))
    }

    async fn put_ticket(&self, ticket: &Ticket) -> Result<()> {
        daily!(self, self.keep_ticket(ticket))
    }

    async fn ticket(
        &self,
        digest: &TicketDigest,
        kind: TicketKind,
        now: DateTime<Utc>,
    ) -> Result<Option<Ticket>> {
        daily!(self, self.read_ticket((digest, kind, now)))
    }

    async fn take_ticket(
        &self,
        digest: &TicketDigest,
        kind: TicketKind,
        now: DateTime<Utc>,
    ) -> Result<Option<Ticket>> {
        daily!(self, self.remove_ticket((digest, kind, now)))
    }

    async fn exchange(
        &self,
        digest: &TicketDigest,
        application: &ApplicationId,
        new: &AccessDigest,
        now: DateTime<Utc>,
    ) -> Result<Option<ItemId>> {
        daily!(self, self.exchange_ticket(digest, application, new, now))
    }

    async fn purge_tickets(&self, now: DateTime<Utc>, limit: usize) -> Result<u64> {
        daily!(self, self.clear_tickets(now, limit))
    }

    async fn item(&self, item: &ItemId) -> Result<Option<ItemRecord>> {
        let record = daily!(self, self.read_item(item))?;
        Ok(record.map(|record| self.time.cap().record(record)))
    }

    async fn find(&self, institution: &InstitutionId, user: &UserId) -> Result<Option<ItemId>> {
        daily!(self, self.read_find(institution, user))
    }

    async fn accounts(&self, item: &ItemId) -> Result<Vec<KnownAccount>> {
        daily!(self, self.read_accounts(item))
    }

    async fn identities(&self, item: &ItemId) -> Result<Option<(IdentityId, Vec<Identity>)>> {
        daily!(self, self.read_identities(item))
    }

    async fn securities(&self, item: &ItemId) -> Result<Vec<Security>> {
        daily!(self, self.read_securities(item))
    }

    async fn transactions(
        &self,
        item: &ItemId,
        query: &TransactionQuery,
    ) -> Result<TransactionPage> {
        daily!(self, self.read_transactions(item, query))
    }

    async fn changes(&self, item: &ItemId, query: &ChangeQuery) -> Result<ChangePage> {
        daily!(self, self.read_changes(item, query))
    }

    async fn claim(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<ItemRecord>> {
        let times = self.time.claim(now, lease_until).await?;
        let claimed = daily!(self, self.take_due(work::DUE, times, limit))?;
        Ok(claimed.into_iter().map(|record| self.time.cap().record(record)).collect())
    }

    async fn claim_refreshes(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<ItemRecord>> {
        let times = self.time.claim(now, lease_until).await?;
        let claimed = daily!(self, self.take_due(work::REFRESHES, times, limit))?;
        Ok(claimed.into_iter().map(|record| self.time.cap().record(record)).collect())
    }

    async fn claim_one(
        &self,
        item: &ItemId,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
    ) -> Result<Option<ItemRecord>> {
        let (now, lease_until) = self.time.claim(now, lease_until).await?;
        let claimed = daily!(self, self.take_one(item, now, lease_until))?;
        Ok(claimed.map(|record| self.time.cap().record(record)))
    }

    async fn lease_permits(&self, lease: &PermitLease) -> Result<PermitShare> {
        let lease = self.time.cap().permits(lease);
        daily!(self, self.lease(&lease))
    }

    async fn update_partner(&self, update: &PartnerUpdate) -> Result<PartnerUpdated> {
        let mut update = update.clone();
        update.now = self.time.cap().now(update.now);
        daily!(self, self.note_partner(&update))
    }

    async fn renew(&self, item: &ItemId, fence: Fence, lease_until: DateTime<Utc>) -> Result<bool> {
        let lease_until = self.time.cap().renewed(lease_until);
        daily!(self, self.prolong(item, fence, lease_until))
    }

    async fn hand_back(&self, items: &[(ItemId, Fence, DateTime<Utc>)]) -> Result<()> {
        daily!(self, self.give_back(items))
    }

    async fn known(
        &self,
        item: &ItemId,
        window: Window,
        ids: &[TransactionId],
    ) -> Result<Vec<KnownTransaction>> {
        let mut known = daily!(self, self.read_known(item, window, ids))?;
        self.time.cap().known(&mut known);
        Ok(known)
    }

    async fn commit(&self, mut commit: Commit) -> Result<()> {
        self.time.cap().commit(&mut commit);
        let signals = self.signals.of_commit(&commit);
        daily!(self, self.store(commit))?;
        signals.into_iter().flatten().for_each(Signal::raise);
        Ok(())
    }

    async fn tokens(&self, item: &ItemId) -> Result<Option<(TokenSet, u64)>> {
        daily!(self, self.read_tokens(item))
    }

    async fn save_tokens(&self, item: &ItemId, version: u64, tokens: &TokenSet) -> Result<bool> {
        daily!(self, self.replace_tokens(item, version, tokens))
    }

    async fn begin_refresh(&self, item: &ItemId, version: u64, now: DateTime<Utc>) -> Result<bool> {
        let now = self.time.cap().now(now);
        daily!(self, self.note_refresh(item, version, Some(now)))
    }

    async fn end_refresh(&self, item: &ItemId, version: u64) -> Result<()> {
        daily!(self, self.note_refresh(item, version, None)).map(drop)
    }

    async fn claim_revocations(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<Revocation>> {
        let (now, lease_until) = self.time.claim(now, lease_until).await?;
        daily!(self, self.take_revocations(now, lease_until, limit))
    }

    async fn begin_revocation(&self, start: RevocationStart<'_>) -> Result<MayRevoke> {
        daily!(self, self.start_revocation(start))
    }

    async fn revoke_lost(&self, lost: &LostTokens) -> Result<bool> {
        let queued = daily!(self, self.queue_lost(lost))?;
        self.signals.revocations.raise();
        Ok(queued)
    }

    async fn settle_revocation(
        &self,
        revocation: &Revocation,
        again_at: Option<DateTime<Utc>>,
    ) -> Result<()> {
        daily!(self, self.end_revocation(revocation, again_at))
    }

    async fn notify(&self, batch: &NotifyBatch) -> Result<NotifyOutcome> {
        let outcome = daily!(self, self.apply(batch))?;
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
        daily!(self, self.take_webhooks(now, lease_until, limit))
    }

    async fn settle_webhooks(&self, settlements: &[WebhookSettlement]) -> Result<()> {
        daily!(self, self.end_webhooks(settlements))
    }

    async fn hand_back_webhooks(&self, webhooks: &[(QueuedWebhook, DateTime<Utc>)]) -> Result<()> {
        daily!(self, self.return_webhooks(webhooks))
    }

    async fn reviews(
        &self,
        institution: Option<&InstitutionId>,
        after: Option<&ItemId>,
        limit: usize,
    ) -> Result<Vec<Review>> {
        daily!(self, self.read_reviews(institution, after, limit))
    }

    async fn evidence(
        &self,
        institution: &InstitutionId,
        since: DateTime<Utc>,
    ) -> Result<Evidence> {
        daily!(self, self.read_evidence(institution, since))
    }

    async fn count_updates(&self, counts: &[UpdateCount]) -> Result<()> {
        daily!(self, self.add_updates(counts))
    }

    async fn put_ruling(&self, ruling: &Ruling) -> Result<()> {
        daily!(self, self.write_ruling(ruling))
    }

    async fn ruling(&self, institution: &InstitutionId) -> Result<Option<Ruling>> {
        daily!(self, self.read_ruling(institution))
    }

    async fn end_ruling(&self, institution: &InstitutionId) -> Result<bool> {
        daily!(self, self.delete_ruling(institution))
    }

    async fn overview(&self, now: DateTime<Utc>) -> Result<Overview> {
        limited!(self.options, self.options.bulk_timeout, self.read_overview(now))
    }

    async fn list(&self, after: Option<&ItemId>, limit: usize) -> Result<Vec<ListedItem>> {
        daily!(self, self.read_list(after, limit))
    }
    async fn purge(&self, removed_before: DateTime<Utc>, limit: usize) -> Result<u64> {
        daily!(self, self.clear_removed(removed_before, limit))
    }
    async fn key_usage(&self) -> Result<BTreeMap<String, KeyUsage>> {
        limited!(self.options, self.options.bulk_timeout, self.read_key_usage())
    }

    async fn reseal(&self, position: &ResealPosition, limit: usize) -> Result<Resealed> {
        daily!(self, self.reseal_some(position, limit))
    }
}
