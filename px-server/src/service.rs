//! The partner's API as a tower service.
//!
//! Implements, once, what every partner needs: routing, limits, tokens, principal and scope,
//! parameters, the grant filter, the response check, request ids, error bodies and headers. It does
//! not depend on a framework; connection limits, TLS and the address allow-list are layers and
//! adapters around it.

mod bearer;
mod builder;
mod check;
#[cfg(feature = "jwt")]
mod notification_ids;
#[cfg(feature = "jwt")]
mod notifications;
mod response;
mod transactions;
mod window_cache;

pub use builder::{PartnerServiceBuildError, PartnerServiceBuilder};
pub use check::ResponseCheck;

use crate::{
    Caller, ErrorKind, Partner, TokenGrant,
    call::{self, Api, Guards, Incoming, Limits, RequestRefusal, observe, request},
    clients::{Client, Clients},
    credentials::Credentials,
    guard::{RateLimit, grant},
    oauth::{Authorization, AuthorizePages, OAuth, OAuthError, OAuthErrorKind},
    router::{Match, Operation, Route, Router},
    verify::{TokenContext, TokenVerifier, VerifyError},
};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use px_core::{Clock, Random};
use px_types::{
    Auth, Endpoint,
    endpoint::codec::{self, BodyKind, RequestBody as _},
    for_each_partner_endpoint,
    partner::{
        GetCurrentUser, GetUser, ListTransactions, RequestAuthToken, SendOtp, ValidateTwoFactor,
    },
};
use response::ApiResponse;
use std::{fmt, sync::Arc};

/// A partner's API over the bank's own code: receives `http` requests and returns `http` responses.
///
/// Cheap to clone. The error type is `Infallible`: every failure is a response.
///
/// # Examples
/// See `examples/minimal_axum.rs` and `examples/minimal_hyper.rs` for whole programs.
#[derive(Clone)]
pub struct PartnerService(Arc<ServiceState>);

/// The components of the service. Not generic, so that the generic code in `call` stays small.
struct ServiceState {
    partner: Arc<dyn Partner>,
    verifier: Arc<dyn TokenVerifier>,
    oauth: Option<OAuth>,
    pages: Option<Arc<dyn AuthorizePages>>,
    credentials: Option<Arc<dyn Credentials>>,
    clients: Option<Arc<dyn Clients>>,
    #[cfg(feature = "jwt")]
    notifications: Option<notifications::Notifications>,
    rate_limit: Option<RateLimit>,
    router: Router,
    limits: Limits,
    guards: Guards,
    windows: window_cache::WindowCache,
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
    /// Starts a builder with the bank's own code. Call [`PartnerServiceBuilder::build`] at the
    /// end.
    #[must_use]
    pub fn builder(partner: impl Partner) -> PartnerServiceBuilder {
        PartnerServiceBuilder::new(Arc::new(partner))
    }

    /// Responds to one request.
    pub async fn respond<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: http_body::Body<Data: Send, Error: fmt::Display> + Send,
    {
        call::respond(&*self.0, request).await
    }
}

call::tower_service!(PartnerService);

impl Api for ServiceState {
    fn random(&self) -> &dyn Random {
        &*self.random
    }

    fn guards(&self) -> &Guards {
        &self.guards
    }

    fn busy(&self, request_id: &str) -> Response<Bytes> {
        ApiResponse::from(RequestRefusal::Busy).into_http(request_id)
    }

    async fn route<B>(&self, incoming: Incoming, body: B, call: &observe::Call) -> Response<Bytes>
    where
        B: http_body::Body<Data: Send, Error: fmt::Display> + Send,
    {
        let request_id = incoming.request_id.clone();
        match self.dispatch(incoming, body, call).await {
            Ok(ServiceResponse::Api(response)) | Err(response) => response.into_http(&request_id),
            Ok(ServiceResponse::Page(page)) => page,
        }
    }

    fn panicked(&self, request_id: &str) -> Response<Bytes> {
        ApiResponse::internal().into_http(request_id)
    }
}

/// A response of the API, or a page of the bank.
enum ServiceResponse {
    Api(ApiResponse),
    Page(Response<Bytes>),
}

impl From<ApiResponse> for ServiceResponse {
    fn from(response: ApiResponse) -> Self {
        Self::Api(response)
    }
}

/// A request that was routed to an operation, without its body.
struct Routed<'r> {
    incoming: Incoming,
    path: Vec<String>,
    route: &'r Route,
}

/// The result of a step, or the response that ends the request.
type ApiResult<T> = Result<T, ApiResponse>;

impl ServiceState {
    /// Finds the operation and runs it.
    async fn dispatch<B>(
        &self,
        incoming: Incoming,
        body: B,
        call: &observe::Call,
    ) -> ApiResult<ServiceResponse>
    where
        B: http_body::Body<Data: Send, Error: fmt::Display> + Send,
    {
        request::check_headers(&incoming.parts, self.limits)?;
        let parts = &incoming.parts;
        let (route, path) = match self.router.find(&parts.method, parts.uri.path()) {
            Match::Found { route, path } => (route, path),
            Match::OtherMethods(allow) => return Err(RequestRefusal::Method { allow }.into()),
            Match::Nothing => return Err(RequestRefusal::NotFound.into()),
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

    async fn user<B: Send>(&self, routed: Routed<'_>, _: B) -> ApiResult<ServiceResponse> {
        let caller = self.caller(&routed).await?;
        let request = read::<GetUser>(&routed.path, &routed.incoming, &[])?;
        let response = self.partner.user(&caller, request).await;
        let mut response = response.map_err(|error| self.data_error(error, &caller))?;
        grant::filter_user(&mut response, &caller.grant);
        check::user(self.check, &response, &caller)?;
        Ok(ApiResponse::ok(&response).into())
    }

    async fn transactions<B: Send>(&self, routed: Routed<'_>, _: B) -> ApiResult<ServiceResponse> {
        let caller = self.caller(&routed).await?;
        let request = read::<ListTransactions>(&routed.path, &routed.incoming, &[])?;
        let query = request.query.clone();
        let response = transactions::page(&*self.partner, &caller, request, &self.windows).await;
        let response = response.map_err(|error| self.data_error(error, &caller))?;
        check::transactions(self.check, &response, &query, &caller)?;
        Ok(ApiResponse::ok(&response).into())
    }

    async fn current_user<B: Send>(&self, routed: Routed<'_>, _: B) -> ApiResult<ServiceResponse> {
        let caller = self.caller(&routed).await?;
        let request = read::<GetCurrentUser>(&routed.path, &routed.incoming, &[])?;
        let response = self.partner.current_user(&caller, request).await;
        let response = response.map_err(|error| self.data_error(error, &caller))?;
        Ok(ApiResponse::ok(&response).into())
    }

    async fn authorize<B: Send>(&self, routed: Routed<'_>, _: B) -> ApiResult<ServiceResponse> {
        let (Some(oauth), Some(pages)) = (&self.oauth, &self.pages) else {
            return Err(ApiResponse::not_found());
        };
        let query = routed.incoming.parts.uri.query().unwrap_or_default();
        let page = match oauth.authorize(query).await {
            Authorization::Prompt(request) => pages.ask(*request, &routed.incoming.parts).await,
            Authorization::Refused(refusal) => pages.refuse(refusal).await,
            Authorization::Redirect(location) => redirect(&location)?,
        };
        Ok(ServiceResponse::Page(page))
    }

    async fn token<B>(&self, routed: Routed<'_>, body: B) -> ApiResult<ServiceResponse>
    where
        B: http_body::Body<Data: Send, Error: fmt::Display> + Send,
    {
        let oauth = self.oauth.as_ref().ok_or_else(ApiResponse::not_found)?;
        let (client, body) = self.form(oauth, &routed.incoming, body).await?;
        let response = oauth.token_for(client, &routed.incoming.parts.headers, &body).await;
        let response = response.map_err(|error| self.oauth_error(&error, &routed.incoming))?;
        let response = ApiResponse::ok(&response);
        Ok(response.with(header::PRAGMA, HeaderValue::from_static("no-cache")).into())
    }

    async fn revoke<B>(&self, routed: Routed<'_>, body: B) -> ApiResult<ServiceResponse>
    where
        B: http_body::Body<Data: Send, Error: fmt::Display> + Send,
    {
        let oauth = self.oauth.as_ref().ok_or_else(ApiResponse::not_found)?;
        let (client, body) = self.form(oauth, &routed.incoming, body).await?;
        let response = oauth.revoke_for(client, &routed.incoming.parts.headers, &body).await;
        response.map_err(|error| self.oauth_error(&error, &routed.incoming))?;
        Ok(ApiResponse::ok(&codec::Empty).into())
    }

    /// Reads a form of the OAuth endpoints. A client that authenticates by a header is checked
    /// before the body is read.
    async fn form<B>(
        &self,
        oauth: &OAuth,
        incoming: &Incoming,
        body: B,
    ) -> ApiResult<(Option<Client>, Bytes)>
    where
        B: http_body::Body<Data: Send, Error: fmt::Display> + Send,
    {
        self.check_failure_limit(incoming)?;
        let headers = &incoming.parts.headers;
        let client = match headers.contains_key(header::AUTHORIZATION) {
            true => {
                let client = oauth.authenticate_client(headers).await;
                Some(client.map_err(|error| self.oauth_error(&error, incoming))?)
            }
            false => None,
        };
        let limit = self.limits.body.min(request::MAX_FORM_BYTES);
        let body = request::read_body(body, limit, &incoming.budget).await?;
        Ok((client, body))
    }

    /// Refuses an address from which too many requests failed to authenticate.
    fn check_failure_limit(&self, incoming: &Incoming) -> ApiResult<()> {
        self.guards.failures.check(incoming.address).map_err(|wait| {
            let error = crate::Error::too_many_requests(wait);
            ApiResponse::from_error(&error, self.clock.now())
        })
    }

    fn metadata(&self) -> ApiResult<ServiceResponse> {
        let oauth = self.oauth.as_ref().ok_or_else(ApiResponse::not_found)?;
        Ok(ApiResponse::json(StatusCode::OK, px_types::wire::encode(&oauth.metadata())).into())
    }

    async fn auth_token<B>(&self, routed: Routed<'_>, body: B) -> ApiResult<ServiceResponse>
    where
        B: http_body::Body<Data: Send, Error: fmt::Display> + Send,
    {
        let (credentials, client, incoming, request) =
            self.client_request::<RequestAuthToken, B>(routed, body).await?;
        let response = credentials.auth_token(&client, request).await;
        let response =
            response.map_err(|error| self.partner_error(&error, &incoming.request_id))?;
        Ok(ApiResponse::ok(&response).into())
    }

    async fn send_otp<B>(&self, routed: Routed<'_>, body: B) -> ApiResult<ServiceResponse>
    where
        B: http_body::Body<Data: Send, Error: fmt::Display> + Send,
    {
        let (credentials, client, incoming, request) =
            self.client_request::<SendOtp, B>(routed, body).await?;
        let response = credentials.send_otp(&client, request).await;
        let response =
            response.map_err(|error| self.partner_error(&error, &incoming.request_id))?;
        Ok(ApiResponse::ok(&response).into())
    }

    async fn two_factor<B>(&self, routed: Routed<'_>, body: B) -> ApiResult<ServiceResponse>
    where
        B: http_body::Body<Data: Send, Error: fmt::Display> + Send,
    {
        let (credentials, client, incoming, request) =
            self.client_request::<ValidateTwoFactor, B>(routed, body).await?;
        let response = credentials.two_factor(&client, request).await;
        let response =
            response.map_err(|error| self.partner_error(&error, &incoming.request_id))?;
        Ok(ApiResponse::ok(&response).into())
    }

    /// Without the feature `jwt` no notification can be verified, and the path is unknown.
    #[cfg(not(feature = "jwt"))]
    async fn application_linked<B>(&self, _: Routed<'_>, _: B) -> ApiResult<ServiceResponse> {
        Err(ApiResponse::not_found())
    }

    /// Returns the caller after checking token, rate limit, principal and scope, in the order
    /// of the contract.
    async fn caller(&self, routed: &Routed<'_>) -> ApiResult<Caller> {
        let incoming = &routed.incoming;
        let token = bearer::token(&incoming.parts.headers)?;
        self.check_failure_limit(incoming)?;
        let context = TokenContext::of(&incoming.parts.extensions);
        let grant = match self.verifier.verify_call(&token, &context).await {
            Ok(grant) => grant,
            Err(VerifyError::Invalid(refusal)) => {
                self.guards.failures.failed(incoming.address);
                let request_id = &*incoming.request_id;
                tracing::info!(request_id, reason = %refusal, "a token was refused");
                return Err(ApiResponse::invalid_token());
            }
            Err(VerifyError::Misconfigured(problem)) => {
                let error = crate::Error::unavailable().with_source(problem);
                return Err(self.partner_error(&error, &incoming.request_id));
            }
            Err(VerifyError::Unavailable(source)) => {
                let error = crate::Error::unavailable().with_source(source);
                return Err(self.partner_error(&error, &incoming.request_id));
            }
        };
        if let Some(limit) = &self.rate_limit {
            let checked = limit.check(grant.client_id.as_ref(), Some(&grant.principal));
            checked.map_err(|wait| {
                let error = crate::Error::too_many_requests(wait);
                ApiResponse::from_error(&error, self.clock.now())
            })?;
        }
        Self::check_grant(&grant, routed)?;
        Ok(Caller {
            grant,
            request_id: incoming.request_id.clone(),
            certificate: context.certificate.presented().cloned(),
            address: context.address,
        })
    }

    /// Checks principal and scope. The response does not reveal whether a user exists.
    fn check_grant(grant: &TokenGrant, routed: &Routed<'_>) -> ApiResult<()> {
        if routed.path.first().is_some_and(|user_id| user_id != grant.principal.as_str()) {
            return Err(ApiResponse::forbidden());
        }
        let Auth::Bearer(scope) = routed.route.meta.auth else {
            return Err(ApiResponse::internal());
        };
        match scope.name() {
            Some(name) if !grant.scopes.allows(name) => Err(ApiResponse::insufficient_scope(name)),
            _ => Ok(()),
        }
    }

    /// Reads a request of credentials mode: authenticates the client, then reads the body.
    async fn client_request<E, B>(
        &self,
        routed: Routed<'_>,
        body: B,
    ) -> ApiResult<(&dyn Credentials, px_types::ClientId, Incoming, E)>
    where
        E: Endpoint,
        B: http_body::Body<Data: Send, Error: fmt::Display> + Send,
    {
        let (Some(credentials), Some(clients)) = (&self.credentials, &self.clients) else {
            return Err(ApiResponse::not_found());
        };
        let Routed { incoming, path, .. } = routed;
        let headers = &incoming.parts.headers;
        self.check_failure_limit(&incoming)?;
        let client = crate::oauth::authenticate_client(&**clients, headers).await;
        let client = client.map_err(|error| self.client_error(&error, &incoming))?;
        if E::Body::KIND == BodyKind::Json {
            request::require_json(headers)?;
        }
        let body = request::read_body(body, self.limits.body, &incoming.budget).await?;
        let request = read::<E>(&path, &incoming, &body)?;
        Ok((&**credentials, client.id, incoming, request))
    }

    /// Logs an error of the partner's code once, and returns its public part as the response.
    fn partner_error(&self, error: &crate::Error, request_id: &str) -> ApiResponse {
        observe::failed(error, request_id);
        ApiResponse::from_error(error, self.clock.now())
    }

    /// Like [`partner_error`](Self::partner_error), for a call with a token. The token was
    /// valid, and a 401 would end it, so a refused sign-in (which belongs to credentials mode)
    /// becomes an internal error.
    fn data_error(&self, error: crate::Error, caller: &Caller) -> ApiResponse {
        let error = match error.kind() {
            ErrorKind::SignInRefused => crate::Error::internal(error),
            _ => error,
        };
        self.partner_error(&error, &caller.request_id)
    }

    /// Counts a request if its client failed to authenticate.
    fn count_failure(&self, error: &OAuthError, incoming: &Incoming) {
        if error.kind() == OAuthErrorKind::InvalidClient {
            self.guards.failures.failed(incoming.address);
        }
    }

    /// Returns an error of the OAuth kit in the form of RFC 6749.
    fn oauth_error(&self, error: &OAuthError, incoming: &Incoming) -> ApiResponse {
        self.count_failure(error, incoming);
        observe::failed(error, &incoming.request_id);
        let mut response = ApiResponse::json(error.status(), error.body());
        if let Some(challenge) = error.www_authenticate() {
            response = response.challenge(challenge);
        }
        if let Some(wait) = error.retry_after() {
            response = response.with(header::RETRY_AFTER, call::retry_after(wait));
        }
        response
    }

    /// Returns a client authentication error in the form of the contract, for credentials mode.
    fn client_error(&self, error: &OAuthError, incoming: &Incoming) -> ApiResponse {
        self.count_failure(error, incoming);
        observe::failed(error, &incoming.request_id);
        match error.status() {
            StatusCode::UNAUTHORIZED => ApiResponse::invalid_client(),
            StatusCode::BAD_REQUEST => {
                ApiResponse::bad_request("The client's credentials cannot be read.")
            }
            _ => ApiResponse::from_error(&crate::Error::unavailable(), self.clock.now()),
        }
    }
}

/// Reads a request; the error response names the invalid part.
fn read<E: Endpoint>(path: &[String], incoming: &Incoming, body: &[u8]) -> ApiResult<E> {
    codec::from_http(path, incoming.parts.uri.query(), body).map_err(|rejection| {
        ApiResponse::bad_request(format!("The request is not valid: {rejection}."))
    })
}

/// Returns a redirect of the browser.
fn redirect(location: &str) -> ApiResult<Response<Bytes>> {
    let location = HeaderValue::from_str(location).map_err(|_| ApiResponse::internal())?;
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::FOUND;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}
