//! The bank's own site, behind the customer's login: accounts, and the connected apps.
//!
//! - `session`: who is signed in; `door`: signing in and out;
//! - `apps`: what the forms of the connected apps do; `live`: what tells an open page;
//! - `view`: what the pages look like. All of it works without a script; `/live.js` only brings
//!   an open page up to date.
//!
//! The data half of the connected apps is [`px_client::portal`]; what is here is HTML, sessions
//! and forms.

mod apps;
mod door;
mod live;
mod session;
mod view;

use crate::{
    ledger::{
        Ledger, LedgerError,
        read::{Begin, User, Window},
    },
    pages::{Form, LONGEST_FORM, redirect, with_request_id},
    plaid_side::Outward,
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
const LIVE: &str = include_str!("site/live.js");

/// The transactions on the first page, and how far back they are looked for.
const LATEST: u64 = 8;
const LOOK_BACK: u64 = 45;

/// A page.
type Html = Response<Bytes>;

/// The site. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Site(Arc<Inner>);

struct Inner {
    ledger: Ledger,
    outward: Option<Outward>,
    kit: Arc<CredentialsKit>,
    sealed: Arc<Visits>,
    sessions: Sessions,
    random: Arc<dyn Random>,
    /// Whether the bank is reached by https, so that cookies must be too.
    secure: bool,
    policy: HeaderValue,
    /// Ends what goes on for long: the open pages that listen.
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
        outward: Option<Outward>,
        issuer: &str,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, Error> {
        let origins = outward.iter().flat_map(Outward::origins);
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
        let inner = Inner { ledger, outward, kit, sealed, sessions, random, secure, policy, open };
        Ok(Self(Arc::new(inner)))
    }

    pub(crate) fn router(&self) -> Router {
        Router::new()
            .route("/", get(|| async { redirect("/home").map(axum::body::Body::from) }))
            .route("/login", get(enter).post(sign_in))
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
            .route("/live.js", get(|| async { file("text/javascript; charset=utf-8", LIVE) }))
            .layer(DefaultBodyLimit::max(LONGEST_FORM))
            .layer(middleware::from_fn_with_state(self.0.random.clone(), with_request_id))
            .with_state(self.clone())
    }

    /// Ends what goes on for long, so that the server can.
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

    fn entry_cookie(&self) -> String {
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

    /// Who is signed in.
    fn session(&self, headers: &HeaderMap) -> Option<Session> {
        self.0.sessions.find(cookie(headers, &self.session_cookie())?)
    }

    async fn user(&self, session: &Session) -> Result<User, Error> {
        let found = self.0.ledger.user(&session.user).await.map_err(failed)?;
        found.ok_or_else(|| Error::internal("a session of a user that the bank has not"))
    }

    /// `GET /home`
    async fn home(&self, session: &Session) -> Result<Html, Error> {
        let user = self.user(session).await?;
        let has = self.0.ledger.holdings(&user, |_| true).await.map_err(failed)?;
        let today = self.0.ledger.today().await.map_err(failed)?;
        let window = Window { start: today.minus_days(LOOK_BACK), end: today };
        let ledger = &self.0.ledger;
        let page = ledger.page(&user, |_| true, window, Begin::Offset(0), LATEST).await;
        let latest = page.map_err(failed)?.map(|page| page.transactions).unwrap_or_default();
        let identity = has.identities.iter().find(|one| one.id == user.identity_id);
        let frame = self.frame(session, view::Tab::Accounts).await?;
        let body = view::home::home(&frame, identity, &has.accounts, &latest, today);
        Ok(self.page(StatusCode::OK, body))
    }

    /// What every page of a session has around it.
    async fn frame<'s>(
        &self,
        session: &'s Session,
        tab: view::Tab,
    ) -> Result<view::Frame<'s>, Error> {
        let unread = match &self.0.outward {
            Some(outward) => {
                let notices = outward.portal().notices(&session.user, 100).await;
                notices.map_err(shared)?.iter().filter(|notice| !notice.read).count()
            }
            None => 0,
        };
        let said = self.0.sessions.said(session);
        Ok(view::Frame { session, tab, unread, said, apps: self.0.outward.is_some() })
    }
}

/// A cookie that the browser sent.
fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs =
        lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
}

fn failed(error: LedgerError) -> Error {
    Error::unavailable().with_source(error)
}

fn shared(error: PortalError) -> Error {
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

/// Where a sign-in goes on.
#[derive(Deserialize)]
struct Next {
    #[serde(default)]
    next: String,
}

/// A page of the log.
#[derive(Deserialize)]
struct PageOfLog {
    cursor: Option<String>,
}

async fn enter(
    State(site): State<Site>,
    headers: HeaderMap,
    Query(at): Query<Next>,
) -> AxumResponse {
    site.answer_with(site.enter(&headers, &at.next))
}

/// A form of the sign-in as it came: its headers, its connection and its body.
type Sent = (HeaderMap, Extensions, Bytes);

fn read((headers, extensions, body): Sent) -> (HeaderMap, SignInOrigin, Form) {
    let form = Form::read(&headers, &body).unwrap_or_default();
    (headers, steps::origin(&extensions), form)
}

async fn sign_in(State(site): State<Site>, sent: Sent) -> AxumResponse {
    let (headers, origin, form) = read(sent);
    site.answer_with(site.sign_in(&headers, &origin, &form).await)
}

async fn send_code(State(site): State<Site>, sent: Sent) -> AxumResponse {
    let (headers, origin, form) = read(sent);
    site.answer_with(site.send_code(&headers, &origin, &form).await)
}

async fn answer(State(site): State<Site>, sent: Sent) -> AxumResponse {
    let (headers, origin, form) = read(sent);
    site.answer_with(site.answer(&headers, &origin, &form).await)
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
    fn answer_with(&self, answer: Result<Html, Error>) -> AxumResponse {
        answer.unwrap_or_else(|error| self.failed(&error)).map(Into::into)
    }

    /// A page of whoever is signed in; the others are asked to sign in first.
    async fn behind_login(
        &self,
        headers: &HeaderMap,
        next: &str,
        page: impl AsyncFnOnce(&Session) -> Result<Html, Error>,
    ) -> AxumResponse {
        match self.session(headers) {
            Some(session) => self.answer_with(page(&session).await),
            None => redirect(&format!("/login?next={next}")).map(Into::into),
        }
    }

    /// A form of whoever is signed in, sent by a page of the session.
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
        if !session.sent(form.one("csrf")) {
            return self.page(StatusCode::FORBIDDEN, view::forged()).map(Into::into);
        }
        self.answer_with(act(&session, &form).await)
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
    Query(said): Query<apps::SaidByPlaid>,
) -> AxumResponse {
    site.behind_login(&headers, "/apps", async |session| Ok(site.back(session, &said).await)).await
}

async fn activity(
    State(site): State<Site>,
    headers: HeaderMap,
    Query(page): Query<PageOfLog>,
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
        // 204 tells an `EventSource` not to come again.
        None => site.page(StatusCode::NO_CONTENT, Markup::default()).map(Into::into),
    }
}
