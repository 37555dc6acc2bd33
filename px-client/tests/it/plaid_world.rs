//! Plaid in this process, as a partner sees it, behind a network that may fail.

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use px_client::PlaidClient;
use px_core::{
    Clock as _, HttpLimits, HttpTransport, InProcessTransport, SystemClock, TransportError,
    TransportErrorKind,
};
use px_server::{
    clients::{Client, MemoryClients},
    plaid::{Caller, Error, Plaid, PlaidService},
};
use px_types::{
    AccessToken, ActivityId, ApplicationId, ClientSecret, Date, ItemAccessToken, LinkToken,
    Timestamp, UserId,
    model::{
        activity::{Activity, ActivityState, ActivityType},
        application::ConnectedApplication,
        application_details::Application,
        last_data_access_times::LastDataAccessTimes,
        plaid_error::PlaidErrorType,
        scopes::Scopes,
    },
    plaid::*,
};
use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

pub(crate) const SECRET: &str = "client-s3cret-of-the-bank";

/// A notification of one account or token that Plaid accepted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Notified {
    /// Number of the call, counted over all calls.
    pub(crate) call: u64,
    pub(crate) token: String,
    pub(crate) account: String,
    /// The event or action; or the time since which there are new transactions.
    pub(crate) what: String,
}

/// An Item and the applications of its user.
#[derive(Clone, Default)]
pub(crate) struct Shared {
    pub(crate) applications: Vec<ConnectedApplication>,
    pub(crate) last_access: Vec<LastDataAccessTimes>,
}

/// The state of Plaid.
#[derive(Default)]
pub(crate) struct State {
    /// Tokens that entries of notifications may name.
    pub(crate) known: HashSet<String>,
    pub(crate) notified: Vec<Notified>,
    /// The sizes of the accepted batches.
    pub(crate) batches: Vec<usize>,
    /// Whether a refusal names the entry.
    pub(crate) silent: bool,
    pub(crate) items: BTreeMap<UserId, Shared>,
    /// The user of each token.
    pub(crate) tokens: BTreeMap<String, UserId>,
    pub(crate) imports: usize,
    pub(crate) unlinks: usize,
    /// The bank's tokens that were used for imports.
    pub(crate) shown: Vec<AccessToken>,
    /// The requests for link tokens.
    pub(crate) links: Vec<CreateLinkToken>,
}

impl State {
    /// Ends an Item and its tokens.
    fn forget(&mut self, user: &UserId) {
        self.items.remove(user);
        self.tokens.retain(|_, owner| owner != user);
    }
}

/// The effect of the network on a request.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    Arrives,
    /// The request arrives, but its response does not.
    AnswerIsLost,
    NotConnected,
    /// A response from something in front of Plaid: status, headers, body.
    Response(u16, &'static [(&'static str, &'static str)], &'static str),
    Slow(Duration),
}

type Network = dyn Fn(u64, &str) -> Fate + Send + Sync;

/// Plaid and the network in front of it.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) calls: Arc<AtomicU64>,
    network: Arc<Mutex<Arc<Network>>>,
    service: InProcessTransport<PlaidService>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let bank = Client::new("bank".parse().unwrap(), "Bank", [""; 0]);
        let clients = MemoryClients::new().with(bank, &ClientSecret::new(SECRET)).unwrap();
        let service =
            PlaidService::builder(Side(state.clone())).clients(Arc::new(clients)).build().unwrap();
        let network: Arc<Network> = Arc::new(|_, _| Fate::Arrives);
        Self {
            state,
            calls: Arc::default(),
            network: Arc::new(Mutex::new(network)),
            service: InProcessTransport::new(service),
        }
    }

    pub(crate) fn client(&self) -> PlaidClient {
        self.client_with(SECRET)
    }

    pub(crate) fn client_with(&self, secret: &str) -> PlaidClient {
        PlaidClient::builder("https://plaid.test", self.clone())
            .client("bank".parse().unwrap(), ClientSecret::new(secret))
            .clock(Arc::new(SystemClock::starting_at(now())))
            .random(Arc::new(px_core::SeededRandom::new(1)))
            .build()
            .unwrap()
    }

    /// Sets the effect of the network by the number of a request, counted from 0, and its path.
    pub(crate) fn network(&self, fate: impl Fn(u64, &str) -> Fate + Send + Sync + 'static) {
        *self.network.lock().unwrap() = Arc::new(fate);
    }

    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap())
    }

    /// Adds tokens that Plaid knows.
    pub(crate) fn knows(&self, tokens: impl IntoIterator<Item = impl Into<String>>) {
        self.with(|state| state.known.extend(tokens.into_iter().map(Into::into)));
    }

    /// Connects an application of a user at Plaid, at a minute of the world's first hour.
    pub(crate) fn links(&self, user: &UserId, application: &ApplicationId, minute: u32) {
        let at: Timestamp = format!("2024-05-06T11:{minute:02}:00Z").parse().unwrap();
        let name = format!("The {application}");
        let one = ConnectedApplication::new(application.clone(), name, at);
        self.with(|state| state.items.entry(user.clone()).or_default().applications.push(one));
    }

    pub(crate) fn notified(&self) -> Vec<Notified> {
        self.with(|state| state.notified.clone())
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }
}

pub(crate) fn now() -> chrono::DateTime<chrono::Utc> {
    "2024-05-06T12:00:00Z".parse().unwrap()
}

pub(crate) async fn sleep(time: Duration) {
    SystemClock::new().sleep(time).await;
}

#[async_trait]
impl HttpTransport for World {
    async fn send(
        &self,
        request: Request<Bytes>,
        limits: &HttpLimits,
    ) -> Result<Response<Bytes>, TransportError> {
        let network = self.network.lock().unwrap().clone();
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        let path = request.uri().path().to_owned();
        match network(number, &path) {
            Fate::Arrives => self.service.send(request, limits).await,
            Fate::AnswerIsLost => {
                self.service.send(request, limits).await?;
                Err(TransportError::new(TransportErrorKind::Truncated, "the response was cut off"))
            }
            Fate::NotConnected => {
                Err(TransportError::new(TransportErrorKind::Connect, "connection refused"))
            }
            Fate::Response(status, headers, body) => {
                let mut response = Response::builder().status(status);
                for (name, value) in headers {
                    response = response.header(*name, *value);
                }
                Ok(response.body(Bytes::from_static(body.as_bytes())).unwrap())
            }
            Fate::Slow(time) => {
                sleep(time).await;
                self.service.send(request, limits).await
            }
        }
    }
}

/// Plaid's side, implemented with `px-server`.
struct Side(Arc<Mutex<State>>);

impl Side {
    fn take(
        &self,
        caller: &Caller,
        entries: impl Iterator<Item = (ItemAccessToken, String, String)>,
    ) -> Result<Acknowledged, Error> {
        let mut state = self.0.lock().unwrap();
        let entries: Vec<_> = entries.collect();
        for (index, (token, ..)) in entries.iter().enumerate() {
            if !state.known.contains(token.expose()) {
                let text = match state.silent {
                    true => "an entry is not right; nothing was updated".into(),
                    false => format!("notifications[{index}].access_token names no Item"),
                };
                let kind = PlaidErrorType::InvalidInput;
                return Err(Error::new(kind, "INVALID_ACCESS_TOKEN", text));
            }
        }
        let call = state.batches.len() as u64;
        state.batches.push(entries.len());
        state.notified.extend(entries.into_iter().map(|(token, account, what)| Notified {
            call,
            token: token.expose().to_owned(),
            account,
            what,
        }));
        Ok(Acknowledged::new(caller.request_id()))
    }

    fn item<T>(
        &self,
        token: &ItemAccessToken,
        work: impl FnOnce(&UserId, &mut Shared) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut state = self.0.lock().unwrap();
        let user = state.tokens.get(token.expose()).cloned();
        let user = user.ok_or_else(Error::invalid_access_token)?;
        let shared = state.items.get_mut(&user).ok_or_else(Error::invalid_access_token)?;
        work(&user, shared)
    }
}

fn not_connected() -> Error {
    Error::invalid_field("application_id is not connected to this Item")
}

fn not_here<T>() -> Result<T, Error> {
    Err(Error::internal("no test requests it"))
}

#[async_trait]
impl Plaid for Side {
    async fn notify_transactions(
        &self,
        caller: &Caller,
        request: NewTransactionsNotification,
    ) -> Result<Acknowledged, Error> {
        let since = request.new_since.to_string();
        let entries = request.notifications.into_vec().into_iter();
        let entry = |one: TransactionsNotificationEntry| {
            (one.access_token, one.account_id.to_string(), since.clone())
        };
        self.take(caller, entries.map(entry))
    }

    async fn notify_accounts(
        &self,
        caller: &Caller,
        request: AccountsNotification,
    ) -> Result<Acknowledged, Error> {
        let entries = request.notifications.into_vec().into_iter();
        let entry = |one: AccountsNotificationEntry| {
            (one.access_token, one.account_id.to_string(), one.event.as_str().to_owned())
        };
        self.take(caller, entries.map(entry))
    }

    async fn notify_tokens(
        &self,
        caller: &Caller,
        request: TokensNotification,
    ) -> Result<Acknowledged, Error> {
        let entries = request.notifications.into_vec().into_iter();
        let entry = |one: TokensNotificationEntry| {
            (one.access_token, String::new(), one.action.as_str().to_owned())
        };
        self.take(caller, entries.map(entry))
    }

    async fn import(
        &self,
        caller: &Caller,
        request: ImportItem,
    ) -> Result<ImportItemResponse, Error> {
        let mut state = self.0.lock().unwrap();
        state.imports += 1;
        // Every import ends the partner's previous token.
        let user = &request.user_auth.user_id;
        state.shown.push(request.user_auth.auth_token.clone());
        let ended: Vec<_> = state
            .tokens
            .iter()
            .filter(|(_, owner)| *owner == user)
            .map(|(t, _)| t.clone())
            .collect();
        for token in ended {
            state.tokens.remove(&token);
            state.known.remove(&token);
        }
        let token = format!("access-{}-{}", request.user_auth.user_id, state.imports);
        state.items.entry(request.user_auth.user_id.clone()).or_default();
        state.tokens.insert(token.clone(), request.user_auth.user_id);
        state.known.insert(token.clone());
        Ok(ImportItemResponse::new(ItemAccessToken::new(token), caller.request_id()))
    }

    async fn list_applications(
        &self,
        caller: &Caller,
        request: ListApplications,
    ) -> Result<ListApplicationsResponse, Error> {
        self.item(&request.access_token, |_, shared| {
            Ok(ListApplicationsResponse::new(shared.applications.clone(), caller.request_id()))
        })
    }

    async fn unlink_application(
        &self,
        caller: &Caller,
        request: UnlinkApplication,
    ) -> Result<Acknowledged, Error> {
        self.0.lock().unwrap().unlinks += 1;
        let (user, last) = self.item(&request.access_token, |user, shared| {
            let before = shared.applications.len();
            shared.applications.retain(|one| one.application_id != request.application_id);
            match shared.applications.len() {
                after if after == before => Err(not_connected()),
                after => Ok((user.clone(), after == 0)),
            }
        })?;
        if last {
            // The Item is removed with its last application.
            self.0.lock().unwrap().forget(&user);
        }
        Ok(Acknowledged::new(caller.request_id()))
    }

    /// A Plaid that treats scopes as a change: missing members stay as they are.
    async fn update_scopes(
        &self,
        caller: &Caller,
        request: UpdateScopes,
    ) -> Result<Acknowledged, Error> {
        assert_eq!(request.context, ScopesContext::Portal);
        self.item(&request.access_token, |_, shared| {
            let mut all = shared.applications.iter_mut();
            let one = all.find(|one| one.application_id == request.application_id);
            let scopes = one.ok_or_else(not_connected)?.scopes.get_or_insert_with(Scopes::new);
            for access in request.scopes.accounts {
                scopes.accounts.retain(|known| known.unique_id != access.unique_id);
                scopes.accounts.push(access);
            }
            if let Some(products) = request.scopes.product_access {
                scopes.product_access = Some(products);
            }
            scopes.new_accounts = request.scopes.new_accounts.or(scopes.new_accounts);
            Ok(Acknowledged::new(caller.request_id()))
        })
    }

    async fn list_activity(
        &self,
        caller: &Caller,
        request: ListActivity,
    ) -> Result<ListActivityResponse, Error> {
        let from: u64 = request
            .cursor
            .as_deref()
            .unwrap_or("0")
            .parse()
            .map_err(|_| Error::invalid_field("cursor is not one of this API"))?;
        let to = from + request.count.unwrap_or(MAX_ACTIVITY_COUNT).min(3);
        self.item(&request.access_token, |user, shared| {
            let activity = |n: u64| {
                let date = Date::from_ymd(2024, 5, 6).unwrap();
                let id: ActivityId = format!("{user}-{n}").parse().unwrap();
                let mut activity = Activity::new(
                    ActivityType::ItemUpdate,
                    date,
                    id,
                    "app-1",
                    ActivityState::Success,
                );
                activity.target_application_id = Some(format!("app-{n}").parse().unwrap());
                activity
            };
            let mut page = ListActivityResponse::new(
                (from..to.min(5)).map(activity).collect::<Vec<_>>(),
                shared.last_access.clone(),
                caller.request_id(),
            );
            page.cursor = (to < 5).then(|| to.to_string());
            Ok(page)
        })
    }

    async fn application(
        &self,
        caller: &Caller,
        request: GetApplication,
    ) -> Result<GetApplicationResponse, Error> {
        let name = format!("Registered {}", request.application_id);
        let application = Application::new(request.application_id, name);
        Ok(GetApplicationResponse::new(application, caller.request_id()))
    }

    async fn create_link_token(
        &self,
        caller: &Caller,
        request: CreateLinkToken,
    ) -> Result<CreateLinkTokenResponse, Error> {
        let token = request.access_token.clone().ok_or_else(not_connected)?;
        self.item(&token, |_, _| Ok(()))?;
        self.0.lock().unwrap().links.push(request);
        let expiration: Timestamp = "2024-05-06T12:30:00Z".parse().unwrap();
        Ok(CreateLinkTokenResponse::new(LinkToken::new("link-1"), expiration, caller.request_id()))
    }

    async fn exchange_public_token(
        &self,
        _: &Caller,
        _: ExchangePublicToken,
    ) -> Result<ExchangePublicTokenResponse, Error> {
        not_here()
    }

    async fn item(&self, _: &Caller, _: GetItem) -> Result<GetItemResponse, Error> {
        not_here()
    }

    async fn remove_item(
        &self,
        caller: &Caller,
        request: RemoveItem,
    ) -> Result<Acknowledged, Error> {
        let user = self.item(&request.access_token, |user, _| Ok(user.clone()))?;
        self.0.lock().unwrap().forget(&user);
        Ok(Acknowledged::new(caller.request_id()))
    }

    async fn update_webhook(
        &self,
        _: &Caller,
        _: UpdateWebhook,
    ) -> Result<UpdateWebhookResponse, Error> {
        not_here()
    }

    async fn invalidate_token(
        &self,
        _: &Caller,
        _: InvalidateToken,
    ) -> Result<InvalidateTokenResponse, Error> {
        not_here()
    }

    async fn verification_key(
        &self,
        _: &Caller,
        _: GetVerificationKey,
    ) -> Result<GetVerificationKeyResponse, Error> {
        not_here()
    }
}
