//! `Debug` shows no secret, for all public types that contain secrets.

use px_types::{
    model::{account::Account, depository::TransferCode, sign_in::SignIn},
    partner::*,
    testing::{PAGE, USER},
    validate::{UserContext, check},
    webhook::Webhook,
    *,
};
use serde_json::{Value, json};
use std::fmt::Debug;

/// The names of fields that are secrets in every message.
const SECRET_FIELDS: &[&str] = &[
    "access_token",
    "new_access_token",
    "auth_token",
    "refresh_token",
    "public_token",
    "link_token",
    "target_application_token",
    "secret",
    "username",
    "password",
    "code",
    "answer",
    "state",
    "account_number",
    "iban",
];

/// Sets every secret field to a recognizable text. Returns the number of secret fields.
fn mark(value: &mut Value) -> usize {
    match value {
        // The `state` of an Item's health is not the OAuth `state`.
        Value::Object(fields) if fields.contains_key("issues") => 0,
        Value::Object(fields) => fields
            .iter_mut()
            .map(|(key, value)| {
                if SECRET_FIELDS.contains(&key.as_str()) && value.is_string() {
                    *value = json!("hunter2");
                    1
                } else {
                    mark(value)
                }
            })
            .sum(),
        Value::Array(entries) => entries.iter_mut().map(mark).sum(),
        _ => 0,
    }
}

fn assert_hidden(value: &impl Debug) {
    for text in [format!("{value:?}"), format!("{value:#?}")] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}

fn masked<T: serde::de::DeserializeOwned + serde::Serialize + Debug>(sample: &Value) -> usize {
    let mut sample = sample.clone();
    let count = mark(&mut sample);
    let message: T = decode(sample.to_string().as_bytes()).unwrap();
    // The secrets are in the message, but `Debug` does not show them.
    let written = serde_json::to_string(&message).unwrap();
    assert_eq!(written.matches("hunter2").count(), count);
    assert_hidden(&message);
    count
}

fn samples(id: &str, part: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("../fixtures/samples.json")).unwrap();
    all[id][part].as_array().cloned().unwrap_or_default()
}

#[test]
fn secret_types() {
    macro_rules! each { ($($name:ident)+) => {$( assert_hidden(&$name::new("hunter2")); )+} }
    each!(AccessToken RefreshToken AuthorizationCode CodeVerifier AuthorizationState ClientSecret
        Username Password OneTimeCode KbaAnswer AccountNumber AnyToken ItemAccessToken PublicToken
        LinkToken TargetApplicationToken);
}

#[test]
fn messages() {
    assert_eq!(masked::<UserAccountInfoResponse>(&serde_json::from_str(USER).unwrap()), 4);
    // The `code` of a transaction is not a secret, so a page has none.
    let page: TransactionsResponse = decode(PAGE.as_bytes()).unwrap();
    assert!(format!("{page:?}").contains("Purchase"));
    macro_rules! all { ($($name:ident => $endpoint:ty,)+) => {$(
        for sample in samples(<$endpoint>::META.id, "request") {
            assert!(masked::<$endpoint>(&sample) > 0 || sample.get("secret").is_none());
        }
        for sample in samples(<$endpoint>::META.id, "response") {
            if <$endpoint>::META.id != "list_activity" {
                masked::<<$endpoint as Endpoint>::Response>(&sample);
            }
        }
    )+} }
    for_each_plaid_endpoint!(all);
    for sample in samples("auth_token", "request") {
        assert_eq!(masked::<AuthTokenRequest>(&sample), 2);
    }
    for sample in samples("auth_token", "response") {
        masked::<SignIn>(&sample);
    }
    let secret_count: usize =
        samples("two_factor", "request").iter().map(masked::<TwoFactorRequest>).sum();
    assert_eq!(secret_count, 2);
    for sample in samples("token", "response") {
        assert_eq!(masked::<TokenResponse>(&sample), 2);
    }
    let webhooks: Vec<Value> =
        serde_json::from_str(include_str!("../fixtures/webhooks.json")).unwrap();
    assert_eq!(webhooks.iter().map(masked::<Webhook>).sum::<usize>(), 1);
}

#[test]
fn forms_and_queries() {
    let read = |text: &str| -> RequestToken {
        endpoint::codec::from_http(&[], None, text.as_bytes()).unwrap()
    };
    assert_hidden(&read(
        "grant_type=authorization_code&code=hunter2&code_verifier=hunter2&client_secret=hunter2",
    ));
    assert_hidden(&read("grant_type=refresh_token&refresh_token=hunter2"));
    let revoke: Revoke =
        endpoint::codec::from_http(&[], None, b"token=hunter2&client_secret=hunter2").unwrap();
    assert_hidden(&revoke);
    let authorize: Authorize = endpoint::codec::from_http(&[], Some("state=hunter2"), b"").unwrap();
    assert_hidden(&authorize);
    let response = <AuthorizationResponse as endpoint::codec::ResponseBody>::decode(
        b"code=hunter2&state=hunter2",
    );
    assert_hidden(&response.unwrap());
    assert_hidden(&endpoint::parameters::ParsedParameters::parse("a=hunter2").unwrap());
}

#[test]
fn what_is_kept_whole() {
    let code: TransferCode =
        decode(br#"{"network":"pix","key":"hunter2","account_number":"hunter2"}"#).unwrap();
    assert_hidden(&code);
    assert!(serde_json::to_string(&code).unwrap().contains("hunter2"));
    let account: Account = decode(
        br#"{"id":"a","type":"crypto","subtype":"wallet","name":"n","status":"active","owner_identity_ids":["i"],
        "current_balance":"1","non_iso_currency":"BTC","account_number":"hunter2"}"#,
    )
    .unwrap();
    assert_hidden(&account);
    let webhook: Webhook = decode(
        br#"{"webhook_type":"X","webhook_code":"Y","item_id":"i","environment":"sandbox","public_token":"hunter2"}"#,
    )
    .unwrap();
    assert_hidden(&webhook);
}

#[test]
fn reports() {
    let mut user: Value = serde_json::from_str(USER).unwrap();
    mark(&mut user);
    let report = check(user.to_string().as_bytes(), |user: &UserAccountInfoResponse| {
        user.validate(&UserContext::full())
    });
    assert!(report.has_errors());
    assert_hidden(&report);
    assert!(!report.to_string().contains("hunter2"));
}
