//! Tests of access that must be refused.

use crate::{
    browser::Browser,
    support::{World, link_request, secret_of},
};
use async_trait::async_trait;
use bytes::Bytes;
use demo_bank::{
    plaid::{Config, Parts},
    scenario::{self, Behaviour, Factor},
};
use px_core::{
    Clock as _, HttpLimits, HttpTransport, SystemClock, TransportError, TransportErrorKind,
};
use px_items::item::State;
use px_types::ItemId;
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{net::TcpListener, sync::watch};

const BANK: &str = "larkfield-bank";

#[tokio::test(flavor = "multi_thread")]
async fn one_banks_credentials_do_nothing_to_another_banks_items() {
    let world = World::new().await;
    let (access, user) = world.imported(BANK, "user_good").await;
    let account = "any";
    let entry = json!({ "access_token": access, "account_id": account });
    let event = json!({ "access_token": access, "account_id": account, "event": "closed" });
    for (path, body) in [
        (
            "/items/transactions/notify",
            json!({ "notifications": [entry], "new_since": "2026-03-01" }),
        ),
        ("/items/accounts/notify", json!({ "notifications": [event] })),
        (
            "/items/tokens/notify",
            json!({ "notifications": [{ "access_token": access, "action": "revoked" }] }),
        ),
        ("/item/application/list", json!({ "access_token": access })),
        (
            "/item/application/unlink",
            json!({ "access_token": access, "application_id": "budget-app" }),
        ),
        (
            "/item/application/scopes/update",
            json!({ "access_token": access, "application_id": "budget-app", "scopes": {}, "context": "PORTAL" }),
        ),
        ("/item/activity/list", json!({ "access_token": access })),
        ("/item/get", json!({ "access_token": access })),
        ("/item/remove", json!({ "access_token": access })),
        ("/item/access_token/invalidate", json!({ "access_token": access })),
        (
            "/item/webhook/update",
            json!({ "access_token": access, "webhook": "https://a.example/" }),
        ),
    ] {
        let (status, foreign) = world.call("oldtown", path, body.clone()).await;
        assert_eq!(
            (status, foreign["error_code"].as_str()),
            (400, Some("INVALID_ACCESS_TOKEN")),
            "{path}"
        );
        // The same response as for an unknown token.
        let unknown = body.to_string().replace(&access, "access-sandbox-never");
        let (_, unknown) =
            world.call("oldtown", path, serde_json::from_str(&unknown).unwrap()).await;
        assert_eq!(foreign["error_message"], unknown["error_message"], "{path}");
    }
    let body = link_request(json!({
        "access_token": access, "user": { "client_user_id": user },
        "cross_app_item_add": { "target_application_token": "target-sandbox-oldtown-budget-app" },
    }));
    assert_eq!(world.refused("oldtown", "/link/token/create", body).await, "INVALID_ACCESS_TOKEN");
    world.ok(BANK, "/item/get", json!({ "access_token": access })).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_applications_token_does_nothing_for_another_application_or_a_bank() {
    let world = World::new().await;
    let (access, _) = world.connected("budget-app", "user_good").await;
    let read = json!({ "access_token": access });
    world.until_ok("budget-app", "/accounts/get", read.clone()).await;
    for path in [
        "/accounts/get",
        "/accounts/balance/get",
        "/transactions/sync",
        "/identity/get",
        "/auth/get",
        "/investments/holdings/get",
        "/liabilities/get",
        "/item/get",
        "/item/remove",
        "/item/access_token/invalidate",
    ] {
        let code = world.refused("tax-app", path, read.clone()).await;
        assert_eq!(code, "INVALID_ACCESS_TOKEN", "{path}");
    }
    let own = world.plaid.config().applications[0].webhook.clone();
    for (path, mut body) in [
        ("/transactions/get", json!({ "start_date": "2026-02-01", "end_date": "2026-03-11" })),
        ("/item/webhook/update", json!({ "webhook": own })),
    ] {
        body["access_token"] = json!(access);
        let code = world.refused("tax-app", path, body.clone()).await;
        assert_eq!(code, "INVALID_ACCESS_TOKEN", "{path}");
        // Its own application succeeds with the same request, so the token was the reason.
        world.until_ok("budget-app", path, body).await;
    }
    // A bank reads no data, and its endpoints are not for applications.
    assert_eq!(
        world.refused(BANK, "/accounts/get", read.clone()).await,
        "UNAUTHORIZED_ROUTE_ACCESS"
    );
    assert_eq!(
        world.refused(BANK, "/item/application/list", read.clone()).await,
        "INVALID_ACCESS_TOKEN"
    );
    let list = world.refused("budget-app", "/item/application/list", read.clone()).await;
    assert_eq!(list, "UNAUTHORIZED_ROUTE_ACCESS");
    let entry = json!({ "notifications": [{ "access_token": access, "action": "revoked" }] });
    let refused = world.refused("budget-app", "/items/tokens/notify", entry).await;
    assert_eq!(refused, "UNAUTHORIZED_ROUTE_ACCESS");
    world.ok("budget-app", "/accounts/get", read).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bank_imports_its_own_users_with_their_own_tokens_only() {
    let world = World::new().await;
    let (good, _) = world.bank_token("user_good").await;
    let other = world.bank.ledger().user_by_name("user_otp").await.unwrap().unwrap().user_id;
    let user = world.bank.ledger().user_by_name("user_good").await.unwrap().unwrap().user_id;
    for (user, token) in
        [(other.as_str(), good.as_str()), (user.as_str(), "forged"), ("nobody", &good)]
    {
        let body = json!({ "products": ["transactions"], "user_auth": { "user_id": user, "auth_token": token } });
        assert_eq!(
            world.refused(BANK, "/item/import", body).await,
            "INVALID_CREDENTIALS",
            "{user}"
        );
    }
    // A webhook URL that would never be used is refused, for any host.
    for webhook in ["https://bank.example/hook", "https://169.254.169.254/latest/meta-data"] {
        let body = json!({ "products": ["transactions"], "options": { "webhook": webhook },
            "user_auth": { "user_id": user, "auth_token": good } });
        assert_eq!(world.refused(BANK, "/item/import", body).await, "INVALID_FIELD", "{webhook}");
    }
    let body = json!({ "products": ["transactions"], "user_auth": { "user_id": user, "auth_token": good } });
    assert_eq!(
        world.refused("budget-app", "/item/import", body).await,
        "UNAUTHORIZED_ROUTE_ACCESS"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_refused_wherever_they_are_shown() {
    let world = World::new().await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for path in ["/item/get", "/accounts/get", "/transactions/sync", "/application/get"] {
        for (id, secret) in [("budget-app", "wrong"), ("nobody", "wrong"), ("budget-app", "")] {
            let body = json!({ "client_id": id, "secret": secret, "access_token": "a", "application_id": "tax-app" });
            let request = http.post(format!("{}{path}", world.url));
            let request = request.header("content-type", "application/json").body(body.to_string());
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 401, "{path} {id}");
            let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
            assert_eq!(body["error_code"], "INVALID_API_KEYS", "{path}");
        }
        let body = json!({
            "client_id": "budget-app", "secret": secret_of("budget-app"), "access_token": "a", "application_id": "tax-app",
        });
        let request = http.post(format!("{}{path}", world.url));
        let request = request.header("content-type", "application/json").body(body.to_string());
        assert_ne!(request.send().await.unwrap().status(), 401, "{path}: good ones in the body");
    }
    world.stop().await;
}

/// The developer endpoints have the same rules as the API.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_are_there_twice_are_refused_wherever_they_are_shown() {
    let world = World::new().await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let (id, secret) = ("budget-app", secret_of("budget-app"));
    let plain = json!({ "access_token": "a" });
    let mut both = plain.clone();
    both["client_id"] = id.into();
    both["secret"] = secret.clone().into();
    for path in ["/item/get", "/accounts/get", "/transactions/sync"] {
        for (headers, body) in [
            (
                vec![("plaid-client-id", id), ("plaid-client-id", "x"), ("plaid-secret", &secret)],
                &plain,
            ),
            (
                vec![("plaid-client-id", id), ("plaid-secret", &secret), ("plaid-secret", "x")],
                &plain,
            ),
            (vec![("plaid-client-id", id), ("plaid-secret", &secret)], &both),
            (vec![("plaid-client-id", id)], &both),
        ] {
            let request = http.post(format!("{}{path}", world.url));
            let mut request = request.header("content-type", "application/json");
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let response = request.body(body.to_string()).send().await.unwrap();
            assert_eq!(response.status(), 400, "{path}");
            let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
            assert_eq!(body["error_code"], "INVALID_HEADERS", "{path}");
        }
    }
    world.stop().await;
}

/// All requests of a client count together, so that a client has one rate limit.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_has_one_rate_for_all_that_it_calls() {
    let rate = 5;
    let world = World::with(|config| config.rate_limit = Some(rate)).await;
    let clock = SystemClock::new();
    let start = clock.elapsed();
    let mut passed = 0;
    for n in 0..40 {
        let path = if n % 2 == 0 { "/item/get" } else { "/accounts/get" };
        let (status, _) = world.call("budget-app", path, json!({ "access_token": "a" })).await;
        passed += u32::from(status != 429);
    }
    let elapsed = u32::try_from((clock.elapsed() - start).as_millis()).unwrap();
    let most = rate + rate * elapsed / 1000 + 1;
    assert!(passed <= most, "{passed} of 40 in {elapsed} ms");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_2000_over_many_items_with_one_unknown_token_changes_none_of_them() {
    let world = World::new().await;
    let mut items = Vec::new();
    for name in world.bank.ledger().usernames().await.unwrap() {
        let is_simple = scenario::of(&name).is_none_or(|scenario| {
            scenario.factor == Factor::None && scenario.behaviour == Behaviour::Good
        });
        if is_simple {
            let (access, _) = world.imported(BANK, &name).await;
            let got = world.ok(BANK, "/item/get", json!({ "access_token": access })).await;
            let id: ItemId = got["item"]["item_id"].as_str().unwrap().parse().unwrap();
            items.push((access, id));
        }
    }
    assert!(items.len() >= 4, "{items:?}");
    let records = async || {
        let mut records = Vec::new();
        for (_, id) in &items {
            records.push(world.plaid.store().item(id).await.unwrap().unwrap());
        }
        records
    };
    let idle = async {
        while records().await.iter().any(|record| record.state != State::Idle) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), idle).await.expect("the Items never settled");

    let batch = |unknown: Option<usize>, more: Value| {
        let entry = |n: usize| {
            let mut entry = more.clone();
            let known = items[n % items.len()].0.as_str();
            let token = if unknown == Some(n) { "access-sandbox-never" } else { known };
            entry["access_token"] = json!(token);
            entry
        };
        (0..2000).map(entry).collect::<Vec<_>>()
    };
    let before = format!("{:?}", records().await);
    for (path, more) in [
        ("/items/transactions/notify", json!({ "account_id": "any" })),
        ("/items/accounts/notify", json!({ "account_id": "any", "event": "changed" })),
        ("/items/tokens/notify", json!({ "action": "revoked" })),
        ("/items/tokens/notify", json!({ "action": "cycle" })),
    ] {
        // Also the last entry, after all others could have been applied.
        for unknown in [1234, 1999] {
            let mut body = json!({ "notifications": batch(Some(unknown), more.clone()) });
            if path == "/items/transactions/notify" {
                body["new_since"] = json!("2026-03-01");
            }
            let (status, response) = world.call(BANK, path, body).await;
            assert_eq!(
                (status, response["error_code"].as_str()),
                (400, Some("INVALID_ACCESS_TOKEN"))
            );
            let what = response["error_message"].as_str().unwrap();
            assert!(what.contains(&unknown.to_string()), "{path}: {what}");
            assert_eq!(format!("{:?}", records().await), before, "{path} changed something");
        }
    }
    // Without the unknown token, the batch reaches each Item.
    let body = json!({ "notifications": batch(None, json!({ "action": "revoked" })) });
    world.ok(BANK, "/items/tokens/notify", body).await;
    for record in records().await {
        assert_eq!(record.state, State::IdleLoginRequired, "{record:?}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unlink_leaves_no_token_usable_for_a_single_call() {
    let world = World::new().await;
    let (budget, _) = world.connected("budget-app", "user_good").await;
    let (tax, _) = world.connected("tax-app", "user_good").await;
    let read = |token: &str| json!({ "access_token": token });
    for (client, token) in [("budget-app", &budget), ("tax-app", &tax)] {
        world.until_ok(client, "/accounts/get", read(token)).await;
    }
    let (partner, _) = world.imported(BANK, "user_good").await;
    let body = json!({ "access_token": partner, "application_id": "budget-app" });
    world.ok(BANK, "/item/application/unlink", body).await;
    for path in ["/accounts/get", "/transactions/sync", "/item/get", "/identity/get"] {
        let code = world.refused("budget-app", path, read(&budget)).await;
        assert_eq!(code, "INVALID_ACCESS_TOKEN", "{path}");
    }
    world.ok("tax-app", "/accounts/get", read(&tax)).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_concurrent_unlinks_one_is_done_and_one_is_refused() {
    let world = World::new().await;
    world.connected("budget-app", "user_good").await;
    world.connected("tax-app", "user_good").await;
    let (partner, _) = world.imported(BANK, "user_good").await;
    let body = json!({ "access_token": partner, "application_id": "budget-app" });
    let unlink = || world.call(BANK, "/item/application/unlink", body.clone());
    let ((one, _), (other, _)) = tokio::join!(unlink(), unlink());
    let mut statuses = [one, other];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400]);
    let log = world.ok(BANK, "/item/activity/list", json!({ "access_token": partner })).await;
    let unlinked = log["activities"].as_array().unwrap().iter();
    assert_eq!(unlinked.filter(|one| one["activity"] == "PORTAL_UNLINK").count(), 1, "{log}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_do_not_go_inside() {
    let world = World::with(|config| {
        config.local_webhooks = false;
        for app in &mut config.applications {
            app.webhook = None;
        }
    })
    .await;
    let (access, _) = world.connected("budget-app", "user_good").await;
    for webhook in [
        "http://127.0.0.1:8080/",
        "https://127.0.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "https://localhost/",
        "https://10.0.0.1/",
        "http://app.example/",
        "https://user:pw@app.example/",
        "file:///etc/passwd",
    ] {
        let body = json!({ "access_token": access, "webhook": webhook });
        let code = world.refused("budget-app", "/item/webhook/update", body).await;
        assert_eq!(code, "INVALID_FIELD", "{webhook}");
        let body = link_request(json!({ "products": ["transactions"], "webhook": webhook }));
        let code = world.refused("budget-app", "/link/token/create", body).await;
        assert_eq!(code, "INVALID_FIELD", "{webhook}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_of_a_demo_do_not_go_into_the_network_of_its_machine() {
    let world = World::new().await;
    for webhook in
        ["http://169.254.169.254/latest/meta-data", "https://10.0.0.1/", "http://app.example/"]
    {
        let body = link_request(json!({ "products": ["transactions"], "webhook": webhook }));
        let code = world.refused("budget-app", "/link/token/create", body).await;
        assert_eq!(code, "INVALID_FIELD", "{webhook}");
    }
    let body =
        link_request(json!({ "products": ["transactions"], "webhook": "http://127.0.0.1:9200/" }));
    world.ok("budget-app", "/link/token/create", body).await;
    world.stop().await;
}

/// The address is resolved when a webhook is sent. A name that passes every check and resolves to a
/// private address needs a name server, so the checks accept `localhost` here. This tests the
/// transport of webhooks alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_to_a_host_with_a_private_address_is_not_sent() {
    for (guarded, arrives) in [(true, false), (false, true)] {
        let inside = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hook = format!("https://localhost:{}/hook", inside.local_addr().unwrap().port());
        let (sender, connected) = watch::channel(false);
        let server = tokio::spawn(async move {
            while inside.accept().await.is_ok() {
                sender.send_replace(true);
            }
        });
        let log = Arc::new(Mutex::new(Vec::new()));
        let world = World::with_parts(
            |config| config.applications[0].webhook = Some(hook.clone()),
            |parts| {
                let mut config = Config::demo().unwrap();
                config.local_webhooks = !guarded;
                let transport = Parts::system(&config).unwrap().webhooks;
                parts.webhooks = Arc::new(RecordingTransport { transport, log: log.clone() });
            },
        )
        .await;
        let body = link_request(json!({ "products": ["transactions"] }));
        let made = world.ok("budget-app", "/link/token/create", body).await;
        let mut browser = Browser::new();
        world.link_user(&mut browser, made["link_token"].as_str().unwrap(), "user_good").await;
        let sent = async {
            while !log.lock().unwrap().iter().any(|(url, _)| *url == hook) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), sent).await.expect("nothing was sent");
        let refused = log
            .lock()
            .unwrap()
            .iter()
            .all(|(url, kind)| *url != hook || *kind == Some(TransportErrorKind::Refused));
        assert_eq!(refused, guarded);
        assert_eq!(*connected.borrow(), arrives, "a connection from inside, guarded: {guarded}");
        server.abort();
        world.stop().await;
    }
}

/// The URL of a request, and the kind of its error.
type RecordedRequest = (String, Option<TransportErrorKind>);

/// A transport that records its requests.
#[derive(Debug)]
struct RecordingTransport {
    transport: Arc<dyn HttpTransport>,
    log: Arc<Mutex<Vec<RecordedRequest>>>,
}

#[async_trait]
impl HttpTransport for RecordingTransport {
    async fn send(
        &self,
        request: http::Request<Bytes>,
        limits: &HttpLimits,
    ) -> Result<http::Response<Bytes>, TransportError> {
        let url = request.uri().to_string();
        let response = self.transport.send(request, limits).await;
        self.log.lock().unwrap().push((url, response.as_ref().err().map(TransportError::kind)));
        response
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn script_in_names_never_reaches_a_page() {
    let evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>";
    let world = World::with(|config| {
        let app = &mut config.applications[0];
        app.name = evil.to_owned();
        app.reason = Some(evil.to_owned());
        app.company = Some(evil.to_owned());
        config.institutions[0].name = evil.to_owned();
    })
    .await;
    let mut pages = Vec::new();
    let mut browser = Browser::new();
    let page = browser.open(&world.link_page(&world.link_token("budget-app").await)).await;
    let choose = browser.submit(&page, "/begin", &[]).await;
    let here = browser.submit(&choose, "/bank", &[("institution_id", "ins_oldtown")]).await;
    let typed = [("username", evil), ("password", evil)];
    let wrong = browser.submit(&here, "/sign-in", &typed).await;
    pages.extend([page, choose, wrong]);
    let token = world.link_token("budget-app").await;
    // The bank's page, with the name of the application, comes between.
    pages.push(world.link_user(&mut browser, &token, "user_good").await);
    let (access, user) = world.imported(BANK, "user_good").await;
    let body = link_request(json!({
        "access_token": access, "user": { "client_user_id": user },
        "cross_app_item_add": { "target_application_token": "target-sandbox-larkfield-budget-app" },
    }));
    let made = world.ok(BANK, "/link/token/create", body).await;
    let url = world.link_page(made["link_token"].as_str().unwrap());
    let mut page = browser.open(&url).await;
    while page.html.contains("Getting your accounts") {
        page = browser.open(page.url.as_str()).await;
    }
    pages.push(page);
    for page in pages {
        assert!(page.html.contains("&lt;script&gt;"), "{} shows the name", page.url);
        for raw in ["<script", "<img src=x", "onerror=alert(1)>"] {
            assert!(!page.html.contains(raw), "{raw} on {}: {}", page.url, page.html);
        }
    }
    world.stop().await;
}
