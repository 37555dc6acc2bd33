use super::plaid_endpoint;
use crate::{
    endpoint::codec::json_replies,
    message::message,
    model::product::Product,
    primitive::{
        bounded::AtLeastOne,
        id::{ClientId, UserId},
        secret::{AccessToken, ClientSecret, ItemAccessToken},
    },
};

message! {
    /// `POST /item/import`: makes an Item from a token that the partner gives out itself.
    ///
    /// Contract: `px.md` section 6.
    pub struct ImportItem {
        required {
            /// The products that the Item is for, at least one.
            products: AtLeastOne<Product>,
            /// Whose data it is, and the partner's token for it.
            user_auth: UserAuth,
        }
        optional {
            /// What else is asked for.
            options: ImportItemOptions,
            /// The caller's id, when it authenticates in the body and not in headers.
            client_id: ClientId,
            /// The caller's secret, when it authenticates in the body and not in headers.
            secret: ClientSecret,
        }
    }
}

plaid_endpoint!(
    ImportItem,
    "import",
    "/item/import",
    "Makes an Item from a partner's own token",
    ImportItemResponse
);

message! {
    /// The Item that was made.
    pub struct ImportItemResponse {
        required {
            /// The Item's token.
            access_token: ItemAccessToken,
            /// The id of the request, to be quoted in support.
            request_id: String,
        }
    }
}

json_replies!(ImportItemResponse);

message! {
    /// What else is asked for when an Item is made.
    pub struct ImportItemOptions {
        optional {
            /// Where webhooks for the Item go.
            webhook: String,
        }
    }
}

message! {
    /// A user at the partner, and the partner's token for the data.
    pub struct UserAuth {
        required {
            /// The principal.
            user_id: UserId,
            /// The partner's bearer token.
            auth_token: AccessToken,
        }
    }
}
