//! Applications that share an Item: what each one uses, and what its user lets it see.

mod scopes;

pub use scopes::ScopeFault;

use crate::store::carried::{Carried, Carries};
use chrono::{DateTime, Utc};
use px_types::{AccountId, ApplicationId, model::product::Product};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt};

/// One application's share of an Item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Connection {
    /// The application.
    pub application_id: ApplicationId,
    /// What it uses. Names are the wire's.
    pub products: BTreeSet<String>,
    /// What it asked for and its user switched off since, so that it can be switched on again.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub withheld: BTreeSet<String>,
    /// The accounts that it sees; `None` is all. "All, but not later ones" is a list as soon as
    /// the Item's accounts are known.
    pub accounts: Option<BTreeSet<AccountId>>,
    /// Whether accounts that are opened later are shared too.
    pub new_accounts: bool,
    /// Where its webhooks go.
    pub webhook: Option<String>,
    /// When the user connected it.
    pub created_at: DateTime<Utc>,
    /// Counts the changes of what it may see: a sync cursor of another epoch begins again.
    pub epoch: u64,
    /// Seals its cursors; see [`CursorKey`].
    #[serde(default)]
    pub cursor_key: CursorKey,
    /// Fields that a later version stored.
    #[serde(skip)]
    pub(crate) carried: Carried,
}

impl Carries for Connection {
    fn carried(&mut self) -> &mut Carried {
        &mut self.carried
    }

    fn carried_along(&self) -> &Carried {
        &self.carried
    }
}

/// The key that the cursors of one connection are sealed under.
///
/// A cursor has positions that count every change of the Item. Sealed, it tells an application
/// nothing of changes that it may not see, and cannot be altered. The key is no secret of a
/// customer's: who has the database has the data as well.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CursorKey([u8; 32]);

impl CursorKey {
    /// A key of bytes that nobody can guess.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
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
    /// An application that sees every account, and later ones too.
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
            carried: Carried::default(),
        }
    }

    /// Whether it sees an account.
    #[must_use]
    pub fn sees(&self, account: &AccountId) -> bool {
        self.accounts.as_ref().is_none_or(|accounts| accounts.contains(account))
    }

    /// Whether it uses a product.
    #[must_use]
    pub fn uses(&self, product: &Product) -> bool {
        self.products.contains(product.as_str())
    }

    /// Whether it needs the history of transactions.
    #[must_use]
    pub fn needs_transactions(&self) -> bool {
        self.uses(&Product::Transactions)
    }

    /// Takes the place of an earlier connection of the same application.
    ///
    /// It is connected since then, and what the user switched off stays known as such, unless it
    /// is among what the application uses now.
    ///
    /// When it may see the same, sync cursors go on: a user who only signs in again, or another
    /// address for webhooks, makes nobody read everything anew. Else it has an epoch of its own:
    /// the one that it came with, if that is later.
    pub fn take_place_of(&mut self, earlier: &Self) {
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

    /// Takes in accounts that are new to the Item. `present` are those that it had before, held
    /// ones left out; `first` says that this is the first answer about them, whether it has any
    /// or not. Answers whether anything changed.
    ///
    /// A choice of "all, but not later ones" becomes the list of the accounts that it meant. What
    /// is taken in has no transactions yet, so sync cursors go on.
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
        // One that joined when the Item had accounts means these.
        let mut joined = connection(None, false);
        assert!(joined.take_in(&ids(&["c"]), &ids(&["a", "b"]), false));
        assert_eq!(seen(&joined), "ab");
        // Where there were none, none were meant.
        let mut none = connection(None, false);
        assert!(none.take_in(&[], &[], true));
        assert!(!none.take_in(&ids(&["c"]), &[], false));
        assert_eq!(seen(&none), "");
    }

    #[test]
    fn a_choice_grows_only_if_the_user_says_so() {
        let mut grows = connection(Some(&["a"]), true);
        assert!(!grows.take_in(&ids(&["a", "b"]), &[], true));
        assert_eq!(seen(&grows), "a", "the user left the other one out");
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
        again.take_place_of(&earlier);
        assert_eq!((again.epoch, &again.cursor_key), (4, &earlier.cursor_key));

        let mut accounts = connection(Some(&["a", "b"]), false);
        let mut later = connection(Some(&["a"]), true);
        let mut products = connection(Some(&["a"]), false);
        products.products.insert("auth".to_owned());
        for other in [&mut accounts, &mut later, &mut products] {
            other.take_place_of(&earlier);
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
        again.take_place_of(&earlier);
        assert_eq!(again.created_at, earlier.created_at);
        assert_eq!(again.withheld, ["identity".to_owned()].into(), "the other was asked for anew");
    }

    #[test]
    fn nothing_new_changes_nothing() {
        let mut joined = connection(None, false);
        assert!(!joined.take_in(&[], &ids(&["a"]), false));
        assert_eq!(joined.accounts, None);
    }
}
