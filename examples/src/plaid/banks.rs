//! The clients with which this service calls the banks.

use super::config::Config;
use px_client::{PartnerClient, RetryPolicy};
use px_core::{Clock, HttpTransport};
use px_items::{
    partners::{Partner, Partners},
    webhook::Signer,
};
use px_types::InstitutionId;
use std::{collections::BTreeMap, sync::Arc};

/// The clients of all banks. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Banks(Arc<BTreeMap<InstitutionId, Partner>>);

impl Banks {
    /// Creates a client for each bank of a configuration.
    pub(super) fn new(
        config: &Config,
        transport: &Arc<dyn HttpTransport>,
        clock: &Arc<dyn Clock>,
        signer: &Arc<Signer>,
    ) -> Result<Self, px_client::Error> {
        let mut banks = BTreeMap::new();
        for bank in &config.institutions {
            let mut retry = RetryPolicy::default();
            // The engine schedules further attempts, and users do not wait long.
            retry.attempts = 2;
            let builder = PartnerClient::builder(bank.base_url.clone(), Arc::clone(transport))
                .client(bank.own_client_id.clone(), bank.own_secret.clone())
                .clock(Arc::clone(clock))
                .signer(signer.for_partner(bank.id.clone(), Arc::clone(clock)))
                .retry(retry);
            banks.insert(bank.id.clone(), Partner::new(builder.build()?));
        }
        Ok(Self(Arc::new(banks)))
    }

    /// Returns the client of a bank.
    pub(super) fn client(&self, id: &InstitutionId) -> Option<&PartnerClient> {
        self.0.get(id).map(|partner| &partner.client)
    }
}

impl Partners for Banks {
    fn partner(&self, id: &InstitutionId) -> Option<Partner> {
        self.0.get(id).cloned()
    }
}
