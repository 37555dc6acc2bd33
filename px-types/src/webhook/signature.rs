//! What a signature says: the words that its sender and its receivers share.

use px_core::{Digest, digest::constant_time_eq};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// The one algorithm: ECDSA over P-256 with SHA-256.
pub const SIGNATURE_ALGORITHM: &str = "ES256";

/// How old a signature may be, in seconds.
pub const SIGNATURE_MAX_AGE_SECONDS: i64 = 300;

/// The claims of the JWT in [`VERIFICATION_HEADER`](super::VERIFICATION_HEADER): a moment and a body.
///
/// Contract: `px.md` section 9.
///
/// ```
/// use px_types::webhook::SignatureClaims;
///
/// let claims = SignatureClaims::of(b"{}", 1_714_564_800);
/// assert!(claims.is_of(b"{}") && !claims.is_of(b"{} "));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SignatureClaims {
    /// When it was signed, in seconds since 1970.
    pub iat: i64,
    /// Hex SHA-256 of the raw body.
    pub request_body_sha256: String,
}

impl SignatureClaims {
    /// What is signed of a body, as it is sent.
    #[must_use]
    pub fn of(body: &[u8], iat: i64) -> Self {
        Self { iat, request_body_sha256: hex_sha256(body) }
    }

    /// Whether they are of this body, byte by byte. Takes as long for any other one.
    #[must_use]
    pub fn is_of(&self, body: &[u8]) -> bool {
        constant_time_eq(hex_sha256(body).as_bytes(), self.request_body_sha256.as_bytes())
    }
}

fn hex_sha256(body: &[u8]) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Digest::of(body).as_bytes() {
        // Writing to a `String` does not fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}
