//! A server on plain hyper: HTTP/1.1 and HTTP/2, TLS, limits, graceful shutdown.
//!
//! What is here keeps a peer from holding what it does not use: every phase of a connection
//! has a time limit and every buffer a size. What a request means is the service's matter.
//! Every request carries [`PeerAddr`](crate::guard::PeerAddr),
//! [`CallerAddr`] and, where the peer showed one, [`ClientCertificate`]
//! as extensions.

mod body;
mod connection;
mod io;
mod limits;
mod slots;
mod timer;
mod tls;

pub use crate::guard::ClientCertificate;
pub use body::{BodyError, RequestBody};
pub use tls::{Tls, TlsError};

use crate::{
    budget::Budget,
    guard::{AllowList, CallerAddr, Proxies},
    throttle::Throttle,
};

use bytes::Bytes;
use connection::Connection;
use http::{Request, Response};
use limits::Limits;
use slots::Slots;
use std::{
    convert::Infallible, error::Error as StdError, io as std_io, net::SocketAddr, pin::pin,
    sync::Arc, time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinSet,
};
use tower_service::Service;

/// How long the server waits when the machine refuses it a further connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long the handlers of connections that were cut may take to notice.
const CUT_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves on a listener, with the limits of [`Server::new`], until the program ends.
///
/// # Errors
/// None at present: a connection that cannot be accepted is logged, and the next one tried.
pub async fn serve<S, B>(listener: TcpListener, service: S) -> std_io::Result<()>
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    Server::new().serve(listener, service).await
}

/// A server and its limits.
///
/// ```no_run
/// use px_server::hyper::{Server, Tls};
/// # async fn run<S>(service: S) -> Result<(), Box<dyn std::error::Error>>
/// # where S: tower_service::Service<http::Request<px_server::hyper::RequestBody>,
/// #     Response = http::Response<http_body_util::Full<bytes::Bytes>>,
/// #     Error = std::convert::Infallible> + Clone + Send + 'static, S::Future: Send + 'static {
///
/// let tls = Tls::from_pem(&std::fs::read("chain.pem")?, &std::fs::read("key.pem")?)?;
/// let listener = tokio::net::TcpListener::bind("0.0.0.0:443").await?;
/// let stopped = async { let _ = tokio::signal::ctrl_c().await; };
/// Server::new().tls(tls).serve_until(listener, service, stopped).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a server does nothing until `serve` is awaited"]
pub struct Server {
    limits: Limits,
    tls: Option<Tls>,
    proxies: Option<Arc<Proxies>>,
    allow_list: Option<Arc<AllowList>>,
}

impl Server {
    /// A server without TLS, with limits that suit a partner.
    pub fn new() -> Self {
        Self::default()
    }

    /// Speaks TLS, and nothing else.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// How long a TLS handshake may take; 10 s by default.
    pub fn handshake_timeout(mut self, limit: Duration) -> Self {
        self.limits.handshake = limit;
        self
    }

    /// How long the head of a request may take to arrive; 10 s by default.
    ///
    /// Counts from the first byte, and on a new connection from its beginning.
    pub fn header_timeout(mut self, limit: Duration) -> Self {
        self.limits.header = limit;
        self
    }

    /// How long the body of a request may take to arrive; 30 s by default.
    ///
    /// A body that is late ends in an error where it is read, and the connection is closed.
    pub fn body_timeout(mut self, limit: Duration) -> Self {
        self.limits.body = limit;
        self
    }

    /// How long a peer may accept nothing of an answer; 30 s by default.
    pub fn write_timeout(mut self, limit: Duration) -> Self {
        self.limits.write = limit;
        self
    }

    /// How long a request may take from its head to the end of its answer; 5 min by default.
    pub fn request_timeout(mut self, limit: Duration) -> Self {
        self.limits.request = limit;
        self
    }

    /// How long a connection is kept without a request; 75 s by default.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.limits.idle = limit;
        self
    }

    /// Maximum number of connections; 1,024 by default.
    ///
    /// When they run out, the one that is idle for longest is closed for the next one: one without
    /// a request first, then one whose requests all wait for the peer to send the rest of a body.
    /// While all are at work, further ones wait in the listener's queue.
    pub fn max_connections(mut self, count: usize) -> Self {
        self.limits.connections = count.max(1);
        self
    }

    /// Maximum number of connections of one address (of one /64 of IPv6); a quarter of
    /// [`max_connections`](Self::max_connections) by default.
    ///
    /// Beyond it the address's own longest-idle connection is closed, and if all are at work the
    /// new one. Declared [`proxies`](Self::proxies) are exempt, because their connections are
    /// those of many callers.
    pub fn max_connections_per_address(mut self, count: usize) -> Self {
        self.limits.connections_per_address = Some(count.max(1));
        self
    }

    /// Declares the proxies that requests pass before they reach this server.
    ///
    /// Behind a load balancer that is not declared, all callers are one address.
    pub fn proxies(mut self, proxies: Proxies) -> Self {
        self.proxies = Some(Arc::new(proxies));
        self
    }

    /// Serves the addresses of a list and no others.
    ///
    /// Unknown peers are closed as they are accepted and take no slot. Behind declared proxies
    /// each request is judged by the caller that they forwarded, and refused with 403.
    pub fn allow_list(mut self, list: AllowList) -> Self {
        self.allow_list = Some(Arc::new(list));
        self
    }

    /// Maximum size of the heads and bodies of all requests that are in memory; 64 MiB by default.
    ///
    /// One address may use a quarter of it. Each connection has 16 KiB beside it, so that small
    /// requests go through when it is used up. Beyond it, reading a body fails
    /// ([`BodyError::is_over_memory`]), which the services of this crate answer with 503. The
    /// buffers of a connection come on top, about 64 KiB each.
    pub fn max_buffered_bytes(mut self, bytes: usize) -> Self {
        self.limits.buffered_bytes = bytes;
        self
    }

    /// The same for one connection; 2 MiB by default.
    pub fn max_buffered_bytes_per_connection(mut self, bytes: usize) -> Self {
        self.limits.buffered_bytes_per_connection = bytes;
        self
    }

    /// How many requests one HTTP/2 connection may have open; 100 by default.
    pub fn max_streams(mut self, count: u32) -> Self {
        self.limits.streams = count;
        self
    }

    /// How many bytes of header this server reads at all; 64 KiB by default, at least 8 KiB.
    ///
    /// What is beyond is answered 431 without a body. It lies above the service's own limit,
    /// whose refusal has a body and a request id.
    pub fn max_header_bytes(mut self, bytes: u32) -> Self {
        self.limits.header_bytes = bytes.max(8 * 1024);
        self
    }

    /// How many header fields this server reads at all; 200 by default.
    ///
    /// For HTTP/1.1, and as [`max_header_bytes`](Self::max_header_bytes) is meant.
    pub fn max_header_fields(mut self, count: usize) -> Self {
        self.limits.header_fields = count;
        self
    }

    /// How long running requests may take to end after the signal; 30 s by default.
    pub fn shutdown_timeout(mut self, limit: Duration) -> Self {
        self.limits.shutdown = limit;
        self
    }

    /// Serves on a listener until the program ends.
    ///
    /// # Errors
    /// None at present: a connection that cannot be accepted is logged, and the next one tried.
    pub async fn serve<S, B>(&self, listener: TcpListener, service: S) -> std_io::Result<()>
    where
        S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>,
        S: Clone + Send + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        self.serve_until(listener, service, std::future::pending()).await.map(|_| ())
    }

    /// Serves until a signal; then ends what runs, and returns.
    ///
    /// At the signal the listener is closed, idle connections with it; running requests are
    /// finished for as long as [`shutdown_timeout`](Self::shutdown_timeout) allows. Returns how
    /// many connections were still open then and had to be cut. Dropping the future cuts all.
    ///
    /// # Errors
    /// None at present.
    pub async fn serve_until<S, B>(
        &self,
        listener: TcpListener,
        service: S,
        signal: impl Future<Output = ()>,
    ) -> std_io::Result<usize>
    where
        S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>,
        S: Clone + Send + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let mut signal = pin!(signal);
        let (stop, stopped) = watch::channel(false);
        let (alive, mut all_dead) = mpsc::channel::<Infallible>(1);
        let limits = self.limits;
        let per_address = limits.connections_per_address.unwrap_or(limits.connections / 4).max(1);
        let slots = Slots::new(limits.connections, per_address);
        let budget = Budget::new(limits.buffered_bytes, limits.buffered_bytes_per_connection);
        let (proxies, allow_list) = self.addresses();
        let refusals = Throttle::default();
        let mut connections = JoinSet::new();
        loop {
            let (stream, peer) = tokio::select! {
                biased;
                () = &mut signal => break,
                accepted = accept(&listener) => accepted,
            };
            if allow_list.as_ref().is_some_and(|list| !list.permits_peer(peer)) {
                metrics::counter!("px_server_connections_refused_total", "reason" => "allow_list")
                    .increment(1);
                if refusals.is_due() {
                    tracing::warn!(peer = %peer.ip(), "closed: not on the allow-list");
                }
                continue;
            }
            let caller = (!proxies.contain(peer.ip())).then(|| CallerAddr::new(peer.ip()));
            let block = caller.map(CallerAddr::block);
            let slot = tokio::select! {
                biased;
                () = &mut signal => break,
                slot = slots.admit(block) => slot,
            };
            let Some(slot) = slot else { continue };
            let connection = Connection {
                peer,
                limits,
                tls: self.tls.clone(),
                proxies: Arc::clone(&proxies),
                allow_list: allow_list.clone(),
                activity: Arc::clone(&slot.activity),
                budget: budget.connection(block),
                stopped: stopped.clone(),
                alive: alive.clone(),
            };
            let service = service.clone();
            connections.spawn(async move {
                tokio::select! {
                    biased;
                    () = slot.closed.notified() => {}
                    () = connection.run(stream, service) => {}
                }
            });
            while let Some(ended) = connections.try_join_next() {
                report(ended);
            }
        }
        drop(listener);
        // Nobody listening means that every connection has ended already.
        let _ = stop.send(true);
        let all_ended = async {
            while let Some(ended) = connections.join_next().await {
                report(ended);
            }
        };
        let _ = timer::within(self.limits.shutdown, all_ended).await;
        let cut = connections.len();
        if cut > 0 {
            tracing::warn!(connections = cut, "cut at the end of the shutdown time");
            connections.shutdown().await;
        }
        // The handlers of HTTP/2 are tasks of their own.
        drop(alive);
        let _ = timer::within(CUT_TIMEOUT, all_dead.recv()).await;
        Ok(cut)
    }

    /// The proxies and the allow-list. What is declared for one of them counts for the other.
    fn addresses(&self) -> (Arc<Proxies>, Option<Arc<AllowList>>) {
        match (&self.proxies, &self.allow_list) {
            (Some(proxies), Some(list)) if list.declared_proxies().is_empty() => {
                let list = AllowList::clone(list).proxies(Proxies::clone(proxies));
                (Arc::clone(proxies), Some(Arc::new(list)))
            }
            (None, Some(list)) => {
                (Arc::new(list.declared_proxies().clone()), Some(Arc::clone(list)))
            }
            (proxies, list) => (proxies.clone().unwrap_or_default(), list.clone()),
        }
    }
}

/// The next connection. A failure is of one connection or of the moment, never of the server.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_the_connection(&error) => {
                tracing::debug!(%error, "a connection ended before it was accepted");
            }
            Err(error) => {
                tracing::error!(%error, "no connection can be accepted; trying again");
                timer::after(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_the_connection(error: &std_io::Error) -> bool {
    use std_io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a connection ended in a panic; the server lives on");
    }
}
