//! Credentials mode (`px.md` section 5): off unless the bank brings it.
//!
//! [`Credentials`] is the three endpoints as the service calls them. [`CredentialsKit`]
//! does challenges, expiry and lock-out for a bank that brings users and secrets.

mod kit;
mod state;
mod totp;

pub use kit::{CredentialsKit, Factor, SignInMethods, SignInOrigin, SignInStep, TokenIssuer};
pub use totp::TotpSecret;

use crate::Error;
use async_trait::async_trait;
use px_types::{
    ClientId,
    model::sign_in::SignIn,
    partner::{RequestAuthToken, SendOtp, SendOtpResponse, ValidateTwoFactor},
};

/// The endpoints of credentials mode. The client is authenticated when a method runs.
#[async_trait]
pub trait Credentials: Send + Sync + 'static {
    /// Signs a user in with name and password.
    async fn auth_token(
        &self,
        client: &ClientId,
        request: RequestAuthToken,
    ) -> Result<SignIn, Error>;

    /// Has a one-time code sent.
    async fn send_otp(&self, client: &ClientId, request: SendOtp)
    -> Result<SendOtpResponse, Error>;

    /// Takes the answer to a challenge.
    async fn two_factor(
        &self,
        client: &ClientId,
        request: ValidateTwoFactor,
    ) -> Result<SignIn, Error>;
}
