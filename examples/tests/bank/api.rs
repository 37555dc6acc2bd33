//! Tests of the partner API, with each scenario user.

use crate::support::{Browser, World, accounts_of, authorize, between};
use chrono::TimeDelta;
use demo_bank::ledger::grants::SqliteGrants;
use px_server::{credentials::TotpSecret, oauth::store::conformance};
use serde_json::{Value, json};

const WINDOW: &str = "start_date=2024-03-12&end_date=2026-03-11";

fn token(tokens: &Value) -> &str {
    tokens["access_token"].as_str().unwrap()
}

fn user(tokens: &Value) -> &str {
    tokens["user_id"].as_str().unwrap()
}

#[tokio::test]
async fn the_grant_store_keeps_its_promises() {
    let dir = tempfile::tempdir().unwrap();
    let file = demo_bank::ledger::Database::File(dir.path().join("grants.sqlite"));
    for database in [demo_bank::ledger::Database::Memory, file] {
        let ledger = demo_bank::ledger::Ledger::open(&database, "2026-03-11".parse().unwrap())
            .await
            .unwrap();
        conformance::check(&SqliteGrants::new(ledger)).await.unwrap();
    }
}

#[tokio::test]
async fn a_user_is_read_with_all_that_was_granted() {
    let world = World::new().await;
    let tokens = world.tokens("user_good").await;
    let response = world.get(&format!("/users/{}", user(&tokens)), token(&tokens)).await;
    assert_eq!(response.status, 200, "{}", response.text);
    assert_eq!(response.json()["accounts"].as_array().unwrap().len(), 9);
    let me = world.get("/customers/current", token(&tokens)).await;
    assert_eq!(me.json()["user_id"], tokens["user_id"]);
    assert_eq!(world.get("/users/usr-other", token(&tokens)).await.status, 403);
    assert_eq!(world.get("/nowhere", token(&tokens)).await.status, 404);
}

#[tokio::test]
async fn a_grant_over_one_account_shows_that_one() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    let page = browser.open(&authorize("")).await;
    let page = browser.sign_in(&page, "user_good", "pass_good").await;
    let one = accounts_of(&page)[2].clone();
    let back = browser.decide(&page, std::slice::from_ref(&one), "allow").await;
    let code = crate::support::code_of(&back);
    let form = format!(
        "grant_type=authorization_code&code={code}&redirect_uri={}&code_verifier={}",
        crate::support::encode(crate::support::BACK),
        crate::support::VERIFIER
    );
    let tokens = world.post("/oauth2/token", &form).await.json();
    let response = world.get(&format!("/users/{}", user(&tokens)), token(&tokens)).await.json();
    assert_eq!(response["accounts"].as_array().unwrap().len(), 1);
    let path = format!("/users/{}/transactions?{WINDOW}&limit=500", user(&tokens));
    let page = world.get(&path, token(&tokens)).await.json();
    let rows = page["transactions"].as_array().unwrap();
    assert!(!rows.is_empty() && rows.iter().all(|row| row["account_id"] == one.as_str()));
    let all = world.tokens("user_good").await;
    let path = format!("/users/{}/transactions?{WINDOW}", user(&all));
    assert!(world.get(&path, token(&all)).await.json()["total"].as_u64() > page["total"].as_u64());
}

#[tokio::test]
async fn cursors_and_offsets_give_the_same_rows() {
    let world = World::new().await;
    let tokens = world.tokens("user_otp").await;
    let base = format!("/users/{}/transactions?{WINDOW}&limit=150", user(&tokens));
    let (mut by_cursor, mut next) = (Vec::new(), String::new());
    loop {
        let page = world.get(&format!("{base}{next}"), token(&tokens)).await.json();
        by_cursor.extend(page["transactions"].as_array().unwrap().clone());
        match page["next_cursor"].as_str() {
            Some(cursor) => next = format!("&cursor={cursor}"),
            None => {
                assert_eq!(page["total"], by_cursor.len());
                break;
            }
        }
    }
    let mut by_offset = Vec::new();
    while by_offset.len() < by_cursor.len() {
        let page =
            world.get(&format!("{base}&offset={}", by_offset.len()), token(&tokens)).await.json();
        by_offset.extend(page["transactions"].as_array().unwrap().clone());
    }
    assert_eq!(by_cursor, by_offset);
    let beyond = world.get(&format!("{base}&offset=999999"), token(&tokens)).await;
    assert_eq!(
        (beyond.status.as_u16(), beyond.json()["transactions"].as_array().unwrap().len()),
        (200, 0)
    );
}

#[tokio::test]
async fn a_cursor_is_for_one_walk_and_may_be_read_twice() {
    let world = World::new().await;
    let tokens = world.tokens("user_otp").await;
    let base = format!("/users/{}/transactions?{WINDOW}", user(&tokens));
    let first = world.get(&format!("{base}&limit=50"), token(&tokens)).await.json();
    let cursor = first["next_cursor"].as_str().unwrap();
    let path = format!("{base}&limit=50&cursor={cursor}");
    let (one, two) =
        (world.get(&path, token(&tokens)).await, world.get(&path, token(&tokens)).await);
    assert_eq!(one.json(), two.json());
    let error = |response: &crate::support::TestResponse| {
        response.json()["error"]["id"].as_str().unwrap().to_owned()
    };
    let other_limit = world.get(&format!("{base}&limit=51&cursor={cursor}"), token(&tokens)).await;
    assert_eq!(
        (other_limit.status.as_u16(), error(&other_limit).as_str()),
        (400, "invalid_request")
    );
    let altered = world.get(&format!("{base}&limit=50&cursor=A{cursor}"), token(&tokens)).await;
    assert_eq!(error(&altered), "invalid_request");
    let other_grant = world.tokens("user_otp").await;
    assert_eq!(error(&world.get(&path, token(&other_grant)).await), "invalid_request");
    // A refreshed token of the same grant can continue; after a change of the window the cursor is
    // expired.
    let form = format!(
        "grant_type=refresh_token&refresh_token={}",
        tokens["refresh_token"].as_str().unwrap()
    );
    let refreshed = world.post("/oauth2/token", &form).await.json();
    assert_eq!(world.get(&path, token(&refreshed)).await.status, 200);
    world.bank.advance(3).await.unwrap();
    assert_eq!(error(&world.get(&path, token(&refreshed)).await), "cursor_expired");
}

#[tokio::test]
async fn user_slow_lets_one_wait() {
    let world = World::new().await;
    let tokens = world.tokens("user_slow").await;
    let path = format!("/users/{}", user(&tokens));
    let call = world.get(&path, token(&tokens));
    let soon = tokio::time::timeout(std::time::Duration::from_millis(500), call).await;
    assert!(soon.is_err(), "user_slow responded at once");
    assert_eq!(world.get("/customers/current", token(&tokens)).await.status, 200);
}

#[tokio::test]
async fn user_down_says_when_to_come_back() {
    let world = World::new().await;
    let tokens = world.tokens("user_down").await;
    for path in [
        format!("/users/{}", user(&tokens)),
        format!("/users/{}/transactions?{WINDOW}", user(&tokens)),
    ] {
        let response = world.get(&path, token(&tokens)).await;
        assert_eq!(response.status, 503);
        assert!(
            response.json()["retry_at"].as_str().unwrap().starts_with("2026-03-11T09:10"),
            "{}",
            response.text
        );
    }
    assert_eq!(world.get("/customers/current", token(&tokens)).await.status, 200);
}

#[tokio::test]
async fn user_flaky_fails_on_every_third_call() {
    let world = World::new().await;
    let tokens = world.tokens("user_flaky").await;
    let mut statuses = Vec::new();
    for _ in 0..6 {
        let response = world.get(&format!("/users/{}", user(&tokens)), token(&tokens)).await;
        statuses.push(response.status.as_u16());
    }
    assert_eq!(statuses, [200, 200, 500, 200, 200, 500]);
}

#[tokio::test]
async fn user_revoked_is_read_once() {
    let world = World::new().await;
    let tokens = world.tokens("user_revoked").await;
    let path = format!("/users/{}", user(&tokens));
    assert_eq!(world.get(&path, token(&tokens)).await.status, 200);
    assert_eq!(world.get(&path, token(&tokens)).await.status, 401);
    let form = format!(
        "grant_type=refresh_token&refresh_token={}",
        tokens["refresh_token"].as_str().unwrap()
    );
    let refused = world.post("/oauth2/token", &form).await;
    assert_eq!(refused.json()["error"], "invalid_grant");
    // A new authorization is good for one request again.
    let again = world.tokens("user_revoked").await;
    assert_eq!(world.get(&path, token(&again)).await.status, 200);
}

async fn sign_in(world: &World, username: &str) -> crate::support::TestResponse {
    let body = json!({ "username": username, "password": "pass_good" }).to_string();
    world.post("/users/auth_token", &body).await
}

#[tokio::test]
async fn credentials_mode_signs_each_user_in() {
    let world = World::new().await;
    let good = sign_in(&world, "user_good").await.json();
    let path = format!("/users/{}", good["user_id"].as_str().unwrap());
    assert_eq!(world.get(&path, good["auth_token"].as_str().unwrap()).await.status, 200);
    assert_eq!(sign_in(&world, "nobody").await.status, 401);
    let locked = sign_in(&world, "user_locked").await;
    assert_eq!(
        (locked.status.as_u16(), &locked.json()["error"]["id"]),
        (401, &json!("invalid_credentials"))
    );

    let otp = sign_in(&world, "user_otp").await.json();
    assert_eq!(otp["mfa_type"], "OTP");
    let base = format!("/users/{}", otp["user_id"].as_str().unwrap());
    let send =
        json!({ "challenge_id": otp["challenge_id"], "delivery_id": otp["deliveries"][0]["id"] });
    assert_eq!(world.post(&format!("{base}/sendOtp"), &send.to_string()).await.status, 200);
    let line = world.sent.lock().unwrap().pop().unwrap();
    let code = line.strip_prefix("sent to user_otp: ").unwrap().to_owned();
    let response = json!({ "challenge_id": otp["challenge_id"], "code": code });
    let done = world.post(&format!("{base}/2fa"), &response.to_string()).await.json();
    assert!(done["auth_token"].is_string(), "{done}");

    let kba = sign_in(&world, "user_kba").await.json();
    let answers = json!([{ "question_id": "pet", "answer": " biscuit" }, { "question_id": "street", "answer": "Mill Road" }]);
    let response = json!({ "challenge_id": kba["challenge_id"], "answers": answers });
    let path = format!("/users/{}/2fa", kba["user_id"].as_str().unwrap());
    assert!(world.post(&path, &response.to_string()).await.json()["auth_token"].is_string());

    let totp = sign_in(&world, "user_totp").await.json();
    let secret = TotpSecret::from_base32(demo_bank::scenario::TOTP_SECRET).unwrap();
    let code = secret.code(px_core::Clock::now(&world.clock));
    let response = json!({ "challenge_id": totp["challenge_id"], "code": code.expose() });
    let path = format!("/users/{}/2fa", totp["user_id"].as_str().unwrap());
    assert!(world.post(&path, &response.to_string()).await.json()["auth_token"].is_string());
}

#[tokio::test]
async fn a_rate_limit_counts_for_each_user() {
    let world = World::with(|config| config.rate_limit = Some(2)).await;
    let tokens = world.tokens("user_good").await;
    let path = format!("/users/{}", user(&tokens));
    let mut limited = 0;
    for _ in 0..8 {
        limited += u32::from(world.get(&path, token(&tokens)).await.status == 429);
    }
    assert!(limited > 0);
    world.clock.advance(TimeDelta::seconds(5));
    assert_eq!(world.get(&path, token(&tokens)).await.status, 200);
}

#[tokio::test]
async fn two_processes_may_share_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = demo_bank::ledger::Database::File(dir.path().join("bank.sqlite"));
    let world = World::with(|config| config.database = file.clone()).await;
    let other =
        demo_bank::ledger::Ledger::open(&file, "2030-01-01".parse().unwrap()).await.unwrap();
    let tokens = world.tokens("user_good").await;
    other.advance(14).await.unwrap();
    assert_eq!(world.bank.today().await.unwrap().to_string(), "2026-03-25");
    let path =
        format!("/users/{}/transactions?start_date=2026-03-12&end_date=2026-03-25", user(&tokens));
    let page = world.get(&path, token(&tokens)).await;
    assert!(page.json()["total"].as_u64().unwrap() > 5, "{}", page.text);
    assert_eq!(between(&page.text, "\"next_cursor\"", ",").len(), 0);
}

#[tokio::test]
async fn the_real_ledger_comes_back_through_the_api() {
    use std::{collections::BTreeMap, io::BufRead as _};
    let Some(file) = crate::books::real_ledger() else {
        eprintln!("skipped: the real ledger is not beside the checkout");
        return;
    };
    let clock = px_core::ManualClock::new(crate::support::START.parse().unwrap());
    let mut config = crate::support::config(&clock);
    config.fill_options = None;
    let bank = demo_bank::Bank::open(config).await.unwrap();
    bank.ledger().import(&file, |_| {}).await.unwrap();

    let text = flate2::read::GzDecoder::new(std::fs::File::open(&file).unwrap());
    let (mut users, mut by_account) =
        (Vec::new(), BTreeMap::<String, BTreeMap<String, String>>::new());
    let mut lines = 0;
    for line in std::io::BufReader::new(text).lines() {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        if let Some(row) = line.get("transaction") {
            let [account, id, amount] =
                ["account_id", "id", "amount"].map(|name| row[name].as_str().unwrap().to_owned());
            by_account.entry(account).or_default().insert(id, amount);
            lines += 1;
        } else if let Some(user) = line.get("user") {
            users.push(user.clone());
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    let world = World { bank, clock, sent: Default::default(), _ledger_file: None };
    for user in users {
        let id = user["user_id"].as_str().unwrap();
        let (client, principal) = ("plaid".parse().unwrap(), id.parse().unwrap());
        let scopes = px_types::ScopeSet::defaults();
        let all = px_server::PermittedAccounts::All;
        let token = world.bank.oauth().issue_for(&client, principal, scopes, all).await.unwrap();
        let data = world.get(&format!("/users/{id}"), token.expose()).await.json();
        let accounts =
            data["accounts"].as_array().unwrap().iter().map(|account| account["id"].clone());
        assert_eq!(accounts.collect::<Vec<_>>(), *user["account_ids"].as_array().unwrap());
        let mut expected: BTreeMap<_, _> = user["account_ids"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|account| by_account.get(account.as_str().unwrap()))
            .flatten()
            .collect();
        let base =
            format!("/users/{id}/transactions?start_date=2024-01-01&end_date=2026-12-31&limit=500");
        let mut next = String::new();
        loop {
            let page = world.get(&format!("{base}{next}"), token.expose()).await.json();
            for row in page["transactions"].as_array().unwrap() {
                let id = row["id"].as_str().unwrap().to_owned();
                assert_eq!(row["amount"].as_str(), expected.remove(&id).map(String::as_str));
                seen.insert(id);
            }
            match page["next_cursor"].as_str() {
                Some(cursor) => next = format!("&cursor={cursor}"),
                None => break,
            }
        }
        assert!(expected.is_empty(), "{id}: {} transactions are missing", expected.len());
    }
    assert_eq!((seen.len(), lines), (49_102, 49_102));
}
