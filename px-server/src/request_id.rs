//! Request ids: the caller's own, or a generated one.

use http::HeaderMap;
use px_core::Random;
use std::sync::Arc;

/// The header that carries the request id, in requests and responses.
pub(crate) const HEADER: &str = "x-request-id";

/// Returns the caller's own request id if exactly one valid one is given, and a generated one
/// otherwise.
pub(crate) fn of(headers: &HeaderMap, random: &dyn Random) -> Arc<str> {
    let mut given = headers.get_all(HEADER).iter();
    let only = given.next().filter(|_| given.next().is_none());
    match only.and_then(|id| id.to_str().ok()).filter(|id| is_valid(id)) {
        Some(id) => id.into(),
        None => generate(random),
    }
}

fn is_valid(id: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=64).contains(&id.len()) && id.bytes().all(good)
}

fn generate(random: &dyn Random) -> Arc<str> {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut bytes = [0; 16];
    random.fill(&mut bytes);
    let hex = bytes.iter().flat_map(|b| [HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
    hex.map(char::from).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use px_core::SystemRandom;

    fn id(values: &[&str]) -> Arc<str> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, value.parse().unwrap());
        }
        of(&headers, &SystemRandom)
    }

    #[test]
    fn a_good_one_is_kept() {
        assert_eq!(&*id(&["abc_-9"]), "abc_-9");
        assert_eq!(&*id(&[&"a".repeat(64)]), "a".repeat(64));
        let long = "a".repeat(65);
        for bad in [&[""][..], &["a b"], &["a;b"], &["a.b"], &["a", "b"], &[&long], &[]] {
            assert_eq!(id(bad).len(), 32, "{bad:?}");
        }
        assert_ne!(id(&[]), id(&[]));
    }
}
