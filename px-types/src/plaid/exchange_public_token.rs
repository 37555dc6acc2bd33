use super::plaid_endpoint;
use crate::{
    endpoint::codec::json_replies,
    message::message,
    primitive::{
        id::{ClientId, ItemId},
        secret::{ClientSecret, ItemAccessToken, PublicToken},
    },
};

message! {
    /// `POST /item/public_token/exchange`: the Item behind a public token.
    ///
    /// A public token lives 30 minutes and is good for one exchange.
    ///
    /// Contract: `px.md` section 6.
    pub struct ExchangePublicToken {
        required {
            /// The token that the page or a webhook gave.
            public_token: PublicToken,
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
    ExchangePublicToken,
    "exchange_public_token",
    "/item/public_token/exchange",
    "Exchanges a public token for an Item's token",
    ExchangePublicTokenResponse
);

message! {
    /// The Item behind a public token.
    pub struct ExchangePublicTokenResponse {
        required {
            /// The Item's token.
            access_token: ItemAccessToken,
            /// The Item.
            item_id: ItemId,
            /// The id of the request, to be quoted in support.
            request_id: String,
        }
    }
}

json_replies!(ExchangePublicTokenResponse);
