//! The bank put together: books, OAuth, pages, credentials mode and the API over them.

use crate::{
    cursor::CursorKey,
    ledger::{
        Database, Ledger, LedgerError, advance::Advanced, fill::Filling, grants::SqliteGrants,
    },
    pages::Pages,
    partner::DemoPartner,
    plaid_side::{Outward, PlaidSide, PlaidSideError},
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

/// What a bank is opened with.
#[derive(Clone)]
#[non_exhaustive]
pub struct BankConfig {
    /// Where the books are kept.
    pub database: Database,
    /// The bank's public address, `http://127.0.0.1:8080`.
    pub issuer: String,
    /// The one client that the bank knows.
    pub client_id: ClientId,
    /// Its name, shown to users.
    pub client_name: String,
    /// Its secret; kept hashed.
    pub client_secret: ClientSecret,
    /// Where it may send users back to.
    pub redirect_uris: Vec<String>,
    /// The made-up customers of a new bank; `None` for books that an import fills.
    pub filling: Option<Filling>,
    /// Calls per second for each client and user; no limit when `None`.
    pub rate_limit: Option<u32>,
    /// The date at which the clock of a new bank starts; the real one when `None`.
    pub start_date: Option<Date>,
    /// Real time, by which codes and tokens end.
    pub clock: Arc<dyn Clock>,
    /// Where secrets come from.
    pub random: Arc<dyn Random>,
    /// Takes what the bank sends to its users.
    pub outbox: Outbox,
    /// The Plaid that the bank calls; without one, its site shows no connected apps.
    pub plaid: Option<PlaidSide>,
}

impl BankConfig {
    /// A bank in memory with the default customers and one client.
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
            filling: Some(Filling::default()),
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

/// Why a bank cannot open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The books cannot be opened or filled.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A redirect URI is not an absolute URL, or has a fragment.
    #[error("--redirect-uri: {0}")]
    RedirectUri(#[from] px_server::clients::InvalidClient),
    /// A setting of the OAuth kit is not sound.
    #[error("--issuer: {0}")]
    OAuth(#[from] px_server::oauth::BuildError),
    /// The service cannot be built.
    #[error(transparent)]
    Service(#[from] px_server::BuildError),
    /// A setting of the side that calls Plaid is not sound.
    #[error("--plaid-url: {0}")]
    PlaidSide(#[from] PlaidSideError),
    /// The site cannot be put together.
    #[error(transparent)]
    Site(#[from] px_server::Error),
}

/// A bank, open for business. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bank {
    ledger: Ledger,
    oauth: OAuth,
    service: PartnerService,
    pages: Pages,
    site: Site,
    outward: Option<Outward>,
}

impl Bank {
    /// Opens a bank. A new one fills itself.
    ///
    /// # Errors
    /// When the books, or one of the settings, are not sound.
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
        // Only now, because it takes a while: settings that are not sound are told at once.
        if let Some(filling) = config.filling {
            ledger.fill(filling).await?;
        }
        // What is over is dropped at each start; it would be refused all the same.
        if let Err(error) = oauth.purge().await {
            tracing::warn!(%error, "old grants could not be dropped");
        }
        let cursors = CursorKey::new(&ledger.key_once("cursor key", &*random).await?);
        let outward = config
            .plaid
            .map(|side| Outward::open(side, &ledger, &oauth, own_client.clone(), clock.clone()));
        let outward = outward.transpose()?;
        let partner = DemoPartner::new(ledger.clone(), oauth.clone(), cursors, clock.clone())
            .outward(outward.clone());
        let customers = CustomerSignIn::new(ledger.clone(), clock.clone(), config.outbox);
        // One kit for the API, the pages and the site: locks and attempts count together.
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
            outward.clone(),
        );
        let site = Site::new(
            ledger.clone(),
            kit.clone(),
            sealed,
            outward.clone(),
            oauth.issuer(),
            clock.clone(),
            random.clone(),
        )?;
        let mut service = PartnerService::builder(partner)
            // No cache: another process on these books may revoke a token at any moment.
            .tokens(oauth.verifier())
            .oauth(oauth.clone())
            .pages(Arc::new(pages.clone()))
            .credentials(kit)
            .clock(clock.clone())
            .random(random);
        if let Some(outward) = &outward {
            service = service.notifications(outward.verifier());
        }
        if let Some(calls) = config.rate_limit {
            service = service.rate_limit(RateLimit::per_second(calls).clock(clock));
        }
        let service = service.build()?;
        Ok(Self { ledger, oauth, service, pages, site, outward })
    }

    /// The API alone, as a tower service: to be called in process.
    #[must_use]
    pub fn service(&self) -> PartnerService {
        self.service.clone()
    }

    /// The API and the pages.
    pub fn router(&self) -> axum::Router {
        // The API is the fallback: it refuses every path that nobody knows.
        let router = px_server::axum::router(self.service());
        let router = router.merge(self.pages.router()).merge(self.site.router());
        transport_security(router, self.oauth.issuer())
    }

    /// The books.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The OAuth kit.
    #[must_use]
    pub fn oauth(&self) -> &OAuth {
        &self.oauth
    }

    /// The bank's date.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn today(&self) -> Result<Date, LedgerError> {
        self.ledger.today().await
    }

    /// Moves the bank's clock.
    ///
    /// # Errors
    /// When the number of days is out of range or the database fails.
    pub async fn advance(&self, days: i64) -> Result<Advanced, LedgerError> {
        let advanced = self.ledger.advance(days).await?;
        if let Some(outward) = &self.outward
            && let Err(error) = outward.tell_booked().await
        {
            // They are in the books: the next look takes them.
            tracing::warn!(%error, "booked transactions are told later");
        }
        Ok(advanced)
    }

    /// Ends what goes on for long, so that a server that is to stop need not wait for it: the
    /// open pages that listen.
    pub fn close(&self) {
        self.site.close();
    }

    /// What customers share through Plaid, if the bank calls one.
    #[must_use]
    pub fn portal(&self) -> Option<&Portal> {
        self.outward.as_ref().map(Outward::portal)
    }

    /// What tells Plaid, if the bank calls one.
    #[must_use]
    pub fn notifier(&self) -> Option<&Notifier> {
        self.outward.as_ref().map(Outward::notifier)
    }
}
