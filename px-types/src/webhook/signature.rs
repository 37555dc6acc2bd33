//! The claims of webhook signatures.

use px_core::{Digest, digest::constant_time_eq};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// The only supported algorithm: ECDSA over P-256 with SHA-256.
pub const SIGNATURE_ALGORITHM: &str = "ES256";

/// Maximum age of a signature, in seconds.
pub const SIGNATURE_MAX_AGE_SECONDS: i64 = 300;

/// The claims of the JWT in [`VERIFICATION_HEADER`](super::VERIFICATION_HEADER).
///
/// Contract: `px.md` section 9.
///
/// ```
/// use px_types::webhook::SignatureClaims;
///
/// let claims = SignatureClaims::of(b"{}", 1_714_564_800).with_id("n-1").for_recipient("ins_1");
/// assert!(claims.matches_body(b"{}") && !claims.matches_body(b"{} "));
/// assert_eq!(claims.names_recipient("ins_2"), Some(false));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SignatureClaims {
    /// The time of the signature, in seconds since the Unix epoch.
    pub iat: i64,
    /// The SHA-256 of the raw body, in lower-case hex.
    pub request_body_sha256: String,
    /// The id of the webhook, the same on every delivery attempt. Webhooks of Plaid itself have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// The recipients: the institution id of a partner or the client id of an application. Webhooks of
    /// Plaid itself to applications name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aud: Option<Audience>,
}

/// The recipients of a webhook: one, or a list (RFC 7519 section 4.1.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// One recipient.
    One(String),
    /// Several recipients.
    Many(Vec<String>),
}

impl SignatureClaims {
    /// Creates the claims for a raw body, without an id and a recipient.
    #[must_use]
    pub fn of(body: &[u8], iat: i64) -> Self {
        Self { iat, request_body_sha256: hex_sha256(body), jti: None, aud: None }
    }

    /// Sets the id of the webhook.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.jti = Some(id.into());
        self
    }

    /// Sets the recipient.
    #[must_use]
    pub fn for_recipient(mut self, recipient: impl Into<String>) -> Self {
        self.aud = Some(Audience::One(recipient.into()));
        self
    }

    /// Returns whether the claims are for this raw body. The digests are compared in constant time.
    #[must_use]
    pub fn matches_body(&self, body: &[u8]) -> bool {
        constant_time_eq(hex_sha256(body).as_bytes(), self.request_body_sha256.as_bytes())
    }

    /// Returns the id of the webhook, or `None` if it has none or an empty one.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.jti.as_deref().filter(|id| !id.is_empty())
    }

    /// Returns whether the claims name a recipient. Returns `None` if they name no recipient at all.
    #[must_use]
    pub fn names_recipient(&self, recipient: &str) -> Option<bool> {
        match self.aud.as_ref()? {
            Audience::One(one) => Some(one == recipient),
            Audience::Many(many) => Some(many.iter().any(|one| one == recipient)),
        }
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
