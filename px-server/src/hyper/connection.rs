//! One connection, from the handshake to its end.

use super::{
    body::{RequestBody, ResponseBody},
    io::{Opening, Stream},
    limits::Limits,
    timer,
    tls::{ClientCertificate, Tls},
};
use crate::guard::PeerAddr;
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use std::{
    convert::Infallible,
    error::Error as StdError,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
    time::Instant,
};
use tower_service::Service;

/// What a connection needs beside its stream and the service.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) peer: SocketAddr,
    pub(super) limits: Limits,
    pub(super) tls: Option<Tls>,
    pub(super) stopped: watch::Receiver<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Http1,
    Http2,
}

impl Connection {
    /// Serves the connection to its end, whatever that is.
    pub(super) async fn run<S, B>(mut self, stream: TcpStream, service: S)
    where
        S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>,
        S: Clone + Send + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        // Answers are written whole, so waiting for more to send with them only costs time.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
        let Some(tls) = self.tls.take() else {
            return self.detect(stream, None, service).await;
        };
        let stopped = self.until_stopped();
        let handshake = timer::within(self.limits.handshake, tls.accept(stream));
        let stream = tokio::select! {
            stream = handshake => stream,
            () = stopped => return,
        };
        match stream {
            Some(Ok((stream, certificate))) => match stream.get_ref().1.alpn_protocol() {
                Some(b"h2") => {
                    let opening = Opening::default();
                    self.serve(stream, opening, Version::Http2, certificate, service).await;
                }
                Some(_) => {
                    let opening = Opening::default();
                    self.serve(stream, opening, Version::Http1, certificate, service).await;
                }
                None => self.detect(stream, certificate, service).await,
            },
            Some(Err(error)) => tracing::debug!(%error, "the TLS handshake failed"),
            None => tracing::debug!("the TLS handshake took too long"),
        }
    }

    async fn detect<I, S, B>(self, mut io: I, certificate: Option<ClientCertificate>, service: S)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>,
        S: Clone + Send + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let stopped = self.until_stopped();
        let read = timer::within(self.limits.header, Opening::read(&mut io));
        let opening = tokio::select! {
            opening = read => opening,
            () = stopped => return,
        };
        let Some(Ok(opening)) = opening else { return };
        if opening.is_empty() {
            return;
        }
        let version = match opening.is_http2() {
            true => Version::Http2,
            false => Version::Http1,
        };
        self.serve(io, opening, version, certificate, service).await;
    }

    async fn serve<I, S, B>(
        self,
        io: I,
        opening: Opening,
        version: Version,
        certificate: Option<ClientCertificate>,
        service: S,
    ) where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>,
        S: Clone + Send + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let activity = Arc::new(Activity::new(version));
        let stopped = self.until_stopped();
        let limits = self.limits;
        let stream = Stream::new(io, opening, Arc::clone(&activity), limits.write);
        let running = Arc::clone(&activity);
        let peer = PeerAddr(self.peer);
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let running = Running::new(&running);
            let mut service = service.clone();
            let mut request = request.map(|body| RequestBody::new(body, limits.body));
            request.extensions_mut().insert(peer);
            if let Some(certificate) = &certificate {
                request.extensions_mut().insert(certificate.clone());
            }
            async move {
                std::future::poll_fn(|cx| service.poll_ready(cx)).await?;
                let answer = service.call(request).await?;
                Ok::<_, Infallible>(answer.map(|body| ResponseBody::new(body, running)))
            }
        });
        let builder = builder(&limits, version);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut stopped = pin!(stopped);
        let mut check = pin!(timer::after(limits.shortest_phase()));
        let mut ending = false;
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(error = %error, "a connection ended early");
                    }
                    return;
                }
                () = stopped.as_mut(), if !ending => {
                    ending = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = check.as_mut() => match activity.judge(&limits, timer::now()) {
                    Verdict::Fine { until } => check.as_mut().reset(until),
                    Verdict::Idle if !ending => {
                        ending = true;
                        connection.as_mut().graceful_shutdown();
                        // A peer that does not answer the farewell is cut.
                        check.as_mut().reset(timer::now() + limits.header);
                    }
                    Verdict::Idle => return,
                    Verdict::TooSlow => {
                        tracing::debug!("a connection was cut: the peer is too slow");
                        return;
                    }
                },
            }
        }
    }

    fn until_stopped(&self) -> impl Future<Output = ()> + use<> {
        let mut stopped = self.stopped.clone();
        async move {
            if stopped.wait_for(|stopped| *stopped).await.is_err() {
                // The server is gone without a signal; then this task is being cut as well.
                std::future::pending().await
            }
        }
    }
}

fn builder(limits: &Limits, version: Version) -> auto::Builder<Streams> {
    let mut builder = auto::Builder::new(Streams { limit: limits.request });
    builder
        .http1()
        .timer(TokioTimer::new())
        // It counts idle time too; `Activity` tells the two apart.
        .header_read_timeout(None)
        .max_headers(limits.header_fields)
        .max_buf_size(usize::try_from(limits.header_bytes).unwrap_or(usize::MAX));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(limits.header_bytes)
        .max_concurrent_streams(limits.streams)
        // A client that opens streams only to reset them is sent away (CVE-2023-44487).
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(128);
    match version {
        Version::Http1 => builder.http1_only(),
        Version::Http2 => builder.http2_only(),
    }
}

/// Runs the streams of an HTTP/2 connection, each for a bounded time: a peer that opens no
/// window for an answer would keep it in memory for ever.
#[derive(Clone, Copy, Debug)]
struct Streams {
    limit: Duration,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        tokio::spawn(timer::within(self.limit, stream));
    }
}

/// What a connection is doing, and since when.
#[derive(Debug)]
pub(super) struct Activity {
    version: Version,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Requests of which the answer is not yet given.
    running: usize,
    /// Since when any run, or none.
    since: Instant,
    /// When the head of a request began to arrive.
    head: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing is wrong before this moment.
    Fine {
        until: Instant,
    },
    Idle,
    TooSlow,
}

impl Activity {
    fn new(version: Version) -> Self {
        let since = timer::now();
        Self { version, state: Mutex::new(State { running: 0, since, head: Some(since) }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes came in; between requests that is the beginning of a head. Not so in HTTP/2,
    /// where they may as well be a ping.
    pub(super) fn bytes_came(&self) {
        if self.version == Version::Http1 {
            let mut state = self.state();
            if state.running == 0 && state.head.is_none() {
                state.head = Some(timer::now());
            }
        }
    }

    fn judge(&self, limits: &Limits, now: Instant) -> Verdict {
        let state = self.state();
        let (end, verdict) = match (state.running, state.head) {
            // The streams of HTTP/2 have their limit each, in `Streams`.
            (1.., _) if self.version == Version::Http2 => {
                return Verdict::Fine { until: now + limits.idle };
            }
            (1.., _) => (state.since + limits.request, Verdict::TooSlow),
            (0, Some(head)) => (head + limits.header, Verdict::TooSlow),
            (0, None) => (state.since + limits.idle, Verdict::Idle),
        };
        if end <= now {
            return verdict;
        }
        // A phase that begins meanwhile may end sooner than this one.
        Verdict::Fine { until: end.min(now + limits.shortest_phase()) }
    }
}

/// A request that runs, until it is dropped.
#[derive(Debug)]
pub(super) struct Running(Arc<Activity>);

impl Running {
    fn new(activity: &Arc<Activity>) -> Self {
        let mut state = activity.state();
        if state.running == 0 {
            state.since = timer::now();
        }
        state.running += 1;
        state.head = None;
        drop(state);
        Self(Arc::clone(activity))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.running -= 1;
        if state.running == 0 {
            state.since = timer::now();
        }
    }
}
