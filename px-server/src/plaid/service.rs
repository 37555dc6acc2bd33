//! Plaid's API as a tower service: routing, limits, credentials, bodies, errors. Once, for all.

use super::{Caller, Error, Plaid, credentials, refusal};
use crate::{
    clients::Clients,
    clock::{Random, SystemRandom},
    guard::RateLimit,
    request_id,
    service::{
        Limits,
        answer::Answer,
        observe,
        request::{self, Incoming},
    },
};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::Full;
use px_types::{Endpoint, endpoint::codec, for_each_plaid_endpoint};
use std::{
    convert::Infallible,
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

/// Plaid's API over the service's own code: `http` requests in, `http` responses out.
///
/// Cheap to clone. Its error is [`Infallible`]: whatever goes wrong is an answer, and every
/// refusal is a `PlaidError`.
#[derive(Clone)]
pub struct PlaidService(Arc<Inner>);

struct Inner {
    plaid: Arc<dyn Plaid>,
    clients: Arc<dyn Clients>,
    rate_limit: Option<RateLimit>,
    limits: Limits,
    random: Arc<dyn Random>,
}

/// Puts a [`PlaidService`] together. All but the clients is optional.
pub struct PlaidServiceBuilder {
    plaid: Arc<dyn Plaid>,
    clients: Option<Arc<dyn Clients>>,
    rate_limit: Option<RateLimit>,
    limits: Limits,
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

    /// The most bytes that a body may have; 1 MiB by default.
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
        if [limits.body, limits.header_bytes, limits.header_fields].contains(&0) {
            return Err(BuildError::ZeroLimit);
        }
        Ok(PlaidService(Arc::new(Inner {
            plaid: self.plaid,
            clients: self.clients.ok_or(BuildError::NoClients)?,
            rate_limit: self.rate_limit,
            limits,
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
            limits: Limits::default(),
            random: Arc::new(SystemRandom),
        }
    }

    /// Answers one request.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: http_body::Body<Data: Send, Error: fmt::Display> + Send,
    {
        let inner = &*self.0;
        let (parts, body) = request.into_parts();
        let request_id = request_id::of(&parts.headers, &*inner.random);
        let head = parts.method == Method::HEAD;
        let call = observe::Call::begin(&parts.method, &request_id);
        let incoming = Incoming { parts, request_id: request_id.clone() };
        let work = AssertUnwindSafe(inner.route(incoming, body, &call)).catch_unwind();
        let answer = call.watch(work).await.unwrap_or_else(|_| {
            call.panicked();
            Err(Error::internal("a panic").into())
        });
        let answer = answer.unwrap_or_else(|refused| refused.into_answer(&request_id));
        let answer = answer.into_http(&request_id, head);
        call.end(answer.status());
        answer
    }
}

impl<B> tower_service::Service<Request<B>> for PlaidService
where
    B: http_body::Body<Data: Send, Error: fmt::Display> + Send + 'static,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.answer(request).await) })
    }
}

/// Why there is no good answer: what the plumbing refused, or an error of Plaid.
enum Refused {
    Plumbing(Answer),
    Error(Error),
}

impl From<Answer> for Refused {
    fn from(answer: Answer) -> Self {
        Self::Plumbing(answer)
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Refused {
    /// Logs the cause once and writes the public half.
    fn into_answer(self, request_id: &str) -> Answer {
        let (error, headers) = match self {
            Self::Plumbing(answer) => {
                let (error, answer) = refusal::translate(answer);
                (error, Some(answer.headers))
            }
            Self::Error(error) => (error, None),
        };
        observe::failed(&error, request_id);
        let body = px_types::wire::encode(&error.to_plaid_error(request_id));
        let mut answer = Answer::json(error.status(), body);
        for (name, value) in headers.iter().flatten() {
            answer.headers.entry(name).or_insert_with(|| value.clone());
        }
        if let Some(wait) = error.retry_after() {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            answer = answer.with(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        answer
    }
}

impl Inner {
    /// Finds the endpoint and runs it: path, method, headers, credentials, rate, body.
    async fn route<B>(
        &self,
        incoming: Incoming,
        body: B,
        call: &observe::Call,
    ) -> Result<Answer, Refused>
    where
        B: http_body::Body<Data: Send, Error: fmt::Display> + Send,
    {
        request::check_headers(&incoming.parts, self.limits)?;
        let path = incoming.parts.uri.path();
        macro_rules! dispatch {
            ($($name:ident => $endpoint:ty,)+) => {
                match path {
                    $(path if path == <$endpoint as Endpoint>::META.path => {
                        call.operation(&<$endpoint as Endpoint>::META);
                        let (caller, request) = self.read::<$endpoint, B>(&incoming, body).await?;
                        let answer = self.plaid.$name(&caller, request).await?;
                        Ok(Answer::ok(&answer))
                    })+
                    _ => Err(Answer::not_found().into()),
                }
            };
        }
        for_each_plaid_endpoint!(dispatch)
    }

    /// Who calls, and what for.
    async fn read<E, B>(&self, incoming: &Incoming, body: B) -> Result<(Caller, E), Refused>
    where
        E: Endpoint,
        B: http_body::Body<Data: Send, Error: fmt::Display> + Send,
    {
        if incoming.parts.method != E::META.method {
            return Err(Answer::method_not_allowed(E::META.method.as_str()).into());
        }
        let headers = &incoming.parts.headers;
        request::require_json(headers)?;
        let body = request::read_body(body, self.limits.body).await?;
        let client_id = credentials::authenticate(&*self.clients, headers, &body).await?;
        if let Some(limit) = &self.rate_limit {
            limit.check(Some(&client_id), None).map_err(Error::rate_limit)?;
        }
        let request = codec::from_http(&[], incoming.parts.uri.query(), &body)
            .map_err(|rejection| refusal::rejected(&rejection))?;
        Ok((Caller::new(client_id, incoming.request_id.clone()), request))
    }
}
