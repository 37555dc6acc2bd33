//! Tests that need a server and several machines. A machine is a store with its own pool of
//! connections.

use super::store::store;
use chrono::{DateTime, TimeDelta, Utc};
use px_client::{Window, oauth::TokenSet};
use px_items::{
    changes::ItemChanges,
    connection::Connection,
    item::State,
    merge::{Change, TransactionWrite},
    store::{
        AccessDigest, ChangeQuery, Commit, ItemRecord, LeaseOutcome, NewHolder, NewLink,
        NotificationRequest, NotifyBatch, NotifyOutcome, PostgresStore, Store, StoreErrorKind,
    },
    testing::postgres::database,
};
use px_types::{
    AccessToken, AccountId, ApplicationId, Date, InstitutionId, ItemId, UserId,
    model::{product::Product, transaction::Transaction},
};
use sqlx::{
    ConnectOptions as _, Executor as _, PgConnection, Row as _, postgres::PgConnectOptions,
};
use std::{collections::BTreeSet, time::Duration};
use tokio::task::JoinSet;
use url::Url;

/// Returns a time: minutes after the start.
fn at(minute: i64) -> DateTime<Utc> {
    let noon = Date::from_ymd(2026, 1, 10).unwrap().naive().and_hms_opt(12, 0, 0).unwrap();
    noon.and_utc() + TimeDelta::minutes(minute)
}

fn name(number: usize) -> ItemId {
    ItemId::new(format!("item-{number:04}")).unwrap()
}

fn digest(number: usize) -> AccessDigest {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    AccessDigest(bytes)
}

fn bank() -> InstitutionId {
    InstitutionId::new("bank").unwrap()
}

async fn link(store: &PostgresStore, number: usize) {
    let mut connection =
        Connection::new(ApplicationId::new("app").unwrap(), [Product::Transactions], at(0));
    connection.webhook = Some("https://app.example/hook".to_owned());
    let user = (bank(), UserId::new(format!("user-{number}")).unwrap());
    let tokens = TokenSet::new(AccessToken::new(format!("token-{number}")), at(0));
    let holder = NewHolder::Application(connection);
    let new = NewLink::new(user, name(number), tokens, holder, digest(number), at(0));
    store.link(new).await.unwrap();
}

fn row(id: &str) -> Transaction {
    let text = serde_json::json!({
        "id": id, "account_id": "giro", "amount": "10.50", "currency": "EUR",
        "transacted_at": "2026-01-09", "settled_at": "2026-01-09", "type": "depository",
        "description": "about it",
    });
    px_types::decode(text.to_string().as_bytes()).unwrap()
}

/// Returns a commit that stores a transaction, reports it, and releases the lease.
fn finish(record: &ItemRecord, id: &str) -> Commit {
    let then =
        LeaseOutcome::Release { due_at: Some(at(1000)), not_before: None, seen: record.notified };
    let mut commit = Commit::new(record, State::Idle, at(1), then);
    let row = row(id);
    let write = TransactionWrite::new(row.id.clone(), row, Change::Added, at(0));
    commit.transactions.writes.push(write);
    let mut changes = ItemChanges::default();
    changes.added.insert(AccountId::new("giro").unwrap(), 1);
    (changes.initial_complete, changes.historical_complete) = (true, true);
    commit.changes = changes;
    commit
}

async fn connect(url: &Url) -> PgConnection {
    PgConnectOptions::from_url(url).unwrap().connect().await.unwrap()
}

/// Repeats a query until its result is true, for at most half a minute.
async fn until(connection: &mut PgConnection, question: &'static str) {
    let polling = async {
        while !sqlx::query(question).fetch_one(&mut *connection).await.unwrap().get::<bool, _>(0) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), polling).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_32_machines_that_claim_at_once_share_the_items() {
    let Some(url) = database().await else { return };
    let first = store(&url, 8).await;
    for number in 0..200 {
        link(&first, number).await;
    }
    let mut machines = JoinSet::new();
    for _ in 0..4 {
        let machine = store(&url, 2).await;
        machines.spawn(async move {
            let mut mine = Vec::new();
            loop {
                let claimed = machine.claim(at(1), at(10), 7).await.unwrap();
                if claimed.is_empty() {
                    break mine;
                }
                mine.extend(claimed.into_iter().map(|record| record.id));
            }
        });
    }
    let all: Vec<ItemId> = machines.join_all().await.concat();
    let distinct: BTreeSet<_> = all.iter().collect();
    assert_eq!((all.len(), distinct.len()), (200, 200));
}

#[tokio::test]
async fn case_36_a_machine_that_takes_over_leaves_the_first_one_nothing_to_write() {
    let Some(url) = database().await else { return };
    let (slow, quick) = (store(&url, 1).await, store(&url, 1).await);
    link(&slow, 0).await;
    let late = slow.claim(at(1), at(10), 1).await.unwrap().remove(0);
    assert!(quick.claim(at(9), at(20), 1).await.unwrap().is_empty(), "the lease still runs");
    let leased = quick.claim(at(10), at(20), 1).await.unwrap().remove(0);

    let refused = slow.commit(finish(&late, "late")).await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Fenced);
    assert!(!slow.renew(&late.id, late.fence, at(30)).await.unwrap());
    quick.commit(finish(&leased, "good")).await.unwrap();

    let changes = slow.changes(&name(0), &ChangeQuery::new(0, 10)).await.unwrap().changes;
    assert_eq!(changes.len(), 1);
    assert_eq!(quick.overview(at(1)).await.unwrap().webhooks, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_24_a_connection_killed_within_a_commit_leaves_nothing() {
    let Some(url) = database().await else { return };
    let machine = store(&url, 1).await;
    link(&machine, 0).await;
    let record = machine.claim(at(1), at(10), 1).await.unwrap().remove(0);
    let before = machine.item(&name(0)).await.unwrap();

    // The commit has written everything else when it reaches the outbox, where it must wait.
    let mut obstacle = connect(&url).await;
    obstacle.execute("BEGIN; LOCK TABLE outbox IN EXCLUSIVE MODE").await.unwrap();
    let commit = finish(&record, "t-1");
    let committing = tokio::spawn({
        let (machine, commit) = (machine.clone(), commit.clone());
        async move { machine.commit(commit).await }
    });
    let mut killer = connect(&url).await;
    until(
        &mut killer,
        "SELECT count(pg_terminate_backend(pid)) = 1 FROM pg_stat_activity \
         WHERE datname = current_database() AND application_name = 'px-items' \
         AND wait_event_type = 'Lock'",
    )
    .await;
    let error = committing.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
    obstacle.execute("ROLLBACK").await.unwrap();

    assert_eq!(machine.item(&name(0)).await.unwrap(), before);
    let nothing = machine.known(&name(0), always(), &[]).await.unwrap();
    assert!(nothing.is_empty(), "{nothing:?}");
    assert_eq!(machine.overview(at(1)).await.unwrap().webhooks, 0);

    machine.commit(commit).await.unwrap();
    assert_eq!(machine.known(&name(0), always(), &[]).await.unwrap().len(), 1);
    assert_ne!(machine.overview(at(1)).await.unwrap().webhooks, 0);
}

fn always() -> Window {
    let day = |text: &str| text.parse().unwrap();
    Window::new(day("2000-01-01"), day("2099-12-31")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notifications_and_commits_at_once_never_lock_each_other_out() {
    const ITEMS: usize = 60;
    let Some(url) = database().await else { return };
    let first = store(&url, 1).await;
    for number in 0..ITEMS {
        link(&first, number).await;
    }
    let mut machines = JoinSet::new();
    // Batches of two partners for the same Items, in opposite orders.
    for reversed in [false, true] {
        let machine = store(&url, 1).await;
        machines.spawn(async move {
            for _ in 0..25 {
                let request = NotificationRequest::Update { since: None };
                let mut entries: Vec<_> =
                    (0..ITEMS).map(|number| (digest(number), request)).collect();
                if reversed {
                    entries.reverse();
                }
                let batch = NotifyBatch::new(bank(), entries, at(1));
                assert_eq!(machine.notify(&batch).await.unwrap(), NotifyOutcome::Applied);
            }
        });
    }
    for worker in 0..2 {
        let machine = store(&url, 2).await;
        machines.spawn(async move {
            for round in 0..25 {
                let claimed = machine.claim(at(1), at(10), 10).await.unwrap();
                let (back, on) = claimed.split_at(claimed.len() / 2);
                let back: Vec<_> = back
                    .iter()
                    .rev()
                    .map(|leased| (leased.id.clone(), leased.fence, at(1)))
                    .collect();
                machine.hand_back(&back).await.unwrap();
                for record in on {
                    machine.commit(finish(record, &format!("t-{worker}-{round}"))).await.unwrap();
                }
            }
        });
    }
    tokio::time::timeout(Duration::from_secs(60), machines.join_all()).await.unwrap();
    first.close().await;

    // A deadlock would not fail a call, because the call is retried. The server counts deadlocks,
    // and reports the count when the connections have ended.
    let mut connection = connect(&url).await;
    until(
        &mut connection,
        "SELECT count(*) = 0 FROM pg_stat_activity \
         WHERE datname = current_database() AND application_name = 'px-items'",
    )
    .await;
    let sql = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    let row = connection.fetch_one(sql).await.unwrap();
    assert_eq!(row.get::<i64, _>(0), 0);
}

/// The server is stopped, as if its machine had disappeared.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_waits_for_a_server_that_is_stopped() {
    use px_items::{
        store::{StoreOptions, conformance::StepClock},
        testing::postgres::{Durability, Server},
        vault::FileKeys,
    };
    use std::{process::Command, sync::Arc};
    let server = match Server::start(Durability::Off) {
        Err(error) if error.missing() => return,
        server => server.unwrap(),
    };
    let url = server.database().await.unwrap();
    let clock = StepClock::default();
    let keys = FileKeys::generate("k", Arc::new(px_core::SystemRandom)).unwrap();
    let mut options = StoreOptions::new(px_types::webhook::Environment::Sandbox, Arc::new(keys));
    options.clock = Arc::new(clock.clone());
    let machine = PostgresStore::connect(&url, 3, options).await.unwrap();
    link(&machine, 0).await;
    let record = machine.claim(at(1), at(10), 1).await.unwrap().remove(0);
    let mut processes = Vec::new();
    let mut connection = connect(&url).await;
    let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = 'px-items'";
    for row in connection.fetch_all(sql).await.unwrap() {
        processes.push(row.get::<i32, _>(0).to_string());
    }
    let data: String = connection.fetch_one("SHOW data_directory").await.unwrap().get(0);
    let pid = std::fs::read_to_string(format!("{data}/postmaster.pid")).unwrap();
    processes.push(pid.lines().next().unwrap().to_owned());
    let signal = |signal: &str| {
        assert!(Command::new("kill").arg(signal).args(&processes).status().unwrap().success());
    };
    signal("-STOP");
    let mut calls = JoinSet::new();
    for _ in 0..8 {
        let (other, commit) = (machine.clone(), finish(&record, "t-1"));
        calls.spawn(async move { other.commit(commit).await });
        let other = machine.clone();
        calls.spawn(async move { other.item(&name(0)).await.map(drop) });
    }
    while !calls.is_empty() {
        clock.advance(Duration::from_secs(11));
        if let Some(ended) = calls.try_join_next() {
            let error = ended.unwrap().unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::TimedOut, "{error:?}");
        }
        tokio::task::yield_now().await;
    }
    // Closing the store does not wait either.
    let closing = tokio::spawn({
        let machine = machine.clone();
        async move { machine.close().await }
    });
    while !closing.is_finished() {
        clock.advance(Duration::from_secs(6));
        tokio::task::yield_now().await;
    }
    signal("-CONT");
    // The outcome of the commit is read again. The fencing token ensures that it happens once.
    let again = store(&url, 1).await;
    let present = again.item(&name(0)).await.unwrap().unwrap();
    if present.leased_until.is_some() {
        let _ = again.commit(finish(&record, "t-1")).await;
    }
    assert_eq!(again.changes(&name(0), &ChangeQuery::new(0, 10)).await.unwrap().changes.len(), 1);
}
