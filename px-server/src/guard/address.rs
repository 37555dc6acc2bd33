//! The address of a caller: one meaning for every limit, list and log line.

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

/// The address at the other end of the connection, as a request extension.
///
/// The hyper adapter puts it there, and axum's `ConnectInfo<SocketAddr>` is read as well. A
/// program with a server of its own inserts it before the request meets an
/// [`AllowList`](super::AllowList), [`Proxies`] or a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

/// The address of a caller, as a request extension.
///
/// It is the peer's, or behind declared [`Proxies`] the one that they forwarded. The limits of
/// connections, of failed authentications, of pending visits and of notifications, the log, and a
/// program's own limits take it from here, so that "address" means one thing in all of them.
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

/// What limits per address count by: an IPv4 address, or the /64 of an IPv6 address.
///
/// A /64 is what one customer of a network gets at least; its single addresses are for free.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressBlock(IpNet);

impl CallerAddr {
    /// A caller at an address. An IPv4 address that is written as IPv6 is the IPv4 address.
    #[must_use]
    pub fn new(address: IpAddr) -> Self {
        Self(address.to_canonical())
    }

    /// The caller of a request, from its extensions: what [`Proxies`] found, else the peer's.
    ///
    /// Returns `None` if the program's server does not say where requests come from.
    #[must_use]
    pub fn of(extensions: &Extensions) -> Option<Self> {
        let found = extensions.get::<Self>().copied();
        found.or_else(|| peer_of(extensions).map(|peer| Self::new(peer.ip())))
    }

    /// The address.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        self.0
    }

    /// What limits count this address by.
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

/// The partner's own proxies, which each request passes: load balancers, gateways.
///
/// Behind a proxy every peer is the proxy's address. Only what declared proxies wrote into
/// `X-Forwarded-For` counts, because anyone can write that header. Without a declaration the
/// header is not read.
///
/// For [`hyper`](crate::hyper) give it to `Server::proxies`. For axum and other servers it is a
/// tower layer, which must be around the service and everything that limits by address.
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

/// A text is neither an address nor a range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither an IP address nor a range such as `10.0.0.0/8`")]
pub struct InvalidRange(String);

impl Proxies {
    /// Declares how many proxies each request passes. 0, the default, is none.
    ///
    /// The caller's address is then the entry of `X-Forwarded-For` that the outermost of them
    /// wrote, counted from the right. Entries further left come from the caller and count for
    /// nothing.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self { count, ranges: Vec::new() }
    }

    /// Declares where the innermost proxy connects from; repeatable.
    ///
    /// Use it wherever somebody could reach the server past the proxy: such a caller would write
    /// `X-Forwarded-For` alone. Without it, any peer is held to be the proxy.
    ///
    /// # Errors
    /// If the text is neither an address nor a range.
    pub fn address(mut self, range: &str) -> Result<Self, InvalidRange> {
        self.ranges.push(parse_range(range)?);
        Ok(self)
    }

    /// Whether no proxy is declared.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether a peer is a declared proxy, whose connections are those of many callers.
    #[must_use]
    pub fn contain(&self, peer: IpAddr) -> bool {
        self.count > 0 && (self.ranges.is_empty() || contains(&self.ranges, peer.to_canonical()))
    }

    /// The caller of a request that a peer sent.
    ///
    /// A peer that is no declared proxy is the caller. Returns `None` if a declared proxy sent no
    /// `X-Forwarded-For`, or one that is malformed or too short.
    #[must_use]
    pub fn caller(&self, peer: IpAddr, headers: &HeaderMap) -> Option<CallerAddr> {
        if !self.contain(peer) {
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

    /// Notes the caller of a request in its extensions, for everything that limits by address.
    ///
    /// Where it cannot be found, it is the peer: what a proxy sends without saying for whom is
    /// counted together.
    pub(crate) fn note(&self, extensions: &mut Extensions, headers: &HeaderMap) {
        if let Some(peer) = peer_of(extensions) {
            let caller = self.caller(peer.ip(), headers);
            extensions.insert(caller.unwrap_or_else(|| CallerAddr::new(peer.ip())));
        }
    }
}

/// The peer's address, as the adapter in use put it into the request.
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

/// One entry of `X-Forwarded-For`: an address, with a port from some proxies.
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

/// A service whose requests carry a [`CallerAddr`]; made by [`Proxies`].
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
        self.proxies.note(request.extensions_mut(), &headers);
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
        proxies.note(&mut extensions, &HeaderMap::new());
        let caller = CallerAddr::of(&extensions).unwrap();
        assert_eq!(caller.ip().to_string(), "10.0.0.9");
    }
}
