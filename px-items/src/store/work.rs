//! Claimed Items, the commits of workers, and the notifications of partners.

use super::{AccessDigest, Moves, Review};
use crate::{
    changes::ItemChanges,
    item::State,
    merge::{AccountWrite, MergedTransactions},
    sync_state::SyncState,
};
use chrono::{DateTime, Utc};
use px_types::{
    AccountId, Date, IdentityId, InstitutionId, ItemId, TransactionId, UserId,
    model::{activity::Activity, identity::Identity, security::Security},
};

/// The fencing token of a claim. A write under an outdated token is refused.
///
/// It is random and can only be compared for equality. A counter could be rolled back by a
/// fail-over and then be issued a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fence(pub i64);

/// An Item in a listing.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ListedItem {
    /// An Item that this version can read.
    Readable(Box<ItemRecord>),
    /// An Item that this version cannot read.
    Unreadable(UnreadableItem),
}

impl ListedItem {
    /// Returns the id.
    #[must_use]
    pub fn id(&self) -> &ItemId {
        match self {
            Self::Readable(record) => &record.id,
            Self::Unreadable(unreadable) => &unreadable.id,
        }
    }

    /// Returns the record, if this version can read it.
    #[must_use]
    pub fn record(&self) -> Option<&ItemRecord> {
        match self {
            Self::Readable(record) => Some(record),
            Self::Unreadable(_) => None,
        }
    }

    /// Returns the owned record, if this version can read it.
    #[must_use]
    pub fn into_record(self) -> Option<ItemRecord> {
        match self {
            Self::Readable(record) => Some(*record),
            Self::Unreadable(_) => None,
        }
    }
}

/// An Item that this version cannot read: written by another version, or with a damaged row.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnreadableItem {
    /// Id of the Item.
    pub id: ItemId,
    /// The part that cannot be read, in one line, without its contents.
    pub reason: String,
}

impl UnreadableItem {
    /// Creates an unreadable Item with a reason.
    #[must_use]
    pub fn new(id: ItemId, reason: impl Into<String>) -> Self {
        Self { id, reason: reason.into() }
    }
}

/// A stored Item.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ItemRecord {
    /// Id of the Item.
    pub id: ItemId,
    /// Institution of the Item.
    pub institution_id: InstitutionId,
    /// User at the institution.
    pub user_id: UserId,
    /// Creation time.
    pub created_at: DateTime<Utc>,
    /// Lifecycle state.
    pub state: State,
    /// Progress and results of earlier updates.
    pub sync_state: SyncState,
    /// Fencing token of the last claim.
    pub fence: Fence,
    /// Due time; of a claimed Item, the due time before the claim. `None` if the Item is not
    /// scheduled.
    pub due_at: Option<DateTime<Utc>>,
    /// End of the lease, if a worker has one.
    pub leased_until: Option<DateTime<Utc>>,
    /// Earliest time of the next update, even if one is requested before. It results from a backoff,
    /// the pace of updates, or `Retry-After`.
    pub not_before: Option<DateTime<Utc>>,
    /// Number of notifications so far.
    pub notified: i64,
    /// Earliest date of the notifications that no update has covered yet.
    pub notified_since: Option<Date>,
    /// Number of commits that changed transactions. Positions of sync cursors refer to it.
    pub change_seq: i64,
    /// Earliest date of a pending transaction in an account that is not closed.
    pub oldest_pending: Option<Date>,
    /// Whether a connected application needs transactions.
    pub needs_transactions: bool,
    /// Whether the partner requested a refresh of the tokens ([`NotificationRequest::Cycle`]) that is still
    /// due. Reset when the tokens are replaced by [`Store::save_tokens`](super::Store::save_tokens)
    /// or [`Store::link`](super::Store::link).
    pub cycle_tokens: bool,
    /// Start of a token refresh with unknown outcome. The partner may have replaced the tokens, and
    /// repeats the new ones for a short time only (`px.md` section 4).
    pub refresh_begun_at: Option<DateTime<Utc>>,
    /// Number of expired leases since the last commit. If it grows, work on the Item may crash
    /// processes.
    pub lost_leases: u32,
    /// Whether the claim that returned this record followed an expired lease. `false` in a record
    /// that was only read.
    pub took_over: bool,
}

/// The result of a unit of work on an Item.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Commit {
    /// The Item.
    pub item_id: ItemId,
    /// The fencing token of the claim.
    pub fence: Fence,
    /// The present time.
    pub now: DateTime<Utc>,
    /// The new lifecycle state.
    pub state: State,
    /// The new progress of the Item.
    pub sync_state: SyncState,
    /// Changes of accounts, identities and securities.
    pub accounts: Option<AccountsWrite>,
    /// Securities that the transactions refer to.
    pub securities: Vec<Security>,
    /// Changes of transactions.
    pub transactions: MergedTransactions,
    /// Events for the applications that are connected at the time of the commit.
    pub changes: ItemChanges,
    /// Version of the tokens that the partner refused. They are deleted; the commit fails if the
    /// Item has others.
    pub refused_tokens: Option<u64>,
    /// The pending decisions and those that can be undone after the commit. `None` if they do not
    /// change.
    pub reviews: Option<Vec<Review>>,
    /// Transactions that continue under another id of the partner by a decision: the Item's own id,
    /// and the partner's earlier id. If a transaction was moved before, its first earlier id stays.
    pub moved: Vec<(TransactionId, TransactionId)>,
    /// The change of the record of the partner's ids that decisions replaced.
    pub moves: Moves,
    /// New entries of the activity log.
    pub activities: Vec<Activity>,
    /// The lease and the schedule after the commit.
    pub lease: LeaseOutcome,
}

impl Commit {
    /// Creates a commit that changes only the state and the schedule.
    #[must_use]
    pub fn new(record: &ItemRecord, state: State, now: DateTime<Utc>, then: LeaseOutcome) -> Self {
        Self {
            item_id: record.id.clone(),
            fence: record.fence,
            now,
            state,
            sync_state: record.sync_state.clone(),
            accounts: None,
            securities: Vec::new(),
            transactions: MergedTransactions::default(),
            changes: ItemChanges::default(),
            refused_tokens: None,
            reviews: None,
            moved: Vec::new(),
            moves: Moves::Keep,
            activities: Vec::new(),
            lease: then,
        }
    }
}

/// Changes of accounts, identities and securities in a commit.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct AccountsWrite {
    /// Whether this is the first response about the user. A connection to all present accounts, but
    /// not to later ones, then gets the accounts of this response, even if it has none.
    pub first: bool,
    /// Accounts that changed.
    pub accounts: Vec<AccountWrite>,
    /// Accounts to delete before the others are written: accounts on hold that a re-map identified
    /// as one that the Item has. They have no transactions.
    pub forgotten: Vec<AccountId>,
    /// The signed-in user and all identities, which replace the stored ones. `None` if they do not
    /// change.
    pub identities: Option<(IdentityId, Vec<Identity>)>,
    /// Securities that are new or changed.
    pub securities: Vec<Security>,
}

impl AccountsWrite {
    /// Returns whether the changes can extend the account lists of connections.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(super) fn extends_connections(&self) -> bool {
        self.first || self.accounts.iter().any(|account| account.new)
    }
}

/// The effect of a commit on the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseOutcome {
    /// Keeps the lease, because there is more to do.
    Keep {
        /// New end of the lease.
        lease_until: DateTime<Utc>,
    },
    /// Releases the lease.
    Release {
        /// Next due time; `None` if the Item is not to be scheduled.
        due_at: Option<DateTime<Utc>>,
        /// Earliest time of the next update, even if one is requested before. It results from a backoff,
        /// the pace of updates, or `Retry-After`.
        not_before: Option<DateTime<Utc>>,
        /// Number of notifications that the work took into account. If more have arrived, the Item
        /// is due at once (not before `not_before`) and keeps what they requested.
        seen: i64,
    },
}

/// A batch of notifications of one partner.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NotifyBatch {
    /// The partner.
    pub institution_id: InstitutionId,
    /// The tokens named, and what is requested for each, in the order of the entries.
    pub entries: Vec<(AccessDigest, NotificationRequest)>,
    /// The present time.
    pub now: DateTime<Utc>,
}

impl NotifyBatch {
    /// Creates a batch of notifications of one partner.
    #[must_use]
    pub fn new(
        institution_id: InstitutionId,
        entries: Vec<(AccessDigest, NotificationRequest)>,
        now: DateTime<Utc>,
    ) -> Self {
        Self { institution_id, entries, now }
    }
}

/// The request of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotificationRequest {
    /// An update that reads transactions since a date.
    Update {
        /// The date; `None` requests the usual window.
        since: Option<Date>,
    },
    /// The partner revoked the tokens: applies [`Event::Refused`](crate::item::Event::Refused) and
    /// sends `ITEM: ERROR` to every application.
    Revoked,
    /// A refresh of the tokens with the next update, which is due now.
    Cycle,
}

/// The outcome of a batch of notifications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotifyOutcome {
    /// All entries were applied.
    Applied,
    /// The entry at this index names no token of an Item of the partner. Nothing was applied.
    Unknown(usize),
}
