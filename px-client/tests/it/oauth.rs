//! Refreshed tokens: refreshed early, one refresh at a time, saved before use, and not lost.

use crate::bad_server::{BadServer, Script, Seen, USER};
use async_trait::async_trait;
use chrono::TimeDelta;
use px_client::{
    ErrorKind, MemoryTokenStore, PartnerClient, RefreshingTokens, TokenSource as _, TokenStore,
    oauth::{AuthorizationRequest, TokenDefect, TokenSet},
};
use px_core::{Clock as _, ReqwestTransport, SystemClock};
use px_types::{AccessToken, ClientSecret, RefreshToken, UserId};
use std::{
    error::Error as StdError,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

fn client(url: &str) -> PartnerClient {
    PartnerClient::builder(url, ReqwestTransport::new().unwrap())
        .client("plaid".parse().unwrap(), ClientSecret::new("p&ss word"))
        .build()
        .unwrap()
}

/// Tokens that expired long ago.
fn old(refresh_token: &str) -> TokenSet {
    serde_json::from_value(serde_json::json!({
        "access_token": "old", "refresh_token": refresh_token,
        "issued_at": "2020-01-01T00:00:00Z", "expires_at": "2020-01-01T00:15:00Z",
    }))
    .unwrap()
}

fn pair(access: &str, refresh: &str) -> Script {
    let body = format!(
        r#"{{"access_token":"{access}","token_type":"Bearer","expires_in":900,"refresh_token":"{refresh}","user_id":"u"}}"#
    );
    Script::json(200, body)
}

fn oauth_error(status: u16, error: &str) -> Script {
    Script::json(status, format!(r#"{{"error":"{error}"}}"#))
}

#[tokio::test]
async fn a_code_flow_from_end_to_end() {
    let server = BadServer::start(|seen: &Seen| {
        // "plaid:p%26ss+word", as RFC 6749 section 2.3.1 says.
        assert!(
            seen.text.contains("authorization: Basic cGxhaWQ6cCUyNnNzK3dvcmQ="),
            "{}",
            seen.text
        );
        assert!(seen.text.contains("grant_type=authorization_code&code=c-1&redirect_uri="));
        assert!(seen.text.contains("code_verifier="));
        pair("acc", "ref")
    });
    let client = client(&server.url());
    let mut request = AuthorizationRequest::new("https://plaid.example/cb");
    request.issuer = Some("https://bank.example".into());
    let (url, pending) = client.begin_authorization(request).unwrap();
    let requested: std::collections::HashMap<_, _> = url.query_pairs().into_owned().collect();
    assert_eq!(requested["code_challenge_method"], "S256");
    assert_eq!(requested["response_type"], "code");
    assert_eq!((requested["state"].len(), requested["code_challenge"].len()), (43, 43));
    let stored = serde_json::to_string(&pending).unwrap();
    let pending: px_client::oauth::PendingAuthorization = serde_json::from_str(&stored).unwrap();
    let back = format!("?code=c-1&state={}&iss=https://bank.example", requested["state"]);
    let accepted = pending.check_callback(&back).unwrap();
    let tokens = client.exchange_code(accepted).await.unwrap();
    assert_eq!(tokens.access_token.expose(), "acc");
    assert_eq!(tokens.user_id, Some(UserId::new("u").unwrap()));
    assert!(tokens.expires_at.unwrap() > tokens.issued_at);
    assert!(!format!("{tokens:?}").contains("acc\""));
}

#[tokio::test]
async fn many_callers_cause_one_refresh() {
    let server = BadServer::start(|seen| pair(&format!("new{}", seen.number), "r2"));
    let store = MemoryTokenStore::new(old("r1"));
    let tokens = RefreshingTokens::new(client(&server.url()), Arc::new(store.clone()));
    let calls = (0..50).map(|_| {
        let tokens = tokens.clone();
        tokio::spawn(async move { tokens.token().await.unwrap() })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap().expose(), "new0");
    }
    assert_eq!(server.requests(), 1);
    let saved = store.load().await.unwrap().unwrap();
    assert_eq!(saved.refresh_token, Some(RefreshToken::new("r2")));
}

#[tokio::test]
async fn many_callers_fail_with_one_refresh() {
    let server = BadServer::start(|_| {
        let mut script = oauth_error(503, "temporarily_unavailable");
        script.pieces.insert(0, Vec::new());
        script.pause = std::time::Duration::from_millis(100);
        script
    });
    let store = Arc::new(MemoryTokenStore::new(old("r1")));
    let tokens = RefreshingTokens::new(client(&server.url()), store);
    let calls = (0..20).map(|_| {
        let tokens = tokens.clone();
        tokio::spawn(async move { tokens.token().await.unwrap_err() })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap().status(), Some(503));
    }
    // Each refresh is sent twice, because its first response may have been lost.
    assert_eq!(server.requests(), 2);
    // A later caller tries again.
    tokens.token().await.unwrap_err();
    assert_eq!(server.requests(), 4);
}

#[derive(Debug)]
struct Faulty {
    inner: MemoryTokenStore,
    broken: AtomicBool,
    saves: AtomicUsize,
}

#[async_trait]
impl TokenStore for Faulty {
    async fn load(&self) -> Result<Option<TokenSet>, Box<dyn StdError + Send + Sync>> {
        self.inner.load().await
    }
    async fn save(&self, tokens: &TokenSet) -> Result<(), Box<dyn StdError + Send + Sync>> {
        self.saves.fetch_add(1, Ordering::SeqCst);
        if self.broken.load(Ordering::SeqCst) {
            return Err("disk full".into());
        }
        self.inner.save(tokens).await
    }
}

#[tokio::test]
async fn what_is_not_saved_is_not_used_and_not_lost() {
    let server = BadServer::start(|_| pair("new", "r2"));
    let store = Arc::new(Faulty {
        inner: MemoryTokenStore::new(old("r1")),
        broken: AtomicBool::new(true),
        saves: AtomicUsize::new(0),
    });
    let tokens = RefreshingTokens::new(client(&server.url()), store.clone());
    let error = tokens.token().await.unwrap_err();
    assert!(error.to_string().contains("cannot be saved"), "{error}");
    tokens.token().await.unwrap_err();
    store.broken.store(false, Ordering::SeqCst);
    assert_eq!(tokens.token().await.unwrap().expose(), "new");
    assert_eq!((server.requests(), store.saves.load(Ordering::SeqCst)), (1, 3));
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_once_more() {
    let server = BadServer::start(|seen| match seen.number {
        0 => Script::raw("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"),
        _ => pair("new", "r2"),
    });
    let store = Arc::new(MemoryTokenStore::new(old("r1")));
    let tokens = RefreshingTokens::new(client(&server.url()), store);
    assert_eq!(tokens.token().await.unwrap().expose(), "new");
    assert_eq!(server.requests(), 2);

    let server = BadServer::start(|_| Script::raw(""));
    let store = Arc::new(MemoryTokenStore::new(old("r1")));
    let tokens = RefreshingTokens::new(client(&server.url()), store);
    let error = tokens.token().await.unwrap_err();
    assert!(!error.ends_token(), "a lost response ends nothing: {error}");
    assert_eq!(server.requests(), 2);
}

/// A partner that rotates the refresh token and never responds to the first request.
#[derive(Clone, Debug)]
struct Silent(Arc<AtomicUsize>, Arc<std::sync::Mutex<Vec<std::time::Duration>>>, SystemClock);

#[async_trait]
impl px_core::HttpTransport for Silent {
    async fn send(
        &self,
        _: http::Request<bytes::Bytes>,
        _: &px_core::HttpLimits,
    ) -> Result<http::Response<bytes::Bytes>, px_core::TransportError> {
        self.1.lock().unwrap().push(self.2.elapsed());
        if self.0.fetch_add(1, Ordering::SeqCst) == 0 {
            return std::future::pending().await;
        }
        let body = r#"{"access_token":"new","token_type":"Bearer","refresh_token":"r2"}"#;
        let response = http::Response::builder().header("content-type", "application/json");
        Ok(response.body(bytes::Bytes::from(body)).unwrap())
    }
}

/// A partner accepts a refresh token again for 30 s after its first use. A client that waited that long for a
/// lost response would come too late, and would end the user's authorization.
#[tokio::test(start_paused = true)]
async fn an_answer_that_never_comes_is_asked_for_again_within_the_partners_30_s() {
    let clock = SystemClock::new();
    let silent = Silent(Arc::default(), Arc::default(), clock);
    let client = PartnerClient::builder("https://bank.example", silent.clone())
        .client("plaid".parse().unwrap(), ClientSecret::new("password"))
        .clock(Arc::new(clock))
        .build()
        .unwrap();
    let store = Arc::new(MemoryTokenStore::new(old("r1")));
    let tokens = RefreshingTokens::new(client, store);
    assert_eq!(tokens.token().await.unwrap().expose(), "new");
    let requested = silent.1.lock().unwrap().clone();
    assert_eq!(requested.len(), 2);
    assert!((requested[1] - requested[0]).as_secs() <= 15, "{requested:?}");
}

/// A gateway's page, and a 200 that is not a token response, hide whether the partner has rotated the token:
/// within 30 s a second use is safe, later it would end the family.
#[tokio::test]
async fn an_answer_that_was_lost_behind_a_gateway_is_asked_for_once_more() {
    let html = |status| Script::response(status, "Content-Type: text/html\r\n", "<html>");
    let unavailable = Script::error(503, "Retry-After: 3600\r\n", "institution_unavailable");
    for lost in [
        html(502),
        html(504),
        html(200),
        Script::json(200, r#"{"access_token":7}"#),
        // It may have rotated the token before it failed, whatever delay it requests.
        html(500),
        unavailable,
        oauth_error(503, "temporarily_unavailable"),
    ] {
        let first = lost.clone();
        let server = BadServer::start(move |seen| match seen.number {
            0 => first.clone(),
            _ => pair("new", "r2"),
        });
        let store = Arc::new(MemoryTokenStore::new(old("r1")));
        let tokens = RefreshingTokens::new(client(&server.url()), store);
        let token = tokens.token().await.unwrap_or_else(|e| panic!("{lost:?}: {e}"));
        assert_eq!((token.expose(), server.requests()), ("new", 2));
    }
}

/// Tokens that are due and still valid for a while.
fn nearly_over() -> TokenSet {
    let now = SystemClock::new().now();
    let mut tokens = TokenSet::new(AccessToken::new("still good"), now - TimeDelta::seconds(890));
    tokens.refresh_token = Some(RefreshToken::new("r1"));
    tokens.expires_at = Some((now + TimeDelta::seconds(10)).into());
    tokens
}

/// A partner that cannot refresh is not called with every request.
#[tokio::test]
async fn while_a_token_is_good_a_failing_refresh_is_not_tried_each_time() {
    let server = BadServer::start(|_| oauth_error(503, "temporarily_unavailable"));
    let store = Arc::new(MemoryTokenStore::new(nearly_over()));
    let tokens = RefreshingTokens::new(client(&server.url()), store);
    for _ in 0..20 {
        assert_eq!(tokens.token().await.unwrap().expose(), "still good");
    }
    // Once, and immediately once more, because the response may have been lost.
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn invalid_grant_reads_the_store_again_before_it_gives_up() {
    let store = MemoryTokenStore::new(old("r1"));
    let other_process = store.clone();
    let server = BadServer::start(move |seen| {
        if seen.text.contains("refresh_token=r1") {
            // Another process was faster.
            futures_util::future::FutureExt::now_or_never(other_process.save(&old("r2")));
            return oauth_error(400, "invalid_grant");
        }
        assert!(seen.text.contains("refresh_token=r2"));
        pair("new", "r3")
    });
    let tokens = RefreshingTokens::new(client(&server.url()), Arc::new(store));
    assert_eq!(tokens.token().await.unwrap().expose(), "new");

    let server = BadServer::start(|_| oauth_error(400, "invalid_grant"));
    let store = Arc::new(MemoryTokenStore::new(old("r1")));
    let tokens = RefreshingTokens::new(client(&server.url()), store);
    for _ in 0..2 {
        let error = tokens.token().await.unwrap_err();
        assert!(error.ends_token() && error.kind() == ErrorKind::Auth, "{error}");
    }
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_refreshed_token_is_used_and_a_401_ends_the_source() {
    let server = BadServer::start(|seen| match &*seen.target {
        "/oauth2/token" => pair("new", "r2"),
        _ if seen.number == 1 => {
            assert!(seen.text.contains("authorization: Bearer new"));
            Script::json(200, USER)
        }
        _ => Script::error(401, "", "invalid_token"),
    });
    let client = client(&server.url());
    let store = Arc::new(MemoryTokenStore::new(old("r1")));
    let tokens = Arc::new(RefreshingTokens::new(client.clone(), store));
    let user = client.with_tokens(tokens);
    let id = UserId::new("u").unwrap();
    user.user(&id).await.unwrap();
    assert!(user.user(&id).await.unwrap_err().ends_token());
    assert!(user.user(&id).await.unwrap_err().ends_token());
    assert_eq!(server.requests(), 3);
}

#[tokio::test]
async fn the_metadata_of_another_issuer_are_refused() {
    let server = BadServer::start(|_| Script::json(200, r#"{"issuer":"https://evil.example"}"#));
    let client = client(&server.url());
    client.discover("https://evil.example").await.unwrap();
    let error = client.discover("https://bank.example").await.unwrap_err();
    assert!(error.to_string().contains("another issuer"), "{error}");
}

#[tokio::test]
async fn nothing_shows_a_secret_when_it_is_printed() {
    let server = BadServer::start(|_| oauth_error(400, "invalid_grant"));
    let client = client(&server.url());
    let request = AuthorizationRequest::new("https://plaid.example/cb");
    let (url, pending) = client.begin_authorization(request).unwrap();
    let state = url.query_pairs().find(|(name, _)| name == "state").unwrap().1;
    let back = format!("code=c0de-s3cret&state={state}");
    let printed = [
        format!("{pending:?}"),
        format!("{:?}", pending.clone().check_callback(&back).unwrap()),
        format!("{:?}", old("ref-s3cret")),
        format!("{:?}", MemoryTokenStore::new(old("ref-s3cret"))),
        format!("{:?}", client.with_token(px_types::AccessToken::new("acc-s3cret"))),
        format!("{:?}", px_client::StaticToken::new(px_types::AccessToken::new("acc-s3cret"))),
        format!("{:?}", client.refresh(&RefreshToken::new("ref-s3cret")).await.unwrap_err()),
        format!("{:#?}", client.exchange_code(pending.check_callback(&back).unwrap()).await),
    ];
    for text in printed {
        for secret in ["s3cret", "old", "p&ss", &state] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

/// A store of unusable tokens, like a database.
#[derive(Debug, Default)]
struct ApartStore {
    tokens: MemoryTokenStore,
    apart: std::sync::Mutex<Vec<(TokenSet, TokenDefect)>>,
    broken: AtomicBool,
}

#[async_trait]
impl TokenStore for ApartStore {
    async fn load(&self) -> Result<Option<TokenSet>, Box<dyn std::error::Error + Send + Sync>> {
        self.tokens.load().await
    }

    async fn save(
        &self,
        tokens: &TokenSet,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.tokens.save(tokens).await
    }

    async fn save_unusable(
        &self,
        tokens: &TokenSet,
        defect: TokenDefect,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        if self.broken.load(Ordering::SeqCst) {
            return Err("the disk is full".into());
        }
        self.apart.lock().unwrap().push((tokens.clone(), defect));
        Ok(())
    }
}

#[tokio::test]
async fn a_pair_that_must_not_be_used_is_kept_apart_and_reads_nothing() {
    let another =
        r#"{"access_token":"new","token_type":"Bearer","refresh_token":"r2","user_id":"u-2"}"#;
    let mac = r#"{"access_token":"new","token_type":"mac","refresh_token":"r2","user_id":"u-1"}"#;
    for (body, defect) in [(another, TokenDefect::AnotherUser), (mac, TokenDefect::NotBearer)] {
        let server = BadServer::start(move |_| Script::json(200, body));
        let mut before = old("r1");
        before.user_id = Some("u-1".parse().unwrap());
        let store = Arc::new(ApartStore {
            tokens: MemoryTokenStore::new(before.clone()),
            ..ApartStore::default()
        });
        store.broken.store(true, Ordering::SeqCst);
        let tokens = RefreshingTokens::new(client(&server.url()), Arc::clone(&store) as _);
        let error = tokens.token().await.unwrap_err();
        assert!(error.to_string().contains("cannot be saved"), "{error}");
        // It is not requested again before the first pair is stored.
        tokens.token().await.unwrap_err();
        assert_eq!(server.requests(), 1);

        store.broken.store(false, Ordering::SeqCst);
        let error = tokens.token().await.unwrap_err();
        assert_eq!(error.token_defect(), Some(defect), "{error}");
        assert!(!error.ends_token() && !error.to_string().contains("new"), "{error}");
        assert_eq!(store.load().await.unwrap(), Some(before), "what is loaded is as it was");
        let apart = store.apart.lock().unwrap().clone();
        assert_eq!((apart[0].0.access_token.expose(), apart[0].1), ("new", defect));
    }
}

/// A code can be used only once. Its tokens are returned for storage, whatever their defect.
#[tokio::test]
async fn tokens_of_another_type_are_handed_over_and_never_used() {
    let mac = r#"{"access_token":"new","token_type":"mac","refresh_token":"r2"}"#;
    let server = BadServer::start(move |_| Script::json(200, mac));
    let client = client(&server.url());
    let tokens = client.refresh(&RefreshToken::new("r1")).await.unwrap();
    assert_eq!(tokens.defect(None), Some(TokenDefect::NotBearer));
    let source = RefreshingTokens::new(client, Arc::new(MemoryTokenStore::new(tokens)));
    let error = source.token().await.unwrap_err();
    assert_eq!(error.token_defect(), Some(TokenDefect::NotBearer));
}

/// Some partners serve tokens as a page or as plain text. They are read if possible.
#[tokio::test]
async fn tokens_are_taken_whatever_their_media_type() {
    for headers in [
        "Content-Type: text/html\r\n",
        "Content-Type: text/plain\r\n",
        "",
        "Content-Type: application/json\r\nContent-Type: text/json\r\n",
    ] {
        let body = "\u{feff} {\"access_token\":\"new\",\"refresh_token\":\"r2\"}";
        let server = BadServer::start(move |_| Script::response(200, headers, body));
        let tokens = client(&server.url()).refresh(&RefreshToken::new("r1")).await;
        let tokens = tokens.unwrap_or_else(|error| panic!("{headers}: {error}"));
        assert_eq!(tokens.access_token.expose(), "new");
        assert_eq!(server.requests(), 1);
    }
}
