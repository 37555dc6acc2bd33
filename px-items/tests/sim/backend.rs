//! The store under a run: in memory, in an SQLite file, or on PostgreSQL.
//!
//! SQLite has a thread and PostgreSQL a socket, and tokio's paused clock jumps to the next timer
//! while either is waited for, so leases would run out by themselves. A [`Hold`] stops virtual time
//! for as long as a call lasts: the store costs no virtual time at all, whatever the machine does.

use crate::{
    sabotage::{Sabotage, Saboteur},
    time::SimClock,
};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use px_client::{Window, oauth::TokenSet};
use px_core::{LocalClock, SharedClock, SystemRandom};
use px_items::{
    connection::Connection,
    merge::{KnownAccount, KnownTransaction},
    partners::{PartnerUpdate, PartnerUpdated},
    review::Evidence,
    store::{
        Access, AccessDigest, ChangePage, ChangeQuery, Changed, Commit, ConnectionChange, DataRead,
        Fence, ItemRecord, KeyUsage, Leave, Linked, ListedItem, LostTokens, MayRevoke, MemoryStore,
        NewLink, NotifyBatch, NotifyOutcome, Overview, PermitLease, PermitShare, PostgresStore,
        QueuedWebhook, ResealPosition, Resealed, Result, Review, Revocation, RevocationStart,
        Ruling, Signals, SqliteStore, Store, StoreOptions, Ticket, TicketDigest, TicketKind,
        TransactionPage, TransactionQuery, Unlinked, UpdateCount, WebhookSettlement,
    },
    testing::postgres,
    vault::FileKeys,
};
use px_types::{
    ActivityId, ApplicationId, IdentityId, InstitutionId, ItemId, TransactionId, UserId,
    model::{activity::Activity, identity::Identity, security::Security},
    webhook::Environment,
};
use std::sync::{Arc, mpsc};

/// Connections of a run to PostgreSQL; all of its machines share them.
const CONNECTIONS: u32 = 6;

/// The kinds of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreKind {
    Memory,
    Sqlite,
    Postgres,
}

/// The store of a run, and what must outlive it.
pub(crate) struct Backend {
    pub(crate) store: Arc<dyn Store>,
    end: End,
}

enum End {
    Nothing,
    Sqlite(SqliteStore, tempfile::TempDir),
    Postgres(PostgresStore),
}

impl Backend {
    /// Opens an empty store. `None` if the machine has no PostgreSQL.
    pub(crate) async fn open(
        kind: StoreKind,
        sabotage: Option<Sabotage>,
        clock: SimClock,
    ) -> Option<Self> {
        let environment = Environment::Sandbox;
        let _hold = Hold::begin();
        let shared = || Arc::new(LocalClock::new(Arc::new(clock))) as Arc<dyn SharedClock>;
        let options = || {
            let keys = FileKeys::generate("simulation", Arc::new(SystemRandom)).unwrap();
            let mut options = StoreOptions::new(environment.clone(), Arc::new(keys));
            options.shared_clock = Some(shared());
            options
        };
        let (inner, end): (Arc<dyn Store>, _) = match kind {
            StoreKind::Memory => {
                let store = MemoryStore::new(environment.clone());
                (Arc::new(store.shared_clock(shared(), Arc::new(clock))), End::Nothing)
            }
            StoreKind::Sqlite => {
                let folder = tempfile::tempdir().unwrap();
                let store = SqliteStore::open(folder.path().join("items.sqlite"), options());
                let store = store.await.unwrap();
                (Arc::new(store.clone()), End::Sqlite(store, folder))
            }
            StoreKind::Postgres => {
                let url = postgres::database().await?;
                let store = PostgresStore::connect(&url, CONNECTIONS, options()).await.unwrap();
                (Arc::new(store.clone()), End::Postgres(store))
            }
        };
        let saboteur = sabotage.map(Saboteur::new);
        let holds = kind != StoreKind::Memory;
        Some(Self { store: Arc::new(BaseStore { inner, holds, saboteur }), end })
    }

    /// Ends all connections.
    pub(crate) async fn close(self) {
        let _hold = Hold::begin();
        match self.end {
            End::Nothing => {}
            End::Sqlite(store, _folder) => store.close().await,
            End::Postgres(store) => store.close().await,
        }
    }
}

/// Holds virtual time until it is dropped.
///
/// Tokio does not move a paused clock on by itself while a task of its blocking pool runs.
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

/// A store that virtual time waits for, and that a sabotage breaks.
#[derive(Debug)]
struct BaseStore {
    inner: Arc<dyn Store>,
    holds: bool,
    saboteur: Option<Saboteur>,
}

impl BaseStore {
    fn hold(&self) -> Option<Hold> {
        self.holds.then(Hold::begin)
    }
}

/// Writes the calls that are passed on as they are; the others are in `own`.
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
    fn leave(leave: &Leave) -> Unlinked;
    fn change(change: &ConnectionChange) -> Changed;
    fn connections(item: &ItemId) -> Vec<Connection>;
    fn access(token: &AccessDigest) -> Option<Access>;
    fn replace_access(old: &AccessDigest, new: &AccessDigest) -> bool;
    fn give_access(
        item: &ItemId, application: Option<&ApplicationId>, new: &AccessDigest,
    ) -> bool;
    fn activities(
        item: &ItemId, after: Option<&ActivityId>, limit: usize,
    ) -> Option<Vec<Activity>>;
    fn note_reads(reads: &[DataRead]) -> ();
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
    fn claim(now: DateTime<Utc>, lease_until: DateTime<Utc>, limit: usize) -> Vec<ItemRecord>;
    fn claim_refreshes(
        now: DateTime<Utc>, lease_until: DateTime<Utc>, limit: usize,
    ) -> Vec<ItemRecord>;
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
    fn begin_revocation(start: RevocationStart<'_>) -> MayRevoke;
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
                Some(saboteur) => saboteur.known(known, ids),
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

        async fn claim_revocations(
            &self,
            now: DateTime<Utc>,
            lease_until: DateTime<Utc>,
            limit: usize,
        ) -> Result<Vec<Revocation>> {
            let _hold = self.hold();
            let mut claimed = self.inner.claim_revocations(now, lease_until, limit).await?;
            if let Some(saboteur) = &self.saboteur {
                saboteur.revocations(&mut claimed);
            }
            Ok(claimed)
        }
    }
}
