//! Tests of the pages in headless Chromium, controlled by the WebDriver protocol. They take
//! screenshots.
//!
//! They need `chromium` and `chromedriver`. Without these they print a message and pass, but fail
//! if `CI` is set. axe-core, which `axe.sh` installs, checks every page.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests fail by panicking and say what they skip"
)]

#[path = "browser/driver.rs"]
mod driver;
#[path = "browser/tour.rs"]
mod tour;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use demo_bank::{Bank, BankConfig, ledger::fill::FillOptions};
use driver::Driver;
use px_types::{ClientId, ClientSecret};
use sha2::{Digest as _, Sha256};
use std::path::PathBuf;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

const APP: &str = "Juniper Budget";

/// A client's redirect URI, which stores the queries of the redirects.
struct Callback {
    uri: String,
    queries: tokio::sync::mpsc::UnboundedReceiver<String>,
}

impl Callback {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/back", listener.local_addr().unwrap());
        let (sender, queries) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buffer = vec![0; 8192];
                let count = stream.read(&mut buffer).await.unwrap_or(0);
                let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
                let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
                let body = "<!doctype html><title>Back at the app</title><h1>Back at the app</h1>";
                let response = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(response.as_bytes()).await;
                if let Some((_, query)) = path.split_once("/back?") {
                    let _ = sender.send(query.to_owned());
                }
            }
        });
        Self { uri, queries }
    }

    async fn query(&mut self) -> String {
        let timeout = std::time::Duration::from_secs(20);
        tokio::time::timeout(timeout, self.queries.recv()).await.expect("no redirect came").unwrap()
    }
}

async fn serve(callback: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let issuer = format!("http://{}", listener.local_addr().unwrap());
    let (id, secret) =
        (ClientId::new("plaid").unwrap(), ClientSecret::new("s3cret-of-plaid-at-the-bank"));
    let mut config = BankConfig::new(&issuer, id, secret, [callback.to_owned()]);
    config.fill_options = Some(FillOptions { seed: 1, users: 0, busy: false });
    let bank = Bank::open(config).await.unwrap();
    tokio::spawn(async move { px_server::hyper::serve(listener, bank.router()).await });
    issuer
}

fn authorize(issuer: &str, callback: &str) -> String {
    let challenge = Sha256::digest("a-verifier-of-at-least-forty-three-characters");
    let challenge = BASE64_URL_SAFE_NO_PAD.encode(challenge);
    let mut url = url::Url::parse(&format!("{issuer}/oauth2/auth")).unwrap();
    url.query_pairs_mut().extend_pairs([
        ("response_type", "code"),
        ("client_id", "plaid"),
        ("redirect_uri", callback),
        ("state", "st"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
        ("application_id", "app-1"),
        ("application_name", APP),
    ]);
    url.into()
}

/// Returns the script of axe-core. Returns `None` if it is not installed.
fn axe() -> Option<String> {
    let installed = "../axe/node_modules/axe-core/axe.min.js";
    let axe = std::fs::read_to_string(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(installed));
    if axe.is_err() {
        assert!(
            std::env::var_os("CI").is_none(),
            "axe-core is missing: `sh examples/tests/axe.sh`"
        );
        eprintln!("axe-core is missing (`sh examples/tests/axe.sh`): pages are not checked");
    }
    axe.ok()
}

/// Returns `target/screenshots`, in the current target folder.
fn screenshots() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("../screenshots");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

async fn run_through_pages(
    driver: &Driver,
    issuer: &str,
    callback: &mut Callback,
    size: (u32, u32),
    name: &str,
) {
    driver.resize(size).await;
    let axe = axe();
    let shot = async |page: &str| {
        let file = screenshots().join(format!("{name}-{page}.png"));
        driver.screenshot(&file).await;
        if let Some(axe) = &axe {
            let found = driver.violations(axe).await;
            assert!(found.is_empty(), "{name} {page}: {}", found.join("\n"));
        }
    };
    driver.open(&authorize(issuer, &callback.uri)).await;
    assert!(driver.text("main").await.contains(APP));
    assert_eq!(driver.active_name().await, "username");
    shot("1-sign-in").await;

    driver.fill("[name=username]", "user_good").await;
    driver.fill("[name=password]", "not this one\u{e007}").await;
    driver.wait_for("[role=alert]").await;
    assert!(driver.text("[role=alert]").await.contains("not right"));
    assert_eq!(driver.active_name().await, "password");
    shot("2-wrong-password").await;

    // With the keyboard only: the password has the focus, Enter submits the form.
    driver.fill("[name=password]", "pass_good\u{e007}").await;
    driver.wait_for("[name=account_id]").await;
    assert_eq!(driver.count("[name=account_id]").await, 9);
    shot("3-consent").await;

    driver.click("[name=decision][value=allow]").await;
    driver.wait_for("[role=alert]").await;
    assert!(driver.text("[role=alert]").await.contains("at least one account"));
    shot("4-none-picked").await;

    driver.click("li:nth-child(1) label").await;
    driver.fill("li:nth-child(3) [name=account_id]", " ").await;
    shot("5-picked").await;
    driver.click("[name=decision][value=allow]").await;
    let query = callback.query().await;
    assert!(
        query.contains("code=") && query.contains("state=st") && query.contains("iss="),
        "{query}"
    );

    // Starts again after the decision; no second code is issued.
    driver.open(&authorize(issuer, &callback.uri)).await;
    driver.fill("[name=username]", "user_locked").await;
    driver.fill("[name=password]", "pass_good\u{e007}").await;
    driver.wait_for("[role=alert]").await;
    shot("6-locked-looks-like-wrong").await;
    driver.fill("[name=username]", "").await;
    driver.clear("[name=username]").await;
    driver.fill("[name=username]", "user_good").await;
    driver.fill("[name=password]", "pass_good\u{e007}").await;
    driver.wait_for("[name=account_id]").await;
    driver.click("[name=decision][value=deny]").await;
    let query = callback.query().await;
    assert!(query.contains("error=access_denied"), "{query}");

    driver.open(&authorize(issuer, &callback.uri)).await;
    driver.fill("[name=username]", "user_otp").await;
    driver.fill("[name=password]", "pass_good\u{e007}").await;
    driver.wait_for("[name=delivery]").await;
    shot("8-where-to-send-a-code").await;
    driver.click("form button.primary").await;
    driver.wait_for("[name=code]").await;
    assert_eq!(driver.active_name().await, "code");
    driver.fill("[name=code]", "000000\u{e007}").await;
    driver.wait_for("[role=alert]").await;
    shot("9-wrong-code").await;

    let unknown = authorize(issuer, &callback.uri).replace("client_id=plaid", "client_id=someone");
    driver.open(&unknown).await;
    assert!(driver.text("h1").await.contains("doesn’t work"));
    shot("7-refused").await;
    assert!(driver.fits().await, "the page is wider than the window");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_signs_in_and_consents() {
    let Some(driver) = Driver::start().await else {
        assert!(std::env::var_os("CI").is_none(), "chromium and chromedriver are not installed");
        eprintln!("skipped: install chromium and chromedriver to run this test");
        return;
    };
    let mut callback = Callback::open().await;
    let issuer = serve(&callback.uri).await;
    for (size, name) in [((1280, 800), "desktop"), ((390, 844), "phone")] {
        run_through_pages(&driver, &issuer, &mut callback, size, name).await;
    }
    driver.stop().await;
}
