use super::plaid_endpoint;
use crate::{
    endpoint::codec::json_replies,
    message::message,
    model::item::Item,
    primitive::{
        id::ClientId,
        secret::{ClientSecret, ItemAccessToken},
    },
};

message! {
    /// `POST /item/webhook/update`: where webhooks for an Item go.
    ///
    /// Contract: `px.md` section 6.
    pub struct UpdateWebhook {
        required {
            /// The Item's token.
            access_token: ItemAccessToken,
        }
        optional {
            /// The address; none stops them.
            webhook: String,
            /// The caller's id, when it authenticates in the body and not in headers.
            client_id: ClientId,
            /// The caller's secret, when it authenticates in the body and not in headers.
            secret: ClientSecret,
        }
    }
}

plaid_endpoint!(
    UpdateWebhook,
    "update_webhook",
    "/item/webhook/update",
    "Sets where webhooks for an Item go",
    UpdateWebhookResponse
);

message! {
    /// The Item with its new address.
    pub struct UpdateWebhookResponse {
        required {
            /// The Item.
            item: Item,
            /// The id of the request, to be quoted in support.
            request_id: String,
        }
    }
}

json_replies!(UpdateWebhookResponse);
