//! Tests of the OAuth pages, with a browser without scripts.

use crate::support::{Browser, World, accounts_of, authorize, code_of};
use chrono::TimeDelta;

#[tokio::test]
async fn every_page_carries_the_headers_that_guard_it() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    let page = browser.open(&authorize("")).await;
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy");
    for part in [
        "default-src 'none'",
        "style-src 'self'",
        "form-action 'self' http://127.0.0.1:9;",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert_eq!(page.header("cache-control"), "no-store");
    assert_eq!(page.header("referrer-policy"), "no-referrer");
    assert!(!page.header("x-request-id").is_empty());
    let cookie = page.header("set-cookie");
    assert!(
        cookie.contains("HttpOnly")
            && cookie.contains("SameSite=Lax")
            && !cookie.contains("Secure")
    );
    assert!(!page.text.contains("style=\"") && !page.text.contains("<script"));
    let next = browser.sign_in(&page, "user_good", "pass_good").await;
    assert!(!next.header("x-request-id").is_empty());
    let back = browser.decide(&next, &[], "deny").await;
    assert_eq!(back.status, 303);
    assert!(!back.header("x-request-id").is_empty());
    assert_eq!(world.get("/style.css", "").await.header("content-type"), "text/css; charset=utf-8");
}

#[tokio::test]
async fn over_https_the_cookie_is_bound_to_the_host() {
    let world = World::with(|config| config.issuer = "https://bank.example".into()).await;
    let page = Browser::new(&world).open(&authorize("")).await;
    let cookie = page.header("set-cookie");
    assert!(cookie.starts_with("__Host-") && cookie.contains("; Secure"), "{cookie}");
}

#[tokio::test]
async fn a_wrong_password_says_so_and_goes_on() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    let page = browser.open(&authorize("")).await;
    for (name, password) in [("user_good", "wrong"), ("nobody", "pass_good"), ("", "")] {
        let page = browser.sign_in(&page, name, password).await;
        assert!(page.text.contains("not right") && accounts_of(&page).is_empty());
        assert!(!page.text.contains("wrong\""));
    }
    let page = browser.sign_in(&page, "user_good", "pass_good").await;
    assert_eq!(accounts_of(&page).len(), 9);
}

#[tokio::test]
async fn the_page_of_consent_says_what_the_accounts_show_and_how_it_ends() {
    let world = World::new().await;
    for (name, says) in [("user_good", true), ("user_empty", false)] {
        let mut browser = Browser::new(&world);
        let page = browser.open(&authorize("")).await;
        let page = browser.sign_in(&page, name, "pass_good").await;
        for detail in ["Of investments, if it asks: what", "Of cards and loans, if it asks: rates"]
        {
            assert_eq!(page.text.contains(detail), says, "{name}: {}", page.text);
        }
        assert!(page.text.contains("at any time by calling us"));
    }
    let (world, _plaid) = crate::site::world().await;
    let mut browser = Browser::new(&world);
    let page = browser.open(&authorize("")).await;
    let page = browser.sign_in(&page, "user_good", "pass_good").await;
    assert!(page.text.contains("under Connected apps in Online Banking"), "{}", page.text);
}

#[tokio::test]
async fn a_locked_user_cannot_sign_in() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    let page = browser.open(&authorize("")).await;
    let page = browser.sign_in(&page, "user_locked", "pass_good").await;
    // Like a wrong password, because others must not learn that it was right.
    assert!(page.text.contains("is not right") && accounts_of(&page).is_empty());
}

#[tokio::test]
async fn guessing_has_to_wait() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    let page = browser.open(&authorize("")).await;
    for _ in 0..10 {
        browser.sign_in(&page, "user_empty", "guess").await;
    }
    let refused = browser.sign_in(&page, "user_empty", "pass_good").await;
    assert!(refused.text.contains("wait a minute"));
    world.clock.advance(TimeDelta::seconds(61));
    let page = browser.sign_in(&page, "user_empty", "pass_good").await;
    assert!(page.text.contains("Share your accounts"), "{}", page.text);
}

#[tokio::test]
async fn with_none_picked_the_page_asks_again() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    let page = browser.open(&authorize("")).await;
    let page = browser.sign_in(&page, "user_good", "pass_good").await;
    for picked in [vec![], vec!["acc-of-someone-else".to_owned()]] {
        let again = browser.decide(&page, &picked, "allow").await;
        assert_eq!(again.status, 200);
        assert!(again.text.contains("at least one account"));
    }
    let one = vec![accounts_of(&page)[0].clone()];
    let back = browser.decide(&page, &one, "allow").await;
    assert!(back.header("location").starts_with("http://127.0.0.1:9/back?code="));
    assert!(
        back.header("location").contains("state=xyz") && back.header("location").contains("iss=")
    );
}

#[tokio::test]
async fn refusing_redirects_with_an_error() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    let page = browser.open(&authorize("")).await;
    let page = browser.sign_in(&page, "user_good", "pass_good").await;
    let back = browser.decide(&page, &accounts_of(&page), "deny").await;
    assert!(back.header("location").contains("error=access_denied"), "{}", back.header("location"));
}

#[tokio::test]
async fn a_form_that_is_not_from_its_page_is_refused() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    let page = browser.open(&authorize("")).await;
    let mut forged = Browser::new(&world);
    assert_eq!(forged.sign_in(&page, "user_good", "pass_good").await.status, 403);
    let mut altered = browser.open(&authorize("")).await;
    altered.text = altered.text.replace("name=\"csrf\" value=\"", "name=\"csrf\" value=\"A");
    assert_eq!(browser.sign_in(&altered, "user_good", "pass_good").await.status, 403);
    // The token and the cookie from before the sign-in are worth nothing after it.
    let before = browser.cookies.clone();
    let consent = browser.sign_in(&page, "user_good", "pass_good").await;
    assert_eq!(browser.sign_in(&page, "user_good", "pass_good").await.status, 403);
    let after = std::mem::replace(&mut browser.cookies, before);
    assert_eq!(browser.decide(&consent, &accounts_of(&consent), "allow").await.status, 403);
    browser.cookies = after;
    assert_eq!(browser.decide(&consent, &accounts_of(&consent), "allow").await.status, 303);
}

#[tokio::test]
async fn a_form_that_is_sent_twice_gives_one_code() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    let page = browser.open(&authorize("")).await;
    let page = browser.sign_in(&page, "user_good", "pass_good").await;
    let picked = accounts_of(&page);
    let first = browser.decide(&page, &picked, "allow").await;
    let second = browser.decide(&page, &picked, "allow").await;
    assert_eq!(code_of(&first), code_of(&second));
    world.clock.advance(TimeDelta::seconds(11));
    let late = browser.decide(&page, &picked, "allow").await;
    assert_eq!(late.status, 409);
    assert!(late.text.contains("already answered"));
}

#[tokio::test]
async fn visits_end() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    let page = browser.open(&authorize("")).await;
    world.clock.advance(TimeDelta::minutes(11));
    let page = browser.sign_in(&page, "user_good", "pass_good").await;
    assert_eq!(page.status, 403);
    assert!(page.text.contains("expired"));
}

#[tokio::test]
async fn what_came_from_outside_is_escaped() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    let name = "&application_id=a1&application_name=%3Cscript%3Ealert(1)%3C%2Fscript%3E";
    let page = browser.open(&authorize(name)).await;
    assert!(page.text.contains("&lt;script&gt;") && !page.text.contains("<script>"));
    let page = browser.sign_in(&page, "\"><script>", "x").await;
    assert!(!page.text.contains("<script>"));
}

#[tokio::test]
async fn an_unknown_client_sees_a_page_and_no_redirect() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    let page = browser.open(&authorize("").replace("client_id=plaid", "client_id=other")).await;
    assert_eq!(page.status, 400);
    assert_eq!(page.header("location"), "");
    assert!(page.text.contains("This link doesn’t work"));
    assert!(!page.header("x-request-id").is_empty());
}
