//! Tests of connecting an application from the bank's site (`px.md` section 10).

use crate::{
    browser::{AWAY, Browser, Page},
    support::{World, link_request},
};
use chrono::TimeDelta;
use serde_json::{Value, json};

const BANK: &str = "larkfield-bank";
/// The user's id at the application.
const FOREIGN: &str = "user-4711";
const TARGET: &str = "target-sandbox-larkfield-budget-app";

fn cross_app_request(access: &str, user: &str, target: &str) -> Value {
    link_request(json!({
        "access_token": access, "redirect_uri": format!("{AWAY}bank"),
        "user": { "client_user_id": user },
        "cross_app_item_add": { "target_application_token": target, "foreign_id": FOREIGN },
    }))
}

async fn link_token(world: &World, access: &str, user: &str) -> String {
    let made = world.ok(BANK, "/link/token/create", cross_app_request(access, user, TARGET)).await;
    made["link_token"].as_str().unwrap().to_owned()
}

/// Returns the consent page, once the accounts are known.
async fn consent_page(world: &World, browser: &mut Browser, token: &str) -> Page {
    let shown = async {
        let mut page = browser.open(&world.link_page(token)).await;
        while page.html.contains("Getting your accounts") {
            page = browser.open(page.url.as_str()).await;
        }
        page
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), shown).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn consent_alone_connects_and_the_token_comes_by_webhook() {
    let mut world = World::new().await;
    let (access, user) = world.imported(BANK, "user_good").await;
    let token = link_token(&world, &access, &user).await;
    let mut browser = Browser::new();
    let page = consent_page(&world, &mut browser, &token).await;
    for text in
        ["Budget App", "Larkfield Bank", "sort your spending", "Transactions of the last two years"]
    {
        assert!(page.html.contains(text), "{text}: {}", page.html);
    }
    assert!(!page.html.contains("type=\"password\""), "no second sign-in");
    assert!(!page.html.contains(&user), "the bank's id of its customer is not shown");
    let accounts = page.values("account_id");
    assert_eq!(accounts.len(), 9);
    let none = browser.submit(&page, "/consent", &[("decision", "allow")]).await;
    assert!(none.html.contains("Select at least one account"));
    let typed =
        [("account_id", accounts[0].as_str()), ("account_id", &accounts[1]), ("decision", "allow")];
    let done = browser.submit(&none, "/consent", &typed).await;
    assert!(done.html.contains("Budget App is connected"), "{}", done.html);
    let back = browser.submit(&done, "/finish", &[]).await;
    assert!(back.url.as_str().starts_with(&format!("{AWAY}bank?")));
    assert_eq!(back.query("status").as_deref(), Some("connected"));
    assert_eq!(back.query("public_token"), None, "the bank never sees it");

    let webhook = world.webhook(|one| one.body["webhook_code"] == "ITEM_ADD_RESULT").await;
    assert_eq!(
        (webhook.path.as_str(), &webhook.body["webhook_type"]),
        ("/webhooks", &json!("LINK"))
    );
    assert_eq!(webhook.body["foreign_id"], FOREIGN, "the application's user");
    assert_eq!(webhook.body.get("client_user_id"), None, "the bank's id of the user is not for it");
    let public = json!({ "public_token": webhook.body["public_token"] });
    // Another application cannot use it, and does not use it up.
    let code = world.refused("tax-app", "/item/public_token/exchange", public.clone()).await;
    assert_eq!(code, "INVALID_PUBLIC_TOKEN");
    let response = world.ok("budget-app", "/item/public_token/exchange", public.clone()).await;
    let code = world.refused("budget-app", "/item/public_token/exchange", public).await;
    assert_eq!(code, "INVALID_PUBLIC_TOKEN", "replayed");
    let read = json!({ "access_token": response["access_token"] });
    let seen = world.until_ok("budget-app", "/accounts/get", read.clone()).await;
    assert_eq!(seen["accounts"].as_array().unwrap().len(), 2);
    let page = world.until_ok("budget-app", "/transactions/sync", read).await;
    assert!(!page["added"].as_array().unwrap().is_empty(), "the history was fetched for it");

    let body = json!({ "access_token": access });
    let listed = world.ok(BANK, "/item/application/list", body).await;
    assert_eq!(listed["applications"][0]["application_id"], "budget-app");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_target_token_or_user_is_refused_when_the_link_token_is_made() {
    let world = World::new().await;
    let (access, user) = world.imported(BANK, "user_good").await;
    for (access, user, target, code) in [
        (access.as_str(), user.as_str(), "target-sandbox-none", "INVALID_FIELD"),
        // Another bank's token for the same application.
        (&access, &user, "target-sandbox-oldtown-budget-app", "INVALID_FIELD"),
        (&access, "somebody-else", TARGET, "INVALID_FIELD"),
        ("access-sandbox-none", &user, TARGET, "INVALID_ACCESS_TOKEN"),
    ] {
        let body = cross_app_request(access, user, target);
        assert_eq!(world.refused(BANK, "/link/token/create", body).await, code, "{user} {target}");
    }
    // Data that cannot be stored is refused and not dropped.
    let long = "x".repeat(256);
    for (foreign_id, webhook) in [
        (Some(long.as_str()), None),
        (Some("two\nlines"), None),
        (None, Some("https://bank.example/hook")),
    ] {
        let mut body = cross_app_request(&access, &user, TARGET);
        body["cross_app_item_add"]["foreign_id"] = json!(foreign_id);
        body["webhook"] = json!(webhook);
        let code = world.refused(BANK, "/link/token/create", body).await;
        assert_eq!(code, "INVALID_FIELD", "{foreign_id:?} {webhook:?}");
    }
    // Banks create link tokens for no other purpose, and applications cannot create these.
    let plain = link_request(json!({ "products": ["transactions"] }));
    assert_eq!(world.refused(BANK, "/link/token/create", plain).await, "MISSING_FIELDS");
    let body = cross_app_request(&access, &user, TARGET);
    assert_eq!(world.refused("budget-app", "/link/token/create", body).await, "INVALID_FIELD");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_or_reused_link_token_and_another_session_are_refused() {
    let world = World::new().await;
    let (access, user) = world.imported(BANK, "user_good").await;
    let old = link_token(&world, &access, &user).await;
    world.clock.advance(TimeDelta::minutes(30) + TimeDelta::seconds(1));
    assert_eq!(Browser::new().open(&world.link_page(&old)).await.status, 410);

    let token = link_token(&world, &access, &user).await;
    let mut browser = Browser::new();
    let page = consent_page(&world, &mut browser, &token).await;
    let mut stranger = Browser::new();
    assert_eq!(stranger.open(&world.link_page(&token)).await.status, 410);
    let all = page.values("account_id");
    let typed = [("account_id", all[0].as_str()), ("decision", "allow")];
    assert_eq!(stranger.submit(&page, "/consent", &typed).await.status, 403);
    // A declined request cannot be accepted with the same form.
    let left = browser.submit(&page, "/consent", &[("decision", "deny")]).await;
    assert_eq!(left.query("error").as_deref(), Some("access_denied"));
    let after = browser.submit(&page, "/consent", &typed).await;
    assert!(!after.html.contains("is connected"), "{}", after.html);
    let listed = world.ok(BANK, "/item/application/list", json!({ "access_token": access })).await;
    assert_eq!(listed["applications"], json!([]));
    world.stop().await;
}
