//! The figures of the engine.

use super::restore::RestoreSettings;
use crate::{
    partners::CircuitSettings,
    plan::PlanSettings,
    schedule::{MAX_LOST_LEASES, ScheduleSettings},
};
use chrono::TimeDelta;
use std::time::Duration;

/// The figures of the engine. The defaults are fit for a service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// How long an Item is held without a word of its worker; prolonged at every third of it.
    ///
    /// Default: 20 seconds. When a worker dies with a new pair of tokens on its way, the old
    /// refresh token serves for 30 seconds more: the next worker must come before that.
    pub lease: Duration,
    /// How many leases of an Item may run out without a commit before it is deferred: its work may be
    /// what ends processes. Default: 3.
    pub max_lost_leases: u32,
    /// Time without a finished update after which applications are notified. Default: 72 hours.
    pub stall_notice_after: TimeDelta,
    /// How often the store is asked for Items that are due. Default: 1 second, give or take a quarter.
    pub poll: Duration,
    /// How long work may go on once the engine stops, before it is cut off. Default: 20 seconds.
    pub grace: Duration,
    /// Which windows are read.
    pub plan: PlanSettings,
    /// When Items are due.
    pub schedule: ScheduleSettings,
    /// When a partner that fails is left alone.
    pub circuit: CircuitSettings,
    /// Maximum deferral of an awaited Item while its partner is at its limit. An Item is awaited if it
    /// was never fetched or a notification named it. Default: 10 minutes.
    pub max_deferral_awaited: TimeDelta,
    /// Maximum deferral of other Items while their partner is at its limit. Default: 2 hours.
    ///
    /// Deferred Items come back as fast as the partner takes them. If that takes longer than this, they
    /// come back too early, and each early return costs two writes.
    pub max_deferral: TimeDelta,
    /// How Items are worked on after a restore of the database. Default: `None`, as usual.
    pub after_restore: Option<RestoreSettings>,
    /// How many transactions are read at once; a window with more is split. Default: 5000.
    pub rows_at_once: u64,
    /// How often Items are counted for the metrics; `None` for never. Default: every 5 minutes.
    ///
    /// Each count reads an index over all Items ([`Store::overview`](crate::store::Store::overview)),
    /// and each process counts for itself.
    pub count_every: Option<Duration>,
    /// How often tokens that are to be revoked are looked for. Default: every 10 seconds.
    pub revoke_every: Duration,
    /// After this a partner that does not revoke tokens is asked no more. Default: 30 days.
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
