//! `px link`: with a browser, with tokens, and resumed.

use crate::{
    bank::Bank,
    px::{Px, ended, heard, tokens},
};
use px_types::partner::ApplicationLinkEvent;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    process::Child,
    time::timeout,
};
use url::Url;

const SOON: Duration = Duration::from_secs(20);

/// Returns the response to a browser at a URL of this machine.
async fn get(url: &Url) -> String {
    let address = url.socket_addrs(|| None).unwrap()[0];
    let mut stream = TcpStream::connect(address).await.unwrap();
    let target = &url[url::Position::BeforePath..];
    let request = format!("GET {target} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    timeout(SOON, stream.read_to_string(&mut response)).await.unwrap().unwrap();
    response
}

/// Returns the URL to which `px link` sends the user.
async fn sent_to(child: &mut Child) -> Url {
    let said = heard(child, "http://").await;
    Url::parse(said.lines().last().unwrap().trim()).unwrap()
}

fn parameter(url: &Url, name: &str) -> String {
    url.query_pairs().find(|(found, _)| found == name).unwrap().1.into_owned()
}

async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_user_links_by_a_browser() {
    let bank = Bank::new().with_user("ann", 20);
    let px = Px::at(&bank.door(0).await);
    let redirect = format!("http://127.0.0.1:{}/back", free_port().await);
    let arguments = ["link", "--institution", "bank", "--redirect-uri", &redirect, "--json"];
    let mut child = px.command(&arguments).spawn().unwrap();
    let url = sent_to(&mut child).await;
    assert_eq!(parameter(&url, "redirect_uri"), redirect);
    assert_eq!(parameter(&url, "application_id"), "px");
    assert_eq!(parameter(&url, "code_challenge_method"), "S256");

    // Other requests do not end it.
    let back = |query: &str| Url::parse(&format!("{redirect}?{query}")).unwrap();
    let favicon = redirect.replace("/back", "/favicon.ico");
    assert!(get(&Url::parse(&favicon).unwrap()).await.starts_with("HTTP/1.1 404 "));
    assert!(get(&back("code=evil&state=guessed")).await.starts_with("HTTP/1.1 400 "));

    let state = parameter(&url, "state");
    let page = get(&back(&format!("code=code-ann&state={state}"))).await;
    assert!(page.starts_with("HTTP/1.1 200 ") && page.contains("close this window"), "{page}");
    let ended = timeout(SOON, ended(child)).await.unwrap();
    assert_eq!(ended.code, 0, "{ended:?}");
    let item = ended.json()[0]["item_id"].as_str().unwrap().to_owned();
    px.ok(&["sync", &item]).await;
    assert_eq!(px.transactions(&item).await, bank.rows("ann"));
}

/// A bank with an identity provider on another host, found by discovery or named in the file.
#[tokio::test]
async fn a_user_links_at_a_bank_with_its_own_identity_provider() {
    for discover in [true, false] {
        // At the bank's own endpoints the code would belong to Ann.
        let bank = Bank::new().with_user("ann", 5).with_user("bob", 20);
        let base = bank.door(0).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let provider = format!("http://{}", listener.local_addr().unwrap());
        let document = serde_json::json!({
            "issuer": format!("{provider}/realm"),
            "authorization_endpoint": format!("{provider}/realm/auth"),
            "token_endpoint": format!("{provider}/realm/token"),
            "revocation_endpoint": format!("{provider}/realm/revoke"),
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
        });
        let posted = Arc::new(Mutex::new(Vec::new()));
        let (at_token, at_revoke) = (Arc::clone(&posted), Arc::clone(&posted));
        let tokens = move |body: String| async move {
            at_token.lock().unwrap().push(body);
            axum::Json(serde_json::json!({
                "access_token": "token-bob", "token_type": "bearer", "expires_in": 3600,
                "refresh_token": "refresh-bob",
            }))
        };
        let revoke = move |body: String| async move { at_revoke.lock().unwrap().push(body) };
        let published = document.clone();
        let router = axum::Router::new()
            .route(
                "/realm/.well-known/openid-configuration",
                axum::routing::get(move || async move { axum::Json(published) }),
            )
            .route("/realm/token", axum::routing::post(tokens))
            .route("/realm/revoke", axum::routing::post(revoke));
        tokio::spawn(async move { axum::serve(listener, router).await });

        let px = Px::at(&base);
        let mut entry = serde_json::json!({
            "institution_id": "bank", "base_url": base, "client_id": "plaid",
            "client_secret_file": "secret", "per_second": 10_000,
        });
        let members = entry.as_object_mut().unwrap();
        if discover {
            members.insert("issuer".into(), document["issuer"].clone());
            members.insert("discover".into(), true.into());
        } else {
            for name in ["authorization_endpoint", "token_endpoint", "revocation_endpoint"] {
                members.insert(name.into(), document[name].clone());
            }
            members.insert("client_secret_in_body".into(), true.into());
        }
        std::fs::write(px.path("px.partners.json"), format!("[{entry}]")).unwrap();
        let redirect = format!("http://127.0.0.1:{}/back", free_port().await);
        let arguments = ["link", "--institution", "bank", "--redirect-uri", &redirect, "--json"];
        let mut child = px.command(&arguments).spawn().unwrap();
        let url = sent_to(&mut child).await;
        assert!(url.as_str().starts_with(&format!("{provider}/realm/auth?")), "{url}");
        let state = parameter(&url, "state");
        get(&Url::parse(&format!("{redirect}?code=code-ann&state={state}")).unwrap()).await;
        let ended = timeout(SOON, ended(child)).await.unwrap();
        assert_eq!(ended.code, 0, "{ended:?}");
        let item = ended.json()[0]["item_id"].as_str().unwrap().to_owned();
        px.ok(&["sync", &item]).await;
        assert_eq!(px.transactions(&item).await, bank.rows("bob"), "{discover}");
        px.ok(&["unlink", &item, "--all"]).await;
        px.ok(&["run", "--until-idle"]).await;
        let posted = posted.lock().unwrap();
        assert_eq!(posted.len(), 2, "{posted:?}");
        assert!(posted[0].contains("code=code-ann&") && posted[0].contains("&client_id=plaid&"));
        assert!(posted[1].starts_with("token=refresh-bob&"), "{posted:?}");
        assert!(bank.revoked().is_empty());
    }
}

#[tokio::test]
async fn a_user_who_refuses_links_nothing() {
    let bank = Bank::new().with_user("ann", 20);
    let px = Px::at(&bank.door(0).await);
    let redirect = format!("http://127.0.0.1:{}/back", free_port().await);
    let arguments = ["link", "--institution", "bank", "--redirect-uri", &redirect];
    let mut child = px.command(&arguments).spawn().unwrap();
    let state = parameter(&sent_to(&mut child).await, "state");
    let refusal = format!("{redirect}?error=access_denied&state={state}");
    get(&Url::parse(&refusal).unwrap()).await;
    timeout(SOON, ended(child)).await.unwrap().fails(1, "did not consent");
    assert!(px.items().await.is_empty());
}

/// A code can be used only once. A link that failed after the exchange is continued with the stored tokens.
#[tokio::test]
async fn a_link_that_failed_goes_on_with_the_tokens_that_it_got() {
    let bank = Bank::new().with_user("ann", 20);
    let px = Px::at(&bank.door(0).await);
    let redirect = format!("http://127.0.0.1:{}/back", free_port().await);
    let arguments =
        ["link", "--institution", "bank", "--redirect-uri", &redirect, "--user-id", "bob"];
    let mut child = px.command(&arguments).spawn().unwrap();
    let state = parameter(&sent_to(&mut child).await, "state");
    let back = format!("{redirect}?code=code-ann&state={state}");
    get(&Url::parse(&back).unwrap()).await;
    let ended = timeout(SOON, ended(child)).await.unwrap();
    assert_eq!(ended.code, 2, "{ended:?}");
    let (_, resume) = ended.stderr.trim_end().rsplit_once("--resume ").unwrap();
    for file in std::fs::read_dir(&px.folder).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let found = bytes.windows(9).any(|window| window == b"token-ann");
        assert!(!found, "a secret at rest in the clear");
    }
    let go_on = ["link", "--institution", "bank", "--resume", resume, "--json"];
    let item = px.ok(&go_on).await.json()[0]["item_id"].as_str().unwrap().to_owned();
    px.ok(&["sync", &item]).await;
    assert_eq!(px.transactions(&item).await, bank.rows("ann"));
    px.run(&go_on).await.fails(4, "no such tokens");
}

#[tokio::test]
async fn a_port_that_is_taken_is_said() {
    let bank = Bank::new();
    let px = Px::at(&bank.door(0).await);
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let redirect = format!("http://{}/back", taken.local_addr().unwrap());
    let arguments = ["link", "--institution", "bank", "--redirect-uri", &redirect];
    px.run(&arguments).await.fails(1, "cannot listen");
}

#[tokio::test]
async fn the_access_token_is_shown_once_and_kept_nowhere() {
    let bank = Bank::new().with_user("ann", 20);
    let px = Px::at(&bank.door(0).await);
    let arguments = ["link", "--institution", "bank", "--tokens", "-"];
    let linked = px.feed(&arguments, &tokens("ann")).await;
    assert_eq!(linked.code, 0, "{linked:?}");
    let token = linked.stdout.lines().find_map(|line| line.strip_prefix("access_token  ")).unwrap();
    assert!(token.starts_with("access-development-"), "{linked:?}");
    px.ok(&["run", "--until-idle"]).await;
    for file in std::fs::read_dir(&px.folder).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        for secret in [token, "token-ann"] {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "a secret at rest in the clear");
        }
    }
}

#[tokio::test]
async fn the_institution_is_notified_of_connections_and_disconnections() {
    let bank = Bank::new().with_user("ann", 20);
    let px = Px::at(&bank.door(0).await);
    let key = serde_json::from_str(&px.ok(&["keys"]).await.stdout).unwrap();
    bank.verifies_by(key);
    px.partners("px.partners.json", &bank.door(1).await);
    let item = px.link("ann", &["--application", "budget", "--application-name", "Budget"]).await;
    px.ok(&["run", "--until-idle"]).await;
    let notifications = bank.notifications();
    assert_eq!(notifications.len(), 1, "{notifications:?}");
    let budget = &notifications[0].application;
    assert_eq!((budget.application_id.as_str(), &*budget.name), ("budget", "Budget"));
    assert_eq!(notifications[0].user_id.as_str(), "ann");
    assert_eq!(notifications[0].event, Some(ApplicationLinkEvent::Linked));

    px.ok(&["unlink", &item, "--all"]).await;
    px.ok(&["run", "--until-idle"]).await;
    let notifications = bank.notifications();
    assert_eq!(notifications.len(), 2, "{notifications:?}");
    assert_eq!(notifications[1].application.application_id.as_str(), "budget");
    assert_eq!(notifications[1].event, Some(ApplicationLinkEvent::Unlinked));
}

/// An institution that accepts no such notifications is not notified again.
#[tokio::test]
async fn an_institution_without_notifications_delays_nothing() {
    let bank = Bank::new().with_user("ann", 20);
    let px = Px::at(&bank.door(0).await);
    px.link("ann", &[]).await;
    px.ok(&["run", "--until-idle"]).await;
    assert!(bank.notifications().is_empty());
}

#[tokio::test]
async fn tokens_that_do_not_name_their_user() {
    let bank = Bank::new().with_user("ann", 20);
    let px = Px::at(&bank.door(0).await);
    let arguments = ["link", "--institution", "bank", "--tokens", "-", "--json"];
    let nameless = tokens("ann").replace("user_id", "_");
    let linked = px.feed(&arguments, &nameless).await.json();
    // The institution named the user, so it is the same Item as for the named user.
    assert_eq!(px.link("ann", &["--application", "two"]).await, linked[0]["item_id"]);
    let mut wrong = arguments.to_vec();
    wrong.extend(["--user-id", "bob"]);
    px.feed(&wrong, &tokens("ann")).await.fails(2, "another user");
}
