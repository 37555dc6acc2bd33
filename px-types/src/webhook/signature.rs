//! What a signature says: the words that its sender and its receivers share.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use subtle::ConstantTimeEq as _;

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
        Self { iat, request_body_sha256: digest(body) }
    }

    /// Whether they are of this body, byte by byte. Takes as long for any other one.
    #[must_use]
    pub fn is_of(&self, body: &[u8]) -> bool {
        digest(body).as_bytes().ct_eq(self.request_body_sha256.as_bytes()).into()
    }
}

fn digest(body: &[u8]) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(body) {
        // Writing to a `String` does not fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}
