//! The bank's website behind the customer's login: accounts, and the connected apps.
//!
//! - `session`: the sessions; `login`: signing in and out;
//! - `apps`: the pages and forms of the connected apps; `live`: the event stream of an open page;
//! - `view`: the HTML of the pages. The site works without a script; `/live.js` only updates an
//!   open page.
//!
//! The data of the connected apps comes from [`px_client::portal`]. This module has the HTML, the
//! sessions and the forms.

mod apps;
mod live;
mod login;
mod session;
mod view;

use crate::{
    ledger::{
        Ledger, LedgerError,
        read::{PageStart, User, Window},
    },
    pages::{Form, MAX_FORM_BYTES, redirect, with_request_id},
    plaid_side::PlaidGateway,
    sign_in::steps,
    text::safe_page,
};
use axum::{
    Router,
    extract::{DefaultBodyLimit, Path, Query, State},
    middleware,
    response::Response as AxumResponse,
    routing::{get, post},
};
use bytes::Bytes;
use chrono::TimeDelta;
use http::{Extensions, HeaderMap, HeaderValue, Response, StatusCode, header};
use maud::Markup;
use px_client::portal::PortalError;
use px_core::{Clock, Random};
use px_server::{
    Error,
    credentials::{CredentialsKit, SignInOrigin},
    visits::Visits,
};
use px_types::ApplicationId;
use serde::Deserialize;
use session::{Session, Sessions};
use std::{fmt, sync::Arc};
use tokio::sync::watch;

const STYLE: &str = include_str!("site/style.css");
const ICON: &str = include_str!("site/icon.svg");
const LIVE_SCRIPT: &str = include_str!("site/live.js");

/// Maximum number of transactions on the first page, and the number of days that they are from.
const LATEST_TRANSACTIONS: u64 = 8;
const LATEST_DAYS: u64 = 45;

/// An HTML response.
type Html = Response<Bytes>;

/// The bank's website. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Site(Arc<SiteState>);

struct SiteState {
    ledger: Ledger,
    gateway: Option<PlaidGateway>,
    kit: Arc<CredentialsKit>,
    sealed: Arc<Visits>,
    sessions: Sessions,
    random: Arc<dyn Random>,
    /// Whether the bank's URL is https, so that cookies need `Secure`.
    secure: bool,
    policy: HeaderValue,
    /// Set to `false` to end the event streams of open pages.
    open: watch::Sender<bool>,
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site").finish_non_exhaustive()
    }
}

impl Site {
    pub(crate) fn new(
        ledger: Ledger,
        kit: Arc<CredentialsKit>,
        sealed: Arc<Visits>,
        gateway: Option<PlaidGateway>,
        issuer: &str,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, Error> {
        let origins = gateway.iter().flat_map(PlaidGateway::origins);
        let origins: String = origins.map(|origin| format!(" {origin}")).collect();
        let policy = format!(
            "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
             img-src 'self'{origins}; form-action 'self'{origins}; frame-ancestors 'none'; \
             base-uri 'none'"
        );
        let policy = HeaderValue::try_from(policy).map_err(Error::internal)?;
        let secure = issuer.starts_with("https:");
        let sessions = Sessions::new(clock, random.clone());
        let open = watch::Sender::new(true);
        let inner =
            SiteState { ledger, gateway, kit, sealed, sessions, random, secure, policy, open };
        Ok(Self(Arc::new(inner)))
    }

    pub(crate) fn router(&self) -> Router {
        Router::new()
            .route("/", get(|| async { redirect("/home").map(axum::body::Body::from) }))
            .route("/login", get(login_page).post(sign_in))
            .route("/login/code", post(send_code).get(to_login))
            .route("/login/answer", post(answer).get(to_login))
            .route("/logout", post(sign_out).get(to_login))
            .route("/home", get(home))
            .route("/messages", get(messages))
            .route("/messages/read", post(read_messages).get(to_messages))
            .route("/apps", get(list))
            .route("/apps/app/{id}", get(change).post(set_scopes))
            .route("/apps/app/{id}/disconnect", get(confirm).post(disconnect))
            .route("/apps/connect", post(connect).get(to_apps))
            .route("/apps/connected", get(back))
            .route("/apps/activity", get(activity))
            .route("/apps/events", get(events))
            .route("/site.css", get(|| async { file("text/css; charset=utf-8", STYLE) }))
            .route("/icon.svg", get(|| async { file("image/svg+xml", ICON) }))
            .route(
                "/live.js",
                get(|| async { file("text/javascript; charset=utf-8", LIVE_SCRIPT) }),
            )
            .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
            .layer(middleware::from_fn_with_state(self.0.random.clone(), with_request_id))
            .with_state(self.clone())
    }

    /// Ends the event streams of open pages, so that the server can shut down.
    pub(crate) fn close(&self) {
        self.0.open.send_replace(false);
    }

    fn page(&self, status: StatusCode, body: Markup) -> Html {
        let mut response = Response::new(Bytes::from(safe_page(body.into_string())));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_SECURITY_POLICY, self.0.policy.clone());
        for (name, value) in [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CACHE_CONTROL, "no-store"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::X_FRAME_OPTIONS, "DENY"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }

    fn failed(&self, error: &Error) -> Html {
        tracing::error!(error = error as &dyn std::error::Error, "a page could not be shown");
        self.page(StatusCode::SERVICE_UNAVAILABLE, view::unavailable())
    }

    fn prefix(&self) -> &'static str {
        // `__Host-` binds a cookie to this host and to https, which plain http cannot have.
        if self.0.secure { "__Host-" } else { "" }
    }

    fn session_cookie(&self) -> String {
        format!("{}larkfield-session", self.prefix())
    }

    fn sign_in_cookie(&self) -> String {
        format!("{}larkfield-entry", self.prefix())
    }

    fn with_cookie(&self, mut page: Html, name: &str, secret: &str, age: TimeDelta) -> Html {
        let secure = if self.0.secure { "; Secure" } else { "" };
        let age = age.num_seconds();
        let cookie =
            format!("{name}={secret}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}");
        if let Ok(cookie) = HeaderValue::try_from(cookie) {
            page.headers_mut().append(header::SET_COOKIE, cookie);
        }
        page
    }

    fn without_cookie(&self, page: Html, name: &str) -> Html {
        self.with_cookie(page, name, "", TimeDelta::zero())
    }

    /// Returns the session of a request. Returns `None` if the user is not signed in.
    fn session(&self, headers: &HeaderMap) -> Option<Session> {
        self.0.sessions.find(cookie(headers, &self.session_cookie())?)
    }

    async fn user(&self, session: &Session) -> Result<User, Error> {
        let found = self.0.ledger.user(&session.user).await.map_err(ledger_error)?;
        found.ok_or_else(|| Error::internal("the user of a session does not exist"))
    }

    /// `GET /home`
    async fn home(&self, session: &Session) -> Result<Html, Error> {
        let user = self.user(session).await?;
        let data = self.0.ledger.holdings(&user, |_| true).await.map_err(ledger_error)?;
        let today = self.0.ledger.today().await.map_err(ledger_error)?;
        let window = Window { start: today.minus_days(LATEST_DAYS), end: today };
        let ledger = &self.0.ledger;
        let page =
            ledger.page(&user, |_| true, window, PageStart::Offset(0), LATEST_TRANSACTIONS).await;
        let latest = page.map_err(ledger_error)?.map(|page| page.transactions).unwrap_or_default();
        let identity = data.identities.iter().find(|one| one.id == user.identity_id);
        let frame = self.frame(session, view::Tab::Accounts).await?;
        let body = view::home::home(&frame, identity, &data.accounts, &latest, today);
        Ok(self.page(StatusCode::OK, body))
    }

    /// Returns the frame of every page of a session.
    async fn frame<'s>(
        &self,
        session: &'s Session,
        tab: view::Tab,
    ) -> Result<view::Frame<'s>, Error> {
        let unread = match &self.0.gateway {
            Some(gateway) => {
                let notices = gateway.portal().notices(&session.user, 100).await;
                notices.map_err(portal_error)?.iter().filter(|notice| !notice.read).count()
            }
            None => 0,
        };
        let flash = self.0.sessions.take_flash(session);
        Ok(view::Frame { session, tab, unread, flash, apps: self.0.gateway.is_some() })
    }
}

/// Returns the value of a cookie that the browser sent.
fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs =
        lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
}

fn ledger_error(error: LedgerError) -> Error {
    Error::unavailable().with_source(error)
}

fn portal_error(error: PortalError) -> Error {
    Error::unavailable().with_source(error)
}

fn file(
    kind: &'static str,
    text: &'static str,
) -> ([(header::HeaderName, &'static str); 3], &'static str) {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, text)
}

/// The query of the sign-in page: the page that follows the sign-in.
#[derive(Deserialize)]
struct LoginQuery {
    #[serde(default)]
    next: String,
}

/// The query of the activity log: the cursor of a page.
#[derive(Deserialize)]
struct ActivityQuery {
    cursor: Option<String>,
}

async fn login_page(
    State(site): State<Site>,
    headers: HeaderMap,
    Query(at): Query<LoginQuery>,
) -> AxumResponse {
    site.respond(site.login_page(&headers, &at.next))
}

/// A submitted sign-in form: headers, extensions and body.
type SubmittedForm = (HeaderMap, Extensions, Bytes);

fn read((headers, extensions, body): SubmittedForm) -> (HeaderMap, SignInOrigin, Form) {
    let form = Form::read(&headers, &body).unwrap_or_default();
    (headers, steps::origin(&extensions), form)
}

async fn sign_in(State(site): State<Site>, sent: SubmittedForm) -> AxumResponse {
    let (headers, origin, form) = read(sent);
    site.respond(site.sign_in(&headers, &origin, &form).await)
}

async fn send_code(State(site): State<Site>, sent: SubmittedForm) -> AxumResponse {
    let (headers, origin, form) = read(sent);
    site.respond(site.send_code(&headers, &origin, &form).await)
}

async fn answer(State(site): State<Site>, sent: SubmittedForm) -> AxumResponse {
    let (headers, origin, form) = read(sent);
    site.respond(site.answer(&headers, &origin, &form).await)
}

async fn sign_out(State(site): State<Site>, headers: HeaderMap, body: Bytes) -> AxumResponse {
    let form = Form::read(&headers, &body).unwrap_or_default();
    site.sign_out(&headers, &form).map(Into::into)
}

async fn to_login() -> AxumResponse {
    redirect("/login").map(Into::into)
}

async fn to_apps() -> AxumResponse {
    redirect("/apps").map(Into::into)
}

async fn to_messages() -> AxumResponse {
    redirect("/messages").map(Into::into)
}

impl Site {
    fn respond(&self, result: Result<Html, Error>) -> AxumResponse {
        result.unwrap_or_else(|error| self.failed(&error)).map(Into::into)
    }

    /// Responds with a page to a signed-in user. Redirects others to the sign-in page.
    async fn behind_login(
        &self,
        headers: &HeaderMap,
        next: &str,
        page: impl AsyncFnOnce(&Session) -> Result<Html, Error>,
    ) -> AxumResponse {
        match self.session(headers) {
            Some(session) => self.respond(page(&session).await),
            None => redirect(&format!("/login?next={next}")).map(Into::into),
        }
    }

    /// Processes a form that a signed-in user sent from a page of the session.
    async fn form_of_session(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        act: impl AsyncFnOnce(&Session, &Form) -> Result<Html, Error>,
    ) -> AxumResponse {
        let Some(session) = self.session(headers) else {
            return redirect("/login").map(Into::into);
        };
        let form = Form::read(headers, body).unwrap_or_default();
        if !session.is_own_form(form.one("csrf")) {
            return self.page(StatusCode::FORBIDDEN, view::forged()).map(Into::into);
        }
        self.respond(act(&session, &form).await)
    }
}

async fn home(State(site): State<Site>, headers: HeaderMap) -> AxumResponse {
    site.behind_login(&headers, "/home", async |session| site.home(session).await).await
}

async fn messages(State(site): State<Site>, headers: HeaderMap) -> AxumResponse {
    site.behind_login(&headers, "/messages", async |session| site.messages(session).await).await
}

async fn read_messages(State(site): State<Site>, headers: HeaderMap, body: Bytes) -> AxumResponse {
    site.form_of_session(&headers, &body, async |session, form| {
        site.read_messages(session, form).await
    })
    .await
}

async fn list(State(site): State<Site>, headers: HeaderMap) -> AxumResponse {
    site.behind_login(&headers, "/apps", async |session| site.list(session).await).await
}

async fn change(
    State(site): State<Site>,
    Path(id): Path<ApplicationId>,
    headers: HeaderMap,
) -> AxumResponse {
    site.behind_login(&headers, "/apps", async |session| site.change(session, &id).await).await
}

async fn set_scopes(
    State(site): State<Site>,
    Path(id): Path<ApplicationId>,
    headers: HeaderMap,
    body: Bytes,
) -> AxumResponse {
    site.form_of_session(&headers, &body, async |session, form| {
        site.set_scopes(session, &id, form).await
    })
    .await
}

async fn confirm(
    State(site): State<Site>,
    Path(id): Path<ApplicationId>,
    headers: HeaderMap,
) -> AxumResponse {
    site.behind_login(&headers, "/apps", async |session| site.confirm(session, &id).await).await
}

async fn disconnect(
    State(site): State<Site>,
    Path(id): Path<ApplicationId>,
    headers: HeaderMap,
    body: Bytes,
) -> AxumResponse {
    site.form_of_session(&headers, &body, async |session, _| site.disconnect(session, &id).await)
        .await
}

async fn connect(State(site): State<Site>, headers: HeaderMap, body: Bytes) -> AxumResponse {
    site.form_of_session(&headers, &body, async |session, form| site.connect(session, form).await)
        .await
}

async fn back(
    State(site): State<Site>,
    headers: HeaderMap,
    Query(query): Query<apps::ReturnQuery>,
) -> AxumResponse {
    site.behind_login(&headers, "/apps", async |session| Ok(site.back(session, &query).await)).await
}

async fn activity(
    State(site): State<Site>,
    headers: HeaderMap,
    Query(page): Query<ActivityQuery>,
) -> AxumResponse {
    let cursor = page.cursor.as_deref().filter(|cursor| cursor.len() <= 512);
    site.behind_login(&headers, "/apps/activity", async |session| {
        site.activity(session, cursor).await
    })
    .await
}

async fn events(State(site): State<Site>, headers: HeaderMap) -> AxumResponse {
    match site.session(&headers) {
        Some(session) => site.events(session),
        // An `EventSource` does not reconnect after a 204.
        None => site.page(StatusCode::NO_CONTENT, Markup::default()).map(Into::into),
    }
}
