//! A scanner for the tokens and the ends of values.

use super::node::Flaw;
use std::borrow::Cow;

/// The bytes are not JSON, even by the lenient rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Maximum nesting of arrays and objects, the same as in serde_json.
pub(crate) const MAX_DEPTH: u32 = 127;

/// A scanner of JSON text.
#[derive(Clone, Debug)]
pub(crate) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Returns the next byte that is not white space, without consuming it.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.bytes.get(self.at) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    /// Consumes a byte if it comes next.
    pub(crate) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Consumes the separator after an entry: a comma, or the end of the list or object. A trailing comma
    /// is consumed together with the end.
    ///
    /// Returns whether another entry follows.
    pub(crate) fn separator(&mut self, end: u8) -> Result<bool, Malformed> {
        let comma = self.take(b',');
        let ended = self.take(end);
        if comma || ended { Ok(!ended) } else { Err(Malformed) }
    }

    /// Returns the remaining bytes.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Skips a value and returns its bytes. Brackets must match; nothing else is checked.
    pub(crate) fn skip_value(&mut self) -> Result<&'a [u8], Malformed> {
        self.peek();
        let start = self.at;
        // A stack with one bit for each open bracket: 1 for an object.
        let (mut open, mut depth) = (0_u128, 0_u32);
        loop {
            match self.peek().ok_or(Malformed)? {
                bracket @ (b'[' | b'{') => {
                    if depth == MAX_DEPTH {
                        return Err(Malformed);
                    }
                    self.at += 1;
                    open = open << 1 | u128::from(bracket == b'{');
                    depth += 1;
                    continue;
                }
                bracket @ (b']' | b'}') => {
                    if depth == 0 || open & 1 != u128::from(bracket == b'}') {
                        return Err(Malformed);
                    }
                    self.at += 1;
                    open >>= 1;
                    depth -= 1;
                }
                b',' | b':' if depth == 0 => return Err(Malformed),
                b',' | b':' => {
                    self.at += 1;
                    continue;
                }
                b'"' => {
                    self.raw_string()?;
                }
                _ => {
                    self.literal()?;
                }
            }
            if depth == 0 {
                return self.bytes.get(start..self.at).ok_or(Malformed);
            }
        }
    }

    /// Consumes a literal: a number, `true`, or an invalid one such as `NaN`.
    pub(crate) fn literal(&mut self) -> Result<&'a [u8], Malformed> {
        self.peek();
        let rest = self.rest();
        let ends =
            |byte: &u8| matches!(byte, b',' | b':' | b']' | b'}' | b'[' | b'{' | b'"' | 0..=b' ');
        let length = rest.iter().position(ends).unwrap_or(rest.len());
        if length == 0 {
            return Err(Malformed);
        }
        self.at += length;
        Ok(&rest[..length])
    }

    /// Consumes a string and returns the bytes between its quotes.
    fn raw_string(&mut self) -> Result<&'a [u8], Malformed> {
        if !self.take(b'"') {
            return Err(Malformed);
        }
        let start = self.at;
        loop {
            match self.bytes.get(self.at).ok_or(Malformed)? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        self.bytes.get(start..self.at - 1).ok_or(Malformed)
    }

    /// Consumes and unescapes a string. Unreadable parts are replaced by U+FFFD and reported as a flaw.
    pub(crate) fn string(&mut self) -> Result<(Cow<'a, str>, Option<Flaw>), Malformed> {
        Ok(unescape(self.raw_string()?))
    }
}

/// Unescapes the content of a JSON string.
fn unescape(raw: &[u8]) -> (Cow<'_, str>, Option<Flaw>) {
    let mut flaw = None;
    let text = String::from_utf8_lossy(raw);
    if matches!(text, Cow::Owned(_)) {
        flaw = Some(Flaw::Replaced);
    }
    if raw.iter().any(|byte| *byte < b' ') {
        flaw = flaw.or(Some(Flaw::Control));
    }
    if !raw.contains(&b'\\') {
        return (text, flaw);
    }
    let mut read = String::with_capacity(text.len());
    let mut rest = &*text;
    while let Some((before, escaped)) = rest.split_once('\\') {
        read.push_str(before);
        let mut after = escaped.chars();
        match after.next() {
            Some(c @ ('"' | '\\' | '/')) => read.push(c),
            Some('b') => read.push('\u{8}'),
            Some('f') => read.push('\u{c}'),
            Some('n') => read.push('\n'),
            Some('r') => read.push('\r'),
            Some('t') => read.push('\t'),
            Some('u') => {
                let (c, length) = unicode(escaped);
                read.push(c.unwrap_or(char::REPLACEMENT_CHARACTER));
                if c.is_none() {
                    flaw = Some(Flaw::Replaced);
                }
                rest = escaped.get(length..).unwrap_or_default();
                continue;
            }
            // An invalid escape is kept as it is.
            Some(c) => {
                read.push('\\');
                read.push(c);
                flaw = flaw.or(Some(Flaw::Control));
            }
            None => {}
        }
        rest = after.as_str();
    }
    read.push_str(rest);
    (Cow::Owned(read), flaw)
}

/// Parses `uXXXX`, and the second half of a surrogate pair. Also returns the parsed length.
fn unicode(text: &str) -> (Option<char>, usize) {
    let unit = |text: &str| u32::from_str_radix(text.get(1..5)?, 16).ok();
    let plain = text.get(1..5).is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
    let Some(first) = unit(text).filter(|_| plain) else {
        return (None, 1);
    };
    if let 0xd800..=0xdbff = first {
        let low = text.get(5..).and_then(|rest| rest.strip_prefix('\\'));
        let low = low.filter(|low| low.starts_with('u')).and_then(unit);
        return match low {
            Some(low @ 0xdc00..=0xdfff) => {
                (char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (low - 0xdc00)), 11)
            }
            _ => (None, 5),
        };
    }
    (char::from_u32(first), 5)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn string(text: &[u8]) -> (String, Option<Flaw>) {
        let (text, flaw) = Scanner::new(text).string().unwrap();
        (text.into_owned(), flaw)
    }

    #[test]
    fn strings_are_read_whatever_they_hold() {
        assert_eq!(string(br#""a\n\"\u00e9\ud83d\ude00""#), ("a\n\"é😀".into(), None));
        assert_eq!(string(br#""x\ud83d""#), ("x\u{fffd}".into(), Some(Flaw::Replaced)));
        assert_eq!(string(br#""\ud83d\ud83d\ude00""#), ("\u{fffd}😀".into(), Some(Flaw::Replaced)));
        assert_eq!(
            string(br#""\ude00 \uzz""#),
            ("\u{fffd} \u{fffd}zz".into(), Some(Flaw::Replaced))
        );
        assert_eq!(string(b"\"caf\xe9\""), ("caf\u{fffd}".into(), Some(Flaw::Replaced)));
        assert_eq!(string(b"\"a\nb\""), ("a\nb".into(), Some(Flaw::Control)));
        assert_eq!(string(br#""a\'b""#), ("a\\'b".into(), Some(Flaw::Control)));
    }

    #[test]
    fn a_value_ends_where_its_brackets_close() {
        let mut scanner = Scanner::new(br#" {"a": ["]", {"b": NaN}]} , 5"#);
        assert_eq!(scanner.skip_value().unwrap(), br#"{"a": ["]", {"b": NaN}]}"#);
        assert!(scanner.take(b','));
        assert_eq!(scanner.skip_value().unwrap(), b"5");
        for bad in [&b""[..], b"[", b"[}", b"]", b",", b"\"", b"{\"a\": [}", &[b'['; 200][..]] {
            assert_eq!(Scanner::new(bad).skip_value(), Err(Malformed));
        }
    }

    proptest! {
        #[test]
        fn good_strings_are_read_as_serde_json_reads_them(text in any::<String>()) {
            let json = serde_json::to_vec(&text).unwrap();
            prop_assert_eq!(string(&json), (text, None));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Scanner::new(&bytes).skip_value();
            let _ = Scanner::new(&bytes).string();
        }
    }
}
