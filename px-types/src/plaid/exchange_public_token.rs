use super::plaid_endpoint;
use crate::{
    endpoint::codec::json_responses,
    message::message,
    primitive::{
        id::{ClientId, ItemId},
        secret::{ClientSecret, ItemAccessToken, PublicToken},
    },
};

message! {
    /// `POST /item/public_token/exchange`: exchanges a public token for the access token of an Item.
    ///
    /// A public token is valid for 30 minutes and can be exchanged once.
    ///
    /// Contract: `px.md` section 6.
    pub struct ExchangePublicToken {
        required {
            /// The token from the Link page or from a webhook.
            public_token: PublicToken,
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
    ExchangePublicToken,
    "exchange_public_token",
    "/item/public_token/exchange",
    "Exchanges a public token for the access token of an Item",
    ExchangePublicTokenResponse
);

message! {
    /// The Item of a public token.
    pub struct ExchangePublicTokenResponse {
        required {
            /// The access token of the Item.
            access_token: ItemAccessToken,
            /// The id of the Item.
            item_id: ItemId,
            /// The id of the request, to be quoted in support.
            request_id: String,
        }
    }
}

json_responses!(ExchangePublicTokenResponse);
