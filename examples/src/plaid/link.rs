//! The Link pages: choose a bank, sign in there or here, share accounts. Plain forms, no script.
//!
//! A link token opens one visit, in one browser, once. `visit` keeps what happens between the
//! pages, `view` draws them, `sign_in` talks to banks, `connect` makes the connection. Every form
//! is answered by a redirect to the visit's page, so that reloading sends nothing twice.

mod connect;
mod sign_in;
mod view;
mod visit;

pub(super) use self::visit::Authorized;

use super::{
    banks::Banks,
    config::{Application, Config, Institution},
    desk::Desk,
    logo,
    order::Purpose,
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
use view::{Frame, Message, Onward, Stop};
use visit::{Kept, Step, Visit, Visits};

const STYLE: &str = include_str!("link/style.css");

/// The pages. Cheap to clone.
#[derive(Clone)]
pub(super) struct Link(Arc<Inner>);

struct Inner {
    config: Arc<Config>,
    desk: Desk,
    banks: Banks,
    visits: Visits,
    random: Arc<dyn Random>,
    /// Whether the pages are reached by https, so that cookies must be too.
    secure: bool,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

/// Why a step could not be taken, other than by the user's fault.
enum Fault {
    /// Something of this side failed.
    Items(ItemsError),
    /// What the visit is about is gone.
    Gone,
}

impl From<ItemsError> for Fault {
    fn from(error: ItemsError) -> Self {
        Self::Items(error)
    }
}

/// Where a form leads.
enum Next {
    /// To the visit's page.
    Page,
    /// Away.
    Away(String),
}

impl Link {
    pub(super) fn new(
        config: Arc<Config>,
        desk: Desk,
        banks: Banks,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        let secure = config.public_url.starts_with("https:");
        let visits = Visits::new(clock, random.clone());
        Self(Arc::new(Inner { config, desk, banks, visits, random, secure }))
    }

    /// The pages, their style sheet, and the logos.
    pub(super) fn router(&self) -> Router {
        Router::new()
            .route("/link", get(open))
            .route("/link/oauth", get(back_from_bank))
            .route("/link/visit/{visit}", get(show))
            .route("/link/visit/{visit}/{action}", post(act).get(reload))
            .route("/link/style.css", get(style))
            .route("/logos/applications/{file}", get(application_logo))
            .route("/logos/institutions/{file}", get(institution_logo))
            .layer(DefaultBodyLimit::max(web::LONGEST_FORM))
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

    fn stop(status: StatusCode, stop: Stop) -> Response {
        web::page(status, view::stop(&stop), [])
    }

    fn failed(fault: &Fault) -> Response {
        match fault {
            Fault::Gone => Self::stop(StatusCode::GONE, Stop::Gone),
            Fault::Items(error) => {
                let error: &(dyn std::error::Error + 'static) = error;
                tracing::error!(error, "a Link page could not be shown");
                Self::stop(StatusCode::SERVICE_UNAVAILABLE, Stop::Unavailable)
            }
        }
    }

    /// Opens the page: takes the link token, and binds the visit to this browser.
    async fn open(&self, headers: &HeaderMap, token: &LinkToken) -> Result<Response, Fault> {
        // The browser that opened it comes again: by a reload, or the back button.
        if let Some(kept) = self.0.visits.of_token(token, self.cookie_of(headers)) {
            return Ok(web::redirect(&page_of(&kept)));
        }
        let Some(order) = self.0.desk.take_link_token(token).await? else {
            return Ok(Self::stop(StatusCode::GONE, Stop::NoToken));
        };
        let step = match &order.purpose {
            Purpose::Connect | Purpose::Repair { .. } => Step::Welcome,
            Purpose::CrossApp { .. } => Step::Consent,
        };
        let kept = self.0.visits.begin(token.clone(), order, step);
        let cookie = web::cookie(
            &self.cookie_name(&kept.id),
            &kept.secret,
            visit::LIFE.num_seconds(),
            self.0.secure,
        );
        Ok(web::with_cookie(web::redirect(&page_of(&kept)), &cookie))
    }

    /// The page at which a visit stands.
    async fn show(&self, kept: &Kept) -> Result<Response, Fault> {
        let mut visit = kept.visit.lock().await;
        let message = visit.message.take();
        let app = self.application(&visit.order.application).ok_or(Fault::Gone)?;
        let asked = visit.order.products.clone();
        let frame = Frame {
            visit: &kept.id,
            csrf: &kept.csrf,
            app,
            asked: &asked,
            message: message.as_ref(),
        };
        let bank =
            visit.step.institution().map(|id| self.bank(id).ok_or(Fault::Gone)).transpose()?;
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
                view::done(&frame, bank, &connected.accounts, self.onward(&visit, app))
            }
            _ => return Ok(Self::stop(StatusCode::OK, Stop::Cancelled)),
        };
        Ok(web::page(StatusCode::OK, body, self.targets(&visit)))
    }

    /// Where the forms of a visit can lead: to banks, and back to who sent the user.
    fn targets<'v>(&'v self, visit: &'v Visit) -> Vec<&'v str> {
        let banks = self.0.config.institutions.iter().map(|bank| bank.base_url.as_str());
        banks.chain(visit.order.redirect_uri.as_deref()).collect()
    }

    fn onward<'v>(&'v self, visit: &Visit, app: &'v Application) -> Onward<'v> {
        match (&visit.order.redirect_uri, &visit.order.purpose) {
            (None, _) => Onward::Nowhere,
            (Some(_), Purpose::CrossApp { institution, .. }) => {
                self.bank(institution).map_or(Onward::To(&app.name), |bank| Onward::To(&bank.name))
            }
            (Some(_), _) => Onward::To(&app.name),
        }
    }

    /// A form of a page.
    async fn act(&self, kept: &Kept, action: &str, form: &Form) -> Result<Response, Fault> {
        // One form of a visit at a time: of two that come at once, the later one finds the step
        // that the first one left.
        let mut visit = kept.visit.lock().await;
        visit.message = None;
        let next = match action {
            "begin" => self.begin(&mut visit, &kept.id).await?,
            "bank" => self.choose(&mut visit, &kept.id, form).await?,
            "back" => self.go_back(&mut visit),
            "sign-in" => self.sign_in(&mut visit, form).await?,
            "delivery" => self.send_code(&mut visit, form).await?,
            "another-code" => self.send_another(&mut visit),
            "code" => self.check_code(&mut visit, form).await?,
            "answers" => self.check_answers(&mut visit, form).await?,
            "accounts" => self.share(&mut visit, form).await?,
            "consent" => self.consent(&mut visit, form).await?,
            "finish" => self.finish(kept, &mut visit),
            "cancel" => self.cancel(kept, &mut visit),
            _ => Next::Page,
        };
        Ok(match next {
            Next::Page => web::redirect(&page_of(kept)),
            Next::Away(location) => web::redirect(&location),
        })
    }

    /// The end: the application gets its public token, the bank its user back.
    fn finish(&self, kept: &Kept, visit: &mut Visit) -> Next {
        let Step::Done(connected) = &mut visit.step else { return Next::Page };
        let Some(uri) = &visit.order.redirect_uri else { return Next::Page };
        let token = connected.public_token.take();
        let mut fields = vec![("link_token", visit.link_token.expose())];
        match (&token, &visit.order.purpose) {
            (Some(token), _) => fields.push(("public_token", token.expose())),
            (None, Purpose::CrossApp { .. }) => {
                fields.push(("application_id", visit.order.application.as_str()));
                fields.push(("status", "connected"));
            }
            (None, _) => {}
        }
        let location = with_fields(uri, &fields);
        self.0.visits.forget(kept);
        Next::Away(location)
    }

    /// The user leaves.
    fn cancel(&self, kept: &Kept, visit: &mut Visit) -> Next {
        if matches!(visit.step, Step::Done(_)) {
            return Next::Page;
        }
        visit.step = Step::Ended;
        let Some(uri) = &visit.order.redirect_uri else { return Next::Page };
        let fields = [("link_token", visit.link_token.expose()), ("error", "user_cancelled")];
        let location = with_fields(uri, &fields);
        self.0.visits.forget(kept);
        Next::Away(location)
    }
}

fn page_of(kept: &Kept) -> String {
    format!("/link/visit/{}", kept.id)
}

/// An address with further fields in its query.
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
struct Opened {
    #[serde(default)]
    token: String,
}

async fn open(
    State(link): State<Link>,
    headers: HeaderMap,
    Query(Opened { token }): Query<Opened>,
) -> Response {
    let opened = link.open(&headers, &LinkToken::new(token)).await;
    opened.unwrap_or_else(|fault| Link::failed(&fault))
}

async fn show(State(link): State<Link>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    match link.0.visits.find(&id, link.cookie_of(&headers)) {
        Some(kept) => link.show(&kept).await.unwrap_or_else(|fault| Link::failed(&fault)),
        None => Link::stop(StatusCode::FORBIDDEN, Stop::Expired),
    }
}

async fn act(
    State(link): State<Link>,
    headers: HeaderMap,
    Path((id, action)): Path<(String, String)>,
    body: Bytes,
) -> Response {
    let refused = || Link::stop(StatusCode::FORBIDDEN, Stop::Expired);
    let Some(form) = Form::read(&headers, &body) else { return refused() };
    let Some(kept) = link.0.visits.find(&id, link.cookie_of(&headers)) else { return refused() };
    if web::is_cross_site(&headers) || !kept.is_from_its_page(form.one("csrf")) {
        return refused();
    }
    link.act(&kept, &action, &form).await.unwrap_or_else(|fault| Link::failed(&fault))
}

/// Someone reloads the address of a form.
async fn reload(Path((id, _)): Path<(String, String)>) -> Response {
    let id: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
    web::redirect(&format!("/link/visit/{id}"))
}

async fn back_from_bank(State(link): State<Link>, headers: HeaderMap, uri: http::Uri) -> Response {
    let query = uri.query().unwrap_or_default();
    let state = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "state");
    let id = state.and_then(|(_, state)| link.0.visits.expecting(&state));
    let kept = id.and_then(|id| link.0.visits.find(&id, link.cookie_of(&headers)));
    let Some(kept) = kept else { return Link::stop(StatusCode::FORBIDDEN, Stop::Expired) };
    let mut visit = kept.visit.lock().await;
    match link.come_back(&mut visit, query).await {
        Ok(()) => web::redirect(&page_of(&kept)),
        Err(fault) => Link::failed(&fault),
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

/// A picture that pages of others show too, and in which nothing runs.
fn svg(logo: Option<String>) -> Response {
    let Some(logo) = logo else {
        return web::answer(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "no such logo\n");
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
