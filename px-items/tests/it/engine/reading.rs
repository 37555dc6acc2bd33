//! Pages, windows and dates that banks get wrong.

use super::{
    bank::{cut, ok, refusal, row},
    world::World,
};
use chrono::TimeDelta;
use px_items::{
    engine::Outcome,
    item::State,
    sync_state::{FailureKind, History, Suspicion},
};
use serde_json::json;

/// Creates a bank with more rows in a week than fit on a page, and an idle Item.
async fn busy(by_cursor: bool) -> (World, px_types::ItemId) {
    let world = World::new();
    world.bank.data().by_cursor = by_cursor;
    let item = world.link().await;
    world.engine.run_due().await;
    for number in 0..1200 {
        let date = world.days_ago(number % 5);
        world.bank.put(row(&format!("t-{number:04}"), "1.00", date));
    }
    world.pass(TimeDelta::hours(48)).await;
    world.bank.forget_calls();
    (world, item)
}

#[tokio::test(start_paused = true)]
async fn case_14_rows_that_change_while_they_are_paged_are_read_again_and_deletions_seen() {
    let (world, item) = busy(false).await;
    world.engine.run_due().await;
    world.assert_equal(&item).await;
    world.bank.forget_calls();
    let today = world.days_ago(1);
    world.bank.script(move |call, data| {
        // Between the first page and the second, one row is added and two are removed.
        if call.what == "transactions" && call.of_kind == 1 {
            data.rows.remove("t-0003");
            data.rows.remove("t-0700");
            let new = row("t-9999", "9.00", today);
            data.rows.insert(new.id.clone(), new);
        }
        None
    });
    world.engine.update(&item).await.unwrap();
    world.assert_equal(&item).await;
    // Cursors are never stored, only complete windows.
    assert_eq!(world.bank.count("transactions"), 2 + 3);
}

#[tokio::test(start_paused = true)]
async fn case_15_a_dead_cursor_begins_the_window_again_more_than_once_within_a_budget() {
    let (world, item) = busy(true).await;
    world.bank.script(|call, _| {
        let page = call.query.contains_key("cursor");
        (page && call.of_kind < 6).then(|| refusal(400, "cursor_expired"))
    });
    world.engine.run_due().await;
    world.assert_equal(&item).await;

    world.pass(TimeDelta::hours(48)).await;
    let before = world.stored(&item).await;
    world.bank.put(row("new", "1.00", world.days_ago(0)));
    world.bank.script(|call, _| {
        call.query.contains_key("cursor").then(|| refusal(400, "cursor_expired"))
    });
    world.bank.forget_calls();
    world.engine.run_due().await;
    let failure = world.record(&item).await.sync_state.last_failure.unwrap();
    assert_eq!(failure.kind, FailureKind::Moving, "{}", failure.what);
    assert_eq!(world.bank.count("transactions"), 8, "four readings, then it is left for later");
    assert_eq!(world.stored(&item).await, before, "half a window changes nothing");
}

#[tokio::test(start_paused = true)]
async fn case_16_rows_that_shift_under_an_offset_are_neither_skipped_nor_doubled() {
    let (world, item) = busy(false).await;
    let today = world.days_ago(0);
    world.bank.script(move |call, data| {
        // A row is inserted at the front while the second page is under way: the third repeats one.
        if call.what == "transactions" && call.of_kind == 1 {
            let new = row("a-first", "9.00", today);
            data.rows.insert(new.id.clone(), new);
        }
        // One row is removed and one added at once: `total` stays the same, and a row is skipped.
        if call.what == "transactions" && call.of_kind == 4 {
            data.rows.remove("a-first");
            let new = row("z-last", "9.00", today.minus_days(6));
            data.rows.insert(new.id.clone(), new);
        }
        None
    });
    world.engine.run_due().await;
    world.assert_equal(&item).await;
}

#[tokio::test(start_paused = true)]
async fn case_17_a_page_that_comes_for_ever_ends_with_an_error() {
    let (world, item) = busy(true).await;
    world.bank.script(|call, data| {
        (call.what == "transactions").then(|| {
            let rows = data.window(call);
            ok(&json!({ "total": 4000, "transactions": rows[..2], "next_cursor": "at-0" }))
        })
    });
    let before = world.stored(&item).await;
    assert_eq!(world.engine.run_due().await, 1);
    let failure = world.record(&item).await.sync_state.last_failure.unwrap();
    assert_eq!(failure.kind, FailureKind::Invalid, "{}", failure.what);
    assert!(world.bank.count("transactions") < 20);
    assert_eq!(world.stored(&item).await, before);
}

#[tokio::test(start_paused = true)]
async fn case_18_a_short_or_empty_page_with_a_cursor_is_not_the_end() {
    let (world, item) = busy(true).await;
    world.bank.script(|call, data| {
        if call.what != "transactions" {
            return None;
        }
        let rows = data.window(call);
        // 700 rows, none, then the rest.
        let (page, next) = match call.query.get("cursor").map(String::as_str) {
            None => (&rows[..300], Some("one")),
            Some("one") => (&rows[..0], Some("two")),
            Some("two") => (&rows[300..301], Some("three")),
            Some("three") => (&rows[301..800], Some("four")),
            Some(_) => (&rows[800..], None),
        };
        Some(ok(&json!({ "total": rows.len(), "transactions": page, "next_cursor": next })))
    });
    world.engine.run_due().await;
    world.assert_equal(&item).await;
}

#[tokio::test(start_paused = true)]
async fn case_19_more_rows_than_a_page_are_all_read_and_counted() {
    for by_cursor in [false, true] {
        let (world, item) = busy(by_cursor).await;
        world.engine.run_due().await;
        assert_eq!(world.stored(&item).await.len(), 1200);
        world.assert_equal(&item).await;
    }
    // A bank with a total above its number of rows is not trusted.
    let (world, item) = busy(false).await;
    world.bank.script(|call, data| {
        (call.what == "transactions").then(|| {
            let page = &data.window(call)[..100];
            let offset = call.query.get("offset").is_some_and(|offset| offset != "0");
            let page = if offset { &page[..0] } else { page };
            ok(&json!({ "total": 1200, "transactions": page }))
        })
    });
    world.engine.run_due().await;
    assert_eq!(
        world.record(&item).await.sync_state.last_failure.unwrap().kind,
        FailureKind::Moving
    );
    assert!(world.stored(&item).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn case_20_a_page_that_fails_marks_the_update_and_keeps_what_was_whole() {
    let world = World::new();
    for number in 0..700 {
        world.bank.put(row(&format!("r-{number:04}"), "1.00", world.days_ago(number % 20)));
        world.bank.put(row(&format!("o-{number:04}"), "1.00", world.days_ago(40 + number % 50)));
    }
    let item = world.link().await;
    // The second page of the second window is refused with the partner's error id for too long
    // windows.
    world.bank.script(|call, _| {
        (call.what == "transactions" && call.of_kind == 3).then(|| refusal(400, "bad_continuation"))
    });
    world.engine.run_due().await;
    let record = world.record(&item).await;
    assert_eq!(record.state, State::Created);
    assert!(matches!(record.sync_state.history, History::Fetching { recent: true, .. }));
    assert_eq!(world.stored(&item).await.len(), 700, "the last 30 days were read whole and stay");
    let failure = record.sync_state.last_failure.clone().unwrap();
    assert_eq!(failure.kind, FailureKind::Rejected);
    assert!(failure.what.contains("400 bad_continuation"), "{}", failure.what);
    let report = world.notes.reports().pop().unwrap();
    assert_eq!((report.outcome, report.failure), (Outcome::Failed, Some(failure)));

    world.bank.behaves();
    world.pass(record.due_at.unwrap() - world.now()).await;
    world.engine.run_due().await;
    world.assert_equal(&item).await;
    assert_eq!(world.record(&item).await.sync_state.last_failure, None, "success clears it");
}

#[tokio::test(start_paused = true)]
async fn case_22_a_refused_window_is_split_and_the_limit_is_remembered_for_the_partner() {
    let world = World::new();
    for days in 0..729 {
        world.bank.put(row(&format!("t-{days}"), "1.00", world.days_ago(days)));
    }
    let limit = |world: &World, days: i64| {
        world.bank.script(move |call, _| {
            let long = call.what == "transactions"
                && call.date("end_date").days_since(call.date("start_date")) >= days;
            long.then(|| refusal(400, "window_too_long"))
        });
    };
    let refused = |world: &World, days: i64| {
        let data = world.bank.data();
        let calls = data.calls.iter().filter(|call| call.what == "transactions");
        calls
            .filter(|call| call.date("end_date").days_since(call.date("start_date")) >= days)
            .count()
    };
    limit(&world, 60);
    let item = world.link().await;
    world.engine.run_due().await;
    world.assert_equal(&item).await;
    assert_eq!(refused(&world, 60), 1, "it is requested once, and never again");

    // Another Item of the same partner has learned it already.
    world.bank.forget_calls();
    let tokens = world.bank.tokens(false);
    let transactions = [px_types::model::product::Product::Transactions];
    world.link_as(("bank", "u-2"), "app-1", &transactions, tokens).await;
    world.engine.run_due().await;
    assert_eq!(refused(&world, 60), 0);

    // The partner accepts still less, even less than an update requests.
    limit(&world, 2);
    world.bank.forget_calls();
    world.pass(TimeDelta::hours(48)).await;
    world.bank.put(row("new", "1.00", world.days_ago(3)));
    assert_eq!(world.engine.run_due().await, 2);
    assert!(world.stored(&item).await.contains_key("new"));
    assert!(refused(&world, 2) <= 5);

    // Not even a day: an operator must look at it, and it is tried again.
    limit(&world, 0);
    world.pass(TimeDelta::hours(48)).await;
    world.engine.run_due().await;
    let record = world.record(&item).await;
    assert_eq!(record.sync_state.last_failure.unwrap().kind, FailureKind::Rejected);
    assert!(record.due_at.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_window_with_too_many_rows_is_split_before_it_is_read() {
    let mut settings = px_items::engine::Settings::default();
    settings.rows_at_once = 600;
    let world = World::with(settings, px_items::partners::CallLimits::default());
    for number in 0..3000 {
        world.bank.put(row(&format!("t-{number:04}"), "1.00", world.days_ago(number % 60)));
    }
    let item = world.link().await;
    world.engine.run_due().await;
    world.assert_equal(&item).await;
    let commits = world.store.commits.lock().unwrap();
    assert!(commits.iter().all(|commit| commit.transactions.writes.len() <= 600));
}

/// A bank's date is its own: ahead of the server's in Kiribati, behind it in Hawaii.
#[tokio::test(start_paused = true)]
async fn case_28_rows_of_a_bank_in_another_date_are_not_missed() {
    let world = World::new();
    let item = world.link().await;
    world.engine.run_due().await;
    for hours in 0..72 {
        world.pass(TimeDelta::hours(1)).await;
        for (zone, offset) in [("east", 14), ("west", -12)] {
            let there = world.now() + TimeDelta::hours(offset);
            let id = format!("{zone}-{hours}");
            world.bank.put(row(&id, "1.00", there.date_naive().into()));
        }
        world.notify(px_items::store::NotificationRequest::Update { since: None }).await;
        world.engine.run_due().await;
        world.assert_equal(&item).await;
    }
}

/// Data under other ids is on hold. Once the bank is correct again, the updates continue.
#[tokio::test(start_paused = true)]
async fn changed_ids_are_flagged_and_cleared_when_they_are_right_again() {
    let world = World::new();
    for number in 0..30 {
        let amount = format!("{number}.17");
        world.bank.put(row(&format!("t-{number}"), &amount, world.days_ago(number % 6)));
    }
    let item = world.link().await;
    world.engine.run_due().await;
    let good = world.bank.data().rows.clone();
    let churned = good.values().map(|row| {
        let mut row = row.clone();
        row.id = format!("other-{}", row.id).parse().unwrap();
        (row.id.clone(), row)
    });
    let churned = churned.collect();
    world.bank.data().rows = churned;
    let since = world.days_ago(300);
    world.notify(px_items::store::NotificationRequest::Update { since: Some(since) }).await;
    world.engine.run_due().await;
    let record = world.record(&item).await;
    assert_eq!(record.sync_state.suspicion, Some(Suspicion::TransactionIdsChanged));
    assert_eq!(world.stored(&item).await, good, "nothing was imported");
    assert_eq!(record.state, State::Idle);
    assert!(record.due_at.unwrap() >= world.now() + TimeDelta::hours(24), "it stays scheduled");
    assert_eq!(world.notes.reports().pop().unwrap().outcome, Outcome::Suspicious);
    let owed = record.sync_state.owed_since.unwrap();
    assert!(since <= owed && owed <= world.days_ago(5), "what is on hold is looked at again");

    world.bank.data().rows = good;
    world.pass(TimeDelta::hours(48)).await;
    world.bank.forget_calls();
    world.engine.run_due().await;
    world.assert_equal(&item).await;
    let calls = world.bank.data().calls.clone();
    let windows = calls.iter().filter(|call| call.what == "transactions");
    assert!(windows.map(|call| call.date("start_date")).min().unwrap() <= owed, "so it is");
    let sync_state = world.record(&item).await.sync_state;
    assert_eq!((sync_state.suspicion, sync_state.owed_since), (None, None));
}

/// A response that is cut off, HTML or malformed changes nothing.
#[tokio::test(start_paused = true)]
async fn broken_answers_change_nothing_and_are_tried_again() {
    let (world, item) = busy(false).await;
    world.engine.run_due().await;
    let before = world.stored(&item).await;
    let html = || {
        let page = http::Response::builder().status(200).header("content-type", "text/html");
        Ok(page.body("<h1>Maintenance</h1>".into()).unwrap())
    };
    let nonsense = || ok(&json!({ "total": "many" }));
    for (response, kind) in [
        (Box::new(cut) as Box<dyn Fn() -> super::bank::Reply + Send>, FailureKind::Network),
        (Box::new(html), FailureKind::Invalid),
        (Box::new(nonsense), FailureKind::Invalid),
        (Box::new(|| refusal(502, "gateway")), FailureKind::Network),
    ] {
        for what in ["user", "transactions"] {
            let due = world.record(&item).await.due_at.unwrap();
            world.pass((due - world.now()).max(TimeDelta::zero())).await;
            let mut responses = Vec::from([response()]);
            world
                .bank
                .script(move |call, _| (call.what == what).then(|| responses.pop()).flatten());
            world.engine.run_due().await;
            let record = world.record(&item).await;
            assert_eq!(record.sync_state.last_failure.unwrap().kind, kind, "{what}");
            assert_eq!(world.stored(&item).await, before);
        }
    }
}
