use super::plaid_endpoint;
use crate::{
    endpoint::codec::json_responses,
    message::message,
    model::application_details::Application,
    primitive::{
        id::{ApplicationId, ClientId},
        secret::ClientSecret,
    },
};

message! {
    /// `POST /application/get`: returns the details of an application, to be shown to a user.
    ///
    /// Contract: `px.md` section 6.
    pub struct GetApplication {
        required {
            /// The id of the application.
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
    GetApplication,
    "application",
    "/application/get",
    "Returns the details of an application",
    GetApplicationResponse
);

message! {
    /// The details of an application.
    pub struct GetApplicationResponse {
        required {
            /// The application.
            application: Application,
            /// The id of the request, to be quoted in support.
            request_id: String,
        }
    }
}

json_responses!(GetApplicationResponse);
