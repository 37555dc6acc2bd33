//! A bank in process, and a browser without scripts.

use axum::body::Body;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use demo_bank::{
    Bank, BankConfig,
    ledger::{Database, Ledger, fill::Filling},
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

/// A bank with a clock that stands still, and the lines that it sent.
pub(crate) struct World {
    pub(crate) bank: Bank,
    pub(crate) clock: ManualClock,
    pub(crate) sent: Arc<Mutex<Vec<String>>>,
    pub(crate) _books: Option<Books>,
}

/// A copy of filled books. Filling takes seconds in a debug build, so it is done once.
pub(crate) struct Books {
    pub(crate) database: Database,
    _dir: tempfile::TempDir,
}

static FILLED: tokio::sync::OnceCell<Vec<u8>> = tokio::sync::OnceCell::const_new();

impl Books {
    pub(crate) async fn copy() -> Self {
        let filled = FILLED
            .get_or_init(|| async {
                let dir = tempfile::tempdir().unwrap();
                let file = dir.path().join("filled.sqlite");
                let today = START[..10].parse().unwrap();
                let ledger = Ledger::open(&Database::File(file.clone()), today).await.unwrap();
                ledger.fill(Filling::default()).await.unwrap();
                // The last connection to go writes everything into the one file.
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

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
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

    /// A bank with settings of its own, on a copy of the books unless it names others.
    pub(crate) async fn with(change: impl FnOnce(&mut BankConfig)) -> Self {
        let clock = ManualClock::new(START.parse::<DateTime<Utc>>().unwrap());
        let sent = Arc::new(Mutex::new(Vec::new()));
        let mut config = config(&clock);
        let box_of_lines = sent.clone();
        config.outbox = Arc::new(move |line| box_of_lines.lock().unwrap().push(line.to_owned()));
        change(&mut config);
        let books = match config.database {
            Database::Memory => Some(Books::copy().await),
            Database::File(_) => None,
        };
        config.database = books.as_ref().map_or(config.database, |books| books.database.clone());
        Self { bank: Bank::open(config).await.unwrap(), clock, sent, _books: books }
    }

    pub(crate) async fn call(&self, request: Request<Body>) -> Answer {
        let response: Response<Body> = self.bank.router().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Answer {
        let request = Request::get(path).header(header::HOST, "bank.example");
        let request = match token {
            "" => request,
            token => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
        };
        self.call(request.body(Body::empty()).unwrap()).await
    }

    /// A call with the client's id and secret; JSON, or a form.
    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
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

    /// The tokens of a user who signed in, picked all accounts and allowed it.
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
        let answer = self.post("/oauth2/token", &form).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    }
}

pub(crate) fn encode(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// The path of an authorization request, with something added.
pub(crate) fn authorize(more: &str) -> String {
    let challenge = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER));
    format!(
        "/oauth2/auth?response_type=code&client_id=plaid&redirect_uri={}&state=xyz\
         &code_challenge={challenge}&code_challenge_method=S256{more}",
        encode(BACK)
    )
}

pub(crate) fn code_of(page: &Answer) -> String {
    let location = url::Url::parse(page.header("location")).unwrap();
    location.query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned()
}

/// The text between two others, each time it comes.
pub(crate) fn between<'a>(text: &'a str, start: &str, end: &str) -> Vec<&'a str> {
    text.split(start).skip(1).filter_map(|rest| rest.split(end).next()).collect()
}

pub(crate) fn accounts_of(page: &Answer) -> Vec<String> {
    let found = between(&page.text, "name=\"account_id\" value=\"", "\"");
    found.into_iter().map(str::to_owned).collect()
}

/// A browser: keeps cookies and sends forms.
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

    /// A browser at an address.
    pub(crate) fn at(world: &'a World, address: &str) -> Self {
        let address = SocketAddr::new(address.parse().unwrap(), 40_000);
        Self { world, cookies: BTreeMap::new(), address }
    }

    pub(crate) async fn send(&mut self, request: http::request::Builder, body: String) -> Answer {
        let cookies: Vec<_> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request =
            request.header(header::HOST, "bank.example").header(header::COOKIE, cookies.join("; "));
        let request = request.extension(PeerAddr(self.address));
        let answer = self.world.call(request.body(Body::from(body)).unwrap()).await;
        for cookie in answer.headers.get_all(header::SET_COOKIE) {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        answer
    }

    pub(crate) async fn open(&mut self, path: &str) -> Answer {
        self.send(Request::get(path), String::new()).await
    }

    /// Sends the form of a page with further fields.
    pub(crate) async fn submit(&mut self, page: &Answer, fields: &[(&str, &str)]) -> Answer {
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
        page: &Answer,
        username: &str,
        password: &str,
    ) -> Answer {
        self.submit(page, &[("username", username), ("password", password)]).await
    }

    pub(crate) async fn decide(
        &mut self,
        page: &Answer,
        accounts: &[String],
        decision: &str,
    ) -> Answer {
        let picked = accounts.iter().map(|id| ("account_id", id.as_str()));
        let fields: Vec<_> = picked.chain([("decision", decision)]).collect();
        self.submit(page, &fields).await
    }
}
