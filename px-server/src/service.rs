//! The partner's API as a tower service.
//!
//! Does, once, what every partner would otherwise get wrong: routing, limits, tokens,
//! principal and scope, parameters, the grant filter, the response check, request ids,
//! error bodies and headers. It knows no framework; limits of connections, TLS and the
//! address allow-list are layers and adapters around it.

mod answer;
mod bearer;
mod builder;
mod check;
mod notified;
mod transactions;
mod windows;

pub use builder::{BuildError, PartnerServiceBuilder};
pub use check::ResponseCheck;

use crate::{
    Caller, Kind, Partner, TokenGrant,
    call::{self, Api, Guards, Incoming, Limits, Refusal, observe, request},
    clients::{Client, Clients},
    credentials::Credentials,
    guard::{CallerAddr, RateLimit, grant},
    oauth::{Authorization, AuthorizePages, OAuth, OAuthError, OAuthErrorKind},
    router::{Match, Operation, Route, Router},
    verify::{TokenContext, TokenVerifier, VerifyError},
    webhook::{State, Verifier, VerifyError as SignatureError, VerifyErrorKind},
};
use answer::Answer;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use notified::Notified;
use px_core::{Clock, Random};
use px_types::{
    Auth, Endpoint,
    endpoint::codec::{self, BodyKind, RequestBody as _},
    for_each_partner_endpoint,
    partner::{
        GetCurrentUser, GetUser, ListTransactions, NotifyApplicationLinked, RequestAuthToken,
        SendOtp, ValidateTwoFactor,
    },
    webhook::VERIFICATION_HEADER,
};
use std::{fmt, sync::Arc};

/// A partner's API over the bank's own code: `http` requests in, `http` responses out.
///
/// Cheap to clone. Its error is `Infallible`: whatever goes wrong is an answer.
///
/// # Examples
/// See `examples/minimal_axum.rs` and `examples/minimal_hyper.rs` for whole programs.
#[derive(Clone)]
pub struct PartnerService(Arc<Inner>);

/// What the service is made of. One, not generic, behind the generic lines of `call`.
struct Inner {
    partner: Arc<dyn Partner>,
    verifier: Arc<dyn TokenVerifier>,
    oauth: Option<OAuth>,
    pages: Option<Arc<dyn AuthorizePages>>,
    credentials: Option<Arc<dyn Credentials>>,
    clients: Option<Arc<dyn Clients>>,
    notifications: Option<Arc<Verifier>>,
    notified: Notified,
    rate_limit: Option<RateLimit>,
    router: Router,
    limits: Limits,
    guards: Guards,
    windows: windows::Windows,
    check: ResponseCheck,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl fmt::Debug for PartnerService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartnerService").finish_non_exhaustive()
    }
}

impl PartnerService {
    /// Begins with the bank's own code; [`PartnerServiceBuilder::build`] ends it.
    #[must_use]
    pub fn builder(partner: impl Partner) -> PartnerServiceBuilder {
        PartnerServiceBuilder::new(Arc::new(partner))
    }

    /// Answers one request.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: http_body::Body<Data: Send, Error: fmt::Display> + Send,
    {
        call::answer(&*self.0, request).await
    }
}

call::tower_service!(PartnerService);

impl Api for Inner {
    fn random(&self) -> &dyn Random {
        &*self.random
    }

    fn guards(&self) -> &Guards {
        &self.guards
    }

    fn busy(&self, request_id: &str) -> Response<Bytes> {
        Answer::from(Refusal::Busy).into_http(request_id)
    }

    async fn route<B>(&self, incoming: Incoming, body: B, call: &observe::Call) -> Response<Bytes>
    where
        B: http_body::Body<Data: Send, Error: fmt::Display> + Send,
    {
        let request_id = incoming.request_id.clone();
        match self.dispatch(incoming, body, call).await {
            Ok(Outcome::Answer(answer)) | Err(answer) => answer.into_http(&request_id),
            Ok(Outcome::Page(page)) => page,
        }
    }

    fn panicked(&self, request_id: &str) -> Response<Bytes> {
        Answer::internal().into_http(request_id)
    }
}

/// An answer of the API, or a page of the bank's.
enum Outcome {
    Answer(Answer),
    Page(Response<Bytes>),
}

impl From<Answer> for Outcome {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

/// A request on its way to one operation, its body aside.
struct Routed<'r> {
    incoming: Incoming,
    path: Vec<String>,
    route: &'r Route,
}

/// Either the work went on, or this is the answer.
type Step<T> = Result<T, Answer>;

impl Inner {
    /// Finds the operation and runs it.
    async fn dispatch<B>(&self, incoming: Incoming, body: B, call: &observe::Call) -> Step<Outcome>
    where
        B: http_body::Body<Data: Send, Error: fmt::Display> + Send,
    {
        request::check_headers(&incoming.parts, self.limits)?;
        let parts = &incoming.parts;
        let (route, path) = match self.router.find(&parts.method, parts.uri.path()) {
            Match::Found { route, path } => (route, path),
            Match::OtherMethods(allow) => return Err(Refusal::Method { allow }.into()),
            Match::Nothing => return Err(Refusal::NotFound.into()),
        };
        call.operation(&route.meta);
        let routed = Routed { incoming, path, route };
        macro_rules! dispatch {
            ($($name:ident => $endpoint:ty,)+) => {
                match route.operation {
                    $(Operation::$name => self.$name(routed, body).await,)+
                    Operation::metadata => self.metadata(),
                }
            };
        }
        for_each_partner_endpoint!(dispatch)
    }

    async fn user<B: Send>(&self, routed: Routed<'_>, _: B) -> Step<Outcome> {
        let caller = self.caller(&routed).await?;
        let request = read::<GetUser>(&routed.path, &routed.incoming, &[])?;
        let answer = self.partner.user(&caller, request).await;
        let mut answer = answer.map_err(|error| self.data_failed(error, &caller))?;
        grant::filter_user(&mut answer, &caller.grant);
        check::user(self.check, &answer, &caller)?;
        Ok(Answer::ok(&answer).into())
    }

    async fn transactions<B: Send>(&self, routed: Routed<'_>, _: B) -> Step<Outcome> {
        let caller = self.caller(&routed).await?;
        let request = read::<ListTransactions>(&routed.path, &routed.incoming, &[])?;
        let query = request.query.clone();
        let answer = transactions::page(&*self.partner, &caller, request, &self.windows).await;
        let answer = answer.map_err(|error| self.data_failed(error, &caller))?;
        check::transactions(self.check, &answer, &query, &caller)?;
        Ok(Answer::ok(&answer).into())
    }

    async fn current_user<B: Send>(&self, routed: Routed<'_>, _: B) -> Step<Outcome> {
        let caller = self.caller(&routed).await?;
        let request = read::<GetCurrentUser>(&routed.path, &routed.incoming, &[])?;
        let answer = self.partner.current_user(&caller, request).await;
        let answer = answer.map_err(|error| self.data_failed(error, &caller))?;
        Ok(Answer::ok(&answer).into())
    }

    async fn authorize<B: Send>(&self, routed: Routed<'_>, _: B) -> Step<Outcome> {
        let (Some(oauth), Some(pages)) = (&self.oauth, &self.pages) else {
            return Err(Answer::not_found());
        };
        let query = routed.incoming.parts.uri.query().unwrap_or_default();
        let page = match oauth.authorize(query).await {
            Authorization::Ask(request) => pages.ask(*request, &routed.incoming.parts).await,
            Authorization::Refused(refusal) => pages.refuse(refusal).await,
            Authorization::Redirect(location) => redirect(&location)?,
        };
        Ok(Outcome::Page(page))
    }

    async fn token<B>(&self, routed: Routed<'_>, body: B) -> Step<Outcome>
    where
        B: http_body::Body<Data: Send, Error: fmt::Display> + Send,
    {
        let oauth = self.oauth.as_ref().ok_or_else(Answer::not_found)?;
        let (client, body) = self.form(oauth, &routed.incoming, body).await?;
        let answer = oauth.token_of(client, &routed.incoming.parts.headers, &body).await;
        let answer = answer.map_err(|error| self.oauth_failed(&error, &routed.incoming))?;
        let answer = Answer::ok(&answer);
        Ok(answer.with(header::PRAGMA, HeaderValue::from_static("no-cache")).into())
    }

    async fn revoke<B>(&self, routed: Routed<'_>, body: B) -> Step<Outcome>
    where
        B: http_body::Body<Data: Send, Error: fmt::Display> + Send,
    {
        let oauth = self.oauth.as_ref().ok_or_else(Answer::not_found)?;
        let (client, body) = self.form(oauth, &routed.incoming, body).await?;
        let answer = oauth.revoke_of(client, &routed.incoming.parts.headers, &body).await;
        answer.map_err(|error| self.oauth_failed(&error, &routed.incoming))?;
        Ok(Answer::ok(&codec::Empty).into())
    }

    /// A form of the OAuth endpoints. A client that shows who it is in a header is authenticated
    /// before anything of the body is read.
    async fn form<B>(
        &self,
        oauth: &OAuth,
        incoming: &Incoming,
        body: B,
    ) -> Step<(Option<Client>, Bytes)>
    where
        B: http_body::Body<Data: Send, Error: fmt::Display> + Send,
    {
        self.may_authenticate(incoming)?;
        let headers = &incoming.parts.headers;
        let client = match headers.contains_key(header::AUTHORIZATION) {
            true => {
                let client = oauth.authenticate_client(headers).await;
                Some(client.map_err(|error| self.oauth_failed(&error, incoming))?)
            }
            false => None,
        };
        let limit = self.limits.body.min(request::MAX_FORM_BYTES);
        let body = request::read_body(body, limit, &incoming.budget).await?;
        Ok((client, body))
    }

    /// Refuses an address of which too many requests failed to authenticate.
    fn may_authenticate(&self, incoming: &Incoming) -> Step<()> {
        self.guards.failures.check(incoming.address).map_err(|wait| {
            let error = crate::Error::too_many_requests(wait);
            Answer::from_error(&error, self.clock.now())
        })
    }

    fn metadata(&self) -> Step<Outcome> {
        let oauth = self.oauth.as_ref().ok_or_else(Answer::not_found)?;
        Ok(Answer::json(StatusCode::OK, px_types::wire::encode(&oauth.metadata())).into())
    }

    async fn auth_token<B>(&self, routed: Routed<'_>, body: B) -> Step<Outcome>
    where
        B: http_body::Body<Data: Send, Error: fmt::Display> + Send,
    {
        let (credentials, client, incoming, request) =
            self.client_request::<RequestAuthToken, B>(routed, body).await?;
        let answer = credentials.auth_token(&client, request).await;
        let answer = answer.map_err(|error| self.failed(&error, &incoming.request_id))?;
        Ok(Answer::ok(&answer).into())
    }

    async fn send_otp<B>(&self, routed: Routed<'_>, body: B) -> Step<Outcome>
    where
        B: http_body::Body<Data: Send, Error: fmt::Display> + Send,
    {
        let (credentials, client, incoming, request) =
            self.client_request::<SendOtp, B>(routed, body).await?;
        let answer = credentials.send_otp(&client, request).await;
        let answer = answer.map_err(|error| self.failed(&error, &incoming.request_id))?;
        Ok(Answer::ok(&answer).into())
    }

    async fn two_factor<B>(&self, routed: Routed<'_>, body: B) -> Step<Outcome>
    where
        B: http_body::Body<Data: Send, Error: fmt::Display> + Send,
    {
        let (credentials, client, incoming, request) =
            self.client_request::<ValidateTwoFactor, B>(routed, body).await?;
        let answer = credentials.two_factor(&client, request).await;
        let answer = answer.map_err(|error| self.failed(&error, &incoming.request_id))?;
        Ok(Answer::ok(&answer).into())
    }

    /// The signature is over the raw body, so nothing of it is read before.
    async fn application_linked<B>(&self, routed: Routed<'_>, body: B) -> Step<Outcome>
    where
        B: http_body::Body<Data: Send, Error: fmt::Display> + Send,
    {
        let verifier = self.notifications.as_ref().ok_or_else(Answer::not_found)?;
        let Routed { incoming, path, .. } = routed;
        let headers = &incoming.parts.headers;
        let signature = request::one_text(headers, VERIFICATION_HEADER);
        // What has no signature that could be right costs no body.
        let form = verifier.check_form(signature.unwrap_or_default());
        form.map_err(|error| self.signature_failed(&error, &incoming))?;
        let body = request::read_body(body, self.limits.body, &incoming.budget).await?;
        // Unless it ends well it is forgotten, and the next attempt is handed on.
        let address = CallerAddr::of(&incoming.parts.extensions);
        let begun = match verifier.begin(signature.unwrap_or_default(), &body, address).await {
            Ok(begun) => begun,
            // It was handed on before; anything but 200 would have it sent again.
            Err(error) if error.kind() == VerifyErrorKind::Replay => {
                return Ok(Answer::ok(&codec::Empty).into());
            }
            Err(error) => return Err(self.signature_failed(&error, &incoming)),
        };
        request::require_json(headers)?;
        let request = read::<NotifyApplicationLinked>(&path, &incoming, &body)?;
        // It can be signed without an id, and again by another key: its own id counts.
        let id = request.notification.notification_id.clone();
        let handing = match self.notified.begin(id.as_str(), self.clock.now()) {
            Ok(handing) => handing,
            Err(State::Done) => return Ok(Answer::ok(&codec::Empty).into()),
            Err(State::Pending) => {
                return Err(Answer::from_error(&crate::Error::unavailable(), self.clock.now()));
            }
        };
        let handed_on = self.partner.application_linked(request.notification).await;
        handed_on.map_err(|error| {
            if error.kind() == Kind::NotOffered {
                tracing::error!(
                    request_id = &*incoming.request_id,
                    "a notification was verified and is lost: the service was given a verifier, \
                     and `Partner::application_linked` is not implemented"
                );
            }
            self.failed(&error, &incoming.request_id)
        })?;
        handing.done();
        begun.done();
        Ok(Answer::ok(&codec::Empty).into())
    }

    /// A signature that is not to be acted on. No token was sent, so this 401 ends none.
    fn signature_failed(&self, error: &SignatureError, incoming: &Incoming) -> Answer {
        observe::failed(error, &incoming.request_id);
        match error.kind() {
            VerifyErrorKind::KeyUnavailable | VerifyErrorKind::Pending => {
                Answer::from_error(&crate::Error::unavailable(), self.clock.now())
            }
            _ => Answer::invalid_signature(&error.to_string()),
        }
    }

    /// Who calls: token, rate, principal and scope, in the order of the contract.
    async fn caller(&self, routed: &Routed<'_>) -> Step<Caller> {
        let incoming = &routed.incoming;
        let token = bearer::token(&incoming.parts.headers)?;
        self.may_authenticate(incoming)?;
        let context = TokenContext::of(&incoming.parts.extensions);
        let grant = match self.verifier.verify_call(&token, &context).await {
            Ok(grant) => grant,
            Err(VerifyError::Invalid(refusal)) => {
                self.guards.failures.failed(incoming.address);
                let request_id = &*incoming.request_id;
                tracing::info!(request_id, reason = %refusal, "a token was refused");
                return Err(Answer::invalid_token());
            }
            Err(VerifyError::Misconfigured(problem)) => {
                let error = crate::Error::unavailable().with_source(problem);
                return Err(self.failed(&error, &incoming.request_id));
            }
            Err(VerifyError::Unavailable(source)) => {
                let error = crate::Error::unavailable().with_source(source);
                return Err(self.failed(&error, &incoming.request_id));
            }
        };
        if let Some(limit) = &self.rate_limit {
            let checked = limit.check(grant.client_id.as_ref(), Some(&grant.principal));
            checked.map_err(|wait| {
                let error = crate::Error::too_many_requests(wait);
                Answer::from_error(&error, self.clock.now())
            })?;
        }
        Self::allow(&grant, routed)?;
        Ok(Caller {
            grant,
            request_id: incoming.request_id.clone(),
            certificate: context.certificate.presented().cloned(),
            address: context.address,
        })
    }

    /// Principal and scope. The answer says nothing about whether a user exists.
    fn allow(grant: &TokenGrant, routed: &Routed<'_>) -> Step<()> {
        if routed.path.first().is_some_and(|user_id| user_id != grant.principal.as_str()) {
            return Err(Answer::forbidden());
        }
        let Auth::Bearer(scope) = routed.route.meta.auth else {
            return Err(Answer::internal());
        };
        match scope.name() {
            Some(name) if !grant.scopes.allows(name) => Err(Answer::insufficient_scope(name)),
            _ => Ok(()),
        }
    }

    /// A request of credentials mode: the client first, then the body.
    async fn client_request<E, B>(
        &self,
        routed: Routed<'_>,
        body: B,
    ) -> Step<(&dyn Credentials, px_types::ClientId, Incoming, E)>
    where
        E: Endpoint,
        B: http_body::Body<Data: Send, Error: fmt::Display> + Send,
    {
        let (Some(credentials), Some(clients)) = (&self.credentials, &self.clients) else {
            return Err(Answer::not_found());
        };
        let Routed { incoming, path, .. } = routed;
        let headers = &incoming.parts.headers;
        self.may_authenticate(&incoming)?;
        let client = crate::oauth::authenticate_client(&**clients, headers).await;
        let client = client.map_err(|error| self.client_failed(&error, &incoming))?;
        if E::Body::KIND == BodyKind::Json {
            request::require_json(headers)?;
        }
        let body = request::read_body(body, self.limits.body, &incoming.budget).await?;
        let request = read::<E>(&path, &incoming, &body)?;
        Ok((&**credentials, client.id, incoming, request))
    }

    /// The partner's code failed: logs the cause once, answers the public half.
    fn failed(&self, error: &crate::Error, request_id: &str) -> Answer {
        observe::failed(error, request_id);
        Answer::from_error(error, self.clock.now())
    }

    /// The partner's code failed on a call with a token. The token was good, and a 401 would
    /// end it: a refused sign-in, which belongs to credentials mode, is a failure here.
    fn data_failed(&self, error: crate::Error, caller: &Caller) -> Answer {
        let error = match error.kind() {
            Kind::SignInRefused => crate::Error::internal(error),
            _ => error,
        };
        self.failed(&error, &caller.request_id)
    }

    /// Counts a client that did not authenticate.
    fn count_failure(&self, error: &OAuthError, incoming: &Incoming) {
        if error.kind() == OAuthErrorKind::InvalidClient {
            self.guards.failures.failed(incoming.address);
        }
    }

    /// A refusal of the OAuth kit, in the form of RFC 6749.
    fn oauth_failed(&self, error: &OAuthError, incoming: &Incoming) -> Answer {
        self.count_failure(error, incoming);
        observe::failed(error, &incoming.request_id);
        let mut answer = Answer::json(error.status(), error.body());
        if let Some(challenge) = error.www_authenticate() {
            answer = answer.challenge(challenge);
        }
        if let Some(wait) = error.retry_after() {
            answer = answer.with(header::RETRY_AFTER, call::retry_after(wait));
        }
        answer
    }

    /// A refusal of a client in credentials mode, in the form of the contract.
    fn client_failed(&self, error: &OAuthError, incoming: &Incoming) -> Answer {
        self.count_failure(error, incoming);
        observe::failed(error, &incoming.request_id);
        match error.status() {
            StatusCode::UNAUTHORIZED => Answer::invalid_client(),
            StatusCode::BAD_REQUEST => {
                Answer::bad_request("The client's credentials cannot be read.")
            }
            _ => Answer::from_error(&crate::Error::unavailable(), self.clock.now()),
        }
    }
}

/// Reads a request; what is wrong with it is named.
fn read<E: Endpoint>(path: &[String], incoming: &Incoming, body: &[u8]) -> Step<E> {
    codec::from_http(path, incoming.parts.uri.query(), body)
        .map_err(|rejection| Answer::bad_request(format!("The request is not valid: {rejection}.")))
}

/// A redirect of the browser.
fn redirect(location: &str) -> Step<Response<Bytes>> {
    let location = HeaderValue::from_str(location).map_err(|_| Answer::internal())?;
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::FOUND;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}
