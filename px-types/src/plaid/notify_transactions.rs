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
    /// `POST /items/transactions/notify`: notifies Plaid of new transactions.
    ///
    /// A batch is applied completely or not at all. If a token is unknown, the response is 400 with the
    /// index of the entry, and nothing is updated.
    ///
    /// Contract: `px.md` section 6.
    pub struct NewTransactionsNotification {
        required {
            /// The accounts with new transactions, 1–2000 entries.
            notifications: Batch<TransactionsNotificationEntry>,
            /// The date or time since which there are new transactions.
            new_since: Iso8601,
        }
        optional {
            /// The id of the client, if it authenticates in the body instead of headers.
            client_id: ClientId,
            /// The secret of the client, if it authenticates in the body instead of headers.
            secret: ClientSecret,
        }
    }
}

plaid_endpoint!(
    NewTransactionsNotification,
    "notify_transactions",
    "/items/transactions/notify",
    "Notifies Plaid that accounts have new transactions",
    Acknowledged
);

message! {
    /// An account with new transactions.
    pub struct TransactionsNotificationEntry {
        required {
            /// The access token of the Item.
            access_token: ItemAccessToken,
            /// The id of the account.
            account_id: AccountId,
        }
    }
}
