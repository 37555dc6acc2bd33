use super::plaid_endpoint;
use crate::{
    endpoint::codec::json_responses,
    message::message,
    model::{
        cross_app_item_add::CrossAppItemAdd, link_token_user::LinkTokenUser, product::Product,
    },
    primitive::{
        date::Timestamp,
        id::ClientId,
        secret::{ClientSecret, ItemAccessToken, LinkToken},
    },
};

message! {
    /// `POST /link/token/create`: creates a token that opens the Link page for one user.
    ///
    /// The token is valid for 4 hours, or for 30 minutes if it is bound to an Item. It opens the page once.
    ///
    /// Contract: `px.md` section 6.
    pub struct CreateLinkToken {
        required {
            /// The name of the client, shown to the user.
            client_name: String,
            /// The language of the page, such as `en`.
            language: String,
            /// The countries of the institutions, ISO 3166-1 alpha-2.
            country_codes: Vec<String>,
            /// The user for whom the page is opened.
            user: LinkTokenUser,
        }
        optional {
            /// The access token of the Item that the page concerns.
            access_token: ItemAccessToken,
            /// The URL that receives webhooks.
            webhook: String,
            /// The URL to which the page returns.
            redirect_uri: String,
            /// The application that the user is asked to connect (`px.md` section 10).
            cross_app_item_add: CrossAppItemAdd,
            /// The id of the client, if it authenticates in the body instead of headers.
            client_id: ClientId,
            /// The secret of the client, if it authenticates in the body instead of headers.
            secret: ClientSecret,
        }
        lists {
            /// The requested products.
            products: Product,
        }
    }
}

plaid_endpoint!(
    CreateLinkToken,
    "create_link_token",
    "/link/token/create",
    "Creates a token that opens the Link page",
    CreateLinkTokenResponse
);

message! {
    /// The token that opens the Link page.
    pub struct CreateLinkTokenResponse {
        required {
            /// The token. It opens the page once.
            link_token: LinkToken,
            /// The time at which the token expires.
            expiration: Timestamp,
            /// The id of the request, to be quoted in support.
            request_id: String,
        }
    }
}

json_responses!(CreateLinkTokenResponse);
