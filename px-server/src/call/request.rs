//! Checks of a request before any endpoint runs.

use super::{Limits, RequestRefusal};
use crate::{budget::RequestBudget, guard::CallerAddr};
use bytes::{Buf as _, Bytes};
use http::{HeaderMap, HeaderValue, Version, header, request::Parts};
use http_body_util::BodyExt as _;
use std::{fmt, pin::pin, sync::Arc};

/// Maximum size of a form that is read before its sender is authenticated.
pub(crate) const MAX_FORM_BYTES: usize = 16 << 10;

/// A request without its body.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) parts: Parts,
    pub(crate) request_id: Arc<str>,
    /// The address of the caller, if known.
    pub(crate) address: Option<CallerAddr>,
    /// Counts the bytes of the body.
    pub(crate) budget: RequestBudget,
}

/// Checks the size of the target, the size and number of headers, and that HTTP/1.1 has one `Host`.
pub(crate) fn check_headers(parts: &Parts, limits: Limits) -> Result<(), RequestRefusal> {
    let headers = &parts.headers;
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target > limits.target_bytes {
        return Err(RequestRefusal::TargetTooLong { limit: limits.target_bytes });
    }
    let line = |(name, value): (&header::HeaderName, &HeaderValue)| {
        name.as_str().len() + value.len() + ": \r\n".len()
    };
    let bytes: usize = headers.iter().map(line).sum();
    if headers.len() > limits.header_fields || bytes > limits.header_bytes {
        return Err(RequestRefusal::HeadersTooLarge);
    }
    let hosts = headers.get_all(header::HOST).iter().count();
    if parts.version == Version::HTTP_11 && hosts != 1 {
        return Err(RequestRefusal::Hosts);
    }
    Ok(())
}

/// Returns the text of a header that occurs exactly once.
#[cfg(feature = "jwt")]
pub(crate) fn one_text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let only = values.next().filter(|_| values.next().is_none())?;
    only.to_str().ok()
}

/// Checks that a JSON body is declared as such, is in UTF-8 and is not compressed. Different
/// spellings are accepted, such as `charset=utf8` and `Content-Encoding: identity`.
pub(crate) fn require_json(headers: &HeaderMap) -> Result<(), RequestRefusal> {
    let refuse = || RequestRefusal::MediaType;
    if !headers.get_all(header::CONTENT_ENCODING).iter().all(px_core::is_identity_encoding) {
        return Err(refuse());
    }
    let mut all = headers.get_all(header::CONTENT_TYPE).iter();
    let value = match (all.next().map(HeaderValue::to_str), all.next()) {
        (Some(Ok(value)), None) => value,
        _ => return Err(refuse()),
    };
    let mut parts = value.split(';').map(str::trim);
    let json = parts.next().is_some_and(|media| media.eq_ignore_ascii_case("application/json"));
    let utf8 = parts.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            let charset = value.trim().trim_matches('"');
            charset.eq_ignore_ascii_case("utf-8") || charset.eq_ignore_ascii_case("utf8")
        }
        _ => true,
    });
    if json && utf8 { Ok(()) } else { Err(refuse()) }
}

/// Reads the whole body. Refuses it if it is too large or if no memory is left for it.
pub(crate) async fn read_body<B>(
    body: B,
    limit: usize,
    budget: &RequestBudget,
) -> Result<Bytes, RequestRefusal>
where
    B: http_body::Body<Data: Send, Error: fmt::Display> + Send,
{
    if body.size_hint().lower() > limit as u64 {
        return Err(RequestRefusal::TooLarge { limit });
    }
    let mut body = pin!(body);
    let mut collected = budget.collect();
    while let Some(frame) = body.frame().await {
        // The caller gets the kind of the failure, not its text.
        let frame = frame.map_err(|_| match budget.is_over() {
            true => RequestRefusal::Busy,
            false => RequestRefusal::CutOff,
        })?;
        let Ok(mut data) = frame.into_data() else { continue };
        if collected.len() + data.remaining() > limit {
            return Err(RequestRefusal::TooLarge { limit });
        }
        let data = data.copy_to_bytes(data.remaining());
        collected.push(data).map_err(|_| RequestRefusal::Busy)?;
    }
    Ok(collected.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (header::HeaderName::from_static(name), HeaderValue::from_static(value))
            })
            .collect()
    }

    #[test]
    fn json_in_utf8_only() {
        let ok = |value| require_json(&headers(&[("content-type", value)])).is_ok();
        assert!(ok("application/json") && ok("Application/JSON; charset=\"UTF-8\""));
        assert!(
            !ok("text/json") && !ok("application/json; charset=latin1") && !ok("application/jsonp")
        );
        assert!(ok("application/json;charset=utf8") && ok("application/json; charset=\"UTF8\""));
        assert!(!ok("application/json; charset=utf-16"));
        assert!(require_json(&HeaderMap::new()).is_err());
    }

    #[test]
    fn a_body_that_is_not_encoded_may_say_so() {
        let encoded = |values: &[&'static str]| {
            let mut all = headers(&[("content-type", "application/json")]);
            for value in values {
                all.append(header::CONTENT_ENCODING, HeaderValue::from_static(value));
            }
            require_json(&all).is_ok()
        };
        assert!(encoded(&["identity"]) && encoded(&["Identity"]) && encoded(&[""]));
        assert!(encoded(&["identity", "identity"]) && encoded(&[]));
        assert!(!encoded(&["gzip"]) && !encoded(&["identity", "gzip"]));
        assert!(!encoded(&["identity, gzip"]));
    }
}
