//! What an application may see of an Item.

use crate::{message::message, primitive::id::AccountId};

message! {
    /// What an application may see of an Item.
    ///
    /// Contract: `px.md` section 6.
    pub struct Scopes {
        optional {
            /// By product.
            product_access: ProductAccess,
            /// Whether accounts that are opened later are shared too.
            new_accounts: bool,
        }
        lists {
            /// By account.
            accounts: AccountAccess,
        }
    }
}

message! {
    /// What an application may see, by product.
    pub struct ProductAccess {
        optional {
            /// Statements.
            statements: bool,
            /// Who holds the accounts.
            identity: bool,
            /// Account and routing numbers.
            auth: bool,
            /// Transactions.
            transactions: bool,
        }
    }
}

message! {
    /// Whether an application may see one account.
    pub struct AccountAccess {
        required {
            /// The account's id at the partner.
            unique_id: AccountId,
        }
        optional {
            /// Whether it may.
            authorized: bool,
        }
    }
}
