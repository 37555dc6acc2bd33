//! Webhooks: signed, sent until they arrive, and checked by those who receive them.
//!
//! What they say is composed in [`crate::news`] and queued with the commit that caused it.
//!
//! # Receiving
//!
//! A webhook arrives at least once, in any order, up to a day late, or never. So it is a hint
//! and nothing more:
//!
//! - Check it with a [`Verifier`], over the raw body. On an error answer its
//!   [`status`](VerifyError::status).
//! - Note that the Item is to be read: insert or ignore. A body has no number of its own, and
//!   the same body can be two pieces of news, so do not drop one because its like was seen before.
//! - Answer 200 at once, also for an Item that is not known any more: anything but 200 is sent
//!   again for a day.
//! - Then read. What is true comes from reading, an Item's health too; read now and then
//!   without a webhook, for one that was lost.
//!
//! ```
//! use px_items::webhook::Verifier;
//! use px_types::{ItemId, webhook::Webhook};
//! use std::collections::BTreeSet;
//!
//! /// Answers the status.
//! async fn receive(
//!     verifier: &Verifier,
//!     (header, raw_body): (&str, &[u8]),
//!     to_read: &mut BTreeSet<ItemId>,
//! ) -> u16 {
//!     if let Err(error) = verifier.verify(header, raw_body).await {
//!         return error.status();
//!     }
//!     if let Ok(webhook) = px_types::decode::<Webhook>(raw_body) {
//!         to_read.insert(webhook.item_id);
//!     }
//!     200
//! }
//! ```
//!
//! Receivers in other languages find test vectors in `px-items/tests/vectors/webhooks.json`:
//! rightly signed webhooks and each way of being wrong, with the verdict that is expected and
//! the moment at which to check. The file says how to read it.
//!
//! # Sending
//!
//! [`Sender`] works off the outbox. Applications choose the addresses, so check each with
//! [`check_url`] before it is stored, and give the sender a transport that reaches
//! [public addresses only](px_client::transport::ReqwestBuilder::public_addresses_only).

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
