//! The whole tour in headless Chromium: two applications are linked at Plaid, the customer sees both at
//! the bank, ends one, and connects it again from the bank's own site. Takes the pictures of the README.

use crate::{axe, driver::Driver, screenshots};
use demo_bank::{
    ledger::fill::Filling,
    password::PASSWORD,
    town::{Addresses, Town},
};
use tokio::sync::oneshot;

const USER: &str = "user_good";
const ENTER: &str = "\u{e007}";

struct Tour<'t> {
    driver: &'t Driver,
    at: &'t Addresses,
    name: &'t str,
    axe: Option<&'t str>,
}

impl Tour<'_> {
    /// A picture, and what the checker finds.
    async fn look(&self, page: &str) {
        let file = screenshots().join(format!("tour-{}-{page}.png", self.name));
        self.driver.screenshot(&file).await;
        if let Some(axe) = self.axe {
            let found = self.driver.violations(axe).await;
            assert!(found.is_empty(), "{} {page}: {}", self.name, found.join("\n"));
        }
    }

    /// From an application's own page to its accounts, by way of Plaid and the bank.
    async fn link(&self, application: &str, path: &str, looked_at: bool) {
        let driver = self.driver;
        let look = async |page: &str| {
            if looked_at {
                self.look(page).await;
            }
        };
        driver.open(&format!("{}{path}", self.at.applications)).await;
        look("01-application").await;
        driver.click("form[action$='/connect'] button").await;
        driver.wait_for("form[action$='/begin'] button").await;
        assert!(driver.text("h1").await.contains(application));
        look("02-link").await;
        driver.click("form[action$='/begin'] button").await;
        driver.wait_for("button.bank").await;
        look("03-banks").await;
        driver.click("button.bank").await;
        driver.fill("[name=username]", USER).await;
        driver.fill("[name=password]", &format!("{PASSWORD}{ENTER}")).await;
        driver.wait_for("[name=account_id]").await;
        assert!(driver.text("main").await.contains(application));
        driver.click("li:nth-child(1) label").await;
        driver.click("li:nth-child(2) label").await;
        look("04-consent").await;
        driver.click("[name=decision][value=allow]").await;
        driver.wait_for("form[action$='/finish'] button").await;
        assert!(driver.text("h1").await.contains("is connected"));
        look("05-connected").await;
        driver.click("form[action$='/finish'] button").await;
        driver.wait_for("ul.accounts li").await;
        look("06-accounts").await;
    }
}

async fn walk(tour: &Tour<'_>) {
    let (driver, at) = (tour.driver, tour.at);
    tour.link("Budget App", "/", true).await;
    tour.link("Tax App", "/tax", false).await;

    // The bank's own site, behind its own login.
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
    assert_eq!(driver.count("article.app").await, 2);
    tour.look("09-connected-apps").await;

    driver.click("#change-budget-app").await;
    driver.wait_for("form button.primary").await;
    tour.look("10-change").await;
    driver.click("form button.primary").await;
    driver.wait_for(".done[role=status]").await;

    // One is ended: at once, and the other goes on.
    driver.open(&format!("{}/apps", at.bank)).await;
    driver.click("#end-tax-app").await;
    driver.wait_for("button.danger").await;
    tour.look("11-disconnect").await;
    driver.click("button.danger").await;
    driver.wait_for(".done[role=status]").await;
    driver.open(&format!("{}/apps", at.bank)).await;
    driver.wait_for("#change-budget-app").await;
    assert_eq!(driver.count("article.app").await, 1);
    driver.open(&format!("{}/tax", at.applications)).await;
    driver.wait_for("main").await;
    assert!(driver.text("main").await.contains("INVALID_ACCESS_TOKEN"));
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
}

#[tokio::test(flavor = "multi_thread")]
async fn two_applications_are_linked_seen_and_ended() {
    let Some(driver) = Driver::start().await else {
        assert!(std::env::var_os("CI").is_none(), "chromium and chromedriver are not installed");
        eprintln!("skipped: install chromium and chromedriver to run this test");
        return;
    };
    let axe = axe();
    for (size, name) in [((1280, 800), "desktop"), ((390, 844), "phone")] {
        let town = Town::open(None, |bank, _| {
            bank.filling = Some(Filling { seed: 1, users: 0 });
        });
        let town = town.await.unwrap();
        let addresses = town.addresses.clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(town.serve(async { drop(stopped.await) }));
        driver.forget_cookies().await;
        driver.resize(size).await;
        walk(&Tour { driver: &driver, at: &addresses, name, axe: axe.as_deref() }).await;
        stop.send(()).unwrap();
        serving.await.unwrap().unwrap();
    }
    driver.stop().await;
}
