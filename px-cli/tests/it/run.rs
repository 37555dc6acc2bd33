//! Items from link to removal: run, sync, items, item, unlink.

use crate::{
    bank::{Bank, Trouble},
    px::{Px, ended, heard},
};
use serde_json::Value;
use sqlx::Connection as _;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::Child,
    time::timeout,
};

const SOON: Duration = Duration::from_secs(20);

fn errors(items: &[Value]) -> Vec<&str> {
    items.iter().map(|item| item["error"]["message"].as_str().unwrap_or("")).collect()
}

#[tokio::test]
async fn an_item_from_its_link_to_its_end() {
    let bank = Bank::new().with_user("ann", 700).with_user("bob", 40);
    let px = Px::at(&bank.door(0).await);
    let (ann, bob) = (px.link("ann", &[]).await, px.link("bob", &[]).await);
    assert!(px.items().await.iter().all(|item| item["phase"] == "created"));

    let run = px.ok(&["run", "--workers", "2", "--until-idle"]).await;
    assert_eq!(run.stdout.lines().filter(|line| line.contains(&ann)).count(), 1, "{run:?}");
    for (item, user) in [(&ann, "ann"), (&bob, "bob")] {
        assert_eq!(px.transactions(item).await, bank.rows(user));
    }
    let items = px.items().await;
    assert!(items.iter().all(|item| item["phase"] == "idle" && item["history"] == "complete"));
    let table = px.ok(&["items"]).await.stdout;
    assert!(table.contains(&ann) && table.contains("idle") && table.contains(" h "), "{table}");

    bank.live_on("ann");
    let sync = px.ok(&["sync", &ann]).await;
    assert!(sync.stdout.contains("new"), "{sync:?}");
    let shown = px.ok(&["item", &ann, "--accounts"]).await.stdout;
    assert!(shown.contains("checking") && shown.contains("41.50 USD"), "{shown}");
    assert!(!shown.contains("Ann Example"), "an owner's name: {shown}");

    assert!(bank.revoked().is_empty());
    let off = px.ok(&["unlink", &ann, "--all"]).await;
    assert!(off.stdout.contains("deleted"), "{off:?}");
    px.run(&["item", &ann]).await.fails(4, "no Item");
    assert_eq!(px.items().await.len(), 1);
    px.ok(&["run", "--until-idle"]).await;
    assert_eq!(bank.revoked(), ["token-ann"]);
}

#[tokio::test]
async fn a_sync_alone_does_the_initial_fetch() {
    let bank = Bank::new().with_user("ann", 300);
    let px = Px::at(&bank.door(0).await);
    let item = px.link("ann", &[]).await;
    let report = px.ok(&["sync", &item, "--json"]).await.json();
    assert_eq!(report[0]["added"], 300, "{report:?}");
    assert_eq!(px.transactions(&item).await, bank.rows("ann"));
    // Nothing has changed since.
    let report = px.ok(&["sync", &item, "--json"]).await.json();
    assert_eq!(
        (&report[0]["added"], &report[0]["modified"], &report[0]["removed"]),
        (&0.into(), &0.into(), &0.into())
    );
}

#[tokio::test]
async fn items_that_fail_end_with_3() {
    let bank = Bank::new().with_user("ann", 30).with_user("bob", 30);
    let px = Px::at(&bank.door(0).await);
    let ann = px.link("ann", &[]).await;
    bank.trouble("ann", Some(Trouble::Broken));
    px.run(&["sync", &ann]).await.fails(3, "internal_error");
    assert!(!errors(&px.items().await)[0].is_empty());
    bank.trouble("ann", None);
    px.ok(&["sync", &ann]).await;
    assert_eq!(errors(&px.items().await), [""]);

    let bob = px.link("bob", &[]).await;
    bank.trouble("bob", Some(Trouble::Revoked));
    px.run(&["run", "--until-idle"]).await.fails(3, "1 of 2 Items");
    let items = px.items().await;
    let lost = items.iter().find(|item| item["id"] == *bob).unwrap();
    assert_eq!(lost["login_required"], true);
    px.run(&["sync", &bob]).await.fails(3, "sign in again");

    // The user signs in again.
    bank.trouble("bob", None);
    assert_eq!(px.link("bob", &[]).await, bob);
    px.ok(&["run", "--until-idle"]).await;
    assert_eq!(px.transactions(&bob).await, bank.rows("bob"));
}

#[tokio::test]
async fn items_that_wait_for_their_turn_are_waited_for() {
    let bank = Bank::new().with_user("ann", 30).with_user("bob", 30);
    bank.slow(Duration::from_millis(20));
    let px = Px::at(&bank.door(0).await);
    let narrow = std::fs::read_to_string(px.path("px.partners.json")).unwrap();
    let narrow = narrow.replace("\"per_second\"", "\"at_once\":1,\"per_second\"");
    std::fs::write(px.path("px.partners.json"), narrow).unwrap();
    px.link("ann", &[]).await;
    px.link("bob", &[]).await;
    let events = px.ok(&["run", "--workers", "2", "--until-idle", "--json"]).await.json();
    // The institution allows one user at a time, so the other Item is deferred for seconds.
    assert!(events.iter().any(|event| event["event"] == "put_off"), "{events:?}");
    assert!(px.items().await.iter().all(|item| item["phase"] == "idle"));
}

#[tokio::test]
async fn events_are_json_lines() {
    let bank = Bank::new().with_user("ann", 300);
    let px = Px::at(&bank.door(0).await);
    let item = px.link("ann", &[]).await;
    let events = px.ok(&["run", "--until-idle", "--json"]).await.json();
    assert!(events.iter().all(|event| event["item_id"] == *item && event["at"].is_string()));
    let named = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    assert_eq!((named("claimed"), named("finished")), (1, 1), "{events:?}");
    assert!(named("window_read") > 2, "{events:?}");
    assert_eq!(events.last().unwrap()["added"], 300, "{events:?}");
}

#[tokio::test]
async fn two_applications_share_an_item() {
    let bank = Bank::new().with_user("ann", 30);
    let px = Px::at(&bank.door(0).await);
    let item = px.link("ann", &["--application", "one"]).await;
    px.ok(&["run", "--until-idle"]).await;
    let before = bank.calls().len();
    let two = ["--application", "two", "--product", "auth", "--account", "ann-savings"];
    assert_eq!(px.link("ann", &two).await, item);
    px.ok(&["run", "--until-idle"]).await;
    assert_eq!(bank.calls().len(), before, "joining fetches nothing");
    let shown = px.ok(&["item", &item]).await.stdout;
    assert!(
        shown.contains("one") && shown.contains("two") && shown.contains("1 account"),
        "{shown}"
    );
    let off = px.ok(&["unlink", &item, "--application", "one"]).await.stdout;
    assert!(off.contains("other applications stay"), "{off}");
    assert_eq!(px.transactions(&item).await, bank.rows("ann"));
}

/// `px` on its own terminal.
#[cfg(target_os = "linux")]
struct Terminal {
    script: Child,
    shown: String,
}

#[cfg(target_os = "linux")]
impl Terminal {
    fn start(px: &Px, arguments: &str) -> Self {
        let program = format!("{} {arguments}", env!("CARGO_BIN_EXE_px"));
        // `script` of util-linux gives a program a terminal.
        let mut terminal = px.command(&[]);
        terminal.env("PX", program).env("TERM", "xterm-256color");
        let mut script = tokio::process::Command::new("script");
        script.args(["-qec", "stty cols 120 rows 40; $PX", "/dev/null"]).current_dir(&px.folder);
        script.envs(terminal.as_std().get_envs().filter_map(|(name, value)| Some((name, value?))));
        script.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
        script.kill_on_drop(true);
        Self { script: script.spawn().unwrap(), shown: String::new() }
    }

    /// Reads until the terminal has shown the expected text.
    async fn until(&mut self, seen: impl Fn(&str) -> bool) {
        let begun = self.shown.len();
        while !seen(&self.shown) {
            let more = timeout(SOON, self.more()).await;
            let what = &self.shown[begun..];
            assert!(more.unwrap_or_else(|_| panic!("nothing more: {what}")), "it ended: {what}");
        }
    }

    /// Reads more output. Returns whether there was any.
    async fn more(&mut self) -> bool {
        let mut bytes = vec![0; 4096];
        let stdout = self.script.stdout.as_mut().unwrap();
        let count = stdout.read(&mut bytes).await.unwrap();
        // A character may be split between two reads; the expected texts have no such characters.
        self.shown += &String::from_utf8_lossy(&bytes[..count]);
        count > 0
    }

    /// Returns all output, once the program has ended with this code.
    async fn ends(mut self, code: i32) -> String {
        while timeout(SOON, self.more()).await.expect("it ends") {}
        let status = timeout(SOON, self.script.wait()).await.expect("it ends").unwrap();
        assert_eq!(status.code(), Some(code), "{}", self.shown);
        self.shown
    }
}

/// Returns whether a bar is shown between its beginning and its end.
#[cfg(target_os = "linux")]
fn has_part_of_a_bar(shown: &str) -> bool {
    let mut before = shown.split(" %").collect::<Vec<_>>();
    before.pop();
    before.iter().any(|text| {
        let digits = text.rsplit(' ').next().unwrap();
        digits.parse::<u64>().is_ok_and(|percent| (1..100).contains(&percent))
    })
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_shows_the_items_and_how_their_fetches_come_along() {
    let bank = Bank::new().with_user("ann", 3000).with_user("bob", 30);
    let bank = bank.with_user("carl", 1500);
    let px = Px::at(&bank.door(0).await);
    let (ann, bob) = (px.link("ann", &[]).await, px.link("bob", &[]).await);
    bank.trouble("bob", Some(Trouble::Revoked));
    let shown = Terminal::start(&px, &format!("sync {bob}")).ends(3).await;
    assert!(shown.contains("sign in again"), "{shown}");

    // The bank stops in the middle of a fetch until the bar was shown there.
    bank.hold_after(5);
    let mut terminal = Terminal::start(&px, &format!("sync {ann}"));
    terminal.until(has_part_of_a_bar).await;
    bank.let_go();
    let shown = terminal.ends(0).await;
    assert!(shown.contains("3000 new, 0 changed, 0 gone"), "{shown}");

    let carl = px.link("carl", &[]).await;
    bank.hold_after(5);
    let mut terminal = Terminal::start(&px, "run --until-idle");
    // The bar of the fetch begins with its Item; the table's row has no percentage.
    terminal
        .until(|shown| {
            shown.rfind(&format!("{carl}  ")).is_some_and(|at| has_part_of_a_bar(&shown[at..]))
        })
        .await;
    bank.let_go();
    let shown = terminal.ends(3).await;
    // The final state of all Items.
    let last = &shown[shown.rfind("3 Items: ").expect("a headline")..];
    assert!(last.contains("2 idle, 1 lack a sign-in"), "{shown}");
    assert!(last.contains(&ann) && last.contains(&carl) && !last.contains("running"), "{shown}");
}

/// Starts a `px run` and waits for the line that it is running.
async fn started(px: &Px, more: &[&str]) -> (Child, String) {
    let mut arguments = vec!["run"];
    arguments.extend(more);
    let mut child = px.command(&arguments).spawn().unwrap();
    let said = heard(&mut child, "running").await;
    (child, said)
}

async fn signal(child: &Child, name: &str) {
    let id = child.id().unwrap().to_string();
    let sent = tokio::process::Command::new("kill").args([name, &id]).status().await;
    assert!(sent.unwrap().success());
}

#[tokio::test]
async fn a_signal_ends_it_in_order() {
    let bank = Bank::new().with_user("ann", 3000);
    bank.slow(Duration::from_millis(30));
    let px = Px::at(&bank.door(0).await);
    let item = px.link("ann", &[]).await;
    for name in ["-TERM", "-INT"] {
        let mut calls = bank.begun();
        let before = *calls.borrow_and_update();
        let (child, _) = started(&px, &[]).await;
        timeout(SOON, calls.wait_for(|calls| *calls >= before + 3)).await.unwrap().unwrap();
        signal(&child, name).await;
        let ended = timeout(SOON, ended(child)).await.unwrap();
        assert_eq!(ended.code, 0, "{ended:?}");
        // Its Item was handed back, so no lease has to expire.
        let items = px.items().await;
        assert_eq!((&items[0]["running"], &items[0]["phase"]), (&false.into(), &"created".into()));
    }
    bank.slow(Duration::ZERO);
    px.ok(&["run", "--until-idle"]).await;
    assert_eq!(px.transactions(&item).await, bank.rows("ann"));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let bank = Bank::new().with_user("ann", 30);
    bank.slow(Duration::from_secs(60));
    let px = Px::at(&bank.door(0).await);
    px.link("ann", &[]).await;
    let mut calls = bank.begun();
    let (mut child, _) = started(&px, &[]).await;
    timeout(SOON, calls.wait_for(|calls| *calls > 0)).await.unwrap().unwrap();
    signal(&child, "-TERM").await;
    heard(&mut child, "stopping").await;
    signal(&child, "-TERM").await;
    timeout(SOON, ended(child)).await.unwrap().fails(143, "no data is lost");
}

#[tokio::test]
async fn figures_are_served() {
    let bank = Bank::new().with_user("ann", 30);
    let px = Px::at(&bank.door(0).await);
    px.link("ann", &[]).await;
    let (child, said) = started(&px, &["--metrics", "127.0.0.1:0"]).await;
    let address = said.split("http://").nth(1).unwrap().split('/').next().unwrap();
    let mut metrics = String::new();
    // The metrics are complete once the first update has ended.
    while !metrics.contains("px_update_duration_seconds_bucket") {
        metrics = metrics_at(address).await;
        assert!(metrics.starts_with("HTTP/1.1 200 "), "{metrics}");
    }
    assert!(metrics.contains("# HELP px_items Items in each state"), "{metrics}");
    signal(&child, "-TERM").await;
    assert_eq!(ended(child).await.code, 0);
}

/// Returns the metrics that `px run --metrics` serves.
async fn metrics_at(address: &str) -> String {
    let mut text = String::new();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    timeout(SOON, stream.read_to_string(&mut text)).await.unwrap().unwrap();
    text
}

/// An Item that a later version stored is listed and counted, and the others are updated.
#[tokio::test]
async fn an_undecodable_item_is_shown_and_counted() {
    let bank = Bank::new().with_user("ann", 30).with_user("bob", 40);
    let px = Px::at(&bank.door(0).await);
    let (ann, bob) = (px.link("ann", &[]).await, px.link("bob", &[]).await);
    let file = format!("sqlite:{}", px.path("px.db").display());
    let mut database = sqlx::SqliteConnection::connect(&file).await.unwrap();
    let sql = "UPDATE items SET life = '{\"history\":\"quantum\"}' WHERE item_id = ?1";
    sqlx::query(sql).bind(&ann).execute(&mut database).await.unwrap();
    database.close().await.unwrap();

    let (child, said) = started(&px, &["--metrics", "127.0.0.1:0"]).await;
    let address = said.split("http://").nth(1).unwrap().split('/').next().unwrap();
    let mut metrics = String::new();
    while !metrics.contains("px_update_duration_seconds_bucket") {
        metrics = metrics_at(address).await;
    }
    assert!(metrics.contains("px_unreadable_total{what=\"item\"}"), "{metrics}");
    signal(&child, "-TERM").await;
    assert_eq!(ended(child).await.code, 0);
    assert_eq!(px.transactions(&bob).await.len(), 40);
    let table = px.ok(&["items"]).await.stdout;
    let line = table.lines().find(|line| line.contains(&ann)).unwrap();
    assert!(line.contains("unreadable"), "{table}");
    assert!(table.contains(&bob), "{table}");
}
