//! The partners that Items are at: how each one is called, and how much of it it bears.

mod circuit;
mod state;

pub(crate) use circuit::Admission;
pub use circuit::{Circuit, CircuitSettings};
pub use state::{PartnerEvent, PartnerState, PartnerUpdate, PartnerUpdated};

use px_client::PartnerClient;
use px_types::InstitutionId;
use std::{collections::BTreeMap, fmt};

/// Finds partners.
pub trait Partners: Send + Sync + fmt::Debug {
    /// The partner of that id; `None` when there is none.
    fn partner(&self, id: &InstitutionId) -> Option<Partner>;
}

/// A partner.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Partner {
    /// A client with this side's id and secret, and no user's token. Its own retries should be
    /// few: the engine plans the next attempt.
    pub client: PartnerClient,
    /// What the partner bears.
    pub budget: Budget,
    /// Whether revoking any token of a user ends the user's whole grant, with the tokens that
    /// replaced it. Then tokens are not revoked while the user has an Item. Default: `false`.
    pub revocation_ends_grant: bool,
}

impl Partner {
    /// A partner with the default budget.
    #[must_use]
    pub fn new(client: PartnerClient) -> Self {
        Self { client, budget: Budget::default(), revocation_ends_grant: false }
    }
}

/// How much a partner is called, by all processes of one database together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Budget {
    /// Requests per second.
    pub per_second: u32,
    /// Items that are worked on at once.
    pub at_once: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { per_second: 50, at_once: 16 }
    }
}

/// Partners that are known from the start.
#[derive(Clone, Debug, Default)]
pub struct FixedPartners(BTreeMap<InstitutionId, Partner>);

impl FixedPartners {
    /// No partner.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
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
