//! Signatures of webhooks: the keys, and the choice of the key that signs.
//!
//! A signature is bound to the raw body and to a time. Verification is in `px_server::webhook`,
//! sending in [`Sender`](super::Sender).

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use chrono::{DateTime, Utc};
use jsonwebtoken::{EncodingKey, Header};
use px_client::SignBody;
use px_core::Clock;
use px_types::{
    InstitutionId, KeyId, NotificationId,
    model::verification_key::VerificationKey,
    webhook::{SIGNATURE_ALGORITHM, SignatureClaims},
};
use std::{
    error::Error as StdError,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};
use zeroize::Zeroizing;

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// A private key that signs webhooks: ECDSA over P-256, with an id and a validity period.
///
/// It signs from `created_at` on, unless a newer key does. Its public half is published before that
/// and stays published. From [`expires_at`](Self::expires_at) on it is published as expired, and
/// receivers refuse it.
#[derive(Clone)]
pub struct SigningKey {
    kid: KeyId,
    pkcs8: Arc<Zeroizing<Vec<u8>>>,
    key: EncodingKey,
    public: [u8; 64],
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
}

impl SigningKey {
    /// Generates a new key. Store it with [`to_pem`](Self::to_pem).
    ///
    /// # Errors
    /// Returns an error if the machine has no randomness.
    pub fn generate(kid: KeyId, created_at: DateTime<Utc>) -> Result<Self, SignError> {
        let random = aws_lc_rs::rand::SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            .map_err(|_| {
                SignError("a key could not be generated: the machine has no randomness")
            })?;
        Self::from_pkcs8(kid, document.as_ref(), created_at)
    }

    /// Reads a key from a PEM file in PKCS#8 (`BEGIN PRIVATE KEY`).
    ///
    /// `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` generates one.
    ///
    /// # Errors
    /// Returns an error if the text is not such a PEM file, is damaged, or has a key of another
    /// kind or curve.
    pub fn from_pem(kid: KeyId, pem: &str, created_at: DateTime<Utc>) -> Result<Self, SignError> {
        let body = pem.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END));
        let Some((body, _)) = body else {
            return Err(SignError(
                "the signing key is not a PEM file in PKCS#8 (`BEGIN PRIVATE KEY`); \
                 `openssl pkcs8 -topk8 -nocrypt` converts other forms",
            ));
        };
        let body: Zeroizing<String> =
            Zeroizing::new(body.chars().filter(|c| !c.is_ascii_whitespace()).collect());
        let der = STANDARD
            .decode(body.as_bytes())
            .map(Zeroizing::new)
            .map_err(|_| SignError("the PEM file of the signing key is damaged"))?;
        Self::from_pkcs8(kid, &der, created_at)
    }

    fn from_pkcs8(kid: KeyId, der: &[u8], created_at: DateTime<Utc>) -> Result<Self, SignError> {
        let unfit = SignError("the signing key is not an ECDSA key on the curve P-256");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der)
            .map_err(|_| SignError(unfit.0))?;
        // 0x04, then x and y: the uncompressed form of a point.
        let [4, point @ ..] = pair.public_key().as_ref() else { return Err(unfit) };
        let public = point.try_into().map_err(|_| unfit)?;
        Ok(Self {
            kid,
            pkcs8: Arc::new(Zeroizing::new(der.to_vec())),
            key: EncodingKey::from_ec_der(der),
            public,
            created_at,
            expires_at: None,
        })
    }

    /// Sets the time from which the key is published as expired.
    ///
    /// Leave at least ten minutes after the next key's `created_at`: the last webhooks that this
    /// key signed may still be under way.
    #[must_use]
    pub fn expires_at(mut self, moment: DateTime<Utc>) -> Self {
        self.expires_at = Some(moment);
        self
    }

    /// Returns the id of the key.
    #[must_use]
    pub fn kid(&self) -> &KeyId {
        &self.kid
    }

    /// Returns the key as a PEM file in PKCS#8. It is a secret.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        let body = Zeroizing::new(STANDARD.encode(self.pkcs8.as_slice()));
        let mut pem = Zeroizing::new(String::with_capacity(body.len() + 64));
        pem.push_str(BEGIN);
        for line in body.as_bytes().chunks(64) {
            pem.push('\n');
            pem.extend(line.iter().map(|byte| char::from(*byte)));
        }
        pem.push('\n');
        pem.push_str(END);
        pem.push('\n');
        pem
    }

    /// Returns the public half in the form of `POST /webhook_verification_key/get`.
    ///
    /// `expired_at` is present only once it has passed: receivers treat a key that has one as
    /// expired, as Plaid's own example does.
    #[must_use]
    pub fn verification_key(&self, now: DateTime<Utc>) -> VerificationKey {
        let (x, y) = self.public.split_at(32);
        let mut key = VerificationKey::new(
            self.kid.clone(),
            SIGNATURE_ALGORITHM,
            "P-256",
            "EC",
            "sig",
            URL_SAFE_NO_PAD.encode(x),
            URL_SAFE_NO_PAD.encode(y),
            self.created_at.timestamp(),
        );
        if self.is_expired(now) {
            key.expired_at = self.expires_at.map(|moment| moment.timestamp());
        }
        key
    }

    fn is_expired(&self, now: DateTime<Utc>) -> bool {
        self.expires_at.is_some_and(|moment| moment <= now)
    }

    fn may_sign(&self, now: DateTime<Utc>) -> bool {
        self.created_at <= now && !self.is_expired(now)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("kid", &self.kid)
            .field("key", &"***")
            .field("created_at", &self.created_at)
            .field("expires_at", &self.expires_at)
            .finish()
    }
}

/// Signs webhooks with the newest of its keys, and publishes the public halves of all of them.
///
/// To rotate, [`add`](Self::add) a key with a `created_at` a day ahead, and give the old one an
/// [`expires_at`](SigningKey::expires_at) after that. Receivers fetch the new key by its id when
/// they first see it.
///
/// ```
/// use px_items::webhook::{Signer, SigningKey};
/// use px_types::KeyId;
///
/// let now = "2024-05-01T12:00:00Z".parse()?;
/// let signer = Signer::new(SigningKey::generate(KeyId::new("2024-05")?, now)?);
/// let header = signer.sign(br#"{"webhook_type":"ITEM"}"#, now)?;
/// assert_eq!(header.split('.').count(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Contract: `px.md` section 9.
pub struct Signer(RwLock<Vec<SigningKey>>);

impl Signer {
    /// Creates a signer with one key.
    #[must_use]
    pub fn new(key: SigningKey) -> Self {
        Self(RwLock::new(vec![key]))
    }

    /// Adds a key, or replaces the one with the same id.
    pub fn add(&self, key: SigningKey) {
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|known| known.kid != key.kid);
        keys.push(key);
    }

    /// Signs a body and returns the value of the header `Plaid-Verification`. The body must be sent
    /// unchanged.
    ///
    /// The signature has no id and no recipient, like Plaid's own to applications. Use
    /// [`sign_claims`](Self::sign_claims) for both.
    ///
    /// # Errors
    /// Returns an error if no key is valid at `now`: all have expired, or are not valid yet.
    pub fn sign(&self, body: &[u8], now: DateTime<Utc>) -> Result<String, SignError> {
        self.sign_claims(&SignatureClaims::of(body, now.timestamp()), now)
    }

    /// Signs claims with the key that is valid at `now`, and returns the value of the header
    /// `Plaid-Verification`.
    ///
    /// # Errors
    /// Returns an error if no key is valid at `now`: all have expired, or are not valid yet.
    pub fn sign_claims(
        &self,
        claims: &SignatureClaims,
        now: DateTime<Utc>,
    ) -> Result<String, SignError> {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let newest = keys
            .iter()
            .filter(|key| key.may_sign(now))
            .max_by_key(|key| (key.created_at, &key.kid));
        let Some(key) = newest else {
            return Err(SignError("the webhook cannot be signed: no signing key is valid now"));
        };
        let mut header = Header::new(jsonwebtoken::Algorithm::ES256);
        header.kid = Some(key.kid.as_str().to_owned());
        jsonwebtoken::encode(&header, claims, &key.key).map_err(|_| SignError("signing failed"))
    }

    /// Returns the signer of the notifications to one partner, for
    /// [`PartnerClientBuilder::signer`](px_client::PartnerClientBuilder::signer).
    ///
    /// Each signature names the institution as its recipient, so that no other partner accepts it,
    /// and has the notification's id.
    #[must_use]
    pub fn for_partner(
        self: &Arc<Self>,
        institution: InstitutionId,
        clock: Arc<dyn Clock>,
    ) -> Arc<dyn SignBody> {
        Arc::new(PartnerSigner { signer: Arc::clone(self), institution, clock })
    }

    /// Returns the public half of a key, for `POST /webhook_verification_key/get`, or `None` if no
    /// key has that id.
    #[must_use]
    pub fn verification_key(&self, kid: &KeyId, now: DateTime<Utc>) -> Option<VerificationKey> {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        keys.iter().find(|key| key.kid == *kid).map(|key| key.verification_key(now))
    }

    /// Returns the public halves of all keys, including expired ones.
    #[must_use]
    pub fn verification_keys(&self, now: DateTime<Utc>) -> Vec<VerificationKey> {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        keys.iter().map(|key| key.verification_key(now)).collect()
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_tuple("Signer").field(&*keys).finish()
    }
}

/// Signer of the notifications to one partner.
#[derive(Debug)]
struct PartnerSigner {
    signer: Arc<Signer>,
    institution: InstitutionId,
    clock: Arc<dyn Clock>,
}

impl SignBody for PartnerSigner {
    fn sign(&self, body: &[u8]) -> Result<String, Box<dyn StdError + Send + Sync>> {
        /// The part of a notification that identifies it.
        #[derive(serde::Deserialize)]
        struct Identified {
            notification_id: NotificationId,
        }
        let now = self.clock.now();
        let claims =
            SignatureClaims::of(body, now.timestamp()).for_recipient(self.institution.as_str());
        let claims = match serde_json::from_slice::<Identified>(body) {
            Ok(notification) => claims.with_id(notification.notification_id.as_str()),
            Err(_) => claims,
        };
        Ok(self.signer.sign_claims(&claims, now)?)
    }
}

/// Error of a signing key: it cannot be used, or signing failed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SignError(&'static str);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn key(kid: &str, created: &str) -> SigningKey {
        SigningKey::generate(KeyId::new(kid).unwrap(), at(created)).unwrap()
    }

    fn signed_by(signer: &Signer, now: &str) -> Option<String> {
        let header = signer.sign(b"{}", at(now)).ok()?;
        let header = URL_SAFE_NO_PAD.decode(header.split('.').next().unwrap()).unwrap();
        let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
        assert_eq!((&header["alg"], &header["typ"]), (&"ES256".into(), &"JWT".into()));
        Some(header["kid"].as_str().unwrap().to_owned())
    }

    #[test]
    fn the_newest_key_in_force_signs_and_all_are_published() {
        let signer =
            Signer::new(key("old", "2024-01-01T00:00:00Z").expires_at(at("2024-03-01T00:00:00Z")));
        signer.add(key("new", "2024-02-01T00:00:00Z"));
        for (now, kid) in [
            ("2023-12-31T23:59:59Z", None),
            ("2024-01-01T00:00:00Z", Some("old")),
            ("2024-01-31T23:59:59Z", Some("old")),
            ("2024-02-01T00:00:00Z", Some("new")),
            ("2025-01-01T00:00:00Z", Some("new")),
        ] {
            assert_eq!(signed_by(&signer, now).as_deref(), kid, "{now}");
        }
        let old = KeyId::new("old").unwrap();
        let expired = |now| signer.verification_key(&old, at(now)).unwrap().expired_at;
        assert_eq!(expired("2024-02-29T23:59:59Z"), None);
        assert_eq!(expired("2024-03-01T00:00:00Z"), Some(1_709_251_200));
        assert_eq!(signer.verification_keys(at("2023-01-01T00:00:00Z")).len(), 2);
        assert!(
            signer
                .verification_key(&KeyId::new("other").unwrap(), at("2024-01-01T00:00:00Z"))
                .is_none()
        );
    }

    #[test]
    fn an_expired_key_does_not_sign() {
        let signer =
            Signer::new(key("k", "2024-01-01T00:00:00Z").expires_at(at("2024-03-01T00:00:00Z")));
        assert!(signer.sign(b"", at("2024-03-01T00:00:00Z")).is_err());
    }

    #[test]
    fn a_key_survives_its_file() {
        let made = key("k", "2024-01-01T00:00:00Z");
        let pem = made.to_pem();
        let read = SigningKey::from_pem(made.kid.clone(), &pem, made.created_at).unwrap();
        let now = at("2024-01-02T00:00:00Z");
        assert_eq!(read.verification_key(now), made.verification_key(now));
        assert_eq!(*read.to_pem(), *pem);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let kid = || KeyId::new("k").unwrap();
        let good = key("k", "2024-01-01T00:00:00Z").to_pem();
        let cut = good.replace('\n', "").replacen("MIG", "MI", 1);
        for bad in ["", "-----BEGIN EC PRIVATE KEY-----\n-----END EC PRIVATE KEY-----", &cut] {
            assert!(SigningKey::from_pem(kid(), bad, DateTime::UNIX_EPOCH).is_err(), "{bad}");
        }
        let other = &aws_lc_rs::signature::ECDSA_P384_SHA384_FIXED_SIGNING;
        let random = aws_lc_rs::rand::SystemRandom::new();
        let p384 = EcdsaKeyPair::generate_pkcs8(other, &random).unwrap();
        assert!(SigningKey::from_pkcs8(kid(), p384.as_ref(), DateTime::UNIX_EPOCH).is_err());
    }

    #[test]
    fn debug_shows_no_key() {
        let key = key("k", "2024-01-01T00:00:00Z");
        let secret = key.to_pem().lines().nth(1).unwrap().to_owned();
        let shown = format!("{key:?} {:?}", Signer::new(key.clone()));
        assert!(shown.contains("***") && !shown.contains(&secret[..16]), "{shown}");
    }
}
