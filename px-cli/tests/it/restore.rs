//! `px run --after-restore`: stored access tokens are used first, and refreshes are sent one by one.

use crate::{
    bank::Bank,
    px::{Px, real_pause},
};
use std::{collections::BTreeSet, time::Duration};
use tokio::time::timeout;

/// Nothing here takes longer on a working machine.
const SOON: Duration = Duration::from_secs(60);

/// Returns tokens as in the backup: by its date, the access token expired long ago.
fn of_the_backup(user: &str, access_token: &str) -> String {
    serde_json::json!({
        "access_token": access_token, "refresh_token": format!("refresh-{user}-0"), "user_id": user,
        "issued_at": "2026-01-01T00:00:00Z", "expires_at": "2026-01-01T00:15:00Z",
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_access_tokens_are_used_and_refreshes_come_one_by_one() {
    let refused = ["anna", "ben", "carl"];
    let bank = refused
        .iter()
        .fold(Bank::new().with_user("good", 20), |bank, user| bank.with_user(user, 20));
    let px = Px::at(&bank.door(0).await);
    let link = ["link", "--institution", "bank", "--tokens", "-", "--json"];
    // The bank accepts the first token and refuses the others.
    let mut tokens = vec![of_the_backup("good", "token-good")];
    tokens.extend(refused.map(|user| of_the_backup(user, &format!("expired-{user}"))));
    for tokens in tokens {
        let linked = px.feed(&link, &tokens).await;
        assert_eq!(linked.code, 0, "{linked:?}");
    }
    let mut refreshes = bank.refreshes();
    let mut child = px.command(&["run", "--after-restore=1s"]).spawn().unwrap();
    let all = timeout(SOON, refreshes.wait_for(|all| all.len() == refused.len())).await;
    all.expect("those that are refused are refreshed").unwrap();
    let are_idle = async {
        while !px.items().await.iter().all(|item| item["phase"] == "idle") {
            real_pause(Duration::from_millis(100)).await;
        }
    };
    timeout(SOON, are_idle).await.expect("all are fetched");
    child.kill().await.unwrap();
    let used = refreshes.borrow().clone();
    let names: BTreeSet<_> = used.iter().map(|(token, _)| token.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["refresh-anna-0", "refresh-ben-0", "refresh-carl-0"]));
    for pair in used.windows(2) {
        let apart = pair[1].1 - pair[0].1;
        assert!(apart >= Duration::from_millis(900), "two refreshes {apart:?} apart");
    }
    for item in px.items().await {
        assert_eq!(item["login_required"], false, "{item}");
    }
}
