use super::plaid_endpoint;
use crate::{
    endpoint::codec::json_responses,
    message::message,
    primitive::{
        id::ClientId,
        secret::{ClientSecret, ItemAccessToken},
    },
};

message! {
    /// `POST /item/access_token/invalidate`: replaces the access token of an Item.
    ///
    /// The old token becomes invalid immediately.
    ///
    /// Contract: `px.md` section 6.
    pub struct InvalidateToken {
        required {
            /// The access token of the Item.
            access_token: ItemAccessToken,
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
    InvalidateToken,
    "invalidate_token",
    "/item/access_token/invalidate",
    "Replaces the access token of an Item",
    InvalidateTokenResponse
);

message! {
    /// The new access token of an Item.
    pub struct InvalidateTokenResponse {
        required {
            /// The new access token.
            new_access_token: ItemAccessToken,
            /// The id of the request, to be quoted in support.
            request_id: String,
        }
    }
}

json_responses!(InvalidateTokenResponse);
