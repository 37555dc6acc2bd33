//! A simulated Plaid in memory, with the endpoints that a bank calls.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use demo_bank::clock::pause;
use http::StatusCode;
use px_core::{Clock, ManualClock};
use px_items::webhook::{Signer, SigningKey};
use px_server::plaid::{Caller, Error, Plaid, PlaidService};
use px_types::{
    ActivityId, ApplicationId, ClientId, ClientSecret, ItemAccessToken, LinkToken, UserId,
    model::{
        activity::{Activity, ActivityState, ActivityType},
        application::ConnectedApplication,
        application_details::Application,
        last_data_access_times::LastDataAccessTimes,
        plaid_error::PlaidErrorType,
    },
    plaid::*,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

pub(crate) const SECRET: &str = "s3cret-of-the-bank-at-plaid";

/// The state of the simulated Plaid.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) items: HashMap<String, UserId>,
    pub(crate) imported_with: Vec<String>,
    pub(crate) apps: BTreeMap<UserId, Vec<ConnectedApplication>>,
    pub(crate) log: BTreeMap<UserId, Vec<Activity>>,
    pub(crate) accessed: BTreeMap<UserId, Vec<LastDataAccessTimes>>,
    /// The notified tokens and accounts.
    pub(crate) notified: Vec<(String, String)>,
    pub(crate) links: Vec<CreateLinkToken>,
    pub(crate) down: bool,
}

#[derive(Clone)]
pub(crate) struct FakePlaid {
    state: Arc<Mutex<State>>,
    pub(crate) signer: Arc<Signer>,
    clock: ManualClock,
}

impl FakePlaid {
    pub(crate) fn new(clock: &ManualClock) -> Self {
        let key = SigningKey::generate("key-1".parse().unwrap(), clock.now()).unwrap();
        let signer = Arc::new(Signer::new(key));
        Self { state: Arc::default(), signer, clock: clock.clone() }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn service(&self) -> PlaidService {
        let client = px_server::clients::Client::new(
            "larkfield".parse::<ClientId>().unwrap(),
            "Bank",
            [""; 0],
        );
        let clients = px_server::clients::MemoryClients::new();
        let clients = clients.with(client, &ClientSecret::new(SECRET)).unwrap();
        PlaidService::builder(self.clone()).clients(Arc::new(clients)).build().unwrap()
    }

    /// Connects an application for a user.
    pub(crate) fn link(&self, user: &UserId, app: ConnectedApplication) {
        let id = app.application_id.clone();
        self.state().apps.entry(user.clone()).or_default().push(app);
        self.log(user, ActivityType::ItemCreate, Some(id));
    }

    fn log(&self, user: &UserId, what: ActivityType, app: Option<ApplicationId>) {
        let now: px_types::Timestamp = self.clock.now().into();
        let mut state = self.state();
        let log = state.log.entry(user.clone()).or_default();
        let id = ActivityId::new(format!("{user}-{}", log.len())).unwrap();
        let mut entry = Activity::new(what, now, id, "larkfield", ActivityState::Success);
        entry.target_application_id = app;
        log.insert(0, entry);
    }

    fn user_of(&self, token: &ItemAccessToken) -> Result<UserId, Error> {
        let state = self.state();
        if state.down {
            return Err(Error::unavailable("it is down"));
        }
        state.items.get(token.expose()).cloned().ok_or_else(Error::invalid_access_token)
    }
}

pub(crate) fn app(id: &str, name: &str, clock: &ManualClock) -> ConnectedApplication {
    let id = ApplicationId::new(id).unwrap();
    ConnectedApplication::new(id, name, px_types::Timestamp::from(clock.now()))
}

fn not_found() -> Error {
    Error::new(PlaidErrorType::InvalidRequest, "NOT_FOUND", "not here")
        .with_status(StatusCode::NOT_FOUND)
}

#[async_trait]
impl Plaid for FakePlaid {
    async fn notify_transactions(
        &self,
        caller: &Caller,
        request: NewTransactionsNotification,
    ) -> Result<Acknowledged, Error> {
        for entry in request.notifications.iter() {
            self.user_of(&entry.access_token)?;
            let notified = (entry.access_token.expose().to_owned(), entry.account_id.to_string());
            self.state().notified.push(notified);
        }
        Ok(Acknowledged::new(caller.request_id()))
    }

    async fn notify_accounts(
        &self,
        _: &Caller,
        _: AccountsNotification,
    ) -> Result<Acknowledged, Error> {
        Err(not_found())
    }

    async fn notify_tokens(
        &self,
        _: &Caller,
        _: TokensNotification,
    ) -> Result<Acknowledged, Error> {
        Err(not_found())
    }

    async fn import(
        &self,
        caller: &Caller,
        request: ImportItem,
    ) -> Result<ImportItemResponse, Error> {
        let mut state = self.state();
        if state.down {
            return Err(Error::unavailable("it is down"));
        }
        let user = request.user_auth.user_id;
        state.imported_with.push(request.user_auth.auth_token.expose().to_owned());
        let token = format!("access-s3cret-{user}");
        state.items.insert(token.clone(), user);
        Ok(ImportItemResponse::new(ItemAccessToken::new(token), caller.request_id()))
    }

    async fn list_applications(
        &self,
        caller: &Caller,
        request: ListApplications,
    ) -> Result<ListApplicationsResponse, Error> {
        let user = self.user_of(&request.access_token)?;
        let apps = self.state().apps.get(&user).cloned().unwrap_or_default();
        Ok(ListApplicationsResponse::new(apps, caller.request_id()))
    }

    async fn unlink_application(
        &self,
        caller: &Caller,
        request: UnlinkApplication,
    ) -> Result<Acknowledged, Error> {
        let user = self.user_of(&request.access_token)?;
        let id = request.application_id;
        let found = self.state().apps.get_mut(&user).is_some_and(|apps| {
            let before = apps.len();
            apps.retain(|app| app.application_id != id);
            apps.len() < before
        });
        if !found {
            return Err(not_found());
        }
        self.log(&user, ActivityType::PortalUnlink, Some(id));
        Ok(Acknowledged::new(caller.request_id()))
    }

    async fn update_scopes(
        &self,
        caller: &Caller,
        request: UpdateScopes,
    ) -> Result<Acknowledged, Error> {
        let user = self.user_of(&request.access_token)?;
        let id = request.application_id;
        let mut found = false;
        for app in self.state().apps.entry(user.clone()).or_default() {
            if app.application_id == id {
                (app.scopes, found) = (Some(request.scopes.clone()), true);
            }
        }
        if !found {
            return Err(not_found());
        }
        self.log(&user, ActivityType::ScopesUpdate, Some(id));
        Ok(Acknowledged::new(caller.request_id()))
    }

    async fn list_activity(
        &self,
        caller: &Caller,
        request: ListActivity,
    ) -> Result<ListActivityResponse, Error> {
        let user = self.user_of(&request.access_token)?;
        let state = self.state();
        let log = state.log.get(&user).cloned().unwrap_or_default();
        let accessed = state.accessed.get(&user).cloned().unwrap_or_default();
        Ok(ListActivityResponse::new(log, accessed, caller.request_id()))
    }

    async fn application(
        &self,
        caller: &Caller,
        request: GetApplication,
    ) -> Result<GetApplicationResponse, Error> {
        let name = format!("App {}", request.application_id);
        let app = Application::new(request.application_id, name);
        Ok(GetApplicationResponse::new(app, caller.request_id()))
    }

    async fn create_link_token(
        &self,
        caller: &Caller,
        request: CreateLinkToken,
    ) -> Result<CreateLinkTokenResponse, Error> {
        let token = request.access_token.clone().ok_or_else(not_found)?;
        self.user_of(&token)?;
        let mut state = self.state();
        state.links.push(request);
        let link = LinkToken::new(format!("link-{}", state.links.len()));
        let until = self.clock.now() + chrono::TimeDelta::minutes(30);
        Ok(CreateLinkTokenResponse::new(
            link,
            px_types::Timestamp::from(until),
            caller.request_id(),
        ))
    }

    async fn exchange_public_token(
        &self,
        _: &Caller,
        _: ExchangePublicToken,
    ) -> Result<ExchangePublicTokenResponse, Error> {
        Err(not_found())
    }

    async fn item(&self, _: &Caller, _: GetItem) -> Result<GetItemResponse, Error> {
        Err(not_found())
    }

    async fn remove_item(
        &self,
        caller: &Caller,
        request: RemoveItem,
    ) -> Result<Acknowledged, Error> {
        let removed = self.state().items.remove(request.access_token.expose());
        removed.ok_or_else(Error::invalid_access_token)?;
        Ok(Acknowledged::new(caller.request_id()))
    }

    async fn update_webhook(
        &self,
        _: &Caller,
        _: UpdateWebhook,
    ) -> Result<UpdateWebhookResponse, Error> {
        Err(not_found())
    }

    async fn invalidate_token(
        &self,
        _: &Caller,
        _: InvalidateToken,
    ) -> Result<InvalidateTokenResponse, Error> {
        Err(not_found())
    }

    async fn verification_key(
        &self,
        caller: &Caller,
        request: GetVerificationKey,
    ) -> Result<GetVerificationKeyResponse, Error> {
        let key = self.signer.verification_key(&request.key_id, self.clock.now());
        let key = key.ok_or_else(not_found)?;
        Ok(GetVerificationKeyResponse::new(key, caller.request_id()))
    }
}

/// A manual clock with short delays.
#[derive(Clone, Debug)]
pub(crate) struct FastClock(pub(crate) ManualClock);

#[async_trait]
impl Clock for FastClock {
    fn now(&self) -> DateTime<Utc> {
        self.0.now()
    }

    fn elapsed(&self) -> Duration {
        (self.0.now() - DateTime::UNIX_EPOCH).to_std().unwrap()
    }

    async fn sleep(&self, time: Duration) {
        // Longer delays are time limits of whole requests, which must not end first.
        pause(if time < Duration::from_secs(20) { Duration::from_millis(5) } else { time }).await;
    }
}
