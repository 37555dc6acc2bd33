//! Rules for webhook URLs: which ones are accepted, and which part may be logged. Pure.
//!
//! Host names are not resolved here. The transport checks the addresses with each call
//! ([`public_addresses_only`](px_core::is_public)).

use px_core::is_public;
use url::{Host, Url};

/// Maximum length of a URL in bytes.
const MAX_URL_BYTES: usize = 2048;

/// Set of accepted webhook URLs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UrlPolicy {
    /// `https`, and no host that is obviously internal.
    #[default]
    Public,
    /// Also loopback addresses and `localhost`, also over `http`: for demonstrations on one
    /// machine.
    LoopbackOrPublic,
    /// Also `http`, this machine and its networks: for tests.
    Anywhere,
}

/// Checks a webhook URL before it is stored.
///
/// A valid URL can still lead to an internal address through its host name. Send with a transport
/// that reaches public addresses only.
///
/// ```
/// use px_items::webhook::{UrlPolicy, check_url};
/// assert!(check_url("https://app.example/plaid?tenant=7", UrlPolicy::Public).is_ok());
/// assert!(check_url("https://10.0.0.1/", UrlPolicy::Public).is_err());
/// assert!(check_url("http://localhost:8080/", UrlPolicy::LoopbackOrPublic).is_ok());
/// assert!(check_url("http://10.0.0.1/", UrlPolicy::LoopbackOrPublic).is_err());
/// ```
///
/// # Errors
/// Returns an error if the URL is malformed, too long, has parts that webhooks may not have, or is
/// not allowed by `allow`. The text gives the reason without the URL.
pub fn check_url(text: &str, allow: UrlPolicy) -> Result<(), UrlError> {
    if text.len() > MAX_URL_BYTES {
        return Err(UrlError("is longer than 2048 bytes"));
    }
    let url = Url::parse(text).map_err(|_| UrlError("is not an absolute URL"))?;
    if text.parse::<http::Uri>().is_err() {
        return Err(UrlError("has characters that must be percent-encoded"));
    }
    let is_inside = match allow {
        UrlPolicy::Public => false,
        UrlPolicy::LoopbackOrPublic => is_loopback(&url),
        UrlPolicy::Anywhere => true,
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

/// Reason why a webhook URL is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the webhook address {0}")]
pub struct UrlError(&'static str);

/// Returns scheme, host and port, which may be logged. Path and query may contain a token.
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
            // A name without a dot belongs to this network; so do these suffixes, by RFC 6761, 6762
            // and ICANN.
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
        let check = |url| check_url(url, UrlPolicy::LoopbackOrPublic).is_ok();
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
            assert_eq!(check_url(good, UrlPolicy::Public), Ok(()), "{good}");
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
            assert!(check_url(bad, UrlPolicy::Public).is_err(), "{bad}");
        }
        assert!(
            check_url(&format!("https://app.example/{}", "a".repeat(2048)), UrlPolicy::Public)
                .is_err()
        );
        for inside in ["http://127.0.0.1:8080/", "http://localhost/hook", "http://[::1]:1/"] {
            assert_eq!(check_url(inside, UrlPolicy::Anywhere), Ok(()), "{inside}");
        }
        assert!(check_url("file:///etc/passwd", UrlPolicy::Anywhere).is_err());
    }

    #[test]
    fn nothing_beyond_the_origin_is_logged() {
        let url = "https://user:pw@app.example:8443/secret?token=hunter2#x";
        assert_eq!(origin(url), "https://app.example:8443");
        assert_eq!(origin("hunter2"), "(no URL)");
        let error = check_url(url, UrlPolicy::Public).unwrap_err();
        assert_eq!(error.to_string(), "the webhook address has a user name or a password");
    }
}
