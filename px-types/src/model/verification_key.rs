//! The keys that verify webhooks.

use crate::{message::message, primitive::id::KeyId};

message! {
    /// A public key (RFC 7517) that verifies the signatures of webhooks: ES256, curve P-256.
    ///
    /// Contract: `px.md` sections 6 and 9.
    pub struct VerificationKey {
        required {
            /// The id of the key.
            kid: KeyId,
            /// The algorithm: `ES256`.
            alg: String,
            /// The curve: `P-256`.
            crv: String,
            /// The key type: `EC`.
            kty: String,
            /// The usage: `sig`.
            #[serde(rename = "use")]
            usage: String,
            /// The x coordinate, base64url.
            x: String,
            /// The y coordinate, base64url.
            y: String,
            /// The time of creation, in seconds since the Unix epoch.
            created_at: i64,
        }
        optional {
            /// The time at which the key expired, in seconds since the Unix epoch; `None` while it is in use.
            expired_at: i64,
        }
    }
}
