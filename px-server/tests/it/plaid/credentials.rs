//! Client credentials: in the headers or in the body, once, and correct.

use super::{
    CLIENT, OTHER, OTHER_SECRET, SECRET, Scripted, client_request, outcome, post, send, service,
    service_with, with_headers,
};
use async_trait::async_trait;
use px_core::ManualClock;
use px_server::{
    clients::{Client, Clients},
    guard::RateLimit,
    plaid::{PlaidService, PlaidServiceBuildError},
};
use px_types::{ClientId, ClientSecret, endpoint::list};
use serde_json::json;
use std::{error::Error as StdError, sync::Arc};

const PATH: &str = "/item/get";
const PLAIN: &str = r#"{"access_token":"a"}"#;
const ID: &str = "plaid-client-id";
const KEY: &str = "plaid-secret";

/// The name of a case, its headers, its body, and the status and the code of the response.
type Case<'t> = (&'t str, &'t [(&'static str, &'t str)], String, u16, &'t str);

fn body(id: &str, secret: &str) -> String {
    json!({ "access_token": "a", "client_id": id, "secret": secret }).to_string()
}

#[tokio::test]
async fn credentials_matrix() {
    let plain = || PLAIN.to_owned();
    let wrong = (401, "INVALID_API_KEYS");
    let twice = (400, "INVALID_HEADERS");
    let cases: &[Case<'_>] = &[
        ("none", &[], plain(), wrong.0, wrong.1),
        ("headers", &[(ID, CLIENT), (KEY, SECRET)], plain(), 200, ""),
        ("body", &[], body(CLIENT, SECRET), 200, ""),
        ("the id alone", &[(ID, CLIENT)], plain(), wrong.0, wrong.1),
        ("the secret alone", &[(KEY, SECRET)], plain(), wrong.0, wrong.1),
        ("wrong secret", &[(ID, CLIENT), (KEY, "x")], plain(), wrong.0, wrong.1),
        ("wrong secret, body", &[], body(CLIENT, "x"), wrong.0, wrong.1),
        ("unknown client", &[(ID, "x"), (KEY, SECRET)], plain(), wrong.0, wrong.1),
        ("another's secret", &[(ID, CLIENT), (KEY, OTHER_SECRET)], plain(), wrong.0, wrong.1),
        ("empty, headers", &[(ID, ""), (KEY, "")], plain(), wrong.0, wrong.1),
        ("empty, body", &[], body("", ""), wrong.0, wrong.1),
        ("empty headers, good body", &[(ID, ""), (KEY, "")], body(CLIENT, SECRET), 200, ""),
        ("good headers, empty body", &[(ID, CLIENT), (KEY, SECRET)], body("", ""), 200, ""),
        ("no id", &[(ID, ".."), (KEY, SECRET)], plain(), wrong.0, wrong.1),
        (
            "the same in both",
            &[(ID, CLIENT), (KEY, SECRET)],
            body(CLIENT, SECRET),
            twice.0,
            twice.1,
        ),
        ("another in both", &[(ID, CLIENT), (KEY, SECRET)], body(OTHER, "x"), twice.0, twice.1),
        (
            "half and half",
            &[(ID, CLIENT)],
            json!({ "access_token": "a", "secret": SECRET }).to_string(),
            twice.0,
            twice.1,
        ),
        ("two ids", &[(ID, CLIENT), (ID, CLIENT), (KEY, SECRET)], plain(), twice.0, twice.1),
        ("two secrets", &[(ID, CLIENT), (KEY, SECRET), (KEY, "x")], plain(), twice.0, twice.1),
        (
            "twice in the body",
            &[],
            format!(
                r#"{{"access_token":"a","client_id":"x","client_id":"{CLIENT}","secret":"{SECRET}"}}"#
            ),
            400,
            "INVALID_BODY",
        ),
        (
            "secret twice in the body",
            &[],
            format!(
                r#"{{"access_token":"a","client_id":"{CLIENT}","secret":"x","secret":"{SECRET}"}}"#
            ),
            400,
            "INVALID_BODY",
        ),
        ("a number", &[], r#"{"client_id":5,"secret":"s"}"#.to_owned(), 400, "INVALID_FIELD"),
        ("no JSON, nobody", &[], "{".to_owned(), 400, "INVALID_BODY"),
        ("no JSON, headers", &[(ID, CLIENT), (KEY, SECRET)], "{".to_owned(), 400, "INVALID_BODY"),
        ("no JSON, wrong headers", &[(ID, CLIENT), (KEY, "x")], "{".to_owned(), wrong.0, wrong.1),
        ("an array", &[], format!(r#"["{CLIENT}","{SECRET}"]"#), 400, "INVALID_BODY"),
        ("HTTP Basic", &[("authorization", "Basic eDp5")], plain(), wrong.0, wrong.1),
    ];
    let (service, plaid) = service();
    let mut good = 0;
    for (name, headers, body, status, code) in cases {
        let request = with_headers(post(PATH, body.clone()), headers);
        assert_eq!(outcome(&service, request).await, (*status, (*code).to_owned()), "{name}");
        good += usize::from(*status == 200);
        assert_eq!(plaid.calls().len(), good, "{name}: a refused request reached the method");
    }
}

/// Whatever is wrong with a client, the response is the same but for the request id.
#[tokio::test]
async fn an_unknown_client_is_not_distinguished_from_a_wrong_secret() {
    let (service, _) = service();
    let mut responses = Vec::new();
    for (id, secret) in [(CLIENT, "x"), ("nobody", SECRET), (OTHER, SECRET), ("nobody", "")] {
        let headers = [(ID, id), (KEY, secret), ("x-request-id", "fixed")];
        let (response, body) = send(&service, with_headers(post(PATH, PLAIN), &headers)).await;
        responses.push((response.status(), response.headers().clone(), body));
    }
    assert!(responses.windows(2).all(|pair| pair[0] == pair[1]), "{responses:?}");
}

#[tokio::test]
async fn no_endpoint_is_open_to_strangers() {
    let (service, plaid) = service();
    for meta in list::plaid() {
        let request = with_headers(post(meta.path, "{}"), &[(ID, CLIENT), (KEY, "x")]);
        let refused = outcome(&service, request).await;
        assert_eq!(refused, (401, "INVALID_API_KEYS".to_owned()), "{}", meta.id);
    }
    assert_eq!(plaid.calls(), []);
}

/// A registry that is not reachable.
struct Down;

#[async_trait]
impl Clients for Down {
    async fn find(&self, _: &ClientId) -> Result<Option<Client>, Box<dyn StdError + Send + Sync>> {
        Err("the registry is down".into())
    }

    async fn check_secret(
        &self,
        _: &ClientId,
        _: &ClientSecret,
    ) -> Result<bool, Box<dyn StdError + Send + Sync>> {
        Err("the registry is down".into())
    }
}

#[tokio::test]
async fn a_registry_that_is_down_is_503_and_never_401() {
    let (service, plaid) = service_with(|builder| builder.clients(Arc::new(Down)));
    let (response, body) = send(&service, client_request(PATH, PLAIN)).await;
    assert_eq!(response.status(), 503);
    assert_eq!(body["error_type"], "API_ERROR");
    assert!(!body.to_string().contains("registry"), "{body}");
    assert_eq!(plaid.calls(), []);
}

#[tokio::test]
async fn too_many_requests_of_one_client_are_429_and_say_how_long_to_wait() {
    let clock = ManualClock::new(chrono::DateTime::UNIX_EPOCH);
    let limit = RateLimit::per_minute(2).clock(Arc::new(clock.clone()));
    let (service, plaid) = service_with(|builder| builder.rate_limit(limit));
    for _ in 0..2 {
        assert_eq!(outcome(&service, client_request(PATH, PLAIN)).await.0, 200);
    }
    let (response, body) = send(&service, client_request(PATH, PLAIN)).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["retry-after"]),
        (429, &"30".parse().unwrap())
    );
    assert_eq!(
        (&body["error_type"], &body["error_code"]),
        (&json!("RATE_LIMIT_EXCEEDED"), &json!("RATE_LIMIT"))
    );
    assert_eq!(plaid.calls().len(), 2);
    // Other clients have their own limit.
    let other = [(ID, OTHER), (KEY, OTHER_SECRET)];
    assert_eq!(outcome(&service, with_headers(post(PATH, PLAIN), &other)).await.0, 200);
    clock.advance(chrono::TimeDelta::seconds(30));
    assert_eq!(outcome(&service, client_request(PATH, PLAIN)).await.0, 200);
}

/// A caller who knows a client's id must wait, and locks no client out.
#[tokio::test]
async fn wrong_secrets_are_429_after_a_while_and_the_right_one_is_let_in_all_the_same() {
    let clock = ManualClock::new(chrono::DateTime::UNIX_EPOCH);
    let limit = || RateLimit::per_minute(3).clock(Arc::new(clock.clone()));
    let (service, plaid) =
        service_with(|builder| builder.rate_limit(limit()).wrong_secrets(limit()));
    let guess = |id: &str| with_headers(post(PATH, PLAIN), &[(ID, id), (KEY, "x")]);
    for id in [CLIENT, "nobody"] {
        for _ in 0..3 {
            let refused = outcome(&service, guess(id)).await;
            assert_eq!(refused, (401, "INVALID_API_KEYS".into()));
        }
        for _ in 0..3 {
            let (response, body) = send(&service, guess(id)).await;
            assert_eq!(response.status(), 429);
            assert_eq!(response.headers()["retry-after"], "20");
            assert_eq!(body["error_code"], "RATE_LIMIT");
        }
    }
    // In the body they count as well.
    assert_eq!(outcome(&service, post(PATH, body(CLIENT, "y"))).await.0, 429);
    for _ in 0..3 {
        assert_eq!(outcome(&service, client_request(PATH, PLAIN)).await.0, 200);
    }
    assert_eq!(plaid.calls().len(), 3);
    // The client's own calls are used up now; the wrong secrets for another client are not.
    assert_eq!(outcome(&service, client_request(PATH, PLAIN)).await.0, 429);
    assert_eq!(outcome(&service, guess(OTHER)).await.0, 401);
    clock.advance(chrono::TimeDelta::seconds(20));
    assert_eq!(outcome(&service, guess(CLIENT)).await.0, 401);
    assert_eq!(outcome(&service, guess(CLIENT)).await.0, 429);
}

#[tokio::test]
async fn wrong_secrets_are_limited_without_being_asked_for() {
    let (service, _) = service();
    let guess = || with_headers(post(PATH, PLAIN), &[(ID, CLIENT), (KEY, "x")]);
    let mut last = 401;
    for _ in 0..100 {
        last = outcome(&service, guess()).await.0;
    }
    assert_eq!(last, 429);
    assert_eq!(outcome(&service, client_request(PATH, PLAIN)).await.0, 200);
}

/// A route beside the API: the same rules, and one limit for both.
#[tokio::test]
async fn other_routes_let_clients_in_by_the_same_rules() {
    let clock = ManualClock::new(chrono::DateTime::UNIX_EPOCH);
    let limit = RateLimit::per_minute(2).clock(Arc::new(clock.clone()));
    let (service, _) = service_with(|builder| builder.rate_limit(limit));
    let shows = |headers: &[(&'static str, &str)]| {
        with_headers(post(PATH, PLAIN), headers).into_parts().0.headers
    };
    let good = shows(&[(ID, CLIENT), (KEY, SECRET)]);
    let client = service.authenticate(&good, PLAIN.as_bytes(), None).await.unwrap();
    assert_eq!(client.as_str(), CLIENT);
    let mut twice = good.clone();
    twice.append(ID, OTHER.parse().unwrap());
    let both = body(CLIENT, SECRET);
    for (headers, body, status) in [
        (&shows(&[(ID, CLIENT), (KEY, "x")]), PLAIN, 401),
        (&twice, PLAIN, 400),
        (&good, &*both, 400),
    ] {
        let refused = service.authenticate(headers, body.as_bytes(), None).await.unwrap_err();
        assert_eq!(refused.status().as_u16(), status);
    }
    assert_eq!(outcome(&service, client_request(PATH, PLAIN)).await.0, 200);
    let spent = service.authenticate(&good, PLAIN.as_bytes(), None).await.unwrap_err();
    assert_eq!(spent.status(), 429);
}

#[test]
fn a_service_that_nobody_can_call_is_not_built() {
    let builder = || PlaidService::builder(Scripted::default());
    assert_eq!(builder().build().unwrap_err(), PlaidServiceBuildError::NoClients);
    let zero = builder().clients(super::clients()).max_body(0);
    assert_eq!(zero.build().unwrap_err(), PlaidServiceBuildError::ZeroLimit);
}
