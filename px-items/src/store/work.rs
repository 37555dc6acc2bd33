//! What a worker takes, what it stores, and what partners ask for meanwhile.

use super::{AccessDigest, Moves, Review};
use crate::{
    item::State,
    life::Life,
    merge::{AccountWrite, MergedTransactions},
    news::News,
};
use chrono::{DateTime, Utc};
use px_types::{
    AccountId, Date, IdentityId, InstitutionId, ItemId, TransactionId, UserId,
    model::{activity::Activity, identity::Identity, security::Security},
};

/// The fencing token of a claim: what an earlier holder writes late is refused by it.
///
/// It is random, and only equality means anything: a counter could be taken back by a fail-over
/// and then be given a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fence(pub i64);

/// An Item in a list.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ListedItem {
    /// As it is stored.
    Readable(Box<ItemRecord>),
    /// This version cannot read it.
    Unreadable(UnreadableItem),
}

impl ListedItem {
    /// The id.
    #[must_use]
    pub fn id(&self) -> &ItemId {
        match self {
            Self::Readable(record) => &record.id,
            Self::Unreadable(unreadable) => &unreadable.id,
        }
    }

    /// The record, if this version can read it.
    #[must_use]
    pub fn record(&self) -> Option<&ItemRecord> {
        match self {
            Self::Readable(record) => Some(record),
            Self::Unreadable(_) => None,
        }
    }

    /// Takes the record out, if this version can read it.
    #[must_use]
    pub fn into_record(self) -> Option<ItemRecord> {
        match self {
            Self::Readable(record) => Some(*record),
            Self::Unreadable(_) => None,
        }
    }
}

/// An Item that this version cannot read: another version stored it, or its row is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnreadableItem {
    /// The id.
    pub id: ItemId,
    /// One line that names the part that cannot be read, without its contents.
    pub reason: String,
}

impl UnreadableItem {
    /// Returns an Item that cannot be read for this reason.
    #[must_use]
    pub fn new(id: ItemId, reason: impl Into<String>) -> Self {
        Self { id, reason: reason.into() }
    }
}

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
    /// The fencing token of the last claim.
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
    /// The earliest date of a transaction that is pending, of accounts that are not closed.
    pub oldest_pending: Option<Date>,
    /// Whether a connected application needs transactions.
    pub needs_transactions: bool,
    /// Whether the partner asked for the tokens to be cycled ([`NotifyAsk::Cycle`]) and they were
    /// not replaced since, by [`Store::save_tokens`](super::Store::save_tokens) or
    /// [`Store::link`](super::Store::link).
    pub cycle_tokens: bool,
    /// When a refresh of its tokens began whose outcome is not known. The partner may have replaced
    /// the tokens, and gives the new ones once more for a short time only (`px.md` section 4).
    pub refresh_begun_at: Option<DateTime<Utc>>,
    /// How many leases of it ran out since the last commit: its work may end processes.
    pub lost_leases: u32,
    /// Whether the claim that returned this record took it over from a lease that had run out.
    /// `false` in a record that was only read.
    pub took_over: bool,
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
    /// What waits for a decision and what can be taken back from then on; `None` if it is as
    /// stored.
    pub reviews: Option<Vec<Review>>,
    /// Transactions that go on under another id of the partner's by a decision: the Item's own id,
    /// and the partner's before. Of one that went on so before, the first one stays.
    pub moved: Vec<(TransactionId, TransactionId)>,
    /// What becomes of the partner's ids that decisions replaced before.
    pub moves: Moves,
    /// Entries for the activity log.
    pub activities: Vec<Activity>,
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
            reviews: None,
            moved: Vec::new(),
            moves: Moves::Keep,
            activities: Vec::new(),
            then,
        }
    }
}

/// Accounts to be stored.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct AccountsWrite {
    /// Whether this is the first answer about the user: a connection that shares all accounts but
    /// not later ones meant those of this answer, be there any or none.
    pub first: bool,
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

impl AccountsWrite {
    /// Whether connections have something to take in.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(super) fn is_taken_in(&self) -> bool {
        self.first || self.accounts.iter().any(|account| account.new)
    }
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
