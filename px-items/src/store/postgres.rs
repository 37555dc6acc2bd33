//! The store for many machines: PostgreSQL.
//!
//! Why READ COMMITTED is enough: whatever changes an Item begins by locking its row in `items`,
//! and looks at fence, lease and state in the statement that locks, or after it. A statement
//! that had to wait for the lock looks at the row anew, as it is then. What hangs on an Item is
//! read after its lock, in a later statement, and so as it is then. Two rows are locked at once
//! only in the order of their ids, or without waiting.
//!
//! Schema: `migrations/postgres`. Sharding, clocks and connections: `DESIGN.md`, "Many machines".

mod commit;
mod failure;
mod links;
mod log;
mod notify;
mod queues;
mod reads;
mod row;
mod sealed;
mod tickets;
mod time;
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
use failure::Failure;
use px_client::{Window, oauth::TokenSet};
use px_types::{
    ActivityId, ApplicationId, IdentityId, InstitutionId, ItemId, TransactionId, UserId,
    model::{activity::Activity, identity::Identity, security::Security},
};
use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _, PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::{fmt, sync::Arc, time::Duration};
use tokio::sync::OnceCell;
use url::Url;

/// The schema, step by step.
pub(crate) static MIGRATOR: Migrator = sqlx::migrate!("migrations/postgres");

/// How often a call is made again that met another one.
const ATTEMPTS: usize = 10;

/// A connection that rested longer is asked for a sign of life before it is used.
const RESTED: Duration = Duration::from_secs(10);

/// What each connection begins with. A machine that vanishes in the midst of a transaction must
/// not keep Items locked. And no statement here is long enough for its compilation to pay: what
/// PostgreSQL takes for a costly plan is a LIMIT that it does not believe.
const SESSION: &str = "
SET idle_in_transaction_session_timeout = '60s';
SET jit = off;";

/// A store on PostgreSQL. Cheap to clone; any number of machines may use one database.
#[derive(Clone)]
pub struct PostgresStore {
    pool: PgPool,
    options: StoreOptions,
    signals: Signals,
    digest_key: Arc<OnceCell<DigestKey>>,
}

impl PostgresStore {
    /// Connects, with at most so many connections at once, and brings the schema up to date.
    ///
    /// Over a network the URL should say `sslmode=verify-full` (and `sslrootcert=…` for an
    /// authority of one's own): by default TLS is used where the server has it, and not insisted on.
    ///
    /// # Errors
    /// When the database is out of reach, or its schema is of a newer version.
    pub async fn connect(url: &Url, connections: u32, options: StoreOptions) -> Result<Self> {
        let connect = PgConnectOptions::from_url(url).map_err(Failure::from)?;
        let connect = connect.application_name("px-items").disable_statement_logging();
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(Duration::from_secs(30))
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                Box::pin(async move {
                    if meta.idle_for > RESTED {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .after_connect(|connection, _| {
                Box::pin(async move { connection.execute(SESSION).await.map(drop) })
            })
            .connect_with(connect)
            .await
            .map_err(Failure::from)?;
        MIGRATOR.run(&pool).await.map_err(|error| {
            let what = "the schema of the database cannot be brought up to date";
            StoreError::new(StoreErrorKind::Unavailable, what).caused_by(error)
        })?;
        Ok(Self { pool, options, signals: Signals::default(), digest_key: Arc::default() })
    }

    /// Ends all connections, once they are free.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("connections", &self.pool.size())
            .finish_non_exhaustive()
    }
}

/// Makes a call; when it met another one, from its beginning again. Nothing of it was stored then.
macro_rules! whole {
    ($call:expr) => {{
        let mut attempt = 1;
        loop {
            match $call.await {
                Err(failure) if failure.is_collision() && attempt < ATTEMPTS => attempt += 1,
                result => break result.map_err(StoreError::from),
            }
        }
    }};
}

#[async_trait]
impl Store for PostgresStore {
    fn signals(&self) -> &Signals {
        &self.signals
    }

    async fn link(&self, new: NewLink) -> Result<Linked> {
        let linked = whole!(self.connect_holder(&new))?;
        self.signals.raise_all();
        Ok(linked)
    }

    async fn leave(&self, leave: &Leave) -> Result<Unlinked> {
        let unlinked = whole!(self.disconnect(leave))?;
        self.signals.raise_all();
        Ok(unlinked)
    }

    async fn change(&self, change: &ConnectionChange) -> Result<Changed> {
        let changed = whole!(self.change_connection(change))?;
        self.signals.raise_all();
        Ok(changed)
    }

    async fn connections(&self, item: &ItemId) -> Result<Vec<Connection>> {
        Ok(commit::connections(&self.pool, item).await?)
    }

    async fn access(&self, token: &AccessDigest) -> Result<Option<Access>> {
        Ok(self.read_access(token).await?)
    }

    async fn replace_access(&self, old: &AccessDigest, new: &AccessDigest) -> Result<bool> {
        whole!(self.swap_access(old, new))
    }

    async fn give_access(
        &self,
        item: &ItemId,
        application: Option<&ApplicationId>,
        new: &AccessDigest,
    ) -> Result<bool> {
        whole!(self.grant_access(item, application, new))
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
        whole!(self.write_reads(reads))
    }

    async fn last_reads(&self, item: &ItemId) -> Result<Vec<DataRead>> {
        Ok(self.read_reads(item).await?)
    }

    async fn put_ticket(&self, ticket: &Ticket) -> Result<()> {
        whole!(self.keep_ticket(ticket))
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
        whole!(self.remove_ticket((digest, kind, now)))
    }

    async fn exchange(
        &self,
        digest: &TicketDigest,
        application: &ApplicationId,
        new: &AccessDigest,
        now: DateTime<Utc>,
    ) -> Result<Option<ItemId>> {
        whole!(self.exchange_ticket(digest, application, new, now))
    }

    async fn purge_tickets(&self, now: DateTime<Utc>, limit: usize) -> Result<u64> {
        whole!(self.clear_tickets(now, limit))
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
        whole!(self.take_due(work::CLAIM, now, lease_until, limit))
    }

    async fn claim_refreshes(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<ItemRecord>> {
        whole!(self.take_due(work::CLAIM_REFRESHES, now, lease_until, limit))
    }

    async fn claim_one(
        &self,
        item: &ItemId,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
    ) -> Result<Option<ItemRecord>> {
        whole!(self.take_one(item, now, lease_until))
    }

    async fn renew(&self, item: &ItemId, fence: Fence, lease_until: DateTime<Utc>) -> Result<bool> {
        whole!(self.prolong(item, fence, lease_until))
    }

    async fn hand_back(&self, items: &[(ItemId, Fence, DateTime<Utc>)]) -> Result<()> {
        whole!(self.give_back(items))
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
        whole!(self.store(&commit))?;
        if !commit.news.is_silent() {
            self.signals.outbox.raise();
        }
        Ok(())
    }

    async fn tokens(&self, item: &ItemId) -> Result<Option<(TokenSet, u64)>> {
        Ok(self.read_tokens(item).await?)
    }

    async fn save_tokens(&self, item: &ItemId, version: u64, tokens: &TokenSet) -> Result<bool> {
        whole!(self.replace_tokens(item, version, tokens))
    }

    async fn begin_refresh(&self, item: &ItemId, version: u64, now: DateTime<Utc>) -> Result<bool> {
        whole!(self.note_refresh(item, version, Some(now)))
    }

    async fn end_refresh(&self, item: &ItemId, version: u64) -> Result<()> {
        whole!(self.note_refresh(item, version, None)).map(drop)
    }

    async fn claim_revocations(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<Revocation>> {
        whole!(self.take_revocations(now, lease_until, limit))
    }

    async fn begin_revocation(&self, start: RevocationStart<'_>) -> Result<MayRevoke> {
        whole!(self.start_revocation(start))
    }

    async fn revoke_lost(&self, lost: &LostTokens) -> Result<bool> {
        let queued = whole!(self.queue_lost(lost))?;
        self.signals.revocations.raise();
        Ok(queued)
    }

    async fn settle_revocation(
        &self,
        revocation: &Revocation,
        again_at: Option<DateTime<Utc>>,
    ) -> Result<()> {
        whole!(self.end_revocation(revocation, again_at))
    }

    async fn notify(&self, batch: &NotifyBatch) -> Result<NotifyOutcome> {
        let outcome = whole!(self.apply(batch))?;
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
        whole!(self.take_webhooks(now, lease_until, limit))
    }

    async fn settle_webhooks(&self, settlements: &[WebhookSettlement]) -> Result<()> {
        whole!(self.end_webhooks(settlements))
    }

    async fn hand_back_webhooks(&self, webhooks: &[(QueuedWebhook, DateTime<Utc>)]) -> Result<()> {
        whole!(self.return_webhooks(webhooks))
    }

    async fn overview(&self, now: DateTime<Utc>) -> Result<Overview> {
        Ok(self.read_overview(now).await?)
    }

    async fn list(&self, after: Option<&ItemId>, limit: usize) -> Result<Vec<ItemRecord>> {
        Ok(self.read_list(after, limit).await?)
    }
}
