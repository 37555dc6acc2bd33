//! Scopes of a connection in the form of the contract, and changes of them. Pure.
//!
//! `Scopes` names accounts by the partner's ids, and four products. Whatever it does not name stays
//! as it is.

use super::Connection;
use crate::merge::{AccountStanding, KnownAccount};
use px_types::{
    AccountId,
    model::{
        product::Product,
        scopes::{AccountAccess, ProductAccess, Scopes},
    },
};
use std::collections::BTreeSet;

/// Reason why scopes cannot be given to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScopeError {
    /// The partner lists no account with the id at that index.
    #[error("names no account of this Item")]
    UnknownAccount(usize),
    /// The accounts of the Item are not known yet.
    #[error("cannot be checked: the accounts are still being fetched")]
    NotReady,
    /// The application never requested the named product.
    #[error("was never requested by the application, so it cannot be switched on")]
    NotRequested(&'static str),
}

/// Products that scopes can name.
const PRODUCTS: [Product; 4] =
    [Product::Statements, Product::Identity, Product::Auth, Product::Transactions];

impl Connection {
    /// Returns the accounts that the application may see, by the partner's present ids. Accounts on
    /// hold are not visible to any application. Before the first response about accounts, returns
    /// the accounts that the user chose, or none for "all".
    #[must_use]
    pub fn partner_accounts(&self, known: &[KnownAccount]) -> Vec<AccountId> {
        if known.is_empty() {
            return self.accounts.iter().flatten().cloned().collect();
        }
        let seen = known.iter().filter(|known| known.is_present() && self.sees(&known.account.id));
        seen.map(|known| known.partner_id.clone()).collect()
    }

    /// Returns the scopes of the connection in the form of the contract.
    ///
    /// Includes each product that the application requested: `true`, or `false` if the user
    /// switched it off. Includes each account that the partner lists.
    #[must_use]
    pub fn scopes(&self, known: &[KnownAccount]) -> Scopes {
        let access = |product: Product| {
            let is_requested = self.uses(&product) || self.withheld.contains(product.as_str());
            is_requested.then(|| self.uses(&product))
        };
        let mut products = ProductAccess::new();
        products.statements = access(Product::Statements);
        products.identity = access(Product::Identity);
        products.auth = access(Product::Auth);
        products.transactions = access(Product::Transactions);
        let mut scopes = Scopes::new();
        scopes.product_access = Some(products);
        scopes.new_accounts = Some(self.new_accounts);
        if known.is_empty() {
            let chosen = self.accounts.iter().flatten();
            scopes.accounts = chosen.map(|id| account_access(id, true)).collect();
        } else {
            let listed = known.iter().filter(|known| known.is_present());
            scopes.accounts = listed
                .map(|known| account_access(&known.partner_id, self.sees(&known.account.id)))
                .collect();
        }
        scopes
    }

    /// Returns this connection with other scopes.
    ///
    /// A list of accounts is complete: an account that the partner lists and that is not in it is
    /// withdrawn. Without a list the accounts stay as they are. So do products, and the choice
    /// about later accounts, that the scopes do not set.
    ///
    /// A product that is switched off stays recorded as requested, so that the user can switch it
    /// on again. A product that the application never requested cannot be switched on. "All
    /// accounts" less one becomes a list.
    ///
    /// # Errors
    /// - [`ScopeError::UnknownAccount`] if an id names no account of the Item;
    /// - [`ScopeError::NotReady`] if accounts are named before the Item's accounts are known;
    /// - [`ScopeError::NotRequested`] if a product is switched on that the application never requested.
    pub fn with_scopes(&self, scopes: &Scopes, known: &[KnownAccount]) -> Result<Self, ScopeError> {
        let mut changed = self.clone();
        if let Some(access) = &scopes.product_access {
            for product in PRODUCTS {
                changed.switch(&product, access)?;
            }
        }
        if !scopes.accounts.is_empty() && known.is_empty() {
            return Err(ScopeError::NotReady);
        }
        let mut named = BTreeSet::new();
        for (index, access) in scopes.accounts.iter().enumerate() {
            let found = find(known, &access.unique_id).ok_or(ScopeError::UnknownAccount(index))?;
            named.insert(&found.account.id);
            match access.authorized {
                Some(true) => {
                    if let Some(accounts) = &mut changed.accounts {
                        accounts.insert(found.account.id.clone());
                    }
                }
                Some(false) => {
                    changed.accounts.get_or_insert_with(|| all_of(known)).remove(&found.account.id);
                }
                None => {}
            }
        }
        let withdrawn = known.iter().filter(|known| {
            !named.is_empty() && known.is_present() && !named.contains(&known.account.id)
        });
        for account in withdrawn {
            changed.accounts.get_or_insert_with(|| all_of(known)).remove(&account.account.id);
        }
        if let Some(new_accounts) = scopes.new_accounts {
            changed.new_accounts = new_accounts;
            if !known.is_empty() {
                changed.settle(known);
            }
        }
        Ok(changed)
    }

    /// Turns "all, but not later ones" into a list once the accounts are known. With the next
    /// account it would be too late for a caller that read the connection before.
    pub(crate) fn settle(&mut self, known: &[KnownAccount]) {
        if !self.new_accounts {
            self.accounts.get_or_insert_with(|| all_of(known));
        }
    }

    /// Returns whether [`settle`](Self::settle) has still to make the list of accounts.
    pub(crate) fn is_unsettled(&self) -> bool {
        self.accounts.is_none() && !self.new_accounts
    }

    fn switch(&mut self, product: &Product, access: &ProductAccess) -> Result<(), ScopeError> {
        let (field, wanted) = match product {
            Product::Statements => ("product_access.statements", access.statements),
            Product::Identity => ("product_access.identity", access.identity),
            Product::Auth => ("product_access.auth", access.auth),
            _ => ("product_access.transactions", access.transactions),
        };
        match wanted {
            Some(true) if !self.uses(product) => {
                if !self.withheld.remove(product.as_str()) {
                    return Err(ScopeError::NotRequested(field));
                }
                self.products.insert(product.as_str().to_owned());
            }
            Some(false) if self.products.remove(product.as_str()) => {
                self.withheld.insert(product.as_str().to_owned());
            }
            _ => {}
        }
        Ok(())
    }
}

fn account_access(id: &AccountId, authorized: bool) -> AccountAccess {
    let mut access = AccountAccess::new(id.clone());
    access.authorized = Some(authorized);
    access
}

/// Returns every account that can be visible, including those that the partner no longer lists.
fn all_of(known: &[KnownAccount]) -> BTreeSet<AccountId> {
    let all = known.iter().filter(|known| known.standing != AccountStanding::Held);
    all.map(|known| known.account.id.clone()).collect()
}

/// Finds an account by the partner's id. Prefers an account that the partner lists.
fn find<'a>(known: &'a [KnownAccount], id: &AccountId) -> Option<&'a KnownAccount> {
    let mut named = known
        .iter()
        .filter(|known| known.standing != AccountStanding::Held && known.partner_id == *id);
    let first = named.next()?;
    if first.is_present() { Some(first) } else { named.find(|k| k.is_present()).or(Some(first)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use px_types::ApplicationId;

    fn account(own: &str, partner: &str, standing: AccountStanding) -> KnownAccount {
        let text = serde_json::json!({
            "id": own, "name": "n", "type": "depository", "subtype": "checking", "status": "active",
            "owner_identity_ids": ["i"], "current_balance": "1", "currency": "EUR",
        });
        let account = px_types::decode(text.to_string().as_bytes()).unwrap();
        KnownAccount::new(account, AccountId::new(partner).unwrap(), standing)
    }

    fn known() -> Vec<KnownAccount> {
        vec![
            account("a", "a", AccountStanding::Listed),
            account("b", "b-2", AccountStanding::Listed),
            account("c", "c", AccountStanding::Closed),
            account("h", "h", AccountStanding::Held),
        ]
    }

    fn connection() -> Connection {
        let products = [Product::Transactions, Product::Auth, Product::Liabilities];
        Connection::new(ApplicationId::new("app").unwrap(), products, DateTime::UNIX_EPOCH)
    }

    fn scopes(json: serde_json::Value) -> Scopes {
        px_types::decode(json.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn scopes_are_said_in_the_partners_words() {
        let mut connection = connection();
        connection.accounts = Some([AccountId::new("b").unwrap()].into());
        let said = serde_json::to_value(connection.scopes(&known())).unwrap();
        let expected = serde_json::json!({
            "product_access": {"auth": true, "transactions": true}, "new_accounts": true,
            "accounts": [
                {"unique_id": "a", "authorized": false}, {"unique_id": "b-2", "authorized": true},
            ],
        });
        assert_eq!(said, expected);
        assert_eq!(connection.with_scopes(&scopes(expected), &known()), Ok(connection));
    }

    #[test]
    fn what_is_not_named_stays() {
        let before = connection();
        assert_eq!(before.with_scopes(&Scopes::new(), &known()).unwrap(), before);
        let open = scopes(serde_json::json!({
            "product_access": {}, "accounts": [{"unique_id": "a"}, {"unique_id": "b-2"}],
        }));
        assert_eq!(before.with_scopes(&open, &known()).unwrap(), before);
        let mut hidden = before;
        hidden.accounts = Some([AccountId::new("b").unwrap()].into());
        assert_eq!(
            hidden.with_scopes(&open, &known()).unwrap(),
            hidden,
            "not widened without being named"
        );
    }

    #[test]
    fn a_list_of_accounts_is_complete() {
        let seen = |connection: &Connection, json| {
            let scopes = scopes(serde_json::json!({ "accounts": json }));
            connection.with_scopes(&scopes, &known()).unwrap().accounts
        };
        let ids = |ids: &[&str]| Some(ids.iter().map(|id| AccountId::new(*id).unwrap()).collect());
        let all = connection();
        let a = serde_json::json!([{"unique_id": "a", "authorized": true}]);
        assert_eq!(seen(&all, a.clone()), ids(&["a", "c"]), "a closed account stays readable");
        let mut two = connection();
        two.accounts = ids(&["a", "b"]);
        assert_eq!(seen(&two, a), ids(&["a"]));
        let none = serde_json::json!([{"unique_id": "a", "authorized": false}]);
        assert_eq!(seen(&two, none), ids(&[]));
        assert_eq!(seen(&two, serde_json::json!([])), ids(&["a", "b"]), "no list is no statement");
        let closed = serde_json::json!([{"unique_id": "c", "authorized": false}]);
        assert_eq!(seen(&all, closed), ids(&[]));
    }

    #[test]
    fn a_product_is_switched_off_and_on_again() {
        let off = scopes(serde_json::json!({"product_access": {"transactions": false}}));
        let less = connection().with_scopes(&off, &known()).unwrap();
        assert!(!less.needs_transactions() && less.uses(&Product::Auth));
        assert!(less.uses(&Product::Liabilities), "no scope names it");
        let said = less.scopes(&known()).product_access.unwrap();
        assert_eq!((said.transactions, said.auth, said.identity), (Some(false), Some(true), None));
        let on = scopes(serde_json::json!({"product_access": {"transactions": true}}));
        assert_eq!(less.with_scopes(&on, &known()).unwrap(), connection());
        let more = scopes(serde_json::json!({"product_access": {"identity": true}}));
        let fault = less.with_scopes(&more, &known()).unwrap_err();
        assert_eq!(fault, ScopeError::NotRequested("product_access.identity"));
    }

    #[test]
    fn accounts_go_and_come_by_the_partners_ids() {
        let off = scopes(
            serde_json::json!({"accounts": [{"unique_id": "a"}, {"unique_id": "b-2", "authorized": false}]}),
        );
        let less = connection().with_scopes(&off, &known()).unwrap();
        let seen = |connection: &Connection| -> Vec<_> {
            connection.accounts.iter().flatten().map(|id| id.as_str().to_owned()).collect()
        };
        assert_eq!(
            seen(&less),
            ["a", "c"],
            "a closed account stays readable, one on hold is not visible"
        );
        assert!(less.new_accounts, "later ones are shared as before");
        let on = scopes(
            serde_json::json!({"accounts": [{"unique_id": "a"}, {"unique_id": "b-2", "authorized": true}]}),
        );
        assert_eq!(seen(&less.with_scopes(&on, &known()).unwrap()), ["a", "b", "c"]);
        for unknown in ["b", "h", "x"] {
            let named = scopes(serde_json::json!({"accounts": [
                {"unique_id": "a"}, {"unique_id": unknown, "authorized": true}]}));
            let fault = connection().with_scopes(&named, &known());
            assert_eq!(fault, Err(ScopeError::UnknownAccount(1)), "{unknown}");
            assert_eq!(connection().with_scopes(&named, &[]), Err(ScopeError::NotReady));
        }
    }

    #[test]
    fn no_later_ones_means_those_there_are() {
        let frozen = scopes(serde_json::json!({"new_accounts": false}));
        let connection = connection().with_scopes(&frozen, &known()).unwrap();
        assert!(!connection.new_accounts);
        assert_eq!(connection.accounts.map(|accounts| accounts.len()), Some(3));
    }
}
