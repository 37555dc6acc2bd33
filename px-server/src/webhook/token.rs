//! The JWT of a webhook: its form and the checks that need no key server. Pure.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, DecodingKey};
use px_types::{
    ClientId, InstitutionId, KeyId,
    model::verification_key::VerificationKey,
    webhook::{SIGNATURE_ALGORITHM, SIGNATURE_MAX_AGE_SECONDS, SignatureClaims},
};
use serde::{Deserialize, de::DeserializeOwned, de::IgnoredAny};

use super::VerifyErrorKind as Wrong;

/// How old a signature may be.
pub(super) const MAX_AGE: TimeDelta = TimeDelta::seconds(SIGNATURE_MAX_AGE_SECONDS);
/// The longest header that is looked at; ours have about 300 bytes.
const LONGEST: usize = 4096;

/// A token that was taken apart. Nothing of it is believed yet.
#[derive(Debug)]
pub(super) struct Token<'a> {
    pub(super) kid: KeyId,
    /// Header and claims, as they were signed.
    signed: &'a str,
    claims: &'a str,
    signature: &'a str,
}

/// A token whose signature, age and body are right.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) issued_at: DateTime<Utc>,
    /// The id of the webhook, the same on every attempt; Plaid's own have none.
    pub(super) id: Option<String>,
}

/// The receiver that a verifier checks webhooks for.
#[derive(Clone, Debug)]
pub(super) enum Recipient {
    /// A partner, by all its institutions. What is signed for partners always names one.
    Institutions(Vec<InstitutionId>),
    /// An application. Plaid's own webhooks name none.
    Application(ClientId),
}

impl Recipient {
    fn takes(&self, claims: &SignatureClaims) -> bool {
        match self {
            Self::Institutions(ids) => {
                ids.iter().any(|id| claims.names_recipient(id.as_str()) == Some(true))
            }
            Self::Application(id) => claims.names_recipient(id.as_str()) != Some(false),
        }
    }
}

/// Fields that are named twice make it unreadable.
#[derive(Deserialize)]
struct Head {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    typ: Option<String>,
    #[serde(default)]
    crit: Option<IgnoredAny>,
}

impl<'a> Token<'a> {
    /// Takes a token apart. The algorithm is looked at before anything else.
    pub(super) fn read(text: &'a str) -> Result<Self, Wrong> {
        if text.len() > LONGEST {
            return Err(Wrong::Malformed);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(Wrong::Malformed)?;
        let (head, claims) = signed.split_once('.').ok_or(Wrong::Malformed)?;
        let head: Head = decode(head)?;
        if head.alg != SIGNATURE_ALGORITHM {
            return Err(Wrong::Algorithm);
        }
        let is_jwt = head.typ.is_none_or(|typ| typ.eq_ignore_ascii_case("JWT"));
        // `crit` names extensions that must be understood; none is here.
        if !is_jwt || head.crit.is_some() || claims.contains('.') {
            return Err(Wrong::Malformed);
        }
        let kid = head.kid.and_then(|kid| KeyId::new(kid).ok()).ok_or(Wrong::Malformed)?;
        Ok(Self { kid, signed, claims, signature })
    }

    /// Checks signature, age, body and recipient, in this order.
    pub(super) fn check(
        &self,
        key: &DecodingKey,
        body: &[u8],
        recipient: Option<&Recipient>,
        (now, skew): (DateTime<Utc>, TimeDelta),
    ) -> Result<Checked, Wrong> {
        let signed = self.signed.as_bytes();
        let valid = jsonwebtoken::crypto::verify(self.signature, signed, key, Algorithm::ES256);
        if !valid.is_ok_and(|valid| valid) {
            return Err(Wrong::Signature);
        }
        let claims: SignatureClaims = decode(self.claims)?;
        let issued_at = DateTime::from_timestamp(claims.iat, 0).ok_or(Wrong::Malformed)?;
        if now.signed_duration_since(issued_at) > MAX_AGE {
            return Err(Wrong::TooOld);
        }
        if issued_at.signed_duration_since(now) > skew {
            return Err(Wrong::TooEarly);
        }
        if !claims.is_of(body) {
            return Err(Wrong::Body);
        }
        if recipient.is_some_and(|recipient| !recipient.takes(&claims)) {
            return Err(Wrong::Recipient);
        }
        Ok(Checked { issued_at, id: claims.id().map(str::to_owned) })
    }
}

/// The key of a JWK; `None` when it is not one of ES256.
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

fn decode<T: DeserializeOwned>(part: &str) -> Result<T, Wrong> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Wrong::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| Wrong::Malformed)
}
