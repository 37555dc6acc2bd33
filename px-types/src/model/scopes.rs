//! The access of an application to an Item.
//!
use crate::{message::message, primitive::id::AccountId};

message! {
    /// The data of an Item that an application may access.
    ///
    /// Contract: `px.md` section 6.
    pub struct Scopes {
        optional {
            /// The access by product.
            product_access: ProductAccess,
            /// Whether accounts that are opened later are shared as well.
            new_accounts: bool,
        }
        lists {
            /// The access by account.
            accounts: AccountAccess,
        }
    }
}

message! {
    /// The access of an application, by product.
    pub struct ProductAccess {
        optional {
            /// Statements.
            statements: bool,
            /// The account holders.
            identity: bool,
            /// Account and routing numbers.
            auth: bool,
            /// Transactions.
            transactions: bool,
        }
    }
}

message! {
    /// The access of an application to one account.
    pub struct AccountAccess {
        required {
            /// The id of the account at the partner.
            unique_id: AccountId,
        }
        optional {
            /// Whether the application may access the account.
            authorized: bool,
        }
    }
}
