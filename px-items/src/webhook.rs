//! Webhooks: signed, and sent until they arrive.
//!
//! What they say is composed in [`crate::news`] and queued with the commit that caused it.
//! Those who receive them check them with `px_server::webhook`; test vectors for receivers in
//! other languages are in `px-items/tests/vectors/webhooks.json`.
//!
//! # Sending
//!
//! [`Sender`] works off the outbox. Applications choose the addresses, so check each with
//! [`check_url`] before it is stored, and give the sender a transport that reaches
//! [public addresses only](px_core::is_public).

mod schedule;
mod sender;
mod signer;
mod url;

pub use self::{
    sender::{Sender, SenderBuilder, SenderSettings},
    signer::{SignError, Signer, SigningKey},
    url::{Allow, UrlError, check_url},
};
