//! Requests that are refused before a method runs, and responses when one fails.

use super::{
    CLIENT, OTHER_SECRET, SECRET, client_request, outcome, post, send, service, service_with,
    vector, with_headers,
};
use crate::log::Log;
use bytes::Bytes;
use http::{Method, Request, Version};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use px_server::plaid::Error;
use px_types::{endpoint::list, model::plaid_error::PlaidErrorType};
use serde_json::json;
use tower::ServiceExt as _;

const PATH: &str = "/item/get";
const PLAIN: &str = r#"{"access_token":"a"}"#;

fn item_request(token: &str) -> Request<Full<Bytes>> {
    client_request(PATH, json!({ "access_token": token }).to_string())
}

/// A row of the table: name, request, status, type and code.
type Case<'t> = (&'t str, Request<Full<Bytes>>, u16, &'t str, &'t str);

#[tokio::test]
async fn refusals_have_plaids_types_and_codes() {
    let typed = |value: &'static str| {
        let mut request = client_request(PATH, PLAIN);
        request.headers_mut().insert("content-type", value.parse().unwrap());
        request
    };
    let mut untyped = client_request(PATH, PLAIN);
    untyped.headers_mut().remove("content-type");
    let mut two_hosts = client_request(PATH, PLAIN);
    two_hosts.headers_mut().append("host", "b".parse().unwrap());
    let mut http2 = client_request(PATH, PLAIN);
    http2.headers_mut().remove("host");
    *http2.version_mut() = Version::HTTP_2;
    let many: Vec<_> = (0..100).map(|_| ("x-other", "1")).collect();
    let long = "x".repeat(32 << 10);
    let large = format!(r#"{{"access_token":"{}"}}"#, "a".repeat(1 << 20));
    const INVALID: &str = "INVALID_REQUEST";
    let cases: Vec<Case<'_>> = vec![
        ("no such path", post("/nothing", "{}"), 404, INVALID, "NOT_FOUND"),
        ("a partner's path", post("/users/auth_token", "{}"), 404, INVALID, "NOT_FOUND"),
        ("slash at the end", post("/item/get/", "{}"), 404, INVALID, "NOT_FOUND"),
        ("part of a path", post("/item", "{}"), 404, INVALID, "NOT_FOUND"),
        ("no kind", untyped, 415, INVALID, "INVALID_HEADERS"),
        ("a form", typed("application/x-www-form-urlencoded"), 415, INVALID, "INVALID_HEADERS"),
        ("latin 1", typed("application/json; charset=latin1"), 415, INVALID, "INVALID_HEADERS"),
        (
            "compressed",
            with_headers(client_request(PATH, PLAIN), &[("content-encoding", "gzip")]),
            415,
            INVALID,
            "INVALID_HEADERS",
        ),
        ("too large", client_request(PATH, large), 413, INVALID, "INVALID_BODY"),
        (
            "long header",
            with_headers(client_request(PATH, PLAIN), &[("x-other", &long)]),
            431,
            INVALID,
            "INVALID_HEADERS",
        ),
        (
            "many headers",
            with_headers(client_request(PATH, PLAIN), &many),
            431,
            INVALID,
            "INVALID_HEADERS",
        ),
        ("two hosts", two_hosts, 400, INVALID, "INVALID_HEADERS"),
        ("unknown token", item_request("unknown"), 400, "INVALID_INPUT", "INVALID_ACCESS_TOKEN"),
    ];
    let (service, plaid) = service();
    for (name, request, status, kind, code) in cases {
        let (response, body) = send(&service, request).await;
        assert_eq!(response.status().as_u16(), status, "{name}");
        assert_eq!(
            (&body["error_type"], &body["error_code"]),
            (&json!(kind), &json!(code)),
            "{name}"
        );
        assert!(!body["error_message"].as_str().unwrap().is_empty(), "{name}");
    }
    assert_eq!(plaid.calls(), []);
    // These are valid: HTTP/2 has no `Host`, and an encoded letter means the letter.
    for request in
        [http2, typed("Application/JSON; charset=UTF-8"), client_request("/%69tem/get", PLAIN)]
    {
        assert_eq!(outcome(&service, request).await.0, 200);
    }
}

#[tokio::test]
async fn other_methods_are_405_on_every_path_and_name_the_one_there_is() {
    let (service, plaid) = service();
    for meta in list::plaid() {
        for method in [Method::GET, Method::PUT, Method::DELETE, Method::OPTIONS] {
            let mut request = client_request(meta.path, "");
            *request.method_mut() = method.clone();
            let (response, body) = send(&service, request).await;
            assert_eq!(response.status(), 405, "{method} {}", meta.path);
            assert_eq!(response.headers()["allow"], "POST");
            assert_eq!(body["error_type"], "INVALID_REQUEST");
        }
        let mut head = client_request(meta.path, "");
        *head.method_mut() = Method::HEAD;
        let response = service.clone().oneshot(head).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["allow"]),
            (405, &"POST".parse().unwrap())
        );
        assert_ne!(response.headers()["content-length"], "0");
        assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
    }
    assert_eq!(plaid.calls(), []);
}

#[tokio::test]
async fn a_body_that_is_cut_off_or_says_no_length_is_no_way_around_the_limits() {
    let (service, plaid) = service_with(|builder| builder.max_body(100));
    let of = |frames: Vec<Result<Frame<Bytes>, &'static str>>| {
        let request = client_request(PATH, "");
        request.map(|_| StreamBody::new(futures_util::stream::iter(frames)))
    };
    let data = |bytes: usize| Ok(Frame::data(Bytes::from(vec![b' '; bytes])));
    for (frames, status) in
        [(vec![data(60), data(60)], 413), (vec![data(60), Err("reset by the peer")], 400)]
    {
        let response = service.clone().oneshot(of(frames)).await.unwrap();
        assert_eq!(response.status(), status);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["error_code"], "INVALID_BODY");
        assert!(!body.to_string().contains("peer"));
    }
    assert_eq!(plaid.calls(), []);
}

#[tokio::test]
async fn a_good_request_id_is_kept_and_a_bad_one_replaced() {
    let (service, plaid) = service();
    let with_id = |id| with_headers(client_request(PATH, PLAIN), &[("x-request-id", id)]);
    // `send` compares header and body.
    assert_eq!(send(&service, with_id("mine_1-A")).await.1["request_id"], "mine_1-A");
    for bad in ["has space", "x/y", ""] {
        let (_, body) = send(&service, with_id(bad)).await;
        assert_eq!(body["request_id"].as_str().unwrap().len(), 32);
    }
    let seen: Vec<_> = plaid.calls().into_iter().map(|seen| seen.request_id).collect();
    assert_eq!(seen[0], "mine_1-A");
    assert_eq!(seen.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
}

#[tokio::test]
async fn a_panic_is_answered_500_and_the_service_lives_on() {
    let (service, _) = service();
    let (response, body) = send(&service, item_request("panics")).await;
    assert_eq!(response.status(), 500);
    assert_eq!(
        (&body["error_type"], &body["error_code"]),
        (&json!("API_ERROR"), &json!("INTERNAL_SERVER_ERROR"))
    );
    assert!(!body.to_string().contains("panic"), "{body}");
    assert_eq!(outcome(&service, client_request(PATH, PLAIN)).await.0, 200);
}

#[tokio::test]
async fn a_cause_is_logged_once_under_the_request_id_and_answered_never() {
    let (log, guard) = Log::capture();
    let (service, _) = service();
    let request = with_headers(item_request("fails"), &[("x-request-id", "id-of-the-failure")]);
    let (response, body) = send(&service, request).await;
    let (down, _) = send(&service, item_request("down")).await;
    drop(guard);
    assert_eq!(response.status(), 500);
    assert!(!body.to_string().contains("cause"), "{body}");
    assert_eq!(
        (down.status().as_u16(), &down.headers()["retry-after"]),
        (503, &"2".parse().unwrap())
    );
    let text = log.text();
    let lines: Vec<_> =
        text.lines().filter(|line| line.contains("a cause for the log alone")).collect();
    assert!(matches!(lines[..], [line] if line.contains("id-of-the-failure")), "{text}");
}

/// No log contains a secret.
#[tokio::test]
async fn secrets_are_in_no_log() {
    let (log, guard) = Log::capture();
    let (service, _) = service();
    for meta in list::plaid() {
        let good = vector(meta.id, "request");
        assert_eq!(outcome(&service, post(meta.path, good.to_string())).await.0, 200);
        // The wrong secret, in the headers; an additional field; a body that ends early.
        let forged = [("plaid-client-id", CLIENT), ("plaid-secret", OTHER_SECRET)];
        outcome(&service, with_headers(post(meta.path, good.to_string()), &forged)).await;
        let mut broken = good.to_string();
        broken.truncate(broken.len() - 2);
        outcome(&service, client_request(meta.path, broken)).await;
        let mut odd = good.clone();
        odd["access_token"] = json!(["access-4f1c9a5e"]);
        odd["products"] = json!("bank-token-6cc4f2b8");
        outcome(&service, post(meta.path, odd.to_string())).await;
    }
    for token in ["fails", "panics", "unknown"] {
        outcome(&service, item_request(token)).await;
    }
    drop(guard);
    let text = log.text();
    assert!(text.contains("operation=\"import\"") && text.contains("refused"), "{text}");
    for secret in [
        SECRET,
        OTHER_SECRET,
        "access-4f1c9a5e",
        "access-9b27d3e0",
        "access-d6a8e15b",
        "bank-token-6cc4f2b8",
        "public-08e6b1d3",
        "link-c2f9047a",
        "target-app-b5d1",
        "sign-in-state-2e",
        "user-1043",
        "account-checking",
    ] {
        assert!(!text.contains(secret), "{secret} is logged:\n{text}");
    }
}

#[test]
fn an_error_shows_its_public_half_and_no_more() {
    let error = Error::new(PlaidErrorType::ItemError, "ITEM_LOGIN_REQUIRED", "Sign in again.")
        .with_display_message("Please sign in again.")
        .with_source("access-4f1c9a5e was revoked");
    let shown = format!("{error} {error:?}");
    assert!(shown.contains("ITEM_LOGIN_REQUIRED") && !shown.contains("4f1c9a5e"), "{shown}");
    let body = serde_json::to_value(error.to_plaid_error("r1")).unwrap();
    let expected = json!({
        "error_type": "ITEM_ERROR", "error_code": "ITEM_LOGIN_REQUIRED", "status": 400,
        "error_message": "Sign in again.", "display_message": "Please sign in again.",
        "request_id": "r1",
    });
    assert_eq!(body, expected);
    let source = std::error::Error::source(&error).map(ToString::to_string);
    assert_eq!(source.as_deref(), Some("access-4f1c9a5e was revoked"));
}
