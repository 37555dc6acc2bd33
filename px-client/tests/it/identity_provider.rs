//! A bank with a real identity provider, `oidc-provider` from the npm registry, and a client that reads it.
//!
//! The provider issues the tokens, the bank verifies them by its keys or by introspection, and the client
//! finds the provider's endpoints by discovery. `tests/oidc-provider/install.sh` installs it. Without Node.js
//! the tests are skipped; with `CI` set they fail instead.

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderValue, Request, Response, header};
use px_client::{
    PartnerClient,
    oauth::{AuthorizationRequest, AuthorizationServer, TokenSet},
};
use px_core::{
    Clock as _, HttpLimits, HttpTransport, InProcessTransport, ManualClock, ReqwestTransport,
    SystemClock, TransportError,
};
use px_server::{
    Caller, Error, Partner, PartnerService,
    verify::{IntrospectionVerifier, JwtVerifier, Preset, TokenVerifier, VerifyError},
};
use px_types::{
    AccessToken, ClientSecret, IdentityId,
    model::identity::Identity,
    partner::{GetUser, ListTransactions, TransactionsResponse, UserAccountInfoResponse},
};
use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
};

const API: &str = "https://px.bank.example";
const BACK: &str = "https://plaid.example/oauth.html";

/// Returns the folder of the installed provider, or `None` if the test is to be skipped.
#[allow(clippy::print_stderr, reason = "a skipped test says so")]
fn installed() -> Option<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let folder = target.unwrap_or_else(|| here.join("../target")).join("oidc-provider");
    let has_node = Command::new("node").arg("--version").output().is_ok();
    if has_node && folder.join("done").exists() {
        return Some(folder);
    }
    let missing = match has_node {
        false => "Node.js is missing",
        true => "the provider is not installed (sh px-client/tests/oidc-provider/install.sh)",
    };
    assert!(std::env::var_os("CI").is_none(), "{missing}");
    eprintln!("skipped: {missing}");
    None
}

/// A running provider, which ends when it is dropped.
struct Provider {
    process: Child,
    port: u16,
}

impl Provider {
    fn start(folder: &PathBuf, port: u16, format: &str, key_id: Option<&str>) -> Self {
        let script =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/oidc-provider/provider.mjs");
        let mut process = Command::new("node")
            .arg(script)
            .arg(folder)
            .args([port.to_string(), format.to_owned()])
            .args(key_id)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().expect("the provider prints its port");
        Self { process, port }
    }

    fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Stops the provider and starts one with other keys at the same address.
    fn restart(self, folder: &PathBuf, format: &str, key_id: Option<&str>) -> Self {
        let port = self.port;
        drop(self);
        Self::start(folder, port, format, key_id)
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Bank;

#[async_trait]
impl Partner for Bank {
    async fn user(&self, caller: &Caller, _: GetUser) -> Result<UserAccountInfoResponse, Error> {
        let holder: IdentityId = caller.principal().as_str().parse().map_err(Error::internal)?;
        let ann = Identity::new(holder.clone(), "Ann Example");
        Ok(UserAccountInfoResponse::new(holder, vec![ann], vec![], vec![]))
    }

    async fn transactions(
        &self,
        _: &Caller,
        request: ListTransactions,
    ) -> Result<TransactionsResponse, Error> {
        request.query.page_of(vec![]).ok_or_else(Error::cursor_expired)
    }
}

/// A bank in this process. Everything else is called over the network.
#[derive(Debug)]
struct World {
    bank: InProcessTransport<PartnerService>,
    network: ReqwestTransport,
}

#[async_trait]
impl HttpTransport for World {
    async fn send(
        &self,
        request: Request<Bytes>,
        limits: &HttpLimits,
    ) -> Result<Response<Bytes>, TransportError> {
        match request.uri().host() {
            Some("px.bank.example") => self.bank.send(request, limits).await,
            _ => self.network.send(request, limits).await,
        }
    }
}

fn network() -> Arc<dyn HttpTransport> {
    Arc::new(ReqwestTransport::new().unwrap())
}

fn reader(verifier: Arc<dyn TokenVerifier>, provider: &Provider) -> PartnerClient {
    let bank = PartnerService::builder(Bank).tokens(verifier).build().unwrap();
    let bank = InProcessTransport::new(bank);
    PartnerClient::builder(API, World { bank, network: ReqwestTransport::new().unwrap() })
        .client("plaid".parse().unwrap(), ClientSecret::new("the-secret-of-plaid"))
        .authorization_server(AuthorizationServer::discovered(provider.issuer()))
        .build()
        .unwrap()
}

fn jwt_verifier(provider: &Provider, clock: &ManualClock) -> JwtVerifier {
    let keys = format!("{}/jwks", provider.issuer()).parse().unwrap();
    let verifier = JwtVerifier::new(network(), keys, provider.issuer(), API).unwrap();
    verifier.accounts_claim("px_accounts").clock(Arc::new(clock.clone()))
}

/// Goes through the provider's pages like a browser, and returns the redirect to the client.
async fn browse(start: &str) -> String {
    let network = ReqwestTransport::new().unwrap();
    let (mut url, mut cookies) = (start.to_owned(), BTreeMap::new());
    for _ in 0..10 {
        let line: Vec<_> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request =
            Request::get(&url).header(header::COOKIE, line.join("; ")).body(Bytes::new()).unwrap();
        let response = network.send(request, &HttpLimits::default()).await.unwrap();
        for cookie in response.headers().get_all(header::SET_COOKIE) {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            cookies.insert(name.to_owned(), value.to_owned());
        }
        let to = response.headers().get(header::LOCATION).map(HeaderValue::to_str);
        let Some(Ok(to)) = to else { panic!("{} {:?}", response.status(), response.body()) };
        if to.starts_with(BACK) {
            return to.to_owned();
        }
        url = match to.starts_with('/') {
            true => {
                let origin: Vec<_> = start.splitn(4, '/').take(3).collect();
                format!("{}{to}", origin.join("/"))
            }
            false => to.to_owned(),
        };
    }
    panic!("the provider redirects for ever");
}

async fn authorize(reader: &PartnerClient) -> TokenSet {
    reader.endpoints().await.unwrap();
    let mut request = AuthorizationRequest::new(BACK);
    request.scope = Some("accounts identity auth transactions offline_access".parse().unwrap());
    let (url, pending) = reader.begin_authorization(request).unwrap();
    let back = browse(url.as_str()).await;
    reader.exchange_code(pending.check_callback(&back).unwrap()).await.unwrap()
}

async fn verify_result(verifier: &dyn TokenVerifier, token: &AccessToken) -> &'static str {
    match verifier.verify(token).await {
        Ok(_) => "good",
        Err(VerifyError::Invalid(_)) => "invalid",
        Err(VerifyError::Misconfigured(_)) => "misconfigured",
        Err(_) => "unavailable",
    }
}

fn now() -> DateTime<Utc> {
    SystemClock::new().now()
}

#[tokio::test]
async fn jwt_access_tokens() {
    let Some(folder) = installed() else { return };
    let provider = Provider::start(&folder, 0, "jwt", None);
    let clock = ManualClock::new(now());
    let verifier = Arc::new(jwt_verifier(&provider, &clock));
    let reader = reader(verifier.clone(), &provider);
    let tokens = authorize(&reader).await;
    assert_eq!(tokens.access_token.expose().split('.').count(), 3);
    let grant = verifier.verify(&tokens.access_token).await.unwrap();
    assert_eq!(grant.client_id.as_ref().unwrap().as_str(), "plaid");
    let expected = ["checking".parse().unwrap()];
    assert_eq!(grant.accounts, px_server::PermittedAccounts::Only(expected.into()));
    // The bank states the user, because the provider does not.
    assert!(tokens.user_id.is_none());
    let user = reader.with_token(tokens.access_token.clone());
    let user_id = user.current_user().await.unwrap().user_id;
    assert_eq!(user_id.as_str(), "ann");
    assert_eq!(user.user(&user_id).await.unwrap().identities[0].name, "Ann Example");
    // The refresh token gives the next pair, and is not accepted as an access token.
    let refresh_token = tokens.refresh_token.clone().unwrap();
    let refreshed = reader.refresh(&refresh_token).await.unwrap();
    assert_ne!(refreshed.refresh_token, tokens.refresh_token);
    let user = reader.with_token(refreshed.access_token.clone());
    user.user(&user_id).await.unwrap();
    let as_access = AccessToken::new(refresh_token.expose());
    assert_eq!(verify_result(&*verifier, &as_access).await, "invalid");
    let revoked = reader.revoke_tokens(&refreshed).await;
    revoked.unwrap();
    let error = reader.refresh(&refreshed.refresh_token.unwrap()).await.unwrap_err();
    assert_eq!(error.error_id(), Some("invalid_grant"));
}

/// The provider restarts at the same address with other keys. Earlier tokens do not end immediately, new ones
/// are accepted, and the earlier ones end once the keys are settled.
#[tokio::test]
async fn jwt_access_tokens_after_a_restart_with_other_keys() {
    let Some(folder) = installed() else { return };
    for key_id in [None, Some("k1")] {
        let provider = Provider::start(&folder, 0, "jwt", key_id);
        let clock = ManualClock::new(now());
        let verifier = Arc::new(jwt_verifier(&provider, &clock));
        let before = authorize(&reader(verifier.clone(), &provider)).await;
        assert_eq!(verify_result(&*verifier, &before.access_token).await, "good");
        let provider = provider.restart(&folder, "jwt", key_id);
        let after = authorize(&reader(verifier.clone(), &provider)).await;
        assert_eq!(verify_result(&*verifier, &after.access_token).await, "good", "{key_id:?}");
        clock.advance(TimeDelta::seconds(30));
        assert_eq!(
            verify_result(&*verifier, &before.access_token).await,
            "unavailable",
            "{key_id:?}"
        );
        // The keys are still known while the provider is out of reach.
        drop(provider);
        clock.advance(TimeDelta::minutes(2));
        assert_eq!(verify_result(&*verifier, &after.access_token).await, "good", "{key_id:?}");
        assert_eq!(
            verify_result(&*verifier, &before.access_token).await,
            "unavailable",
            "{key_id:?}"
        );
    }
}

fn introspection(provider: &Provider) -> IntrospectionVerifier {
    let endpoint = format!("{}/token/introspection", provider.issuer()).parse().unwrap();
    let (id, secret) = ("bank".parse().unwrap(), ClientSecret::new("the-secret-of-the-bank"));
    IntrospectionVerifier::new(network(), endpoint, &id, &secret)
        .unwrap()
        .audience(API)
        .profile(Preset::Rfc9068)
}

#[tokio::test]
async fn opaque_access_tokens() {
    let Some(folder) = installed() else { return };
    let provider = Provider::start(&folder, 0, "opaque", None);
    let verifier = Arc::new(introspection(&provider));
    let reader_of = |verifier: &Arc<IntrospectionVerifier>| reader(verifier.clone(), &provider);
    let reader = reader_of(&verifier);
    let tokens = authorize(&reader).await;
    assert!(!tokens.access_token.expose().contains('.'));
    // Other tokens are in doubt until an access token was verified.
    let refresh_token = tokens.refresh_token.clone().unwrap();
    let as_access = AccessToken::new(refresh_token.expose());
    assert_eq!(verify_result(&*verifier, &as_access).await, "misconfigured");
    let user = reader.with_token(tokens.access_token.clone());
    let user_id = user.current_user().await.unwrap().user_id;
    user.user(&user_id).await.unwrap();
    // The provider states no type for a refresh token, so it is never accepted as an access token.
    assert_eq!(verify_result(&*verifier, &as_access).await, "misconfigured");
    let unknown = AccessToken::new("unknown");
    assert_eq!(verify_result(&*verifier, &unknown).await, "invalid");
    let refreshed = reader.refresh(&refresh_token).await.unwrap();
    assert_eq!(verify_result(&*verifier, &refreshed.access_token).await, "good");
    // A revoked token is accepted as long as it is cached.
    let mut access = TokenSet::new(refreshed.access_token.clone(), now());
    access.refresh_token = None;
    reader.revoke_tokens(&access).await.unwrap();
    assert_eq!(verify_result(&*verifier, &refreshed.access_token).await, "good");
    verifier.purge_token(&refreshed.access_token);
    assert_eq!(verify_result(&*verifier, &refreshed.access_token).await, "invalid");
    // Wrong settings do not end any token.
    let wrong = |id: &str, path: &str| {
        let endpoint = format!("{}{path}", provider.issuer()).parse().unwrap();
        let (id, secret) = (id.parse().unwrap(), ClientSecret::new("the-secret-of-the-bank"));
        IntrospectionVerifier::new(network(), endpoint, &id, &secret).unwrap().audience(API)
    };
    for verifier in [
        wrong("other", "/token/introspection"),
        wrong("bank", "/introspect"),
        wrong("bank", "/token/introspection").audience("https://other.example"),
    ] {
        let verify_result = verify_result(&verifier, &tokens.access_token).await;
        assert_eq!(verify_result, "misconfigured", "{verifier:?}");
    }
}

/// A provider in memory forgets its tokens when it restarts, and refuses them. While it is out of reach, it
/// does not.
#[tokio::test]
async fn opaque_access_tokens_after_a_restart() {
    let Some(folder) = installed() else { return };
    let provider = Provider::start(&folder, 0, "opaque", None);
    let verifier = Arc::new(introspection(&provider).cache_ttl(std::time::Duration::ZERO));
    let before = authorize(&reader(verifier.clone(), &provider)).await;
    assert_eq!(verify_result(&*verifier, &before.access_token).await, "good");
    let port = provider.port;
    drop(provider);
    assert_eq!(verify_result(&*verifier, &before.access_token).await, "unavailable");
    let provider = Provider::start(&folder, port, "opaque", None);
    assert_eq!(verify_result(&*verifier, &before.access_token).await, "invalid");
    let after = authorize(&reader(verifier.clone(), &provider)).await;
    assert_eq!(verify_result(&*verifier, &after.access_token).await, "good");
}
