//! One connection, from the handshake to its end.

use super::{
    body::{RequestBody, ResponseBody},
    io::{ConnectionPrefix, Stream},
    limits::Limits,
    timer,
    tls::Tls,
};
use crate::{
    budget::{Charge, ConnectionBudget},
    guard::{
        AllowList, ClientCertificate, ClientCertificatesRequested, PeerAddr, Proxies,
        refuse_address,
    },
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

/// The state of a connection, besides its stream and the service.
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
    /// Cloned into every task of the connection.
    pub(super) alive: mpsc::Sender<Infallible>,
}

/// Bytes of bodies that an HTTP/2 peer may send before a handler reads them.
const WINDOW_BYTES: u32 = 65_535;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Http1,
    Http2,
}

impl Connection {
    /// Serves the connection until it ends.
    pub(super) async fn run<S, B>(mut self, stream: TcpStream, service: S)
    where
        S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>,
        S: Clone + Send + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        // Responses are written in one piece, so Nagle's algorithm would only add delay.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
        let Some(tls) = self.tls.take() else {
            return self.detect(stream, PeerIdentity::default(), service).await;
        };
        let is_requested = tls.is_client_certificate_requested();
        let stopped = self.until_stopped();
        let handshake = timer::timeout(self.limits.handshake, tls.accept(stream));
        let stream = tokio::select! {
            stream = handshake => stream,
            () = stopped => return,
        };
        match stream {
            Some(Ok((stream, certificate))) => {
                let peer = PeerIdentity { certificate, is_requested };
                match stream.get_ref().1.alpn_protocol() {
                    Some(b"h2") => {
                        let prefix = ConnectionPrefix::default();
                        self.serve(stream, prefix, Version::Http2, peer, service).await;
                    }
                    Some(_) => {
                        let prefix = ConnectionPrefix::default();
                        self.serve(stream, prefix, Version::Http1, peer, service).await;
                    }
                    None => self.detect(stream, peer, service).await,
                }
            }
            Some(Err(error)) => tracing::debug!(%error, "the TLS handshake failed"),
            None => tracing::debug!("the TLS handshake took too long"),
        }
    }

    async fn detect<I, S, B>(self, mut io: I, peer: PeerIdentity, service: S)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>,
        S: Clone + Send + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let stopped = self.until_stopped();
        let read = timer::timeout(self.limits.header, ConnectionPrefix::read(&mut io));
        let prefix = tokio::select! {
            prefix = read => prefix,
            () = stopped => return,
        };
        let Some(Ok(prefix)) = prefix else { return };
        if prefix.is_empty() {
            return;
        }
        let version = match prefix.is_http2() {
            true => Version::Http2,
            false => Version::Http1,
        };
        self.serve(io, prefix, version, peer, service).await;
    }

    async fn serve<I, S, B>(
        self,
        io: I,
        prefix: ConnectionPrefix,
        version: Version,
        identity: PeerIdentity,
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
        let stream = Stream::new(io, prefix, Arc::clone(&activity), limits.write);
        let builder = builder(&limits, version, self.alive.clone());
        let preparer = RequestPreparer {
            limits,
            peer: self.peer,
            identity,
            proxies: self.proxies,
            allow_list: self.allow_list,
            activity: self.activity,
            budget: self.budget,
        };
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let prepared = preparer.prepare(request);
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
        let mut check = pin!(timer::sleep(limits.shortest_phase()));
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
                () = check.as_mut() => match activity.check_timeouts(&limits, timer::now()) {
                    TimeoutCheck::WithinLimits { until } => check.as_mut().reset(until),
                    TimeoutCheck::Idle if !ending => {
                        ending = true;
                        connection.as_mut().graceful_shutdown();
                        // A peer that does not respond to the shutdown is disconnected.
                        check.as_mut().reset(timer::now() + limits.header);
                    }
                    TimeoutCheck::Idle => return,
                    TimeoutCheck::TooSlow => {
                        tracing::debug!("a connection was closed: the peer is too slow");
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
                // The server was dropped without a signal, so this task is being aborted too.
                std::future::pending().await
            }
        }
    }
}

/// The certificate of the peer from the TLS handshake.
#[derive(Clone, Debug, Default)]
struct PeerIdentity {
    certificate: Option<ClientCertificate>,
    /// Whether the server requested a certificate.
    is_requested: bool,
}

/// Prepares every request of a connection for the service.
struct RequestPreparer {
    limits: Limits,
    peer: SocketAddr,
    identity: PeerIdentity,
    proxies: Arc<Proxies>,
    allow_list: Option<Arc<AllowList>>,
    activity: Arc<Activity>,
    budget: ConnectionBudget,
}

impl RequestPreparer {
    /// Charges a request and adds its extensions, or refuses it.
    fn prepare<B>(
        &self,
        request: Request<Incoming>,
    ) -> Result<(Request<RequestBody>, RunningRequest), Response<ResponseBody<B>>> {
        let mut running = RunningRequest::new(&self.activity);
        let headers = request.headers();
        if let Some(list) = &self.allow_list
            && !list.permits(self.peer, headers)
        {
            let refused = refuse_address(Some(self.peer), headers);
            return Err(refused.map(|body| ResponseBody::from_server(body, running)));
        }
        let Ok(head) = self.budget.charge(head_bytes(request.uri(), headers)) else {
            let mut response = Response::new(ResponseBody::from_server(Bytes::new(), running));
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            let one_second = header::HeaderValue::from_static("1");
            response.headers_mut().insert(header::RETRY_AFTER, one_second);
            return Err(response);
        };
        running.head = Some(head);
        let budget = self.budget.request();
        let wait = BodyWait { activity: Arc::clone(&self.activity), is_waiting: false };
        let (mut parts, body) = request.into_parts();
        let extensions = &mut parts.extensions;
        extensions.insert(PeerAddr(self.peer));
        self.proxies.insert_caller(extensions, &parts.headers);
        extensions.insert(budget.clone());
        if let Some(certificate) = &self.identity.certificate {
            extensions.insert(certificate.clone());
        }
        if self.identity.is_requested {
            extensions.insert(ClientCertificatesRequested);
        }
        let body = RequestBody::new(body, self.limits.body, budget, wait);
        Ok((Request::from_parts(parts, body), running))
    }
}

/// Returns the size of a request's target and headers, in bytes.
fn head_bytes(uri: &http::Uri, headers: &HeaderMap) -> usize {
    let target = uri.path_and_query().map_or(0, |target| target.as_str().len());
    let lines = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    target + lines.sum::<usize>()
}

fn builder(
    limits: &Limits,
    version: Version,
    alive: mpsc::Sender<Infallible>,
) -> auto::Builder<StreamExecutor> {
    let streams = StreamExecutor { limit: limits.request, tasks: Arc::default(), alive };
    let mut builder = auto::Builder::new(streams);
    builder
        .http1()
        .timer(TokioTimer::new())
        // hyper's timeout includes idle time; `Activity` distinguishes the two.
        .header_read_timeout(None)
        .max_headers(limits.header_fields)
        .max_buf_size(usize::try_from(limits.header_bytes).unwrap_or(usize::MAX));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(limits.header_bytes)
        .max_concurrent_streams(limits.streams)
        // Limits the bytes that no handler has read yet; the minimum of the protocol.
        .initial_connection_window_size(WINDOW_BYTES)
        .initial_stream_window_size(WINDOW_BYTES)
        // Disconnects a client that opens streams only to reset them (CVE-2023-44487).
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(128);
    match version {
        Version::Http1 => builder.http1_only(),
        Version::Http2 => builder.http2_only(),
    }
}

/// Runs the streams of an HTTP/2 connection, each with a time limit: otherwise a peer that opens no
/// window for a response would keep it in memory. The streams end with the connection.
#[derive(Clone, Debug)]
struct StreamExecutor {
    limit: Duration,
    tasks: Arc<Mutex<JoinSet<()>>>,
    alive: mpsc::Sender<Infallible>,
}

impl<F> hyper::rt::Executor<F> for StreamExecutor
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
            let _ = timer::timeout(limit, stream).await;
            drop(alive);
        });
    }
}

/// The current phase of a connection and its start.
#[derive(Debug)]
pub(super) struct Activity {
    state: Mutex<ActivityState>,
    /// Notified when the connection becomes idle.
    changed: Arc<Notify>,
}

#[derive(Debug)]
struct ActivityState {
    version: Version,
    /// The number of requests without a complete response.
    running: usize,
    /// The number of those that wait for more of their body.
    waiting: usize,
    /// When the first of the running requests began, or the last one ended.
    since: Instant,
    /// When the head of a request began to arrive.
    head: Option<Instant>,
}

/// The eviction order of connections: the smallest value is evicted first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Idleness {
    /// The connection has no request.
    NoRequest(Instant),
    /// All its requests wait for the peer to send more of a body.
    WaitsForPeer(Instant),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TimeoutCheck {
    /// No limit is exceeded before this time.
    WithinLimits {
        until: Instant,
    },
    Idle,
    TooSlow,
}

impl Activity {
    pub(super) fn new(changed: Arc<Notify>) -> Self {
        let (version, since) = (Version::Http1, timer::now());
        let state = ActivityState { version, running: 0, waiting: 0, since, head: Some(since) };
        Self { state: Mutex::new(state), changed }
    }

    /// Marks the end of the handshake, when the first head begins.
    fn begin(&self, version: Version) {
        let mut state = self.state();
        (state.version, state.head) = (version, Some(timer::now()));
    }

    /// Returns the eviction order. Returns `None` while a request is being processed.
    pub(super) fn idleness(&self) -> Option<Idleness> {
        let state = self.state();
        match state.running {
            0 => Some(Idleness::NoRequest(state.since)),
            running if running == state.waiting => Some(Idleness::WaitsForPeer(state.since)),
            _ => None,
        }
    }

    fn state(&self) -> MutexGuard<'_, ActivityState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that bytes arrived. Between HTTP/1 requests they begin a head. In HTTP/2 they may be
    /// a ping.
    pub(super) fn on_read(&self) {
        let mut state = self.state();
        if state.version == Version::Http1 && state.running == 0 && state.head.is_none() {
            state.head = Some(timer::now());
        }
    }

    fn check_timeouts(&self, limits: &Limits, now: Instant) -> TimeoutCheck {
        let state = self.state();
        let (end, expired) = match (state.running, state.head) {
            // In HTTP/2, `StreamExecutor` limits each stream.
            (1.., _) if state.version == Version::Http2 => {
                return TimeoutCheck::WithinLimits { until: now + limits.idle };
            }
            (1.., _) => (state.since + limits.request, TimeoutCheck::TooSlow),
            (0, Some(head)) => (head + limits.header, TimeoutCheck::TooSlow),
            (0, None) => (state.since + limits.idle, TimeoutCheck::Idle),
        };
        if end <= now {
            return expired;
        }
        // A phase that begins meanwhile may end earlier than the current one.
        TimeoutCheck::WithinLimits { until: end.min(now + limits.shortest_phase()) }
    }
}

/// A running request, which ends on drop.
#[derive(Debug)]
pub(super) struct RunningRequest {
    activity: Arc<Activity>,
    /// The memory charge of the request's head.
    head: Option<Charge>,
}

impl RunningRequest {
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

impl Drop for RunningRequest {
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

/// Records whether a request waits for more of its body.
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
