//! The bearer token of a request.
//!
//! RFC 6750 allows few characters in a token, but some banks issue tokens with others, such as
//! `12|abc`. The verifier decides whether such a token is valid: rejecting it here would be a 401,
//! which ends the token.

use super::response::ApiResponse;
use http::{HeaderMap, header};
use px_types::AccessToken;

/// Returns the token of the only `Authorization` header.
pub(super) fn token(headers: &HeaderMap) -> Result<AccessToken, ApiResponse> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let value = match (all.next(), all.next()) {
        (None, _) => return Err(ApiResponse::no_token()),
        (Some(_), Some(_)) => {
            return Err(ApiResponse::bad_request("There are two `Authorization` headers."));
        }
        (Some(value), None) => value,
    };
    let value = value.as_bytes();
    let (scheme, token) =
        value.split_at(value.iter().position(|b| *b == b' ').unwrap_or(value.len()));
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Err(ApiResponse::no_token());
    }
    // A token must be valid UTF-8 and must not be empty.
    match std::str::from_utf8(token.trim_ascii()) {
        Ok(token) if !token.is_empty() => Ok(AccessToken::new(token)),
        _ => Err(ApiResponse::invalid_token()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (header::HeaderName::from_static(name), HeaderValue::from_static(value))
            })
            .collect()
    }

    #[test]
    fn the_grammar() {
        let status = |pairs| token(&headers(pairs)).map_err(|response| response.status.as_u16());
        assert_eq!(status(&[]), Err(401));
        assert_eq!(status(&[("authorization", "Basic eDp5")]), Err(401));
        assert_eq!(status(&[("authorization", "bearer a.b-c=")]), Ok(AccessToken::new("a.b-c=")));
        assert_eq!(status(&[("authorization", "Bearer ")]), Err(401));
        for token in ["12|abc", "a b", "{1}", "a=b", "ü", "==="] {
            let value = HeaderValue::from_bytes(format!("Bearer  {token}").as_bytes()).unwrap();
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value)]);
            let read = super::token(&headers).map_err(|response| response.status.as_u16());
            assert_eq!(read, Ok(AccessToken::new(token)));
        }
        let no_text = HeaderValue::from_bytes(b"Bearer \xff").unwrap();
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, no_text)]);
        assert!(super::token(&headers).is_err());
        assert_eq!(
            status(&[("authorization", "Bearer a"), ("authorization", "Bearer a")]),
            Err(400)
        );
    }
}
