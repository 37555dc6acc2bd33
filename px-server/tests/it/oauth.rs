//! The OAuth kit over its public interface: every refusal, rotation, revocation, races.

use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderMap, HeaderValue, header};
use px_server::{
    PermittedAccounts,
    clients::{Client, Clients, MemoryClients},
    clock::{Clock as _, ManualClock},
    oauth::{
        Authorization, AuthorizationRequest, Digest, GrantRecord, GrantStore, MemoryGrantStore,
        OAuth, OAuthError, StoreError, Swap, Versioned, store::conformance,
    },
    verify::{TokenVerifier as _, VerifyError},
};
use px_types::{
    AccessToken, AccountId, ClientId, ClientSecret, RefreshToken, ScopeSet, UserId,
    partner::TokenResponse,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const REDIRECT: &str = "https://plaid.example/back";
const ISSUER: &str = "https://bank.example";

fn start() -> DateTime<Utc> {
    "2024-01-31T12:00:00Z".parse().unwrap()
}

/// A store that can be made to fail.
#[derive(Default)]
struct Shaky {
    inner: MemoryGrantStore,
    down: AtomicBool,
}

impl Shaky {
    fn up(&self) -> Result<(), StoreError> {
        match self.down.load(Ordering::SeqCst) {
            true => Err("the store is down".into()),
            false => Ok(()),
        }
    }
}

#[async_trait::async_trait]
impl GrantStore for Shaky {
    async fn create(&self, record: GrantRecord) -> Result<(), StoreError> {
        self.up()?;
        self.inner.create(record).await
    }
    async fn find(&self, digest: &Digest) -> Result<Option<Versioned>, StoreError> {
        self.up()?;
        let found = self.inner.find(digest).await;
        // Lets others come between reading and swapping, as they do in a real store.
        tokio::task::yield_now().await;
        found
    }
    async fn find_by_id(&self, id: &str) -> Result<Option<Versioned>, StoreError> {
        self.up()?;
        self.inner.find_by_id(id).await
    }
    async fn of_principal(&self, principal: &UserId) -> Result<Vec<Versioned>, StoreError> {
        self.up()?;
        self.inner.of_principal(principal).await
    }
    async fn swap(&self, expected: u64, record: GrantRecord) -> Result<Swap, StoreError> {
        self.up()?;
        self.inner.swap(expected, record).await
    }
    async fn purge(&self, now: DateTime<Utc>) -> Result<u64, StoreError> {
        self.up()?;
        self.inner.purge(now).await
    }
}

struct Bank {
    oauth: OAuth,
    store: Arc<Shaky>,
    clock: ManualClock,
}

fn clients() -> Arc<dyn Clients> {
    let id = |id: &str| ClientId::new(id).unwrap();
    let query = "https://plaid.example/query?kept=1";
    let plaid = Client::new(id("plaid"), "Plaid", [REDIRECT, query]);
    // An id and a secret that Basic must write form-encoded.
    let odd = Client::new(id("odd client"), "Odd", [REDIRECT]);
    let percent = Client::new(id("per%41cent"), "Percent", [REDIRECT]);
    let secret = |text: &str| ClientSecret::new(text);
    let clients = MemoryClients::new()
        .with(plaid, &secret("plaid-secret"))
        .and_then(|clients| clients.with(odd, &secret("a:b+c%/d")))
        .and_then(|clients| clients.with(percent, &secret("x%zz")));
    Arc::new(clients.unwrap())
}

fn bank() -> Bank {
    let (store, clock) = (Arc::new(Shaky::default()), ManualClock::new(start()));
    let oauth = OAuth::builder(ISSUER, clients(), store.clone())
        .clock(Arc::new(clock.clone()))
        .build()
        .unwrap();
    Bank { oauth, store, clock }
}

fn basic(id: &str, secret: &str) -> String {
    use base64::Engine as _;
    let pair = format!("{id}:{secret}");
    let text = base64::engine::general_purpose::STANDARD.encode(pair);
    format!("Basic {text}")
}

fn headers(authorization: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let form = HeaderValue::from_static("application/x-www-form-urlencoded");
    headers.insert(header::CONTENT_TYPE, form);
    if let Some(value) = authorization {
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
    }
    headers
}

fn plaid() -> HeaderMap {
    headers(Some(&basic("plaid", "plaid-secret")))
}

fn odd() -> HeaderMap {
    headers(Some(&basic("odd+client", "a%3Ab%2Bc%25%2Fd")))
}

fn form(pairs: &[(&str, &str)]) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(pairs);
    form.finish()
}

/// The query of a good authorization request, with parameters replaced, left out or added.
fn query(changes: &[(&str, Option<&str>)]) -> String {
    let mut pairs = vec![
        ("response_type", "code"),
        ("client_id", "plaid"),
        ("redirect_uri", REDIRECT),
        ("state", "a state & more"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    for (name, value) in changes {
        pairs.retain(|(known, _)| known != name);
        pairs.extend(value.map(|value| (*name, value)));
    }
    form(&pairs)
}

fn parameters(url: &str) -> Vec<(String, String)> {
    let url = url::Url::parse(url).unwrap();
    url.query_pairs().into_owned().collect()
}

fn parameter(url: &str, name: &str) -> Option<String> {
    let found = parameters(url).into_iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value)
}

fn user() -> UserId {
    UserId::new("u-1").unwrap()
}

impl Bank {
    async fn ask(&self, query: &str) -> AuthorizationRequest {
        match self.oauth.authorize(query).await {
            Authorization::Ask(request) => *request,
            other => panic!("not asked: {other:?}"),
        }
    }

    async fn code(&self, query: &str) -> String {
        let request = self.ask(query).await;
        let approved = self.oauth.approve(&request, user(), PermittedAccounts::All).await;
        parameter(&approved.unwrap(), "code").unwrap()
    }

    async fn redeem(&self, code: &str) -> Result<TokenResponse, OAuthError> {
        self.redeem_with(&plaid(), code, Some(REDIRECT), Some(VERIFIER)).await
    }

    async fn redeem_with(
        &self,
        headers: &HeaderMap,
        code: &str,
        redirect_uri: Option<&str>,
        verifier: Option<&str>,
    ) -> Result<TokenResponse, OAuthError> {
        let mut pairs = vec![("grant_type", "authorization_code"), ("code", code)];
        pairs.extend(redirect_uri.map(|uri| ("redirect_uri", uri)));
        pairs.extend(verifier.map(|verifier| ("code_verifier", verifier)));
        self.oauth.token(headers, form(&pairs).as_bytes()).await
    }

    async fn tokens(&self) -> TokenResponse {
        let code = self.code(&query(&[])).await;
        self.redeem(&code).await.unwrap()
    }

    async fn refresh(&self, token: &RefreshToken) -> Result<TokenResponse, OAuthError> {
        self.refresh_with(&plaid(), token, None).await
    }

    async fn refresh_with(
        &self,
        headers: &HeaderMap,
        token: &RefreshToken,
        scope: Option<&str>,
    ) -> Result<TokenResponse, OAuthError> {
        let mut pairs = vec![("grant_type", "refresh_token"), ("refresh_token", token.expose())];
        pairs.extend(scope.map(|scope| ("scope", scope)));
        self.oauth.token(headers, form(&pairs).as_bytes()).await
    }

    async fn revoke(&self, headers: &HeaderMap, token: &str) -> Result<(), OAuthError> {
        let body = form(&[("token", token)]);
        self.oauth.revoke(headers, body.as_bytes()).await
    }

    async fn lives(&self, token: &AccessToken) -> bool {
        match self.oauth.verifier().verify(token).await {
            Ok(_) => true,
            Err(VerifyError::Invalid) => false,
            Err(other) => panic!("{other}"),
        }
    }
}

fn refresh_token(tokens: &TokenResponse) -> &RefreshToken {
    tokens.refresh_token.as_ref().unwrap()
}

/// Status and `error` of a refusal, as they go on the wire.
fn refusal<T: std::fmt::Debug>(result: Result<T, OAuthError>) -> (u16, String) {
    let error = result.unwrap_err();
    let body: serde_json::Value = serde_json::from_slice(&error.body()).unwrap();
    assert!(body["error_description"].is_string());
    let challenge = error.www_authenticate().is_some();
    assert_eq!(challenge, error.status() == 401, "{error}");
    let text = body["error"].as_str().unwrap().to_owned();
    (error.status().as_u16(), text)
}

fn invalid_grant() -> (u16, String) {
    (400, "invalid_grant".into())
}

#[tokio::test]
async fn a_user_authorizes_and_the_tokens_work() {
    let bank = bank();
    let changes = [
        ("scope", Some("accounts offline_access")),
        ("application_id", Some("app-1")),
        ("application_name", Some("Budget")),
    ];
    let request = bank.ask(&query(&changes)).await;
    assert_eq!(request.client_name, "Plaid");
    assert_eq!(request.application_name.as_deref(), Some("Budget"));
    // The bank keeps it between its pages.
    let json = serde_json::to_string(&request).unwrap();
    let request: AuthorizationRequest = serde_json::from_str(&json).unwrap();
    let account = AccountId::new("a-1").unwrap();
    let picked = PermittedAccounts::Only([account].into());
    let url = bank.oauth.approve(&request, user(), picked.clone()).await;
    let url = url.unwrap();
    assert!(url.starts_with("https://plaid.example/back?code="), "{url}");
    assert_eq!(parameter(&url, "state").unwrap(), "a state & more");
    assert_eq!(parameter(&url, "iss").unwrap(), ISSUER);
    let code = parameter(&url, "code").unwrap();
    assert_eq!(code.len(), 43);

    let tokens = bank.redeem(&code).await.unwrap();
    assert_eq!(tokens.token_type, "Bearer");
    assert_eq!(tokens.expires_in, Some(900));
    assert_eq!(tokens.scope.as_deref(), Some("accounts offline_access"));
    assert_eq!(tokens.user_id, Some(user()));
    let grant = bank.oauth.verifier().verify(&tokens.access_token).await;
    let grant = grant.unwrap();
    assert_eq!(grant.principal, user());
    assert_eq!(grant.accounts, picked);
    assert_eq!(grant.client_id.as_ref().unwrap().as_str(), "plaid");
    assert_eq!(grant.application_id.as_ref().unwrap().as_str(), "app-1");
    assert_eq!(grant.expires_at, Some(start() + TimeDelta::seconds(900)));

    bank.clock.advance(TimeDelta::seconds(899));
    assert!(bank.lives(&tokens.access_token).await);
    bank.clock.advance(TimeDelta::seconds(1));
    assert!(!bank.lives(&tokens.access_token).await);
    let next = bank.refresh(refresh_token(&tokens)).await.unwrap();
    assert!(bank.lives(&next.access_token).await);
    let next = bank.oauth.verifier().verify(&next.access_token).await;
    assert_eq!(next.unwrap().grant_id, grant.grant_id);
}

#[tokio::test]
async fn what_is_refused_on_a_page_and_never_redirected() {
    let bank = bank();
    let cases = [
        ("no client", query(&[("client_id", None)])),
        ("an empty client", query(&[("client_id", Some(""))])),
        ("an unknown client", query(&[("client_id", Some("nobody"))])),
        ("a client that is no id", query(&[("client_id", Some("\n"))])),
        ("two clients", format!("{}&client_id=plaid", query(&[]))),
        ("no redirect URI", query(&[("redirect_uri", None)])),
        ("two redirect URIs", format!("{}&redirect_uri=https%3A%2F%2Fevil.example", query(&[]))),
        ("an unknown redirect URI", query(&[("redirect_uri", Some("https://evil.example"))])),
        ("a longer path", query(&[("redirect_uri", Some("https://plaid.example/back/x"))])),
        ("another case", query(&[("redirect_uri", Some("https://PLAID.example/back"))])),
        ("an added query", query(&[("redirect_uri", Some("https://plaid.example/back?x=1"))])),
        ("an added fragment", query(&[("redirect_uri", Some("https://plaid.example/back#x"))])),
        ("broken encoding", format!("{}&x=%zz", query(&[]))),
    ];
    for (name, query) in cases {
        match bank.oauth.authorize(&query).await {
            Authorization::Refused(refusal) => assert_eq!(refusal.status(), 400, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn what_is_refused_by_a_redirect() {
    let bank = bank();
    let invalid = "invalid_request";
    let one = |name, value| query(&[(name, value)]);
    let twice = |name: &str| format!("{}&{name}=x", query(&[(name, Some("x"))]));
    let cases = [
        ("no response type", one("response_type", None), invalid),
        ("response type token", one("response_type", Some("token")), "unsupported_response_type"),
        ("no PKCE", query(&[("code_challenge", None), ("code_challenge_method", None)]), invalid),
        ("no challenge", one("code_challenge", None), invalid),
        ("no method, which means plain", one("code_challenge_method", None), invalid),
        ("plain", one("code_challenge_method", Some("plain")), invalid),
        ("a short challenge", one("code_challenge", Some(&CHALLENGE[1..])), invalid),
        ("a padded challenge", one("code_challenge", Some(&format!("{CHALLENGE}="))), invalid),
        (
            "a challenge in base64",
            one("code_challenge", Some(&CHALLENGE.replace('-', "+"))),
            invalid,
        ),
        ("an unknown scope", one("scope", Some("accounts everything")), "invalid_scope"),
        ("a malformed scope", one("scope", Some("accounts \"")), "invalid_scope"),
        ("a scope of spaces", one("scope", Some("  ")), "invalid_scope"),
        ("an application that is no id", one("application_id", Some("..")), invalid),
        ("a name of control characters", one("application_name", Some("a\nb")), invalid),
        ("two response types", twice("response_type"), invalid),
        ("two scopes", twice("scope"), invalid),
        ("two challenges", twice("code_challenge"), invalid),
        ("two methods", twice("code_challenge_method"), invalid),
        ("two applications", twice("application_id"), invalid),
        ("two application names", twice("application_name"), invalid),
    ];
    for (name, query, error) in cases {
        let Authorization::Redirect(url) = bank.oauth.authorize(&query).await else {
            panic!("{name}: not redirected");
        };
        assert!(url.starts_with("https://plaid.example/back?"), "{name}: {url}");
        assert_eq!(parameter(&url, "error").unwrap(), error, "{name}");
        assert!(parameter(&url, "error_description").is_some(), "{name}");
        assert_eq!(parameter(&url, "state").unwrap(), "a state & more", "{name}");
        assert_eq!(parameter(&url, "iss").unwrap(), ISSUER, "{name}");
        assert_eq!(parameter(&url, "code"), None, "{name}");
    }
    let query = format!("{}&state=other", query(&[]));
    let Authorization::Redirect(url) = bank.oauth.authorize(&query).await else {
        panic!("two states: not redirected");
    };
    assert_eq!(parameter(&url, "error").unwrap(), invalid);
    assert_eq!(parameter(&url, "state"), None);
}

#[tokio::test]
async fn state_redirect_query_and_refusal_of_the_user() {
    let bank = bank();
    let long = "s/+ %ü=&".repeat(1000);
    let redirect = "https://plaid.example/query?kept=1";
    let changes = [("state", Some(&*long)), ("redirect_uri", Some(redirect))];
    let request = bank.ask(&query(&changes)).await;
    assert_eq!(request.scopes, ScopeSet::defaults());
    let url = bank.oauth.deny(&request);
    assert!(url.starts_with("https://plaid.example/query?kept=1&error=access_denied&"));
    assert_eq!(parameter(&url, "state").unwrap(), long);
    let none = PermittedAccounts::Only([].into());
    let asked_again = bank.oauth.approve(&request, user(), none).await;
    assert_eq!(asked_again.unwrap_err().status(), 400);
    let request = bank.ask(&query(&[("state", None)])).await;
    let url = bank.oauth.approve(&request, user(), PermittedAccounts::All).await;
    assert_eq!(parameter(&url.unwrap(), "state"), None);
}

#[tokio::test]
async fn what_the_token_endpoint_refuses() {
    let bank = bank();
    let code = bank.code(&query(&[])).await;
    let good = [
        ("grant_type", "authorization_code"),
        ("code", &*code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
    ];
    let good = form(&good);
    let with = |more: &str| format!("{good}&{more}");
    let none = || headers(None);
    let authorized = |value: &str| headers(Some(value));
    let mut two_headers = plaid();
    two_headers.append(header::AUTHORIZATION, basic("plaid", "plaid-secret").parse().unwrap());
    let mut json = plaid();
    json.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let mut untyped = plaid();
    untyped.remove(header::CONTENT_TYPE);
    let in_body = "client_id=plaid&client_secret=plaid-secret";
    let (request, client) = ((400, "invalid_request"), (401, "invalid_client"));
    let cases = [
        ("a JSON body", json, good.clone(), request),
        ("no media type", untyped, good.clone(), request),
        ("broken encoding", plaid(), with("x=%zz"), request),
        ("a parameter twice", plaid(), with("code=x"), request),
        ("a parameter twice, once empty", plaid(), with("code_verifier="), request),
        ("a parameter of the other grant twice", plaid(), with("scope=a&scope=a"), request),
        ("two ways of authentication", plaid(), with(in_body), request),
        ("an assertion beside Basic", plaid(), with("client_assertion=x"), request),
        ("another client in the body", plaid(), with("client_id=odd+client"), request),
        ("two Authorization headers", two_headers, good.clone(), request),
        ("no grant type", plaid(), good.replace("grant_type", "x"), request),
        ("no code", plaid(), good.replace("code=", "x="), request),
        ("no refresh token", plaid(), "grant_type=refresh_token".into(), request),
        ("no credentials", none(), good.clone(), client),
        ("a client id alone", none(), with("client_id=plaid"), client),
        ("a secret alone", none(), with("client_secret=plaid-secret"), client),
        ("a wrong secret", authorized(&basic("plaid", "wrong")), good.clone(), client),
        ("a wrong secret in the body", none(), with("client_id=plaid&client_secret=x"), client),
        ("an empty secret", authorized(&basic("plaid", "")), good.clone(), client),
        ("an unknown client", authorized(&basic("nobody", "plaid-secret")), good.clone(), client),
        ("an id that is none", authorized(&basic("", "plaid-secret")), good.clone(), client),
        ("no colon", authorized("Basic cGxhaWQ="), good.clone(), client),
        ("no base64", authorized("Basic ~~~"), good.clone(), client),
        ("no UTF-8", authorized("Basic //86/w=="), good.clone(), client),
        ("Basic alone", authorized("Basic"), good.clone(), client),
        ("another scheme", authorized("Bearer cGxhaWQ6cGxhaWQtc2VjcmV0"), good.clone(), client),
        ("an assertion", none(), with("client_assertion=x"), client),
        (
            "another grant type",
            plaid(),
            "grant_type=password&username=u&password=p".into(),
            (400, "unsupported_grant_type"),
        ),
        ("an unknown code", plaid(), good.replace(&*code, "unknown"), (400, "invalid_grant")),
        (
            "an unknown refresh token",
            plaid(),
            "grant_type=refresh_token&refresh_token=a.b".into(),
            (400, "invalid_grant"),
        ),
        (
            "no refresh token of ours",
            plaid(),
            "grant_type=refresh_token&refresh_token=ab".into(),
            (400, "invalid_grant"),
        ),
    ];
    for (name, headers, body, (status, error)) in cases {
        let refused = bank.oauth.token(&headers, body.as_bytes()).await;
        assert_eq!(refusal(refused), (status, error.into()), "{name}");
    }
    let refused = bank.oauth.token(&plaid(), b"grant_type=\xff").await;
    assert_eq!(refusal(refused), (400, "invalid_request".into()));
    // None of these spent the code.
    let mut charset = plaid();
    let media_type = "Application/X-WWW-form-urlencoded; charset=UTF-8";
    charset.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    bank.oauth.token(&charset, good.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn ways_of_authentication() {
    let bank = bank();
    let unencoded = headers(Some(&basic("odd client", "a:b+c%/d")));
    let percent = headers(Some(&basic("per%41cent", "x%zz")));
    let lower = headers(Some(&basic("plaid", "plaid-secret").replace("Basic", "basic")));
    for (name, headers, id) in [
        ("Basic", plaid(), "plaid"),
        ("Basic in lower case", lower, "plaid"),
        ("encoded", odd(), "odd client"),
        ("not encoded", unencoded, "odd client"),
        ("not encoded and looking as if", percent, "per%41cent"),
    ] {
        let client = bank.oauth.authenticate_client(&headers).await;
        assert_eq!(client.unwrap().id.as_str(), id, "{name}");
    }
    let missing = bank.oauth.authenticate_client(&headers(None)).await;
    assert_eq!(refusal(missing), (401, "invalid_client".into()));
    let code = bank.code(&query(&[])).await;
    let body = form(&[
        ("grant_type", "authorization_code"),
        ("code", &code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
        ("client_id", "plaid"),
        ("client_secret", "plaid-secret"),
    ]);
    bank.oauth.token(&headers(None), body.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn what_a_code_is_bound_to() {
    let other = "https://plaid.example/query?kept=1";
    let wrong = VERIFIER.replace('d', "e");
    let long = "a".repeat(129);
    let verifier = Some(VERIFIER);
    let cases = [
        ("a wrong verifier", plaid(), Some(REDIRECT), Some(&*wrong), true),
        ("no verifier", plaid(), Some(REDIRECT), None, true),
        ("a short verifier", plaid(), Some(REDIRECT), Some("short"), true),
        ("a long verifier", plaid(), Some(REDIRECT), Some(&*long), true),
        ("the challenge as verifier", plaid(), Some(REDIRECT), Some(CHALLENGE), true),
        ("another redirect URI", plaid(), Some(other), verifier, true),
        ("no redirect URI", plaid(), None, verifier, true),
        ("another client", odd(), Some(REDIRECT), verifier, false),
    ];
    for (name, headers, redirect_uri, verifier, spent) in cases {
        let bank = bank();
        let code = bank.code(&query(&[])).await;
        let refused = bank.redeem_with(&headers, &code, redirect_uri, verifier).await;
        assert_eq!(refusal(refused), invalid_grant(), "{name}");
        assert_eq!(bank.redeem(&code).await.is_err(), spent, "{name}");
    }
    let bank = bank();
    let code = bank.code(&query(&[])).await;
    bank.clock.advance(TimeDelta::seconds(60));
    assert_eq!(refusal(bank.redeem(&code).await), invalid_grant(), "expired");
}

#[tokio::test]
async fn pkce_may_be_optional_and_never_plain() {
    let clock = ManualClock::new(start());
    let oauth = OAuth::builder(ISSUER, clients(), Arc::new(MemoryGrantStore::new()))
        .clock(Arc::new(clock.clone()))
        .pkce_optional()
        .build()
        .unwrap();
    let bank = Bank { oauth, store: Arc::default(), clock };
    let without = query(&[("code_challenge", None), ("code_challenge_method", None)]);
    let code = bank.code(&without).await;
    bank.redeem_with(&plaid(), &code, Some(REDIRECT), None).await.unwrap();
    let code = bank.code(&without).await;
    // The challenge was taken out on the way (RFC 9700, 4.8.2).
    assert_eq!(refusal(bank.redeem(&code).await), invalid_grant());
    let plain = query(&[("code_challenge_method", Some("plain"))]);
    let refused = bank.oauth.authorize(&plain).await;
    assert!(matches!(refused, Authorization::Redirect(url) if url.contains("invalid_request")));
}

#[tokio::test]
async fn code_replay() {
    let bank = bank();
    let code = bank.code(&query(&[])).await;
    let tokens = bank.redeem(&code).await.unwrap();
    let next = bank.refresh(refresh_token(&tokens)).await.unwrap();
    // Another client that shows the code ends nothing.
    let foreign = bank.redeem_with(&odd(), &code, Some(REDIRECT), Some(VERIFIER)).await;
    assert_eq!(refusal(foreign), invalid_grant());
    assert!(bank.lives(&tokens.access_token).await);
    // Long after the code's own life.
    bank.clock.advance(TimeDelta::seconds(800));
    assert_eq!(refusal(bank.redeem(&code).await), invalid_grant());
    assert!(!bank.lives(&tokens.access_token).await);
    assert!(!bank.lives(&next.access_token).await);
    let ended = bank.refresh(refresh_token(&next)).await;
    assert_eq!(refusal(ended), invalid_grant());
}

#[tokio::test]
async fn of_many_redemptions_one_succeeds_and_then_ends() {
    let bank = bank();
    let code = bank.code(&query(&[])).await;
    let all = futures_util::future::join_all((0..8).map(|_| bank.redeem(&code))).await;
    let given: Vec<_> = all.into_iter().filter_map(Result::ok).collect();
    assert_eq!(given.len(), 1);
    assert!(!bank.lives(&given[0].access_token).await);
}

#[tokio::test]
async fn rotation() {
    let bank = bank();
    let first = bank.tokens().await;
    let second = bank.refresh(refresh_token(&first)).await.unwrap();
    assert_ne!(refresh_token(&first), refresh_token(&second));
    assert!(bank.lives(&first.access_token).await, "lives until its own end");
    let third = bank.refresh(refresh_token(&second)).await.unwrap();
    // The first has been spent and one of its pairs was used: the family ends.
    assert_eq!(refusal(bank.refresh(refresh_token(&first)).await), invalid_grant());
    for tokens in [&first, &second, &third] {
        assert!(!bank.lives(&tokens.access_token).await);
        assert_eq!(refusal(bank.refresh(refresh_token(tokens)).await), invalid_grant());
    }
}

#[tokio::test]
async fn a_lost_answer_is_given_again_within_30_s_and_3_times() {
    let bank = bank();
    let first = bank.tokens().await;
    let lost = bank.refresh(refresh_token(&first)).await.unwrap();
    bank.clock.advance(TimeDelta::seconds(30));
    let second = bank.refresh(refresh_token(&first)).await.unwrap();
    let third = bank.refresh(refresh_token(&first)).await.unwrap();
    // The pair that is used first stays, by its access token here.
    assert!(bank.lives(&second.access_token).await);
    for sibling in [&lost, &third] {
        assert!(!bank.lives(&sibling.access_token).await);
        assert_eq!(refusal(bank.refresh(refresh_token(sibling)).await), invalid_grant());
    }
    // Showing the siblings ended nothing.
    assert!(bank.lives(&second.access_token).await);
    assert!(bank.lives(&first.access_token).await);
    let next = bank.refresh(refresh_token(&second)).await.unwrap();
    // And by its refresh token.
    let again = bank.refresh(refresh_token(&second)).await.unwrap();
    bank.refresh(refresh_token(&next)).await.unwrap();
    assert!(!bank.lives(&again.access_token).await);
    assert!(bank.lives(&next.access_token).await);
}

#[tokio::test]
async fn other_uses_of_a_spent_refresh_token_end_the_family() {
    let later = |seconds| TimeDelta::seconds(seconds);
    for (name, uses, wait, use_pair) in [
        ("after 30 s", 1, later(31), false),
        ("a fourth time", 3, later(0), false),
        ("after one of its pairs was used", 1, later(0), true),
    ] {
        let bank = bank();
        let first = bank.tokens().await;
        let mut pairs = Vec::new();
        for _ in 0..uses {
            pairs.push(bank.refresh(refresh_token(&first)).await.unwrap());
        }
        if use_pair {
            assert!(bank.lives(&pairs[0].access_token).await);
        }
        bank.clock.advance(wait);
        let reused = bank.refresh(refresh_token(&first)).await;
        assert_eq!(refusal(reused), invalid_grant(), "{name}");
        for tokens in pairs.iter().chain([&first]) {
            assert!(!bank.lives(&tokens.access_token).await, "{name}");
            let ended = bank.refresh(refresh_token(tokens)).await;
            assert_eq!(refusal(ended), invalid_grant(), "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_refreshes_never_give_more_than_3_pairs() {
    let bank = Arc::new(bank());
    for _ in 0..20 {
        let first = Arc::new(bank.tokens().await);
        let tasks = (0..16).map(|_| {
            let (bank, first) = (bank.clone(), first.clone());
            tokio::spawn(async move { bank.refresh(refresh_token(&first)).await })
        });
        let all = futures_util::future::join_all(tasks).await;
        let given: Vec<_> = all.into_iter().filter_map(|task| task.unwrap().ok()).collect();
        assert_eq!(given.len(), 3);
        // The others were a fourth use.
        for pair in &given {
            assert!(!bank.lives(&pair.access_token).await);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_siblings_that_are_used_at_once_one_stays() {
    let bank = Arc::new(bank());
    for _ in 0..50 {
        let first = bank.tokens().await;
        let mut pairs = Vec::new();
        for _ in 0..3 {
            pairs.push(bank.refresh(refresh_token(&first)).await.unwrap());
        }
        let tasks = pairs.iter().map(|pair| {
            let (bank, token) = (bank.clone(), pair.access_token.clone());
            tokio::spawn(async move { bank.lives(&token).await })
        });
        let alive = futures_util::future::join_all(tasks).await;
        let alive = alive.into_iter().filter(|task| *task.as_ref().unwrap()).count();
        assert_eq!(alive, 1);
    }
}

#[tokio::test]
async fn refresh_narrows_and_never_widens() {
    let bank = bank();
    let code = bank.code(&query(&[("scope", Some("accounts transactions offline_access"))])).await;
    let first = bank.redeem(&code).await.unwrap();
    let token = refresh_token(&first);
    for scope in ["accounts identity", "everything", "\""] {
        let wider = bank.refresh_with(&plaid(), token, Some(scope)).await;
        assert_eq!(refusal(wider), (400, "invalid_scope".into()), "{scope}");
    }
    let narrow = bank.refresh_with(&plaid(), token, Some("accounts")).await.unwrap();
    assert_eq!(narrow.scope.as_deref(), Some("accounts"));
    let grant = bank.oauth.verifier().verify(&narrow.access_token).await.unwrap();
    assert_eq!(grant.scopes.to_string(), "accounts");
    let whole = bank.refresh(refresh_token(&narrow)).await.unwrap();
    assert_eq!(whole.scope.as_deref(), Some("accounts offline_access transactions"));
}

#[tokio::test]
async fn who_gets_a_refresh_token_and_for_how_long() {
    let bank = bank();
    let code = bank.code(&query(&[("scope", Some("accounts"))])).await;
    assert!(bank.redeem(&code).await.unwrap().refresh_token.is_none());
    let tokens = bank.tokens().await;
    let foreign = bank.refresh_with(&odd(), refresh_token(&tokens), None).await;
    assert_eq!(refusal(foreign), invalid_grant());
    // 13 months from the end of January, and no inactivity limit.
    let end: DateTime<Utc> = "2025-02-28T12:00:00Z".parse().unwrap();
    bank.clock.advance(end - start() - TimeDelta::seconds(10));
    let last = bank.refresh(refresh_token(&tokens)).await.unwrap();
    assert_eq!(last.expires_in, Some(10), "no access token outlives the grant");
    bank.clock.advance(TimeDelta::seconds(10));
    assert_eq!(bank.clock.now(), end);
    let over = bank.refresh(refresh_token(&last)).await;
    assert_eq!(refusal(over), invalid_grant());
    assert!(!bank.lives(&last.access_token).await);
    bank.oauth.purge().await.unwrap();
    assert!(bank.store.of_principal(&user()).await.unwrap().is_empty());
}

#[tokio::test]
async fn revocation() {
    let bank = bank();
    let tokens = bank.tokens().await;
    let next = bank.refresh(refresh_token(&tokens)).await.unwrap();
    // Unknown tokens, and those of another client.
    bank.revoke(&plaid(), "unknown").await.unwrap();
    bank.revoke(&plaid(), "unknown.unknown").await.unwrap();
    bank.revoke(&odd(), next.access_token.expose()).await.unwrap();
    bank.revoke(&odd(), refresh_token(&next).expose()).await.unwrap();
    assert!(bank.lives(&next.access_token).await);
    // An access token ends alone.
    bank.revoke(&plaid(), next.access_token.expose()).await.unwrap();
    assert!(!bank.lives(&next.access_token).await);
    assert!(bank.lives(&tokens.access_token).await);
    let next = bank.refresh(refresh_token(&next)).await.unwrap();
    // A refresh token, a spent one here, ends everything.
    bank.revoke(&plaid(), refresh_token(&tokens).expose()).await.unwrap();
    for tokens in [&tokens, &next] {
        assert!(!bank.lives(&tokens.access_token).await);
        assert_eq!(refusal(bank.refresh(refresh_token(tokens)).await), invalid_grant());
    }
    let body = b"token_type_hint=access_token";
    let missing = bank.oauth.revoke(&plaid(), body).await;
    assert_eq!(refusal(missing), (400, "invalid_request".into()));
    let twice = bank.oauth.revoke(&plaid(), b"token=a&token=b").await;
    assert_eq!(refusal(twice), (400, "invalid_request".into()));
    let nobody = bank.revoke(&headers(None), "unknown").await;
    assert_eq!(refusal(nobody), (401, "invalid_client".into()));
}

#[tokio::test]
async fn a_person_or_a_grant_is_ended_at_once_in_the_cache_too() {
    let bank = bank();
    let cached = bank.oauth.cached_verifier(100, Duration::from_secs(60));
    let lives = async |tokens: &TokenResponse| cached.verify(&tokens.access_token).await.is_ok();
    let (one, two, three) = (bank.tokens().await, bank.tokens().await, bank.tokens().await);
    assert!(lives(&one).await && lives(&two).await && lives(&three).await);
    let grant = cached.verify(&one.access_token).await.unwrap();
    let id = grant.grant_id.clone().unwrap();
    bank.oauth.revoke_grant(&id).await.unwrap();
    bank.oauth.revoke_grant("unknown").await.unwrap();
    assert!(!lives(&one).await && lives(&two).await);
    bank.revoke(&plaid(), three.access_token.expose()).await.unwrap();
    assert!(!lives(&three).await && lives(&two).await);
    let unredeemed = bank.code(&query(&[])).await;
    bank.oauth.revoke_principal(&user()).await.unwrap();
    assert!(!lives(&two).await);
    assert_eq!(refusal(bank.refresh(refresh_token(&two)).await), invalid_grant());
    assert_eq!(refusal(bank.redeem(&unredeemed).await), invalid_grant());
}

#[tokio::test]
async fn a_store_that_fails_is_503_and_ends_nothing() {
    let bank = bank();
    let code = bank.code(&query(&[])).await;
    let request = bank.ask(&query(&[])).await;
    let tokens = bank.tokens().await;
    bank.store.down.store(true, Ordering::SeqCst);
    let unavailable = || (503, "temporarily_unavailable".to_owned());
    let failed = bank.redeem(&code).await;
    assert!(failed.as_ref().unwrap_err().retry_after().is_some());
    assert_eq!(refusal(failed), unavailable());
    assert_eq!(refusal(bank.refresh(refresh_token(&tokens)).await), unavailable());
    let revoked = bank.revoke(&plaid(), tokens.access_token.expose()).await;
    assert_eq!(refusal(revoked), unavailable());
    let verified = bank.oauth.verifier().verify(&tokens.access_token).await;
    assert!(matches!(verified, Err(VerifyError::Unavailable(_))));
    let approved = bank.oauth.approve(&request, user(), PermittedAccounts::All).await;
    assert_eq!(approved.unwrap_err().status(), 503);
    bank.store.down.store(false, Ordering::SeqCst);
    assert!(bank.lives(&tokens.access_token).await);
    bank.redeem(&code).await.unwrap();
}

#[tokio::test]
async fn tokens_for_credentials_mode() {
    let bank = bank();
    let (id, scopes) = (ClientId::new("plaid").unwrap(), "accounts".parse().unwrap());
    let token = bank.oauth.issue_for(&id, user(), scopes, PermittedAccounts::All).await;
    let token = token.unwrap();
    bank.clock.advance(TimeDelta::days(365));
    let grant = bank.oauth.verifier().verify(&token).await.unwrap();
    assert_eq!(grant.scopes.to_string(), "accounts");
    bank.revoke(&plaid(), token.expose()).await.unwrap();
    assert!(!bank.lives(&token).await);
}

#[test]
fn settings_that_are_not_safe_are_refused() {
    let builder = |issuer| OAuth::builder(issuer, clients(), Arc::new(MemoryGrantStore::new()));
    for issuer in
        ["bank.example", "ftp://bank.example", "https://bank.example?x", "https://bank.example/#"]
    {
        assert!(builder(issuer).build().is_err(), "{issuer}");
    }
    let good = || builder("https://bank.example/px/");
    assert!(good().code_lifetime(Duration::from_secs(600)).build().is_ok());
    assert!(good().code_lifetime(Duration::from_secs(601)).build().is_err());
    assert!(good().code_lifetime(Duration::ZERO).build().is_err());
    assert!(good().access_token_lifetime(Duration::ZERO).build().is_err());
    assert!(good().access_token_lifetime(Duration::MAX).build().is_err());
    assert!(good().refresh_lifetime(chrono::Months::new(0)).build().is_err());
    assert!(good().scopes(ScopeSet::default()).build().is_err());
    let metadata = good().build().unwrap().metadata();
    assert_eq!(metadata["issuer"], "https://bank.example/px/");
    assert_eq!(metadata["token_endpoint"], "https://bank.example/px/oauth2/token");
    assert_eq!(metadata["code_challenge_methods_supported"], serde_json::json!(["S256"]));
    assert_eq!(metadata["authorization_response_iss_parameter_supported"], true);
}

#[tokio::test]
async fn the_store_keeps_what_it_promises_and_no_secret() {
    conformance::check(&MemoryGrantStore::new()).await.unwrap();
    let bank = bank();
    let code = bank.code(&query(&[])).await;
    let tokens = bank.redeem(&code).await.unwrap();
    let kept = bank.store.of_principal(&user()).await.unwrap();
    let json = serde_json::to_string(&*kept[0].record).unwrap();
    let refresh = refresh_token(&tokens).expose();
    let (family, secret) = refresh.split_once('.').unwrap();
    for secret in [&*code, family, secret, tokens.access_token.expose()] {
        assert!(!json.contains(secret));
        assert_eq!(secret.len(), 43, "256 bits");
    }
    let read: GrantRecord = serde_json::from_str(&json).unwrap();
    assert_eq!(read, *kept[0].record);
}
