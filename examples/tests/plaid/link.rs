//! Tests of the Link pages, with a browser without scripts: tokens, cookies, forms.

use crate::{
    browser::{AWAY, Browser},
    support::{TIMEOUT, World, link_request},
};
use chrono::TimeDelta;
use demo_bank::ledger::grants::SqliteGrants;
use px_server::oauth::GrantStore as _;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn every_page_carries_the_headers_that_guard_it() {
    let world = World::new().await;
    let mut browser = Browser::new();
    let token = world.link_token("budget-app").await;
    let page = browser.open(&world.link_page(&token)).await;
    assert_eq!(page.status, 200);
    assert!(!page.url.as_str().contains(&token), "the token is still in the address bar");
    let policy = page.header("content-security-policy");
    for part in [
        "default-src 'none'",
        "style-src 'self'",
        "img-src 'self'",
        "http://127.0.0.1:9;",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    for (name, value) in [
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-frame-options", "DENY"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(page.header(name), value);
    }
    assert!(!page.header("x-request-id").is_empty());
    assert!(!page.html.contains("<script") && !page.html.contains("style=\""));
    let gone = browser.open(&world.link_page("link-sandbox-none")).await;
    assert_eq!(gone.status, 410);
    assert_eq!(gone.header("cache-control"), "no-store");
    let logo = browser.open(&format!("{}/logos/applications/budget-app.svg", world.url)).await;
    assert_eq!(logo.header("content-type"), "image/svg+xml");
    assert!(logo.header("content-security-policy").contains("default-src 'none'"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_connects_and_the_application_gets_what_was_picked_and_no_more() {
    let mut world = World::new().await;
    let mut browser = Browser::new();
    let token = world.link_token("budget-app").await;
    let page = browser.open(&world.link_page(&token)).await;
    assert!(page.html.contains("Budget App uses") && page.html.contains("sort your spending"));
    let page = browser.submit(&page, "/begin", &[]).await;
    let page = browser.submit(&page, "/bank", &[("institution_id", "ins_nowhere")]).await;
    assert!(page.html.contains("select a bank of the list"));
    let page = browser.submit(&page, "/bank", &[("institution_id", "ins_larkfield")]).await;
    assert!(page.url.as_str().contains("/oauth2/auth?"), "{}", page.url);
    assert!(page.query("code_challenge").is_some() && page.query("state").is_some());
    let typed = [("username", "user_good"), ("password", "pass_good")];
    let page = browser.submit(&page, "/sign-in", &typed).await;
    let picked = page.values("account_id");
    let typed =
        [("account_id", picked[0].as_str()), ("account_id", &picked[2]), ("decision", "allow")];
    let page = browser.submit(&page, "/consent", &typed).await;
    assert!(page.url.as_str().starts_with(&world.url), "{}", page.url);
    assert!(page.html.contains("Budget App is connected"), "{}", page.html);
    let back = browser.submit(&page, "/finish", &[]).await;
    let public = back.query("public_token").unwrap();
    let body = json!({ "public_token": public });
    let response = world.ok("budget-app", "/item/public_token/exchange", body.clone()).await;
    // A public token can be used once.
    let again = world.refused("budget-app", "/item/public_token/exchange", body).await;
    assert_eq!(again, "INVALID_PUBLIC_TOKEN");
    let read = json!({ "access_token": response["access_token"] });
    let seen = world.until_ok("budget-app", "/accounts/get", read).await;
    assert_eq!(seen["accounts"].as_array().unwrap().len(), 2);
    let webhook = world.webhook(|one| one.body["webhook_code"] == "INITIAL_UPDATE").await;
    assert_eq!(webhook.body["item_id"], response["item_id"]);
    world.stop().await;
}

/// The bank gives tokens, and then cannot say which user they are for. The tokens end with the
/// sign-in.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_a_sign_in_without_a_connection_are_revoked() {
    let world = World::new().await;
    let ledger = world.bank.ledger();
    let user = ledger.user_by_name("user_down").await.unwrap().unwrap().user_id;
    let grants = SqliteGrants::new(ledger.clone());
    let live = async || {
        let all = grants.find_by_principal(&user).await.unwrap();
        all.iter().filter(|one| one.record.revoked_at.is_none()).count()
    };
    let token = world.link_token("budget-app").await;
    let page = world.link_user(&mut Browser::new(), &token, "user_down").await;
    assert!(!page.html.contains("is connected"), "{}", page.html);
    assert_eq!(live().await, 1);
    world.clock.advance(TimeDelta::hours(4));
    // Another link wakes the worker, which would look within 10 s.
    world.public_token("budget-app", "user_good").await;
    let revoked = async {
        while live().await > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(TIMEOUT, revoked).await.expect("the tokens still live");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_token_opens_one_visit_in_one_browser() {
    let world = World::new().await;
    let token = world.link_token("budget-app").await;
    let url = world.link_page(&token);
    let mut first = Browser::new();
    let page = first.open(&url).await;
    assert_eq!(page.status, 200);
    // Another session is refused: with the token, with the visit's URL, or with the form of its
    // page.
    let mut other = Browser::new();
    assert_eq!(other.open(&url).await.status, 410);
    assert_eq!(other.open(page.url.as_str()).await.status, 403);
    let stolen = other.submit(&page, "/begin", &[]).await;
    assert_eq!(stolen.status, 403);
    // The same browser gets the same page again.
    let again = first.open(&url).await;
    assert_eq!((again.status, again.url), (page.status, page.url.clone()));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_token_used_twice_in_parallel_opens_one_visit() {
    let world = World::new().await;
    for _ in 0..10 {
        let url = world.link_page(&world.link_token("budget-app").await);
        let attempts = (0..4).map(|_| async { Browser::new().open(&url).await.status.as_u16() });
        let mut statuses = futures_util::future::join_all(attempts).await;
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 410, 410, 410]);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_end_when_their_time_is_over() {
    let world = World::new().await;
    let link = world.link_token("budget-app").await;
    world.clock.advance(TimeDelta::hours(4) + TimeDelta::seconds(1));
    assert_eq!(Browser::new().open(&world.link_page(&link)).await.status, 410);

    let public = world.public_token("budget-app", "user_good").await;
    world.clock.advance(TimeDelta::minutes(30) + TimeDelta::seconds(1));
    let body = json!({ "public_token": public });
    let code = world.refused("budget-app", "/item/public_token/exchange", body).await;
    assert_eq!(code, "INVALID_PUBLIC_TOKEN");

    // A visit without further requests.
    let mut browser = Browser::new();
    let page = browser.open(&world.link_page(&world.link_token("budget-app").await)).await;
    world.clock.advance(TimeDelta::minutes(31));
    assert_eq!(browser.submit(&page, "/begin", &[]).await.status, 403);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_a_bank_is_taken_once_and_from_that_bank_alone() {
    let world = World::new().await;
    let mut browser = Browser::new();
    let page = browser.open(&world.link_page(&world.link_token("budget-app").await)).await;
    let page = browser.submit(&page, "/begin", &[]).await;
    let form = page.form("/bank");
    let mut fields = form.hidden.clone();
    fields.push(("institution_id".to_owned(), "ins_larkfield".to_owned()));
    let at_bank = browser.post(&page.url.join(&form.action).unwrap(), &fields, &[]).await;
    let state = at_bank.query("state").unwrap();
    let back = |query: &str| format!("{}/link/oauth?{query}", world.url);

    // An unknown state, or another browser: the visit does not change.
    assert_eq!(browser.open(&back("code=c&state=forged")).await.status, 403);
    let stranger = Browser::new().open(&back(&format!("code=c&state={state}"))).await;
    assert_eq!(stranger.status, 403);
    // Another issuer: a mix-up (RFC 9207). The visit returns to the choice of a bank.
    let mixed =
        browser.open(&back(&format!("code=c&state={state}&iss=https://evil.example"))).await;
    assert!(mixed.html.contains("did not confirm this sign-in"), "{}", mixed.html);
    // A valid callback after that is too late.
    let late =
        format!("code=c&state={state}&iss={}", world.plaid.config().institutions[0].base_url);
    let late = browser.open(&back(&late)).await;
    assert!(late.html.contains("Select your bank") && !late.html.contains("connected"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_declines_or_leaves_shares_nothing() {
    let world = World::new().await;
    let mut browser = Browser::new();
    let token = world.link_token("budget-app").await;
    let page = browser.open(&world.link_page(&token)).await;
    let page = browser.submit(&page, "/begin", &[]).await;
    let page = browser.submit(&page, "/bank", &[("institution_id", "ins_larkfield")]).await;
    let typed = [("username", "user_good"), ("password", "pass_good")];
    let page = browser.submit(&page, "/sign-in", &typed).await;
    let page = browser.submit(&page, "/consent", &[("decision", "deny")]).await;
    assert!(page.html.contains("did not give permission"), "{}", page.html);
    let back = browser.submit(&page, "/cancel", &[]).await;
    assert_eq!(back.query("error").as_deref(), Some("user_cancelled"));
    assert_eq!(back.query("link_token"), Some(token));
    assert_eq!(back.query("public_token"), None);
    assert_eq!(browser.open(page.url.as_str()).await.status, 403, "the visit has ended");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_page_to_return_to_the_public_token_comes_by_webhook() {
    let mut world = World::new().await;
    let body = link_request(json!({ "products": ["transactions"] }));
    let token = world.ok("budget-app", "/link/token/create", body).await["link_token"].clone();
    let mut browser = Browser::new();
    let page = world.link_user(&mut browser, token.as_str().unwrap(), "user_good").await;
    assert!(page.html.contains("You can close this window"), "{}", page.html);
    let arrived = world.webhook(|one| one.body["webhook_code"] == "ITEM_ADD_RESULT").await;
    assert_eq!(arrived.body["client_user_id"], "u-1", "the application's user");
    assert_eq!(arrived.body.get("foreign_id"), None);
    let body = json!({ "public_token": arrived.body["public_token"] });
    let response = world.ok("budget-app", "/item/public_token/exchange", body).await;
    assert_eq!(response["item_id"], arrived.body["item_id"]);
    // One consent is one entry in the log.
    let (partner, _) = world.imported("larkfield-bank", "user_good").await;
    let log = json!({ "access_token": partner });
    let log = world.ok("larkfield-bank", "/item/activity/list", log).await;
    let kinds: Vec<_> =
        log["activities"].as_array().unwrap().iter().map(|one| &one["activity"]).collect();
    assert!(kinds.contains(&&json!("ITEM_CREATE")), "{kinds:?}");
    assert!(!kinds.contains(&&json!("ITEM_UPDATE")), "{kinds:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_lost_its_authorization_is_repaired_by_its_own_user_and_keeps_its_token() {
    let mut world = World::new().await;
    let (access, _) = world.connected("budget-app", "user_good").await;
    let read = json!({ "access_token": access });
    world.until_ok("budget-app", "/accounts/get", read.clone()).await;
    let (partner, user) = world.imported("larkfield-bank", "user_good").await;
    world.bank.oauth().revoke_principal(&user.parse().unwrap()).await.unwrap();
    let body = json!({ "notifications": [{ "access_token": partner, "action": "revoked" }] });
    world.ok("larkfield-bank", "/items/tokens/notify", body).await;
    world.webhook(|one| one.body["webhook_code"] == "ERROR").await;

    let request = link_request(
        json!({ "access_token": access, "redirect_uri": format!("{AWAY}budget-app") }),
    );
    let mut names = ["user_empty", "user_good"].into_iter();
    for name in names.by_ref() {
        let made = world.ok("budget-app", "/link/token/create", request.clone()).await;
        let mut browser = Browser::new();
        let page = browser.open(&world.link_page(made["link_token"].as_str().unwrap())).await;
        let page = browser.submit(&page, "/begin", &[]).await;
        let page = browser
            .submit(&page, "/sign-in", &[("username", name), ("password", "pass_good")])
            .await;
        let accounts = page.values("account_id");
        let mut typed: Vec<_> = accounts.iter().map(|id| ("account_id", id.as_str())).collect();
        typed.push(("decision", "allow"));
        let page = browser.submit(&page, "/consent", &typed).await;
        if name == "user_empty" {
            assert!(page.html.contains("another customer"), "{}", page.html);
            continue;
        }
        let back = browser.submit(&page, "/finish", &[]).await;
        assert_eq!(back.query("public_token"), None, "its access token stays valid");
    }
    world.webhook(|one| one.body["webhook_code"] == "LOGIN_REPAIRED").await;
    let item = world.ok("budget-app", "/item/get", read).await;
    assert!(item["item"]["error"].is_null(), "{item}");
    world.stop().await;
}
