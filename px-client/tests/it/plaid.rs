//! The client of Plaid: every endpoint, and Plaid's failures.

use crate::{
    bad_server::{BadServer, Script},
    plaid_world::{Fate, SECRET, World},
    round_trip::Echo,
};
use proptest::prelude::*;
use px_client::{Error, ErrorKind, PartnerClient, PlaidClient, RetryPolicy, is_repeated};
use px_core::{InProcessTransport, ReqwestTransport};
use px_types::{
    ClientSecret, Endpoint, ItemAccessToken,
    endpoint::codec::{self, ResponseBody as _},
    model::plaid_error::PlaidErrorType,
    partner::GetCurrentUser,
    plaid::*,
    testing::{Sample, Seed},
};
use serde_json::Value;
use std::{error::Error as _, fmt::Debug, time::Duration};

const TOKEN: &str = "access-s3cret";

fn client(url: &str) -> PlaidClient {
    let mut retry = RetryPolicy::default();
    retry.min_wait = Duration::from_millis(1);
    retry.max_wait = Duration::from_millis(5);
    PlaidClient::builder(url, ReqwestTransport::new().unwrap())
        .client("the-bank".parse().unwrap(), ClientSecret::new(SECRET))
        .retry(retry)
        .build()
        .unwrap()
}

async fn list(client: &PlaidClient) -> Result<ListApplicationsResponse, Error> {
    client.list_applications(ListApplications::new(ItemAccessToken::new(TOKEN))).await
}

fn echo_client<E>(echo: &Echo<E>) -> PlaidClient
where
    E: Endpoint + Clone,
    E::Response: Clone + Sync,
{
    PlaidClient::builder("http://plaid.test/api/..", InProcessTransport::new(echo.clone()))
        .client("the-bank".parse().unwrap(), ClientSecret::new(SECRET))
        .build()
        .unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

macro_rules! every_endpoint {
    ($($name:ident => $endpoint:ty,)+) => {
        mod by_its_method {
            use super::*;
            proptest! {
                #![proptest_config(ProptestConfig::with_cases(32))]
                $(#[test] fn $name(seed: u64) {
                    let seed = &mut Seed::new(seed);
                    let (request, response) =
                        (<$endpoint>::request(seed), <$endpoint>::response(seed));
                    let echo = Echo::<$endpoint>::responding(response.clone());
                    let client = echo_client(&echo);
                    let read = runtime().block_on(client.$name(request.clone())).unwrap();
                    prop_assert_eq!(read, response);
                    prop_assert_eq!(echo.take(), Some(request));
                })+
            }
        }

        /// The samples of px-types as JSON through the client: requests and responses.
        #[test]
        fn every_fixture_goes_through() {
            let all: Value = serde_json::from_str(include_str!(
                "../../../px-types/tests/fixtures/samples.json"
            ))
            .unwrap();
            $(fixture::<$endpoint>(&all[stringify!($name)]);)+
        }

        /// A call that Plaid may have processed is repeated exactly if the table says so.
        #[tokio::test(start_paused = true)]
        async fn only_what_is_safe_is_repeated() {
            let busy = Fate::Response(503, &[], "");
            for fate in [busy, Fate::AnswerIsLost, Fate::NotConnected] {
                $({
                    let world = World::new();
                    let now = fate.clone();
                    world.network(move |_, _| now.clone());
                    let request = <$endpoint>::request(&mut Seed::new(7));
                    let error = world.client().$name(request).await.unwrap_err();
                    let surely_not_sent = matches!(fate, Fate::NotConnected);
                    let calls = if is_repeated(stringify!($name)) || surely_not_sent { 4 } else { 1 };
                    assert_calls(&world, calls, stringify!($name), &error);
                    assert_eq!(error.may_have_been_sent(), !surely_not_sent);
                })+
            }
        }
    };
}

fn assert_calls(world: &World, calls: u64, name: &str, error: &Error) {
    assert_eq!((world.calls(), error.attempts()), (calls, calls as u32), "{name}: {error}");
}

px_types::for_each_plaid_endpoint!(every_endpoint);

fn fixture<E>(sample: &Value)
where
    E: Sample + Clone + Debug + PartialEq + Sync,
    E::Response: Clone + Debug + PartialEq + Sync,
{
    let bytes = |value: &Value| value.to_string().into_bytes();
    for response in sample["response"].as_array().unwrap() {
        let response = E::Response::decode(&bytes(response)).unwrap();
        for request in sample["request"].as_array().unwrap() {
            let request: E = codec::from_http(&[], None, &bytes(request)).unwrap();
            let echo = Echo::<E>::responding(response.clone());
            let client = echo_client(&echo);
            let read = runtime().block_on(client.send(request.clone())).unwrap();
            assert_eq!(read, response);
            assert_eq!(echo.take(), Some(request));
        }
    }
}

/// Returns every text that an error can show.
fn texts(error: &Error) -> String {
    let mut text = format!("{error}\n{error:?}\n{error:#?}");
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!("\n{cause}\n{cause:?}"));
        source = cause.source();
    }
    text
}

#[tokio::test]
async fn it_shows_who_calls_in_two_headers_and_nowhere_else() {
    let server = BadServer::start(|seen| {
        let text = seen.text.to_lowercase();
        assert!(text.contains("plaid-client-id: the-bank\r\n"), "{text}");
        assert!(text.contains("plaid-secret: client-s3cret-of-the-bank\r\n"), "{text}");
        assert!(!text.contains("authorization"), "{text}");
        assert!(text.ends_with(r#"{"access_token":"access-s3cret"}"#), "{text}");
        Script::json(200, r#"{"applications":[],"request_id":"r"}"#)
    });
    let client = client(&server.url());
    list(&client).await.unwrap();
    let shown = format!("{client:?} {client:#?}");
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[tokio::test]
async fn lasting_faults_each_have_their_clear_error() {
    let html = "Content-Type: text/html\r\n";
    let json = "Content-Type: application/json\r\n";
    let later = "Content-Type: application/json\r\nRetry-After: 3600\r\n";
    let plaid = |kind: &str, code: &str| {
        format!(
            r#"{{"error_type":"{kind}","error_code":"{code}","error_message":"a test message","display_message":"Sorry","request_id":"r-7"}}"#
        )
    };
    for (name, script, kind, code, text, requests) in [
        (
            "an HTML page of a gateway",
            Script::response(502, html, "<html>"),
            ErrorKind::Api,
            None,
            "returned 502 with an HTML page instead of JSON, after 4 attempts; try again later",
            4,
        ),
        (
            "an HTML page that looks like success",
            Script::response(200, html, "<html>"),
            ErrorKind::Decode,
            None,
            "instead of JSON; check that the base URL is Plaid's API",
            1,
        ),
        (
            "another message",
            Script::json(200, r#"{"applications":[]}"#),
            ErrorKind::Decode,
            None,
            "this is a fault of Plaid's side; report it to them",
            1,
        ),
        (
            "the wrong secret",
            Script::json(401, plaid("INVALID_INPUT", "INVALID_API_KEYS")),
            ErrorKind::Auth,
            Some((PlaidErrorType::InvalidInput, "INVALID_API_KEYS")),
            "returned 401 INVALID_API_KEYS (a test message); check the client id and secret (request id r-7)",
            1,
        ),
        (
            "a dead token",
            Script::json(400, plaid("INVALID_INPUT", "INVALID_ACCESS_TOKEN")),
            ErrorKind::Api,
            Some((PlaidErrorType::InvalidInput, "INVALID_ACCESS_TOKEN")),
            "the access token has ended or belongs to another client; get a new one (request id r-7)",
            1,
        ),
        (
            "a user who must come back",
            Script::json(400, plaid("ITEM_ERROR", "ITEM_LOGIN_REQUIRED")),
            ErrorKind::Api,
            Some((PlaidErrorType::ItemError, "ITEM_LOGIN_REQUIRED")),
            "the user must authorize Plaid again",
            1,
        ),
        (
            "a type and a code of tomorrow",
            Script::json(400, plaid("MOON_ERROR", "MOON_TOO_FAR")),
            ErrorKind::Api,
            Some((PlaidErrorType::from("MOON_ERROR"), "MOON_TOO_FAR")),
            "returned 400 MOON_TOO_FAR (a test message)",
            1,
        ),
        (
            "429 that passes",
            Script::response(429, json, plaid("RATE_LIMIT_EXCEEDED", "RATE_LIMIT")),
            ErrorKind::Api,
            Some((PlaidErrorType::RateLimitExceeded, "RATE_LIMIT")),
            "after 4 attempts; try again later",
            4,
        ),
        (
            "429 for an hour",
            Script::response(429, later, plaid("RATE_LIMIT_EXCEEDED", "RATE_LIMIT")),
            ErrorKind::Api,
            Some((PlaidErrorType::RateLimitExceeded, "RATE_LIMIT")),
            "returned 429 RATE_LIMIT (a test message); try again at ",
            1,
        ),
        (
            "an error body of a partner",
            Script::json(400, r#"{"error":{"id":"invalid_request","message":"m"}}"#),
            ErrorKind::Api,
            None,
            "returned 400 without an error body of the contract",
            1,
        ),
        (
            "a cut body",
            Script::raw(&b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"[..]),
            ErrorKind::Transport,
            None,
            "after 4 attempts; try again later",
            4,
        ),
        (
            "a redirect",
            Script::response(302, "Location: https://evil.example/\r\n", ""),
            ErrorKind::Api,
            None,
            "returned 302, a redirect; redirects are never followed",
            1,
        ),
    ] {
        let server = BadServer::start(move |_| script.clone());
        let error = list(&client(&server.url())).await.unwrap_err();
        assert!(error.to_string().contains(text), "{name}: {error}");
        assert_eq!((error.kind(), server.requests()), (kind, requests), "{name}: {error}");
        let said = error.plaid_error_type().cloned().zip(error.plaid_error_code());
        assert_eq!(said, code, "{name}");
        let display = code.map(|_| "Sorry");
        assert_eq!(error.display_message(), display, "{name}");
        assert_eq!(error.retry_at().is_some(), name == "429 for an hour", "{name}");
        assert!(!error.ends_token(), "{name}");
    }
}

#[tokio::test]
async fn what_was_sent_in_secret_never_comes_back_in_an_error() {
    let server = BadServer::start(|seen| {
        let body = match seen.number {
            0 => {
                r#"{"error_type":"access-s3cret","error_code":"client-s3cret-of-the-bank","error_message":"access-s3cret of client-s3cret-of-the-bank",
                "display_message":"client-s3cret-of-the-bank","request_id":"access-s3cret","suggested_action":"client-s3cret-of-the-bank"}"#
            }
            1 => r#"{"error_code":"client-s3cret-of-the-bank","error_message":"access-s3cret"}"#,
            2 => r#"["access-s3cret"]"#,
            _ => "client-s3cret-of-the-bank",
        };
        let kind = if seen.number == 4 { "client-s3cret-of-the-bank" } else { "application/json" };
        let headers =
            format!("Content-Type: {kind}\r\nX-Request-Id: client-s3cret-of-the-bank\r\n");
        Script::response(400, &headers, body)
    });
    let client = client(&server.url());
    for _ in 0..5 {
        let error = list(&client).await.unwrap_err();
        let all = texts(&error);
        assert!(!all.contains("s3cret"), "{all}");
        for text in [error.plaid_error_type().map(|t| t.as_str()), error.plaid_error_code()] {
            assert!(text.is_none_or(|text| !text.contains("s3cret")));
        }
        for text in [error.display_message(), error.request_id()] {
            assert!(text.is_none_or(|text| !text.contains("s3cret")));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_the_budget_holds_is_kept() {
    let world = World::new();
    world.network(|number, _| match number {
        0 => Fate::Response(429, &[("retry-after", "7")], ""),
        _ => Fate::Arrives,
    });
    let start = tokio::time::Instant::now();
    let error = list(&world.client()).await.unwrap_err();
    assert_eq!(error.plaid_error_code(), Some("INVALID_ACCESS_TOKEN"));
    assert_eq!(start.elapsed().as_secs(), 7);
    assert_eq!(world.calls(), 2);
}

#[tokio::test]
async fn a_batch_that_is_refused_names_its_entry() {
    let world = World::new();
    world.knows(["good"]);
    let entry =
        |token: &str| TokensNotificationEntry::new(ItemAccessToken::new(token), TokenAction::Cycle);
    let batch = Batch::new(vec![entry("good"), entry("good"), entry("bad")]).unwrap();
    let error = world.client().notify_tokens(TokensNotification::new(batch)).await.unwrap_err();
    assert_eq!((error.batch_entry(), error.status()), (Some(2), Some(400)));
    assert!(world.notified().is_empty());
    // An account id that looks like the message does not hide the index.
    let entry = |token: &str| {
        let account = "notifications[0].access_token".parse::<px_types::AccountId>().unwrap();
        AccountsNotificationEntry::new(ItemAccessToken::new(token), account, AccountEvent::Changed)
    };
    let batch = Batch::new(vec![entry("bad")]).unwrap();
    let error = world.client().notify_accounts(AccountsNotification::new(batch)).await.unwrap_err();
    assert_eq!(error.batch_entry(), Some(0));
}

#[tokio::test]
async fn the_wrong_client_is_refused_before_anything_is_sent() {
    let world = World::new();
    let error = world.client().send(GetCurrentUser::new()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "current_user: this is an endpoint of a partner, not of Plaid; use a `PartnerClient`"
    );
    let partner = PartnerClient::builder("https://bank.test", world.clone()).build().unwrap();
    let request = ListApplications::new(ItemAccessToken::new(TOKEN));
    let error = partner.send(request).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "list_applications: this is an endpoint of Plaid, not of a partner; use a `PlaidClient`"
    );
    assert_eq!(world.calls(), 0);

    let error = PlaidClient::builder("https://plaid.test", world.clone()).build().unwrap_err();
    assert_eq!(
        error.to_string(),
        "client: the client has no id and secret; set them on the builder"
    );
    let builder = PlaidClient::builder("plaid", world.clone());
    let error = builder.client("b".parse().unwrap(), ClientSecret::new("s")).build().unwrap_err();
    assert!(error.to_string().contains("https://production.plaid.com"), "{error}");

    let error = list(&world.client_with("not\nprintable")).await.unwrap_err();
    assert!(error.to_string().contains("the secret has characters that a header"), "{error}");
    let error = list(&world.client_with("wrong")).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.plaid_error_code()),
        (ErrorKind::Auth, Some("INVALID_API_KEYS"))
    );
}
