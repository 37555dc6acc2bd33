//! The data of a page: applications and activities, made safe to show. Pure.
//!
//! Names, reasons and addresses come from the applications, so they are foreign text. Texts are cut to one
//! short line without control characters, and an address that is not a web address is removed. The page must
//! escape them nevertheless.

use super::store::{Disconnection, DisconnectionState};
use px_core::text::printable;
use px_types::{
    AccountId, ActivityId, ApplicationId, Timestamp,
    model::{
        activity::{Activity, ActivityState, ActivityType},
        application::ConnectedApplication,
        last_data_access_times::LastDataAccessTimes,
        scopes::{ProductAccess, Scopes},
    },
    primitive::date::Iso8601,
};
use url::Url;

/// The applications of one user.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Applications {
    /// The applications, the newest first.
    pub list: Vec<ConnectedApp>,
    /// Whether the list was read from Plaid just now.
    ///
    /// If not, it is the list that the bank stored last, and there may be more applications: the page must
    /// state that it could not be updated.
    pub current: bool,
}

/// An application, for a page.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ConnectedApp {
    /// The id, for links and forms.
    pub application_id: ApplicationId,
    /// The name to show. Foreign text: escape it.
    pub name: String,
    /// The address of its logo, an `https` or `http` address.
    pub logo_url: Option<String>,
    /// The address of its website, an `https` or `http` address.
    pub website: Option<String>,
    /// The application's reason for its access. Foreign text: escape it.
    pub reason: Option<String>,
    /// Time at which the user connected it.
    pub since: Timestamp,
    /// The products that it may see. A member is `None` if Plaid does not state it.
    pub products: ProductAccess,
    /// The accounts that it may see.
    pub accounts: AccountsSeen,
    /// Whether it may see accounts that are opened later. `None` if Plaid does not state it.
    pub new_accounts: Option<bool>,
    /// Its last read of each kind of data, the latest first. `None` if the times are not available now.
    pub last_access: Option<Vec<LastAccess>>,
    /// The state of the connection.
    pub state: AppState,
}

impl ConnectedApp {
    /// Returns whether it may see an account.
    ///
    /// If Plaid does not state it, the account counts as visible: a page must not show less access than there
    /// is.
    #[must_use]
    pub fn sees(&self, account: &AccountId) -> bool {
        match &self.accounts {
            AccountsSeen::All => true,
            AccountsSeen::Only(accounts) => accounts.contains(account),
        }
    }

    /// Returns the time of its last read of any data.
    #[must_use]
    pub fn last_access_at(&self) -> Option<Timestamp> {
        self.last_access.as_ref()?.first().map(|access| access.at)
    }
}

/// The accounts that an application may see.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccountsSeen {
    /// Every account.
    All,
    /// These accounts.
    Only(Vec<AccountId>),
}

/// The state of an application's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AppState {
    /// The application is connected.
    Connected,
    /// The user has disconnected it. Plaid has not completed that yet, and the call is repeated until it has.
    Disconnecting {
        /// Time at which the user disconnected it.
        since: Timestamp,
    },
}

/// The last read of one kind of data by an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LastAccess {
    /// The kind of data.
    pub kind: DataKind,
    /// The time of the read.
    pub at: Timestamp,
}

/// A kind of data, as in Plaid's times of last access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DataKind {
    /// Accounts and balances.
    AccountsAndBalances,
    /// Account and routing numbers.
    AccountNumbers,
    /// Holders of the accounts.
    ContactDetails,
    /// Transactions.
    Transactions,
    /// Liabilities.
    CreditAndLoans,
    /// Holdings.
    Investments,
    /// Payroll.
    Payroll,
    /// Data for the assessment of a transaction's risk.
    TransactionRisk,
}

impl DataKind {
    /// Returns a label in plain English, for a page.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::AccountsAndBalances => "Accounts and balances",
            Self::AccountNumbers => "Account and routing numbers",
            Self::ContactDetails => "Contact details",
            Self::Transactions => "Transactions",
            Self::CreditAndLoans => "Credit and loans",
            Self::Investments => "Investments",
            Self::Payroll => "Payroll",
            Self::TransactionRisk => "Transaction risk",
        }
    }
}

/// A page of the activity log of a user's consent.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ActivityPage {
    /// The entries, in Plaid's order.
    pub entries: Vec<ActivityEntry>,
    /// The cursor of the next page. `None` on the last page.
    pub next: Option<String>,
}

/// An entry of the activity log of a user's consent.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ActivityEntry {
    /// The id of the entry. It does not change.
    pub id: ActivityId,
    /// The activity.
    pub activity: ActivityType,
    /// Time at which the activity was begun.
    pub at: Iso8601,
    /// The result of the activity.
    pub state: ActivityState,
    /// The application that the activity concerns.
    pub application_id: Option<ApplicationId>,
    /// Its name, if it is known. Foreign text: escape it.
    pub application_name: Option<String>,
    /// The initiator of the activity. Foreign text: escape it.
    pub initiator: String,
    /// The scopes of the application after the activity.
    pub scopes: Option<Scopes>,
}

/// Maximum number of characters of a name.
const MAX_NAME_CHARS: usize = 100;

/// Maximum number of characters of a reason.
const MAX_REASON_CHARS: usize = 300;

/// Returns the name of an application, safe to show.
pub(super) fn name(application: &ConnectedApplication) -> String {
    named(application.display_name.as_deref(), &application.name, &application.application_id)
}

/// Returns the first of these that has a visible character: the display name, the registered name, the id.
pub(super) fn named(display: Option<&str>, name: &str, id: &ApplicationId) -> String {
    let mut names =
        display.into_iter().chain([name]).map(|text| printable(text.trim(), MAX_NAME_CHARS));
    names.find(|text| !text.is_empty()).unwrap_or_else(|| printable(id.as_str(), MAX_NAME_CHARS))
}

/// Returns the data of an application for a page.
pub(super) fn connected_app(
    application: &ConnectedApplication,
    last_access: Option<&[LastDataAccessTimes]>,
    disconnections: &[Disconnection],
) -> ConnectedApp {
    let id = &application.application_id;
    let scopes = application.scopes.as_ref();
    let ending = disconnections.iter().find(|one| one.application_id == *id);
    ConnectedApp {
        application_id: id.clone(),
        name: name(application),
        logo_url: application.logo_url.as_deref().and_then(web_address),
        website: application.application_url.as_deref().and_then(web_address),
        reason: application
            .reason_for_access
            .as_deref()
            .map(|text| printable(text.trim(), MAX_REASON_CHARS))
            .filter(|text| !text.is_empty()),
        since: application.created_at,
        products: scopes
            .and_then(|scopes| scopes.product_access.clone())
            .unwrap_or_else(ProductAccess::new),
        accounts: accounts_seen(scopes),
        new_accounts: scopes.and_then(|scopes| scopes.new_accounts),
        last_access: last_access.map(|all| {
            all.iter().find(|times| times.application_id == *id).map_or_else(Vec::new, accesses)
        }),
        state: match ending.map(|one| (&one.state, one.begun_at)) {
            Some((DisconnectionState::Pending { .. }, since)) => AppState::Disconnecting { since },
            // It is listed again, so it was linked again.
            Some((DisconnectionState::Done { .. }, _)) | None => AppState::Connected,
        },
    }
}

fn accounts_seen(scopes: Option<&Scopes>) -> AccountsSeen {
    match scopes {
        Some(scopes) if !scopes.accounts.is_empty() => AccountsSeen::Only(
            scopes
                .accounts
                .iter()
                .filter(|account| account.authorized != Some(false))
                .map(|account| account.unique_id.clone())
                .collect(),
        ),
        _ => AccountsSeen::All,
    }
}

fn accesses(times: &LastDataAccessTimes) -> Vec<LastAccess> {
    let all = [
        (DataKind::AccountsAndBalances, times.account_balance_info),
        (DataKind::AccountNumbers, times.account_routing_number),
        (DataKind::ContactDetails, times.contact_details),
        (DataKind::Transactions, times.transactions),
        (DataKind::CreditAndLoans, times.credit_and_loans),
        (DataKind::Investments, times.investments),
        (DataKind::Payroll, times.payroll_info),
        (DataKind::TransactionRisk, times.transaction_risk_info),
    ];
    let known = all.into_iter().filter_map(|(kind, at)| at.map(|at| LastAccess { kind, at }));
    let mut known: Vec<_> = known.collect();
    known.sort_by_key(|access| std::cmp::Reverse(access.at));
    known
}

/// Returns an address that is safe in a link. Returns `None` for others, such as `javascript:`.
fn web_address(text: &str) -> Option<String> {
    let url = Url::parse(text.trim()).ok()?;
    let good = matches!(url.scheme(), "https" | "http")
        && url.username().is_empty()
        && url.password().is_none();
    (good && url.as_str().len() <= 2000).then(|| url.into())
}

/// Returns the data of an activity for a page.
pub(super) fn activity_entry(
    activity: Activity,
    name_of: impl Fn(&ApplicationId) -> Option<String>,
) -> ActivityEntry {
    let application_name = activity.target_application_id.as_ref().and_then(name_of);
    ActivityEntry {
        id: activity.id,
        activity: activity.activity,
        at: activity.initiated_date,
        state: activity.state,
        application_id: activity.target_application_id,
        application_name,
        initiator: printable(&activity.initiator, MAX_NAME_CHARS),
        scopes: activity.scopes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use px_types::model::scopes::AccountAccess;

    fn application() -> ConnectedApplication {
        let since: Timestamp = "2024-01-02T03:04:05Z".parse().unwrap();
        ConnectedApplication::new(ApplicationId::new("app").unwrap(), "App", since)
    }

    #[test]
    fn foreign_text_is_one_line_and_foreign_addresses_are_web_addresses() {
        let mut hostile = application();
        hostile.name = "a\u{202e}\r\n<script>".into();
        hostile.display_name = Some(" \u{200b} ".into());
        for (address, shown) in [
            ("javascript:alert(1)", None),
            ("data:text/html,x", None),
            ("//evil.example", None),
            ("https://user:pw@evil.example/", None),
            (" https://app.example/l\"ogo.png", Some("https://app.example/l%22ogo.png")),
        ] {
            hostile.logo_url = Some(address.into());
            hostile.application_url = Some(address.into());
            let app = connected_app(&hostile, None, &[]);
            assert_eq!(app.name, "a  <script>");
            assert_eq!((app.logo_url.as_deref(), app.website.as_deref()), (shown, shown));
        }
        hostile.name = "\n".into();
        assert_eq!(connected_app(&hostile, None, &[]).name, "app");
    }

    #[test]
    fn what_is_not_said_is_held_to_be_allowed() {
        let account = |id: &str| AccountId::new(id).unwrap();
        let mut limited = application();
        assert!(connected_app(&limited, None, &[]).sees(&account("a")));
        let mut scopes = Scopes::new();
        scopes.accounts = ["a", "b", "c"].map(|id| AccountAccess::new(account(id))).to_vec();
        scopes.accounts[0].authorized = Some(true);
        scopes.accounts[1].authorized = Some(false);
        limited.scopes = Some(scopes);
        let app = connected_app(&limited, None, &[]);
        assert_eq!(
            ["a", "b", "c", "d"].map(|id| app.sees(&account(id))),
            [true, false, true, false]
        );
    }

    #[test]
    fn the_latest_access_comes_first() {
        let mut times = LastDataAccessTimes::new(ApplicationId::new("app").unwrap());
        times.transactions = Some("2024-02-01T00:00:00Z".parse().unwrap());
        times.investments = Some("2024-03-01T00:00:00Z".parse().unwrap());
        let app = connected_app(&application(), Some(&[times]), &[]);
        let kinds: Vec<_> = app.last_access.iter().flatten().map(|access| access.kind).collect();
        assert_eq!(kinds, [DataKind::Investments, DataKind::Transactions]);
        assert_eq!(app.last_access_at(), Some("2024-03-01T00:00:00Z".parse().unwrap()));
        assert_eq!(connected_app(&application(), Some(&[]), &[]).last_access, Some(vec![]));
        assert_eq!(connected_app(&application(), None, &[]).last_access, None);
    }
}
