//! Time, handed in. The only file that asks the machine for it.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use std::{fmt, time::Duration};
use tokio::time::Instant;

/// What time it is, and a way to wait.
///
/// Give the client another one to run it under virtual time.
#[async_trait]
pub trait Clock: Send + Sync + fmt::Debug {
    /// The present moment, by the calendar.
    fn now(&self) -> DateTime<Utc>;

    /// The time since some fixed moment; never goes back.
    fn elapsed(&self) -> Duration;

    /// Waits.
    async fn sleep(&self, time: Duration);
}

/// The clock of the machine and of the tokio runtime.
///
/// Under tokio's paused time [`starting_at`](Self::starting_at) moves the calendar along.
#[derive(Clone, Copy, Debug)]
pub struct TokioClock {
    start: Instant,
    calendar: Option<DateTime<Utc>>,
}

impl TokioClock {
    /// The machine's calendar.
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now(), calendar: None }
    }

    /// A calendar that stands at a moment now and moves with the runtime's time.
    #[must_use]
    pub fn starting_at(now: DateTime<Utc>) -> Self {
        Self { calendar: Some(now), ..Self::new() }
    }
}

impl Default for TokioClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for TokioClock {
    #[allow(clippy::disallowed_methods, reason = "the one place that asks the machine")]
    fn now(&self) -> DateTime<Utc> {
        match self.calendar {
            Some(start) => start + self.elapsed(),
            None => std::time::SystemTime::now().into(),
        }
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    #[allow(clippy::disallowed_methods, reason = "the one place that waits")]
    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}
