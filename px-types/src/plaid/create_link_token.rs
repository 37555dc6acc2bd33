use super::plaid_endpoint;
use crate::{
    endpoint::codec::json_replies,
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
    /// `POST /link/token/create`: a token that opens Plaid's page for one user.
    ///
    /// It lives 4 hours, 30 minutes when it is tied to an Item, and opens the page once.
    ///
    /// Contract: `px.md` section 6.
    pub struct CreateLinkToken {
        required {
            /// The name of the caller, shown to the user.
            client_name: String,
            /// The language of the page, `en`.
            language: String,
            /// The countries of the institutions, ISO 3166-1, two letters each.
            country_codes: Vec<String>,
            /// For whom the page is opened.
            user: LinkTokenUser,
        }
        optional {
            /// The Item that the page is about.
            access_token: ItemAccessToken,
            /// Where webhooks go.
            webhook: String,
            /// Where the page returns to.
            redirect_uri: String,
            /// The application that the user is asked to connect (section 10).
            cross_app_item_add: CrossAppItemAdd,
            /// The caller's id, when it authenticates in the body and not in headers.
            client_id: ClientId,
            /// The caller's secret, when it authenticates in the body and not in headers.
            secret: ClientSecret,
        }
        lists {
            /// The products that are asked for.
            products: Product,
        }
    }
}

plaid_endpoint!(
    CreateLinkToken,
    "create_link_token",
    "/link/token/create",
    "A token that opens Plaid's page",
    CreateLinkTokenResponse
);

message! {
    /// The token for the page.
    pub struct CreateLinkTokenResponse {
        required {
            /// Opens the page, once.
            link_token: LinkToken,
            /// When it ends.
            expiration: Timestamp,
            /// The id of the request, to be quoted in support.
            request_id: String,
        }
    }
}

json_replies!(CreateLinkTokenResponse);
