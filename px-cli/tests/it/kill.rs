//! `px run` under `kill -9`: no data is lost or duplicated.
//!
//! The bank counts calls, so that a kill hits the middle of a fetch on any machine: after some call and some
//! milliseconds. Both come from a seed, which `PX_KILL_SEED` sets; `PX_KILLS` sets the number of kills.

use crate::{
    bank::{Bank, Call},
    px::{Ended, Px, ended, real_pause},
};
use px_core::{Random as _, SeededRandom};
use px_items::testing::postgres;
use std::{collections::BTreeMap, time::Duration};
use tokio::{process::Child, time::timeout};

/// Nothing here takes longer on a working machine.
const SOON: Duration = Duration::from_secs(60);
/// Short, so that the next program does not wait long for the Items of a killed one.
const LEASE: &str = "300ms";

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Returns a bank with busy users, enough of them that every kill hits a fetch.
fn bank(kills: u64) -> (Bank, Vec<String>) {
    let users: Vec<_> = (0..kills.div_ceil(3) + 2).map(|n| format!("busy{n}")).collect();
    let mut bank = Bank::new();
    for (n, user) in users.iter().enumerate() {
        bank = bank.with_user(user, if n == 0 { 6000 } else { 1500 });
    }
    (bank, users)
}

/// Kills a program; it has ended when this returns.
async fn kill(mut child: Child) {
    child.kill().await.unwrap();
}

async fn killed_again_and_again(px: Px, bank: Bank, users: &[String], kills: u64) {
    let seed = number("PX_KILL_SEED", 7);
    let random = SeededRandom::new(seed);
    let mut items = BTreeMap::new();
    for user in users {
        items.insert(user, px.link(user, &[]).await);
    }
    bank.slow(Duration::from_millis(2));
    let mut calls = bank.begun();
    let run = ["run", "--until-idle", "--workers", "2", "--lease", LEASE];
    let mut hits = 0;
    for kill_number in 0..kills {
        let mut child = px.command(&run).spawn().unwrap();
        let until = *calls.borrow_and_update() + 1 + random.below(8);
        let pause = Duration::from_millis(random.below(20));
        tokio::select! {
            seen = timeout(SOON, calls.wait_for(|calls| *calls >= until)) => {
                seen.expect("the program is at work").unwrap();
                real_pause(pause).await;
                hits += u64::from(child.try_wait().unwrap().is_none());
                kill(child).await;
            }
            status = child.wait() => panic!("kill {kill_number}: {status:?}; all was done too soon"),
        }
    }
    assert_eq!(hits, kills, "a kill came too late");
    assert!(
        px.items().await.iter().any(|item| item["phase"] == "created"),
        "no fetch was left to hit"
    );

    bank.slow(Duration::ZERO);
    let last = timeout(SOON, px.run(&run)).await.expect("it ends");
    assert_eq!(last.code, 0, "seed {seed}: {last:?}");
    for (user, item) in &items {
        assert!(px.transactions(item).await == bank.rows(user), "seed {seed}: {user} differs");
    }
    assert!(px.items().await.iter().all(|item| item["phase"] == "idle"), "seed {seed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_during_initial_fetches_on_sqlite() {
    let kills = number("PX_KILLS", 50);
    let (bank, users) = bank(kills);
    let px = Px::at(&bank.door(0).await);
    killed_again_and_again(px, bank, &users, kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_during_initial_fetches_on_postgres() {
    let Some(database) = postgres::database().await else { return };
    let kills = number("PX_KILLS", 50);
    let (bank, users) = bank(kills);
    let px = Px::at(&bank.door(0).await).on(database.as_str());
    px.ok(&["keys"]).await;
    killed_again_and_again(px, bank, &users, kills).await;
}

/// Three programs share a database, and one of them is killed while it has leases.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_is_killed_and_each_item_has_one_worker_at_a_time() {
    let Some(database) = postgres::database().await else { return };
    let users: Vec<_> = (0..12).map(|n| format!("user{n}")).collect();
    let bank = users.iter().fold(Bank::new(), |bank, user| bank.with_user(user, 1200));
    let px = Px::at(&bank.door(0).await).on(database.as_str());
    px.ok(&["keys"]).await;
    let mut items = BTreeMap::new();
    for user in &users {
        items.insert(user, px.link(user, &[]).await);
    }
    bank.slow(Duration::from_millis(40));
    let mut calls = bank.begun();
    let mut running = Vec::new();
    for door in 1..=3 {
        let partners = format!("door{door}.json");
        px.partners(&partners, &bank.door(door).await);
        let run =
            ["run", "--until-idle", "--workers", "2", "--lease", "3s", "--partners", &partners];
        running.push(px.command(&run).spawn().unwrap());
    }
    // Waits until the second one is in the middle of a fetch.
    let in_the_middle = |bank: &Bank| {
        let calls = bank.calls();
        (1..=3).all(|door| calls.iter().any(|call| call.door == door))
            && calls.iter().filter(|call| call.door == 2).count() % 10 >= 4
    };
    timeout(SOON, calls.wait_for(|_| in_the_middle(&bank))).await.expect("all three work").unwrap();
    kill(running.remove(1)).await;
    for child in running {
        let Ended { code, stdout, stderr } = timeout(SOON, ended(child)).await.expect("it ends");
        assert_eq!(code, 0, "{stdout}{stderr}");
    }
    one_worker_at_a_time(&bank.calls(), 2);
    for (user, item) in &items {
        assert!(px.transactions(item).await == bank.rows(user), "{user} differs");
    }
    assert!(px.items().await.iter().all(|item| item["phase"] == "idle"));
}

/// A program is killed after the institution rotated its refresh token and before the new one is stored,
/// while 25 other Items are due at an institution that allows one request at a time. The next program repeats
/// the refresh within the 30 s in which the institution accepts it.
async fn killed_between_rotation_and_save(px: Px, bank: Bank) {
    let door = bank.door(0).await;
    let narrow = serde_json::json!([{
        "institution_id": "bank", "base_url": door, "client_id": "plaid",
        "client_secret_file": "secret", "per_second": 10_000, "at_once": 1,
    }]);
    std::fs::write(px.path("px.partners.json"), narrow.to_string()).unwrap();
    let expired = serde_json::json!({
        "access_token": "token-victim", "refresh_token": "refresh-victim-0", "user_id": "victim",
        "issued_at": "2026-01-01T00:00:00Z", "expires_at": "2026-01-01T00:15:00Z",
    });
    let link = ["link", "--institution", "bank", "--tokens", "-", "--json"];
    let linked = px.feed(&link, &expired.to_string()).await;
    assert_eq!(linked.code, 0, "{linked:?}");
    let victim = linked.json()[0]["item_id"].as_str().unwrap().to_owned();
    for number in 0..25 {
        px.link(&format!("user{number}"), &[]).await;
    }
    bank.hold_refreshes(true);
    let mut refreshes = bank.refreshes();
    let first = px.command(&["run", "--workers", "4"]).spawn().unwrap();
    timeout(SOON, refreshes.wait_for(|all| all.len() == 1)).await.expect("it refreshes").unwrap();
    kill(first).await;
    bank.hold_refreshes(false);
    bank.slow(Duration::from_millis(500));
    let second = px.command(&["run", "--until-idle", "--workers", "4"]).spawn().unwrap();
    let again = timeout(SOON, refreshes.wait_for(|all| all.len() == 2)).await;
    again.expect("the refresh is repeated").unwrap();
    bank.slow(Duration::ZERO);
    let ended = timeout(SOON, ended(second)).await.expect("it ends");
    assert_eq!(ended.code, 0, "{ended:?}");
    let used = refreshes.borrow().clone();
    let [(token, first), (same, repeated)] = &used[..] else { panic!("{used:?}") };
    assert_eq!((token, same), (&"refresh-victim-0".to_owned(), token));
    let after = *repeated - *first;
    assert!(after < Duration::from_secs(30), "it was repeated after {after:?}");
    let items = px.items().await;
    assert_eq!(items.len(), 26);
    for item in &items {
        assert_eq!((&item["login_required"], &item["phase"]), (&false.into(), &"idle".into()));
    }
    assert!(px.transactions(&victim).await == bank.rows("victim"));
}

/// Returns a bank with the victim and 25 other users.
fn crowd() -> Bank {
    let bank = Bank::new().with_user("victim", 50);
    (0..25).fold(bank, |bank, number| bank.with_user(&format!("user{number}"), 50))
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_rotation_and_save_on_sqlite() {
    let bank = crowd();
    let px = Px::at(&bank.door(0).await);
    killed_between_rotation_and_save(px, bank).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_rotation_and_save_on_postgres() {
    let Some(database) = postgres::database().await else { return };
    let bank = crowd();
    let px = Px::at(&bank.door(0).await).on(database.as_str());
    px.ok(&["keys"]).await;
    killed_between_rotation_and_save(px, bank).await;
}

/// Checks that each user is read by one program, or by the killed one and then by one other.
fn one_worker_at_a_time(calls: &[Call], killed: usize) {
    let mut taken_over = 0;
    let mut by_user: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
    for call in calls {
        by_user.entry(&call.user).or_default().push(call);
    }
    for (user, calls) in by_user {
        let mut doors: Vec<_> = calls.iter().map(|call| call.door).collect();
        doors.dedup();
        let one = doors.len() == 1 || (doors.len() == 2 && doors[0] == killed);
        assert!(one, "{user} was read at the doors {doors:?}");
        taken_over += usize::from(doors.len() == 2);
        // Nor do two updates by one program overlap.
        for pair in calls.windows(2) {
            let handed_over = pair[0].door != pair[1].door;
            let in_turn = pair[0].ended.is_some_and(|ended| ended <= pair[1].begun);
            assert!(in_turn || handed_over, "two calls for {user} at once");
        }
    }
    assert!(taken_over > 0, "the killed program held nothing");
}
