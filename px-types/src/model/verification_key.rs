//! The key that signs webhooks.

use crate::{message::message, primitive::id::KeyId};

message! {
    /// A public key of RFC 7517 that signs webhooks: ES256, curve P-256.
    ///
    /// Contract: `px.md` sections 6 and 9.
    pub struct VerificationKey {
        required {
            /// Names the key.
            kid: KeyId,
            /// `ES256`
            alg: String,
            /// `P-256`
            crv: String,
            /// `EC`
            kty: String,
            /// `sig`
            #[serde(rename = "use")]
            usage: String,
            /// The x coordinate, base64url.
            x: String,
            /// The y coordinate, base64url.
            y: String,
            /// When it was made, in seconds since 1970.
            created_at: i64,
        }
        optional {
            /// When it ended, in seconds since 1970; `None` while it signs.
            expired_at: i64,
        }
    }
}
