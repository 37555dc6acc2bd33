//! The bank's own pages: sign-in, choice of accounts, consent. Plain forms, no script.
//!
//! `visit` keeps what happens between the pages, `view` draws them. The service has
//! checked the authorization request before a page is shown.

mod money;
mod view;
mod visit;

pub(crate) use money::readable;
pub(crate) use view::{CHECK, LOGO, WARNING, details, subtype};

use crate::{
    ledger::{Ledger, LedgerError},
    plaid_side::Outward,
    sign_in::{Attempt, Doors},
};
use async_trait::async_trait;
use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    middleware::{self, Next},
    response::Response as AxumResponse,
    routing::{get, post},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request::Parts};
use maud::Markup;
use px_core::{Clock, Random, random};
use px_server::{
    Error, PermittedAccounts,
    oauth::{AuthorizationRequest, AuthorizePages, OAuth, PageRefusal},
};
use px_types::AccountId;
use std::{collections::BTreeSet, fmt, sync::Arc};
use visit::{Answered, Found, Step, Visit, Visits};

/// The most bytes of a form.
pub(crate) const LONGEST_FORM: usize = 64 << 10;
const STYLE: &str = include_str!("pages/style.css");

/// The pages. Cheap to clone.
#[derive(Clone)]
pub struct Pages(Arc<Inner>);

struct Inner {
    oauth: OAuth,
    ledger: Ledger,
    doors: Arc<Doors>,
    visits: Visits,
    random: Arc<dyn Random>,
    outward: Option<Outward>,
    /// Whether the bank is reached by https, so that cookies must be too.
    secure: bool,
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages").finish_non_exhaustive()
    }
}

impl Pages {
    /// The pages of a bank.
    #[must_use]
    pub(crate) fn new(
        oauth: OAuth,
        ledger: Ledger,
        doors: Arc<Doors>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        outward: Option<Outward>,
    ) -> Self {
        let secure = oauth.issuer().starts_with("https:");
        let visits = Visits::new(clock, random.clone());
        Self(Arc::new(Inner { oauth, ledger, doors, visits, random, outward, secure }))
    }

    /// The routes to which the forms post, and the style sheet.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/sign-in", post(sign_in).get(no_entry))
            .route("/consent", post(consent).get(no_entry))
            .route("/style.css", get(style))
            .layer(DefaultBodyLimit::max(LONGEST_FORM))
            .layer(middleware::from_fn_with_state(self.0.random.clone(), with_request_id))
            .with_state(self.clone())
    }

    fn cookie_name(&self, visit: &str) -> String {
        // `__Host-` binds a cookie to this host and to https, which plain http cannot have.
        let prefix = if self.0.secure { "__Host-" } else { "" };
        format!("{prefix}larkfield-{visit}")
    }

    fn cookie(&self, visit: &str, secret: &str) -> String {
        let secure = if self.0.secure { "; Secure" } else { "" };
        let (name, age) = (self.cookie_name(visit), visit::LIFE.num_seconds());
        format!("{name}={secret}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}")
    }

    /// The visit that a form belongs to, if it comes from the page that the bank sent.
    fn find(&self, form: &Form, headers: &HeaderMap) -> Found {
        let name = self.cookie_name(form.one("visit"));
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        let mut cookies =
            cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let secret =
            cookies.find(|(found, _)| *found == name).map(|(_, value)| value).unwrap_or_default();
        self.0.visits.find(form.one("visit"), secret, form.one("csrf"))
    }

    fn page(&self, status: StatusCode, body: Markup, target: Option<&str>) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from(body.into_string()));
        *response.status_mut() = status;
        // Browsers hold the redirect that follows a form to `form-action` too.
        let target = target.and_then(origin).map(|origin| format!(" {origin}")).unwrap_or_default();
        let policy = format!(
            "default-src 'none'; style-src 'self'; form-action 'self'{target}; \
             frame-ancestors 'none'; base-uri 'none'"
        );
        let headers = response.headers_mut();
        if let Ok(policy) = HeaderValue::try_from(policy) {
            headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        }
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

    /// Shows the page of the step at which a visit stands.
    fn show(
        &self,
        visit: &Visit,
        status: StatusCode,
        message: Option<view::Message>,
    ) -> Response<Bytes> {
        let body = match &visit.step {
            Step::SignIn { username } => view::sign_in(visit, username, message),
            Step::Consent { user, accounts } => {
                let ends_online = self.0.outward.is_some();
                view::consent(visit, user, accounts, ends_online, message)
            }
            Step::Answered(_) => view::stop(view::Stop::Answered),
        };
        let mut response = self.page(status, body, Some(&visit.request.redirect_uri));
        if let Some(secret) = &visit.new_cookie
            && let Ok(cookie) = HeaderValue::try_from(self.cookie(&visit.id, secret))
        {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        response
    }

    fn stop(&self, status: StatusCode, stop: view::Stop) -> Response<Bytes> {
        self.page(status, view::stop(stop), None)
    }

    fn failed(&self, error: &(dyn std::error::Error + 'static)) -> Response<Bytes> {
        tracing::error!(error, "a page could not be shown");
        self.stop(StatusCode::SERVICE_UNAVAILABLE, view::Stop::Unavailable)
    }

    /// What a form gets whose visit cannot go on.
    fn refused(&self, found: Found) -> Response<Bytes> {
        match found {
            Found::Answered(Answered { location, .. }) => redirect(&location),
            Found::Over => self.stop(StatusCode::CONFLICT, view::Stop::Answered),
            _ => self.stop(StatusCode::FORBIDDEN, view::Stop::Expired),
        }
    }

    async fn sign_in(
        &self,
        headers: &HeaderMap,
        form: &Form,
    ) -> Result<Response<Bytes>, LedgerError> {
        let mut visit = match self.find(form, headers) {
            Found::Visit(visit) => *visit,
            other => return Ok(self.refused(other)),
        };
        // Signed in already: the page was sent twice, or the user went back.
        if !matches!(visit.step, Step::SignIn { .. }) {
            return Ok(self.show(&visit, StatusCode::OK, None));
        }
        let (username, password) = (form.one("username"), form.one("password"));
        let message = match self.0.doors.attempt(username, password).await? {
            Attempt::User(user) => {
                let has = self.0.ledger.holdings(&user, |_| true).await?;
                let accounts = has.accounts;
                if self.0.visits.signed_in(&mut visit, user, accounts).is_none() {
                    return Ok(self.refused(Found::Unknown));
                }
                return Ok(self.show(&visit, StatusCode::OK, None));
            }
            Attempt::Wrong => view::Message::Wrong,
            Attempt::Locked => view::Message::Locked,
            Attempt::Wait => view::Message::Wait,
        };
        visit.step = Step::SignIn { username: username.chars().take(64).collect() };
        Ok(self.show(&visit, StatusCode::OK, Some(message)))
    }

    async fn consent(&self, headers: &HeaderMap, form: &Form) -> Result<Response<Bytes>, Error> {
        let mut visit = match self.find(form, headers) {
            Found::Visit(visit) => *visit,
            other => return Ok(self.refused(other)),
        };
        let Step::Consent { user, accounts } = &visit.step else {
            return Ok(self.show(&visit, StatusCode::OK, None));
        };
        let picked: BTreeSet<AccountId> = accounts
            .iter()
            .filter(|account| form.all("account_id").any(|id| id == account.id.as_str()))
            .map(|account| account.id.clone())
            .collect();
        let allow = match form.one("decision") {
            "allow" => true,
            "deny" => false,
            _ => return Ok(self.show(&visit, StatusCode::OK, Some(view::Message::Undecided))),
        };
        if allow && picked.is_empty() {
            return Ok(self.show(&visit, StatusCode::OK, Some(view::Message::NonePicked)));
        }
        // From here on the visit is this call's alone, so that no two codes come of it.
        let user_id = user.user_id.clone();
        if !self.0.visits.take(&mut visit) {
            return Ok(self.refused(self.find(form, headers)));
        }
        let location = if allow {
            let accounts = PermittedAccounts::Only(picked);
            match self.0.oauth.approve(&visit.request, user_id.clone(), accounts).await {
                Ok(location) => {
                    // From now on the bank can tell Plaid what it books for this customer.
                    if let Some(outward) = &self.0.outward {
                        outward.import_soon(user_id);
                    }
                    location
                }
                Err(error) => {
                    self.0.visits.give_back(&visit);
                    return Err(error);
                }
            }
        } else {
            self.0.oauth.deny(&visit.request)
        };
        self.0.visits.answered(&visit, &location);
        Ok(redirect(&location))
    }
}

#[async_trait]
impl AuthorizePages for Pages {
    async fn ask(&self, request: AuthorizationRequest, _: &Parts) -> Response<Bytes> {
        self.show(&self.0.visits.begin(request), StatusCode::OK, None)
    }

    async fn refuse(&self, refusal: PageRefusal) -> Response<Bytes> {
        self.stop(refusal.status(), view::Stop::Refused(refusal.message()))
    }
}

async fn sign_in(State(pages): State<Pages>, headers: HeaderMap, body: Bytes) -> AxumResponse {
    let answer = match Form::read(&headers, &body) {
        Some(form) => pages.sign_in(&headers, &form).await,
        None => Ok(pages.stop(StatusCode::BAD_REQUEST, view::Stop::Expired)),
    };
    answer.unwrap_or_else(|error| pages.failed(&error)).map(Into::into)
}

async fn consent(State(pages): State<Pages>, headers: HeaderMap, body: Bytes) -> AxumResponse {
    let answer = match Form::read(&headers, &body) {
        Some(form) => pages.consent(&headers, &form).await,
        None => Ok(pages.stop(StatusCode::BAD_REQUEST, view::Stop::Expired)),
    };
    answer.unwrap_or_else(|error| pages.failed(&error)).map(Into::into)
}

/// Someone typed the address, or reloaded: there is nothing without a request.
async fn no_entry(State(pages): State<Pages>) -> AxumResponse {
    pages.stop(StatusCode::NOT_FOUND, view::Stop::NoEntry).map(Into::into)
}

async fn style() -> ([(header::HeaderName, &'static str); 3], &'static str) {
    let headers = [
        (header::CONTENT_TYPE, "text/css; charset=utf-8"),
        (header::CACHE_CONTROL, "public, max-age=3600"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, STYLE)
}

/// Gives every page and redirect a request id, the caller's own if it is fit.
pub(crate) async fn with_request_id(
    State(random): State<Arc<dyn Random>>,
    request: Request,
    next: Next,
) -> AxumResponse {
    let name = header::HeaderName::from_static("x-request-id");
    let fit = |id: &&HeaderValue| {
        (1..=64).contains(&id.len())
            && id.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    };
    let own = request.headers().get(&name).filter(fit).cloned();
    let id = own.or_else(|| HeaderValue::try_from(random::secret(&*random)).ok());
    let mut response = next.run(request).await;
    if let Some(id) = id {
        response.headers_mut().insert(name, id);
    }
    response
}

/// A redirect that a browser follows with GET.
pub(crate) fn redirect(location: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::SEE_OTHER;
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    for (name, value) in
        [(header::CACHE_CONTROL, "no-store"), (header::REFERRER_POLICY, "no-referrer")]
    {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The origin of a URL as `form-action` takes it; the scheme alone for an app's own scheme.
fn origin(url: &str) -> Option<String> {
    let url = url::Url::parse(url).ok()?;
    match url.origin() {
        url::Origin::Opaque(_) => Some(format!("{}:", url.scheme())),
        origin => Some(origin.ascii_serialization()),
    }
}

/// The fields of a form.
#[derive(Default)]
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    /// Reads a body; `None` when it is not a form.
    pub(crate) fn read(headers: &HeaderMap, body: &[u8]) -> Option<Self> {
        let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        let kind = kind.split(';').next()?.trim();
        kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
            .then(|| Self(url::form_urlencoded::parse(body).into_owned().collect()))
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn one(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(field, _)| field == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_names_where_the_form_leads() {
        assert_eq!(
            origin("https://app.example:8443/back?x=1").as_deref(),
            Some("https://app.example:8443")
        );
        assert_eq!(origin("http://127.0.0.1:9/cb").as_deref(), Some("http://127.0.0.1:9"));
        assert_eq!(origin("budget-app://back").as_deref(), Some("budget-app:"));
    }
}
