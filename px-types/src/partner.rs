//! The partner's API, which a bank serves and Plaid calls. One module per endpoint.
//!
//! Contract: `px.md` section 2.

mod application_linked;
mod auth_token;
mod authorize;
mod current_user;
mod revoke;
mod send_otp;
mod token;
mod transactions;
mod two_factor;
mod user;

pub use application_linked::{
    ApplicationLinkEvent, NewApplicationLinkNotification, NotifyApplicationLinked,
};
pub use auth_token::{AuthTokenRequest, RequestAuthToken};
pub use authorize::{
    AuthorizationError, AuthorizationResponse, Authorize, AuthorizeQuery, ResponseType,
};
pub use current_user::{CurrentUserResponse, GetCurrentUser};
pub use revoke::{Revoke, RevokeRequest, TokenTypeHint};
pub use send_otp::{SendOtp, SendOtpRequest, SendOtpResponse};
pub use token::{Grant, RequestToken, TokenRequest, TokenResponse};
pub use transactions::{
    DEFAULT_LIMIT, ListTransactions, MAX_LIMIT, Position, TransactionsQuery, TransactionsResponse,
};
pub use two_factor::{
    KbaAnswerEntry, KbaValidationRequest, OtpValidationRequest, TwoFactorRequest, ValidateTwoFactor,
};
pub use user::{GetUser, UserAccountInfoResponse};
