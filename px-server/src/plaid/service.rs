//! Plaid's API as a tower service: routing, limits, credentials, bodies and errors.

use super::{Caller, Error, Plaid, credentials::ClientAuthenticator, limits::CheckLimits};
use crate::{
    call::{self, Api, Guards, Incoming, Limits, RequestRefusal, observe, request},
    clients::Clients,
    guard::{CallerAddr, FailureLimit, RateLimit, open_calls::OpenCalls},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use px_core::{Random, SystemRandom};
use px_types::{
    ClientId, Endpoint,
    endpoint::{codec, path::match_path},
    for_each_plaid_endpoint,
};
use std::{fmt, sync::Arc};

/// Default rate limit of wrong secrets per client, per minute.
const DEFAULT_WRONG_SECRETS_PER_MINUTE: u32 = 30;

/// Plaid's API over the service's own code: receives `http` requests and returns `http` responses.
///
/// Cheap to clone. The error type is `Infallible`: every failure is a response, with a `PlaidError`
/// as its body. Each request is checked in this order: headers, path and method (404, 405), media
/// type of the body (415), client credentials in the headers (401), size of the body (413), client
/// credentials in the body (401), rate limit (429), content of the body (400); then the method
/// runs. Time limits are enforced by the server, as for [`PartnerService`](crate::PartnerService).
///
/// ```
/// use px_server::{clients::MemoryClients, guard::RateLimit, plaid::{Plaid, PlaidService}};
/// use std::sync::Arc;
///
/// # fn example(my_plaid: impl Plaid) -> Result<PlaidService, px_server::plaid::PlaidServiceBuildError> {
/// let clients = MemoryClients::default();
/// PlaidService::builder(my_plaid)
///     .clients(Arc::new(clients))
///     .rate_limit(RateLimit::per_minute(6000))
///     .build()
/// # }
/// ```
///
/// Serve it with `px_server::axum::router(service)` or
/// `px_server::hyper::serve(listener, service)`.
#[derive(Clone)]
pub struct PlaidService(Arc<ServiceState>);

struct ServiceState {
    plaid: Arc<dyn Plaid>,
    authenticator: ClientAuthenticator,
    limits: Limits,
    guards: Guards,
    random: Arc<dyn Random>,
}

/// Builder of a [`PlaidService`]. Everything but the clients is optional.
pub struct PlaidServiceBuilder {
    plaid: Arc<dyn Plaid>,
    clients: Option<Arc<dyn Clients>>,
    rate_limit: Option<RateLimit>,
    wrong_secrets: RateLimit,
    failures: FailureLimit,
    limits: Limits,
    guards: Guards,
    random: Arc<dyn Random>,
}

/// Error of [`PlaidServiceBuilder::build`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlaidServiceBuildError {
    /// No registry of clients is set.
    #[error("no client registry is set: call `clients(…)` on the builder")]
    NoClients,
    /// A limit is zero, so every request would be refused.
    #[error("a limit is zero, so every request would be refused")]
    ZeroLimit,
}

impl PlaidServiceBuilder {
    /// Sets the partners and applications that may call.
    #[must_use]
    pub fn clients(mut self, clients: Arc<dyn Clients>) -> Self {
        self.clients = Some(clients);
        self
    }

    /// Limits the rate of requests per client. Not limited by default.
    #[must_use]
    pub fn rate_limit(mut self, limit: RateLimit) -> Self {
        self.rate_limit = Some(limit);
        self
    }

    /// Limits the rate of wrong secrets per client named; 30 per minute by default. Beyond it
    /// the response is 429 instead of 401.
    ///
    /// The limit slows down a client after a change of its secret, and makes guessing visible. It
    /// does not lock: the right secret is accepted however many wrong ones came before.
    /// Otherwise anyone who knows a client's id could lock the client out. It therefore does
    /// **not** protect a secret that can be guessed: secrets must be long and random. It also
    /// does not stop a caller that names a different id each time, because each id is counted
    /// separately; use [`failure_limit`](Self::failure_limit) for that.
    #[must_use]
    pub fn wrong_secrets(mut self, limit: RateLimit) -> Self {
        self.wrong_secrets = limit;
        self
    }

    /// Limits the rate of requests of one address that fail to authenticate; 100 per minute by
    /// default. The addresses are those of [`CallerAddr`](crate::guard::CallerAddr).
    #[must_use]
    pub fn failure_limit(mut self, limit: FailureLimit) -> Self {
        self.failures = limit;
        self
    }

    /// Sets the maximum number of concurrent calls; 1,024 by default. One address may use a
    /// quarter of them. Further calls are refused with 503.
    #[must_use]
    pub fn max_open_calls(mut self, calls: usize) -> Self {
        self.guards.open_calls = OpenCalls::new(calls);
        self
    }

    /// Sets the maximum size of a request body, in bytes; 1 MiB by default, enough for a batch
    /// of 2000 entries of about 500 bytes.
    #[must_use]
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.limits.body = bytes;
        self
    }

    /// Sets the maximum size of the headers, in bytes, and their maximum number; 32 KiB and 100
    /// by default.
    #[must_use]
    pub fn max_headers(mut self, bytes: usize, fields: usize) -> Self {
        (self.limits.header_bytes, self.limits.header_fields) = (bytes, fields);
        self
    }

    /// Sets the source of request ids; the operating system's random generator by default.
    #[must_use]
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// Builds the service.
    ///
    /// # Errors
    /// - [`PlaidServiceBuildError::NoClients`] if `clients` is not set.
    /// - [`PlaidServiceBuildError::ZeroLimit`] if a limit is zero.
    pub fn build(self) -> Result<PlaidService, PlaidServiceBuildError> {
        let limits = self.limits;
        if limits.has_zero() {
            return Err(PlaidServiceBuildError::ZeroLimit);
        }
        Ok(PlaidService(Arc::new(ServiceState {
            plaid: self.plaid,
            authenticator: ClientAuthenticator {
                clients: self.clients.ok_or(PlaidServiceBuildError::NoClients)?,
                calls: self.rate_limit,
                wrong_secrets: self.wrong_secrets,
                failures: self.failures,
            },
            limits,
            guards: self.guards,
            random: self.random,
        })))
    }
}

impl fmt::Debug for PlaidServiceBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlaidServiceBuilder").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl fmt::Debug for PlaidService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlaidService").finish_non_exhaustive()
    }
}

impl PlaidService {
    /// Starts a builder with the service's own code. Call [`PlaidServiceBuilder::build`] at the
    /// end.
    #[must_use]
    pub fn builder(plaid: impl Plaid) -> PlaidServiceBuilder {
        PlaidServiceBuilder {
            plaid: Arc::new(plaid),
            clients: None,
            rate_limit: None,
            wrong_secrets: RateLimit::per_minute(DEFAULT_WRONG_SECRETS_PER_MINUTE).max_keys(10_000),
            failures: FailureLimit::default(),
            limits: Limits::default(),
            guards: Guards::default(),
            random: Arc::new(SystemRandom),
        }
    }

    /// Responds to one request.
    pub async fn respond<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: http_body::Body<Data: Send, Error: fmt::Display> + Send,
    {
        call::respond(&*self.0, request).await
    }

    /// Authenticates the client of a request to another route beside this API, by the same
    /// rules. The call counts against the client's rate limit.
    ///
    /// The id and the secret must both be in the headers, or both in the body. The route itself
    /// must decide what the client may access, as a method of [`Plaid`] must.
    ///
    /// ```
    /// use px_server::{guard::CallerAddr, plaid::{Caller, Error, PlaidService}};
    ///
    /// async fn our_own_route(
    ///     service: &PlaidService,
    ///     parts: &http::request::Parts,
    ///     body: &[u8],
    /// ) -> Result<Caller, Error> {
    ///     let address = CallerAddr::of(&parts.extensions);
    ///     let client = service.authenticate(&parts.headers, body, address).await?;
    ///     Ok(Caller::new(client, "the id of the request"))
    /// }
    /// ```
    ///
    /// # Errors
    /// - 401 if the client or the secret is missing, unknown or wrong.
    /// - 400 if the credentials occur twice, or the body cannot be read.
    /// - 429 after too many calls, wrong secrets or failed requests.
    /// - 503 if the registry of clients is not reachable.
    pub async fn authenticate(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        address: Option<CallerAddr>,
    ) -> Result<ClientId, Error> {
        let known = self.0.authenticator.authenticate_headers(headers, address).await?;
        self.0.authenticator.authenticate(known, headers, body, address).await
    }
}

call::tower_service!(PlaidService);

impl Api for ServiceState {
    fn random(&self) -> &dyn Random {
        &*self.random
    }

    fn guards(&self) -> &Guards {
        &self.guards
    }

    fn busy(&self, request_id: &str) -> Response<Bytes> {
        RefusedRequest::from(RequestRefusal::Busy).into_http(request_id)
    }

    async fn route<B>(&self, incoming: Incoming, body: B, call: &observe::Call) -> Response<Bytes>
    where
        B: http_body::Body<Data: Send, Error: fmt::Display> + Send,
    {
        let request_id = incoming.request_id.clone();
        self.dispatch(incoming, body, call).await.unwrap_or_else(|refused| {
            // Logs the cause once.
            observe::failed(&refused.error, &request_id);
            refused.into_http(&request_id)
        })
    }

    fn panicked(&self, request_id: &str) -> Response<Bytes> {
        RefusedRequest::from(Error::internal("a panic")).into_http(request_id)
    }
}

/// An error response.
struct RefusedRequest {
    error: Error,
    allow: Option<HeaderValue>,
}

impl From<RequestRefusal> for RefusedRequest {
    fn from(refusal: RequestRefusal) -> Self {
        Self { allow: refusal.allow(), error: refusal.into() }
    }
}

impl From<Error> for RefusedRequest {
    fn from(error: Error) -> Self {
        Self { error, allow: None }
    }
}

impl RefusedRequest {
    /// Encodes the public part as HTTP.
    fn into_http(self, request_id: &str) -> Response<Bytes> {
        let Self { error, allow } = self;
        let body = px_types::wire::encode(&error.to_plaid_error(request_id));
        let mut response = json(error.status(), body);
        let headers = response.headers_mut();
        if let Some(allow) = allow {
            headers.insert(header::ALLOW, allow);
        }
        if let Some(wait) = error.retry_after() {
            headers.insert(header::RETRY_AFTER, call::retry_after(wait));
        }
        response
    }
}

fn json(status: StatusCode, body: Vec<u8>) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

impl ServiceState {
    /// Finds the endpoint and runs it.
    async fn dispatch<B>(
        &self,
        incoming: Incoming,
        body: B,
        call: &observe::Call,
    ) -> Result<Response<Bytes>, RefusedRequest>
    where
        B: http_body::Body<Data: Send, Error: fmt::Display> + Send,
    {
        request::check_headers(&incoming.parts, self.limits)?;
        let path = incoming.parts.uri.path();
        // No path has a parameter, and each path has one method.
        macro_rules! dispatch {
            ($($name:ident => $endpoint:ty,)+) => {
                match path {
                    $(path if match_path(<$endpoint as Endpoint>::META.path, path).is_some() => {
                        call.operation(&<$endpoint as Endpoint>::META);
                        let (caller, request) = self.read::<$endpoint, B>(&incoming, body).await?;
                        let mut response = self.plaid.$name(&caller, request).await?;
                                                // Overrides the method's value, so that body,
                                                // header and log agree.
                        response.request_id = incoming.request_id.to_string();
                        Ok(json(StatusCode::OK, codec::ResponseBody::encode(&response)))
                    })+
                    _ => Err(RequestRefusal::NotFound.into()),
                }
            };
        }
        for_each_plaid_endpoint!(dispatch)
    }

    /// Authenticates the client and reads the request.
    async fn read<E, B>(&self, incoming: &Incoming, body: B) -> Result<(Caller, E), RefusedRequest>
    where
        E: Endpoint + CheckLimits,
        B: http_body::Body<Data: Send, Error: fmt::Display> + Send,
    {
        if incoming.parts.method != E::META.method {
            let allow = E::META.method.to_string();
            return Err(RequestRefusal::Method { allow }.into());
        }
        let headers = &incoming.parts.headers;
        request::require_json(headers)?;
        // Credentials in the headers are checked before the body is read.
        let known = self.authenticator.authenticate_headers(headers, incoming.address).await?;
        let body = request::read_body(body, self.limits.body, &incoming.budget).await?;
        let client_id =
            self.authenticator.authenticate(known, headers, &body, incoming.address).await?;
        let query = incoming.parts.uri.query();
        let request: E = codec::from_http(&[], query, &body).map_err(Error::from)?;
        request.check()?;
        Ok((Caller::new(client_id, incoming.request_id.clone()), request))
    }
}
