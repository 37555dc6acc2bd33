//! Settings of the engine.

use super::restore::RestoreSettings;
use crate::{
    partners::CircuitSettings,
    plan::PlanSettings,
    schedule::{MAX_LOST_LEASES, ScheduleSettings},
};
use chrono::TimeDelta;
use std::time::Duration;

/// Settings of the engine. The defaults suit a service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// Lease of a claimed Item, after which another worker may take it over. It is renewed every
    /// third of its time.
    ///
    /// Default: 20 seconds. If a worker dies during a token refresh, the old refresh token is valid
    /// for 30 more seconds, and the next worker must start before that.
    pub lease: Duration,
    /// Number of leases of an Item that may run out without a commit before the Item is deferred.
    /// The work on it may crash processes. Default: 3.
    pub max_lost_leases: u32,
    /// Time without a finished update after which applications are notified. Default: 72 hours.
    pub stall_notice_after: TimeDelta,
    /// Interval of polls for due Items. Default: 1 second, plus or minus a quarter.
    pub poll: Duration,
    /// Time that work may take after the start of a shutdown, before it is cancelled. Default: 20
    /// seconds.
    pub grace: Duration,
    /// Settings of the read windows.
    pub plan: PlanSettings,
    /// Settings of due times.
    pub schedule: ScheduleSettings,
    /// Settings of the circuit breaker of a failing partner.
    pub circuit: CircuitSettings,
    /// Maximum deferral of an awaited Item while its partner is at its limit. An Item is awaited if it
    /// was never fetched or a notification named it. Default: 10 minutes.
    pub max_deferral_awaited: TimeDelta,
    /// Maximum deferral of other Items while their partner is at its limit. Default: 2 hours.
    ///
    /// Deferred Items return as fast as the partner takes them. If that takes longer than this, they
    /// return too early, and each early return costs two writes.
    pub max_deferral: TimeDelta,
    /// Settings for the time after a restore of the database. Default: `None`, for normal
    /// operation.
    pub after_restore: Option<RestoreSettings>,
    /// Maximum number of transactions that are read at once. Longer windows are split. Default:
    /// 5000.
    pub rows_at_once: u64,
    /// Interval of counting Items for the metrics; `None` for never. Default: every 5 minutes.
    ///
    /// Each count reads an index over all Items ([`Store::overview`](crate::store::Store::overview)),
    /// and each process counts for itself.
    pub count_every: Option<Duration>,
    /// Interval of polls for tokens that are to be revoked. Default: every 10 seconds.
    pub revoke_every: Duration,
    /// Time after which the revocation of tokens at an unresponsive partner is given up. Default:
    /// 30 days.
    pub revoke_for: TimeDelta,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(20),
            max_lost_leases: MAX_LOST_LEASES,
            stall_notice_after: crate::health::DEFAULT_STALL_NOTICE_AFTER,
            poll: Duration::from_secs(1),
            grace: Duration::from_secs(20),
            plan: PlanSettings::default(),
            schedule: ScheduleSettings::default(),
            circuit: CircuitSettings::default(),
            max_deferral_awaited: TimeDelta::minutes(10),
            max_deferral: TimeDelta::hours(2),
            after_restore: None,
            rows_at_once: 5000,
            count_every: Some(Duration::from_secs(300)),
            revoke_every: Duration::from_secs(10),
            revoke_for: TimeDelta::days(30),
        }
    }
}
