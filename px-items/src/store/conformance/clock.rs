//! Times ahead of the store's time are capped.

use super::{
    tools::{Bench, SharedCalendar, StepClock},
    world::*,
};
use crate::store::{ItemRecord, LeaseOutcome, PermitLease};
use chrono::{DateTime, TimeDelta, Utc};
use std::{sync::Arc, time::Duration};

/// Number of minutes in three days.
const THREE_DAYS: i64 = 3 * 24 * 60;

/// Sets the store's time to a minute.
fn set(calendar: &SharedCalendar, clock: &StepClock, minute: i64) {
    calendar.set(at(minute));
    clock.advance(Duration::from_secs(30));
}

async fn deep_at(world: &World) -> Option<DateTime<Utc>> {
    world.0.item(&item("anna")).await.unwrap().unwrap().sync_state.deep_at
}

/// Stores a row that was read, a row that was removed, and a deep resync, all at that minute.
async fn store(world: &World, record: &ItemRecord, minute: i64) {
    let mut commit = finish(record, 0);
    commit.now = at(minute);
    commit.lease = LeaseOutcome::Release {
        due_at: Some(at(minute + 60)),
        not_before: Some(at(minute + 30)),
        seen: record.notified,
    };
    commit.sync_state.deep_at = Some(at(minute));
    commit.sync_state.fresh.accounts = Some(at(minute));
    commit.transactions = removing(&["t-2"]);
    let mut read = write(posted("t-1", "2026-01-09"));
    read.known.read_at = at(minute);
    commit.transactions.writes.push(read);
    world.0.commit(commit).await.unwrap();
}

/// Returns when the two rows were read and removed.
async fn times(world: &World) -> (DateTime<Utc>, Option<DateTime<Utc>>) {
    let known = world.0.known(&item("anna"), always(), &[id("t-2")]).await.unwrap();
    let row = |name: &str| known.iter().find(|row| row.id == id(name)).unwrap();
    (row("t-1").read_at, row("t-2").removed_at)
}

/// A worker with a clock three days ahead stores no future times, and its leases are not longer
/// than others.
pub(super) async fn times_of_a_worker_that_is_ahead_are_capped(bench: Bench) {
    let (Some(calendar), Some(clock)) = (&bench.calendar, &bench.clock) else { return };
    let world = World::new(Arc::clone(&bench.store));
    set(calendar, clock, 0);
    world.link("anna", connection("app"), 0).await;
    world.store("anna", writing([posted("t-2", "2026-01-09")])).await;
    set(calendar, clock, 1000);
    assert_eq!(world.0.time().await.unwrap(), Some(at(1000)));

    let wrong = 1000 + THREE_DAYS;
    let claimed = world.0.claim(at(wrong), at(wrong + 10), 9).await.unwrap();
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].leased_until, Some(at(1010)), "the intended length");
    let renewed = world.0.renew(&claimed[0].id, claimed[0].fence, at(wrong + 20)).await;
    assert!(renewed.unwrap());
    let longest = at(1060);
    assert_eq!(
        world.item("anna").await.leased_until,
        Some(longest),
        "not longer than other leases"
    );
    store(&world, &claimed[0], wrong).await;
    let record = world.item("anna").await;
    assert_eq!((record.due_at, record.not_before), (Some(at(1060)), Some(at(1030))));
    assert_eq!(record.sync_state.fresh.accounts, Some(at(1000)));
    assert_eq!(deep_at(&world).await, Some(at(1000)));
    assert_eq!(times(&world).await, (at(1000), Some(at(1000))));
    assert!(world.0.claim(at(wrong), at(wrong + 10), 9).await.unwrap().is_empty(), "not due yet");

    let permits = PermitLease::new(bank(), "ahead", (1, 1), at(wrong), at(wrong + 10));
    assert_eq!(world.0.lease_permits(&permits).await.unwrap().granted, 1);
    let permits = PermitLease::new(bank(), "right", (1, 1), at(1010), at(1020));
    set(calendar, clock, 1010);
    world.0.claim(at(1010), at(1020), 9).await.unwrap();
    assert_eq!(world.0.lease_permits(&permits).await.unwrap().granted, 1, "its lease expired");
}

/// A worker with a clock that was set back during a read has rows with times ahead of its clock.
pub(super) async fn times_before_a_step_back_are_capped(bench: Bench) {
    let (Some(calendar), Some(clock)) = (&bench.calendar, &bench.clock) else { return };
    let world = World::new(Arc::clone(&bench.store));
    set(calendar, clock, 0);
    world.link("anna", connection("app"), 0).await;
    let record = world.claim_by_name("anna").await;
    let mut commit = finish(&record, 60);
    commit.sync_state.deep_at = Some(at(THREE_DAYS));
    let mut read = write(posted("t-1", "2026-01-09"));
    read.known.read_at = at(THREE_DAYS);
    commit.transactions.writes.push(read);
    world.0.commit(commit).await.unwrap();
    let known = world.0.known(&item("anna"), always(), &[]).await.unwrap();
    let now = at(0) + TimeDelta::seconds(30);
    assert!(known[0].read_at <= now, "{}", known[0].read_at);
    assert!(deep_at(&world).await.unwrap() <= now);
    assert_eq!(world.item("anna").await.due_at, Some(at(60)));
}

/// Times that a clock stored in the future count as older than anything that is read now.
pub(super) async fn stored_times_that_lie_ahead_count_as_old(bench: Bench) {
    let (Some(calendar), Some(clock)) = (&bench.calendar, &bench.clock) else { return };
    let world = World::new(Arc::clone(&bench.store));
    set(calendar, clock, THREE_DAYS);
    world.link("anna", connection("app"), 0).await;
    world.store("anna", writing([posted("t-2", "2026-01-09")])).await;
    let record = world.0.claim_one(&item("anna"), at(THREE_DAYS), at(THREE_DAYS + 10)).await;
    store(&world, &record.unwrap().unwrap(), THREE_DAYS).await;
    assert_eq!(times(&world).await, (at(THREE_DAYS), Some(at(THREE_DAYS))));

    set(calendar, clock, 1);
    world.0.claim(at(1), at(2), 9).await.unwrap();
    let old = DateTime::UNIX_EPOCH;
    assert_eq!(times(&world).await, (old, Some(old)));
    assert_eq!(deep_at(&world).await, Some(old));
    // Clocks may differ a little.
    set(calendar, clock, THREE_DAYS);
    clock.advance(Duration::from_secs(30));
    calendar.set(at(THREE_DAYS) - TimeDelta::seconds(4));
    world.0.claim(at(0), at(1), 9).await.unwrap();
    assert_eq!(times(&world).await.0, at(THREE_DAYS));
}
