use super::{Acknowledged, plaid_endpoint};
use crate::{
    message::message,
    primitive::{
        id::ClientId,
        secret::{ClientSecret, ItemAccessToken},
    },
};

message! {
    /// `POST /item/remove`: gives an Item up; its token is dead at once.
    ///
    /// Contract: `px.md` section 6.
    pub struct RemoveItem {
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

plaid_endpoint!(RemoveItem, "remove_item", "/item/remove", "Gives an Item up", Acknowledged);
