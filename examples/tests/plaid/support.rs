//! A demo bank and a demo Plaid on this machine, with one clock, and what clients do with them.

use crate::browser::{AWAY, Browser, Page};
use async_trait::async_trait;
use axum::{Router, extract::State, routing::post};
use chrono::{DateTime, TimeDelta, Utc};
use demo_bank::{
    Bank, BankConfig,
    ledger::{Database, Ledger, fill::Filling},
    plaid::{Config, DemoPlaid, Parts},
};
use http::HeaderMap;
use px_core::{Clock, LocalClock, SystemClock};
use px_types::{ClientSecret, webhook::VERIFICATION_HEADER};
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

const START: &str = "2026-03-11T09:00:00Z";
/// How long a test waits for what happens by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// A clock that can be moved on, for both sides.
#[derive(Debug)]
pub(crate) struct MovedClock {
    clock: SystemClock,
    ahead: Mutex<TimeDelta>,
}

impl MovedClock {
    fn new() -> Self {
        let start: DateTime<Utc> = START.parse().unwrap();
        Self { clock: SystemClock::starting_at(start), ahead: Mutex::new(TimeDelta::zero()) }
    }

    pub(crate) fn advance(&self, by: TimeDelta) {
        *self.ahead.lock().unwrap() += by;
    }
}

#[async_trait]
impl Clock for MovedClock {
    fn now(&self) -> DateTime<Utc> {
        self.clock.now() + *self.ahead.lock().unwrap()
    }
    fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }
    async fn sleep(&self, time: Duration) {
        self.clock.sleep(time).await;
    }
}

/// A webhook as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub(crate) path: String,
    pub(crate) signature: String,
    pub(crate) body: Value,
}

/// Both sides, and an application's webhooks.
pub(crate) struct World {
    pub(crate) plaid: DemoPlaid,
    pub(crate) bank: Bank,
    pub(crate) url: String,
    pub(crate) clock: Arc<MovedClock>,
    pub(crate) sent: Arc<Mutex<Vec<String>>>,
    pub(crate) webhooks: watch::Receiver<Vec<Arrived>>,
    http: reqwest::Client,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    _books: tempfile::TempDir,
}

/// The books of the bank. Filling takes seconds in a debug build, so it is done once.
static FILLED: tokio::sync::OnceCell<Vec<u8>> = tokio::sync::OnceCell::const_new();

async fn books(dir: &std::path::Path) -> Database {
    let filled = FILLED.get_or_init(|| async {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("filled.sqlite");
        let today = START[..10].parse().unwrap();
        let ledger = Ledger::open(&Database::File(file.clone()), today).await.unwrap();
        ledger.fill(Filling { seed: 1, users: 2, busy: true }).await.unwrap();
        // The last connection to go writes everything into the one file.
        ledger.pool().close().await;
        std::fs::read(file).unwrap()
    });
    let file = dir.join("bank.sqlite");
    std::fs::write(&file, filled.await).unwrap();
    Database::File(file)
}

/// A second bank at the same address, whose users sign in on the Link page.
const SECOND: &str = r#"
    [[institutions]]
    id = "ins_oldtown"
    name = "Old Town <Credit> Union"
    base_url = "BANK"
    mode = "credentials"
    own_client_id = "plaid"
    own_secret = "demo-secret-of-plaid-at-larkfield"
    client_id = "oldtown"
    secret = "demo-secret-of-oldtown"
    redirect_uris = ["http://127.0.0.1:9/oldtown"]
    targets = [{ application_id = "budget-app", token = "target-sandbox-oldtown-budget-app" }]
"#;

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// With settings of its own.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::with_parts(change, |_| {}).await
    }

    /// With settings and a network of its own.
    pub(crate) async fn with_parts(
        change: impl FnOnce(&mut Config),
        replace: impl FnOnce(&mut Parts),
    ) -> Self {
        let clock = Arc::new(MovedClock::new());
        let sent = Arc::new(Mutex::new(Vec::new()));
        let at = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let bind = || TcpListener::bind("127.0.0.1:0");
        let (bank_at, plaid_at, app_at) =
            (bind().await.unwrap(), bind().await.unwrap(), bind().await.unwrap());
        let (bank_url, url, app_url) = (at(&bank_at), at(&plaid_at), at(&app_at));

        let dir = tempfile::tempdir().unwrap();
        let mut config = BankConfig::new(
            bank_url.clone(),
            "plaid".parse().unwrap(),
            ClientSecret::new("demo-secret-of-plaid-at-larkfield"),
            [format!("{url}/link/oauth")],
        );
        config.database = books(dir.path()).await;
        config.filling = None;
        config.clock = clock.clone();
        let lines = sent.clone();
        config.outbox = Arc::new(move |line| lines.lock().unwrap().push(line.to_owned()));
        let bank = Bank::open(config).await.unwrap();

        let mut config = Config::demo_at(&bank_url, &url, &app_url).unwrap();
        let second = dir.path().join("second.toml");
        std::fs::write(&second, SECOND.replace("BANK", &bank_url)).unwrap();
        let second = Config::read(Some(&second), Default::default(), &|_| None).unwrap();
        config.institutions.extend(second.institutions);
        // Nobody listens where users are sent back to: a walk ends there.
        config.institutions[0].redirect_uris = vec![format!("{AWAY}bank")];
        for app in &mut config.applications {
            app.redirect_uris = vec![format!("{AWAY}{}", app.id)];
        }
        change(&mut config);
        let mut parts = Parts::system(&config).unwrap();
        parts.clock = clock.clone();
        parts.shared_clock = Some(Arc::new(LocalClock::new(clock.clone())));
        replace(&mut parts);
        let plaid = DemoPlaid::open(config, parts).await.unwrap();

        let (arrived, webhooks) = watch::channel(Vec::new());
        let receiver = Router::new()
            .route("/webhooks", post(receive))
            .route("/tax/webhooks", post(receive))
            .with_state(arrived);
        let (stop, stopped) = watch::channel(false);
        let until = |mut stopped: watch::Receiver<bool>| async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        let mut tasks = Vec::new();
        for (listener, router) in
            [(bank_at, bank.router()), (plaid_at, plaid.router()), (app_at, receiver)]
        {
            let until = until(stopped.clone());
            tasks.push(tokio::spawn(async move {
                let server = px_server::hyper::Server::new();
                server.serve_until(listener, router, until).await.unwrap();
            }));
        }
        let (worker, until) = (plaid.clone(), until(stopped));
        tasks.push(tokio::spawn(async move { worker.work(until).await }));
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { plaid, bank, url, clock, sent, webhooks, http, stop, tasks, _books: dir }
    }

    /// Ends everything, in order.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            task.await.unwrap();
        }
    }

    /// Calls an endpoint; its status and its body.
    pub(crate) async fn call(&self, client: &str, path: &str, body: Value) -> (u16, Value) {
        let secret = secret_of(client);
        let request = self
            .http
            .post(format!("{}{path}", self.url))
            .header("content-type", "application/json")
            .header("PLAID-CLIENT-ID", client)
            .header("PLAID-SECRET", secret)
            .body(body.to_string());
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
        let text = answer.text().await.unwrap();
        let body: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path}: {text}"));
        assert_eq!(body["request_id"], id, "{path} carries its request id: {text}");
        (status, body)
    }

    /// Calls an endpoint that must answer.
    pub(crate) async fn ok(&self, client: &str, path: &str, body: Value) -> Value {
        let (status, body) = self.call(client, path, body).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Calls an endpoint that must refuse; the error code.
    pub(crate) async fn refused(&self, client: &str, path: &str, body: Value) -> String {
        let (status, body) = self.call(client, path, body).await;
        assert!((400..500).contains(&status), "{path}: {status} {body}");
        for field in ["error_type", "error_code", "error_message", "status"] {
            assert!(!body[field].is_null(), "{field} of {body}");
        }
        assert!(body.get("display_message").is_some(), "{body}");
        body["error_code"].as_str().unwrap().to_owned()
    }

    /// A link token of an application.
    pub(crate) async fn link_token(&self, client: &str) -> String {
        let back = format!("{AWAY}{client}");
        let body =
            link_request(json!({ "redirect_uri": back, "products": ["transactions", "identity"] }));
        let answer = self.ok(client, "/link/token/create", body).await;
        answer["link_token"].as_str().unwrap().to_owned()
    }

    pub(crate) fn link_page(&self, token: &str) -> String {
        format!("{}/link?token={token}", self.url)
    }

    /// Walks a user through Link at the bank with pages; the last page of it.
    pub(crate) async fn walk(&self, browser: &mut Browser, token: &str, username: &str) -> Page {
        let page = browser.open(&self.link_page(token)).await;
        let page = browser.submit(&page, "/begin", &[]).await;
        let page = browser.submit(&page, "/bank", &[("institution_id", "ins_larkfield")]).await;
        let typed = [("username", username), ("password", "pass_good")];
        let page = browser.submit(&page, "/sign-in", &typed).await;
        let accounts = page.values("account_id");
        let mut typed: Vec<_> = accounts.iter().map(|id| ("account_id", id.as_str())).collect();
        typed.push(("decision", "allow"));
        browser.submit(&page, "/consent", &typed).await
    }

    /// A public token for an application, from a user's walk through Link.
    pub(crate) async fn public_token(&self, client: &str, username: &str) -> String {
        let mut browser = Browser::new();
        let token = self.link_token(client).await;
        let page = self.walk(&mut browser, &token, username).await;
        assert!(page.html.contains("is connected"), "{}", page.html);
        let back = browser.submit(&page, "/finish", &[]).await;
        assert!(back.url.as_str().starts_with(&format!("{AWAY}{client}?")), "{}", back.url);
        assert_eq!(back.query("link_token").as_deref(), Some(token.as_str()));
        back.query("public_token").unwrap()
    }

    /// An application connected by a user; its access token, and the Item.
    pub(crate) async fn connected(&self, client: &str, username: &str) -> (String, String) {
        let token = self.public_token(client, username).await;
        let answer =
            self.ok(client, "/item/public_token/exchange", json!({ "public_token": token })).await;
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        (text("access_token"), text("item_id"))
    }

    /// A token of the bank's OAuth server for a user, as the bank would mint one; and the user's id.
    pub(crate) async fn bank_token(&self, username: &str) -> (String, String) {
        let user = self.bank.ledger().user_by_name(username).await.unwrap().unwrap();
        // By the way that the bank has for others: credentials mode.
        let basic = "cGxhaWQ6ZGVtby1zZWNyZXQtb2YtcGxhaWQtYXQtbGFya2ZpZWxk";
        let request = self
            .http
            .post(format!("{}/users/auth_token", self.plaid.config().institutions[0].base_url))
            .header("content-type", "application/json")
            .header("authorization", format!("Basic {basic}"))
            .body(json!({ "username": username, "password": "pass_good" }).to_string());
        let answer = request.send().await.unwrap().text().await.unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        (answer["auth_token"].as_str().unwrap().to_owned(), user.user_id.to_string())
    }

    /// The bank's access token for a user's Item, and the user's id.
    pub(crate) async fn imported(&self, client: &str, username: &str) -> (String, String) {
        let (token, user) = self.bank_token(username).await;
        let body = json!({ "products": ["transactions"], "user_auth": { "user_id": user, "auth_token": token } });
        let answer = self.ok(client, "/item/import", body).await;
        (answer["access_token"].as_str().unwrap().to_owned(), user)
    }

    /// Waits until an endpoint answers.
    pub(crate) async fn until_ok(&self, client: &str, path: &str, body: Value) -> Value {
        let answers = async {
            loop {
                let (status, answer) = self.call(client, path, body.clone()).await;
                match status {
                    200 => return answer,
                    _ => assert_eq!(answer["error_code"], "PRODUCT_NOT_READY", "{answer}"),
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, answers).await.expect("it never became ready")
    }

    /// Waits until the whole history of an application's Item is there.
    pub(crate) async fn until_complete(&self, client: &str, access: &Value) {
        let body = json!({ "access_token": access, "count": 1 });
        let complete = async {
            while self.until_ok(client, "/transactions/sync", body.clone()).await["transactions_update_status"]
                != "HISTORICAL_UPDATE_COMPLETE"
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, complete).await.expect("the history never came whole");
    }

    /// Waits for a webhook.
    pub(crate) async fn webhook(&mut self, is_it: impl Fn(&Arrived) -> bool) -> Arrived {
        let found = async {
            let all = self.webhooks.wait_for(|all| all.iter().any(&is_it)).await.unwrap();
            all.iter().find(|one| is_it(one)).unwrap().clone()
        };
        tokio::time::timeout(PATIENCE, found).await.expect("no such webhook came")
    }
}

/// The request for a link token, with more in it.
pub(crate) fn link_request(more: Value) -> Value {
    let mut body = json!({
        "client_name": "Someone", "language": "en", "country_codes": ["US"],
        "user": { "client_user_id": "u-1" },
    });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

pub(crate) fn secret_of(client: &str) -> String {
    format!("demo-secret-of-{client}")
}

async fn receive(
    State(arrived): State<watch::Sender<Vec<Arrived>>>,
    uri: http::Uri,
    headers: HeaderMap,
    body: bytes::Bytes,
) {
    let signature = headers[VERIFICATION_HEADER].to_str().unwrap().to_owned();
    let body = serde_json::from_slice(&body).unwrap();
    arrived.send_modify(|all| all.push(Arrived { path: uri.path().to_owned(), signature, body }));
}
