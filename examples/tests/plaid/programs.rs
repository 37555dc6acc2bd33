//! `demo-bank` and `demo-plaid` as programs, each behind a [`Wire`], and the webhooks of an
//! application.

use crate::{
    browser::AWAY,
    wire::{Secrets, Wire},
};
use axum::{Router, routing::post};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Mutex,
    thread::JoinHandle,
    time::Duration,
};
use tokio::{net::TcpListener, sync::watch};

const TIMEOUT: Duration = Duration::from_secs(120);
const SECRET_AT_BANK: &str = "secret-5f1c-of-plaid-at-the-bank";
const TARGET: &str = "target-77ab-of-budget-app";
/// A wrong secret.
pub(crate) const WRONG_SECRET: &str = "secret-wrong-81c2";

/// Returns the secret of a client of Plaid.
pub(crate) fn secret_of(client: &str) -> String {
    format!("secret-60fe-of-{client}-at-plaid")
}

/// A running program and its output.
struct Program {
    child: Child,
    lines: watch::Receiver<Vec<String>>,
    log: Option<JoinHandle<String>>,
}

impl Program {
    fn start(path: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(path)
            .args(arguments)
            .env_clear()
            // All logs, including those of the libraries.
            .env("RUST_LOG", "trace")
            .env("NO_COLOR", "1")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (output, lines) = watch::channel(Vec::new());
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            let lines = out.lines().map_while(Result::ok);
            lines.for_each(|line| output.send_modify(|all| all.push(line)));
        });
        let mut errors = child.stderr.take().unwrap();
        let log = std::thread::spawn(move || {
            let mut text = Vec::new();
            errors.read_to_end(&mut text).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        });
        Self { child, lines, log: Some(log) }
    }

    /// Waits for a line with this start, after `before` others with the same start.
    async fn line(&self, start: &str, before: usize) -> String {
        let mut lines = self.lines.clone();
        let nth = |all: &[String]| {
            let mut alike = all.iter().filter(|line| line.starts_with(start));
            alike.nth(before).cloned()
        };
        let output = async {
            let all = lines.wait_for(|all| nth(all).is_some()).await;
            nth(&all.unwrap_or_else(|_| panic!("the program ended without the line {start}")))
                .unwrap()
        };
        let output = tokio::time::timeout(TIMEOUT, output).await;
        output.unwrap_or_else(|_| panic!("the program does not print {start}"))
    }

    /// Waits for the end of the program. Returns its output and its log.
    fn end(mut self) -> (String, String) {
        let log = self.log.take().unwrap().join().unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{log}");
        (self.lines.borrow().join("\n"), log)
    }

    /// Stops the program with SIGTERM. Returns its output and its log.
    fn stop(self) -> (String, String) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").arg("-TERM").arg(id).status().unwrap().success());
        self.end()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // A failed test leaves no process behind. This fails if the program has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The output of both programs.
pub(crate) struct ProgramOutput {
    pub(crate) bank: String,
    pub(crate) bank_log: String,
    pub(crate) plaid: String,
    pub(crate) plaid_log: String,
    pub(crate) metrics: String,
}

/// Both programs, and the webhooks of an application.
pub(crate) struct Programs {
    pub(crate) secrets: Secrets,
    pub(crate) to_bank: Wire,
    pub(crate) to_plaid: Wire,
    pub(crate) http: reqwest::Client,
    to_app: Wire,
    bank: Program,
    plaid: Program,
    metrics: String,
    /// Public tokens from webhooks that a test has used.
    taken: Mutex<BTreeSet<String>>,
    /// The output and the log of the process that advanced the bank's clock.
    advanced: Mutex<(String, String)>,
    dir: tempfile::TempDir,
}

impl Programs {
    pub(crate) async fn start() -> Self {
        let secrets = Secrets::default();
        let (to_bank, to_plaid) = (Wire::new(&secrets).await, Wire::new(&secrets).await);
        let to_app = Wire::new(&secrets).await;
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        let database = at.join("bank.sqlite");
        let (back, offer) =
            (format!("{}/link/oauth", to_plaid.url), format!("budget-app={TARGET}=Budget App"));
        let own = file(at, "plaid.txt", SECRET_AT_BANK);
        let theirs = file(at, "bank.txt", &secret_of("the-bank"));
        let bank = [
            ["--listen", "127.0.0.1:0"],
            ["--users", "0"],
            ["--database", database.to_str().unwrap()],
            ["--client-id", "plaid"],
            ["--client-secret-file", &own],
            ["--redirect-uri", &back],
            ["--issuer", &to_bank.url],
            ["--plaid-url", &to_plaid.url],
            ["--plaid-client-id", "the-bank"],
            ["--plaid-secret-file", &theirs],
            ["--plaid-app", &offer],
        ];
        let bank = [&["serve"], bank.as_flattened()].concat();
        let bank = Program::start(env!("CARGO_BIN_EXE_demo-bank"), &bank);
        let listens = bank.line("Listening on ", 0).await;
        to_bank.leads_to(listens.trim_start_matches("Listening on ").to_owned());

        let config = file(at, "plaid.toml", &settings(&to_bank.url, &to_app.url));
        let database = format!("sqlite:{}", at.join("plaid.sqlite").display());
        let plaid = [
            ["--config", &config],
            ["--listen", "127.0.0.1:0"],
            ["--metrics-listen", "127.0.0.1:0"],
            ["--public-url", &to_plaid.url],
            ["--database", &database],
        ];
        let plaid = [&["serve", "--json"], plaid.as_flattened()].concat();
        let plaid = Program::start(env!("CARGO_BIN_EXE_demo-plaid"), &plaid);
        let listens: Value = serde_json::from_str(&plaid.line("{", 0).await).unwrap();
        to_plaid.leads_to(format!("http://{}", listens["listening"].as_str().unwrap()));
        let metrics = listens["metrics"].as_str().unwrap().to_owned();

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        to_app.leads_to(format!("http://{}", listener.local_addr().unwrap()));
        let router = Router::new().fallback(post(async || {}));
        tokio::spawn(async move {
            let server = px_server::hyper::Server::new();
            server.serve_until(listener, router, std::future::pending()).await.unwrap();
        });
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let (taken, advanced) = Default::default();
        Self {
            secrets,
            to_bank,
            to_plaid,
            http,
            to_app,
            bank,
            plaid,
            metrics,
            taken,
            advanced,
            dir,
        }
    }

    /// Sends a request to Plaid. Returns the status and the body.
    pub(crate) async fn post(
        &self,
        client: &str,
        secret: &str,
        path: &str,
        body: &str,
    ) -> (u16, Value) {
        let request = self
            .http
            .post(format!("{}{path}", self.to_plaid.url))
            .header("content-type", "application/json")
            .header("plaid-client-id", client)
            .header("plaid-secret", secret)
            .body(body.to_owned());
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_str(&response.text().await.unwrap()).unwrap())
    }

    /// Sends a request to Plaid that must succeed. Returns the body.
    pub(crate) async fn ok(&self, client: &str, path: &str, body: &Value) -> Value {
        let (status, body) = self.post(client, &secret_of(client), path, &body.to_string()).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Reads data of an application, once it is available.
    pub(crate) async fn read(&self, client: &str, path: &str, body: &Value) -> Value {
        let read = async {
            loop {
                let secret = secret_of(client);
                let (status, body) = self.post(client, &secret, path, &body.to_string()).await;
                match status {
                    200 => return body,
                    _ => assert_eq!(body["error_code"], "PRODUCT_NOT_READY", "{path}: {body}"),
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(TIMEOUT, read).await.expect("it never became ready")
    }

    /// Sends a request to the bank as Plaid.
    pub(crate) async fn at_bank(&self, path: &str, body: &Value) -> Value {
        let request = self
            .http
            .post(format!("{}{path}", self.to_bank.url))
            .header("content-type", "application/json")
            .basic_auth("plaid", Some(SECRET_AT_BANK))
            .body(body.to_string());
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        serde_json::from_str(&response.text().await.unwrap()).unwrap()
    }

    /// Uses a token at the bank until it is refused.
    pub(crate) async fn until_dead(&self, token: &str) {
        let dead = async {
            let url = format!("{}/customers/current", self.to_bank.url);
            while self.http.get(&url).bearer_auth(token).send().await.unwrap().status() != 401 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(TIMEOUT, dead).await.expect("the bank's token stays valid");
    }

    pub(crate) fn link_page(&self, token: &str) -> String {
        format!("{}/link?token={token}", self.to_plaid.url)
    }

    /// Returns the webhook URL of an application with a suffix.
    pub(crate) fn webhook(&self, more: &str) -> String {
        format!("{}/hook{more}", self.to_app.url)
    }

    /// Returns a public token that a webhook brought to an application, each token once.
    pub(crate) async fn public_token_by_webhook(&self, app: &str) -> String {
        let token = |body: &[u8]| {
            let body: Value = serde_json::from_slice(body).unwrap();
            body["public_token"].as_str().map(str::to_owned)
        };
        let path = format!("/{app}/hook");
        let call = self.to_app.call("ITEM_ADD_RESULT", |call| {
            call.path == path
                && token(&call.sent).is_some_and(|one| !self.taken.lock().unwrap().contains(&one))
        });
        let token = token(&call.await.sent).unwrap();
        self.taken.lock().unwrap().insert(token.clone());
        token
    }

    /// Returns the code that the bank "sent" after `before` others.
    pub(crate) async fn code_sent(&self, before: usize) -> String {
        let line = self.bank.line("sent to ", before).await;
        line.rsplit(' ').next().unwrap().to_owned()
    }

    /// Advances the bank's clock with another process.
    pub(crate) async fn advance(&self, by: &str) {
        let database = self.dir.path().join("bank.sqlite");
        let arguments = ["advance", by, "--database", database.to_str().unwrap()];
        let program = Program::start(env!("CARGO_BIN_EXE_demo-bank"), &arguments);
        let output = tokio::task::spawn_blocking(|| program.end()).await.unwrap();
        *self.advanced.lock().unwrap() = output;
    }

    /// Stops both programs. Returns their output.
    pub(crate) async fn stop(self) -> ProgramOutput {
        let metrics = self.http.get(&self.metrics).send().await.unwrap().text().await.unwrap();
        let (bank, plaid) = (self.bank, self.plaid);
        // Plaid first, because it calls the bank until its end.
        let ended = tokio::task::spawn_blocking(|| (plaid.stop(), bank.stop()));
        let ((plaid, plaid_log), (mut bank, mut bank_log)) = ended.await.unwrap();
        let (output, logged) = self.advanced.into_inner().unwrap();
        bank.push_str(&output);
        bank_log.push_str(&logged);
        ProgramOutput { bank, bank_log, plaid, plaid_log, metrics }
    }
}

fn file(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Returns a configuration with one bank under two names, because users sign in on its pages or on
/// Link's, and with two applications.
fn settings(bank: &str, app: &str) -> String {
    let institution = |id: &str, client: &str, mode: &str, targets: &str| {
        let secret = secret_of(client);
        format!(
            r#"
            [[institutions]]
            id = "{id}"
            name = "Bank"
            base_url = "{bank}"
            mode = "{mode}"
            own_client_id = "plaid"
            own_secret = "{SECRET_AT_BANK}"
            client_id = "{client}"
            secret = "{secret}"
            redirect_uris = ["{bank}/apps/connected"]
            targets = [{targets}]
            "#
        )
    };
    let application = |id: &str| {
        let secret = secret_of(id);
        format!(
            r#"
            [[applications]]
            id = "{id}"
            client_id = "{id}"
            secret = "{secret}"
            name = "An app"
            products = ["transactions", "auth", "identity"]
            redirect_uris = ["{AWAY}{id}"]
            webhook = "{app}/{id}/hook"
            "#
        )
    };
    let target = format!("{{ application_id = \"budget-app\", token = \"{TARGET}\" }}");
    [
        "local_webhooks = true\napp_listen = ''\n".to_owned(),
        institution("ins_pages", "the-bank", "oauth", &target),
        institution("ins_here", "the-bank-too", "credentials", ""),
        application("budget-app"),
        application("tax-app"),
    ]
    .concat()
}
