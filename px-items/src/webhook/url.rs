//! Addresses of webhooks: which ones are accepted, and how much of one may be logged. Pure.
//!
//! What a name leads to is not known here. The transport's guard
//! ([`public_addresses_only`](px_core::is_public))
//! looks at that with each call.

use px_core::is_public;
use url::{Host, Url};

/// The longest address.
const LONGEST: usize = 2048;

/// Which addresses of webhooks are accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Allow {
    /// `https`, and no host that is plainly inside.
    #[default]
    Public,
    /// Also loopback addresses and `localhost`, over `http` too: for demonstrations on one machine.
    LoopbackOrPublic,
    /// Also `http`, this machine and its networks: for tests.
    Anywhere,
}

/// Checks an address before it is stored.
///
/// A good address can still lead inside through its name: send with a transport that reaches
/// public addresses only.
///
/// ```
/// use px_items::webhook::{Allow, check_url};
/// assert!(check_url("https://app.example/plaid?tenant=7", Allow::Public).is_ok());
/// assert!(check_url("https://10.0.0.1/", Allow::Public).is_err());
/// assert!(check_url("http://localhost:8080/", Allow::LoopbackOrPublic).is_ok());
/// assert!(check_url("http://10.0.0.1/", Allow::LoopbackOrPublic).is_err());
/// ```
///
/// # Errors
/// When nothing can or may be sent there; says why without showing the address.
pub fn check_url(text: &str, allow: Allow) -> Result<(), UrlError> {
    if text.len() > LONGEST {
        return Err(UrlError("is longer than 2048 bytes"));
    }
    let url = Url::parse(text).map_err(|_| UrlError("is no absolute URL"))?;
    if text.parse::<http::Uri>().is_err() {
        return Err(UrlError("has characters that must be percent-encoded"));
    }
    let is_inside = match allow {
        Allow::Public => false,
        Allow::LoopbackOrPublic => is_loopback(&url),
        Allow::Anywhere => true,
    };
    match url.scheme() {
        "https" => {}
        "http" if is_inside => {}
        _ => return Err(UrlError("is not https")),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlError("has a user name or a password"));
    }
    if url.fragment().is_some() {
        return Err(UrlError("has a fragment, which is never sent"));
    }
    if !is_inside && !may_be_public(&url) {
        return Err(UrlError("is not on the public internet"));
    }
    Ok(())
}

/// An address is no good for webhooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the webhook address {0}")]
pub struct UrlError(&'static str);

/// Scheme, host and port: what may be logged. A path or a query may hold a token.
pub(super) fn origin(text: &str) -> String {
    Url::parse(text)
        .map_or_else(|_| "(no URL)".to_owned(), |url| url.origin().ascii_serialization())
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(v4)) => v4.is_loopback(),
        Some(Host::Ipv6(v6)) => v6.to_canonical().is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

fn may_be_public(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(v4)) => is_public(v4.into()),
        Some(Host::Ipv6(v6)) => is_public(v6.into()),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            // A name without a dot is of this network; so are these, by RFC 6761, 6762 and ICANN.
            let inside = [".localhost", ".local", ".internal"];
            name.contains('.') && !inside.iter().any(|suffix| name.ends_with(suffix))
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demonstration_reaches_loopback_but_not_the_network_of_its_machine() {
        let check = |url| check_url(url, Allow::LoopbackOrPublic).is_ok();
        for good in [
            "http://127.0.0.1:9200/hook",
            "http://127.1.2.3/",
            "http://[::1]:9200/",
            "http://localhost:9200/",
            "https://localhost/",
            "https://app.example/hook",
        ] {
            assert!(check(good), "{good}");
        }
        for bad in [
            "http://169.254.169.254/latest/meta-data",
            "https://169.254.169.254/",
            "http://10.0.0.1/",
            "http://0.0.0.0/",
            "http://[::ffff:169.254.169.254]/",
            "http://[fe80::1]/",
            "http://app.example/",
            "http://localhost.example/",
            "http://printer/",
            "http://2852039166/",
        ] {
            assert!(!check(bad), "{bad}");
        }
    }

    #[test]
    fn ssrf_corpus_of_webhook_addresses() {
        for good in [
            "https://app.example/hook",
            "https://app.example:8443/hook?token=x",
            "https://1.1.1.1/",
            "https://[2606:4700::1111]/",
            "HTTPS://APP.EXAMPLE/",
            "https://xn--bcher-kva.example/",
        ] {
            assert_eq!(check_url(good, Allow::Public), Ok(()), "{good}");
        }
        for bad in [
            "",
            "app.example",
            "//app.example/",
            "https://",
            "https:///",
            "ftp://app.example/",
            "http://app.example/",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "data:,x",
            "https://user@app.example/",
            "https://user:pw@app.example/",
            "https://app.example/#x",
            "https://127.0.0.1/",
            "https://127.1/",
            "https://2130706433/",
            "https://0x7f000001/",
            "https://0177.0.0.1/",
            "https://0/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://[64:ff9b::10.0.0.1]/",
            "https://[fe80::1]/",
            "https://169.254.169.254/",
            "https://localhost/",
            "https://localhost./",
            "https://a.localhost/",
            "https://printer/",
            "https://printer.local/",
            "https://vault.internal./",
            "https://127.0.0.1./",
            "https://１２７.0.0.1/",
            "https://app.example/a b",
            "https://app.example\\@10.0.0.1/",
        ] {
            assert!(check_url(bad, Allow::Public).is_err(), "{bad}");
        }
        assert!(
            check_url(&format!("https://app.example/{}", "a".repeat(2048)), Allow::Public).is_err()
        );
        for inside in ["http://127.0.0.1:8080/", "http://localhost/hook", "http://[::1]:1/"] {
            assert_eq!(check_url(inside, Allow::Anywhere), Ok(()), "{inside}");
        }
        assert!(check_url("file:///etc/passwd", Allow::Anywhere).is_err());
    }

    #[test]
    fn nothing_beyond_the_origin_is_logged() {
        let url = "https://user:pw@app.example:8443/secret?token=hunter2#x";
        assert_eq!(origin(url), "https://app.example:8443");
        assert_eq!(origin("hunter2"), "(no URL)");
        let error = check_url(url, Allow::Public).unwrap_err();
        assert_eq!(error.to_string(), "the webhook address has a user name or a password");
    }
}
