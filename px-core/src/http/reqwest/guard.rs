//! Restriction of requests to public addresses.
//!
//! It is used for addresses that others chose, such as webhooks. A name is resolved once, here, and
//! addresses that are not public are removed from the result. The connection is made to an address
//! that was checked, so a name that resolves to another address later (DNS rebinding) has no effect.

use crate::http::address::is_public;
use futures_util::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::{error::Error as StdError, fmt, io, net::SocketAddr, sync::Arc};
use url::{Host, Url};

/// Resolves host names.
pub(super) trait Lookup: Send + Sync {
    fn look_up(&self, name: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>>;
}

/// The resolver of the operating system.
pub(super) struct SystemResolver;

impl Lookup for SystemResolver {
    fn look_up(&self, name: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) })
    }
}

/// A resolver that returns only public addresses.
pub(super) struct PublicResolver(pub(super) Arc<dyn Lookup>);

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let looked_up = self.0.look_up(name.as_str().to_owned());
        Box::pin(async move {
            let mut addresses = looked_up.await?;
            let has_address = !addresses.is_empty();
            addresses.retain(|address| is_public(address.ip()));
            if has_address && addresses.is_empty() {
                return Err(Box::new(NotPublicError) as Box<dyn StdError + Send + Sync>);
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Checks the hosts that need no lookup: literal addresses in any spelling that `url` accepts, and
/// the names of this machine.
pub(super) fn check(url: &Url) -> Result<(), NotPublicError> {
    let good = match url.host() {
        Some(Host::Ipv4(v4)) => is_public(v4.into()),
        Some(Host::Ipv6(v6)) => is_public(v6.into()),
        Some(Host::Domain(name)) => !is_this_machine(name),
        None => false,
    };
    if good { Ok(()) } else { Err(NotPublicError) }
}

/// Returns whether a name is `localhost` or a subdomain of it, which RFC 6761 reserves for loopback.
fn is_this_machine(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name.is_empty() || name == "localhost" || name.ends_with(".localhost")
}

/// The host has no address on the public internet.
#[derive(Debug)]
pub(super) struct NotPublicError;

impl fmt::Display for NotPublicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the host is not on the public internet; nothing was sent")
    }
}

impl StdError for NotPublicError {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    #[test]
    fn ssrf_corpus_of_spellings() {
        for bad in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://127.0.0.1./",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://017700000001/",
            "http://0/",
            "http://0.0.0.0/",
            "http://[::]/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://[::127.0.0.1]/",
            "http://[64:ff9b::127.0.0.1]/",
            "http://[2002:7f00:1::]/",
            "http://[fe80::1]/",
            "http://[fd00:ec2::254]/",
            "http://169.254.169.254/latest/meta-data/",
            "http://0xa9fea9fe/",
            "http://2852039166/",
            "http://10.0.0.1/",
            "http://192.168.1.1/",
            "http://172.16.0.1:8080/",
            "http://100.64.0.1/",
            "http://localhost/",
            "http://LOCALHOST/",
            "http://localhost./",
            "http://a.localhost/",
            "http://a.localhost./",
            "http://１２７.０.０.１/",
            "http://①②⑦.⓪.⓪.①/",
            "http://127。0。0。1/",
            "http://%31%32%37.0.0.1/",
            "http://user:pw@127.0.0.1/",
            "http://1.1.1.1@127.0.0.1/",
            "http://127.0.0.1#@1.1.1.1/",
            "http://ⓛocalhost/",
            "https:127.0.0.1/",
            "https:///127.0.0.1/",
            "https://\\127.0.0.1/",
            "http://127.0.0.1:80\\@1.1.1.1/",
        ] {
            let url = Url::parse(bad);
            assert!(url.is_ok_and(|url| check(&url).is_err()), "{bad}");
        }
        for good in [
            "https://example.com/",
            "https://1.1.1.1/",
            "https://[2606:4700::1111]/",
            "https://[::ffff:1.1.1.1]/",
            "https://localhost.example.com/",
            "https://notlocalhost/",
            "https://127.0.0.1.example.com/",
            "https://16843009/",
        ] {
            assert!(check(&Url::parse(good).unwrap()).is_ok(), "{good}");
        }
    }

    struct FixedResolver(Vec<&'static str>);

    impl Lookup for FixedResolver {
        fn look_up(&self, _: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
            let all = self.0.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect();
            Box::pin(async move { Ok(all) })
        }
    }

    async fn resolved(addresses: &[&'static str]) -> Result<Vec<IpAddr>, String> {
        let guard = PublicResolver(Arc::new(FixedResolver(addresses.to_vec())));
        let resolved = guard.resolve("bank.example".parse().unwrap()).await;
        resolved.map(|all| all.map(|a| a.ip()).collect()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_name_that_points_inside_is_refused() {
        for inside in ["127.0.0.1", "10.1.2.3", "::1", "fd00::1", "::ffff:192.168.0.1"] {
            let refused = resolved(&[inside]).await.unwrap_err();
            assert_eq!(refused, NotPublicError.to_string(), "{inside}");
        }
        let mixed = resolved(&["10.0.0.1", "1.1.1.1", "::1", "2606:4700::1111"]).await.unwrap();
        let public = ["1.1.1.1", "2606:4700::1111"].map(|ip| ip.parse::<IpAddr>().unwrap());
        assert_eq!(mixed, public);
        assert_eq!(resolved(&[]).await.unwrap(), Vec::<IpAddr>::new());
    }
}
