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
    /// `POST /items/tokens/notify`: requests that Plaid delete or refresh tokens of the partner.
    ///
    /// A batch is applied completely or not at all. If a token is unknown, the response is 400 with the
    /// index of the entry, and nothing is updated.
    ///
    /// Contract: `px.md` section 6.
    pub struct TokensNotification {
        required {
            /// The requested actions, 1–2000 entries.
            notifications: Batch<TokensNotificationEntry>,
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
    TokensNotification,
    "notify_tokens",
    "/items/tokens/notify",
    "Requests that tokens be deleted or refreshed",
    Acknowledged
);

message! {
    /// A requested action for the token of one Item.
    pub struct TokensNotificationEntry {
        required {
            /// The access token of the Item.
            access_token: ItemAccessToken,
            /// The action.
            action: TokenAction,
        }
    }
}

open_enum! {
    /// An action for a token.
    pub enum TokenAction {
        /// The partner revoked the token. It is to be deleted.
        Revoked = "revoked",
        /// The token is to be refreshed now.
        Cycle = "cycle",
    }
}
