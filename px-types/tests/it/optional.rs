//! Absent, `null` and `""` are equivalent for every field that is not required.

use px_types::{
    endpoint::{Endpoint as _, codec::ResponseBody},
    error::{ErrorResponse, OAuthErrorResponse},
    partner::*,
    plaid::*,
    testing::{PAGE, USER},
    webhook::Webhook,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// The fields that are required and may be `null`.
const NULLABLE: &[&str] = &["description", "settled_at", "display_message"];

/// Collects the JSON pointers of all fields of all objects.
fn fields(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let at = format!("{at}/{key}");
                fields(value, &at, found);
                found.push(at);
            }
        }
        Value::Array(entries) => {
            for (i, value) in entries.iter().enumerate() {
                fields(value, &format!("{at}/{i}"), found);
            }
        }
        _ => {}
    }
}

fn check<T: DeserializeOwned + Serialize>(sample: &Value) -> (usize, usize) {
    let written = |value: &Value| {
        let read = px_types::wire::decode_value::<T>(value);
        read.map(|message| serde_json::to_value(message).unwrap())
    };
    // With every field set, nothing is lost and nothing is added.
    assert_eq!(written(sample).unwrap(), *sample);
    let mut all = Vec::new();
    fields(sample, "", &mut all);
    let (mut optional, mut required) = (0, 0);
    for pointer in all {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let with = |value: Option<Value>| {
            let mut changed = sample.clone();
            let object = changed.pointer_mut(parent).unwrap().as_object_mut().unwrap();
            match value {
                Some(value) => object.insert(key.into(), value),
                None => object.remove(key),
            };
            written(&changed)
        };
        let (null, empty) = (with(Some(Value::Null)), with(Some(json!(""))));
        match with(None) {
            Ok(absent) => {
                optional += 1;
                assert_eq!(null.as_ref(), Ok(&absent), "null at {pointer}");
                assert_eq!(empty.as_ref(), Ok(&absent), "\"\" at {pointer}");
                let mut parent_of = absent.clone();
                let left = parent_of.pointer_mut(&pointer);
                assert!(left.is_none(), "{pointer} is written though it is absent");
            }
            Err(_) if NULLABLE.contains(&key) && null.is_ok() => {
                required += 1;
                assert_eq!(null, empty, "{pointer}");
            }
            Err(_) => {
                required += 1;
                assert!(null.is_err(), "null at {pointer} though it is required");
            }
        }
    }
    (optional, required)
}

#[test]
fn in_a_users_answer() {
    let sample = serde_json::from_str(USER).unwrap();
    let (optional, required) = check::<UserAccountInfoResponse>(&sample);
    assert!(optional > 150 && required > 90, "{optional} {required}");
}

#[test]
fn in_a_page() {
    let sample = serde_json::from_str(PAGE).unwrap();
    let (optional, required) = check::<TransactionsResponse>(&sample);
    assert!(optional > 30 && required > 35, "{optional} {required}");
}

#[test]
fn in_errors_and_webhooks() {
    let sample = serde_json::from_str(include_str!("../fixtures/error.json")).unwrap();
    assert_eq!(check::<ErrorResponse>(&sample), (2, 3));
    let oauth = json!({"error": "invalid_grant", "error_description": "d", "error_uri": "u"});
    assert_eq!(check::<OAuthErrorResponse>(&oauth), (2, 1));
    let webhooks: Vec<Value> =
        serde_json::from_str(include_str!("../fixtures/webhooks.json")).unwrap();
    for webhook in webhooks {
        check::<Webhook>(&webhook);
    }
}

/// Returns the samples of the requests or responses of an endpoint.
fn samples(id: &str, part: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("../fixtures/samples.json")).unwrap();
    all[id][part].as_array().unwrap().clone()
}

fn check_responses<R: ResponseBody + DeserializeOwned + Serialize>(id: &str) {
    for sample in samples(id, "response") {
        check::<R>(&sample);
    }
}

#[test]
fn in_plaids_requests_and_answers() {
    macro_rules! all { ($($name:ident => $endpoint:ty,)+) => {$(
        for sample in samples(<$endpoint>::META.id, "request") {
            check::<$endpoint>(&sample);
        }
        check_responses::<<$endpoint as px_types::Endpoint>::Response>(<$endpoint>::META.id);
    )+} }
    px_types::for_each_plaid_endpoint!(all);
}

#[test]
fn in_the_other_messages_of_a_partner() {
    for sample in samples("application_linked", "request") {
        check::<NewApplicationLinkNotification>(&sample);
    }
    for sample in samples("auth_token", "request") {
        check::<AuthTokenRequest>(&sample);
    }
    check_responses::<TokenResponse>("token");
    check_responses::<CurrentUserResponse>("current_user");
    check_responses::<SendOtpResponse>("send_otp");
}

#[test]
fn a_batch_has_1_to_2000_entries() {
    let entry = json!({"access_token": "a", "account_id": "b"});
    for (count, good) in [(0, false), (1, true), (2000, true), (2001, false)] {
        let text = json!({"notifications": vec![entry.clone(); count], "new_since": "2024-01-01"});
        let read = px_types::decode::<NewTransactionsNotification>(text.to_string().as_bytes());
        assert_eq!(read.is_ok(), good, "{count}");
    }
    let none = br#"{"products":[],"user_auth":{"user_id":"u","auth_token":"t"}}"#;
    let error = px_types::decode::<ImportItem>(none).unwrap_err();
    assert_eq!(error.path(), "products");
}
