//! The assembled bank: database, OAuth, pages, credentials mode and the partner API.

use crate::{
    cursor::CursorKey,
    ledger::{
        Database, Ledger, LedgerError, advance::AdvanceReport, fill::FillOptions,
        grants::SqliteGrants,
    },
    pages::Pages,
    partner::DemoPartner,
    plaid_side::{PlaidGateway, PlaidSide, PlaidSideError},
    sign_in::{CustomerSignIn, Outbox},
    site::Site,
    transport_security::transport_security,
};
use px_client::{notifier::Notifier, portal::Portal};
use px_core::{Clock, Random, SystemClock, SystemRandom};
use px_server::{
    PartnerService,
    clients::{Client, MemoryClients},
    credentials::CredentialsKit,
    guard::RateLimit,
    oauth::OAuth,
    visits::Visits,
};
use px_types::{ClientId, ClientSecret, Date};
use std::{fmt, sync::Arc};

/// The settings of a [`Bank`].
#[derive(Clone)]
#[non_exhaustive]
pub struct BankConfig {
    /// The location of the database.
    pub database: Database,
    /// The bank's public URL, such as `http://127.0.0.1:8080`.
    pub issuer: String,
    /// The id of the bank's only client.
    pub client_id: ClientId,
    /// The client's name, shown to users.
    pub client_name: String,
    /// The client's secret. It is stored as a hash.
    pub client_secret: ClientSecret,
    /// The client's redirect URIs.
    pub redirect_uris: Vec<String>,
    /// The generated customers of a new bank. `None` leaves the database empty for an import.
    pub fill_options: Option<FillOptions>,
    /// The rate limit of each client and user, in requests per second. `None` means no limit.
    pub rate_limit: Option<u32>,
    /// The date at which the clock of a new bank starts. `None` means the current date.
    pub start_date: Option<Date>,
    /// The clock by which codes and tokens expire.
    pub clock: Arc<dyn Clock>,
    /// The source of secrets.
    pub random: Arc<dyn Random>,
    /// The receiver of messages that the bank sends to its users.
    pub outbox: Outbox,
    /// The Plaid that the bank calls. With `None`, the bank's site shows no connected apps.
    pub plaid: Option<PlaidSide>,
}

impl BankConfig {
    /// Creates the settings of a bank in memory, with the default customers and one client.
    #[must_use]
    pub fn new(
        issuer: impl Into<String>,
        client_id: ClientId,
        client_secret: ClientSecret,
        redirect_uris: impl IntoIterator<Item = String>,
    ) -> Self {
        Self {
            database: Database::Memory,
            issuer: issuer.into(),
            client_id,
            client_name: crate::PLAID_NAME.to_owned(),
            client_secret,
            redirect_uris: redirect_uris.into_iter().collect(),
            fill_options: Some(FillOptions::default()),
            rate_limit: None,
            start_date: None,
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SystemRandom),
            outbox: Arc::new(|_| {}),
            plaid: None,
        }
    }
}

impl fmt::Debug for BankConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BankConfig")
            .field("database", &self.database)
            .field("issuer", &self.issuer)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

/// The error of [`Bank::open`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The database cannot be opened or filled.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A redirect URI is not an absolute URL, or has a fragment.
    #[error("--redirect-uri: {0}")]
    RedirectUri(#[from] px_server::clients::InvalidClient),
    /// A setting of the OAuth kit is invalid.
    #[error("--issuer: {0}")]
    OAuth(#[from] px_server::oauth::OAuthBuildError),
    /// The service cannot be built.
    #[error(transparent)]
    Service(#[from] px_server::PartnerServiceBuildError),
    /// A setting of the calls to Plaid is invalid.
    #[error("--plaid-url: {0}")]
    PlaidSide(#[from] PlaidSideError),
    /// The site cannot be built.
    #[error(transparent)]
    Site(#[from] px_server::Error),
}

/// An open bank. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bank {
    ledger: Ledger,
    oauth: OAuth,
    service: PartnerService,
    pages: Pages,
    site: Site,
    gateway: Option<PlaidGateway>,
}

impl Bank {
    /// Opens a bank. Fills a new database with generated customers.
    ///
    /// # Errors
    /// If the database cannot be opened or filled, or a setting is invalid.
    pub async fn open(config: BankConfig) -> Result<Self, OpenError> {
        let (clock, random) = (config.clock, config.random);
        let today = config.start_date.unwrap_or_else(|| Date::from(clock.now().date_naive()));
        let ledger = Ledger::open(&config.database, today).await?;
        let own_client = config.client_id.clone();
        let client = Client::new(config.client_id, config.client_name, config.redirect_uris);
        let clients = MemoryClients::new().with(client, &config.client_secret)?;
        let grants = Arc::new(SqliteGrants::new(ledger.clone()));
        let oauth = OAuth::builder(config.issuer, Arc::new(clients), grants)
            .clock(clock.clone())
            .random(random.clone())
            .build()?;
        // Filling takes a while, so it comes after the checks of the settings.
        if let Some(fill_options) = config.fill_options {
            ledger.fill(fill_options).await?;
        }
        // Deletes expired grants. They would be refused in any case.
        if let Err(error) = oauth.purge().await {
            tracing::warn!(%error, "expired grants could not be deleted");
        }
        let cursors = CursorKey::new(&ledger.key_once("cursor key", &*random).await?);
        let gateway = config.plaid.map(|side| {
            PlaidGateway::open(side, &ledger, &oauth, own_client.clone(), clock.clone())
        });
        let gateway = gateway.transpose()?;
        let partner = DemoPartner::new(ledger.clone(), oauth.clone(), cursors, clock.clone())
            .gateway(gateway.clone());
        let customers = CustomerSignIn::new(ledger.clone(), clock.clone(), config.outbox);
        // The API, the pages and the site share one kit, so that lockouts and attempts count
        // together.
        let kit = CredentialsKit::new(Arc::new(customers), Arc::new(oauth.clone()))
            .clock(clock.clone())
            .random(random.clone());
        let kit = Arc::new(kit);
        let page_key = ledger.key_once("page key", &*random).await?;
        let sealed = Visits::with_key(page_key)
            .secure(oauth.issuer().starts_with("https:"))
            .clock(clock.clone())
            .random(random.clone());
        let sealed = Arc::new(sealed);
        let pages = Pages::new(
            oauth.clone(),
            ledger.clone(),
            kit.clone(),
            sealed.clone(),
            clock.clone(),
            random.clone(),
            gateway.clone(),
        );
        let site = Site::new(
            ledger.clone(),
            kit.clone(),
            sealed,
            gateway.clone(),
            oauth.issuer(),
            clock.clone(),
            random.clone(),
        )?;
        let mut service = PartnerService::builder(partner)
            // No cache, because another process on this database may revoke a token at any moment.
            .tokens(oauth.verifier())
            .oauth(oauth.clone())
            .pages(Arc::new(pages.clone()))
            .credentials(kit)
            .clock(clock.clone())
            .random(random);
        if let Some(gateway) = &gateway {
            service = service.notifications(gateway.verifier());
        }
        if let Some(calls) = config.rate_limit {
            service = service.rate_limit(RateLimit::per_second(calls).clock(clock));
        }
        let service = service.build()?;
        Ok(Self { ledger, oauth, service, pages, site, gateway })
    }

    /// Returns the API alone as a tower service, to be called in process.
    #[must_use]
    pub fn service(&self) -> PartnerService {
        self.service.clone()
    }

    /// Returns the router of the API, the pages and the site.
    pub fn router(&self) -> axum::Router {
        // The API is the fallback: it responds to unknown paths.
        let router = px_server::axum::router(self.service());
        let router = router.merge(self.pages.router()).merge(self.site.router());
        transport_security(router, self.oauth.issuer())
    }

    /// Returns the database.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Returns the OAuth kit.
    #[must_use]
    pub fn oauth(&self) -> &OAuth {
        &self.oauth
    }

    /// Returns the bank's date.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn today(&self) -> Result<Date, LedgerError> {
        self.ledger.today().await
    }

    /// Advances the bank's clock by a number of days.
    ///
    /// # Errors
    /// If the number of days is out of range or the database fails.
    pub async fn advance(&self, days: i64) -> Result<AdvanceReport, LedgerError> {
        let advanced = self.ledger.advance(days).await?;
        if let Some(gateway) = &self.gateway
            && let Err(error) = gateway.notify_booked().await
        {
            // They are stored, so the next poll sends them.
            tracing::warn!(%error, "Plaid is notified of booked transactions later");
        }
        Ok(advanced)
    }

    /// Closes the event streams of open pages, so that a server's shutdown does not wait for them.
    pub fn close(&self) {
        self.site.close();
    }

    /// Returns the connected-apps data. Returns `None` if the bank calls no Plaid.
    #[must_use]
    pub fn portal(&self) -> Option<&Portal> {
        self.gateway.as_ref().map(PlaidGateway::portal)
    }

    /// Returns the notifier. Returns `None` if the bank calls no Plaid.
    #[must_use]
    pub fn notifier(&self) -> Option<&Notifier> {
        self.gateway.as_ref().map(PlaidGateway::notifier)
    }
}
