//! Data on hold: entries, data for undoing decisions, and the evidence of an institution's Items.

use super::world::{World, at, bank, finish, id, item, posted, tokens, window, writing};
use crate::{
    review::{Decision, Evidence, Subject},
    store::{
        DecisionOutcome, Moves, NewHolder, Review, Ruling, Store, Unlinked, UpdateCount,
        conformance::world::connection,
    },
};
use px_types::{
    ActivityId, InstitutionId,
    model::activity::{Activity, ActivityState, ActivityType},
    primitive::date::Iso8601,
};
use std::sync::Arc;

fn waits(name: &str, subject: Subject) -> Review {
    Review::new(bank(), item(name), subject, at(1))
}

fn decided(name: &str) -> Review {
    let mut review = waits(name, Subject::Transactions);
    review.decision =
        Some(Decision::new(Subject::Transactions, DecisionOutcome::Rebooked, "px", at(2)));
    review
}

/// Returns the ids of the Items of entries, with `!` if they are decided.
async fn listed(world: &World, of: Option<&InstitutionId>, after: Option<&str>) -> Vec<String> {
    let after = after.map(item);
    let all = world.0.reviews(of, after.as_ref(), 2).await.unwrap();
    let name = |review: &Review| {
        format!("{}{}", review.item_id, if review.decision.is_some() { "!" } else { "" })
    };
    all.iter().map(name).collect()
}

async fn put(world: &World, name: &str, reviews: Vec<Review>) {
    let record = world.claim_by_name(name).await;
    let mut commit = finish(&record, 1000);
    commit.reviews = Some(reviews);
    world.0.commit(commit).await.unwrap();
}

pub(super) async fn entries_are_listed_by_item_and_replaced(store: Arc<dyn Store>) {
    let world = World::new(store);
    for name in ["a", "b", "c"] {
        world.settled(name, 1000).await;
        put(&world, name, vec![waits(name, Subject::Transactions)]).await;
    }
    let none = listed(&world, None, None).await;
    assert_eq!(none, ["a", "b"], "a page of two Items");
    assert_eq!(listed(&world, None, Some("b")).await, ["c"]);
    assert_eq!(listed(&world, Some(&bank()), Some("a")).await, ["b", "c"]);
    let other = InstitutionId::new("other").unwrap();
    assert!(listed(&world, Some(&other), None).await.is_empty());
    // All entries of an Item are returned together, in their order.
    put(&world, "a", vec![waits("a", Subject::Customer), decided("a")]).await;
    assert_eq!(listed(&world, None, None).await, ["a", "a!", "b"]);
    let all = world.0.reviews(None, None, 1).await.unwrap();
    assert_eq!(all, [waits("a", Subject::Customer), decided("a")]);
    // A commit without entries does not change them; an empty list deletes them.
    world.store("a", writing([posted("t1", "2026-01-05")])).await;
    assert_eq!(listed(&world, None, None).await, ["a", "a!", "b"]);
    put(&world, "a", Vec::new()).await;
    assert_eq!(listed(&world, None, None).await, ["b", "c"]);
    // They are deleted with their Item.
    let unlinked = world.0.unlink(&item("b"), Some(&"app".parse().unwrap()), at(5)).await.unwrap();
    assert_eq!(unlinked, Unlinked::ItemRemoved);
    assert_eq!(listed(&world, None, None).await, ["c"]);
    world.link_with("b", NewHolder::Application(connection("app")), tokens("b"), "b2", 6).await;
    assert_eq!(listed(&world, None, None).await, ["c"]);
}

pub(super) async fn a_late_commit_changes_no_entries(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.settled("a", 1000).await;
    let late = world.claim_by_name("a").await;
    world.0.hand_back(&[(item("a"), late.fence, at(0))]).await.unwrap();
    let mut commit = finish(&late, 1000);
    commit.reviews = Some(vec![waits("a", Subject::Transactions)]);
    commit.activities = vec![entry("act")];
    world.refused(commit).await;
    assert!(listed(&world, None, None).await.is_empty());
    assert!(world.log("a").await.is_empty());
}

fn entry(name: &str) -> Activity {
    let at = Iso8601::Timestamp(at(3).into());
    let name = ActivityId::new(name).unwrap();
    Activity::new(ActivityType::DataReview, at, name, "plaid", ActivityState::Success)
}

pub(super) async fn a_commit_writes_the_log_of_decisions(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.settled("a", 1000).await;
    let record = world.claim_by_name("a").await;
    let mut commit = finish(&record, 1000);
    commit.activities = vec![entry("act-1"), entry("act-2")];
    world.0.commit(commit).await.unwrap();
    let log = world.0.activities(&item("a"), None, 10).await.unwrap().unwrap();
    assert_eq!(log, [entry("act-2"), entry("act-1")]);
}

/// Returns the partner's ids of the transactions `t1` and `t2`.
async fn partner_ids(world: &World) -> Vec<String> {
    let known = world.0.known(&item("a"), window("2026-01-01", "2026-01-31"), &[]).await.unwrap();
    known.iter().map(|known| known.partner_id.to_string()).collect()
}

pub(super) async fn ids_that_a_decision_replaced_are_put_back(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.settled("a", 1000).await;
    let rows = [posted("t1", "2026-01-05"), posted("t2", "2026-01-06")];
    world.store("a", writing(rows.clone())).await;
    // Two later ids; only the first earlier one counts.
    for (prefix, before) in [("x", ["t1", "t2"]), ("y", ["x-t1", "x-t2"])] {
        let record = world.claim_by_name("a").await;
        let mut commit = finish(&record, 1000);
        commit.transactions = writing(rows.clone());
        for write in &mut commit.transactions.writes {
            write.known.partner_id = id(&format!("{prefix}-{}", write.known.id));
        }
        commit.moved = vec![(id("t1"), id(before[0])), (id("t2"), id(before[1]))];
        world.0.commit(commit).await.unwrap();
    }
    assert_eq!(partner_ids(&world).await, ["y-t1", "y-t2"]);
    let seq = world.item("a").await.change_seq;
    let change = async |moves| {
        let record = world.claim_by_name("a").await;
        let mut commit = finish(&record, 1000);
        commit.moves = moves;
        world.0.commit(commit).await.unwrap();
    };
    change(Moves::Keep).await;
    change(Moves::Restore).await;
    assert_eq!(partner_ids(&world).await, ["t1", "t2"]);
    assert_eq!(world.item("a").await.change_seq, seq, "applications see no change");
    // A final decision cannot be undone.
    let record = world.claim_by_name("a").await;
    let mut commit = finish(&record, 1000);
    commit.transactions = writing([posted("t1", "2026-01-05")]);
    commit.transactions.writes[0].known.partner_id = id("z-t1");
    commit.moved = vec![(id("t1"), id("t1"))];
    world.0.commit(commit).await.unwrap();
    change(Moves::Forget).await;
    change(Moves::Restore).await;
    assert_eq!(partner_ids(&world).await, ["z-t1", "t2"]);
}

pub(super) async fn items_of_an_institution_give_evidence(store: Arc<dyn Store>) {
    let world = World::new(store);
    let evidence = async || world.0.evidence(&bank(), at(0)).await.unwrap();
    assert_eq!(evidence().await, Evidence::default());
    for name in ["a", "b", "c"] {
        world.settled(name, 1000).await;
    }
    put(&world, "a", vec![waits("a", Subject::Transactions)]).await;
    put(&world, "b", vec![decided("b"), waits("b", Subject::Customer)]).await;
    put(&world, "c", vec![decided("c"), waits("c", Subject::Transactions)]).await;
    let hour = UpdateCount::hour_of(at(0));
    let count = |bank: &str, hours: i64, updates| {
        UpdateCount::new(InstitutionId::new(bank).unwrap(), hour + hours, updates)
    };
    let counts = [
        count("bank", -24, 1000),
        count("bank", -23, 10),
        count("bank", 0, 5),
        count("bank", 1, 2),
        count("bank", 30, 3),
        count("other", 1, 70),
    ];
    world.0.count_updates(&counts).await.unwrap();
    world.0.count_updates(&counts[3..4]).await.unwrap();
    assert_eq!(evidence().await, Evidence::new(2, 7, 15));
    // Counts older than eight days are deleted.
    world.0.count_updates(&[count("bank", 300, 1)]).await.unwrap();
    assert_eq!(evidence().await, Evidence::new(2, 1, 0));
}

pub(super) async fn a_ruling_is_for_an_institution(store: Arc<dyn Store>) {
    let (first, other) = (bank(), InstitutionId::new("other").unwrap());
    assert_eq!(store.ruling(&first).await.unwrap(), None);
    assert!(!store.end_ruling(&first).await.unwrap());
    for outcome in [DecisionOutcome::Accepted, DecisionOutcome::Remapped] {
        let ruling = Ruling::new(first.clone(), outcome, "ops", at(1));
        store.put_ruling(&ruling).await.unwrap();
        assert_eq!(store.ruling(&first).await.unwrap(), Some(ruling));
    }
    assert_eq!(store.ruling(&other).await.unwrap(), None);
    assert!(store.end_ruling(&first).await.unwrap());
    assert_eq!(store.ruling(&first).await.unwrap(), None);
}
