//! The handling of a call that the partner's service and Plaid's service share.
//!
//! It covers the request id, the span and metrics, panics, and the checks before any endpoint runs.
//! Each service defines its own endpoints, its authentication and the form of its errors.

pub(crate) mod observe;
mod refusal;
pub(crate) mod request;

pub(crate) use refusal::RequestRefusal;
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

/// Size limits of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) body: usize,
    /// Maximum size of the path with its query.
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
    /// Returns whether a limit is zero, so that every request would be refused.
    pub(crate) fn has_zero(self) -> bool {
        [self.body, self.header_bytes, self.header_fields].contains(&0)
    }
}

/// Limits that protect a service from callers that are not authenticated yet.
#[derive(Debug)]
pub(crate) struct Guards {
    /// The memory budget, for requests of a server that does not count bytes itself.
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

/// One of the two APIs.
pub(crate) trait Api: Send + Sync {
    /// Returns the source of request ids.
    fn random(&self) -> &dyn Random;

    /// Returns the limits for callers that are not authenticated yet.
    fn guards(&self) -> &Guards;

    /// Returns the response if too many calls are open.
    fn busy(&self, request_id: &str) -> Response<Bytes>;

    /// Finds the endpoint, runs it and returns the response. Every failure is a response.
    fn route<B>(
        &self,
        incoming: Incoming,
        body: B,
        call: &observe::Call,
    ) -> impl Future<Output = Response<Bytes>> + Send
    where
        B: http_body::Body<Data: Send, Error: fmt::Display> + Send;

    /// Returns the response if the code behind an endpoint panicked.
    fn panicked(&self, request_id: &str) -> Response<Bytes>;
}

/// Responds to one request.
pub(crate) async fn respond<A, B>(api: &A, request: Request<B>) -> Response<Full<Bytes>>
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
    let response = match guards.open_calls.open(block) {
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
    call.end(response.status());
    finish(response, &request_id, head)
}

/// Adds the headers of every response. The response to `HEAD` keeps the length and loses the body.
fn finish(response: Response<Bytes>, request_id: &str, head: bool) -> Response<Full<Bytes>> {
    let (mut parts, body) = response.into_parts();
    let headers = &mut parts.headers;
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(request_id::HEADER, id);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    Response::from_parts(parts, Full::new(if head { Bytes::new() } else { body }))
}

/// Returns the value of `Retry-After`: whole seconds, rounded up, at least 1.
pub(crate) fn retry_after(wait: Duration) -> HeaderValue {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    HeaderValue::from(seconds.max(1))
}

/// Implements `tower_service::Service` for a type with a method `respond`. The error is
/// `Infallible`.
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
                Box::pin(async move { Ok(service.respond(request).await) })
            }
        }
    };
}

pub(crate) use tower_service;
