use super::{Acknowledged, plaid_endpoint};
use crate::{
    message::message,
    primitive::{
        id::{ApplicationId, ClientId},
        secret::{ClientSecret, ItemAccessToken},
    },
};

message! {
    /// `POST /item/application/unlink`: ends one application's access at once.
    ///
    /// The other applications of the Item keep theirs.
    ///
    /// Contract: `px.md` section 6.
    pub struct UnlinkApplication {
        required {
            /// The Item's token.
            access_token: ItemAccessToken,
            /// The application that loses its access.
            application_id: ApplicationId,
        }
        optional {
            /// The caller's id, when it authenticates in the body and not in headers.
            client_id: ClientId,
            /// The caller's secret, when it authenticates in the body and not in headers.
            secret: ClientSecret,
        }
    }
}

plaid_endpoint!(
    UnlinkApplication,
    "unlink_application",
    "/item/application/unlink",
    "Ends one application's access",
    Acknowledged
);
