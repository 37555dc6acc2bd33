use super::plaid_endpoint;
use crate::{
    endpoint::codec::json_responses,
    message::message,
    model::application::ConnectedApplication,
    primitive::{
        id::ClientId,
        secret::{ClientSecret, ItemAccessToken},
    },
};

message! {
    /// `POST /item/application/list`: lists the applications that a user connected.
    ///
    /// Contract: `px.md` section 6.
    pub struct ListApplications {
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

plaid_endpoint!(
    ListApplications,
    "list_applications",
    "/item/application/list",
    "Lists the applications that a user connected",
    ListApplicationsResponse
);

message! {
    /// The applications that a user connected.
    pub struct ListApplicationsResponse {
        required {
            /// The applications.
            applications: Vec<ConnectedApplication>,
            /// The id of the request, to be quoted in support.
            request_id: String,
        }
    }
}

json_responses!(ListApplicationsResponse);
