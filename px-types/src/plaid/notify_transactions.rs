use super::{Acknowledged, Batch, plaid_endpoint};
use crate::{
    message::message,
    primitive::{
        date::Iso8601,
        id::{AccountId, ClientId},
        secret::{ClientSecret, ItemAccessToken},
    },
};

message! {
    /// `POST /items/transactions/notify`: a partner tells that accounts have new transactions.
    ///
    /// All entries or none: one unknown token in a well-formed batch is answered 400,
    /// naming the index of the entry, and nothing is updated.
    ///
    /// Contract: `px.md` section 6.
    pub struct NewTransactionsNotification {
        required {
            /// The accounts, 1–2000.
            notifications: Batch<TransactionsNotificationEntry>,
            /// Since when there are new ones; a date or a timestamp.
            new_since: Iso8601,
        }
        optional {
            /// The caller's id, when it authenticates in the body and not in headers.
            client_id: ClientId,
            /// The caller's secret, when it authenticates in the body and not in headers.
            secret: ClientSecret,
        }
    }
}

plaid_endpoint!(
    NewTransactionsNotification,
    "notify_transactions",
    "/items/transactions/notify",
    "Tells that accounts have new transactions",
    Acknowledged
);

message! {
    /// An account that has new transactions.
    pub struct TransactionsNotificationEntry {
        required {
            /// The Item's token.
            access_token: ItemAccessToken,
            /// The account.
            account_id: AccountId,
        }
    }
}
