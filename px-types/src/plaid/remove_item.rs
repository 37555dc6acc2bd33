use super::{Acknowledged, plaid_endpoint};
use crate::{
    message::message,
    primitive::{
        id::ClientId,
        secret::{ClientSecret, ItemAccessToken},
    },
};

message! {
    /// `POST /item/remove`: removes an Item. Its access token becomes invalid immediately.
    ///
    /// Contract: `px.md` section 6.
    pub struct RemoveItem {
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

plaid_endpoint!(RemoveItem, "remove_item", "/item/remove", "Removes an Item", Acknowledged);
