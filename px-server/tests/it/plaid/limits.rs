//! The limits of section 6: checked before a method runs, with the path in the error.

use super::{client_request, send, service, vector};
use px_types::endpoint::list;
use serde_json::{Value, json};

/// Returns the request of an endpoint without credentials, with one value replaced; `null` removes
/// it.
fn changed(id: &str, pointer: &str, value: Value) -> String {
    let mut request = vector(id, "request");
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match request.pointer_mut(parent).unwrap() {
        Value::Object(fields) => {
            match value {
                Value::Null => fields.remove(key),
                value => fields.insert(key.to_owned(), value),
            };
        }
        Value::Array(entries) => entries[key.parse::<usize>().unwrap()] = value,
        _ => panic!("nothing at {pointer}"),
    }
    without_credentials(request)
}

fn without_credentials(mut request: Value) -> String {
    let fields = request.as_object_mut().unwrap();
    fields.remove("client_id");
    fields.remove("secret");
    request.to_string()
}

fn path(id: &str) -> &'static str {
    list::plaid().into_iter().find(|meta| meta.id == id).unwrap().path
}

fn batch(id: &str, entries: usize) -> String {
    let one = vector(id, "request")["notifications"][0].clone();
    changed(id, "/notifications", Value::Array(vec![one; entries]))
}

const BATCHES: [&str; 3] = ["notify_transactions", "notify_accounts", "notify_tokens"];

#[tokio::test]
async fn a_batch_of_2001_entries_or_of_none_is_refused() {
    let (service, plaid) = service();
    for id in BATCHES {
        for entries in [0, 2001] {
            let (response, body) =
                send(&service, client_request(path(id), batch(id, entries))).await;
            assert_eq!(response.status(), 400, "{id} {entries}");
            assert_eq!(body["error_code"], "INVALID_FIELD", "{id} {entries}");
            let text = body["error_message"].as_str().unwrap();
            assert!(text.contains("`notifications`") && text.contains("from 1 to 2000"), "{text}");
        }
    }
    assert_eq!(plaid.calls(), []);
}

#[tokio::test]
async fn a_batch_of_1_and_of_2000_entries_reaches_the_method_whole() {
    let (service, plaid) = service();
    for id in BATCHES {
        for entries in [1, 2000] {
            let (response, _) = send(&service, client_request(path(id), batch(id, entries))).await;
            assert_eq!(response.status(), 200, "{id} {entries}");
            let seen = plaid.calls().pop().unwrap();
            assert_eq!(seen.request["notifications"].as_array().unwrap().len(), entries);
        }
    }
    assert_eq!(plaid.calls().len(), 6, "one call for each batch");
}

#[tokio::test]
async fn what_is_out_of_its_limits_is_named_and_not_repeated() {
    let hunter = "hunter2 is no value";
    let cases: &[(&str, &str, Value, &str)] = &[
        ("list_activity", "/count", json!(0), "count"),
        ("list_activity", "/count", json!(51), "count"),
        ("list_activity", "/count", json!(-1), "count"),
        ("list_activity", "/count", json!("ten"), "count"),
        ("list_activity", "/access_token", json!(""), "access_token"),
        ("import", "/products", json!([]), "products"),
        ("import", "/products", json!("auth"), "products"),
        ("import", "/user_auth/auth_token", json!(""), "user_auth.auth_token"),
        ("import", "/user_auth/user_id", json!(".."), "user_auth.user_id"),
        ("import", "/options/webhook", json!(hunter), "options.webhook"),
        ("import", "/options/webhook", json!("javascript:alert(1)"), "options.webhook"),
        ("import", "/options/webhook", json!("/relative"), "options.webhook"),
        ("import", "/options/webhook", json!("https://a b/"), "options.webhook"),
        ("import", "/options/webhook", json!("https://"), "options.webhook"),
        ("update_webhook", "/webhook", json!("file:///etc/passwd"), "webhook"),
        ("update_webhook", "/access_token", json!(""), "access_token"),
        ("create_link_token", "/client_name", json!(""), "client_name"),
        ("create_link_token", "/language", json!(""), "language"),
        ("create_link_token", "/country_codes", json!([]), "country_codes"),
        ("create_link_token", "/country_codes", json!(["US", "usa"]), "country_codes[1]"),
        ("create_link_token", "/user/client_user_id", json!(""), "user.client_user_id"),
        ("create_link_token", "/webhook", json!("ftp://a/"), "webhook"),
        ("create_link_token", "/redirect_uri", json!("https://ü/"), "redirect_uri"),
        (
            "create_link_token",
            "/cross_app_item_add/target_application_token",
            json!(""),
            "cross_app_item_add.target_application_token",
        ),
        ("exchange_public_token", "/public_token", json!(""), "public_token"),
        ("exchange_public_token", "/public_token", json!([hunter]), "public_token"),
        ("item", "/access_token", json!(""), "access_token"),
        ("remove_item", "/access_token", json!(7), "access_token"),
        ("application", "/application_id", json!(""), "application_id"),
        ("verification_key", "/key_id", json!("a\u{7}b"), "key_id"),
        ("unlink_application", "/application_id", json!("."), "application_id"),
        ("update_scopes", "/scopes", json!(hunter), "scopes"),
        (
            "update_scopes",
            "/scopes/accounts/1/authorized",
            json!(hunter),
            "scopes.accounts[1].authorized",
        ),
        ("notify_transactions", "/new_since", json!(hunter), "new_since"),
        (
            "notify_transactions",
            "/notifications/1/access_token",
            json!(""),
            "notifications[1].access_token",
        ),
        (
            "notify_transactions",
            "/notifications/1/account_id",
            json!(""),
            "notifications[1].account_id",
        ),
        (
            "notify_accounts",
            "/notifications/3/access_token",
            json!(""),
            "notifications[3].access_token",
        ),
        (
            "notify_tokens",
            "/notifications/0/access_token",
            json!(""),
            "notifications[0].access_token",
        ),
    ];
    let (service, plaid) = service();
    for (id, pointer, value, at) in cases {
        let body = changed(id, pointer, value.clone());
        let (response, body) = send(&service, client_request(path(id), body)).await;
        let text = body["error_message"].as_str().unwrap();
        assert_eq!(response.status(), 400, "{id} {pointer} {value}");
        assert_eq!(body["error_type"], "INVALID_REQUEST", "{id} {pointer}: {text}");
        assert_eq!(body["error_code"], "INVALID_FIELD", "{id} {pointer}: {text}");
        assert!(text.contains(&format!("at `{at}`")), "{id} {pointer}: {text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    assert_eq!(plaid.calls(), []);
}

/// Every required field of every request, removed one by one.
#[tokio::test]
async fn what_is_missing_is_named() {
    let required: &[(&str, &[&str])] = &[
        ("notify_transactions", &["/notifications", "/new_since", "/notifications/1/access_token"]),
        ("notify_accounts", &["/notifications", "/notifications/3/event"]),
        ("notify_tokens", &["/notifications", "/notifications/1/action"]),
        ("import", &["/products", "/user_auth", "/user_auth/user_id", "/user_auth/auth_token"]),
        ("list_applications", &["/access_token"]),
        ("unlink_application", &["/access_token", "/application_id"]),
        ("update_scopes", &["/access_token", "/application_id", "/scopes", "/context"]),
        ("list_activity", &["/access_token"]),
        ("application", &["/application_id"]),
        (
            "create_link_token",
            &["/client_name", "/language", "/country_codes", "/user", "/user/client_user_id"],
        ),
        ("exchange_public_token", &["/public_token"]),
        ("item", &["/access_token"]),
        ("remove_item", &["/access_token"]),
        ("update_webhook", &["/access_token"]),
        ("invalidate_token", &["/access_token"]),
        ("verification_key", &["/key_id"]),
    ];
    assert_eq!(required.len(), list::plaid().len());
    let (service, plaid) = service();
    for (id, pointers) in required {
        for pointer in *pointers {
            let request = client_request(path(id), changed(id, pointer, Value::Null));
            let (response, body) = send(&service, request).await;
            assert_eq!(response.status(), 400, "{id} {pointer}");
            assert_eq!(body["error_code"], "MISSING_FIELDS", "{id} {pointer}: {body}");
            let field = pointer.rsplit('/').next().unwrap();
            let text = body["error_message"].as_str().unwrap();
            assert!(text.contains(&format!("`{field}`")), "{id} {pointer}: {text}");
        }
    }
    let text = changed("notify_tokens", "/notifications/1/action", Value::Null);
    let (_, body) = send(&service, client_request(path("notify_tokens"), text)).await;
    assert!(body["error_message"].as_str().unwrap().contains("`notifications[1]`"), "{body}");
    assert_eq!(plaid.calls(), []);
}

#[tokio::test]
async fn what_is_no_json_object_is_refused_on_every_endpoint() {
    let (service, plaid) = service();
    for meta in list::plaid() {
        let good = without_credentials(vector(meta.id, "request"));
        let values: Vec<Value> = serde_json::from_str::<Value>(&good)
            .unwrap()
            .as_object()
            .unwrap()
            .values()
            .cloned()
            .collect();
        let first = serde_json::from_str::<Value>(&good).unwrap();
        let (name, value) = first.as_object().unwrap().iter().next().unwrap();
        let twice = format!("{{{}:{value},{}", json!(name), &good[1..]);
        let deep = format!("{{{}:{}{}}}", json!(name), "[".repeat(5000), "]".repeat(5000));
        for bad in [
            String::new(),
            "null".into(),
            "1".into(),
            "\"text\"".into(),
            Value::Array(values).to_string(),
            format!("{good}{good}"),
            format!("{good},"),
            good[..good.len() - 1].to_owned(),
            format!("\u{feff}{good}"),
            good.replace(':', "="),
            twice,
            deep,
        ] {
            let (response, body) = send(&service, client_request(meta.path, bad.clone())).await;
            assert_eq!(response.status(), 400, "{}: {bad}", meta.id);
            assert!(
                ["INVALID_BODY", "INVALID_FIELD"].contains(&body["error_code"].as_str().unwrap()),
                "{body}"
            );
        }
        let mut bytes = good.into_bytes();
        let end = bytes.len() - 3;
        bytes[end] = 0xff;
        let (response, _) = send(&service, client_request(meta.path, bytes)).await;
        assert_eq!(response.status(), 400, "{}: not UTF-8", meta.id);
    }
    assert_eq!(plaid.calls(), []);
}

/// Section 1: absent, `null` and `""` are equal, and unknown fields are ignored.
#[tokio::test]
async fn readers_are_as_lenient_as_the_contract_says() {
    let (service, plaid) = service();
    for empty in [json!(null), json!("")] {
        let request = json!({
            "access_token": "a", "webhook": empty, "client_id": empty, "secret": empty,
            "of_a_later_version": [1],
        });
        let request = client_request("/item/webhook/update", request.to_string());
        assert_eq!(send(&service, request).await.0.status(), 200);
        assert_eq!(plaid.calls().pop().unwrap().request, json!({ "access_token": "a" }));
    }
    // The method handles unknown values of an enum.
    let later = changed("notify_accounts", "/notifications/0/event", json!("frozen"));
    assert_eq!(
        send(&service, client_request(path("notify_accounts"), later)).await.0.status(),
        200
    );
    assert_eq!(plaid.calls().pop().unwrap().request["notifications"][0]["event"], "frozen");
}
