//! `px keys --usage` and `--reseal`: changing the key that seals tokens.

use crate::{bank::Bank, px::Px};
use px_items::testing::postgres;
use serde_json::{Value, json};

/// Adds a key to the key file, and makes it the sealing key.
fn add_key(px: &Px, name: &str, letter: char) {
    let file = px.path("px.key");
    let text = std::fs::read_to_string(&file).unwrap();
    let others = text.lines().filter(|line| !line.starts_with("seal-with"));
    let others: Vec<_> = others.collect();
    let key = letter.to_string().repeat(42);
    let text = format!("{}\n{name} {key}A=\nseal-with {name}\n", others.join("\n"));
    std::fs::write(file, text).unwrap();
}

/// Removes a key from the file.
fn remove_key(px: &Px, name: &str) {
    let file = px.path("px.key");
    let text = std::fs::read_to_string(&file).unwrap();
    let others: Vec<_> = text.lines().filter(|line| !line.starts_with(name)).collect();
    std::fs::write(file, others.join("\n")).unwrap();
}

async fn usage(px: &Px) -> Vec<Value> {
    px.ok(&["keys", "--usage", "--json"]).await.json()
}

async fn keys_are_changed(px: &Px, bank: &Bank, users: &[&str]) {
    for user in users {
        px.link(user, &[]).await;
    }
    let before = usage(px).await;
    assert_eq!(before.len(), 1, "{before:?}");
    assert_eq!(before[0]["key_id"], "key-1");
    assert_eq!((&before[0]["seals"], &before[0]["tokens"]), (&json!(true), &json!(users.len())));
    assert!(before[0]["secrets"].as_u64() > Some(0), "{before:?}");
    let total = before[0]["total"].clone();

    add_key(px, "key-2", 'B');
    let ended = px.ok(&["keys", "--usage"]).await;
    assert!(ended.stdout.contains("seals") && ended.stdout.contains("opens"), "{ended:?}");
    let shown = usage(px).await;
    let shown: Vec<_> = shown.iter().map(|line| (&line["key_id"], &line["total"])).collect();
    assert_eq!(shown, [(&json!("key-1"), &total), (&json!("key-2"), &json!(0))]);
    let done = px.ok(&["keys", "--reseal", "--json"]).await.json();
    assert_eq!(done, [json!({"key_id": "key-2", "resealed": total, "unreadable": 0})]);
    let again = px.ok(&["keys", "--reseal"]).await;
    assert!(again.stderr.contains("sealed 0 secrets again under the key key-2"), "{again:?}");
    remove_key(px, "key-1");
    let after = usage(px).await;
    assert_eq!((after.len(), &after[0]["total"]), (1, &total), "{after:?}");

    // All secrets can be opened.
    px.ok(&["run", "--until-idle"]).await;
    for (user, item) in users.iter().zip(px.items().await) {
        let id = item["id"].as_str().unwrap();
        assert_eq!(item["login_required"], json!(false), "{user}");
        assert_eq!(px.transactions(id).await.len(), bank.rows(user).len());
    }

    // A key is lost.
    let total = usage(px).await[0]["total"].clone();
    add_key(px, "key-3", 'C');
    remove_key(px, "key-2");
    let ended = px.run(&["keys", "--usage", "--json"]).await;
    ended.fails(1, "not in the key file: key-2; restore");
    let lines = ended.json();
    assert_eq!((&lines[0]["in_file"], &lines[0]["total"]), (&json!(false), &total), "{lines:?}");
    let ended = px.run(&["keys", "--reseal", "--json"]).await;
    ended.fails(1, "cannot be opened and stayed as they are");
    assert_eq!(ended.json()[0]["unreadable"], total);
    assert_eq!(ended.json()[0]["resealed"], 0);
}

#[tokio::test]
async fn the_key_that_seals_is_changed_on_sqlite() {
    let bank = Bank::new().with_user("ann", 10).with_user("bob", 10);
    let px = Px::at(&bank.door(0).await);
    px.run(&["keys", "--usage"]).await.fails(1, "`px link` creates");
    px.run(&["keys", "--reseal"]).await.fails(1, "`px link` creates");
    keys_are_changed(&px, &bank, &["ann", "bob"]).await;
}

#[tokio::test]
async fn the_key_that_seals_is_changed_on_postgres() {
    let Some(database) = postgres::database().await else { return };
    let bank = Bank::new().with_user("ann", 10).with_user("bob", 10);
    let px = Px::at(&bank.door(0).await).on(database.as_str());
    px.ok(&["keys"]).await;
    keys_are_changed(&px, &bank, &["ann", "bob"]).await;
}
