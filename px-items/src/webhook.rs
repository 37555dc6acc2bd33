//! Webhooks: signed messages that are sent until they are delivered.
//!
//! [`crate::changes`] composes their content, which is queued with the commit that caused it.
//! Receivers verify them with `px_server::webhook`; test vectors for receivers in other languages
//! are in `px-items/tests/vectors/webhooks.json`.
//!
//! # Sending
//!
//! [`Sender`] sends the webhooks of the outbox. Applications choose the URLs, so check each with
//! [`check_url`] before it is stored, and give the sender a transport that reaches [public
//! addresses only](px_core::is_public).

mod schedule;
mod sender;
mod signer;
mod url;

pub use self::{
    sender::{Sender, SenderBuilder, SenderSettings},
    signer::{SignError, Signer, SigningKey},
    url::{UrlError, UrlPolicy, check_url},
};
