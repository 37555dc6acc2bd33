//! The hyper adapter over loopback sockets: HTTP versions, TLS, limits, shutdown.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use px_server::{
    guard::{AllowList, PeerAddr, Proxies},
    hyper::{ClientCertificate, RequestBody, Server, Tls},
};
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Notify, oneshot},
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, rustls};
use tower::{Layer as _, Service, service_fn};

/// Short enough for a test, long enough for a loaded machine.
const SHORT: Duration = Duration::from_millis(300);
/// Upper bound for every step of these tests.
const LONG: Duration = Duration::from_secs(20);

/// A service that the tests can block.
#[derive(Clone, Default)]
struct Probe {
    calls: Arc<AtomicUsize>,
    open: Arc<Notify>,
}

impl Probe {
    /// `/hold` waits until the test opens it, `/echo` returns the body, `/big` is 64 MiB; every
    /// other path describes the peer.
    async fn respond(self, request: Request<RequestBody>) -> Response<Full<Bytes>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let (parts, body) = request.into_parts();
        let text = match parts.uri.path() {
            "/hold" => {
                self.open.notified().await;
                Bytes::from("held")
            }
            "/echo" => match body.collect().await {
                Ok(body) => body.to_bytes(),
                Err(error) => {
                    let mut response = Response::new(Full::from(error.to_string()));
                    *response.status_mut() = StatusCode::REQUEST_TIMEOUT;
                    return response;
                }
            },
            "/big" => Bytes::from(vec![b'x'; 64 << 20]),
            _ => {
                let peer = parts.extensions.get::<PeerAddr>().unwrap().0.ip();
                let certificate = parts.extensions.get::<ClientCertificate>();
                let thumbprint = certificate.map(ClientCertificate::x5t_s256);
                let hosts = parts.headers.get_all("host").iter().count();
                let version = parts.version;
                let thumbprint = thumbprint.unwrap_or_default();
                Bytes::from(format!("{peer} {version:?} hosts={hosts} {thumbprint}"))
            }
        };
        Response::new(Full::new(text))
    }

    fn service(
        &self,
    ) -> impl Service<
        Request<RequestBody>,
        Response = Response<Full<Bytes>>,
        Error = Infallible,
        Future: Send,
    > + Clone
    + Send
    + use<> {
        let probe = self.clone();
        service_fn(move |request| {
            let probe = probe.clone();
            async move { Ok::<_, Infallible>(probe.respond(request).await) }
        })
    }
}

/// A running server, with the means to stop it.
struct RunningServer {
    address: SocketAddr,
    probe: Probe,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<std::io::Result<usize>>,
}

async fn run(server: Server) -> RunningServer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let probe = Probe::default();
    let service = probe.service();
    let (stop, stopped) = oneshot::channel::<()>();
    let ended = tokio::spawn(async move {
        let signal = async {
            let _ = stopped.await;
        };
        server.serve_until(listener, service, signal).await
    });
    RunningServer { address, probe, stop, ended }
}

impl RunningServer {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn wait_for_calls(&self, calls: usize) {
        soon(async {
            while self.probe.calls.load(Ordering::SeqCst) < calls {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(LONG, future).await.expect("took too long")
}

/// Reads one response with `Content-Length`. Returns `None` if the peer closed the connection.
async fn read_response(stream: &mut TcpStream) -> Option<(u16, String)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match soon(stream.read_u8()).await {
            Ok(byte) => head.push(byte),
            Err(_) => return None,
        }
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .unwrap()
        .parse()
        .unwrap();
    let mut body = vec![0; length];
    soon(stream.read_exact(&mut body)).await.unwrap();
    Some((status, String::from_utf8(body).unwrap()))
}

/// Returns whether the peer closes the connection, in any way.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    let _ = soon(stream.read_to_end(&mut rest)).await;
    rest.is_empty()
}

#[tokio::test]
async fn a_connection_serves_request_after_request() {
    let server = run(Server::new()).await;
    let mut stream = server.connect().await;
    for _ in 0..3 {
        let request = b"GET / HTTP/1.1\r\nhost: bank\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let (status, body) = read_response(&mut stream).await.unwrap();
        assert_eq!((status, &*body), (200, "127.0.0.1 HTTP/1.1 hosts=1 "));
    }
    // Two requests at once, then the end.
    let two = b"POST /echo HTTP/1.1\r\nhost: b\r\ncontent-length: 3\r\n\r\none\
        GET / HTTP/1.1\r\nhost: b\r\nconnection: close\r\n\r\n";
    stream.write_all(two).await.unwrap();
    assert_eq!(read_response(&mut stream).await.unwrap().1, "one");
    assert_eq!(read_response(&mut stream).await.unwrap().0, 200);
    assert!(is_closed(&mut stream).await);
}

#[tokio::test]
async fn the_service_sees_how_many_hosts_there_are() {
    let server = run(Server::new()).await;
    for (hosts, count) in [("", 0), ("host: a\r\nhost: b\r\n", 2)] {
        let mut stream = server.connect().await;
        let request = format!("GET / HTTP/1.1\r\n{hosts}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let (_, body) = read_response(&mut stream).await.unwrap();
        assert!(body.contains(&format!("hosts={count}")), "{body}");
    }
}

#[tokio::test]
async fn http2_without_tls_runs_requests_side_by_side() {
    let server = run(Server::new()).await;
    let io = TokioIo::new(server.connect().await);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let get = |path: &str| {
        let uri = format!("http://bank{path}");
        Request::get(uri).body(Empty::<Bytes>::new()).unwrap()
    };
    let held = sender.send_request(get("/hold"));
    let held = tokio::spawn(held);
    server.wait_for_calls(1).await;
    let other = soon(sender.send_request(get("/"))).await.unwrap();
    let body = other.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "127.0.0.1 HTTP/2.0 hosts=0 ");
    server.probe.open.notify_one();
    assert_eq!(soon(held).await.unwrap().unwrap().status(), 200);
}

/// Certificates of a server and of clients, generated for each test.
struct Certificates {
    authority: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Certificates {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).unwrap();
        let issuer = rcgen::Issuer::new(params, key);
        Self { authority, issuer }
    }

    fn sign(&self, name: &str) -> (rcgen::Certificate, rcgen::KeyPair) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn client_config(
        &self,
        shown: Option<(&rcgen::Certificate, &rcgen::KeyPair)>,
    ) -> rustls::ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        match shown {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                let chain = vec![certificate.der().clone()];
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        }
    }
}

/// Sends one request over TLS. Returns the body of the response, or an error if the connection
/// failed.
async fn get_over_tls(
    address: SocketAddr,
    mut config: rustls::ClientConfig,
    protocol: &str,
) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    config.alpn_protocols = vec![protocol.into()];
    let stream = TcpStream::connect(address).await?;
    let name = rustls::pki_types::ServerName::try_from("bank.test")?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let chosen = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    assert_eq!(chosen.as_deref(), Some(protocol.as_bytes()));
    let io = TokioIo::new(stream);
    let request = Request::get("https://bank.test/").header("host", "bank.test");
    let request = request.body(Empty::<Bytes>::new())?;
    let response = if protocol == "h2" {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        soon(sender.send_request(request)).await?
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
        tokio::spawn(connection);
        soon(sender.send_request(request)).await?
    };
    let body = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(body.to_vec())?)
}

#[tokio::test]
async fn tls_speaks_both_versions() {
    let certificates = Certificates::new();
    let (shown, key) = certificates.sign("bank.test");
    let tls = Tls::from_pem(shown.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    let server = run(Server::new().tls(tls)).await;
    for (protocol, version) in [("h2", "HTTP/2.0"), ("http/1.1", "HTTP/1.1")] {
        let config = certificates.client_config(None);
        let body = get_over_tls(server.address, config, protocol).await.unwrap();
        assert!(body.contains(version), "{body}");
    }
    // A peer that does not speak TLS gets no response.
    let mut plain = server.connect().await;
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(read_response(&mut plain).await.is_none());
    assert_eq!(server.probe.calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_client_certificate_is_asked_for_and_checked() {
    let ours = Certificates::new();
    let (shown, key) = ours.sign("bank.test");
    let (chain, key) = (shown.pem(), key.serialize_pem());
    let (chain, key) = (chain.as_bytes(), key.as_bytes());
    let authority = ours.authority.pem();
    let required = Tls::with_required_clients(chain, key, authority.as_bytes()).unwrap();
    let optional = Tls::with_optional_clients(chain, key, authority.as_bytes()).unwrap();
    let required = run(Server::new().tls(required)).await;
    let optional = run(Server::new().tls(optional)).await;

    let (client, client_key) = ours.sign("plaid.test");
    let (stranger, stranger_key) = Certificates::new().sign("plaid.test");
    let digest = <sha2::Sha256 as sha2::Digest>::digest(client.der());
    let thumbprint = base64::Engine::encode(
        &base64::engine::general_purpose::URL_SAFE_NO_PAD,
        digest.as_slice(),
    );
    for server in [&required, &optional] {
        let config = ours.client_config(Some((&client, &client_key)));
        let body = get_over_tls(server.address, config, "h2").await.unwrap();
        assert!(body.ends_with(&thumbprint), "{body}");
        let config = ours.client_config(Some((&stranger, &stranger_key)));
        let refused = get_over_tls(server.address, config, "http/1.1").await;
        assert!(refused.is_err(), "{refused:?}");
    }
    let none = get_over_tls(required.address, ours.client_config(None), "http/1.1").await;
    assert!(none.is_err(), "{none:?}");
    let none = get_over_tls(optional.address, ours.client_config(None), "http/1.1").await;
    assert!(none.unwrap().ends_with("hosts=1 "));
}

#[tokio::test]
async fn what_is_not_a_certificate_is_reported() {
    let certificates = Certificates::new();
    let (shown, key) = certificates.sign("bank.test");
    let (_, other_key) = certificates.sign("bank.test");
    let (chain, key) = (shown.pem(), key.serialize_pem());
    for (chain, key, text) in [
        ("", &*key, "the certificate chain is not PEM"),
        (&*chain, "secret", "the private key is not PEM"),
        (&*chain, &*other_key.serialize_pem(), "the certificate and the private key do not match"),
    ] {
        let error = Tls::from_pem(chain.as_bytes(), key.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), text);
    }
    let error = Tls::with_required_clients(chain.as_bytes(), key.as_bytes(), b"").unwrap_err();
    assert!(error.to_string().contains("authorities"), "{error}");
}

#[tokio::test]
async fn a_slow_head_is_cut() {
    let server = run(Server::new().header_timeout(SHORT)).await;
    // Nothing at all, the beginning of either version, and one byte at a time.
    for start in ["", "P", "PRI * HTTP/2.0\r\n", "GET / HTTP/1.1\r\nhost: "] {
        let mut stream = server.connect().await;
        stream.write_all(start.as_bytes()).await.unwrap();
        assert!(is_closed(&mut stream).await, "{start:?}");
    }
    // A head that grows without end.
    let mut stream = server.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
    soon(async {
        let mut ticks = tokio::time::interval(SHORT / 10);
        while stream.write_all(b"x").await.is_ok() {
            ticks.tick().await;
        }
    })
    .await;
    assert_eq!(server.probe.calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_slow_handshake_is_cut() {
    let certificates = Certificates::new();
    let (shown, key) = certificates.sign("bank.test");
    let tls = Tls::from_pem(shown.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    let server = run(Server::new().tls(tls).handshake_timeout(SHORT)).await;
    let mut stream = server.connect().await;
    stream.write_all(&[0x16, 0x03]).await.unwrap();
    assert!(is_closed(&mut stream).await);
}

#[tokio::test]
async fn a_slow_body_is_cut_even_if_it_moves() {
    let server = run(Server::new().body_timeout(SHORT)).await;
    let head = b"POST /echo HTTP/1.1\r\nhost: b\r\ncontent-length: 1000\r\n\r\n";
    // One sender stops, one sends a byte from time to time.
    let mut stops = server.connect().await;
    stops.write_all(head).await.unwrap();
    stops.write_all(b"some").await.unwrap();
    let mut drips = server.connect().await;
    drips.write_all(head).await.unwrap();
    let (mut from, mut to) = drips.into_split();
    let dripping = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(SHORT / 10);
        while to.write_all(b"x").await.is_ok() {
            ticks.tick().await;
        }
    });
    let (status, text) = read_response(&mut stops).await.unwrap();
    assert_eq!((status, &*text), (408, "the body did not arrive in time"));
    assert!(is_closed(&mut stops).await);
    let mut text = String::new();
    let _ = soon(from.read_to_string(&mut text)).await;
    assert!(text.starts_with("HTTP/1.1 408"), "{text}");
    soon(dripping).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_takes_nothing_is_cut() {
    let server = run(Server::new().write_timeout(SHORT)).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /big HTTP/1.1\r\nhost: b\r\n\r\n").await.unwrap();
    server.wait_for_calls(1).await;
    // After a while without reading, the remaining response is shorter than 64 MiB.
    soon(async {
        let mut ticks = tokio::time::interval(SHORT * 3);
        ticks.tick().await;
        ticks.tick().await;
    })
    .await;
    let mut rest = Vec::new();
    let _ = soon(stream.read_to_end(&mut rest)).await;
    assert!(rest.len() < 64 << 20, "{} bytes", rest.len());
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut() {
    let server = run(Server::new().request_timeout(SHORT)).await;
    let mut stream = server.connect().await;
    let request = b"GET /hold HTTP/1.1\r\nhost: b\r\n\r\n";
    stream.write_all(request).await.unwrap();
    assert!(is_closed(&mut stream).await);

    let io = TokioIo::new(server.connect().await);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://bank/hold").body(Empty::<Bytes>::new());
    let response = soon(sender.send_request(request.unwrap())).await;
    assert!(response.is_err());
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let server = run(Server::new().idle_timeout(SHORT)).await;
    let mut stream = server.connect().await;
    let request = b"GET / HTTP/1.1\r\nhost: b\r\n\r\n";
    stream.write_all(request).await.unwrap();
    assert_eq!(read_response(&mut stream).await.unwrap().0, 200);
    assert!(is_closed(&mut stream).await);

    let io = TokioIo::new(server.connect().await);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("http://bank/").body(Empty::<Bytes>::new());
    let response = soon(sender.send_request(request.unwrap())).await.unwrap();
    assert_eq!(response.status(), 200);
    drop(response);
    soon(connection).await.unwrap().unwrap();
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_while_all_are_at_work() {
    let server = run(Server::new().max_connections(1).proxies(Proxies::new(1))).await;
    let mut first = server.connect().await;
    first.write_all(b"GET /hold HTTP/1.1\r\nhost: b\r\n\r\n").await.unwrap();
    server.wait_for_calls(1).await;
    let request = b"GET / HTTP/1.1\r\nhost: b\r\n\r\n";
    let mut second = server.connect().await;
    second.write_all(request).await.unwrap();
    let early = tokio::time::timeout(SHORT, second.read_u8()).await;
    assert!(early.is_err(), "the second was served beside the first");
    server.probe.open.notify_one();
    assert_eq!(read_response(&mut first).await.unwrap().0, 200);
    // The first connection is idle now, and is evicted.
    assert_eq!(read_response(&mut second).await.unwrap().0, 200);
    assert!(is_closed(&mut first).await);
}

#[tokio::test]
async fn too_much_of_a_head_is_refused() {
    let server = run(Server::new()).await;
    let long = format!("x-long: {}\r\n", "x".repeat(100_000));
    let many = "x-many: x\r\n".repeat(250);
    for extra in [long, many] {
        let mut stream = server.connect().await;
        let request = format!("GET / HTTP/1.1\r\nhost: b\r\n{extra}\r\n");
        let _ = stream.write_all(request.as_bytes()).await;
        // Unread bytes can turn the response into a connection reset.
        if let Some((status, _)) = read_response(&mut stream).await {
            assert_eq!(status, 431);
        }
    }
    assert_eq!(server.probe.calls.load(Ordering::SeqCst), 0);
    // A refusal by the service itself, with a body, reaches the client.
    let mut stream = server.connect().await;
    let many = "x-many: x\r\n".repeat(150);
    let request = format!("GET / HTTP/1.1\r\nhost: b\r\n{many}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(read_response(&mut stream).await.unwrap().0, 200);
}

#[tokio::test]
async fn a_shutdown_finishes_what_runs() {
    let server = run(Server::new()).await;
    let request = b"GET /hold HTTP/1.1\r\nhost: b\r\n\r\n";
    let mut held = server.connect().await;
    held.write_all(request).await.unwrap();
    server.wait_for_calls(1).await;
    let mut idle = server.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nhost: b\r\n\r\n").await.unwrap();
    assert_eq!(read_response(&mut idle).await.unwrap().0, 200);

    server.stop.send(()).unwrap();
    assert!(is_closed(&mut idle).await);
    assert!(TcpStream::connect(server.address).await.is_err());
    assert!(!server.ended.is_finished());
    server.probe.open.notify_one();
    assert_eq!(read_response(&mut held).await.unwrap().1, "held");
    assert!(is_closed(&mut held).await);
    assert_eq!(soon(server.ended).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_ever() {
    let server = run(Server::new().shutdown_timeout(SHORT)).await;
    let mut held = server.connect().await;
    held.write_all(b"GET /hold HTTP/1.1\r\nhost: b\r\n\r\n").await.unwrap();
    server.wait_for_calls(1).await;
    server.stop.send(()).unwrap();
    assert_eq!(soon(server.ended).await.unwrap().unwrap(), 1);
    assert!(is_closed(&mut held).await);
}

#[tokio::test]
async fn the_allow_list_reads_the_peer_of_the_adapter() {
    let probe = Probe::default();
    for (list, status) in
        [(AllowList::new().allow("127.0.0.0/8").unwrap(), 200), (AllowList::plaid_testing(), 403)]
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = px_server::hyper::serve(listener, list.layer(probe.service()));
        let server = tokio::spawn(server);
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: b\r\nx-forwarded-for: 18.214.218.91\r\n\r\n";
        stream.write_all(request).await.unwrap();
        assert_eq!(read_response(&mut stream).await.unwrap().0, status);
        server.abort();
    }
    assert_eq!(probe.calls.load(Ordering::SeqCst), 1);
}

/// Counts when it is dropped, which takes a while.
struct OnDrop(Arc<AtomicUsize>);

impl Drop for OnDrop {
    #[allow(clippy::disallowed_methods, reason = "blocks its thread on purpose")]
    fn drop(&mut self) {
        std::thread::sleep(Duration::from_millis(200));
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn handlers_of_http2_end_with_the_shutdown() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (begun, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, dropped) = (begun.clone(), ended.clone());
    let service = service_fn(move |_: Request<RequestBody>| {
        let (counted, on_drop) = (counted.clone(), OnDrop(dropped.clone()));
        async move {
            counted.fetch_add(1, Ordering::SeqCst);
            let _on_drop = on_drop;
            // It runs forever, and takes longer to end than its connection.
            std::future::pending::<()>().await;
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        }
    });
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(async move {
        let signal = async {
            let _ = stopped.await;
        };
        Server::new().shutdown_timeout(SHORT).serve_until(listener, service, signal).await
    });
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let mut responses = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let request = Request::get("http://bank/").body(Empty::<Bytes>::new()).unwrap();
        responses.spawn(sender.send_request(request));
    }
    soon(async {
        while begun.load(Ordering::SeqCst) < 5 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    stop.send(()).unwrap();
    assert_eq!(soon(server).await.unwrap().unwrap(), 1);
    assert_eq!(ended.load(Ordering::SeqCst), 5, "handlers outlive the server");
}

#[tokio::test]
async fn a_peer_that_is_not_on_the_allow_list_takes_no_slot() {
    let list = AllowList::new().allow("192.0.2.1").unwrap();
    let server = run(Server::new().max_connections(1).allow_list(list)).await;
    for _ in 0..3 {
        let mut stream = server.connect().await;
        assert!(is_closed(&mut stream).await);
    }
    assert_eq!(server.probe.calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn behind_a_proxy_each_request_is_judged_and_connections_are_not_counted() {
    let list = AllowList::new().allow("192.0.2.0/24").unwrap();
    let proxies = Proxies::new(1).address("127.0.0.0/8").unwrap();
    let server = Server::new().max_connections_per_address(1).allow_list(list).proxies(proxies);
    let server = run(server).await;
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(server.connect().await);
    }
    for stream in &mut streams {
        for (forwarded, status) in [("192.0.2.7", 200), ("198.51.100.1", 403), ("junk", 403)] {
            let request =
                format!("GET / HTTP/1.1\r\nhost: b\r\nx-forwarded-for: {forwarded}\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            assert_eq!(read_response(stream).await.unwrap().0, status, "{forwarded}");
        }
    }
    assert_eq!(server.probe.calls.load(Ordering::SeqCst), 4);
}

/// Accepts one token, which is bound to a certificate.
struct Bound([u8; 32]);

#[async_trait::async_trait]
impl px_server::verify::TokenVerifier for Bound {
    async fn verify(
        &self,
        _: &px_types::AccessToken,
    ) -> Result<Arc<px_server::TokenGrant>, px_server::verify::VerifyError> {
        let user = px_types::UserId::new("u1").unwrap();
        let mut grant = px_server::TokenGrant::new(user, px_types::ScopeSet::defaults());
        grant.certificate_thumbprint = Some(self.0);
        Ok(Arc::new(grant))
    }
}

#[tokio::test]
async fn a_bound_token_is_held_to_the_certificate_of_the_connection() {
    let ours = Certificates::new();
    let (shown, key) = ours.sign("bank.test");
    let (chain, key) = (shown.pem(), key.serialize_pem());
    let (chain, key) = (chain.as_bytes(), key.as_bytes());
    let authority = ours.authority.pem();
    let (client, client_key) = ours.sign("plaid.test");
    let (other, other_key) = ours.sign("other.test");
    let thumbprint = <sha2::Sha256 as sha2::Digest>::digest(client.der()).into();
    let (log, guard) = crate::log::Log::capture();
    for (tls, statuses) in [
        (Tls::with_optional_clients(chain, key, authority.as_bytes()).unwrap(), [200, 401, 401]),
        // No peer can present a certificate here: a fault of the set-up, which ends no token.
        (Tls::from_pem(chain, key).unwrap(), [503, 503, 503]),
    ] {
        let verifier = px_server::verify::CachedVerifier::new(Arc::new(Bound(thumbprint)));
        let verifier = Arc::new(verifier);
        let service = crate::bank::service_with(crate::bank::Behaviour::Plain, |builder| {
            builder.tokens(verifier)
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let running =
            tokio::spawn(async move { Server::new().tls(tls).serve(listener, service).await });
        let certificates = [Some((&client, &client_key)), Some((&other, &other_key)), None];
        for (certificate, status) in certificates.into_iter().zip(statuses) {
            let mut config = ours.client_config(certificate);
            config.alpn_protocols = vec!["http/1.1".into()];
            let stream = TcpStream::connect(address).await.unwrap();
            let name = rustls::pki_types::ServerName::try_from("bank.test").unwrap();
            let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            let request = Request::get("/users/u1").header("host", "bank.test");
            let request = request.header("authorization", "Bearer token");
            let request = request.body(Empty::<Bytes>::new()).unwrap();
            let response = soon(sender.send_request(request)).await.unwrap();
            assert_eq!(response.status(), status);
        }
        running.abort();
    }
    drop(guard);
    assert!(
        log.text().contains("the token is bound to a certificate, but the server requests none")
    );
}
