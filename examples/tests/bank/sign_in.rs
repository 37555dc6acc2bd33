//! Tests of signing in on the bank's pages and over its API, and of guessing.

use crate::support::{Browser, TestResponse, World, accounts_of, authorize};
use chrono::TimeDelta;
use demo_bank::scenario::TOTP_SECRET;
use futures_util::future::join_all;
use px_core::Clock as _;
use px_server::credentials::TotpSecret;
use serde_json::{Value, json};

/// A customer's address, and the address of an attacker.
const HOME: &str = "192.0.2.10";
const ELSEWHERE: &str = "198.51.100.7";

async fn oauth_page<'w>(world: &'w World, address: &str) -> (Browser<'w>, TestResponse) {
    let mut browser = Browser::at(world, address);
    let page = browser.open(&authorize("")).await;
    (browser, page)
}

async fn site_page<'w>(world: &'w World, address: &str) -> (Browser<'w>, TestResponse) {
    let mut browser = Browser::at(world, address);
    let page = browser.open("/login").await;
    (browser, page)
}

fn code(world: &World) -> String {
    let secret = TotpSecret::from_base32(TOTP_SECRET).unwrap();
    secret.code(world.clock.now()).expose().to_owned()
}

/// Requests the challenge of a user over the API.
async fn challenge(world: &World, username: &str) -> Value {
    let body = json!({ "username": username, "password": "pass_good" }).to_string();
    world.post("/users/auth_token", &body).await.json()
}

async fn answer(world: &World, challenge: &Value, code: &str) -> TestResponse {
    let path = format!("/users/{}/2fa", challenge["user_id"].as_str().unwrap());
    let body = json!({ "challenge_id": challenge["challenge_id"], "code": code });
    world.post(&path, &body.to_string()).await
}

#[tokio::test]
async fn a_password_alone_never_reaches_consent_where_more_is_asked() {
    let world = World::new().await;
    for username in ["user_otp", "user_kba", "user_totp"] {
        let (mut browser, page) = oauth_page(&world, HOME).await;
        let page = browser.sign_in(&page, username, "pass_good").await;
        assert_eq!(accounts_of(&page).len(), 0, "{username} consents with the password alone");
        assert!(page.text.contains("One more step"), "{username}: {}", page.text);
        // A consent form that is submitted anyway is refused.
        let forced = browser.post(&page, "/consent", &[("decision", "allow")]).await;
        assert_eq!(forced.header("location"), "", "{username}");
    }
}

#[tokio::test]
async fn the_pages_of_oauth_ask_for_the_code_the_answers_and_the_device() {
    let world = World::new().await;
    let (mut browser, page) = oauth_page(&world, HOME).await;
    let page = browser.sign_in(&page, "user_otp", "pass_good").await;
    assert!(page.text.contains("Where should it go?"), "{}", page.text);
    let page = browser.submit(&page, &[("delivery", "sms-1")]).await;
    let sent = world.sent.lock().unwrap().last().unwrap().rsplit(' ').next().unwrap().to_owned();
    let wrong = browser.submit(&page, &[("code", "nonsense")]).await;
    assert!(wrong.text.contains("not right") && accounts_of(&wrong).is_empty());
    let page = browser.submit(&wrong, &[("code", &sent)]).await;
    assert_eq!(accounts_of(&page).len(), 3);
    let back = browser.decide(&page, &accounts_of(&page), "allow").await;
    assert!(back.header("location").contains("code="), "{}", back.text);

    let (mut browser, page) = oauth_page(&world, HOME).await;
    let page = browser.sign_in(&page, "user_kba", "pass_good").await;
    let answers = [("answer-0", "Biscuit"), ("answer-1", "Mill Road")];
    assert_eq!(accounts_of(&browser.submit(&page, &answers).await).len(), 3);

    let (mut browser, page) = oauth_page(&world, HOME).await;
    let page = browser.sign_in(&page, "user_totp", "pass_good").await;
    let page = browser.submit(&page, &[("code", &code(&world))]).await;
    assert_eq!(accounts_of(&page).len(), 3);
}

/// The cookie and the form from before the last step are worth nothing after it.
#[tokio::test]
async fn each_step_of_a_sign_in_has_secrets_of_its_own() {
    let world = World::new().await;
    let (mut browser, page) = oauth_page(&world, HOME).await;
    let challenge_page = browser.sign_in(&page, "user_totp", "pass_good").await;
    let planted = browser.cookies.clone();
    let consent = browser.submit(&challenge_page, &[("code", &code(&world))]).await;
    assert_eq!(accounts_of(&consent).len(), 3);
    let good = std::mem::replace(&mut browser.cookies, planted);
    let refused = browser.decide(&consent, &accounts_of(&consent), "allow").await;
    assert_eq!(refused.status, 403);
    browser.cookies = good;
    assert_eq!(browser.submit(&challenge_page, &[("code", "000000")]).await.status, 403);
}

#[tokio::test]
async fn one_code_of_a_device_serves_once_for_api_site_and_consent() {
    let world = World::new().await;
    let code = code(&world);
    let pending = challenge(&world, "user_totp").await;
    assert_eq!(answer(&world, &pending, &code).await.status, 200);
    let (mut browser, page) = site_page(&world, HOME).await;
    let user = [("username", "user_totp"), ("password", "pass_good")];
    let page = browser.post(&page, "/login", &user).await;
    let again = browser.post(&page, "/login/answer", &[("code", &code)]).await;
    assert!(
        again.text.contains("not right"),
        "the site accepts a code that the API accepted before"
    );
    let (mut browser, page) = oauth_page(&world, HOME).await;
    let page = browser.sign_in(&page, "user_totp", "pass_good").await;
    let again = browser.submit(&page, &[("code", &code)]).await;
    assert!(
        again.text.contains("not right"),
        "consent accepts a code that the API accepted before"
    );
}

#[tokio::test]
async fn wrong_answers_count_together_over_api_site_and_consent() {
    let world = World::new().await;
    for _ in 0..5 {
        let pending = challenge(&world, "user_totp").await;
        for _ in 0..4 {
            assert_eq!(answer(&world, &pending, "000000").await.status, 401);
        }
    }
    let user = [("username", "user_totp"), ("password", "pass_good")];
    let (mut browser, page) = site_page(&world, HOME).await;
    let page = browser.post(&page, "/login", &user).await;
    assert!(page.text.contains("You cannot sign in at the moment"), "{}", page.text);
    let (mut browser, page) = oauth_page(&world, HOME).await;
    let page = browser.sign_in(&page, "user_totp", "pass_good").await;
    assert!(page.text.contains("You cannot sign in at the moment"), "{}", page.text);
}

#[tokio::test]
async fn of_many_guesses_at_once_ten_are_checked() {
    let world = World::new().await;
    let (browser, page) = oauth_page(&world, ELSEWHERE).await;
    let guesses = (0..60).map(|n| {
        let mut browser = browser.clone();
        let page = &page;
        async move { browser.sign_in(page, "user_good", &format!("guess-{n}")).await }
    });
    let responses = join_all(guesses).await;
    let checked = responses.iter().filter(|page| page.text.contains("is not right")).count();
    assert!(checked <= 10, "{checked} of 60 guesses at once were checked");
    // And over the API.
    let guesses = (0..60).map(|n| {
        let body = json!({ "username": "user_empty", "password": format!("guess-{n}") });
        let world = &world;
        async move { world.post("/users/auth_token", &body.to_string()).await }
    });
    let responses = join_all(guesses).await;
    let checked = responses.iter().filter(|response| response.status == 401).count();
    assert!(checked <= 10, "{checked} of 60 guesses at once were checked over the API");
}

#[tokio::test]
async fn guesses_from_elsewhere_do_not_keep_a_customer_out() {
    let world = World::new().await;
    let (mut stranger, page) = oauth_page(&world, ELSEWHERE).await;
    for n in 0..12 {
        stranger.sign_in(&page, "user_good", &format!("guess-{n}")).await;
    }
    let waits = stranger.sign_in(&page, "user_good", "pass_good").await;
    assert!(waits.text.contains("Too many attempts"), "{}", waits.text);
    let (mut owner, page) = oauth_page(&world, HOME).await;
    let page = owner.sign_in(&page, "user_good", "pass_good").await;
    assert_eq!(accounts_of(&page).len(), 9, "the owner is kept out by a stranger's guesses");
    let (mut owner, page) = site_page(&world, HOME).await;
    let user = [("username", "user_good"), ("password", "pass_good")];
    assert_eq!(owner.post(&page, "/login", &user).await.header("location"), "/home");
    // A sign-in of the owner does not reset the stranger's count.
    let page = stranger.open(&authorize("")).await;
    let waits = stranger.sign_in(&page, "user_good", "x").await;
    assert!(waits.text.contains("Too many attempts"), "{}", waits.text);
    world.clock.advance(TimeDelta::seconds(61));
    let page = stranger.open(&authorize("")).await;
    assert!(stranger.sign_in(&page, "user_good", "x").await.text.contains("is not right"));
}

#[tokio::test]
async fn one_address_cannot_try_every_name() {
    let world = World::new().await;
    let (mut stranger, page) = oauth_page(&world, ELSEWHERE).await;
    let mut checked = 0;
    for n in 0..150 {
        let page = stranger.sign_in(&page, &format!("name-{n}"), "pass_good").await;
        checked += usize::from(page.text.contains("is not right"));
    }
    assert!(checked <= 60, "{checked} of 150 names were tried from one address");
    let (mut owner, page) = oauth_page(&world, HOME).await;
    assert_eq!(accounts_of(&owner.sign_in(&page, "user_good", "pass_good").await).len(), 9);
}

#[tokio::test]
async fn a_crowd_of_sign_ins_from_one_address_waits_behind_the_others() {
    let world = World::new().await;
    let (browser, page) = oauth_page(&world, ELSEWHERE).await;
    let crowd = (0..55).map(|n| {
        let mut browser = browser.clone();
        let page = &page;
        async move { browser.sign_in(page, &format!("name-{n}"), "x").await.status.as_u16() }
    });
    let owner = async {
        let (mut owner, page) = oauth_page(&world, HOME).await;
        accounts_of(&owner.sign_in(&page, "user_good", "pass_good").await).len()
    };
    let (crowd, accounts) = futures_util::future::join(join_all(crowd), owner).await;
    assert_eq!(accounts, 9, "a crowd elsewhere keeps an owner out");
    let busy = crowd.iter().filter(|status| **status == 503).count();
    assert!(busy >= 20, "all of 55 sign-ins at once wait for the processor: {crowd:?}");
}

#[tokio::test]
async fn a_locked_customers_right_password_looks_like_a_wrong_one() {
    let world = World::new().await;
    for password in ["pass_good", "wrong"] {
        let (mut browser, page) = oauth_page(&world, HOME).await;
        let page = browser.sign_in(&page, "user_locked", password).await;
        assert_eq!(page.status, 200);
        assert!(page.text.contains("is not right"), "{password}: {}", page.text);
        let (mut browser, page) = site_page(&world, HOME).await;
        let user = [("username", "user_locked"), ("password", password)];
        let page = browser.post(&page, "/login", &user).await;
        assert_eq!(page.status, 200);
        assert!(page.text.contains("is not right"), "{password}: {}", page.text);
        let body = json!({ "username": "user_locked", "password": password }).to_string();
        let refused = world.post("/users/auth_token", &body).await;
        assert_eq!(refused.json()["error"]["id"], "invalid_credentials", "{password}");
    }
}

#[tokio::test]
async fn a_user_who_has_to_wait_is_informed_on_the_site_too() {
    let world = World::new().await;
    let (mut browser, page) = site_page(&world, HOME).await;
    let mut last = None;
    for _ in 0..11 {
        let user = [("username", "user_good"), ("password", "guess")];
        last = Some(browser.post(&page, "/login", &user).await);
    }
    let last = last.unwrap();
    assert!(last.text.contains("Too many attempts"), "{} {}", last.status, last.text);
    let api = async |name: &str| {
        let body = json!({ "username": name, "password": "guess" }).to_string();
        world.post("/users/auth_token", &body).await
    };
    for _ in 0..10 {
        assert_eq!(api("user_empty").await.status, 401);
    }
    let waits = api("user_empty").await;
    assert_eq!(waits.status, 429);
    assert!(waits.header("retry-after").parse::<u32>().unwrap() <= 60);
}

#[tokio::test]
async fn pages_that_others_open_end_nobodys_sign_in() {
    let world = World::new().await;
    let (mut consents, oauth) = oauth_page(&world, HOME).await;
    let (mut signs_in, site) = site_page(&world, HOME).await;
    let state = format!("&login_hint={}", "x".repeat(64));
    for _ in 0..10_001 {
        world.get(&authorize(&state), "").await;
        world.get("/login", "").await;
    }
    let page = consents.sign_in(&oauth, "user_good", "pass_good").await;
    assert_eq!(accounts_of(&page).len(), 9, "pushed out: {}", page.status);
    let user = [("username", "user_good"), ("password", "pass_good")];
    let to = signs_in.post(&site, "/login", &user).await;
    assert_eq!(to.header("location"), "/home", "pushed out: {}", to.status);
}

/// A form is good for one sign-in, so a later copy of page and cookie is worthless.
#[tokio::test]
async fn a_sign_in_form_serves_once() {
    let world = World::new().await;
    let (mut browser, page) = oauth_page(&world, HOME).await;
    let before = browser.cookies.clone();
    assert_eq!(accounts_of(&browser.sign_in(&page, "user_good", "pass_good").await).len(), 9);
    browser.cookies = before;
    assert_eq!(browser.sign_in(&page, "user_good", "pass_good").await.status, 403);
    let (mut browser, page) = site_page(&world, HOME).await;
    let before = browser.cookies.clone();
    let user = [("username", "user_good"), ("password", "pass_good")];
    assert_eq!(browser.post(&page, "/login", &user).await.status, 303);
    browser.cookies = before;
    assert_eq!(browser.post(&page, "/login", &user).await.status, 403);
    // A form of the OAuth pages is not valid on the site.
    let (mut browser, page) = oauth_page(&world, HOME).await;
    let crossed = browser.post(&page, "/login", &user).await;
    assert_eq!(crossed.status, 403);
}
