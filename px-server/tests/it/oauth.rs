//! The OAuth kit through its public interface: a bank with a clock and a store of the test.

mod ends;
mod refusals;
mod rotation;

use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderMap, HeaderValue, header};
use px_core::{Clock as _, Digest, ManualClock};
use px_server::{
    PermittedAccounts,
    clients::{Client, Clients, MemoryClients},
    oauth::{
        Authorization, AuthorizationRequest, GrantRecord, GrantStore, MemoryGrantStore, OAuth,
        OAuthError, StoreError, Swap, VersionedGrant, store::conformance,
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
struct FailingStore {
    inner: MemoryGrantStore,
    down: AtomicBool,
}

impl FailingStore {
    fn check_available(&self) -> Result<(), StoreError> {
        match self.down.load(Ordering::SeqCst) {
            true => Err("the store is down".into()),
            false => Ok(()),
        }
    }
}

#[async_trait::async_trait]
impl GrantStore for FailingStore {
    async fn create(&self, record: GrantRecord) -> Result<(), StoreError> {
        self.check_available()?;
        self.inner.create(record).await
    }
    async fn find(&self, digest: &Digest) -> Result<Option<VersionedGrant>, StoreError> {
        self.check_available()?;
        let found = self.inner.find(digest).await;
        // Lets other calls run between reading and swapping, as in a real store.
        tokio::task::yield_now().await;
        found
    }
    async fn find_by_id(&self, id: &str) -> Result<Option<VersionedGrant>, StoreError> {
        self.check_available()?;
        self.inner.find_by_id(id).await
    }
    async fn find_by_principal(
        &self,
        principal: &UserId,
    ) -> Result<Vec<VersionedGrant>, StoreError> {
        self.check_available()?;
        self.inner.find_by_principal(principal).await
    }
    async fn swap(&self, expected: u64, record: GrantRecord) -> Result<Swap, StoreError> {
        self.check_available()?;
        self.inner.swap(expected, record).await
    }
    async fn purge(&self, now: DateTime<Utc>) -> Result<u64, StoreError> {
        self.check_available()?;
        self.inner.purge(now).await
    }
}

struct Bank {
    oauth: OAuth,
    store: Arc<FailingStore>,
    clock: ManualClock,
}

fn clients() -> Arc<dyn Clients> {
    let id = |id: &str| ClientId::new(id).unwrap();
    let query = "https://plaid.example/query?kept=1";
    let plaid = Client::new(id("plaid"), "Plaid", [REDIRECT, query]);
    // An id and a secret that HTTP Basic must form-encode.
    let odd = Client::new(id("odd client"), "Odd", [REDIRECT]);
    let percent = Client::new(id("per%41cent"), "Percent", [REDIRECT]);
    let secret = |text: &str| ClientSecret::new(text);
    let clients = MemoryClients::new()
        .with(plaid, &secret("plaid-secret-of-the-tests"))
        .and_then(|clients| clients.with(odd, &secret("a:b+c%/d-of-the-tests")))
        .and_then(|clients| clients.with(percent, &secret("x%zz-of-the-tests")));
    Arc::new(clients.unwrap())
}

fn bank() -> Bank {
    let (store, clock) = (Arc::new(FailingStore::default()), ManualClock::new(start()));
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
    headers(Some(&basic("plaid", "plaid-secret-of-the-tests")))
}

fn odd() -> HeaderMap {
    headers(Some(&basic("odd+client", "a%3Ab%2Bc%25%2Fd-of-the-tests")))
}

fn form(pairs: &[(&str, &str)]) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(pairs);
    form.finish()
}

/// Returns the query of a valid authorization request, with parameters replaced, removed or added.
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
    async fn authorization_request(&self, query: &str) -> AuthorizationRequest {
        match self.oauth.authorize(query).await {
            Authorization::Prompt(request) => *request,
            other => panic!("no prompt: {other:?}"),
        }
    }

    async fn code(&self, query: &str) -> String {
        let request = self.authorization_request(query).await;
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

    async fn is_valid(&self, token: &AccessToken) -> bool {
        match self.oauth.verifier().verify(token).await {
            Ok(_) => true,
            Err(VerifyError::Invalid(_)) => false,
            Err(other) => panic!("{other}"),
        }
    }
}

fn refresh_token(tokens: &TokenResponse) -> &RefreshToken {
    tokens.refresh_token.as_ref().unwrap()
}

/// Returns the status and `error` of a refusal on the wire.
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
    let request = bank.authorization_request(&query(&changes)).await;
    assert_eq!(request.client_name, "Plaid");
    assert_eq!(request.application_name.as_deref(), Some("Budget"));
    // The bank stores the request between its pages.
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
    assert!(bank.is_valid(&tokens.access_token).await);
    bank.clock.advance(TimeDelta::seconds(1));
    assert!(!bank.is_valid(&tokens.access_token).await);
    let next = bank.refresh(refresh_token(&tokens)).await.unwrap();
    assert!(bank.is_valid(&next.access_token).await);
    let next = bank.oauth.verifier().verify(&next.access_token).await;
    assert_eq!(next.unwrap().grant_id, grant.grant_id);
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
    assert!(!bank.is_valid(&token).await);
}

#[tokio::test]
async fn the_store_keeps_what_it_promises_and_no_secret() {
    conformance::check(&MemoryGrantStore::new()).await.unwrap();
    let bank = bank();
    let code = bank.code(&query(&[])).await;
    let tokens = bank.redeem(&code).await.unwrap();
    let stored = bank.store.find_by_principal(&user()).await.unwrap();
    let json = serde_json::to_string(&*stored[0].record).unwrap();
    let refresh = refresh_token(&tokens).expose();
    let (family, secret) = refresh.split_once('.').unwrap();
    for secret in [&*code, family, secret, tokens.access_token.expose()] {
        assert!(!json.contains(secret));
        assert_eq!(secret.len(), 43, "256 bits");
    }
    let read: GrantRecord = serde_json::from_str(&json).unwrap();
    assert_eq!(read, *stored[0].record);
}

#[tokio::test]
async fn the_store_in_memory_drops_what_is_over() {
    let bank = bank();
    for _ in 0..1100 {
        let _ = bank.code(&query(&[])).await;
        bank.clock.advance(TimeDelta::seconds(60));
    }
    assert!(bank.store.find_by_principal(&user()).await.unwrap().len() < 1100);
}
