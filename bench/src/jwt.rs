//! An identity provider in memory: one key and one token, as a bank's own provider would issue.

use crate::{Failure, bank, data};
use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, Response};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use px_core::{HttpLimits, HttpTransport, TransportError};
use px_server::verify::{CachedVerifier, JwtVerifier, TokenVerifier};
use rcgen::PublicKeyData as _;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

const ISSUER: &str = "https://login.bank.test";
const AUDIENCE: &str = "https://px.bank.test";

/// A key and a token that it signed.
pub(crate) struct Provider {
    keys: Bytes,
    pub(crate) token: String,
}

impl Provider {
    pub(crate) fn new() -> Result<Self, Failure> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        // The uncompressed point: 4, then x and y of 32 bytes.
        let (x, y) = key.der_bytes()[1..].split_at(32);
        let encode = |part| URL_SAFE_NO_PAD.encode(part);
        let keys = serde_json::json!({ "keys": [{
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "k1",
            "x": encode(x), "y": encode(y),
        }]});
        let now = SystemTime::UNIX_EPOCH.elapsed()?.as_secs();
        let claims = serde_json::json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": bank::USER, "client_id": "plaid",
            "iat": now, "exp": now + 7200,
            "scope": "accounts identity auth transactions",
            "accounts": data::ACCOUNTS,
        });
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some("at+jwt".to_owned());
        header.kid = Some("k1".to_owned());
        let signer = EncodingKey::from_ec_der(&key.serialize_der());
        Ok(Self {
            keys: keys.to_string().into(),
            token: jsonwebtoken::encode(&header, &claims, &signer)?,
        })
    }

    /// Returns a verifier that verifies each token every time.
    pub(crate) fn cold(&self) -> Arc<dyn TokenVerifier> {
        let fetch = Arc::new(Keys(self.keys.clone()));
        let address = http::Uri::from_static("https://login.bank.test/jwks");
        let verifier = JwtVerifier::new(fetch, address, ISSUER, AUDIENCE);
        Arc::new(
            verifier
                .expect("an https address")
                .accounts_claim("accounts")
                .cache_ttl(Duration::ZERO),
        )
    }

    /// Returns a verifier that caches verified tokens.
    pub(crate) fn cached(&self) -> Arc<dyn TokenVerifier> {
        Arc::new(CachedVerifier::new(self.cold()))
    }
}

#[derive(Debug)]
struct Keys(Bytes);

#[async_trait]
impl HttpTransport for Keys {
    async fn send(
        &self,
        _: Request<Bytes>,
        _: &HttpLimits,
    ) -> Result<Response<Bytes>, TransportError> {
        let mut response = Response::new(self.0.clone());
        let json = http::HeaderValue::from_static("application/json");
        response.headers_mut().insert(http::header::CONTENT_TYPE, json);
        Ok(response)
    }
}
