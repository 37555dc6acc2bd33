//! Parsed values that keep the original text.

use super::scan::{MAX_DEPTH, Malformed, Scanner};
use std::{borrow::Cow, mem::size_of};

/// A parsed value.
///
/// Two nodes are equal if their text was equal: `1.0` and `1` are different.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node<'a> {
    Null,
    Bool(bool),
    /// A JSON number, as its literal text.
    Number(Cow<'a, str>),
    Text(Cow<'a, str>),
    /// A string that is not valid JSON, in its best reading.
    FlawedText(Cow<'a, str>, Flaw),
    /// A literal that is not valid JSON, such as `NaN`, `+5` or `007`.
    InvalidLiteral(Cow<'a, str>),
    List(Vec<Node<'a>>),
    /// All members in order, including repeated ones.
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
    /// A list entry that was removed. The other entries keep their indices.
    Removed,
}

/// A flaw of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Half of a surrogate pair, or bytes that are not UTF-8. They were replaced by U+FFFD.
    Replaced,
    /// An unescaped control character or an invalid escape, which was kept.
    Control,
}

/// A memory limit for nodes, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    left: usize,
}

impl Memory {
    pub(crate) fn new(bytes: usize) -> Self {
        Self { left: bytes }
    }

    /// Reserves memory. Returns `false` if less than `bytes` is left.
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }

    /// Reserves the memory of an entry twice, because a list grows by doubling.
    fn reserve(&mut self, bytes: usize) -> Result<(), ParseError> {
        self.take(2 * bytes).then_some(()).ok_or(ParseError::TooLarge)
    }
}

/// An error while parsing a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParseError {
    Malformed,
    TooLarge,
}

impl From<Malformed> for ParseError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl<'a> Node<'a> {
    /// Parses bytes that contain exactly one value.
    pub(crate) fn parse(bytes: &'a [u8], memory: Memory) -> Result<Self, ParseError> {
        let (mut scanner, mut memory) = (Scanner::new(bytes), memory);
        let node = Self::next(&mut scanner, &mut memory, 0)?;
        match scanner.peek() {
            None => Ok(node),
            Some(_) => Err(ParseError::Malformed),
        }
    }

    fn next(
        scanner: &mut Scanner<'a>,
        memory: &mut Memory,
        depth: u32,
    ) -> Result<Self, ParseError> {
        if depth > MAX_DEPTH {
            return Err(ParseError::Malformed);
        }
        match scanner.peek().ok_or(Malformed)? {
            b'[' => {
                scanner.take(b'[');
                let mut entries = Vec::new();
                let mut more = !scanner.take(b']');
                while more {
                    memory.reserve(size_of::<Node<'_>>())?;
                    entries.push(Self::next(scanner, memory, depth + 1)?);
                    more = scanner.separator(b']')?;
                }
                Ok(Self::List(entries))
            }
            b'{' => {
                scanner.take(b'{');
                let mut members = Vec::new();
                let mut more = !scanner.take(b'}');
                while more {
                    memory.reserve(size_of::<(Cow<'_, str>, Node<'_>)>())?;
                    let (key, _) = scanner.string()?;
                    if !scanner.take(b':') {
                        return Err(ParseError::Malformed);
                    }
                    members.push((key, Self::next(scanner, memory, depth + 1)?));
                    more = scanner.separator(b'}')?;
                }
                Ok(Self::Object(members))
            }
            b'"' => {
                let (text, flaw) = scanner.string()?;
                if let Cow::Owned(text) = &text {
                    memory.reserve(text.len())?;
                }
                Ok(match flaw {
                    Some(flaw) => Self::FlawedText(text, flaw),
                    None => Self::Text(text),
                })
            }
            _ => Ok(match scanner.literal()? {
                b"null" => Self::Null,
                b"true" => Self::Bool(true),
                b"false" => Self::Bool(false),
                word => match String::from_utf8_lossy(word) {
                    word if is_number(&word) => Self::Number(word),
                    word => Self::InvalidLiteral(word),
                },
            }),
        }
    }

    /// Returns the members with this name. Empty if this is not an object.
    pub(crate) fn members<'n>(&'n self, name: &'n str) -> impl Iterator<Item = &'n Node<'a>> {
        let members = match self {
            Self::Object(members) => members.as_slice(),
            _ => &[],
        };
        members.iter().filter(move |(key, _)| key == name).map(|(_, value)| value)
    }

    /// Returns the member with this name, if there is exactly one.
    pub(crate) fn member<'n>(&'n self, name: &'n str) -> Option<&'n Node<'a>> {
        let mut members = self.members(name);
        members.next().filter(|_| members.next().is_none())
    }

    /// Returns a mutable reference to the member with this name, if there is exactly one.
    pub(crate) fn member_mut(&mut self, name: &str) -> Option<&mut Node<'a>> {
        let Self::Object(members) = self else {
            return None;
        };
        let mut found = members.iter_mut().filter(|(key, _)| key == name);
        found.next().filter(|_| found.next().is_none()).map(|(_, value)| value)
    }

    /// Returns whether this is `null`, `""`, an empty list or an empty object.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Text(text) => text.is_empty(),
            Self::List(entries) => entries.is_empty(),
            Self::Object(members) => members.is_empty(),
            _ => false,
        }
    }
}

/// Returns whether a literal is a valid JSON number.
fn is_number(word: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let unsigned = word.strip_prefix('-').unwrap_or(word);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (integer, fraction) = match mantissa.split_once('.') {
        Some((integer, fraction)) => (integer, Some(fraction)),
        None => (mantissa, None),
    };
    digits(integer)
        && (integer == "0" || !integer.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Node<'_>, ParseError> {
        Node::parse(text.as_bytes(), Memory::new(1 << 16))
    }

    #[test]
    fn what_was_written_is_kept() {
        let node =
            parse(r#"{"a": 1.50, "a": 1.5, "b": [NaN, +5, 007, 1e5, -0, "x\ud83d", null,]}"#);
        let number = |text: &'static str| Node::Number(text.into());
        let word = |text: &'static str| Node::InvalidLiteral(text.into());
        let entries = vec![
            word("NaN"),
            word("+5"),
            word("007"),
            number("1e5"),
            number("-0"),
            Node::FlawedText("x\u{fffd}".into(), Flaw::Replaced),
            Node::Null,
        ];
        let node = node.unwrap();
        assert_eq!(node.members("a").cloned().collect::<Vec<_>>(), [number("1.50"), number("1.5")]);
        assert_eq!((node.member("a"), node.member("b")), (None, Some(&Node::List(entries))));
        assert!(parse(&"[".repeat(500)).is_err());
        for bad in ["", "{", "{a:1}", "[1 2]", "{\"a\"}", "1 2", "[,]", "{\"a\":}"] {
            assert_eq!(parse(bad), Err(ParseError::Malformed), "{bad}");
        }
    }

    #[test]
    fn memory_has_a_limit() {
        let text = format!("[{}0]", "0,".repeat(10_000));
        let parsed = Node::parse(text.as_bytes(), Memory::new(4 * text.len()));
        assert_eq!(parsed, Err(ParseError::TooLarge));
        let text = format!("[\"{}\"]", "x".repeat(10_000));
        assert!(Node::parse(text.as_bytes(), Memory::new(4 * text.len())).is_ok());
    }
}
