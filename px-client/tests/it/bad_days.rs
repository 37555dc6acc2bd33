//! Faults of a partner on the wire, and the client's errors for them.

use crate::bad_server::{BadServer, Script, USER, page};
use futures_util::StreamExt as _;
use px_client::{Error, ErrorKind, PagingFault, PartnerClient, RetryPolicy};
use px_core::{HttpLimits, ReqwestTransport};
use px_types::{AccessToken, Date, UserId};
use std::time::{Duration, Instant};

const TOKEN: &str = "tok-s3cret";

fn client(url: &str, change: impl FnOnce(&mut HttpLimits)) -> PartnerClient {
    let mut limits = HttpLimits::default();
    change(&mut limits);
    let mut retry = RetryPolicy::default();
    retry.min_wait = Duration::from_millis(1);
    retry.max_wait = Duration::from_millis(5);
    let transport = ReqwestTransport::new().unwrap();
    PartnerClient::builder(url, transport)
        .limits(limits)
        .retry(retry)
        .token(AccessToken::new(TOKEN))
        .build()
        .unwrap()
}

fn user_id() -> UserId {
    UserId::new("u-1").unwrap()
}

async fn user(client: &PartnerClient) -> Result<(), Error> {
    client.user(&user_id()).await.map(|_| ())
}

async fn history(client: &PartnerClient) -> (usize, Option<Error>) {
    let date = |d| Date::from_ymd(2024, 1, d).unwrap();
    let mut rows = client.transactions(&user_id(), date(1), date(31));
    let mut count = 0;
    while let Some(row) = rows.next().await {
        match row {
            Ok(_) => count += 1,
            Err(error) => return (count, Some(error)),
        }
    }
    (count, None)
}

/// Returns the error and the number of requests, if every response is this one.
async fn always(script: Script) -> (Error, usize) {
    let server = BadServer::start(move |_| script.clone());
    let error = user(&client(&server.url(), |_| {})).await.unwrap_err();
    let line = error.to_string();
    assert!(!line.contains(TOKEN) && !line.contains('\n'), "{line}");
    (error, server.requests())
}

#[tokio::test]
async fn lasting_faults_each_have_their_clear_error() {
    let nested = format!("{}{}", "[".repeat(65), "]".repeat(65));
    let html = "<html><body>tok-s3cret</body></html>";
    let text_html = "Content-Type: text/html; charset=utf-8\r\n";
    for (name, script, kind, text, requests) in [
        (
            "502 page",
            Script::response(502, text_html, html),
            ErrorKind::Api,
            "returned 502 with an HTML page instead of JSON",
            4,
        ),
        (
            "200 page",
            Script::response(200, text_html, html),
            ErrorKind::Decode,
            "returned 200 with an HTML page instead of JSON",
            1,
        ),
        (
            "wrong type",
            Script::response(200, "Content-Type: text/plain\r\n", USER),
            ErrorKind::Decode,
            "a body of text/plain instead of JSON",
            1,
        ),
        (
            "no type",
            Script::response(200, "", USER),
            ErrorKind::Decode,
            "without a content type",
            1,
        ),
        ("empty", Script::json(200, ""), ErrorKind::Decode, "an empty body", 1),
        (
            "deep",
            Script::json(200, nested),
            ErrorKind::Decode,
            "nested deeper than 64 levels; this is a fault of the partner",
            1,
        ),
        (
            "not the message",
            Script::json(
                200,
                r#"{"user_identity_id":"i","identities":[],"securities":[],"accounts":7}"#,
            ),
            ErrorKind::Decode,
            "at `accounts`: is a number; expected a list",
            1,
        ),
        ("garbage", Script::raw("\x00\x01garbage\r\n\r\n"), ErrorKind::Transport, "not HTTP", 4),
        (
            "redirect",
            Script::response(302, "Location: http://127.0.0.1:1/?token=tok-s3cret\r\n", ""),
            ErrorKind::Api,
            "returned 302, a redirect",
            1,
        ),
        (
            "cut",
            Script::raw(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n{",
            ),
            ErrorKind::Transport,
            "cut off",
            4,
        ),
        (
            "silent end",
            Script::raw(""),
            ErrorKind::Transport,
            "broke before there was a response",
            4,
        ),
        (
            "400",
            Script::error(400, "", "invalid_request"),
            ErrorKind::Api,
            "returned 400 invalid_request (a test message)",
            1,
        ),
        (
            "401",
            Script::error(401, "", "invalid_token"),
            ErrorKind::Auth,
            "get a new authorization",
            1,
        ),
        ("403", Script::error(403, "", "forbidden"), ErrorKind::Api, "does not allow this", 1),
        ("404", Script::error(404, "", "not_found"), ErrorKind::Api, "check the base URL", 1),
        ("echo", Script::error(400, "", TOKEN), ErrorKind::Api, "returned 400 ***", 1),
        (
            "500",
            Script::error(500, "X-Request-Id: req-7\r\n", "internal_error"),
            ErrorKind::Api,
            "(request id req-7)",
            4,
        ),
        (
            "echo in a request id",
            Script::response(200, "X-Request-Id: tok-s3cret\r\n", USER),
            ErrorKind::Decode,
            "(request id ***)",
            1,
        ),
        (
            "echo in the request id of a bad message",
            Script::response(
                200,
                "Content-Type: application/json\r\nX-Request-Id: tok-s3cret\r\n",
                "[]",
            ),
            ErrorKind::Decode,
            "(request id ***)",
            1,
        ),
        (
            "echo in a type",
            Script::response(200, "Content-Type: text/tok-s3cret\r\n", USER),
            ErrorKind::Decode,
            "a body of text/***",
            1,
        ),
        (
            "bad gzip",
            Script::response(
                200,
                "Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
                "not gzip",
            ),
            ErrorKind::Transport,
            "damaged",
            4,
        ),
    ] {
        let (error, made) = always(script).await;
        let line = error.to_string();
        assert_eq!((error.kind(), made), (kind, requests), "{name}: {line}");
        assert!(line.contains(text), "{name}: {line}");
    }
}

#[tokio::test]
async fn too_much_is_refused_early() {
    let limits = |limits: &mut HttpLimits| limits.max_body_bytes = 1 << 20;
    let big = vec![b' '; 2 << 20];
    let server = BadServer::start(move |_| Script::json(200, &big));
    let error = user(&client(&server.url(), limits)).await.unwrap_err();
    assert_eq!((error.kind(), server.requests()), (ErrorKind::Transport, 1));
    assert!(error.to_string().contains("more than 1048576 bytes of body"), "{error}");

    let header = format!("X-Large: {}\r\n", "x".repeat(65 << 10));
    let server = BadServer::start(move |_| {
        Script::response(200, &format!("Content-Type: application/json\r\n{header}"), USER)
    });
    let error = user(&client(&server.url(), |_| {})).await.unwrap_err();
    assert!(error.to_string().contains("headers"), "{error}");
}

#[tokio::test]
async fn a_gzip_bomb_is_stopped_by_its_unpacked_size() {
    let bomb = gzip_of_zeros(64);
    assert!(bomb.len() < 1 << 20, "{} bytes packed", bomb.len());
    let headers = "Content-Type: application/json\r\nContent-Encoding: gzip\r\n";
    let server = BadServer::start(move |_| Script::response(200, headers, &bomb));
    let error = user(&client(&server.url(), |_| {})).await.unwrap_err();
    assert!(error.to_string().contains("bytes of body"), "{error}");
    assert_eq!(server.requests(), 1);
}

/// Returns that many MiB of zeros as gzip.
fn gzip_of_zeros(mebibytes: usize) -> Vec<u8> {
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write as _;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..mebibytes {
        encoder.write_all(&vec![0; 1 << 20]).unwrap();
    }
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_slow_sender_is_cut() {
    let server = BadServer::start(|_| {
        let head =
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n";
        let mut pieces = vec![head.to_vec()];
        pieces.extend(vec![b" ".to_vec(); 500]);
        Script { pieces, pause: Duration::from_millis(20) }
    });
    #[allow(clippy::disallowed_methods, reason = "real sockets, real time")]
    let start = Instant::now();
    let client = client(&server.url(), |limits| {
        limits.request_timeout = Duration::from_millis(150);
    });
    let error = user(&client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("no complete response"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_fault_that_passes_is_survived() {
    for bad in [
        Script::error(500, "", "internal_error"),
        Script::error(408, "", "timeout"),
        Script::error(429, "Retry-After: 0\r\n", "too_many_requests"),
        Script::error(429, "", "too_many_requests"),
        Script::error(
            503,
            "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
            "institution_unavailable",
        ),
        Script::raw(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
        ),
        Script::raw(""),
    ] {
        let first = bad.clone();
        let server = BadServer::start(move |seen| match seen.number {
            0 | 1 => first.clone(),
            _ => Script::json(200, USER),
        });
        user(&client(&server.url(), |_| {})).await.unwrap_or_else(|e| panic!("{bad:?}: {e}"));
        assert_eq!(server.requests(), 3);
    }
}

#[tokio::test]
async fn a_wait_beyond_the_budget_ends_at_once_and_carries_it() {
    let body = r#"{"error":{"id":"institution_unavailable","message":"m"},"retry_at":"2099-01-02T03:04:05Z"}"#;
    let both = "Content-Type: application/json\r\nRetry-After: 3\r\n";
    let script = Script::response(503, both, body);
    let (error, requests) = always(script).await;
    assert_eq!(requests, 1);
    let at = "2099-01-02T03:04:05Z".parse().unwrap();
    assert_eq!(error.retry_at(), Some(at));
    assert!(error.to_string().contains("try again at 2099-01-02T03:04:05Z or later"), "{error}");

    let (error, requests) =
        always(Script::error(429, "Retry-After: 3600\r\n", "too_many_requests")).await;
    assert_eq!((error.status(), requests), (Some(429), 1));
    assert!(error.retry_at().is_some());
}

#[tokio::test]
async fn nothing_there() {
    let address = BadServer::start(|_| Script::raw("")).address;
    // The listener was closed with the server, so the port refuses connections.
    let error = loop {
        match user(&client(&format!("http://{address}/px"), |_| {})).await {
            Err(error) if error.kind() == ErrorKind::Connect => break error,
            _ => tokio::task::yield_now().await,
        }
    };
    assert!(!error.may_have_been_sent());
    assert_eq!(error.attempts(), 4);
    assert!(error.to_string().contains("cannot connect to 127.0.0.1:"), "{error}");
    assert!(error.to_string().contains("connection refused"), "{error}");
}

#[tokio::test]
async fn after_401_the_token_is_used_no_more() {
    let server = BadServer::start(|_| Script::error(401, "", "invalid_token"));
    let client = client(&server.url(), |_| {});
    let error = user(&client).await.unwrap_err();
    assert!(error.ends_token() && error.status() == Some(401));
    let error = user(&client.clone()).await.unwrap_err();
    assert!(error.ends_token() && !error.may_have_been_sent());
    assert_eq!(server.requests(), 1);
    // Another token of the same partner is not affected.
    let other = client.with_token(AccessToken::new("other"));
    assert_eq!(user(&other).await.unwrap_err().status(), Some(401));
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn after_401_calls_in_flight_are_abandoned() {
    let server = BadServer::start(|seen| match seen.number {
        0 => Script { pieces: vec![Vec::new()], pause: Duration::from_secs(20) },
        _ => Script::error(401, "", "invalid_token"),
    });
    let client = client(&server.url(), |_| {});
    let slow = tokio::spawn({
        let client = client.clone();
        async move { user(&client).await }
    });
    while server.requests() == 0 {
        tokio::task::yield_now().await;
    }
    user(&client).await.unwrap_err();
    let error = slow.await.unwrap().unwrap_err();
    assert!(error.ends_token() && error.may_have_been_sent(), "{error}");
}

#[tokio::test]
async fn an_unsafe_request_is_sent_once() {
    let server = BadServer::start(|_| Script::error(503, "", "institution_unavailable"));
    let client = PartnerClient::builder(server.url(), ReqwestTransport::new().unwrap())
        .client("c".parse().unwrap(), px_types::ClientSecret::new("s"))
        .build()
        .unwrap();
    let error = client.refresh(&px_types::RefreshToken::new("r")).await.unwrap_err();
    assert_eq!((error.status(), server.requests()), (Some(503), 1));
}

#[tokio::test]
async fn pages_that_do_not_fit() {
    type Respond = fn(&crate::bad_server::Seen) -> String;
    let cases: [(&str, Respond, usize, Option<PagingFault>); 10] = [
        (
            "empty page with a cursor goes on",
            |seen| match seen.query("cursor") {
                None => page(2, &["a"], Some("1")),
                Some("1") => page(2, &[], Some("2")),
                _ => page(2, &["b"], None),
            },
            2,
            None,
        ),
        ("repeated cursor", |_| page(9, &[], Some("1")), 0, Some(PagingFault::RepeatedCursor)),
        (
            "cursors without end",
            |seen| page(9, &[], Some(&seen.number.to_string())),
            0,
            Some(PagingFault::NoProgress),
        ),
        (
            "a total that settles",
            |seen| match (seen.number, seen.query("offset")) {
                (0, _) => page(3, &["a"], None),
                (_, None) => page(2, &["a"], None),
                _ => page(2, &["b"], None),
            },
            2,
            None,
        ),
        (
            "a total that never settles",
            |seen| page(10 + seen.number as u64, &["a"], None),
            0,
            Some(PagingFault::NeverSettled),
        ),
        // Every attempt finds the same row twice: it is one row.
        ("one id twice", |_| page(2, &["a", "a"], None), 1, None),
        (
            "one id for two rows of an account",
            |_| page(2, &["a", "a"], None).replacen("100.95", "200.95", 1),
            0,
            Some(PagingFault::NeverSettled),
        ),
        (
            "an empty page too early",
            |seen| match seen.query("offset") {
                None => page(3, &["a", "b"], None),
                _ => page(3, &[], None),
            },
            0,
            Some(PagingFault::NeverSettled),
        ),
        ("more than the total", |_| page(1, &["a", "b"], None), 0, Some(PagingFault::NeverSettled)),
        (
            "over the limit",
            |_| {
                let ids: Vec<_> = (0..501).map(|i| i.to_string()).collect();
                page(501, &ids.iter().map(String::as_str).collect::<Vec<_>>(), None)
            },
            0,
            Some(PagingFault::NeverSettled),
        ),
    ];
    for (name, response, rows, fault) in cases {
        let server = BadServer::start(move |seen| Script::json(200, response(seen)));
        let (count, error) = history(&client(&server.url(), |_| {})).await;
        assert_eq!(count, rows, "{name}");
        assert_eq!(error.and_then(|e| e.paging_fault()), fault, "{name}");
    }
}

#[tokio::test]
async fn an_expired_cursor_begins_the_window_again() {
    let server = BadServer::start(|seen| match (seen.number, seen.query("cursor")) {
        (_, None) => Script::json(200, page(2, &["a"], Some("c"))),
        (1, _) => Script::error(400, "", "cursor_expired"),
        _ => Script::json(200, page(2, &["b"], None)),
    });
    let (count, error) = history(&client(&server.url(), |_| {})).await;
    assert_eq!((count, error.map(|e| e.to_string())), (2, None));

    let server = BadServer::start(|seen| match seen.query("cursor") {
        None => Script::json(200, page(2, &["a"], Some("c"))),
        _ => Script::error(400, "", "cursor_expired"),
    });
    let (count, error) = history(&client(&server.url(), |_| {})).await;
    assert_eq!((count, server.requests()), (0, 8));
    assert_eq!(error.and_then(|e| e.paging_fault()), Some(PagingFault::NeverSettled));

    // A partner may return this for a first page too.
    let server = BadServer::start(|seen| match seen.number {
        0 => Script::error(400, "", "cursor_expired"),
        _ => Script::json(200, page(1, &["a"], None)),
    });
    let (count, error) = history(&client(&server.url(), |_| {})).await;
    assert_eq!((count, error.map(|e| e.to_string())), (1, None));
}

#[tokio::test]
async fn a_prefix_and_strange_ids_arrive_as_they_are() {
    let server = BadServer::start(|seen| {
        assert!(seen.target.starts_with("/px/v1/users/a%2Fb%20%C3%BC%25"), "{}", seen.target);
        assert!(seen.text.contains("authorization: Bearer tok-s3cret"));
        Script::json(200, USER)
    });
    let client = client(&format!("{}/px/v1/", server.url()), |_| {});
    client.user(&UserId::new("a/b ü%").unwrap()).await.unwrap();
}
