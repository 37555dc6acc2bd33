//! The bank's side that calls Plaid: which Plaid, what it offers there, its tokens for Plaid.
//!
//! The crates do the work: `Portal` lists and changes what customers share, `OAuthTokens` makes the
//! tokens that Plaid needs for it, `Notifier` notifies Plaid, `Verifier` checks Plaid's
//! notifications. Here they are put together over the books.

use crate::{
    clock::pause,
    ledger::{Ledger, LedgerError, portal::SqlitePortal, told::SqliteNotifications},
};
use chrono::{DateTime, TimeDelta, Utc};
use px_client::{
    PlaidClient, RetryPolicy,
    notifier::{NotKept, Notifier},
    portal::{BankConsent, OAuthTokens, Portal, PortalErrorKind},
};
use px_core::{Clock, Clock as ClientClock, HttpLimits, HttpTransport};
use px_server::{
    PermittedAccounts,
    oauth::OAuth,
    webhook::{AskedKeys, Verifier},
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

/// How often it looks for what another process booked.
const LOOK: Duration = Duration::from_secs(1);
/// Time limit of a visit at Plaid's page if the expiry of its link token is unknown.
const LONGEST_VISIT: TimeDelta = TimeDelta::hours(4);
/// Delay before the next attempt to give up an Item.
const GIVE_UP_RETRY_DELAY: TimeDelta = TimeDelta::minutes(1);
/// How many booked transactions are taken to the notifier at once.
const AT_ONCE: u32 = 2000;

/// The Plaid that a bank calls, and who the bank is there.
#[derive(Clone)]
#[non_exhaustive]
pub struct PlaidSide {
    /// Where its API is.
    pub base_url: String,
    /// The bank's id there.
    pub client_id: ClientId,
    /// The bank's institution id there: notifications that are signed for another are refused.
    /// `None`: a notification for another bank is taken.
    pub institution_id: Option<InstitutionId>,
    /// The bank's secret there.
    pub client_secret: ClientSecret,
    /// How it is reached.
    pub transport: Arc<dyn HttpTransport>,
    /// Its page for customers, which takes a link token as `token` in its query.
    pub link_page: String,
    /// The applications that customers can connect from the bank's own site.
    pub offers: Vec<Offer>,
    /// Real time for calls and their repetition; the machine's when `None`.
    pub clock: Option<Arc<dyn ClientClock>>,
}

impl PlaidSide {
    /// A Plaid whose page for customers is at `/link`, and no application to offer.
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
    /// Its name.
    pub name: String,
    /// Its id, where the bank knows it: so that it is not offered to those who have it.
    pub application_id: Option<ApplicationId>,
    /// The bank's name for it at Plaid.
    pub target: TargetApplicationToken,
}

/// Plaid as a bank that is open sees it. Cheap to clone; its tasks end with the last clone.
#[derive(Clone)]
pub(crate) struct Outward(Arc<Inner>);

struct Inner {
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

impl fmt::Debug for Outward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outward").finish_non_exhaustive()
    }
}

/// Why a bank cannot open towards Plaid.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlaidSideError {
    /// The address, the id or the secret is not sound.
    #[error("{0}")]
    Client(#[from] px_client::Error),
    /// The address of the page for customers is none.
    #[error("the link page is not an http or https address")]
    LinkPage,
}

/// A customer waits for the page: what Plaid does not answer soon is shown as last known.
fn patience() -> RetryPolicy {
    let mut policy = RetryPolicy::default();
    (policy.attempts, policy.budget) = (3, Duration::from_secs(10));
    policy
}

fn limits() -> HttpLimits {
    let mut limits = HttpLimits::default();
    limits.request_timeout = Duration::from_secs(8);
    limits
}

impl Outward {
    pub(crate) fn open(
        side: PlaidSide,
        ledger: &Ledger,
        oauth: &OAuth,
        own_client: ClientId,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, PlaidSideError> {
        let client = PlaidClient::builder(side.base_url.clone(), side.transport)
            .client(side.client_id, side.client_secret)
            .retry(patience())
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
        let keys = AskedKeys::new(move |kid| {
            let client = client.clone();
            async move {
                match client.verification_key(GetVerificationKey::new(kid)).await {
                    Ok(answer) => Ok(Some(answer.key)),
                    // Plaid understood and has no such key.
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
                    "the bank does not name its institution id: what Plaid signs for another bank \
                     is taken here"
                );
                verifier
            }
        };
        let outward = Self(Arc::new(Inner {
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
        outward.start();
        Ok(outward)
    }

    /// What goes on beside the answers: disconnections, and what other processes booked.
    fn start(&self) {
        let portal = self.0.portal.clone();
        self.spawn(async move { portal.run().await });
        let (portal, ledger) = (self.0.portal.clone(), self.0.ledger.clone());
        let clock = self.0.clock.clone();
        self.spawn(async move {
            loop {
                end_expired_links(&portal, &ledger, clock.now()).await;
                pause(LOOK).await;
            }
        });
        let (tokens, ledger) = (self.0.tokens.clone(), self.0.ledger.clone());
        let notifier = self.0.notifier.clone();
        self.spawn(async move {
            loop {
                if let Err(error) = tell_booked(&ledger, &tokens, &notifier).await {
                    tracing::warn!(%error, "booked transactions are told later");
                }
                pause(LOOK).await;
            }
        });
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let mut tasks = self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that have ended are forgotten here.
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

    /// The origins whose pictures the bank's pages may show: Plaid's. A picture from elsewhere
    /// would tell its owner when a customer looks at the page.
    pub(crate) fn origins(&self) -> &[String] {
        &self.0.origins
    }

    /// Plaid's page for a link token.
    pub(crate) fn link_page(&self, token: &px_types::LinkToken) -> url::Url {
        let mut page = self.0.link_page.clone();
        page.query_pairs_mut().append_pair("token", token.expose());
        page
    }

    /// Records that the customer consents to share these accounts. Until the result is dropped, a
    /// token over them is made for a customer who shared nothing before.
    pub(crate) fn consent_of(&self, user: &UserId, accounts: PermittedAccounts) -> BankConsent {
        self.0.tokens.consent(user, accounts)
    }

    /// Stores that a customer who consented here is sent to Plaid's page, until `ends` at the latest.
    pub(crate) async fn sent_to_plaid(
        &self,
        user: &UserId,
        ends: Option<DateTime<Utc>>,
    ) -> Result<(), LedgerError> {
        let ends = ends.unwrap_or_else(|| self.0.clock.now() + LONGEST_VISIT);
        self.0.ledger.note_pending_link(user, ends).await
    }

    /// Ends the visit of a customer who came back from Plaid's page without connecting an application.
    pub(crate) async fn abandon_link(&self, user: &UserId) {
        end_unused_link(&self.0.portal, &self.0.ledger, user, self.0.clock.now()).await;
    }

    /// What Plaid may read of a user.
    pub(crate) async fn shared(&self, user: &UserId) -> Result<Vec<PermittedAccounts>, TellError> {
        self.0.tokens.shared(user).await.map_err(TellError::Grants)
    }

    /// Makes sure, in the background, that the bank can tell Plaid of this user.
    pub(crate) fn import_soon(&self, user: UserId) {
        let portal = self.0.portal.clone();
        self.spawn(async move {
            match portal.import(&user).await {
                Ok(_) => {}
                Err(error) if error.kind() == PortalErrorKind::NotShared => {}
                // Looking at the page, and the next notification, try again.
                Err(error) => tracing::warn!(%error, "a user is not imported yet"),
            }
        });
    }

    /// Takes what was booked to the notifier.
    pub(crate) async fn tell_booked(&self) -> Result<(), TellError> {
        tell_booked(&self.0.ledger, &self.0.tokens, &self.0.notifier).await
    }
}

/// Why booked transactions could not be handed to the notifier. They stay where they are.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TellError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("the grants of the bank are out of reach")]
    Grants(#[source] px_server::Error),
    #[error(transparent)]
    NotKept(#[from] NotKept),
}

/// Ends visits at Plaid's page whose link tokens have expired.
async fn end_expired_links(portal: &Portal, ledger: &Ledger, now: DateTime<Utc>) {
    match ledger.ended_links(now).await {
        Ok(users) => {
            for user in users {
                end_unused_link(portal, ledger, &user, now).await;
            }
        }
        Err(error) => tracing::warn!(%error, "expired link tokens are looked for later"),
    }
}

/// Gives the Item up if no application is connected, and revokes the tokens that were made for it.
async fn end_unused_link(portal: &Portal, ledger: &Ledger, user: &UserId, now: DateTime<Utc>) {
    let ended = async {
        // Plaid says whether an application is connected, and the list here follows.
        portal.give_up(user).await?;
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

async fn tell_booked(
    ledger: &Ledger,
    tokens: &OAuthTokens,
    notifier: &Notifier,
) -> Result<(), TellError> {
    while let Some(booked) = ledger.booked(AT_ONCE).await? {
        let mut shared = HashMap::new();
        for user in booked.users() {
            shared.insert(user.clone(), tokens.shared(user).await.map_err(TellError::Grants)?);
        }
        let entries = booked.entries(|user, account| {
            shared.get(user).is_some_and(|all| all.iter().any(|some| some.allows(account)))
        });
        if !entries.is_empty() {
            notifier.notify(entries).await?;
        }
        // A crash between the two has them told twice, which is harmless.
        ledger.told(&booked).await?;
    }
    Ok(())
}
