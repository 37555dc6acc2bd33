//! The demo Plaid: a service built on `px-server` and `px-items`.
//!
//! - [`config`]: the configuration; `keys`: the store and its keys; `clients` and `banks`: the two
//!   kinds of clients;
//! - `api`: the endpoints for banks and applications; `developer`: the endpoints from which
//!   applications read data; `link_items`: the Item operations of the Link pages;
//! - `link`: the pages on which users connect applications; `link_request`: the content of a link
//!   token;
//! - [`ops`]: health and metrics endpoints, at a separate address;
//! - [`example_app`]: an example application with a page of its own.
//!
//! [`DemoPlaid`] assembles these parts, to be served or called in process.

mod api;
mod banks;
mod clients;
pub mod config;
mod developer;
pub mod example_app;
mod keys;
mod link;
mod link_items;
mod link_request;
mod logo;
pub mod ops;
mod web;
mod webhooks;

pub use config::Config;

use crate::transport_security::transport_security;

use self::{
    api::Api, banks::Banks, clients::Registry, developer::Developer, example_app::ExampleApp,
    link::Link, link_items::LinkItems, ops::Metrics,
};
use axum::Router;
use px_core::{
    Clock, HttpTransport, Random, ReqwestTransport, SharedClock, SystemClock, SystemRandom,
    TransportError,
};
use px_items::{
    engine::Engine,
    items::{Items, SharedItems},
    store::{Store, StoreError},
    vault::VaultError,
    webhook::{Sender, SignError, Signer},
};
use px_server::{guard::RateLimit, plaid::PlaidService};
use std::{fmt, io, path::Path, sync::Arc};

/// The clock, randomness and network of a demo Plaid.
#[derive(Clone)]
#[non_exhaustive]
pub struct Parts {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The store's own clock, if `clock` does not show the machine's time. By default the store
    /// reads the time of its database, or with SQLite the machine's.
    pub shared_clock: Option<Arc<dyn SharedClock>>,
    /// The source of tokens.
    pub random: Arc<dyn Random>,
    /// The transport to banks.
    pub banks: Arc<dyn HttpTransport>,
    /// The transport of webhooks. Applications choose their addresses.
    pub webhooks: Arc<dyn HttpTransport>,
    /// The metrics of this process, if it collects them.
    pub metrics: Option<Metrics>,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

impl Parts {
    /// Creates the parts from the machine's clock, randomness and network, with the webhook
    /// addresses that the configuration allows.
    ///
    /// # Errors
    /// If the network cannot be set up.
    pub fn system(config: &Config) -> Result<Self, TransportError> {
        let unrestricted = || ReqwestTransport::builder().allow_plain_http().build();
        let public = ReqwestTransport::builder().public_addresses_only().build()?;
        let webhooks: Arc<dyn HttpTransport> = if config.private_webhooks {
            Arc::new(unrestricted()?)
        } else if config.local_webhooks {
            Arc::new(webhooks::LocalOrPublic::new(unrestricted()?, public))
        } else {
            Arc::new(public)
        };
        Ok(Self {
            clock: Arc::new(SystemClock::new()),
            shared_clock: None,
            random: Arc::new(SystemRandom),
            banks: Arc::new(ReqwestTransport::new()?),
            webhooks,
            metrics: None,
        })
    }
}

/// The error of [`DemoPlaid::open`]. Contains no secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The configuration is invalid.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Config(Vec<config::Problem>),
    /// A client's redirect URI is invalid.
    #[error(transparent)]
    RedirectUri(#[from] px_server::clients::InvalidClient),
    /// The client for a bank cannot be built.
    #[error(transparent)]
    Bank(#[from] px_client::Error),
    /// The network cannot be set up.
    #[error(transparent)]
    Network(#[from] TransportError),
    /// The store cannot be opened.
    #[error("the database: {0}")]
    Store(#[from] StoreError),
    /// The database does not respond in time.
    #[error("the database does not respond; check that it runs and that its address is right")]
    NoDatabase,
    /// The key that seals tokens cannot be used.
    #[error("the key that seals tokens: {0}")]
    Vault(#[from] VaultError),
    /// The key that signs webhooks cannot be used.
    #[error("the key that signs webhooks: {0}")]
    Signing(#[from] SignError),
    /// A key file is not configured.
    #[error("{0} is missing in the configuration")]
    NoKey(&'static str),
    /// The service cannot be built.
    #[error(transparent)]
    Service(#[from] px_server::plaid::PlaidServiceBuildError),
    /// A file cannot be used.
    #[error("{0}")]
    File(String),
}

impl OpenError {
    fn file(file: &Path, error: &io::Error) -> Self {
        Self::File(format!("{}: {error}", file.display()))
    }
}

/// An open demo Plaid. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DemoPlaid(Arc<PlaidState>);

#[derive(Debug)]
struct PlaidState {
    config: Arc<Config>,
    parts: Parts,
    store: Arc<dyn Store>,
    items: SharedItems,
    engine: Engine,
    sender: Sender,
    link: Link,
    developer: Developer,
    service: PlaidService,
    app_password: String,
}

impl DemoPlaid {
    /// Opens a demo Plaid.
    ///
    /// # Errors
    /// If the configuration is invalid, or the store or a key cannot be opened.
    pub async fn open(config: Config, parts: Parts) -> Result<Self, OpenError> {
        let problems = config.problems();
        if !problems.is_empty() {
            return Err(OpenError::Config(problems));
        }
        let config = Arc::new(config);
        let (clock, random) = (parts.clock.clone(), parts.random.clone());
        let store = keys::open_store(&config, &parts).await?;
        let signer = Arc::new(Signer::new(keys::signing_key(&config, clock.now())?));
        let banks = Banks::new(&config, &parts.banks, &clock, &signer)?;
        let sender = Sender::builder(store.clone(), parts.webhooks.clone(), signer.clone())
            .partners(Arc::new(banks.clone()))
            .client_ids(
                config.applications.iter().map(|app| (app.id.clone(), app.client_id.clone())),
            )
            .clock(clock.clone())
            .random(random.clone())
            .build();
        let engine = Engine::builder(store.clone(), Arc::new(banks.clone()))
            .clock(clock.clone())
            .random(random.clone())
            .build();
        let items = Items::builder(store.clone())
            .clock(clock.clone())
            .random(random.clone())
            .webhooks(config.allow())
            .applications(Arc::new(clients::all_public_data(&config)))
            .build_shared();
        let registry = Registry::new(&config)?;
        let link_items =
            LinkItems { items: items.clone(), store: store.clone(), clock: clock.clone() };
        let link =
            Link::new(config.clone(), link_items, banks.clone(), clock.clone(), random.clone());
        let api = Api {
            config: config.clone(),
            registry: registry.clone(),
            banks,
            items: items.clone(),
            store: store.clone(),
            signer,
            clock: clock.clone(),
        };
        let mut service = PlaidService::builder(api).clients(registry.clients());
        if let Some(calls) = config.rate_limit {
            service = service.rate_limit(RateLimit::per_second(calls).clock(clock.clone()));
        }
        let service = service.random(random.clone()).build()?;
        // The rate limit covers the developer endpoints and the API together.
        let developer = Developer::new(items.clone(), registry, service.clone(), random);
        let app_password = px_core::random::identifier(&*parts.random);
        let inner = PlaidState {
            config,
            parts,
            store,
            items,
            engine,
            sender,
            link,
            developer,
            service,
            app_password,
        };
        Ok(Self(Arc::new(inner)))
    }

    /// Returns the router of the API and the pages.
    pub fn router(&self) -> Router {
        // The API is the fallback: it responds to unknown paths.
        let router = px_server::axum::router(self.0.service.clone())
            .merge(self.0.developer.router())
            .merge(self.0.link.router());
        transport_security(router, &self.0.config.public_url)
    }

    /// Returns the password of the example applications. Each start generates a new one.
    #[must_use]
    pub fn app_password(&self) -> &str {
        &self.0.app_password
    }

    /// Returns the router of the health and metrics endpoints, for a separate address.
    pub fn ops_router(&self) -> Router {
        let Parts { clock, metrics, .. } = &self.0.parts;
        ops::router(self.0.store.clone(), clock.clone(), metrics.clone())
    }

    /// Returns the pages of the example applications that have the same origin as the first.
    ///
    /// # Errors
    /// If this service's URL is invalid.
    pub fn app_router(&self) -> Result<Router, OpenError> {
        let plaid = example_app::Plaid {
            api: self.0.config.public_url.clone(),
            link: self.0.config.public_url.clone(),
            transport: self.0.parts.banks.clone(),
            clock: self.0.parts.clock.clone(),
            random: self.0.parts.random.clone(),
        };
        let password = self.app_password();
        let origin = |url: &str| url::Url::parse(url).map(|url| url.origin()).ok();
        let mut router = Router::new();
        let mut first = None;
        for app in &self.0.config.applications {
            let Some(at) = app.url.as_deref().and_then(origin) else { continue };
            if *first.get_or_insert_with(|| at.clone()) == at {
                router =
                    router.merge(ExampleApp::new(app.clone(), plaid.clone(), password)?.router());
            }
        }
        Ok(router)
    }

    /// Runs the workers and the webhook sender until `stop` completes. Then finishes the work in
    /// progress.
    pub async fn work(&self, stop: impl Future<Output = ()> + Send) {
        let (stopping, stopped) = tokio::sync::watch::channel(false);
        let until = |mut stopped: tokio::sync::watch::Receiver<bool>| async move {
            // The sender lives as long as this call.
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        let signal = async {
            stop.await;
            stopping.send_replace(true);
        };
        let PlaidState { engine, sender, config, parts, .. } = &*self.0;
        let upkeep = async {
            match &parts.metrics {
                Some(metrics) => metrics.run_upkeep(&*parts.clock).await,
                None => std::future::pending().await,
            }
        };
        let workers = async {
            tokio::join!(
                engine.run(config.workers, until(stopped.clone())),
                sender.run(until(stopped.clone())),
                signal,
            )
        };
        tokio::select! {
            _ = workers => {}
            () = upkeep => {}
        }
    }

    /// Returns the configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Returns the Items.
    #[must_use]
    pub fn items(&self) -> &SharedItems {
        &self.0.items
    }

    /// Returns the store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.store
    }
}
