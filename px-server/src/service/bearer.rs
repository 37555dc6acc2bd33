//! The token of a request, by the grammar of RFC 6750.

use super::answer::Answer;
use http::{HeaderMap, header};
use px_types::AccessToken;

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
pub(super) fn token(headers: &HeaderMap) -> Result<AccessToken, Answer> {
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
        let status = |pairs| token(&headers(pairs)).map_err(|answer| answer.status.as_u16());
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
}
