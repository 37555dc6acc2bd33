use super::{Acknowledged, plaid_endpoint};
use crate::{
    message::message,
    primitive::{
        id::{ApplicationId, ClientId},
        secret::{ClientSecret, ItemAccessToken},
    },
};

message! {
    /// `POST /item/application/unlink`: ends the access of one application immediately.
    ///
    /// The other applications of the Item keep their access.
    ///
    /// Contract: `px.md` section 6.
    pub struct UnlinkApplication {
        required {
            /// The access token of the Item.
            access_token: ItemAccessToken,
            /// The id of the application that loses its access.
            application_id: ApplicationId,
        }
        optional {
            /// The id of the client, if it authenticates in the body instead of headers.
            client_id: ClientId,
            /// The secret of the client, if it authenticates in the body instead of headers.
            secret: ClientSecret,
        }
    }
}

plaid_endpoint!(
    UnlinkApplication,
    "unlink_application",
    "/item/application/unlink",
    "Ends the access of one application",
    Acknowledged
);
