//! The bodies that pass through the adapter: the request's has a time limit and is counted, the
//! response's notes when it is done.

use super::{
    connection::{BodyWait, Running},
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

/// The body of a request, as it comes in.
///
/// It ends in an error if it takes too long, or if the server has no memory for it
/// ([`Server::max_buffered_bytes`](super::Server::max_buffered_bytes)). Its bytes count for as
/// long as they live.
pub struct RequestBody {
    incoming: Incoming,
    limit: Duration,
    budget: RequestBudget,
    wait: BodyWait,
    /// Runs from the first time that the body was waited for; most bodies are never.
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
            // A sender of one byte at a time makes progress for ever, so progress saves nobody.
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
        let late = self.late.get_or_insert_with(|| Box::pin(timer::after(limit)));
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

/// Why the body of a request could not be read.
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

    /// Whether the body took too long.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.0, Cause::Late)
    }

    /// Whether the server has no memory left for the body: a case for 503.
    #[must_use]
    pub fn is_over_memory(&self) -> bool {
        matches!(self.0, Cause::OverMemory)
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Cause::Late => "the body did not arrive in time",
            Cause::OverMemory => "there is no memory for the body now",
            Cause::Broken(_) => "the body broke off or is malformed",
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

/// The body of a response; the request counts as running for as long as it lives.
pub(super) struct ResponseBody<B> {
    inner: Inner<B>,
    _running: Running,
}

enum Inner<B> {
    Service(Pin<Box<B>>),
    /// The server's own; `None` once it was sent.
    Own(Option<Bytes>),
}

impl<B> ResponseBody<B> {
    pub(super) fn new(inner: B, running: Running) -> Self {
        Self { inner: Inner::Service(Box::pin(inner)), _running: running }
    }

    pub(super) fn own(bytes: Bytes, running: Running) -> Self {
        Self { inner: Inner::Own(Some(bytes).filter(|b| !b.is_empty())), _running: running }
    }
}

impl<B: Body<Data = Bytes>> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match &mut self.inner {
            Inner::Service(body) => body.as_mut().poll_frame(cx),
            Inner::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Service(body) => body.is_end_stream(),
            Inner::Own(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Service(body) => body.size_hint(),
            Inner::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
        }
    }
}
