//! The bank's OAuth pages: sign-in, choice of accounts, consent. Plain forms, no script.
//!
//! `visit` has the state between pages, and `view` renders them. The sign-in steps are those of
//! [`sign_in`](crate::sign_in). The service checks the authorization request before a page is
//! shown.

mod money;
mod view;
mod visit;

pub(crate) use money::readable;
pub(crate) use view::{CHECK, LOGO, WARNING, details, subtype};

use crate::{
    ledger::Ledger,
    plaid_side::PlaidGateway,
    sign_in::steps::{self, Refusal},
    text::safe_page,
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
use http::{Extensions, HeaderMap, HeaderValue, Response, StatusCode, header, request::Parts};
use maud::Markup;
use px_core::{Clock, Random, random};
use px_server::{
    Error, PermittedAccounts,
    credentials::{CredentialsKit, SignInStep},
    oauth::{AuthorizationRequest, AuthorizePages, OAuth, PageRefusal},
    visits::{VisitError, Visits as SealedVisits},
};
use px_types::{AccountId, UserId};
use std::{collections::BTreeSet, fmt, sync::Arc};
use visit::{Decided, Step, Visit, VisitLookup, Visits};

/// Maximum size of a form, in bytes.
pub(crate) const MAX_FORM_BYTES: usize = 64 << 10;
const STYLE: &str = include_str!("pages/style.css");
/// Purpose to which the sealed field of a sign-in page is bound.
const PURPOSE: &str = "sign in and consent";

/// The OAuth pages. Cheap to clone.
#[derive(Clone)]
pub struct Pages(Arc<PagesState>);

struct PagesState {
    oauth: OAuth,
    ledger: Ledger,
    kit: Arc<CredentialsKit>,
    sealed: Arc<SealedVisits>,
    visits: Visits,
    random: Arc<dyn Random>,
    gateway: Option<PlaidGateway>,
    /// Whether the bank's URL is https, so that cookies need `Secure`.
    secure: bool,
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages").finish_non_exhaustive()
    }
}

impl Pages {
    /// Creates the pages of a bank.
    #[must_use]
    pub(crate) fn new(
        oauth: OAuth,
        ledger: Ledger,
        kit: Arc<CredentialsKit>,
        sealed: Arc<SealedVisits>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        gateway: Option<PlaidGateway>,
    ) -> Self {
        let secure = oauth.issuer().starts_with("https:");
        let visits = Visits::new(clock, random.clone());
        Self(Arc::new(PagesState { oauth, ledger, kit, sealed, visits, random, gateway, secure }))
    }

    /// Returns the routes of the forms and of the style sheet.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/sign-in", post(sign_in).get(no_entry))
            .route("/sign-in/code", post(send_code).get(no_entry))
            .route("/sign-in/answer", post(answer).get(no_entry))
            .route("/consent", post(consent).get(no_entry))
            .route("/style.css", get(style))
            .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
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
        let (name, age) = (self.cookie_name(visit), visit::VISIT_LIFETIME.num_seconds());
        format!("{name}={secret}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}")
    }

    /// Looks up the visit of a form, if it comes from the page that the bank sent.
    fn find(&self, form: &Form, headers: &HeaderMap) -> VisitLookup {
        let name = self.cookie_name(form.one("visit"));
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        let mut cookies =
            cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let secret =
            cookies.find(|(found, _)| *found == name).map(|(_, value)| value).unwrap_or_default();
        self.0.visits.find(form.one("visit"), secret, form.one("csrf"))
    }

    fn page(&self, status: StatusCode, body: Markup, target: Option<&str>) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from(safe_page(body.into_string())));
        *response.status_mut() = status;
        // Browsers apply `form-action` to the redirect that follows a form, too.
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

    /// Renders the sign-in page. Its form carries the sealed authorization request, so an anonymous
    /// visit takes no memory.
    fn show_sign_in(
        &self,
        request: &AuthorizationRequest,
        sealed: &str,
        username: &str,
        refusal: Option<Refusal>,
    ) -> Response<Bytes> {
        let status = refusal.map_or(StatusCode::OK, Refusal::status);
        let shown: String = username.chars().take(64).collect();
        let body = view::sign_in(request, sealed, &shown, refusal);
        self.page(status, body, Some(&request.redirect_uri))
    }

    /// Renders the page of a visit's current step.
    fn show(&self, visit: &Visit, message: Option<view::Message>) -> Response<Bytes> {
        let body = match &visit.step {
            Step::Challenge { challenge, sent } => {
                let refusal = match message {
                    Some(view::Message::Refused(refusal)) => Some(refusal),
                    _ => None,
                };
                view::challenge(visit, challenge, *sent, refusal)
            }
            Step::Consent { user, accounts } => {
                let ends_online = self.0.gateway.is_some();
                view::consent(visit, user, accounts, ends_online, message)
            }
            Step::Decided(_) => view::error_page(view::ErrorPage::Decided),
        };
        let mut response = self.page(StatusCode::OK, body, Some(&visit.request.redirect_uri));
        if let Some(secret) = &visit.new_cookie
            && let Ok(cookie) = HeaderValue::try_from(self.cookie(&visit.id, secret))
        {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        response
    }

    fn error_page(&self, status: StatusCode, error: view::ErrorPage) -> Response<Bytes> {
        self.page(status, view::error_page(error), None)
    }

    fn failed(&self, error: &(dyn std::error::Error + 'static)) -> Response<Bytes> {
        tracing::error!(error, "a page could not be shown");
        self.error_page(StatusCode::SERVICE_UNAVAILABLE, view::ErrorPage::Unavailable)
    }

    /// Renders the response to a form of a visit that cannot continue.
    fn refused(&self, found: VisitLookup) -> Response<Bytes> {
        match found {
            VisitLookup::Decided(Decided { location, .. }) => redirect(&location),
            VisitLookup::Over => self.error_page(StatusCode::CONFLICT, view::ErrorPage::Decided),
            _ => self.error_page(StatusCode::FORBIDDEN, view::ErrorPage::Expired),
        }
    }

    /// `POST /sign-in`: checks name and password.
    async fn sign_in(&self, from: &Requester, form: &Form) -> Result<Response<Bytes>, Error> {
        let PagesState { kit, sealed, visits, .. } = &*self.0;
        let field = form.one("csrf");
        let opened = sealed.open::<AuthorizationRequest>(&from.headers, PURPOSE, field);
        let Ok(opened) = opened else { return Ok(self.refused(VisitLookup::Unknown)) };
        let origin = steps::origin(&from.extensions);
        match steps::password(kit, &origin, form).await? {
            Ok(step) => {
                // A form is good for one sign-in.
                if sealed.finish(&opened).is_err() {
                    return Ok(self.refused(VisitLookup::Unknown));
                }
                let (user, step) = self.step(step).await?;
                let visit = visits.begin(opened.value, user, step);
                Ok(self.show(&visit, None))
            }
            Err(refusal) => {
                let username = form.one("username");
                Ok(self.show_sign_in(&opened.value, field, username, Some(refusal)))
            }
        }
    }

    /// Returns the step of a visit for a step of the kit.
    async fn step(&self, step: SignInStep) -> Result<(UserId, Step), Error> {
        match step {
            SignInStep::Challenge(challenge) => {
                let user = challenge.user_id.clone();
                Ok((user, Step::Challenge { challenge: Box::new(challenge), sent: false }))
            }
            SignInStep::SignedIn(id) => {
                let unavailable = |error| Error::unavailable().with_source(error);
                let user = self.0.ledger.user(&id).await.map_err(unavailable)?;
                let user =
                    user.ok_or_else(|| Error::internal("a signed-in user does not exist"))?;
                let data = self.0.ledger.holdings(&user, |_| true).await.map_err(unavailable)?;
                Ok((id, Step::Consent { user: Box::new(user), accounts: data.accounts }))
            }
            _ => Err(Error::internal("an unknown step of a sign-in")),
        }
    }

    /// `POST /sign-in/code`: sends a code.
    async fn send_code(&self, from: &Requester, form: &Form) -> Result<Response<Bytes>, Error> {
        let mut visit = match self.find(form, &from.headers) {
            VisitLookup::Visit(visit) => *visit,
            other => return Ok(self.refused(other)),
        };
        let Step::Challenge { challenge, .. } = visit.step.clone() else {
            return Ok(self.show(&visit, None));
        };
        let origin = steps::origin(&from.extensions);
        match steps::send_code(&self.0.kit, &origin, &challenge, form).await? {
            Ok(()) => {
                let step = Step::Challenge { challenge, sent: true };
                match self.0.visits.advance(&mut visit, step) {
                    Some(()) => Ok(self.show(&visit, None)),
                    None => Ok(self.refused(VisitLookup::Unknown)),
                }
            }
            Err(refusal) => Ok(self.show(&visit, Some(view::Message::Refused(refusal)))),
        }
    }

    /// `POST /sign-in/answer`: checks the answer to a challenge.
    async fn answer(&self, from: &Requester, form: &Form) -> Result<Response<Bytes>, Error> {
        let mut visit = match self.find(form, &from.headers) {
            VisitLookup::Visit(visit) => *visit,
            other => return Ok(self.refused(other)),
        };
        let Step::Challenge { challenge, .. } = &visit.step else {
            return Ok(self.show(&visit, None));
        };
        let origin = steps::origin(&from.extensions);
        match steps::answer(&self.0.kit, &origin, challenge, form).await? {
            Ok(step) => {
                let (_, step) = self.step(step).await?;
                match self.0.visits.advance(&mut visit, step) {
                    Some(()) => Ok(self.show(&visit, None)),
                    None => Ok(self.refused(VisitLookup::Unknown)),
                }
            }
            Err(refusal) => Ok(self.show(&visit, Some(view::Message::Refused(refusal)))),
        }
    }

    async fn consent(&self, from: &Requester, form: &Form) -> Result<Response<Bytes>, Error> {
        let headers = &from.headers;
        let mut visit = match self.find(form, headers) {
            VisitLookup::Visit(visit) => *visit,
            other => return Ok(self.refused(other)),
        };
        let Step::Consent { user, accounts } = &visit.step else {
            return Ok(self.show(&visit, None));
        };
        let picked: BTreeSet<AccountId> = accounts
            .iter()
            .filter(|account| form.all("account_id").any(|id| id == account.id.as_str()))
            .map(|account| account.id.clone())
            .collect();
        let allow = match form.one("decision") {
            "allow" => true,
            "deny" => false,
            _ => return Ok(self.show(&visit, Some(view::Message::Undecided))),
        };
        if allow && picked.is_empty() {
            return Ok(self.show(&visit, Some(view::Message::NonePicked)));
        }
        // This call claims the visit, so that it leads to one authorization code only.
        let user_id = user.user_id.clone();
        if !self.0.visits.claim(&mut visit) {
            return Ok(self.refused(self.find(form, headers)));
        }
        let location = if allow {
            let accounts = PermittedAccounts::Only(picked);
            match self.0.oauth.approve(&visit.request, user_id.clone(), accounts).await {
                Ok(location) => {
                    // From now on the bank notifies Plaid of this customer's bookings.
                    if let Some(gateway) = &self.0.gateway {
                        gateway.import_soon(user_id);
                    }
                    location
                }
                Err(error) => {
                    self.0.visits.release(&visit);
                    return Err(error);
                }
            }
        } else {
            self.0.oauth.deny(&visit.request)
        };
        self.0.visits.record_decision(&visit, &location);
        Ok(redirect(&location))
    }
}

#[async_trait]
impl AuthorizePages for Pages {
    async fn ask(&self, request: AuthorizationRequest, parts: &Parts) -> Response<Bytes> {
        let sealed = &self.0.sealed;
        let page = || {
            let browser = sealed.browser(&parts.headers);
            let field = sealed.seal(&browser, PURPOSE, &request)?;
            let mut page = self.show_sign_in(&request, &field, "", None);
            if let Some(cookie) = browser.set_cookie() {
                page.headers_mut().append(header::SET_COOKIE, cookie);
            }
            Ok::<_, VisitError>(page)
        };
        page().unwrap_or_else(|error| self.failed(&error))
    }

    async fn refuse(&self, refusal: PageRefusal) -> Response<Bytes> {
        self.error_page(refusal.status(), view::ErrorPage::Refused(refusal.message()))
    }
}

/// The headers and the connection of a form.
struct Requester {
    headers: HeaderMap,
    extensions: Extensions,
}

/// Reads a form and responds to it.
async fn form_of(
    pages: Pages,
    request: Request,
    act: impl AsyncFnOnce(&Pages, &Requester, &Form) -> Result<Response<Bytes>, Error>,
) -> AxumResponse {
    let (parts, body) = request.into_parts();
    let from = Requester { headers: parts.headers, extensions: parts.extensions };
    let body = axum::body::to_bytes(body, MAX_FORM_BYTES).await.ok();
    let page = match body.and_then(|body| Form::read(&from.headers, &body)) {
        Some(form) => act(&pages, &from, &form).await,
        None => Ok(pages.error_page(StatusCode::BAD_REQUEST, view::ErrorPage::Expired)),
    };
    page.unwrap_or_else(|error| pages.failed(&error)).map(Into::into)
}

async fn sign_in(State(pages): State<Pages>, request: Request) -> AxumResponse {
    form_of(pages, request, async |pages, from, form| pages.sign_in(from, form).await).await
}

async fn send_code(State(pages): State<Pages>, request: Request) -> AxumResponse {
    form_of(pages, request, async |pages, from, form| pages.send_code(from, form).await).await
}

async fn answer(State(pages): State<Pages>, request: Request) -> AxumResponse {
    form_of(pages, request, async |pages, from, form| pages.answer(from, form).await).await
}

async fn consent(State(pages): State<Pages>, request: Request) -> AxumResponse {
    form_of(pages, request, async |pages, from, form| pages.consent(from, form).await).await
}

/// Responds to a GET without an authorization request: the address was typed, or the page reloaded.
async fn no_entry(State(pages): State<Pages>) -> AxumResponse {
    pages.error_page(StatusCode::NOT_FOUND, view::ErrorPage::NoEntry).map(Into::into)
}

async fn style() -> ([(header::HeaderName, &'static str); 3], &'static str) {
    let headers = [
        (header::CONTENT_TYPE, "text/css; charset=utf-8"),
        (header::CACHE_CONTROL, "public, max-age=3600"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, STYLE)
}

/// Adds a request id to every page and redirect: the client's own if it is well-formed.
pub(crate) async fn with_request_id(
    State(random): State<Arc<dyn Random>>,
    request: Request,
    next: Next,
) -> AxumResponse {
    let name = header::HeaderName::from_static("x-request-id");
    let is_valid = |id: &&HeaderValue| {
        (1..=64).contains(&id.len())
            && id.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    };
    let own = request.headers().get(&name).filter(is_valid).cloned();
    let id = own.or_else(|| HeaderValue::try_from(random::secret(&*random)).ok());
    let mut response = next.run(request).await;
    if let Some(id) = id {
        response.headers_mut().insert(name, id);
    }
    response
}

/// Returns a redirect that a browser follows with GET.
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

/// Returns the origin of a URL for `form-action`. For an app's own scheme, returns the scheme.
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
    /// Reads a body. Returns `None` if it is not a form.
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
