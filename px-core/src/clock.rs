//! Time: the clock of this machine, and the clock that several machines share.
//!
//! This is the only file that reads the system time.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use std::{
    error::Error as StdError,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// A source of time, and a way to wait.
///
/// Use [`SystemClock`] in production. [`ManualClock`] stands still until a test advances it.
#[async_trait]
pub trait Clock: Send + Sync + fmt::Debug {
    /// Returns the calendar time. It can jump when the system clock is adjusted.
    fn now(&self) -> DateTime<Utc>;

    /// Returns the monotonic time since a fixed moment. It never goes back.
    fn elapsed(&self) -> Duration;

    /// Waits for `duration` of monotonic time.
    async fn sleep(&self, duration: Duration);
}

#[async_trait]
impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> DateTime<Utc> {
        (**self).now()
    }

    fn elapsed(&self) -> Duration {
        (**self).elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        (**self).sleep(duration).await;
    }
}

/// The system clock, with the timers of the tokio runtime.
///
/// Under tokio's paused time, a clock made with [`starting_at`](Self::starting_at) advances its
/// calendar together with the runtime.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
    calendar: Option<DateTime<Utc>>,
}

impl SystemClock {
    /// Creates a clock that shows the system time.
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now(), calendar: None }
    }

    /// Creates a clock that shows `now` at this moment and advances with the runtime's time.
    #[must_use]
    pub fn starting_at(now: DateTime<Utc>) -> Self {
        Self { calendar: Some(now), ..Self::new() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the system time")]
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
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// A clock that stands still until it is advanced, for tests.
///
/// Clones share their time. A [`sleep`](Clock::sleep) ends once [`advance`](Self::advance) has
/// moved the clock far enough.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<ManualTime>>);

#[derive(Debug)]
struct ManualTime {
    now: DateTime<Utc>,
    elapsed: watch::Sender<Duration>,
}

impl ManualClock {
    /// Creates a clock that stands at `now`.
    #[must_use]
    pub fn new(now: DateTime<Utc>) -> Self {
        let elapsed = watch::Sender::new(Duration::ZERO);
        Self(Arc::new(Mutex::new(ManualTime { now, elapsed })))
    }

    /// Advances the clock. A negative `by` sets the calendar back and leaves the monotonic time unchanged.
    pub fn advance(&self, by: TimeDelta) {
        let mut time = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        time.now += by;
        if let Ok(by) = by.to_std() {
            time.elapsed.send_modify(|elapsed| *elapsed += by);
        }
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).now
    }

    fn elapsed(&self) -> Duration {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed.borrow()
    }

    async fn sleep(&self, duration: Duration) {
        let mut elapsed = self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed.subscribe();
        let end = elapsed.borrow().saturating_add(duration);
        // The sender lives as long as this clock, so the wait cannot fail.
        let _ = elapsed.wait_for(|elapsed| *elapsed >= end).await;
    }
}

/// A source of time that several machines share, for example the clock of their database.
///
/// Machines compare their own [`Clock`] with it before they write times that other machines rely on.
/// Reading it may use the network, so it is asynchronous and can fail.
#[async_trait]
pub trait SharedClock: Send + Sync + fmt::Debug {
    /// Returns the shared calendar time.
    ///
    /// # Errors
    /// If the shared time cannot be read.
    async fn now(&self) -> Result<DateTime<Utc>, SharedClockError>;
}

/// An error while reading the shared time.
#[derive(Debug, thiserror::Error)]
#[error("the shared clock cannot be read")]
pub struct SharedClockError(#[source] Box<dyn StdError + Send + Sync>);

impl SharedClockError {
    /// Wraps the cause.
    pub fn new(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

/// A [`SharedClock`] that reads a local [`Clock`], for stores that only one machine uses.
#[derive(Clone, Debug)]
pub struct LocalClock(Arc<dyn Clock>);

impl LocalClock {
    /// Creates a shared clock that shows the time of `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self(clock)
    }
}

#[async_trait]
impl SharedClock for LocalClock {
    async fn now(&self) -> Result<DateTime<Utc>, SharedClockError> {
        Ok(self.0.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> DateTime<Utc> {
        DateTime::UNIX_EPOCH
    }

    #[tokio::test]
    async fn a_sleeper_of_a_manual_clock_wakes_when_the_clock_is_there() {
        let clock = ManualClock::new(start());
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep(Duration::from_secs(60)).await }
        });
        tokio::task::yield_now().await;
        clock.advance(TimeDelta::seconds(59));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.advance(TimeDelta::seconds(1));
        sleeper.await.unwrap();
        assert_eq!(clock.now(), start() + TimeDelta::seconds(60));
    }

    #[test]
    fn steady_time_does_not_follow_a_calendar_that_is_set_back() {
        let clock = ManualClock::new(start());
        clock.advance(TimeDelta::seconds(10));
        clock.advance(TimeDelta::seconds(-30));
        assert_eq!(clock.now(), start() - TimeDelta::seconds(20));
        assert_eq!(clock.elapsed(), Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn the_calendar_of_a_started_clock_moves_with_the_runtime() {
        let clock = SystemClock::starting_at(start());
        clock.sleep(Duration::from_secs(5)).await;
        assert_eq!(clock.now(), start() + TimeDelta::seconds(5));
        let shared = LocalClock::new(Arc::new(clock));
        assert_eq!(SharedClock::now(&shared).await.unwrap(), clock.now());
    }
}
