//! Credentials mode (`px.md` section 5): optional, disabled by default.
//!
//! [`Credentials`] is the interface of the three endpoints. [`CredentialsKit`] implements it, with
//! challenges, expiry and lock-out, for a bank that supplies users and factors.

mod challenges;
mod kit;
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

/// The endpoints of credentials mode. The service authenticates the client before it calls a
/// method.
#[async_trait]
pub trait Credentials: Send + Sync + 'static {
    /// Signs a user in with a name and a password. Returns a token or the next challenge.
    ///
    /// # Errors
    /// [`Error::invalid_credentials`] if they are wrong, [`Error::user_locked`] if the user is
    /// locked out, and any other [`Error`] of the bank's code.
    async fn auth_token(
        &self,
        client: &ClientId,
        request: RequestAuthToken,
    ) -> Result<SignIn, Error>;

    /// Sends a one-time code to the user.
    ///
    /// # Errors
    /// [`Error::invalid_challenge`] if the challenge is unknown or expired,
    /// [`Error::user_locked`] if the user is locked out, and any other [`Error`] of the bank's
    /// code.
    async fn send_otp(&self, client: &ClientId, request: SendOtp)
    -> Result<SendOtpResponse, Error>;

    /// Checks the answer to a challenge. Returns a token or the next challenge.
    ///
    /// # Errors
    /// [`Error::invalid_challenge`] if the answer is wrong or the challenge has ended,
    /// [`Error::user_locked`] if the user is locked out, and any other [`Error`] of the bank's
    /// code.
    async fn two_factor(
        &self,
        client: &ClientId,
        request: ValidateTwoFactor,
    ) -> Result<SignIn, Error>;
}
