//! Tests of the example application's page, with a browser without scripts.

use crate::{
    browser::{Browser, Page},
    support::World,
};
use tokio::net::TcpListener;

/// Serves the applications of a world. Returns their URL.
async fn serve(world: &World) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let router = world.plaid.app_router().unwrap();
    tokio::spawn(async move { px_server::hyper::serve(listener, router).await });
    address
}

/// Signs the household in at an application.
async fn enter(world: &World, browser: &mut Browser, home: &str) -> Page {
    let page = browser.open(home).await;
    let typed = [("password", world.plaid.app_password())];
    browser.submit(&page, "/enter", &typed).await
}

/// Goes from Link's first page to the redirect URI.
async fn through_link(browser: &mut Browser, page: &Page) -> Page {
    let page = browser.submit(page, "/begin", &[]).await;
    let page = browser.submit(&page, "/bank", &[("institution_id", "ins_larkfield")]).await;
    let typed = [("username", "user_good"), ("password", "pass_good")];
    let page = browser.submit(&page, "/sign-in", &typed).await;
    let accounts = page.values("account_id");
    let mut typed: Vec<_> = accounts.iter().map(|id| ("account_id", id.as_str())).collect();
    typed.push(("decision", "allow"));
    let page = browser.submit(&page, "/consent", &typed).await;
    browser.submit(&page, "/finish", &[]).await
}

/// Submits a form of a page with another CSRF token.
async fn forge(browser: &mut Browser, page: &Page, action: &str, csrf: Option<&str>) -> Page {
    let form = page.form(action);
    let mut fields = form.hidden.clone();
    fields.retain(|(name, _)| name != "csrf");
    fields.extend(csrf.map(|csrf| ("csrf".to_owned(), csrf.to_owned())));
    browser.post(&page.url.join(&form.action).unwrap(), &fields, &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_applications_forms_want_their_token_and_its_return_its_browser() {
    let world = World::new().await;
    let home = serve(&world).await;
    let (mut browser, mut stranger) = (Browser::new(), Browser::new());
    let page = enter(&world, &mut browser, &home).await;
    let mut other = Browser::new();
    let others = enter(&world, &mut other, &home).await.values("csrf")[0].clone();
    for csrf in [None, Some(""), Some("forged"), Some(&*others)] {
        let to = forge(&mut browser, &page, "/connect", csrf).await;
        assert_eq!(
            to.url.as_str(),
            format!("{home}/"),
            "the browser is sent to Link with {csrf:?}"
        );
    }
    let link = browser.submit(&page, "/connect", &[]).await;
    assert!(link.url.as_str().starts_with(&format!("{}/link/visit/", world.url)), "{}", link.url);
    let back = through_link(&mut browser, &link).await;
    let back = format!("{home}/linked?{}", back.url.query().unwrap());
    // A household that follows a foreign link does not get the bank of its author.
    for browser in [&mut stranger, &mut other] {
        let to = browser.open(&back).await;
        assert!(!to.html.contains("/disconnect"), "{}", to.html);
    }
    let page = browser.open(&back).await;
    assert!(page.html.contains("<h2>Larkfield Bank</h2>"), "{}", page.html);
    for csrf in [None, Some(""), Some("forged"), Some(&*others)] {
        let to = forge(&mut browser, &page, "/disconnect", csrf).await;
        assert!(
            to.html.contains("<h2>Larkfield Bank</h2>"),
            "the bank is disconnected with {csrf:?}"
        );
    }
    let page = browser.submit(&page, "/disconnect", &[]).await;
    assert!(!page.html.contains("Larkfield Bank"), "{}", page.html);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_banks_and_merchants_write_is_escaped_on_the_applications_page() {
    let hostile = |n: u8| format!("<script>alert({n})</script>\"'><img src=x onerror=alert({n})>");
    let world = World::with(|config| {
        config.applications[0].name = hostile(1);
        config.applications[0].reason = Some(hostile(2));
        config.institutions[0].name = hostile(3);
    })
    .await;
    let sql = "UPDATE transactions SET body = json_remove(json_set(body, '$.description', ?), '$.merchant')";
    let query = sqlx::query(sql).bind(hostile(4));
    query.execute(world.bank.ledger().pool()).await.unwrap();
    let home = serve(&world).await;
    let mut browser = Browser::new();
    let page = enter(&world, &mut browser, &home).await;
    let link = browser.submit(&page, "/connect", &[]).await;
    let back = through_link(&mut browser, &link).await;
    let mut page = browser.open(&format!("{home}/linked?{}", back.url.query().unwrap())).await;
    let shown = async {
        while !page.html.contains("Latest transactions") {
            page = browser.open(&home).await;
        }
        page
    };
    let timeout = std::time::Duration::from_secs(60);
    let page = tokio::time::timeout(timeout, shown).await.expect("no transaction is shown");
    for n in 1..=4 {
        let escaped = format!("&lt;script&gt;alert({n})");
        assert!(page.html.contains(&escaped), "{n}: {}", page.html);
    }
    for raw in ["<script", "<img", "onerror=alert(1)>"] {
        assert!(!page.html.contains(raw), "{raw}: {}", page.html);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_without_a_cookie_sees_no_account() {
    let world = World::new().await;
    let home = serve(&world).await;
    let mut browser = Browser::new();
    let page = enter(&world, &mut browser, &home).await;
    let link = browser.submit(&page, "/connect", &[]).await;
    let back = through_link(&mut browser, &link).await;
    let page = browser.open(&format!("{home}/linked?{}", back.url.query().unwrap())).await;
    assert!(page.html.contains("<h2>Larkfield Bank</h2>"), "{}", page.html);
    let mut stranger = Browser::new();
    let seen = stranger.open(&home).await;
    assert!(!seen.html.contains("Larkfield Bank"), "a stranger sees the household's accounts");
    for password in ["", "guess", "pass_good"] {
        let refused = stranger.submit(&seen, "/enter", &[("password", password)]).await;
        assert_eq!(refused.status, 403);
        assert!(
            !refused.html.contains("Larkfield Bank") && refused.html.contains("role=\"alert\"")
        );
    }
    assert!(!stranger.open(&home).await.html.contains("Larkfield Bank"));
    // A session of the household ends.
    world.clock.advance(chrono::TimeDelta::hours(4));
    assert!(!browser.open(&home).await.html.contains("Larkfield Bank"));
    world.stop().await;
}
