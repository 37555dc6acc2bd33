//! Connections of Items.

use super::world::*;
use crate::{
    connection::{Connection, CursorKey},
    item::State,
    merge::AccountStanding,
    store::{
        Access, ChangeQuery, NewHolder, NewLink, NotificationRequest, Store, StoreErrorKind,
        TransactionQuery, Unlinked,
    },
    sync_state::{History, HistoryScan},
};
use px_types::UserId;
use std::sync::Arc;

pub(super) async fn a_link_makes_an_item(store: Arc<dyn Store>) {
    let world = World::new(store);
    let linked = world.link("anna", connection("app"), 5).await;
    assert_eq!(linked.item_id, item("anna"));
    assert!(linked.created && !linked.repaired);

    let record = world.item("anna").await;
    assert_eq!((record.institution_id, record.user_id.as_str()), (bank(), "anna"));
    assert_eq!(record.state, State::Created);
    assert_eq!(record.created_at, at(5));
    assert_eq!(record.due_at, Some(at(5)));
    assert_eq!((record.leased_until, record.not_before, record.notified), (None, None, 0));
    assert_eq!((record.change_seq, record.oldest_pending), (0, None));
    assert!(record.needs_transactions && !record.cycle_tokens);

    let user = UserId::new("anna").unwrap();
    assert_eq!(world.0.find(&bank(), &user).await.unwrap(), Some(item("anna")));
    let stranger = UserId::new("Anna").unwrap();
    assert_eq!(world.0.find(&bank(), &stranger).await.unwrap(), None);
    let access = world.0.access(&digest("anna/app")).await.unwrap();
    assert_eq!(access, Some(Access::new(item("anna"), bank(), Some(app("app")))));
    assert_eq!(world.0.access(&digest("another")).await.unwrap(), None);
    assert_eq!(world.0.connections(&item("anna")).await.unwrap(), [connection("app")]);
    let (stored, _) = world.0.tokens(&item("anna")).await.unwrap().unwrap();
    assert_eq!(stored, tokens("anna"));
    assert!(world.0.item(&item("bert")).await.unwrap().is_none());
}

pub(super) async fn an_application_joins_without_a_second_fetch(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.settled("anna", 100).await;
    let before = world.item("anna").await;
    let user = (bank(), UserId::new("anna").unwrap());
    let holder = NewHolder::Application(connection("second"));
    let new = NewLink::new(user, item("other"), tokens("anna"), holder, digest("2"), at(10));
    let linked = world.0.link(new).await.unwrap();
    assert_eq!(linked.item_id, item("anna"), "the existing Item");
    assert!(!linked.created && !linked.repaired);
    let after = world.item("anna").await;
    assert_eq!(after, before, "neither state nor schedule changed");
    assert!(world.0.item(&item("other")).await.unwrap().is_none());
    let connections = world.0.connections(&item("anna")).await.unwrap();
    let names: Vec<_> = connections.iter().map(|one| one.application_id.as_str()).collect();
    assert_eq!(names, ["app", "second"]);

    // The same application again: its connection is replaced, and its earlier token becomes
    // invalid.
    world
        .link_with("anna", NewHolder::Application(accounts_only("second")), tokens("anna"), "3", 11)
        .await;
    assert_eq!(world.0.connections(&item("anna")).await.unwrap().len(), 2);
    assert_eq!(world.0.access(&digest("2")).await.unwrap(), None);
    assert!(world.0.access(&digest("3")).await.unwrap().is_some());
    assert!(
        world.0.access(&digest("anna/app")).await.unwrap().is_some(),
        "the token of the partner"
    );
}

pub(super) async fn the_first_application_that_needs_transactions_makes_it_due(
    store: Arc<dyn Store>,
) {
    let world = World::new(store);
    world.link("anna", accounts_only("first"), 0).await;
    assert!(!world.item("anna").await.needs_transactions);
    let record = world.claim_by_name("anna").await;
    world.0.commit(finish(&record, 100)).await.unwrap();
    assert_eq!(world.item("anna").await.due_at, Some(at(100)));

    world.link("anna", accounts_only("second"), 10).await;
    assert_eq!(world.item("anna").await.due_at, Some(at(100)), "no additional data is needed");
    world.link("anna", connection("third"), 20).await;
    let record = world.item("anna").await;
    assert_eq!((record.state, record.due_at), (State::Idle, Some(at(20))));
    assert!(record.needs_transactions);

    // It joins while a worker has the Item, so the Item is due once more afterwards.
    world.link("bert", accounts_only("first"), 0).await;
    let record = world.claim_by_name("bert").await;
    world.link("bert", connection("second"), 1).await;
    world.0.commit(finish(&record, 100)).await.unwrap();
    assert_eq!(world.item("bert").await.due_at, Some(at(0)));
}

pub(super) async fn an_application_that_joins_a_complete_item_is_notified(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.settled("anna", 100).await;
    let rows = [posted("t1", "2026-01-01"), posted("t2", "2026-01-02")];
    world.store("anna", writing(rows)).await;
    assert!(world.deliver(0).await.is_empty());
    world.link("anna", connection("second"), 1).await;
    let webhooks = world.webhooks(1).await;
    let expected =
        ["second INITIAL_UPDATE", "second HISTORICAL_UPDATE", "second SYNC_UPDATES_AVAILABLE"];
    assert_eq!(receivers(&webhooks), expected);
    let first: serde_json::Value = serde_json::from_str(&webhooks[0].body).unwrap();
    assert_eq!(first["new_transactions"], 2);
    assert_eq!((&first["item_id"], &first["environment"]), (&"anna".into(), &"sandbox".into()));
    for webhook in &webhooks {
        world.0.settle_webhook(webhook, None).await.unwrap();
    }

    world.link("anna", connection("second"), 2).await;
    world.link("anna", accounts_only("third"), 3).await;
    assert!(world.deliver(3).await.is_empty(), "one was notified before, one does not need it");

    // Part of the history is stored. The notification of the rest follows when it is complete.
    world.link("bert", connection("app"), 0).await;
    let record = world.claim_by_name("bert").await;
    let mut commit = finish(&record, 100);
    commit.state = State::Created;
    let scan = HistoryScan::new(day("2025-12-01"), day("2024-01-10"), at(0));
    commit.sync_state.history = History::Fetching { scan, recent: true };
    world.0.commit(commit).await.unwrap();
    world.link("bert", connection("second"), 4).await;
    let expected = ["second INITIAL_UPDATE", "second SYNC_UPDATES_AVAILABLE"];
    assert_eq!(world.deliver(4).await, expected);
}

pub(super) async fn a_new_connection_never_has_an_epoch_of_before(store: Arc<dyn Store>) {
    let world = World::new(store);
    let epoch_of = async |name: &str| {
        let connections = world.0.connections(&item("anna")).await.unwrap();
        connections.iter().find(|one| one.application_id == app(name)).unwrap().epoch
    };
    world.link("anna", connection("app"), 0).await;
    world.link("anna", connection("second"), 0).await;
    let first = epoch_of("second").await;
    // If a user only signs in again, or the address changes, cursors stay valid.
    let mut again = connection("second");
    again.webhook = Some("https://elsewhere.example/".to_owned());
    world.link("anna", again, 1).await;
    assert_eq!(epoch_of("second").await, first);

    let mut less = connection("second");
    less.accounts = Some([account_id("giro")].into());
    world.0.set_connection(&item("anna"), less, at(1)).await.unwrap();
    let second = epoch_of("second").await;
    assert!(second > first, "it sees different data");
    world.0.unlink(&item("anna"), Some(&app("second")), at(2)).await.unwrap();
    world.link("anna", connection("second"), 3).await;
    assert!(epoch_of("second").await > second, "earlier cursors are invalid");
}

pub(super) async fn a_connection_is_changed(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.link("anna", accounts_only("app"), 0).await;
    let record = world.claim_by_name("anna").await;
    world.0.commit(finish(&record, 100)).await.unwrap();

    let mut changed = accounts_only("app");
    changed.accounts = Some([account_id("giro")].into());
    changed.webhook = None;
    changed.cursor_key = CursorKey::new([7; 32]);
    assert!(world.0.set_connection(&item("anna"), changed.clone(), at(1)).await.unwrap());
    let stored = world.0.connections(&item("anna")).await.unwrap();
    changed.epoch = stored[0].epoch;
    assert_eq!(stored, [changed]);
    assert_eq!(world.item("anna").await.due_at, Some(at(100)));

    // Now it needs transactions, which no application did before.
    assert!(world.0.set_connection(&item("anna"), connection("app"), at(2)).await.unwrap());
    let record = world.item("anna").await;
    assert!(record.needs_transactions);
    assert_eq!(record.due_at, Some(at(2)));

    assert!(!world.0.set_connection(&item("anna"), connection("other"), at(2)).await.unwrap());
    assert!(!world.0.set_connection(&item("bert"), connection("app"), at(2)).await.unwrap());
    assert_eq!(world.0.connections(&item("anna")).await.unwrap().len(), 1);
}

pub(super) async fn who_joins_without_later_accounts_has_a_list_from_then_on(
    store: Arc<dyn Store>,
) {
    let world = World::new(store);
    world.settled("anna", 100).await;
    let open = async |ids: &[(&str, AccountStanding)]| {
        let record = world.claim_by_name("anna").await;
        let mut commit = finish(&record, 100);
        let names: Vec<_> = ids.iter().map(|(id, _)| *id).collect();
        let mut write = opening(&names);
        for (account, (_, standing)) in write.accounts.iter_mut().zip(ids) {
            account.known.standing = *standing;
        }
        commit.accounts = Some(write);
        world.0.commit(commit).await.unwrap();
    };
    let seen = async |name: &str| -> Option<Vec<String>> {
        let connections = world.0.connections(&item("anna")).await.unwrap();
        let one = connections.into_iter().find(|one| one.application_id == app(name)).unwrap();
        one.accounts.map(|ids| ids.iter().map(ToString::to_string).collect())
    };
    let (listed, closed, on_hold) =
        (AccountStanding::Listed, AccountStanding::Closed, AccountStanding::Held);
    open(&[("giro", listed), ("old", closed), ("doubtful", on_hold)]).await;

    // A client that reads the connection now, and the accounts after the next commit, has the list.
    let fixed = |name: &str| Connection { new_accounts: false, ..connection(name) };
    world.link("anna", fixed("joined"), 1).await;
    let there = Some(vec!["giro".to_owned(), "old".to_owned()]);
    assert_eq!(seen("joined").await, there);
    assert_eq!(seen("app").await, None);
    assert!(world.0.set_connection(&item("anna"), fixed("app"), at(2)).await.unwrap());
    assert_eq!(seen("app").await, there);
    open(&[("depot", listed)]).await;
    assert_eq!((seen("app").await, seen("joined").await), (there.clone(), there));
}

pub(super) async fn a_repeated_link_keeps_the_creation_time_and_what_was_switched_off(
    store: Arc<dyn Store>,
) {
    let world = World::new(store);
    let mut first = connection("app");
    first.withheld = ["auth", "identity"].map(str::to_owned).into();
    world.link("anna", first.clone(), 0).await;
    let stored = async || world.0.connections(&item("anna")).await.unwrap().remove(0);
    let mut again = Connection { created_at: at(5), ..connection("app") };
    world.link("anna", again.clone(), 5).await;
    assert_eq!(stored().await, first, "the user only signs in again");
    // The application requests a product again, and the user allows it again.
    again.products.insert("auth".to_owned());
    world.link("anna", again.clone(), 6).await;
    let renewed = stored().await;
    assert_eq!((renewed.created_at, renewed.products), (at(0), again.products));
    assert_eq!(renewed.withheld, ["identity".to_owned()].into());

    // A repair does not reset it either.
    world.notify("anna", NotificationRequest::Revoked, 7).await;
    assert!(
        world.link("anna", Connection { created_at: at(8), ..connection("app") }, 8).await.repaired
    );
    let repaired = stored().await;
    assert_eq!((repaired.created_at, repaired.withheld), (at(0), ["identity".to_owned()].into()));
}

pub(super) async fn links_of_one_user_at_once_make_one_item(store: Arc<dyn Store>) {
    let world = World::new(store);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..8 {
        let world = world.clone();
        tasks.spawn(async move {
            let user = (bank(), UserId::new("anna").unwrap());
            let holder = NewHolder::Application(connection(&format!("app-{number}")));
            let (id, access) = (item(&format!("item-{number}")), digest(&format!("{number}")));
            let new = NewLink::new(user, id, tokens("anna"), holder, access, at(0));
            world.0.link(new).await.unwrap()
        });
    }
    let linked = tasks.join_all().await;
    assert_eq!(linked.iter().filter(|linked| linked.created).count(), 1);
    let first = &linked[0].item_id;
    assert!(linked.iter().all(|linked| linked.item_id == *first));
    assert_eq!(world.0.list(None, 10).await.unwrap().len(), 1);
    assert_eq!(world.0.connections(first).await.unwrap().len(), 8);
}

pub(super) async fn unlinking_one_leaves_the_others(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.settled("anna", 100).await;
    world.store("anna", writing([posted("t1", "2026-01-01")])).await;
    world.link("anna", accounts_only("second"), 1).await;
    let record = world.claim_by_name("anna").await;
    let mut commit = finish(&record, 100);
    commit.changes = new_transactions();
    world.0.commit(commit).await.unwrap();

    let unlink = |name: &'static str| {
        let store = Arc::clone(&world.0);
        async move { store.unlink(&item("anna"), Some(&app(name)), at(2)).await.unwrap() }
    };
    assert_eq!(unlink("stranger").await, Unlinked::NotConnected);
    assert_eq!(unlink("app").await, Unlinked::OthersStay);
    assert_eq!(unlink("app").await, Unlinked::NotConnected);
    assert_eq!(
        world.0.access(&digest("anna/app")).await.unwrap(),
        None,
        "its access token is invalid"
    );
    assert!(world.0.access(&digest("anna/second")).await.unwrap().is_some());
    assert!(world.deliver(2).await.is_empty(), "it gets no further webhooks");
    let record = world.item("anna").await;
    assert!(!record.needs_transactions, "the remaining application does not need them");
    assert_eq!(world.ids("anna").await, ["t1"], "the data is unchanged");
    assert!(world.0.tokens(&item("anna")).await.unwrap().is_some());
    assert!(world.0.claim_revocations(at(9), at(10), 9).await.unwrap().is_empty());
}

pub(super) async fn unlinking_the_last_takes_everything(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.settled("anna", 100).await;
    world.store("anna", writing([posted("t1", "2026-01-01")])).await;
    world.link_with("anna", NewHolder::Partner, tokens("anna"), "partner", 1).await;
    let record = world.claim_by_name("anna").await;
    let mut commit = finish(&record, 100);
    commit.changes = new_transactions();
    commit.accounts = Some(opening(&["giro"]));
    world.0.commit(commit).await.unwrap();
    let leased = world.claim_by_name("anna").await;

    let unlinked = world.0.unlink(&item("anna"), Some(&app("app")), at(2)).await.unwrap();
    assert_eq!(unlinked, Unlinked::ItemRemoved, "a token of the partner does not keep it");
    assert!(world.0.item(&item("anna")).await.unwrap().is_none());
    let user = UserId::new("anna").unwrap();
    assert_eq!(world.0.find(&bank(), &user).await.unwrap(), None);
    for token in ["anna/app", "partner"] {
        assert_eq!(world.0.access(&digest(token)).await.unwrap(), None);
    }
    assert!(world.0.tokens(&item("anna")).await.unwrap().is_none());
    assert!(world.0.connections(&item("anna")).await.unwrap().is_empty());
    assert!(world.0.accounts(&item("anna")).await.unwrap().is_empty());
    let page = world.0.transactions(&item("anna"), &TransactionQuery::new(always(), 9)).await;
    assert_eq!(page.unwrap().total, Some(0));
    let page = world.0.changes(&item("anna"), &ChangeQuery::new(0, 9)).await.unwrap();
    assert_eq!((page.changes.len(), page.head), (0, 0));
    assert!(world.deliver(2).await.is_empty());
    assert_eq!(world.refused(finish(&leased, 100)).await, StoreErrorKind::Fenced);

    let revocations = world.0.claim_revocations(at(2), at(3), 9).await.unwrap();
    assert_eq!(revocations.len(), 1);
    assert_eq!((&revocations[0].item_id, &revocations[0].institution_id), (&item("anna"), &bank()));
    assert_eq!(revocations[0].tokens, tokens("anna"));

    // The user can link again. This creates another Item.
    assert!(
        world
            .link_with("anna", NewHolder::Application(connection("app")), tokens("new"), "x", 5)
            .await
            .created
    );
    assert!(world.ids("anna").await.is_empty());
}

/// Stores delete the transactions of a large Item in several batches.
pub(super) async fn a_large_item_is_removed_completely(store: Arc<dyn Store>) {
    const BATCH: usize = 4_000;
    let world = World::new(store);
    world.settled("anna", 100).await;
    for batch in 0..3 {
        let rows = (0..BATCH).map(|row| posted(&format!("t{batch}-{row}"), "2026-01-01"));
        world.store("anna", writing(rows)).await;
    }
    let count = async || {
        let query = TransactionQuery::new(always(), 1);
        world.0.transactions(&item("anna"), &query).await.unwrap().total
    };
    assert_eq!(count().await, Some(3 * BATCH as u64));
    let unlinked = world.0.unlink(&item("anna"), Some(&app("app")), at(2)).await.unwrap();
    assert_eq!(unlinked, Unlinked::ItemRemoved);
    assert_eq!(count().await, Some(0), "none of them stays");
    // The same user again, under the same id: nothing of before is there.
    world.link("anna", connection("app"), 5).await;
    assert_eq!(count().await, Some(0));
    assert_eq!(world.0.purge(at(10_000_000), 100).await.unwrap(), 0, "nothing is left to delete");
}

pub(super) async fn the_partner_holds_an_item_that_nobody_uses(store: Arc<dyn Store>) {
    let world = World::new(store);
    let linked = world.link_with("anna", NewHolder::Partner, tokens("anna"), "partner", 0).await;
    assert!(linked.created);
    let access = world.0.access(&digest("partner")).await.unwrap().unwrap();
    assert_eq!(access.application_id, None);
    assert!(world.0.connections(&item("anna")).await.unwrap().is_empty());

    // While an application is connected, the partner only loses its own access token.
    world.link("anna", connection("app"), 1).await;
    assert_eq!(world.0.unlink(&item("anna"), None, at(2)).await.unwrap(), Unlinked::OthersStay);
    assert_eq!(world.0.access(&digest("partner")).await.unwrap(), None);
    assert_eq!(world.0.unlink(&item("anna"), None, at(2)).await.unwrap(), Unlinked::NotConnected);

    world.link_with("bert", NewHolder::Partner, tokens("bert"), "partner-2", 0).await;
    assert_eq!(world.0.unlink(&item("bert"), None, at(2)).await.unwrap(), Unlinked::ItemRemoved);
    assert!(world.0.item(&item("bert")).await.unwrap().is_none());
}

pub(super) async fn access_is_replaced(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.link("anna", connection("app"), 0).await;
    let old = world.0.access(&digest("anna/app")).await.unwrap();
    assert!(world.0.replace_access(&digest("anna/app"), &digest("new")).await.unwrap());
    assert_eq!(world.0.access(&digest("anna/app")).await.unwrap(), None);
    assert_eq!(world.0.access(&digest("new")).await.unwrap(), old);
    assert!(!world.0.replace_access(&digest("anna/app"), &digest("newer")).await.unwrap());
    assert_eq!(world.0.access(&digest("newer")).await.unwrap(), None);
}
