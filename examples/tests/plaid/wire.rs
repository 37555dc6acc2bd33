//! A wire between programs that notes what goes over it, and every secret in it.
//!
//! It stands where a program is known to the others, so that nothing passes by it: what a test
//! looks for in a log was really sent, and is not the test's own idea of a secret.

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

/// Names of fields that hold secrets, wherever they stand.
const SECRET: [&str; 16] = [
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
/// Names that mean something else in a JSON document of this API, or nothing secret.
const SECRET_IN_FORMS: [&str; 2] = ["code", "state"];

/// Secrets, each with what it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Secrets(Arc<Mutex<BTreeMap<String, String>>>);

impl Secrets {
    /// What is so short, or empty, that a text holds it by chance is not looked for.
    pub(crate) fn note(&self, what: &str, secret: &str) {
        if secret.len() >= 6 {
            self.0.lock().unwrap().entry(secret.to_owned()).or_insert_with(|| what.to_owned());
        }
    }

    /// All of them: what it is, and the secret.
    pub(crate) fn all(&self) -> Vec<(String, String)> {
        let all = self.0.lock().unwrap();
        all.iter().map(|(secret, what)| (what.clone(), secret.clone())).collect()
    }

    fn note_json(&self, value: &Value, name: &str) {
        match value {
            Value::Object(fields) => {
                fields.iter().for_each(|(name, value)| self.note_json(value, name));
            }
            Value::Array(items) => items.iter().for_each(|item| self.note_json(item, name)),
            // The code of a challenge. Nothing else of that name is only digits.
            Value::String(text) if name == "code" && text.bytes().all(|b| b.is_ascii_digit()) => {
                self.note("code", text);
            }
            Value::String(text) if SECRET.contains(&name) => self.note(name, text),
            _ => {}
        }
    }

    fn note_fields(&self, text: &[u8]) {
        for (name, value) in url::form_urlencoded::parse(text) {
            if SECRET.contains(&&*name) || SECRET_IN_FORMS.contains(&&*name) {
                self.note(&name, &value);
            }
        }
    }

    fn note_body(&self, headers: &HeaderMap, body: &[u8]) {
        let kind = headers.get(header::CONTENT_TYPE).map_or("", |kind| kind.to_str().unwrap());
        if kind.starts_with("application/json") {
            // Broken ones are sent on purpose.
            self.note_json(&serde_json::from_slice(body).unwrap_or_default(), "");
        } else if kind.starts_with("application/x-www-form-urlencoded") {
            self.note_fields(body);
        }
    }

    fn note_headers(&self, headers: &HeaderMap) {
        let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
        for (name, value) in headers {
            let value = text(value);
            match name.as_str() {
                "authorization" => {
                    let credentials = value.split(' ').next_back().unwrap_or_default();
                    self.note("authorization", credentials);
                    if let Ok(decoded) = BASE64_STANDARD.decode(credentials)
                        && let Ok(pair) = String::from_utf8(decoded)
                        && let Some((_, secret)) = pair.split_once(':')
                    {
                        self.note("client_secret", secret);
                    }
                }
                "cookie" | "set-cookie" => {
                    // Of `Set-Cookie`, the first part alone is the cookie.
                    let parts = if name == "cookie" { usize::MAX } else { 1 };
                    for pair in value.split("; ").take(parts) {
                        self.note("cookie", pair.split_once('=').map_or("", |(_, value)| value));
                    }
                }
                "location" => {
                    self.note_fields(value.split_once('?').map_or("", |it| it.1).as_bytes())
                }
                "plaid-secret" | "plaid-verification" => self.note(name.as_str(), &value),
                _ => {}
            }
        }
    }
}

/// A call and its answer.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) sent: Bytes,
    pub(crate) status: StatusCode,
    pub(crate) got: Bytes,
}

impl Call {
    /// A field of the form that was sent.
    pub(crate) fn form(&self, name: &str) -> Option<String> {
        let mut fields = url::form_urlencoded::parse(&self.sent);
        fields.find(|(field, _)| field == name).map(|(_, value)| value.into_owned())
    }
}

/// A wire to a program.
pub(crate) struct Wire {
    /// Where the program is known to be.
    pub(crate) url: String,
    /// Where it listens, once that is known.
    end: Arc<OnceLock<String>>,
    calls: watch::Receiver<Vec<Call>>,
    task: JoinHandle<()>,
}

#[derive(Clone)]
struct Between {
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
        let between = Between { end: end.clone(), secrets: secrets.clone(), calls: noted, http };
        let router = Router::new().fallback(pass).with_state(between);
        let server = px_server::hyper::Server::new();
        let task = tokio::spawn(async move {
            server.serve_until(listener, router, std::future::pending()).await.unwrap();
        });
        Self { url, end, calls, task }
    }

    pub(crate) fn leads_to(&self, url: String) {
        self.end.set(url).unwrap();
    }

    /// The last call of some kind.
    pub(crate) fn last(&self, is_it: impl Fn(&Call) -> bool) -> Call {
        self.calls.borrow().iter().rfind(|one| is_it(one)).unwrap().clone()
    }

    /// Waits for a call, which may have come already.
    pub(crate) async fn call(&self, what: &str, is_it: impl Fn(&Call) -> bool) -> Call {
        let mut calls = self.calls.clone();
        let came = async {
            let all = calls.wait_for(|all| all.iter().any(&is_it)).await.unwrap();
            all.iter().find(|one| is_it(one)).unwrap().clone()
        };
        let came = tokio::time::timeout(std::time::Duration::from_secs(60), came).await;
        came.unwrap_or_else(|_| panic!("no call came: {what}"))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(State(between): State<Between>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let sent = axum::body::to_bytes(body, 4 << 20).await.unwrap();
    between.secrets.note_headers(&head.headers);
    between.secrets.note_body(&head.headers, &sent);
    between.secrets.note_fields(head.uri.query().unwrap_or_default().as_bytes());
    let path = head.uri.path_and_query().unwrap().to_string();
    let url = format!("{}{path}", between.end.get().unwrap());
    let method = Method::from_bytes(head.method.as_str().as_bytes()).unwrap();
    let mut request = between.http.request(method, url).body(sent.clone());
    for (name, value) in &head.headers {
        if !is_of_one_connection(name.as_str()) {
            request = request.header(name, value);
        }
    }
    let answer = request.send().await.unwrap();
    let (status, headers) = (answer.status(), answer.headers().clone());
    let got = answer.bytes().await.unwrap();
    between.secrets.note_headers(&headers);
    between.secrets.note_body(&headers, &got);
    let mut response = Response::new(Body::from(got.clone()));
    *response.status_mut() = status;
    for (name, value) in &headers {
        if !is_of_one_connection(name.as_str()) {
            response.headers_mut().append(name, value.clone());
        }
    }
    let call = Call { path, headers: head.headers, sent, status, got };
    between.calls.send_modify(|all| all.push(call));
    response
}

fn is_of_one_connection(header: &str) -> bool {
    matches!(header, "connection" | "content-length" | "keep-alive" | "transfer-encoding")
}
