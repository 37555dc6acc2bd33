//! Serve Plaid Exchange: a bank implements [`Partner`], the rest is here.
//!
//! - [`Partner`]: what the bank's own code answers; [`PartnerService`]: the API over it, as a tower service;
//! - [`plaid`]: the other side: what Plaid implements, and the API over it;
//! - [`verify`]: whose token it is; [`oauth`]: giving tokens out; [`credentials`]: names and passwords;
//! - [`webhook`]: checking what Plaid sends, at a bank and at an application;
//! - [`guard`]: who may call at all, and how often.

#[cfg(feature = "axum")]
pub mod axum;
mod call;
mod caller;
pub mod clients;
pub mod clock;
pub mod credentials;
mod digest;
mod error;
pub mod guard;
#[cfg(feature = "hyper")]
pub mod hyper;
pub mod oauth;
mod partner;
pub mod plaid;
mod request_id;
mod router;
mod service;
pub mod verify;
pub mod webhook;

pub use caller::{Caller, PermittedAccounts, TokenGrant};
pub use error::{Error, Kind};
pub use partner::Partner;
pub use service::{BuildError, PartnerService, PartnerServiceBuilder, ResponseCheck};
