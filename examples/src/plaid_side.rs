//! The bank's calls to Plaid: the address and credentials of Plaid, and the bank's OAuth tokens for
//! Plaid.
//!
//! The work is done by the SDK: `Portal` lists and changes what customers share, `OAuthTokens`
//! creates the tokens that Plaid needs for it, `Notifier` notifies Plaid, `Verifier` checks Plaid's
//! notifications. This module assembles them over the bank's database.

use crate::{
    clock::pause,
    ledger::{Ledger, LedgerError, notifications::SqliteNotifications, portal::SqlitePortal},
};
use chrono::{DateTime, TimeDelta, Utc};
use px_client::{
    PlaidClient, RetryPolicy,
    notifier::{Notifier, NotifierError},
    portal::{BankConsent, OAuthTokens, Portal, PortalErrorKind},
};
use px_core::{Clock, Clock as ClientClock, HttpLimits, HttpTransport};
use px_server::{
    PermittedAccounts,
    oauth::OAuth,
    webhook::{KeySourceFn, Verifier},
};
use px_types::{
    ApplicationId, ClientId, ClientSecret, InstitutionId, TargetApplicationToken, UserId,
    model::product::Product, plaid::GetVerificationKey,
};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::task::{AbortHandle, JoinSet};

/// The interval at which transactions booked by other processes, and expired link tokens, are
/// polled.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Time limit of a visit to Plaid's page if the expiry of its link token is unknown.
const DEFAULT_VISIT_LIMIT: TimeDelta = TimeDelta::hours(4);
/// Delay before the next attempt to give up an Item.
const GIVE_UP_RETRY_DELAY: TimeDelta = TimeDelta::minutes(1);
/// Maximum number of booked transactions that are passed to the notifier at once.
const BOOKED_BATCH_SIZE: u32 = 2000;

/// The Plaid that a bank calls, and the bank's credentials there.
#[derive(Clone)]
#[non_exhaustive]
pub struct PlaidSide {
    /// The base URL of Plaid's API.
    pub base_url: String,
    /// The bank's client id at Plaid.
    pub client_id: ClientId,
    /// The bank's institution id at Plaid. Notifications signed for another institution are
    /// refused. With `None` they are accepted.
    pub institution_id: Option<InstitutionId>,
    /// The bank's client secret at Plaid.
    pub client_secret: ClientSecret,
    /// The HTTP transport.
    pub transport: Arc<dyn HttpTransport>,
    /// The URL of Plaid's page for customers, which takes a link token as the query parameter
    /// `token`.
    pub link_page: String,
    /// The applications that customers can connect from the bank's own site.
    pub offers: Vec<Offer>,
    /// The clock for requests and retries. `None` means the machine's clock.
    pub clock: Option<Arc<dyn ClientClock>>,
}

impl PlaidSide {
    /// Creates the settings of a Plaid with its page at `/link`, and no applications to offer.
    #[must_use]
    pub fn new(
        base_url: impl Into<String>,
        client_id: ClientId,
        client_secret: ClientSecret,
        transport: Arc<dyn HttpTransport>,
    ) -> Self {
        let base_url = base_url.into();
        let link_page = format!("{}/link", base_url.trim_end_matches('/'));
        Self {
            base_url,
            client_id,
            institution_id: None,
            client_secret,
            transport,
            link_page,
            offers: Vec::new(),
            clock: None,
        }
    }
}

impl fmt::Debug for PlaidSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlaidSide")
            .field("base_url", &self.base_url)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

/// An application that customers can connect from the bank's own site.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The application's name.
    pub name: String,
    /// The application's id, if the bank knows it. It is not offered to customers who have
    /// connected it.
    pub application_id: Option<ApplicationId>,
    /// The token that names the application at Plaid.
    pub target: TargetApplicationToken,
}

/// The gateway of an open bank to Plaid. Cheap to clone. Its tasks end with the last clone.
#[derive(Clone)]
pub(crate) struct PlaidGateway(Arc<GatewayState>);

struct GatewayState {
    portal: Portal,
    notifier: Notifier,
    verifier: Arc<Verifier>,
    tokens: Arc<OAuthTokens>,
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    link_page: url::Url,
    origins: Vec<String>,
    offers: Vec<Offer>,
    tasks: Mutex<JoinSet<()>>,
}

impl fmt::Debug for PlaidGateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlaidGateway").finish_non_exhaustive()
    }
}

/// The error of opening the gateway to Plaid.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlaidSideError {
    /// The base URL, the client id or the secret is invalid.
    #[error("{0}")]
    Client(#[from] px_client::Error),
    /// The URL of the page for customers is invalid.
    #[error("the address of the link page is not an http or https URL")]
    LinkPage,
}

/// Returns a short retry policy, because a customer waits for the page. If Plaid does not respond
/// soon, the last known state is shown.
fn retry_policy() -> RetryPolicy {
    let mut policy = RetryPolicy::default();
    (policy.attempts, policy.budget) = (3, Duration::from_secs(10));
    policy
}

fn limits() -> HttpLimits {
    let mut limits = HttpLimits::default();
    limits.request_timeout = Duration::from_secs(8);
    limits
}

impl PlaidGateway {
    pub(crate) fn open(
        side: PlaidSide,
        ledger: &Ledger,
        oauth: &OAuth,
        own_client: ClientId,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, PlaidSideError> {
        let client = PlaidClient::builder(side.base_url.clone(), side.transport)
            .client(side.client_id, side.client_secret)
            .retry(retry_policy())
            .limits(limits());
        let client = match side.clock {
            Some(clock) => client.clock(clock),
            None => client,
        };
        let client = client.build()?;
        let web = |url: &url::Url| matches!(url.scheme(), "http" | "https");
        let link_page = url::Url::parse(&side.link_page).ok().filter(web);
        let link_page = link_page.ok_or(PlaidSideError::LinkPage)?;
        let base = url::Url::parse(&side.base_url).map_err(|_| PlaidSideError::LinkPage)?;
        let origins = [&base, &link_page].map(|url| url.origin().ascii_serialization()).to_vec();
        let tokens = OAuthTokens::new(oauth.clone(), own_client);
        let store = Arc::new(SqlitePortal::new(ledger.clone()));
        let portal = Portal::builder(client.clone(), store, "Larkfield Bank")
            .tokens(tokens.clone())
            .products([Product::Transactions, Product::Auth, Product::Identity])
            .redirect_uri(format!("{}/apps/connected", oauth.issuer().trim_end_matches('/')))
            .build();
        let notifier = Notifier::builder(client.clone())
            .store(Arc::new(SqliteNotifications::new(ledger.clone())))
            .tokens(Arc::new(portal.clone()))
            .start();
        let keys = KeySourceFn::new(move |kid| {
            let client = client.clone();
            async move {
                match client.verification_key(GetVerificationKey::new(kid)).await {
                    Ok(response) => Ok(Some(response.key)),
                    // Plaid understood the request and has no such key.
                    Err(error) if matches!(error.status(), Some(400 | 404)) => Ok(None),
                    Err(error) => Err(error),
                }
            }
        });
        let verifier = Verifier::new(Arc::new(keys)).clock(clock.clone());
        let verifier = match side.institution_id {
            Some(id) => verifier.institution(id),
            None => {
                tracing::warn!(
                    "no institution id is configured: notifications that Plaid signs for another bank \
                     are accepted"
                );
                verifier
            }
        };
        let gateway = Self(Arc::new(GatewayState {
            portal,
            notifier,
            verifier: Arc::new(verifier),
            tokens,
            ledger: ledger.clone(),
            clock,
            link_page,
            origins,
            offers: side.offers,
            tasks: Mutex::default(),
        }));
        gateway.start();
        Ok(gateway)
    }

    /// Starts the background tasks: disconnections, expired links, and transactions booked by other
    /// processes.
    fn start(&self) {
        let portal = self.0.portal.clone();
        self.spawn(async move { portal.run().await });
        let (portal, ledger) = (self.0.portal.clone(), self.0.ledger.clone());
        let clock = self.0.clock.clone();
        self.spawn(async move {
            loop {
                end_expired_links(&portal, &ledger, clock.now()).await;
                pause(POLL_INTERVAL).await;
            }
        });
        let (tokens, ledger) = (self.0.tokens.clone(), self.0.ledger.clone());
        let notifier = self.0.notifier.clone();
        self.spawn(async move {
            loop {
                if let Err(error) = notify_booked(&ledger, &tokens, &notifier).await {
                    tracing::warn!(%error, "Plaid is notified of booked transactions later");
                }
                pause(POLL_INTERVAL).await;
            }
        });
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let mut tasks = self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        // Removes finished tasks.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task)
    }

    pub(crate) fn portal(&self) -> &Portal {
        &self.0.portal
    }

    pub(crate) fn notifier(&self) -> &Notifier {
        &self.0.notifier
    }

    pub(crate) fn verifier(&self) -> Arc<Verifier> {
        self.0.verifier.clone()
    }

    pub(crate) fn offers(&self) -> &[Offer] {
        &self.0.offers
    }

    /// Returns the origins from which the bank's pages may load images: Plaid's. An image from
    /// elsewhere would reveal to its owner when a customer opens the page.
    pub(crate) fn origins(&self) -> &[String] {
        &self.0.origins
    }

    /// Returns the URL of Plaid's page for a link token.
    pub(crate) fn link_page(&self, token: &px_types::LinkToken) -> url::Url {
        let mut page = self.0.link_page.clone();
        page.query_pairs_mut().append_pair("token", token.expose());
        page
    }

    /// Records that the customer consents to share these accounts. Until the result is dropped, a
    /// token over them is created for a customer who shared nothing before.
    pub(crate) fn consent_of(&self, user: &UserId, accounts: PermittedAccounts) -> BankConsent {
        self.0.tokens.consent(user, accounts)
    }

    /// Records that a customer who consented here is sent to Plaid's page, until `ends` at the
    /// latest.
    pub(crate) async fn sent_to_plaid(
        &self,
        user: &UserId,
        ends: Option<DateTime<Utc>>,
    ) -> Result<(), LedgerError> {
        let ends = ends.unwrap_or_else(|| self.0.clock.now() + DEFAULT_VISIT_LIMIT);
        self.0.ledger.note_pending_link(user, ends).await
    }

    /// Ends the visit of a customer who came back from Plaid's page without connecting an application.
    pub(crate) async fn abandon_link(&self, user: &UserId) {
        end_unused_link(&self.0.portal, &self.0.ledger, user, self.0.clock.now()).await;
    }

    /// Returns the accounts of a user that Plaid may read.
    pub(crate) async fn shared(
        &self,
        user: &UserId,
    ) -> Result<Vec<PermittedAccounts>, NotifyBookedError> {
        self.0.tokens.shared(user).await.map_err(NotifyBookedError::Grants)
    }

    /// Imports a user at Plaid in the background, so that the bank can send notifications about the
    /// user.
    pub(crate) fn import_soon(&self, user: UserId) {
        let portal = self.0.portal.clone();
        self.spawn(async move {
            match portal.import(&user).await {
                Ok(_) => {}
                Err(error) if error.kind() == PortalErrorKind::NotShared => {}
                // A visit to the page, and the next notification, try again.
                Err(error) => {
                    tracing::warn!(%error, "a user could not be imported; it is tried again")
                }
            }
        });
    }

    /// Passes booked transactions to the notifier.
    pub(crate) async fn notify_booked(&self) -> Result<(), NotifyBookedError> {
        notify_booked(&self.0.ledger, &self.0.tokens, &self.0.notifier).await
    }
}

/// The error of passing booked transactions to the notifier. They stay in the database.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotifyBookedError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("the grants of the bank cannot be read")]
    Grants(#[source] px_server::Error),
    #[error(transparent)]
    NotifierError(#[from] NotifierError),
}

/// Ends visits at Plaid's page with expired link tokens.
async fn end_expired_links(portal: &Portal, ledger: &Ledger, now: DateTime<Utc>) {
    match ledger.ended_links(now).await {
        Ok(users) => {
            for user in users {
                end_unused_link(portal, ledger, &user, now).await;
            }
        }
        Err(error) => {
            tracing::warn!(%error, "expired link tokens could not be read; it is tried again")
        }
    }
}

/// Gives up the Item if no application is connected, and revokes the tokens that were created for
/// it.
async fn end_unused_link(portal: &Portal, ledger: &Ledger, user: &UserId, now: DateTime<Utc>) {
    let ended = async {
        // Plaid knows whether an application is connected. The bank's list is updated from its
        // response.
        portal.cancel_connect(user).await?;
        portal.applications(user).await?;
        ledger.forget_pending_link(user).await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    };
    if let Err(error) = ended.await {
        tracing::warn!(error = &*error, "an Item without applications is given up later");
        let again = ledger.note_pending_link(user, now + GIVE_UP_RETRY_DELAY).await;
        if let Err(error) = again {
            tracing::warn!(%error, "the time of the next attempt cannot be stored");
        }
    }
}

async fn notify_booked(
    ledger: &Ledger,
    tokens: &OAuthTokens,
    notifier: &Notifier,
) -> Result<(), NotifyBookedError> {
    while let Some(booked) = ledger.booked(BOOKED_BATCH_SIZE).await? {
        let mut shared = HashMap::new();
        for user in booked.users() {
            shared.insert(
                user.clone(),
                tokens.shared(user).await.map_err(NotifyBookedError::Grants)?,
            );
        }
        let entries = booked.entries(|user, account| {
            shared.get(user).is_some_and(|all| all.iter().any(|some| some.allows(account)))
        });
        if !entries.is_empty() {
            notifier.notify(entries).await?;
        }
        // A crash in between repeats the notification, which is harmless.
        ledger.delete_booked(&booked).await?;
    }
    Ok(())
}
