//! Partners: how each one is called, and its limits.

mod state;

pub use px_core::circuit::{Circuit, CircuitSettings};
pub use state::{PartnerEvent, PartnerState, PartnerUpdate, PartnerUpdated};

use px_client::PartnerClient;
use px_types::InstitutionId;
use std::{collections::BTreeMap, fmt};

/// A directory of partners.
pub trait Partners: Send + Sync + fmt::Debug {
    /// Returns the partner with an id, or `None` if it is unknown.
    fn partner(&self, id: &InstitutionId) -> Option<Partner>;
}

/// A partner that Items are fetched from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Partner {
    /// Client with the id and secret of this side and without a user token. It should retry rarely:
    /// the engine plans the next attempt.
    pub client: PartnerClient,
    /// Limits on calls to the partner.
    pub budget: CallLimits,
    /// Whether revoking any token of a user ends the user's whole grant, with the tokens that
    /// replaced it. Then tokens are not revoked while the user has an Item. Default: `false`.
    pub revocation_ends_grant: bool,
}

impl Partner {
    /// Creates a partner with the default limits.
    #[must_use]
    pub fn new(client: PartnerClient) -> Self {
        Self { client, budget: CallLimits::default(), revocation_ends_grant: false }
    }
}

/// Limits on calls to a partner, over all processes of one database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallLimits {
    /// Maximum number of requests per second.
    pub per_second: u32,
    /// Maximum number of Items that are worked on at the same time.
    pub at_once: usize,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self { per_second: 50, at_once: 16 }
    }
}

/// A fixed set of partners.
#[derive(Clone, Debug, Default)]
pub struct FixedPartners(BTreeMap<InstitutionId, Partner>);

impl FixedPartners {
    /// Creates an empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a partner.
    #[must_use]
    pub fn with(mut self, id: InstitutionId, partner: Partner) -> Self {
        self.0.insert(id, partner);
        self
    }
}

impl Partners for FixedPartners {
    fn partner(&self, id: &InstitutionId) -> Option<Partner> {
        self.0.get(id).cloned()
    }
}
