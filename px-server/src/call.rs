//! One call of either API: what the partner's service and Plaid's have in common.
//!
//! The request id, the span and the metrics, panics, and what is asked of a request before any
//! endpoint sees it. Which endpoints there are, who may call them and how a refusal is worded
//! is each service's own matter.

pub(crate) mod observe;
mod refusal;
pub(crate) mod request;

pub(crate) use refusal::Refusal;
pub(crate) use request::Incoming;

use crate::{
    budget::{Budget, RequestBudget},
    guard::{
        CallerAddr, FailureLimit,
        open_calls::{DEFAULT_OPEN_CALLS, OpenCalls},
    },
    request_id,
};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::Full;
use px_core::Random;
use std::{fmt, future::Future, panic::AssertUnwindSafe, time::Duration};

/// The most that a request may carry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) body: usize,
    /// Of the path with its query.
    pub(crate) target_bytes: usize,
    pub(crate) header_bytes: usize,
    pub(crate) header_fields: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body: 1 << 20, target_bytes: 32 << 10, header_bytes: 32 << 10, header_fields: 100 }
    }
}

impl Limits {
    /// Whether one of them refuses every request.
    pub(crate) fn has_zero(self) -> bool {
        [self.body, self.header_bytes, self.header_fields].contains(&0)
    }
}

/// What keeps callers that are not known yet from using a service up.
#[derive(Debug)]
pub(crate) struct Guards {
    /// For requests whose server does not count bytes itself.
    pub(crate) budget: Budget,
    pub(crate) failures: FailureLimit,
    pub(crate) open_calls: OpenCalls,
}

impl Default for Guards {
    fn default() -> Self {
        Self {
            budget: Budget::default(),
            failures: FailureLimit::default(),
            open_calls: OpenCalls::new(DEFAULT_OPEN_CALLS),
        }
    }
}

/// One of the two APIs, as a call sees it.
pub(crate) trait Api: Send + Sync {
    /// Where request ids come from.
    fn random(&self) -> &dyn Random;

    /// Limits of callers that are not known yet.
    fn guards(&self) -> &Guards;

    /// The response when too many calls are open.
    fn busy(&self, request_id: &str) -> Response<Bytes>;

    /// Finds the endpoint, runs it and writes the answer. Whatever goes wrong is an answer.
    fn route<B>(
        &self,
        incoming: Incoming,
        body: B,
        call: &observe::Call,
    ) -> impl Future<Output = Response<Bytes>> + Send
    where
        B: http_body::Body<Data: Send, Error: fmt::Display> + Send;

    /// What is answered when the code behind an endpoint panicked.
    fn panicked(&self, request_id: &str) -> Response<Bytes>;
}

/// Answers one request.
pub(crate) async fn answer<A, B>(api: &A, request: Request<B>) -> Response<Full<Bytes>>
where
    A: Api,
    B: http_body::Body<Data: Send, Error: fmt::Display> + Send,
{
    let (parts, body) = request.into_parts();
    let request_id = request_id::of(&parts.headers, api.random());
    let head = parts.method == Method::HEAD;
    let call = observe::Call::begin(&parts.method, &request_id);
    let address = CallerAddr::of(&parts.extensions);
    let block = address.map(CallerAddr::block);
    let guards = api.guards();
    let answer = match guards.open_calls.open(block) {
        None => api.busy(&request_id),
        Some(_open) => {
            let counted = parts.extensions.get::<RequestBudget>().cloned();
            let budget = counted.unwrap_or_else(|| guards.budget.connection(block).lone_request());
            let incoming = Incoming { parts, request_id: request_id.clone(), address, budget };
            let work = AssertUnwindSafe(api.route(incoming, body, &call)).catch_unwind();
            call.watch(work).await.unwrap_or_else(|_| {
                call.panicked();
                api.panicked(&request_id)
            })
        }
    };
    call.end(answer.status());
    finish(answer, &request_id, head)
}

/// Adds what every answer has. To `HEAD` it keeps the length and loses the body.
fn finish(answer: Response<Bytes>, request_id: &str, head: bool) -> Response<Full<Bytes>> {
    let (mut parts, body) = answer.into_parts();
    let headers = &mut parts.headers;
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(request_id::HEADER, id);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    Response::from_parts(parts, Full::new(if head { Bytes::new() } else { body }))
}

/// The value of `Retry-After`: whole seconds, never too few.
pub(crate) fn retry_after(wait: Duration) -> HeaderValue {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    HeaderValue::from(seconds.max(1))
}

/// Makes a service that has `answer` one of tower. Its error is `Infallible`.
macro_rules! tower_service {
    ($service:ty) => {
        impl<B> tower_service::Service<http::Request<B>> for $service
        where
            B: http_body::Body<Data: Send, Error: std::fmt::Display> + Send + 'static,
        {
            type Response = http::Response<http_body_util::Full<bytes::Bytes>>;
            type Error = std::convert::Infallible;
            type Future =
                std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

            fn poll_ready(
                &mut self,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Result<(), Self::Error>> {
                std::task::Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: http::Request<B>) -> Self::Future {
                let service = self.clone();
                Box::pin(async move { Ok(service.answer(request).await) })
            }
        }
    };
}

pub(crate) use tower_service;
