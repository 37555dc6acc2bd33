//! A bank in this process, and a simulated browser without scripts.

use axum::body::Body;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use demo_bank::{
    Bank, BankConfig,
    ledger::{Database, Ledger, fill::FillOptions},
};
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use px_core::ManualClock;
use px_server::guard::PeerAddr;
use px_types::{ClientId, ClientSecret};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tower::ServiceExt as _;

pub(crate) const VERIFIER: &str = "a-verifier-of-at-least-forty-three-characters";
pub(crate) const BACK: &str = "http://127.0.0.1:9/back";
pub(crate) const START: &str = "2026-03-11T09:00:00Z";

/// A bank with a manual clock, and the lines that it sent.
pub(crate) struct World {
    pub(crate) bank: Bank,
    pub(crate) clock: ManualClock,
    pub(crate) sent: Arc<Mutex<Vec<String>>>,
    pub(crate) _ledger_file: Option<LedgerFile>,
}

/// A copy of a filled ledger. Filling takes seconds in a debug build, so it is done once.
pub(crate) struct LedgerFile {
    pub(crate) database: Database,
    _dir: tempfile::TempDir,
}

static FILLED: tokio::sync::OnceCell<Vec<u8>> = tokio::sync::OnceCell::const_new();

impl LedgerFile {
    pub(crate) async fn copy() -> Self {
        let filled = FILLED
            .get_or_init(|| async {
                let dir = tempfile::tempdir().unwrap();
                let file = dir.path().join("filled.sqlite");
                let today = START[..10].parse().unwrap();
                let ledger = Ledger::open(&Database::File(file.clone()), today).await.unwrap();
                ledger.fill(FillOptions::default()).await.unwrap();
                // Closing the last connection writes everything into the file.
                ledger.pool().close().await;
                std::fs::read(file).unwrap()
            })
            .await;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bank.sqlite");
        std::fs::write(&file, filled).unwrap();
        Self { database: Database::File(file), _dir: dir }
    }
}

pub(crate) struct TestResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) text: String,
}

impl TestResponse {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

pub(crate) fn config(clock: &ManualClock) -> BankConfig {
    let mut config = BankConfig::new(
        "http://bank.localhost",
        ClientId::new("plaid").unwrap(),
        ClientSecret::new("s3cret-of-plaid-at-the-bank"),
        [BACK.to_owned()],
    );
    config.clock = Arc::new(clock.clone());
    config
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// Opens a bank with changed settings, on a copy of the ledger unless they name a database.
    pub(crate) async fn with(change: impl FnOnce(&mut BankConfig)) -> Self {
        let clock = ManualClock::new(START.parse::<DateTime<Utc>>().unwrap());
        let sent = Arc::new(Mutex::new(Vec::new()));
        let mut config = config(&clock);
        let lines = sent.clone();
        config.outbox = Arc::new(move |line| lines.lock().unwrap().push(line.to_owned()));
        change(&mut config);
        let ledger_file = match config.database {
            Database::Memory => Some(LedgerFile::copy().await),
            Database::File(_) => None,
        };
        config.database = ledger_file
            .as_ref()
            .map_or(config.database, |ledger_file| ledger_file.database.clone());
        Self { bank: Bank::open(config).await.unwrap(), clock, sent, _ledger_file: ledger_file }
    }

    pub(crate) async fn call(&self, request: Request<Body>) -> TestResponse {
        let response: Response<Body> = self.bank.router().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        TestResponse {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> TestResponse {
        let request = Request::get(path).header(header::HOST, "bank.example");
        let request = match token {
            "" => request,
            token => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
        };
        self.call(request.body(Body::empty()).unwrap()).await
    }

    /// Sends a request with the client's id and secret; JSON, or a form.
    pub(crate) async fn post(&self, path: &str, body: &str) -> TestResponse {
        let kind = if body.starts_with('{') {
            "application/json"
        } else {
            "application/x-www-form-urlencoded"
        };
        let basic = base64::prelude::BASE64_STANDARD.encode("plaid:s3cret-of-plaid-at-the-bank");
        let request = Request::post(path)
            .header(header::HOST, "bank.example")
            .header(header::CONTENT_TYPE, kind)
            .header(header::AUTHORIZATION, format!("Basic {basic}"));
        self.call(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    /// Returns the tokens of a user who signed in, selected all accounts and allowed access.
    pub(crate) async fn tokens(&self, username: &str) -> Value {
        let mut browser = Browser::new(self);
        let page = browser.open(&authorize("")).await;
        let page = browser.sign_in(&page, username, "pass_good").await;
        let page = match username {
            "user_otp" => {
                let page = browser.submit(&page, &[("delivery", "sms-1")]).await;
                let sent = self.sent.lock().unwrap().last().unwrap().clone();
                let code = sent.rsplit(' ').next().unwrap().to_owned();
                browser.submit(&page, &[("code", &code)]).await
            }
            _ => page,
        };
        let picked = accounts_of(&page);
        let page = browser.decide(&page, &picked, "allow").await;
        let code = code_of(&page);
        let form = format!(
            "grant_type=authorization_code&code={code}&redirect_uri={}&code_verifier={VERIFIER}",
            encode(BACK)
        );
        let response = self.post("/oauth2/token", &form).await;
        assert_eq!(response.status, 200, "{}", response.text);
        response.json()
    }
}

pub(crate) fn encode(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// Returns the path of an authorization request, with additional parameters.
pub(crate) fn authorize(more: &str) -> String {
    let challenge = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER));
    format!(
        "/oauth2/auth?response_type=code&client_id=plaid&redirect_uri={}&state=xyz\
         &code_challenge={challenge}&code_challenge_method=S256{more}",
        encode(BACK)
    )
}

pub(crate) fn code_of(page: &TestResponse) -> String {
    let location = url::Url::parse(page.header("location")).unwrap();
    location.query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned()
}

/// Returns the texts between `start` and `end`, for each occurrence.
pub(crate) fn between<'a>(text: &'a str, start: &str, end: &str) -> Vec<&'a str> {
    text.split(start).skip(1).filter_map(|rest| rest.split(end).next()).collect()
}

pub(crate) fn accounts_of(page: &TestResponse) -> Vec<String> {
    let found = between(&page.text, "name=\"account_id\" value=\"", "\"");
    found.into_iter().map(str::to_owned).collect()
}

/// A browser that stores cookies and submits forms.
#[derive(Clone)]
pub(crate) struct Browser<'a> {
    pub(crate) world: &'a World,
    pub(crate) cookies: BTreeMap<String, String>,
    address: SocketAddr,
}

impl<'a> Browser<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        Self::at(world, "192.0.2.1")
    }

    /// Creates a browser at an address.
    pub(crate) fn at(world: &'a World, address: &str) -> Self {
        let address = SocketAddr::new(address.parse().unwrap(), 40_000);
        Self { world, cookies: BTreeMap::new(), address }
    }

    pub(crate) async fn send(
        &mut self,
        request: http::request::Builder,
        body: String,
    ) -> TestResponse {
        let cookies: Vec<_> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request =
            request.header(header::HOST, "bank.example").header(header::COOKIE, cookies.join("; "));
        let request = request.extension(PeerAddr(self.address));
        let response = self.world.call(request.body(Body::from(body)).unwrap()).await;
        for cookie in response.headers.get_all(header::SET_COOKIE) {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        response
    }

    pub(crate) async fn open(&mut self, path: &str) -> TestResponse {
        self.send(Request::get(path), String::new()).await
    }

    /// Submits the form of a page with additional fields.
    pub(crate) async fn submit(
        &mut self,
        page: &TestResponse,
        fields: &[(&str, &str)],
    ) -> TestResponse {
        let action = between(&page.text, " action=\"", "\"");
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        for name in ["visit", "csrf"] {
            let start = format!("name=\"{name}\" value=\"");
            if let Some(value) = between(&page.text, &start, "\"").first() {
                form.append_pair(name, value);
            }
        }
        form.extend_pairs(fields);
        let request = Request::post(action[0])
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request, form.finish()).await
    }

    pub(crate) async fn sign_in(
        &mut self,
        page: &TestResponse,
        username: &str,
        password: &str,
    ) -> TestResponse {
        self.submit(page, &[("username", username), ("password", password)]).await
    }

    pub(crate) async fn decide(
        &mut self,
        page: &TestResponse,
        accounts: &[String],
        decision: &str,
    ) -> TestResponse {
        let picked = accounts.iter().map(|id| ("account_id", id.as_str()));
        let fields: Vec<_> = picked.chain([("decision", decision)]).collect();
        self.submit(page, &fields).await
    }
}
