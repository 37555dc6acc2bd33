use super::plaid_endpoint;
use crate::{
    endpoint::codec::json_replies,
    message::message,
    model::verification_key::VerificationKey,
    primitive::{
        id::{ClientId, KeyId},
        secret::ClientSecret,
    },
};

message! {
    /// `POST /webhook_verification_key/get`: the key that signed a webhook.
    ///
    /// Contract: `px.md` section 6.
    pub struct GetVerificationKey {
        required {
            /// The `kid` of the webhook's signature.
            key_id: KeyId,
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
    GetVerificationKey,
    "verification_key",
    "/webhook_verification_key/get",
    "The key that signed a webhook",
    GetVerificationKeyResponse
);

message! {
    /// The key that signed a webhook.
    pub struct GetVerificationKeyResponse {
        required {
            /// The key.
            key: VerificationKey,
            /// The id of the request, to be quoted in support.
            request_id: String,
        }
    }
}

json_replies!(GetVerificationKeyResponse);
