//! Waiting. The only file of the bank that does; what time it is, a
//! [`px_core::Clock`] tells.

use std::time::Duration;

/// Waits.
#[allow(clippy::disallowed_methods, reason = "the one place that waits")]
pub async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}
