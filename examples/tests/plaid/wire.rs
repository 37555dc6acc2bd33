//! A proxy between programs that records requests and responses, and every secret in them.
//!
//! The other programs know a program only by its proxy, so nothing bypasses it. The recorded
//! secrets were really sent, and do not come from the test's own list.

use axum::{Router, body::Body, extract::State, response::Response};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock},
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

/// Names of fields with secrets, in any message.
const SECRET_FIELDS: [&str; 16] = [
    "access_token",
    "account_number",
    "auth_token",
    "client_secret",
    "code_verifier",
    "csrf",
    "iban",
    "link_token",
    "new_access_token",
    "password",
    "public_token",
    "refresh_token",
    "secret",
    "target_application_token",
    "token",
    "username",
];
/// Names that mean something else, or nothing secret, in JSON messages of this API.
const SECRET_FORM_FIELDS: [&str; 2] = ["code", "state"];

/// The recorded secrets, each with its kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Secrets(Arc<Mutex<BTreeMap<String, String>>>);

impl Secrets {
    /// Records a secret. Ignores short ones, which a text may contain by chance.
    pub(crate) fn record(&self, what: &str, secret: &str) {
        if secret.len() >= 6 {
            self.0.lock().unwrap().entry(secret.to_owned()).or_insert_with(|| what.to_owned());
        }
    }

    /// Returns all secrets with their kinds.
    pub(crate) fn all(&self) -> Vec<(String, String)> {
        let all = self.0.lock().unwrap();
        all.iter().map(|(secret, what)| (what.clone(), secret.clone())).collect()
    }

    fn record_json(&self, value: &Value, name: &str) {
        match value {
            Value::Object(fields) => {
                fields.iter().for_each(|(name, value)| self.record_json(value, name));
            }
            Value::Array(items) => items.iter().for_each(|item| self.record_json(item, name)),
            // The code of a challenge. No other field of that name has only digits.
            Value::String(text) if name == "code" && text.bytes().all(|b| b.is_ascii_digit()) => {
                self.record("code", text);
            }
            Value::String(text) if SECRET_FIELDS.contains(&name) => self.record(name, text),
            _ => {}
        }
    }

    fn record_fields(&self, text: &[u8]) {
        for (name, value) in url::form_urlencoded::parse(text) {
            if SECRET_FIELDS.contains(&&*name) || SECRET_FORM_FIELDS.contains(&&*name) {
                self.record(&name, &value);
            }
        }
    }

    fn record_body(&self, headers: &HeaderMap, body: &[u8]) {
        let kind = headers.get(header::CONTENT_TYPE).map_or("", |kind| kind.to_str().unwrap());
        if kind.starts_with("application/json") {
            // Some tests send invalid JSON on purpose.
            self.record_json(&serde_json::from_slice(body).unwrap_or_default(), "");
        } else if kind.starts_with("application/x-www-form-urlencoded") {
            self.record_fields(body);
        }
    }

    fn record_headers(&self, headers: &HeaderMap) {
        let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
        for (name, value) in headers {
            let value = text(value);
            match name.as_str() {
                "authorization" => {
                    let credentials = value.split(' ').next_back().unwrap_or_default();
                    self.record("authorization", credentials);
                    if let Ok(decoded) = BASE64_STANDARD.decode(credentials)
                        && let Ok(pair) = String::from_utf8(decoded)
                        && let Some((_, secret)) = pair.split_once(':')
                    {
                        self.record("client_secret", secret);
                    }
                }
                "cookie" | "set-cookie" => {
                    // In `Set-Cookie`, only the first part is the cookie.
                    let parts = if name == "cookie" { usize::MAX } else { 1 };
                    for pair in value.split("; ").take(parts) {
                        self.record("cookie", pair.split_once('=').map_or("", |(_, value)| value));
                    }
                }
                "location" => {
                    self.record_fields(value.split_once('?').map_or("", |it| it.1).as_bytes())
                }
                "plaid-secret" | "plaid-verification" => self.record(name.as_str(), &value),
                _ => {}
            }
        }
    }
}

/// A request and its response.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) sent: Bytes,
    pub(crate) status: StatusCode,
    pub(crate) got: Bytes,
}

impl Call {
    /// Returns a field of the form in the request.
    pub(crate) fn form(&self, name: &str) -> Option<String> {
        let mut fields = url::form_urlencoded::parse(&self.sent);
        fields.find(|(field, _)| field == name).map(|(_, value)| value.into_owned())
    }
}

/// A proxy to a program.
pub(crate) struct Wire {
    /// The URL of the proxy.
    pub(crate) url: String,
    /// The URL of the program, once it is known.
    end: Arc<OnceLock<String>>,
    calls: watch::Receiver<Vec<Call>>,
    task: JoinHandle<()>,
}

#[derive(Clone)]
struct ProxyState {
    end: Arc<OnceLock<String>>,
    secrets: Secrets,
    calls: watch::Sender<Vec<Call>>,
    http: reqwest::Client,
}

impl Wire {
    pub(crate) async fn new(secrets: &Secrets) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let http = reqwest::Client::builder().no_proxy();
        let http = http.redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let (noted, calls) = watch::channel(Vec::new());
        let end = Arc::new(OnceLock::new());
        let proxy = ProxyState { end: end.clone(), secrets: secrets.clone(), calls: noted, http };
        let router = Router::new().fallback(pass).with_state(proxy);
        let server = px_server::hyper::Server::new();
        let task = tokio::spawn(async move {
            server.serve_until(listener, router, std::future::pending()).await.unwrap();
        });
        Self { url, end, calls, task }
    }

    pub(crate) fn leads_to(&self, url: String) {
        self.end.set(url).unwrap();
    }

    /// Returns the last request that matches.
    pub(crate) fn last(&self, is_it: impl Fn(&Call) -> bool) -> Call {
        self.calls.borrow().iter().rfind(|one| is_it(one)).unwrap().clone()
    }

    /// Waits for a request that matches, and returns the first one.
    pub(crate) async fn call(&self, what: &str, is_it: impl Fn(&Call) -> bool) -> Call {
        let mut calls = self.calls.clone();
        let came = async {
            let all = calls.wait_for(|all| all.iter().any(&is_it)).await.unwrap();
            all.iter().find(|one| is_it(one)).unwrap().clone()
        };
        let came = tokio::time::timeout(std::time::Duration::from_secs(60), came).await;
        came.unwrap_or_else(|_| panic!("no such request: {what}"))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(State(proxy): State<ProxyState>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let sent = axum::body::to_bytes(body, 4 << 20).await.unwrap();
    proxy.secrets.record_headers(&head.headers);
    proxy.secrets.record_body(&head.headers, &sent);
    proxy.secrets.record_fields(head.uri.query().unwrap_or_default().as_bytes());
    let path = head.uri.path_and_query().unwrap().to_string();
    let url = format!("{}{path}", proxy.end.get().unwrap());
    let method = Method::from_bytes(head.method.as_str().as_bytes()).unwrap();
    let mut request = proxy.http.request(method, url).body(sent.clone());
    for (name, value) in &head.headers {
        if !is_of_one_connection(name.as_str()) {
            request = request.header(name, value);
        }
    }
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let got = response.bytes().await.unwrap();
    proxy.secrets.record_headers(&headers);
    proxy.secrets.record_body(&headers, &got);
    let mut forwarded = Response::new(Body::from(got.clone()));
    *forwarded.status_mut() = status;
    for (name, value) in &headers {
        if !is_of_one_connection(name.as_str()) {
            forwarded.headers_mut().append(name, value.clone());
        }
    }
    let call = Call { path, headers: head.headers, sent, status, got };
    proxy.calls.send_modify(|all| all.push(call));
    forwarded
}

fn is_of_one_connection(header: &str) -> bool {
    matches!(header, "connection" | "content-length" | "keep-alive" | "transfer-encoding")
}
