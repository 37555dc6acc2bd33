//! Every read with every token that may not read, and every response with all data that it must not
//! show.

use super::world::{ALL, World, account_id, bank, date, foreign, row, user};
use px_client::Window;
use px_items::{
    items::{Items, ItemsError, ItemsErrorKind, TransactionsRequest},
    store::MemoryStore,
    tickets::LINK_TOKEN_LIFETIME,
};
use px_types::{ItemAccessToken, UserId, webhook::Environment};
use std::sync::Arc;

/// Makes every read. Returns its name and its whole response.
async fn every_read(
    items: &Items,
    token: &ItemAccessToken,
) -> Vec<(&'static str, Result<String, ItemsError>)> {
    let window = Window::new(date("2020-01-01"), date("2030-01-01")).unwrap();
    let request = TransactionsRequest::new(window);
    vec![
        ("accounts", items.accounts(token).await.map(debug_text)),
        ("balances", items.balances(token).await.map(debug_text)),
        ("identities", items.identities(token).await.map(debug_text)),
        ("holdings", items.holdings(token).await.map(debug_text)),
        ("transactions", items.transactions(token, &request).await.map(debug_text)),
        ("transactions_sync", items.transactions_sync(token, None, None).await.map(debug_text)),
        ("status", items.status(token).await.map(debug_text)),
    ]
}

fn debug_text(response: impl std::fmt::Debug) -> String {
    format!("{response:?}")
}

#[tokio::test]
async fn no_way_to_read_takes_a_token_that_may_not() {
    let (world, linked) = World::complete().await;
    let items = &world.items;
    world.add(&linked.item_id, [row("t1", "account-checking", "2026-02-01", "1.00")]).await;

    let unlinked = world.link("unlinked", ALL).await.access_token;
    items.unlink(&unlinked).await.unwrap();
    let replaced = world.link("linked-twice", ALL).await.access_token;
    world.link("linked-twice", ALL).await;
    let rotated = world.link("rotated", ALL).await.access_token;
    items.rotate_access(&rotated).await.unwrap();
    let gone = world.connect_user("user-2", world.connection("first", ALL)).await.access_token;
    items.unlink(&gone).await.unwrap();
    let mut other_environment = linked.access_token.expose().to_owned();
    other_environment = other_environment.replace("sandbox", "production");
    let unknown = [
        ("foreign", foreign()),
        ("empty", ItemAccessToken::new("")),
        ("of another environment", ItemAccessToken::new(other_environment)),
        ("longer", ItemAccessToken::new(format!("{}A", linked.access_token.expose()))),
        ("a bank's", ItemAccessToken::new("bank-token-a")),
        ("unlinked", unlinked),
        ("replaced", replaced),
        ("rotated", rotated),
        ("of a removed Item", gone),
    ];
    for (owner, token) in &unknown {
        for (way, response) in every_read(items, token).await {
            let error = response.expect_err(&format!("{way} with a token that is {owner}"));
            assert_eq!(error.kind(), ItemsErrorKind::InvalidAccessToken, "{way}, {owner}");
            // All of them get the same error.
            assert_eq!(error.to_string(), ItemsError::to_string(&same(items).await));
        }
        let error = items.unlink(token).await.unwrap_err();
        assert_eq!(error.kind(), ItemsErrorKind::InvalidAccessToken, "unlink, {owner}");
    }

    let user = UserId::new("user-1").unwrap();
    let partner = items.import(&bank(), &user, world.tokens("c")).await.unwrap().access_token;
    for (way, response) in every_read(items, &partner).await {
        assert_eq!(response.unwrap_err().kind(), ItemsErrorKind::NotForPartners, "{way}");
    }
    for (way, response) in every_read(items, &linked.access_token).await {
        response.unwrap_or_else(|error| panic!("{way}: {error}"));
    }
}

async fn same(items: &Items) -> ItemsError {
    items.accounts(&foreign()).await.unwrap_err()
}

/// Each account in turn is the only one that an application may see: none of the ids, rows or
/// amounts of the others is in anything that it reads.
#[tokio::test]
async fn no_way_to_read_shows_an_account_that_may_not_be_seen() {
    let (world, linked) = World::complete().await;
    let accounts: Vec<_> = user().accounts.into_iter().map(|account| account.id).collect();
    let rows = accounts.iter().enumerate().map(|(at, id)| {
        row(&format!("row-of-{id}"), id.as_str(), "2026-02-01", &format!("70{at}.25"))
    });
    world.add(&linked.item_id, rows).await;
    for only in &accounts {
        let seen = world.connect(world.connection_to("one", &[only.as_str()])).await;
        for (way, response) in every_read(&world.items, &seen.access_token).await {
            let shown = response.unwrap();
            for (at, other) in accounts.iter().enumerate().filter(|(_, id)| *id != only) {
                for trace in [other.to_string(), format!("70{at}.25")] {
                    assert!(!shown.contains(&trace), "{way} for {only} shows {trace}");
                }
            }
            if way == "transactions" {
                assert!(shown.contains("total: 1"), "{shown}");
            }
        }
    }
}

#[tokio::test]
async fn an_account_that_may_not_be_seen_is_refused_as_one_that_is_not_there() {
    let (world, _) = World::complete().await;
    let seen = world.connect(world.connection_to("one", &["account-checking"])).await;
    let window = Window::new(date("2020-01-01"), date("2030-01-01")).unwrap();
    let mut bodies = Vec::new();
    for other in ["account-credit", "no-such-account"] {
        let mut request = TransactionsRequest::new(window);
        request.account_ids = Some(vec![account_id("account-checking"), account_id(other)]);
        let error = world.items.transactions(&seen.access_token, &request).await.unwrap_err();
        assert_eq!((error.kind(), error.index()), (ItemsErrorKind::InvalidAccount, Some(1)));
        bodies.push(error.to_plaid_error("r1"));
    }
    assert_eq!(bodies[0], bodies[1]);
}

/// The environment comes from the store and cannot be set anywhere else.
#[tokio::test]
async fn every_token_names_the_environment_of_the_store() {
    for (environment, name) in
        [(Environment::Sandbox, "sandbox"), (Environment::Production, "production")]
    {
        let world = World::over(Arc::new(MemoryStore::new(environment)));
        let (world, linked) = world.completed().await;
        let named = |kind: &str, token: &str| {
            assert!(token.starts_with(&format!("{kind}-{name}-")), "{kind} in {name}");
        };
        let access = linked.access_token;
        named("access", access.expose());
        named("access", world.items.rotate_access(&access).await.unwrap().expose());
        let user = UserId::new("user-1").unwrap();
        let imported = world.items.import(&bank(), &user, world.tokens("import")).await.unwrap();
        named("access", imported.access_token.expose());
        let tickets = world.items.tickets();
        named(
            "link",
            tickets.mint_link(&"for app", LINK_TOKEN_LIFETIME).await.unwrap().token.expose(),
        );
    }
}
