//! The address of a caller, as all limits, lists and log lines use it.

use http::{Extensions, HeaderMap, Request};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    task::{Context, Poll},
};
use tower_layer::Layer;
use tower_service::Service;

/// The address of the peer of the connection, as a request extension.
///
/// The hyper adapter inserts it; axum's `ConnectInfo<SocketAddr>` is supported too. Another server
/// must insert it before the request reaches an [`AllowList`](super::AllowList), [`Proxies`] or a
/// service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

/// The address of a caller, as a request extension.
///
/// It is the address of the peer or, behind declared [`Proxies`], the forwarded one. The limits of
/// connections, failed authentications, pending visits and notifications, the log, and a program's
/// own limits should all use it, so that "address" has one meaning everywhere.
///
/// ```
/// use px_server::guard::{CallerAddr, PeerAddr};
///
/// let mut request = http::Request::get("/").body(())?;
/// request.extensions_mut().insert(PeerAddr("[2001:db8::1]:443".parse()?));
/// let address = CallerAddr::of(request.extensions()).ok_or("no address")?;
/// assert_eq!(address.block().to_string(), "2001:db8::/64");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallerAddr(IpAddr);

/// The unit of limits per address: an IPv4 address, or the /64 of an IPv6 address.
///
/// A /64 is the smallest network that a provider assigns to a customer, who can use any address in
/// it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressBlock(IpNet);

impl CallerAddr {
    /// Creates a caller address. An IPv4-mapped IPv6 address becomes the IPv4 address.
    #[must_use]
    pub fn new(address: IpAddr) -> Self {
        Self(address.to_canonical())
    }

    /// Returns the caller of a request from its extensions: the one that [`Proxies`] inserted,
    /// otherwise the peer.
    ///
    /// Returns `None` if the server does not provide the address of the peer.
    #[must_use]
    pub fn of(extensions: &Extensions) -> Option<Self> {
        let found = extensions.get::<Self>().copied();
        found.or_else(|| peer_of(extensions).map(|peer| Self::new(peer.ip())))
    }

    /// Returns the IP address.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        self.0
    }

    /// Returns the block that limits count this address by.
    #[must_use]
    pub fn block(self) -> AddressBlock {
        AddressBlock(match self.0 {
            IpAddr::V4(address) => Ipv4Net::from(address).into(),
            IpAddr::V6(address) => {
                let whole = Ipv6Net::new(address, 64).unwrap_or_else(|_| address.into());
                whole.trunc().into()
            }
        })
    }
}

impl fmt::Display for CallerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for AddressBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpNet::V4(net) => net.addr().fmt(f),
            IpNet::V6(net) => net.fmt(f),
        }
    }
}

impl fmt::Debug for AddressBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The partner's own proxies that each request passes, such as load balancers and gateways.
///
/// Behind a proxy, the peer's address is that of the proxy. Only the entries of declared proxies in
/// `X-Forwarded-For` are used, because anyone can send that header. Without a declaration, the
/// header is ignored.
///
/// For [`hyper`](crate::hyper), pass it to `Server::proxies`. For axum and other servers, it is a
/// tower layer, which must wrap the service and everything that limits by address.
///
/// ```
/// use px_server::guard::Proxies;
///
/// // One load balancer, which connects from this range.
/// let proxies = Proxies::new(1).address("10.0.0.0/24")?;
/// # Ok::<(), px_server::guard::InvalidRange>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    count: usize,
    ranges: Vec<IpNet>,
}

/// Error of parsing a text that is neither an address nor a range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither an IP address nor a range such as `10.0.0.0/8`")]
pub struct InvalidRange(String);

impl Proxies {
    /// Declares the number of proxies that each request passes. 0, the default, means none.
    ///
    /// The caller's address is the entry of `X-Forwarded-For` that the outermost proxy wrote,
    /// counted from the right. Entries further left come from the caller and are ignored.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self { count, ranges: Vec::new() }
    }

    /// Declares an address or range that the innermost proxy connects from; repeatable.
    ///
    /// Use it if clients can reach the server without the proxy: such a client could forge
    /// `X-Forwarded-For`. Without it, every peer is assumed to be the proxy.
    ///
    /// # Errors
    /// If the text is neither an address nor a range.
    pub fn address(mut self, range: &str) -> Result<Self, InvalidRange> {
        self.ranges.push(parse_range(range)?);
        Ok(self)
    }

    /// Returns whether no proxy is declared.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns whether a peer is a declared proxy.
    #[must_use]
    pub fn contains(&self, peer: IpAddr) -> bool {
        self.count > 0 && (self.ranges.is_empty() || contains(&self.ranges, peer.to_canonical()))
    }

    /// Returns the caller of a request that a peer sent.
    ///
    /// A peer that is not a declared proxy is the caller itself. Returns `None` if a declared proxy
    /// sent no `X-Forwarded-For`, or one that is malformed or has too few entries.
    #[must_use]
    pub fn caller(&self, peer: IpAddr, headers: &HeaderMap) -> Option<CallerAddr> {
        if !self.contains(peer) {
            return Some(CallerAddr::new(peer));
        }
        let mut hops = Vec::new();
        for line in headers.get_all("x-forwarded-for") {
            for entry in line.to_str().ok()?.split(',') {
                hops.push(parse_hop(entry.trim())?);
            }
        }
        let from_right = hops.len().checked_sub(self.count)?;
        hops.get(from_right).copied().map(CallerAddr::new)
    }

    /// Inserts the caller of a request into its extensions, for everything that limits by address.
    ///
    /// If the caller is unknown, the peer is inserted, so that requests without a valid
    /// `X-Forwarded-For` count together.
    pub(crate) fn insert_caller(&self, extensions: &mut Extensions, headers: &HeaderMap) {
        if let Some(peer) = peer_of(extensions) {
            let caller = self.caller(peer.ip(), headers);
            extensions.insert(caller.unwrap_or_else(|| CallerAddr::new(peer.ip())));
        }
    }
}

/// Returns the peer's address that the server in use inserted into the request.
pub(super) fn peer_of(extensions: &Extensions) -> Option<SocketAddr> {
    if let Some(PeerAddr(peer)) = extensions.get() {
        return Some(*peer);
    }
    #[cfg(feature = "axum")]
    if let Some(axum::extract::ConnectInfo(peer)) =
        extensions.get::<axum::extract::ConnectInfo<SocketAddr>>()
    {
        return Some(*peer);
    }
    None
}

pub(super) fn contains(ranges: &[IpNet], address: IpAddr) -> bool {
    ranges.iter().any(|range| range.contains(&address))
}

pub(super) fn parse_range(text: &str) -> Result<IpNet, InvalidRange> {
    let invalid = || InvalidRange(text.to_owned());
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(address.to_canonical().into()),
        Err(_) => text.parse::<IpNet>().map_err(|_| invalid()),
    }
}

/// Parses an entry of `X-Forwarded-For`: an address, with a port from some proxies.
fn parse_hop(entry: &str) -> Option<IpAddr> {
    let address = entry
        .parse::<IpAddr>()
        .or_else(|_| entry.parse::<SocketAddr>().map(|socket| socket.ip()))
        .ok()?;
    Some(address.to_canonical())
}

impl<S> Layer<S> for Proxies {
    type Service = ProxiesService<S>;

    fn layer(&self, inner: S) -> ProxiesService<S> {
        ProxiesService { inner, proxies: Arc::new(self.clone()) }
    }
}

/// A service with a [`CallerAddr`] in each request; created by [`Proxies`].
#[derive(Clone, Debug)]
pub struct ProxiesService<S> {
    inner: S,
    proxies: Arc<Proxies>,
}

impl<S, B> Service<Request<B>> for ProxiesService<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        let headers = std::mem::take(request.headers_mut());
        self.proxies.insert_caller(request.extensions_mut(), &headers);
        *request.headers_mut() = headers;
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(text: &str) -> String {
        CallerAddr::new(text.parse().unwrap()).block().to_string()
    }

    #[test]
    fn an_ipv6_address_counts_by_its_64() {
        assert_eq!(block("192.0.2.1"), "192.0.2.1");
        assert_eq!(block("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(block("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
        assert_eq!(block("2001:db8:1:2::"), block("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(block("2001:db8:1:2::1"), block("2001:db8:1:3::1"));
        assert_ne!(block("192.0.2.1"), block("192.0.2.2"));
    }

    #[test]
    fn a_peer_past_the_proxy_is_itself_whatever_it_writes() {
        let proxies = Proxies::new(1).address("10.0.0.0/24").unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "192.0.2.7".parse().unwrap());
        let caller = |peer: &str, headers: &HeaderMap| {
            proxies.caller(peer.parse().unwrap(), headers).map(|c| c.to_string())
        };
        assert_eq!(caller("10.0.0.9", &headers).as_deref(), Some("192.0.2.7"));
        assert_eq!(caller("198.51.100.7", &headers).as_deref(), Some("198.51.100.7"));
        assert_eq!(caller("10.0.0.9", &HeaderMap::new()), None);
        let peer = "198.51.100.7".parse().unwrap();
        let none = Proxies::default().caller(peer, &headers).map(CallerAddr::ip);
        assert_eq!(none, Some(peer));
    }

    #[test]
    fn what_a_proxy_sends_for_nobody_is_counted_as_the_proxy() {
        let proxies = Proxies::new(1);
        let mut extensions = Extensions::new();
        extensions.insert(PeerAddr("10.0.0.9:1".parse().unwrap()));
        proxies.insert_caller(&mut extensions, &HeaderMap::new());
        let caller = CallerAddr::of(&extensions).unwrap();
        assert_eq!(caller.ip().to_string(), "10.0.0.9");
    }
}
