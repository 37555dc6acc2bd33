//! Common parts of this service's pages: security headers, cookies, forms, redirects.

use crate::text::safe_page;
use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use maud::Markup;
use px_core::Random;
use std::sync::Arc;

/// Maximum size of a form, in bytes.
pub(super) const MAX_FORM_BYTES: usize = 64 << 10;

/// Returns a page with a policy against scripts, foreign content and frames. It is not cached.
///
/// `targets` are the URLs to which its forms may lead: browsers apply `form-action` to the redirect
/// that follows a form, too.
pub(super) fn page<'t>(
    status: StatusCode,
    body: Markup,
    targets: impl IntoIterator<Item = &'t str>,
) -> Response {
    let targets: String =
        targets.into_iter().filter_map(origin).map(|origin| format!(" {origin}")).collect();
    let policy = format!(
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'{targets}; \
         frame-ancestors 'none'; base-uri 'none'"
    );
    let mut response = response(status, "text/html; charset=utf-8", safe_page(body.into_string()));
    if let Ok(policy) = HeaderValue::try_from(policy) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// Returns a response that is not cached.
pub(super) fn response(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(body.into().into());
    *response.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Returns a file that may be cached for an hour.
pub(super) fn file(kind: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = response(StatusCode::OK, kind, body);
    let cached = HeaderValue::from_static("public, max-age=3600");
    response.headers_mut().insert(header::CACHE_CONTROL, cached);
    response
}

/// Returns a redirect that a browser follows with GET.
pub(super) fn redirect(location: &str) -> Response {
    let mut response = response(StatusCode::SEE_OTHER, "text/plain; charset=utf-8", "");
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// Adds a cookie.
pub(super) fn with_cookie(mut response: Response, cookie: &str) -> Response {
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// Returns a cookie that scripts cannot read. The browser sends it when a link or a redirect of
/// another site leads here, but not with a form of another site.
pub(super) fn cookie(name: &str, value: &str, seconds: i64, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}")
}

/// Returns the name of a cookie. Over https it is bound to this host (`__Host-`).
pub(super) fn cookie_name(name: &str, secure: bool) -> String {
    let prefix = if secure { "__Host-" } else { "" };
    format!("{prefix}{name}")
}

/// Returns the value of a cookie.
pub(super) fn cookie_of(headers: &HeaderMap, name: &str) -> Option<String> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|p| p.trim().split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value.to_owned())
}

/// Returns whether the browser states that a page of another site sent the request.
pub(super) fn is_cross_site(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site" || site == "same-site")
}

/// Returns the origin of a URL for `form-action`.
fn origin(url: &str) -> Option<String> {
    let origin = url::Url::parse(url).ok()?.origin();
    origin.is_tuple().then(|| origin.ascii_serialization())
}

/// The fields of a form.
#[derive(Debug)]
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    /// Reads a body. Returns `None` if it is not a form.
    pub(super) fn read(headers: &HeaderMap, body: &[u8]) -> Option<Self> {
        let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        let kind = kind.split(';').next()?.trim();
        kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
            .then(|| Self(url::form_urlencoded::parse(body).into_owned().collect()))
    }

    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn one(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(field, _)| field == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    }
}

/// Returns the client's request id if it is well-formed. Otherwise returns a new one.
pub(super) fn request_id(headers: &HeaderMap, random: &dyn Random) -> String {
    let is_valid = |id: &&str| {
        (1..=64).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    };
    let mut given = headers.get_all("x-request-id").iter();
    let only = given.next().filter(|_| given.next().is_none());
    match only.and_then(|id| id.to_str().ok()).filter(is_valid) {
        Some(id) => id.to_owned(),
        None => {
            let mut bytes = [0; 16];
            random.fill(&mut bytes);
            bytes.iter().map(|byte| format!("{byte:02x}")).collect()
        }
    }
}

/// Adds a request id to every page and redirect: the client's own if it is well-formed.
pub(super) async fn with_request_id(
    State(random): State<Arc<dyn Random>>,
    request: Request,
    next: Next,
) -> Response {
    let id = request_id(request.headers(), &*random);
    let mut response = next.run(request).await;
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert(HeaderName::from_static("x-request-id"), id);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_names_where_forms_lead_and_nothing_else() {
        let page = page(
            StatusCode::OK,
            maud::html! {},
            ["https://bank.example:8443/oauth?x", "javascript:alert(1)", "no url"],
        );
        let policy = page.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.contains("form-action 'self' https://bank.example:8443;"), "{policy}");
        assert!(!policy.contains("javascript"));
    }

    #[test]
    fn cookies_are_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, "a=1; link-x=2; b=3".parse().unwrap());
        assert_eq!(cookie_of(&headers, "link-x").as_deref(), Some("2"));
        assert_eq!(cookie_of(&headers, "link-y"), None);
        assert_eq!(cookie_name("link-x", true), "__Host-link-x");
    }
}
