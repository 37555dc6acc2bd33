//! A simulated browser of the user: follows the bank's pages and submits their forms.
//!
//! It understands only the HTML of the demo bank's pages.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use px_core::{HttpLimits, HttpTransport};
use std::{collections::BTreeMap, sync::Arc};
use url::Url;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A browser with cookies.
#[derive(Debug)]
pub(crate) struct Browser {
    transport: Arc<dyn HttpTransport>,
    cookies: BTreeMap<String, String>,
}

/// The current location of the browser.
#[derive(Debug)]
pub(crate) enum Location {
    /// A page of the bank.
    Page(Page),
    /// The redirect URI of the application, with the response in the URL.
    Redirect(Url),
}

/// A page with a form.
#[derive(Debug)]
pub(crate) struct Page {
    url: Url,
    html: String,
}

impl Browser {
    pub(crate) fn new(transport: Arc<dyn HttpTransport>) -> Self {
        Self { transport, cookies: BTreeMap::new() }
    }

    /// Opens a URL and follows redirects, up to the one to `back`.
    pub(crate) async fn open(&mut self, url: Url, back: &str) -> Result<Location, Failure> {
        let request = Request::get(url.as_str()).body(Bytes::new())?;
        self.follow(url, request, back).await
    }

    /// Submits the form of a page with the user's input.
    pub(crate) async fn submit(
        &mut self,
        page: &Page,
        typed: &[(&str, &str)],
        back: &str,
    ) -> Result<Location, Failure> {
        let mut fields = page.hidden_fields();
        fields.extend(typed.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let body =
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let url = page.url.join(&page.form_action())?;
        let request = Request::post(url.as_str())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ORIGIN, page.url.origin().ascii_serialization())
            .body(Bytes::from(body))?;
        self.follow(url, request, back).await
    }

    async fn follow(
        &mut self,
        mut url: Url,
        mut request: Request<Bytes>,
        back: &str,
    ) -> Result<Location, Failure> {
        for _ in 0..10 {
            let cookies: Vec<_> = self.cookies.iter().map(|(k, v)| format!("{k}={v}")).collect();
            if !cookies.is_empty() {
                request.headers_mut().insert(header::COOKIE, cookies.join("; ").parse()?);
            }
            let response = self.transport.send(request, &HttpLimits::default()).await?;
            self.store_cookies(&response);
            if !response.status().is_redirection() {
                return page(url, &response).map(Location::Page);
            }
            let location =
                response.headers().get(header::LOCATION).ok_or("a redirect without a location")?;
            url = url.join(location.to_str()?)?;
            if url.as_str().starts_with(back) {
                return Ok(Location::Redirect(url));
            }
            request = Request::builder().method(Method::GET).uri(url.as_str()).body(Bytes::new())?;
        }
        Err("the bank's pages redirect more than 10 times".into())
    }

    fn store_cookies(&mut self, response: &Response<Bytes>) {
        for cookie in response.headers().get_all(header::SET_COOKIE) {
            let pair = cookie.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
            if let Some((name, value)) = pair.split_once('=') {
                self.cookies.insert(name.trim().to_owned(), value.trim().to_owned());
            }
        }
    }
}

fn page(url: Url, response: &Response<Bytes>) -> Result<Page, Failure> {
    let status = response.status();
    if status != StatusCode::OK {
        return Err(format!("the bank's page responded {status}").into());
    }
    let html = String::from_utf8(response.body().to_vec())?;
    Ok(Page { url, html })
}

impl Page {
    /// Returns the values of all checkboxes of a name.
    pub(crate) fn checkboxes(&self, name: &str) -> Vec<String> {
        self.tags("input")
            .filter(|tag| {
                attribute(tag, "type").as_deref() == Some("checkbox")
                    && attribute(tag, "name").as_deref() == Some(name)
            })
            .filter_map(|tag| attribute(tag, "value"))
            .collect()
    }

    fn hidden_fields(&self) -> Vec<(String, String)> {
        self.tags("input")
            .filter(|tag| attribute(tag, "type").as_deref() == Some("hidden"))
            .filter_map(|tag| Some((attribute(tag, "name")?, attribute(tag, "value")?)))
            .collect()
    }

    /// Returns the target of the form, which by default is the page itself.
    fn form_action(&self) -> String {
        let form = self.tags("form").next();
        form.and_then(|tag| attribute(tag, "action")).unwrap_or_else(|| self.url.to_string())
    }

    fn tags<'p>(&'p self, name: &'p str) -> impl Iterator<Item = &'p str> {
        self.html.split('<').skip(1).filter_map(move |rest| {
            let tag = rest.split('>').next()?;
            let (found, attributes) = tag.split_once(char::is_whitespace)?;
            (found == name).then_some(attributes)
        })
    }
}

/// Returns the value of an attribute, unescaped.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let mut rest = tag;
    while let Some((before, after)) = rest.split_once("=\"") {
        let (value, next) = after.split_once('"')?;
        if before.split_whitespace().last() == Some(name) {
            let value = value.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">");
            return Some(value.replace("&amp;", "&"));
        }
        rest = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_read() {
        let html = r#"<form method="post" action="/a?b=1&amp;c=2"><input type="hidden" name="csrf" value="x&quot;y">
            <input class="k" type="checkbox" name="account_id" value="a1" checked><input name="account_id" value="no"></form>"#;
        let page = Page { url: Url::parse("http://bank/").unwrap(), html: html.into() };
        assert_eq!(page.form_action(), "/a?b=1&c=2");
        assert_eq!(page.hidden_fields(), [("csrf".to_owned(), "x\"y".to_owned())]);
        assert_eq!(page.checkboxes("account_id"), ["a1"]);
    }
}
