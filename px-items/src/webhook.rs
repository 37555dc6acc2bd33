//! Webhooks: signed, sent until they arrive, and checked by those who receive them.
//!
//! What they say is composed in [`crate::news`] and queued with the commit that caused it.

mod signer;
mod token;
mod verifier;

pub use self::{
    signer::{SignError, Signer, SigningKey},
    verifier::{FixedKeys, KeySource, Verified, Verifier, VerifyError, VerifyErrorKind},
};
