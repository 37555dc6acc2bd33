//! Attacks from few addresses, over loopback sockets and with bounded loops: other callers are not
//! locked out, and the resources of the attacker are bounded.
#![allow(clippy::print_stdout, reason = "prints the figures of the attacks, with --nocapture")]

use crate::bank::{self, Behaviour};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use px_server::{
    TokenGrant,
    guard::{FailureLimit, PeerAddr},
    hyper::{RequestBody, Server},
    verify::{TokenVerifier, VerifyError},
};
use px_types::AccessToken;
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
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Notify,
};
use tower::service_fn;

const SOON: Duration = Duration::from_secs(3);
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: b\r\n\r\n";

/// Responds with 200; `/body` reads the body, counts it and keeps it until the end of the test.
#[derive(Clone, Default)]
struct Counter {
    buffered: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
    end: Arc<Notify>,
}

impl Counter {
    async fn respond(self, request: Request<RequestBody>) -> Response<Full<Bytes>> {
        if request.uri().path() == "/body" {
            let mut body = request.into_body();
            let mut frames = Vec::new();
            while let Some(frame) = body.frame().await {
                let Ok(frame) = frame else {
                    self.failed.fetch_add(1, Ordering::SeqCst);
                    let buffered: usize = frames.iter().map(Bytes::len).sum();
                    self.buffered.fetch_sub(buffered, Ordering::SeqCst);
                    let mut response = Response::new(Full::default());
                    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                    return response;
                };
                if let Ok(data) = frame.into_data() {
                    self.buffered.fetch_add(data.len(), Ordering::SeqCst);
                    frames.push(data);
                }
            }
            self.end.notified().await;
        }
        Response::new(Full::from("ok"))
    }
}

async fn run(server: Server) -> (SocketAddr, Counter) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let counter = Counter::default();
    let served = counter.clone();
    tokio::spawn(async move {
        let service = service_fn(move |request| {
            let counter = served.clone();
            async move { Ok::<_, Infallible>(counter.respond(request).await) }
        });
        server.serve(listener, service).await
    });
    (address, counter)
}

/// Connects from a loopback address.
async fn connect_from(last: u8, server: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
    socket.connect(server).await.unwrap()
}

/// Returns the status of one request, or `None` without a response within the time limit.
async fn get(stream: &mut TcpStream) -> Option<u16> {
    let request = async {
        stream.write_all(GET).await.ok()?;
        let mut text = [0; 12];
        stream.read_exact(&mut text).await.ok()?;
        let status = std::str::from_utf8(&text[9..]).ok()?.parse().ok()?;
        let mut rest = Vec::new();
        while !rest.ends_with(b"\r\n\r\nok") {
            rest.push(stream.read_u8().await.ok()?);
        }
        Some(status)
    };
    tokio::time::timeout(SOON, request).await.ok().flatten()
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    let read = tokio::time::timeout(SOON, stream.read_u8()).await;
    matches!(read, Ok(Err(_)))
}

#[tokio::test]
async fn one_address_does_not_take_all_connections() {
    let (server, _) = run(Server::new().max_connections(16)).await;
    let mut idle = Vec::new();
    for _ in 0..64 {
        idle.push(connect_from(1, server).await);
    }
    let mut other = connect_from(2, server).await;
    assert_eq!(get(&mut other).await, Some(200), "one address locks everybody out");
}

#[tokio::test]
async fn when_slots_run_out_the_longest_idle_connection_ends() {
    let (server, _) = run(Server::new().max_connections(4)).await;
    let mut idle = Vec::new();
    for last in 1..=4 {
        let mut stream = connect_from(last, server).await;
        assert_eq!(get(&mut stream).await, Some(200));
        idle.push(stream);
    }
    // The first connection is used again, so the second has been idle for longest.
    assert_eq!(get(&mut idle[0]).await, Some(200));
    let mut other = connect_from(5, server).await;
    assert_eq!(get(&mut other).await, Some(200), "idle connections lock everybody out");
    assert!(is_closed(&mut idle[1]).await);
    for remaining in [0, 2, 3] {
        assert_eq!(get(&mut idle[remaining]).await, Some(200), "{remaining}");
    }
}

/// Opens an HTTP/2 connection and sends as much as possible of several bodies, completing none.
async fn flood(last: u8, server: SocketAddr, bodies: usize, bytes: usize) -> impl Sized {
    let io = TokioIo::new(connect_from(last, server).await);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async {
        let _ = connection.await;
    });
    for _ in 0..bodies {
        let frames = (0..bytes / 10_000).map(|_| Frame::data(Bytes::from_static(&[b'x'; 10_000])));
        let frames = futures_util::stream::iter(frames.map(Ok::<_, Infallible>));
        let frames = futures_util::StreamExt::chain(frames, futures_util::stream::pending());
        let request = Request::post("http://bank/body").body(StreamBody::new(frames)).unwrap();
        let response = sender.send_request(request);
        tasks.spawn(async {
            let _ = response.await;
        });
    }
    (sender, tasks)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unread_bodies_of_a_connection_are_bounded() {
    let (server, counter) = run(Server::new()).await;
    let _flood = flood(1, server, 100, 900_000).await;
    let mut most = 0;
    for _ in 0..30 {
        pause(Duration::from_millis(50)).await;
        most = most.max(counter.buffered.load(Ordering::SeqCst));
    }
    println!("unread bytes of one connection: {most}");
    assert!(most <= 2 << 20, "{most} bytes are buffered for one connection");
    assert!(most > 500_000, "only {most} bytes came");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unread_bodies_of_an_address_leave_room_for_others() {
    // One address may use a quarter of 8 MiB, over any number of connections.
    let (server, counter) = run(Server::new().max_buffered_bytes(8 << 20)).await;
    let mut floods = Vec::new();
    for _ in 0..6 {
        floods.push(flood(1, server, 20, 900_000).await);
    }
    let mut most = 0;
    for _ in 0..30 {
        pause(Duration::from_millis(50)).await;
        most = most.max(counter.buffered.load(Ordering::SeqCst));
    }
    println!("unread bytes of one address: {most}");
    assert!(most <= (2 << 20) + 6 * (16 << 10), "{most} bytes are buffered for one address");
    let failed = counter.failed.load(Ordering::SeqCst);
    assert!(failed > 0, "what is beyond it is refused");
    // Meanwhile, another address is served, with a body too.
    let mut other = connect_from(2, server).await;
    let head = "POST /echo HTTP/1.1\r\nhost: b\r\ncontent-length: 100000\r\n\r\n";
    other.write_all(head.as_bytes()).await.unwrap();
    other.write_all(&[b'x'; 100_000]).await.unwrap();
    let mut text = [0; 12];
    let read = other.read_exact(&mut text);
    tokio::time::timeout(SOON, read).await.expect("others are refused").unwrap();
    assert_eq!(&text, b"HTTP/1.1 200");
    drop(floods);
}

#[tokio::test]
async fn heads_of_open_requests_are_counted() {
    let server = Server::new().max_buffered_bytes_per_connection(200_000);
    let (server, counter) = run(server).await;
    let io = TokioIo::new(connect_from(1, server).await);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let mut responses = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let request = Request::post("http://bank/body").header("x-long", "x".repeat(30_000));
        let request = request.body(Full::<Bytes>::default()).unwrap();
        responses.spawn(sender.send_request(request));
    }
    let mut refused = 0;
    while let Ok(Some(response)) = tokio::time::timeout(SOON, responses.join_next()).await {
        let status = response.unwrap().unwrap().status();
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        refused += 1;
        if refused == 14 {
            break;
        }
    }
    assert_eq!(refused, 14, "six of 30 kB are within 200 kB");
    counter.end.notify_waiters();
}

fn peer(address: &str) -> PeerAddr {
    PeerAddr(SocketAddr::new(address.parse().unwrap(), 40_000))
}

fn from<B>(address: &str, mut request: Request<B>) -> Request<B> {
    request.extensions_mut().insert(peer(address));
    request
}

#[tokio::test]
async fn a_form_is_small() {
    let service = crate::client_endpoints::service_with_limit(1 << 20);
    let form = |authorization: Option<&str>, bytes: usize| {
        let mut request = Request::post("/oauth2/token")
            .header("host", "bank.example")
            .header("content-type", "application/x-www-form-urlencoded");
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        request.body(Full::from("x".repeat(bytes))).unwrap()
    };
    for (authorization, bytes, status) in [
        (None, 16 << 10, 401),
        (None, (16 << 10) + 1, 413),
        // Credentials in a header are checked before the body.
        (Some("Basic cGxhaWQ6d3Jvbmc="), 1 << 20, 401),
    ] {
        let response = bank::send(&service, form(authorization, bytes)).await;
        assert_eq!(response.status().as_u16(), status, "{authorization:?}, {bytes}");
    }
}

/// A body that must not be read.
struct Untouched(Arc<AtomicUsize>);

impl http_body::Body for Untouched {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        std::task::Poll::Ready(None)
    }
}

#[tokio::test]
async fn what_headers_tell_costs_no_body() {
    let read = Arc::new(AtomicUsize::new(0));
    let request = |path: &str, headers: &[(&'static str, &'static str)]| {
        let mut request = Request::post(path).header("host", "bank.example");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Untouched(read.clone())).unwrap()
    };
    let bank = crate::client_endpoints::service_with_limit(1 << 20);
    let wrong = ("authorization", "Basic cGxhaWQ6d3Jvbmc=");
    let form = ("content-type", "application/x-www-form-urlencoded");
    for path in ["/oauth2/token", "/oauth2/revoke", "/users/auth_token"] {
        assert_eq!(bank.respond(request(path, &[wrong, form])).await.status(), 401, "{path}");
    }
    let keys = px_server::webhook::FixedKeys::new(Vec::new());
    let verifier = Arc::new(px_server::webhook::Verifier::new(Arc::new(keys)));
    let notified = bank::service_with(Behaviour::Plain, |builder| builder.notifications(verifier));
    for headers in [&[][..], &[("plaid-verification", "junk")], &[("plaid-verification", "a.b.c")]]
    {
        let response = notified.respond(request("/applications/notify", headers)).await;
        assert_eq!(response.status(), 401);
    }
    let (plaid, _) = crate::plaid::service();
    let json = ("content-type", "application/json");
    let wrong = [json, ("plaid-client-id", "client-7d0b6c21"), ("plaid-secret", "wrong")];
    assert_eq!(plaid.respond(request("/item/get", &wrong)).await.status(), 401);
    assert_eq!(read.load(Ordering::SeqCst), 0, "a body was read for nothing");
}

#[tokio::test]
async fn an_address_that_fails_to_authenticate_is_limited_and_no_other_is() {
    let limit = || FailureLimit::per_minute(20).clock(bank::clock());
    let bank = bank::service_with(Behaviour::Plain, |builder| builder.failure_limit(limit()));
    let get = |address: &str, token: &str| from(address, bank::get("/users/u1", Some(token)));
    // Requests that authenticate do not count.
    for _ in 0..50 {
        assert_eq!(bank::send(&bank, get("192.0.2.1", "t1")).await.status(), 200);
    }
    let mut refused = 0;
    for n in 0..100 {
        let token = format!("guess-{n}");
        refused += usize::from(bank::send(&bank, get("192.0.2.1", &token)).await.status() == 429);
    }
    assert_eq!(refused, 80, "of 100 guesses, 20 are checked");
    // A right guess from this address is refused too, with the time to retry.
    let response = bank::send(&bank, get("192.0.2.1", "t1")).await;
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()["retry-after"], "3");
    assert_eq!(bank::send(&bank, get("192.0.2.2", "t1")).await.status(), 200);
    // IPv6 addresses of one /64 count as one address.
    for n in 0..40 {
        let _ = bank::send(&bank, get(&format!("2001:db8::{n:x}"), "guess")).await;
    }
    assert_eq!(bank::send(&bank, get("2001:db8::ffff", "t1")).await.status(), 429);
    assert_eq!(bank::send(&bank, get("2001:db8:0:1::1", "t1")).await.status(), 200);
    // A failing token store is not a failure of the caller.
    for _ in 0..40 {
        assert_eq!(bank::send(&bank, get("192.0.2.3", "store-down")).await.status(), 503);
    }
    assert_eq!(bank::send(&bank, get("192.0.2.3", "t1")).await.status(), 200);
}

#[tokio::test]
async fn wrong_client_secrets_of_an_address_are_limited_in_both_apis() {
    let bank = crate::client_endpoints::service_with_limit(1 << 20);
    let form = |secret: &str| {
        let body = format!("grant_type=refresh_token&client_id=plaid&client_secret={secret}");
        let request = Request::post("/oauth2/token")
            .header("host", "bank.example")
            .header("content-type", "application/x-www-form-urlencoded");
        from("192.0.2.1", request.body(Full::from(body)).unwrap())
    };
    let mut checked = 0;
    for n in 0..3000 {
        checked += usize::from(bank::send(&bank, form(&n.to_string())).await.status() == 401);
    }
    println!("of 3,000 client secrets, {checked} were checked");
    // The clock advances meanwhile.
    assert!((100..=110).contains(&checked), "{checked}");

    let (plaid, _) = crate::plaid::service();
    let mut checked = 0;
    for n in 0..3000 {
        let request = Request::post("/item/get")
            .header("host", "plaid.example")
            .header("content-type", "application/json")
            // A different client each time, so that the limit per client does not apply.
            .header("plaid-client-id", format!("client-{n}"))
            .header("plaid-secret", "guess");
        let request = from("192.0.2.1", request.body(Full::<Bytes>::from("{}")).unwrap());
        checked += usize::from(plaid.respond(request).await.status() == 401);
    }
    println!("of 3,000 clients of Plaid, {checked} were checked");
    assert!((100..=110).contains(&checked), "{checked}");
}

#[tokio::test]
async fn open_calls_are_limited_and_an_address_has_a_quarter() {
    let verifier = Arc::new(Slow);
    let bank =
        bank::service_with(Behaviour::Plain, |builder| builder.tokens(verifier).max_open_calls(8));
    let mut open = tokio::task::JoinSet::new();
    let call = |address: &str, token: &str| {
        let (bank, request) = (bank.clone(), from(address, bank::get("/users/u1", Some(token))));
        async move { bank.respond(request).await.status() }
    };
    for _ in 0..4 {
        open.spawn(call("192.0.2.1", "slow"));
    }
    // Two of the four calls are refused immediately.
    for _ in 0..2 {
        assert_eq!(open.join_next().await.unwrap().unwrap(), 503);
    }
    assert_eq!(call("192.0.2.1", "t1").await, 503);
    assert_eq!(call("192.0.2.2", "t1").await, 401);
    open.abort_all();
    while open.join_next().await.is_some() {}
    assert_eq!(call("192.0.2.1", "t1").await, 401);
}

/// Never completes for one token, and refuses all others.
struct Slow;

#[async_trait::async_trait]
impl TokenVerifier for Slow {
    async fn verify(&self, token: &AccessToken) -> Result<Arc<TokenGrant>, VerifyError> {
        if token.expose() == "slow" {
            std::future::pending::<()>().await;
        }
        Err(VerifyError::invalid())
    }
}

#[tokio::test]
async fn a_request_line_has_an_end() {
    let bank = crate::client_endpoints::service_with_limit(1 << 20);
    let long = format!("/oauth2/auth?state={}", "x".repeat(32 << 10));
    let response = bank::send(&bank, bank::get(&long, None)).await;
    assert_eq!(response.status(), 414);
    let (plaid, _) = crate::plaid::service();
    let request = Request::post(format!("/item/get?{}", "x".repeat(32 << 10)));
    let request = request.header("host", "plaid.example").body(Full::<Bytes>::default()).unwrap();
    assert_eq!(plaid.respond(request).await.status(), 414);
}

#[tokio::test]
async fn the_window_of_a_partial_grant_is_read_once() {
    let calls = Arc::new(AtomicUsize::new(0));
    let service = bank::counting_service(calls.clone());
    let page = |offset: u64| {
        let path = format!(
            "/users/u1/transactions?start_date=2024-01-01&end_date=2024-01-31&limit=5&offset={offset}"
        );
        bank::get(&path, Some("one-account"))
    };
    let mut ids = std::collections::BTreeSet::new();
    let mut pages = 0;
    for offset in (0..350).step_by(5) {
        let json = bank::json(bank::send(&service, page(offset)).await).await;
        assert_eq!(json["total"], 350);
        for row in json["transactions"].as_array().unwrap() {
            assert!(ids.insert(row["id"].as_str().unwrap().to_owned()));
        }
        pages += 1;
    }
    assert_eq!((pages, ids.len()), (70, 350));
    // 700 rows in pages of 500 need two calls of the bank.
    let made = calls.swap(0, Ordering::SeqCst);
    println!("calls of the bank for {pages} pages: {made}");
    assert_eq!(made, 2);
    // The next pagination reads the window again, so that no change is hidden.
    let _ = bank::send(&service, page(0)).await;
    let _ = bank::send(&service, page(0)).await;
    assert_eq!(calls.swap(0, Ordering::SeqCst), 4);
    // Many concurrent pages cause one reading too.
    let mut many = tokio::task::JoinSet::new();
    for offset in (5..100).step_by(5) {
        let (service, request) = (service.clone(), page(offset));
        many.spawn(async move { bank::send(&service, request).await.status() });
    }
    while let Some(status) = many.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    assert_eq!(calls.load(Ordering::SeqCst), 0);
}

async fn pause(duration: Duration) {
    px_core::Clock::sleep(&px_core::SystemClock::new(), duration).await;
}
