//! Tokens of the partner's identity provider that carry their claims: JWTs by RFC 9068,
//! checked as RFC 8725 asks.

use super::{
    TokenContext, TokenVerifier, VerifierBuildError, VerifyError,
    claims::{self, Claims},
    jwks::{Found, Jwks},
    provider,
};
use crate::TokenGrant;
use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::TimeDelta;
use http::Uri;
use jsonwebtoken::{Algorithm, DecodingKey};
use px_core::{Clock, HttpTransport, SystemClock};
use px_types::AccessToken;
use serde_json::Value;
use std::{fmt, sync::Arc, time::Duration};

/// The longest token that is looked at.
const MAX_TOKEN: usize = 16 * 1024;
/// How far the provider's clock may be off.
const LEEWAY: TimeDelta = TimeDelta::seconds(10);

/// An algorithm that a provider may sign with. Those with shared secrets are not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JwtAlgorithm {
    /// ECDSA over P-256.
    Es256,
    /// RSA, PKCS #1 v1.5.
    Rs256,
    /// RSA, PSS.
    Ps256,
    /// Ed25519.
    EdDsa,
}

impl JwtAlgorithm {
    fn inner(self) -> Algorithm {
        match self {
            Self::Es256 => Algorithm::ES256,
            Self::Rs256 => Algorithm::RS256,
            Self::Ps256 => Algorithm::PS256,
            Self::EdDsa => Algorithm::EdDSA,
        }
    }
}

/// The name of an algorithm that a key set may name.
pub(super) fn name(algorithm: Algorithm) -> Option<&'static str> {
    match algorithm {
        Algorithm::ES256 => Some("ES256"),
        Algorithm::RS256 => Some("RS256"),
        Algorithm::PS256 => Some("PS256"),
        Algorithm::EdDSA => Some("EdDSA"),
        _ => None,
    }
}

/// Checks JWT access tokens with the keys that a provider publishes.
///
/// `typ` must be `at+jwt`, `iss` and `aud` must be those given here, `exp` must be there;
/// `sub` is the principal. The keys are kept for an hour and fetched anew when a token names
/// an unknown one, at most once a minute. A token whose key cannot be had, or may have been
/// published since, is [`VerifyError::Unavailable`], not invalid.
///
/// A token that is bound to a certificate (`cnf.x5t#S256` of RFC 8705) is good for calls of a peer
/// that shows it; one that is bound to anything else is invalid.
///
/// A provider that rotates its keys must name them: without `kid`, a token of a new key looks
/// forged until the old set is an hour old.
///
/// Contract: `px.md` section 4; RFC 7519, 8725, 9068.
pub struct JwtVerifier {
    jwks: Jwks,
    issuer: String,
    audience: String,
    algorithms: Vec<Algorithm>,
    clock: Arc<dyn Clock>,
    leeway: TimeDelta,
    accounts_claim: Option<String>,
}

impl fmt::Debug for JwtVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtVerifier")
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

impl JwtVerifier {
    /// Checks the tokens of an issuer for an audience, with the keys at an address.
    ///
    /// # Errors
    /// If the address is neither https nor http on loopback.
    pub fn new(
        transport: Arc<dyn HttpTransport>,
        jwks: Uri,
        issuer: impl Into<String>,
        audience: impl Into<String>,
    ) -> Result<Self, VerifierBuildError> {
        provider::check_address(&jwks)?;
        Ok(Self {
            jwks: Jwks::new(transport, jwks),
            issuer: issuer.into(),
            audience: audience.into(),
            algorithms: vec![Algorithm::ES256],
            clock: Arc::new(SystemClock::new()),
            leeway: LEEWAY,
            accounts_claim: None,
        })
    }

    /// The algorithms that the provider signs with; ES256 alone unless this is called.
    #[must_use]
    pub fn algorithms(mut self, algorithms: impl IntoIterator<Item = JwtAlgorithm>) -> Self {
        self.algorithms = algorithms.into_iter().map(JwtAlgorithm::inner).collect();
        self
    }

    /// How far the provider's clock may be off; 10 s by default, a minute at most.
    #[must_use]
    pub fn leeway(mut self, leeway: Duration) -> Self {
        let minute = TimeDelta::minutes(1);
        self.leeway = TimeDelta::from_std(leeway).unwrap_or(minute).min(minute);
        self
    }

    /// Takes the permitted accounts from a claim, a list of account ids; a token without it
    /// sees none. Unless this is set, a token sees all accounts.
    #[must_use]
    pub fn accounts_claim(mut self, name: impl Into<String>) -> Self {
        self.accounts_claim = Some(name.into());
        self
    }

    /// Takes the time from elsewhere than the machine.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Reads what a token says of itself; nothing of it is believed yet.
    fn header(&self, token: &str) -> Option<Header> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let header = decode(token.split('.').next()?)?;
        let typ = claims::text(&header, "typ")?;
        let access = ["at+jwt", "application/at+jwt"];
        // `crit` names extensions that must be understood; none is here.
        if !access.iter().any(|name| typ.eq_ignore_ascii_case(name)) || header.contains_key("crit")
        {
            return None;
        }
        let named = claims::text(&header, "alg")?;
        let algorithm = self.algorithms.iter().find(|known| name(**known) == Some(named));
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(id)) => Some(id.clone()),
            Some(_) => return None,
        };
        Some(Header { algorithm: *algorithm?, key_id })
    }

    /// Checks the signature and then the claims.
    fn grant(&self, token: &str, key: &DecodingKey, algorithm: Algorithm) -> Option<TokenGrant> {
        let (message, signature) = token.rsplit_once('.')?;
        let (_, payload) = message.split_once('.')?;
        let verified = jsonwebtoken::crypto::verify(signature, message.as_bytes(), key, algorithm);
        if !verified.is_ok_and(|good| good) {
            return None;
        }
        let claims = decode(payload)?;
        let issued = claims::text(&claims, "iss") == Some(&self.issuer);
        let meant = claims::names(&claims, "aud", &self.audience);
        if !issued || !meant {
            return None;
        }
        let now = self.clock.now();
        let expires = claims::moment(&claims, "exp").ok()??;
        let begins = claims::moment(&claims, "nbf").ok()?;
        let ends = expires.checked_add_signed(self.leeway)?;
        if now >= ends || begins.is_some_and(|at| now + self.leeway < at) {
            return None;
        }
        let mut grant = claims::grant(&claims, self.accounts_claim.as_deref())?;
        grant.expires_at = Some(ends);
        grant.certificate_thumbprint = claims::binding(&claims).ok()?;
        Some(grant)
    }
}

struct Header {
    algorithm: Algorithm,
    key_id: Option<String>,
}

fn decode(part: &str) -> Option<Claims> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&bytes).ok()
}

impl JwtVerifier {
    /// The grant of a token, whatever it is bound to.
    async fn grant_of(&self, token: &AccessToken) -> Result<Arc<TokenGrant>, VerifyError> {
        let token = token.expose();
        let header = self.header(token).ok_or(VerifyError::Invalid)?;
        let (id, algorithm) = (header.key_id.as_deref(), header.algorithm);
        let clock = &*self.clock;
        let unavailable = VerifyError::Unavailable;
        let mut keys = self.jwks.keys(clock).await.map_err(unavailable)?;
        if matches!(keys.find(id, algorithm), Found::Unknown) {
            let beyond = self.jwks.keys_beyond(&keys, clock).await;
            keys = beyond.map_err(unavailable)?;
        }
        let Found::Key(key) = keys.find(id, algorithm) else {
            return Err(VerifyError::Invalid);
        };
        let grant = self.grant(token, &key.key, algorithm);
        grant.map(Arc::new).ok_or(VerifyError::Invalid)
    }
}

#[async_trait]
impl TokenVerifier for JwtVerifier {
    async fn verify(&self, token: &AccessToken) -> Result<Arc<TokenGrant>, VerifyError> {
        self.verify_call(token, &TokenContext::default()).await
    }

    async fn verify_call(
        &self,
        token: &AccessToken,
        context: &TokenContext,
    ) -> Result<Arc<TokenGrant>, VerifyError> {
        let grant = self.grant_of(token).await?;
        context.check_binding(&grant)?;
        Ok(grant)
    }
}
