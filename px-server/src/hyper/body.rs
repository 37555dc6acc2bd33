//! Bodies of requests and responses in the adapter: a request's body is limited in time and memory,
//! a response's body tracks when it ends.

use super::{
    connection::{BodyWait, RunningRequest},
    timer,
};
use crate::budget::RequestBudget;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    error::Error as StdError,
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Sleep;

/// The body of a request, as it is received.
///
/// Reading it fails if it takes too long, or if the server has no memory for it
/// ([`Server::max_buffered_bytes`](super::Server::max_buffered_bytes)). Its bytes count against
/// that memory until they are dropped.
pub struct RequestBody {
    incoming: Incoming,
    limit: Duration,
    budget: RequestBudget,
    wait: BodyWait,
    /// Starts when a reader first waits for the body; most bodies are available immediately.
    late: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    pub(super) fn new(
        incoming: Incoming,
        limit: Duration,
        budget: RequestBudget,
        wait: BodyWait,
    ) -> Self {
        Self { incoming, limit, budget, wait, late: None }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) {
            self.wait.set(false);
            // The limit applies despite progress: a peer could send one byte at a time
            // indefinitely.
            let is_late = self.late.as_ref().is_some_and(|late| late.is_elapsed());
            let frame = match frame {
                None => return Poll::Ready(None),
                Some(Ok(_)) if is_late => return Poll::Ready(Some(Err(BodyError::LATE))),
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Some(Err(BodyError::broken(error)))),
            };
            let frame = match frame.into_data() {
                Ok(data) => self.budget.frame(data).map(Frame::data),
                Err(trailers) => Ok(trailers),
            };
            return Poll::Ready(Some(frame.map_err(|_| BodyError::OVER_MEMORY)));
        }
        let limit = self.limit;
        let late = self.late.get_or_insert_with(|| Box::pin(timer::sleep(limit)));
        let is_late = late.as_mut().poll(cx).is_ready();
        self.wait.set(!is_late);
        if is_late { Poll::Ready(Some(Err(BodyError::LATE))) } else { Poll::Pending }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").finish_non_exhaustive()
    }
}

/// Error of reading the body of a request.
#[derive(Debug)]
pub struct BodyError(Cause);

#[derive(Debug)]
enum Cause {
    Late,
    OverMemory,
    Broken(hyper::Error),
}

impl BodyError {
    const LATE: Self = Self(Cause::Late);
    const OVER_MEMORY: Self = Self(Cause::OverMemory);

    fn broken(source: hyper::Error) -> Self {
        Self(Cause::Broken(source))
    }

    /// Returns whether the body took too long.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.0, Cause::Late)
    }

    /// Returns whether the server has no memory left for the body; respond with 503.
    #[must_use]
    pub fn is_over_memory(&self) -> bool {
        matches!(self.0, Cause::OverMemory)
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Cause::Late => "the body did not arrive in time",
            Cause::OverMemory => "the memory for request bodies is used up",
            Cause::Broken(_) => "the body is incomplete or malformed",
        })
    }
}

impl StdError for BodyError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.0 {
            Cause::Broken(source) => Some(source as _),
            Cause::Late | Cause::OverMemory => None,
        }
    }
}

/// The body of a response. The request counts as running until it is dropped.
pub(super) struct ResponseBody<B> {
    source: BodySource<B>,
    _running: RunningRequest,
}

enum BodySource<B> {
    Service(Pin<Box<B>>),
    /// A body of the server's own; `None` after it was sent.
    Server(Option<Bytes>),
}

impl<B> ResponseBody<B> {
    pub(super) fn new(inner: B, running: RunningRequest) -> Self {
        Self { source: BodySource::Service(Box::pin(inner)), _running: running }
    }

    pub(super) fn from_server(bytes: Bytes, running: RunningRequest) -> Self {
        Self {
            source: BodySource::Server(Some(bytes).filter(|b| !b.is_empty())),
            _running: running,
        }
    }
}

impl<B: Body<Data = Bytes>> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match &mut self.source {
            BodySource::Service(body) => body.as_mut().poll_frame(cx),
            BodySource::Server(bytes) => {
                Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            BodySource::Service(body) => body.is_end_stream(),
            BodySource::Server(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            BodySource::Service(body) => body.size_hint(),
            BodySource::Server(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
        }
    }
}
