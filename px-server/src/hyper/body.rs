//! The bodies that pass through the adapter: the request's has a time limit, the answer's
//! tells the connection when it is done.

use super::{connection::Running, timer};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    error::Error as StdError,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::Sleep;

/// The body of a request, as it comes in. It ends in an error when it takes too long.
pub struct RequestBody {
    incoming: Incoming,
    limit: Duration,
    /// Runs from the first time that the body was waited for; most bodies are never.
    late: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    pub(super) fn new(incoming: Incoming, limit: Duration) -> Self {
        Self { incoming, limit, late: None }
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
            // A sender of one byte at a time makes progress for ever, so progress saves nobody.
            let is_late = self.late.as_ref().is_some_and(|late| late.is_elapsed());
            return match frame {
                Some(Ok(_)) if is_late => Poll::Ready(Some(Err(BodyError::late()))),
                frame => Poll::Ready(frame.map(|f| f.map_err(BodyError::broken))),
            };
        }
        let limit = self.limit;
        let late = self.late.get_or_insert_with(|| Box::pin(timer::after(limit)));
        ready!(late.as_mut().poll(cx));
        Poll::Ready(Some(Err(BodyError::late())))
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
pub struct BodyError(Option<hyper::Error>);

impl BodyError {
    fn late() -> Self {
        Self(None)
    }

    fn broken(source: hyper::Error) -> Self {
        Self(Some(source))
    }

    /// Whether the body took too long, rather than broke off.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.0.is_none()
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            None => "the body did not arrive in time",
            Some(_) => "the body broke off or is malformed",
        })
    }
}

impl StdError for BodyError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.as_ref().map(|source| source as _)
    }
}

/// The body of an answer; the request counts as running for as long as it lives.
pub(super) struct ResponseBody<B> {
    inner: Pin<Box<B>>,
    _running: Running,
}

impl<B> ResponseBody<B> {
    pub(super) fn new(inner: B, running: Running) -> Self {
        Self { inner: Box::pin(inner), _running: running }
    }
}

impl<B: Body> Body for ResponseBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.inner.as_mut().poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
