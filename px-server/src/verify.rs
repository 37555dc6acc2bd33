//! Whose token it is: the trait, and the ways to tell.
//!
//! A verifier never guesses. A token that is bad is [`VerifyError::Invalid`], which ends
//! it at Plaid for good; anything that stops the verifier from knowing is
//! [`VerifyError::Unavailable`], which is answered 503.

mod cache;
mod claims;
mod context;
mod introspection;
mod jwks;
mod jwt;
mod provider;

pub use cache::CachedVerifier;
pub use context::TokenContext;
pub use introspection::IntrospectionVerifier;
pub use jwt::{JwtAlgorithm, JwtVerifier};

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
    /// [`VerifyError::Unavailable`] when the verifier cannot know.
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
    /// The token is malformed, unknown, expired or revoked: 401.
    Invalid,
    /// The verifier cannot know, because what it asks is out of reach: 503.
    Unavailable(Box<dyn StdError + Send + Sync>),
}

impl VerifyError {
    /// The verifier cannot know.
    pub fn unavailable(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Unavailable(source.into())
    }
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invalid => "the token is not valid",
            Self::Unavailable(_) => "the token could not be checked",
        })
    }
}

impl StdError for VerifyError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Invalid => None,
            Self::Unavailable(source) => Some(&**source as _),
        }
    }
}
