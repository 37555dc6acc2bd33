use super::plaid_endpoint;
use crate::{
    endpoint::codec::json_replies,
    message::message,
    model::application::ConnectedApplication,
    primitive::{
        id::ClientId,
        secret::{ClientSecret, ItemAccessToken},
    },
};

message! {
    /// `POST /item/application/list`: the applications that a user connected.
    ///
    /// Contract: `px.md` section 6.
    pub struct ListApplications {
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

plaid_endpoint!(
    ListApplications,
    "list_applications",
    "/item/application/list",
    "The applications that a user connected",
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

json_replies!(ListApplicationsResponse);
