//! An example of an application with a website: it opens Link, reads data and receives webhooks.
//!
//! It is as small as possible and serves one household, which signs in with a password that the
//! program prints. It shows nothing before the sign-in, accepts a return from Link only in the
//! browser that was sent there, and accepts webhooks only with a valid signature. Both only cause a
//! read. It uses Plaid like any other client.

mod view;

use super::{
    config::Application,
    web::{self, Form},
};
use crate::PLAID_NAME;
use axum::{
    Router,
    extract::{DefaultBodyLimit, RawQuery, State},
    response::Response,
    routing::{get, post},
};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http::{Extensions, HeaderMap, Request, StatusCode, header};
use lru::LruCache;
use px_client::PlaidClient;
use px_core::{Clock, Digest, HttpLimits, HttpTransport, Random, digest::constant_time_eq, random};
use px_server::{
    guard::CallerAddr,
    webhook::{KeySourceFn, Verifier},
};
use px_types::{
    ItemAccessToken, ItemId, LinkToken, PublicToken,
    model::{
        account::Account, link_token_user::LinkTokenUser, plaid_error::PlaidError,
        transaction::Transaction,
    },
    plaid::{CreateLinkToken, ExchangePublicToken, GetItem, GetVerificationKey, RemoveItem},
    webhook::{VERIFICATION_HEADER, Webhook, WebhookEvent},
};
use serde::Deserialize;
use serde_json::json;
use std::{
    collections::VecDeque,
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

const STYLE: &str = include_str!("example_app/style.css");
/// Maximum number of webhooks on the page. Equal successive ones are listed once.
const MAX_LISTED_WEBHOOKS: usize = 12;
/// Lifetime of a session, in which the browser may be away at Plaid and its bank.
const SESSION_LIFETIME: TimeDelta = TimeDelta::hours(4);
/// Maximum number of sessions; the oldest is evicted first. Only the right password begins one.
const MAX_SESSIONS: NonZeroUsize = NonZeroUsize::new(1_000).unwrap();

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The application's access to Plaid.
#[derive(Clone)]
pub struct Plaid {
    /// The base URL of the API.
    pub api: String,
    /// The base URL of the Link page, for browsers.
    pub link: String,
    /// The HTTP transport.
    pub transport: Arc<dyn HttpTransport>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The source of cookie secrets.
    pub random: Arc<dyn Random>,
}

impl fmt::Debug for Plaid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plaid").field("api", &self.api).finish_non_exhaustive()
    }
}

/// An example application. Cheap to clone.
#[derive(Clone)]
pub struct ExampleApp(Arc<AppState>);

struct AppState {
    app: Application,
    /// The path of the application on its host: "" or "/tax".
    path: String,
    plaid: Plaid,
    client: PlaidClient,
    verifier: Verifier,
    password: String,
    /// Start of each session, by the digest of its cookie's secret.
    sessions: Mutex<LruCache<[u8; 32], DateTime<Utc>>>,
    data: Mutex<AppData>,
}

/// A signed-in browser.
struct Session {
    /// The secret of its cookie.
    secret: String,
    /// The link token with which the browser was sent to Plaid; empty before that.
    link_token: String,
}

impl Session {
    /// Returns the CSRF token of its forms. It is derived from the cookie's secret.
    fn csrf(&self) -> String {
        Digest::of(format!("form {}", self.secret)).to_string()
    }
}

#[derive(Default)]
struct AppData {
    connected: Vec<ConnectedBank>,
    webhooks: VecDeque<String>,
}

/// A bank that the household connected.
#[derive(Clone, Debug)]
struct ConnectedBank {
    item_id: ItemId,
    access_token: ItemAccessToken,
    /// The name of the bank.
    bank: Option<String>,
    /// Whether the connection was made from the bank's site.
    from_bank: bool,
}

/// The data of a connected bank on the page.
struct BankView {
    item_id: ItemId,
    bank: Option<String>,
    from_bank: bool,
    accounts: Result<Vec<Account>, PlaidError>,
    transactions: Vec<Transaction>,
}

impl fmt::Debug for ExampleApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExampleApp").field("app", &self.0.app.id).finish_non_exhaustive()
    }
}

impl ExampleApp {
    /// Creates the site of a registered application. Its household signs in with `password`.
    ///
    /// # Errors
    /// If Plaid's URL is invalid.
    pub fn new(
        app: Application,
        plaid: Plaid,
        password: impl Into<String>,
    ) -> Result<Self, px_client::Error> {
        let client = PlaidClient::builder(plaid.api.clone(), plaid.transport.clone())
            .client(app.client_id.clone(), app.secret.clone())
            .clock(plaid.clock.clone())
            .build()?;
        let published = client.clone();
        let keys = KeySourceFn::new(move |kid| {
            let client = published.clone();
            async move {
                match client.verification_key(GetVerificationKey::new(kid)).await {
                    Ok(response) => Ok(Some(response.key)),
                    // Plaid understood the request and has no such key.
                    Err(error) if error.status() == Some(400) => Ok(None),
                    Err(error) => Err(error),
                }
            }
        });
        let verifier = Verifier::new(Arc::new(keys))
            .application(app.client_id.clone())
            .clock(plaid.clock.clone());
        let path = app.url.as_deref().and_then(|url| url::Url::parse(url).ok());
        let path = path.map(|url| url.path().trim_end_matches('/').to_owned()).unwrap_or_default();
        let (password, data) = (password.into(), Mutex::default());
        let sessions = Mutex::new(LruCache::new(MAX_SESSIONS));
        let inner = AppState { app, path, plaid, client, verifier, password, sessions, data };
        Ok(Self(Arc::new(inner)))
    }

    /// Returns the page and the webhook endpoint.
    pub fn router(&self) -> Router {
        let at = |path: &str| format!("{}{path}", self.0.path);
        let home = if self.0.path.is_empty() { "/".to_owned() } else { self.0.path.clone() };
        Router::new()
            .route(&home, get(show))
            .route(&at("/enter"), post(enter).get(to_home))
            .route(&at("/connect"), post(connect))
            .route(&at("/linked"), get(linked))
            .route(&at("/disconnect"), post(disconnect))
            .route(&at("/webhooks"), post(receive))
            .route(&at("/style.css"), get(async || web::file("text/css; charset=utf-8", STYLE)))
            .layer(DefaultBodyLimit::max(web::MAX_FORM_BYTES))
            .with_state(self.clone())
    }

    fn data(&self) -> MutexGuard<'_, AppData> {
        // Each change is complete before anything can panic, so a poisoned lock is sound.
        self.0.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn home(&self) -> String {
        if self.0.path.is_empty() { "/".to_owned() } else { self.0.path.clone() }
    }

    fn cookie(&self) -> String {
        format!("{}-session", self.0.app.id)
    }

    fn sessions(&self) -> MutexGuard<'_, LruCache<[u8; 32], DateTime<Utc>>> {
        self.0.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the session of a browser that has signed in. Its cookie holds the session's secret and,
    /// after a dot, the link token with which the browser was sent to Plaid.
    fn session(&self, headers: &HeaderMap) -> Option<Session> {
        let cookie = web::cookie_of(headers, &self.cookie())?;
        let (secret, link_token) = cookie.split_once('.')?;
        let began = self.sessions().get(Digest::of(secret).as_bytes()).copied()?;
        let is_valid = self.0.plaid.clock.now() - began < SESSION_LIFETIME;
        let (secret, link_token) = (secret.to_owned(), link_token.to_owned());
        is_valid.then_some(Session { secret, link_token })
    }

    fn with_session(&self, response: Response, session: &Session) -> Response {
        let value = format!("{}.{}", session.secret, session.link_token);
        let seconds = SESSION_LIFETIME.num_seconds();
        web::with_cookie(response, &web::cookie(&self.cookie(), &value, seconds, false))
    }

    fn sign_in_page(&self, status: StatusCode, wrong: bool) -> Response {
        let link = self.0.plaid.link.as_str();
        web::page(status, view::sign_in(&self.0.app, &self.0.path, wrong, link), [])
    }

    /// Sends a request to a developer endpoint.
    async fn read<T: for<'de> Deserialize<'de>>(
        &self,
        path: &str,
        body: serde_json::Value,
    ) -> Result<Result<T, PlaidError>, Failure> {
        let request = Request::post(format!("{}{path}", self.0.plaid.api))
            .header(header::CONTENT_TYPE, "application/json")
            .header("PLAID-CLIENT-ID", self.0.app.client_id.as_str())
            .header("PLAID-SECRET", self.0.app.secret.expose())
            .body(Bytes::from(body.to_string()))?;
        let response = self.0.plaid.transport.send(request, &HttpLimits::default()).await?;
        if response.status() == StatusCode::OK {
            return Ok(Ok(px_types::decode(response.body())?));
        }
        Ok(Err(px_types::decode(response.body())?))
    }

    async fn view_of(&self, connected: ConnectedBank) -> Result<BankView, Failure> {
        #[derive(Deserialize)]
        struct Accounts {
            accounts: Vec<Account>,
        }
        #[derive(Deserialize)]
        struct Changes {
            added: Vec<Transaction>,
        }
        let token = connected.access_token.expose();
        let accounts: Result<Accounts, _> =
            self.read("/accounts/get", json!({ "access_token": token })).await?;
        let request = json!({ "access_token": token, "count": 500 });
        let changes: Result<Changes, PlaidError> = self.read("/transactions/sync", request).await?;
        let mut transactions = changes.map(|changes| changes.added).unwrap_or_default();
        transactions.sort_by_key(|row| std::cmp::Reverse(row.date()));
        transactions.truncate(8);
        Ok(BankView {
            item_id: connected.item_id,
            bank: connected.bank,
            from_bank: connected.from_bank,
            accounts: accounts.map(|response| response.accounts),
            transactions,
        })
    }

    /// Exchanges a public token for an access token.
    async fn exchange(&self, token: PublicToken, from_bank: bool) -> Result<(), px_client::Error> {
        let response = self.0.client.exchange_public_token(ExchangePublicToken::new(token)).await?;
        // The page works without the name of the bank.
        let item = self.0.client.item(GetItem::new(response.access_token.clone())).await;
        let bank = item.ok().and_then(|response| response.item.institution_name);
        let mut data = self.data();
        data.connected.retain(|connected| connected.item_id != response.item_id);
        data.connected.push(ConnectedBank {
            item_id: response.item_id,
            access_token: response.access_token,
            bank,
            from_bank,
        });
        Ok(())
    }

    fn failed(&self, error: &(dyn std::error::Error + 'static)) -> Response {
        tracing::error!(error, "the example application failed");
        let what = format!("{PLAID_NAME} cannot be reached at the moment. Please try again.");
        web::page(StatusCode::BAD_GATEWAY, view::error_page(&self.0.app, &self.0.path, &what), [])
    }
}

async fn show(State(app): State<ExampleApp>, headers: HeaderMap) -> Response {
    let Some(session) = app.session(&headers) else {
        return app.sign_in_page(StatusCode::OK, false);
    };
    let (connected, webhooks) = {
        let data = app.data();
        (data.connected.clone(), data.webhooks.iter().cloned().collect::<Vec<_>>())
    };
    let mut shown = Vec::new();
    for connected in connected {
        match app.view_of(connected).await {
            Ok(one) => shown.push(one),
            Err(error) => return app.failed(&*error),
        }
    }
    let (csrf, link) = (session.csrf(), app.0.plaid.link.as_str());
    let page = view::home(&app.0.app, &app.0.path, &csrf, &shown, &webhooks, link);
    web::page(StatusCode::OK, page, [link])
}

/// Signs the household in. The password is random, so attempts need no limit.
async fn enter(State(app): State<ExampleApp>, headers: HeaderMap, body: Bytes) -> Response {
    let form = Form::read(&headers, &body);
    let given = form.as_ref().map(|form| form.one("password").trim()).unwrap_or_default();
    let is_right = constant_time_eq(given.as_bytes(), app.0.password.as_bytes());
    if !is_right || web::is_cross_site(&headers) {
        return app.sign_in_page(StatusCode::FORBIDDEN, true);
    }
    let secret = random::secret(&*app.0.plaid.random);
    app.sessions().put(*Digest::of(&secret).as_bytes(), app.0.plaid.clock.now());
    let session = Session { secret, link_token: String::new() };
    app.with_session(web::redirect(&app.home()), &session)
}

async fn to_home(State(app): State<ExampleApp>) -> Response {
    web::redirect(&app.home())
}

/// Returns the session and the fields of a form of the household's own pages. Returns `None` for
/// any other form.
fn own_form(app: &ExampleApp, headers: &HeaderMap, body: &[u8]) -> Option<(Session, Form)> {
    let (session, form) = (app.session(headers)?, Form::read(headers, body)?);
    let is_own = constant_time_eq(session.csrf().as_bytes(), form.one("csrf").as_bytes());
    is_own.then_some((session, form))
}

/// Sends the household to Link. The cookie stores the link token.
async fn connect(State(app): State<ExampleApp>, headers: HeaderMap, body: Bytes) -> Response {
    let Some((mut session, _)) = own_form(&app, &headers, &body) else {
        return web::redirect(&app.home());
    };
    let user = LinkTokenUser::new("the-household");
    let mut request =
        CreateLinkToken::new(app.0.app.name.clone(), "en", vec!["US".to_owned()], user);
    request.products = app.0.app.products.clone();
    request.redirect_uri = app.0.app.redirect_uris.first().cloned();
    match app.0.client.create_link_token(request).await {
        Ok(created) => {
            let token: LinkToken = created.link_token;
            session.link_token = token.expose().to_owned();
            let to = url::form_urlencoded::Serializer::new(format!("{}/link?", app.0.plaid.link))
                .append_pair("token", token.expose())
                .finish();
            app.with_session(web::redirect(&to), &session)
        }
        Err(error) => app.failed(&error),
    }
}

/// Handles the return from Link.
async fn linked(
    State(app): State<ExampleApp>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let query = query.unwrap_or_default();
    let field = |name: &str| {
        let found = url::form_urlencoded::parse(query.as_bytes()).find(|(field, _)| field == name);
        found.map(|(_, value)| value.into_owned())
    };
    // Accepted only in the browser that was sent there with this token. Otherwise an attacker could
    // connect a bank of his own to this household.
    let Some(session) = app.session(&headers) else { return web::redirect(&app.home()) };
    let sent = &session.link_token;
    let came = field("link_token").unwrap_or_default();
    let same = constant_time_eq(sent.as_bytes(), came.as_bytes());
    if let Some(token) = field("public_token").filter(|_| same && !sent.is_empty())
        && let Err(error) = app.exchange(PublicToken::new(token), false).await
    {
        return app.failed(&error);
    }
    web::redirect(&app.home())
}

async fn disconnect(State(app): State<ExampleApp>, headers: HeaderMap, body: Bytes) -> Response {
    let Some((_, form)) = own_form(&app, &headers, &body) else {
        return web::redirect(&app.home());
    };
    let removed = {
        let mut data = app.data();
        let found =
            data.connected.iter().position(|one| one.item_id.as_str() == form.one("item_id"));
        found.map(|n| data.connected.remove(n))
    };
    if let Some(removed) = removed
        && let Err(error) = app.0.client.remove_item(RemoveItem::new(removed.access_token)).await
        && error.plaid_error_code() != Some("INVALID_ACCESS_TOKEN")
    {
        return app.failed(&error);
    }
    web::redirect(&app.home())
}

/// Receives a webhook: checks and lists it. A webhook is only a hint to read, except that a public
/// token in it is exchanged.
async fn receive(
    State(app): State<ExampleApp>,
    extensions: Extensions,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let address = CallerAddr::of(&extensions);
    let signature = headers.get(VERIFICATION_HEADER).and_then(|value| value.to_str().ok());
    let verified = app.0.verifier.verify(signature.unwrap_or_default(), &body, address).await;
    if let Err(error) = verified {
        return StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
    }
    // A webhook of a later version needs no action.
    let Ok(webhook) = px_types::decode::<Webhook>(&body) else { return StatusCode::OK };
    let line = view::describe(&webhook.event);
    {
        let mut data = app.data();
        if data.webhooks.front() != Some(&line) {
            data.webhooks.push_front(line);
        }
        data.webhooks.truncate(MAX_LISTED_WEBHOOKS);
    }
    if let WebhookEvent::ItemAddResult(added) = webhook.event
        && let Err(error) = app.exchange(added.public_token, true).await
    {
        tracing::warn!(%error, "a public token of a webhook could not be exchanged");
        // Plaid repeats the webhook with the same token. A used token is of no further use.
        let is_used = error.plaid_error_code() == Some("INVALID_PUBLIC_TOKEN");
        return if is_used { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    }
    StatusCode::OK
}
