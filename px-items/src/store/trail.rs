//! What a change of who may see what leaves behind: an entry in the Item's log, and a word to
//! its partner.

use chrono::{DateTime, Utc};
use px_types::{
    ActivityId, ApplicationId, ItemId, NotificationId,
    model::{activity::ActivityType, application_details::Application},
};

/// What is to be noted of a change, in the transaction that makes it.
///
/// The store knows the scopes and whether an application is new; it fills these in.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Trail {
    /// For the Item's activity log; `None` leaves it alone.
    pub act: Option<Act>,
    /// What tells the partner that an application was connected or left; `None` tells nothing.
    pub notice: Option<Notice>,
}

/// Who does something.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Act {
    /// The id of the entry.
    pub id: ActivityId,
    /// Who began it: an application, an institution, or Plaid's side.
    pub initiator: String,
}

/// What a partner is told an application by.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Notice {
    /// The id of the notification, the same each time it is sent.
    pub id: NotificationId,
    /// The application, as it registered.
    pub application: Application,
}

impl Act {
    /// Who does something.
    #[must_use]
    pub fn new(id: ActivityId, initiator: impl Into<String>) -> Self {
        Self { id, initiator: initiator.into() }
    }
}

impl Notice {
    /// A word to the partner of an application.
    #[must_use]
    pub fn new(id: NotificationId, application: Application) -> Self {
        Self { id, application }
    }
}

impl Trail {
    /// Notes it in the log, and tells the partner nothing.
    #[must_use]
    pub fn of(act: Act) -> Self {
        Self { act: Some(act), notice: None }
    }
}

/// A kind of data that an application reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DataKind {
    /// Accounts and balances.
    Balances,
    /// Account and routing numbers.
    Numbers,
    /// Who holds the accounts.
    Contacts,
    /// Transactions.
    Transactions,
    /// Credit and loans.
    Liabilities,
    /// Holdings.
    Investments,
}

impl DataKind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::Balances,
        Self::Numbers,
        Self::Contacts,
        Self::Transactions,
        Self::Liabilities,
        Self::Investments,
    ];

    /// The name that stores keep.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Balances => "balances",
            Self::Numbers => "numbers",
            Self::Contacts => "contacts",
            Self::Transactions => "transactions",
            Self::Liabilities => "liabilities",
            Self::Investments => "investments",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// That an application read a kind of data of an Item.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DataRead {
    /// The Item.
    pub item_id: ItemId,
    /// The application.
    pub application_id: ApplicationId,
    /// What.
    pub kind: DataKind,
    /// When.
    pub at: DateTime<Utc>,
}

/// Who leaves an Item.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Leave {
    /// The Item.
    pub item_id: ItemId,
    /// The application; `None` is the partner.
    pub application_id: Option<ApplicationId>,
    /// What the log calls it.
    pub activity: ActivityType,
    /// What is noted of it.
    pub trail: Trail,
    /// Now.
    pub now: DateTime<Utc>,
}

impl Leave {
    /// Takes a holder off an Item, and notes nothing of it.
    #[must_use]
    pub fn new(item_id: ItemId, application_id: Option<ApplicationId>, now: DateTime<Utc>) -> Self {
        let activity = ActivityType::ItemUnlink;
        Self { item_id, application_id, activity, trail: Trail::default(), now }
    }
}
