//! The JWT of a webhook: parsing, and the checks that need no key source. Without I/O.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, DecodingKey};
use px_types::{
    ClientId, InstitutionId, KeyId,
    model::verification_key::VerificationKey,
    webhook::{SIGNATURE_ALGORITHM, SIGNATURE_MAX_AGE_SECONDS, SignatureClaims},
};
use serde::{Deserialize, de::DeserializeOwned, de::IgnoredAny};

use super::WebhookErrorKind as ErrorKind;

/// Maximum age of a signature.
pub(super) const MAX_AGE: TimeDelta = TimeDelta::seconds(SIGNATURE_MAX_AGE_SECONDS);
/// Maximum length of the header, in bytes; Plaid's have about 300.
const MAX_TOKEN_BYTES: usize = 4096;

/// A parsed token. Its values are not trusted until they are checked.
#[derive(Debug)]
pub(super) struct Token<'a> {
    pub(super) kid: KeyId,
    /// Header and claims, as they were signed.
    signed: &'a str,
    claims: &'a str,
    signature: &'a str,
}

/// A token with a valid signature, age and body.
#[derive(Debug)]
pub(super) struct CheckedToken {
    pub(super) issued_at: DateTime<Utc>,
    /// The id of the webhook, the same for every attempt. Plaid's own webhooks to applications have
    /// none.
    pub(super) id: Option<String>,
}

/// The receiver that a verifier accepts webhooks for.
#[derive(Clone, Debug)]
pub(super) enum Recipient {
    /// A partner with all its institutions. Webhooks for partners always name one.
    Institutions(Vec<InstitutionId>),
    /// An application. Plaid's own webhooks name none.
    Application(ClientId),
}

impl Recipient {
    fn accepts(&self, claims: &SignatureClaims) -> bool {
        match self {
            Self::Institutions(ids) => {
                ids.iter().any(|id| claims.names_recipient(id.as_str()) == Some(true))
            }
            Self::Application(id) => claims.names_recipient(id.as_str()) != Some(false),
        }
    }
}

/// The header of the JWT. A member that occurs twice makes it invalid.
#[derive(Deserialize)]
struct JwtHeader {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    typ: Option<String>,
    #[serde(default)]
    crit: Option<IgnoredAny>,
}

impl<'a> Token<'a> {
    /// Parses a token. The algorithm is checked first.
    pub(super) fn read(text: &'a str) -> Result<Self, ErrorKind> {
        if text.len() > MAX_TOKEN_BYTES {
            return Err(ErrorKind::Malformed);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(ErrorKind::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(ErrorKind::Malformed)?;
        let header: JwtHeader = decode(header)?;
        if header.alg != SIGNATURE_ALGORITHM {
            return Err(ErrorKind::Algorithm);
        }
        let is_jwt = header.typ.is_none_or(|typ| typ.eq_ignore_ascii_case("JWT"));
        // `crit` names extensions that must be understood; none is supported here.
        if !is_jwt || header.crit.is_some() || claims.contains('.') {
            return Err(ErrorKind::Malformed);
        }
        let kid = header.kid.and_then(|kid| KeyId::new(kid).ok()).ok_or(ErrorKind::Malformed)?;
        Ok(Self { kid, signed, claims, signature })
    }

    /// Checks signature, age, body and recipient, in this order.
    pub(super) fn check(
        &self,
        key: &DecodingKey,
        body: &[u8],
        recipient: Option<&Recipient>,
        (now, skew): (DateTime<Utc>, TimeDelta),
    ) -> Result<CheckedToken, ErrorKind> {
        let signed = self.signed.as_bytes();
        let valid = jsonwebtoken::crypto::verify(self.signature, signed, key, Algorithm::ES256);
        if !valid.is_ok_and(|valid| valid) {
            return Err(ErrorKind::Signature);
        }
        let claims: SignatureClaims = decode(self.claims)?;
        let issued_at = DateTime::from_timestamp(claims.iat, 0).ok_or(ErrorKind::Malformed)?;
        if now.signed_duration_since(issued_at) > MAX_AGE {
            return Err(ErrorKind::TooOld);
        }
        if issued_at.signed_duration_since(now) > skew {
            return Err(ErrorKind::TooEarly);
        }
        if !claims.matches_body(body) {
            return Err(ErrorKind::Body);
        }
        if recipient.is_some_and(|recipient| !recipient.accepts(&claims)) {
            return Err(ErrorKind::Recipient);
        }
        Ok(CheckedToken { issued_at, id: claims.id().map(str::to_owned) })
    }
}

/// Returns the key of a JWK. Returns `None` if it is not an ES256 key.
pub(super) fn decoding_key(key: &VerificationKey) -> Option<DecodingKey> {
    let fits = key.alg == SIGNATURE_ALGORITHM
        && key.kty == "EC"
        && key.crv == "P-256"
        && key.usage == "sig";
    let whole = |part: &str| URL_SAFE_NO_PAD.decode(part).is_ok_and(|bytes| bytes.len() == 32);
    if !fits || !whole(&key.x) || !whole(&key.y) {
        return None;
    }
    DecodingKey::from_ec_components(&key.x, &key.y).ok()
}

fn decode<T: DeserializeOwned>(part: &str) -> Result<T, ErrorKind> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| ErrorKind::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| ErrorKind::Malformed)
}
