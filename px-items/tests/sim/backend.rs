//! Store of a run: in memory, in an SQLite file, or on PostgreSQL.
//!
//! SQLite uses a thread and PostgreSQL a socket, and tokio's paused clock jumps to the next timer
//! during such a wait, so that leases would run out. A [`Hold`] stops virtual time during a call:
//! the store takes no virtual time, whatever the machine does.

use crate::{
    sabotage::{Sabotage, Saboteur},
    time::{MachineClock, SimClock},
};
use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use px_client::{Window, oauth::TokenSet};
use px_core::{LocalClock, SharedClock, SystemRandom};
use px_items::{
    connection::Connection,
    merge::{KnownAccount, KnownTransaction},
    partners::{PartnerUpdate, PartnerUpdated},
    review::Evidence,
    store::{
        Access, AccessDigest, ChangePage, ChangeQuery, Changed, Commit, ConnectionChange, DataRead,
        Disconnection, Fence, ItemRecord, KeyUsage, Linked, ListedItem, LostTokens, MemoryStore,
        NewLink, NotifyBatch, NotifyOutcome, Overview, PermitLease, PermitShare, PostgresStore,
        QueuedWebhook, ResealPosition, Resealed, Result, Review, Revocation, RevocationDecision,
        RevocationStart, Ruling, Signals, SqliteStore, Store, StoreOptions, Ticket, TicketDigest,
        TicketKind, TransactionPage, TransactionQuery, Unlinked, UpdateCount, WebhookSettlement,
    },
    testing::postgres,
    vault::FileKeys,
};
use px_types::{
    ActivityId, ApplicationId, IdentityId, InstitutionId, ItemId, TransactionId, UserId,
    model::{activity::Activity, identity::Identity, security::Security},
    webhook::Environment,
};
use sqlx::{AssertSqlSafe, Executor as _, PgPool, SqlitePool};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
};

/// Number of PostgreSQL connections of a run, shared by all of its machines.
const CONNECTIONS: u32 = 6;

/// Kind of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreKind {
    Memory,
    Sqlite,
    Postgres,
}

/// Store of a run, and the resources that must outlive it.
pub(crate) struct Backend {
    pub(crate) store: Arc<dyn Store>,
    base: Arc<BaseStore>,
    sql: Sql,
    end: End,
}

/// A separate connection to the database.
enum Sql {
    /// The store in memory has no rows that could be unreadable.
    Nothing,
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// Deferral of an unreadable Item by the store in memory.
const DEFERRED_FOR: TimeDelta = TimeDelta::hours(1);

enum End {
    Nothing,
    Sqlite(SqliteStore, tempfile::TempDir),
    Postgres(PostgresStore),
}

impl Backend {
    /// Opens an empty store. Returns `None` if the machine has no PostgreSQL.
    pub(crate) async fn open(
        kind: StoreKind,
        sabotage: Option<Sabotage>,
        clock: SimClock,
    ) -> Option<Self> {
        let environment = Environment::Sandbox;
        let _hold = Hold::begin();
        // A store with a time years ahead caps nothing.
        let ahead = match sabotage {
            Some(Sabotage::Clock) => TimeDelta::days(3000),
            _ => TimeDelta::zero(),
        };
        let of_the_store = Arc::new(MachineClock::new(clock, ahead));
        let shared = || Arc::new(LocalClock::new(of_the_store.clone())) as Arc<dyn SharedClock>;
        let options = || {
            let keys = FileKeys::generate("simulation", Arc::new(SystemRandom)).unwrap();
            let mut options = StoreOptions::new(environment.clone(), Arc::new(keys));
            options.shared_clock = Some(shared());
            options
        };
        let (inner, sql, end): (Arc<dyn Store>, _, _) = match kind {
            StoreKind::Memory => {
                let store = MemoryStore::new(environment.clone());
                let store = store.shared_clock(shared(), Arc::new(clock));
                (Arc::new(store), Sql::Nothing, End::Nothing)
            }
            StoreKind::Sqlite => {
                let folder = tempfile::tempdir().unwrap();
                let file = folder.path().join("items.sqlite");
                let store = SqliteStore::open(&file, options()).await.unwrap();
                let sql = SqlitePool::connect_lazy(&format!("sqlite:{}", file.display())).unwrap();
                (Arc::new(store.clone()), Sql::Sqlite(sql), End::Sqlite(store, folder))
            }
            StoreKind::Postgres => {
                let url = postgres::database().await?;
                let store = PostgresStore::connect(&url, CONNECTIONS, options()).await.unwrap();
                let sql = PgPool::connect_lazy(url.as_str()).unwrap();
                (Arc::new(store.clone()), Sql::Postgres(sql), End::Postgres(store))
            }
        };
        let saboteur = sabotage.map(Saboteur::new);
        let holds = kind != StoreKind::Memory;
        let unreadable = Mutex::default();
        let base = Arc::new(BaseStore { inner, holds, saboteur, unreadable });
        Some(Self { store: base.clone(), base, sql, end })
    }

    /// Makes Items unreadable, like those that a later version of the program stored.
    pub(crate) async fn spoil(&self, items: &[ItemId]) {
        let _hold = Hold::begin();
        for item in items {
            let sql = format!(
                r#"UPDATE items SET life = '{{"history":"quantum"}}' WHERE item_id = '{item}'"#
            );
            match &self.sql {
                Sql::Nothing => {}
                Sql::Sqlite(pool) => drop(pool.execute(AssertSqlSafe(sql)).await.unwrap()),
                Sql::Postgres(pool) => drop(pool.execute(AssertSqlSafe(sql)).await.unwrap()),
            }
        }
        self.base.unreadable().extend(items.iter().cloned());
    }

    /// Ends all connections.
    pub(crate) async fn close(self) {
        let _hold = Hold::begin();
        match self.sql {
            Sql::Nothing => {}
            Sql::Sqlite(pool) => pool.close().await,
            Sql::Postgres(pool) => pool.close().await,
        }
        match self.end {
            End::Nothing => {}
            End::Sqlite(store, _folder) => store.close().await,
            End::Postgres(store) => store.close().await,
        }
    }
}

/// Stops virtual time until it is dropped.
///
/// Tokio does not advance a paused clock while a task of its blocking pool runs.
struct Hold(#[allow(dead_code, reason = "dropped, it ends the task")] mpsc::Sender<()>);

impl Hold {
    fn begin() -> Self {
        let (sender, receiver) = mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || {
            let _ = receiver.recv();
        });
        Self(sender)
    }
}

/// Store that virtual time waits for, and that a sabotage breaks.
#[derive(Debug)]
struct BaseStore {
    inner: Arc<dyn Store>,
    holds: bool,
    saboteur: Option<Saboteur>,
    /// Items that are unreadable. The databases have unreadable rows instead.
    unreadable: Mutex<BTreeSet<ItemId>>,
}

impl BaseStore {
    fn hold(&self) -> Option<Hold> {
        self.holds.then(Hold::begin)
    }

    fn unreadable(&self) -> MutexGuard<'_, BTreeSet<ItemId>> {
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims from the store in memory like from the databases: unreadable Items are deferred, and
    /// those after them are claimed.
    async fn claim_readable(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<ItemRecord>> {
        let mut claimed = Vec::new();
        loop {
            let wanted = limit - claimed.len();
            let records = self.inner.claim(now, lease_until, wanted).await?;
            let is_all = records.len() < wanted;
            let unreadable = self.unreadable().clone();
            let (spoilt, good): (Vec<_>, Vec<_>) =
                records.into_iter().partition(|record| unreadable.contains(&record.id));
            claimed.extend(good);
            let again_at = now + DEFERRED_FOR;
            let back = spoilt.iter().map(|record| (record.id.clone(), record.fence, again_at));
            self.inner.hand_back(&back.collect::<Vec<_>>()).await?;
            if spoilt.is_empty() || is_all {
                break;
            }
        }
        Ok(claimed)
    }
}

/// Implements the calls that are only forwarded; the others are in `own`.
macro_rules! store {
    (
        $(fn $name:ident($($argument:ident: $type:ty),* $(,)?) -> $result:ty;)*
        own { $($own:tt)* }
    ) => {
        #[async_trait]
        impl Store for BaseStore {
            $(async fn $name(&self, $($argument: $type),*) -> Result<$result> {
                let _hold = self.hold();
                self.inner.$name($($argument),*).await
            })*
            $($own)*
        }
    };
}

store! {
    fn time() -> Option<DateTime<Utc>>;
    fn leave(leave: &Disconnection) -> Unlinked;
    fn change(change: &ConnectionChange) -> Changed;
    fn connections(item: &ItemId) -> Vec<Connection>;
    fn access(token: &AccessDigest) -> Option<Access>;
    fn replace_access(old: &AccessDigest, new: &AccessDigest) -> bool;
    fn set_access(
        item: &ItemId, application: Option<&ApplicationId>, new: &AccessDigest,
    ) -> bool;
    fn activities(
        item: &ItemId, after: Option<&ActivityId>, limit: usize,
    ) -> Option<Vec<Activity>>;
    fn record_reads(reads: &[DataRead]) -> ();
    fn last_reads(item: &ItemId) -> Vec<DataRead>;
    fn put_ticket(ticket: &Ticket) -> ();
    fn ticket(digest: &TicketDigest, kind: TicketKind, now: DateTime<Utc>) -> Option<Ticket>;
    fn take_ticket(digest: &TicketDigest, kind: TicketKind, now: DateTime<Utc>) -> Option<Ticket>;
    fn exchange(
        digest: &TicketDigest, application: &ApplicationId, new: &AccessDigest, now: DateTime<Utc>,
    ) -> Option<ItemId>;
    fn purge_tickets(now: DateTime<Utc>, limit: usize) -> u64;
    fn item(item: &ItemId) -> Option<ItemRecord>;
    fn find(institution: &InstitutionId, user: &UserId) -> Option<ItemId>;
    fn accounts(item: &ItemId) -> Vec<KnownAccount>;
    fn identities(item: &ItemId) -> Option<(IdentityId, Vec<Identity>)>;
    fn securities(item: &ItemId) -> Vec<Security>;
    fn transactions(item: &ItemId, query: &TransactionQuery) -> TransactionPage;
    fn changes(item: &ItemId, query: &ChangeQuery) -> ChangePage;
    fn claim_one(
        item: &ItemId, now: DateTime<Utc>, lease_until: DateTime<Utc>,
    ) -> Option<ItemRecord>;
    fn lease_permits(lease: &PermitLease) -> PermitShare;
    fn update_partner(update: &PartnerUpdate) -> PartnerUpdated;
    fn renew(item: &ItemId, fence: Fence, lease_until: DateTime<Utc>) -> bool;
    fn hand_back(items: &[(ItemId, Fence, DateTime<Utc>)]) -> ();
    fn tokens(item: &ItemId) -> Option<(TokenSet, u64)>;
    fn save_tokens(item: &ItemId, version: u64, tokens: &TokenSet) -> bool;
    fn begin_refresh(item: &ItemId, version: u64, now: DateTime<Utc>) -> bool;
    fn end_refresh(item: &ItemId, version: u64) -> ();
    fn revoke_lost(lost: &LostTokens) -> bool;
    fn settle_revocation(revocation: &Revocation, again_at: Option<DateTime<Utc>>) -> ();
    fn notify(batch: &NotifyBatch) -> NotifyOutcome;
    fn claim_webhooks(
        now: DateTime<Utc>, lease_until: DateTime<Utc>, limit: usize,
    ) -> Vec<QueuedWebhook>;
    fn settle_webhooks(settlements: &[WebhookSettlement]) -> ();
    fn hand_back_webhooks(webhooks: &[(QueuedWebhook, DateTime<Utc>)]) -> ();
    fn reviews(
        institution: Option<&InstitutionId>, after: Option<&ItemId>, limit: usize,
    ) -> Vec<Review>;
    fn evidence(institution: &InstitutionId, since: DateTime<Utc>) -> Evidence;
    fn count_updates(counts: &[UpdateCount]) -> ();
    fn put_ruling(ruling: &Ruling) -> ();
    fn ruling(institution: &InstitutionId) -> Option<Ruling>;
    fn end_ruling(institution: &InstitutionId) -> bool;
    fn overview(now: DateTime<Utc>) -> Overview;
    fn list(after: Option<&ItemId>, limit: usize) -> Vec<ListedItem>;
    fn purge(removed_before: DateTime<Utc>, limit: usize) -> u64;
    fn key_usage() -> std::collections::BTreeMap<String, KeyUsage>;
    fn reseal(position: &ResealPosition, limit: usize) -> Resealed;

    own {
        fn signals(&self) -> &Signals {
            self.inner.signals()
        }

        fn environment(&self) -> &Environment {
            self.inner.environment()
        }

        async fn link(&self, new: NewLink) -> Result<Linked> {
            let _hold = self.hold();
            if let Some(saboteur) = &self.saboteur {
                saboteur.before_link(&*self.inner, &new).await?;
            }
            self.inner.link(new).await
        }

        async fn known(
            &self,
            item: &ItemId,
            window: Window,
            ids: &[TransactionId],
        ) -> Result<Vec<KnownTransaction>> {
            let _hold = self.hold();
            let known = self.inner.known(item, window, ids).await?;
            Ok(match &self.saboteur {
                Some(saboteur) => saboteur.known(known, window, ids),
                None => known,
            })
        }

        async fn commit(&self, mut commit: Commit) -> Result<()> {
            let _hold = self.hold();
            if let Some(saboteur) = &self.saboteur {
                saboteur.commit(&*self.inner, &mut commit).await?;
            }
            self.inner.commit(commit).await
        }

        async fn claim(
            &self,
            now: DateTime<Utc>,
            lease_until: DateTime<Utc>,
            limit: usize,
        ) -> Result<Vec<ItemRecord>> {
            let _hold = self.hold();
            if let Some(saboteur) = &self.saboteur {
                saboteur.claim(!self.unreadable().is_empty())?;
            }
            match self.holds {
                true => self.inner.claim(now, lease_until, limit).await,
                false => self.claim_readable(now, lease_until, limit).await,
            }
        }

        async fn claim_refreshes(
            &self,
            now: DateTime<Utc>,
            lease_until: DateTime<Utc>,
            limit: usize,
        ) -> Result<Vec<ItemRecord>> {
            let _hold = self.hold();
            if self.saboteur.as_ref().is_some_and(|saboteur| !saboteur.claims_refreshes()) {
                return Ok(Vec::new());
            }
            self.inner.claim_refreshes(now, lease_until, limit).await
        }

        async fn begin_revocation(&self, start: RevocationStart<'_>) -> Result<RevocationDecision> {
            let _hold = self.hold();
            let saboteur = self.saboteur.as_ref();
            if saboteur.is_some_and(|saboteur| saboteur.revokes_blindly(start.revocation)) {
                return Ok(RevocationDecision::Yes);
            }
            self.inner.begin_revocation(start).await
        }

        async fn claim_revocations(
            &self,
            now: DateTime<Utc>,
            lease_until: DateTime<Utc>,
            limit: usize,
        ) -> Result<Vec<Revocation>> {
            let _hold = self.hold();
            let mut claimed = self.inner.claim_revocations(now, lease_until, limit).await?;
            if let Some(saboteur) = &self.saboteur {
                saboteur.claim_revocations(&mut claimed);
            }
            Ok(claimed)
        }
    }
}
