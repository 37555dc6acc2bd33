use super::plaid_endpoint;
use crate::{
    endpoint::codec::json_replies,
    message::message,
    model::{item::Item, item_status::ItemStatus},
    primitive::{
        id::ClientId,
        secret::{ClientSecret, ItemAccessToken},
    },
};

message! {
    /// `POST /item/get`: an Item and how it is.
    ///
    /// Contract: `px.md` section 6.
    pub struct GetItem {
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

plaid_endpoint!(GetItem, "item", "/item/get", "An Item and how it is", GetItemResponse);

message! {
    /// An Item and how it is.
    pub struct GetItemResponse {
        required {
            /// The Item.
            item: Item,
            /// The id of the request, to be quoted in support.
            request_id: String,
        }
        optional {
            /// When it was last updated.
            status: ItemStatus,
        }
    }
}

json_replies!(GetItemResponse);
