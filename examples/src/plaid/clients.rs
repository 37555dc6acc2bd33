//! The registered clients: banks and applications with their ids and secrets, and the public data
//! of applications.

use super::config::{self, Config};
use px_items::{applications::FixedApplications, items::TokenOwner};
use px_server::clients::{Client, InvalidClient, MemoryClients};
use px_types::{ClientId, model::application_details::Application};
use std::{collections::BTreeMap, sync::Arc};

/// The registry of all clients. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Registry {
    clients: Arc<MemoryClients>,
    holders: Arc<BTreeMap<ClientId, TokenOwner>>,
}

impl Registry {
    pub(super) fn new(config: &Config) -> Result<Self, InvalidClient> {
        let mut clients = MemoryClients::new();
        let mut holders = BTreeMap::new();
        for bank in &config.institutions {
            let client = Client::new(bank.client_id.clone(), &bank.name, &bank.redirect_uris);
            clients = clients.with(client, &bank.secret)?;
            holders.insert(bank.client_id.clone(), TokenOwner::Partner(bank.id.clone()));
        }
        for app in &config.applications {
            let client = Client::new(app.client_id.clone(), &app.name, &app.redirect_uris);
            clients = clients.with(client, &app.secret)?;
            holders.insert(app.client_id.clone(), TokenOwner::Application(app.id.clone()));
        }
        Ok(Self { clients: Arc::new(clients), holders: Arc::new(holders) })
    }

    /// Returns the clients, for a service that checks secrets itself.
    pub(super) fn clients(&self) -> Arc<MemoryClients> {
        self.clients.clone()
    }

    /// Returns the token owner of a client.
    pub(super) fn holder(&self, id: &ClientId) -> Option<&TokenOwner> {
        self.holders.get(id)
    }
}

/// Returns the public data of an application.
pub(super) fn public_data(app: &config::Application, public_url: &str) -> Application {
    let mut public_data = Application::new(app.id.clone(), app.name.clone());
    public_data.logo_url = Some(format!("{public_url}/logos/applications/{}.svg", app.id));
    public_data.application_url.clone_from(&app.url);
    public_data.reason_for_access.clone_from(&app.reason);
    public_data.use_case.clone_from(&app.use_case);
    public_data.company_legal_name.clone_from(&app.company);
    public_data
}

/// Returns the public data of all applications.
pub(super) fn all_public_data(config: &Config) -> FixedApplications {
    let all = config.applications.iter();
    all.fold(FixedApplications::new(), |all, app| all.with(public_data(app, &config.public_url)))
}
