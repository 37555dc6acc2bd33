//! Verification of bearer tokens: the trait, and verifiers for the tokens of an identity provider.
//!
//! | tokens | verifier |
//! |---|---|
//! | JWTs of the bank's identity provider | [`JwtVerifier`] with a [`Preset`] |
//! | opaque tokens of the bank's identity provider | [`IntrospectionVerifier`] with a [`Preset`] |
//! | tokens in the bank's own session store | an implementation of [`TokenVerifier`] |
//! | tokens issued by this crate | [`OAuth::verifier`](crate::oauth::OAuth::verifier) |
//!
//! A verifier never guesses. An invalid token is [`VerifyError::Invalid`]: the response is 401,
//! which ends the token and its Item at Plaid permanently. If the verifier cannot decide, the
//! response is 503: [`VerifyError::Misconfigured`] if a setting must be corrected, and
//! [`VerifyError::Unavailable`] if the provider is not reachable.
//!
//! Until a [`JwtVerifier`] or an [`IntrospectionVerifier`] has accepted its first token, a refusal
//! that a wrong setting would cause for every token (another audience, another `typ`) is
//! [`VerifyError::Misconfigured`] too. A bank that starts with a wrong setting therefore loses no
//! Item.
//!
//! Contract: `px.md` section 4.1.

mod cache;
mod claims;
mod context;
mod introspection;
#[cfg(feature = "jwt")]
mod jwks;
#[cfg(feature = "jwt")]
mod jwt;
mod profile;
mod provider;
mod refusal;

pub use cache::CachedVerifier;
pub use context::TokenContext;
pub use introspection::IntrospectionVerifier;
#[cfg(feature = "jwt")]
pub use jwt::{JwtAlgorithm, JwtVerifier};
pub use profile::{Preset, TokenProfile, TypeClaim};
pub use refusal::{Misconfiguration, TokenRefusal};

use crate::TokenGrant;
use async_trait::async_trait;
use px_types::AccessToken;
use std::{error::Error as StdError, fmt, sync::Arc};

/// Verifies bearer tokens and returns their grants.
#[async_trait]
pub trait TokenVerifier: Send + Sync + 'static {
    /// Returns the grant of a token.
    ///
    /// # Errors
    /// - [`VerifyError::Invalid`] if the token is malformed, unknown, expired or revoked.
    /// - [`VerifyError::Misconfigured`] or [`VerifyError::Unavailable`] if the verifier cannot
    ///   decide.
    async fn verify(&self, token: &AccessToken) -> Result<Arc<TokenGrant>, VerifyError>;

    /// Returns the grant of the token of one call. The service calls this method.
    ///
    /// The default implementation verifies the token and then checks that the call has the
    /// certificate that the token is bound to ([`TokenGrant::certificate_thumbprint`]). Override it
    /// to check more properties of the call.
    ///
    /// # Errors
    /// The errors of [`verify`](Self::verify) and [`TokenContext::check_binding`].
    async fn verify_call(
        &self,
        token: &AccessToken,
        context: &TokenContext,
    ) -> Result<Arc<TokenGrant>, VerifyError> {
        let grant = self.verify(token).await?;
        context.check_binding(&grant)?;
        Ok(grant)
    }
}

/// Error of building a verifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifierBuildError {
    /// The address of the identity provider is neither https nor http on loopback. Anyone on the
    /// network path could replace the keys or read the tokens.
    #[error("the identity provider's address is neither https nor http on loopback")]
    InsecureAddress,
    /// The client's id or secret contains characters that a header cannot contain.
    #[error("the client's id or secret cannot be written in a header")]
    Credentials,
}

/// Error of verifying a token.
#[derive(Debug)]
#[non_exhaustive]
pub enum VerifyError {
    /// The token is malformed, unknown, expired or revoked: 401, which ends it permanently.
    Invalid(TokenRefusal),
    /// The token cannot be verified until a setting is corrected, here or at the identity provider:
    /// 503.
    Misconfigured(Misconfiguration),
    /// The token cannot be verified now, for example because the provider is not reachable: 503.
    Unavailable(Box<dyn StdError + Send + Sync>),
}

impl VerifyError {
    /// Creates the error for a token that is unknown, expired or revoked, without a specific
    /// reason.
    ///
    /// Use it in your own [`TokenVerifier`], or use [`Invalid`](Self::Invalid) with the reason.
    #[must_use]
    pub fn invalid() -> Self {
        Self::Invalid(TokenRefusal::Unknown)
    }

    /// Creates the error for a token that cannot be verified now.
    pub fn unavailable(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Unavailable(source.into())
    }
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invalid(_) => "the token is not valid",
            Self::Misconfigured(_) | Self::Unavailable(_) => "the token could not be verified",
        })
    }
}

impl StdError for VerifyError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Invalid(refusal) => Some(refusal),
            Self::Misconfigured(problem) => Some(problem),
            Self::Unavailable(source) => Some(&**source as _),
        }
    }
}
