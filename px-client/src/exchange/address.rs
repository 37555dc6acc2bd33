//! The address of a request that does not go to the base URL: an endpoint of an authorization server.

use crate::error::Error;
use url::Url;

/// An absolute `https` or `http` URL.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    url: Url,
    host: String,
}

impl Address {
    /// Parses a URL. The transport decides whether plain `http` is allowed.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let refuse = |what: &str| {
            Error::build("endpoint", format!("an endpoint of the authorization server {what}"))
                .with_advice("write it as https://id.bank.example/token")
        };
        let url = Url::parse(text).map_err(|e| refuse("is not a URL").with_source(e))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refuse("is neither https nor http"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse("must not contain a user name or a password"));
        }
        if url.fragment().is_some() {
            return Err(refuse("must not have a fragment"));
        }
        let host = match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (Some(host), None) => host.to_owned(),
            (None, _) => return Err(refuse("has no host")),
        };
        Ok(Self { url, host })
    }

    /// Returns the host, for errors.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Returns the URL with the query of a request appended to its own.
    pub(super) fn with_query(&self, query: Option<&str>) -> String {
        let mut url = self.url.clone();
        if let Some(query) = query {
            let query = match url.query() {
                Some(own) if !own.is_empty() => format!("{own}&{query}"),
                _ => query.to_owned(),
            };
            url.set_query(Some(&query));
        }
        url.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in [
            "",
            "/oauth2/token",
            "id.bank.example",
            "ftp://id.bank.example/",
            "https://ann:secret@id.bank.example/",
            "https://id.bank.example/#x",
            "mailto:ann@bank.example",
        ] {
            let error = Address::parse(bad).unwrap_err();
            assert!(!format!("{error:?} {error}").contains("secret"), "{error:?}");
        }
        let address = Address::parse("https://id.bank.example:8443/token?tenant=1").unwrap();
        assert_eq!(address.host(), "id.bank.example:8443");
        assert_eq!(
            address.with_query(Some("a=b")),
            "https://id.bank.example:8443/token?tenant=1&a=b"
        );
    }
}
