//! From link to unlink: issued tokens, availability of data, and freshness of responses.

use super::world::{ALL, World, account_id, accounts, added, bank, date, foreign, row, user};
use chrono::TimeDelta;
use px_client::Window;
use px_core::Clock as _;
use px_items::{
    item::{Event, Phase, State},
    items::{HistoryStatus, ItemsErrorKind, TransactionsRequest},
    store::Unlinked,
    sync_state::{FailureKind, FailureRecord, History, HistoryScan},
};
use px_types::{ApplicationId, UserId, model::product::Product};

fn request() -> TransactionsRequest {
    TransactionsRequest::new(Window::new(date("2020-01-01"), date("2030-01-01")).unwrap())
}

#[tokio::test]
async fn a_user_has_one_item_however_many_applications() {
    let world = World::new();
    let first = world.link("first", ALL).await;
    assert!(first.created && !first.repaired);
    let second = world.link("second", ALL).await;
    assert!(!second.created && !second.repaired);
    assert_eq!(first.item_id, second.item_id);
    assert_ne!(first.access_token, second.access_token);
    assert!(world.woken(), "it is work");

    // Another user of the same bank has another Item.
    let user = UserId::new("user-2").unwrap();
    let connection = world.connection("first", ALL);
    let other = world.items.link(&bank(), &user, world.tokens("b"), connection).await.unwrap();
    assert!(other.created);
    assert_ne!(other.item_id, first.item_id);
    assert!(world.woken(), "and so is the other");
}

/// Tokens are stored before they are used, and revoked if the sign-in leads to no connection.
#[tokio::test]
async fn held_tokens_are_revoked_unless_a_link_brings_them() {
    let world = World::new();
    let until = world.clock.now() + TimeDelta::hours(4);
    let (linked, left) = (world.tokens("linked"), world.tokens("left"));
    for tokens in [&linked, &left] {
        world.items.hold_tokens(&bank(), None, tokens, until).await.unwrap();
    }
    let user = UserId::new("user-1").unwrap();
    let connection = world.connection("first", ALL);
    world.items.link(&bank(), &user, linked, connection).await.unwrap();
    let due = async |at| {
        let claimed = world.store.claim_revocations(at, at + TimeDelta::minutes(1), 9).await;
        claimed.unwrap().into_iter().map(|revocation| revocation.tokens).collect::<Vec<_>>()
    };
    assert_eq!(due(until - TimeDelta::seconds(1)).await, []);
    assert_eq!(due(until).await, [left]);
}

#[tokio::test]
async fn an_application_that_links_again_has_one_token() {
    let (world, first) = World::complete().await;
    let again = world.link("first", ALL).await;
    assert!(!again.created);
    let error = world.items.accounts(&first.access_token).await.unwrap_err();
    assert_eq!(error.kind(), ItemsErrorKind::InvalidAccessToken);
    world.items.accounts(&again.access_token).await.unwrap();
}

#[tokio::test]
async fn an_address_that_is_none_is_refused_before_anything_is_made() {
    let world = World::new();
    let user = UserId::new("user-1").unwrap();
    for wrong in
        ["", "app.example", "http://app.example/", "https://n:w@app.example/", "https://10.0.0.1/"]
    {
        let mut connection = world.connection("first", ALL);
        connection.webhook = Some(wrong.to_owned());
        let linked = world.items.link(&bank(), &user, world.tokens("a"), connection).await;
        assert_eq!(linked.unwrap_err().kind(), ItemsErrorKind::InvalidField, "{wrong}");
        assert_eq!(world.store.find(&bank(), &user).await.unwrap(), None);
    }
}

#[tokio::test]
async fn the_last_application_takes_the_item_with_it() {
    let (world, first) = World::complete().await;
    let second = world.link("second", ALL).await;
    assert_eq!(world.items.unlink(&first.access_token).await.unwrap(), Unlinked::OthersStay);
    assert_eq!(
        world.items.unlink(&first.access_token).await.unwrap_err().kind(),
        ItemsErrorKind::InvalidAccessToken
    );
    world.items.accounts(&second.access_token).await.unwrap();

    let application = ApplicationId::new("second").unwrap();
    let item = &second.item_id;
    let unlinked = world.items.remove_application(item, &application).await.unwrap();
    assert_eq!(unlinked, Unlinked::ItemRemoved);
    let unlinked = world.items.remove_application(item, &application).await.unwrap();
    assert_eq!(unlinked, Unlinked::NotConnected);
    let error = world.items.status(&second.access_token).await.unwrap_err();
    assert_eq!(error.kind(), ItemsErrorKind::InvalidAccessToken);
    let now = world.clock.now();
    let revoked = world.store.claim_revocations(now, now, 10).await.unwrap();
    assert_eq!(revoked.len(), 1, "its tokens wait to be revoked");
}

#[tokio::test]
async fn an_imported_item_serves_its_partner_for_notifications_alone() {
    let world = World::new();
    let user_id = UserId::new("user-1").unwrap();
    let imported = world.items.import(&bank(), &user_id, world.tokens("a")).await.unwrap();
    assert!(imported.created);
    let record = world.store.item(&imported.item_id).await.unwrap().unwrap();
    assert!(!record.needs_transactions, "nobody was allowed to read them");
    assert_eq!(record.due_at, Some(world.clock.now()));

    // An application that joins keeps the Item when the partner leaves, and the other way round.
    let joined = world.link("first", ALL).await;
    assert_eq!(joined.item_id, imported.item_id);
    let left = world.items.unlink(&imported.access_token).await.unwrap();
    assert_eq!(left, Unlinked::OthersStay);
    world.items.status(&joined.access_token).await.unwrap();

    // An Item without applications is removed with its partner.
    let other = UserId::new("user-2").unwrap();
    let alone = world.items.import(&bank(), &other, world.tokens("b")).await.unwrap();
    assert_eq!(world.items.unlink(&alone.access_token).await.unwrap(), Unlinked::ItemRemoved);
    assert_eq!(world.store.item(&alone.item_id).await.unwrap(), None);
}

#[tokio::test]
async fn a_rotated_token_is_dead_at_once() {
    let (world, linked) = World::complete().await;
    let new = world.items.rotate_access(&linked.access_token).await.unwrap();
    world.items.accounts(&new).await.unwrap();
    for dead in [&linked.access_token, &foreign()] {
        let error = world.items.rotate_access(dead).await.unwrap_err();
        assert_eq!(error.kind(), ItemsErrorKind::InvalidAccessToken);
    }
}

/// First nothing is ready, then the last 30 days, then the whole history.
#[tokio::test]
async fn case_23_ready_is_distinguished_from_complete() {
    let world = World::new();
    let linked = world.link("first", ALL).await;
    let (items, token) = (&world.items, &linked.access_token);

    let nothing_yet = async || {
        for kind in [
            items.accounts(token).await.unwrap_err().kind(),
            items.balances(token).await.unwrap_err().kind(),
            items.identities(token).await.unwrap_err().kind(),
            items.holdings(token).await.unwrap_err().kind(),
            items.transactions(token, &request()).await.unwrap_err().kind(),
            items.transactions_sync(token, None, None).await.unwrap_err().kind(),
        ] {
            assert_eq!(kind, ItemsErrorKind::ProductNotReady);
        }
        let status = items.status(token).await.unwrap();
        assert_eq!((status.phase, status.history), (Phase::Created, HistoryStatus::NotReady));
    };
    nothing_yet().await;

    // The accounts are stored, the transactions are not.
    let scan =
        HistoryScan::new(date("2026-03-01"), date("2024-03-01"), chrono::DateTime::UNIX_EPOCH);
    let lease = world.clock.now() + TimeDelta::minutes(1);
    let fetch = |recent, rows: &[&str]| {
        let rows: Vec<_> = rows
            .iter()
            .map(|id| added(row(id, "account-checking", "2026-02-28", "1.00")))
            .collect();
        (History::Fetching { scan, recent }, rows)
    };
    let (history, _) = fetch(false, &[]);
    world
        .work_until(&linked.item_id, Event::PartStored, |commit| {
            commit.accounts = Some(accounts(user()));
            commit.sync_state.history = history;
        })
        .await;
    nothing_yet().await;

    // The last 30 days are stored.
    let (history, rows) = fetch(true, &["t1", "t2"]);
    world
        .work_until(&linked.item_id, Event::PartStored, |commit| {
            commit.sync_state.history = history;
            commit.transactions.writes = rows;
        })
        .await;
    assert_eq!(items.accounts(token).await.unwrap().data.len(), 6);
    assert_eq!(items.transactions(token, &request()).await.unwrap().data.total, 2);
    let page = items.transactions_sync(token, None, None).await.unwrap().data;
    assert_eq!(page.history, HistoryStatus::InitialUpdateComplete);
    assert_eq!(page.added.len(), 2);
    let status = items.status(token).await.unwrap();
    assert_eq!(status.phase, Phase::Created);
    assert_eq!(status.history, HistoryStatus::InitialUpdateComplete);

    // The whole history is stored; the same rows once more add nothing.
    world
        .work(&linked.item_id, |commit| {
            commit.sync_state.history = History::Complete;
            commit.transactions.writes =
                vec![added(row("t3", "account-checking", "2024-06-01", "1.00"))];
        })
        .await;
    let next = items.transactions_sync(token, Some(&page.next_cursor), None).await.unwrap().data;
    assert_eq!(next.history, HistoryStatus::HistoricalUpdateComplete);
    assert_eq!(next.added.len(), 1);
    let status = items.status(token).await.unwrap();
    assert_eq!(status.phase, Phase::Idle);
    assert_eq!(status.history.as_str(), "HISTORICAL_UPDATE_COMPLETE");
    assert!(world.clock.now() < lease);
}

#[tokio::test]
async fn without_transactions_accounts_are_there_when_the_fetch_ends() {
    let world = World::new();
    let linked = world.link("first", [Product::Auth]).await;
    let error = world.items.accounts(&linked.access_token).await.unwrap_err();
    assert_eq!(error.kind(), ItemsErrorKind::ProductNotReady);
    world.work(&linked.item_id, |commit| commit.accounts = Some(accounts(user()))).await;
    assert_eq!(world.items.accounts(&linked.access_token).await.unwrap().data.len(), 6);

    // An application that joins and needs transactions waits for them, and for nothing else.
    let second = world.link("second", ALL).await;
    assert_eq!(world.items.accounts(&second.access_token).await.unwrap().data.len(), 6);
    let error = world.items.transactions(&second.access_token, &request()).await.unwrap_err();
    assert_eq!(error.kind(), ItemsErrorKind::ProductNotReady);
}

/// An Item that cannot be updated looks unchanged, so its age must be reported.
#[tokio::test]
async fn case_47_a_frozen_item_says_how_old_it_is() {
    let (world, linked) = World::complete().await;
    let (items, token) = (&world.items, &linked.access_token);
    world.add(&linked.item_id, [row("t1", "account-checking", "2026-02-28", "1.00")]).await;
    let filled = Some(world.clock.now());
    world.clock.advance(TimeDelta::days(3));

    // Updates fail, for a reason that does not involve the user.
    let failed = world.clock.now();
    world
        .work_until(&linked.item_id, Event::Failed, |commit| {
            let note = FailureRecord::new(failed, FailureKind::Unavailable, "503");
            commit.sync_state.failures = 1;
            commit.sync_state.last_failure = Some(note);
        })
        .await;
    let accounts = items.accounts(token).await.unwrap();
    assert_eq!((accounts.fresh_as_of, accounts.error), (filled, None));
    let status = items.status(token).await.unwrap();
    let transactions = status.status.transactions.unwrap();
    assert_eq!(transactions.last_successful_update, filled.map(Into::into));
    assert_eq!(transactions.last_failed_update, Some(failed.into()));

    // Accounts are read again, transactions are not: each kind has its own age.
    world
        .work_until(&linked.item_id, Event::Failed, |commit| {
            commit.sync_state.fresh.accounts = Some(failed);
        })
        .await;
    assert_eq!(items.balances(token).await.unwrap().fresh_as_of, Some(failed));
    assert_eq!(items.transactions(token, &request()).await.unwrap().fresh_as_of, filled);

    // The authorization has ended: the last good data can still be read, with its age and the
    // error.
    world.refuse(&linked.item_id).await;
    assert_eq!(world.state(&linked.item_id).await, State::IdleLoginRequired);
    world.clock.advance(TimeDelta::days(30));
    let accounts = items.accounts(token).await.unwrap();
    assert_eq!((accounts.data.len(), accounts.fresh_as_of), (6, Some(failed)));
    let responses = [
        accounts.error,
        items.balances(token).await.unwrap().error,
        items.identities(token).await.unwrap().error,
        items.holdings(token).await.unwrap().error,
        items.transactions(token, &request()).await.unwrap().error,
        items.transactions_sync(token, None, None).await.unwrap().error,
        items.status(token).await.unwrap().item.error,
    ];
    for error in responses {
        assert_eq!(error.unwrap().error_code, "ITEM_LOGIN_REQUIRED");
    }
    assert_eq!(items.transactions_sync(token, None, None).await.unwrap().fresh_as_of, filled);

    // The user signs in again, for another application: the Item is repaired for all of them.
    let second = world.link("second", ALL).await;
    assert!(second.repaired && !second.created);
    assert_eq!(items.accounts(token).await.unwrap().error, None);
}

#[tokio::test]
async fn an_item_that_was_lost_before_it_had_anything_asks_for_its_user() {
    let world = World::new();
    let linked = world.link("first", ALL).await;
    world.refuse(&linked.item_id).await;
    let error = world.items.accounts(&linked.access_token).await.unwrap_err();
    assert_eq!(error.kind(), ItemsErrorKind::LoginRequired);
    let body = error.to_plaid_error("r1");
    assert!(body.display_message.is_some());
    let status = world.items.status(&linked.access_token).await.unwrap();
    assert_eq!(status.phase, Phase::Created);
    assert_eq!(status.item.error.unwrap().error_code, "ITEM_LOGIN_REQUIRED");
}

#[tokio::test]
async fn a_status_tells_of_ones_own_alone() {
    let (world, _) = World::complete().await;
    world.clock.advance(TimeDelta::days(1));
    let second = world.link("second", [Product::Auth]).await;
    let status = world.items.status(&second.access_token).await.unwrap();
    // Neither the creation date of the Item, nor the state of a history that it does not use.
    assert_eq!(status.item.created_at, Some(world.clock.now().into()));
    assert_eq!(status.item.products, [Product::Auth]);
    assert_eq!(status.history, HistoryStatus::NotReady);
    let fresh = status.fresh_as_of;
    assert!(fresh.accounts.is_some());
    assert_eq!((fresh.identities, fresh.holdings, fresh.transactions), (None, None, None));
    assert_eq!((status.status.investments, status.status.transactions), (None, None));
}

#[tokio::test]
async fn what_an_application_sees_can_be_changed() {
    let (world, linked) = World::complete().await;
    let mut connection = world.connection_to("first", &["account-credit"]);
    assert!(world.items.update_connection(&linked.item_id, connection.clone()).await.unwrap());
    let seen = world.items.accounts(&linked.access_token).await.unwrap().data;
    assert_eq!(
        seen.iter().map(|account| &account.id).collect::<Vec<_>>(),
        [&account_id("account-credit")]
    );
    connection.webhook = Some("nowhere".to_owned());
    let wrong = world.items.update_connection(&linked.item_id, connection).await;
    assert_eq!(wrong.unwrap_err().kind(), ItemsErrorKind::InvalidField);
    let stranger = world.connection_to("stranger", &[]);
    assert!(!world.items.update_connection(&linked.item_id, stranger).await.unwrap());
}
