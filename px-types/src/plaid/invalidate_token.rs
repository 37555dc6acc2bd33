use super::plaid_endpoint;
use crate::{
    endpoint::codec::json_replies,
    message::message,
    primitive::{
        id::ClientId,
        secret::{ClientSecret, ItemAccessToken},
    },
};

message! {
    /// `POST /item/access_token/invalidate`: a new token for an Item; the old one is dead at once.
    ///
    /// Contract: `px.md` section 6.
    pub struct InvalidateToken {
        required {
            /// The Item's token.
            access_token: ItemAccessToken,
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
    InvalidateToken,
    "invalidate_token",
    "/item/access_token/invalidate",
    "Replaces the token of an Item",
    InvalidateTokenResponse
);

message! {
    /// The Item's new token.
    pub struct InvalidateTokenResponse {
        required {
            /// The token that replaces the old one.
            new_access_token: ItemAccessToken,
            /// The id of the request, to be quoted in support.
            request_id: String,
        }
    }
}

json_replies!(InvalidateTokenResponse);
