//! The demo Plaid: a service on `px-server` and `px-items`, made the way one would be.
//!
//! - [`config`]: what it is set up with; `keys` opens the store, `clients` and `banks` are its parties;
//! - `api`: what banks and applications call; `developer`: what applications read; `desk`: what all of these do with Items;
//! - `link`: the pages on which users connect applications; `order`: what a link token stands for;
//! - [`ops`]: health and figures, at an address of their own;
//! - [`example_app`]: an application with a page, to see it all from the other side.
//!
//! [`DemoPlaid`] is all of it put together, to be served or called in process.

mod api;
mod banks;
mod clients;
pub mod config;
mod desk;
mod developer;
pub mod example_app;
mod keys;
mod link;
mod logo;
pub mod ops;
mod order;
mod web;
mod webhooks;

pub use config::Config;

use crate::transport_security::transport_security;

use self::{
    api::Api, banks::Banks, clients::Registry, desk::Desk, developer::Developer,
    example_app::ExampleApp, link::Link, ops::Figures,
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

/// What a demo Plaid works with: time, randomness, network.
#[derive(Clone)]
#[non_exhaustive]
pub struct Parts {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// The store's own time, if `clock` does not show this machine's. By default the store asks its
    /// database, or on SQLite the machine.
    pub shared_clock: Option<Arc<dyn SharedClock>>,
    /// Where tokens come from.
    pub random: Arc<dyn Random>,
    /// How banks are called.
    pub banks: Arc<dyn HttpTransport>,
    /// How webhooks are sent, to addresses that others chose.
    pub webhooks: Arc<dyn HttpTransport>,
    /// The figures that operators are shown, where this process collects them.
    pub figures: Option<Figures>,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

impl Parts {
    /// The machine's time, randomness and network, as a configuration allows it.
    ///
    /// # Errors
    /// When the network cannot be set up.
    pub fn system(config: &Config) -> Result<Self, TransportError> {
        let anywhere = || ReqwestTransport::builder().allow_plain_http().build();
        let public = ReqwestTransport::builder().public_addresses_only().build()?;
        let webhooks: Arc<dyn HttpTransport> = if config.private_webhooks {
            Arc::new(anywhere()?)
        } else if config.local_webhooks {
            Arc::new(webhooks::LocalOrPublic::new(anywhere()?, public))
        } else {
            Arc::new(public)
        };
        Ok(Self {
            clock: Arc::new(SystemClock::new()),
            shared_clock: None,
            random: Arc::new(SystemRandom),
            banks: Arc::new(ReqwestTransport::new()?),
            webhooks,
            figures: None,
        })
    }
}

/// Why a demo Plaid cannot open. Shows no secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The configuration is not sound.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Config(Vec<config::Problem>),
    /// A client's redirect URI is none.
    #[error(transparent)]
    RedirectUri(#[from] px_server::clients::InvalidClient),
    /// A bank cannot be called.
    #[error(transparent)]
    Bank(#[from] px_client::Error),
    /// The network cannot be set up.
    #[error(transparent)]
    Network(#[from] TransportError),
    /// The store cannot be opened.
    #[error("the database: {0}")]
    Store(#[from] StoreError),
    /// The database does not answer.
    #[error("the database does not answer; see that it runs and that its address is right")]
    NoDatabase,
    /// The key that seals tokens cannot be used.
    #[error("the key that seals tokens: {0}")]
    Vault(#[from] VaultError),
    /// The key that signs webhooks cannot be used.
    #[error("the key that signs webhooks: {0}")]
    Signing(#[from] SignError),
    /// A key is not named.
    #[error("{0} is not given")]
    NoKey(&'static str),
    /// The service cannot be built.
    #[error(transparent)]
    Service(#[from] px_server::plaid::BuildError),
    /// A file cannot be used.
    #[error("{0}")]
    File(String),
}

impl OpenError {
    fn file(file: &Path, error: &io::Error) -> Self {
        Self::File(format!("{}: {error}", file.display()))
    }
}

/// A Plaid, open for business. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DemoPlaid(Arc<Inner>);

#[derive(Debug)]
struct Inner {
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
    /// Opens one.
    ///
    /// # Errors
    /// When the configuration is not sound, or the store or a key cannot be opened.
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
            .applications(Arc::new(clients::all_shown(&config)))
            .build_shared();
        let registry = Registry::new(&config)?;
        let desk = Desk { items: items.clone(), store: store.clone(), clock: clock.clone() };
        let link = Link::new(config.clone(), desk, banks.clone(), clock.clone(), random.clone());
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
        // What applications read is counted with what they call.
        let developer = Developer::new(items.clone(), registry, service.clone(), random);
        let app_password = px_core::random::identifier(&*parts.random);
        let inner = Inner {
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

    /// API and pages.
    pub fn router(&self) -> Router {
        // The API is the fallback: it refuses every path that nobody knows.
        let router = px_server::axum::router(self.0.service.clone())
            .merge(self.0.developer.router())
            .merge(self.0.link.router());
        transport_security(router, &self.0.config.public_url)
    }

    /// The password of the example applications' household; a new one for each start.
    #[must_use]
    pub fn app_password(&self) -> &str {
        &self.0.app_password
    }

    /// Health and figures, for an address of their own.
    pub fn ops_router(&self) -> Router {
        let Parts { clock, figures, .. } = &self.0.parts;
        ops::router(self.0.store.clone(), clock.clone(), figures.clone())
    }

    /// The pages of the example applications: those whose address is that of the first.
    ///
    /// # Errors
    /// When this service's address is none.
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

    /// Reads banks and sends webhooks, until `stop`; then ends what is under way.
    pub async fn work(&self, stop: impl Future<Output = ()> + Send) {
        let (stopping, stopped) = tokio::sync::watch::channel(false);
        let until = |mut stopped: tokio::sync::watch::Receiver<bool>| async move {
            // Its sender lives as long as this call.
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        let signal = async {
            stop.await;
            stopping.send_replace(true);
        };
        let Inner { engine, sender, config, parts, .. } = &*self.0;
        let upkeep = async {
            match &parts.figures {
                Some(figures) => figures.keep_up(&*parts.clock).await,
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

    /// Its settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The Items that it keeps.
    #[must_use]
    pub fn items(&self) -> &SharedItems {
        &self.0.items
    }

    /// Where they are kept.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.store
    }
}
