//! A bank with an identity provider on another host: the destinations of requests for tokens.

use crate::bad_server::{BadServer, Script, Seen};
use chrono::TimeDelta;
use px_client::{
    ErrorKind, PartnerClient, RetryPolicy,
    oauth::{
        AuthorizationRequest, AuthorizationServer, CallbackErrorKind, ClientAuthentication,
        ServerEndpoints, TokenSet,
    },
};
use px_core::{Clock as _, ManualClock, ReqwestTransport, SystemClock};
use px_types::{AccessToken, ClientSecret, RefreshToken};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

/// A bank that has only its own API.
fn bank() -> BadServer {
    BadServer::start(|seen: &Seen| {
        assert!(!seen.text.contains("/oauth2/"), "{}", seen.text);
        Script::error(404, "", "not_found")
    })
}

/// An identity provider that records requests as `METHOD /path body`.
struct Provider {
    server: BadServer,
    issuer: String,
    seen: Arc<Mutex<Vec<String>>>,
    /// Whether the document cannot be read.
    down: Arc<AtomicBool>,
}

impl Provider {
    /// `document` is merged into the metadata, which are published at `path` below the realm.
    fn start(path: &'static str, document: &'static str) -> Self {
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let (noted, down) = (Arc::clone(&seen), Arc::<AtomicBool>::default());
        let is_down = Arc::clone(&down);
        let address = Arc::new(Mutex::new(String::new()));
        let own = Arc::clone(&address);
        let server = BadServer::start(move |seen: &Seen| {
            let url = own.lock().unwrap().clone();
            noted.lock().unwrap().push(seen.text.clone());
            let line = seen.text.lines().next().unwrap_or_default().to_owned();
            if is_down.load(Ordering::SeqCst) && line.starts_with("GET ") {
                return Script::error(503, "", "down");
            }
            if line.starts_with(&format!("GET {path} ")) {
                let body = format!(
                    r#"{{"issuer":"{url}/realms/bank","authorization_endpoint":"{url}/auth?tenant=1",
                    "token_endpoint":"{url}/token"{document}}}"#
                );
                return Script::json(200, body);
            }
            if line.starts_with("POST /token ") {
                return Script::json(
                    200,
                    r#"{"access_token":"acc","token_type":"Bearer","expires_in":300,"refresh_token":"ref"}"#,
                );
            }
            if line.starts_with("POST /revoke ") {
                return Script::json(200, "");
            }
            Script::error(404, "", "not_found")
        });
        *address.lock().unwrap() = server.url();
        let issuer = format!("{}/realms/bank", server.url());
        Self { server, issuer, seen, down }
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

fn client(bank: &BadServer, server: AuthorizationServer, clock: &ManualClock) -> PartnerClient {
    PartnerClient::builder(bank.url(), ReqwestTransport::new().unwrap())
        .client("plaid".parse().unwrap(), ClientSecret::new("p&ss word"))
        .authorization_server(server)
        .clock(Arc::new(clock.clone()))
        .retry(RetryPolicy::never())
        .build()
        .unwrap()
}

fn clock() -> ManualClock {
    ManualClock::new(SystemClock::new().now())
}

const OPENID: &str = "/realms/bank/.well-known/openid-configuration";
const RFC_8414: &str = "/.well-known/oauth-authorization-server/realms/bank";

#[tokio::test]
async fn codes_refreshes_and_revocations_go_to_the_discovered_endpoints() {
    for path in [OPENID, RFC_8414] {
        let bank = bank();
        let provider = Provider::start(path, "");
        let clock = clock();
        let client =
            client(&bank, AuthorizationServer::discovered(provider.issuer.clone()), &clock);
        let request = || AuthorizationRequest::new("https://plaid.example/cb");
        let error = client.begin_authorization(request()).unwrap_err();
        assert!(error.to_string().contains("call `endpoints` first"), "{error}");
        let endpoints = client.endpoints().await.unwrap();
        assert_eq!(endpoints.token, format!("{}/token", provider.server.url()));
        let (to, pending) = client.begin_authorization(request()).unwrap();
        let expected = format!("{}/auth?tenant=1&response_type=code", provider.server.url());
        assert!(to.as_str().starts_with(&expected), "{to}");
        let state = to.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
        // The provider does not announce `iss`; if it sends it, it must be right.
        let wrong = format!("code=c&state={state}&iss=https://evil.example");
        let error = pending.clone().check_callback(&wrong).unwrap_err();
        assert_eq!(error.kind(), &CallbackErrorKind::Issuer);
        let accepted = pending.check_callback(&format!("code=c&state={state}")).unwrap();
        provider.take();
        let tokens = client.exchange_code(accepted).await.unwrap();
        assert_eq!(tokens.access_token.expose(), "acc");
        client.refresh(&RefreshToken::new("ref")).await.unwrap();
        let seen = provider.take();
        assert_eq!(seen.len(), 2, "{seen:?}");
        for request in &seen {
            assert!(request.starts_with("POST /token "), "{request}");
            assert!(request.contains("authorization: Basic cGxhaWQ6cCUyNnNzK3dvcmQ="));
            assert!(!request.contains("client_secret"), "{request}");
        }
        assert!(seen[0].contains("grant_type=authorization_code&code=c&"));
        assert!(seen[1].contains("grant_type=refresh_token&refresh_token=ref"));
        // It has no revocation endpoint, so nothing is sent.
        let error = client.revoke_tokens(&tokens).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Build && !error.may_have_been_sent(), "{error}");
        assert!(provider.take().is_empty());
        // The bank was called only for the document.
        assert_eq!(bank.requests(), 1);
    }
}

#[tokio::test]
async fn what_the_document_says_of_the_client_and_the_callback_holds() {
    let (bank, clock) = (bank(), clock());
    let provider = Provider::start(
        OPENID,
        r#","token_endpoint_auth_methods_supported":["client_secret_post","private_key_jwt"],
        "authorization_response_iss_parameter_supported":true,"scopes_supported":null"#,
    );
    let client = client(&bank, AuthorizationServer::discovered(provider.issuer.clone()), &clock);
    let endpoints = client.endpoints().await.unwrap();
    assert_eq!(endpoints.client_authentication, ClientAuthentication::Body);
    let request = AuthorizationRequest::new("https://plaid.example/cb");
    let (to, pending) = client.begin_authorization(request).unwrap();
    let state = to.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    let stored = serde_json::to_string(&pending).unwrap();
    let pending: px_client::oauth::PendingAuthorization = serde_json::from_str(&stored).unwrap();
    let error = pending.clone().check_callback(&format!("code=c&state={state}")).unwrap_err();
    assert_eq!(error.kind(), &CallbackErrorKind::Issuer);
    let back = format!("code=c&state={state}&iss={}", provider.issuer);
    provider.take();
    client.exchange_code(pending.check_callback(&back).unwrap()).await.unwrap();
    let seen = provider.take().pop().unwrap();
    assert!(seen.contains("&client_id=plaid&client_secret=p%26ss+word"), "{seen}");
    assert!(!seen.contains("authorization:"), "{seen}");
}

#[tokio::test]
async fn configured_endpoints_need_no_document() {
    let (bank, clock) = (bank(), clock());
    let provider = Provider::start("/nowhere", "");
    let url = provider.server.url();
    let mut endpoints = ServerEndpoints::new(format!("{url}/auth"), format!("{url}/token?a=1"));
    endpoints.revocation = Some(format!("{url}/revoke"));
    let configured = AuthorizationServer::Configured(endpoints.clone());
    let ours = client(&bank, configured, &clock);
    let tokens = TokenSet::new(AccessToken::new("acc"), clock.now());
    ours.revoke_tokens(&tokens).await.unwrap();
    let seen = provider.take();
    assert!(seen[0].starts_with("POST /revoke ") && seen[0].contains("token=acc"), "{seen:?}");
    assert_eq!(bank.requests(), 0);
    assert_eq!(ours.endpoints().await.unwrap(), endpoints);
    // An error names the host that was called.
    endpoints.token = "http://127.0.0.1:1/token".into();
    let configured = AuthorizationServer::Configured(endpoints.clone());
    let gone = client(&bank, configured, &clock);
    let error = gone.refresh(&RefreshToken::new("r")).await.unwrap_err();
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
    for bad in ["", "/token", "https://a:b@id.example/", "ftp://id.example/"] {
        endpoints.token = bad.into();
        let configured = AuthorizationServer::Configured(endpoints.clone());
        let built =
            PartnerClient::builder("https://bank.example", ReqwestTransport::new().unwrap())
                .authorization_server(configured)
                .build();
        assert!(built.is_err(), "{bad}");
    }
}

/// The document is read once an hour. While it cannot be read, the endpoints are retained.
#[tokio::test]
async fn an_identity_provider_that_is_down_loses_no_token() {
    let (bank, clock) = (bank(), clock());
    let provider = Provider::start(OPENID, "");
    let server = || AuthorizationServer::discovered(provider.issuer.clone());
    let known = PartnerClient::builder(bank.url(), ReqwestTransport::new().unwrap())
        .client("plaid".parse().unwrap(), ClientSecret::new("s"))
        .authorization_server(server())
        .clock(Arc::new(clock.clone()))
        .retry(RetryPolicy::never())
        .build()
        .unwrap();
    known.endpoints().await.unwrap();
    provider.take();
    known.refresh(&RefreshToken::new("r")).await.unwrap();
    assert_eq!(provider.take().len(), 1, "the document is not read again");
    provider.down.store(true, Ordering::SeqCst);
    // Without endpoints nothing was sent, so the refresh token is unused.
    let unknown = PartnerClient::builder(bank.url(), ReqwestTransport::new().unwrap())
        .client("plaid".parse().unwrap(), ClientSecret::new("s"))
        .authorization_server(server())
        .retry(RetryPolicy::never())
        .build()
        .unwrap();
    let error = unknown.refresh(&RefreshToken::new("r")).await.unwrap_err();
    assert!(!error.may_have_been_sent() && error.kind() == ErrorKind::Connect, "{error:?}");
    assert!(error.status().is_none() && error.error_id().is_none());
    assert!(provider.take().iter().all(|seen| seen.starts_with("GET ")));
    clock.advance(TimeDelta::hours(1));
    known.refresh(&RefreshToken::new("r")).await.unwrap();
    let seen = provider.take();
    assert!(seen.len() > 1 && seen[0].starts_with("GET "), "{seen:?}");
    assert!(seen.last().unwrap().starts_with("POST /token "), "{seen:?}");
    known.refresh(&RefreshToken::new("r")).await.unwrap();
    assert_eq!(provider.take().len(), 1, "not tried with every call");
}

#[tokio::test]
async fn the_document_of_another_issuer_is_not_used() {
    let (bank, clock) = (bank(), clock());
    let provider = Provider::start("/.well-known/openid-configuration", "");
    let other = AuthorizationServer::discovered(provider.server.url());
    let error = client(&bank, other, &clock).endpoints().await.unwrap_err();
    assert!(error.to_string().contains("another issuer"), "{error}");
}
