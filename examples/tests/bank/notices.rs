//! Tests of notifications between the bank and Plaid, connections, and logs.

use crate::{
    fake_plaid::{FakePlaid, SECRET, app},
    site::{eventually, linked, notify, shares, side, signed_in, user_id, world},
    support::{Browser, World, accounts_of, authorize, between},
};
use chrono::TimeDelta;
use http::{Request, header};
use px_client::portal::Disconnected;
use px_core::Clock as _;
use px_items::webhook::{Signer, SigningKey};
use std::sync::{Arc, Mutex};

#[tokio::test]
async fn a_notification_becomes_a_notice_once_and_a_forged_one_never() {
    let (world, plaid) = world().await;
    let user = user_id(&world, "user_good").await;
    let body =
        serde_json::to_string(&linked(&user, "budget-app", "Budget App", &world.clock)).unwrap();
    let good = plaid.signer.sign(body.as_bytes(), world.clock.now()).unwrap();
    let stranger = FakePlaid::new(&world.clock);
    let forged = stranger.signer.sign(body.as_bytes(), world.clock.now()).unwrap();
    // Plaid answers that it has no such key. The signature is refused, with 401 and not 503.
    let unknown = SigningKey::generate("key-2".parse().unwrap(), world.clock.now()).unwrap();
    let unknown = Signer::new(unknown).sign(body.as_bytes(), world.clock.now()).unwrap();
    let altered = body.replace("Budget App", "Budget Apq");
    for (signature, body) in
        [(&*forged, &body), (&*unknown, &body), ("", &body), ("a.b.c", &body), (&*good, &altered)]
    {
        assert_eq!(notify(&world, signature, body.clone()).await.status, 401);
    }
    let mut browser = signed_in(&world, "user_good").await;
    assert!(browser.open("/messages").await.text.contains("You have no messages"));
    for _ in 0..2 {
        let response = notify(&world, &good, body.clone()).await;
        assert!(response.status.is_success(), "{}", response.text);
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
    // Nothing was shared, and opening the page is no consent.
    let mut browser = signed_in(&world, "user_good").await;
    let page = browser.open("/apps").await;
    assert!(page.text.contains("No app is connected") && page.text.contains("Connect to Tax App"));
    assert!(!page.text.contains("target-tax") && plaid.state().imported_with.is_empty());
    let to = crate::site::connects(&mut browser, "0").await;
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
        assert_eq!(link.redirect_uri.as_deref(), Some("http://bank.localhost/apps/connected"));
    }
    // The token that was created for it reads that user's accounts.
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

/// An app that was connected here reads with the token that the bank created for it. Its
/// disconnection works even if Plaid does not know the bank's token any more.
#[tokio::test]
async fn an_app_that_was_connected_here_is_disconnected_though_the_token_is_dead() {
    let (world, plaid) = world().await;
    let mut browser = signed_in(&world, "user_good").await;
    crate::site::connects(&mut browser, "0").await;
    let user = user_id(&world, "user_good").await;
    plaid.link(&user, app("tax-app", "Tax App", &world.clock));
    browser.open("/apps").await;
    plaid.state().items.clear();
    let portal = world.bank.portal().unwrap();
    let ended = portal.disconnect(&user, &"tax-app".parse().unwrap()).await.unwrap();
    assert_eq!(ended, Disconnected::Done);
    assert!(plaid.state().apps[&user].is_empty(), "the app is still connected");
    // Nothing is shared any more, and no token that the bank created is valid.
    browser.open("/apps").await;
    plaid.state().items.clear();
    browser.open("/apps").await;
    let tokens = plaid.state().imported_with.clone();
    for token in tokens {
        assert_eq!(world.get("/customers/current", &token).await.status, 401);
    }
}

#[tokio::test]
async fn a_late_notification_of_a_link_brings_nothing_back() {
    let (world, plaid) = world().await;
    let user = shares(&world, &plaid, "user_good", &[("budget-app", "Budget App")]).await;
    let late = linked(&user, "budget-app", "Budget App", &world.clock);
    let portal = world.bank.portal().unwrap();
    assert_eq!(portal.applications(&user).await.unwrap().list.len(), 1);
    world.clock.advance(TimeDelta::minutes(1));
    portal.disconnect(&user, &"budget-app".parse().unwrap()).await.unwrap();
    // The Item was removed with its last app.
    plaid.state().items.clear();
    assert!(portal.applications(&user).await.unwrap().list.is_empty());
    let body = serde_json::to_string(&late).unwrap();
    let signature = plaid.signer.sign(body.as_bytes(), world.clock.now()).unwrap();
    assert_eq!(notify(&world, &signature, body).await.status, 200);
    demo_bank::clock::pause(std::time::Duration::from_millis(200)).await;
    assert_eq!(plaid.state().imported_with.len(), 1, "the user is imported again");
    assert!(portal.applications(&user).await.unwrap().list.is_empty());
    assert_eq!(portal.notices(&user, 9).await.unwrap().len(), 1, "the user is still notified");
}

#[tokio::test]
async fn without_a_consent_at_plaid_nothing_remains_there() {
    let (world, plaid) = world().await;
    let mut browser = signed_in(&world, "user_good").await;
    crate::site::connects(&mut browser, "0").await;
    assert_eq!(plaid.state().items.len(), 1);
    browser.open("/apps/connected?error=user_cancelled&link_token=link-1").await;
    assert!(plaid.state().items.is_empty());
    // Opening the page again creates no other Item.
    assert!(browser.open("/apps").await.text.contains("No app is connected"));
    assert!(plaid.state().items.is_empty());

    // With an application connected the Item stays.
    crate::site::connects(&mut browser, "0").await;
    let user = user_id(&world, "user_good").await;
    plaid.link(&user, app("tax-app", "Tax App", &world.clock));
    browser.open("/apps/connected?error=user_cancelled&link_token=link-2").await;
    assert_eq!(plaid.state().items.len(), 1);
}

#[tokio::test]
async fn a_link_of_a_stranger_to_the_way_back_ends_nothing() {
    let (world, plaid) = world().await;
    let mut browser = signed_in(&world, "user_good").await;
    crate::site::connects(&mut browser, "0").await;
    // A top-level link sends the cookie, but not the link token of this customer's visit.
    for query in ["error=x", "error=x&link_token=", "error=x&link_token=link-0", ""] {
        let to = browser.open(&format!("/apps/connected?{query}")).await;
        assert_eq!(to.header("location"), "/apps");
        assert_eq!(plaid.state().items.len(), 1, "{query}");
    }
    assert!(!browser.open("/apps").await.text.contains("Welcome back"));
    // Nor does it use up the link token of the visit, which another customer's session does not
    // have.
    let mut other = signed_in(&world, "user_empty").await;
    other.open("/apps/connected?error=x&link_token=link-1").await;
    assert_eq!(plaid.state().items.len(), 1);
    browser.open("/apps/connected?link_token=link-1").await;
    assert!(browser.open("/apps").await.text.contains("Welcome back"));
    // The visit is over after one return.
    browser.open("/apps/connected?error=x&link_token=link-1").await;
    assert_eq!(plaid.state().items.len(), 1);
    assert!(!browser.open("/apps").await.text.contains("Welcome back"));
}

#[tokio::test]
async fn after_a_consent_plaid_is_notified_of_bookings_in_any_process() {
    let (world, plaid) = world().await;
    let mut browser = Browser::new(&world);
    let page = browser.open(&authorize("")).await;
    let page = browser.sign_in(&page, "user_good", "pass_good").await;
    let one = vec![accounts_of(&page)[0].clone()];
    browser.decide(&page, &one, "allow").await;
    eventually("the user is imported", async || plaid.state().imported_with.len() == 1).await;
    let user = user_id(&world, "user_good").await;
    // The token that the bank created for Plaid covers only the accounts that the user allowed.
    let token = plaid.state().imported_with[0].clone();
    let read = world.get(&format!("/users/{user}"), &token).await.json();
    assert_eq!(read["accounts"].as_array().unwrap().len(), 1);
    let token = format!("access-s3cret-{user}");
    eventually("the token is stored", async || {
        let query = sqlx::query_scalar("SELECT count(*) FROM plaid_tokens");
        query.fetch_one(world.bank.ledger().pool()).await.unwrap_or(0) == 1
    })
    .await;
    // Another process advances the clock. It has the ledger but no Plaid.
    world.bank.ledger().advance(3).await.unwrap();
    eventually("Plaid is notified", async || !plaid.state().notified.is_empty()).await;
    assert!(plaid.state().notified.iter().all(|(used, _)| *used == token));
    eventually("nothing is pending", async || {
        world.bank.notifier().unwrap().waiting().await.unwrap() == 0
    })
    .await;
    // While Plaid is down, notifications are stored in the ledger.
    plaid.state().down = true;
    plaid.state().notified.clear();
    world.bank.advance(3).await.unwrap();
    assert!(world.bank.notifier().unwrap().waiting().await.unwrap() > 0);
    plaid.state().down = false;
    eventually("Plaid is notified late", async || !plaid.state().notified.is_empty()).await;
}

#[tokio::test]
async fn what_is_begun_is_ended_by_the_next_program() {
    let (world, plaid) = world().await;
    let apps = [("budget-app", "Budget App"), ("tax-app", "Tax App")];
    let user = shares(&world, &plaid, "user_good", &apps).await;
    let mut browser = signed_in(&world, "user_good").await;
    let page = browser.open("/apps").await;
    plaid.state().down = true;
    world.bank.advance(3).await.unwrap();
    browser.post(&page, "/apps/app/budget-app/disconnect", &[]).await;
    let waiting = world.bank.notifier().unwrap().waiting().await.unwrap();
    assert!(waiting > 0);
    let World { bank, clock, _ledger_file: ledger_file, .. } = world;
    bank.close();
    drop(bank);
    plaid.state().down = false;
    assert_eq!(plaid.state().apps[&user].len(), 2);
    clock.advance(TimeDelta::minutes(5));
    let world = World::with(|config| {
        config.database = ledger_file.as_ref().unwrap().database.clone();
        config.clock = Arc::new(clock.clone());
        config.plaid = Some(side(&plaid, &clock));
    })
    .await;
    eventually("it is disconnected", async || plaid.state().apps[&user].len() == 1).await;
    eventually("Plaid is notified", async || {
        world.bank.notifier().unwrap().waiting().await.unwrap() == 0
    })
    .await;
    assert!(!plaid.state().notified.is_empty());
    assert_eq!(plaid.state().imported_with.len(), 1, "the token was stored");
}

/// A writer that collects the log.
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
    let subscriber = || {
        let writer = writer.clone();
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish()
    };
    // With only one subscriber, a callsite that another test reaches first is cached as disabled.
    let _second = tracing::Dispatch::new(subscriber());
    let _logging = tracing::subscriber::set_default(subscriber());
    let (world, plaid) = world().await;
    let user = shares(&world, &plaid, "user_otp", &[("budget-app", "Budget App")]).await;
    let mut browser = Browser::new(&world);
    let page = browser.open("/login").await;
    let fields = [("username", "user_otp"), ("password", "pass_good")];
    let page = browser.post(&page, "/login", &fields).await;
    let page = browser.post(&page, "/login/code", &[("delivery", "sms-1")]).await;
    let code = world.sent.lock().unwrap().last().unwrap().rsplit(' ').next().unwrap().to_owned();
    browser.post(&page, "/login/answer", &[("code", &code)]).await;
    crate::site::connects(&mut browser, "0").await;
    let notice = linked(&user, "tax-app", "Tax App", &world.clock);
    let body = serde_json::to_string(&notice).unwrap();
    let signature = plaid.signer.sign(body.as_bytes(), world.clock.now()).unwrap();
    assert!(notify(&world, &signature, body).await.status.is_success());
    // Failures are logged with the most details.
    assert_eq!(notify(&world, &signature, "{}".into()).await.status, 401);
    plaid.state().down = true;
    world.bank.advance(2).await.unwrap();
    browser.open("/apps/activity").await;
    crate::site::connects(&mut browser, "0").await;
    let page = browser.open("/home").await;
    browser.post(&page, "/apps/app/budget-app/disconnect", &[]).await;
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("an application could not be disconnected yet"), "nothing was logged");
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
