//! The fuzz targets, as functions of arbitrary bytes.
//!
//! No target may panic, and no error may repeat a value: each error text is searched for pieces of
//! the input. The tests of px-types run the same functions on a fixed seed.

use px_types::{
    Endpoint,
    endpoint::{
        codec::{self, ResponseBody},
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

/// Decodes bytes as the request and the response of every endpoint, and as every other message.
pub fn decode(bytes: &[u8]) {
    macro_rules! endpoints { ($($name:ident => $endpoint:ty,)+) => {$(
        response::<<$endpoint as Endpoint>::Response>(bytes);
        if let Err(error) = codec::from_http::<$endpoint>(&["u".to_owned()], None, bytes) {
            assert_no_value(bytes, &error.to_string());
        }
    )+} }
    px_types::for_each_partner_endpoint!(endpoints);
    px_types::for_each_plaid_endpoint!(endpoints);
    message::<Webhook>(bytes);
    message::<ErrorResponse>(bytes);
    message::<OAuthErrorResponse>(bytes);
    let report = check(bytes, |user: &UserAccountInfoResponse| user.validate(&UserContext::full()));
    assert_no_value(bytes, &report.to_string());
    let report = check(bytes, |page: &TransactionsResponse| page.validate(&PageContext::new()));
    assert_no_value(bytes, &report.to_string());
}

/// Decodes bytes tolerantly. If strict decoding accepts them, tolerant decoding gives the same
/// message without faults.
pub fn tolerant(bytes: &[u8]) {
    decode_tolerantly::<UserAccountInfoResponse>(bytes);
    decode_tolerantly::<TransactionsResponse>(bytes);
    decode_tolerantly::<TokenResponse>(bytes);
}

fn decode_tolerantly<T: Tolerant + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let strict = px_types::decode::<T>(bytes);
    match (tolerant::decode::<T>(bytes, &Limits::default()), strict) {
        (Ok(read), Ok(strict)) => {
            assert!(read.message == strict, "tolerant decoding gives another message");
            assert!(read.faults.is_empty(), "tolerant decoding reports a fault in a valid message");
        }
        (Err(error), Ok(_)) => panic!("tolerant decoding fails on a valid message: {error}"),
        (Err(error), Err(_)) => assert_no_value(bytes, &error.to_string()),
        (Ok(read), Err(_)) => {
            assert!(
                !read.faults.is_empty(),
                "tolerant decoding reports no fault in an invalid message"
            );
            for fault in &read.faults {
                assert_no_value(bytes, &fault.to_string());
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
            // Filling the template with the matched values matches the same values.
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            let again = px_path::match_path(meta.path, &px_path::fill_path(meta.path, &values));
            assert_eq!(again.unwrap_or_default(), values);
        }
    }
}

/// Decodes bytes as a query string.
pub fn query(bytes: &[u8]) {
    let Ok(query) = std::str::from_utf8(bytes) else {
        return;
    };
    match codec::from_http::<ListTransactions>(&["u".to_owned()], Some(query), b"") {
        Ok(request) => assert_round_trip(request),
        Err(error) => assert_no_value(bytes, &error.to_string()),
    }
    match codec::from_http::<Authorize>(&[], Some(query), b"") {
        Ok(request) => assert_round_trip(request),
        Err(error) => assert_no_value(bytes, &error.to_string()),
    }
}

/// Decodes bytes as the form of a token request, and of a revocation.
pub fn token_request(bytes: &[u8]) {
    match codec::from_http::<RequestToken>(&[], None, bytes) {
        Ok(request) => assert_round_trip(request),
        Err(error) => assert_no_value(bytes, &error.to_string()),
    }
    match codec::from_http::<Revoke>(&[], None, bytes) {
        Ok(request) => assert_round_trip(request),
        Err(error) => assert_no_value(bytes, &error.to_string()),
    }
}

/// Panics if a request does not decode to itself after encoding.
fn assert_round_trip<E: Endpoint + Clone + PartialEq + std::fmt::Debug>(request: E) {
    let Ok(http) = codec::to_http(request.clone()) else {
        panic!("a decoded request cannot be encoded");
    };
    let values = px_path::match_path(E::META.path, http.uri().path()).unwrap_or_default();
    match codec::from_http::<E>(&values, http.uri().query(), http.body()) {
        Ok(again) => assert!(again == request, "the request differs after a round trip"),
        Err(error) => panic!("an encoded message cannot be decoded: {error}"),
    }
}

fn response<R: ResponseBody>(bytes: &[u8]) {
    match R::decode(bytes) {
        Ok(response) => {
            let written = response.encode();
            match R::decode(&written) {
                Ok(again) => assert_eq!(again.encode(), written),
                Err(error) => panic!("an encoded message cannot be decoded: {error}"),
            }
        }
        Err(error) => assert_no_value(bytes, &error.to_string()),
    }
}

fn message<T: serde::de::DeserializeOwned + serde::Serialize>(bytes: &[u8]) {
    match px_types::decode::<T>(bytes) {
        Ok(message) => {
            let written = px_types::encode(&message);
            if let Err(error) = px_types::decode::<T>(&written) {
                panic!("an encoded message cannot be decoded: {error}");
            }
        }
        Err(error) => assert_no_value(bytes, &error.to_string()),
    }
}

/// A marker in inputs for a value that must not appear in an error.
const SECRET: &str = "hunter2";

/// Panics if an error repeats a value of the input.
fn assert_no_value(bytes: &[u8], text: &str) {
    assert!(!text.contains(SECRET), "an error repeats a value: {text}");
    // Numbers outside of names are values, too. Names of parameters and in paths are in backticks,
    // and errors may contain them.
    let text: String = text.split('`').step_by(2).collect();
    let is_number = |part: &&[u8]| part.len() >= 7 && part.iter().all(u8::is_ascii_digit);
    let numbers = bytes.split(|b| !b.is_ascii_alphanumeric() && *b != b'_').filter(is_number);
    for number in numbers {
        let number = std::str::from_utf8(number).unwrap_or_default();
        assert!(!text.contains(number), "an error repeats a number: {text}");
    }
}
