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

mod commit;
mod links;
mod log;
#[cfg(test)]
mod plans;
mod queues;
mod reads;
mod row;
mod sealed;
mod shared;
mod tickets;
mod tokens;
mod work;

use super::{
    Access, AccessDigest, ChangePage, ChangeQuery, Changed, Commit, ConnectionChange, DataRead,
    Fence, ItemRecord, Leave, Linked, LostTokens, MayRevoke, NewLink, NotifyBatch, NotifyOutcome,
    Overview, QueuedWebhook, Result, Revocation, RevocationStart, Signals, Store, StoreError,
    StoreErrorKind, StoreOptions, Ticket, TicketDigest, TicketKind, TransactionPage,
    TransactionQuery, Unlinked, WebhookSettlement, digests::DigestKey,
};
use crate::{
    connection::Connection,
    merge::{KnownAccount, KnownTransaction},
};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use px_client::{Window, oauth::TokenSet};
use px_types::{
    ActivityId, ApplicationId, IdentityId, InstitutionId, ItemId, TransactionId, UserId,
    model::{activity::Activity, identity::Identity, security::Security},
};
use row::Failure;
use shared::Line;
use sqlx::{
    ConnectOptions as _, Sqlite, SqlitePool, Transaction,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{fmt, path::Path, sync::Arc, time::Duration};
use tokio::sync::OnceCell;

/// The schema, step by step.
static MIGRATOR: Migrator = sqlx::migrate!("migrations/sqlite");

/// Connections that read at once.
const READERS: u32 = 4;
/// What the writer and each reader keep of the file in memory, in KiB; the machine's own cache
/// has more of it. What five connections keep is what a process takes whatever it does.
const WRITER_CACHE: u32 = 8 * 1024;
const READER_CACHE: u32 = 2 * 1024;
/// Pages of the log after which it is brought into the file. Each update changes pages all over
/// the file; the longer the log, the more of them are the same ones again.
const LOG_PAGES: &str = "4000";
/// How long another program may lock the file.
const PATIENCE: Duration = Duration::from_secs(30);

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
    digest_key: Arc<OnceCell<DigestKey>>,
}

impl SqliteStore {
    /// Opens a file, which is made if there is none, and brings its schema up to date.
    ///
    /// Several processes of one machine may use it; each waits for the others' commits.
    ///
    /// # Errors
    /// When the file cannot be used, or its schema is of a newer version.
    pub async fn open(file: impl AsRef<Path>, options: StoreOptions) -> Result<Self> {
        let connect = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let writer = pool(connect.clone(), 1, WRITER_CACHE).await?;
        migrate(&writer).await?;
        let readers = pool(connect, READERS, READER_CACHE).await?;
        Ok(Self::over(writer, readers, options))
    }

    /// A store that ends with the process.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub async fn in_memory(options: StoreOptions) -> Result<Self> {
        let writer = pool(SqliteConnectOptions::new().in_memory(true), 1, WRITER_CACHE).await?;
        migrate(&writer).await?;
        Ok(Self::over(writer.clone(), writer, options))
    }

    fn over(writer: SqlitePool, readers: SqlitePool, options: StoreOptions) -> Self {
        let (line, signals, digest_key) = (Arc::default(), Signals::default(), Arc::default());
        Self { writer, line, readers, options, signals, digest_key }
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

async fn pool(connect: SqliteConnectOptions, most: u32, cache: u32) -> Result<SqlitePool> {
    let connect = connect
        .busy_timeout(PATIENCE)
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
        .acquire_timeout(PATIENCE)
        .test_before_acquire(false)
        .connect_with(connect)
        .await
        .map_err(Failure::from)?;
    Ok(pool)
}

async fn migrate(pool: &SqlitePool) -> Result<()> {
    let mut migrated = MIGRATOR.run(pool).await;
    // Another program may have been at the same step; that step is done then, and the next look
    // sees it.
    for _ in 0..MIGRATOR.iter().count() {
        if !matches!(migrated, Err(MigrateError::ExecuteMigration(..))) {
            break;
        }
        migrated = MIGRATOR.run(pool).await;
    }
    migrated.map_err(|error| {
        let what = "the schema of the database file cannot be brought up to date";
        StoreError::new(StoreErrorKind::Unavailable, what).caused_by(error)
    })
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

    async fn link(&self, new: NewLink) -> Result<Linked> {
        let linked = self.connect_holder(&new).await?;
        self.signals.raise_all();
        Ok(linked)
    }

    async fn leave(&self, leave: &Leave) -> Result<Unlinked> {
        let unlinked = self.disconnect(leave).await?;
        self.signals.raise_all();
        Ok(unlinked)
    }

    async fn change(&self, change: &ConnectionChange) -> Result<Changed> {
        let changed = self.change_connection(change).await?;
        self.signals.raise_all();
        Ok(changed)
    }

    async fn connections(&self, item: &ItemId) -> Result<Vec<Connection>> {
        Ok(commit::connections(&self.readers, item).await?)
    }

    async fn access(&self, token: &AccessDigest) -> Result<Option<Access>> {
        Ok(self.read_access(token).await?)
    }

    async fn replace_access(&self, old: &AccessDigest, new: &AccessDigest) -> Result<bool> {
        Ok(self.swap_access(old, new).await?)
    }

    async fn give_access(
        &self,
        item: &ItemId,
        application: Option<&ApplicationId>,
        new: &AccessDigest,
    ) -> Result<bool> {
        Ok(self.grant_access(item, application, new).await?)
    }

    async fn activities(
        &self,
        item: &ItemId,
        after: Option<&ActivityId>,
        limit: usize,
    ) -> Result<Option<Vec<Activity>>> {
        Ok(self.read_activities(item, after, limit).await?)
    }

    async fn note_reads(&self, reads: &[DataRead]) -> Result<()> {
        Ok(self.write_reads(reads).await?)
    }

    async fn last_reads(&self, item: &ItemId) -> Result<Vec<DataRead>> {
        Ok(self.read_reads(item).await?)
    }

    async fn put_ticket(&self, ticket: &Ticket) -> Result<()> {
        Ok(self.keep_ticket(ticket).await?)
    }

    async fn ticket(
        &self,
        digest: &TicketDigest,
        kind: TicketKind,
        now: DateTime<Utc>,
    ) -> Result<Option<Ticket>> {
        Ok(self.read_ticket((digest, kind, now)).await?)
    }

    async fn take_ticket(
        &self,
        digest: &TicketDigest,
        kind: TicketKind,
        now: DateTime<Utc>,
    ) -> Result<Option<Ticket>> {
        Ok(self.remove_ticket((digest, kind, now)).await?)
    }

    async fn exchange(
        &self,
        digest: &TicketDigest,
        application: &ApplicationId,
        new: &AccessDigest,
        now: DateTime<Utc>,
    ) -> Result<Option<ItemId>> {
        Ok(self.exchange_ticket(digest, application, new, now).await?)
    }

    async fn purge_tickets(&self, now: DateTime<Utc>, limit: usize) -> Result<u64> {
        Ok(self.clear_tickets(now, limit).await?)
    }

    async fn item(&self, item: &ItemId) -> Result<Option<ItemRecord>> {
        Ok(self.read_item(item).await?)
    }

    async fn find(&self, institution: &InstitutionId, user: &UserId) -> Result<Option<ItemId>> {
        Ok(self.read_find(institution, user).await?)
    }

    async fn accounts(&self, item: &ItemId) -> Result<Vec<KnownAccount>> {
        Ok(self.read_accounts(item).await?)
    }

    async fn identities(&self, item: &ItemId) -> Result<Option<(IdentityId, Vec<Identity>)>> {
        Ok(self.read_identities(item).await?)
    }

    async fn securities(&self, item: &ItemId) -> Result<Vec<Security>> {
        Ok(self.read_securities(item).await?)
    }

    async fn transactions(
        &self,
        item: &ItemId,
        query: &TransactionQuery,
    ) -> Result<TransactionPage> {
        Ok(self.read_transactions(item, query).await?)
    }

    async fn changes(&self, item: &ItemId, query: &ChangeQuery) -> Result<ChangePage> {
        Ok(self.read_changes(item, query).await?)
    }

    async fn claim(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<ItemRecord>> {
        Ok(self.take_due(work::DUE, now, lease_until, limit).await?)
    }

    async fn claim_refreshes(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<ItemRecord>> {
        Ok(self.take_due(work::REFRESHES, now, lease_until, limit).await?)
    }

    async fn claim_one(
        &self,
        item: &ItemId,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
    ) -> Result<Option<ItemRecord>> {
        Ok(self.take_one(item, now, lease_until).await?)
    }

    async fn renew(&self, item: &ItemId, fence: Fence, lease_until: DateTime<Utc>) -> Result<bool> {
        Ok(self.prolong(item, fence, lease_until).await?)
    }

    async fn hand_back(&self, items: &[(ItemId, Fence, DateTime<Utc>)]) -> Result<()> {
        Ok(self.give_back(items).await?)
    }

    async fn known(
        &self,
        item: &ItemId,
        window: Window,
        ids: &[TransactionId],
    ) -> Result<Vec<KnownTransaction>> {
        Ok(self.read_known(item, window, ids).await?)
    }

    async fn commit(&self, commit: Commit) -> Result<()> {
        let silent = commit.news.is_silent();
        self.store(commit).await?;
        if !silent {
            self.signals.outbox.raise();
        }
        Ok(())
    }

    async fn tokens(&self, item: &ItemId) -> Result<Option<(TokenSet, u64)>> {
        Ok(self.read_tokens(item).await?)
    }

    async fn save_tokens(&self, item: &ItemId, version: u64, tokens: &TokenSet) -> Result<bool> {
        Ok(self.replace_tokens(item, version, tokens).await?)
    }

    async fn begin_refresh(&self, item: &ItemId, version: u64, now: DateTime<Utc>) -> Result<bool> {
        Ok(self.note_refresh(item, version, Some(now)).await?)
    }

    async fn end_refresh(&self, item: &ItemId, version: u64) -> Result<()> {
        self.note_refresh(item, version, None).await?;
        Ok(())
    }

    async fn claim_revocations(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<Revocation>> {
        Ok(self.take_revocations(now, lease_until, limit).await?)
    }

    async fn begin_revocation(&self, start: RevocationStart<'_>) -> Result<MayRevoke> {
        Ok(self.start_revocation(start).await?)
    }

    async fn revoke_lost(&self, lost: &LostTokens) -> Result<bool> {
        let queued = self.queue_lost(lost).await?;
        self.signals.revocations.raise();
        Ok(queued)
    }

    async fn settle_revocation(
        &self,
        revocation: &Revocation,
        again_at: Option<DateTime<Utc>>,
    ) -> Result<()> {
        Ok(self.end_revocation(revocation, again_at).await?)
    }

    async fn notify(&self, batch: &NotifyBatch) -> Result<NotifyOutcome> {
        let outcome = self.apply(batch).await?;
        self.signals.items.raise();
        self.signals.outbox.raise();
        Ok(outcome)
    }

    async fn claim_webhooks(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<QueuedWebhook>> {
        Ok(self.take_webhooks(now, lease_until, limit).await?)
    }

    async fn settle_webhooks(&self, settlements: &[WebhookSettlement]) -> Result<()> {
        Ok(self.end_webhooks(settlements).await?)
    }

    async fn hand_back_webhooks(&self, webhooks: &[(QueuedWebhook, DateTime<Utc>)]) -> Result<()> {
        Ok(self.return_webhooks(webhooks).await?)
    }

    async fn overview(&self, now: DateTime<Utc>) -> Result<Overview> {
        Ok(self.read_overview(now).await?)
    }

    async fn list(&self, after: Option<&ItemId>, limit: usize) -> Result<Vec<ItemRecord>> {
        Ok(self.read_list(after, limit).await?)
    }
}
