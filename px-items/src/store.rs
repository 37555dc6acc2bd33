//! Where Items are kept: one trait, and what passes through it.
//!
//! A store keeps these promises, which the conformance suite (feature `testing`) tests:
//!
//! - A [`Commit`] happens whole or not at all: data, state, next due time, webhooks.
//! - A commit whose [`Fence`] is not the present one is refused and changes nothing.
//! - An Item is claimed by one worker at a time, until it commits its end or its lease runs out.
//! - A row that cannot be read (a later version's, or sealed under a key that is lost) concerns no
//!   other row. It is logged with its id, counted, and tried again after an hour.
//! - A notification that comes while an Item is leased makes it due once more, however often.
//! - What others write (connections, tokens, notifications) never waits for a lease and is
//!   never overwritten by the one who holds it.
//!
//! Every table is keyed by Item first. Time is handed in, so that stores can be simulated.

pub(crate) mod carried;
mod clock;
#[cfg(feature = "testing")]
pub mod conformance;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod digests;
mod error;
mod keys;
mod link;
mod memory;
mod permits;
#[cfg(feature = "postgres")]
mod postgres;
mod query;
mod queue;
mod review;
mod rules;
mod signals;
#[cfg(feature = "sqlite")]
mod sqlite;
mod ticket;
mod trail;
mod work;

pub(crate) use clock::StoreTime;
pub use error::{Result, StoreError, StoreErrorKind};
pub use keys::{KeyUsage, ResealPosition, Resealed};
pub use link::{
    Access, AccessDigest, ChangeTo, Changed, ConnectionChange, Linked, NewHolder, NewLink, Unlinked,
};
pub use memory::MemoryStore;
pub use permits::{PermitLease, PermitShare};
#[cfg(all(feature = "postgres", feature = "testing", unix))]
pub(crate) use postgres::MIGRATOR;
#[cfg(feature = "postgres")]
pub use postgres::PostgresStore;
pub use query::{ChangePage, ChangeQuery, ChangeRow, TransactionPage, TransactionQuery};
pub use queue::{
    Destination, LostTokens, MayRevoke, QueuedWebhook, Revocation, RevocationStart,
    WebhookSettlement,
};
pub use review::{Moves, Review, Ruling, UpdateCount, Verdict};
pub(crate) use rules::connected;
pub use signals::{Listener, Signal, Signals};
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteStore;
pub use ticket::{
    KEPT_TOKENS_RETENTION, KeptTokens, NewPublicToken, PublicGrant, Ticket, TicketDigest,
    TicketKind, Whose,
};
pub use trail::{Act, DataKind, DataRead, Leave, Notice, Trail};
pub use work::{
    AccountsWrite, Commit, Fence, ItemRecord, ListedItem, NotifyAsk, NotifyBatch, NotifyOutcome,
    Then, UnreadableItem,
};

use crate::{
    connection::Connection,
    item::State,
    merge::{KnownAccount, KnownTransaction},
    partners::{PartnerUpdate, PartnerUpdated},
    review::Evidence,
    vault::Envelope,
};
use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use px_client::{Window, oauth::TokenSet};
use px_core::{Clock, Random, SharedClock, SystemClock, SystemRandom};
use px_types::{
    ActivityId, ApplicationId, IdentityId, InstitutionId, ItemId, TransactionId, UserId,
    model::{activity::Activity, identity::Identity, security::Security},
    webhook::Environment,
};
use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

/// Keeps Items.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// The signals that this store raises after a commit. A store that wraps another one returns
    /// the inner one's.
    fn signals(&self) -> &Signals;

    /// The environment that this store was opened for. Webhooks and tokens name it. A store that
    /// wraps another one returns the inner one's.
    fn environment(&self) -> &Environment;

    /// Returns the store's own time, which workers compare their clocks with; `None` if the store has
    /// no clock of its own.
    ///
    /// Times that lie ahead of it are capped when they are stored: when rows were read and removed,
    /// when a deep resync was complete, leases, and when an Item is due. A stored one that lies ahead
    /// all the same counts as older than whatever is read now.
    async fn time(&self) -> Result<Option<DateTime<Utc>>>;

    // ---- connections -------------------------------------------------------------------------

    /// Connects an application to a user's Item, which is made if there is none.
    ///
    /// - No Item of that institution and user: it is made, `Created`, due now, under `new.item_id`.
    /// - There is one: the connection is added, or replaced with its epoch raised. Its tokens are
    ///   replaced by the new ones if it had lost its authorization, or if an application brings
    ///   tokens that show every account that the Item and its other applications see now. The old
    ///   ones that are not the same go to the revocations. Else the Item keeps its own, and those
    ///   that an application brought go to the revocations: an Item has one authorization, and a
    ///   user who shares less with one application takes nothing from another.
    ///   When it had lost its authorization it is repaired: [`Event::Repaired`], every connection is
    ///   told `LOGIN_REPAIRED`, it is due. When the application is the first that needs
    ///   transactions it is due. When the history is there, the new application is told so.
    ///
    /// `access` is the digest of the token by which the application reads from now on; an
    /// earlier one of the same holder ends. Without new tokens an application joins the Item that
    /// is there under `new.item_id`, by the same rules.
    ///
    /// In the same transaction: the entry in the activity log, what the partner is told of an
    /// application that was not connected before, the public token and the webhook that brings it.
    ///
    /// A revocation of the same tokens that waits is taken out in this transaction.
    ///
    /// # Errors
    /// [`StoreErrorKind::NoItem`] when there are no new tokens and no such Item;
    /// [`StoreErrorKind::RevocationUnderWay`] while these tokens are being revoked.
    ///
    /// [`Event::Repaired`]: crate::item::Event::Repaired
    async fn link(&self, new: NewLink) -> Result<Linked>;

    /// Takes a holder off an Item, an application or (`None`) the partner; its access ends at once.
    ///
    /// The last application takes the Item with it: tokens go to the revocations, everything else
    /// is deleted, a commit under way is refused. A partner's own access token does not keep it.
    /// A partner takes with it an Item that no application is connected to. What tells the partner
    /// is sent all the same.
    async fn leave(&self, leave: &Leave) -> Result<Unlinked>;

    /// [`leave`](Self::leave), of which nothing is noted.
    async fn unlink(
        &self,
        item: &ItemId,
        application: Option<&ApplicationId>,
        now: DateTime<Utc>,
    ) -> Result<Unlinked> {
        self.leave(&Leave::new(item.clone(), application.cloned(), now)).await
    }

    /// Changes what an application may see or where it is told ([`Connection::take_place_of`]).
    /// When it is now the first that needs transactions, the Item is due.
    async fn change(&self, change: &ConnectionChange) -> Result<Changed>;

    /// [`change`](Self::change) to a connection, of which nothing is noted. `false`: there was none.
    async fn set_connection(
        &self,
        item: &ItemId,
        connection: Connection,
        now: DateTime<Utc>,
    ) -> Result<bool> {
        let application = connection.application_id.clone();
        let to = ChangeTo::Connection(connection);
        let change = ConnectionChange::new(item.clone(), application, to, now);
        Ok(self.change(&change).await? == Changed::Done)
    }

    /// The connections of an Item, by application.
    async fn connections(&self, item: &ItemId) -> Result<Vec<Connection>>;

    /// Whose access token that is.
    async fn access(&self, token: &AccessDigest) -> Result<Option<Access>>;

    /// Replaces an access token by another one, for the same holder. `false`: no such token.
    async fn replace_access(&self, old: &AccessDigest, new: &AccessDigest) -> Result<bool>;

    /// Gives a holder of an Item a token, an application or (`None`) the partner; its earlier one
    /// ends. `false`: the application is not connected, or there is no such Item.
    async fn give_access(
        &self,
        item: &ItemId,
        application: Option<&ApplicationId>,
        new: &AccessDigest,
    ) -> Result<bool>;

    // ---- what was done and read ---------------------------------------------------------------

    /// The activity log of an Item, newest first, after an entry. `None`: it has no such entry.
    async fn activities(
        &self,
        item: &ItemId,
        after: Option<&ActivityId>,
        limit: usize,
    ) -> Result<Option<Vec<Activity>>>;

    /// Notes what applications read; the latest time of each kind stays. Items that are gone are
    /// passed over.
    async fn note_reads(&self, reads: &[DataRead]) -> Result<()>;

    /// When each application last read each kind of data, those that left too.
    async fn last_reads(&self, item: &ItemId) -> Result<Vec<DataRead>>;

    // ---- tickets -----------------------------------------------------------------------------

    /// Keeps a ticket, in the place of one of the same token.
    async fn put_ticket(&self, ticket: &Ticket) -> Result<()>;

    /// A ticket that has not expired.
    async fn ticket(
        &self,
        digest: &TicketDigest,
        kind: TicketKind,
        now: DateTime<Utc>,
    ) -> Result<Option<Ticket>>;

    /// Takes a ticket that has not expired away. Of two who take it at once, one gets it.
    async fn take_ticket(
        &self,
        digest: &TicketDigest,
        kind: TicketKind,
        now: DateTime<Utc>,
    ) -> Result<Option<Ticket>>;

    /// Takes the ticket of a public token and gives its application access, both or neither. An
    /// earlier token of the application ends. `None`: there is no such ticket, it is another
    /// application's, or the application is not connected any more; it stays as it is then.
    async fn exchange(
        &self,
        digest: &TicketDigest,
        application: &ApplicationId,
        new: &AccessDigest,
        now: DateTime<Utc>,
    ) -> Result<Option<ItemId>>;

    /// Deletes tickets that expired, so many at most; answers how many they were.
    async fn purge_tickets(&self, now: DateTime<Utc>, limit: usize) -> Result<u64>;

    // ---- reading -----------------------------------------------------------------------------

    /// An Item.
    async fn item(&self, item: &ItemId) -> Result<Option<ItemRecord>>;

    /// The Item of a user.
    async fn find(&self, institution: &InstitutionId, user: &UserId) -> Result<Option<ItemId>>;

    /// All accounts, by id.
    async fn accounts(&self, item: &ItemId) -> Result<Vec<KnownAccount>>;

    /// The signed-in user and all identities; `None` before the first answer was stored.
    async fn identities(&self, item: &ItemId) -> Result<Option<(IdentityId, Vec<Identity>)>>;

    /// All securities, by id.
    async fn securities(&self, item: &ItemId) -> Result<Vec<Security>>;

    /// A page of transactions, newest date first, then by id.
    async fn transactions(
        &self,
        item: &ItemId,
        query: &TransactionQuery,
    ) -> Result<TransactionPage>;

    /// The changes after a position, oldest first.
    async fn changes(&self, item: &ItemId, query: &ChangeQuery) -> Result<ChangePage>;

    // ---- work --------------------------------------------------------------------------------

    /// Takes Items that are due, the longest due first, with [`Event::Claimed`] applied, under a
    /// lease and a new fence. An Item under a lease that ran out is due. One that this version
    /// cannot read is deferred for an hour and left as it is, so that a later version finds it.
    ///
    /// [`Event::Claimed`]: crate::item::Event::Claimed
    async fn claim(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<ItemRecord>>;

    /// Takes Items whose tokens were being refreshed when their worker stopped or lost the response
    /// ([`begin_refresh`](Self::begin_refresh)), due or not, unless they are leased. The refresh
    /// that began first comes first. [`Event::Claimed`] is applied as by [`claim`](Self::claim).
    ///
    /// [`Event::Claimed`]: crate::item::Event::Claimed
    async fn claim_refreshes(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<ItemRecord>>;

    /// Takes one Item, due or not, unless it is leased or rests.
    async fn claim_one(
        &self,
        item: &ItemId,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
    ) -> Result<Option<ItemRecord>>;

    /// Leases permits of a partner to a process, in place of those that it held: as many as it requests
    /// and other processes leave. Expired leases do not count. Also returns what all processes know of
    /// the partner.
    async fn lease_permits(&self, lease: &PermitLease) -> Result<PermitShare>;

    /// Changes what all processes know of a partner ([`PartnerState::apply`]). A state that this
    /// version cannot read is replaced.
    ///
    /// [`PartnerState::apply`]: crate::partners::PartnerState::apply
    async fn update_partner(&self, update: &PartnerUpdate) -> Result<PartnerUpdated>;

    /// Prolongs a lease. `false`: it is no longer held.
    async fn renew(&self, item: &ItemId, fence: Fence, lease_until: DateTime<Utc>) -> Result<bool>;

    /// Gives Items back unread ([`Event::HandedBack`](crate::item::Event::HandedBack)), due at
    /// a moment; those whose fence is not the present one, or that no one holds, are passed over.
    async fn hand_back(&self, items: &[(ItemId, Fence, DateTime<Utc>)]) -> Result<()>;

    /// What is stored that a window's answer may change: rows whose date (the one that windows
    /// and pages sort by) is in the window, and rows, tombstones too, of which the partner's id or
    /// the Item's own is among `ids`. By the Item's own id, which is unique; the partner's is not:
    /// it may come back as another transaction, or belong to another one by now.
    async fn known(
        &self,
        item: &ItemId,
        window: Window,
        ids: &[TransactionId],
    ) -> Result<Vec<KnownTransaction>>;

    /// Stores the result of a piece of work.
    ///
    /// # Errors
    /// [`StoreErrorKind::Fenced`] when the fence is not the present one, the lease was given up
    /// already, or the Item is gone;
    /// [`StoreErrorKind::TokensChanged`] when the commit says that the authorization is lost and
    /// the tokens are not those that were refused. Nothing is changed then.
    async fn commit(&self, commit: Commit) -> Result<()>;

    // ---- tokens ------------------------------------------------------------------------------

    /// The partner's tokens for an Item, with their version; `None` when there are none.
    async fn tokens(&self, item: &ItemId) -> Result<Option<(TokenSet, u64)>>;

    /// Replaces the tokens if their version is still `version`, which is then one more. `false`:
    /// it is not.
    async fn save_tokens(&self, item: &ItemId, version: u64, tokens: &TokenSet) -> Result<bool>;

    /// Records that a refresh of the tokens of that version begins, and keeps the time of the first
    /// record. The record ends when other tokens are stored or these are dropped, or by
    /// [`end_refresh`](Self::end_refresh). Returns `false` if the tokens are others.
    async fn begin_refresh(&self, item: &ItemId, version: u64, now: DateTime<Utc>) -> Result<bool>;

    /// Ends the record of a refresh whose outcome is known: the partner gave no other tokens. Does
    /// nothing if the tokens are others.
    async fn end_refresh(&self, item: &ItemId, version: u64) -> Result<()>;

    /// Takes tokens that wait to be revoked at their partners.
    async fn claim_revocations(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<Revocation>>;

    /// Checks under the lock of a revocation that was taken whether its tokens may be revoked now, and
    /// records that the request is on the wire. This comes just before the request.
    ///
    /// They may not if an Item of the institution uses one of them or, where a revocation ends the
    /// user's whole grant, if the user has an Item with tokens. A [`link`](Self::link) that brings one
    /// of them takes a waiting revocation out, and is refused with
    /// [`StoreErrorKind::RevocationUnderWay`] while the request is on the wire.
    async fn begin_revocation(&self, start: RevocationStart<'_>) -> Result<MayRevoke>;

    /// Queues tokens of a refresh to be revoked that were not stored because the user authorized
    /// again or the Item was removed meanwhile. Returns `false`, and queues nothing, if another
    /// refresh of the same authorization came first: its tokens may be of the same family.
    async fn revoke_lost(&self, lost: &LostTokens) -> Result<bool>;

    /// Ends a revocation that succeeded or was given up (`again_at` is `None`), or puts it off.
    /// Passed over when it was taken once more meanwhile.
    async fn settle_revocation(
        &self,
        revocation: &Revocation,
        again_at: Option<DateTime<Utc>>,
    ) -> Result<()>;

    // ---- notifications -----------------------------------------------------------------------

    /// Applies a partner's notifications: all of them, or none.
    ///
    /// [`Event::Notified`](crate::item::Event::Notified) for each Item named; a bounded number of statements,
    /// however many entries. Of entries that name the same Item the earliest date counts, and one
    /// that says its tokens are revoked counts above the others.
    async fn notify(&self, batch: &NotifyBatch) -> Result<NotifyOutcome>;

    // ---- outbox ------------------------------------------------------------------------------

    /// Takes webhooks that are due, the longest due first.
    async fn claim_webhooks(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<QueuedWebhook>>;

    /// Ends webhooks that were delivered or given up, and defers the others, in one transaction.
    /// Those that were taken once more meanwhile are passed over.
    async fn settle_webhooks(&self, settlements: &[WebhookSettlement]) -> Result<()>;

    /// Settles one webhook; see [`settle_webhooks`](Self::settle_webhooks).
    async fn settle_webhook(
        &self,
        webhook: &QueuedWebhook,
        again_at: Option<DateTime<Utc>>,
    ) -> Result<()> {
        self.settle_webhooks(&[WebhookSettlement::new(webhook.clone(), again_at)]).await
    }

    /// Gives webhooks back unsent, each due at a moment; that they were taken does not count.
    /// Those that were taken once more meanwhile are passed over.
    async fn hand_back_webhooks(&self, webhooks: &[(QueuedWebhook, DateTime<Utc>)]) -> Result<()>;

    // ---- data on hold ------------------------------------------------------------------------

    /// Returns what waits for a decision and what can be taken back, by Item: of so many Items
    /// after one, of an institution or of all.
    async fn reviews(
        &self,
        institution: Option<&InstitutionId>,
        after: Option<&ItemId>,
        limit: usize,
    ) -> Result<Vec<Review>>;

    /// Returns what the Items of an institution say together about transactions that are on hold
    /// since a moment.
    async fn evidence(&self, institution: &InstitutionId, since: DateTime<Utc>)
    -> Result<Evidence>;

    /// Adds updates of an institution's Items to those that are counted by the hour. Counts older
    /// than eight days are deleted.
    async fn count_updates(&self, counts: &[UpdateCount]) -> Result<()>;

    /// Stores an operator's decision for all Items of an institution, in place of the one before.
    async fn put_ruling(&self, ruling: &Ruling) -> Result<()>;

    /// Returns the decision for all Items of an institution.
    async fn ruling(&self, institution: &InstitutionId) -> Result<Option<Ruling>>;

    /// Ends the decision for all Items of an institution. Returns `false` if there is none.
    async fn end_ruling(&self, institution: &InstitutionId) -> Result<bool>;

    // ---- watching ----------------------------------------------------------------------------

    /// How many Items there are in each state, what is late, and what waits to be sent.
    ///
    /// It counts, so it takes as long as there are Items and webhooks; an index at most is read
    /// for it, and no row. It is for people and for figures, not for each round of a worker.
    async fn overview(&self, now: DateTime<Utc>) -> Result<Overview>;

    /// Items by id, after one. Those that this version cannot read are among them.
    async fn list(&self, after: Option<&ItemId>, limit: usize) -> Result<Vec<ListedItem>>;

    /// Deletes what no one can read any more, at most so many rows; returns how many it deleted.
    ///
    /// These are transactions that were removed before `removed_before`, and what is left of
    /// large Items that were removed. Repeat it while it deletes as many as it may.
    async fn purge(&self, removed_before: DateTime<Utc>, limit: usize) -> Result<u64>;

    // ---- keys --------------------------------------------------------------------------------

    /// Numbers of sealed rows, by the key that they are sealed under. It counts all of them.
    async fn key_usage(&self) -> Result<BTreeMap<String, KeyUsage>>;

    /// Seals rows again that are not sealed as they would be now ([`Envelope::is_current`]),
    /// looking at most at so many. Repeat it with the position that it returns.
    async fn reseal(&self, position: &ResealPosition, limit: usize) -> Result<Resealed>;
}

/// Default for [`StoreOptions::call_timeout`]: half of the engine's lease.
pub const DEFAULT_CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Default for [`StoreOptions::bulk_timeout`].
pub const DEFAULT_BULK_TIMEOUT: Duration = Duration::from_secs(600);

/// The delay after which an Item, or a message in a queue, that cannot be read is tried again: its
/// key may be back then, or a version that knows it takes it.
pub(crate) const UNREADABLE_RETRY: TimeDelta = TimeDelta::hours(1);

/// The time after which the record of a refresh whose Item cannot be read is deleted: partners no
/// longer give the new tokens (`px.md` section 4), and other refreshes wait behind it.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
const UNREADABLE_REFRESH_RETENTION: TimeDelta = TimeDelta::seconds(60);

/// What every store is opened with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoreOptions {
    /// Named in every webhook and token. A database remembers the one that it was opened for
    /// first, and cannot be opened for another.
    pub environment: Environment,
    /// Seals the tokens.
    pub vault: Arc<dyn Envelope>,
    /// Measures the time limits of calls.
    pub clock: Arc<dyn Clock>,
    /// The store's own time. By default PostgreSQL's, and on SQLite that of `clock`, whose steps are
    /// believed once they have lasted a minute.
    pub shared_clock: Option<Arc<dyn SharedClock>>,
    /// Fencing tokens come from here, and the jitter of retries.
    pub random: Arc<dyn Random>,
    /// Time limit of a call of the daily round, 10 s by default. Keep it at half a lease or less.
    ///
    /// A call that exceeds it ends with [`StoreErrorKind::TimedOut`].
    pub call_timeout: Duration,
    /// Time limit of migrations, counts, and each batch of a deletion, 10 min by default.
    pub bulk_timeout: Duration,
}

impl StoreOptions {
    /// What a store is opened with.
    #[must_use]
    pub fn new(environment: Environment, vault: Arc<dyn Envelope>) -> Self {
        Self {
            environment,
            vault,
            clock: Arc::new(SystemClock::new()),
            shared_clock: None,
            random: Arc::new(SystemRandom),
            call_timeout: DEFAULT_CALL_TIMEOUT,
            bulk_timeout: DEFAULT_BULK_TIMEOUT,
        }
    }

    /// The store's own time, on a store whose machine is the only one.
    #[cfg(feature = "sqlite")]
    fn local_time(&self) -> StoreTime {
        match &self.shared_clock {
            Some(shared) => StoreTime::shared(Arc::clone(shared), Arc::clone(&self.clock)),
            None => StoreTime::local(Arc::clone(&self.clock)),
        }
    }
}

/// A store's Items at a glance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Overview {
    /// How many Items are in each state.
    pub states: BTreeMap<State, u64>,
    /// How many Items are in a state that this version does not know.
    pub unknown_states: u64,
    /// How many are due and not leased.
    pub due: u64,
    /// Since when the one that waits longest is due.
    pub due_since: Option<DateTime<Utc>>,
    /// How many webhooks wait.
    pub webhooks: u64,
    /// Since when the oldest of them waits.
    pub webhooks_since: Option<DateTime<Utc>>,
}
