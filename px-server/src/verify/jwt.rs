//! Verification of JWT access tokens of the partner's identity provider, following RFC 8725.

use super::{
    TokenContext, TokenVerifier, VerifierBuildError, VerifyError,
    cache::GrantCache,
    claims::{ClaimRules, Claims, ClaimsSource},
    jwks::{self, Jwks, SignatureCheck},
    profile::TokenProfile,
    provider,
    refusal::{AcceptanceFlag, Fault, TokenRefusal, printable},
};
use crate::TokenGrant;
use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::TimeDelta;
use http::Uri;
use jsonwebtoken::Algorithm;
use px_core::{Clock, HttpTransport, SystemClock};
use px_types::AccessToken;
use serde_json::Value;
use std::{fmt, sync::Arc, time::Duration};

/// Maximum length of a token, in bytes.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// Default tolerance for the provider's clock.
const LEEWAY: TimeDelta = TimeDelta::seconds(10);

/// A signature algorithm that a provider may use. Algorithms with shared secrets are not supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JwtAlgorithm {
    /// ECDSA over P-256.
    Es256,
    /// ECDSA over P-384.
    Es384,
    /// RSA, PKCS #1 v1.5, with SHA-256.
    Rs256,
    /// RSA, PKCS #1 v1.5, with SHA-384.
    Rs384,
    /// RSA, PKCS #1 v1.5, with SHA-512.
    Rs512,
    /// RSA, PSS, with SHA-256.
    Ps256,
    /// RSA, PSS, with SHA-384.
    Ps384,
    /// RSA, PSS, with SHA-512.
    Ps512,
    /// Ed25519.
    EdDsa,
}

impl JwtAlgorithm {
    /// All algorithms. They are accepted by default.
    pub const ALL: [Self; 9] = [
        Self::Es256,
        Self::Es384,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::EdDsa,
    ];

    fn inner(self) -> Algorithm {
        match self {
            Self::Es256 => Algorithm::ES256,
            Self::Es384 => Algorithm::ES384,
            Self::Rs256 => Algorithm::RS256,
            Self::Rs384 => Algorithm::RS384,
            Self::Rs512 => Algorithm::RS512,
            Self::Ps256 => Algorithm::PS256,
            Self::Ps384 => Algorithm::PS384,
            Self::Ps512 => Algorithm::PS512,
            Self::EdDsa => Algorithm::EdDSA,
        }
    }
}

/// Returns the name of an algorithm in a key set.
pub(super) fn name(algorithm: Algorithm) -> Option<&'static str> {
    match algorithm {
        Algorithm::ES256 => Some("ES256"),
        Algorithm::ES384 => Some("ES384"),
        Algorithm::RS256 => Some("RS256"),
        Algorithm::RS384 => Some("RS384"),
        Algorithm::RS512 => Some("RS512"),
        Algorithm::PS256 => Some("PS256"),
        Algorithm::PS384 => Some("PS384"),
        Algorithm::PS512 => Some("PS512"),
        Algorithm::EdDSA => Some("EdDSA"),
        _ => None,
    }
}

/// Verifies JWT access tokens with the keys that a provider publishes.
///
/// The format of the tokens is a [`TokenProfile`]; the default is that of RFC 9068, and
/// [`profile`](Self::profile) changes it. `iss` and `aud` must have the values given here, and
/// `exp` must be present. Claims are checked after the signature, so that a forged token cannot
/// make the settings look wrong.
///
/// A token that is bound to a certificate (`cnf.x5t#S256` of RFC 8705) is valid for calls from a
/// peer that presents the certificate. A token with any other binding is invalid.
///
/// # Keys
///
/// The keys are cached for an hour, and for a day if the provider is not reachable. They are
/// fetched again if a token does not fit them, at most once a minute; until then such a token is
/// [`VerifyError::Unavailable`]. A token with an unknown `kid` is refused once the provider has not
/// published the key for 10 minutes, but not within 10 minutes of a change of the keys. If a token
/// has no `kid`, all suitable keys of the provider are tried, 10 at most.
///
/// # Caching
///
/// Verified tokens are cached for 10 s ([`cache_ttl`](Self::cache_ttl)).
///
/// # Examples
///
/// ```no_run
/// use px_core::HttpTransport;
/// use px_server::verify::{JwtVerifier, Preset};
/// use std::sync::Arc;
///
/// # fn example(transport: Arc<dyn HttpTransport>) -> Result<(), Box<dyn std::error::Error>> {
/// // `Arc::new(px_core::ReqwestTransport::new()?)`, with the feature `reqwest` of `px-core`.
/// let verifier = JwtVerifier::new(
///     transport,
///     "https://id.bank.example/realms/customers/protocol/openid-connect/certs".parse()?,
///     "https://id.bank.example/realms/customers",
///     "https://px.bank.example",
/// )?
/// .profile(Preset::Keycloak);
/// # Ok(()) }
/// ```
///
/// Contract: `px.md` section 4.1; RFC 7519, 8725, 9068.
pub struct JwtVerifier {
    jwks: Jwks,
    issuer: String,
    audience: String,
    profile: TokenProfile,
    algorithms: Vec<Algorithm>,
    clock: Arc<dyn Clock>,
    leeway: TimeDelta,
    cache: GrantCache,
    acceptance: AcceptanceFlag,
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
    /// Creates a verifier for the tokens of an issuer and an audience, with the keys at an address.
    ///
    /// `audience` is the value of `aud` that the provider uses for the bank's PX API. `issuer` is
    /// compared exactly, including its port and a trailing slash.
    ///
    /// # Errors
    /// [`VerifierBuildError::InsecureAddress`] if `jwks` is neither https nor http on loopback.
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
            profile: TokenProfile::default(),
            algorithms: JwtAlgorithm::ALL.map(JwtAlgorithm::inner).to_vec(),
            clock: Arc::new(SystemClock::new()),
            leeway: LEEWAY,
            cache: GrantCache::new(),
            acceptance: AcceptanceFlag::default(),
        })
    }

    /// Sets the format of the tokens: a [`Preset`](super::Preset), or a profile of your own.
    #[must_use]
    pub fn profile(mut self, profile: impl Into<TokenProfile>) -> Self {
        self.profile = profile.into();
        self
    }

    /// Sets the accepted algorithms; all of [`JwtAlgorithm`] by default. A key is used only for the
    /// algorithms of its type, and only for its own algorithm if the provider publishes one.
    #[must_use]
    pub fn algorithms(mut self, algorithms: impl IntoIterator<Item = JwtAlgorithm>) -> Self {
        self.algorithms = algorithms.into_iter().map(JwtAlgorithm::inner).collect();
        self
    }

    /// Sets the tolerance for the provider's clock; 10 s by default, a minute at most.
    #[must_use]
    pub fn leeway(mut self, leeway: Duration) -> Self {
        let minute = TimeDelta::minutes(1);
        self.leeway = TimeDelta::from_std(leeway).unwrap_or(minute).min(minute);
        self
    }

    /// Sets the claim with the permitted accounts, a list of account ids. A token without it
    /// permits no account. By default, a token permits all accounts.
    ///
    /// This sets [`TokenProfile::accounts_claim`]; call it after [`profile`](Self::profile).
    #[must_use]
    pub fn accounts_claim(mut self, name: impl Into<String>) -> Self {
        self.profile.accounts_claim = Some(name.into());
        self
    }

    /// Sets how long a verified token is cached; 10 s by default, 0 disables the cache.
    #[must_use]
    pub fn cache_ttl(mut self, ttl: Duration) -> Self {
        self.cache.set_ttl(ttl);
        self
    }

    /// Sets the maximum number of cached tokens; 10,000 by default.
    #[must_use]
    pub fn cache_capacity(self, tokens: usize) -> Self {
        self.cache.set_capacity(tokens);
        self
    }

    /// Removes a token from the cache.
    pub fn purge_token(&self, token: &AccessToken) {
        self.cache.purge_token(token);
    }

    /// Removes all tokens from the cache.
    pub fn purge_all(&self) {
        self.cache.purge_all();
    }

    /// Sets the clock; the system clock by default.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.cache.set_clock(Arc::clone(&clock));
        self.clock = clock;
        self
    }
}

/// The header of a token. Its values are not trusted until the signature is verified.
struct Header {
    algorithm: Algorithm,
    key_id: Option<String>,
    typ: Option<String>,
}

impl JwtVerifier {
    fn header(&self, token: &str) -> Result<Header, Fault> {
        const FORMAT_SETTING: &str = "of the identity provider for the format of access tokens, or use \
                            an `IntrospectionVerifier`";
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Fault::Refused(TokenRefusal::TooLong));
        }
        let parts = token.split('.').count();
        let header = token.split('.').next().and_then(decode);
        let header = match (header, parts) {
            (Some(header), 3) => header,
            (Some(header), 5) if header.contains_key("enc") => {
                return Err(Fault::Suspect(FORMAT_SETTING, TokenRefusal::Encrypted));
            }
            _ => return Err(Fault::Suspect(FORMAT_SETTING, TokenRefusal::NotAJwt)),
        };
        // `crit` names extensions that must be understood; none is supported here.
        if header.contains_key("crit") {
            return Err(Fault::Refused(TokenRefusal::Header { member: "crit" }));
        }
        let text = |name| header.get(name).and_then(Value::as_str);
        let Some(named) = text("alg").filter(|named| !named.eq_ignore_ascii_case("none")) else {
            return Err(Fault::Refused(TokenRefusal::Header { member: "alg" }));
        };
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(id)) => Some(id.clone()),
            Some(_) => return Err(Fault::Refused(TokenRefusal::Header { member: "kid" })),
        };
        let typ = text("typ").map(str::to_owned);
        let accepted = self.algorithms.iter().find(|known| name(**known) == Some(named));
        match accepted {
            Some(algorithm) => Ok(Header { algorithm: *algorithm, key_id, typ }),
            None => Err(algorithm_fault(named)),
        }
    }

    /// Checks the signature. Fetches the keys again if the cached keys do not fit.
    async fn check_signature(&self, header: &Header, token: &str) -> Result<(), Fault> {
        let (message, signature) =
            token.rsplit_once('.').ok_or(Fault::Refused(TokenRefusal::NotAJwt))?;
        let (id, algorithm) = (header.key_id.as_deref(), header.algorithm);
        let check = |keys: &jwks::Keys| keys.check(id, algorithm, message.as_bytes(), signature);
        let clock = &*self.clock;
        let keys = self.jwks.keys(clock).await?;
        if matches!(check(&keys), SignatureCheck::Valid) {
            return Ok(());
        }
        let again = self.jwks.refetch(&keys, clock).await;
        let checked = match &again {
            Ok(keys) => check(keys),
            Err(_) => check(&keys),
        };
        match (checked, again, id) {
            (SignatureCheck::Valid, ..) => Ok(()),
            (SignatureCheck::UnknownKey, again, Some(id)) => {
                if self.jwks.is_permanently_unknown(id, clock).await {
                    let refusal = TokenRefusal::UnknownKey { key_id: printable(id) };
                    return Err(Fault::Suspect(jwks::SETTING, refusal));
                }
                again?;
                let why = format!(
                    "the token's `kid` is {:?}, which the provider may publish soon; if it does \
                     not, check the setting {}",
                    printable(id),
                    jwks::SETTING
                );
                Err(Fault::Unavailable(why.into()))
            }
            (_, Err(fault), _) => Err(fault),
            _ if self.jwks.changed_recently(clock).await => {
                let why = "no key fits the token, and the provider changed its keys less than 10 minutes ago";
                Err(Fault::Unavailable(why.into()))
            }
            (SignatureCheck::NoSuitableKey, ..) => {
                Err(algorithm_fault(name(algorithm).unwrap_or_default()))
            }
            _ => Err(Fault::Refused(TokenRefusal::Signature)),
        }
    }

    async fn grant(&self, token: &str) -> Result<TokenGrant, Fault> {
        let header = self.header(token)?;
        self.check_signature(&header, token).await?;
        let claims = token.split('.').nth(1).and_then(decode);
        // The provider signed the token, so invalid claims are the provider's fault.
        let claims = claims.ok_or_else(|| {
            Fault::setting("of the identity provider", "the token's claims are not a JSON object")
        })?;
        let rules = ClaimRules {
            profile: &self.profile,
            issuer: Some(&self.issuer),
            audience: Some(&self.audience),
            leeway: self.leeway,
            now: self.clock.now(),
        };
        rules.grant(&ClaimsSource::Jwt { header_type: header.typ.as_deref() }, &claims)
    }

    async fn verify_now(
        &self,
        token: &AccessToken,
        context: &TokenContext,
    ) -> Result<Arc<TokenGrant>, VerifyError> {
        let grant = self.grant(token.expose()).await;
        let grant = grant.map_err(|fault| self.acceptance.classify(fault))?;
        self.acceptance.accepted();
        context.check_binding(&grant)?;
        Ok(Arc::new(grant))
    }
}

/// Returns the fault for an algorithm that is not accepted: the token is forged, or the provider is
/// configured to use that algorithm.
fn algorithm_fault(named: &str) -> Fault {
    Fault::Suspect(
        "`algorithms`, or that of the identity provider for the algorithm of access tokens",
        TokenRefusal::Algorithm { found: printable(named) },
    )
}

fn decode(part: &str) -> Option<Claims> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&bytes).ok()
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
        self.cache.verify_call(token, context, self.verify_now(token, context)).await
    }
}
