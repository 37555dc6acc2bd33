//! Tests of banks in credentials mode: passwords, codes, questions, devices.

use crate::{
    browser::{AWAY, Browser, Page},
    support::World,
};
use demo_bank::scenario::{QUESTIONS, TOTP_SECRET};
use px_core::Clock;
use px_server::credentials::TotpSecret;
use serde_json::json;

async fn sign_in(world: &World, browser: &mut Browser, username: &str, password: &str) -> Page {
    let token = world.link_token("budget-app").await;
    let page = browser.open(&world.link_page(&token)).await;
    let page = browser.submit(&page, "/begin", &[]).await;
    let page = browser.submit(&page, "/bank", &[("institution_id", "ins_oldtown")]).await;
    assert!(page.html.contains("Sign in at Old Town &lt;Credit&gt; Union"), "{}", page.html);
    browser.submit(&page, "/sign-in", &[("username", username), ("password", password)]).await
}

/// Selects the first account. Returns the number of accounts that the application sees.
async fn share(world: &World, browser: &mut Browser, page: &Page) -> usize {
    let none = browser.submit(page, "/accounts", &[]).await;
    assert!(none.html.contains("Select at least one account"), "{}", none.html);
    let first = none.values("account_id")[0].clone();
    let done = browser.submit(&none, "/accounts", &[("account_id", &first)]).await;
    assert!(done.html.contains("Budget App is connected"), "{}", done.html);
    let back = browser.submit(&done, "/finish", &[]).await;
    assert!(back.url.as_str().starts_with(AWAY));
    let body = json!({ "public_token": back.query("public_token").unwrap() });
    let response = world.ok("budget-app", "/item/public_token/exchange", body).await;
    let read = json!({ "access_token": response["access_token"] });
    let seen = world.until_ok("budget-app", "/accounts/get", read).await;
    seen["accounts"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_alone_is_enough_where_the_bank_asks_no_more() {
    let world = World::new().await;
    let mut browser = Browser::new();
    let page = sign_in(&world, &mut browser, "user_good", "wrong").await;
    assert!(page.html.contains("is not right") && !page.html.contains("wrong\""));
    let typed = [("username", "user_good"), ("password", "pass_good")];
    let page = browser.submit(&page, "/sign-in", &typed).await;
    assert_eq!(share(&world, &mut browser, &page).await, 1, "the selected account and no other");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_goes_where_the_user_wants_it() {
    let world = World::new().await;
    let mut browser = Browser::new();
    let page = sign_in(&world, &mut browser, "user_otp", "pass_good").await;
    assert!(page.html.contains("How do you want to get your code?"), "{}", page.html);
    let page = browser.submit(&page, "/delivery", &[("delivery_id", "email-1")]).await;
    assert!(page.html.contains("Enter your code") && page.html.contains("mail.example"));
    let page = browser.submit(&page, "/code", &[("code", "no")]).await;
    assert!(page.html.contains("That is not right"), "{}", page.html);
    let sent = world.sent.lock().unwrap().last().unwrap().clone();
    let code = sent.rsplit(' ').next().unwrap().to_owned();
    let page = browser.submit(&page, "/code", &[("code", &format!(" {code} "))]).await;
    assert!(page.html.contains("Select accounts"), "{}", page.html);
    assert_eq!(share(&world, &mut browser, &page).await, 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn security_questions_are_answered() {
    let world = World::new().await;
    let mut browser = Browser::new();
    let page = sign_in(&world, &mut browser, "user_kba", "pass_good").await;
    let wrong = browser.submit(&page, "/answers", &[("answer-0", "x"), ("answer-1", "y")]).await;
    assert!(wrong.html.contains("That is not right"), "{}", wrong.html);
    let answers: Vec<_> = QUESTIONS.iter().map(|(.., answer)| *answer).collect();
    let typed = [("answer-0", answers[0]), ("answer-1", answers[1])];
    let page = browser.submit(&wrong, "/answers", &typed).await;
    assert!(page.html.contains("Select accounts"), "{}", page.html);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_asked_and_wrong_codes_end() {
    let world = World::new().await;
    let mut browser = Browser::new();
    let mut page = sign_in(&world, &mut browser, "user_totp", "pass_good").await;
    assert!(page.html.contains("authenticator app"), "{}", page.html);
    let secret = TotpSecret::from_base32(TOTP_SECRET).unwrap();
    let code = secret.code(Clock::now(&*world.clock));
    let accounts = browser.submit(&page, "/code", &[("code", code.expose())]).await;
    assert!(accounts.html.contains("Select accounts"), "{}", accounts.html);

    page = sign_in(&world, &mut browser, "user_totp", "pass_good").await;
    for _ in 0..5 {
        page = browser.submit(&page, "/code", &[("code", "000000")]).await;
    }
    assert!(page.html.contains("Please sign in again"), "{}", page.html);
    let locked = sign_in(&world, &mut browser, "user_locked", "pass_good").await;
    assert!(locked.html.contains("is not right"), "{}", locked.html);
    world.stop().await;
}
