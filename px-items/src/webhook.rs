//! Webhooks: signed, sent until they arrive, and checked by those who receive them.
//!
//! What they say is composed in [`crate::news`] and queued with the commit that caused it.

mod schedule;
mod sender;
mod signer;
mod token;
mod url;
mod verifier;

pub use self::{
    sender::{Sender, SenderBuilder, SenderSettings},
    signer::{SignError, Signer, SigningKey},
    url::{Allow, UrlError, check_url},
    verifier::{FixedKeys, KeySource, Verified, Verifier, VerifyError, VerifyErrorKind},
};
