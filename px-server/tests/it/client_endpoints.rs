//! The endpoints of OAuth and of credentials mode through the service: the HTTP part of the kits.

use crate::bank::{self, Behaviour, body, get, json, send};
use bytes::Bytes;
use http::{Method, Request, Response, header, request::Parts};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use px_server::{
    Error, PartnerService, PermittedAccounts,
    clients::{Client, MemoryClients},
    credentials::{CredentialsKit, Factor, SignInMethods, SignInOrigin},
    oauth::{AuthorizationRequest, AuthorizePages, MemoryGrantStore, OAuth, PageRefusal},
};
use px_types::{ClientId, ClientSecret, Password, UserId, Username};
use std::{convert::Infallible, sync::Arc};

const ISSUER: &str = "https://bank.example";
/// `plaid:s`
const CLIENT: &str = "Basic cGxhaWQ6YS1zZWNyZXQtb2YtdGhlLXRlc3Rz";
const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";
const PAIR: &str = r#"{"username":"u1","password":"hunter2"}"#;
const LIMIT: usize = 1000;
const AUTHORIZE: &str = "/oauth2/auth?response_type=code&client_id=plaid&redirect_uri=https%3A%2F%2Fplaid.example%2Fback\
    &state=s1&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

/// Pages on which every user consents immediately.
struct Pages(OAuth);

#[async_trait::async_trait]
impl AuthorizePages for Pages {
    async fn ask(&self, request: AuthorizationRequest, _: &Parts) -> Response<Bytes> {
        let user = UserId::new("u1").unwrap();
        let url = self.0.approve(&request, user, PermittedAccounts::All).await.unwrap();
        Response::new(url.into())
    }

    async fn refuse(&self, refusal: PageRefusal) -> Response<Bytes> {
        let mut page = Response::new(refusal.message().into());
        *page.status_mut() = refusal.status();
        page
    }
}

struct Users;

#[async_trait::async_trait]
impl SignInMethods for Users {
    async fn check_password(
        &self,
        _: &SignInOrigin,
        username: &Username,
        password: &Password,
    ) -> Result<Option<UserId>, Error> {
        let good = password.expose() == "hunter2";
        Ok(good.then(|| UserId::new(username.expose()).unwrap()))
    }

    async fn factors(&self, _: &UserId) -> Result<Vec<Factor>, Error> {
        Ok(Vec::new())
    }
}

fn service() -> PartnerService {
    service_with_limit(LIMIT)
}

/// A service with a token endpoint, pages and credentials mode.
pub(crate) fn service_with_limit(max_body: usize) -> PartnerService {
    let plaid =
        Client::new(ClientId::new("plaid").unwrap(), "Plaid", ["https://plaid.example/back"]);
    let clients =
        MemoryClients::new().with(plaid, &ClientSecret::new("a-secret-of-the-tests")).unwrap();
    let store = Arc::new(MemoryGrantStore::new());
    let oauth =
        OAuth::builder(ISSUER, Arc::new(clients), store).clock(bank::clock()).build().unwrap();
    let kit = CredentialsKit::new(Arc::new(Users), Arc::new(oauth.clone()));
    bank::service_with(Behaviour::Plain, |builder| {
        builder
            .tokens(oauth.verifier())
            .pages(Arc::new(Pages(oauth.clone())))
            .credentials(Arc::new(kit))
            .oauth(oauth)
            .max_body(max_body)
    })
}

fn post(path: &str, headers: &[(&'static str, &str)], body: &str) -> Request<Full<Bytes>> {
    let mut request = Request::post(path).header(header::HOST, "bank.example");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::from(body.to_owned())).unwrap()
}

/// A row of the table: name, request, status, error id, and a text that the message contains.
type Refused<'t> = (&'t str, Request<Full<Bytes>>, u16, &'t str, &'t str);

#[tokio::test]
async fn refusals_of_credentials_mode() {
    let (auth, json_type) = (("authorization", CLIENT), ("content-type", JSON));
    let sign_in =
        |headers: &[(&'static str, &str)], body: &str| post("/users/auth_token", headers, body);
    let large = format!(r#"{{"username":"{}"}}"#, "u".repeat(LIMIT));
    let cases: Vec<Refused<'_>> = vec![
        ("no client", sign_in(&[json_type], PAIR), 401, "invalid_client", ""),
        ("no client before the media type", sign_in(&[], PAIR), 401, "invalid_client", ""),
        ("no client before the size", sign_in(&[json_type], &large), 401, "invalid_client", ""),
        (
            "a wrong secret",
            sign_in(&[("authorization", "Basic cGxhaWQ6dA=="), json_type], PAIR),
            401,
            "invalid_client",
            "",
        ),
        (
            "a bearer token",
            sign_in(&[("authorization", "Bearer t1"), json_type], PAIR),
            401,
            "invalid_client",
            "",
        ),
        ("two clients", sign_in(&[auth, auth, json_type], PAIR), 400, "invalid_request", ""),
        ("no media type", sign_in(&[auth], PAIR), 415, "unsupported_media_type", JSON),
        (
            "a form",
            sign_in(&[auth, ("content-type", FORM)], "username=u1&password=hunter2"),
            415,
            "unsupported_media_type",
            JSON,
        ),
        (
            "two media types",
            sign_in(&[auth, json_type, json_type], PAIR),
            415,
            "unsupported_media_type",
            "",
        ),
        (
            "another charset",
            sign_in(&[auth, ("content-type", "application/json; charset=latin1")], PAIR),
            415,
            "unsupported_media_type",
            "UTF-8",
        ),
        (
            "packed",
            sign_in(&[auth, json_type, ("content-encoding", "gzip")], PAIR),
            415,
            "unsupported_media_type",
            "compressed",
        ),
        ("too large", sign_in(&[auth, json_type], &large), 413, "payload_too_large", "1000"),
        ("no JSON", sign_in(&[auth, json_type], "hunter2"), 400, "invalid_request", ""),
        (
            "no password",
            sign_in(&[auth, json_type], r#"{"username":"hunter2"}"#),
            400,
            "invalid_request",
            "password",
        ),
        (
            "a password that is no text",
            sign_in(&[auth, json_type], r#"{"username":"hunter2","password":["hunter2"]}"#),
            400,
            "invalid_request",
            "password",
        ),
        (
            "a bad pair",
            sign_in(&[auth, json_type], r#"{"username":"u1","password":"x"}"#),
            401,
            "invalid_credentials",
            "",
        ),
        (
            "no such challenge",
            post("/users/u1/2fa", &[auth, json_type], r#"{"challenge_id":"c","code":"hunter2"}"#),
            401,
            "invalid_challenge",
            "",
        ),
        (
            "both answers",
            post(
                "/users/u1/2fa",
                &[auth, json_type],
                r#"{"challenge_id":"c","code":"hunter2","answers":[]}"#,
            ),
            400,
            "invalid_request",
            "answers",
        ),
        (
            "no such challenge to send a code for",
            post(
                "/users/u1/sendOtp",
                &[auth, json_type],
                r#"{"challenge_id":"c","delivery_id":"d"}"#,
            ),
            401,
            "invalid_challenge",
            "",
        ),
    ];
    let service = service();
    for (name, request, status, id, names) in cases {
        let response = send(&service, request).await;
        assert_eq!(response.status(), status, "{name}");
        let headers = response.headers().clone();
        assert_eq!(headers[header::CACHE_CONTROL], "no-store", "{name}");
        let challenge = headers.get(header::WWW_AUTHENTICATE).map(|v| v.to_str().unwrap());
        let expected = (id == "invalid_client").then_some("Basic realm=\"px\"");
        assert_eq!(challenge, expected, "{name}: no 401 here is about a bearer token");
        let response = json(response).await;
        assert_eq!(response["error"]["id"], id, "{name}");
        assert_eq!(response["request_id"], headers["x-request-id"].to_str().unwrap(), "{name}");
        let text = response["error"]["message"].as_str().unwrap();
        assert!(text.contains(names) && !text.contains("hunter2"), "{name}: {text}");
    }
}

#[tokio::test]
async fn refusals_of_the_token_and_revocation_endpoints() {
    let (auth, form) = (("authorization", CLIENT), ("content-type", FORM));
    for path in ["/oauth2/token", "/oauth2/revoke"] {
        let ask = |headers: &[(&'static str, &str)], body: &str| post(path, headers, body);
        let good = "grant_type=refresh_token&refresh_token=x.y&token=x";
        let twice = format!("{good}&token=x&grant_type=refresh_token");
        let both = format!("{good}&client_id=plaid&client_secret=s");
        for (name, request, status, error) in [
            ("no client", ask(&[form], good), 401, "invalid_client"),
            ("JSON", ask(&[auth, ("content-type", JSON)], "{}"), 400, "invalid_request"),
            ("no media type", ask(&[auth], good), 400, "invalid_request"),
            ("a parameter twice", ask(&[auth, form], &twice), 400, "invalid_request"),
            ("two ways", ask(&[auth, form], &both), 400, "invalid_request"),
            ("two headers", ask(&[auth, auth, form], good), 400, "invalid_request"),
            ("nothing", ask(&[auth, form], ""), 400, "invalid_request"),
        ] {
            let response = send(&service(), request).await;
            assert_eq!(response.status(), status, "{path}: {name}");
            let headers = response.headers().clone();
            assert_eq!(headers[header::CACHE_CONTROL], "no-store", "{path}: {name}");
            assert_eq!(headers[header::CONTENT_TYPE], JSON, "{path}: {name}");
            assert!(headers.contains_key("x-request-id"), "{path}: {name}");
            let challenge = headers.get(header::WWW_AUTHENTICATE).map(|v| v.to_str().unwrap());
            let expected = (status == 401).then_some("Basic realm=\"px\"");
            assert_eq!(challenge, expected, "{path}: {name}");
            assert_eq!(json(response).await["error"], error, "{path}: {name}");
        }
        let mut request = get(path, None);
        for method in [Method::GET, Method::HEAD, Method::PUT] {
            *request.method_mut() = method;
            let response = send(&service(), request.clone()).await;
            assert_eq!(
                (response.status().as_u16(), &response.headers()[header::ALLOW]),
                (405, &"POST".parse().unwrap())
            );
        }
    }
}

/// A body of undeclared length is counted as it arrives.
#[tokio::test]
async fn a_chunked_body_has_the_same_limit() {
    let send_pieces = |count: usize| async move {
        let piece = || Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"a=1&b=2&c=")));
        let pieces = futures_util::stream::iter((0..count).map(move |_| piece()));
        let request = Request::post("/oauth2/token")
            .header(header::HOST, "bank.example")
            .header(header::AUTHORIZATION, CLIENT)
            .header(header::CONTENT_TYPE, FORM)
            .body(StreamBody::new(pieces))
            .unwrap();
        service().respond(request).await.status().as_u16()
    };
    assert_eq!(send_pieces(LIMIT / 10).await, 400, "of the allowed size; it names no grant");
    assert_eq!(send_pieces(LIMIT / 10 + 1).await, 413);
    assert_eq!(send_pieces(1_000_000).await, 413);
}

#[tokio::test]
async fn from_the_authorization_to_the_revocation() {
    let service = service();
    let metadata =
        json(send(&service, get("/.well-known/oauth-authorization-server", None)).await).await;
    assert_eq!(metadata["issuer"], ISSUER);

    let page = send(&service, get(AUTHORIZE, None)).await;
    assert_eq!(
        (page.status().as_u16(), &page.headers()[header::CACHE_CONTROL]),
        (200, &"no-store".parse().unwrap())
    );
    assert!(page.headers().contains_key("x-request-id"));
    let back = url::Url::parse(std::str::from_utf8(&body(page).await).unwrap()).unwrap();
    let code = back.query_pairs().find(|(name, _)| name == "code").unwrap().1;

    let form = [("authorization", CLIENT), ("content-type", FORM)];
    let ask = format!(
        "grant_type=authorization_code&code={code}&code_verifier={VERIFIER}&redirect_uri=https%3A%2F%2Fplaid.example%2Fback"
    );
    let given = send(&service, post("/oauth2/token", &form, &ask)).await;
    assert_eq!(given.headers()[header::CACHE_CONTROL], "no-store");
    let given = json(given).await;
    let (access, refresh) =
        (given["access_token"].as_str().unwrap(), given["refresh_token"].as_str().unwrap());
    assert_eq!(given["user_id"], "u1");
    assert_eq!(send(&service, get("/users/u1", Some(access))).await.status(), 200);

    let revoked = send(&service, post("/oauth2/revoke", &form, &format!("token={refresh}"))).await;
    assert_eq!(revoked.status(), 200);
    assert_eq!(send(&service, get("/users/u1", Some(access))).await.status(), 401);
}

#[tokio::test]
async fn a_refused_authorization() {
    let service = service();
    let response = send(&service, get(&AUTHORIZE.replace("S256", "plain"), None)).await;
    assert_eq!(response.status(), 302);
    assert!(response.headers().contains_key("x-request-id"));
    let location = response.headers()[header::LOCATION].to_str().unwrap();
    assert!(location.starts_with("https://plaid.example/back?error=invalid_request"), "{location}");
    assert!(location.contains("state=s1") && location.contains("iss="), "{location}");

    let response =
        send(&service, get(&AUTHORIZE.replace("plaid.example", "evil.example"), None)).await;
    assert_eq!(response.status(), 400);
    assert!(!response.headers().contains_key(header::LOCATION));
    assert!(response.headers().contains_key("x-request-id"));
}

#[tokio::test]
async fn a_sign_in_gives_a_bearer_token() {
    let service = service();
    let headers = [("authorization", CLIENT), ("content-type", "application/json; charset=utf-8")];
    let response = json(send(&service, post("/users/auth_token", &headers, PAIR)).await).await;
    assert_eq!(response["user_id"], "u1");
    let token = response["auth_token"].as_str().unwrap();
    assert_eq!(send(&service, get("/users/u1", Some(token))).await.status(), 200);
    assert_eq!(send(&service, get("/users/u2", Some(token))).await.status(), 403);
}
