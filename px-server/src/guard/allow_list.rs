//! An address allow-list: a tower layer around the service.

use super::{
    address::{InvalidRange, Proxies, contains, parse_range, peer_of},
    refusal::error_response,
};
use bytes::Bytes;
use futures_util::future::{Either, Ready, ready};
use http::{HeaderMap, Request, Response, StatusCode};
use ipnet::IpNet;
use px_types::error_id;
use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    task::{Context, Poll},
};
use tower_layer::Layer;
use tower_service::Service;

/// The addresses from which Plaid calls a partner in production.
///
/// Contract: `px.md` section 11.
pub const PLAID_PRODUCTION: &[IpAddr] = &[
    v4(18, 214, 218, 91),
    v4(3, 211, 30, 208),
    v4(3, 214, 25, 67),
    v4(54, 88, 74, 128),
    v4(54, 208, 59, 10),
    v4(54, 88, 202, 28),
    v4(34, 199, 37, 46),
    v4(35, 168, 137, 48),
    v4(3, 215, 49, 214),
    v4(34, 202, 178, 138),
    v4(52, 0, 205, 192),
    v4(52, 3, 166, 211),
    v4(35, 174, 147, 86),
    v4(52, 88, 82, 239),
    v4(52, 41, 247, 19),
    v4(3, 233, 249, 56),
    v4(35, 153, 85, 253),
    v4(3, 219, 116, 195),
];

/// The additional addresses from which Plaid calls a partner in testing.
///
/// Contract: `px.md` section 11.
pub const PLAID_TESTING: &[IpAddr] = &[v4(104, 131, 160, 201), v4(3, 80, 88, 60)];

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

/// A tower layer that permits only known addresses.
///
/// Every other request is refused with 403, including a request from an unknown address.
/// `X-Forwarded-For` is used only behind declared [`Proxies`]. A [`hyper`](crate::hyper) server
/// takes the list itself (`Server::allow_list`) and closes connections of unknown peers as it
/// accepts them.
///
/// ```
/// use px_server::guard::{AllowList, Proxies};
///
/// let plaid = AllowList::plaid_production();
/// let mine = AllowList::new().allow("10.0.0.0/8")?.allow("2001:db8::1")?;
/// let behind = plaid.proxies(Proxies::new(1).address("10.0.0.0/24")?);
/// # Ok::<(), px_server::guard::InvalidRange>(())
/// ```
///
/// Contract: `px.md` section 11.
#[derive(Clone, Debug, Default)]
#[must_use = "a layer does nothing until a service is put into it"]
pub struct AllowList {
    allowed: Vec<IpNet>,
    proxies: Proxies,
}

impl AllowList {
    /// Creates a list that permits no address.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a list of Plaid's production addresses.
    pub fn plaid_production() -> Self {
        Self::new().allow_addresses(PLAID_PRODUCTION.iter().copied())
    }

    /// Creates a list of Plaid's production addresses and the additional testing addresses.
    pub fn plaid_testing() -> Self {
        Self::plaid_production().allow_addresses(PLAID_TESTING.iter().copied())
    }

    /// Permits an address (`192.0.2.1`) or a range (`192.0.2.0/24`).
    ///
    /// # Errors
    /// If the text is neither.
    pub fn allow(mut self, range: &str) -> Result<Self, InvalidRange> {
        self.allowed.push(parse_range(range)?);
        Ok(self)
    }

    /// Permits addresses.
    pub fn allow_addresses(mut self, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let addresses = addresses.into_iter().map(|a| IpNet::from(a.to_canonical()));
        self.allowed.extend(addresses);
        self
    }

    /// Declares the proxies that requests pass.
    ///
    /// The list then checks the caller that the proxies forwarded. A peer that is not a declared
    /// proxy is refused, and so is a request without a forwarded caller.
    pub fn proxies(mut self, proxies: Proxies) -> Self {
        self.proxies = proxies;
        self
    }

    /// Returns whether a request from a peer, with these headers, is permitted.
    #[must_use]
    pub fn permits(&self, peer: SocketAddr, headers: &HeaderMap) -> bool {
        if !self.permits_peer(peer) {
            return false;
        }
        let caller = self.proxies.caller(peer.ip(), headers);
        caller.is_some_and(|caller| contains(&self.allowed, caller.ip()))
    }

    /// Returns whether connections from a peer are permitted: from an allowed address, or from a
    /// declared proxy, in which case each request is checked.
    #[must_use]
    pub fn permits_peer(&self, peer: SocketAddr) -> bool {
        let peer = peer.ip().to_canonical();
        if self.proxies.is_empty() {
            contains(&self.allowed, peer)
        } else {
            self.proxies.contains(peer)
        }
    }

    /// Returns the declared proxies.
    #[cfg(feature = "hyper")]
    pub(crate) fn declared_proxies(&self) -> &Proxies {
        &self.proxies
    }
}

impl<S> Layer<S> for AllowList {
    type Service = AllowListService<S>;

    fn layer(&self, inner: S) -> AllowListService<S> {
        AllowListService { inner, list: Arc::new(self.clone()) }
    }
}

/// A service that only known addresses can call; created by [`AllowList`].
#[derive(Clone, Debug)]
pub struct AllowListService<S> {
    inner: S,
    list: Arc<AllowList>,
}

impl<S, B, R> Service<Request<B>> for AllowListService<S>
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible>,
    R: From<Bytes>,
{
    type Response = Response<R>;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Response<R>, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let peer = peer_of(request.extensions());
        if peer.is_some_and(|peer| self.list.permits(peer, request.headers())) {
            if !self.list.proxies.is_empty() {
                let headers = std::mem::take(request.headers_mut());
                self.list.proxies.insert_caller(request.extensions_mut(), &headers);
                *request.headers_mut() = headers;
            }
            return Either::Left(self.inner.call(request));
        }
        let response = refuse(peer, request.headers());
        Either::Right(ready(Ok(response.map(R::from))))
    }
}

/// Returns the response to a request from an address that is not on the list.
pub(crate) fn refuse(peer: Option<SocketAddr>, headers: &HeaderMap) -> Response<Bytes> {
    tracing::warn!(peer = ?peer.map(|p| p.ip()), "refused: the address is not on the allow-list");
    let text = "Requests from this address are not permitted.";
    error_response(StatusCode::FORBIDDEN, error_id::FORBIDDEN, text, headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().unwrap(), 40_000)
    }

    fn forwarded(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        headers
    }

    #[test]
    fn plaid_is_let_in_and_others_are_not() {
        let none = HeaderMap::new();
        let production = AllowList::plaid_production();
        assert_eq!(PLAID_PRODUCTION.len(), 18);
        for address in PLAID_PRODUCTION {
            assert!(production.permits(SocketAddr::new(*address, 1), &none));
        }
        for address in PLAID_TESTING {
            assert!(!production.permits(SocketAddr::new(*address, 1), &none));
            let testing = AllowList::plaid_testing();
            assert!(testing.permits(SocketAddr::new(*address, 1), &none));
        }
        assert!(!production.permits(peer("127.0.0.1"), &none));
        assert!(!AllowList::new().permits(peer("18.214.218.91"), &none));
    }

    #[test]
    fn a_mapped_address_is_the_address() {
        let none = HeaderMap::new();
        let production = AllowList::plaid_production();
        assert!(production.permits(peer("::ffff:18.214.218.91"), &none));
        assert!(!production.permits(peer("::ffff:127.0.0.1"), &none));
        let mapped = AllowList::new().allow("::ffff:10.1.2.3").unwrap();
        assert!(mapped.permits(peer("10.1.2.3"), &none));
    }

    #[test]
    fn ranges_are_read() {
        let none = HeaderMap::new();
        let list = AllowList::new().allow("10.0.0.0/8").unwrap();
        let list = list.allow("2001:db8::/32").unwrap();
        assert!(list.permits(peer("10.255.0.1"), &none));
        assert!(list.permits(peer("2001:db8::5"), &none));
        assert!(!list.permits(peer("11.0.0.1"), &none));
        for bad in ["", "10.0.0.0/33", "example.com", "10.0.0.1:80"] {
            assert!(AllowList::new().allow(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_forged_header_opens_nothing() {
        let plaid = "18.214.218.91";
        let direct = AllowList::plaid_production();
        assert!(!direct.permits(peer("198.51.100.7"), &forwarded(&[plaid])));
        assert!(direct.permits(peer(plaid), &forwarded(&["garbage"])));

        let one = AllowList::plaid_production().proxies(Proxies::new(1));
        let two = AllowList::plaid_production().proxies(Proxies::new(2));
        for (list, lines, passes) in [
            (&one, &[plaid][..], true),
            (&one, &["18.214.218.91:443"], true),
            (&one, &["198.51.100.7, 18.214.218.91"], true),
            (&one, &["18.214.218.91, 198.51.100.7"], false),
            (&one, &[plaid, "198.51.100.7"], false),
            (&one, &["198.51.100.7", plaid], true),
            (&one, &[], false),
            (&one, &[""], false),
            (&one, &["unknown, 18.214.218.91"], false),
            (&one, &["18.214.218.91, "], false),
            (&one, &["018.214.218.091"], false),
            (&two, &[plaid], false),
            (&two, &["18.214.218.91, 10.0.0.2"], true),
            (&two, &["18.214.218.91", "10.0.0.2"], true),
            (&two, &["18.214.218.91, 198.51.100.7, 10.0.0.2"], false),
        ] {
            let headers = forwarded(lines);
            let passed = list.permits(peer("10.0.0.1"), &headers);
            assert_eq!(passed, passes, "{:?}, {lines:?}", list.proxies);
        }
    }

    #[test]
    fn past_the_proxy_nobody_gets_in() {
        let proxies = Proxies::new(1).address("10.0.0.0/24").unwrap();
        let list = AllowList::plaid_production().proxies(proxies);
        let headers = forwarded(&["18.214.218.91"]);
        assert!(list.permits(peer("10.0.0.9"), &headers));
        assert!(!list.permits(peer("198.51.100.7"), &headers));
    }
}
