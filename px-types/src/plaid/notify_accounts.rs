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
    /// `POST /items/accounts/notify`: a partner tells that something happened to accounts.
    ///
    /// All entries or none: one unknown token in a well-formed batch is answered 400,
    /// naming the index of the entry, and nothing is updated.
    ///
    /// Contract: `px.md` section 6.
    pub struct AccountsNotification {
        required {
            /// What happened, 1–2000 entries.
            notifications: Batch<AccountsNotificationEntry>,
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
    AccountsNotification,
    "notify_accounts",
    "/items/accounts/notify",
    "Tells that accounts were opened, closed or changed",
    Acknowledged
);

message! {
    /// What happened to one account.
    pub struct AccountsNotificationEntry {
        required {
            /// The Item's token.
            access_token: ItemAccessToken,
            /// The account.
            account_id: AccountId,
            /// What happened to it.
            event: AccountEvent,
        }
    }
}

open_enum! {
    /// What happened to an account.
    pub enum AccountEvent {
        Opened = "opened",
        Closed = "closed",
        Changed = "changed",
        StatementReady = "statement_ready",
    }
}
