//! What all pages of this service share: headers that guard them, cookies, forms, redirects.

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

/// The most bytes of a form.
pub(super) const LONGEST_FORM: usize = 64 << 10;

/// A page: no script, nothing from elsewhere, in no frame, kept nowhere.
///
/// `targets` are where its forms may lead: browsers hold the redirect that follows a form to
/// `form-action` too.
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
    let mut response = answer(status, "text/html; charset=utf-8", safe_page(body.into_string()));
    if let Ok(policy) = HeaderValue::try_from(policy) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// An answer that nobody keeps.
pub(super) fn answer(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response {
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

/// A file that may be kept for an hour.
pub(super) fn file(kind: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = answer(StatusCode::OK, kind, body);
    let kept = HeaderValue::from_static("public, max-age=3600");
    response.headers_mut().insert(header::CACHE_CONTROL, kept);
    response
}

/// A redirect that a browser follows with GET.
pub(super) fn redirect(location: &str) -> Response {
    let mut response = answer(StatusCode::SEE_OTHER, "text/plain; charset=utf-8", "");
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

/// A cookie that scripts do not see. It comes along when another site leads here by a link or a
/// redirect, and not with a form of another site.
pub(super) fn cookie(name: &str, value: &str, seconds: i64, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}")
}

/// The name of a cookie. Over https it is bound to this host (`__Host-`).
pub(super) fn cookie_name(name: &str, secure: bool) -> String {
    let prefix = if secure { "__Host-" } else { "" };
    format!("{prefix}{name}")
}

/// The value of a cookie.
pub(super) fn cookie_of(headers: &HeaderMap, name: &str) -> Option<String> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|p| p.trim().split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value.to_owned())
}

/// Whether a browser says that a page of another site sent this.
pub(super) fn is_cross_site(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site" || site == "same-site")
}

/// The origin of a URL as `form-action` takes it.
fn origin(url: &str) -> Option<String> {
    let origin = url::Url::parse(url).ok()?.origin();
    origin.is_tuple().then(|| origin.ascii_serialization())
}

/// The fields of a form.
#[derive(Debug)]
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    /// Reads a body; `None` when it is not a form.
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

/// The request id of a caller, if it is fit; else a new one.
pub(super) fn request_id(headers: &HeaderMap, random: &dyn Random) -> String {
    let fit = |id: &&str| {
        (1..=64).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    };
    let mut given = headers.get_all("x-request-id").iter();
    let only = given.next().filter(|_| given.next().is_none());
    match only.and_then(|id| id.to_str().ok()).filter(fit) {
        Some(id) => id.to_owned(),
        None => {
            let mut bytes = [0; 16];
            random.fill(&mut bytes);
            bytes.iter().map(|byte| format!("{byte:02x}")).collect()
        }
    }
}

/// Gives every page and redirect a request id, the caller's own if it is fit.
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
