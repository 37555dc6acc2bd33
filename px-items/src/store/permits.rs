//! Permits: the limit of Items of a partner in work at once, over all processes of a database.

use crate::partners::PartnerState;
use chrono::{DateTime, Utc};
use px_types::InstitutionId;

/// A lease of permits of a partner to a process. It replaces the earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PermitLease {
    /// The partner.
    pub institution_id: InstitutionId,
    /// Id of the process.
    pub holder: String,
    /// Number of permits that it requests; 0 gives all of them back.
    pub wanted: u32,
    /// Number of permits of the partner over all processes.
    pub at_once: u32,
    /// The present time.
    pub now: DateTime<Utc>,
    /// End of the lease. Permits of a process that has stopped count as used until then.
    pub until: DateTime<Utc>,
}

impl PermitLease {
    /// Creates a request for `wanted` of `at_once` permits.
    #[must_use]
    pub fn new(
        institution_id: InstitutionId,
        holder: impl Into<String>,
        (wanted, at_once): (u32, u32),
        now: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Self {
        Self { institution_id, holder: holder.into(), wanted, at_once, now, until }
    }

    /// Returns the permits granted while other processes hold `others`.
    pub(super) fn granted(&self, others: u32) -> u32 {
        self.wanted.min(self.at_once.saturating_sub(others))
    }
}

/// The permits of a partner, by holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PermitShare {
    /// Permits that the process holds now.
    pub granted: u32,
    /// Permits that other processes hold.
    pub others: u32,
    /// Shared state of the partner.
    pub state: PartnerState,
}
