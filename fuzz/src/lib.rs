//! What the fuzz targets do with bytes that may be anything.
//!
//! No target may panic, and no error may repeat a value: every text is searched for
//! pieces of the input. px-types runs the same functions in its tests on a fixed seed.

use px_types::{
    Endpoint,
    endpoint::{
        codec::{self, Reply},
        list, path as px_path,
    },
    error::{ErrorResponse, OAuthErrorResponse},
    partner::{
        Authorize, ListTransactions, RequestToken, Revoke, TokenResponse, TransactionsResponse,
        UserAccountInfoResponse,
    },
    tolerant::{self, Limits, Tolerant},
    validate::{PageContext, UserContext, check},
    webhook::Webhook,
};

/// Reads bytes as the request and the answer of every endpoint, and as every other message.
pub fn decode(bytes: &[u8]) {
    macro_rules! endpoints { ($($name:ident => $endpoint:ty,)+) => {$(
        answer::<<$endpoint as Endpoint>::Response>(bytes);
        if let Err(error) = codec::from_http::<$endpoint>(&["u".to_owned()], None, bytes) {
            quotes_nothing(bytes, &error.to_string());
        }
    )+} }
    px_types::for_each_partner_endpoint!(endpoints);
    px_types::for_each_plaid_endpoint!(endpoints);
    message::<Webhook>(bytes);
    message::<ErrorResponse>(bytes);
    message::<OAuthErrorResponse>(bytes);
    let report = check(bytes, |user: &UserAccountInfoResponse| user.validate(&UserContext::full()));
    quotes_nothing(bytes, &report.to_string());
    let report = check(bytes, |page: &TransactionsResponse| page.validate(&PageContext::new()));
    quotes_nothing(bytes, &report.to_string());
}

/// Reads bytes tolerantly. What a strict reader accepts, a tolerant one reads alike, without a fault.
pub fn tolerant(bytes: &[u8]) {
    tolerantly::<UserAccountInfoResponse>(bytes);
    tolerantly::<TransactionsResponse>(bytes);
    tolerantly::<TokenResponse>(bytes);
}

fn tolerantly<T: Tolerant + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let strict = px_types::decode::<T>(bytes);
    match (tolerant::decode::<T>(bytes, &Limits::default()), strict) {
        (Ok(read), Ok(strict)) => {
            assert!(read.message == strict, "it is read otherwise");
            assert!(read.faults.is_empty(), "a fault where a strict reader finds none");
        }
        (Err(error), Ok(_)) => panic!("a strict reader accepts it: {error}"),
        (Err(error), Err(_)) => quotes_nothing(bytes, &error.to_string()),
        (Ok(read), Err(_)) => {
            assert!(!read.faults.is_empty(), "a strict reader refuses it, and there is no fault");
            for fault in &read.faults {
                quotes_nothing(bytes, &fault.to_string());
            }
        }
    }
}

/// Matches bytes as a path against every template.
pub fn path(bytes: &[u8]) {
    let Ok(path) = std::str::from_utf8(bytes) else {
        return;
    };
    for meta in list::partner().iter().chain(&list::plaid()) {
        if let Some(values) = px_path::match_path(meta.path, path) {
            // What was matched comes back to the same values.
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            let again = px_path::match_path(meta.path, &px_path::fill_path(meta.path, &values));
            assert_eq!(again.unwrap_or_default(), values);
        }
    }
}

/// Reads bytes as a query string.
pub fn query(bytes: &[u8]) {
    let Ok(query) = std::str::from_utf8(bytes) else {
        return;
    };
    match codec::from_http::<ListTransactions>(&["u".to_owned()], Some(query), b"") {
        Ok(request) => survives(request),
        Err(error) => quotes_nothing(bytes, &error.to_string()),
    }
    match codec::from_http::<Authorize>(&[], Some(query), b"") {
        Ok(request) => survives(request),
        Err(error) => quotes_nothing(bytes, &error.to_string()),
    }
}

/// Reads bytes as the form of a token request, and of a revocation.
pub fn token_request(bytes: &[u8]) {
    match codec::from_http::<RequestToken>(&[], None, bytes) {
        Ok(request) => survives(request),
        Err(error) => quotes_nothing(bytes, &error.to_string()),
    }
    match codec::from_http::<Revoke>(&[], None, bytes) {
        Ok(request) => survives(request),
        Err(error) => quotes_nothing(bytes, &error.to_string()),
    }
}

/// What was read is written and read again as the same.
fn survives<E: Endpoint + Clone + PartialEq + std::fmt::Debug>(request: E) {
    let Ok(http) = codec::to_http(request.clone()) else {
        panic!("a request that was read cannot be written");
    };
    let values = px_path::match_path(E::META.path, http.uri().path()).unwrap_or_default();
    match codec::from_http::<E>(&values, http.uri().query(), http.body()) {
        Ok(again) => assert!(again == request, "another request came back"),
        Err(error) => panic!("what was written cannot be read: {error}"),
    }
}

fn answer<R: Reply>(bytes: &[u8]) {
    match R::decode(bytes) {
        Ok(answer) => {
            let written = answer.encode();
            match R::decode(&written) {
                Ok(again) => assert_eq!(again.encode(), written),
                Err(error) => panic!("what was written cannot be read: {error}"),
            }
        }
        Err(error) => quotes_nothing(bytes, &error.to_string()),
    }
}

fn message<T: serde::de::DeserializeOwned + serde::Serialize>(bytes: &[u8]) {
    match px_types::decode::<T>(bytes) {
        Ok(message) => {
            let written = px_types::encode(&message);
            if let Err(error) = px_types::decode::<T>(&written) {
                panic!("what was written cannot be read: {error}");
            }
        }
        Err(error) => quotes_nothing(bytes, &error.to_string()),
    }
}

/// The mark that stands in inputs for a value that must not come out.
const SECRET: &str = "hunter2";

/// Panics when an error repeats a value of the input.
fn quotes_nothing(bytes: &[u8], text: &str) {
    assert!(!text.contains(SECRET), "an error repeats a value: {text}");
    // Numbers are values as well, where they are not part of a name. Names, of parameters and in
    // paths, stand in backticks, and an error may tell them.
    let text: String = text.split('`').step_by(2).collect();
    let digits = |part: &&[u8]| part.len() >= 7 && part.iter().all(u8::is_ascii_digit);
    let numbers = bytes.split(|b| !b.is_ascii_alphanumeric() && *b != b'_').filter(digits);
    for number in numbers {
        let number = std::str::from_utf8(number).unwrap_or_default();
        assert!(!text.contains(number), "an error repeats a number: {text}");
    }
}
