//! Audit entries and partner notifications of a change of access, and the read times of
//! applications.

use chrono::{DateTime, Utc};
use px_types::{
    ActivityId, ApplicationId, ItemId, NotificationId,
    model::{activity::ActivityType, application_details::Application},
};

/// The audit entry and the partner notification that are stored in the transaction of a change.
///
/// The store knows the scopes and whether an application is new, and fills these in.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct AuditRecord {
    /// Entry of the Item's activity log; `None` writes none.
    pub act: Option<ActivityAuthor>,
    /// Notification of the partner that an application was connected or disconnected; `None` sends
    /// none.
    pub notice: Option<PartnerNotification>,
}

/// The author of a change in the activity log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ActivityAuthor {
    /// Id of the entry.
    pub id: ActivityId,
    /// Initiator of the change: an application, an institution, or Plaid.
    pub initiator: String,
}

/// A partner notification about an application.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PartnerNotification {
    /// Id of the notification. It is the same on every attempt.
    pub id: NotificationId,
    /// The application as registered.
    pub application: Application,
}

impl ActivityAuthor {
    /// Creates the author of a change.
    #[must_use]
    pub fn new(id: ActivityId, initiator: impl Into<String>) -> Self {
        Self { id, initiator: initiator.into() }
    }
}

impl PartnerNotification {
    /// Creates a partner notification about an application.
    #[must_use]
    pub fn new(id: NotificationId, application: Application) -> Self {
        Self { id, application }
    }
}

impl AuditRecord {
    /// Writes an audit entry, but sends no notification to the partner.
    #[must_use]
    pub fn of(act: ActivityAuthor) -> Self {
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
    /// Owners of the accounts.
    Contacts,
    /// Transactions.
    Transactions,
    /// Credit and loans.
    Liabilities,
    /// Holdings.
    Investments,
}

impl DataKind {
    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self::Balances,
        Self::Numbers,
        Self::Contacts,
        Self::Transactions,
        Self::Liabilities,
        Self::Investments,
    ];

    /// Returns the name under which stores save it.
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

    /// Returns the kind of a name, or `None` if the name is unknown.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// A read of a kind of an Item's data by an application.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DataRead {
    /// The Item.
    pub item_id: ItemId,
    /// The application.
    pub application_id: ApplicationId,
    /// The kind of data.
    pub kind: DataKind,
    /// Time of the read.
    pub at: DateTime<Utc>,
}

/// The disconnection of an application, or of the partner, from an Item.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Disconnection {
    /// The Item.
    pub item_id: ItemId,
    /// The application; `None` for the partner.
    pub application_id: Option<ApplicationId>,
    /// Type of the entry in the activity log.
    pub activity: ActivityType,
    /// The audit entry and the notification.
    pub audit: AuditRecord,
    /// The present time.
    pub now: DateTime<Utc>,
}

impl Disconnection {
    /// Creates a disconnection without an audit entry or a notification.
    #[must_use]
    pub fn new(item_id: ItemId, application_id: Option<ApplicationId>, now: DateTime<Utc>) -> Self {
        let activity = ActivityType::ItemUnlink;
        Self { item_id, application_id, activity, audit: AuditRecord::default(), now }
    }
}
