//! The only file of the adapter that waits for time to pass.
//!
//! A socket's time limits run on the machine's steady clock, which nobody sets; what has a
//! date takes a [`Clock`](px_core::Clock) instead.

use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Ends after a time.
#[allow(
    clippy::disallowed_methods,
    reason = "time limits of sockets run on the steady clock, and only here"
)]
pub(super) fn after(limit: Duration) -> Sleep {
    tokio::time::sleep(limit)
}

/// The present moment of the steady clock.
pub(super) fn now() -> Instant {
    Instant::now()
}

/// What a future gives, or `None` when it takes longer than a time.
pub(super) async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    tokio::time::timeout(limit, future).await.ok()
}
