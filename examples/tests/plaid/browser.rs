//! A simulated browser without scripts: stores cookies of each host and port, follows redirects,
//! submits forms.

use http::{StatusCode, header};
use std::collections::BTreeMap;
use url::Url;

/// A page, or the redirect to an application or a bank's site.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) url: Url,
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) html: String,
}

/// A browser.
pub(crate) struct Browser {
    http: reqwest::Client,
    /// The cookies by host and port, then name. Real browsers share them between ports, which makes
    /// no difference here.
    cookies: BTreeMap<(String, String), String>,
}

/// A prefix of redirect URIs. No server listens there, and the browser stops at such a redirect.
pub(crate) const AWAY: &str = "http://127.0.0.1:9/";

impl Browser {
    pub(crate) fn new() -> Self {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self { http, cookies: BTreeMap::new() }
    }

    pub(crate) async fn open(&mut self, url: &str) -> Page {
        let url = Url::parse(url).unwrap();
        let request = self.http.get(url.clone());
        self.follow(url, request).await
    }

    /// Submits the first form to `action`, with the user's input.
    pub(crate) async fn submit(
        &mut self,
        page: &Page,
        action: &str,
        typed: &[(&str, &str)],
    ) -> Page {
        let form = page.form(action);
        let mut fields = form.hidden.clone();
        fields.extend(typed.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        self.post(&page.url.join(&form.action).unwrap(), &fields, &[]).await
    }

    pub(crate) async fn post(
        &mut self,
        url: &Url,
        fields: &[(String, String)],
        headers: &[(&str, &str)],
    ) -> Page {
        let body =
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let mut request = self
            .http
            .post(url.clone())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.follow(url.clone(), request).await
    }

    async fn follow(&mut self, mut url: Url, mut request: reqwest::RequestBuilder) -> Page {
        for _ in 0..10 {
            let site = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(80));
            let mine = self.cookies.iter().filter(|((at, _), _)| *at == site);
            let cookies: Vec<_> =
                mine.map(|((_, name), value)| format!("{name}={value}")).collect();
            let response = request.header(header::COOKIE, cookies.join("; ")).send().await.unwrap();
            for cookie in response.headers().get_all(header::SET_COOKIE) {
                let pair = cookie.to_str().unwrap().split(';').next().unwrap();
                let (name, value) = pair.split_once('=').unwrap();
                self.cookies.insert((site.clone(), name.to_owned()), value.to_owned());
            }
            let (status, headers) = (response.status(), response.headers().clone());
            let location = headers.get(header::LOCATION).map(|l| l.to_str().unwrap().to_owned());
            let html = response.text().await.unwrap();
            match location {
                Some(location) if status.is_redirection() => {
                    url = url.join(&location).unwrap();
                    if url.as_str().starts_with(AWAY) {
                        return Page { url, status, headers, html };
                    }
                    request = self.http.get(url.clone());
                }
                _ => return Page { url, status, headers, html },
            }
        }
        panic!("more than 10 redirects, at {url}");
    }
}

/// A form of a page.
pub(crate) struct Form {
    pub(crate) action: String,
    pub(crate) hidden: Vec<(String, String)>,
}

impl Page {
    /// Returns the first form with an action that ends with `action`.
    pub(crate) fn form(&self, action: &str) -> Form {
        let found = self.forms().into_iter().find(|form| form.action.ends_with(action));
        found.unwrap_or_else(|| panic!("no form to {action} on {}: {}", self.url, self.html))
    }

    /// Returns all forms of the page.
    pub(crate) fn forms(&self) -> Vec<Form> {
        let forms = self.html.split("<form ").skip(1).filter_map(|rest| {
            let form = rest.split("</form>").next()?;
            let action = between(form, "action=\"", "\"").first().copied()?.to_owned();
            let hidden = form.split("<input ").skip(1).filter_map(|rest| {
                let tag = rest.split('>').next()?;
                tag.contains("type=\"hidden\"").then_some(())?;
                let name = between(tag, "name=\"", "\"").first().copied()?;
                Some((name.to_owned(), between(tag, "value=\"", "\"").first()?.to_string()))
            });
            Some(Form { action, hidden: hidden.collect() })
        });
        forms.collect()
    }

    /// Returns the values of the fields of a name.
    pub(crate) fn values(&self, name: &str) -> Vec<String> {
        let start = format!("name=\"{name}\" value=\"");
        between(&self.html, &start, "\"").into_iter().map(str::to_owned).collect()
    }

    /// Returns a field of the query of the URL.
    pub(crate) fn query(&self, name: &str) -> Option<String> {
        let found = self.url.query_pairs().find(|(field, _)| field == name);
        found.map(|(_, value)| value.into_owned())
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// Returns the texts between `start` and `end`, for each occurrence.
pub(crate) fn between<'a>(text: &'a str, start: &str, end: &str) -> Vec<&'a str> {
    text.split(start).skip(1).filter_map(|rest| rest.split(end).next()).collect()
}
