use super::plaid_endpoint;
use crate::{
    endpoint::codec::json_responses,
    message::message,
    model::verification_key::VerificationKey,
    primitive::{
        id::{ClientId, KeyId},
        secret::ClientSecret,
    },
};

message! {
    /// `POST /webhook_verification_key/get`: returns the key that verifies a webhook.
    ///
    /// Contract: `px.md` section 6.
    pub struct GetVerificationKey {
        required {
            /// The `kid` of the signature of the webhook.
            key_id: KeyId,
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
    GetVerificationKey,
    "verification_key",
    "/webhook_verification_key/get",
    "Returns the key that verifies a webhook",
    GetVerificationKeyResponse
);

message! {
    /// The key that verifies a webhook.
    pub struct GetVerificationKeyResponse {
        required {
            /// The key.
            key: VerificationKey,
            /// The id of the request, to be quoted in support.
            request_id: String,
        }
    }
}

json_responses!(GetVerificationKeyResponse);
