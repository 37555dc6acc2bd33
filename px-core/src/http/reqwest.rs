//! A transport over the network with reqwest: HTTP/1.1 and HTTP/2, TLS with rustls.

mod guard;

use self::guard::{Lookup, NotPublicError, PublicResolver, SystemResolver};
use super::{
    HttpLimits, HttpTransport, TransportError, TransportErrorKind, append_chunk, check_headers,
    is_identity_encoding, is_loopback_host,
};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{Request, Response, Uri, header, uri::Scheme};
use std::{error::Error as StdError, fmt, io, sync::Arc, time::Duration};

/// Default time to establish a connection.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A transport over the network.
///
/// It does not follow redirects, does not store cookies and ignores the proxy settings of the
/// environment. Plain `http` is refused except to this machine, unless
/// [`allow_plain_http`](ReqwestTransportBuilder::allow_plain_http) is set. If others choose the
/// addresses, restrict it to [public addresses](ReqwestTransportBuilder::public_addresses_only).
#[derive(Clone, Debug)]
pub struct ReqwestTransport {
    client: reqwest::Client,
    allow_plain_http: bool,
    public_only: bool,
    no_roots: bool,
}

/// A builder of [`ReqwestTransport`].
#[derive(Clone, Debug)]
pub struct ReqwestTransportBuilder {
    connect: Duration,
    allow_plain_http: bool,
    public_only: Option<ResolverSource>,
    roots: Vec<Vec<u8>>,
    identity: Option<Identity>,
}

/// The resolver behind [`PublicResolver`], if only public addresses are allowed.
#[derive(Clone)]
struct ResolverSource(Arc<dyn Lookup>);

impl fmt::Debug for ResolverSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResolverSource")
    }
}

/// A client certificate and its private key in PEM, masked in `Debug`.
#[derive(Clone)]
struct Identity(Vec<u8>);

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(***)")
    }
}

impl ReqwestTransportBuilder {
    /// Allows plain `http` to other machines. Tokens are then sent unencrypted.
    #[must_use]
    pub fn allow_plain_http(mut self) -> Self {
        self.allow_plain_http = true;
        self
    }

    /// Allows requests to addresses of the public internet only.
    ///
    /// Use it for addresses that others chose, such as webhooks. A request to any other address fails
    /// with [`TransportErrorKind::Refused`] and nothing is sent, whether the URL contains the address or a
    /// name that resolves to it. A name is resolved once, and the connection is made to an address that
    /// was checked. See [`is_public`](super::is_public).
    ///
    /// Plain `http` stays refused unless [`allow_plain_http`](Self::allow_plain_http) is set.
    #[must_use]
    pub fn public_addresses_only(mut self) -> Self {
        self.public_only = Some(ResolverSource(Arc::new(SystemResolver)));
        self
    }

    /// Sets the time to establish a connection; 10 s by default.
    #[must_use]
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect = time;
        self
    }

    /// Trusts the certificate authorities of a PEM file in addition to those of the operating system.
    #[must_use]
    pub fn root_certificates(mut self, pem: &[u8]) -> Self {
        self.roots.push(pem.to_vec());
        self
    }

    /// Presents a client certificate. `pem` contains the certificate and its private key.
    #[must_use]
    pub fn identity(mut self, pem: &[u8]) -> Self {
        self.identity = Some(Identity(pem.to_vec()));
        self
    }

    /// Builds the transport.
    ///
    /// # Errors
    /// If a certificate or a key cannot be parsed, or TLS cannot be set up.
    pub fn build(self) -> Result<ReqwestTransport, TransportError> {
        let refused = |reason: &str, error: reqwest::Error| {
            TransportError::new(TransportErrorKind::Refused, reason).caused_by(error)
        };
        let mut roots = Vec::new();
        for pem in &self.roots {
            roots.extend(
                reqwest::Certificate::from_pem_bundle(pem)
                    .map_err(|e| refused("a root certificate cannot be read", e))?,
            );
        }
        let identity = match &self.identity {
            Some(Identity(pem)) => Some(
                reqwest::Identity::from_pem(pem)
                    .map_err(|e| refused("the client certificate cannot be read", e))?,
            ),
            None => None,
        };
        let builder = || {
            let mut builder = reqwest::Client::builder()
                .user_agent(concat!("px/", env!("CARGO_PKG_VERSION")))
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                .no_proxy()
                .gzip(true)
                .connect_timeout(self.connect)
                .tcp_nodelay(true)
                .http1_max_headers(512)
                .http2_max_header_list_size(64 << 10);
            if let Some(identity) = identity.clone() {
                builder = builder.identity(identity);
            }
            if let Some(ResolverSource(lookup)) = &self.public_only {
                builder = builder.dns_resolver(Arc::new(PublicResolver(lookup.clone())));
            }
            builder
        };
        let (client, no_roots) = match builder().tls_certs_merge(roots.clone()).build() {
            Ok(client) => (client, false),
            // The system has no trusted authority. Plain http to this machine works without one.
            Err(_) => (
                builder()
                    .tls_certs_only(roots)
                    .build()
                    .map_err(|e| refused("TLS cannot be set up", e))?,
                self.roots.is_empty(),
            ),
        };
        Ok(ReqwestTransport {
            client,
            allow_plain_http: self.allow_plain_http,
            public_only: self.public_only.is_some(),
            no_roots,
        })
    }
}

impl ReqwestTransport {
    /// Creates a transport with default settings, which trusts the authorities of the operating system.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn new() -> Result<Self, TransportError> {
        Self::builder().build()
    }

    /// Returns a builder with default settings.
    #[must_use]
    pub fn builder() -> ReqwestTransportBuilder {
        ReqwestTransportBuilder {
            connect: DEFAULT_CONNECT_TIMEOUT,
            allow_plain_http: false,
            public_only: None,
            roots: Vec::new(),
            identity: None,
        }
    }

    fn check(&self, uri: &Uri) -> Result<(), TransportError> {
        let refuse = |reason| Err(TransportError::new(TransportErrorKind::Refused, reason));
        if uri.scheme() == Some(&Scheme::HTTPS) {
            if self.no_roots {
                return refuse(
                    "this machine trusts no certificate authority; install its CA certificates",
                );
            }
            return Ok(());
        }
        if self.allow_plain_http || uri.host().is_some_and(is_loopback_host) {
            return Ok(());
        }
        refuse("plain http would show the token to the network; use https")
    }
}

#[async_trait]
impl HttpTransport for ReqwestTransport {
    async fn send(
        &self,
        request: Request<Bytes>,
        limits: &HttpLimits,
    ) -> Result<Response<Bytes>, TransportError> {
        self.check(request.uri())?;
        let request = reqwest::Request::try_from(request).map_err(|e| {
            TransportError::new(TransportErrorKind::Refused, "the address is not a URL")
                .caused_by(e.without_url())
        })?;
        if self.public_only {
            // The parsed URL is checked, because parsing normalizes unusual spellings of an address.
            guard::check(request.url()).map_err(|refused| not_public(&refused))?;
        }
        let mut received = self.client.execute(request).await.map_err(before_response)?;
        check_headers(received.headers(), limits)?;
        // Report an encoding that was not requested as such, and not as malformed JSON later.
        if let Some(encoding) = received.headers().get(header::CONTENT_ENCODING)
            && !is_identity_encoding(encoding)
        {
            let reason = "the response has a Content-Encoding that was not requested";
            return Err(TransportError::new(TransportErrorKind::Other, reason));
        }
        let mut whole = BytesMut::new();
        while let Some(chunk) = received.chunk().await.map_err(in_body)? {
            append_chunk(&mut whole, &chunk, limits)?;
        }
        let mut response = Response::new(whole.freeze());
        *response.status_mut() = received.status();
        *response.version_mut() = received.version();
        *response.headers_mut() = std::mem::take(received.headers_mut());
        Ok(response)
    }
}

/// Converts an error that occurred before the headers of the response were received.
fn before_response(error: reqwest::Error) -> TransportError {
    let error = error.without_url();
    if let Some(refused) = causes(&error).find_map(|cause| cause.downcast_ref::<NotPublicError>()) {
        return not_public(refused);
    }
    let io = io_kind(&error);
    let (kind, reason) = if error.is_connect() {
        let reason = match io {
            _ if error.is_timeout() => "no connection in time",
            Some(io::ErrorKind::ConnectionRefused) => "connection refused",
            _ if error.is_dns() => "there is no such host",
            _ if message_contains(&error, "certificate") => {
                "the server's certificate is not trusted"
            }
            _ => "no connection",
        };
        (TransportErrorKind::Connect, reason)
    } else if error.is_timeout() {
        (TransportErrorKind::Timeout, "no response in time")
    } else if message_contains(&error, "message head is too large") {
        (TransportErrorKind::TooLarge, "the response's headers are too large")
    } else if message_contains(&error, "invalid HTTP")
        || message_contains(&error, "invalid HTTP status")
    {
        (TransportErrorKind::Other, "the response is not HTTP")
    } else {
        (TransportErrorKind::Truncated, "the connection broke before there was a response")
    };
    TransportError::new(kind, reason).caused_by(error)
}

fn not_public(refused: &NotPublicError) -> TransportError {
    TransportError::new(TransportErrorKind::Refused, refused.to_string())
}

/// Converts an error that occurred while the response body was read.
fn in_body(error: reqwest::Error) -> TransportError {
    let error = error.without_url();
    let (kind, reason) = if error.is_timeout() {
        (TransportErrorKind::Timeout, "no whole response in time")
    } else {
        (TransportErrorKind::Truncated, "the response was cut off or damaged on its way")
    };
    TransportError::new(kind, reason).caused_by(error)
}

/// Returns the kind of the I/O error among the causes, if there is one.
fn io_kind(error: &reqwest::Error) -> Option<io::ErrorKind> {
    causes(error).find_map(|cause| cause.downcast_ref::<io::Error>().map(io::Error::kind))
}

fn message_contains(error: &reqwest::Error, text: &str) -> bool {
    causes(error).any(|cause| cause.to_string().contains(text))
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(error.source(), |cause: &&(dyn StdError + 'static)| (*cause).source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_stays_on_this_machine() {
        let transport = ReqwestTransport::new().unwrap();
        for good in
            ["http://127.0.0.1:1/", "http://127.9.9.9/", "http://[::1]:1/", "http://localhost/"]
        {
            assert!(transport.check(&good.parse().unwrap()).is_ok(), "{good}");
        }
        for bad in [
            "http://bank.example/",
            "http://10.0.0.1/",
            "http://127.0.0.1.evil.example/",
            "http://localhost.evil.example/",
        ] {
            assert!(transport.check(&bad.parse().unwrap()).is_err(), "{bad}");
        }
        let open = ReqwestTransport::builder().allow_plain_http().build().unwrap();
        assert!(open.check(&"http://bank.example/".parse().unwrap()).is_ok());
    }

    /// A resolver that returns a loopback address for every name.
    struct LoopbackResolver;

    impl Lookup for LoopbackResolver {
        fn look_up(
            &self,
            _: String,
        ) -> futures_util::future::BoxFuture<'static, io::Result<Vec<std::net::SocketAddr>>>
        {
            Box::pin(async { Ok(vec![([127, 0, 0, 1], 0).into()]) })
        }
    }

    #[tokio::test]
    async fn ssrf_corpus_no_connection_is_made_to_what_is_not_public() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut builder = ReqwestTransport::builder().allow_plain_http().public_addresses_only();
        builder.public_only = Some(ResolverSource(Arc::new(LoopbackResolver)));
        let transport = builder.build().unwrap();
        for host in [
            "bank.example",
            "127.0.0.1",
            "127.0.0.1.",
            "localhost",
            "[::ffff:127.0.0.1]",
            "2130706433",
        ] {
            for scheme in ["http", "https"] {
                let uri = format!("{scheme}://{host}:{port}/hook");
                let request = Request::post(uri).body(Bytes::new()).unwrap();
                let error = transport.send(request, &HttpLimits::default()).await.unwrap_err();
                assert_eq!(error.kind(), TransportErrorKind::Refused, "{scheme} {host}");
                assert!(!error.may_have_been_sent());
            }
        }
        let connection = futures_util::FutureExt::now_or_never(listener.accept());
        assert!(connection.is_none(), "a connection was made");
    }

    #[test]
    fn public_addresses_only_does_not_mean_plain_http() {
        let transport = ReqwestTransport::builder().public_addresses_only().build().unwrap();
        let refused = transport.check(&"http://1.1.1.1/".parse().unwrap()).unwrap_err();
        assert_eq!(refused.kind(), TransportErrorKind::Refused);
    }
}
