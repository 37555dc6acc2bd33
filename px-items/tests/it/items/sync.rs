//! `transactions_sync`: a reader that follows its cursor has exactly the stored rows.

use super::world::{ALL, World, account_id, added, ids, modified, row, transaction_id};
use crate::engine::world::SlowStore;
use proptest::prelude::*;
use px_core::SystemRandom;
use px_items::{
    items::{ItemsErrorKind, LinkedApplication, SyncPage},
    store::{Commit, MemoryStore, SqliteStore, StoreOptions},
    vault::FileKeys,
};
use px_types::{
    AccountId, Amount, ApplicationId, ItemAccessToken, ItemId, TransactionId,
    model::transaction::Transaction, webhook::Environment,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

const ACCOUNTS: [&str; 3] = ["account-checking", "account-credit", "account-other"];

async fn sync(
    world: &World,
    token: &ItemAccessToken,
    cursor: Option<&str>,
    count: usize,
) -> Result<SyncPage, ItemsErrorKind> {
    let page = world.items.transactions_sync(token, cursor, Some(count)).await;
    page.map(|response| response.data).map_err(|error| error.kind())
}

#[tokio::test]
async fn changes_come_once_and_then_nothing_until_there_are_more() {
    let (world, linked) = World::complete().await;
    let (token, item) = (&linked.access_token, &linked.item_id);
    let empty = sync(&world, token, None, 10).await.unwrap();
    assert_eq!((empty.added.len(), empty.has_more), (0, false));

    let rows = (1..=5).map(|n| row(&format!("t{n}"), ACCOUNTS[0], "2026-02-01", "1.00"));
    world.add(item, rows).await;
    let first = sync(&world, token, Some(&empty.next_cursor), 3).await.unwrap();
    assert_eq!((ids(&first.added), first.has_more), (vec!["t1", "t2", "t3"], true));
    let second = sync(&world, token, Some(&first.next_cursor), 3).await.unwrap();
    assert_eq!((ids(&second.added), second.has_more), (vec!["t4", "t5"], false));

    // At the head: no changes, and a cursor that reveals nothing.
    let rest = sync(&world, token, Some(&second.next_cursor), 3).await.unwrap();
    assert_eq!((rest.added.len(), rest.has_more), (0, false));
    assert_ne!(rest.next_cursor, second.next_cursor);
    assert_eq!(rest.next_cursor.len(), second.next_cursor.len());

    world
        .work(item, |commit| {
            commit.transactions.writes =
                vec![modified(row("t1", ACCOUNTS[0], "2026-02-01", "2.00"))];
            commit.transactions.removed = vec![(account_id(ACCOUNTS[0]), transaction_id("t2"))];
        })
        .await;
    let third = sync(&world, token, Some(&rest.next_cursor), 3).await.unwrap();
    assert_eq!((third.added.len(), ids(&third.modified)), (0, vec!["t1"]));
    assert_eq!(third.removed.len(), 1);
    assert_eq!(third.removed[0].transaction_id, transaction_id("t2"));
    assert_eq!(third.removed[0].account_id, account_id(ACCOUNTS[0]));

    // From the start: the present rows, and none of the removed ones.
    for start in [None, Some("")] {
        let all = sync(&world, token, start, 10).await.unwrap();
        assert_eq!(ids(&all.added), ["t3", "t4", "t5", "t1"]);
        assert_eq!((all.modified.len(), all.removed.len()), (0, 0));
    }
}

#[tokio::test]
async fn a_change_between_two_pages_has_the_pass_begin_again() {
    let (world, linked) = World::complete().await;
    let (token, item) = (&linked.access_token, &linked.item_id);
    let rows = (1..=4).map(|n| row(&format!("t{n}"), ACCOUNTS[0], "2026-02-01", "1.00"));
    world.add(item, rows).await;
    let first = sync(&world, token, None, 2).await.unwrap();
    world
        .work(item, |commit| {
            commit.transactions.removed = vec![(account_id(ACCOUNTS[0]), transaction_id("t1"))];
        })
        .await;
    for _ in 0..2 {
        let mutated = sync(&world, token, Some(&first.next_cursor), 2).await;
        assert_eq!(mutated, Err(ItemsErrorKind::SyncMutated));
    }
    let again = sync(&world, token, None, 2).await.unwrap();
    assert_eq!(ids(&again.added), ["t2", "t3"]);
    let rest = sync(&world, token, Some(&again.next_cursor), 2).await.unwrap();
    assert_eq!((ids(&rest.added), rest.has_more), (vec!["t4"], false));
}

#[tokio::test]
async fn one_that_came_and_went_between_two_pages_hides_no_other_change() {
    let (world, linked) = World::complete().await;
    let (token, item) = (&linked.access_token, &linked.item_id);
    let rows = (1..=3).map(|n| row(&format!("t{n}"), ACCOUNTS[0], "2026-02-01", "1.00"));
    world.add(item, rows).await;
    let first = sync(&world, token, None, 2).await.unwrap();
    world.add(item, [row("short", ACCOUNTS[0], "2026-02-01", "1.00")]).await;
    world
        .work(item, |commit| {
            commit.transactions.removed = vec![(account_id(ACCOUNTS[0]), transaction_id("short"))];
        })
        .await;
    world.add(item, [row("long", ACCOUNTS[0], "2026-02-01", "1.00")]).await;
    let mutated = sync(&world, token, Some(&first.next_cursor), 2).await;
    assert_eq!(mutated, Err(ItemsErrorKind::SyncMutated));
}

#[tokio::test]
async fn a_change_that_it_may_not_see_disturbs_nobody() {
    let (world, all) = World::complete().await;
    let one = world.connect(world.connection_to("one", &[ACCOUNTS[0]])).await;
    let rows = (1..=3).map(|n| row(&format!("t{n}"), ACCOUNTS[0], "2026-02-01", "1.00"));
    world.add(&all.item_id, rows).await;
    let seen = sync(&world, &one.access_token, None, 2).await.unwrap();
    let whole = sync(&world, &all.access_token, None, 2).await.unwrap();
    world.add(&all.item_id, [row("hidden", ACCOUNTS[1], "2026-02-01", "1.00")]).await;

    let mutated = sync(&world, &all.access_token, Some(&whole.next_cursor), 2).await;
    assert_eq!(mutated, Err(ItemsErrorKind::SyncMutated));
    let rest = sync(&world, &one.access_token, Some(&seen.next_cursor), 2).await.unwrap();
    assert_eq!((ids(&rest.added), rest.has_more), (vec!["t3"], false));
    // Its cursor advances over them, and looks as it would without them.
    world.add(&all.item_id, [row("hidden-2", ACCOUNTS[1], "2026-02-01", "1.00")]).await;
    let again = sync(&world, &one.access_token, Some(&rest.next_cursor), 2).await.unwrap();
    assert_eq!((again.added.len(), again.has_more), (0, false));
    assert_ne!(again.next_cursor, rest.next_cursor);
    assert_eq!(again.next_cursor.len(), rest.next_cursor.len());
    world.add(&all.item_id, [row("t9", ACCOUNTS[0], "2026-02-01", "1.00")]).await;
    let page = sync(&world, &one.access_token, Some(&again.next_cursor), 2).await.unwrap();
    assert_eq!(ids(&page.added), ["t9"]);
}

/// A reader that polls does not look at the same invisible changes again.
#[tokio::test]
async fn a_cursor_advances_over_changes_that_the_application_may_not_see() {
    let store = Arc::new(SlowStore::over(MemoryStore::new(Environment::Sandbox)));
    let (world, all) = World::over(Arc::clone(&store) as _).completed().await;
    let one = world.connect(world.connection_to("one", &[ACCOUNTS[0]])).await;
    let mut cursor = sync(&world, &one.access_token, None, 100).await.unwrap().next_cursor;
    let mut polled = async |world: &World| {
        store.change_queries.lock().unwrap().clear();
        let page = sync(world, &one.access_token, Some(&cursor), 100).await.unwrap();
        assert_eq!((page.added.len(), page.has_more), (0, false));
        cursor = page.next_cursor;
        store.change_queries.lock().unwrap()[0].after.0
    };
    let first = polled(&world).await;
    let hidden = (0..50).map(|n| row(&format!("h{n}"), ACCOUNTS[1], "2026-02-01", "1.00"));
    world.add(&all.item_id, hidden).await;
    assert_eq!(polled(&world).await, first, "these changes are new");
    assert!(polled(&world).await > first, "they were passed");
}

#[tokio::test]
async fn a_first_pass_has_no_pages_of_what_is_gone() {
    let (world, linked) = World::complete().await;
    let (token, item) = (&linked.access_token, &linked.item_id);
    for round in 0..20 {
        let id = format!("gone-{round}");
        world.add(item, [row(&id, ACCOUNTS[0], "2026-02-01", "1.00")]).await;
        world
            .work(item, |commit| {
                commit.transactions.removed = vec![(account_id(ACCOUNTS[0]), transaction_id(&id))];
            })
            .await;
    }
    world
        .add(item, (1..=4).map(|n| row(&format!("t{n}"), ACCOUNTS[0], "2026-02-01", "1.00")))
        .await;
    let first = sync(&world, token, None, 2).await.unwrap();
    assert_eq!((ids(&first.added), first.has_more), (vec!["t1", "t2"], true));
    let second = sync(&world, token, Some(&first.next_cursor), 2).await.unwrap();
    assert_eq!((ids(&second.added), second.has_more), (vec!["t3", "t4"], false));
}

#[tokio::test]
async fn a_cursor_is_good_for_ninety_days_and_what_was_removed_as_long() {
    use chrono::TimeDelta;
    use px_core::Clock as _;
    let (world, linked) = World::complete().await;
    let (token, item) = (&linked.access_token, &linked.item_id);
    world.add(item, ["t1", "t2"].map(|id| row(id, ACCOUNTS[0], "2026-02-01", "1.00"))).await;
    let stored = sync(&world, token, None, 9).await.unwrap().next_cursor;
    world
        .work(item, |commit| {
            commit.transactions.removed = vec![(account_id(ACCOUNTS[0]), transaction_id("t1"))];
        })
        .await;
    let purge =
        async || world.store.purge(world.clock.now() - TimeDelta::days(92), 100).await.unwrap();
    world.clock.advance(TimeDelta::days(90));
    assert_eq!(purge().await, 0);
    let page = sync(&world, token, Some(&stored), 9).await.unwrap();
    assert_eq!(page.removed.len(), 1, "on the last day it gets the removals of the first");
    let fresh = page.next_cursor;
    world.clock.advance(TimeDelta::seconds(1));
    let request = world.items.transactions_sync(token, Some(&stored), Some(9)).await;
    let error = request.unwrap_err();
    assert_eq!(error.kind(), ItemsErrorKind::InvalidCursor);
    assert!(error.to_string().contains("begin without a cursor"), "{error}");
    // A reader that keeps polling can continue forever.
    world.clock.advance(TimeDelta::days(60));
    assert_eq!(purge().await, 1);
    assert_eq!(purge().await, 0);
    let page = sync(&world, token, Some(&fresh), 9).await.unwrap();
    assert_eq!((page.added.len(), page.removed.len(), page.has_more), (0, 0, false));
    assert_eq!(ids(&sync(&world, token, None, 9).await.unwrap().added), ["t2"]);
}

#[tokio::test]
async fn a_cursor_of_another_item_application_or_view_is_none() {
    let (world, linked) = World::complete().await;
    let token = &linked.access_token;
    let cursor = sync(&world, token, None, 10).await.unwrap().next_cursor;
    let other = world.connect_user("user-2", world.connection("first", ALL)).await;
    world.fill(&other.item_id, super::world::user()).await;
    let second = world.link("second", ALL).await;
    for foreign in [&other.access_token, &second.access_token] {
        let refused = sync(&world, foreign, Some(&cursor), 10).await;
        assert_eq!(refused, Err(ItemsErrorKind::InvalidCursor));
    }
    let mut altered = cursor.clone();
    let last = if altered.pop() == Some('A') { 'B' } else { 'A' };
    altered.push(last);
    for wrong in [altered.as_str(), "x", "0", "ümlaut", &"A".repeat(100_000)] {
        let refused = sync(&world, token, Some(wrong), 10).await;
        assert_eq!(refused, Err(ItemsErrorKind::InvalidCursor));
    }

    // After another link with the same scopes, its cursor stays valid. With other scopes, it starts
    // over.
    let again = world.link("first", ALL).await;
    sync(&world, &again.access_token, Some(&cursor), 10).await.unwrap();
    let fewer = world.connect(world.connection_to("first", &[ACCOUNTS[0]])).await;
    let refused = sync(&world, &fewer.access_token, Some(&cursor), 10).await;
    assert_eq!(refused, Err(ItemsErrorKind::InvalidCursor));
    // It left and came back: its data is forgotten, and so is its cursor.
    let left = ApplicationId::new("first").unwrap();
    world.items.remove_application(&linked.item_id, &left).await.unwrap();
    let back = world.link("first", ALL).await;
    let refused = sync(&world, &back.access_token, Some(&cursor), 10).await;
    assert_eq!(refused, Err(ItemsErrorKind::InvalidCursor));
}

#[tokio::test]
async fn a_row_that_returned_and_was_removed_again_is_reported_to_its_readers() {
    let (world, linked) = World::complete().await;
    let (token, item) = (&linked.access_token, &linked.item_id);
    world.add(item, [row("t1", ACCOUNTS[0], "2026-02-01", "1.00")]).await;
    let had = sync(&world, token, None, 10).await.unwrap();
    let remove = |commit: &mut Commit| {
        commit.transactions.removed = vec![(account_id(ACCOUNTS[0]), transaction_id("t1"))];
    };
    world.work(item, remove).await;
    world.add(item, [row("t1", ACCOUNTS[0], "2026-02-01", "1.00")]).await;
    world.work(item, remove).await;
    let page = sync(&world, token, Some(&had.next_cursor), 10).await.unwrap();
    assert_eq!(page.removed.len(), 1);
}

/// Step of a history.
#[derive(Clone, Debug)]
enum Step {
    /// A commit: for each transaction its amount, or `None` if it is removed.
    Commit(Vec<(usize, Option<u8>)>),
    /// One of the readers reads some pages.
    Read { reader: usize, pages: usize },
    /// The user of one of the readers changes its accounts.
    Permit { reader: usize, accounts: Vec<usize> },
}

const ROWS: usize = 7;
const READERS: usize = 2;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = (0..ROWS, prop::option::weighted(0.7, 0..4_u8));
    let step = prop_oneof![
        6 => prop::collection::vec(change, 1..4).prop_map(Step::Commit),
        6 => (0..READERS, 1..4_usize).prop_map(|(reader, pages)| Step::Read { reader, pages }),
        1 => (0..READERS, prop::collection::vec(0..ACCOUNTS.len(), 0..4))
            .prop_map(|(reader, accounts)| Step::Permit { reader, accounts }),
    ];
    prop::collection::vec(step, 1..40)
}

/// Data of the institution. The number of a transaction determines its account.
type Truth = BTreeMap<usize, u8>;

fn id_of(number: usize) -> String {
    format!("t{number}")
}

fn account_of(number: usize) -> &'static str {
    ACCOUNTS[number % ACCOUNTS.len()]
}

fn row_of(number: usize, amount: u8) -> Transaction {
    row(&id_of(number), account_of(number), "2026-02-01", &format!("{amount}.50"))
}

/// Brings the store to a new state like a merge, except for rows that `keep` excludes.
async fn commit(
    world: &World,
    item: &ItemId,
    truth: &mut Truth,
    changes: &[(usize, Option<u8>)],
    keep: impl Fn(usize) -> bool,
) {
    let wanted: BTreeMap<_, _> = changes.iter().copied().collect();
    let (mut writes, mut removed) = (Vec::new(), Vec::new());
    for (number, amount) in wanted.into_iter().filter(|(number, _)| keep(*number)) {
        match (truth.get(&number).copied(), amount) {
            (None, Some(amount)) => {
                writes.push(added(row_of(number, amount)));
                truth.insert(number, amount);
            }
            (Some(before), Some(amount)) if before != amount => {
                writes.push(modified(row_of(number, amount)));
                truth.insert(number, amount);
            }
            (Some(_), None) => {
                removed.push((account_id(account_of(number)), transaction_id(&id_of(number))));
                truth.remove(&number);
            }
            _ => {}
        }
    }
    world
        .work(item, |commit| {
            commit.transactions.writes = writes;
            commit.transactions.removed = removed;
        })
        .await;
}

/// A reader that follows the protocol.
struct Reader {
    linked: LinkedApplication,
    count: usize,
    seen: Option<BTreeSet<AccountId>>,
    data: BTreeMap<TransactionId, Amount>,
    /// Cursor from the end of the last complete pass.
    stored: Option<String>,
    /// Pages of the pass under way.
    staged: Vec<SyncPage>,
}

impl Reader {
    fn new(linked: LinkedApplication, count: usize, seen: Option<BTreeSet<AccountId>>) -> Self {
        let (data, staged) = (BTreeMap::new(), Vec::new());
        Self { linked, count, seen, data, stored: None, staged }
    }

    /// Reads a page. Returns whether the pass is over.
    async fn read(&mut self, world: &World) -> bool {
        let at = self.staged.last().map(|page| page.next_cursor.clone()).or(self.stored.clone());
        match sync(world, &self.linked.access_token, at.as_deref(), self.count).await {
            Ok(page) => {
                let more = page.has_more;
                self.staged.push(page);
                if !more {
                    self.take();
                }
                !more
            }
            Err(ItemsErrorKind::SyncMutated) => {
                assert!(!self.staged.is_empty(), "a pass that begins cannot have been disturbed");
                self.staged.clear();
                false
            }
            Err(ItemsErrorKind::InvalidCursor) => {
                self.staged.clear();
                self.data.clear();
                assert!(self.stored.take().is_some() || at.is_some(), "it begins without a cursor");
                self.stored = None;
                false
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    fn take(&mut self) {
        for page in self.staged.drain(..) {
            for row in page.added.into_iter().chain(page.modified) {
                self.data.insert(row.id, row.amount);
            }
            for row in page.removed {
                self.data.remove(&row.transaction_id);
            }
            self.stored = Some(page.next_cursor);
        }
    }

    fn expected(&self, truth: &Truth) -> BTreeMap<TransactionId, Amount> {
        let seen = truth.iter().filter(|(number, _)| {
            let account = account_id(account_of(**number));
            self.seen.as_ref().is_none_or(|seen| seen.contains(&account))
        });
        seen.map(|(number, amount)| {
            let row = row_of(*number, *amount);
            (row.id, row.amount)
        })
        .collect()
    }
}

fn in_a_runtime<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

async fn every_reader_has_what_there_is(world: World, steps: Vec<Step>, counts: [usize; READERS]) {
    let (world, first) = world.completed().await;
    let item = first.item_id.clone();
    let few = world.connect(world.connection_to("second", &[ACCOUNTS[0]])).await;
    let mut readers = [
        Reader::new(first, counts[0], None),
        Reader::new(few, counts[1], Some([account_id(ACCOUNTS[0])].into())),
    ];
    let mut truth = Truth::new();
    for step in steps {
        match step {
            Step::Commit(changes) => commit(&world, &item, &mut truth, &changes, |_| true).await,
            Step::Read { reader, pages } => {
                for _ in 0..pages {
                    if readers[reader].read(&world).await {
                        break;
                    }
                }
            }
            Step::Permit { reader, accounts } => {
                let names: Vec<_> = accounts.iter().map(|at| ACCOUNTS[*at]).collect();
                let application = ["first", "second"][reader];
                let connection = world.connection_to(application, &names);
                readers[reader].seen.clone_from(&connection.accounts);
                assert!(world.items.update_connection(&item, connection).await.unwrap());
            }
        }
    }
    for reader in &mut readers {
        let mut reads = 0;
        while !reader.read(&world).await {
            reads += 1;
            assert!(reads < 100, "a reader that nobody disturbs comes to an end");
        }
        assert_eq!(reader.data, reader.expected(&truth));
    }
}

/// Returns everything that an application can observe of a page; cursors by their length.
fn observed(page: Result<SyncPage, ItemsErrorKind>) -> (Result<SyncPage, ItemsErrorKind>, usize) {
    match page {
        Ok(mut page) => {
            let length = page.next_cursor.len();
            page.next_cursor = String::new();
            (Ok(page), length)
        }
        Err(kind) => (Err(kind), 0),
    }
}

/// Two Items that are equal in one account; one of them has two more accounts with their own
/// changes. A reader of the one account cannot distinguish them.
async fn hidden_changes_leave_no_trace(steps: Vec<Step>, count: usize) {
    let mut bodies = Vec::new();
    for hides in [true, false] {
        let (world, all) = World::complete().await;
        let one = world.connect(world.connection_to("second", &[ACCOUNTS[0]])).await;
        let mut truth = Truth::new();
        let (mut stored, mut at) = (None::<String>, None::<String>);
        let mut heard = Vec::new();
        for step in &steps {
            match step {
                Step::Commit(changes) => {
                    let keep = |number: usize| hides || account_of(number) == ACCOUNTS[0];
                    commit(&world, &all.item_id, &mut truth, changes, keep).await;
                }
                Step::Read { pages, .. } => {
                    for _ in 0..*pages {
                        let page = sync(&world, &one.access_token, at.as_deref(), count).await;
                        match &page {
                            Ok(page) => {
                                let same = Some(&page.next_cursor) == at.as_ref();
                                at = Some(page.next_cursor.clone());
                                if !page.has_more {
                                    stored.clone_from(&at);
                                }
                                heard.push(format!("same cursor: {same}"));
                            }
                            Err(_) => at.clone_from(&stored),
                        }
                        heard.push(format!("{:?}", observed(page)));
                    }
                }
                Step::Permit { .. } => {}
            }
        }
        bodies.push(heard);
    }
    assert_eq!(bodies[0], bodies[1]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn a_reader_that_follows_its_cursor_has_exactly_what_there_is(
        steps in steps(),
        counts in [1..6_usize, 1..6_usize],
    ) {
        in_a_runtime(every_reader_has_what_there_is(World::new(), steps, counts));
    }

    #[test]
    fn a_reader_cannot_tell_that_there_is_more(steps in steps(), count in 1..6_usize) {
        in_a_runtime(hidden_changes_leave_no_trace(steps, count));
    }
}

proptest! {
    // A file is slower than memory.
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn a_reader_of_a_database_has_exactly_what_there_is(
        steps in steps(),
        counts in [1..6_usize, 1..6_usize],
    ) {
        in_a_runtime(async {
            let keys = FileKeys::generate("tests", Arc::new(SystemRandom)).unwrap();
            let options = StoreOptions::new(Environment::Sandbox, Arc::new(keys));
            let store = SqliteStore::in_memory(options).await.unwrap();
            every_reader_has_what_there_is(World::over(Arc::new(store)), steps, counts).await;
        });
    }
}
