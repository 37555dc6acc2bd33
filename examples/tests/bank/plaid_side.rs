//! Tests of the bank's calls to Plaid: tokens, notifications, disconnections.

use crate::support::{
    BACK, Browser, START, TestResponse, VERIFIER, World, accounts_of, authorize, between, code_of,
    encode,
};
use async_trait::async_trait;
use bytes::Bytes;
use demo_bank::{
    ledger::{grants::SqliteGrants, portal::SqlitePortal},
    plaid_side::PlaidSide,
};
use http::{Request, Response};
use px_client::portal::{Disconnected, Portal, PortalErrorKind, PortalStore as _};
use px_core::{HttpLimits, HttpTransport, SystemClock, TransportError};
use px_server::oauth::GrantStore as _;
use px_types::{ClientId, ClientSecret, UserId};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

const APP: &str = "app-budget";

/// A simulated Plaid with at most one Item, which has one application once connected.
#[derive(Clone, Debug, Default)]
struct Plaid(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// The bank's access token, while there is an Item.
    token: Option<String>,
    connected: bool,
    /// Whether imports fail.
    down: bool,
    /// The bank's tokens in the imports.
    imported: Vec<String>,
    /// The entries of notifications.
    notified: Vec<(String, String)>,
    /// The accounts of the Item. Requests that name another are refused.
    accounts: Vec<String>,
    /// The latest scopes: each account, and whether the application may see it.
    scopes: Vec<(String, bool)>,
}

impl Plaid {
    fn side(&self) -> PlaidSide {
        let secret = ClientSecret::new("the-bank's-secret");
        let id = ClientId::new("larkfield").unwrap();
        let mut side = PlaidSide::new("https://plaid.example", id, secret, Arc::new(self.clone()));
        side.clock = Some(Arc::new(SystemClock::starting_at(START.parse().unwrap())));
        side
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.lock().unwrap())
    }
}

impl State {
    fn respond(&mut self, path: &str, body: &Value) -> (u16, Value) {
        let refused = |status, kind: &str, code: &str| {
            let error = json!({ "error_type": kind, "error_code": code, "error_message": "no",
                "display_message": null, "request_id": "r" });
            (status, error)
        };
        let yes = |body: Value| (200, body);
        if path == "/item/import" {
            if self.down {
                return refused(500, "API_ERROR", "INTERNAL_SERVER_ERROR");
            }
            self.imported.push(body["user_auth"]["auth_token"].as_str().unwrap().to_owned());
            let token = format!("access-{}", self.imported.len());
            self.token = Some(token.clone());
            return yes(json!({ "access_token": token, "request_id": "r" }));
        }
        let named = body["notifications"].as_array().cloned().unwrap_or_default();
        let named = match named.is_empty() {
            true => vec![body.clone()],
            false => named,
        };
        if named.iter().any(|one| one["access_token"].as_str() != self.token.as_deref()) {
            return refused(400, "INVALID_INPUT", "INVALID_ACCESS_TOKEN");
        }
        match path {
            "/item/application/list" if self.connected => yes(json!({ "request_id": "r",
                "applications": [{ "application_id": APP, "name": "Budget App", "created_at": START }] })),
            "/item/application/list" => yes(json!({ "request_id": "r", "applications": [] })),
            "/item/activity/list" => {
                yes(json!({ "request_id": "r", "activities": [], "last_data_access_times": [] }))
            }
            "/item/application/unlink" => {
                // The last application is removed, and the Item with it.
                (self.connected, self.token) = (false, None);
                yes(json!({ "request_id": "r" }))
            }
            "/items/transactions/notify" => {
                let since = body["new_since"].as_str().unwrap().to_owned();
                let account = |one: &Value| one["account_id"].as_str().unwrap().to_owned();
                self.notified.extend(named.iter().map(|one| (account(one), since.clone())));
                yes(json!({ "request_id": "r" }))
            }
            "/item/application/scopes/update" => {
                let accounts = body["scopes"]["accounts"].as_array().unwrap();
                let id = |one: &Value| one["unique_id"].as_str().unwrap().to_owned();
                if accounts.iter().any(|one| !self.accounts.contains(&id(one))) {
                    return refused(400, "INVALID_REQUEST", "INVALID_FIELD");
                }
                let allowed = |one: &Value| one["authorized"].as_bool().unwrap();
                self.scopes = accounts.iter().map(|one| (id(one), allowed(one))).collect();
                yes(json!({ "request_id": "r" }))
            }
            other => panic!("the bank calls {other}"),
        }
    }
}

#[async_trait]
impl HttpTransport for Plaid {
    async fn send(
        &self,
        request: Request<Bytes>,
        _: &HttpLimits,
    ) -> Result<Response<Bytes>, TransportError> {
        let body = serde_json::from_slice(request.body()).unwrap();
        let (status, body) = self.with(|state| state.respond(request.uri().path(), &body));
        let response =
            Response::builder().status(status).header("content-type", "application/json");
        Ok(response.body(Bytes::from(body.to_string())).unwrap())
    }
}

struct Sharing {
    world: World,
    plaid: Plaid,
    user: UserId,
}

impl Sharing {
    async fn new() -> Self {
        let plaid = Plaid::default();
        let world = World::with(|config| config.plaid = Some(plaid.side())).await;
        let user = world.bank.ledger().user_by_name("user_good").await.unwrap().unwrap().user_id;
        Self { world, plaid, user }
    }

    fn portal(&self) -> &Portal {
        self.world.bank.portal().unwrap()
    }

    /// The user consents to a number of accounts. Returns the accounts and Plaid's access token.
    async fn consent(&self, accounts: usize) -> (Vec<String>, String) {
        let mut browser = Browser::new(&self.world);
        let page = browser.open(&authorize("")).await;
        let page = browser.sign_in(&page, "user_good", "pass_good").await;
        let mut picked = accounts_of(&page);
        picked.truncate(accounts);
        let page = browser.decide(&page, &picked, "allow").await;
        let form = format!(
            "grant_type=authorization_code&code={}&redirect_uri={}&code_verifier={VERIFIER}",
            code_of(&page),
            encode(BACK)
        );
        let response = self.world.post("/oauth2/token", &form).await.json();
        (picked, response["access_token"].as_str().unwrap().to_owned())
    }

    async fn is_live(&self, token: &str) -> bool {
        let response: TestResponse = self.world.get("/customers/current", token).await;
        response.status == 200
    }

    /// Returns all notifications to Plaid, once the notifier has nothing left.
    async fn notified(&self) -> Vec<(String, String)> {
        let notifier = self.world.bank.notifier().unwrap();
        assert_eq!(notifier.shutdown(Duration::from_secs(20)).await.unwrap(), 0);
        self.plaid.with(|state| state.notified.clone())
    }
}

/// The consent ends with the last application. A page that is opened afterwards shares nothing.
#[tokio::test]
async fn disconnecting_the_last_application_ends_the_sharing() {
    let it = Sharing::new().await;
    let (_, of_consent) = it.consent(9).await;
    it.plaid.with(|state| state.connected = true);
    assert_eq!(it.portal().applications(&it.user).await.unwrap().list.len(), 1);
    let app = APP.parse().unwrap();
    assert_eq!(it.portal().disconnect(&it.user, &app).await.unwrap(), Disconnected::Done);
    assert!(!it.is_live(&of_consent).await, "the consent outlives the last application");
    for _ in 0..2 {
        let page = it.portal().applications(&it.user).await.unwrap();
        assert!(page.list.is_empty() && page.current);
    }
    let imported = it.plaid.with(|state| state.imported.clone());
    assert_eq!(imported.len(), 1, "the bank shares again what its customer ended");
    assert!(!it.is_live(&imported[0]).await, "the token that the bank created is still valid");
    assert_eq!(it.portal().import(&it.user).await.unwrap_err().kind(), PortalErrorKind::NotShared);
}

#[tokio::test]
async fn a_new_consent_shares_again() {
    let it = Sharing::new().await;
    it.consent(9).await;
    it.plaid.with(|state| state.connected = true);
    it.portal().applications(&it.user).await.unwrap();
    it.portal().disconnect(&it.user, &APP.parse().unwrap()).await.unwrap();
    it.portal().applications(&it.user).await.unwrap();
    it.world.clock.advance(chrono::TimeDelta::minutes(1));
    it.consent(9).await;
    it.portal().import(&it.user).await.unwrap();
    assert_eq!(it.plaid.with(|state| state.imported.len()), 2);
}

#[tokio::test]
async fn plaid_is_not_notified_of_accounts_that_are_not_shared() {
    let it = Sharing::new().await;
    let (picked, _) = it.consent(1).await;
    it.portal().import(&it.user).await.unwrap();
    it.world.bank.advance(30).await.unwrap();
    let notified = it.notified().await;
    let accounts: BTreeSet<_> = notified.into_iter().map(|(account, _)| account).collect();
    assert_eq!(accounts, BTreeSet::from_iter(picked));
}

/// Plaid has the accounts that were selected at the consent. It would refuse a request that named
/// another.
#[tokio::test]
async fn what_an_app_may_see_is_set_over_the_shared_accounts_alone() {
    let it = Sharing::new().await;
    let (picked, _) = it.consent(2).await;
    it.plaid.with(|state| (state.connected, state.accounts) = (true, picked.clone()));
    let mut browser = Browser::new(&it.world);
    let page = browser.open("/login").await;
    let user = [("username", "user_good"), ("password", "pass_good")];
    form(&mut browser, &page, "/login", &user).await;
    let path = format!("/apps/app/{APP}");
    let page = browser.open(&path).await;
    assert_eq!(accounts_of(&page), picked);
    assert!(page.text.contains("Not shared with any app: "));
    // A field for an account that is not shared changes nothing.
    let others = it.world.bank.ledger().user_by_name("user_good").await.unwrap().unwrap();
    let all = it.world.bank.ledger().holdings(&others, |_| true).await.unwrap().accounts;
    let other = all.iter().find(|one| picked.iter().all(|id| id != one.id.as_str())).unwrap();
    let fields = [("account_id", &*picked[1]), ("account_id", other.id.as_str())];
    let response = form(&mut browser, &page, &path, &fields).await;
    assert_eq!((response.status.as_u16(), response.header("location")), (303, "/apps"));
    let set = it.plaid.with(|state| state.scopes.clone());
    assert_eq!(set, [(picked[0].clone(), false), (picked[1].clone(), true)]);
}

/// Submits a form of a page.
async fn form(
    browser: &mut Browser<'_>,
    page: &TestResponse,
    path: &str,
    more: &[(&str, &str)],
) -> TestResponse {
    let csrf = between(&page.text, "name=\"csrf\" value=\"", "\"")[0];
    let mut fields = url::form_urlencoded::Serializer::new(String::new());
    fields.append_pair("csrf", csrf).extend_pairs(more);
    let kind = "application/x-www-form-urlencoded";
    browser.send(Request::post(path).header("content-type", kind), fields.finish()).await
}

#[tokio::test]
async fn bookings_before_the_import_are_notified_after_it() {
    let it = Sharing::new().await;
    // A consent is followed by an import in the background.
    it.plaid.with(|state| state.down = true);
    it.consent(9).await;
    it.world.bank.advance(60).await.unwrap();
    assert_eq!(it.plaid.with(|state| state.notified.len()), 0);
    it.plaid.with(|state| state.down = false);
    it.portal().import(&it.user).await.unwrap();
    it.world.bank.advance(1).await.unwrap();
    let notified = it.notified().await;
    let first = notified.iter().map(|(_, since)| since.as_str()).min().unwrap();
    assert!(first <= "2026-03-20", "the sixty days before the import are missing: {first}");
}

#[tokio::test]
async fn imports_that_fail_leave_one_token_behind_and_not_many() {
    let it = Sharing::new().await;
    it.plaid.with(|state| state.down = true);
    it.consent(9).await;
    for _ in 0..3 {
        it.portal().import(&it.user).await.unwrap_err();
    }
    let grants = SqliteGrants::new(it.world.bank.ledger().clone());
    let grants = grants.find_by_principal(&it.user).await.unwrap();
    assert_eq!(grants.iter().filter(|grant| grant.record.parent.is_some()).count(), 1);
    it.plaid.with(|state| state.down = false);
    it.portal().import(&it.user).await.unwrap();
    let imported = it.plaid.with(|state| state.imported.clone());
    assert!(it.is_live(&imported[0]).await);
}

#[tokio::test]
async fn a_token_that_plaid_does_not_know_any_more_is_forgotten() {
    let it = Sharing::new().await;
    it.consent(9).await;
    it.plaid.with(|state| state.connected = true);
    it.portal().applications(&it.user).await.unwrap();
    let bank = &it.world.bank;
    let notifier = bank.notifier().unwrap();
    bank.advance(7).await.unwrap();
    // From then on Plaid is known to accept valid notifications.
    until(async || notifier.metrics().accepted > 0).await;
    // The last application is removed, and the Item with it.
    it.portal().disconnect(&it.user, &APP.parse().unwrap()).await.unwrap();
    bank.advance(7).await.unwrap();
    let records = SqlitePortal::new(bank.ledger().clone());
    until(async || records.token(&it.user).await.unwrap().is_none()).await;
}

/// Another process has imported the user again since the token was stored, or the token was
/// replaced at Plaid.
#[tokio::test]
async fn bookings_under_a_replaced_token_are_notified_once_under_the_new_one() {
    let it = Sharing::new().await;
    it.consent(9).await;
    it.portal().import(&it.user).await.unwrap();
    it.plaid.with(|state| state.token = Some("of another import".into()));
    it.world.bank.advance(30).await.unwrap();
    let notified = it.notified().await;
    let accounts: BTreeSet<_> = notified.iter().map(|(account, _)| account).collect();
    assert!(!notified.is_empty() && accounts.len() == notified.len(), "{notified:?}");
    assert_eq!(it.world.bank.notifier().unwrap().metrics().refused, 0);
    assert_eq!(it.plaid.with(|state| state.imported.len()), 2);
    let records = SqlitePortal::new(it.world.bank.ledger().clone());
    assert_eq!(records.token(&it.user).await.unwrap().unwrap().expose(), "access-2");
}

/// Waits until a condition holds.
async fn until(holds: impl AsyncFn() -> bool) {
    let waits = async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waits)
        .await
        .expect("the condition did not become true");
}
