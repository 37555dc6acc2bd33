//! Decoding: errors name the path and never the value.

use px_types::{
    DecodeError, decode, encode,
    model::account::AccountKind,
    partner::*,
    testing::{PAGE, USER},
    wire::decode_value,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn changed(sample: &str, pointer: &str, value: Value) -> Value {
    let mut sample: Value = serde_json::from_str(sample).unwrap();
    *sample.pointer_mut(pointer).unwrap() = value;
    sample
}

fn refused<T: DeserializeOwned>(sample: &Value) -> DecodeError {
    let from_bytes = decode::<T>(sample.to_string().as_bytes()).err().unwrap();
    let from_value = decode_value::<T>(sample).err().unwrap();
    assert_eq!(from_bytes.path(), from_value.path());
    from_bytes
}

#[test]
fn amounts_keep_their_scale() {
    let page: TransactionsResponse = decode(PAGE.as_bytes()).unwrap();
    assert_eq!(page.transactions[0].amount.to_string(), "72.100000");
    let written = String::from_utf8(encode(&page)).unwrap();
    assert!(written.contains(r#""amount":"72.100000""#));
    assert!(written.contains(r#""settled_at":"2024-01-05T00:00:00.123456789Z""#));
    assert!(written.contains(r#""settled_at":"2024-01-31""#));
}

#[test]
fn faults_have_their_path_and_not_their_value() {
    for (pointer, value, path) in [
        ("/transactions/3/amount", json!("1.1234567890123456789"), "transactions[3].amount"),
        ("/transactions/3/amount", json!(74_201), "transactions[3].amount"),
        ("/transactions/3/amount", json!("74201e3"), "transactions[3].amount"),
        ("/transactions/2/settled_at", json!("74201"), "transactions[2].settled_at"),
        ("/transactions/1/investment/quantity", json!(true), "transactions[1].investment.quantity"),
        (
            "/transactions/0/merchant/location/coordinates/lat",
            json!("74201"),
            "transactions[0].merchant.location.coordinates.lat",
        ),
        ("/transactions/0/currency", json!("usd74201"), "transactions[0].currency"),
        ("/transactions/0", json!("74201"), "transactions[0]"),
        ("/total", json!(-74_201), "total"),
        ("/securities/0/id", json!(""), "securities[0].id"),
    ] {
        let error = refused::<TransactionsResponse>(&changed(PAGE, pointer, value));
        assert_eq!(error.path(), path);
        assert!(!error.to_string().contains("74201"), "{error}");
    }
    for (pointer, value, path) in [
        ("/accounts/0/transfer_codes/3/iban", json!(74_201), "accounts[0].transfer_codes[3].iban"),
        ("/accounts/1/aprs/0/percentage", json!("74.20174201"), "accounts[1].aprs[0].percentage"),
        (
            "/accounts/3/student/pslf_status/payments_made",
            json!(-74_201),
            "accounts[3].student.pslf_status.payments_made",
        ),
        ("/accounts/4/holdings/0/quantity", json!("x74201"), "accounts[4].holdings[0].quantity"),
        ("/accounts/4/holdings/0/currency", json!(null), "accounts[4].holdings[0].currency"),
        ("/accounts/2/type", json!(74_201), "accounts[2].type"),
    ] {
        let error = refused::<UserAccountInfoResponse>(&changed(USER, pointer, value));
        assert_eq!(error.path(), path);
        assert!(!error.to_string().contains("74201"), "{error}");
    }
}

#[test]
fn exactly_one_currency() {
    let both = changed(PAGE, "/transactions/0/type", json!("depository"));
    let mut both = both;
    both["transactions"][0]["non_iso_currency"] = json!("BTC");
    let error = refused::<TransactionsResponse>(&both);
    assert_eq!(error.path(), "transactions[0].non_iso_currency");
    both["transactions"][0].as_object_mut().unwrap().remove("non_iso_currency");
    both["transactions"][0]["currency"] = json!("");
    let error = refused::<TransactionsResponse>(&both);
    assert_eq!(error.path(), "transactions[0].currency");
}

#[test]
fn what_is_unknown_is_ignored_or_kept() {
    let mut user: Value = serde_json::from_str(USER).unwrap();
    user["news"] = json!({"a": [1]});
    user["accounts"][0]["news"] = json!(true);
    user["accounts"][0]["status"] = json!("asleep");
    user["accounts"][5]["type"] = json!("crypto");
    user["accounts"][5]["wallet"] = json!({"keys": [1, "two", null]});
    user["accounts"][0]["transfer_codes"][0]["network"] = json!("pix");
    let message: UserAccountInfoResponse = decode(user.to_string().as_bytes()).unwrap();
    assert!(matches!(message.accounts[5].kind, AccountKind::Unknown(_)));
    let written = serde_json::to_value(&message).unwrap();
    // Unknown fields of known messages are dropped; everything else is unchanged.
    user.as_object_mut().unwrap().remove("news");
    user["accounts"][0].as_object_mut().unwrap().remove("news");
    assert_eq!(written, user);
}

/// A repeated member is ambiguous, in an object of an unknown type as well.
#[test]
fn a_repeated_member_is_refused_at_any_depth_and_in_unknown_types() {
    let mut user: Value = serde_json::from_str(USER).unwrap();
    user["accounts"][5]["type"] = json!("crypto");
    user["accounts"][5]["wallet"] = json!({"key": [{"mark": 1}]});
    user["accounts"][0]["transfer_codes"][0] = json!({"network": "pix", "mark": 2});
    let text = user.to_string();
    decode::<UserAccountInfoResponse>(text.as_bytes()).unwrap();
    for (place, repeated, path) in [
        ("\"mark\":1", "\"mark\":1,\"mark\":3", "accounts[5]"),
        ("\"wallet\":", "\"wallet\":5,\"wallet\":", "accounts[5]"),
        ("\"mark\":2", "\"mark\":2,\"mark\":3", "accounts[0].transfer_codes[0]"),
    ] {
        assert!(text.contains(place), "{place}");
        let error = decode::<UserAccountInfoResponse>(text.replace(place, repeated).as_bytes())
            .unwrap_err();
        assert_eq!(error.path(), path, "{error}");
        assert!(error.reason().starts_with("duplicate field"), "{error}");
    }
}

#[test]
fn the_published_example_has_its_lists_swapped() {
    let example = include_str!("../fixtures/published-example.json");
    // An account can be read as a security, but a security cannot be read as an account.
    let error = decode::<UserAccountInfoResponse>(example.as_bytes()).unwrap_err();
    assert_eq!(error.path(), "accounts[0]");
    assert!(error.reason().starts_with("missing field"), "{error}");
    // With the lists exchanged it is a valid response.
    let mut example: Value = serde_json::from_str(example).unwrap();
    let fields = example.as_object_mut().unwrap();
    let (accounts, securities) =
        (fields.remove("accounts").unwrap(), fields.remove("securities").unwrap());
    fields.insert("accounts".into(), securities);
    fields.insert("securities".into(), accounts);
    let user: UserAccountInfoResponse = decode(example.to_string().as_bytes()).unwrap();
    assert_eq!(user.accounts[0].current_balance.to_string(), "100.950000");
}

#[test]
fn a_current_user_has_two_spellings() {
    let read = |text: &str| decode::<CurrentUserResponse>(text.as_bytes()).unwrap().user_id;
    assert_eq!(read(r#"{"customerId":"b"}"#).as_str(), "b");
    assert_eq!(read(r#"{"customerId":"b","user_id":"a"}"#).as_str(), "a");
    assert_eq!(read(r#"{"customerId":"b","user_id":""}"#).as_str(), "b");
}

#[test]
fn texts_for_people() {
    let text = |pointer: &str, value: Value| {
        refused::<TransactionsResponse>(&changed(PAGE, pointer, value)).to_string()
    };
    let texts = [
        text("/transactions/3/amount", json!("1.1234567890123456789")),
        text("/transactions/3/amount", json!(5)),
        text("/transactions/3/transacted_at", json!("2024-01-05T10:00:00")),
        text("/transactions/3/currency", json!("")),
        text("/total", json!("4")),
    ]
    .join("\n");
    insta::assert_snapshot!(texts, @r#"
    at `transactions[3].amount`: too many decimal places: at most 18
    at `transactions[3].amount`: expected an amount (a string such as "12.50")
    at `transactions[3].transacted_at`: not an RFC 3339 timestamp with an offset such as "2018-08-28T10:15:00Z"
    at `transactions[3].currency`: missing: exactly one of `currency` and `non_iso_currency` is required
    at `total`: expected a whole number, 0 or more
    "#);
    let code: px_types::model::depository::TransferCode = decode(
        br#"{"network":"international","iban":"GB33BUKB20201555555555","bic":"BUKBGB22","debit":true,"credit":true}"#,
    )
    .unwrap();
    insta::assert_snapshot!(format!("{code:?}"), @r#"International { iban: AccountNumber(***), debit: true, credit: true, bic: Some("BUKBGB22") }"#);
}

/// A token response may have the tag of a challenge as an unset field.
#[test]
fn a_token_beside_an_unset_tag_is_a_token() {
    use px_types::model::sign_in::SignIn;
    for tag in ["", r#","mfa_type":null"#, r#","mfa_type":"""#] {
        let text = format!(r#"{{"user_id":"u","auth_token":"t"{tag}}}"#);
        let read = px_types::decode::<SignIn>(text.as_bytes());
        assert!(matches!(read, Ok(SignIn::Token(_))), "{tag}: {read:?}");
    }
}
