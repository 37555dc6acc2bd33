//! Reads: pages, changes, and the input of a merge.

use super::world::*;
use crate::{
    item::State,
    merge::{AccountStanding, Change, MergedTransactions, TransactionWrite},
    store::{AccountsWrite, ChangeQuery, LeaseOutcome, NewHolder, Store, TransactionQuery},
};
use px_types::{TransactionId, model::transaction::Transaction};
use std::sync::Arc;

pub(super) async fn transactions_are_paged_by_date_and_id(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.link("anna", connection("app"), 0).await;
    let rows = [
        posted("b", "2026-01-02"),
        posted("a", "2026-01-02"),
        posted("z", "2026-01-03"),
        // Sorted by the posting date, or by the transaction date while it is pending.
        row("late", "giro", "2025-12-01", Some("2026-01-04"), "1.00"),
        pending("open", "2026-01-05"),
        posted("old", "2025-12-31"),
        row("other", "spar", "2026-01-02", Some("2026-01-02"), "1.00"),
    ];
    world.store("anna", writing(rows.clone())).await;
    world.link("bert", connection("app"), 0).await;
    world.store("bert", writing([posted("a", "2026-01-02"), posted("c", "2026-01-02")])).await;

    let all = ["open", "late", "z", "a", "b", "other", "old"];
    assert_eq!(world.ids("anna").await, all);
    for limit in [1, 2, 3, 7] {
        let mut query = TransactionQuery::new(window("2026-01-01", "2026-01-05"), limit);
        let mut read = Vec::new();
        loop {
            let page = world.0.transactions(&item("anna"), &query).await.unwrap();
            assert_eq!(page.total, Some(6), "over all pages");
            assert!(page.rows.len() <= limit);
            let Some(last) = page.rows.last() else { break };
            query.after = Some((last.date(), last.id.clone()));
            read.extend(page.rows.iter().map(|row| row.id.to_string()));
        }
        assert_eq!(read, all[..6]);
    }
    let mut query = TransactionQuery::new(always(), 9);
    query.accounts = Some(vec![account_id("spar"), account_id("unknown")]);
    let page = world.0.transactions(&item("anna"), &query).await.unwrap();
    assert_eq!((page.rows.as_slice(), page.total), (&rows[6..], Some(1)));
    query.accounts = Some(Vec::new());
    let page = world.0.transactions(&item("anna"), &query).await.unwrap();
    assert_eq!((page.rows.len(), page.total), (0, Some(0)));
    let query = TransactionQuery::new(window("2026-01-02", "2026-01-02"), 0);
    let page = world.0.transactions(&item("anna"), &query).await.unwrap();
    assert_eq!((page.rows.len(), page.total), (0, Some(3)));
}

pub(super) async fn a_page_never_shifts(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.link("anna", connection("app"), 0).await;
    world.store("anna", writing(["a", "c", "e"].map(|id| posted(id, "2026-01-02")))).await;
    let mut query = TransactionQuery::new(always(), 2);
    let page = world.0.transactions(&item("anna"), &query).await.unwrap();
    query.after = page.rows.last().map(|row| (row.date(), row.id.clone()));
    // Rows before the reader's position do not shift rows to the next page, and the row that the
    // reader saw last may be removed.
    let mut merged = writing([posted("b", "2026-01-02"), posted("new", "2026-01-09")]);
    merged.removed = removing(&["c"]).removed;
    world.store("anna", merged).await;
    let page = world.0.transactions(&item("anna"), &query).await.unwrap();
    let ids: Vec<_> = page.rows.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(ids, ["e"]);
    assert_eq!(page.total, Some(4));
    query.counted = false;
    let page = world.0.transactions(&item("anna"), &query).await.unwrap();
    assert_eq!((page.rows.len(), page.total), (1, None));
}

pub(super) async fn case_10_ids_are_compared_byte_by_byte(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.link("anna", connection("app"), 0).await;
    let ids = ["a", "A", " a", "a ", "ä", "a\u{308}", "_", "é", "Z", "10", "9", "a%b", "ﬀ", "𝄞"];
    world.store("anna", writing(ids.map(|id| posted(id, "2026-01-02")))).await;
    let mut sorted = ids;
    sorted.sort_unstable();
    assert_eq!(world.ids("anna").await, sorted);
    let known = |wanted: &'static str| {
        let store = Arc::clone(&world.0);
        async move {
            store
                .known(&item("anna"), window("2020-01-01", "2020-01-01"), &[id(wanted)])
                .await
                .unwrap()
        }
    };
    for wanted in ids {
        let found = known(wanted).await;
        assert_eq!(found.len(), 1, "{wanted:?}");
        assert_eq!(found[0].id.as_str(), wanted);
    }
    assert!(world.0.item(&item("ANNA")).await.unwrap().is_none());
    assert!(world.0.item(&item("anna ")).await.unwrap().is_none());
}

pub(super) async fn changes_are_given_relative_to_a_base(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.link("anna", connection("app"), 0).await;
    world.store("anna", writing([posted("a", "2026-01-01"), posted("b", "2026-01-01")])).await;
    let mut second =
        writing([row("a", "giro", "2026-01-01", None, "9.99"), posted("c", "2026-01-03")]);
    second.writes[0].change = Change::Modified;
    world.store("anna", second).await;
    let mut third = writing([posted("d", "2026-01-04")]);
    third.removed = removing(&["b", "c"]).removed;
    world.store("anna", third).await;

    assert_eq!(
        world.changes("anna", 0).await,
        ["+a", "+d"],
        "rows that were added and removed are omitted"
    );
    assert_eq!(world.changes("anna", 1).await, ["~a", "-b", "+d"]);
    assert_eq!(world.changes("anna", 2).await, ["-b", "-c", "+d"]);
    assert!(world.changes("anna", 3).await.is_empty());
    let page = world.0.changes(&item("anna"), &ChangeQuery::new(3, 9)).await.unwrap();
    assert_eq!((page.head, page.more, page.last), (3, false, (3, None)));
    assert_eq!(page.head, world.item("anna").await.change_seq);
    let query = TransactionQuery::new(always(), 9);
    let rows = world.0.transactions(&item("anna"), &query).await.unwrap().rows;
    let changed = rows.iter().find(|row| row.id.as_str() == "a").unwrap();
    assert_eq!(changed.amount.to_string(), "9.99");
}

pub(super) async fn another_id_of_the_partners_is_no_change(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.link("anna", connection("app"), 0).await;
    world.store("anna", writing([posted("a", "2026-01-01"), posted("b", "2026-01-01")])).await;
    let mut second = MergedTransactions::default();
    let mut renumbered = posted("a2", "2026-01-01");
    renumbered.description = Some("about a".into());
    second.writes.push(TransactionWrite::new(
        id("a"),
        renumbered.clone(),
        Change::Renumbered,
        at(2),
    ));
    world.store("anna", second).await;
    assert!(world.changes("anna", 1).await.is_empty());
    assert_eq!(world.changes("anna", 0).await, ["+a", "+b"]);
    let known = world.0.known(&item("anna"), always(), &[]).await.unwrap();
    let known = known.into_iter().find(|known| known.id == id("a")).unwrap();
    assert_eq!((known.partner_id, known.read_at), (id("a2"), at(2)));
    // A removed row is added again, regardless of its id.
    world.store("anna", removing(&["a"])).await;
    renumbered.id = id("a3");
    let mut fourth = MergedTransactions::default();
    fourth.writes.push(TransactionWrite::new(id("a"), renumbered, Change::Added, at(3)));
    world.store("anna", fourth).await;
    assert_eq!(world.changes("anna", 3).await, ["+a"]);
}

pub(super) async fn changes_are_paged(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.link("anna", connection("app"), 0).await;
    let batch = |names: [&str; 3]| writing(names.map(|id| posted(id, "2026-01-01")));
    world.store("anna", batch(["c", "a", "b"])).await;
    world.store("anna", batch(["f", "d", "e"])).await;
    world.store("anna", removing(&["e", "b"])).await;
    for limit in [1, 2, 3, 5] {
        let mut query = ChangeQuery::new(1, limit);
        let mut read = Vec::new();
        for round in 0.. {
            let page = world.0.changes(&item("anna"), &query).await.unwrap();
            assert!(page.changes.len() <= limit);
            assert_eq!(page.head, 3);
            read.extend(page.changes.iter().map(show));
            assert!(page.last > query.after, "each page advances");
            query.after = page.last;
            if !page.more {
                break;
            }
            assert!(round < 10, "the pages never end");
        }
        // "e" was added and removed; "b" is removed.
        assert_eq!(read, ["+d", "+f", "-b"], "limit {limit}");
    }
}

pub(super) async fn a_transaction_that_came_back_can_be_removed_again(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.link("anna", connection("app"), 0).await;
    let here = || writing([posted("a", "2026-01-01")]);
    world.store("anna", here()).await; // 1
    world.store("anna", removing(&["a"])).await; // 2
    world.store("anna", here()).await; // 3
    assert_eq!(world.ids("anna").await, ["a"]);
    for base in 0..3 {
        assert_eq!(world.changes("anna", base).await, ["+a"], "since {base}");
    }
    world.store("anna", removing(&["a"])).await; // 4
    assert!(world.changes("anna", 0).await.is_empty());
    for base in 1..4 {
        // A reader of position 1 has had it since then.
        assert_eq!(world.changes("anna", base).await, ["-a"], "since {base}");
    }
    // A removed row cannot be removed again.
    world.store("anna", removing(&["a", "never"])).await; // 5
    assert!(world.changes("anna", 4).await.is_empty());
}

pub(super) async fn changes_of_some_accounts_only(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.link("anna", connection("app"), 0).await;
    let of = |id: &str, account: &str| row(id, account, "2026-01-01", Some("2026-01-01"), "1.00");
    world.store("anna", writing([of("a", "giro"), of("b", "spar"), of("c", "depot")])).await;
    let mut query = ChangeQuery::new(0, 1);
    query.accounts = Some(vec![account_id("giro"), account_id("depot")]);
    let page = world.0.changes(&item("anna"), &query).await.unwrap();
    assert_eq!(page.changes.iter().map(show).collect::<Vec<_>>(), ["+a"]);
    assert!(page.more);
    query.after = page.last;
    let page = world.0.changes(&item("anna"), &query).await.unwrap();
    assert_eq!(page.changes.iter().map(show).collect::<Vec<_>>(), ["+c"]);
    assert!(!page.more);
    query.accounts = Some(Vec::new());
    query.after = (0, None);
    let page = world.0.changes(&item("anna"), &query).await.unwrap();
    assert_eq!((page.changes.len(), page.more, page.head), (0, false, 1));
}

pub(super) async fn known_rows_are_those_a_window_may_change(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.link("anna", connection("app"), 0).await;
    let partners = row("partners", "giro", "2020-01-01", None, "1.00");
    let mut merged = writing([
        posted("inside", "2026-01-02"),
        pending("open", "2026-01-03"),
        posted("gone", "2026-01-02"),
        posted("before", "2025-12-31"),
        posted("after", "2026-01-06"),
        row("made-before", "giro", "2025-12-20", Some("2026-01-01"), "1.00"),
    ]);
    merged.writes.push(TransactionWrite::new(id("own"), partners, Change::Added, at(3)));
    world.store("anna", merged).await;
    world.store("anna", removing(&["gone"])).await;

    let known = async |ids: &[TransactionId]| -> Vec<String> {
        let known = world.0.known(&item("anna"), window("2026-01-01", "2026-01-05"), ids).await;
        known.unwrap().iter().map(|known| known.id.to_string()).collect()
    };
    let mut found = known(&[]).await;
    found.sort();
    assert_eq!(found, ["inside", "made-before", "open"]);
    let mut found = known(&[id("partners"), id("gone"), id("inside"), id("unknown")]).await;
    found.sort();
    let expected = ["gone", "inside", "made-before", "open", "own"];
    assert_eq!(found, expected, "each once; tombstones by id only");
    let found = known(&[id("own")]).await;
    assert!(found.contains(&"own".to_owned()), "also by the Item's own id");
    let many: Vec<_> = (0..5000).map(|number| id(&format!("unknown-{number}"))).collect();
    assert_eq!(known(&many).await.len(), 3);
    let nothing = world.0.known(&item("bert"), always(), &[id("inside")]).await.unwrap();
    assert!(nothing.is_empty());
}

pub(super) async fn case_31_what_is_written_is_read_back(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.link("anna", connection("app"), 0).await;
    let text = r#"{"id":"t-1","account_id":"giro","amount":"-1234567890123456789012.100000",
        "non_iso_currency":"miles","transacted_at":"2026-01-01T23:59:59.123456789-11:00",
        "settled_at":"2026-01-03","type":"depository","description":"Käse \"&\" 'Brot' \u0001 日本",
        "code":"a code of the future","check_number":"007"}"#;
    let full: Transaction = px_types::decode(text.as_bytes()).unwrap();
    let bare = pending("t-2", "0000-01-01");
    let last = pending("t-3", "9999-12-31");
    let mut unnamed = posted("t-4", "2026-01-01");
    unnamed.description = None;
    let rows = [full, bare, last, unnamed];
    let merged = writing(rows.clone());
    world.store("anna", merged.clone()).await;
    let range = window("0000-01-01", "9999-12-31");
    let query = TransactionQuery::new(range, 9);
    let mut stored = world.0.transactions(&item("anna"), &query).await.unwrap().rows;
    stored.sort_by(|one, other| one.id.cmp(&other.id));
    assert_eq!(stored, rows);
    let mut known = world.0.known(&item("anna"), range, &[]).await.unwrap();
    known.sort_by(|one, other| one.id.cmp(&other.id));
    let expected: Vec<_> = merged.writes.into_iter().map(|write| write.known).collect();
    assert_eq!(known, expected, "including digests and the scale of amounts");

    world.store("anna", removing(&["t-4"])).await;
    let gone = world.0.known(&item("anna"), range, &[id("t-4")]).await.unwrap();
    let gone = gone.into_iter().find(|known| known.id == id("t-4")).unwrap();
    assert_eq!(gone.removed_at, Some(at(0)));
    assert_eq!(gone.digest, expected[3].digest);
}

pub(super) async fn the_oldest_pending_is_known(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.link("anna", connection("app"), 0).await;
    assert_eq!(world.item("anna").await.oldest_pending, None);
    let rows = [posted("a", "2025-01-01"), pending("b", "2026-01-05"), pending("c", "2026-01-03")];
    world.store("anna", writing(rows)).await;
    assert_eq!(world.item("anna").await.oldest_pending, Some(day("2026-01-03")));
    // It posts; then the other one is removed.
    world
        .store("anna", writing([row("c", "giro", "2026-01-03", Some("2026-01-06"), "1.00")]))
        .await;
    assert_eq!(world.claim_by_name("anna").await.oldest_pending, Some(day("2026-01-05")));
    let record = world.item("anna").await;
    let mut commit = finish(&record, 0);
    commit.transactions = removing(&["b"]);
    world.0.commit(commit).await.unwrap();
    assert_eq!(world.0.claim(at(0), at(1), 1).await.unwrap()[0].oldest_pending, None);
}

/// A transaction that was pending when its account was closed stays pending permanently.
pub(super) async fn the_oldest_pending_is_of_accounts_that_are_not_closed(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.link("anna", connection("app"), 0).await;
    let closed = row("b", "savings", "2026-01-03", None, "1.00");
    world.store("anna", writing([closed, pending("c", "2026-01-05")])).await;
    assert_eq!(world.item("anna").await.oldest_pending, Some(day("2026-01-03")));
    for (standing, oldest) in [
        (AccountStanding::Listed, "2026-01-03"),
        (AccountStanding::Missing, "2026-01-03"),
        (AccountStanding::Closed, "2026-01-05"),
        (AccountStanding::Listed, "2026-01-03"),
    ] {
        let mut commit = finish(&world.claim_by_name("anna").await, 1000);
        let mut savings = opened("savings");
        savings.known.standing = standing;
        let accounts = vec![opened("giro"), savings];
        commit.accounts = Some(AccountsWrite { accounts, ..AccountsWrite::default() });
        world.0.commit(commit).await.unwrap();
        let oldest = Some(day(oldest));
        assert_eq!(world.item("anna").await.oldest_pending, oldest, "{standing:?}");
        let claimed = world.claim_by_name("anna").await;
        assert_eq!(claimed.oldest_pending, oldest, "{standing:?}");
        world.0.commit(finish(&claimed, 1000)).await.unwrap();
    }
}

pub(super) async fn the_overview_counts(store: Arc<dyn Store>) {
    let world = World::new(store);
    let empty = world.0.overview(at(0)).await.unwrap();
    assert_eq!(empty, crate::store::Overview::default());
    world.link("new", connection("app"), 3).await;
    world.link("newer", connection("app"), 4).await;
    world.settled("old", 5).await;
    world.settled("older", 100).await;
    world.settled("busy", 100).await;
    let record = world.0.claim_one(&item("busy"), at(0), at(50)).await.unwrap().unwrap();
    let mut part = finish(&record, 0);
    part.now = at(2);
    part.changes = new_transactions();
    part.state = State::Updating;
    part.lease = LeaseOutcome::Keep { lease_until: at(50) };
    world.0.commit(part).await.unwrap();

    let overview = world.0.overview(at(5)).await.unwrap();
    let states: Vec<_> = overview.states.iter().map(|(state, count)| (*state, *count)).collect();
    assert_eq!(states, [(State::Created, 2), (State::Idle, 2), (State::Updating, 1)]);
    assert_eq!((overview.due, overview.due_since), (3, Some(at(3))));
    assert_eq!((overview.webhooks, overview.webhooks_since), (2, Some(at(2))));
    world.claim(5, 10).await;
    let overview = world.0.overview(at(5)).await.unwrap();
    assert_eq!((overview.due, overview.due_since), (0, None), "they are leased");
}

pub(super) async fn items_are_listed(store: Arc<dyn Store>) {
    let world = World::new(store);
    for name in ["c", "a", "B"] {
        world.link(name, connection("app"), 0).await;
    }
    world.link_with("b", NewHolder::Partner, tokens("b"), "p", 0).await;
    let names = async |after: Option<&str>, limit| -> Vec<String> {
        let after = after.map(item);
        let list = world.0.list(after.as_ref(), limit).await.unwrap();
        list.iter().map(|listed| listed.id().to_string()).collect()
    };
    assert_eq!(names(None, 10).await, ["B", "a", "b", "c"]);
    assert_eq!(names(None, 2).await, ["B", "a"]);
    assert_eq!(names(Some("a"), 10).await, ["b", "c"]);
    assert_eq!(names(Some("aa"), 1).await, ["b"], "after an Item that does not exist");
    assert!(names(Some("c"), 10).await.is_empty());
    let listed = world.0.list(None, 10).await.unwrap();
    assert_eq!(listed[1].record(), Some(&world.item("a").await));
}
