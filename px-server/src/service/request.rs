//! What the service asks of a request before any operation sees it.

use super::{Limits, answer::Answer};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, Version, header, request::Parts};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use px_types::AccessToken;
use std::{fmt, sync::Arc};

/// A request without its body.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) parts: Parts,
    pub(crate) request_id: Arc<str>,
}

/// Size and number of headers, and the one `Host` of HTTP/1.1.
pub(crate) fn check_headers(parts: &Parts, limits: Limits) -> Result<(), Answer> {
    let headers = &parts.headers;
    let line = |(name, value): (&header::HeaderName, &HeaderValue)| {
        name.as_str().len() + value.len() + ": \r\n".len()
    };
    let bytes: usize = headers.iter().map(line).sum();
    if headers.len() > limits.header_fields || bytes > limits.header_bytes {
        return Err(Answer::headers_too_large());
    }
    let hosts = headers.get_all(header::HOST).iter().count();
    if parts.version == Version::HTTP_11 && hosts != 1 {
        return Err(Answer::bad_request("HTTP/1.1 asks for exactly one `Host` header."));
    }
    Ok(())
}

/// The bytes that RFC 6750 allows in a token. A table, because every byte of every token is
/// looked at.
const GOOD_IN_TOKENS: [bool; 256] = {
    let mut good = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        good[byte as usize] =
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/');
        byte += 1;
    }
    good
};

/// The token of the one `Authorization` header.
pub(crate) fn bearer_token(headers: &HeaderMap) -> Result<AccessToken, Answer> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let value = match (all.next(), all.next()) {
        (None, _) => return Err(Answer::no_token()),
        (Some(_), Some(_)) => {
            return Err(Answer::bad_request("There are two `Authorization` headers."));
        }
        (Some(value), None) => value,
    };
    let text = value.to_str().map_err(|_| Answer::invalid_token())?;
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Answer::no_token());
    }
    // The grammar of RFC 6750 section 2.1.
    let token = token.trim_start_matches(' ');
    let good = |b: u8| GOOD_IN_TOKENS[usize::from(b)];
    let padding_cut = token.trim_end_matches('=');
    if padding_cut.is_empty() || !padding_cut.bytes().all(good) {
        return Err(Answer::invalid_token());
    }
    Ok(AccessToken::new(token))
}

/// The text of a header that is there once.
pub(crate) fn one_text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let only = values.next().filter(|_| values.next().is_none())?;
    only.to_str().ok()
}

/// A JSON body must say so, be in UTF-8 and not be compressed.
pub(crate) fn require_json(headers: &HeaderMap) -> Result<(), Answer> {
    let refuse = || Answer::unsupported_media_type("`application/json`");
    if headers.contains_key(header::CONTENT_ENCODING) {
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
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    });
    if json && utf8 { Ok(()) } else { Err(refuse()) }
}

/// The whole body, or a refusal once it is too large.
pub(crate) async fn read_body<B>(body: B, limit: usize) -> Result<Bytes, Answer>
where
    B: http_body::Body<Data: Send, Error: fmt::Display> + Send,
{
    if body.size_hint().lower() > limit as u64 {
        return Err(Answer::payload_too_large(limit));
    }
    // `Limited` wants an error it can box; the text of the cause is of no use to the caller.
    let body = body.map_err(|_| std::io::Error::other("the body was cut off"));
    match Box::pin(Limited::new(body, limit)).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Answer::payload_too_large(limit)),
        Err(_) => Err(Answer::bad_request("The body was cut off.")),
    }
}

/// A page of the bank's own goes out with the headers that every answer has.
pub(crate) fn finish_page(
    page: Response<Bytes>,
    request_id: &str,
    head: bool,
) -> Response<Full<Bytes>> {
    let (mut parts, body) = page.into_parts();
    if let Ok(id) = HeaderValue::from_str(request_id) {
        parts.headers.insert(crate::request_id::HEADER, id);
    }
    let headers = &mut parts.headers;
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    Response::from_parts(parts, Full::new(if head { Bytes::new() } else { body }))
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
    fn bearer_grammar() {
        let status = |pairs| bearer_token(&headers(pairs)).map_err(|answer| answer.status.as_u16());
        assert_eq!(status(&[]), Err(401));
        assert_eq!(status(&[("authorization", "Basic eDp5")]), Err(401));
        assert_eq!(status(&[("authorization", "bearer a.b-c=")]), Ok(AccessToken::new("a.b-c=")));
        assert_eq!(status(&[("authorization", "Bearer ")]), Err(401));
        assert_eq!(status(&[("authorization", "Bearer a b")]), Err(401));
        assert_eq!(
            status(&[("authorization", "Bearer a"), ("authorization", "Bearer a")]),
            Err(400)
        );
    }

    #[test]
    fn json_in_utf8_only() {
        let ok = |value| require_json(&headers(&[("content-type", value)])).is_ok();
        assert!(ok("application/json") && ok("Application/JSON; charset=\"UTF-8\""));
        assert!(
            !ok("text/json") && !ok("application/json; charset=latin1") && !ok("application/jsonp")
        );
        assert!(require_json(&HeaderMap::new()).is_err());
    }
}
