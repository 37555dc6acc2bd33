//! Control characters in a bank's texts never reach a terminal.

use crate::{
    bank::{Bank, Trouble},
    px::Px,
};

#[tokio::test]
async fn nothing_that_a_bank_writes_moves_the_cursor_or_reorders_a_line() {
    let bank = Bank::new().with_user("ann", 20);
    bank.trouble("ann", Some(Trouble::Hostile));
    let px = Px::at(&bank.door(0).await);
    let item = px.link("ann", &[]).await;
    let mut ended = vec![px.ok(&["sync", &item]).await];
    for arguments in [
        &["items"][..],
        &["item", &item],
        &["item", &item, "--accounts", "--transactions"],
        &["items", "--json"],
        &["item", &item, "--accounts", "--transactions", "--json"],
        &["review"],
        &["sync", &item, "--json"],
    ] {
        ended.push(px.ok(arguments).await);
    }
    let shown = |text: &str| text.contains('A') && text.contains('B');
    assert!(shown(&ended[2].stdout) && shown(&ended[3].stdout), "{ended:?}");
    for text in ended.iter().flat_map(|ended| [&ended.stdout, &ended.stderr]) {
        let unsafe_one = text.chars().find(|c| *c != '\n' && px_core::text::is_unsafe(*c));
        assert_eq!(unsafe_one, None, "{text:?}");
    }
    // A reader of the JSON gets the text that the bank wrote.
    let lines = ended[5].json();
    let description = lines.iter().find_map(|line| line["transaction"]["description"].as_str());
    assert_eq!(description, Some(crate::bank::HOSTILE));
}
