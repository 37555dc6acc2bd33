//! Unreadable rows and lost keys. One of them never affects others.

use super::{
    tools::{Bench, RawSql},
    world::*,
};
use crate::{
    item::State,
    store::{
        ApplicationUser, KeyUsage, NewHolder, NewLink, NewPublicToken, ResealPosition,
        StoreErrorKind, Ticket, TicketDigest, TicketKind, Unlinked,
    },
};
use px_core::{Clock as _, SystemClock};
use px_types::{PublicToken, UserId};
use std::{pin::pin, sync::Arc, time::Duration};
use zeroize::Zeroizing;

/// Creates three Items, due at minutes 0, 1 and 2.
async fn three(bench: &Bench) -> (World, Arc<dyn RawSql>) {
    let world = World::new(Arc::clone(&bench.store));
    for (minute, name) in (0..).zip(["anna", "bert", "carl"]) {
        world.link(name, connection("app"), minute).await;
    }
    (world, bench.sql.clone().unwrap())
}

async fn is_deferred(bench: Bench, damage: &str, repair: &str) {
    let (world, sql) = three(&bench).await;
    sql.execute(&format!("UPDATE items SET {damage} WHERE item_id = 'anna'")).await;
    sql.execute(&format!("UPDATE items SET {damage} WHERE item_id = 'bert'")).await;
    assert_eq!(world.claim(3, 1).await, ["carl"], "unreadable Items before it are skipped");
    assert!(world.claim(12, 10).await.is_empty(), "they are not claimed again at once");
    assert_eq!(world.claim(13, 10).await, ["carl"]);
    assert_eq!(world.claim(62, 1).await, ["carl"]);
    let listed = world.0.list(None, 10).await.unwrap();
    let shown = listed.iter().map(|item| (item.id().as_str(), item.record().is_some()));
    let shown: Vec<_> = shown.collect();
    assert_eq!(shown, [("anna", false), ("bert", false), ("carl", true)]);
    let error = world.0.item(&item("bert")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    world.0.overview(at(3)).await.unwrap();
    sql.execute(&format!("UPDATE items SET {repair} WHERE item_id = 'bert'")).await;
    assert_eq!(world.claim(63, 10).await, ["bert"], "retried after an hour");
    assert_eq!(world.item("bert").await.state, State::Created);
    let by_name = world.0.claim_one(&item("anna"), at(200), at(210)).await;
    assert!(!matches!(by_name, Ok(Some(_))));
    assert_eq!(world.claim(201, 1).await.len(), 1);
}

pub(super) async fn an_item_that_cannot_be_read_stops_no_other(bench: Bench) {
    if bench.sql.is_none() {
        return;
    }
    is_deferred(bench, r#"life = '{"history":"quantum"}'"#, "life = '{}'").await;
}

pub(super) async fn an_item_of_an_unknown_state_stops_no_other(bench: Bench) {
    if bench.sql.is_none() {
        return;
    }
    is_deferred(bench, "state = 'dreaming'", "state = 'created'").await;
}

pub(super) async fn what_a_later_version_stored_survives_a_commit(bench: Bench) {
    if bench.sql.is_none() {
        return;
    }
    let (world, sql) = three(&bench).await;
    let sync_state = r#"{"moon":{"phase":[1]},"failures":2,"fresh":{"loans":"2026-01-01T00:00:00Z"},
        "last_failure":{"at":"2026-01-01T00:00:00Z","kind":"quantum","what":"odd","spin":0.5}}"#;
    sql.execute(&format!("UPDATE items SET life = '{sync_state}' WHERE item_id = 'anna'")).await;
    let stored = async || {
        let text = sql.text("SELECT life FROM items WHERE item_id = 'anna'").await.unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    let record = world.claim_by_name("anna").await;
    assert_eq!(record.sync_state.failures, 2);
    let mut commit = finish(&record, 0);
    commit.sync_state.failures = 3;
    commit.sync_state.fresh.accounts = Some(at(0));
    world.0.commit(commit).await.unwrap();
    let after = stored().await;
    assert_eq!(after["moon"]["phase"][0], 1, "an unknown field");
    assert_eq!(
        after["fresh"]["loans"], "2026-01-01T00:00:00Z",
        "an unknown field in a known object"
    );
    assert!(after["fresh"]["accounts"].is_string());
    assert_eq!(after["failures"], 3);
    assert_eq!(after["last_failure"]["kind"], "quantum", "an unknown failure kind is preserved");
    assert_eq!(after["last_failure"]["spin"], 0.5);

    // Another failure replaces it, including its unknown fields.
    let record = world.claim_by_name("anna").await;
    let mut commit = finish(&record, 0);
    let kind = crate::sync_state::FailureKind::Network;
    commit.sync_state.last_failure =
        Some(crate::sync_state::FailureRecord::new(at(1), kind, "cut"));
    world.0.commit(commit).await.unwrap();
    let after = stored().await;
    assert_eq!(after["last_failure"]["kind"], "network");
    assert!(after["last_failure"]["spin"].is_null());
    assert_eq!(after["moon"]["phase"][0], 1);
    let record = world.claim_by_name("anna").await;
    let mut commit = finish(&record, 0);
    commit.sync_state.last_failure = None;
    world.0.commit(commit).await.unwrap();
    assert!(stored().await["last_failure"].is_null());
}

pub(super) async fn a_connection_that_cannot_be_read_hides_no_other(bench: Bench) {
    if bench.sql.is_none() {
        return;
    }
    let (world, sql) = three(&bench).await;
    world.link("anna", connection("later"), 0).await;
    sql.execute(
        "UPDATE connections SET body = '{\"shape\":2}' \
         WHERE item_id = 'anna' AND application_id = 'later'",
    )
    .await;
    let read = world.0.connections(&item("anna")).await.unwrap();
    assert_eq!(read.len(), 1);
    world.deliver(0).await;
    let record = world.claim_by_name("anna").await;
    let mut commit = finish(&record, 100);
    commit.changes = new_transactions();
    commit.accounts = Some(opening(&["giro"]));
    world.0.commit(commit).await.unwrap();
    assert_eq!(world.deliver(0).await, ["app DEFAULT_UPDATE", "app SYNC_UPDATES_AVAILABLE"]);
    // It counts nevertheless: the Item still has a connection.
    let left = world.0.unlink(&item("anna"), Some(&app("app")), at(1)).await.unwrap();
    assert_eq!(left, Unlinked::OthersStay);
    assert!(world.item("anna").await.needs_transactions, "an unreadable connection may need them");
    let left = world.0.unlink(&item("anna"), Some(&app("later")), at(1)).await.unwrap();
    assert_eq!(left, Unlinked::ItemRemoved);
}

pub(super) async fn a_lost_key_holds_up_no_other_revocation(bench: Bench) {
    let Some(keys) = bench.keys.clone() else { return };
    let world = World::new(bench.store);
    let revoke = async |name: &str, minute| {
        world.link(name, connection("app"), 0).await;
        world.0.unlink(&item(name), Some(&app("app")), at(minute)).await.unwrap();
    };
    for name in ["anna", "bert", "carl"] {
        revoke(name, 0).await;
    }
    keys.lose();
    revoke("dora", 1).await;
    let claim = async |minute, limit| {
        let taken = world.0.claim_revocations(at(minute), at(minute + 10), limit).await.unwrap();
        taken
            .into_iter()
            .map(|taken| (taken.item_id.to_string(), taken.attempt))
            .collect::<Vec<_>>()
    };
    assert_eq!(claim(2, 2).await, [("dora".to_owned(), 1)], "the readable one is claimed instead");
    assert_eq!(claim(12, 1).await, [("dora".to_owned(), 2)]);
    keys.find();
    let later: Vec<_> = claim(62, 9).await;
    let names = ["anna", "bert", "carl"].map(|name| (name.to_owned(), 1));
    assert_eq!(later[1..], names, "retried after an hour, and earlier claims do not count");
}

pub(super) async fn a_lost_key_holds_up_no_other_webhook(bench: Bench) {
    let Some(keys) = bench.keys.clone() else { return };
    let world = World::new(bench.store);
    let link = async |name: &str, minute| {
        let user = (bank(), UserId::new(name).unwrap());
        let holder = NewHolder::Application(connection("app"));
        let token = digest(name);
        let mut new = NewLink::new(user, item(name), tokens(name), holder, token, at(minute));
        new.public_token = Some(NewPublicToken {
            token: PublicToken::new(format!("public-{name}")),
            digest: TicketDigest(digest(&format!("p-{name}")).0),
            expires_at: at(99),
            tell: Some(ApplicationUser::default()),
        });
        world.0.link(new).await.unwrap();
    };
    link("anna", 0).await;
    link("bert", 0).await;
    keys.lose();
    link("carl", 1).await;
    let claim = async |minute, limit| {
        let taken = world.0.claim_webhooks(at(minute), at(minute + 10), limit).await.unwrap();
        taken
            .into_iter()
            .map(|taken| (taken.item_id.to_string(), taken.attempt))
            .collect::<Vec<_>>()
    };
    assert_eq!(claim(2, 2).await, [("carl".to_owned(), 1)]);
    assert_eq!(claim(12, 1).await, [("carl".to_owned(), 2)]);
    keys.find();
    assert_eq!(claim(62, 9).await[1..], [("anna".to_owned(), 1), ("bert".to_owned(), 1)]);
}

pub(super) async fn a_lost_key_takes_no_ticket(bench: Bench) {
    let Some(keys) = bench.keys.clone() else { return };
    let name = TicketDigest(digest("t").0);
    let payload = Zeroizing::new(b"for anna".to_vec());
    let ticket = Ticket::new(name, TicketKind::Link, payload, at(30));
    bench.store.put_ticket(&ticket).await.unwrap();
    keys.lose();
    let error = bench.store.take_ticket(&name, TicketKind::Link, at(0)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    keys.find();
    let taken = bench.store.take_ticket(&name, TicketKind::Link, at(0)).await.unwrap();
    assert_eq!(
        &**taken.unwrap().payload,
        b"for anna",
        "a ticket that cannot be opened is not deleted"
    );
}

pub(super) async fn a_lost_key_keeps_nobody_from_linking_or_leaving(bench: Bench) {
    let Some(keys) = bench.keys.clone() else { return };
    let world = World::new(bench.store);
    for name in ["anna", "bert"] {
        world.link(name, connection("app"), 0).await;
    }
    keys.lose();
    let error = world.0.tokens(&item("anna")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    assert!(!world.link("anna", connection("app"), 1).await.created);
    assert_eq!(world.0.tokens(&item("anna")).await.unwrap().unwrap().0, tokens("anna"));
    let left = world.0.unlink(&item("bert"), Some(&app("app")), at(1)).await.unwrap();
    assert_eq!(left, Unlinked::ItemRemoved);
    assert!(world.0.claim_revocations(at(1), at(2), 9).await.unwrap().is_empty());
    keys.find();
    let revoked = world.0.claim_revocations(at(61), at(62), 9).await.unwrap();
    assert_eq!(revoked.len(), 1, "tokens under the lost key stay queued");
    assert_eq!(revoked[0].tokens, tokens("bert"));
}

pub(super) async fn rows_are_sealed_again_under_the_present_key(bench: Bench) {
    let Some(keys) = bench.keys.clone() else { return };
    let world = World::new(Arc::clone(&bench.store));
    for number in 0..5 {
        world.link(&format!("old-{number}"), connection("app"), 0).await;
    }
    world.0.unlink(&item("old-0"), Some(&app("app")), at(0)).await.unwrap();
    let name = TicketDigest(digest("t").0);
    let payload = Zeroizing::new(b"for anna".to_vec());
    let ticket = Ticket::new(name, TicketKind::Link, payload, at(30));
    world.0.put_ticket(&ticket).await.unwrap();
    // The first key is lost for a while; the second one seals.
    keys.lose();
    world.link("new", connection("app"), 0).await;
    let reseal = async || {
        let (mut sum, mut position) = ((0, 0), Some(ResealPosition::default()));
        while let Some(at) = position {
            let done = world.0.reseal(&at, 2).await.unwrap();
            sum = (sum.0 + done.resealed, sum.1 + done.unreadable);
            position = done.next;
        }
        sum
    };
    assert_eq!(reseal().await, (0, 7), "unreadable rows are not changed");
    keys.find();
    let usage = world.0.key_usage().await.unwrap();
    let of = |usage: &KeyUsage| [usage.tokens, usage.revocations, usage.webhooks, usage.tickets];
    assert_eq!(of(&usage["key-1"]), [4, 1, 0, 1]);
    assert_eq!(of(&usage["key-2"]), [1, 0, 0, 0]);
    let before = world.0.tokens(&item("old-1")).await.unwrap();
    assert_eq!(reseal().await, (7, 0));
    assert_eq!(reseal().await, (0, 0), "once");
    let usage = world.0.key_usage().await.unwrap();
    assert_eq!((usage.len(), of(&usage["key-2"])), (1, [5, 1, 0, 1]));
    assert_eq!(world.0.tokens(&item("old-1")).await.unwrap(), before, "including the version");
    assert_eq!(world.0.claim_revocations(at(1), at(2), 9).await.unwrap().len(), 1);
    assert!(world.0.take_ticket(&name, TicketKind::Link, at(0)).await.unwrap().is_some());
}

pub(super) async fn calls_end_in_time_while_the_database_hangs(bench: Bench) {
    let (Some(sql), Some(clock)) = (bench.sql.clone(), bench.clock.clone()) else { return };
    let world = World::new(bench.store);
    world.link("anna", connection("app"), 0).await;
    let record = world.claim_by_name("anna").await;
    let blocked = sql.block().await;
    // More calls than connections.
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (store, commit) = (Arc::clone(&world.0), finish(&record, 100));
        calls.spawn(async move { store.commit(commit).await });
        let (store, record) = (Arc::clone(&world.0), record.clone());
        calls.spawn(async move { store.renew(&record.id, record.fence, at(70)).await.map(drop) });
    }
    let limit = std::time::Duration::from_secs(11);
    while !calls.is_empty() {
        clock.advance(limit);
        if let Some(ended) = calls.try_join_next() {
            let error = ended.unwrap().unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::TimedOut);
        }
        tokio::task::yield_now().await;
    }
    drop(blocked);
    // The outcome is unknown: it was stored, will be stored, or never is. The fencing token
    // resolves this.
    if world.item("anna").await.leased_until.is_some() {
        match world.0.commit(finish(&record, 100)).await {
            Ok(()) => {}
            Err(error) => assert_eq!(error.kind(), StoreErrorKind::Fenced),
        }
    }
    assert_eq!(world.item("anna").await.state, State::Idle);
}

pub(super) async fn half_a_batch_is_handed_back(bench: Bench) {
    let world = World::new(bench.store);
    for number in 0..10 {
        world.settled(&format!("item-{number}"), number).await;
    }
    let taken = world.0.claim(at(20), at(30), 10).await.unwrap();
    assert_eq!(taken.len(), 10);
    let (back, remaining) = taken.split_at(5);
    let back = back.iter().map(|one| (one.id.clone(), one.fence, one.due_at.unwrap()));
    let back: Vec<_> = back.collect();
    world.0.hand_back(&back).await.unwrap();
    for record in remaining {
        assert!(world.0.renew(&record.id, record.fence, at(40)).await.unwrap());
        assert_eq!(world.item(record.id.as_str()).await.state, State::Updating);
    }
    assert_eq!(world.item("item-0").await.state, State::Idle);
    let expected = ["item-0", "item-1", "item-2", "item-3", "item-4"];
    assert_eq!(world.claim(21, 10).await, expected, "with the due times before");
    for record in remaining {
        world.0.commit(finish(record, 100)).await.unwrap();
    }
}

/// A call that is dropped happens whole or not at all, and takes nothing with it. Servers drop the
/// calls of clients that leave.
pub(super) async fn dropped_calls_lose_nothing(bench: Bench) {
    let world = World::new(bench.store);
    world.link("anna", connection("app"), 0).await;
    for (polls, minute) in (0..24).zip(0..) {
        for polls in 0..10 {
            drop_after(polls, world.0.item(&item("anna"))).await;
        }
        let name = format!("user-{polls}");
        drop_after(polls, world.link(&name, connection("app"), minute)).await;
        world.link(&name, connection("app"), minute).await;
        assert_eq!(world.0.connections(&item(&name)).await.unwrap().len(), 1, "{name}");

        let (anna, until) = (item("anna"), at(minute + 1));
        let record = world.0.claim_one(&anna, at(minute), until).await.unwrap().unwrap();
        let mut commit = finish(&record, minute);
        commit.transactions = writing([posted(&format!("t{polls:02}"), "2026-01-01")]);
        drop_after(polls, world.0.commit(commit.clone())).await;
        match world.0.commit(commit).await {
            Ok(_) => {}
            // The dropped call committed.
            Err(error) => assert_eq!(error.kind(), StoreErrorKind::Fenced, "{error}"),
        }
    }
    let expected: Vec<_> = (0..24).map(|number| format!("t{number:02}")).collect();
    assert_eq!(world.ids("anna").await, expected);
}

/// Drops a call after a number of polls, or when it ends.
async fn drop_after(polls: usize, call: impl Future) {
    // The connection of the call before is available again, so that the call begins at once.
    SystemClock::new().sleep(Duration::from_millis(1)).await;
    let mut call = pin!(call);
    for _ in 0..polls {
        if futures_util::poll!(call.as_mut()).is_ready() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

pub(super) async fn a_unit_may_have_any_character(bench: Bench) {
    let world = World::new(bench.store);
    world.link("anna", connection("app"), 0).await;
    for (number, unit) in ["A\u{0}B", "\u{0}", "\u{1}0", "€\u{10FFFF}\u{7F}", "\\u0000", "'\""]
        .into_iter()
        .enumerate()
    {
        let id = format!("t-{number}");
        let text = serde_json::json!({
            "id": id, "account_id": "giro", "amount": "1.00", "non_iso_currency": unit,
            "transacted_at": "2026-01-01", "settled_at": "2026-01-01", "type": "depository",
            "description": "odd\u{0}",
        });
        // Values that violate the contract are refused before they reach a store.
        let Ok(row) = px_types::decode(text.to_string().as_bytes()) else { continue };
        world.store("anna", writing([row])).await;
        let known = world.0.known(&item("anna"), always(), &[]).await.unwrap();
        let known = known.iter().find(|known| known.id.as_str() == id).unwrap();
        assert_eq!(known.unit, unit);
    }
}

/// Interrupted refreshes are claimed independently of the schedule. One with an unreadable Item
/// does not block others.
pub(super) async fn a_refresh_of_an_item_that_cannot_be_read_stops_no_other(bench: Bench) {
    if bench.sql.is_none() {
        return;
    }
    let (world, sql) = three(&bench).await;
    for (minute, name) in (0..).zip(["anna", "bert", "carl"]) {
        let (_, version) = world.0.tokens(&item(name)).await.unwrap().unwrap();
        assert!(world.0.begin_refresh(&item(name), version, at(minute)).await.unwrap());
    }
    sql.execute("UPDATE items SET life = '{\"history\":\"quantum\"}' WHERE item_id = 'anna'").await;
    sql.execute("UPDATE items SET state = 'dreaming' WHERE item_id = 'bert'").await;
    let mut claimed = Vec::new();
    for _ in 0..3 {
        claimed.extend(world.0.claim_refreshes(at(5), at(10), 1).await.unwrap());
    }
    let claimed: Vec<_> = claimed.iter().map(|record| record.id.as_str()).collect();
    assert_eq!(claimed, ["carl"]);
    let sql_state = "SELECT state FROM items WHERE item_id = 'bert'";
    assert_eq!(
        sql.text(sql_state).await.as_deref(),
        Some("dreaming"),
        "the state of a later version"
    );
}
