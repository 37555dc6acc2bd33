use super::plaid_endpoint;
use crate::{
    endpoint::codec::json_replies,
    message::message,
    model::application_details::Application,
    primitive::{
        id::{ApplicationId, ClientId},
        secret::ClientSecret,
    },
};

message! {
    /// `POST /application/get`: one application, to be shown to a user.
    ///
    /// Contract: `px.md` section 6.
    pub struct GetApplication {
        required {
            /// The application.
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
    GetApplication,
    "application",
    "/application/get",
    "One application",
    GetApplicationResponse
);

message! {
    /// One application.
    pub struct GetApplicationResponse {
        required {
            /// The application.
            application: Application,
            /// The id of the request, to be quoted in support.
            request_id: String,
        }
    }
}

json_replies!(GetApplicationResponse);
