//! Tests of the customers' site, with a browser without scripts and a simulated Plaid.

use crate::{
    fake_plaid::{FakePlaid, FastClock, SECRET, app},
    support::{Browser, TestResponse, World, accounts_of, between},
};
use chrono::TimeDelta;
use demo_bank::plaid_side::{Offer, PlaidSide};
use http::{Request, header};
use px_core::{Clock as _, InProcessTransport, ManualClock};
use px_types::{
    AccountId, ApplicationId, ClientSecret, NotificationId, TargetApplicationToken, UserId,
    model::scopes::{AccountAccess, ProductAccess, Scopes},
    partner::NewApplicationLinkNotification,
};
use std::{sync::Arc, time::Duration};

/// Opens a bank with a site, and its Plaid.
pub(crate) async fn world() -> (World, FakePlaid) {
    let clock = ManualClock::new(crate::support::START.parse().unwrap());
    let plaid = FakePlaid::new(&clock);
    let world = World::with(|config| {
        config.clock = Arc::new(clock.clone());
        config.plaid = Some(side(&plaid, &clock));
    })
    .await;
    (World { clock, ..world }, plaid)
}

/// Returns the bank's settings for that Plaid.
pub(crate) fn side(plaid: &FakePlaid, clock: &ManualClock) -> PlaidSide {
    let mut side = PlaidSide::new(
        "https://plaid.example",
        "larkfield".parse().unwrap(),
        ClientSecret::new(SECRET),
        Arc::new(InProcessTransport::new(plaid.service())),
    );
    side.clock = Some(Arc::new(FastClock(clock.clone())));
    side.offers = vec![Offer {
        name: "Tax App".into(),
        application_id: Some(ApplicationId::new("tax-app").unwrap()),
        target: TargetApplicationToken::new("target-tax"),
    }];
    side
}

pub(crate) async fn user_id(world: &World, name: &str) -> UserId {
    world.bank.ledger().user_by_name(name).await.unwrap().unwrap().user_id
}

pub(crate) async fn signed_in<'w>(world: &'w World, name: &str) -> Browser<'w> {
    let mut browser = Browser::new(world);
    let page = browser.open("/login").await;
    let to = browser.post(&page, "/login", &[("username", name), ("password", "pass_good")]).await;
    assert_eq!(to.header("location"), "/home", "{}", to.text);
    browser
}

/// Connects an offer of the bank for a signed-in user who shares all accounts. Returns the last
/// response.
pub(crate) async fn connects(browser: &mut Browser<'_>, offer: &str) -> TestResponse {
    let page = browser.open("/apps").await;
    let page = browser.post(&page, "/apps/connect", &[("offer", offer)]).await;
    if page.status == 303 {
        return page;
    }
    let accounts = accounts_of(&page);
    let mut fields = vec![("offer", offer), ("decision", "allow")];
    fields.extend(accounts.iter().map(|id| ("account_id", id.as_str())));
    browser.post(&page, "/apps/connect", &fields).await
}

/// Has a user share data with Plaid, with these applications.
pub(crate) async fn shares(
    world: &World,
    plaid: &FakePlaid,
    name: &str,
    apps: &[(&str, &str)],
) -> UserId {
    world.tokens(name).await;
    let user = user_id(world, name).await;
    for (id, title) in apps {
        plaid.link(&user, app(id, title, &world.clock));
    }
    user
}

impl Browser<'_> {
    /// Submits a form to a path, with the CSRF token of a page.
    pub(crate) async fn post(
        &mut self,
        page: &TestResponse,
        path: &str,
        fields: &[(&str, &str)],
    ) -> TestResponse {
        let csrf = between(&page.text, "name=\"csrf\" value=\"", "\"")[0].to_owned();
        self.post_with(&csrf, path, fields).await
    }

    pub(crate) async fn post_with(
        &mut self,
        csrf: &str,
        path: &str,
        fields: &[(&str, &str)],
    ) -> TestResponse {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("csrf", csrf).extend_pairs(fields);
        let request =
            Request::post(path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request, form.finish()).await
    }
}

pub(crate) async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    for _ in 0..400 {
        if check().await {
            return;
        }
        demo_bank::clock::pause(Duration::from_millis(10)).await;
    }
    panic!("{what}");
}

pub(crate) fn linked(
    user: &UserId,
    id: &str,
    name: &str,
    clock: &ManualClock,
) -> NewApplicationLinkNotification {
    let number = NotificationId::new(format!("notification-{id}")).unwrap();
    let now = px_types::Timestamp::from(clock.now());
    NewApplicationLinkNotification::new(number, user.clone(), app(id, name, clock), now)
}

pub(crate) async fn notify(world: &World, signature: &str, body: String) -> TestResponse {
    let request = Request::post("/applications/notify")
        .header(header::HOST, "bank.example")
        .header(header::CONTENT_TYPE, "application/json")
        .header("plaid-verification", signature);
    world.call(request.body(body.into()).unwrap()).await
}

#[tokio::test]
async fn the_site_is_behind_the_login() {
    let (world, _plaid) = world().await;
    let mut browser = Browser::new(&world);
    assert_eq!(browser.open("/").await.header("location"), "/home");
    for path in ["/home", "/apps", "/apps/activity", "/messages"] {
        let to = browser.open(path).await;
        assert_eq!(
            (to.status.as_u16(), to.header("location")),
            (303, &*format!("/login?next={path}"))
        );
    }
    assert_eq!(browser.open("/apps/events").await.status, 204);
    let page = browser.open("/login?next=/apps").await;
    let wrong =
        browser.post(&page, "/login", &[("username", "user_good"), ("password", "x")]).await;
    assert!(wrong.text.contains("not right"));
    let fields = [("username", "user_good"), ("password", "pass_good")];
    let to = browser.post(&page, "/login", &fields).await;
    assert_eq!(to.header("location"), "/apps");
    assert!(browser.open("/home").await.text.contains("Latest transactions"));
    // Others cannot choose the page that follows a sign-in.
    let mut other = Browser::new(&world);
    let page = other.open("/login?next=https://evil.example").await;
    assert_eq!(other.post(&page, "/login", &fields).await.header("location"), "/home");
}

#[tokio::test]
async fn second_factors_are_asked_for() {
    let (world, _plaid) = world().await;
    let mut browser = Browser::new(&world);
    let page = browser.open("/login").await;
    let fields = [("username", "user_otp"), ("password", "pass_good")];
    let page = browser.post(&page, "/login", &fields).await;
    assert!(page.text.contains("Where should it go?"), "{}", page.text);
    assert!(browser.open("/home").await.header("location").starts_with("/login"));
    let page = browser.post(&page, "/login/code", &[("delivery", "sms-1")]).await;
    let code = world.sent.lock().unwrap().last().unwrap().rsplit(' ').next().unwrap().to_owned();
    let wrong = browser.post(&page, "/login/answer", &[("code", "nonsense")]).await;
    assert!(wrong.text.contains("not right"));
    let to = browser.post(&page, "/login/answer", &[("code", &code)]).await;
    assert_eq!(to.header("location"), "/home");
    let mut browser = Browser::new(&world);
    let page = browser.open("/login").await;
    let fields = [("username", "user_kba"), ("password", "pass_good")];
    let page = browser.post(&page, "/login", &fields).await;
    let answers = [("answer-0", "Biscuit"), ("answer-1", "Mill Road")];
    let to = browser.post(&page, "/login/answer", &answers).await;
    assert_eq!(to.header("location"), "/home");
}

#[tokio::test]
async fn a_session_is_new_at_sign_in_and_ends_at_sign_out() {
    let (world, _plaid) = world().await;
    let mut browser = Browser::new(&world);
    // A cookie that an attacker planted before the sign-in opens nothing after it.
    let page = browser.open("/login").await;
    let planted = browser.cookies.clone();
    browser.cookies.insert("larkfield-session".into(), "planted".into());
    let fields = [("username", "user_good"), ("password", "pass_good")];
    let to = browser.post(&page, "/login", &fields).await;
    let cookie = to.header("set-cookie");
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
    assert_ne!(browser.cookies["larkfield-session"], "planted");
    let mut attacker = Browser::new(&world);
    attacker.cookies = planted;
    attacker.cookies.insert("larkfield-session".into(), "planted".into());
    assert!(attacker.open("/home").await.header("location").starts_with("/login"));
    let entry = attacker.cookies["px-visit"].clone();
    attacker.cookies.insert("larkfield-session".into(), entry);
    assert!(attacker.open("/home").await.header("location").starts_with("/login"));
    assert_eq!(attacker.post(&page, "/login", &fields).await.status, 403);

    let home = browser.open("/home").await;
    let stolen = browser.cookies.clone();
    assert_eq!(browser.post_with("forged", "/logout", &[]).await.status, 403);
    assert_eq!(browser.open("/home").await.status, 200);
    browser.post(&home, "/logout", &[]).await;
    browser.cookies = stolen;
    assert!(browser.open("/home").await.header("location").starts_with("/login"));

    let mut idle = signed_in(&world, "user_good").await;
    world.clock.advance(TimeDelta::minutes(14));
    assert_eq!(idle.open("/home").await.status, 200);
    world.clock.advance(TimeDelta::minutes(15));
    assert!(idle.open("/home").await.header("location").starts_with("/login"));
}

#[tokio::test]
async fn over_https_the_cookie_of_a_session_is_bound_to_the_host() {
    let world = World::with(|config| config.issuer = "https://bank.example".into()).await;
    let page = Browser::new(&world).open("/login").await;
    let cookie = page.header("set-cookie");
    assert!(cookie.starts_with("__Host-px-visit=") && cookie.contains("; Secure"), "{cookie}");
}

#[tokio::test]
async fn pages_carry_the_headers_that_guard_them_and_no_script_of_their_own() {
    let (world, plaid) = world().await;
    shares(&world, &plaid, "user_good", &[("budget-app", "Budget App")]).await;
    let mut browser = signed_in(&world, "user_good").await;
    let more = ["/apps/app/budget-app", "/apps/app/budget-app/disconnect", "/login"];
    for path in ["/home", "/apps", "/apps/activity", "/messages"].into_iter().chain(more) {
        let page = browser.open(path).await;
        let policy = page.header("content-security-policy");
        if path != "/login" {
            for part in [
                "default-src 'none'",
                "script-src 'self';",
                "connect-src 'self';",
                "frame-ancestors 'none'",
            ] {
                assert!(policy.contains(part), "{path}: {policy}");
            }
            assert_eq!(page.header("cache-control"), "no-store");
            assert!(!page.header("x-request-id").is_empty());
        }
        let inline = page.text.replace("<script src=\"/live.js\" defer></script>", "");
        assert!(
            !inline.contains("<script") && !inline.contains(" style=") && !inline.contains(" onc")
        );
    }
    let script = world.get("/live.js", "").await;
    assert_eq!(script.header("content-type"), "text/javascript; charset=utf-8");
}

#[tokio::test]
async fn one_customer_never_sees_or_touches_anothers_apps() {
    let (world, plaid) = world().await;
    let good = shares(&world, &plaid, "user_good", &[("budget-app", "Budget App")]).await;
    let empty = shares(&world, &plaid, "user_empty", &[("other-app", "Other App")]).await;
    let mut browser = signed_in(&world, "user_empty").await;
    let page = browser.open("/apps").await;
    assert!(page.text.contains("Other App") && !page.text.contains("Budget App"));
    for path in ["/apps/app/budget-app", "/apps/app/budget-app/disconnect"] {
        assert_eq!(browser.open(path).await.status, 404);
        assert_eq!(browser.post(&page, path, &[]).await.status, 404);
    }
    assert!(!browser.open("/apps/activity").await.text.contains("budget-app"));
    assert_eq!(plaid.state().apps[&good].len(), 1);
    assert_eq!(plaid.state().apps[&empty].len(), 1);
}

#[tokio::test]
async fn what_an_app_may_see_is_changed_and_only_over_own_accounts() {
    let (world, plaid) = world().await;
    let user = shares(&world, &plaid, "user_good", &[("budget-app", "Budget App")]).await;
    let mut products = ProductAccess::new();
    (products.transactions, products.auth) = (Some(true), Some(true));
    let mut scopes = Scopes::new();
    scopes.product_access = Some(products);
    let all = accounts_of_bank(&world, "user_good").await;
    scopes.accounts = all.iter().cloned().map(AccountAccess::new).collect();
    plaid.state().apps.get_mut(&user).unwrap()[0].scopes = Some(scopes);
    let mut browser = signed_in(&world, "user_good").await;
    let page = browser.open("/apps/app/budget-app").await;
    assert_eq!(accounts_of(&page).len(), all.len());
    // Data that no product covers is described on the page.
    let always = "Of the selected accounts, whenever it asks: ";
    assert_eq!(page.text.matches(always).count(), 2, "{}", page.text);
    let list = browser.open("/apps").await.text;
    assert!(
        list.contains("Account and routing numbers; if it asks: investments, cards and loans"),
        "{list}"
    );
    let anothers = accounts_of_bank(&world, "user_busy").await[0].clone();
    let none = [("account_id", anothers.as_str())];
    let again = browser.post(&page, "/apps/app/budget-app", &none).await;
    assert!(again.text.contains("at least one account"));
    assert!(again.text.contains("<title>Error: What Budget App can see"), "{}", again.text);
    assert!(again.text.contains("<fieldset class=\"accounts\" aria-describedby=\"message hint\""));
    // The page repeats the submitted selection, so that users need not repeat it.
    assert!(!again.text.contains(" checked"), "{}", again.text);
    let fields = [
        ("account_id", all[1].as_str()),
        ("account_id", anothers.as_str()),
        ("product", "transactions"),
        ("product", "statements"),
    ];
    let to = browser.post(&page, "/apps/app/budget-app", &fields).await;
    assert_eq!(to.header("location"), "/apps");
    let set = plaid.state().apps[&user][0].scopes.clone().unwrap();
    assert_eq!(set.accounts.len(), all.len());
    for account in &set.accounts {
        assert_eq!(account.authorized, Some(account.unique_id == all[1]));
    }
    let products = set.product_access.unwrap();
    assert_eq!(
        (products.transactions, products.auth, products.statements),
        (Some(true), Some(false), Some(false))
    );
    assert_eq!(set.new_accounts, Some(false));
    let page = browser.open("/apps").await;
    assert!(page.text.contains("What Budget App can see has been changed."));
    assert!(
        browser.open("/apps/activity").await.text.contains("What Budget App can see was changed")
    );
}

pub(crate) async fn accounts_of_bank(world: &World, name: &str) -> Vec<AccountId> {
    let user = world.bank.ledger().user_by_name(name).await.unwrap().unwrap();
    let data = world.bank.ledger().holdings(&user, |_| true).await.unwrap();
    data.accounts.into_iter().map(|account| account.id).collect()
}

#[tokio::test]
async fn every_form_of_the_site_wants_its_token() {
    let (world, plaid) = world().await;
    let user = shares(&world, &plaid, "user_good", &[("budget-app", "Budget App")]).await;
    let mut other = signed_in(&world, "user_empty").await;
    let others = other.open("/home").await;
    let others = between(&others.text, "name=\"csrf\" value=\"", "\"")[0].to_owned();
    let mut browser = signed_in(&world, "user_good").await;
    let account = accounts_of_bank(&world, "user_good").await[0].to_string();
    for path in [
        "/logout",
        "/messages/read",
        "/apps/connect",
        "/apps/app/budget-app",
        "/apps/app/budget-app/disconnect",
    ] {
        for csrf in ["", "forged", &others] {
            let fields = [("offer", "0"), ("account_id", account.as_str())];
            let refused = browser.post_with(csrf, path, &fields).await;
            assert_eq!(refused.status, 403, "{path}");
        }
    }
    for path in ["/login", "/login/code", "/login/answer"] {
        assert_eq!(Browser::new(&world).post_with("forged", path, &[]).await.status, 403, "{path}");
    }
    let state = plaid.state();
    assert!(state.apps[&user].len() == 1 && state.apps[&user][0].scopes.is_none());
    assert!(state.links.is_empty());
}

#[tokio::test]
async fn while_plaid_is_down_an_app_is_disconnecting_and_it_is_done_afterwards() {
    let (world, plaid) = world().await;
    let apps = [("budget-app", "Budget App"), ("tax-app", "Tax App")];
    let user = shares(&world, &plaid, "user_good", &apps).await;
    let mut browser = signed_in(&world, "user_good").await;
    assert!(browser.open("/apps").await.text.contains("Budget App"));
    let page = browser.open("/apps/app/budget-app/disconnect").await;
    assert!(page.text.contains("Disconnect Budget App?"));
    plaid.state().down = true;
    let to = browser.post(&page, "/apps/app/budget-app/disconnect", &[]).await;
    assert_eq!(to.header("location"), "/apps");
    let page = browser.open("/apps").await;
    assert!(page.text.contains("Budget App is being disconnected"), "{}", page.text);
    assert!(page.text.contains("class=\"chip\">Disconnecting"));
    assert!(page.text.contains("We cannot reach Demo Plaid right now"));
    plaid.state().down = false;
    // Not before the time of the next attempt.
    assert_eq!(plaid.state().apps[&user].len(), 2);
    world.clock.advance(TimeDelta::minutes(5));
    eventually("the app is disconnected", async || plaid.state().apps[&user].len() == 1).await;
    eventually("the page knows", async || {
        let page = browser.open("/apps").await.text;
        !page.contains("Budget App") && page.contains("Tax App") && !page.contains("Disconnecting")
    })
    .await;
    assert!(browser.open("/apps/activity").await.text.contains("You disconnected App budget-app"));
}

#[tokio::test]
async fn what_applications_and_merchants_write_is_escaped() {
    let (world, plaid) = world().await;
    let user = shares(&world, &plaid, "user_good", &[]).await;
    let evil = "<script>alert(1)</script>";
    let mut hostile = app("evil\"><script>", evil, &world.clock);
    hostile.reason_for_access = Some("<img src=x onerror=alert(1)>".into());
    hostile.logo_url = Some("https://tracker.example/pixel.png".into());
    hostile.application_url = Some("javascript:alert(1)".into());
    plaid.link(&user, hostile);
    let sql = "UPDATE transactions SET body = json_remove(json_set(body, '$.description', ?), '$.merchant')";
    let query = sqlx::query(sql).bind("<script>alert(2)</script>");
    query.execute(world.bank.ledger().pool()).await.unwrap();
    let notice = linked(&user, "evil-2", evil, &world.clock);
    world.bank.portal().unwrap().application_linked(&notice).await.unwrap();
    let mut browser = signed_in(&world, "user_good").await;
    let id = "/apps/app/evil%22%3E%3Cscript%3E";
    let pages = ["/home", "/apps", id, &format!("{id}/disconnect"), "/apps/activity", "/messages"];
    for path in pages {
        let page = browser.open(path).await;
        assert_eq!(page.status, 200, "{path}");
        let text = page.text.replace("<script src=\"/live.js\" defer></script>", "");
        assert!(
            !text.contains("<script")
                && !text.contains("<img src=x")
                && !text.contains("javascript:"),
            "{path}"
        );
        assert!(!text.contains("tracker.example"), "{path}");
    }
    assert!(browser.open("/home").await.text.contains("&lt;script&gt;alert(2)"));
    assert!(browser.open("/apps").await.text.contains("&lt;script&gt;alert(1)"));
}
