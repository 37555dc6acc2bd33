//! Claims, leases and fencing tokens.

use super::world::*;
use crate::{
    item::State,
    store::{Fence, LeaseOutcome, NewHolder, NotificationRequest, Store, StoreErrorKind},
};
use std::{collections::BTreeSet, sync::Arc};

pub(super) async fn the_longest_due_is_claimed_first(store: Arc<dyn Store>) {
    let world = World::new(store);
    for (name, minute) in [("d", 3), ("a", 2), ("b", 1), ("c", 2), ("late", 50)] {
        world.link(name, connection("app"), minute).await;
    }
    assert!(world.claim(0, 10).await.is_empty(), "nothing is due");
    assert_eq!(world.claim(3, 2).await, ["b", "a"]);
    assert_eq!(world.claim(3, 10).await, ["c", "d"], "the earlier ones are leased");
    assert!(world.claim(3, 10).await.is_empty());
    assert!(world.claim(3, 0).await.is_empty());
}

pub(super) async fn claims_move_the_state(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.link("new", connection("app"), 0).await;
    world.settled("old", 5).await;
    let claimed = world.0.claim(at(5), at(15), 10).await.unwrap();
    assert_eq!(claimed.len(), 2);
    let (new, old) = (&claimed[0], &claimed[1]);
    assert_eq!((new.id.as_str(), new.state), ("new", State::Created));
    assert_eq!((old.id.as_str(), old.state), ("old", State::Updating));
    for record in &claimed {
        assert_eq!(record.leased_until, Some(at(15)));
        assert_eq!(
            *record,
            world.0.item(&record.id).await.unwrap().unwrap(),
            "equals the stored record"
        );
    }
    assert_eq!(old.due_at, Some(at(5)), "the due time before the claim");
    let failed = world.0.commit(finish(old, 100)).await;
    assert!(failed.is_ok());
    assert_eq!(world.item("old").await.state, State::Idle);
    assert_ne!(
        world.claim_by_name("old").await.fence,
        old.fence,
        "each claim has a new fencing token"
    );
}

pub(super) async fn case_32_nobody_claims_an_item_twice(store: Arc<dyn Store>) {
    let world = World::new(store);
    const ITEMS: usize = 60;
    for number in 0..ITEMS {
        world.link(&format!("item-{number:02}"), accounts_only("app"), 0).await;
    }
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8 {
        let world = world.clone();
        tasks.spawn(async move {
            let mut mine = Vec::new();
            loop {
                let claimed = world.claim(1, 1 + task % 3).await;
                if claimed.is_empty() {
                    return mine;
                }
                mine.extend(claimed);
                tokio::task::yield_now().await;
            }
        });
    }
    let claimed: Vec<String> = tasks.join_all().await.into_iter().flatten().collect();
    let distinct: BTreeSet<_> = claimed.iter().collect();
    assert_eq!(claimed.len(), distinct.len(), "an Item was claimed twice");
    // A claim may skip rows that another one holds at that moment. They stay due.
    let rest = world.claim(1, ITEMS).await;
    assert_eq!(distinct.len() + rest.len(), ITEMS);
}

pub(super) async fn case_35_a_lease_that_ran_out_is_taken_over(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.link("anna", connection("app"), 0).await;
    world.settled("bert", 0).await;
    let first = world.0.claim(at(0), at(10), 10).await.unwrap();
    assert_eq!(first.len(), 2);
    // The worker stops permanently.
    assert!(world.claim(9, 10).await.is_empty());
    let second = world.0.claim(at(10), at(20), 10).await.unwrap();
    assert_eq!(second.len(), 2, "regardless of its state");
    for (first, second) in first.iter().zip(&second) {
        assert_eq!(first.id, second.id);
        assert_ne!(second.fence, first.fence);
        assert_eq!(second.state, first.state);
        assert_eq!(second.due_at, first.due_at, "the due time stays");
    }
    // Claiming one Item by its id takes over, too.
    assert!(world.0.claim_one(&item("anna"), at(19), at(30)).await.unwrap().is_none());
    assert!(world.0.claim_one(&item("anna"), at(20), at(30)).await.unwrap().is_some());
}

pub(super) async fn a_lease_is_renewed_by_its_holder_alone(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.link("anna", connection("app"), 0).await;
    let record = world.0.claim(at(0), at(10), 1).await.unwrap().remove(0);
    assert!(world.0.renew(&record.id, record.fence, at(20)).await.unwrap());
    assert!(world.claim(15, 1).await.is_empty());
    assert!(
        !world.0.renew(&record.id, Fence(record.fence.0.wrapping_sub(1)), at(90)).await.unwrap()
    );
    assert!(!world.0.renew(&item("bert"), record.fence, at(90)).await.unwrap());
    assert_eq!(world.claim(20, 1).await, ["anna"]);
    assert!(!world.0.renew(&record.id, record.fence, at(90)).await.unwrap(), "taken over");
    assert_eq!(world.item("anna").await.leased_until, Some(at(30)));

    let leased = world.0.claim(at(30), at(40), 1).await.unwrap().remove(0);
    world.0.commit(finish(&leased, 100)).await.unwrap();
    assert!(
        !world.0.renew(&leased.id, leased.fence, at(90)).await.unwrap(),
        "the lease was released"
    );
}

pub(super) async fn one_item_is_claimed_by_name(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.settled("anna", 100).await;
    let record = world.0.claim_one(&item("anna"), at(1), at(10)).await.unwrap().unwrap();
    assert_eq!(record.state, State::Updating, "claimed although not due");
    assert_eq!(record, world.item("anna").await);
    assert!(world.0.claim_one(&item("anna"), at(2), at(10)).await.unwrap().is_none(), "leased");
    assert!(world.0.claim_one(&item("bert"), at(2), at(10)).await.unwrap().is_none(), "unknown");
}

pub(super) async fn items_are_handed_back(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.link("created", connection("app"), 0).await;
    world.settled("idle", 0).await;
    world.link("lost", connection("app"), 0).await;
    let claimed = world.0.claim(at(1), at(10), 10).await.unwrap();
    let mut fences: Vec<_> =
        claimed.iter().map(|record| (record.id.clone(), record.fence, at(5))).collect();
    fences.sort();
    assert_eq!(world.claim(10, 10).await.len(), 3);
    let present = world.item("created").await.fence;
    let idle = world.item("idle").await.fence;
    let all = [
        (item("created"), present, at(20)),
        (item("idle"), idle, at(21)),
        (item("gone"), Fence(1), at(22)),
        // Another worker takes over meanwhile.
        fences.pop().unwrap(),
    ];
    world.0.hand_back(&all).await.unwrap();
    let created = world.item("created").await;
    assert_eq!((created.state, created.due_at), (State::Created, Some(at(20))));
    assert_eq!(created.leased_until, None);
    let idle = world.item("idle").await;
    assert_eq!((idle.state, idle.due_at), (State::Idle, Some(at(21))));
    assert_eq!(
        world.item("lost").await.leased_until,
        Some(at(20)),
        "the lease of the new worker stays"
    );
    // A second hand-back has no effect, and an Item that was handed back cannot be committed.
    world.0.hand_back(&[(item("idle"), idle.fence, at(99))]).await.unwrap();
    assert_eq!(world.item("idle").await.due_at, Some(at(21)));
    assert_eq!(world.refused(finish(&idle, 100)).await, StoreErrorKind::Fenced);
}

pub(super) async fn an_item_that_rests_is_never_due(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.link("anna", connection("app"), 0).await;
    let record = world.claim_by_name("anna").await;
    world.notify("anna", crate::store::NotificationRequest::Update { since: None }, 1).await;
    let mut commit = finish(&record, 0);
    commit.state = State::CreatedLoginRequired;
    // It is not due regardless of its schedule, because no work is possible.
    commit.lease = LeaseOutcome::Release { due_at: None, not_before: None, seen: record.notified };
    world.0.commit(commit).await.unwrap();
    assert_eq!(world.item("anna").await.due_at, None);
    assert!(world.claim(100_000, 1).await.is_empty());
    assert!(world.0.claim_one(&item("anna"), at(1), at(2)).await.unwrap().is_none());
    world.notify("anna", crate::store::NotificationRequest::Update { since: None }, 3).await;
    assert!(world.claim(100_000, 1).await.is_empty());
}

/// An Item with an interrupted refresh is claimed separately from all others, as soon as
/// its lease expires: the partner repeats the new tokens for a short time only.
pub(super) async fn a_refresh_that_was_cut_off_is_claimed_first(store: Arc<dyn Store>) {
    let world = World::new(store);
    for name in ["first", "second", "third"] {
        world.link(name, connection("app"), 0).await;
    }
    let begun =
        async |name: &str, minute| world.0.begin_refresh(&item(name), 1, at(minute)).await.unwrap();
    let refreshes = async |minute, limit| {
        let claimed = world.0.claim_refreshes(at(minute), at(minute + 5), limit).await.unwrap();
        claimed.iter().map(|record| record.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(world.claim(0, 10).await.len(), 3, "leased until minute 10");
    assert!(begun("third", 1).await && begun("second", 2).await);
    assert!(begun("third", 3).await, "accepted, and the first time stays");
    assert_eq!(world.item("third").await.refresh_begun_at, Some(at(1)));
    assert!(refreshes(9, 10).await.is_empty(), "they are leased");
    let claimed = world.0.claim_refreshes(at(10), at(15), 1).await.unwrap();
    assert_eq!(claimed.len(), 1);
    assert_eq!((claimed[0].id.as_str(), claimed[0].refresh_begun_at), ("third", Some(at(1))));
    assert_eq!((claimed[0].state, claimed[0].took_over), (State::Created, true));
    assert_eq!(claimed[0].leased_until, Some(at(15)));
    assert_eq!(refreshes(10, 10).await, ["second"], "one per claim");
    // It is handed back with its due time, and its outcome is still unknown. It can be claimed
    // again at once, due or not.
    world.0.hand_back(&[(item("third"), claimed[0].fence, at(900))]).await.unwrap();
    assert_eq!(refreshes(11, 10).await, ["third"]);
    assert_eq!(world.item("third").await.due_at, Some(at(900)));
    assert!(refreshes(11, 0).await.is_empty());
    assert_eq!(world.claim(11, 10).await, ["first"], "others are claimed normally");
}

/// A refresh is recorded for the present tokens, until they are replaced.
pub(super) async fn the_record_of_a_refresh_ends_with_its_tokens(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.link("anna", connection("app"), 0).await;
    let begun = async || world.item("anna").await.refresh_begun_at;
    let begin = async |version| world.0.begin_refresh(&item("anna"), version, at(1)).await.unwrap();
    let version = async || world.0.tokens(&item("anna")).await.unwrap().unwrap().1;
    let old = version().await;
    assert!(!begin(old + 1).await && begun().await.is_none(), "the version is unknown");
    assert!(!world.0.begin_refresh(&item("bert"), 1, at(1)).await.unwrap());
    assert!(begin(old).await);
    // A commit does not change it.
    let record = world.claim_by_name("anna").await;
    assert_eq!(record.refresh_begun_at, Some(at(1)));
    world.0.commit(finish(&record, 5)).await.unwrap();
    assert_eq!(begun().await, Some(at(1)));
    assert!(world.0.save_tokens(&item("anna"), old, &tokens("next")).await.unwrap());
    assert_eq!(begun().await, None, "the new tokens are stored");
    assert!(!begin(old).await, "these tokens were replaced");
    // The refresh failed definitely.
    let next = version().await;
    assert!(begin(next).await);
    world.0.end_refresh(&item("anna"), old).await.unwrap();
    assert_eq!(begun().await, Some(at(1)), "another version does not end the record");
    world.0.end_refresh(&item("anna"), next).await.unwrap();
    assert_eq!(begun().await, None);
    // The user authorizes again.
    assert!(begin(next).await);
    let holder = NewHolder::Application(connection("app"));
    world.link_with("anna", holder, tokens("linked"), "anna/app", 2).await;
    assert_eq!(begun().await, None);
    // The partner ends the authorization.
    assert!(begin(version().await).await);
    world.notify("anna", NotificationRequest::Revoked, 3).await;
    assert_eq!(begun().await, None);
    assert!(world.0.claim_refreshes(at(900), at(901), 9).await.unwrap().is_empty());
}

/// Expired leases are counted, so that an Item that crashes processes is found.
pub(super) async fn leases_that_run_out_are_counted_until_a_commit(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.link("anna", connection("app"), 0).await;
    for (round, lost) in [0, 1, 2, 3].into_iter().enumerate() {
        let minute = i64::try_from(round).unwrap() * 10;
        let record = world.0.claim(at(minute), at(minute + 10), 1).await.unwrap().remove(0);
        assert_eq!((record.lost_leases, record.took_over), (lost, lost > 0), "round {round}");
    }
    // A lease that was handed back did not expire. Earlier ones still count.
    let record = world.item("anna").await;
    assert!(!record.took_over, "a read is not a claim");
    world.0.hand_back(&[(record.id.clone(), record.fence, at(50))]).await.unwrap();
    let record = world.0.claim_one(&item("anna"), at(50), at(60)).await.unwrap().unwrap();
    assert_eq!((record.lost_leases, record.took_over), (3, false));
    let record = world.0.claim_one(&item("anna"), at(60), at(70)).await.unwrap().unwrap();
    assert_eq!((record.lost_leases, record.took_over), (4, true));
    let mut commit = finish(&record, 80);
    commit.lease = LeaseOutcome::Keep { lease_until: at(90) };
    commit.state = State::Created;
    world.0.commit(commit).await.unwrap();
    assert_eq!(world.item("anna").await.lost_leases, 0, "a commit resets the count");
}

/// A counter that a fail-over takes back would give a token twice.
pub(super) async fn fencing_tokens_are_no_counter(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.link("anna", connection("app"), 0).await;
    let mut fences = Vec::new();
    for round in 0..4 {
        let record = world.0.claim(at(round * 10), at(round * 10 + 10), 1).await.unwrap().remove(0);
        fences.push(record.fence.0);
    }
    let steps: Vec<_> = fences.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
    assert!(steps.iter().all(|step| step.unsigned_abs() > 1 << 16), "{fences:?}");
}
