//! Webhooks: signed, verified, sent.

mod logs;
mod partner;
mod receiver;
mod sender;
mod socket;
mod vectors;
mod verifier;
mod world;

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use px_core::Clock;
use px_items::webhook::{Signer, SigningKey};
use px_types::{KeyId, webhook::SignatureClaims};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// A clock that stands still until it is set.
#[derive(Clone, Debug)]
pub(crate) struct SetClock(Arc<Mutex<DateTime<Utc>>>);

impl SetClock {
    pub(crate) fn new(now: DateTime<Utc>) -> Self {
        Self(Arc::new(Mutex::new(now)))
    }

    pub(crate) fn set(&self, now: DateTime<Utc>) {
        *self.0.lock().unwrap() = now;
    }

    pub(crate) fn pass(&self, seconds: i64) {
        *self.0.lock().unwrap() += TimeDelta::seconds(seconds);
    }
}

#[async_trait]
impl Clock for SetClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap()
    }

    fn elapsed(&self) -> Duration {
        (self.now() - DateTime::UNIX_EPOCH).to_std().unwrap()
    }

    async fn sleep(&self, _: Duration) {
        std::future::pending().await
    }
}

pub(crate) fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// Returns the claims of a signature.
pub(crate) fn claims(header: &str) -> SignatureClaims {
    let claims = header.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

pub(crate) fn kid(text: &str) -> KeyId {
    KeyId::new(text).unwrap()
}

pub(crate) fn signer(name: &str, created_at: DateTime<Utc>) -> Signer {
    Signer::new(SigningKey::generate(kid(name), created_at).unwrap())
}
