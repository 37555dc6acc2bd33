//! Permits of partners: all processes together never have more than the limit.

use super::{tools::Bench, world::*};
use crate::{
    partners::{PartnerEvent, PartnerState, PartnerUpdate, PartnerUpdated},
    store::{PermitLease, PermitShare, Store},
};
use std::sync::Arc;

async fn lease(world: &World, holder: &str, wanted: u32, minute: i64) -> (u32, u32) {
    let lease = PermitLease::new(bank(), holder, (wanted, 5), at(minute), at(minute + 10));
    let PermitShare { granted, others, .. } = world.0.lease_permits(&lease).await.unwrap();
    (granted, others)
}

/// A process gets what the others leave. Permits of a stopped process count until their lease ends.
pub(super) async fn permits_are_shared_by_all_processes(store: Arc<dyn Store>) {
    let world = World::new(store);
    assert_eq!(lease(&world, "one", 3, 0).await, (3, 0));
    assert_eq!(lease(&world, "two", 4, 1).await, (2, 3));
    assert_eq!(lease(&world, "three", 1, 1).await, (0, 5));
    assert_eq!(lease(&world, "one", 5, 2).await, (3, 2), "limited by the others");
    assert_eq!(lease(&world, "one", 1, 3).await, (1, 2), "until minute 13");
    assert_eq!(lease(&world, "three", 9, 3).await, (2, 3));
    assert_eq!(lease(&world, "two", 0, 4).await, (0, 3));
    assert_eq!(lease(&world, "two", 9, 12).await, (2, 3), "the other leases are valid");
    assert_eq!(lease(&world, "two", 9, 13).await, (5, 0), "the other leases expired");
    let other = PermitLease::new("other".parse().unwrap(), "one", (9, 4), at(13), at(14));
    assert_eq!(
        world.0.lease_permits(&other).await.unwrap().granted,
        4,
        "permits of another partner"
    );
}

/// Many processes that lease at once never get more than the limit together.
pub(super) async fn permits_leased_at_once_are_never_too_many(store: Arc<dyn Store>) {
    let world = World::new(store);
    for round in 0..5 {
        let mut tasks = tokio::task::JoinSet::new();
        for process in 0..8_u32 {
            let world = world.clone();
            tasks.spawn(async move {
                lease(&world, &format!("p-{process}"), 1 + process % 3, round * 20).await.0
            });
        }
        let granted: u32 = tasks.join_all().await.into_iter().sum();
        assert_eq!(granted, 5, "round {round}");
    }
}

async fn state(world: &World, minute: i64) -> PartnerState {
    let lease = PermitLease::new(bank(), "reader", (0, 5), at(minute), at(minute + 10));
    world.0.lease_permits(&lease).await.unwrap().state
}

async fn update(world: &World, event: PartnerEvent, minute: i64) -> PartnerUpdated {
    let update = PartnerUpdate::new(bank(), event, at(minute));
    world.0.update_partner(&update).await.unwrap()
}

/// Failures count over all processes, and one of them probes an open circuit.
pub(super) async fn the_state_of_a_partner_is_shared_by_all_processes(store: Arc<dyn Store>) {
    let world = World::new(store);
    assert_eq!(state(&world, 0).await, PartnerState::default());
    let failed = PartnerEvent::Failed { retry_at: None, probe: false };
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let world = world.clone();
        tasks.spawn(async move { update(&world, failed, 0).await.state.circuit.is_open() });
    }
    let opened = tasks.join_all().await.into_iter().filter(|open| *open).count();
    assert_eq!(opened, 1, "the last failure opens the circuit");
    let open = state(&world, 0).await;
    assert!(open.circuit.is_open());
    assert_eq!(open.version, 5);
    let other = PermitLease::new("other".parse().unwrap(), "one", (9, 4), at(0), at(1));
    assert!(!world.0.lease_permits(&other).await.unwrap().state.circuit.is_open());

    let probe = PartnerEvent::Probe { until: at(2) };
    assert!(!update(&world, probe, 0).await.may_probe, "too early");
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let world = world.clone();
        tasks.spawn(async move { update(&world, probe, 1).await.may_probe });
    }
    let probes = tasks.join_all().await.into_iter().filter(|may| *may).count();
    assert_eq!(probes, 1, "one process may probe");
    assert!(
        update(&world, PartnerEvent::Probe { until: at(4) }, 2).await.may_probe,
        "it no longer exists"
    );
    let closed = update(&world, PartnerEvent::Responded, 3).await.state;
    assert!(!closed.circuit.is_open());
    assert_eq!(state(&world, 3).await, closed);
}

/// The state is a cache of recent results of partners. A damaged one starts again.
pub(super) async fn a_partner_with_an_unreadable_state_is_called(bench: Bench) {
    let Some(sql) = &bench.sql else { return };
    let world = World::new(Arc::clone(&bench.store));
    let failed = PartnerEvent::Failed { retry_at: None, probe: false };
    for _ in 0..5 {
        update(&world, failed, 0).await;
    }
    sql.execute("UPDATE partners SET state = '{\"circuit\":\"quantum\"}'").await;
    assert_eq!(state(&world, 1).await, PartnerState::default());
    assert_eq!(update(&world, failed, 1).await.state.version, 1);
    assert_eq!(state(&world, 1).await.version, 1);
}
