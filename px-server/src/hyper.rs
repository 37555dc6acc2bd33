//! A server on plain hyper: HTTP/1.1 and HTTP/2, TLS, limits, graceful shutdown.
//!
//! Every phase of a connection has a time limit and every buffer a maximum size, so that a peer
//! cannot occupy resources that it does not use. The service processes the requests. Every request
//! carries [`PeerAddr`](crate::guard::PeerAddr), [`CallerAddr`] and, if the peer presented one,
//! [`ClientCertificate`] as extensions.

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

/// Delay before the next accept if the operating system refuses a connection.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);
/// Time limit for the handlers of aborted connections to end.
const ABORT_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves on a listener with the default limits of [`Server`] until the program ends.
///
/// # Errors
/// Currently none. If a connection cannot be accepted, the error is logged and the server accepts
/// the next one.
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

/// An HTTP server with its limits.
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
    /// Creates a server without TLS, with limits that suit a partner.
    pub fn new() -> Self {
        Self::default()
    }

    /// Enables TLS. Plain HTTP is then refused.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Sets the time limit of a TLS handshake; 10 s by default.
    pub fn handshake_timeout(mut self, limit: Duration) -> Self {
        self.limits.handshake = limit;
        self
    }

    /// Sets the time limit for receiving the head of a request; 10 s by default.
    ///
    /// It starts with the first byte, and on a new connection with the connection.
    pub fn header_timeout(mut self, limit: Duration) -> Self {
        self.limits.header = limit;
        self
    }

    /// Sets the time limit for receiving the body of a request; 30 s by default.
    ///
    /// A late body ends with an error for its reader, and the connection is closed.
    pub fn body_timeout(mut self, limit: Duration) -> Self {
        self.limits.body = limit;
        self
    }

    /// Sets how long a peer may accept no data of a response; 30 s by default.
    pub fn write_timeout(mut self, limit: Duration) -> Self {
        self.limits.write = limit;
        self
    }

    /// Sets the time limit from the head of a request to the end of its response; 5 min by default.
    pub fn request_timeout(mut self, limit: Duration) -> Self {
        self.limits.request = limit;
        self
    }

    /// Sets how long a connection may stay open without a request; 75 s by default.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.limits.idle = limit;
        self
    }

    /// Sets the maximum number of connections; 1,024 by default.
    ///
    /// When the limit is reached, a new connection closes the one that has been idle for longest:
    /// first connections without a request, then those that only wait for the peer to send a body.
    /// If none is idle, new connections wait in the listener's queue.
    pub fn max_connections(mut self, count: usize) -> Self {
        self.limits.connections = count.max(1);
        self
    }

    /// Sets the maximum number of connections of one address (of one /64 of IPv6); a quarter of
    /// [`max_connections`](Self::max_connections) by default.
    ///
    /// When the limit is reached, a new connection closes the address's longest-idle one. If none
    /// is idle, the new connection is closed. Declared [`proxies`](Self::proxies) are exempt,
    /// because their connections carry requests of many callers.
    pub fn max_connections_per_address(mut self, count: usize) -> Self {
        self.limits.connections_per_address = Some(count.max(1));
        self
    }

    /// Declares the proxies that requests pass before they reach this server.
    ///
    /// Behind a load balancer that is not declared, all callers have the same address.
    pub fn proxies(mut self, proxies: Proxies) -> Self {
        self.proxies = Some(Arc::new(proxies));
        self
    }

    /// Serves only the addresses of a list.
    ///
    /// Connections of unknown peers are closed as they are accepted and take no slot. Behind
    /// declared proxies, each request is checked by its forwarded caller, and refused with 403.
    pub fn allow_list(mut self, list: AllowList) -> Self {
        self.allow_list = Some(Arc::new(list));
        self
    }

    /// Sets the maximum size of the heads and bodies of all requests in memory, in bytes; 64 MiB by
    /// default.
    ///
    /// One address may use a quarter of it. Each connection may use 16 KiB in addition, so that
    /// small requests succeed when the memory is used up. Beyond the limit, reading a body fails
    /// ([`BodyError::is_over_memory`]), and the services of this crate respond with 503. The
    /// buffers of a connection are not included; they are about 64 KiB each.
    pub fn max_buffered_bytes(mut self, bytes: usize) -> Self {
        self.limits.buffered_bytes = bytes;
        self
    }

    /// Sets the same limit for one connection, in bytes; 2 MiB by default.
    pub fn max_buffered_bytes_per_connection(mut self, bytes: usize) -> Self {
        self.limits.buffered_bytes_per_connection = bytes;
        self
    }

    /// Sets the maximum number of open requests of one HTTP/2 connection; 100 by default.
    pub fn max_streams(mut self, count: u32) -> Self {
        self.limits.streams = count;
        self
    }

    /// Sets the maximum size of the headers that the server reads, in bytes; 64 KiB by default, at
    /// least 8 KiB.
    ///
    /// Beyond it, the response is 431 without a body. The service's own limit is lower, and its
    /// response has a body and a request id.
    pub fn max_header_bytes(mut self, bytes: u32) -> Self {
        self.limits.header_bytes = bytes.max(8 * 1024);
        self
    }

    /// Sets the maximum number of header fields that the server reads; 200 by default.
    ///
    /// For HTTP/1.1 only. Beyond it, as for [`max_header_bytes`](Self::max_header_bytes).
    pub fn max_header_fields(mut self, count: usize) -> Self {
        self.limits.header_fields = count;
        self
    }

    /// Sets the time limit for running requests to end after the shutdown signal; 30 s by default.
    pub fn shutdown_timeout(mut self, limit: Duration) -> Self {
        self.limits.shutdown = limit;
        self
    }

    /// Serves on a listener until the program ends.
    ///
    /// # Errors
    /// Currently none. If a connection cannot be accepted, the error is logged and the server
    /// accepts the next one.
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

    /// Serves until a shutdown signal, then shuts down gracefully.
    ///
    /// At the signal, the listener and idle connections are closed. Running requests may continue
    /// until [`shutdown_timeout`](Self::shutdown_timeout). Returns the number of connections that
    /// were still open then and were aborted. Dropping the future aborts all connections.
    ///
    /// # Errors
    /// Currently none.
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
        let (alive, mut handlers_ended) = mpsc::channel::<Infallible>(1);
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
                    tracing::warn!(peer = %peer.ip(), "closed: the address is not on the allow-list");
                }
                continue;
            }
            let caller = (!proxies.contains(peer.ip())).then(|| CallerAddr::new(peer.ip()));
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
        // If there is no receiver, every connection has ended already.
        let _ = stop.send(true);
        let all_ended = async {
            while let Some(ended) = connections.join_next().await {
                report(ended);
            }
        };
        let _ = timer::timeout(self.limits.shutdown, all_ended).await;
        let cut = connections.len();
        if cut > 0 {
            tracing::warn!(
                connections = cut,
                "connections were aborted at the end of the shutdown timeout"
            );
            connections.shutdown().await;
        }
        // The handlers of HTTP/2 requests are separate tasks.
        drop(alive);
        let _ = timer::timeout(ABORT_TIMEOUT, handlers_ended.recv()).await;
        Ok(cut)
    }

    /// Returns the proxies and the allow-list. Proxies declared for one of them apply to the other.
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

/// Accepts the next connection. Errors concern one connection or are temporary, so it retries.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_connection_error(&error) => {
                tracing::debug!(%error, "a connection ended before it was accepted");
            }
            Err(error) => {
                tracing::error!(%error, "connections cannot be accepted; retrying in 100 ms");
                timer::sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

fn is_connection_error(error: &std_io::Error) -> bool {
    use std_io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a connection ended in a panic; the server continues");
    }
}
