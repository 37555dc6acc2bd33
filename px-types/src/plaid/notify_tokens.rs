use super::{Acknowledged, Batch, plaid_endpoint};
use crate::{
    message::message,
    primitive::{
        id::ClientId,
        open_enum::open_enum,
        secret::{ClientSecret, ItemAccessToken},
    },
};

message! {
    /// `POST /items/tokens/notify`: a partner has tokens deleted or cycled.
    ///
    /// All entries or none: one unknown token in a well-formed batch is answered 400,
    /// naming the index of the entry, and nothing is updated.
    ///
    /// Contract: `px.md` section 6.
    pub struct TokensNotification {
        required {
            /// What to do, 1–2000 entries.
            notifications: Batch<TokensNotificationEntry>,
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
    TokensNotification,
    "notify_tokens",
    "/items/tokens/notify",
    "Has tokens deleted or cycled",
    Acknowledged
);

message! {
    /// What to do with one token.
    pub struct TokensNotificationEntry {
        required {
            /// The Item's token.
            access_token: ItemAccessToken,
            /// What to do with it.
            action: TokenAction,
        }
    }
}

open_enum! {
    /// What to do with a token.
    pub enum TokenAction {
        /// The partner revoked it: delete it.
        Revoked = "revoked",
        /// Refresh it now.
        Cycle = "cycle",
    }
}
