//! HTTP requests: the [`HttpTransport`] trait, its implementations and the limits of responses.
//!
//! A transport sends one request and reads one response. It interprets neither.

mod address;
mod in_process;
#[cfg(feature = "reqwest")]
mod reqwest;

#[cfg(feature = "reqwest")]
pub use self::reqwest::{ReqwestTransport, ReqwestTransportBuilder};
pub use self::{
    address::{is_loopback_host, is_public},
    in_process::InProcessTransport,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

/// A transport that sends one HTTP request and reads the whole response.
///
/// An implementation does not retry, does not follow redirects and stops reading at the size limits.
/// It does not need to enforce [`HttpLimits::request_timeout`]: the caller cancels a request that takes
/// longer.
#[async_trait]
pub trait HttpTransport: Send + Sync + fmt::Debug {
    /// Sends a request with an absolute URI.
    ///
    /// # Errors
    /// If no complete response was received within the limits. A response with an error status is `Ok`.
    async fn send(
        &self,
        request: Request<Bytes>,
        limits: &HttpLimits,
    ) -> Result<Response<Bytes>, TransportError>;
}

#[async_trait]
impl<T: HttpTransport + ?Sized> HttpTransport for Arc<T> {
    async fn send(
        &self,
        request: Request<Bytes>,
        limits: &HttpLimits,
    ) -> Result<Response<Bytes>, TransportError> {
        (**self).send(request, limits).await
    }
}

/// The limits of one request and its response.
///
/// The connect timeout is a setting of the transport.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HttpLimits {
    /// Time from sending the request to the end of the response; 30 s by default.
    pub request_timeout: Duration,
    /// Maximum size of a response body after decompression, in bytes; 32 MiB by default.
    pub max_body_bytes: usize,
    /// Maximum size of all response headers, in bytes; 64 KiB by default.
    pub max_header_bytes: usize,
    /// Maximum nesting of arrays and objects in a JSON body; 64 by default. Checked by the caller.
    pub max_json_depth: usize,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(30),
            max_body_bytes: 32 << 20,
            max_header_bytes: 64 << 10,
            max_json_depth: 64,
        }
    }
}

/// The reason why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransportErrorKind {
    /// The settings of the transport forbid the request. It was not sent.
    Refused,
    /// No connection could be established. The request was not sent.
    Connect,
    /// The response was not complete in time.
    Timeout,
    /// The response was truncated or damaged.
    Truncated,
    /// The response is larger than the limits.
    TooLarge,
    /// Any other failure, for example a response that is not HTTP.
    Other,
}

/// An error of a request that received no complete response.
#[derive(Debug)]
pub struct TransportError {
    kind: TransportErrorKind,
    reason: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl TransportError {
    /// Creates an error. The reason is shown to operators: it must not contain a secret or a URL.
    pub fn new(kind: TransportErrorKind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into(), source: None }
    }

    /// Sets the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Returns the reason why the request failed.
    #[must_use]
    pub fn kind(&self) -> TransportErrorKind {
        self.kind
    }

    /// Returns whether the server may have received the request.
    ///
    /// `false` means that the request was certainly not sent.
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

/// Returns whether a `Content-Encoding` header leaves the body unencoded.
///
/// Besides `identity`, some servers send `none`, `utf-8`, `utf8` or an empty value for an unencoded body.
#[must_use]
pub fn is_identity_encoding(encoding: &HeaderValue) -> bool {
    let encoding = encoding.as_bytes().trim_ascii();
    let names: [&[u8]; 5] = [b"", b"identity", b"none", b"utf-8", b"utf8"];
    names.iter().any(|name| encoding.eq_ignore_ascii_case(name))
}

/// Returns an error if the headers are larger than the limit.
fn check_headers(headers: &HeaderMap, limits: &HttpLimits) -> Result<(), TransportError> {
    let size: usize =
        headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if size > limits.max_header_bytes {
        let reason =
            format!("the response has more than {} bytes of headers", limits.max_header_bytes);
        return Err(TransportError::new(TransportErrorKind::TooLarge, reason));
    }
    Ok(())
}

/// Appends a chunk to a body. Returns an error if the body becomes larger than the limit.
fn append_chunk(
    body: &mut BytesMut,
    chunk: &[u8],
    limits: &HttpLimits,
) -> Result<(), TransportError> {
    if body.len().saturating_add(chunk.len()) > limits.max_body_bytes {
        let reason = format!("the response has more than {} bytes of body", limits.max_body_bytes);
        return Err(TransportError::new(TransportErrorKind::TooLarge, reason));
    }
    body.extend_from_slice(chunk);
    Ok(())
}
