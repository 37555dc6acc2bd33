//! The complete tour in headless Chromium: two applications are linked at Plaid; the customer sees
//! both at the bank, the second without a reload, disconnects one by keyboard, and connects it
//! again from the bank's site. Then a bank in credentials mode. Takes the pictures of the README.

use crate::{axe, driver::Driver, screenshots};
use demo_bank::{
    ledger::fill::FillOptions,
    password::PASSWORD,
    scenario::{QUESTIONS, TOTP_SECRET},
    setup::{Addresses, DemoSetup},
};
use px_core::{Clock as _, SystemClock};
use px_server::credentials::TotpSecret;
use std::sync::{Arc, Mutex};
use tokio::sync::oneshot;

const USER: &str = "user_good";
const ENTER: &str = "\u{e007}";

struct Tour<'t> {
    driver: &'t Driver,
    at: &'t Addresses,
    /// The password of the applications' household.
    password: &'t str,
    /// The messages that the bank sent.
    sent: &'t Mutex<Vec<String>>,
    size: (u32, u32),
    name: &'t str,
    axe: Option<&'t str>,
}

impl Tour<'_> {
    /// Takes a picture of a page, and checks it with axe-core.
    async fn look(&self, page: &str) {
        let file = screenshots().join(format!("tour-{}-{page}.png", self.name));
        self.driver.screenshot(&file).await;
        if let Some(axe) = self.axe {
            let found = self.driver.violations(axe).await;
            assert!(found.is_empty(), "{} {page}: {}", self.name, found.join("\n"));
        }
    }

    /// Runs from an application's page to its accounts, through Plaid and the bank.
    async fn link(&self, application: &str, path: &str, with_pictures: bool) {
        let driver = self.driver;
        let look = async |page: &str| {
            if with_pictures {
                self.look(page).await;
            }
        };
        driver.open(&format!("{}{path}", self.at.applications)).await;
        if driver.count("form[action$='/enter']").await > 0 {
            look("00-household").await;
            driver.fill("[name=password]", &format!("{}{ENTER}", self.password)).await;
            driver.wait_for("form[action$='/connect'] button").await;
        }
        look("01-application").await;
        driver.click("form[action$='/connect'] button").await;
        driver.wait_for("form[action$='/begin'] button").await;
        assert!(driver.text("h1").await.contains(application));
        look("02-link").await;
        driver.click("form[action$='/begin'] button").await;
        driver.wait_for("button.bank").await;
        look("03-banks").await;
        driver.click("button.bank[value=ins_larkfield]").await;
        driver.fill("[name=username]", USER).await;
        driver.fill("[name=password]", &format!("{PASSWORD}{ENTER}")).await;
        driver.wait_for("[name=account_id]").await;
        assert!(driver.text("main").await.contains(application));
        driver.click("li:nth-child(1) label").await;
        driver.click("li:nth-child(2) label").await;
        // An account with holdings, which the bank's pages must mention.
        driver.click("li:nth-child(7) label").await;
        look("04-consent").await;
        driver.click("[name=decision][value=allow]").await;
        driver.wait_for("form[action$='/finish'] button").await;
        assert!(driver.text("h1").await.contains("is connected"));
        look("05-connected").await;
        driver.click("form[action$='/finish'] button").await;
        driver.wait_for("ul.accounts li").await;
        look("06-accounts").await;
        let shown = driver.text("main").await;
        assert!(shown.contains("Larkfield Bank"), "{shown}");
    }

    /// Signs in on Plaid's page at the bank in credentials mode, up to the bank's challenge.
    async fn sign_in_here(&self, username: &str, page: &str) {
        let driver = self.driver;
        driver.open(&format!("{}/", self.at.applications)).await;
        driver.click("form[action$='/connect'] button").await;
        driver.click("form[action$='/begin'] button").await;
        driver.click("button.bank[value=ins_larkfield_direct]").await;
        driver.fill("[name=username]", username).await;
        self.look(page).await;
        driver.fill("[name=password]", &format!("{PASSWORD}{ENTER}")).await;
    }

    /// Goes through each kind of challenge: a code, questions, a device.
    async fn second_factors(&self) {
        let driver = self.driver;
        self.sign_in_here("user_otp", "17-sign-in-here").await;
        driver.wait_for("[name=delivery_id]").await;
        self.look("18-where-to-send-a-code").await;
        driver.click("form[action$='/delivery'] button").await;
        driver.fill("[name=code]", &format!("000000{ENTER}")).await;
        driver.wait_for("[role=alert]").await;
        assert_eq!(driver.active_name().await, "code");
        self.look("19-wrong-code").await;
        let sent = self.sent.lock().unwrap().last().unwrap().clone();
        let code = sent.rsplit(' ').next().unwrap();
        driver.fill("[name=code]", &format!("{code}{ENTER}")).await;
        driver.wait_for("form[action$='/accounts']").await;
        driver.click("label.account").await;
        self.look("20-accounts-here").await;
        driver.click("form[action$='/accounts'] button").await;
        driver.click("form[action$='/finish'] button").await;
        driver.wait_for("section.card:nth-of-type(3) ul.accounts li").await;
        assert!(driver.text("main").await.contains("Larkfield Direct"));

        self.sign_in_here("user_kba", "21-sign-in-here").await;
        driver.wait_for("form[action$='/answers']").await;
        self.look("22-questions").await;
        driver.fill("[name=answer-0]", QUESTIONS[0].3).await;
        driver.click(&format!("[name=answer-1][value='{}']", QUESTIONS[1].3)).await;
        driver.click("form[action$='/answers'] button").await;
        driver.wait_for("form[action$='/accounts']").await;

        self.sign_in_here("user_totp", "23-sign-in-here").await;
        driver.wait_for("[name=code]").await;
        self.look("24-code-of-a-device").await;
        let code = TotpSecret::from_base32(TOTP_SECRET).unwrap().code(SystemClock::new().now());
        driver.fill("[name=code]", &format!("{}{ENTER}", code.expose())).await;
        driver.wait_for("form[action$='/accounts']").await;
    }
}

impl Tour<'_> {
    /// Runs from the bank's site to the consent at Plaid, for a customer who shares nothing yet.
    async fn share_from_the_bank(&self) {
        let driver = self.driver;
        driver.forget_cookies().await;
        driver.open(&format!("{}/apps", self.at.bank)).await;
        driver.fill("[name=username]", "user_kba").await;
        driver.fill("[name=password]", &format!("{PASSWORD}{ENTER}")).await;
        driver.wait_for("[name=answer-0]").await;
        self.look("25-questions-at-the-bank").await;

        // A customer who shares nothing yet.
        driver.forget_cookies().await;
        driver.open(&format!("{}/apps", self.at.bank)).await;
        driver.fill("[name=username]", "user_empty").await;
        driver.fill("[name=password]", &format!("{PASSWORD}{ENTER}")).await;
        driver.wait_for("form[action='/apps/connect'] button").await;
        driver.click("form[action='/apps/connect'] button").await;
        driver.wait_for("[name=account_id]").await;
        self.look("26-share").await;
        driver.click("[name=decision][value=allow]").await;
        driver.wait_for("[role=alert]").await;
        self.look("27-nothing-picked").await;
        driver.click("li:nth-child(1) label").await;
        driver.click("[name=decision][value=allow]").await;
        driver.wait_for("form[action$='/consent'] [value=allow]").await;
    }
}

async fn run_tour(tour: &Tour<'_>) {
    let (driver, at) = (tour.driver, tour.at);
    tour.link("Budget App", "/", true).await;

    // The bank's site, behind its login.
    driver.open(&format!("{}/apps", at.bank)).await;
    driver.wait_for("[name=username]").await;
    tour.look("07-bank-sign-in").await;
    driver.fill("[name=username]", USER).await;
    driver.fill("[name=password]", &format!("{PASSWORD}{ENTER}")).await;
    driver.wait_for("nav.tabs").await;
    driver.open(&format!("{}/home", at.bank)).await;
    tour.look("08-bank-home").await;
    driver.open(&format!("{}/apps", at.bank)).await;
    driver.wait_for("#change-budget-app").await;
    assert_eq!(driver.count("article.app").await, 1);

    // The page stays open while another application is linked in another tab. It shows the
    // application by itself, without a change of its visibility and without a reload.
    let bank = driver.window().await;
    driver
        .script(
            "window.notReloaded = true; addEventListener('visibilitychange', \
             event => event.stopImmediatePropagation(), true)",
        )
        .await;
    driver.new_tab().await;
    driver.resize(tour.size).await;
    tour.link("Tax App", "/tax", false).await;
    driver.close_tab(&bank).await;
    driver.wait_for("#change-tax-app").await;
    assert_eq!(driver.script("return window.notReloaded === true").await, true);
    assert_eq!(driver.count("article.app").await, 2);
    let announced = driver.script("return document.getElementById('said').textContent").await;
    assert_eq!(announced, "Tax App was connected to your accounts");
    driver.follow("#read").await;
    driver.wait_for("#change-tax-app").await;
    assert!(driver.text("article.app").await.contains("if it asks: investments"));
    tour.look("09-connected-apps").await;

    driver.follow("#change-budget-app").await;
    driver.wait_for("form button.primary").await;
    tour.look("10-change").await;
    driver.click("form button.primary").await;
    driver.wait_for(".done[role=status]").await;

    // One application is disconnected with the keyboard only. It loses access at once, and the
    // other keeps it.
    driver.open(&format!("{}/apps", at.bank)).await;
    driver.tab_to("#end-tax-app").await;
    driver.press('\u{e007}').await;
    driver.wait_for("button.danger").await;
    tour.look("11-disconnect").await;
    driver.tab_to("button.danger").await;
    driver.press('\u{e007}').await;
    driver.wait_for(".done[role=status]").await;
    driver.open(&format!("{}/apps", at.bank)).await;
    driver.wait_for("#change-budget-app").await;
    assert_eq!(driver.count("article.app").await, 1);
    driver.open(&format!("{}/tax", at.applications)).await;
    driver.wait_for("main").await;
    assert!(driver.text("main").await.contains("This connection has ended"));
    tour.look("12-refused").await;
    driver.open(&format!("{}/", at.applications)).await;
    driver.wait_for("ul.accounts li").await;

    // From the bank's site, without signing in again at Plaid.
    driver.open(&format!("{}/apps", at.bank)).await;
    driver.click("form[action='/apps/connect'] button").await;
    driver.wait_for("form[action$='/consent'] [value=allow]").await;
    assert!(driver.text("h1").await.contains("Tax App"));
    tour.look("13-connect-from-the-bank").await;
    driver.click("form[action$='/consent'] [value=allow]").await;
    driver.wait_for("form[action$='/finish'] button").await;
    driver.click("form[action$='/finish'] button").await;
    driver.wait_for("#change-tax-app").await;
    assert_eq!(driver.count("article.app").await, 2);
    tour.look("14-again").await;

    driver.open(&format!("{}/apps/activity", at.bank)).await;
    driver.wait_for("ol.log li").await;
    assert!(driver.text("ol.log").await.contains("You disconnected Tax App"));
    tour.look("15-activity").await;
    driver.open(&format!("{}/messages", at.bank)).await;
    driver.wait_for("main").await;
    assert!(driver.text("main").await.contains("Tax App"));
    tour.look("16-messages").await;

    tour.second_factors().await;
    tour.share_from_the_bank().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_applications_are_linked_seen_and_ended() {
    let Some(driver) = Driver::start().await else {
        assert!(std::env::var_os("CI").is_none(), "chromium and chromedriver are not installed");
        eprintln!("skipped: install chromium and chromedriver to run this test");
        return;
    };
    // What a program logs explains a page that a failing test shows.
    tracing_subscriber::fmt().with_test_writer().with_max_level(tracing::Level::WARN).init();
    let axe = axe();
    for (size, name) in [((1280, 800), "desktop"), ((390, 844), "phone")] {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let setup = DemoSetup::open(None, |bank, _| {
            bank.fill_options = Some(FillOptions { seed: 1, users: 0, busy: false });
            let lines = sent.clone();
            bank.outbox = Arc::new(move |line| lines.lock().unwrap().push(line.to_owned()));
        });
        let setup = setup.await.unwrap();
        let (addresses, password) =
            (setup.addresses.clone(), setup.plaid.app_password().to_owned());
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(setup.serve(async { drop(stopped.await) }));
        driver.forget_cookies().await;
        driver.resize(size).await;
        let axe = axe.as_deref();
        let tour = Tour {
            driver: &driver,
            at: &addresses,
            password: &password,
            sent: &sent,
            size,
            name,
            axe,
        };
        run_tour(&tour).await;
        stop.send(()).unwrap();
        serving.await.unwrap().unwrap();
    }
    driver.stop().await;
}
