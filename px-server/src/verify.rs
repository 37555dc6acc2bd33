//! Checks bearer tokens: the trait, and verifiers for the tokens of an identity provider.
//!
//! | the bank's tokens are | use |
//! |---|---|
//! | JWTs of its identity provider | [`JwtVerifier`] with a [`Preset`] |
//! | opaque tokens of its identity provider | [`IntrospectionVerifier`] with a [`Preset`] |
//! | in its own session store | an implementation of [`TokenVerifier`] |
//! | given out by this crate | [`OAuth::verifier`](crate::oauth::OAuth::verifier) |
//!
//! A verifier never guesses. A token that is bad is [`VerifyError::Invalid`]: the response is 401,
//! which ends the token and its Item at Plaid for good. Whatever keeps a verifier from a judgement
//! is 503: [`VerifyError::Misconfigured`] if a setting has to be corrected, and
//! [`VerifyError::Unavailable`] if the provider cannot be reached.
//!
//! Until a [`JwtVerifier`] or an [`IntrospectionVerifier`] has accepted its first token, a refusal
//! that a wrong setting would cause for every token (another audience, another `typ`) is
//! [`VerifyError::Misconfigured`] too. A bank that starts with a wrong setting loses no Item.
//!
//! Contract: `px.md` section 4.1.

mod cache;
mod claims;
mod context;
mod introspection;
mod jwks;
mod jwt;
mod profile;
mod provider;
mod refusal;

pub use cache::CachedVerifier;
pub use context::TokenContext;
pub use introspection::IntrospectionVerifier;
pub use jwt::{JwtAlgorithm, JwtVerifier};
pub use profile::{Preset, TokenProfile, TypeClaim};
pub use refusal::{Misconfiguration, Refusal};

use crate::TokenGrant;
use async_trait::async_trait;
use px_types::AccessToken;
use std::{error::Error as StdError, fmt, sync::Arc};

/// Tells what a bearer token allows.
#[async_trait]
pub trait TokenVerifier: Send + Sync + 'static {
    /// The grant behind a token.
    ///
    /// # Errors
    /// [`VerifyError::Invalid`] when the token is malformed, unknown, expired or revoked;
    /// [`VerifyError::Misconfigured`] or [`VerifyError::Unavailable`] when the verifier cannot know.
    async fn verify(&self, token: &AccessToken) -> Result<Arc<TokenGrant>, VerifyError>;

    /// The grant behind a token of one call. This is what the service calls.
    ///
    /// It verifies the token and then holds the call to the certificate that the token is bound to
    /// ([`TokenGrant::certificate_thumbprint`]). Override it to judge a call by more than that.
    ///
    /// # Errors
    /// As [`verify`](Self::verify), and as [`TokenContext::check_binding`].
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

/// Why a verifier cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifierBuildError {
    /// The identity provider's address is neither https nor http on loopback. Anybody on the way
    /// could replace the keys, or read the tokens.
    #[error("the identity provider's address is not https, or http on loopback")]
    InsecureAddress,
    /// The client's id or secret cannot be written in a header.
    #[error("the client's id or secret cannot be written in a header")]
    Credentials,
}

/// Why a token was not verified.
#[derive(Debug)]
#[non_exhaustive]
pub enum VerifyError {
    /// The token is malformed, unknown, expired or revoked: 401, which ends it for good.
    Invalid(Refusal),
    /// The token cannot be judged until a setting is corrected, here or at the identity provider: 503.
    Misconfigured(Misconfiguration),
    /// The token cannot be judged now, for example because the provider is not reachable: 503.
    Unavailable(Box<dyn StdError + Send + Sync>),
}

impl VerifyError {
    /// The token is unknown, expired or revoked, and nothing more is said.
    ///
    /// Use it in your own [`TokenVerifier`], or [`Invalid`](Self::Invalid) with the reason.
    #[must_use]
    pub fn invalid() -> Self {
        Self::Invalid(Refusal::Unknown)
    }

    /// The verifier cannot know.
    pub fn unavailable(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Unavailable(source.into())
    }
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invalid(_) => "the token is not valid",
            Self::Misconfigured(_) | Self::Unavailable(_) => "the token could not be checked",
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
