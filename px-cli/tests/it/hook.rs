//! The webhooks of a running `px`, as their receiver gets them.

use crate::{bank::Bank, px::Px};
use axum::{Router, http::HeaderMap, routing::post};
use px_server::webhook::{FixedKeys, Verifier};
use px_types::model::verification_key::VerificationKey;
use serde_json::Value;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

type Received = Arc<Mutex<Vec<(String, String)>>>;

/// Starts an application that receives webhooks, and records their signatures and bodies.
async fn receiver() -> (String, Received) {
    let received = Received::default();
    let taken = Arc::clone(&received);
    let take = move |headers: HeaderMap, body: String| async move {
        let signature = headers["plaid-verification"].to_str().unwrap().to_owned();
        taken.lock().unwrap().push((signature, body));
    };
    let router = Router::new().route("/hooks", post(take));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hooks?who=s3cret", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, received)
}

#[tokio::test]
async fn webhooks_arrive_signed_by_the_key_that_is_printed() {
    let bank = Bank::new().with_user("ann", 30);
    let px = Px::at(&bank.door(0).await);
    let (url, received) = receiver().await;
    let item = px.link("ann", &["--webhook", &url]).await;
    let key: VerificationKey = serde_json::from_str(&px.ok(&["keys"]).await.stdout).unwrap();
    px.ok(&["run", "--until-idle", "--allow-private-webhooks"]).await;

    let verifier = Verifier::new(Arc::new(FixedKeys::new(vec![key])));
    let received = received.lock().unwrap().clone();
    let mut codes = Vec::new();
    for (signature, body) in &received {
        verifier.verify(signature, body.as_bytes(), None).await.unwrap();
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(
            (&body["item_id"], &body["environment"]),
            (&item.as_str().into(), &"development".into())
        );
        codes.push(body["webhook_code"].as_str().unwrap().to_owned());
    }
    codes.sort();
    codes.dedup();
    assert_eq!(codes, ["HISTORICAL_UPDATE", "INITIAL_UPDATE", "SYNC_UPDATES_AVAILABLE"]);
    let shown = px.ok(&["item", &item]).await.stdout;
    assert!(shown.contains("/hooks") && !shown.contains("s3cret"), "{shown}");
}

#[tokio::test]
async fn without_leave_no_webhook_goes_to_this_machine() {
    let bank = Bank::new().with_user("ann", 30);
    let px = Px::at(&bank.door(0).await);
    let (url, received) = receiver().await;
    px.link("ann", &["--webhook", &url]).await;
    px.ok(&["run", "--until-idle"]).await;
    assert!(received.lock().unwrap().is_empty());
}
