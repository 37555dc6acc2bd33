//! The Link pages: choose a bank, sign in there or here, share accounts. Plain forms, no script.
//!
//! A link token opens one visit, in one browser, once. `visit` has the state between the pages,
//! `view` renders them, `sign_in` calls the banks, `connect` creates the connection. The response
//! to every form is a redirect to the visit's page, so that a reload sends nothing twice.

mod connect;
mod sign_in;
mod view;
mod visit;

pub(super) use self::visit::Authorized;

use super::{
    banks::Banks,
    config::{Application, Config, Institution},
    link_items::LinkItems,
    link_request::Purpose,
    logo,
    web::{self, Form},
};
use axum::{
    Router,
    extract::{DefaultBodyLimit, Path, Query, State},
    middleware,
    response::Response,
    routing::{get, post},
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use px_core::{Clock, Random};
use px_items::items::ItemsError;
use px_types::{ApplicationId, InstitutionId, LinkToken};
use serde::Deserialize;
use std::{fmt, sync::Arc};
use view::{Frame, Message, ReturnTarget, StopPage};
use visit::{Step, StoredVisit, Visit, Visits};

const STYLE: &str = include_str!("link/style.css");

/// The Link pages. Cheap to clone.
#[derive(Clone)]
pub(super) struct Link(Arc<LinkState>);

struct LinkState {
    config: Arc<Config>,
    link_items: LinkItems,
    banks: Banks,
    visits: Visits,
    random: Arc<dyn Random>,
    /// Whether the public URL is https, so that cookies need `Secure`.
    secure: bool,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

/// The error of a step, other than a mistake of the user.
enum LinkError {
    /// An operation of this service failed.
    Items(ItemsError),
    /// The Item, application or bank of the visit does not exist any more.
    Gone,
}

impl From<ItemsError> for LinkError {
    fn from(error: ItemsError) -> Self {
        Self::Items(error)
    }
}

/// The target of the redirect after a form.
enum Redirect {
    /// The visit's page.
    Visit,
    /// A URL outside the visit.
    Away(String),
}

impl Link {
    pub(super) fn new(
        config: Arc<Config>,
        link_items: LinkItems,
        banks: Banks,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        let secure = config.public_url.starts_with("https:");
        let visits = Visits::new(clock, random.clone());
        Self(Arc::new(LinkState { config, link_items, banks, visits, random, secure }))
    }

    /// Returns the pages, their style sheet, and the logos.
    pub(super) fn router(&self) -> Router {
        Router::new()
            .route("/link", get(open))
            .route("/link/oauth", get(back_from_bank))
            .route("/link/visit/{visit}", get(show))
            .route("/link/visit/{visit}/{action}", post(act).get(reload))
            .route("/link/style.css", get(style))
            .route("/logos/applications/{file}", get(application_logo))
            .route("/logos/institutions/{file}", get(institution_logo))
            .layer(DefaultBodyLimit::max(web::MAX_FORM_BYTES))
            .layer(middleware::from_fn_with_state(self.0.random.clone(), web::with_request_id))
            .with_state(self.clone())
    }

    fn application(&self, id: &ApplicationId) -> Option<&Application> {
        self.0.config.application(id)
    }

    fn bank(&self, id: &InstitutionId) -> Option<&Institution> {
        self.0.config.institution(id)
    }

    fn cookie_name(&self, visit: &str) -> String {
        web::cookie_name(&format!("link-{visit}"), self.0.secure)
    }

    fn cookie_of<'h>(&'h self, headers: &'h HeaderMap) -> impl Fn(&str) -> Option<String> + 'h {
        move |visit| web::cookie_of(headers, &self.cookie_name(visit))
    }

    fn stop(status: StatusCode, page: StopPage) -> Response {
        web::page(status, view::stop(&page), [])
    }

    fn failed(error: &LinkError) -> Response {
        match error {
            LinkError::Gone => Self::stop(StatusCode::GONE, StopPage::Gone),
            LinkError::Items(error) => {
                let error: &(dyn std::error::Error + 'static) = error;
                tracing::error!(error, "a Link page could not be shown");
                Self::stop(StatusCode::SERVICE_UNAVAILABLE, StopPage::Unavailable)
            }
        }
    }

    /// Opens a visit: takes the link token, and binds the visit to this browser.
    async fn open(&self, headers: &HeaderMap, token: &LinkToken) -> Result<Response, LinkError> {
        // The same browser opens the page again, by a reload or the back button.
        if let Some(stored) = self.0.visits.of_token(token, self.cookie_of(headers)) {
            return Ok(web::redirect(&page_of(&stored)));
        }
        let Some(link_request) = self.0.link_items.take_link_token(token).await? else {
            return Ok(Self::stop(StatusCode::GONE, StopPage::NoToken));
        };
        let step = match &link_request.purpose {
            Purpose::Connect | Purpose::Repair { .. } => Step::Welcome,
            Purpose::CrossApp { .. } => Step::Consent,
        };
        let stored = self.0.visits.begin(token.clone(), link_request, step);
        let cookie = web::cookie(
            &self.cookie_name(&stored.id),
            &stored.secret,
            visit::VISIT_LIFETIME.num_seconds(),
            self.0.secure,
        );
        Ok(web::with_cookie(web::redirect(&page_of(&stored)), &cookie))
    }

    /// Renders the page of a visit's current step.
    async fn show(&self, stored: &StoredVisit) -> Result<Response, LinkError> {
        let mut visit = stored.visit.lock().await;
        let message = visit.message.take();
        let app = self.application(&visit.link_request.application).ok_or(LinkError::Gone)?;
        let requested = visit.link_request.products.clone();
        let frame = Frame {
            visit: &stored.id,
            csrf: &stored.csrf,
            app,
            requested: &requested,
            message: message.as_ref(),
        };
        let bank =
            visit.step.institution().map(|id| self.bank(id).ok_or(LinkError::Gone)).transpose()?;
        let body = match (&visit.step, bank) {
            (Step::Welcome, _) => view::welcome(&frame),
            (Step::Choose, _) => view::choose(&frame, &self.0.config.institutions),
            (Step::AtBank(..), Some(bank)) => view::at_bank(&frame, bank),
            (Step::SignIn(_, username), Some(bank)) => view::sign_in(&frame, bank, username),
            (Step::Delivery(_, step), Some(bank)) => {
                view::delivery(&frame, bank, step.deliveries())
            }
            (Step::Code(_, _, mask, _), Some(bank)) => view::code(&frame, bank, Some(mask)),
            (Step::Totp(..), Some(bank)) => view::code(&frame, bank, None),
            (Step::Answers(_, step), Some(bank)) => view::answers(&frame, bank, step.questions()),
            (Step::Accounts(_, authorized), Some(bank)) => {
                view::accounts(&frame, bank, &authorized.accounts)
            }
            (Step::Consent, _) => return self.show_consent(&frame, &visit).await,
            (Step::Done(connected), Some(bank)) => {
                view::done(&frame, bank, &connected.accounts, self.return_target(&visit, app))
            }
            _ => return Ok(Self::stop(StatusCode::OK, StopPage::Cancelled)),
        };
        Ok(web::page(StatusCode::OK, body, self.targets(&visit)))
    }

    /// Returns the URLs to which the forms of a visit may lead: the banks, and the redirect URI.
    fn targets<'v>(&'v self, visit: &'v Visit) -> Vec<&'v str> {
        let banks = self.0.config.institutions.iter().map(|bank| bank.base_url.as_str());
        banks.chain(visit.link_request.redirect_uri.as_deref()).collect()
    }

    fn return_target<'v>(&'v self, visit: &Visit, app: &'v Application) -> ReturnTarget<'v> {
        match (&visit.link_request.redirect_uri, &visit.link_request.purpose) {
            (None, _) => ReturnTarget::Nowhere,
            (Some(_), Purpose::CrossApp { institution, .. }) => self
                .bank(institution)
                .map_or(ReturnTarget::To(&app.name), |bank| ReturnTarget::To(&bank.name)),
            (Some(_), _) => ReturnTarget::To(&app.name),
        }
    }

    /// Processes a form of a page.
    async fn act(
        &self,
        stored: &StoredVisit,
        action: &str,
        form: &Form,
    ) -> Result<Response, LinkError> {
        // Processes one form of a visit at a time. Of two concurrent forms, the second finds the
        // step that the first one left.
        let mut visit = stored.visit.lock().await;
        visit.message = None;
        let next = match action {
            "begin" => self.begin(&mut visit, &stored.id).await?,
            "bank" => self.choose(&mut visit, &stored.id, form).await?,
            "back" => self.go_back(&mut visit),
            "sign-in" => self.sign_in(&mut visit, form).await?,
            "delivery" => self.send_code(&mut visit, form).await?,
            "another-code" => self.send_another(&mut visit),
            "code" => self.check_code(&mut visit, form).await?,
            "answers" => self.check_answers(&mut visit, form).await?,
            "accounts" => self.share(&mut visit, form).await?,
            "consent" => self.consent(&mut visit, form).await?,
            "finish" => self.finish(stored, &mut visit),
            "cancel" => self.cancel(stored, &mut visit),
            _ => Redirect::Visit,
        };
        Ok(match next {
            Redirect::Visit => web::redirect(&page_of(stored)),
            Redirect::Away(location) => web::redirect(&location),
        })
    }

    /// Finishes a visit: sends the public token to the application, or a bank's user back to the
    /// bank.
    fn finish(&self, stored: &StoredVisit, visit: &mut Visit) -> Redirect {
        let Step::Done(connected) = &mut visit.step else { return Redirect::Visit };
        let Some(uri) = &visit.link_request.redirect_uri else { return Redirect::Visit };
        let token = connected.public_token.take();
        let mut fields = vec![("link_token", visit.link_token.expose())];
        match (&token, &visit.link_request.purpose) {
            (Some(token), _) => fields.push(("public_token", token.expose())),
            (None, Purpose::CrossApp { .. }) => {
                fields.push(("application_id", visit.link_request.application.as_str()));
                fields.push(("status", "connected"));
            }
            (None, _) => {}
        }
        let location = with_fields(uri, &fields);
        self.0.visits.forget(stored);
        Redirect::Away(location)
    }

    /// Ends a visit because the user cancelled it.
    fn cancel(&self, stored: &StoredVisit, visit: &mut Visit) -> Redirect {
        if matches!(visit.step, Step::Done(_)) {
            return Redirect::Visit;
        }
        visit.step = Step::Ended;
        let Some(uri) = &visit.link_request.redirect_uri else { return Redirect::Visit };
        let fields = [("link_token", visit.link_token.expose()), ("error", "user_cancelled")];
        let location = with_fields(uri, &fields);
        self.0.visits.forget(stored);
        Redirect::Away(location)
    }
}

fn page_of(stored: &StoredVisit) -> String {
    format!("/link/visit/{}", stored.id)
}

/// Adds fields to the query of a URL.
fn with_fields(uri: &str, fields: &[(&str, &str)]) -> String {
    match url::Url::parse(uri) {
        Ok(mut url) => {
            url.query_pairs_mut().extend_pairs(fields);
            url.into()
        }
        Err(_) => uri.to_owned(),
    }
}

#[derive(Deserialize)]
struct OpenQuery {
    #[serde(default)]
    token: String,
}

async fn open(
    State(link): State<Link>,
    headers: HeaderMap,
    Query(OpenQuery { token }): Query<OpenQuery>,
) -> Response {
    let opened = link.open(&headers, &LinkToken::new(token)).await;
    opened.unwrap_or_else(|error| Link::failed(&error))
}

async fn show(State(link): State<Link>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    match link.0.visits.find(&id, link.cookie_of(&headers)) {
        Some(stored) => link.show(&stored).await.unwrap_or_else(|error| Link::failed(&error)),
        None => Link::stop(StatusCode::FORBIDDEN, StopPage::Expired),
    }
}

async fn act(
    State(link): State<Link>,
    headers: HeaderMap,
    Path((id, action)): Path<(String, String)>,
    body: Bytes,
) -> Response {
    let refused = || Link::stop(StatusCode::FORBIDDEN, StopPage::Expired);
    let Some(form) = Form::read(&headers, &body) else { return refused() };
    let Some(stored) = link.0.visits.find(&id, link.cookie_of(&headers)) else { return refused() };
    if web::is_cross_site(&headers) || !stored.is_from_its_page(form.one("csrf")) {
        return refused();
    }
    link.act(&stored, &action, &form).await.unwrap_or_else(|error| Link::failed(&error))
}

/// Redirects a GET of a form's URL, such as a reload, to the visit's page.
async fn reload(Path((id, _)): Path<(String, String)>) -> Response {
    let id: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
    web::redirect(&format!("/link/visit/{id}"))
}

async fn back_from_bank(State(link): State<Link>, headers: HeaderMap, uri: http::Uri) -> Response {
    let query = uri.query().unwrap_or_default();
    let state = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "state");
    let id = state.and_then(|(_, state)| link.0.visits.by_state(&state));
    let stored = id.and_then(|id| link.0.visits.find(&id, link.cookie_of(&headers)));
    let Some(stored) = stored else { return Link::stop(StatusCode::FORBIDDEN, StopPage::Expired) };
    let mut visit = stored.visit.lock().await;
    match link.handle_callback(&mut visit, query).await {
        Ok(()) => web::redirect(&page_of(&stored)),
        Err(error) => Link::failed(&error),
    }
}

async fn style() -> Response {
    web::file("text/css; charset=utf-8", STYLE)
}

async fn application_logo(State(link): State<Link>, Path(file): Path<String>) -> Response {
    let id = file.strip_suffix(".svg").and_then(|id| ApplicationId::new(id).ok());
    let logo = id.and_then(|id| link.application(&id).map(logo::of_application));
    svg(logo)
}

async fn institution_logo(State(link): State<Link>, Path(file): Path<String>) -> Response {
    let id = file.strip_suffix(".svg").and_then(|id| InstitutionId::new(id).ok());
    let logo = id.and_then(|id| link.bank(&id).map(logo::of_institution));
    svg(logo)
}

/// Returns an SVG that other sites may embed, and in which no script runs.
fn svg(logo: Option<String>) -> Response {
    let Some(logo) = logo else {
        return web::response(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "no such logo\n");
    };
    let mut response = web::file("image/svg+xml", logo);
    for (name, value) in [
        ("cross-origin-resource-policy", "cross-origin"),
        ("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox"),
    ] {
        response.headers_mut().insert(name, http::HeaderValue::from_static(value));
    }
    response
}
