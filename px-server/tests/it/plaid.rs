//! Plaid's API over an implementation that responds with the golden vectors.

mod credentials;
mod limits;
mod refusals;
mod vectors;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use px_server::{
    clients::{Client, Clients, MemoryClients},
    plaid::{Caller, Error, Plaid, PlaidService, PlaidServiceBuilder},
};
use px_types::{
    ClientId, ClientSecret, Endpoint, endpoint::codec::ResponseBody as _, testing::PLAID_VECTORS,
};
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tower::ServiceExt as _;

/// The client of the golden vectors.
const CLIENT: &str = "client-7d0b6c21";
const SECRET: &str = "client-secret-e83a10f4";
/// A second client, an application.
const OTHER: &str = "client-other";
const OTHER_SECRET: &str = "client-secret-of-the-other";
/// The request id of the golden vectors.
const REQUEST_ID: &str = "3b7f02c1d9e84a56";

/// Returns the request or the response of an endpoint.
fn vector(id: &str, part: &str) -> Value {
    let (_, text) = PLAID_VECTORS.iter().find(|(name, _)| *name == id).unwrap();
    serde_json::from_str::<Value>(text).unwrap()[part].take()
}

/// A call that reached a method.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RecordedCall {
    endpoint: &'static str,
    client_id: String,
    request_id: String,
    request: Value,
}

/// Responds with the golden vectors and records the calls.
#[derive(Clone, Default)]
pub(crate) struct Scripted(Arc<Mutex<Vec<RecordedCall>>>);

impl Scripted {
    fn calls(&self) -> Vec<RecordedCall> {
        self.0.lock().unwrap().clone()
    }

    /// Fails as the access token of the request says.
    fn respond<E: Endpoint + Serialize>(
        &self,
        caller: &Caller,
        request: &E,
    ) -> Result<E::Response, Error> {
        let id = E::META.id;
        let request = serde_json::to_value(request).unwrap();
        match request["access_token"].as_str() {
            Some("panics") => panic!("the code behind the endpoint panics"),
            Some("fails") => return Err(Error::internal("a cause for the log alone")),
            Some("down") => {
                let error = Error::unavailable("the store is down");
                return Err(error.with_retry_after(Duration::from_millis(1500)));
            }
            Some("unknown") => return Err(Error::invalid_access_token()),
            _ => {}
        }
        self.0.lock().unwrap().push(RecordedCall {
            endpoint: id,
            client_id: caller.client_id().as_str().to_owned(),
            request_id: caller.request_id().to_owned(),
            request,
        });
        let mut response = vector(id, "response");
        response["request_id"] = json!("of the method, which is not believed");
        Ok(E::Response::decode(response.to_string().as_bytes()).unwrap())
    }
}

macro_rules! scripted {
    ($($name:ident => $endpoint:ty,)+) => {
        #[async_trait]
        impl Plaid for Scripted {
            $(async fn $name(
                &self,
                caller: &Caller,
                request: $endpoint,
            ) -> Result<<$endpoint as Endpoint>::Response, Error> {
                self.respond::<$endpoint>(caller, &request)
            })+
        }
    };
}

px_types::for_each_plaid_endpoint!(scripted);

fn clients() -> Arc<dyn Clients> {
    let client = |id| Client::new(ClientId::new(id).unwrap(), id, [""; 0]);
    let clients = MemoryClients::new();
    let clients = clients.with(client(CLIENT), &ClientSecret::new(SECRET)).unwrap();
    Arc::new(clients.with(client(OTHER), &ClientSecret::new(OTHER_SECRET)).unwrap())
}

pub(crate) fn service() -> (PlaidService, Scripted) {
    service_with(|builder| builder)
}

fn service_with(
    change: impl FnOnce(PlaidServiceBuilder) -> PlaidServiceBuilder,
) -> (PlaidService, Scripted) {
    let plaid = Scripted::default();
    let builder = PlaidService::builder(plaid.clone()).clients(clients());
    (change(builder).build().unwrap(), plaid)
}

/// Returns a request without credentials.
fn post(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(path)
        .header(header::HOST, "plaid.example")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body.into()))
        .unwrap()
}

/// Returns a request of the client with its credentials in the headers.
fn client_request(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    with_headers(post(path, body), &[("plaid-client-id", CLIENT), ("plaid-secret", SECRET)])
}

fn with_headers(
    mut request: Request<Full<Bytes>>,
    headers: &[(&'static str, &str)],
) -> Request<Full<Bytes>> {
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    request
}

/// Sends a request, checks the common properties of responses, and returns the response.
async fn send(service: &PlaidService, request: Request<Full<Bytes>>) -> (Response<()>, Value) {
    let response = service.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    assert_eq!(parts.headers[header::CONTENT_TYPE], "application/json");
    assert_eq!(parts.headers[header::CACHE_CONTROL], "no-store");
    assert_eq!(parts.headers[header::CONTENT_LENGTH], body.len().to_string());
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["request_id"].as_str().unwrap(), parts.headers["x-request-id"]);
    if !parts.status.is_success() {
        let error: px_types::model::plaid_error::PlaidError =
            serde_json::from_value(body.clone()).unwrap();
        assert_eq!(error.status, Some(u64::from(parts.status.as_u16())));
        assert!(error.error_type.as_str().chars().all(|c| c.is_ascii_uppercase() || c == '_'));
        assert!(body.get("display_message").is_some(), "required, and null");
    }
    (Response::from_parts(parts, ()), body)
}

/// Returns the status and the code.
async fn outcome(service: &PlaidService, request: Request<Full<Bytes>>) -> (u16, String) {
    let (response, body) = send(service, request).await;
    let code = body["error_code"].as_str().unwrap_or_default().to_owned();
    (response.status().as_u16(), code)
}
