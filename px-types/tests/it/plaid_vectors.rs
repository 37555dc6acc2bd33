//! The test vectors of Plaid's API: there is one for every endpoint, and both sides read and write them.

use px_types::{
    Endpoint,
    endpoint::{codec, codec::ResponseBody, path},
    model::plaid_error::PlaidError,
    testing::{PLAID_ERROR, PLAID_VECTORS},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{collections::BTreeSet, fmt::Debug};

fn vector(id: &str) -> Value {
    let found = PLAID_VECTORS.iter().find(|(name, _)| *name == id);
    let (_, text) = found.unwrap_or_else(|| panic!("there is no vector of `{id}`"));
    serde_json::from_str(text).unwrap()
}

/// Asserts that reading and writing a message leaves it unchanged.
fn same<T: Serialize + DeserializeOwned>(json: &Value, what: &str) -> T {
    let read: T = px_types::decode(json.to_string().as_bytes()).unwrap();
    let written: Value = serde_json::from_slice(&px_types::encode(&read)).unwrap();
    assert_eq!(written, *json, "{what}");
    read
}

fn check<E>()
where
    E: Endpoint<Response: Serialize + DeserializeOwned + PartialEq + Debug>,
    E: Serialize + DeserializeOwned + Clone + PartialEq + Debug,
{
    let id = E::META.id;
    let vector = vector(id);
    let request: E = same(&vector["request"], id);
    let http = codec::to_http(request.clone()).unwrap();
    assert_eq!(*http.method(), E::META.method, "{id}");
    assert_eq!(http.headers()["content-type"], "application/json", "{id}");
    let body: Value = serde_json::from_slice(http.body()).unwrap();
    assert_eq!(body, vector["request"], "{id}");
    let values = path::match_path(E::META.path, http.uri().path()).unwrap();
    let read: E = codec::from_http(&values, http.uri().query(), http.body()).unwrap();
    assert_eq!(read, request, "{id}");

    let response: E::Response = same(&vector["response"], id);
    let bytes = response.encode();
    assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), vector["response"], "{id}");
    assert_eq!(E::Response::decode(&bytes).unwrap(), response, "{id}");
}

#[test]
fn every_endpoint_has_one_and_it_reads_and_writes() {
    let mut ids = BTreeSet::new();
    macro_rules! each { ($($name:ident => $endpoint:ty,)+) => {$(
        check::<$endpoint>();
        // The method has the name of the endpoint.
        assert_eq!(stringify!($name), <$endpoint>::META.id);
        ids.insert(<$endpoint>::META.id);
    )+} }
    px_types::for_each_plaid_endpoint!(each);
    assert_eq!(PLAID_VECTORS.iter().map(|(id, _)| *id).collect::<BTreeSet<_>>(), ids);
    assert_eq!(PLAID_VECTORS.len(), ids.len());
}

#[test]
fn errors_too() {
    let error: PlaidError = same(&serde_json::from_str(PLAID_ERROR).unwrap(), "error");
    assert_eq!(error.error_code, "ITEM_LOGIN_REQUIRED");
}
