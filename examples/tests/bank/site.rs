//! The customers' own site, as a browser without scripts sees it, with a Plaid in memory.

use crate::{
    fake_plaid::{FakePlaid, Hasty, SECRET, app},
    support::{Answer, Browser, World, accounts_of, authorize, between},
};
use chrono::TimeDelta;
use demo_bank::plaid_side::{Offer, PlaidSide};
use http::{Request, header};
use px_client::transport::InProcess;
use px_server::clock::{Clock as _, ManualClock};
use px_types::{
    AccountId, ApplicationId, ClientSecret, NotificationId, TargetApplicationToken, UserId,
    model::scopes::{AccountAccess, ProductAccess, Scopes},
    partner::NewApplicationLinkNotification,
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// A bank with customers' site, and its Plaid.
async fn world() -> (World, FakePlaid) {
    let mut made = None;
    let world = World::with(|config| {
        let clock = ManualClock::new(crate::support::START.parse().unwrap());
        let plaid = FakePlaid::new(&clock);
        config.clock = Arc::new(clock.clone());
        let transport = Arc::new(InProcess::new(plaid.service()));
        let mut side = PlaidSide::new(
            "https://plaid.example",
            "larkfield".parse().unwrap(),
            ClientSecret::new(SECRET),
            transport,
        );
        side.clock = Some(Arc::new(Hasty(clock.clone())));
        side.offers = vec![Offer {
            name: "Tax App".into(),
            application_id: Some(ApplicationId::new("tax-app").unwrap()),
            target: TargetApplicationToken::new("target-tax"),
        }];
        config.plaid = Some(side);
        made = Some((plaid, clock));
    })
    .await;
    let (plaid, clock) = made.unwrap();
    (World { clock, ..world }, plaid)
}

async fn user_id(world: &World, name: &str) -> UserId {
    world.bank.ledger().user_by_name(name).await.unwrap().unwrap().user_id
}

async fn signed_in<'w>(world: &'w World, name: &str) -> Browser<'w> {
    let mut browser = Browser::new(world);
    let page = browser.open("/login").await;
    let to = browser.post(&page, "/login", &[("username", name), ("password", "pass_good")]).await;
    assert_eq!(to.header("location"), "/home", "{}", to.text);
    browser
}

/// The user shares with Plaid, and has these applications.
async fn shares(world: &World, plaid: &FakePlaid, name: &str, apps: &[(&str, &str)]) -> UserId {
    world.tokens(name).await;
    let user = user_id(world, name).await;
    for (id, title) in apps {
        plaid.link(&user, app(id, title, &world.clock));
    }
    user
}

impl Browser<'_> {
    /// Sends a form of a page to an address of its own, with the page's token.
    async fn post(&mut self, page: &Answer, path: &str, fields: &[(&str, &str)]) -> Answer {
        let csrf = between(&page.text, "name=\"csrf\" value=\"", "\"")[0].to_owned();
        self.post_with(&csrf, path, fields).await
    }

    async fn post_with(&mut self, csrf: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("csrf", csrf).extend_pairs(fields);
        let request =
            Request::post(path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request, form.finish()).await
    }
}

async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    for _ in 0..400 {
        if check().await {
            return;
        }
        demo_bank::clock::pause(Duration::from_millis(10)).await;
    }
    panic!("{what}");
}

fn linked(
    user: &UserId,
    id: &str,
    name: &str,
    clock: &ManualClock,
) -> NewApplicationLinkNotification {
    let number = NotificationId::new(format!("notification-{id}")).unwrap();
    let now = px_types::Timestamp::from(clock.now());
    NewApplicationLinkNotification::new(number, user.clone(), app(id, name, clock), now)
}

async fn notify(world: &World, signature: &str, body: String) -> Answer {
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
    // Where a sign-in leads is not for others to say.
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
    // What an attacker planted before the sign-in opens nothing after it.
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
    let entry = attacker.cookies["larkfield-entry"].clone();
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
    assert!(
        cookie.starts_with("__Host-larkfield-entry=") && cookie.contains("; Secure"),
        "{cookie}"
    );
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
    let anothers = accounts_of_bank(&world, "user_busy").await[0].clone();
    let none = [("account_id", anothers.as_str())];
    let again = browser.post(&page, "/apps/app/budget-app", &none).await;
    assert!(again.text.contains("at least one account"));
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
        (Some(true), Some(false), None)
    );
    assert_eq!(set.new_accounts, Some(false));
    let page = browser.open("/apps").await;
    assert!(page.text.contains("What Budget App can see has been changed."));
    assert!(
        browser.open("/apps/activity").await.text.contains("What Budget App can see was changed")
    );
}

async fn accounts_of_bank(world: &World, name: &str) -> Vec<AccountId> {
    let user = world.bank.ledger().user_by_name(name).await.unwrap().unwrap();
    let has = world.bank.ledger().holdings(&user, |_| true).await.unwrap();
    has.accounts.into_iter().map(|account| account.id).collect()
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
    assert!(page.text.contains("We cannot reach Plaid right now"));
    plaid.state().down = false;
    // Not before its time: the bank does not press.
    assert_eq!(plaid.state().apps[&user].len(), 2);
    world.clock.advance(TimeDelta::minutes(5));
    eventually("it is done", async || plaid.state().apps[&user].len() == 1).await;
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

#[tokio::test]
async fn a_notification_becomes_a_notice_once_and_a_forged_one_never() {
    let (world, plaid) = world().await;
    let user = user_id(&world, "user_good").await;
    let body =
        serde_json::to_string(&linked(&user, "budget-app", "Budget App", &world.clock)).unwrap();
    let good = plaid.signer.sign(body.as_bytes(), world.clock.now()).unwrap();
    let stranger = FakePlaid::new(&world.clock);
    let forged = stranger.signer.sign(body.as_bytes(), world.clock.now()).unwrap();
    let altered = body.replace("Budget App", "Budget Apq");
    for (signature, body) in [(&*forged, &body), ("", &body), ("a.b.c", &body), (&*good, &altered)]
    {
        assert_eq!(notify(&world, signature, body.clone()).await.status, 401);
    }
    let mut browser = signed_in(&world, "user_good").await;
    assert!(browser.open("/messages").await.text.contains("You have no messages"));
    for _ in 0..2 {
        let answer = notify(&world, &good, body.clone()).await;
        assert!(answer.status.is_success(), "{}", answer.text);
    }
    let page = browser.open("/messages").await;
    assert_eq!(page.text.matches("Budget App was connected to your accounts").count(), 1);
    let page = browser.open("/apps").await;
    assert!(page.text.contains("Budget App was connected to your accounts"));
    browser.post(&page, "/messages/read", &[("from", "apps")]).await;
    assert!(!browser.open("/apps").await.text.contains("was connected to your accounts"));
    assert!(!signed_in(&world, "user_empty").await.open("/messages").await.text.contains("Budget"));
}

#[tokio::test]
async fn an_open_page_hears_of_a_new_connection_and_not_after_signing_out() {
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;
    let (world, plaid) = world().await;
    let user = shares(&world, &plaid, "user_good", &[]).await;
    let mut browser = signed_in(&world, "user_good").await;
    let cookie = format!("larkfield-session={}", browser.cookies["larkfield-session"]);
    let request = Request::get("/apps/events").header(header::COOKIE, cookie);
    let request = request.body(axum::body::Body::empty()).unwrap();
    let events = world.bank.router().oneshot(request).await.unwrap();
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    let mut events = events.into_body();
    let mut next = async || events.frame().await.map(|frame| frame.unwrap().into_data().unwrap());
    assert!(next().await.unwrap().starts_with(b"event: ready"));
    let other = user_id(&world, "user_empty").await;
    let portal = world.bank.portal().unwrap();
    portal.application_linked(&linked(&other, "x", "X", &world.clock)).await.unwrap();
    portal
        .application_linked(&linked(&user, "budget-app", "Budget App", &world.clock))
        .await
        .unwrap();
    assert_eq!(next().await.unwrap(), "event: change\ndata: 1\n\n");
    let page = browser.open("/home").await;
    browser.post(&page, "/logout", &[]).await;
    assert!(next().await.is_none());
}

#[tokio::test]
async fn a_user_connects_an_app_from_the_banks_own_site() {
    let (world, plaid) = world().await;
    // Nothing was shared, and looking at the page is no consent.
    let mut browser = signed_in(&world, "user_good").await;
    let page = browser.open("/apps").await;
    assert!(page.text.contains("No app is connected") && page.text.contains("Connect to Tax App"));
    assert!(!page.text.contains("target-tax") && plaid.state().imported_with.is_empty());
    let to = browser.post(&page, "/apps/connect", &[("offer", "0")]).await;
    assert_eq!(
        (to.status.as_u16(), to.header("location")),
        (303, "https://plaid.example/link?token=link-1")
    );
    let user = user_id(&world, "user_good").await;
    {
        let state = plaid.state();
        let link = &state.links[0];
        assert_eq!(link.user.client_user_id, user.as_str());
        let add = link.cross_app_item_add.as_ref().unwrap();
        assert_eq!(add.target_application_token.expose(), "target-tax");
        assert_eq!(link.redirect_uri.as_deref(), Some("http://bank.example/apps/connected"));
    }
    // The token that was made for it reads that user's accounts.
    let token = plaid.state().imported_with[0].clone();
    let read = world.get(&format!("/users/{user}"), &token).await;
    assert_eq!(read.status, 200, "{}", read.text);
    plaid.link(&user, app("tax-app", "Tax App", &world.clock));
    assert_eq!(browser.open("/apps/connected?link_token=link-1").await.header("location"), "/apps");
    let page = browser.open("/apps").await;
    assert!(page.text.contains("Welcome back") && !page.text.contains("Connect to Tax App"));
    let unknown = browser.post(&page, "/apps/connect", &[("offer", "7")]).await;
    assert_eq!(unknown.status, 404);
}

#[tokio::test]
async fn after_a_consent_plaid_is_told_of_what_is_booked_in_any_process() {
    let (world, plaid) = world().await;
    let mut browser = Browser::new(&world);
    let page = browser.open(&authorize("")).await;
    let page = browser.sign_in(&page, "user_good", "pass_good").await;
    let one = vec![accounts_of(&page)[0].clone()];
    browser.decide(&page, &one, "allow").await;
    eventually("the user is imported", async || plaid.state().imported_with.len() == 1).await;
    let user = user_id(&world, "user_good").await;
    // What the bank made for Plaid is no wider than what the user allowed.
    let token = plaid.state().imported_with[0].clone();
    let read = world.get(&format!("/users/{user}"), &token).await.json();
    assert_eq!(read["accounts"].as_array().unwrap().len(), 1);
    let token = format!("access-s3cret-{user}");
    eventually("the token is kept", async || {
        let query = sqlx::query_scalar("SELECT count(*) FROM plaid_tokens");
        query.fetch_one(world.bank.ledger().pool()).await.unwrap_or(0) == 1
    })
    .await;
    // Another process moves the clock: it has the books and no Plaid.
    world.bank.ledger().advance(3).await.unwrap();
    eventually("Plaid is told", async || !plaid.state().told.is_empty()).await;
    assert!(plaid.state().told.iter().all(|(whose, _)| *whose == token));
    eventually("nothing waits", async || {
        world.bank.notifier().unwrap().waiting().await.unwrap() == 0
    })
    .await;
    // While Plaid is down, it waits in the books.
    plaid.state().down = true;
    plaid.state().told.clear();
    world.bank.advance(3).await.unwrap();
    assert!(world.bank.notifier().unwrap().waiting().await.unwrap() > 0);
    plaid.state().down = false;
    eventually("Plaid is told late", async || !plaid.state().told.is_empty()).await;
}

/// Everything that is logged, at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_log_holds_a_secret() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone());
    let _logging = tracing::subscriber::set_default(subscriber.finish());
    let (world, plaid) = world().await;
    let user = shares(&world, &plaid, "user_otp", &[("budget-app", "Budget App")]).await;
    let mut browser = Browser::new(&world);
    let page = browser.open("/login").await;
    let fields = [("username", "user_otp"), ("password", "pass_good")];
    let page = browser.post(&page, "/login", &fields).await;
    let page = browser.post(&page, "/login/code", &[("delivery", "sms-1")]).await;
    let code = world.sent.lock().unwrap().last().unwrap().rsplit(' ').next().unwrap().to_owned();
    browser.post(&page, "/login/answer", &[("code", &code)]).await;
    let page = browser.open("/apps").await;
    browser.post(&page, "/apps/connect", &[("offer", "0")]).await;
    let notice = linked(&user, "tax-app", "Tax App", &world.clock);
    let body = serde_json::to_string(&notice).unwrap();
    let signature = plaid.signer.sign(body.as_bytes(), world.clock.now()).unwrap();
    assert!(notify(&world, &signature, body).await.status.is_success());
    // Things that fail are logged, and say the most.
    assert_eq!(notify(&world, &signature, "{}".into()).await.status, 401);
    plaid.state().down = true;
    world.bank.advance(2).await.unwrap();
    browser.open("/apps/activity").await;
    browser.post(&page, "/apps/connect", &[("offer", "0")]).await;
    browser.post(&page, "/apps/app/budget-app/disconnect", &[]).await;
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("an application is not disconnected yet"), "nothing was logged");
    let csrf = between(&page.text, "name=\"csrf\" value=\"", "\"")[0].to_owned();
    let mut secrets = plaid.state().imported_with.clone();
    secrets.extend(browser.cookies.values().filter(|value| !value.is_empty()).cloned());
    secrets.extend(
        ["pass_good", SECRET, "access-s3cret", "target-tax", "link-1", &code, &csrf, &signature]
            .map(str::to_owned),
    );
    for secret in secrets {
        assert!(!log.contains(&secret), "the log holds {secret}");
    }
}
