//! Where Items are kept: one trait, and what passes through it.
//!
//! A store keeps these promises, which the conformance suite (feature `testing`) tests:
//!
//! - A [`Commit`] happens whole or not at all: data, state, next due time, webhooks.
//! - A commit whose [`Fence`] is not the present one is refused and changes nothing.
//! - An Item is claimed by one worker at a time, until it commits its end or its lease runs out.
//! - A notification that comes while an Item is leased makes it due once more, however often.
//! - What others write (connections, tokens, notifications) never waits for a lease and is
//!   never overwritten by the one who holds it.
//!
//! Every table is keyed by Item first. Time is handed in, so that stores can be simulated.

#[cfg(feature = "testing")]
pub mod conformance;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
mod rules;
#[cfg(feature = "sqlite")]
mod sqlite;

pub use memory::MemoryStore;
#[cfg(feature = "testing")]
pub use memory::Sabotage;
#[cfg(all(feature = "postgres", feature = "testing", unix))]
pub(crate) use postgres::MIGRATOR;
#[cfg(feature = "postgres")]
pub use postgres::PostgresStore;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteStore;

use crate::{
    connection::Connection,
    item::State,
    life::Life,
    merge::{AccountWrite, KnownAccount, KnownTransaction, MergedTransactions},
    news::News,
    vault::Envelope,
};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use px_client::{Window, oauth::TokenSet};
use px_types::{
    AccountId, ApplicationId, Date, IdentityId, InstitutionId, ItemId, TransactionId, UserId,
    model::{identity::Identity, security::Security, transaction::Transaction},
    webhook::Environment,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error as StdError,
    fmt,
    sync::Arc,
};

/// Keeps Items.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
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
    /// earlier one of the same holder ends.
    ///
    /// [`Event::Repaired`]: crate::item::Event::Repaired
    async fn link(&self, new: NewLink) -> Result<Linked>;

    /// Takes a holder off an Item, an application or (`None`) the partner; its access ends at once.
    ///
    /// The last application takes the Item with it: tokens go to the revocations, everything else
    /// is deleted, a commit under way is refused. A partner's own access token does not keep it.
    /// A partner takes with it an Item that no application is connected to.
    async fn unlink(
        &self,
        item: &ItemId,
        application: Option<&ApplicationId>,
        now: DateTime<Utc>,
    ) -> Result<Unlinked>;

    /// Sets what an application may see and where it is told ([`Connection::take_place_of`]).
    /// `false`: no such connection. When it is now the first that needs transactions, the Item is
    /// due.
    async fn set_connection(
        &self,
        item: &ItemId,
        connection: Connection,
        now: DateTime<Utc>,
    ) -> Result<bool>;

    /// The connections of an Item, by application.
    async fn connections(&self, item: &ItemId) -> Result<Vec<Connection>>;

    /// Whose access token that is.
    async fn access(&self, token: &AccessDigest) -> Result<Option<Access>>;

    /// Replaces an access token by another one, for the same holder. `false`: no such token.
    async fn replace_access(&self, old: &AccessDigest, new: &AccessDigest) -> Result<bool>;

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
    /// lease and a new fence. An Item under a lease that ran out is due.
    ///
    /// [`Event::Claimed`]: crate::item::Event::Claimed
    async fn claim(
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

    /// Takes tokens that wait to be revoked at their partners.
    async fn claim_revocations(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<Revocation>>;

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

    /// Ends a webhook that was delivered or given up (`again_at` is `None`), or puts it off.
    /// Passed over when it was taken once more meanwhile.
    async fn settle_webhook(
        &self,
        webhook: &QueuedWebhook,
        again_at: Option<DateTime<Utc>>,
    ) -> Result<()>;

    /// Gives webhooks back unsent, each due at a moment; that they were taken does not count.
    /// Those that were taken once more meanwhile are passed over.
    async fn hand_back_webhooks(&self, webhooks: &[(QueuedWebhook, DateTime<Utc>)]) -> Result<()>;

    // ---- watching ----------------------------------------------------------------------------

    /// How many Items there are in each state, what is late, and what waits to be sent.
    async fn overview(&self, now: DateTime<Utc>) -> Result<Overview>;

    /// Items by id, after one.
    async fn list(&self, after: Option<&ItemId>, limit: usize) -> Result<Vec<ItemRecord>>;
}

/// What every store is opened with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoreOptions {
    /// Said in every webhook.
    pub environment: Environment,
    /// Seals the tokens.
    pub vault: Arc<dyn Envelope>,
}

impl StoreOptions {
    /// What a store is opened with.
    #[must_use]
    pub fn new(environment: Environment, vault: Arc<dyn Envelope>) -> Self {
        Self { environment, vault }
    }
}

/// A result of a store.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Counts the claims of an Item: what an earlier holder writes late is refused by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fence(pub i64);

/// An Item as stored.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ItemRecord {
    /// Its id.
    pub id: ItemId,
    /// The institution.
    pub institution_id: InstitutionId,
    /// The user there.
    pub user_id: UserId,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Where it is in its life.
    pub state: State,
    /// What it remembers.
    pub life: Life,
    /// Counts claims.
    pub fence: Fence,
    /// When it is due, or was when it was taken; `None` when it rests.
    pub due_at: Option<DateTime<Utc>>,
    /// Until when a worker holds it.
    pub leased_until: Option<DateTime<Utc>>,
    /// Before this the partner asked not to be called.
    pub not_before: Option<DateTime<Utc>>,
    /// Counts notifications.
    pub notified: i64,
    /// The earliest date that a notification named and no update has read since.
    pub notified_since: Option<Date>,
    /// Counts commits that changed transactions; sync cursors are positions in it.
    pub change_seq: i64,
    /// The earliest date of a transaction that is pending.
    pub oldest_pending: Option<Date>,
    /// Whether a connected application needs transactions.
    pub needs_transactions: bool,
    /// Whether the partner asked for the tokens to be cycled ([`NotifyAsk::Cycle`]) and they were
    /// not replaced since, by [`Store::save_tokens`] or [`Store::link`].
    pub cycle_tokens: bool,
}

/// What is needed to connect an application.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NewLink {
    /// The id of the Item, if it has to be made.
    pub item_id: ItemId,
    /// The institution.
    pub institution_id: InstitutionId,
    /// The user there.
    pub user_id: UserId,
    /// The partner's tokens.
    pub tokens: TokenSet,
    /// The accounts that these tokens show, by the partner's ids; `None` is all of the user's.
    pub covers: Option<BTreeSet<AccountId>>,
    /// Who connects.
    pub holder: NewHolder,
    /// Of the token by which the holder reads from now on.
    pub access: AccessDigest,
    /// Now.
    pub now: DateTime<Utc>,
}

/// Who connects to an Item.
#[derive(Clone, Debug, PartialEq)]
pub enum NewHolder {
    /// An application.
    Application(Connection),
    /// The partner itself, which reads nothing, is told nothing and does not keep the Item.
    Partner,
}

impl NewLink {
    /// Connects an application, or the partner itself.
    #[must_use]
    pub fn new(
        (institution_id, user_id): (InstitutionId, UserId),
        item_id: ItemId,
        tokens: TokenSet,
        holder: NewHolder,
        access: AccessDigest,
        now: DateTime<Utc>,
    ) -> Self {
        Self { item_id, institution_id, user_id, tokens, covers: None, holder, access, now }
    }
}

/// What became of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Linked {
    /// The Item.
    pub item_id: ItemId,
    /// Whether it was made.
    pub created: bool,
    /// Whether it had lost its authorization and has it again.
    pub repaired: bool,
}

impl Linked {
    /// What became of a link.
    #[must_use]
    pub fn new(item_id: ItemId, created: bool, repaired: bool) -> Self {
        Self { item_id, created, repaired }
    }
}

/// What became of an unlinking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlinked {
    /// There was no such connection.
    NotConnected,
    /// The application is off; others stay.
    OthersStay,
    /// It was the last one: the Item is gone.
    ItemRemoved,
}

/// SHA-256 of an access token; the token itself is not kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccessDigest(pub [u8; 32]);

impl fmt::Debug for AccessDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessDigest(***)")
    }
}

/// Whose an access token is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Access {
    /// The Item.
    pub item_id: ItemId,
    /// The institution of the Item.
    pub institution_id: InstitutionId,
    /// The application; `None` is the partner itself.
    pub application_id: Option<ApplicationId>,
}

impl Access {
    /// Whose an access token is.
    #[must_use]
    pub fn new(
        item_id: ItemId,
        institution_id: InstitutionId,
        application_id: Option<ApplicationId>,
    ) -> Self {
        Self { item_id, institution_id, application_id }
    }
}

/// Which transactions are read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TransactionQuery {
    /// The accounts; `None` is all. Empty is none.
    pub accounts: Option<Vec<AccountId>>,
    /// The dates.
    pub window: Window,
    /// After this one, by date and id: new ones never shift a page.
    pub after: Option<(Date, TransactionId)>,
    /// At most so many.
    pub limit: usize,
}

impl TransactionQuery {
    /// The first page of all accounts.
    #[must_use]
    pub fn new(window: Window, limit: usize) -> Self {
        Self { accounts: None, window, after: None, limit }
    }
}

/// A page of transactions.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TransactionPage {
    /// The rows, under the Item's own ids.
    pub rows: Vec<Transaction>,
    /// How many the window has over all pages.
    pub total: u64,
}

impl TransactionPage {
    /// A page.
    #[must_use]
    pub fn new(rows: Vec<Transaction>, total: u64) -> Self {
        Self { rows, total }
    }
}

/// Which changes are read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChangeQuery {
    /// The accounts; `None` is all.
    pub accounts: Option<Vec<AccountId>>,
    /// After the change of that number and id.
    pub after: (i64, Option<TransactionId>),
    /// A transaction that was added, or came back, later than this number is added; any other is
    /// modified. One that is gone is left out when it was added later than this for the first
    /// time, and removed otherwise: a reader may have it from before it was gone and came back.
    pub base: i64,
    /// At most so many.
    pub limit: usize,
}

impl ChangeQuery {
    /// The changes after a number.
    #[must_use]
    pub fn new(base: i64, limit: usize) -> Self {
        Self { accounts: None, after: (base, None), base, limit }
    }
}

/// A page of changes, all in the order (number, id).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ChangePage {
    /// The changes. What was first added and is gone since `base` is left out, but counts for `last`.
    pub changes: Vec<ChangeRow>,
    /// The position after the page; that of the query when there is nothing.
    pub last: (i64, Option<TransactionId>),
    /// Whether there is more.
    pub more: bool,
    /// The Item's number, read together with the changes or after them, never before.
    pub head: i64,
}

impl ChangePage {
    /// A page.
    #[must_use]
    pub fn new(
        changes: Vec<ChangeRow>,
        last: (i64, Option<TransactionId>),
        more: bool,
        head: i64,
    ) -> Self {
        Self { changes, last, more, head }
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum ChangeRow {
    /// The reader does not have it; or it was gone and came back since.
    Added(Transaction),
    /// The reader has it, as it was.
    Modified(Transaction),
    /// It is gone; the reader has it, or had it once.
    Removed(AccountId, TransactionId),
}

/// The result of a piece of work.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Commit {
    /// The Item.
    pub item_id: ItemId,
    /// The claim under which the work was done.
    pub fence: Fence,
    /// Now.
    pub now: DateTime<Utc>,
    /// Where the Item is then.
    pub state: State,
    /// What it remembers then.
    pub life: Life,
    /// What changes in accounts, identities and securities.
    pub accounts: Option<AccountsWrite>,
    /// Securities that transactions brought.
    pub securities: Vec<Security>,
    /// What changes in transactions.
    pub transactions: MergedTransactions,
    /// What there is to tell, to the connections that there are at the commit.
    pub news: News,
    /// Whether the authorization is lost: the tokens of this version go, or the commit is refused.
    pub refused_tokens: Option<u64>,
    /// The lease and the schedule.
    pub then: Then,
}

impl Commit {
    /// A commit that changes nothing but the state and the schedule.
    #[must_use]
    pub fn new(record: &ItemRecord, state: State, now: DateTime<Utc>, then: Then) -> Self {
        Self {
            item_id: record.id.clone(),
            fence: record.fence,
            now,
            state,
            life: record.life.clone(),
            accounts: None,
            securities: Vec::new(),
            transactions: MergedTransactions::default(),
            news: News::default(),
            refused_tokens: None,
            then,
        }
    }
}

/// Accounts to be stored.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct AccountsWrite {
    /// Accounts that changed.
    pub accounts: Vec<AccountWrite>,
    /// Accounts whose rows go, before the others are written: held ones that a re-map found to be
    /// one that the Item has. They have no transactions.
    pub forgotten: Vec<AccountId>,
    /// The signed-in user and all identities, which replace the stored ones; `None` when they
    /// are as stored.
    pub identities: Option<(IdentityId, Vec<Identity>)>,
    /// Securities that are new or changed.
    pub securities: Vec<Security>,
}

/// What becomes of the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It is kept: there is more to do.
    Keep {
        /// Until then.
        lease_until: DateTime<Utc>,
    },
    /// It ends.
    Release {
        /// When the Item is due; `None` when it rests.
        due_at: Option<DateTime<Utc>>,
        /// Before this the partner asked not to be called.
        not_before: Option<DateTime<Utc>>,
        /// The notifications that the work took into account. When there are more by now, the
        /// Item is due at once (not before `not_before`) and keeps what they said.
        seen: i64,
    },
}

/// Notifications of one partner.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NotifyBatch {
    /// The partner.
    pub institution_id: InstitutionId,
    /// The tokens named and what each asks for, in the order of the entries.
    pub entries: Vec<(AccessDigest, NotifyAsk)>,
    /// Now.
    pub now: DateTime<Utc>,
}

impl NotifyBatch {
    /// Notifications of one partner.
    #[must_use]
    pub fn new(
        institution_id: InstitutionId,
        entries: Vec<(AccessDigest, NotifyAsk)>,
        now: DateTime<Utc>,
    ) -> Self {
        Self { institution_id, entries, now }
    }
}

/// What a notification asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotifyAsk {
    /// An update that reads at least since that date.
    Update {
        /// The date; `None` is the usual window.
        since: Option<Date>,
    },
    /// The partner revoked the tokens: [`Event::Refused`](crate::item::Event::Refused), and
    /// `ITEM: ERROR` to every application.
    Revoked,
    /// The tokens are refreshed at the next update, which is now.
    Cycle,
}

/// What became of notifications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotifyOutcome {
    /// All were applied.
    Applied,
    /// The entry at that index names no token of an Item of this partner. Nothing was applied.
    Unknown(usize),
}

/// A webhook that a worker took from the outbox.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct QueuedWebhook {
    /// Its number.
    pub id: i64,
    /// The Item.
    pub item_id: ItemId,
    /// The application.
    pub application_id: ApplicationId,
    /// Where to.
    pub url: String,
    /// The body, as it is signed and sent.
    pub body: String,
    /// When it was put there.
    pub created_at: DateTime<Utc>,
    /// How many times it was taken, this time included.
    pub attempt: u32,
}

impl QueuedWebhook {
    /// A webhook of the outbox.
    #[must_use]
    pub fn new(
        id: i64,
        (item_id, application_id): (ItemId, ApplicationId),
        (url, body): (String, String),
        created_at: DateTime<Utc>,
        attempt: u32,
    ) -> Self {
        Self { id, item_id, application_id, url, body, created_at, attempt }
    }
}

/// Tokens that wait to be revoked at their partner.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Revocation {
    /// Its number.
    pub id: i64,
    /// The Item, which may be gone.
    pub item_id: ItemId,
    /// The partner.
    pub institution_id: InstitutionId,
    /// The tokens.
    pub tokens: TokenSet,
    /// How many times it was taken, this time included.
    pub attempt: u32,
    /// When it was put there.
    pub created_at: DateTime<Utc>,
}

impl Revocation {
    /// Tokens that wait to be revoked.
    #[must_use]
    pub fn new(
        id: i64,
        (item_id, institution_id): (ItemId, InstitutionId),
        tokens: TokenSet,
        attempt: u32,
        created_at: DateTime<Utc>,
    ) -> Self {
        Self { id, item_id, institution_id, tokens, attempt, created_at }
    }
}

/// A store's Items at a glance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Overview {
    /// How many Items are in each state.
    pub states: BTreeMap<State, u64>,
    /// How many are due and not leased.
    pub due: u64,
    /// Since when the one that waits longest is due.
    pub due_since: Option<DateTime<Utc>>,
    /// How many webhooks wait.
    pub webhooks: u64,
    /// Since when the oldest of them waits.
    pub webhooks_since: Option<DateTime<Utc>>,
}

/// Why a store did not do something.
pub struct StoreError {
    kind: StoreErrorKind,
    what: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The claim is no longer the present one: someone else has the Item, or it is gone.
    Fenced,
    /// The tokens are not those that were refused: the user authorized again meanwhile.
    TokensChanged,
    /// The database is out of reach, busy or failed. Trying again can help.
    Unavailable,
    /// What is stored cannot be read: a fault of a program, or another key.
    Corrupt,
}

impl StoreError {
    /// Says what happened, in one line without secrets or data.
    pub fn new(kind: StoreErrorKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), source: None }
    }

    /// Adds the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The commit came too late.
    #[must_use]
    pub fn fenced() -> Self {
        Self::new(
            StoreErrorKind::Fenced,
            "the Item is another worker's by now, or gone; nothing was stored",
        )
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreError")
            .field("kind", &self.kind)
            .field("what", &self.what)
            .field("source", &self.source)
            .finish()
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}
