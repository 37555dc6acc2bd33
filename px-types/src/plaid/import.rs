use super::plaid_endpoint;
use crate::{
    endpoint::codec::json_responses,
    message::message,
    model::product::Product,
    primitive::{
        bounded::AtLeastOne,
        id::{ClientId, UserId},
        secret::{AccessToken, ClientSecret, ItemAccessToken},
    },
};

message! {
    /// `POST /item/import`: creates an Item from a token that the partner itself issued.
    ///
    /// Contract: `px.md` section 6.
    pub struct ImportItem {
        required {
            /// The products of the Item, at least one.
            products: AtLeastOne<Product>,
            /// The user, and the partner's token for the user's data.
            user_auth: UserAuth,
        }
        optional {
            /// The options.
            options: ImportItemOptions,
            /// The id of the client, if it authenticates in the body instead of headers.
            client_id: ClientId,
            /// The secret of the client, if it authenticates in the body instead of headers.
            secret: ClientSecret,
        }
    }
}

plaid_endpoint!(
    ImportItem,
    "import",
    "/item/import",
    "Creates an Item from a token that the partner issued",
    ImportItemResponse
);

message! {
    /// The access token of the created Item.
    pub struct ImportItemResponse {
        required {
            /// The access token of the Item.
            access_token: ItemAccessToken,
            /// The id of the request, to be quoted in support.
            request_id: String,
        }
    }
}

json_responses!(ImportItemResponse);

message! {
    /// The options of an import.
    pub struct ImportItemOptions {
        optional {
            /// The URL that receives the webhooks of the Item.
            webhook: String,
        }
    }
}

message! {
    /// A user at the partner, and the partner's token for the user's data.
    pub struct UserAuth {
        required {
            /// The id of the user, the principal of the token.
            user_id: UserId,
            /// The bearer token that the partner issued.
            auth_token: AccessToken,
        }
    }
}
