//! Activity log, read times, and notifications of partners.

use super::world::*;
use crate::{
    connection::{CursorKey, ScopeError},
    store::{
        ChangeTo, Changed, ConnectionChange, DataKind, DataRead, Destination, Disconnection,
        NewHolder, NewLink, Store, Unlinked,
    },
    sync_state::History,
};
use px_types::{
    ActivityId, UserId,
    model::{activity::ActivityType, product::Product, scopes::Scopes},
};
use std::sync::Arc;

pub(super) async fn the_log_tells_what_was_done(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.connect(audited_link("anna", connection("app"), 0)).await;
    world.connect(audited_link("anna", accounts_only("second"), 1)).await;
    world.connect(audited_link("anna", connection("app"), 2)).await;
    let user = (bank(), UserId::new("anna").unwrap());
    let mut import = NewLink::new(
        user,
        item("anna"),
        tokens("anna"),
        NewHolder::Partner,
        digest("partner"),
        at(3),
    );
    import.audit = audit("bank", None);
    world.connect(import).await;
    let mut leave = Disconnection::new(item("anna"), Some(app("second")), at(4));
    (leave.activity, leave.audit) = (ActivityType::PortalUnlink, audit("bank", None));
    assert_eq!(world.0.leave(&leave).await.unwrap(), Unlinked::OthersStay);
    assert_eq!(world.0.leave(&leave).await.unwrap(), Unlinked::NotConnected);
    let expected = [
        "PORTAL_UNLINK by bank of second",
        "ITEM_IMPORT by bank of -",
        "ITEM_UPDATE by app of app",
        "ITEM_CREATE by second of second",
        "ITEM_CREATE by app of app",
    ];
    assert_eq!(world.log("anna").await, expected);

    // Pages do not shift when new entries are added.
    let all = world.0.activities(&item("anna"), None, 100).await.unwrap().unwrap();
    assert_eq!(all[4].initiated_date.date(), day("2026-01-10"));
    assert_eq!(all[4].scopes.as_ref().unwrap().new_accounts, Some(true));
    assert_eq!(all[0].scopes, None);
    let first = world.0.activities(&item("anna"), None, 2).await.unwrap().unwrap();
    assert_eq!(first, all[..2]);
    world.connect(audited_link("anna", accounts_only("third"), 5)).await;
    let next = world.0.activities(&item("anna"), Some(&first[1].id), 2).await.unwrap().unwrap();
    assert_eq!(next, all[2..4]);
    let rest = world.0.activities(&item("anna"), Some(&next[1].id), 2).await.unwrap().unwrap();
    assert_eq!(rest, all[4..]);
    let end = world.0.activities(&item("anna"), Some(&rest[0].id), 2).await.unwrap();
    assert_eq!(end, Some(vec![]));

    // Each Item has its own log.
    world.connect(audited_link("bert", connection("app"), 0)).await;
    assert_eq!(world.log("bert").await.len(), 1);
    let foreign = world.0.activities(&item("bert"), Some(&first[1].id), 2).await.unwrap();
    assert_eq!(foreign, None, "the entry belongs to another Item");
    let unknown = ActivityId::new("never").unwrap();
    assert_eq!(world.0.activities(&item("anna"), Some(&unknown), 2).await.unwrap(), None);

    // The log is deleted with the Item.
    world.0.unlink(&item("bert"), Some(&app("app")), at(6)).await.unwrap();
    assert!(world.log("bert").await.is_empty());
}

pub(super) async fn the_partner_is_notified_of_joins_and_leaves(store: Arc<dyn Store>) {
    let world = World::new(store);
    let mut chosen = connection("app");
    chosen.accounts = Some([account_id("giro")].into());
    world.connect(audited_link("anna", chosen, 0)).await;
    let webhook = world.webhooks(0).await.remove(0);
    assert_eq!((&webhook.to, &webhook.item_id), (&Destination::Partner(bank()), &item("anna")));
    let notices = world.partner_notifications(1).await;
    assert_eq!(notices.len(), 1);
    assert_eq!(
        (notices[0].user_id.as_str(), &notices[0].application.application_id),
        ("anna", &app("app"))
    );
    assert_eq!(notices[0].application.name, "The app");
    assert_eq!(notices[0].application.reason_for_access.as_deref(), Some("to help"));
    assert_eq!(notices[0].account_ids, [account_id("giro")]);
    assert!(notices[0].application.scopes.is_some() && !notices[0].is_unlink());

    world.connect(audited_link("anna", connection("app"), 2)).await;
    assert!(
        world.partner_notifications(2).await.is_empty(),
        "no notification: it was connected before"
    );
    world.connect(audited_link("anna", accounts_only("second"), 3)).await;
    let notices = world.partner_notifications(3).await;
    assert_eq!(notices[0].application.application_id, app("second"));

    // One application is disconnected without a request of the partner; then the last one, and the
    // Item is removed.
    let mut leave = Disconnection::new(item("anna"), Some(app("second")), at(4));
    leave.audit = audit("second", Some("second"));
    world.0.leave(&leave).await.unwrap();
    let notices = world.partner_notifications(4).await;
    assert_eq!(notices[0].application.application_id, app("second"));
    assert!(notices[0].is_unlink() && notices[0].application.scopes.is_none());
    world.connect(audited_link("anna", connection("third"), 5)).await;
    world.0.unlink(&item("anna"), Some(&app("third")), at(5)).await.unwrap();
    let mut leave = Disconnection::new(item("anna"), Some(app("app")), at(6));
    leave.audit = audit("app", Some("app"));
    assert_eq!(world.0.leave(&leave).await.unwrap(), Unlinked::ItemRemoved);
    let notices: Vec<_> = world.partner_notifications(6).await;
    let who: Vec<_> = notices.iter().map(|one| one.application.application_id.as_str()).collect();
    assert_eq!(who, ["third", "app"], "notifications remain when connection and Item are removed");
    assert_ne!(notices[0].notification_id, notices[1].notification_id);
}

fn scopes(json: serde_json::Value) -> ChangeTo {
    let scopes: Scopes = px_types::decode(json.to_string().as_bytes()).unwrap();
    ChangeTo::Scopes(scopes, CursorKey::new([9; 32]))
}

fn changing(name: &str, to: ChangeTo, minute: i64) -> ConnectionChange {
    let mut change = ConnectionChange::new(item("anna"), app(name), to, at(minute));
    change.audit = audit("bank", None);
    change
}

pub(super) async fn scopes_are_changed(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.settled("anna", 100).await;
    let record = world.claim_by_name("anna").await;
    let mut commit = finish(&record, 100);
    commit.accounts = Some(opening(&["giro", "card"]));
    world.0.commit(commit).await.unwrap();
    world.deliver(0).await;
    let before = world.0.connections(&item("anna")).await.unwrap().remove(0);

    let off = serde_json::json!({
        "product_access": {"transactions": false},
        "accounts": [{"unique_id": "giro", "authorized": true}],
    });
    let change = changing("app", scopes(off), 1);
    assert_eq!(world.0.change(&change).await.unwrap(), Changed::Done);
    let less = world.0.connections(&item("anna")).await.unwrap().remove(0);
    assert!(!less.needs_transactions() && !less.sees(&account_id("card")));
    assert!(less.sees(&account_id("giro")) && less.new_accounts);
    assert!(less.epoch > before.epoch);
    assert_eq!(less.cursor_key, CursorKey::new([9; 32]));
    assert!(!world.item("anna").await.needs_transactions);
    assert_eq!(world.log("anna").await, ["SCOPES_UPDATE by bank of app"]);

    // Switched on again: the history is stored, and the application is notified of it.
    let on = serde_json::json!({"product_access": {"transactions": true}});
    assert_eq!(world.0.change(&changing("app", scopes(on), 2)).await.unwrap(), Changed::Done);
    assert!(world.item("anna").await.needs_transactions);
    assert!(world.deliver(2).await.contains(&"app INITIAL_UPDATE".to_owned()));

    let unknown = serde_json::json!({"accounts": [{"unique_id": "another", "authorized": true}]});
    let refused = Changed::Refused(ScopeError::UnknownAccount(0));
    assert_eq!(world.0.change(&changing("app", scopes(unknown), 3)).await.unwrap(), refused);
    let never = serde_json::json!({"product_access": {"identity": true}});
    let refused = Changed::Refused(ScopeError::NotRequested("product_access.identity"));
    assert_eq!(world.0.change(&changing("app", scopes(never), 3)).await.unwrap(), refused);
    let same = changing("other", scopes(serde_json::json!({})), 3);
    assert_eq!(world.0.change(&same).await.unwrap(), Changed::NotConnected);
    assert_eq!(world.log("anna").await.len(), 2, "a refused change is not logged");
}

pub(super) async fn a_new_address_for_webhooks_is_notified(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.settled("anna", 100).await;
    let before = world.0.connections(&item("anna")).await.unwrap().remove(0);
    let to = ChangeTo::Webhook(Some("https://new.example/".to_owned()));
    assert_eq!(world.0.change(&changing("app", to, 1)).await.unwrap(), Changed::Done);
    let webhook = world.webhooks(1).await.remove(0);
    assert_eq!(webhook.to.url(), Some("https://new.example/"));
    assert_eq!(receivers(std::slice::from_ref(&webhook)), ["app WEBHOOK_UPDATE_ACKNOWLEDGED"]);
    assert!(webhook.body.contains("https://new.example/"));
    world.0.settle_webhook(&webhook, None).await.unwrap();
    let after = world.0.connections(&item("anna")).await.unwrap().remove(0);
    assert_eq!((after.epoch, &after.cursor_key), (before.epoch, &before.cursor_key));
    assert_eq!(after.webhook.as_deref(), Some("https://new.example/"));
    assert!(world.log("anna").await.is_empty(), "it sees the same data");

    assert_eq!(
        world.0.change(&changing("app", ChangeTo::Webhook(None), 2)).await.unwrap(),
        Changed::Done
    );
    assert!(world.webhooks(9).await.is_empty());
    let after = world.0.connections(&item("anna")).await.unwrap().remove(0);
    assert_eq!(after.webhook, None);
}

pub(super) async fn an_application_joins_without_new_tokens(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.link("anna", accounts_only("first"), 0).await;
    let record = world.claim_by_name("anna").await;
    world.0.commit(finish(&record, 100)).await.unwrap();
    let user = || (bank(), UserId::new("anna").unwrap());
    let joins = |name: &str, product, id: &str, minute| {
        let mut joining = connection(name);
        joining.products = [Product::as_str(&product).to_owned()].into();
        let holder = NewHolder::Application(joining);
        NewLink::new(user(), item(id), None, holder, None, at(minute))
    };
    let linked = world.connect(joins("second", Product::Auth, "anna", 1)).await;
    assert!(linked.item_id == item("anna") && !linked.created && !linked.repaired);
    let record = world.item("anna").await;
    assert_eq!(record.due_at, Some(at(100)), "no second fetch");
    let (stored, _) = world.0.tokens(&item("anna")).await.unwrap().unwrap();
    assert_eq!(stored, tokens("anna"));
    assert!(world.0.claim_revocations(at(9), at(10), 9).await.unwrap().is_empty());

    // The first application that needs transactions: only they are fetched.
    world.connect(joins("third", Product::Transactions, "anna", 2)).await;
    assert_eq!(world.item("anna").await.due_at, Some(at(2)));
    let record = world.claim_by_name("anna").await;
    let mut commit = finish(&record, 100);
    commit.sync_state.history = History::Complete;
    world.0.commit(commit).await.unwrap();
    world.connect(joins("fourth", Product::Transactions, "anna", 3)).await;
    let notices = world.deliver(3).await;
    assert_eq!(notices[..2], ["fourth INITIAL_UPDATE", "fourth HISTORICAL_UPDATE"]);

    // An Item that does not exist, or that has another id, cannot be joined.
    for id in ["other", "anna-2"] {
        let error = world.0.link(joins("fifth", Product::Auth, id, 4)).await.unwrap_err();
        assert_eq!(error.kind(), crate::store::StoreErrorKind::NoItem);
    }
    let holder = NewHolder::Application(connection("fifth"));
    let stranger = (bank(), UserId::new("stranger").unwrap());
    let none = NewLink::new(stranger.clone(), item("new"), None, holder, None, at(4));
    let error = world.0.link(none).await.unwrap_err();
    assert_eq!(error.kind(), crate::store::StoreErrorKind::NoItem);
    assert_eq!(world.0.find(&bank(), &stranger.1).await.unwrap(), None);

    // An Item that lost its authorization stays in that state.
    let record = world.claim_by_name("anna").await;
    let version = world.0.tokens(&item("anna")).await.unwrap().unwrap().1;
    let then = crate::store::LeaseOutcome::Release {
        due_at: None,
        not_before: None,
        seen: record.notified,
    };
    let lost = crate::item::State::IdleLoginRequired;
    let mut commit = crate::store::Commit::new(&record, lost, at(4), then);
    commit.refused_tokens = Some(version);
    world.0.commit(commit).await.unwrap();
    let linked = world.connect(joins("sixth", Product::Auth, "anna", 5)).await;
    assert!(!linked.repaired);
    assert_eq!(world.item("anna").await.state, lost);
}

pub(super) async fn access_is_given_to_who_is_connected(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.link("anna", connection("app"), 0).await;
    let give = async |name: &str, holder: Option<&str>, token: &str| {
        let holder = holder.map(app);
        world.0.set_access(&item(name), holder.as_ref(), &digest(token)).await.unwrap()
    };
    assert!(give("anna", Some("app"), "new").await);
    assert_eq!(
        world.0.access(&digest("anna/app")).await.unwrap(),
        None,
        "the earlier token is invalid"
    );
    let access = world.0.access(&digest("new")).await.unwrap().unwrap();
    assert_eq!((access.application_id, access.institution_id), (Some(app("app")), bank()));
    assert!(give("anna", None, "partner").await);
    assert!(give("anna", None, "partner-2").await);
    assert_eq!(world.0.access(&digest("partner")).await.unwrap(), None);
    assert_eq!(world.0.access(&digest("partner-2")).await.unwrap().unwrap().application_id, None);
    assert!(world.0.access(&digest("new")).await.unwrap().is_some(), "the token of the partner");
    assert!(!give("anna", Some("stranger"), "x").await);
    assert!(!give("bert", Some("app"), "x").await);
    assert!(!give("bert", None, "x").await);
    assert_eq!(world.0.access(&digest("x")).await.unwrap(), None);
}

pub(super) async fn the_last_reads_are_kept(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.link("anna", connection("app"), 0).await;
    world.link("bert", connection("app"), 0).await;
    let read = |name: &str, by: &str, kind, minute| DataRead {
        item_id: item(name),
        application_id: app(by),
        kind,
        at: at(minute),
    };
    let reads = [
        read("bert", "app", DataKind::Balances, 1),
        read("anna", "app", DataKind::Transactions, 5),
        read("anna", "app", DataKind::Transactions, 2),
        read("anna", "app", DataKind::Balances, 2),
        read("gone", "app", DataKind::Balances, 2),
    ];
    world.0.record_reads(&reads).await.unwrap();
    world.0.record_reads(&[]).await.unwrap();
    let later =
        [read("anna", "app", DataKind::Balances, 7), read("anna", "b", DataKind::Contacts, 3)];
    world.0.record_reads(&later).await.unwrap();
    world.0.record_reads(&[read("anna", "app", DataKind::Balances, 6)]).await.unwrap();
    let mut stored = world.0.last_reads(&item("anna")).await.unwrap();
    stored.sort();
    let expected = [
        read("anna", "app", DataKind::Balances, 7),
        read("anna", "app", DataKind::Transactions, 5),
        read("anna", "b", DataKind::Contacts, 3),
    ];
    assert_eq!(stored, expected, "the latest time of each kind");
    assert!(world.0.last_reads(&item("gone")).await.unwrap().is_empty());
    world.0.unlink(&item("anna"), Some(&app("app")), at(8)).await.unwrap();
    assert!(world.0.last_reads(&item("anna")).await.unwrap().is_empty());
    assert_eq!(world.0.last_reads(&item("bert")).await.unwrap().len(), 1);
}

pub(super) async fn of_two_unlinks_at_once_one_takes_it(store: Arc<dyn Store>) {
    let world = World::new(store);
    for round in 0..10 {
        let name = format!("user-{round}");
        world.link(&name, connection("app"), 0).await;
        world.link(&name, accounts_only("other"), 0).await;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let (world, name) = (world.clone(), name.clone());
            tasks.spawn(async move {
                world.0.unlink(&item(&name), Some(&app("app")), at(1)).await.unwrap()
            });
        }
        // A token that is replaced meanwhile does not stay valid.
        let (rotating, old) = (world.clone(), digest(&format!("{name}/app")));
        let new = digest(&format!("{name}/new"));
        let rotation =
            tokio::spawn(async move { rotating.0.replace_access(&old, &new).await.unwrap() });
        let mut done = tasks.join_all().await;
        rotation.await.unwrap();
        done.sort_by_key(|unlinked| *unlinked == Unlinked::NotConnected);
        assert_eq!(done[0], Unlinked::OthersStay);
        assert_eq!(done[1..], [Unlinked::NotConnected; 3]);
        assert_eq!(world.0.access(&digest(&format!("{name}/app"))).await.unwrap(), None);
        assert_eq!(world.0.access(&new).await.unwrap(), None, "round {round}");
    }
}
