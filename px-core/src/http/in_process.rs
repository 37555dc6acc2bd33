//! A transport that calls a tower service in the same process, without a network.

use super::{
    HttpLimits, HttpTransport, TransportError, TransportErrorKind, append_chunk, check_headers,
};
use async_trait::async_trait;
use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderValue, Request, Response, Uri, header};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use std::{error::Error as StdError, fmt, future::poll_fn, pin::pin};
use tower_service::Service;

/// A transport that calls a tower service in the same process.
///
/// The service is cloned for each request, as servers do. Use it in tests, and in programs that
/// contain both the client and the server.
#[derive(Clone)]
pub struct InProcessTransport<S>(S);

impl<S> InProcessTransport<S> {
    /// Creates a transport that calls `service`.
    #[must_use]
    pub fn new(service: S) -> Self {
        Self(service)
    }
}

impl<S> fmt::Debug for InProcessTransport<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InProcessTransport")
    }
}

#[async_trait]
impl<S, B> HttpTransport for InProcessTransport<S>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + Sync,
    S::Future: Send,
    S::Error: Into<Box<dyn StdError + Send + Sync>>,
    B: Body<Data: Send, Error: Into<Box<dyn StdError + Send + Sync>>> + Send,
{
    async fn send(
        &self,
        request: Request<Bytes>,
        limits: &HttpLimits,
    ) -> Result<Response<Bytes>, TransportError> {
        let failed = |source: Box<dyn StdError + Send + Sync>| {
            TransportError::new(TransportErrorKind::Other, "the service failed").caused_by(source)
        };
        let mut service = self.0.clone();
        poll_fn(|context| service.poll_ready(context)).await.map_err(|e| failed(e.into()))?;
        let response = service.call(server_request(request)).await.map_err(|e| failed(e.into()))?;
        check_headers(response.headers(), limits)?;
        let (parts, body) = response.into_parts();
        let mut body = pin!(body);
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| {
                TransportError::new(TransportErrorKind::Truncated, "the response was cut off")
                    .caused_by(e)
            })?;
            if let Ok(mut data) = frame.into_data() {
                while data.has_remaining() {
                    let chunk = data.chunk();
                    let length = chunk.len();
                    append_chunk(&mut whole, chunk, limits)?;
                    data.advance(length);
                }
            }
        }
        Ok(Response::from_parts(parts, whole.freeze()))
    }
}

/// Converts a request to the form in which a server receives it: the URI has only path and query, and
/// the authority is in the `Host` header.
fn server_request(request: Request<Bytes>) -> Request<Full<Bytes>> {
    let (mut parts, body) = request.into_parts();
    if let Some(host) = parts.uri.authority()
        && let Ok(host) = HeaderValue::from_str(host.as_str())
    {
        parts.headers.insert(header::HOST, host);
    }
    if let Some(path) = parts.uri.path_and_query() {
        parts.uri = Uri::from(path.clone());
    }
    Request::from_parts(parts, Full::new(body))
}
