//! A simulated Plaid: connects users by OAuth, updates Items, sends webhooks.

use crate::{
    application::Application,
    browser::{Browser, Location},
    clock::OffsetClock,
    report::say,
};
use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use indicatif::{ProgressBar, ProgressStyle};
use px_client::{
    PartnerClient,
    oauth::{AuthorizationRequest, TokenSet},
};
use px_core::{
    Clock as _, HttpLimits, HttpTransport, LocalClock, ReqwestTransport, SystemRandom,
    TransportError,
};
use px_items::{
    connection::Connection,
    engine::{Engine, Observed, Observer},
    item::State,
    items::{Authorization, Items, LinkedApplication},
    partners::{FixedPartners, Partner},
    store::{SqliteStore, Store, StoreOptions},
    vault::FileKeys,
    webhook::{Sender, Signer, SigningKey},
};
use px_types::{
    AccountId, ApplicationId, ClientId, ClientSecret, InstitutionId, ItemAccessToken, ItemId,
    KeyId, UserId,
    model::{product::Product, verification_key::VerificationKey},
    webhook::Environment,
};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::watch, task::JoinHandle};
use url::Url;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Plaid's redirect URI. No server listens there: the demo reads the redirect.
pub(crate) const REDIRECT_URI: &str = "https://cdn.plaid.com/link/v2/stable/oauth.html";
/// Plaid's client id at the bank.
pub(crate) const CLIENT_ID: &str = "plaid";
/// The bank's institution id at Plaid.
const INSTITUTION: &str = "demo-bank";
/// The number of Items that are processed concurrently.
const WORKERS: usize = 2;

/// Plaid's side of the demo.
pub(crate) struct Plaid {
    pub(crate) items: Items,
    pub(crate) clock: Arc<OffsetClock>,
    pub(crate) calls: Arc<CountingTransport>,
    bank: PartnerClient,
    store: Arc<dyn Store>,
    engine: Engine,
    sender: Sender,
    signer: Arc<Signer>,
    institution: InstitutionId,
}

/// Plaid's running workers.
pub(crate) struct Workers {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Plaid {
    pub(crate) async fn new(base_url: &str, secret: ClientSecret) -> Result<Self, Failure> {
        let clock = Arc::new(OffsetClock::default());
        let calls = Arc::new(CountingTransport::new(Arc::new(ReqwestTransport::new()?)));
        let client_id = ClientId::new(CLIENT_ID)?;
        let bank = PartnerClient::builder(base_url, calls.clone())
            .client(client_id, secret)
            .clock(clock.clone())
            .build()?;
        let key = FileKeys::generate("demo", Arc::new(SystemRandom))?;
        let mut options = StoreOptions::new(Environment::Sandbox, Arc::new(key));
        // Both clocks of the store follow the demo's clock. With a fixed one, the store would reuse the
        // time that it read last.
        options.clock = clock.clone();
        options.shared_clock = Some(Arc::new(LocalClock::new(clock.clone())));
        let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory(options).await?);
        let institution = InstitutionId::new(INSTITUTION)?;
        let partners = FixedPartners::new().with(institution.clone(), Partner::new(bank.clone()));
        let key = SigningKey::generate(KeyId::new("demo-1")?, clock.now())?;
        let signer = Arc::new(Signer::new(key));
        // The demo's applications listen on this machine, which a real service would refuse.
        let transport = Arc::new(ReqwestTransport::new()?);
        let sender =
            Sender::builder(store.clone(), transport, signer.clone()).clock(clock.clone()).build();
        let engine = Engine::builder(store.clone(), Arc::new(partners))
            .clock(clock.clone())
            .observer(Arc::new(Progress::new()?))
            .build();
        let items = Items::builder(store.clone())
            .clock(clock.clone())
            .webhooks(px_items::webhook::UrlPolicy::Anywhere)
            .build();
        Ok(Self { items, clock, calls, bank, store, engine, sender, signer, institution })
    }

    /// Returns the keys with which applications verify webhooks.
    pub(crate) fn verification_keys(&self) -> Vec<VerificationKey> {
        self.signer.verification_keys(self.clock.now())
    }

    /// Starts the engine and the webhook sender.
    pub(crate) fn start(&self) -> Workers {
        let (stop, stopped) = watch::channel(false);
        let until = |mut stopped: watch::Receiver<bool>| async move {
            // The sender of this channel is dropped at the end of the demo at the latest.
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        let (engine, sender) = (self.engine.clone(), self.sender.clone());
        let (first, second) = (until(stopped.clone()), until(stopped));
        let tasks = vec![
            tokio::spawn(async move { engine.run(WORKERS, first).await }),
            tokio::spawn(async move { sender.run(second).await }),
        ];
        Workers { stop, tasks }
    }

    /// Signs a user in on the bank's pages. The user shares the first `most` accounts.
    pub(crate) async fn authorize(
        &self,
        issuer: &str,
        application: &Application,
        (username, password): (&str, &str),
        most: usize,
    ) -> Result<Authorized, Failure> {
        let mut request = AuthorizationRequest::new(REDIRECT_URI);
        request.issuer = Some(issuer.to_owned());
        request.application_id = Some(application_id(application)?);
        request.application_name = Some(application.name.to_owned());
        let (url, pending) = self.bank.begin_authorization(request)?;
        let back = self.browse(url, username, password, most).await?;
        let tokens = self.bank.exchange_code(pending.check_callback(back.as_str())?).await?;
        let user_id = tokens.user_id.clone().ok_or("the bank did not say who the user is")?;
        let user = self.bank.with_token(tokens.access_token.clone()).user(&user_id).await?;
        let accounts = user.accounts.into_iter().map(|account| account.id).collect();
        Ok(Authorized { tokens, user_id, accounts })
    }

    /// Connects an application to the user's Item.
    pub(crate) async fn link(
        &self,
        application: &mut Application,
        authorized: Authorized,
    ) -> Result<LinkedApplication, Failure> {
        let mut connection = Connection::new(
            application_id(application)?,
            [Product::Transactions, Product::Auth, Product::Identity],
            self.clock.now(),
        );
        connection.accounts = Some(authorized.accounts.iter().cloned().collect());
        connection.new_accounts = false;
        connection.webhook = Some(application.webhook_url.clone());
        let Authorized { tokens, user_id, accounts } = authorized;
        let authorization = Authorization::over(tokens, accounts);
        let linked =
            self.items.link(&self.institution, &user_id, authorization, connection).await?;
        application.token = Some(linked.access_token.clone());
        Ok(linked)
    }

    /// Imports the Item for the bank, which needs it once before it can name the Item in
    /// notifications.
    pub(crate) async fn import(&self, authorized: &Authorized) -> Result<ItemAccessToken, Failure> {
        let (user, tokens) = (&authorized.user_id, authorized.tokens.clone());
        Ok(self.items.import(&self.institution, user, tokens).await?.access_token)
    }

    /// Returns the bank's institution id.
    pub(crate) fn institution(&self) -> &InstitutionId {
        &self.institution
    }

    /// Returns the state of an Item. Returns `None` if it was removed.
    pub(crate) async fn state(&self, item: &ItemId) -> Result<Option<State>, Failure> {
        Ok(self.store.item(item).await?.map(|record| record.state))
    }

    /// Wakes the workers after a change of the clock, which does not wake them by itself.
    pub(crate) fn wake(&self) {
        self.store.signals().items.raise();
    }

    /// Waits a moment for the workers.
    pub(crate) async fn pause(&self) {
        self.clock.sleep(Duration::from_millis(50)).await;
    }

    /// Requests a user with a token that must be refused. Returns the error.
    pub(crate) async fn try_reading(
        &self,
        tokens: &TokenSet,
        user: &UserId,
    ) -> Result<String, Failure> {
        match self.bank.with_token(tokens.access_token.clone()).user(user).await {
            Err(error) if matches!(error.status(), Some(401 | 403)) => Ok(error.to_string()),
            Err(error) => Err(error.into()),
            Ok(_) => Err("the bank returned data that it must refuse".into()),
        }
    }

    /// Simulates the user: signs in, selects accounts, consents.
    async fn browse(
        &self,
        url: Url,
        username: &str,
        password: &str,
        most: usize,
    ) -> Result<Url, Failure> {
        let mut browser = Browser::new(self.calls.clone());
        let mut location = browser.open(url, REDIRECT_URI).await?;
        for _ in 0..5 {
            let page = match location {
                Location::Redirect(url) => return Ok(url),
                Location::Page(page) => page,
            };
            let mut accounts = page.checkboxes("account_id");
            accounts.truncate(most);
            location = if accounts.is_empty() {
                let typed = [("username", username), ("password", password)];
                browser.submit(&page, &typed, REDIRECT_URI).await?
            } else {
                let many = if accounts.len() == 1 { "" } else { "s" };
                let count = accounts.len();
                say!("   {username} signs in, selects {count} account{many} and consents");
                let mut typed: Vec<_> =
                    accounts.iter().map(|id| ("account_id", id.as_str())).collect();
                typed.push(("decision", "allow"));
                browser.submit(&page, &typed, REDIRECT_URI).await?
            };
        }
        Err(format!("the bank's pages did not let {username} through").into())
    }
}

/// The result of a user's authorization.
#[derive(Clone)]
pub(crate) struct Authorized {
    pub(crate) tokens: TokenSet,
    pub(crate) user_id: UserId,
    pub(crate) accounts: Vec<AccountId>,
}

impl Workers {
    /// Stops the workers. They finish or hand back their Items.
    pub(crate) async fn stop(self) -> Result<(), Failure> {
        self.stop.send_replace(true);
        for task in self.tasks {
            task.await?;
        }
        Ok(())
    }
}

fn application_id(application: &Application) -> Result<ApplicationId, Failure> {
    Ok(ApplicationId::new(application.name.to_lowercase().replace(' ', "-"))?)
}

/// A transport that counts requests for transactions.
pub(crate) struct CountingTransport {
    transport: Arc<dyn HttpTransport>,
    pages: AtomicU64,
}

impl CountingTransport {
    fn new(transport: Arc<dyn HttpTransport>) -> Self {
        Self { transport, pages: AtomicU64::new(0) }
    }

    /// Returns the number of requested pages of transactions.
    pub(crate) fn pages(&self) -> u64 {
        self.pages.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for CountingTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CountingTransport").field("pages", &self.pages()).finish_non_exhaustive()
    }
}

#[async_trait]
impl HttpTransport for CountingTransport {
    async fn send(
        &self,
        request: Request<Bytes>,
        limits: &HttpLimits,
    ) -> Result<Response<Bytes>, TransportError> {
        if request.uri().path().ends_with("/transactions") {
            self.pages.fetch_add(1, Ordering::Relaxed);
        }
        self.transport.send(request, limits).await
    }
}

/// A progress bar of the initial fetch, in days.
#[derive(Debug)]
struct Progress {
    bar: ProgressBar,
    rows: AtomicU64,
}

impl Progress {
    fn new() -> Result<Self, Failure> {
        let style = ProgressStyle::with_template("   {bar:40} {pos}/{len} days  {msg}")?;
        let bar = ProgressBar::new(0).with_style(style);
        Ok(Self { bar, rows: AtomicU64::new(0) })
    }
}

impl Observer for Progress {
    fn observe(&self, event: &Observed) {
        match event {
            Observed::WindowRead { window, rows, left: Some(scan), .. } => {
                let rows = self.rows.fetch_add(*rows, Ordering::Relaxed) + rows;
                let left = scan.next_end.days_since(scan.start).unsigned_abs();
                let read = self.bar.position() + window.days();
                self.bar.set_length(read + left);
                self.bar.set_position(read);
                self.bar.set_message(format!("{rows} transactions"));
            }
            Observed::Ended(_) => {
                self.bar.finish_and_clear();
                self.bar.reset();
                self.rows.store(0, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}
