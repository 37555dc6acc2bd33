//! Contents and refusals of commits.

use super::world::*;
use crate::{
    connection::Connection,
    item::State,
    merge::{AccountStanding, AccountWrite, KnownAccount},
    store::{AccountsWrite, Fence, LeaseOutcome, NotificationRequest, Store, StoreErrorKind},
    sync_state::{FailureKind, FailureRecord, History, HistoryScan, SyncState},
};
use px_types::{
    IdentityId,
    model::{identity::Identity, security::Security},
};
use std::{collections::BTreeSet, sync::Arc};

pub(super) async fn case_36_a_late_commit_changes_nothing(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.settled("anna", 0).await;
    let late = world.0.claim(at(0), at(10), 1).await.unwrap().remove(0);
    let present = world.0.claim(at(10), at(20), 1).await.unwrap().remove(0);
    world.store_of(&present, &["t1"]).await;
    let before = world.item("anna").await;

    let mut commit = finish(&late, 500);
    commit.transactions = writing([posted("t2", "2026-01-02")]);
    commit.accounts = Some(opening(&["giro"]));
    commit.changes = new_transactions();
    commit.sync_state = SyncState::default();
    assert_eq!(world.refused(commit.clone()).await, StoreErrorKind::Fenced);
    commit.fence = Fence(present.fence.0.wrapping_add(1));
    assert_eq!(
        world.refused(commit.clone()).await,
        StoreErrorKind::Fenced,
        "the Item was never claimed"
    );
    assert_eq!(world.item("anna").await, before);
    assert_eq!(world.ids("anna").await, ["t1"]);
    assert!(world.0.accounts(&item("anna")).await.unwrap().is_empty());
    assert!(world.deliver(100).await.is_empty());

    // The worker with the lease continues. When it has released its claim, the claim has ended,
    // too.
    world.0.commit(finish(&present, 100)).await.unwrap();
    assert_eq!(world.refused(finish(&present, 100)).await, StoreErrorKind::Fenced);

    // An expired lease that no worker took over is still valid.
    let slow = world.0.claim(at(100), at(110), 1).await.unwrap().remove(0);
    let mut commit = finish(&slow, 900);
    commit.now = at(500);
    world.0.commit(commit).await.unwrap();
}

pub(super) async fn case_24_a_commit_happens_whole(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.link("anna", connection("app"), 0).await;
    let record = world.claim_by_name("anna").await;
    let mut commit = finish(&record, 77);
    commit.transactions = writing([posted("t1", "2026-01-01")]);
    commit.accounts = Some(opening(&["giro"]));
    commit.changes = new_transactions();
    commit.sync_state.history = History::Complete;
    commit.sync_state.deep_at = Some(at(0));
    commit.sync_state.fetched = [(account_id("giro"), 3)].into();
    commit.sync_state.last_failure = Some(FailureRecord::new(at(1), FailureKind::Network, "cut"));
    let sync_state = commit.sync_state.clone();
    world.0.commit(commit).await.unwrap();

    let record = world.item("anna").await;
    assert_eq!((record.state, record.due_at), (State::Idle, Some(at(77))));
    assert_eq!((record.leased_until, record.change_seq), (None, 1));
    assert_eq!(record.sync_state, sync_state);
    assert_eq!(world.ids("anna").await, ["t1"]);
    assert_eq!(world.0.accounts(&item("anna")).await.unwrap().len(), 1);
    let expected = ["app DEFAULT_UPDATE", "app SYNC_UPDATES_AVAILABLE"];
    assert_eq!(world.deliver(0).await, expected);

    // A commit without changes does not move the position of sync cursors.
    let record = world.claim_by_name("anna").await;
    world.0.commit(finish(&record, 78)).await.unwrap();
    assert_eq!(world.item("anna").await.change_seq, 1);
}

pub(super) async fn a_long_fetch_is_stored_part_by_part(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.link("anna", connection("app"), 0).await;
    let record = world.0.claim(at(0), at(10), 1).await.unwrap().remove(0);
    for (part, date) in [(1, "2026-01-01"), (2, "2025-12-01"), (3, "2025-11-01")] {
        let then = LeaseOutcome::Keep { lease_until: at(10 + part) };
        let mut commit = crate::store::Commit::new(&record, State::Created, at(part), then);
        let scan = HistoryScan::new(day(date), day("2024-01-10"), at(0));
        commit.sync_state.history = History::Fetching { scan, recent: false };
        commit.transactions = writing([posted(&format!("t{part}"), date)]);
        world.0.commit(commit).await.unwrap();
        let stored = world.item("anna").await;
        assert_eq!(stored.change_seq, part);
        assert_eq!(stored.leased_until, Some(at(10 + part)), "the lease continues");
        assert_eq!(stored.sync_state.history, History::Fetching { scan, recent: false });
    }
    // After a crash the next worker continues from there.
    let next = world.0.claim(at(13), at(20), 1).await.unwrap().remove(0);
    let scan = HistoryScan::new(day("2025-11-01"), day("2024-01-10"), at(0));
    assert_eq!(next.sync_state.history, History::Fetching { scan, recent: false });
    assert_eq!(next.state, State::Created);
    assert_eq!(world.ids("anna").await, ["t1", "t2", "t3"]);
}

pub(super) async fn a_commit_leaves_alone_what_others_write(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.settled("anna", 0).await;
    let record = world.claim_by_name("anna").await;
    let (_, version) = world.0.tokens(&item("anna")).await.unwrap().unwrap();
    assert!(world.0.save_tokens(&item("anna"), version, &tokens("2")).await.unwrap());
    world
        .link_with(
            "anna",
            crate::store::NewHolder::Application(accounts_only("second")),
            tokens("2"),
            "s",
            1,
        )
        .await;
    let mut changed = connection("app");
    changed.webhook = Some("https://elsewhere.example/".to_owned());
    world.0.set_connection(&item("anna"), changed, at(1)).await.unwrap();
    world.notify("anna", NotificationRequest::Update { since: Some(day("2026-01-03")) }, 1).await;

    let mut commit = finish(&record, 500);
    commit.changes = new_transactions();
    world.0.commit(commit).await.unwrap();
    assert_eq!(world.0.tokens(&item("anna")).await.unwrap().unwrap().0, tokens("2"));
    let connections = world.0.connections(&item("anna")).await.unwrap();
    assert_eq!(connections.len(), 2);
    assert_eq!(connections[0].webhook.as_deref(), Some("https://elsewhere.example/"));
    let after = world.item("anna").await;
    assert_eq!(after.due_at, Some(at(0)), "the notification is not lost");
    assert_eq!(after.notified_since, Some(day("2026-01-03")));
    let notices = world.webhooks(1).await;
    let urls: Vec<_> = notices.iter().filter_map(|webhook| webhook.to.url()).collect();
    assert_eq!(urls, ["https://elsewhere.example/"; 2]);
}

pub(super) async fn accounts_are_written_and_forgotten(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.link("anna", connection("app"), 0).await;
    let on_hold = KnownAccount::new(
        account("new-giro", "1.00"),
        account_id("new-giro"),
        AccountStanding::Held,
    );
    let record = world.claim_by_name("anna").await;
    let mut commit = finish(&record, 0);
    let mut write = opening(&["spar", "giro"]);
    write.accounts.push(AccountWrite::new(on_hold, false));
    commit.accounts = Some(write.clone());
    world.0.commit(commit).await.unwrap();
    let stored = world.0.accounts(&item("anna")).await.unwrap();
    let mut expected: Vec<_> = write.accounts.into_iter().map(|write| write.known).collect();
    expected.sort_by(|one, other| one.account.id.cmp(&other.account.id));
    assert_eq!(stored, expected, "ordered by id");

    // After a re-map the account on hold is one that the Item has.
    let record = world.claim_by_name("anna").await;
    let mut commit = finish(&record, 0);
    let moved =
        KnownAccount::new(account("giro", "2.00"), account_id("new-giro"), AccountStanding::Listed);
    let gone =
        KnownAccount::new(account("spar", "0.00"), account_id("spar"), AccountStanding::Closed);
    commit.accounts = Some(AccountsWrite {
        accounts: [&moved, &gone].map(|known| AccountWrite::new(known.clone(), false)).into(),
        forgotten: vec![account_id("new-giro")],
        ..AccountsWrite::default()
    });
    world.0.commit(commit).await.unwrap();
    assert_eq!(world.0.accounts(&item("anna")).await.unwrap(), [moved, gone]);
}

pub(super) async fn connections_take_in_new_accounts(store: Arc<dyn Store>) {
    let world = World::new(store);
    let mut fixed = connection("fixed");
    fixed.new_accounts = false;
    let mut some = connection("some");
    some.accounts = Some([account_id("giro")].into());
    for connection in [connection("all"), fixed, some] {
        world.link("anna", connection, 0).await;
    }
    let open = async |ids: &[&str]| {
        let record = world.claim_by_name("anna").await;
        let mut commit = finish(&record, 0);
        let mut write = opening(ids);
        write.first = world.0.accounts(&item("anna")).await.unwrap().is_empty();
        if !write.first {
            commit.changes.new_accounts = ids.iter().map(|id| account_id(id)).collect();
        }
        commit.accounts = Some(write);
        world.0.commit(commit).await.unwrap();
    };
    let epochs = async || -> Vec<u64> {
        let connections = world.0.connections(&item("anna")).await.unwrap();
        connections.iter().map(|one| one.epoch).collect()
    };
    let seen = async || -> Vec<Option<Vec<String>>> {
        let connections = world.0.connections(&item("anna")).await.unwrap();
        let names = |one: &crate::connection::Connection| {
            one.accounts.as_ref().map(|ids| ids.iter().map(ToString::to_string).collect())
        };
        connections.iter().map(names).collect()
    };
    let before = epochs().await;
    open(&["giro", "spar"]).await;
    let (both, giro) = (vec!["giro".to_owned(), "spar".to_owned()], vec!["giro".to_owned()]);
    assert_eq!(seen().await, [None, Some(both.clone()), Some(giro)]);
    assert!(world.deliver(0).await.is_empty());

    open(&["depot"]).await;
    let grown = vec!["depot".to_owned(), "giro".to_owned()];
    assert_eq!(seen().await, [None, Some(both), Some(grown)]);
    assert_eq!(epochs().await, before, "cursors stay valid: new accounts have no transactions yet");
    let expected = ["all NEW_ACCOUNTS_AVAILABLE", "some NEW_ACCOUNTS_AVAILABLE"];
    assert_eq!(world.deliver(0).await, expected, "only applications that see it");

    // No connection is extended by an account on hold until it is listed.
    let record = world.claim_by_name("anna").await;
    let mut commit = finish(&record, 0);
    let mut write = opening(&["doubtful"]);
    write.accounts[0].known.standing = AccountStanding::Held;
    commit.accounts = Some(write);
    world.0.commit(commit).await.unwrap();
    assert_eq!(seen().await[2].as_ref().unwrap().len(), 2);
    open(&["doubtful"]).await;
    assert_eq!(seen().await[2].as_ref().unwrap().len(), 3);
}

pub(super) async fn an_answer_without_accounts_is_the_first_one(store: Arc<dyn Store>) {
    let world = World::new(store);
    let fixed = |name: &str| Connection { new_accounts: false, ..connection(name) };
    let store_accounts = async |ids: &[&str], first: bool| {
        let record = world.claim_by_name("anna").await;
        let mut commit = finish(&record, 0);
        commit.sync_state.fresh.accounts = Some(at(0));
        commit.accounts = Some(AccountsWrite { first, ..opening(ids) });
        world.0.commit(commit).await.unwrap();
    };
    let seen = async || -> Vec<Option<usize>> {
        let connections = world.0.connections(&item("anna")).await.unwrap();
        connections.iter().map(|one| one.accounts.as_ref().map(BTreeSet::len)).collect()
    };
    world.link("anna", fixed("before"), 0).await;
    assert_eq!(seen().await, [None], "the accounts are unknown");
    store_accounts(&[], true).await;
    world.link("anna", fixed("joined"), 1).await;
    assert_eq!(seen().await, [Some(0), Some(0)], "the user has no accounts");
    store_accounts(&["depot"], false).await;
    assert_eq!(seen().await, [Some(0), Some(0)], "the account was opened later");
}

pub(super) async fn identities_and_securities_are_written(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.link("anna", connection("app"), 0).await;
    assert!(world.0.identities(&item("anna")).await.unwrap().is_none());
    let identity = |id: &str, name: &str| Identity::new(IdentityId::new(id).unwrap(), name);
    let security = |id: &str, name: &str| -> Security {
        let text = serde_json::json!({ "id": id, "type": "etf", "name": name, "currency": "EUR" });
        px_types::decode(text.to_string().as_bytes()).unwrap()
    };
    let me = IdentityId::new("i-1").unwrap();
    let commit = async |identities, securities: Vec<Security>, brought: Vec<Security>| {
        let record = world.claim_by_name("anna").await;
        let mut commit = finish(&record, 0);
        commit.accounts =
            Some(AccountsWrite { identities, securities, ..AccountsWrite::default() });
        commit.securities = brought;
        world.0.commit(commit).await.unwrap();
    };
    let all = (me.clone(), vec![identity("i-2", "Bea"), identity("i-1", "Ann")]);
    commit(Some(all.clone()), vec![security("s2", "two")], vec![security("s1", "one")]).await;
    assert_eq!(world.0.identities(&item("anna")).await.unwrap(), Some(all.clone()));
    let stored = world.0.securities(&item("anna")).await.unwrap();
    assert_eq!(stored, [security("s1", "one"), security("s2", "two")], "ordered by id");

    commit(None, vec![security("s1", "uno")], vec![security("s3", "three")]).await;
    assert_eq!(world.0.identities(&item("anna")).await.unwrap(), Some(all), "unchanged");
    let stored = world.0.securities(&item("anna")).await.unwrap();
    let expected = [security("s1", "uno"), security("s2", "two"), security("s3", "three")];
    assert_eq!(stored, expected);
    // An id can be any text.
    let odd = security("a \"quoted\" \\ {$.id} 'ü'", "odd");
    commit(None, Vec::new(), vec![odd.clone()]).await;
    let stored = world.0.securities(&item("anna")).await.unwrap();
    assert_eq!(stored[0], odd);
    let one = (me, vec![identity("i-1", "Anna")]);
    commit(Some(one.clone()), Vec::new(), Vec::new()).await;
    assert_eq!(world.0.identities(&item("anna")).await.unwrap(), Some(one), "replaced");
}

pub(super) async fn a_commit_of_a_removed_item_is_refused(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.link("anna", connection("app"), 0).await;
    let record = world.claim_by_name("anna").await;
    world.0.unlink(&item("anna"), Some(&app("app")), at(1)).await.unwrap();
    let mut commit = finish(&record, 0);
    commit.transactions = writing([posted("t1", "2026-01-01")]);
    commit.accounts = Some(opening(&["giro"]));
    assert_eq!(world.refused(commit).await, StoreErrorKind::Fenced);
    assert!(world.ids("anna").await.is_empty(), "nothing of it is stored");
    assert!(world.0.accounts(&item("anna")).await.unwrap().is_empty());
}

impl World {
    /// Stores transactions and keeps the claim.
    async fn store_of(&self, record: &crate::store::ItemRecord, ids: &[&str]) {
        let mut commit = finish(record, 0);
        commit.state = record.state;
        commit.lease = LeaseOutcome::Keep { lease_until: at(20) };
        commit.transactions = writing(ids.iter().map(|id| posted(id, "2026-01-01")));
        self.0.commit(commit).await.unwrap();
    }
}
