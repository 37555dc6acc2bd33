//! The service over a small bank: the behavior that is implemented once for every partner.

use crate::bank::{self, Behaviour, body, get, json, post, send};
use http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use px_server::{PermittedAccounts, ResponseCheck};
use px_types::{AccountId, ScopeSet};
use std::collections::BTreeSet;

/// A row of the table: name, request, status, error id, and a text that the message contains.
type Refused<'t> = (&'t str, Request<Full<bytes::Bytes>>, u16, &'t str, &'t str);

const WINDOW: &str = "start_date=2024-01-01&end_date=2024-01-31";

/// `px.md` 2.3, row by row: request, status, error id, and a text that the message contains.
#[tokio::test]
async fn negative_cases() {
    let service = bank::service();
    let page = |query: &str| get(&format!("/users/u1/transactions?{query}"), Some("t1"));
    let cases: Vec<Refused<'_>> = vec![
        ("no such path", get("/nothing", None), 404, "not_found", ""),
        ("no user in the path", get("/users//transactions", None), 404, "not_found", ""),
        ("slash at the end", get("/users/u1/", Some("t1")), 404, "not_found", ""),
        ("broken percent-encoding", get("/users/%zz", Some("t1")), 404, "not_found", ""),
        ("credentials mode is off", post("/users/auth_token", "{}"), 404, "not_found", ""),
        ("credentials mode is off", post("/users/u1/2fa", "{}"), 404, "not_found", ""),
        ("no OAuth", post("/oauth2/token", ""), 404, "not_found", ""),
        ("other method", post("/users/u1", ""), 405, "method_not_allowed", "GET, HEAD"),
        ("other method before token", post("/users/u2", ""), 405, "method_not_allowed", ""),
        ("no token", get("/users/u1", None), 401, "invalid_token", ""),
        ("no token, unknown user", get("/users/nobody", None), 401, "invalid_token", ""),
        (
            "no token before parameters",
            get("/users/u1/transactions?limit=0", None),
            401,
            "invalid_token",
            "",
        ),
        ("unknown token", get("/users/u1", Some("nope")), 401, "invalid_token", ""),
        ("malformed token", get("/users/u1", Some("a b")), 401, "invalid_token", ""),
        ("foreign user", get("/users/u2", Some("t1")), 403, "forbidden", ""),
        ("unknown user", get("/users/nobody", Some("t1")), 403, "forbidden", ""),
        ("user that is no id", get("/users/%2e%2e", Some("t1")), 403, "forbidden", ""),
        ("user with a control character", get("/users/a%00b", Some("t1")), 403, "forbidden", ""),
        (
            "forbidden before parameters",
            get("/users/u2/transactions?limit=0", Some("t1")),
            403,
            "forbidden",
            "",
        ),
        (
            "scope lacks",
            get(&format!("/users/u1/transactions?{WINDOW}"), Some("no-transactions")),
            403,
            "insufficient_scope",
            "transactions",
        ),
        (
            "scope lacks",
            get("/users/u1", Some("no-accounts")),
            403,
            "insufficient_scope",
            "accounts",
        ),
        ("limit zero", page(&format!("{WINDOW}&limit=0")), 400, "invalid_request", "limit"),
        ("limit too large", page(&format!("{WINDOW}&limit=501")), 400, "invalid_request", "limit"),
        (
            "limit is no number",
            page(&format!("{WINDOW}&limit=ten")),
            400,
            "invalid_request",
            "limit",
        ),
        ("offset negative", page(&format!("{WINDOW}&offset=-1")), 400, "invalid_request", "offset"),
        (
            "offset and cursor",
            page(&format!("{WINDOW}&offset=0&cursor=x")),
            400,
            "invalid_request",
            "cursor",
        ),
        (
            "limit twice",
            page(&format!("{WINDOW}&limit=1&limit=1")),
            400,
            "invalid_request",
            "limit",
        ),
        ("start missing", page("end_date=2024-01-31"), 400, "invalid_request", "start_date"),
        ("end missing", page("start_date=2024-01-31"), 400, "invalid_request", "end_date"),
        (
            "no such day",
            page("start_date=2024-02-30&end_date=2024-03-01"),
            400,
            "invalid_request",
            "start_date",
        ),
        (
            "wrong order",
            page("start_date=2024-02-02&end_date=2024-02-01"),
            400,
            "invalid_request",
            "start_date",
        ),
        ("not UTF-8", page(&format!("{WINDOW}&limit=%ff")), 400, "invalid_request", "UTF-8"),
    ];
    for (name, request, status, id, names) in cases {
        let response = send(&service, request).await;
        assert_eq!(response.status(), status, "{name}");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json", "{name}");
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store", "{name}");
        let request_id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        let body = json(response).await;
        assert_eq!(body["error"]["id"], id, "{name}");
        assert_eq!(body["request_id"], request_id, "{name}");
        let text = body["error"]["message"].as_str().unwrap();
        assert!(text.contains(names), "{name}: {text}");
    }
}

/// RFC 6750 section 3: each refusal names its kind.
#[tokio::test]
async fn challenge_header() {
    let service = bank::service();
    for (path, token, expected) in [
        ("/users/u1", None, "Bearer realm=\"px\""),
        ("/users/u1", Some("nope"), "Bearer realm=\"px\", error=\"invalid_token\""),
        ("/users/u2", Some("t1"), "Bearer error=\"insufficient_scope\""),
        ("/users/u1", Some("no-accounts"), "Bearer error=\"insufficient_scope\""),
    ] {
        let response = send(&service, get(path, token)).await;
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], expected, "{path} {token:?}");
    }
}

/// Every route with own, foreign and unknown user: the responses for foreign and unknown are equal.
#[tokio::test]
async fn bola_matrix() {
    let service = bank::service();
    for suffix in ["", &format!("/transactions?{WINDOW}"), "/transactions?limit=0", "/transactions"]
    {
        for (token, own) in [("t1", "u1"), ("t2", "u2")] {
            let foreign = if own == "u1" { "u2" } else { "u1" };
            let mut responses = Vec::new();
            for user in [foreign, "nobody", "%2e", "x%2Fy", "U1", "u1%20", "t1"] {
                let mut request = get(&format!("/users/{user}{suffix}"), Some(token));
                request.headers_mut().insert("x-request-id", "fixed".parse().unwrap());
                let response = send(&service, request).await;
                let (parts, body) = (response.status(), response.headers().clone());
                responses.push((user, parts, body, self::body(response).await));
            }
            for (user, status, headers, body) in &responses {
                assert_eq!(*status, StatusCode::FORBIDDEN, "{user}{suffix}");
                assert_eq!((headers, body), (&responses[0].2, &responses[0].3), "{user}{suffix}");
            }
            let own = send(&service, get(&format!("/users/{own}{suffix}"), Some(token))).await;
            assert_ne!(own.status(), StatusCode::FORBIDDEN);
        }
    }
}

#[tokio::test]
async fn two_authorization_headers_and_hosts() {
    let service = bank::service();
    let mut request = get("/users/u1", Some("t1"));
    request.headers_mut().append(header::AUTHORIZATION, "Bearer t1".parse().unwrap());
    assert_eq!(send(&service, request).await.status(), 400);
    let mut request = get("/users/u1", Some("t1"));
    request.headers_mut().append(header::HOST, "other".parse().unwrap());
    assert_eq!(send(&service, request).await.status(), 400);
    let mut request = get("/users/u1", Some("t1"));
    request.headers_mut().remove(header::HOST);
    assert_eq!(send(&service, request).await.status(), 400);
}

#[tokio::test]
async fn limits_of_headers() {
    let service = bank::service();
    let mut request = get("/users/u1", Some("t1"));
    request.headers_mut().insert("x-big", "a".repeat(33 << 10).parse().unwrap());
    assert_eq!(send(&service, request).await.status(), 431);
    let mut request = get("/users/u1", Some("t1"));
    for _ in 0..100 {
        request.headers_mut().append("x-many", "a".parse().unwrap());
    }
    assert_eq!(send(&service, request).await.status(), 431);
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let service = bank::service();
    let full = send(&service, get("/users/u1", Some("t1"))).await;
    let mut request = get("/users/u1", Some("t1"));
    *request.method_mut() = Method::HEAD;
    let head = send(&service, request).await;
    assert_eq!(head.status(), 200);
    assert_eq!(head.headers()[header::CONTENT_LENGTH], full.headers()[header::CONTENT_LENGTH]);
    assert!(body(head).await.is_empty());
}

#[tokio::test]
async fn the_callers_request_id_is_kept() {
    let service = bank::service();
    let mut request = get("/users/u1", Some("t1"));
    request.headers_mut().insert("x-request-id", "my-id_9".parse().unwrap());
    assert_eq!(send(&service, request).await.headers()["x-request-id"], "my-id_9");
}

#[tokio::test]
async fn an_encoded_user_id_is_the_same_user() {
    let service = bank::service();
    assert_eq!(send(&service, get("/users/%751", Some("t1"))).await.status(), 200);
    assert_eq!(send(&service, get("/users/u%201%2F%C3%BC", Some("odd"))).await.status(), 200);
}

#[tokio::test]
async fn the_user_of_a_token() {
    let service = bank::service();
    let response = json(send(&service, get("/customers/current", Some("no-accounts"))).await).await;
    assert_eq!(response, serde_json::json!({ "user_id": "u1" }));
}

/// A grant over one account: nothing of other accounts is shown, counts included, whether or not
/// the bank filters.
#[tokio::test]
async fn grant_filter() {
    for behaviour in [Behaviour::Plain, Behaviour::Filters] {
        let service = bank::service_with(behaviour, |builder| builder);
        let user = json(send(&service, get("/users/u1", Some("one-account"))).await).await;
        let ids = |list: &serde_json::Value| -> Vec<String> {
            list.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().into()).collect()
        };
        assert_eq!(ids(&user["accounts"]), ["a1"]);
        assert_eq!(ids(&user["identities"]), ["i1"], "the other account's holder is not seen");
        assert_eq!(ids(&user["securities"]), Vec::<String>::new());

        let all = json(
            send(&service, get(&format!("/users/u1/transactions?{WINDOW}&limit=500"), Some("t1")))
                .await,
        )
        .await;
        assert_eq!(all["total"], 700);
        let mut seen = Vec::new();
        for offset in (0..400).step_by(100) {
            let path = format!("/users/u1/transactions?{WINDOW}&offset={offset}");
            let page = json(send(&service, get(&path, Some("one-account"))).await).await;
            assert_eq!(page["total"], 350, "{behaviour:?}");
            for row in page["transactions"].as_array().unwrap() {
                assert_eq!(row["account_id"], "a1");
                seen.push(row["id"].as_str().unwrap().to_owned());
            }
            assert!(page.get("securities").is_none());
        }
        let distinct: BTreeSet<_> = seen.iter().collect();
        assert_eq!((seen.len(), distinct.len()), (350, 350));
    }
}

/// A bank that declares filtering but does not filter: nothing is sent.
#[tokio::test]
async fn a_bank_that_breaks_its_word_is_not_believed() {
    let service = bank::service_with(Behaviour::ClaimsToFilter, |builder| builder);
    let path = format!("/users/u1/transactions?{WINDOW}");
    let response = send(&service, get(&path, Some("one-account"))).await;
    assert_eq!(response.status(), 500);
    assert_eq!(send(&service, get(&path, Some("t1"))).await.status(), 200);
}

#[tokio::test]
async fn a_panic_is_answered_and_the_server_lives_on() {
    let service = bank::service();
    let response = send(&service, get("/users/panics", Some("panics"))).await;
    assert_eq!(response.status(), 500);
    assert!(response.headers().contains_key("x-request-id"));
    assert_eq!(json(response).await["error"]["id"], "internal_error");
    assert_eq!(send(&service, get("/users/u1", Some("t1"))).await.status(), 200);
}

#[tokio::test]
async fn failures_of_the_bank() {
    let service = bank::service();
    let response = send(&service, get("/users/fails", Some("fails"))).await;
    assert_eq!(response.status(), 500);
    let text = String::from_utf8(body(response).await.to_vec()).unwrap();
    assert!(!text.contains("secret cause"), "{text}");

    let response = send(&service, get("/users/down", Some("down"))).await;
    assert_eq!(response.status(), 503);
    let wait: u64 = response.headers()[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert_eq!(wait, 90);
    let response = json(response).await;
    assert_eq!(response["error"]["id"], "institution_unavailable");
    assert_eq!(response["retry_at"], "2024-06-01T12:01:30Z");
}

/// A failing token store gives 503, never 401, because a 401 would end the Item.
#[tokio::test]
async fn a_failing_token_store_ends_no_item() {
    let service = bank::service();
    let response = send(&service, get("/users/u1", Some("store-down"))).await;
    assert_eq!(response.status(), 503);
    assert!(!response.headers().contains_key(header::WWW_AUTHENTICATE));
}

/// A core system that refuses the bank's own sign-in does not end the user's Item.
#[tokio::test]
async fn a_refused_sign_in_of_the_banks_own_ends_no_item() {
    let service = bank::service();
    let response = send(&service, get("/users/refuses", Some("refuses"))).await;
    assert_eq!(response.status(), 500);
    assert!(!response.headers().contains_key(header::WWW_AUTHENTICATE));
    assert_eq!(json(response).await["error"]["id"], "internal_error");
}

#[tokio::test]
async fn the_response_check_sees_a_broken_answer() {
    let broken = |check| {
        bank::service_with(Behaviour::Unsorted, move |builder| builder.response_check(check))
    };
    let path = format!("/users/u1/transactions?{WINDOW}");
    let response = send(&broken(ResponseCheck::Refuse), get(&path, Some("t1"))).await;
    assert_eq!(response.status(), 500);
    for check in [ResponseCheck::Log, ResponseCheck::Off] {
        assert_eq!(send(&broken(check), get(&path, Some("t1"))).await.status(), 200);
    }
}

#[tokio::test]
async fn too_many_requests() {
    let service = bank::service_with(Behaviour::Plain, |builder| {
        builder.rate_limit(px_server::guard::RateLimit::per_second(2).clock(bank::clock()))
    });
    let mut last = None;
    for _ in 0..3 {
        last = Some(send(&service, get("/users/u1", Some("t1"))).await);
    }
    let refused = last.unwrap();
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()[header::RETRY_AFTER], "1");
    assert_eq!(json(refused).await["error"]["id"], "too_many_requests");
    assert_eq!(send(&service, get("/users/u2", Some("t2"))).await.status(), 200, "another user");
}

#[test]
fn a_grant_names_its_accounts() {
    let only = PermittedAccounts::Only([AccountId::new("a1").unwrap()].into());
    assert!(only.allows(&AccountId::new("a1").unwrap()));
    assert!(!only.allows(&AccountId::new("a2").unwrap()));
    assert!(ScopeSet::defaults().allows("accounts"));
}

#[tokio::test]
async fn the_line_of_a_panic_has_the_request_id_as_its_own_field() {
    let (log, guard) = crate::log::Log::capture();
    let mut request = bank::get("/users/panics", Some("panics"));
    request.headers_mut().insert("x-request-id", "the-request".parse().unwrap());
    let response = bank::send(&bank::service(), request).await;
    assert_eq!(response.status(), 500);
    drop(guard);
    let text = log.text();
    let line = text.lines().find(|line| line.contains("panicked")).unwrap();
    // In the event itself and not only in the span, because a log of errors has no spans.
    let (_, own) = line.split_once("panicked").unwrap();
    assert!(own.contains("the-request"), "{line}");
}
