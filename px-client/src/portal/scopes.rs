//! The complete scopes of an application. Pure.

use px_types::{
    AccountId,
    model::scopes::{AccountAccess, ProductAccess, Scopes},
};
use std::collections::{BTreeMap, BTreeSet};

/// Everything that an application may see from now on, for [`Portal::set_scopes`](super::Portal::set_scopes).
///
/// No part can be left out: what the user does not allow is `false`.
///
/// ```
/// use px_client::portal::{AppProducts, AppScopes};
///
/// let scopes = AppScopes {
///     accounts: [("checking".parse()?, true), ("savings".parse()?, false)].into(),
///     products: AppProducts { statements: false, identity: false, auth: true, transactions: true },
///     new_accounts: false,
/// };
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(
    clippy::exhaustive_structs,
    reason = "callers must set every part, also parts that are added later"
)]
pub struct AppScopes {
    /// Each of the user's accounts that could be shared, and whether the application may see it.
    ///
    /// An account that is not listed is withdrawn.
    pub accounts: BTreeMap<AccountId, bool>,
    /// The products.
    pub products: AppProducts,
    /// Whether accounts that are opened later are shared too.
    pub new_accounts: bool,
}

/// The products that a user allows an application.
///
/// A product that the application never requested is `false`: Plaid refuses to enable it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    clippy::exhaustive_structs,
    reason = "callers must set every product, also products that are added later"
)]
pub struct AppProducts {
    /// Statements.
    pub statements: bool,
    /// Holders of the accounts.
    pub identity: bool,
    /// Account and routing numbers.
    pub auth: bool,
    /// Transactions.
    pub transactions: bool,
}

impl AppScopes {
    /// Returns the scopes to send. Every member is written, so that the meaning is the same if Plaid treats a
    /// list of accounts as a change. `known` are the current scopes.
    pub(super) fn to_wire(&self, known: Option<&Scopes>) -> Scopes {
        let known = known.into_iter().flat_map(|scopes| &scopes.accounts);
        let all: BTreeSet<_> =
            known.map(|account| &account.unique_id).chain(self.accounts.keys()).collect();
        let access = |id: &AccountId| {
            let mut access = AccountAccess::new(id.clone());
            access.authorized = Some(self.accounts.get(id) == Some(&true));
            access
        };
        let mut products = ProductAccess::new();
        products.statements = Some(self.products.statements);
        products.identity = Some(self.products.identity);
        products.auth = Some(self.products.auth);
        products.transactions = Some(self.products.transactions);
        let mut scopes = Scopes::new();
        scopes.accounts = all.into_iter().map(access).collect();
        scopes.product_access = Some(products);
        scopes.new_accounts = Some(self.new_accounts);
        scopes
    }
}
