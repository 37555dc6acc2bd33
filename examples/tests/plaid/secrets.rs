//! Test that the two programs never write a secret, whatever they process and log.
//!
//! Bank and Plaid run as programs with all logs on, each behind a [`Wire`]. Users link, consent and
//! disconnect; applications exchange and read; the bank sends notifications; and many requests
//! fail. Then every secret in a request or response is searched for in everything that the programs
//! wrote.
//!
//! `programs` starts and stops them.

use crate::{
    browser::{AWAY, Browser, Page},
    programs::{Programs, WRONG_SECRET, secret_of},
    support::link_request,
    wire::Call,
};
use http::header;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const PASSWORD: &str = "pass_good";
const WRONG_PASSWORD: &str = "pass_wrong_4d8e";
const WRONG_CODE: &str = "271828";
const WEBHOOK_KEY: &str = "key-0e4b-of-the-application";

/// The kinds of secrets that must have been sent, so that the test covers enough.
const KINDS: [&str; 19] = [
    "access_token",
    "account_number",
    "auth_token",
    "authorization",
    "client_secret",
    "code",
    "code_verifier",
    "cookie",
    "csrf",
    "link_token",
    "password",
    "plaid-secret",
    "plaid-verification",
    "public_token",
    "refresh_token",
    "state",
    "target_application_token",
    "token",
    "username",
];

#[tokio::test(flavor = "multi_thread")]
async fn neither_program_says_a_secret_of_what_goes_through_it() {
    let programs = Programs::start().await;
    let budget = links_on_the_banks_pages(&programs).await;
    let tax = links_without_a_page_to_return_to(&programs).await;
    let mut codes = links_with_a_password_and_a_code(&programs).await;
    codes.push(connects_from_the_banks_site(&programs).await);
    the_bank_tells_what_is_new(&programs).await;
    tokens_are_cycled(&programs).await;
    much_goes_wrong(&programs, &budget).await;
    all_are_unlinked(&programs, &[("budget-app", &budget), ("tax-app", &tax)]).await;

    let secrets = programs.secrets.all();
    let kinds: BTreeSet<_> = secrets.iter().map(|(what, _)| what.as_str()).collect();
    for kind in KINDS {
        assert!(kinds.contains(kind), "no {kind} was sent: {kinds:?}");
    }
    for secret in [PASSWORD, WRONG_PASSWORD, WRONG_CODE, WRONG_SECRET]
        .into_iter()
        .chain(codes.iter().map(String::as_str))
    {
        assert!(secrets.iter().any(|(_, known)| known == secret), "{secret} was not sent");
    }
    let output = programs.stop().await;
    for (text, lines) in [
        (
            &output.plaid_log,
            [
                "DEBUG",
                "px.call",
                "linked",
                "a public token was exchanged",
                "notified",
                "delivered",
                "unlinked",
                "refused",
                "a sign-in failed at the bank",
            ]
            .as_slice(),
        ),
        (
            &output.bank_log,
            &[
                "DEBUG",
                "px.call",
                "responded",
                "a token was refused",
                "a revoked access token was used",
                "a spent code or refresh token was used again: the grant is revoked",
            ],
        ),
        (&output.bank, &["sent to user_otp: ", "Listening on ", "Stopped."]),
        (&output.metrics, &["http_server_request_duration"]),
    ] {
        for line in lines {
            assert!(text.contains(line), "{line} is not there, so the log was not on");
        }
    }
    // On its standard output the demo bank shows how to sign in, and "sends" codes there.
    let printed: BTreeSet<&str> = ["user_good", "user_otp", "user_down", PASSWORD]
        .into_iter()
        .chain(codes.iter().map(String::as_str))
        .collect();
    let is_printed = |secret: &str| printed.contains(secret);
    let none = |_: &str| false;
    let mut leaks = Vec::new();
    for (name, text, is_allowed) in [
        ("demo-bank's log", &output.bank_log, &none as &dyn Fn(&str) -> bool),
        ("demo-bank's output", &output.bank, &is_printed),
        ("demo-plaid's log", &output.plaid_log, &none),
        ("demo-plaid's output", &output.plaid, &none),
        ("demo-plaid's metrics", &output.metrics, &none),
    ] {
        for (what, secret) in secrets.iter().filter(|(_, secret)| !is_allowed(secret)) {
            if let Some(line) = line_with(text, secret) {
                leaks.push(format!("{name} has a {what}: {line}"));
            }
        }
    }
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
}

/// Returns the first line that contains a secret, plain or URL-encoded. Times are ignored, and
/// digits count only if no further digits are beside them, because six digits occur by chance in
/// longer numbers.
fn line_with<'a>(text: &'a str, secret: &str) -> Option<&'a str> {
    let encoded: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let digits = secret.bytes().all(|byte| byte.is_ascii_digit());
    let beside = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '.');
    text.lines().find(|line| {
        let text = line.split_once("Z ").map_or(*line, |(_, rest)| rest);
        (encoded != secret && text.contains(&encoded))
            || text.match_indices(secret).any(|(at, _)| {
                let (before, after) = (&text[..at], &text[at + secret.len()..]);
                !digits || !(beside(before.chars().next_back()) || beside(after.chars().next()))
            })
    })
}

#[test]
fn a_secret_is_found_in_a_log_and_a_number_that_happens_to_have_its_digits_is_not() {
    assert!(line_with("2026-03-11T09:00:00.271828Z TRACE x: took=271828ns", "271828").is_none());
    assert!(line_with("2026-03-11T09:00:00Z DEBUG x: id=f271828e 1.271828s", "271828").is_none());
    for line in ["sent 271828", "code=\"271828\"", "271828", "Z Z 271828,"] {
        assert_eq!(line_with(&format!("x\n{line}\n"), "271828"), Some(line));
    }
    assert!(line_with("get /link?token=a%2Fb+c", "a/b c").is_some());
    assert!(line_with("access-sandbox-1 is in xaccess-sandbox-1x", "access-sandbox-1x").is_some());
}

/// Opens the first page of Link at a bank, for an application with or without a redirect URI.
async fn link(
    programs: &Programs,
    browser: &mut Browser,
    (app, back): (&str, bool),
    bank: &str,
) -> Page {
    let mut body = link_request(json!({ "products": ["transactions", "auth", "identity"] }));
    if back {
        body["redirect_uri"] = json!(format!("{AWAY}{app}"));
    }
    let made = programs.ok(app, "/link/token/create", &body).await;
    let page = programs.link_page(made["link_token"].as_str().unwrap());
    let page = browser.open(&page).await;
    let page = browser.submit(&page, "/begin", &[]).await;
    browser.submit(&page, "/bank", &[("institution_id", bank)]).await
}

async fn consent(browser: &mut Browser, page: &Page) -> Page {
    let accounts = page.values("account_id");
    let mut typed: Vec<_> = accounts.iter().map(|id| ("account_id", id.as_str())).collect();
    typed.push(("decision", "allow"));
    browser.submit(page, "/consent", &typed).await
}

async fn exchange(programs: &Programs, app: &str, public_token: &str) -> String {
    let body = json!({ "public_token": public_token });
    let response = programs.ok(app, "/item/public_token/exchange", &body).await;
    response["access_token"].as_str().unwrap().to_owned()
}

/// Signs in at the bank, after a wrong password. The application reads all data.
async fn links_on_the_banks_pages(programs: &Programs) -> String {
    let mut browser = Browser::new();
    let page = link(programs, &mut browser, ("budget-app", true), "ins_pages").await;
    let mut typed = [("username", "user_good"), ("password", WRONG_PASSWORD)];
    let page = browser.submit(&page, "/sign-in", &typed).await;
    typed[1].1 = PASSWORD;
    let page = browser.submit(&page, "/sign-in", &typed).await;
    let page = consent(&mut browser, &page).await;
    let away = browser.submit(&page, "/finish", &[]).await;
    let access = exchange(programs, "budget-app", &away.query("public_token").unwrap()).await;
    let read = json!({ "access_token": access });
    let seen = programs.read("budget-app", "/auth/get", &read).await;
    assert!(seen["accounts"][0]["transfer_codes"][0]["account_number"].is_string());
    programs.read("budget-app", "/identity/get", &read).await;
    programs.read("budget-app", "/transactions/sync", &read).await;
    programs.secrets.record("webhook's key", WEBHOOK_KEY);
    let to = programs.webhook(&format!("?key={WEBHOOK_KEY}"));
    let to = json!({ "access_token": access, "webhook": to });
    programs.ok("budget-app", "/item/webhook/update", &to).await;
    access
}

async fn links_without_a_page_to_return_to(programs: &Programs) -> String {
    let mut browser = Browser::new();
    let page = link(programs, &mut browser, ("tax-app", false), "ins_pages").await;
    let typed = [("username", "user_good"), ("password", PASSWORD)];
    let page = browser.submit(&page, "/sign-in", &typed).await;
    consent(&mut browser, &page).await;
    exchange(programs, "tax-app", &programs.public_token_by_webhook("tax-app").await).await
}

/// Signs in on Link's page, with a code. Returns the code.
async fn links_with_a_password_and_a_code(programs: &Programs) -> Vec<String> {
    let mut browser = Browser::new();
    let page = link(programs, &mut browser, ("tax-app", true), "ins_here").await;
    let mut typed = [("username", "user_otp"), ("password", WRONG_PASSWORD)];
    let page = browser.submit(&page, "/sign-in", &typed).await;
    typed[1].1 = PASSWORD;
    let page = browser.submit(&page, "/sign-in", &typed).await;
    let page = browser.submit(&page, "/delivery", &[("delivery_id", "email-1")]).await;
    let page = browser.submit(&page, "/code", &[("code", WRONG_CODE)]).await;
    let code = programs.code_sent(0).await;
    let page = browser.submit(&page, "/code", &[("code", &code)]).await;
    let all = page.values("account_id");
    let page = browser.submit(&page, "/accounts", &[("account_id", &all[0])]).await;
    let away = browser.submit(&page, "/finish", &[]).await;
    let access = exchange(programs, "tax-app", &away.query("public_token").unwrap()).await;
    programs.read("tax-app", "/accounts/get", &json!({ "access_token": access })).await;
    programs.ok("tax-app", "/item/remove", &json!({ "access_token": access })).await;
    // This was the last application, so the bank ends the authorization.
    let unlinked = |call: &Call| {
        let text = String::from_utf8_lossy(&call.sent);
        call.path == "/applications/notify" && call.status == 200 && text.contains("UNLINKED")
    };
    programs.to_bank.call("an unlink", unlinked).await;
    vec![code]
}

/// A customer signs in at the bank's site and connects an application there. Returns the code of
/// the sign-in.
async fn connects_from_the_banks_site(programs: &Programs) -> String {
    let mut browser = Browser::new();
    let page = browser.open(&format!("{}/login", programs.to_bank.url)).await;
    let typed = [("username", "user_otp"), ("password", PASSWORD)];
    let page = browser.submit(&page, "/login", &typed).await;
    let page = browser.submit(&page, "/login/code", &[("delivery", "sms-1")]).await;
    let code = programs.code_sent(1).await;
    browser.submit(&page, "/login/answer", &[("code", &code)]).await;
    let page = browser.open(&format!("{}/apps", programs.to_bank.url)).await;
    let page = browser.submit(&page, "/apps/connect", &[]).await;
    let accounts = page.values("account_id");
    let mut typed: Vec<_> = accounts.iter().map(|id| ("account_id", id.as_str())).collect();
    typed.push(("decision", "allow"));
    let mut page = browser.submit(&page, "/apps/connect", &typed).await;
    while page.html.contains("Getting your accounts") {
        page = browser.open(page.url.as_str()).await;
    }
    let page = consent(&mut browser, &page).await;
    let page = browser.submit(&page, "/finish", &[]).await;
    assert!(page.url.as_str().starts_with(&programs.to_bank.url), "{}", page.url);
    let token = programs.public_token_by_webhook("budget-app").await;
    let access = exchange(programs, "budget-app", &token).await;
    programs.read("budget-app", "/transactions/sync", &json!({ "access_token": access })).await;
    code
}

/// Another process advances the bank's clock, and the serving process notifies Plaid.
async fn the_bank_tells_what_is_new(programs: &Programs) {
    programs.advance("3d").await;
    let notified = |call: &Call| call.path == "/items/transactions/notify" && call.status == 200;
    programs.to_plaid.call("a notification", notified).await;
}

/// The bank has Plaid replace its tokens of the Item that has a refresh token.
async fn tokens_are_cycled(programs: &Programs) {
    let signed_in = programs
        .at_bank("/users/auth_token", &json!({ "username": "user_good", "password": PASSWORD }))
        .await;
    let body = json!({ "products": ["transactions"], "user_auth": {
        "user_id": signed_in["user_id"], "auth_token": signed_in["auth_token"] } });
    let imported = programs.ok("the-bank", "/item/import", &body).await;
    let entry = json!({ "access_token": imported["access_token"], "action": "cycle" });
    let body = json!({ "notifications": [entry] });
    programs.ok("the-bank", "/items/tokens/notify", &body).await;
    let refreshed = |form: Option<String>| form.as_deref() == Some("refresh_token");
    programs
        .to_bank
        .call("a refresh", |call| refreshed(call.form("grant_type")) && call.status == 200)
        .await;
}

async fn much_goes_wrong(programs: &Programs, access: &str) {
    let known = secret_of("budget-app");
    for (secret, path, body) in [
        (WRONG_SECRET, "/item/get", json!({ "access_token": access })),
        (&known, "/accounts/get", json!({ "access_token": "access-sandbox-never-1b7d" })),
        (&known, "/item/get", json!({ "access_token": [access] })),
        (
            &known,
            "/item/public_token/exchange",
            json!({ "public_token": "public-sandbox-never-1b7d" }),
        ),
        (&known, "/item/import", json!({ "user_auth": { "auth_token": access } })),
        (&known, "/link/token/create", json!({ "access_token": access, "user": access })),
    ] {
        let (status, _) = programs.post("budget-app", secret, path, &body.to_string()).await;
        assert!((400..500).contains(&status), "{path}: {status}");
    }
    let (status, _) = programs
        .post("budget-app", &known, "/item/get", &format!("{{\"access_token\": \"{access}\""))
        .await;
    assert_eq!(status, 400, "half a body");
    // Unknown tokens, and a callback without a visit.
    for path in
        ["/link?token=link-sandbox-never-1b7d", "/link/oauth?code=never-1b7d&state=never-1b7d"]
    {
        Browser::new().open(&format!("{}{path}", programs.to_plaid.url)).await;
    }
    // A sign-in at a bank that fails afterwards.
    let mut browser = Browser::new();
    let page = link(programs, &mut browser, ("tax-app", true), "ins_pages").await;
    let typed = [("username", "user_down"), ("password", PASSWORD)];
    let page = browser.submit(&page, "/sign-in", &typed).await;
    let page = consent(&mut browser, &page).await;
    assert!(page.url.as_str().starts_with(&programs.to_plaid.url), "{}", page.url);
    // The code of that sign-in is used again.
    let is_exchange = |call: &Call| call.form("code").is_some() && call.status == 200;
    let exchange = programs.to_bank.last(is_exchange);
    let mut request = programs.http.post(format!("{}/oauth2/token", programs.to_bank.url));
    for name in [header::AUTHORIZATION, header::CONTENT_TYPE] {
        request = request.header(&name, &exchange.headers[&name]);
    }
    let response = request.body(exchange.sent).send().await.unwrap();
    assert_eq!(response.status(), 400);
}

/// All applications disconnect. Then a revoked token is used.
async fn all_are_unlinked(programs: &Programs, apps: &[(&str, &String)]) {
    for (app, access) in apps {
        programs.ok(app, "/item/remove", &json!({ "access_token": access })).await;
    }
    let revoked = |call: &Call| call.path == "/oauth2/revoke" && call.form("token").is_some();
    programs.to_bank.call("a revocation", |call| revoked(call) && call.status == 200).await;

    // The first authorization ends; its token is used anyway.
    let exchanged = |call: &Call| call.form("code").is_some() && call.status == 200;
    let exchanged = programs.to_bank.call("an exchange", exchanged).await;
    let tokens: Value = serde_json::from_slice(&exchanged.got).unwrap();
    let token = tokens["access_token"].as_str().unwrap();
    programs.until_dead(token).await;
}
