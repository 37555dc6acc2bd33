//! `px review`, `px accept`, `px remap`.

use crate::{bank::Bank, px::Px};

/// Returns the ids of an Item's posted transactions.
async fn posted(px: &Px, item: &str) -> Vec<String> {
    let rows = px.transactions(item).await.into_iter();
    let posted = rows.filter(|row| !row["settled_at"].is_null());
    posted.map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn what_is_on_hold_is_listed_decided_on_and_taken_back() {
    let bank = Bank::new().with_user("ann", 3000);
    let px = Px::at(&bank.door(0).await);
    let item = px.link("ann", &[]).await;
    px.ok(&["sync", &item]).await;
    let before = posted(&px, &item).await;
    assert!(before.len() > 2900);
    assert!(px.ok(&["review"]).await.stderr.contains("no data waits"));
    px.run(&["remap", &item]).await.fails(1, "no data of the Item is on hold");

    bank.renumber("ann");
    px.run(&["sync", &item]).await;
    assert!(posted(&px, &item).await == before, "on hold");
    let shown = px.ok(&["item", &item]).await.stdout;
    assert!(shown.contains("decision_pending") && shown.contains("px review"), "{shown}");
    assert_eq!(px.items().await[0]["health"]["state"], "decision_pending");
    let listed = px.ok(&["review", "--json"]).await.json();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (&listed[0]["item_id"], &listed[0]["subject"]),
        (&item.clone().into(), &"transactions".into())
    );
    assert!(listed[0]["decision"].is_null());
    assert!(px.ok(&["review", &item]).await.stdout.contains("waits"));
    assert_eq!(px.ok(&["review", "--institution", "nowhere", "--json"]).await.stdout, "");

    px.ok(&["remap", "--institution", "bank", "--by", "kim"]).await;
    px.ok(&["sync", &item]).await;
    assert!(posted(&px, &item).await == before, "under the ids that applications know");
    assert_eq!(px.items().await[0]["health"]["state"], "healthy");
    let listed = px.ok(&["review"]).await.stdout;
    assert!(listed.contains("remapped by kim"), "{listed}");

    px.ok(&["review", "--undo", &item]).await;
    assert_eq!(px.items().await[0]["health"]["state"], "decision_pending");
    px.ok(&["review", "--undo", "--institution", "bank"]).await;
    px.ok(&["accept", &item]).await;
    px.ok(&["sync", &item]).await;
    let after = posted(&px, &item).await;
    assert_eq!(after.len(), before.len());
    assert!(after.iter().all(|id| id.starts_with("other-")));
}

#[tokio::test]
async fn wrong_decisions_are_refused() {
    for (arguments, code, why) in [
        (&["review", "--undo"][..], 2, "--institution"),
        (&["accept"], 2, "--institution"),
        (&["accept", "i", "--institution", "bank"], 2, "cannot be used with"),
        (&["accept", "--account", "a"], 2, "ITEM"),
        (&["remap", "i", "--onto", "a"], 2, "--account"),
        (&["accept", "no-such-item"], 4, "no such Item"),
        (&["review", "no-such-item"], 4, "no Item"),
    ] {
        let bank = Bank::new().with_user("ann", 1);
        let px = Px::at(&bank.door(0).await);
        px.link("ann", &[]).await;
        px.run(arguments).await.fails(code, why);
    }
}
