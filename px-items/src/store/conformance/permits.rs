//! Permits of partners: never more than there are, over all processes.

use super::world::*;
use crate::store::{PermitLease, PermitShare, Store};
use std::sync::Arc;

async fn lease(world: &World, holder: &str, wanted: u32, minute: i64) -> (u32, u32) {
    let lease = PermitLease::new(bank(), holder, (wanted, 5), at(minute), at(minute + 10));
    let PermitShare { granted, others } = world.0.lease_permits(&lease).await.unwrap();
    (granted, others)
}

/// A process gets what the others leave. Permits of a process that has stopped count until their
/// lease ends.
pub(super) async fn permits_are_shared_by_all_processes(store: Arc<dyn Store>) {
    let world = World::new(store);
    assert_eq!(lease(&world, "one", 3, 0).await, (3, 0));
    assert_eq!(lease(&world, "two", 4, 1).await, (2, 3));
    assert_eq!(lease(&world, "three", 1, 1).await, (0, 5));
    assert_eq!(lease(&world, "one", 5, 2).await, (3, 2), "no more than the others leave");
    assert_eq!(lease(&world, "one", 1, 3).await, (1, 2), "until minute 13");
    assert_eq!(lease(&world, "three", 9, 3).await, (2, 3));
    assert_eq!(lease(&world, "two", 0, 4).await, (0, 3));
    assert_eq!(lease(&world, "two", 9, 12).await, (2, 3), "the leases of the others still run");
    assert_eq!(lease(&world, "two", 9, 13).await, (5, 0), "they ended");
    let other = PermitLease::new("other".parse().unwrap(), "one", (9, 4), at(13), at(14));
    assert_eq!(world.0.lease_permits(&other).await.unwrap().granted, 4, "another partner's");
}

/// Many processes that lease at once never hold more together than there are.
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
