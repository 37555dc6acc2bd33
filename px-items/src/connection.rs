//! Connections of applications to an Item: the products that an application uses and the data that
//! it may see.

mod scopes;

pub use scopes::ScopeError;

use crate::store::unknown_fields::{PreservesUnknownFields, UnknownFields};
use chrono::{DateTime, Utc};
use px_types::{AccountId, ApplicationId, model::product::Product};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt};

/// Connection of one application to an Item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Connection {
    /// Application that is connected.
    pub application_id: ApplicationId,
    /// Products that the application uses, by their wire names.
    pub products: BTreeSet<String>,
    /// Products that the application requested and the user switched off since. The user can switch
    /// them on again.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub withheld: BTreeSet<String>,
    /// Accounts that the application may see; `None` for all. "All, but not later ones" becomes a
    /// list as soon as the accounts of the Item are known.
    pub accounts: Option<BTreeSet<AccountId>>,
    /// Whether accounts that are opened later are shared too.
    pub new_accounts: bool,
    /// URL that webhooks for the application are sent to.
    pub webhook: Option<String>,
    /// Time at which the user connected the application.
    pub created_at: DateTime<Utc>,
    /// Number of changes of what the application may see. A sync cursor of another epoch is no
    /// longer valid.
    pub epoch: u64,
    /// Key that seals the sync cursors of the application.
    #[serde(default)]
    pub cursor_key: CursorKey,
    /// Fields that a later version stored.
    #[serde(skip)]
    pub(crate) carried: UnknownFields,
}

impl PreservesUnknownFields for Connection {
    fn carried(&mut self) -> &mut UnknownFields {
        &mut self.carried
    }

    fn carried_along(&self) -> &UnknownFields {
        &self.carried
    }
}

/// Key that seals the sync cursors of one connection.
///
/// A cursor contains positions that count every change of the Item. Sealing hides from an
/// application the changes that it may not see, and prevents tampering. The key needs no protection
/// of its own: a reader of the database has the data as well.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CursorKey([u8; 32]);

impl CursorKey {
    /// Creates a key from random bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes of the key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for CursorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CursorKey(***)")
    }
}

impl Connection {
    /// Creates the connection of an application that may see every account, later ones too.
    pub fn new(
        application_id: ApplicationId,
        products: impl IntoIterator<Item = Product>,
        created_at: DateTime<Utc>,
    ) -> Self {
        Self {
            application_id,
            products: products.into_iter().map(|product| product.as_str().to_owned()).collect(),
            withheld: BTreeSet::new(),
            accounts: None,
            new_accounts: true,
            webhook: None,
            created_at,
            epoch: 0,
            cursor_key: CursorKey::default(),
            carried: UnknownFields::default(),
        }
    }

    /// Returns whether the application may see an account.
    #[must_use]
    pub fn sees(&self, account: &AccountId) -> bool {
        self.accounts.as_ref().is_none_or(|accounts| accounts.contains(account))
    }

    /// Returns whether the application uses a product.
    #[must_use]
    pub fn uses(&self, product: &Product) -> bool {
        self.products.contains(product.as_str())
    }

    /// Returns whether the application needs the transactions.
    #[must_use]
    pub fn needs_transactions(&self) -> bool {
        self.uses(&Product::Transactions)
    }

    /// Takes over the state of an earlier connection of the same application, which this one
    /// replaces.
    ///
    /// The connection keeps its first date. Products that the user switched off stay recorded as
    /// such, unless the application uses them now.
    ///
    /// Sync cursors stay valid if the application may see the same as before: a new sign-in or
    /// another webhook URL must not force a full sync. Otherwise the epoch is raised, at least to
    /// the one that this connection has.
    pub fn replace(&mut self, earlier: &Self) {
        self.created_at = earlier.created_at;
        self.carried = earlier.carried.clone();
        self.withheld.extend(earlier.withheld.difference(&self.products).cloned());
        let same = self.products == earlier.products
            && self.accounts == earlier.accounts
            && self.new_accounts == earlier.new_accounts;
        if same {
            self.epoch = earlier.epoch;
            self.cursor_key = earlier.cursor_key.clone();
        } else {
            self.epoch = self.epoch.max(earlier.epoch + 1);
        }
    }

    /// Adds accounts that are new to the Item. `present` are the accounts that it had before,
    /// without those on hold. `first` is `true` for the first response about accounts, even if it
    /// has none. Returns whether the connection changed.
    ///
    /// A choice of "all, but not later ones" becomes the list of the accounts at that time. Sync
    /// cursors stay valid, because a new account has no transactions yet.
    pub fn take_in(&mut self, new: &[AccountId], present: &[AccountId], first: bool) -> bool {
        match &mut self.accounts {
            None if self.new_accounts || (new.is_empty() && !first) => false,
            None => {
                let meant = if first { new } else { present };
                self.accounts = Some(meant.iter().cloned().collect());
                true
            }
            Some(accounts) if self.new_accounts && !first => {
                let before = accounts.len();
                accounts.extend(new.iter().cloned());
                accounts.len() != before
            }
            Some(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(names: &[&str]) -> Vec<AccountId> {
        names.iter().map(|name| AccountId::new(name).unwrap()).collect()
    }

    fn connection(accounts: Option<&[&str]>, new_accounts: bool) -> Connection {
        let application = ApplicationId::new("app").unwrap();
        let mut connection =
            Connection::new(application, [Product::Transactions], DateTime::UNIX_EPOCH);
        connection.accounts = accounts.map(|names| ids(names).into_iter().collect());
        connection.new_accounts = new_accounts;
        connection
    }

    fn seen(connection: &Connection) -> String {
        ids(&["a", "b", "c"])
            .iter()
            .filter(|id| connection.sees(id))
            .map(AccountId::as_str)
            .collect()
    }

    #[test]
    fn all_means_all() {
        let mut all = connection(None, true);
        assert!(!all.take_in(&ids(&["a", "b"]), &[], true));
        assert!(!all.take_in(&ids(&["c"]), &ids(&["a", "b"]), false));
        assert_eq!(seen(&all), "abc");
    }

    #[test]
    fn all_but_later_ones_are_those_there_are() {
        let mut at_first = connection(None, false);
        assert!(at_first.take_in(&ids(&["a", "b"]), &[], true));
        assert!(!at_first.take_in(&ids(&["c"]), &ids(&["a", "b"]), false));
        assert_eq!(seen(&at_first), "ab");
        // An application that joins later, when the Item has accounts, may see these.
        let mut joined = connection(None, false);
        assert!(joined.take_in(&ids(&["c"]), &ids(&["a", "b"]), false));
        assert_eq!(seen(&joined), "ab");
        // An Item without accounts at that time shares none.
        let mut none = connection(None, false);
        assert!(none.take_in(&[], &[], true));
        assert!(!none.take_in(&ids(&["c"]), &[], false));
        assert_eq!(seen(&none), "");
    }

    #[test]
    fn a_choice_grows_only_if_the_user_says_so() {
        let mut grows = connection(Some(&["a"]), true);
        assert!(!grows.take_in(&ids(&["a", "b"]), &[], true));
        assert_eq!(seen(&grows), "a", "the user did not choose the other one");
        assert!(grows.take_in(&ids(&["c"]), &ids(&["a", "b"]), false));
        assert_eq!(seen(&grows), "ac");

        let mut stays = connection(Some(&["a"]), false);
        assert!(!stays.take_in(&ids(&["c"]), &ids(&["a", "b"]), false));
        assert_eq!(seen(&stays), "a");
    }

    #[test]
    fn the_epoch_is_raised_when_it_may_see_something_else() {
        let mut earlier = connection(Some(&["a"]), false);
        (earlier.epoch, earlier.cursor_key) = (4, CursorKey::new([7; 32]));
        let mut again = connection(Some(&["a"]), false);
        again.webhook = Some("https://app.example/hook".to_owned());
        again.replace(&earlier);
        assert_eq!((again.epoch, &again.cursor_key), (4, &earlier.cursor_key));

        let mut accounts = connection(Some(&["a", "b"]), false);
        let mut later = connection(Some(&["a"]), true);
        let mut products = connection(Some(&["a"]), false);
        products.products.insert("auth".to_owned());
        for other in [&mut accounts, &mut later, &mut products] {
            other.replace(&earlier);
            assert_eq!(other.epoch, 5);
            assert_ne!(other.cursor_key, earlier.cursor_key);
        }
    }

    #[test]
    fn who_comes_again_is_connected_since_then_and_what_was_switched_off_is_known() {
        let mut earlier = connection(None, true);
        earlier.withheld = ["auth".to_owned(), "identity".to_owned()].into();
        let mut again = connection(None, true);
        again.created_at = DateTime::UNIX_EPOCH + chrono::TimeDelta::days(1);
        again.products.insert("auth".to_owned());
        again.replace(&earlier);
        assert_eq!(again.created_at, earlier.created_at);
        assert_eq!(
            again.withheld,
            ["identity".to_owned()].into(),
            "the other one was requested again"
        );
    }

    #[test]
    fn nothing_new_changes_nothing() {
        let mut joined = connection(None, false);
        assert!(!joined.take_in(&[], &ids(&["a"]), false));
        assert_eq!(joined.accounts, None);
    }
}
