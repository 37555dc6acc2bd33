//! Path templates: validated at compile time, matched and filled segment by segment.

use crate::primitive::id::{InvalidId, UserId};

/// Panics if a template is malformed. It is evaluated at compile time.
pub(crate) const fn assert_template(template: &str) {
    let bytes = template.as_bytes();
    assert!(!bytes.is_empty() && bytes[0] == b'/', "a path begins with a slash");
    assert!(bytes.len() == 1 || bytes[bytes.len() - 1] != b'/', "a path has no slash at its end");
    let mut i = 1;
    let mut open = false;
    while i < bytes.len() {
        match bytes[i] {
            b'/' => {
                assert!(!open, "a parameter ends before the slash");
                assert!(bytes[i - 1] != b'/', "a path has no empty segment");
            }
            b'{' => {
                assert!(!open && bytes[i - 1] == b'/', "a parameter is a whole segment");
                open = true;
            }
            b'}' => {
                assert!(open && bytes[i - 1] != b'{', "a parameter has a name");
                assert!(
                    i + 1 == bytes.len() || bytes[i + 1] == b'/',
                    "a parameter is a whole segment"
                );
                open = false;
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => {}
            _ => panic!("a path has letters, digits, `_`, `-`, `.`, `/` and parameters only"),
        }
        i += 1;
    }
    assert!(!open, "a parameter is closed");
}

/// The parameters of a path.
pub trait PathParameters: Sized + Send {
    /// Parses the percent-decoded values, in the order of the template.
    ///
    /// # Errors
    /// If a value is not a valid id.
    fn read(values: &[String]) -> Result<Self, InvalidId>;

    /// Returns the values without percent-encoding, in the order of the template.
    fn write(&self) -> Vec<&str>;
}

impl PathParameters for () {
    fn read(_: &[String]) -> Result<Self, InvalidId> {
        Ok(())
    }
    fn write(&self) -> Vec<&str> {
        Vec::new()
    }
}

impl PathParameters for (UserId,) {
    fn read(values: &[String]) -> Result<Self, InvalidId> {
        UserId::new(values.first().map_or("", String::as_str)).map(|id| (id,))
    }
    fn write(&self) -> Vec<&str> {
        vec![self.0.as_str()]
    }
}

/// Matches a path against a template.
///
/// Returns the percent-decoded values of the parameters, or `None` if the path does not match. A
/// parameter is never empty. An encoded slash, `%2F`, is part of its segment.
#[must_use]
pub fn match_path(template: &str, path: &str) -> Option<Vec<String>> {
    let mut values = Vec::new();
    let mut wanted = template.split('/');
    let mut given = path.split('/');
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(values),
            (Some(wanted), Some(given)) if wanted.starts_with('{') => {
                if given.is_empty() {
                    return None;
                }
                values.push(percent_decode(given, false)?);
            }
            (Some(wanted), Some(given)) if wanted == given => {}
            // Segments are compared decoded: `%75sers` equals `users`.
            (Some(wanted), Some(given)) if given.contains('%') => {
                if percent_decode(given, false)? != wanted {
                    return None;
                }
            }
            _ => return None,
        }
    }
}

/// Fills a template with values, percent-encoding each.
#[must_use]
pub fn fill_path(template: &str, values: &[&str]) -> String {
    let mut values = values.iter();
    let mut path = String::with_capacity(template.len() + 32);
    for segment in template.split('/').skip(1) {
        path.push('/');
        if segment.starts_with('{') {
            percent_encode(values.next().copied().unwrap_or_default(), &mut path);
        } else {
            path.push_str(segment);
        }
    }
    path
}

/// Percent-encodes all characters except the unreserved ones of RFC 3986.
pub(crate) fn percent_encode(text: &str, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

/// Decodes percent-encoding. In a form, `+` is a space.
///
/// Returns `None` if the encoding is malformed or the result is not UTF-8.
pub(crate) fn percent_decode(text: &str, form: bool) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                (high * 16 + low) as u8
            }
            b'+' if form => b' ',
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEMPLATE: &str = "/users/{user_id}/transactions";

    #[test]
    fn matching() {
        assert_eq!(match_path(TEMPLATE, "/users/u%2F1/transactions"), Some(vec!["u/1".into()]));
        assert_eq!(match_path(TEMPLATE, "/%75sers/u+1/transactions"), Some(vec!["u+1".into()]));
        for other in [
            "/users//transactions",
            "/users/1/transactions/",
            "/users/1",
            "//users/1/transactions",
            "/users/%zz/transactions",
            "/users/%ff/transactions",
            "/users/%2/transactions",
            "/Users/1/transactions",
            "",
        ] {
            assert_eq!(match_path(TEMPLATE, other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_id_travels(id in "\\PC{1,80}") {
            prop_assume!(UserId::new(&id).is_ok());
            let path = fill_path(TEMPLATE, &[&id]);
            prop_assert_eq!(match_path(TEMPLATE, &path), Some(vec![id]));
        }
    }
}
