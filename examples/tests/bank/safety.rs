//! Tests of revoked tokens, the files of the ledger, transport security, and reading without
//! consent.

use crate::{
    site::{self, eventually, shares, signed_in, user_id},
    support::{LedgerFile, World, accounts_of, authorize},
};
use chrono::TimeDelta;
use demo_bank::ledger::Database;
use px_types::UserId;

#[tokio::test]
async fn a_revoked_token_is_honoured_by_no_process() {
    let ledger_file = LedgerFile::copy().await;
    let one = World::with(|config| config.database = ledger_file.database.clone()).await;
    let other = World::with(|config| config.database = ledger_file.database.clone()).await;
    let tokens = one.tokens("user_good").await;
    let token = tokens["access_token"].as_str().unwrap();
    for bank in [&one, &other] {
        assert_eq!(bank.get("/customers/current", token).await.status, 200);
    }
    assert_eq!(one.post("/oauth2/revoke", &format!("token={token}")).await.status, 200);
    for (name, bank) in [("the same", &one), ("another", &other)] {
        let status = bank.get("/customers/current", token).await.status;
        assert_eq!(status, 401, "{name} process honours a revoked token");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn the_books_are_their_owners_alone_and_hold_no_token() {
    use std::os::unix::fs::PermissionsExt as _;
    let (world, plaid) = site::world().await;
    let user = shares(&world, &plaid, "user_good", &[("budget-app", "Budget App")]).await;
    let mut browser = signed_in(&world, "user_good").await;
    browser.open("/apps").await;
    // Pending notifications are in the ledger, too.
    plaid.state().down = true;
    world.bank.advance(30).await.unwrap();
    let at_plaid = format!("access-s3cret-{user}");
    assert!(plaid.state().items.contains_key(&at_plaid));
    let given = world.tokens("user_empty").await;
    let token = |name: &str| given[name].as_str().unwrap().to_owned();
    let tokens = [at_plaid, token("access_token"), token("refresh_token")];
    let Database::File(file) = &world._ledger_file.as_ref().unwrap().database else {
        panic!("no file")
    };
    let folder = file.parent().unwrap();
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{} can be read by others: {mode:o}", path.display());
        let bytes = std::fs::read(&path).unwrap();
        let found =
            |token: &String| bytes.windows(token.len()).any(|part| part == token.as_bytes());
        assert!(!tokens.iter().any(found), "{} holds a token in plain text", path.display());
        files += 1;
    }
    assert!(files >= 2, "the database and its log");
}

#[tokio::test]
async fn over_tls_every_page_says_that_there_is_no_other_way() {
    let world = World::with(|config| config.issuer = "https://bank.example".into()).await;
    for path in
        ["/login", "/home", &*authorize(""), "/style.css", "/site.css", "/customers/current"]
    {
        let page = world.get(path, "").await;
        let value = page.header("strict-transport-security");
        assert!(value.starts_with("max-age=31536000"), "{path}: {value:?}");
    }
    let plain = World::new().await;
    assert_eq!(plain.get("/login", "").await.header("strict-transport-security"), "");
}

/// Returns the number of a user's consents to Plaid, on any page.
async fn consents(world: &World, user: &UserId) -> usize {
    world.bank.oauth().consents(&"plaid".parse().unwrap(), user).await.unwrap().len()
}

/// The user presses Connect, reads the page, and leaves.
#[tokio::test]
async fn connecting_shows_nothing_before_the_customer_consents() {
    let (world, plaid) = site::world().await;
    let user = user_id(&world, "user_good").await;
    let mut browser = signed_in(&world, "user_good").await;
    let page = browser.open("/apps").await;
    let page = browser.post(&page, "/apps/connect", &[("offer", "0")]).await;
    assert_eq!(plaid.state().imported_with.len(), 0, "Plaid reads before the customer consents");
    assert_eq!(consents(&world, &user).await, 0);
    let accounts = accounts_of(&page);
    assert_eq!(accounts.len(), 9, "{}", page.text);
    let none = browser.post(&page, "/apps/connect", &[("offer", "0"), ("decision", "allow")]).await;
    assert!(none.text.contains("at least one account"), "{}", none.text);
    let to = browser.post(&page, "/apps/connect", &[("offer", "0"), ("decision", "deny")]).await;
    assert_eq!(to.header("location"), "/apps");
    assert_eq!(plaid.state().imported_with.len(), 0);
    // Only the selected accounts are shared.
    let picked = [
        ("offer", "0"),
        ("decision", "allow"),
        ("account_id", &*accounts[0]),
        ("account_id", "acc-of-someone-else"),
    ];
    let to = browser.post(&page, "/apps/connect", &picked).await;
    assert!(to.header("location").contains("/link?token="), "{} {}", to.status, to.text);
    let token = plaid.state().imported_with[0].clone();
    let seen = world.get(&format!("/users/{user}"), &token).await.json();
    let seen: Vec<_> = seen["accounts"].as_array().unwrap().iter().collect();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0]["id"], *accounts[0]);
}

/// The user consents, and then closes the window at Plaid.
#[tokio::test]
async fn what_comes_to_nothing_is_revoked_when_the_link_token_ends() {
    let (world, plaid) = site::world().await;
    let user = user_id(&world, "user_good").await;
    let mut browser = signed_in(&world, "user_good").await;
    crate::site::connects(&mut browser, "0").await;
    let token = plaid.state().imported_with[0].clone();
    assert_eq!(world.get("/customers/current", &token).await.status, 200);
    world.clock.advance(TimeDelta::minutes(31));
    eventually("the token is revoked", async || {
        world.get("/customers/current", &token).await.status == 401
    })
    .await;
    eventually("the Item is removed", async || plaid.state().items.is_empty()).await;
    assert_eq!(consents(&world, &user).await, 0);
    // If an application is connected in time, everything stays.
    let mut browser = signed_in(&world, "user_good").await;
    crate::site::connects(&mut browser, "0").await;
    let token = plaid.state().imported_with.last().unwrap().clone();
    plaid.link(&user, crate::fake_plaid::app("tax-app", "Tax App", &world.clock));
    world.clock.advance(TimeDelta::minutes(31));
    for _ in 0..5 {
        demo_bank::clock::pause(std::time::Duration::from_millis(300)).await;
        assert_eq!(world.get("/customers/current", &token).await.status, 200);
    }
}
