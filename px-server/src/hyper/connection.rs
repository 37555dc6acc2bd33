//! One connection, from the handshake to its end.

use super::{
    body::{RequestBody, ResponseBody},
    io::{Opening, Stream},
    limits::Limits,
    timer,
    tls::Tls,
};
use crate::{
    budget::{Charge, ConnectionBudget},
    guard::{AllowList, AsksForCertificates, ClientCertificate, PeerAddr, Proxies, refuse_address},
};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
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
    sync::{Notify, mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tower_service::Service;

/// What a connection needs beside its stream and the service.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) peer: SocketAddr,
    pub(super) limits: Limits,
    pub(super) tls: Option<Tls>,
    pub(super) proxies: Arc<Proxies>,
    pub(super) allow_list: Option<Arc<AllowList>>,
    pub(super) activity: Arc<Activity>,
    pub(super) budget: ConnectionBudget,
    pub(super) stopped: watch::Receiver<bool>,
    /// Lives in every task of the connection.
    pub(super) alive: mpsc::Sender<Infallible>,
}

/// Bytes of bodies that an HTTP/2 peer may send ahead of the handlers.
const WINDOW_BYTES: u32 = 65_535;

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
            return self.detect(stream, Peer::default(), service).await;
        };
        let asks = tls.does_ask_clients();
        let stopped = self.until_stopped();
        let handshake = timer::within(self.limits.handshake, tls.accept(stream));
        let stream = tokio::select! {
            stream = handshake => stream,
            () = stopped => return,
        };
        match stream {
            Some(Ok((stream, certificate))) => {
                let peer = Peer { certificate, asks };
                match stream.get_ref().1.alpn_protocol() {
                    Some(b"h2") => {
                        let opening = Opening::default();
                        self.serve(stream, opening, Version::Http2, peer, service).await;
                    }
                    Some(_) => {
                        let opening = Opening::default();
                        self.serve(stream, opening, Version::Http1, peer, service).await;
                    }
                    None => self.detect(stream, peer, service).await,
                }
            }
            Some(Err(error)) => tracing::debug!(%error, "the TLS handshake failed"),
            None => tracing::debug!("the TLS handshake took too long"),
        }
    }

    async fn detect<I, S, B>(self, mut io: I, peer: Peer, service: S)
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
        self.serve(io, opening, version, peer, service).await;
    }

    async fn serve<I, S, B>(
        self,
        io: I,
        opening: Opening,
        version: Version,
        shown: Peer,
        service: S,
    ) where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>,
        S: Clone + Send + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        self.activity.begin(version);
        let activity = Arc::clone(&self.activity);
        let stopped = self.until_stopped();
        let limits = self.limits;
        let stream = Stream::new(io, opening, Arc::clone(&activity), limits.write);
        let builder = builder(&limits, version, self.alive.clone());
        let requests = Requests {
            limits,
            peer: self.peer,
            shown,
            proxies: self.proxies,
            allow_list: self.allow_list,
            activity: self.activity,
            budget: self.budget,
        };
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let prepared = requests.prepare(request);
            let mut service = service.clone();
            async move {
                let (request, running) = match prepared {
                    Ok(prepared) => prepared,
                    Err(refused) => return Ok(refused),
                };
                std::future::poll_fn(|cx| service.poll_ready(cx)).await?;
                let response = service.call(request).await?;
                Ok::<_, Infallible>(response.map(|body| ResponseBody::new(body, running)))
            }
        });
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

/// What the peer showed in the handshake.
#[derive(Clone, Debug, Default)]
struct Peer {
    certificate: Option<ClientCertificate>,
    /// Whether it was asked for a certificate.
    asks: bool,
}

/// What every request of a connection gets before the service sees it.
struct Requests {
    limits: Limits,
    peer: SocketAddr,
    shown: Peer,
    proxies: Arc<Proxies>,
    allow_list: Option<Arc<AllowList>>,
    activity: Arc<Activity>,
    budget: ConnectionBudget,
}

impl Requests {
    /// Counts and labels a request, or refuses it.
    fn prepare<B>(
        &self,
        request: Request<Incoming>,
    ) -> Result<(Request<RequestBody>, Running), Response<ResponseBody<B>>> {
        let mut running = Running::new(&self.activity);
        let headers = request.headers();
        if let Some(list) = &self.allow_list
            && !list.permits(self.peer, headers)
        {
            let refused = refuse_address(Some(self.peer), headers);
            return Err(refused.map(|body| ResponseBody::own(body, running)));
        }
        let Ok(head) = self.budget.charge(head_bytes(request.uri(), headers)) else {
            let mut response = Response::new(ResponseBody::own(Bytes::new(), running));
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            let one = header::HeaderValue::from_static("1");
            response.headers_mut().insert(header::RETRY_AFTER, one);
            return Err(response);
        };
        running.head = Some(head);
        let budget = self.budget.request();
        let wait = BodyWait { activity: Arc::clone(&self.activity), is_waiting: false };
        let (mut parts, body) = request.into_parts();
        let extensions = &mut parts.extensions;
        extensions.insert(PeerAddr(self.peer));
        self.proxies.note(extensions, &parts.headers);
        extensions.insert(budget.clone());
        if let Some(certificate) = &self.shown.certificate {
            extensions.insert(certificate.clone());
        }
        if self.shown.asks {
            extensions.insert(AsksForCertificates);
        }
        let body = RequestBody::new(body, self.limits.body, budget, wait);
        Ok((Request::from_parts(parts, body), running))
    }
}

/// The bytes of a request's line and headers.
fn head_bytes(uri: &http::Uri, headers: &HeaderMap) -> usize {
    let target = uri.path_and_query().map_or(0, |target| target.as_str().len());
    let lines = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    target + lines.sum::<usize>()
}

fn builder(
    limits: &Limits,
    version: Version,
    alive: mpsc::Sender<Infallible>,
) -> auto::Builder<Streams> {
    let streams = Streams { limit: limits.request, tasks: Arc::default(), alive };
    let mut builder = auto::Builder::new(streams);
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
        // What nobody has read yet; the least that the protocol allows.
        .initial_connection_window_size(WINDOW_BYTES)
        .initial_stream_window_size(WINDOW_BYTES)
        // A client that opens streams only to reset them is sent away (CVE-2023-44487).
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(128);
    match version {
        Version::Http1 => builder.http1_only(),
        Version::Http2 => builder.http2_only(),
    }
}

/// Runs the streams of an HTTP/2 connection, each for a bounded time: a peer that opens no
/// window for a response would keep it in memory for ever. They end with the connection.
#[derive(Clone, Debug)]
struct Streams {
    limit: Duration,
    tasks: Arc<Mutex<JoinSet<()>>>,
    alive: mpsc::Sender<Infallible>,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        let (limit, alive) = (self.limit, self.alive.clone());
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(ended) = tasks.try_join_next() {
            super::report(ended);
        }
        tasks.spawn(async move {
            let _ = timer::within(limit, stream).await;
            drop(alive);
        });
    }
}

/// What a connection is doing, and since when.
#[derive(Debug)]
pub(super) struct Activity {
    state: Mutex<State>,
    /// Notified when the connection may make way for another from now on.
    changed: Arc<Notify>,
}

#[derive(Debug)]
struct State {
    version: Version,
    /// Requests whose response is not complete.
    running: usize,
    /// Those of them that wait for more of their body.
    waiting: usize,
    /// Since when any run, or none.
    since: Instant,
    /// When the head of a request began to arrive.
    head: Option<Instant>,
}

/// How ready a connection is to make way for another: the smallest goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Idleness {
    /// It has no request.
    NoRequest(Instant),
    /// All its requests wait for the peer to go on with a body.
    WaitsForPeer(Instant),
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
    pub(super) fn new(changed: Arc<Notify>) -> Self {
        let (version, since) = (Version::Http1, timer::now());
        let state = State { version, running: 0, waiting: 0, since, head: Some(since) };
        Self { state: Mutex::new(state), changed }
    }

    /// The handshake is over, and the first head begins.
    fn begin(&self, version: Version) {
        let mut state = self.state();
        (state.version, state.head) = (version, Some(timer::now()));
    }

    /// How ready it is to make way; `None` while it works on a request.
    pub(super) fn idleness(&self) -> Option<Idleness> {
        let state = self.state();
        match state.running {
            0 => Some(Idleness::NoRequest(state.since)),
            running if running == state.waiting => Some(Idleness::WaitsForPeer(state.since)),
            _ => None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes came in; between requests that is the beginning of a head. Not so in HTTP/2,
    /// where they may as well be a ping.
    pub(super) fn bytes_came(&self) {
        let mut state = self.state();
        if state.version == Version::Http1 && state.running == 0 && state.head.is_none() {
            state.head = Some(timer::now());
        }
    }

    fn judge(&self, limits: &Limits, now: Instant) -> Verdict {
        let state = self.state();
        let (end, verdict) = match (state.running, state.head) {
            // The streams of HTTP/2 have their limit each, in `Streams`.
            (1.., _) if state.version == Version::Http2 => {
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
pub(super) struct Running {
    activity: Arc<Activity>,
    /// Counts the head of the request.
    head: Option<Charge>,
}

impl Running {
    fn new(activity: &Arc<Activity>) -> Self {
        let mut state = activity.state();
        if state.running == 0 {
            state.since = timer::now();
        }
        state.running += 1;
        state.head = None;
        drop(state);
        Self { activity: Arc::clone(activity), head: None }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.activity.state();
        state.running -= 1;
        if state.running == 0 {
            state.since = timer::now();
            drop(state);
            self.activity.changed.notify_one();
        }
    }
}

/// Notes whether a request waits for more of its body.
#[derive(Debug)]
pub(super) struct BodyWait {
    activity: Arc<Activity>,
    is_waiting: bool,
}

impl BodyWait {
    pub(super) fn set(&mut self, is_waiting: bool) {
        if self.is_waiting == is_waiting {
            return;
        }
        self.is_waiting = is_waiting;
        let mut state = self.activity.state();
        if is_waiting {
            state.waiting += 1;
            drop(state);
            self.activity.changed.notify_one();
        } else {
            state.waiting -= 1;
        }
    }
}

impl Drop for BodyWait {
    fn drop(&mut self) {
        self.set(false);
    }
}
