//! The storage interface of Items: the trait [`Store`] and its types.
//!
//! Every store guarantees the following. The conformance suite (feature `testing`) tests it.
//!
//! - A [`Commit`] is atomic: data, state, next due time and webhooks are all stored, or none of
//!   them.
//! - A commit with an outdated [`Fence`] is refused and changes nothing.
//! - An Item is leased to one worker at a time, until that worker commits the end of its work or
//!   the lease expires.
//! - A row that cannot be read (written by a later version, or sealed under a lost key) does not
//!   affect other rows. The store logs its id, counts it, and retries after an hour.
//! - Notifications that arrive while an Item is leased make it due once more, regardless of their
//!   number.
//! - Writes by other components (connections, tokens, notifications) never wait for a lease, and
//!   the worker that holds the lease never overwrites them.
//!
//! The primary key of every table begins with the Item. Callers pass the present time as an
//! argument, so that simulations can control it.

mod audit;
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
pub(crate) mod unknown_fields;
mod work;

pub use audit::{
    ActivityAuthor, AuditRecord, DataKind, DataRead, Disconnection, PartnerNotification,
};
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
    Destination, LostTokens, QueuedWebhook, Revocation, RevocationDecision, RevocationStart,
    WebhookSettlement,
};
pub use review::{DecisionOutcome, Moves, Review, Ruling, UpdateCount};
pub(crate) use rules::connected;
pub use signals::{Listener, Signal, Signals};
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteStore;
pub use ticket::{
    ApplicationUser, NewPublicToken, PublicGrant, Ticket, TicketDigest, TicketKind,
    UNLINKED_TOKENS_RETENTION, UnlinkedTokens,
};
pub use work::{
    AccountsWrite, Commit, Fence, ItemRecord, LeaseOutcome, ListedItem, NotificationRequest,
    NotifyBatch, NotifyOutcome, UnreadableItem,
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

/// A store of Items.
///
/// # Errors
/// Every method can fail with [`StoreErrorKind::Unavailable`], [`StoreErrorKind::TimedOut`] or
/// [`StoreErrorKind::Corrupt`]. The `# Errors` section of a method lists further kinds.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// Returns the signals that this store raises after a commit.
    ///
    /// A store that wraps another one returns the signals of the inner store.
    fn signals(&self) -> &Signals;

    /// Returns the environment that this store was opened for. Webhooks and tokens name it.
    ///
    /// A store that wraps another one returns the environment of the inner store.
    fn environment(&self) -> &Environment;

    /// Returns the store's own time, or `None` if the store has no clock of its own. Workers
    /// compare their clocks with it.
    ///
    /// Times ahead of it are capped when they are stored: the times at which rows were read or
    /// removed, the time of the last complete deep resync, lease ends and due times. If a stored
    /// time lies ahead nevertheless, it counts as older than anything that is read now.
    async fn time(&self) -> Result<Option<DateTime<Utc>>>;

    // ---- connections -------------------------------------------------------------------------

    /// Connects an application to a user's Item, and creates the Item if it does not exist.
    ///
    /// - If that user has no Item at the institution, the Item is created under `new.item_id` in
    ///   the state `Created`, and is due now.
    /// - Otherwise the connection is added, or replaced with a higher epoch.
    ///   - The new tokens replace the Item's tokens if the Item had lost its authorization, or if
    ///     an application brings tokens that cover every account that the Item and its other
    ///     applications see now. The old tokens are queued for revocation, unless the two pairs have
    ///     a token in common.
    ///   - In all other cases the Item keeps its tokens, and those that an application brought are
    ///     queued for revocation. The reason: an Item has one authorization, and a user who shares
    ///     less with one application must not reduce what another application can read.
    ///   - If the Item had lost its authorization, it is repaired ([`Event::Repaired`]): every
    ///     connection is notified (`LOGIN_REPAIRED`) and the Item is due.
    ///   - If the application is the first that needs transactions, the Item is due.
    ///   - If the history is already stored, the new application is notified of it.
    ///
    /// `access` is the digest of the access token by which the application reads from now on; its
    /// earlier token becomes invalid. Without new tokens the application joins the existing Item
    /// `new.item_id` by the same rules.
    ///
    /// The same transaction stores the entry of the activity log, the partner's notification of an
    /// application that was not connected before, the public token, and the webhook that delivers
    /// this token. It also deletes a queued revocation of the same tokens.
    ///
    /// # Errors
    /// - [`StoreErrorKind::NoItem`] if there are no new tokens and the Item does not exist.
    /// - [`StoreErrorKind::RevocationUnderWay`] while these tokens are being revoked.
    ///
    /// [`Event::Repaired`]: crate::item::Event::Repaired
    async fn link(&self, new: NewLink) -> Result<Linked>;

    /// Disconnects an application, or (`None`) the partner, from an Item. Its access token becomes
    /// invalid at once.
    ///
    /// When the last application is disconnected, the Item is removed: its tokens are queued for
    /// revocation, everything else is deleted, and a commit in progress is refused. An access token
    /// of the partner itself does not keep the Item. Disconnecting the partner removes an Item
    /// without connected applications. Notifications to the partner are sent even if the Item is
    /// removed.
    async fn leave(&self, leave: &Disconnection) -> Result<Unlinked>;

    /// Like [`leave`](Self::leave), but writes no audit entry and no notification.
    async fn unlink(
        &self,
        item: &ItemId,
        application: Option<&ApplicationId>,
        now: DateTime<Utc>,
    ) -> Result<Unlinked> {
        self.leave(&Disconnection::new(item.clone(), application.cloned(), now)).await
    }

    /// Changes the scopes or the webhook address of a connection ([`Connection::replace`]).
    ///
    /// If the application is now the first that needs transactions, the Item is due.
    async fn change(&self, change: &ConnectionChange) -> Result<Changed>;

    /// Like [`change`](Self::change), but writes no audit entry. Returns `false` if the connection
    /// does not exist.
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

    /// Returns the connections of an Item, ordered by application.
    async fn connections(&self, item: &ItemId) -> Result<Vec<Connection>>;

    /// Returns the owner of an access token, or `None` if the token is unknown.
    async fn access(&self, token: &AccessDigest) -> Result<Option<Access>>;

    /// Replaces an access token of the same owner. Returns `false` if the old token is unknown.
    async fn replace_access(&self, old: &AccessDigest, new: &AccessDigest) -> Result<bool>;

    /// Sets the access token of an application, or (`None`) of the partner. Its earlier token
    /// becomes invalid.
    ///
    /// Returns `false` if the application is not connected or the Item does not exist.
    async fn set_access(
        &self,
        item: &ItemId,
        application: Option<&ApplicationId>,
        new: &AccessDigest,
    ) -> Result<bool>;

    // ---- activity log and read times ----------------------------------------------------------

    /// Returns the activity log of an Item after an entry, newest first. Returns `None` if the Item
    /// has no such entry.
    async fn activities(
        &self,
        item: &ItemId,
        after: Option<&ActivityId>,
        limit: usize,
    ) -> Result<Option<Vec<Activity>>>;

    /// Records which data applications have read. Only the latest time of each kind is stored.
    /// Removed Items are skipped.
    async fn record_reads(&self, reads: &[DataRead]) -> Result<()>;

    /// Returns the time of each application's last read of each kind of data, including
    /// disconnected applications.
    async fn last_reads(&self, item: &ItemId) -> Result<Vec<DataRead>>;

    // ---- tickets -----------------------------------------------------------------------------

    /// Stores a ticket. It replaces a ticket of the same token.
    async fn put_ticket(&self, ticket: &Ticket) -> Result<()>;

    /// Returns a ticket, or `None` if it is unknown or has expired.
    async fn ticket(
        &self,
        digest: &TicketDigest,
        kind: TicketKind,
        now: DateTime<Utc>,
    ) -> Result<Option<Ticket>>;

    /// Removes and returns a ticket that has not expired. If two callers take it at the same time,
    /// one of them gets it.
    async fn take_ticket(
        &self,
        digest: &TicketDigest,
        kind: TicketKind,
        now: DateTime<Utc>,
    ) -> Result<Option<Ticket>>;

    /// Redeems the ticket of a public token and sets the access token of its application, in one
    /// transaction. The earlier access token of the application becomes invalid.
    ///
    /// Returns `None`, and leaves the ticket as it is, if there is no such ticket, if it belongs to
    /// another application, or if the application is no longer connected.
    async fn exchange(
        &self,
        digest: &TicketDigest,
        application: &ApplicationId,
        new: &AccessDigest,
        now: DateTime<Utc>,
    ) -> Result<Option<ItemId>>;

    /// Deletes at most `limit` expired tickets. Returns their number.
    async fn purge_tickets(&self, now: DateTime<Utc>, limit: usize) -> Result<u64>;

    // ---- reading -----------------------------------------------------------------------------

    /// Returns an Item, or `None` if it does not exist.
    async fn item(&self, item: &ItemId) -> Result<Option<ItemRecord>>;

    /// Returns the Item of a user at an institution.
    async fn find(&self, institution: &InstitutionId, user: &UserId) -> Result<Option<ItemId>>;

    /// Returns all accounts of an Item, ordered by id.
    async fn accounts(&self, item: &ItemId) -> Result<Vec<KnownAccount>>;

    /// Returns the signed-in user and all identities, or `None` if no response with them has been
    /// stored yet.
    async fn identities(&self, item: &ItemId) -> Result<Option<(IdentityId, Vec<Identity>)>>;

    /// Returns all securities of an Item, ordered by id.
    async fn securities(&self, item: &ItemId) -> Result<Vec<Security>>;

    /// Returns a page of transactions, ordered by date (newest first), then by id.
    async fn transactions(
        &self,
        item: &ItemId,
        query: &TransactionQuery,
    ) -> Result<TransactionPage>;

    /// Returns the changes after a position, oldest first.
    async fn changes(&self, item: &ItemId, query: &ChangeQuery) -> Result<ChangePage>;

    // ---- work --------------------------------------------------------------------------------

    /// Claims due Items, the longest due first, under a lease and a new fencing token. Applies
    /// [`Event::Claimed`].
    ///
    /// An Item with an expired lease is due. An Item that this version cannot read is deferred
    /// for an hour and left as it is, so that a later version can process it.
    ///
    /// [`Event::Claimed`]: crate::item::Event::Claimed
    async fn claim(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<ItemRecord>>;

    /// Claims Items with an interrupted token refresh: its worker stopped, or lost the response
    /// ([`begin_refresh`](Self::begin_refresh)).
    ///
    /// They are claimed whether due or not, unless they are leased. The earliest refresh comes
    /// first. [`Event::Claimed`] is applied as by [`claim`](Self::claim).
    ///
    /// [`Event::Claimed`]: crate::item::Event::Claimed
    async fn claim_refreshes(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<ItemRecord>>;

    /// Claims one Item, due or not. Returns `None` if it is leased, waits for a new authorization, or
    /// does not exist.
    async fn claim_one(
        &self,
        item: &ItemId,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
    ) -> Result<Option<ItemRecord>>;

    /// Leases permits of a partner to a process, in place of those that it held.
    ///
    /// Grants as many as the process requests, limited to those that other processes leave. Expired
    /// leases do not count. Also returns the shared state of the partner.
    async fn lease_permits(&self, lease: &PermitLease) -> Result<PermitShare>;

    /// Updates the state of a partner that all processes share ([`PartnerState::apply`]). A state
    /// that this version cannot read is replaced.
    ///
    /// [`PartnerState::apply`]: crate::partners::PartnerState::apply
    async fn update_partner(&self, update: &PartnerUpdate) -> Result<PartnerUpdated>;

    /// Extends a lease. Returns `false` if the lease is no longer held.
    async fn renew(&self, item: &ItemId, fence: Fence, lease_until: DateTime<Utc>) -> Result<bool>;

    /// Gives Items back without an update ([`Event::HandedBack`](crate::item::Event::HandedBack)),
    /// each with its next due time. Items with another fencing token, or without a lease, are
    /// skipped.
    async fn hand_back(&self, items: &[(ItemId, Fence, DateTime<Utc>)]) -> Result<()>;

    /// Returns the stored transactions that the response for a window can change.
    ///
    /// These are rows with a date in the window (the date by which windows and pages sort), and
    /// rows, including tombstones, with the partner's id or the Item's own id among `ids`. Results
    /// are keyed by the Item's own id, which is unique. The partner's id is not: the partner may
    /// use it again for another transaction.
    async fn known(
        &self,
        item: &ItemId,
        window: Window,
        ids: &[TransactionId],
    ) -> Result<Vec<KnownTransaction>>;

    /// Stores the result of a unit of work.
    ///
    /// # Errors
    /// Nothing is changed in these cases:
    ///
    /// - [`StoreErrorKind::Fenced`] if the fencing token is outdated, the lease was already
    ///   released, or the Item was removed.
    /// - [`StoreErrorKind::TokensChanged`] if the commit reports a lost authorization and the
    ///   Item's tokens are not those that were refused.
    async fn commit(&self, commit: Commit) -> Result<()>;

    // ---- tokens ------------------------------------------------------------------------------

    /// Returns the partner's tokens of an Item and their version, or `None` if it has none.
    async fn tokens(&self, item: &ItemId) -> Result<Option<(TokenSet, u64)>>;

    /// Replaces the tokens and increments their version. Returns `false`, and stores nothing, if
    /// the present version is not `version`.
    async fn save_tokens(&self, item: &ItemId, version: u64, tokens: &TokenSet) -> Result<bool>;

    /// Records that a refresh of the tokens of that version begins. If one is recorded already, its
    /// time stays.
    ///
    /// The record is deleted when other tokens are stored, when these are deleted, or by
    /// [`end_refresh`](Self::end_refresh). Returns `false` if the Item has other tokens.
    async fn begin_refresh(&self, item: &ItemId, version: u64, now: DateTime<Utc>) -> Result<bool>;

    /// Deletes the record of a refresh when its outcome is known, because the partner returned no
    /// other tokens. Does nothing if the Item has other tokens.
    async fn end_refresh(&self, item: &ItemId, version: u64) -> Result<()>;

    /// Claims tokens that are queued for revocation at their partners.
    async fn claim_revocations(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<Revocation>>;

    /// Checks whether the tokens of a claimed revocation may be revoked now, and records that the
    /// request is being sent. Call it directly before the request.
    ///
    /// The check runs under the lock of the revocation. Tokens may not be revoked if an Item of the
    /// institution uses one of them or, where a revocation ends the user's whole grant, if the user
    /// has an Item with tokens. A [`link`](Self::link) that brings one of them deletes a waiting
    /// revocation, and fails with [`StoreErrorKind::RevocationUnderWay`] while the request is being
    /// sent.
    async fn begin_revocation(&self, start: RevocationStart<'_>) -> Result<RevocationDecision>;

    /// Queues tokens for revocation that no Item has: those of a refresh that could not be stored
    /// because the user authorized again or the Item was removed meanwhile, or those of an
    /// authorization that may still be linked until then.
    ///
    /// Returns `false`, and queues nothing, if another refresh of the same authorization came
    /// first: its tokens may belong to the same family.
    async fn revoke_lost(&self, lost: &LostTokens) -> Result<bool>;

    /// Completes a revocation that succeeded or was given up (`again_at` is `None`), or defers it
    /// to `again_at`. Does nothing if it was claimed again meanwhile.
    async fn settle_revocation(
        &self,
        revocation: &Revocation,
        again_at: Option<DateTime<Utc>>,
    ) -> Result<()>;

    // ---- notifications -----------------------------------------------------------------------

    /// Applies a partner's notifications: all of them, or none.
    ///
    /// Applies [`Event::Notified`](crate::item::Event::Notified) to each Item named, in a bounded
    /// number of statements regardless of the number of entries. If several entries name the same
    /// Item, the earliest date counts, and an entry that reports revoked tokens takes precedence.
    async fn notify(&self, batch: &NotifyBatch) -> Result<NotifyOutcome>;

    // ---- outbox ------------------------------------------------------------------------------

    /// Claims due webhooks, the longest due first.
    async fn claim_webhooks(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<QueuedWebhook>>;

    /// Completes webhooks that were delivered or given up, and defers the others, in one
    /// transaction. Skips those that were claimed again meanwhile.
    async fn settle_webhooks(&self, settlements: &[WebhookSettlement]) -> Result<()>;

    /// Settles one webhook; see [`settle_webhooks`](Self::settle_webhooks).
    async fn settle_webhook(
        &self,
        webhook: &QueuedWebhook,
        again_at: Option<DateTime<Utc>>,
    ) -> Result<()> {
        self.settle_webhooks(&[WebhookSettlement::new(webhook.clone(), again_at)]).await
    }

    /// Gives webhooks back unsent, each with its next due time. The claim does not count as an
    /// attempt. Skips those that were claimed again meanwhile.
    async fn hand_back_webhooks(&self, webhooks: &[(QueuedWebhook, DateTime<Utc>)]) -> Result<()>;

    // ---- data on hold ------------------------------------------------------------------------

    /// Returns what waits for a decision and what can be undone, of at most `limit` Items after
    /// `after`, ordered by Item. `institution` restricts it to one institution.
    async fn reviews(
        &self,
        institution: Option<&InstitutionId>,
        after: Option<&ItemId>,
        limit: usize,
    ) -> Result<Vec<Review>>;

    /// Returns the combined evidence of an institution's Items about transactions that have been on
    /// hold since a moment.
    async fn evidence(&self, institution: &InstitutionId, since: DateTime<Utc>)
    -> Result<Evidence>;

    /// Adds to the hourly counts of updates of an institution's Items. Deletes counts older than
    /// eight days.
    async fn count_updates(&self, counts: &[UpdateCount]) -> Result<()>;

    /// Stores an operator's decision for all Items of an institution. It replaces the one before.
    async fn put_ruling(&self, ruling: &Ruling) -> Result<()>;

    /// Returns the operator's decision for all Items of an institution.
    async fn ruling(&self, institution: &InstitutionId) -> Result<Option<Ruling>>;

    /// Deletes the operator's decision for all Items of an institution. Returns `false` if there is
    /// none.
    async fn end_ruling(&self, institution: &InstitutionId) -> Result<bool>;

    // ---- monitoring --------------------------------------------------------------------------

    /// Counts Items by state, late Items, and queued webhooks.
    ///
    /// Its duration grows with the number of Items and webhooks, though it reads indexes only and
    /// no rows. Use it for operators and metrics, not in each cycle of a worker.
    async fn overview(&self, now: DateTime<Utc>) -> Result<Overview>;

    /// Returns a page of Items ordered by id, after one. It includes those that this version cannot
    /// read.
    async fn list(&self, after: Option<&ItemId>, limit: usize) -> Result<Vec<ListedItem>>;

    /// Deletes at most `limit` rows that are no longer readable by any client. Returns their
    /// number.
    ///
    /// These are transactions that were removed before `removed_before`, and remaining data of
    /// large Items that were removed. Repeat it while it deletes `limit` rows.
    async fn purge(&self, removed_before: DateTime<Utc>, limit: usize) -> Result<u64>;

    // ---- keys --------------------------------------------------------------------------------

    /// Returns the numbers of sealed rows by sealing key. It counts all rows.
    async fn key_usage(&self) -> Result<BTreeMap<String, KeyUsage>>;

    /// Seals rows again that are not sealed under the current key ([`Envelope::is_current`]).
    /// Examines at most `limit` rows; repeat it with the position that it returns.
    async fn reseal(&self, position: &ResealPosition, limit: usize) -> Result<Resealed>;
}

/// Default of [`StoreOptions::call_timeout`]: half of the engine's lease.
pub const DEFAULT_CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Default of [`StoreOptions::bulk_timeout`].
pub const DEFAULT_BULK_TIMEOUT: Duration = Duration::from_secs(600);

/// Delay before the next attempt at an Item, or a queued message, that cannot be read. By then its
/// key may be available again, or a version that can read it takes it.
pub(crate) const UNREADABLE_RETRY: TimeDelta = TimeDelta::hours(1);

/// Retention of the record of a refresh if its Item cannot be read. After that partners no longer
/// return the new tokens (`px.md` section 4), and other refreshes wait behind it.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
const UNREADABLE_REFRESH_RETENTION: TimeDelta = TimeDelta::seconds(60);

/// The options that a store is opened with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoreOptions {
    /// Environment of every webhook and token. A database stores the environment that it was first
    /// opened for, and cannot be opened for another.
    pub environment: Environment,
    /// Seals the stored secrets.
    pub vault: Arc<dyn Envelope>,
    /// Measures the time limits of calls.
    pub clock: Arc<dyn Clock>,
    /// The store's own time. Default: the time of PostgreSQL; on SQLite the time of `clock`, where
    /// steps are accepted once they have lasted a minute.
    pub shared_clock: Option<Arc<dyn SharedClock>>,
    /// Source of fencing tokens and of the jitter of retries.
    pub random: Arc<dyn Random>,
    /// Time limit of a call of normal operation. Default: 10 s. Keep it at half a lease or less.
    ///
    /// A call that exceeds it fails with [`StoreErrorKind::TimedOut`].
    pub call_timeout: Duration,
    /// Time limit of migrations and counts. Default: 10 min. Each batch of a deletion has the limit of
    /// a call.
    pub bulk_timeout: Duration,
}

impl StoreOptions {
    /// Creates options with the defaults.
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

    /// Returns the store's own time, for a store that only this machine uses.
    #[cfg(feature = "sqlite")]
    fn local_time(&self) -> StoreTime {
        match &self.shared_clock {
            Some(shared) => StoreTime::shared(Arc::clone(shared), Arc::clone(&self.clock)),
            None => StoreTime::local(Arc::clone(&self.clock)),
        }
    }
}

/// Counts of a store's Items and webhooks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Overview {
    /// Number of Items in each state.
    pub states: BTreeMap<State, u64>,
    /// Number of Items in a state that this version does not know.
    pub unknown_states: u64,
    /// Number of Items that are due and not leased.
    pub due: u64,
    /// Due time of the Item that has been due longest.
    pub due_since: Option<DateTime<Utc>>,
    /// Number of queued webhooks.
    pub webhooks: u64,
    /// Creation time of the oldest queued webhook.
    pub webhooks_since: Option<DateTime<Utc>>,
}
