//! Tests of every endpoint of section 6 over HTTP, and of the developer endpoints.

use crate::{
    browser::AWAY,
    shapes::Shapes,
    support::{World, link_request},
};
use px_types::{plaid, webhook::Environment};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_answers_in_its_shape() {
    let mut world = World::new().await;
    let mut shapes = Shapes::default();
    let bank = "larkfield-bank";

    // An application connects a user.
    let token = world
        .ok("budget-app", "/link/token/create", link_request(json!({
            "products": ["transactions", "auth", "identity"], "redirect_uri": format!("{AWAY}budget-app"),
        })))
        .await;
    let made: plaid::CreateLinkTokenResponse = shapes.is("create_link_token", &token);
    assert!(made.link_token.expose().starts_with("link-sandbox-"));
    let public = world.public_token("budget-app", "user_good").await;
    let body = json!({ "public_token": public });
    let linked = world.ok("budget-app", "/item/public_token/exchange", body).await;
    let linked: plaid::ExchangePublicTokenResponse = shapes.is("exchange_public_token", &linked);
    let (access, item) = (linked.access_token.expose(), linked.item_id.as_str());
    assert!(access.starts_with("access-sandbox-"));

    // Its Item, before and after the fetch.
    let got = world.ok("budget-app", "/item/get", json!({ "access_token": access })).await;
    let got: plaid::GetItemResponse = shapes.is("item", &got);
    assert_eq!(got.item.item_id.as_str(), item);
    assert_eq!(got.item.institution_id.unwrap().as_str(), "ins_larkfield");
    let read = json!({ "access_token": access });
    let accounts = world.until_ok("budget-app", "/accounts/get", read.clone()).await;
    assert_eq!(accounts["accounts"].as_array().unwrap().len(), 9);

    // The bank's token of the same Item.
    let (token, user) = world.bank_token("user_good").await;
    let body = json!({ "products": ["transactions"], "user_auth": { "user_id": user, "auth_token": token } });
    let imported = world.ok(bank, "/item/import", body).await;
    let imported: plaid::ImportItemResponse = shapes.is("import", &imported);
    let partner = imported.access_token.expose();
    let body = json!({ "access_token": partner });
    let applications = world.ok(bank, "/item/application/list", body.clone()).await;
    let listed: plaid::ListApplicationsResponse = shapes.is("list_applications", &applications);
    let app = &listed.applications[0];
    assert_eq!((app.application_id.as_str(), app.name.as_str()), ("budget-app", "Budget App"));
    assert!(app.logo_url.as_ref().unwrap().starts_with(&world.url));
    assert!(app.reason_for_access.is_some() && app.scopes.is_some());
    let got = world.ok(bank, "/item/get", body.clone()).await;
    let got: plaid::GetItemResponse = shapes.is("item", &got);
    assert_eq!(got.item.item_id.as_str(), item);
    let shown = world.ok(bank, "/application/get", json!({ "application_id": "tax-app" })).await;
    let shown: plaid::GetApplicationResponse = shapes.is("application", &shown);
    assert_eq!(shown.application.name, "Tax App");

    // Notifications of all three kinds.
    let account = accounts["accounts"][0]["id"].as_str().unwrap();
    let entry = json!({ "access_token": partner, "account_id": account });
    let body = json!({ "notifications": [entry], "new_since": "2026-03-10" });
    let done = world.ok(bank, "/items/transactions/notify", body).await;
    shapes.is::<plaid::Acknowledged>("notify_transactions", &done);
    let mut entry = entry;
    entry["event"] = json!("changed");
    let body = json!({ "notifications": [entry] });
    let done = world.ok(bank, "/items/accounts/notify", body).await;
    shapes.is::<plaid::Acknowledged>("notify_accounts", &done);
    let body = json!({ "notifications": [{ "access_token": partner, "action": "cycle" }] });
    let done = world.ok(bank, "/items/tokens/notify", body).await;
    shapes.is::<plaid::Acknowledged>("notify_tokens", &done);

    // The scopes of an application are changed, read again, and found in the log.
    let all = accounts["accounts"].as_array().unwrap().iter().map(|one| &one["id"]);
    let all: Vec<_> =
        all.map(|id| json!({ "unique_id": id, "authorized": *id != account })).collect();
    let scopes = json!({
        "access_token": partner, "application_id": "budget-app", "context": "PORTAL",
        "scopes": { "product_access": { "identity": false }, "accounts": all },
    });
    let done = world.ok(bank, "/item/application/scopes/update", scopes).await;
    shapes.is::<plaid::Acknowledged>("update_scopes", &done);
    let code = world.refused("budget-app", "/identity/get", read.clone()).await;
    assert_eq!(code, "ADDITIONAL_CONSENT_REQUIRED");
    let seen = world.ok("budget-app", "/accounts/get", read.clone()).await;
    assert_eq!(seen["accounts"].as_array().unwrap().len(), 8);
    let log = world.ok(bank, "/item/activity/list", json!({ "access_token": partner })).await;
    let log: plaid::ListActivityResponse = shapes.is("list_activity", &log);
    let kinds: Vec<_> = log.activities.iter().map(|one| one.activity.as_str()).collect();
    assert!(kinds.contains(&"SCOPES_UPDATE") && kinds.contains(&"ITEM_CREATE"), "{kinds:?}");
    assert_eq!(log.last_data_access_times[0].application_id.as_str(), "budget-app");

    // Webhooks go to another URL. The key of their signature is published.
    let to = format!("{}?key=x", world.plaid.config().applications[0].webhook.as_ref().unwrap());
    let body = json!({ "access_token": access, "webhook": to });
    let updated = world.ok("budget-app", "/item/webhook/update", body).await;
    let updated: plaid::UpdateWebhookResponse = shapes.is("update_webhook", &updated);
    assert_eq!(updated.item.webhook, Some(to));
    let arrived =
        world.webhook(|one| one.body["webhook_code"] == "WEBHOOK_UPDATE_ACKNOWLEDGED").await;
    assert_eq!(arrived.body["environment"], Environment::Sandbox.as_str());
    let key_id = key_id_of(&arrived.signature);
    let key =
        world.ok("budget-app", "/webhook_verification_key/get", json!({ "key_id": key_id })).await;
    let key: plaid::GetVerificationKeyResponse = shapes.is("verification_key", &key);
    assert_eq!((key.key.alg.as_str(), key.key.kid.as_str()), ("ES256", key_id.as_str()));
    let code = world
        .refused("budget-app", "/webhook_verification_key/get", json!({ "key_id": "none" }))
        .await;
    assert_eq!(code, "INVALID_WEBHOOK_VERIFICATION_KEY_ID");

    // Tokens are replaced, the application leaves.
    let replaced = world.ok("budget-app", "/item/access_token/invalidate", read.clone()).await;
    let replaced: plaid::InvalidateTokenResponse = shapes.is("invalidate_token", &replaced);
    assert_eq!(world.refused("budget-app", "/item/get", read).await, "INVALID_ACCESS_TOKEN");
    let (tax, _) = world.connected("tax-app", "user_good").await;
    let body = json!({ "access_token": partner, "application_id": "tax-app" });
    let done = world.ok(bank, "/item/application/unlink", body).await;
    shapes.is::<plaid::Acknowledged>("unlink_application", &done);
    let code = world.refused("tax-app", "/item/get", json!({ "access_token": tax })).await;
    assert_eq!(code, "INVALID_ACCESS_TOKEN");
    let body = json!({ "access_token": replaced.new_access_token.expose() });
    let done = world.ok("budget-app", "/item/remove", body.clone()).await;
    shapes.is::<plaid::Acknowledged>("remove_item", &done);
    assert_eq!(world.refused("budget-app", "/item/get", body).await, "INVALID_ACCESS_TOKEN");
    shapes.are_all();
    world.stop().await;
}

/// Returns the `kid` in the header of a JWT.
fn key_id_of(signature: &str) -> String {
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
    let head = BASE64_URL_SAFE_NO_PAD.decode(signature.split('.').next().unwrap()).unwrap();
    let head: Value = serde_json::from_slice(&head).unwrap();
    head["kid"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_reads_what_its_user_shared() {
    let world = World::new().await;
    let app = "budget-app";
    let back = format!("{AWAY}{app}");
    let all = ["transactions", "auth", "identity", "investments", "liabilities"];
    let body = link_request(json!({ "redirect_uri": back, "products": all }));
    let token = world.ok(app, "/link/token/create", body).await["link_token"].clone();
    let mut browser = crate::browser::Browser::new();
    let page = world.link_user(&mut browser, token.as_str().unwrap(), "user_good").await;
    let back = browser.submit(&page, "/finish", &[]).await;
    let body = json!({ "public_token": back.query("public_token").unwrap() });
    let access = world.ok(app, "/item/public_token/exchange", body).await["access_token"].clone();
    let read = json!({ "access_token": access });

    let accounts = world.until_ok(app, "/accounts/get", read.clone()).await;
    let ids: Vec<_> =
        accounts["accounts"].as_array().unwrap().iter().map(|a| a["id"].clone()).collect();
    assert!(accounts["accounts"][0]["current_balance"].is_string(), "amounts are strings");
    let one = json!({ "access_token": access, "options": { "account_ids": [ids[1]] } });
    let balances = world.ok(app, "/accounts/balance/get", one).await;
    assert_eq!(balances["accounts"].as_array().unwrap().len(), 1);
    assert_eq!(balances["accounts"][0]["id"], ids[1]);
    assert!(balances["accounts"][0]["current_balance"].is_string());
    assert_eq!(balances["accounts"][0]["currency"], "USD");
    let none = json!({ "access_token": access, "options": { "account_ids": [ids[0], "none"] } });
    assert_eq!(world.refused(app, "/accounts/get", none).await, "INVALID_ACCOUNT_ID");

    let identity = world.ok(app, "/identity/get", read.clone()).await;
    assert!(!identity["identities"].as_array().unwrap().is_empty());
    let auth = world.ok(app, "/auth/get", read.clone()).await;
    let auth = auth["accounts"].as_array().unwrap();
    assert!(!auth.is_empty() && auth.iter().all(|account| account["type"] == "depository"));
    assert!(auth[0]["transfer_codes"][0]["account_number"].is_string());
    let holdings = world.ok(app, "/investments/holdings/get", read.clone()).await;
    assert!(!holdings["securities"].as_array().unwrap().is_empty());
    let liabilities = world.ok(app, "/liabilities/get", read.clone()).await;
    let kinds = liabilities["accounts"].as_array().unwrap();
    assert!(kinds.iter().all(|account| account["type"] == "credit" || account["type"] == "loan"));

    world.until_complete(app, &access).await;
    // By dates, page by page, and by changes.
    let window = json!({ "access_token": access, "start_date": "2026-02-01", "end_date": "2026-03-11", "options": { "count": 20 } });
    let first = world.until_ok(app, "/transactions/get", window.clone()).await;
    assert_eq!(first["transactions"].as_array().unwrap().len(), 20);
    let mut second = window.clone();
    second["options"]["cursor"] = first["next_cursor"].clone();
    let second = world.ok(app, "/transactions/get", second).await;
    assert_ne!(second["transactions"][0]["id"], first["transactions"][0]["id"]);
    let total = first["total_transactions"].as_u64().unwrap();
    assert!(total > 20 && second["total_transactions"].as_u64() == Some(total));
    let mut wrong = window;
    wrong["start_date"] = json!("2026-04-01");
    assert_eq!(world.refused(app, "/transactions/get", wrong).await, "INVALID_FIELD");
    let page = world.ok(app, "/transactions/sync", read).await;
    assert_eq!(page["added"].as_array().unwrap().len(), 100);
    assert_eq!((&page["has_more"], &page["removed"]), (&json!(true), &json!([])));
    let next = json!({ "access_token": access, "cursor": page["next_cursor"], "count": 500 });
    assert!(
        !world.ok(app, "/transactions/sync", next).await["added"].as_array().unwrap().is_empty()
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_too_early_is_product_not_ready_and_unknown_paths_are_plaid_errors() {
    let world = World::new().await;
    assert_eq!(world.refused("budget-app", "/nothing/get", json!({})).await, "NOT_FOUND");
    let missing = world.refused("budget-app", "/accounts/get", json!({})).await;
    assert_eq!(missing, "INVALID_FIELD");
    let unknown = json!({ "access_token": "access-sandbox-none" });
    for path in ["/accounts/get", "/item/get", "/transactions/sync", "/item/remove"] {
        let code = world.refused("budget-app", path, unknown.clone()).await;
        assert_eq!(code, "INVALID_ACCESS_TOKEN", "{path}");
    }
    world.stop().await;
}
