//! How a request reaches a partner: one trait, and the limits that every answer keeps.
//!
//! What an answer means is not decided here.

mod address;
mod in_process;
#[cfg(feature = "reqwest")]
mod reqwest;

#[cfg(feature = "reqwest")]
pub use self::reqwest::{ReqwestBuilder, ReqwestTransport};
pub use self::{address::is_public, in_process::InProcess};

use crate::error::Source;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

/// Sends one request and reads the whole answer.
///
/// It repeats nothing and follows no redirect. The client cuts a call that takes longer
/// than [`Limits::answer`], whatever the transport does.
#[async_trait]
pub trait HttpTransport: Send + Sync + fmt::Debug {
    /// Sends a request with an absolute URI.
    ///
    /// # Errors
    /// When there is no whole answer within the limits.
    async fn send(
        &self,
        request: Request<Bytes>,
        limits: &Limits,
    ) -> Result<Response<Bytes>, TransportError>;
}

#[async_trait]
impl<T: HttpTransport + ?Sized> HttpTransport for Arc<T> {
    async fn send(
        &self,
        request: Request<Bytes>,
        limits: &Limits,
    ) -> Result<Response<Bytes>, TransportError> {
        (**self).send(request, limits).await
    }
}

/// What an answer may cost.
///
/// How long connecting may take is set where the transport is made, for it is the transport
/// that connects.
///
/// Contract: `px.md` section 2.2.1.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// The time to the end of the answer, a slow sender included.
    pub answer: Duration,
    /// The bytes of a body, after it was unpacked.
    pub body: usize,
    /// The bytes of all headers.
    pub headers: usize,
    /// The depth of arrays and objects in a JSON body.
    pub nesting: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { answer: Duration::from_secs(30), body: 32 << 20, headers: 64 << 10, nesting: 64 }
    }
}

/// How a request came to have no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransportErrorKind {
    /// The transport would not send it, by its own rules.
    Refused,
    /// No connection; surely not sent.
    Connect,
    /// No whole answer in time.
    Timeout,
    /// The answer was cut off or damaged.
    Cut,
    /// The answer is larger than the limits.
    TooLarge,
    /// Anything else, an answer that is not HTTP for one.
    Other,
}

/// Why a request has no answer.
#[derive(Debug)]
pub struct TransportError {
    kind: TransportErrorKind,
    reason: String,
    source: Option<Source>,
}

impl TransportError {
    /// Says how and why; the reason is shown to people, so it holds no secret and no URL.
    pub fn new(kind: TransportErrorKind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into(), source: None }
    }

    /// Adds the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// How it failed.
    #[must_use]
    pub fn kind(&self) -> TransportErrorKind {
        self.kind
    }

    /// Whether the partner may have seen the request. `false` is certain.
    #[must_use]
    pub fn may_have_been_sent(&self) -> bool {
        !matches!(self.kind, TransportErrorKind::Connect | TransportErrorKind::Refused)
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl StdError for TransportError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}

/// Refuses headers beyond the limit.
fn check_headers(headers: &HeaderMap, limits: &Limits) -> Result<(), TransportError> {
    let size: usize =
        headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if size > limits.headers {
        let reason = format!("the answer has more than {} bytes of headers", limits.headers);
        return Err(TransportError::new(TransportErrorKind::TooLarge, reason));
    }
    Ok(())
}

/// Adds a piece to a body, within the limit.
fn grow(body: &mut BytesMut, piece: &[u8], limits: &Limits) -> Result<(), TransportError> {
    if body.len().saturating_add(piece.len()) > limits.body {
        let reason = format!("the answer has more than {} bytes of body", limits.body);
        return Err(TransportError::new(TransportErrorKind::TooLarge, reason));
    }
    body.extend_from_slice(piece);
    Ok(())
}
