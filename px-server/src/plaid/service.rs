//! Plaid's API as a tower service: routing, limits, credentials, bodies, errors. Once, for all.

use super::{Caller, Error, Plaid, credentials::Gate, limits::Limited};
use crate::{
    call::{self, Api, Guards, Incoming, Limits, Refusal, observe, request},
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

/// How many wrong secrets a client may show in a minute, unless the builder is told otherwise.
const WRONG_SECRETS: u32 = 30;

/// Plaid's API over the service's own code: `http` requests in, `http` responses out.
///
/// Cheap to clone. Its error is `Infallible`: whatever goes wrong is an answer, and every refusal
/// is a `PlaidError`. For each request, in this order: headers, path and method (404, 405), the
/// kind of the body (415), the client where the headers name it (401), the size of the body (413),
/// the client where the body names it (401), the rate (429), the body as the endpoint's (400), and
/// then the method. Time limits are the server's, as with
/// [`PartnerService`](crate::PartnerService).
///
/// ```
/// use px_server::{clients::MemoryClients, guard::RateLimit, plaid::{Plaid, PlaidService}};
/// use std::sync::Arc;
///
/// # fn example(my_plaid: impl Plaid) -> Result<PlaidService, px_server::plaid::BuildError> {
/// let clients = MemoryClients::default();
/// PlaidService::builder(my_plaid)
///     .clients(Arc::new(clients))
///     .rate_limit(RateLimit::per_minute(6000))
///     .build()
/// # }
/// ```
///
/// It is served by `px_server::axum::router(service)` or `px_server::hyper::serve(listener, service)`.
#[derive(Clone)]
pub struct PlaidService(Arc<Inner>);

struct Inner {
    plaid: Arc<dyn Plaid>,
    gate: Gate,
    limits: Limits,
    guards: Guards,
    random: Arc<dyn Random>,
}

/// Puts a [`PlaidService`] together. All but the clients is optional.
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

/// Why a [`PlaidService`] cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Nobody knows the clients.
    #[error("nobody could call: give the builder `clients(…)`")]
    NoClients,
    /// A limit is zero.
    #[error("a limit of zero refuses every request")]
    ZeroLimit,
}

impl PlaidServiceBuilder {
    /// The partners and applications that may call.
    #[must_use]
    pub fn clients(mut self, clients: Arc<dyn Clients>) -> Self {
        self.clients = Some(clients);
        self
    }

    /// Limits the requests of each client.
    #[must_use]
    pub fn rate_limit(mut self, limit: RateLimit) -> Self {
        self.rate_limit = Some(limit);
        self
    }

    /// Limits wrong secrets, by the client that was named; 30 in a minute by default. What is
    /// beyond it is answered 429 and no more 401.
    ///
    /// It tells a client whose secret was changed to slow down, and shows who tries many. It does
    /// not lock: the right secret is let in however many wrong ones came before, or else anybody
    /// who knows a client's id could shut that client out. So it does **not** protect a secret
    /// that can be guessed, for a guess that is right is right behind any number of 429s: secrets
    /// must be long and random. Nor does it hold off a caller that names ever other ids, because
    /// each has its own count. That is what [`failure_limit`](Self::failure_limit) is for.
    #[must_use]
    pub fn wrong_secrets(mut self, limit: RateLimit) -> Self {
        self.wrong_secrets = limit;
        self
    }

    /// Limits how many requests of one address may fail to authenticate; 100 in a minute by
    /// default. The addresses are those of [`CallerAddr`](crate::guard::CallerAddr).
    #[must_use]
    pub fn failure_limit(mut self, limit: FailureLimit) -> Self {
        self.failures = limit;
        self
    }

    /// Maximum number of calls that are worked on at once; 1,024 by default, a quarter of which
    /// one address may use. Further ones are refused with 503.
    #[must_use]
    pub fn max_open_calls(mut self, calls: usize) -> Self {
        self.guards.open_calls = OpenCalls::new(calls);
        self
    }

    /// The most bytes that a body may have; 1 MiB by default, which holds a batch of 2000 entries
    /// of some 500 bytes.
    #[must_use]
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.limits.body = bytes;
        self
    }

    /// The most bytes and fields that headers may have; 32 KiB and 100 by default.
    #[must_use]
    pub fn max_headers(mut self, bytes: usize, fields: usize) -> Self {
        (self.limits.header_bytes, self.limits.header_fields) = (bytes, fields);
        self
    }

    /// Where request ids come from; the operating system's generator by default.
    #[must_use]
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// Puts it together.
    ///
    /// # Errors
    /// When parts are missing; see [`BuildError`].
    pub fn build(self) -> Result<PlaidService, BuildError> {
        let limits = self.limits;
        if limits.has_zero() {
            return Err(BuildError::ZeroLimit);
        }
        Ok(PlaidService(Arc::new(Inner {
            plaid: self.plaid,
            gate: Gate {
                clients: self.clients.ok_or(BuildError::NoClients)?,
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
    /// Begins with the service's own code; [`PlaidServiceBuilder::build`] ends it.
    #[must_use]
    pub fn builder(plaid: impl Plaid) -> PlaidServiceBuilder {
        PlaidServiceBuilder {
            plaid: Arc::new(plaid),
            clients: None,
            rate_limit: None,
            wrong_secrets: RateLimit::per_minute(WRONG_SECRETS).max_keys(10_000),
            failures: FailureLimit::default(),
            limits: Limits::default(),
            guards: Guards::default(),
            random: Arc::new(SystemRandom),
        }
    }

    /// Answers one request.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: http_body::Body<Data: Send, Error: fmt::Display> + Send,
    {
        call::answer(&*self.0, request).await
    }

    /// The client that a request shows in its headers or its body, for routes beside this API:
    /// by the same rules, and counted with its calls here.
    ///
    /// The id and the secret are both in the headers or both in the body, once. Whether the
    /// client may touch what it asks for is the route's matter, as it is a method's of [`Plaid`].
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
    /// 401 for a client or a secret that is missing, unknown or wrong; 400 when they are there
    /// twice or the body cannot be read; 429 for too many calls; 503 when the clients are out of
    /// reach.
    pub async fn authenticate(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        address: Option<CallerAddr>,
    ) -> Result<ClientId, Error> {
        let known = self.0.gate.by_headers(headers, address).await?;
        self.0.gate.let_in(known, headers, body, address).await
    }
}

call::tower_service!(PlaidService);

impl Api for Inner {
    fn random(&self) -> &dyn Random {
        &*self.random
    }

    fn guards(&self) -> &Guards {
        &self.guards
    }

    fn busy(&self, request_id: &str) -> Response<Bytes> {
        Refused::from(Refusal::Busy).into_http(request_id)
    }

    async fn route<B>(&self, incoming: Incoming, body: B, call: &observe::Call) -> Response<Bytes>
    where
        B: http_body::Body<Data: Send, Error: fmt::Display> + Send,
    {
        let request_id = incoming.request_id.clone();
        self.dispatch(incoming, body, call).await.unwrap_or_else(|refused| {
            // Logs the cause, once.
            observe::failed(&refused.error, &request_id);
            refused.into_http(&request_id)
        })
    }

    fn panicked(&self, request_id: &str) -> Response<Bytes> {
        Refused::from(Error::internal("a panic")).into_http(request_id)
    }
}

/// Why there is no good answer.
struct Refused {
    error: Error,
    allow: Option<HeaderValue>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { allow: refusal.allow(), error: refusal.into() }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { error, allow: None }
    }
}

impl Refused {
    /// The public half.
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

impl Inner {
    /// Finds the endpoint and runs it.
    async fn dispatch<B>(
        &self,
        incoming: Incoming,
        body: B,
        call: &observe::Call,
    ) -> Result<Response<Bytes>, Refused>
    where
        B: http_body::Body<Data: Send, Error: fmt::Display> + Send,
    {
        request::check_headers(&incoming.parts, self.limits)?;
        let path = incoming.parts.uri.path();
        // No path has a parameter, and each has one method.
        macro_rules! dispatch {
            ($($name:ident => $endpoint:ty,)+) => {
                match path {
                    $(path if match_path(<$endpoint as Endpoint>::META.path, path).is_some() => {
                        call.operation(&<$endpoint as Endpoint>::META);
                        let (caller, request) = self.read::<$endpoint, B>(&incoming, body).await?;
                        let mut answer = self.plaid.$name(&caller, request).await?;
                        // Whatever the method says: the log and the header have this one.
                        answer.request_id = incoming.request_id.to_string();
                        Ok(json(StatusCode::OK, codec::Reply::encode(&answer)))
                    })+
                    _ => Err(Refusal::NotFound.into()),
                }
            };
        }
        for_each_plaid_endpoint!(dispatch)
    }

    /// Who calls, and what for.
    async fn read<E, B>(&self, incoming: &Incoming, body: B) -> Result<(Caller, E), Refused>
    where
        E: Endpoint + Limited,
        B: http_body::Body<Data: Send, Error: fmt::Display> + Send,
    {
        if incoming.parts.method != E::META.method {
            let allow = E::META.method.to_string();
            return Err(Refusal::Method { allow }.into());
        }
        let headers = &incoming.parts.headers;
        request::require_json(headers)?;
        // What is known by the headers costs no body.
        let known = self.gate.by_headers(headers, incoming.address).await?;
        let body = request::read_body(body, self.limits.body, &incoming.budget).await?;
        let client_id = self.gate.let_in(known, headers, &body, incoming.address).await?;
        let query = incoming.parts.uri.query();
        let request: E = codec::from_http(&[], query, &body).map_err(Error::from)?;
        request.check()?;
        Ok((Caller::new(client_id, incoming.request_id.clone()), request))
    }
}
