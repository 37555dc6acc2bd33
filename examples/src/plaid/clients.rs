//! Who calls: banks and applications, known by id and secret.

use super::config::Config;
use px_server::clients::{Client, Clients as _, InvalidRedirectUri, MemoryClients};
use px_types::{ApplicationId, ClientId, ClientSecret, InstitutionId};
use std::{collections::BTreeMap, sync::Arc};

/// Who a client is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// A bank: it names Items of its own users, and reads nothing of them.
    Bank(InstitutionId),
    /// An application: it reads what its users let it.
    Application(ApplicationId),
}

/// Every client. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Registry {
    clients: Arc<MemoryClients>,
    who: Arc<BTreeMap<ClientId, Who>>,
}

impl Registry {
    pub(super) fn new(config: &Config) -> Result<Self, InvalidRedirectUri> {
        let mut clients = MemoryClients::new();
        let mut who = BTreeMap::new();
        for bank in &config.institutions {
            let client = Client::new(bank.client_id.clone(), &bank.name, &bank.redirect_uris);
            clients = clients.with(client, &bank.secret)?;
            who.insert(bank.client_id.clone(), Who::Bank(bank.id.clone()));
        }
        for app in &config.applications {
            let client = Client::new(app.client_id.clone(), &app.name, &app.redirect_uris);
            clients = clients.with(client, &app.secret)?;
            who.insert(app.client_id.clone(), Who::Application(app.id.clone()));
        }
        Ok(Self { clients: Arc::new(clients), who: Arc::new(who) })
    }

    /// For a service that checks secrets itself.
    pub(super) fn clients(&self) -> Arc<MemoryClients> {
        self.clients.clone()
    }

    /// Who a client is.
    pub(super) fn who(&self, id: &ClientId) -> Option<&Who> {
        self.who.get(id)
    }

    /// Who shows this id and secret. Takes as long for an unknown id as for a wrong secret.
    pub(super) async fn authenticate(&self, id: &ClientId, secret: &ClientSecret) -> Option<&Who> {
        let right = self.clients.check_secret(id, secret).await.unwrap_or(false);
        self.who(id).filter(|_| right)
    }
}
