//! Permits: how many Items of a partner are worked on at once, over all processes of a database.

use chrono::{DateTime, Utc};
use px_types::InstitutionId;

/// Leases permits of a partner to a process, in the place of those that it held.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PermitLease {
    /// The partner.
    pub institution_id: InstitutionId,
    /// The process.
    pub holder: String,
    /// How many it wants to hold; with 0 it gives all of them back.
    pub wanted: u32,
    /// How many there are, over all processes.
    pub at_once: u32,
    /// Now.
    pub now: DateTime<Utc>,
    /// Until when the lease runs. The permits of a process that stopped count as used until then.
    pub until: DateTime<Utc>,
}

impl PermitLease {
    /// Leases permits to a process.
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

    /// How many are granted if others hold so many.
    pub(super) fn granted(&self, others: u32) -> PermitShare {
        let granted = self.wanted.min(self.at_once.saturating_sub(others));
        PermitShare { granted, others }
    }
}

/// Who holds the permits of a partner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PermitShare {
    /// How many the process holds now.
    pub granted: u32,
    /// How many other processes hold.
    pub others: u32,
}
