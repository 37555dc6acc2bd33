//! A demo bank and a demo Plaid on this machine, with one clock, and requests of their clients.

use crate::browser::{AWAY, Browser, Page};
use async_trait::async_trait;
use axum::{Router, extract::State, routing::post};
use chrono::{DateTime, TimeDelta, Utc};
use demo_bank::{
    Bank, BankConfig,
    ledger::{Database, Ledger, fill::FillOptions},
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
/// Time limit of waiting for background work.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// A clock that can be advanced, for both sides.
#[derive(Debug)]
pub(crate) struct OffsetClock {
    clock: SystemClock,
    offset: Mutex<TimeDelta>,
}

impl OffsetClock {
    fn new() -> Self {
        let start: DateTime<Utc> = START.parse().unwrap();
        Self { clock: SystemClock::starting_at(start), offset: Mutex::new(TimeDelta::zero()) }
    }

    pub(crate) fn advance(&self, by: TimeDelta) {
        *self.offset.lock().unwrap() += by;
    }
}

#[async_trait]
impl Clock for OffsetClock {
    fn now(&self) -> DateTime<Utc> {
        self.clock.now() + *self.offset.lock().unwrap()
    }
    fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }
    async fn sleep(&self, time: Duration) {
        self.clock.sleep(time).await;
    }
}

/// A received webhook.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedWebhook {
    pub(crate) path: String,
    pub(crate) signature: String,
    pub(crate) body: Value,
}

/// Both sides, and the webhooks of an application.
pub(crate) struct World {
    pub(crate) plaid: DemoPlaid,
    pub(crate) bank: Bank,
    pub(crate) url: String,
    pub(crate) clock: Arc<OffsetClock>,
    pub(crate) sent: Arc<Mutex<Vec<String>>>,
    pub(crate) webhooks: watch::Receiver<Vec<ReceivedWebhook>>,
    http: reqwest::Client,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    _ledger_file: tempfile::TempDir,
}

/// The ledger of the bank. Filling takes seconds in a debug build, so it is done once.
static FILLED: tokio::sync::OnceCell<Vec<u8>> = tokio::sync::OnceCell::const_new();

async fn ledger_copy(dir: &std::path::Path) -> Database {
    let filled = FILLED.get_or_init(|| async {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("filled.sqlite");
        let today = START[..10].parse().unwrap();
        let ledger = Ledger::open(&Database::File(file.clone()), today).await.unwrap();
        ledger.fill(FillOptions { seed: 1, users: 2, busy: true }).await.unwrap();
        // Closing the last connection writes everything into the file.
        ledger.pool().close().await;
        std::fs::read(file).unwrap()
    });
    let file = dir.join("bank.sqlite");
    std::fs::write(&file, filled.await).unwrap();
    Database::File(file)
}

/// A second bank at the same address. Its users sign in on the Link page.
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

    /// Opens a world with changed settings.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::with_parts(change, |_| {}).await
    }

    /// Opens a world with changed settings and parts.
    pub(crate) async fn with_parts(
        change: impl FnOnce(&mut Config),
        replace: impl FnOnce(&mut Parts),
    ) -> Self {
        let clock = Arc::new(OffsetClock::new());
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
        config.database = ledger_copy(dir.path()).await;
        config.fill_options = None;
        config.clock = clock.clone();
        let lines = sent.clone();
        config.outbox = Arc::new(move |line| lines.lock().unwrap().push(line.to_owned()));
        let bank = Bank::open(config).await.unwrap();

        let mut config = Config::demo_at(&bank_url, &url, &app_url).unwrap();
        let second = dir.path().join("second.toml");
        std::fs::write(&second, SECOND.replace("BANK", &bank_url)).unwrap();
        let second = Config::read(Some(&second), Default::default(), &|_| None).unwrap();
        config.institutions.extend(second.institutions);
        // No server listens at the redirect URIs, so the browser stops there.
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
        Self { plaid, bank, url, clock, sent, webhooks, http, stop, tasks, _ledger_file: dir }
    }

    /// Stops everything, in order.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            task.await.unwrap();
        }
    }

    /// Sends a request. Returns the status and the body.
    pub(crate) async fn call(&self, client: &str, path: &str, body: Value) -> (u16, Value) {
        let secret = secret_of(client);
        let request = self
            .http
            .post(format!("{}{path}", self.url))
            .header("content-type", "application/json")
            .header("PLAID-CLIENT-ID", client)
            .header("PLAID-SECRET", secret)
            .body(body.to_string());
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        let text = response.text().await.unwrap();
        let body: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path}: {text}"));
        assert_eq!(body["request_id"], id, "{path} carries its request id: {text}");
        (status, body)
    }

    /// Sends a request that must succeed. Returns the body.
    pub(crate) async fn ok(&self, client: &str, path: &str, body: Value) -> Value {
        let (status, body) = self.call(client, path, body).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Sends a request that must be refused. Returns the error code.
    pub(crate) async fn refused(&self, client: &str, path: &str, body: Value) -> String {
        let (status, body) = self.call(client, path, body).await;
        assert!((400..500).contains(&status), "{path}: {status} {body}");
        for field in ["error_type", "error_code", "error_message", "status"] {
            assert!(!body[field].is_null(), "{field} of {body}");
        }
        assert!(body.get("display_message").is_some(), "{body}");
        body["error_code"].as_str().unwrap().to_owned()
    }

    /// Creates a link token of an application.
    pub(crate) async fn link_token(&self, client: &str) -> String {
        let back = format!("{AWAY}{client}");
        let body =
            link_request(json!({ "redirect_uri": back, "products": ["transactions", "identity"] }));
        let response = self.ok(client, "/link/token/create", body).await;
        response["link_token"].as_str().unwrap().to_owned()
    }

    pub(crate) fn link_page(&self, token: &str) -> String {
        format!("{}/link?token={token}", self.url)
    }

    /// Takes a user through Link at the bank in OAuth mode. Returns the last page.
    pub(crate) async fn link_user(
        &self,
        browser: &mut Browser,
        token: &str,
        username: &str,
    ) -> Page {
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

    /// Takes a user through Link. Returns the public token of the application.
    pub(crate) async fn public_token(&self, client: &str, username: &str) -> String {
        let mut browser = Browser::new();
        let token = self.link_token(client).await;
        let page = self.link_user(&mut browser, &token, username).await;
        assert!(page.html.contains("is connected"), "{}", page.html);
        let back = browser.submit(&page, "/finish", &[]).await;
        assert!(back.url.as_str().starts_with(&format!("{AWAY}{client}?")), "{}", back.url);
        assert_eq!(back.query("link_token").as_deref(), Some(token.as_str()));
        back.query("public_token").unwrap()
    }

    /// Connects an application for a user. Returns its access token, and the Item.
    pub(crate) async fn connected(&self, client: &str, username: &str) -> (String, String) {
        let token = self.public_token(client, username).await;
        let response =
            self.ok(client, "/item/public_token/exchange", json!({ "public_token": token })).await;
        let text = |name: &str| response[name].as_str().unwrap().to_owned();
        (text("access_token"), text("item_id"))
    }

    /// Creates a token of the bank for a user. Returns it with the user's id.
    pub(crate) async fn bank_token(&self, username: &str) -> (String, String) {
        let user = self.bank.ledger().user_by_name(username).await.unwrap().unwrap();
        // Created with credentials mode.
        let basic = "cGxhaWQ6ZGVtby1zZWNyZXQtb2YtcGxhaWQtYXQtbGFya2ZpZWxk";
        let request = self
            .http
            .post(format!("{}/users/auth_token", self.plaid.config().institutions[0].base_url))
            .header("content-type", "application/json")
            .header("authorization", format!("Basic {basic}"))
            .body(json!({ "username": username, "password": "pass_good" }).to_string());
        let response = request.send().await.unwrap().text().await.unwrap();
        let response: Value = serde_json::from_str(&response).unwrap();
        (response["auth_token"].as_str().unwrap().to_owned(), user.user_id.to_string())
    }

    /// Imports a user's Item. Returns the bank's access token and the user's id.
    pub(crate) async fn imported(&self, client: &str, username: &str) -> (String, String) {
        let (token, user) = self.bank_token(username).await;
        let body = json!({ "products": ["transactions"], "user_auth": { "user_id": user, "auth_token": token } });
        let response = self.ok(client, "/item/import", body).await;
        (response["access_token"].as_str().unwrap().to_owned(), user)
    }

    /// Waits until a request succeeds. Returns the body.
    pub(crate) async fn until_ok(&self, client: &str, path: &str, body: Value) -> Value {
        let ready = async {
            loop {
                let (status, response) = self.call(client, path, body.clone()).await;
                match status {
                    200 => return response,
                    _ => assert_eq!(response["error_code"], "PRODUCT_NOT_READY", "{response}"),
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(TIMEOUT, ready).await.expect("it never became ready")
    }

    /// Waits until the complete history of an application's Item is available.
    pub(crate) async fn until_complete(&self, client: &str, access: &Value) {
        let body = json!({ "access_token": access, "count": 1 });
        let complete = async {
            while self.until_ok(client, "/transactions/sync", body.clone()).await["transactions_update_status"]
                != "HISTORICAL_UPDATE_COMPLETE"
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(TIMEOUT, complete).await.expect("the history was never complete");
    }

    /// Waits for a webhook.
    pub(crate) async fn webhook(
        &mut self,
        is_it: impl Fn(&ReceivedWebhook) -> bool,
    ) -> ReceivedWebhook {
        let found = async {
            let all = self.webhooks.wait_for(|all| all.iter().any(&is_it)).await.unwrap();
            all.iter().find(|one| is_it(one)).unwrap().clone()
        };
        tokio::time::timeout(TIMEOUT, found).await.expect("no such webhook was received")
    }
}

/// Returns the request for a link token, with additional fields.
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
    State(arrived): State<watch::Sender<Vec<ReceivedWebhook>>>,
    uri: http::Uri,
    headers: HeaderMap,
    body: bytes::Bytes,
) {
    let signature = headers[VERIFICATION_HEADER].to_str().unwrap().to_owned();
    let body = serde_json::from_slice(&body).unwrap();
    arrived.send_modify(|all| {
        all.push(ReceivedWebhook { path: uri.path().to_owned(), signature, body })
    });
}
