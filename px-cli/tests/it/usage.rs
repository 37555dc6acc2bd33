//! The command line: help, wrong usage, and files and databases that cannot be used.

use crate::{
    bank::Bank,
    px::{Px, is_private, tokens},
};

/// An address without a server.
const NOWHERE: &str = "http://127.0.0.1:9";

#[tokio::test]
async fn help_is_as_documented() {
    let px = Px::at(NOWHERE);
    for (name, arguments) in [
        ("px", &["--help"][..]),
        ("link", &["link", "--help"]),
        ("item", &["item", "--help"]),
        ("review", &["review", "--help"]),
        ("remap", &["remap", "--help"]),
        ("run", &["run", "--help"]),
        ("keys", &["keys", "--help"]),
        ("unlink", &["unlink", "--help"]),
    ] {
        insta::assert_snapshot!(format!("help_{name}"), px.ok(arguments).await.stdout);
    }
}

#[tokio::test]
async fn wrong_usage_ends_with_2() {
    let px = Px::at(NOWHERE);
    for (arguments, why) in [
        (&["sing"][..], "unrecognized subcommand"),
        (&["item"], "ITEM"),
        (&["link", "--institution", "bank"], "--redirect-uri"),
        (
            &["link", "--institution", "bank", "--redirect-uri", "https://a.example/x"],
            "this machine",
        ),
        (&["link", "--institution", "bank", "--tokens", "-", "--product", "gold"], "one of assets"),
        (&["run", "--workers", "0"], "1..=1024"),
        (&["run", "--lease", "1h"], "at most an hour"),
        (&["unlink", "i"], "--application"),
        (&["items", "--database", "mysql://x"], "sqlite:FILE"),
        (&["items", "--database", "postgres://px:hunter2@db/px"], "PGPASSWORD"),
        (&["items", "--environment", "moon"], "sandbox"),
        (&["keys", "--usage", "--reseal"], "--reseal"),
        (&["item", "i", "--from", "2026-01-01"], "--transactions"),
    ] {
        let ended = px.run(arguments).await;
        ended.fails(2, why);
        assert!(!ended.stderr.contains("hunter2"), "{ended:?}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_the_partners_file_is_said() {
    let px = Px::at(NOWHERE);
    let arguments = ["link", "--institution", "bank", "--tokens", "-"];
    let good = std::fs::read_to_string(px.path("px.partners.json")).unwrap();
    let file = px.path("px.partners.json");
    let with = |more: &str| good.replace("\"per_second\"", &format!("{more},\"per_second\""));
    for (text, why) in [
        ("{".to_owned(), "line 1"),
        (with(r#""discover":true"#), "discover needs the issuer"),
        (with(r#""discover":true,"issuer":"id.bank.example""#), "is not a URL"),
        (
            with(
                r#""discover":true,"issuer":"https://a.example","token_endpoint":"https://a.example""#,
            ),
            "one of them",
        ),
        (with(r#""token_endpoint":"https://a.example/token""#), "both of them"),
        (with(r#""revocation_endpoint":"https://a.example/revoke""#), "both of them"),
        (with(r#""client_secret_in_body":true"#), "both of them"),
        (with(r#""authorization_endpoint":"a","token_endpoint":"b""#), "is not a URL"),
        (good.replace("base_url", "basis_url"), "unknown field"),
        (good.replace("secret\"", "nothing\""), "cannot read"),
        (good.replace("http://", "ftp://"), "neither https nor http"),
        (good.replace("10000", "0"), "1 or more"),
        (good.replace("client_secret_file", "client_secret_env"), "the environment has no secret"),
        (format!("[{0},{0}]", &good[1..good.len() - 1]), "twice"),
    ] {
        std::fs::write(&file, text).unwrap();
        px.feed(&arguments, &tokens("ann")).await.fails(2, why);
    }
    std::fs::remove_file(&file).unwrap();
    px.feed(&arguments, &tokens("ann")).await.fails(2, "--partners");
    std::fs::write(&file, good.replace("bank", "other")).unwrap();
    px.feed(&arguments, &tokens("ann")).await.fails(4, "no institution bank; it has other");
    assert!(!px.path("px.db").exists(), "nothing was made");
}

#[tokio::test]
async fn tokens_that_are_none_are_not_repeated() {
    let px = Px::at(NOWHERE);
    let arguments = ["link", "--institution", "bank", "--tokens", "-"];
    for text in ["", "[]", r#"{"access_token": 7}"#, r#"{"access_token": "hunter2"}"#] {
        let ended = px.feed(&arguments, text).await;
        ended.fails(2, "access_token and issued_at");
        assert!(!ended.stderr.contains("hunter2"), "{ended:?}");
    }
}

#[tokio::test]
async fn a_database_that_cannot_be_used_says_so() {
    let px = Px::at(NOWHERE);
    px.run(&["items"]).await.fails(1, "`px link` creates");
    px.run(&["run", "--database", "sqlite:no/such/folder/px.db"]).await.fails(1, "no/such/folder");
    std::fs::write(px.path("noise.db"), "these are not the bytes of a database".repeat(200))
        .unwrap();
    std::fs::write(px.path("noise.key"), "no key").unwrap();
    px.run(&["items", "--database", "sqlite:noise.db"]).await.fails(1, "noise");
    px.run(&["items", "--database", "postgres://db/px"]).await.fails(2, "--key-file");
}

#[tokio::test]
async fn an_unreachable_server_is_named_without_its_password() {
    let bank = Bank::new().with_user("ann", 1);
    let px = Px::at(&bank.door(0).await);
    px.link("ann", &[]).await;
    let px = px.on("postgres://px:hunter2@127.0.0.1:9/px");
    let ended = px.run(&["items"]).await;
    ended.fails(1, "database");
    assert!(!ended.stderr.contains("hunter2"), "{ended:?}");
}

#[tokio::test]
async fn keys_are_made_for_their_owner_alone_and_never_replaced() {
    let bank = Bank::new().with_user("ann", 10);
    let px = Px::at(&bank.door(0).await);
    let item = px.link("ann", &[]).await;
    px.ok(&["run", "--until-idle"]).await;
    assert!(is_private(&px.path("px.key")) && is_private(&px.path("px.webhook.pem")));
    let first = px.ok(&["keys"]).await.json();
    assert_eq!(first[0]["alg"], "ES256");
    assert_eq!(px.ok(&["keys"]).await.json(), first);

    // Without its key a token cannot be read: an error is reported, and no other key is created.
    std::fs::remove_file(px.path("px.key")).unwrap();
    for arguments in [&["sync", &item][..], &["keys"], &["run", "--until-idle"]] {
        px.run(arguments).await.fails(1, "px.key");
    }
    assert!(!px.path("px.key").exists());
}

#[tokio::test]
async fn what_is_not_there_ends_with_4() {
    let bank = Bank::new().with_user("ann", 10);
    let px = Px::at(&bank.door(0).await);
    let item = px.link("ann", &[]).await;
    for arguments in [&["item", "nobody"][..], &["sync", "nobody"], &["unlink", "nobody", "--all"]]
    {
        px.run(arguments).await.fails(4, "there is no Item nobody");
    }
    px.run(&["unlink", &item, "--application", "other"]).await.fails(4, "other is not connected");
}
