//! Who calls: banks and applications, known by id and secret, and what is shown of applications.

use super::config::{self, Config};
use px_items::{applications::FixedApplications, items::Holder};
use px_server::clients::{Client, InvalidClient, MemoryClients};
use px_types::{ClientId, model::application_details::Application};
use std::{collections::BTreeMap, sync::Arc};

/// Every client. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Registry {
    clients: Arc<MemoryClients>,
    holders: Arc<BTreeMap<ClientId, Holder>>,
}

impl Registry {
    pub(super) fn new(config: &Config) -> Result<Self, InvalidClient> {
        let mut clients = MemoryClients::new();
        let mut holders = BTreeMap::new();
        for bank in &config.institutions {
            let client = Client::new(bank.client_id.clone(), &bank.name, &bank.redirect_uris);
            clients = clients.with(client, &bank.secret)?;
            holders.insert(bank.client_id.clone(), Holder::Partner(bank.id.clone()));
        }
        for app in &config.applications {
            let client = Client::new(app.client_id.clone(), &app.name, &app.redirect_uris);
            clients = clients.with(client, &app.secret)?;
            holders.insert(app.client_id.clone(), Holder::Application(app.id.clone()));
        }
        Ok(Self { clients: Arc::new(clients), holders: Arc::new(holders) })
    }

    /// For a service that checks secrets itself.
    pub(super) fn clients(&self) -> Arc<MemoryClients> {
        self.clients.clone()
    }

    /// Whose access tokens a client holds.
    pub(super) fn holder(&self, id: &ClientId) -> Option<&Holder> {
        self.holders.get(id)
    }
}

/// An application as it is shown to banks and users.
pub(super) fn shown(app: &config::Application, public_url: &str) -> Application {
    let mut shown = Application::new(app.id.clone(), app.name.clone());
    shown.logo_url = Some(format!("{public_url}/logos/applications/{}.svg", app.id));
    shown.application_url.clone_from(&app.url);
    shown.reason_for_access.clone_from(&app.reason);
    shown.use_case.clone_from(&app.use_case);
    shown.company_legal_name.clone_from(&app.company);
    shown
}

/// All of them.
pub(super) fn all_shown(config: &Config) -> FixedApplications {
    let all = config.applications.iter();
    all.fold(FixedApplications::new(), |all, app| all.with(shown(app, &config.public_url)))
}
