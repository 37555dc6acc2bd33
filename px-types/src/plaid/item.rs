use super::plaid_endpoint;
use crate::{
    endpoint::codec::json_responses,
    message::message,
    model::{item::Item, item_status::ItemStatus},
    primitive::{
        id::ClientId,
        secret::{ClientSecret, ItemAccessToken},
    },
};

message! {
    /// `POST /item/get`: returns an Item and its status.
    ///
    /// Contract: `px.md` section 6.
    pub struct GetItem {
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

plaid_endpoint!(GetItem, "item", "/item/get", "Returns an Item and its status", GetItemResponse);

message! {
    /// An Item and its status.
    pub struct GetItemResponse {
        required {
            /// The Item.
            item: Item,
            /// The id of the request, to be quoted in support.
            request_id: String,
        }
        optional {
            /// The status of the Item's updates.
            status: ItemStatus,
        }
    }
}

json_responses!(GetItemResponse);
