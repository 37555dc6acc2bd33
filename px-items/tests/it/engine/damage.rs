//! A bank with partly unreadable responses: nothing is lost, and the faults are visible.

use super::{
    bank::{Call, Data, Reply, account, ok, pending, refusal, row},
    world::World,
};
use chrono::TimeDelta;
use px_items::{
    engine::Outcome,
    health::{self, HealthIssueKind, HealthState},
    item::State,
    merge::AccountStanding,
    store::Store as _,
};
use px_types::{ItemId, TransactionId, model::item_health::ItemHealth};
use serde_json::{Value, json};

/// Returns the bank's own response with a damaged part.
fn damaged(
    what: &str,
    call: &Call,
    data: &mut Data,
    damage: impl FnOnce(&mut Value),
) -> Option<Reply> {
    if call.what != what {
        return None;
    }
    let response = data.response(call).unwrap();
    let mut body = serde_json::from_slice(response.body()).unwrap();
    damage(&mut body);
    Some(ok(&body))
}

/// Finds the entry of an id in a list of a response.
fn entry<'b>(body: &'b mut Value, list: &str, id: &str) -> Option<&'b mut Value> {
    body[list].as_array_mut().unwrap().iter_mut().find(|entry| entry["id"] == id)
}

async fn with_rows(rows: &[(&str, u64)]) -> (World, ItemId) {
    let world = World::new();
    for (id, days) in rows {
        world.bank.put(row(id, "1.00", world.days_ago(*days)));
    }
    let item = world.link().await;
    world.engine.run_due().await;
    assert_eq!(world.record(&item).await.state, State::Idle);
    world.assert_equal(&item).await;
    world.queued_webhooks().await;
    (world, item)
}

async fn next_update(world: &World, item: &ItemId) {
    world.pass(TimeDelta::hours(48)).await;
    let report = world.engine.update(item).await.unwrap();
    assert_eq!(report.outcome, Outcome::Finished, "{:?}", report.failure);
}

async fn health_of(world: &World, item: &ItemId) -> ItemHealth {
    health::of(&world.record(item).await)
}

#[tokio::test(start_paused = true)]
async fn a_row_that_was_set_aside_is_kept_and_the_others_go_on() {
    let (world, item) = with_rows(&[("t-1", 1), ("t-2", 1), ("t-3", 2), ("t-4", 2)]).await;
    let before = world.stored(&item).await;
    world.bank.remove("t-4");
    world.bank.put(row("t-2", "7.00", world.days_ago(1)));
    world.bank.put(row("t-5", "5.00", world.days_ago(0)));
    world.bank.put(row("t-6", "6.00", world.days_ago(0)));
    world.bank.script(|call, data| {
        damaged("transactions", call, data, |body| {
            for id in ["t-3", "t-6"] {
                if let Some(row) = entry(body, "transactions", id) {
                    row["amount"] = json!({ "value": 1 });
                }
            }
        })
    });
    next_update(&world, &item).await;
    let stored = world.stored(&item).await;
    let id = |id: &str| TransactionId::new(id).unwrap();
    assert_eq!(stored.get(&id("t-3")), before.get(&id("t-3")), "kept as it was");
    assert_eq!(stored[&id("t-2")].amount.to_string(), "7.00");
    assert!(stored.contains_key(&id("t-5")));
    assert!(!stored.contains_key(&id("t-4")) && !stored.contains_key(&id("t-6")));

    let health = health_of(&world, &item).await;
    assert_eq!(health.state, HealthState::Degraded);
    let issue = health.issue(&HealthIssueKind::FaultyElements).unwrap();
    assert_eq!(issue.count, Some(2));
    assert_eq!((&*issue.paths[0].path, issue.paths[0].count), ("transactions[].amount", 2));
    let text = issue.paths[0].text.clone().unwrap();
    assert!(text.ends_with("is an object; expected a decimal number (a string such as \"12.50\"); the element was set aside"),
        "{text}");
    let webhooks = world.queued_webhooks().await;
    assert!(webhooks.iter().all(|what| !what.ends_with("ERROR")), "{webhooks:?}");

    // The partner fixes it long after the row is older than any update.
    for _ in 0..8 {
        next_update(&world, &item).await;
    }
    assert_eq!(world.stored(&item).await.get(&id("t-3")), before.get(&id("t-3")));
    world.bank.behaves();
    next_update(&world, &item).await;
    world.assert_equal(&item).await;
    assert_eq!(health_of(&world, &item).await, ItemHealth::new(HealthState::Healthy));
}

/// A row that was set aside under an unknown id may be a stored one, at banks that change ids.
#[tokio::test(start_paused = true)]
async fn a_row_that_got_another_id_and_cannot_be_read_is_not_gone() {
    for is_pending in [true, false] {
        let world = World::new();
        let put = |number: u32| {
            world.bank.data().rows.clear();
            for at in 0..4 {
                let (id, amount) = (format!("t-{number}-{at}"), format!("{at}.00"));
                let made = world.days_ago(0);
                let put = if is_pending { pending } else { row };
                let mut row = put(&id, &amount, made);
                row.description = Some("shop".to_owned());
                world.bank.put(row);
            }
        };
        put(0);
        let item = world.link().await;
        world.engine.run_due().await;
        let before: Vec<_> = world.stored(&item).await.into_keys().collect();
        assert_eq!(before.len(), 4);
        world.queued_webhooks().await;
        put(1);
        world.bank.script(|call, data| {
            damaged("transactions", call, data, |body| {
                if let Some(row) = entry(body, "transactions", "t-1-2") {
                    row["amount"] = json!([]);
                }
            })
        });
        world.engine.update(&item).await.unwrap();
        let now: Vec<_> = world.stored(&item).await.into_keys().collect();
        assert_eq!(now, before, "pending: {is_pending}");
        world.bank.behaves();
        world.engine.update(&item).await.unwrap();
        let now: Vec<_> = world.stored(&item).await.into_keys().collect();
        assert_eq!(now, before, "pending: {is_pending}");
        assert_eq!(world.queued_webhooks().await, [] as [&str; 0]);
    }
}

/// Without its id, a row that was set aside may be any row of its account; without the account, any
/// row.
#[tokio::test(start_paused = true)]
async fn where_an_id_cannot_be_read_nothing_of_the_account_is_judged() {
    for (account_too, kept) in [(false, "t-1 t-2"), (true, "t-1 t-2 u-1")] {
        let (world, item) = with_rows(&[("t-1", 1), ("t-2", 2), ("t-3", 1)]).await;
        let mut other = row("u-1", "3.00", world.days_ago(1));
        other.account_id = "a-2".parse().unwrap();
        world.bank.put(other);
        next_update(&world, &item).await;
        world.bank.remove("t-1");
        world.bank.remove("u-1");
        world.bank.script(move |call, data| {
            damaged("transactions", call, data, |body| {
                if let Some(row) = entry(body, "transactions", "t-2") {
                    row["id"] = json!([]);
                    if account_too {
                        row["account_id"] = json!(false);
                    }
                }
            })
        });
        next_update(&world, &item).await;
        let stored: Vec<_> =
            world.stored(&item).await.into_keys().map(|id| id.to_string()).collect();
        let left = stored.iter().filter(|id| *id != "t-3").cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(left, kept, "account too: {account_too}");
        assert!(stored.contains(&"t-3".to_owned()));
        world.bank.behaves();
        next_update(&world, &item).await;
        world.assert_equal(&item).await;
    }
}

/// A bank gives all rows other ids while one cannot be read: no row is duplicated.
#[tokio::test(start_paused = true)]
async fn rows_under_other_ids_are_not_taken_for_new_while_one_has_no_id() {
    let (world, item) = with_rows(&[("t-1", 1), ("t-2", 2), ("t-3", 3), ("t-4", 3)]).await;
    let before = world.stored(&item).await;
    {
        let mut data = world.bank.data();
        for row in std::mem::take(&mut data.rows).into_values() {
            let mut row = row;
            row.id = format!("other-{}", row.id).parse().unwrap();
            data.rows.insert(row.id.clone(), row);
        }
    }
    world.bank.script(|call, data| {
        damaged("transactions", call, data, |body| {
            if let Some(row) = entry(body, "transactions", "other-t-4") {
                row["id"] = Value::Null;
            }
        })
    });
    next_update(&world, &item).await;
    assert_eq!(world.stored(&item).await, before);
}

#[tokio::test(start_paused = true)]
async fn an_account_that_cannot_be_read_keeps_what_it_has_and_is_not_closed() {
    for id_too in [false, true] {
        let (world, item) = with_rows(&[("t-1", 1)]).await;
        let before = world.store.inner.accounts(&item).await.unwrap();
        world.bank.data().accounts.push(account("a-3", "New"));
        world.bank.script(move |call, data| {
            damaged("user", call, data, |body| {
                if let Some(account) = entry(body, "accounts", "a-2") {
                    account["current_balance"] = json!([]);
                    if id_too {
                        account["id"] = json!({});
                    }
                }
            })
        });
        for _ in 0..3 {
            next_update(&world, &item).await;
        }
        let now = world.store.inner.accounts(&item).await.unwrap();
        assert_eq!(now[..2], before[..], "id too: {id_too}");
        assert_eq!(now[2].standing, AccountStanding::Listed, "the new one is there");
        let health = health_of(&world, &item).await;
        let issue = health.issue(&HealthIssueKind::FaultyElements).unwrap();
        assert!(issue.paths[0].path.starts_with("accounts[]."), "{issue:?}");
        let named: Vec<_> = issue.account_ids.iter().map(|id| id.as_str()).collect();
        assert_eq!(named, if id_too { vec![] } else { vec!["a-2"] });

        // An account that is really missing is closed as usual.
        world.bank.behaves();
        world.bank.data().accounts.retain(|account| account["id"] != "a-2");
        next_update(&world, &item).await;
        next_update(&world, &item).await;
        let now = world.store.inner.accounts(&item).await.unwrap();
        assert_eq!(now[1].standing, AccountStanding::Closed);
        assert!(health_of(&world, &item).await.issues.is_empty());
    }
}

/// A null list does not remove holdings, and no account loses its numbers.
#[tokio::test(start_paused = true)]
async fn lists_that_cannot_be_read_leave_what_is_stored() {
    let world = World::new();
    let holding = |id: &str, quantity: &str| {
        json!({
            "security_id": id, "quantity": quantity, "institution_price": "1.00",
            "institution_value": "5.00", "currency": "EUR",
        })
    };
    {
        let mut data = world.bank.data();
        data.securities = ["s-1", "s-2"]
            .map(|id| json!({ "id": id, "type": "equity", "currency": "EUR" }))
            .to_vec();
        data.accounts[1] = json!({
            "id": "a-2", "type": "investment", "subtype": "brokerage", "name": "Shares",
            "status": "active", "owner_identity_ids": ["i-1"], "current_balance": "10.00",
            "currency": "EUR", "holdings": [holding("s-1", "5"), holding("s-2", "6")],
        });
        data.accounts[0]["transfer_codes"] = json!([
            { "network": "international", "iban": "DE89370400440532013000", "debit": true, "credit": true },
            { "network": "bacs", "account_number": "12345678", "sort_code": "123456", "debit": true, "credit": true },
        ]);
    }
    let item = world.link().await;
    world.engine.run_due().await;
    let lists = async || -> Vec<Value> {
        let accounts = world.store.inner.accounts(&item).await.unwrap();
        let of = |at: usize, name: &str| {
            serde_json::to_value(&accounts[at].account).unwrap()[name].clone()
        };
        vec![of(0, "transfer_codes"), of(1, "holdings")]
    };
    let before = lists().await;
    assert_eq!((before[0].as_array().unwrap().len(), before[1].as_array().unwrap().len()), (2, 2));
    let damages: [fn(&mut Value); 4] = [
        |body| body["accounts"][1]["holdings"] = Value::Null,
        |body| body["accounts"][1]["holdings"][1]["quantity"] = json!([]),
        |body| body["accounts"][0]["transfer_codes"] = Value::Null,
        // An account number is never taken from a JSON number.
        |body| body["accounts"][0]["transfer_codes"][1]["account_number"] = json!(12345678),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        world.bank.script(move |call, data| damaged("user", call, data, damage));
        next_update(&world, &item).await;
        assert_eq!(lists().await, before, "{number}");
    }
    // The readable part is imported, and a sold holding is removed.
    world.bank.script(move |call, data| {
        damaged("user", call, data, |body| {
            let list = &mut body["accounts"][1]["holdings"];
            list[0]["quantity"] = json!("9");
            list[1]["quantity"] = json!([]);
        })
    });
    next_update(&world, &item).await;
    let now = lists().await;
    assert_eq!((&now[1][0]["quantity"], &now[1][1]["quantity"]), (&json!("9"), &json!("6")));
    world.bank.behaves();
    world.bank.data().accounts[1]["holdings"] = json!([]);
    next_update(&world, &item).await;
    assert_eq!(lists().await[1], json!([]));
}

#[tokio::test(start_paused = true)]
async fn an_identity_that_cannot_be_read_stays() {
    let (world, item) = with_rows(&[("t-1", 1)]).await;
    let with_bob = |body: &mut Value| {
        body["identities"] =
            json!([{ "id": "i-1", "name": "Ann" }, { "id": "i-2", "name": "Bob" }]);
    };
    world.bank.script(move |call, data| damaged("user", call, data, with_bob));
    next_update(&world, &item).await;
    world.bank.script(move |call, data| {
        damaged("user", call, data, |body| {
            with_bob(body);
            body["identities"][0]["name"] = json!("Anna");
            body["identities"][1]["name"] = json!([]);
        })
    });
    next_update(&world, &item).await;
    let (_, identities) = world.store.inner.identities(&item).await.unwrap().unwrap();
    let names: Vec<_> = identities.iter().map(|identity| &*identity.name).collect();
    assert_eq!(names, ["Anna", "Bob"]);
}

/// A gateway that cannot serve long windows is not down. Other Items of the partner use the
/// lengths.
#[tokio::test(start_paused = true)]
async fn a_window_that_fails_by_weight_gets_shorter_and_the_partner_is_not_down() {
    for status in [500, 502, 504, 503] {
        let world = World::new();
        for days in 0..60 {
            world.bank.put(row(&format!("t-{days:02}"), "1.00", world.days_ago(days * 10)));
        }
        world.bank.script(move |call, _| {
            let days = (call.what == "transactions")
                .then(|| call.date("end_date").days_since(call.date("start_date")));
            days.filter(|days| *days >= 20).map(|_| refusal(status, "too much"))
        });
        let item = world.link().await;
        world.engine.run_due().await;
        let record = world.record(&item).await;
        assert_eq!((record.state, record.sync_state.failures), (State::Idle, 0), "{status}");
        world.assert_equal(&item).await;
        assert!(health::of(&record).issues.is_empty());

        // Another Item does not have to find it out again.
        world.bank.forget_calls();
        let tokens = world.bank.tokens(false);
        let products = [px_types::model::product::Product::Transactions];
        let other = world.link_as(("bank", "u-2"), "app-1", &products, tokens).await;
        world.engine.run_due().await;
        assert_eq!(world.record(&other).await.state, State::Idle);
        let calls = world.bank.data().calls.clone();
        let longest = calls
            .iter()
            .filter(|call| call.what == "transactions")
            .map(|call| call.date("end_date").days_since(call.date("start_date")));
        // The dates after today are requested as one window; it is empty here.
        assert!(longest.max().unwrap() < 20, "{status}");
    }
}

/// An update's window is short. One failure does not mean that it is too heavy, a second one does.
#[tokio::test(start_paused = true)]
async fn an_update_that_fails_at_its_window_twice_reads_shorter_ones() {
    let (world, item) = with_rows(&[("t-1", 1)]).await;
    world.bank.put(row("t-2", "2.00", world.days_ago(0)));
    world.bank.script(|call, _| {
        let days = (call.what == "transactions")
            .then(|| call.date("end_date").days_since(call.date("start_date")));
        days.filter(|days| *days >= 3).map(|_| refusal(500, "too much"))
    });
    world.pass(TimeDelta::hours(48)).await;
    world.engine.run_due().await;
    assert_eq!(world.record(&item).await.sync_state.failures, 1);
    let due = world.record(&item).await.due_at.unwrap();
    world.pass(due - world.now()).await;
    world.engine.run_due().await;
    assert_eq!(world.record(&item).await.sync_state.failures, 0);
    world.assert_equal(&item).await;
}

/// A partner that is down fails at its accounts too, and is not called window by window.
#[tokio::test(start_paused = true)]
async fn a_partner_that_is_down_is_not_taken_for_one_that_serves_short_windows() {
    let world = World::new();
    let item = world.link().await;
    world.bank.script(|call, _| {
        (call.what == "transactions" || call.of_kind > 0).then(|| refusal(500, "down"))
    });
    let report = world.engine.update(&item).await.unwrap();
    assert_eq!(report.outcome, Outcome::Failed);
    assert_eq!((world.bank.count("user"), world.bank.count("transactions")), (2, 1));
}

/// Both legs of a transfer under one id are two rows; a row that comes twice is one.
#[tokio::test(start_paused = true)]
async fn an_id_that_two_rows_of_a_response_have() {
    let legs = |body: &mut Value| {
        let list = body["transactions"].as_array_mut().unwrap();
        let Some(at) = list.iter().position(|row| row["id"] == "t-1") else { return 0 };
        let mut other = list[at].clone();
        other["account_id"] = json!("a-2");
        other["amount"] = json!("-1.00");
        list.insert(at + 1, other);
        1
    };
    let twice = |body: &mut Value| {
        let list = body["transactions"].as_array_mut().unwrap();
        let Some(at) = list.iter().position(|row| row["id"] == "t-2") else { return 0 };
        let same = list[at].clone();
        list.insert(at, same);
        1
    };
    let (world, item) = with_rows(&[("t-1", 1), ("t-2", 1), ("t-3", 2)]).await;
    world.bank.script(move |call, data| {
        damaged("transactions", call, data, |body| {
            let more = legs(body) + twice(body);
            body["total"] = json!(body["total"].as_u64().unwrap() + more);
        })
    });
    for hours in [48, 1] {
        world.pass(TimeDelta::hours(hours)).await;
        let report = world.engine.update(&item).await.unwrap();
        assert_eq!(report.outcome, Outcome::Finished, "{:?}", report.failure);
        let stored = world.stored(&item).await;
        let mut rows: Vec<_> = stored
            .values()
            .map(|row| format!("{} {} {}", &row.id.as_str()[..3], row.account_id, row.amount))
            .collect();
        rows.sort();
        assert_eq!(rows, ["t-1 a-1 1.00", "t-1 a-2 -1.00", "t-2 a-1 1.00", "t-3 a-1 1.00"]);
        let health = health_of(&world, &item).await;
        let issue = health.issue(&HealthIssueKind::FaultyElements).unwrap();
        assert_eq!(issue.paths[0].path, "transactions[].id", "{issue:?}");
        assert_eq!(issue.paths[0].rule.as_deref(), Some("PX-AGG-010"));
    }
    // Once the partner has fixed it, each row is stored once.
    world.bank.behaves();
    next_update(&world, &item).await;
    world.assert_equal(&item).await;
}

/// Two rows of one account under one id: no rule can choose between them. The error names the id.
#[tokio::test(start_paused = true)]
async fn an_id_that_two_rows_of_an_account_have_is_named() {
    let (world, item) = with_rows(&[("t-1", 1), ("t-2", 1)]).await;
    world.bank.script(|call, data| {
        damaged("transactions", call, data, |body| {
            let list = body["transactions"].as_array_mut().unwrap();
            if let Some(row) = list.iter_mut().find(|row| row["id"] == "t-1") {
                row["id"] = json!("t-2");
            }
        })
    });
    world.pass(TimeDelta::hours(48)).await;
    let report = world.engine.update(&item).await.unwrap();
    let what = report.failure.unwrap().what;
    assert!(what.contains("two transactions of one account share the id t-2"), "{what}");
}

/// A message that cannot be read at all: the Item reports it to operators at once and to
/// applications after three days, and the stored data stays.
#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_be_read_at_all_is_reported_after_three_days() {
    for (what, body, place) in [
        ("user", json!([]), "user: "),
        ("user", json!({ "user_identity_id": "i-1" }), "user: "),
        ("transactions", json!({ "transactions": [] }), "transactions: "),
    ] {
        let (world, item) = with_rows(&[("t-1", 1)]).await;
        let response = body.clone();
        world.bank.script(move |call, _| (call.what == what).then(|| ok(&response)));
        world.pass(TimeDelta::hours(48)).await;
        let begun = world.now();
        let mut notified_after = None;
        while world.now() - begun < TimeDelta::hours(100) {
            world.engine.run_due().await;
            if world.queued_webhooks().await.contains(&"app-1 ERROR".to_owned()) {
                notified_after.get_or_insert(world.now() - begun);
            }
            let health = health_of(&world, &item).await;
            assert_eq!(health.state, HealthState::Stalled, "operators see it at once");
            world.pass(TimeDelta::hours(1)).await;
        }
        let notified_after = notified_after.expect("applications are notified");
        assert!(notified_after >= TimeDelta::hours(72) && notified_after <= TimeDelta::hours(85));
        assert_eq!(world.stored(&item).await.len(), 1, "{body}");
        let failure = world.record(&item).await.sync_state.last_failure.unwrap();
        assert!(failure.what.starts_with(place), "{}", failure.what);
        assert!(
            failure.what.contains("expected") || failure.what.contains("missing"),
            "{}",
            failure.what
        );
        world.bank.behaves();
        world.pass(TimeDelta::hours(13)).await;
        world.engine.run_due().await;
        assert!(health_of(&world, &item).await.issues.is_empty());
        world.assert_equal(&item).await;
    }
}
