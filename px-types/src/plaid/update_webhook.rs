use super::plaid_endpoint;
use crate::{
    endpoint::codec::json_responses,
    message::message,
    model::item::Item,
    primitive::{
        id::ClientId,
        secret::{ClientSecret, ItemAccessToken},
    },
};

message! {
    /// `POST /item/webhook/update`: sets the URL that receives the webhooks of an Item.
    ///
    /// Contract: `px.md` section 6.
    pub struct UpdateWebhook {
        required {
            /// The access token of the Item.
            access_token: ItemAccessToken,
        }
        optional {
            /// The URL; `None` stops the webhooks.
            webhook: String,
            /// The id of the client, if it authenticates in the body instead of headers.
            client_id: ClientId,
            /// The secret of the client, if it authenticates in the body instead of headers.
            secret: ClientSecret,
        }
    }
}

plaid_endpoint!(
    UpdateWebhook,
    "update_webhook",
    "/item/webhook/update",
    "Sets the URL that receives the webhooks of an Item",
    UpdateWebhookResponse
);

message! {
    /// The Item with its new webhook URL.
    pub struct UpdateWebhookResponse {
        required {
            /// The Item.
            item: Item,
            /// The id of the request, to be quoted in support.
            request_id: String,
        }
    }
}

json_responses!(UpdateWebhookResponse);
