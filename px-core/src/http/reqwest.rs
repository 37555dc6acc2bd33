//! A transport over the network with reqwest: HTTP/1.1 and HTTP/2, TLS by rustls.

mod guard;

use self::guard::{Lookup, NotPublic, PublicOnly, System};
use super::{
    HttpLimits, HttpTransport, TransportError, TransportErrorKind, check_headers, grow,
    is_loopback_host, is_unpacked,
};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{Request, Response, Uri, header, uri::Scheme};
use std::{error::Error as StdError, fmt, io, sync::Arc, time::Duration};

/// Time to connect, unless the builder sets another.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A transport over the network.
///
/// It follows no redirect, stores no cookie and uses no proxy of the environment. It refuses
/// plain `http` except to this machine, unless
/// [`allow_plain_http`](ReqwestTransportBuilder::allow_plain_http) is set. If the addresses are
/// chosen by others, restrict it to [public addresses](ReqwestTransportBuilder::public_addresses_only).
#[derive(Clone, Debug)]
pub struct ReqwestTransport {
    client: reqwest::Client,
    allow_plain_http: bool,
    public_only: bool,
    no_roots: bool,
}

/// Builds a [`ReqwestTransport`].
#[derive(Clone, Debug)]
pub struct ReqwestTransportBuilder {
    connect: Duration,
    allow_plain_http: bool,
    public_only: Option<Guarding>,
    roots: Vec<Vec<u8>>,
    identity: Option<Identity>,
}

/// The resolver that is used if only public addresses may be reached.
#[derive(Clone)]
struct Guarding(Arc<dyn Lookup>);

impl fmt::Debug for Guarding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guarding")
    }
}

/// A client certificate and its key, masked in `Debug`.
#[derive(Clone)]
struct Identity(Vec<u8>);

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(***)")
    }
}

impl ReqwestTransportBuilder {
    /// Allows plain `http` to other machines. Tokens then travel unencrypted.
    #[must_use]
    pub fn allow_plain_http(mut self) -> Self {
        self.allow_plain_http = true;
        self
    }

    /// Allows requests to addresses of the public internet only. Use it for addresses that others
    /// chose, such as webhooks.
    ///
    /// Any other address is [`TransportErrorKind::Refused`] and nothing is sent, whether it is
    /// written out or a name resolves to it. A name is resolved once, and the connection goes to
    /// an address that was checked. See [`is_public`](super::is_public).
    ///
    /// Plain `http` stays refused unless [`allow_plain_http`](Self::allow_plain_http) is set.
    #[must_use]
    pub fn public_addresses_only(mut self) -> Self {
        self.public_only = Some(Guarding(Arc::new(System)));
        self
    }

    /// Time to connect; 10 s by default.
    #[must_use]
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect = time;
        self
    }

    /// Trusts the certificate authorities of a PEM file in addition to those of the machine.
    #[must_use]
    pub fn root_certificates(mut self, pem: &[u8]) -> Self {
        self.roots.push(pem.to_vec());
        self
    }

    /// Presents a client certificate, from a PEM file with the certificate and its key.
    #[must_use]
    pub fn identity(mut self, pem: &[u8]) -> Self {
        self.identity = Some(Identity(pem.to_vec()));
        self
    }

    /// Builds the transport.
    ///
    /// # Errors
    /// If a certificate or key cannot be read.
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
            if let Some(Guarding(lookup)) = &self.public_only {
                builder = builder.dns_resolver(Arc::new(PublicOnly(lookup.clone())));
            }
            builder
        };
        let (client, no_roots) = match builder().tls_certs_merge(roots.clone()).build() {
            Ok(client) => (client, false),
            // A machine without any trusted authority can still talk to itself.
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
    /// Creates a transport that trusts the certificate authorities of this machine.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn new() -> Result<Self, TransportError> {
        Self::builder().build()
    }

    /// Returns a builder, for other settings.
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
            // Of the URL as it will be used: odd spellings of an address are plain in it.
            guard::check(request.url()).map_err(|refused| not_public(&refused))?;
        }
        let mut received = self.client.execute(request).await.map_err(before_response)?;
        check_headers(received.headers(), limits)?;
        // What is packed otherwise than asked for is refused by its name, not as garbage.
        if let Some(encoding) = received.headers().get(header::CONTENT_ENCODING)
            && !is_unpacked(encoding)
        {
            let reason = "the response is packed in a way that was not asked for";
            return Err(TransportError::new(TransportErrorKind::Other, reason));
        }
        let mut whole = BytesMut::new();
        while let Some(piece) = received.chunk().await.map_err(in_body)? {
            grow(&mut whole, &piece, limits)?;
        }
        let mut response = Response::new(whole.freeze());
        *response.status_mut() = received.status();
        *response.version_mut() = received.version();
        *response.headers_mut() = std::mem::take(received.headers_mut());
        Ok(response)
    }
}

/// An error before the head of the response was read.
fn before_response(error: reqwest::Error) -> TransportError {
    let error = error.without_url();
    if let Some(refused) = causes(&error).find_map(|cause| cause.downcast_ref::<NotPublic>()) {
        return not_public(refused);
    }
    let io = io_kind(&error);
    let (kind, reason) = if error.is_connect() {
        let reason = match io {
            _ if error.is_timeout() => "no connection in time",
            Some(io::ErrorKind::ConnectionRefused) => "connection refused",
            _ if error.is_dns() => "there is no such host",
            _ if says(&error, "certificate") => "the server's certificate is not trusted",
            _ => "no connection",
        };
        (TransportErrorKind::Connect, reason)
    } else if error.is_timeout() {
        (TransportErrorKind::Timeout, "no response in time")
    } else if says(&error, "message head is too large") {
        (TransportErrorKind::TooLarge, "the response's headers are too large")
    } else if says(&error, "invalid HTTP") || says(&error, "invalid HTTP status") {
        (TransportErrorKind::Other, "the response is not HTTP")
    } else {
        (TransportErrorKind::Cut, "the connection broke before there was a response")
    };
    TransportError::new(kind, reason).caused_by(error)
}

fn not_public(refused: &NotPublic) -> TransportError {
    TransportError::new(TransportErrorKind::Refused, refused.to_string())
}

/// An error in the body of the response.
fn in_body(error: reqwest::Error) -> TransportError {
    let error = error.without_url();
    let (kind, reason) = if error.is_timeout() {
        (TransportErrorKind::Timeout, "no whole response in time")
    } else {
        (TransportErrorKind::Cut, "the response was cut off or damaged on its way")
    };
    TransportError::new(kind, reason).caused_by(error)
}

/// The kind of the I/O error at the bottom, if there is one.
fn io_kind(error: &reqwest::Error) -> Option<io::ErrorKind> {
    causes(error).find_map(|cause| cause.downcast_ref::<io::Error>().map(io::Error::kind))
}

fn says(error: &reqwest::Error, text: &str) -> bool {
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

    /// A name that leads to this machine.
    struct Inside;

    impl Lookup for Inside {
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
        builder.public_only = Some(Guarding(Arc::new(Inside)));
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
        assert!(connection.is_none(), "someone connected");
    }

    #[test]
    fn public_addresses_only_does_not_mean_plain_http() {
        let transport = ReqwestTransport::builder().public_addresses_only().build().unwrap();
        let refused = transport.check(&"http://1.1.1.1/".parse().unwrap()).unwrap_err();
        assert_eq!(refused.kind(), TransportErrorKind::Refused);
    }
}
