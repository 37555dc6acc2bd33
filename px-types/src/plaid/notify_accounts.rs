use super::{Acknowledged, Batch, plaid_endpoint};
use crate::{
    message::message,
    primitive::{
        id::{AccountId, ClientId},
        open_enum::open_enum,
        secret::{ClientSecret, ItemAccessToken},
    },
};

message! {
    /// `POST /items/accounts/notify`: notifies Plaid of changes of accounts.
    ///
    /// A batch is applied completely or not at all. If a token is unknown, the response is 400 with the
    /// index of the entry, and nothing is updated.
    ///
    /// Contract: `px.md` section 6.
    pub struct AccountsNotification {
        required {
            /// The changes, 1–2000 entries.
            notifications: Batch<AccountsNotificationEntry>,
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
    AccountsNotification,
    "notify_accounts",
    "/items/accounts/notify",
    "Notifies Plaid that accounts were opened, closed or changed",
    Acknowledged
);

message! {
    /// A change of one account.
    pub struct AccountsNotificationEntry {
        required {
            /// The access token of the Item.
            access_token: ItemAccessToken,
            /// The id of the account.
            account_id: AccountId,
            /// The event.
            event: AccountEvent,
        }
    }
}

open_enum! {
    /// An event of an account.
    pub enum AccountEvent {
        Opened = "opened",
        Closed = "closed",
        Changed = "changed",
        StatementReady = "statement_ready",
    }
}
