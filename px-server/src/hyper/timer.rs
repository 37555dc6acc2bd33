//! Timers of the adapter.
//!
//! Time limits of sockets use the system's monotonic clock, which cannot be set. Code that needs
//! dates uses a [`Clock`](px_core::Clock) instead.

use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Returns a future that completes after a duration.
#[allow(
    clippy::disallowed_methods,
    reason = "time limits of sockets use the monotonic clock, and only here"
)]
pub(super) fn sleep(limit: Duration) -> Sleep {
    tokio::time::sleep(limit)
}

/// Returns the current time of the monotonic clock.
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Returns the output of a future, or `None` if it takes longer than the limit.
pub(super) async fn timeout<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    tokio::time::timeout(limit, future).await.ok()
}
