//! Delays. The bank waits nowhere else; the time itself comes from a [`px_core::Clock`].

use std::time::Duration;

/// Waits for a duration.
#[allow(clippy::disallowed_methods, reason = "the only place that waits")]
pub async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}
