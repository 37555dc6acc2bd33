//! Text that others wrote, made safe to show.
//!
//! A terminal executes escape sequences, and bidirectional controls let a text look like another
//! one. Names, descriptions and error texts of a bank or an application are shown through this
//! module, in whatever program.

use std::{
    borrow::Cow,
    fmt::Write as _,
    io::{self, Write},
};

/// Returns whether a character can move the cursor, begin an escape sequence, reorder the text
/// around it, or be there without being seen.
///
/// These are all control characters, the bidirectional controls, the separators of lines and
/// paragraphs, characters without a width, and the tag characters.
///
/// ```
/// use px_core::text::is_unsafe;
///
/// assert!(is_unsafe('\u{1b}') && is_unsafe('\u{202e}') && is_unsafe('\u{9b}'));
/// assert!(!is_unsafe('é') && !is_unsafe(' '));
/// ```
#[must_use]
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// Returns a text as one line of at most so many characters.
///
/// Control characters become spaces; other [unsafe](is_unsafe) characters are dropped. A text that
/// is cut ends with `…`.
#[must_use]
pub fn printable(text: &str, max_chars: usize) -> String {
    let shown = |c: char| match c {
        c if c.is_control() => Some(' '),
        c if is_unsafe(c) => None,
        c => Some(c),
    };
    let mut letters = text.chars().filter_map(shown);
    let mut line: String = letters.by_ref().take(max_chars).collect();
    if letters.next().is_some() {
        line.push('…');
    }
    line
}

/// Returns a text of several lines without its [unsafe](is_unsafe) characters but line feeds,
/// which end its lines.
#[must_use]
pub fn lines(text: &str) -> Cow<'_, str> {
    without(text, |c| c != '\n' && is_unsafe(c), |_, _| {})
}

/// Returns a text in which `isolated` from the text around it another one stands: without unsafe
/// characters and, unless it is ASCII, between U+2068 and U+2069. So its direction ends with it.
///
/// For names within a sentence, in pages and titles.
#[must_use]
pub fn isolated(text: &str) -> String {
    let shown = printable(text, usize::MAX);
    if shown.is_ascii() { shown } else { format!("\u{2068}{shown}\u{2069}") }
}

/// Returns JSON in which no [unsafe](is_unsafe) character stands as such: each is written as
/// `\u202e`, which is the same to whoever reads the JSON.
///
/// Line feeds and the like between the values stay; within a text, JSON has none.
#[must_use]
pub fn escape_json(json: &str) -> Cow<'_, str> {
    without(json, |c| c >= '\u{7f}' && is_unsafe(c), escape)
}

/// Writes the lines of a log. Unsafe characters are written as `\u202e`, but line feeds, tabs and
/// the escape character: a formatter writes colors with it, and must itself escape the one in the
/// values that it shows.
#[derive(Debug)]
pub struct LogWriter<W>(pub W);

impl<W: Write> Write for LogWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let is_escaped = |c| !matches!(c, '\n' | '\t' | '\u{1b}') && is_unsafe(c);
        self.0.write_all(without(&text, is_escaped, escape).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Replaces characters; a text that has none of them is not copied.
fn without(
    text: &str,
    mut is_replaced: impl FnMut(char) -> bool,
    replace: impl Fn(char, &mut String),
) -> Cow<'_, str> {
    let Some(first) = text.find(&mut is_replaced) else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len());
    out.push_str(&text[..first]);
    for c in text[first..].chars() {
        match is_replaced(c) {
            true => replace(c, &mut out),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

fn escape(c: char, out: &mut String) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        // Writing to a text does not fail.
        let _ = write!(out, "\\u{unit:04x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\u{1b}[31m\u{9b}2J\u{202e}b\u{2066}\u{e0041}\n\u{200b}é";

    fn is_safe(text: &str) -> bool {
        !text.chars().any(is_unsafe)
    }

    #[test]
    fn nothing_unsafe_is_left() {
        assert_eq!(printable(HOSTILE, 99), "a [31m 2Jb é");
        assert_eq!(printable("abcdef", 3), "abc…");
        assert_eq!(printable("abc", 3), "abc");
        assert_eq!(lines(HOSTILE), "a[31m2Jb\né");
        assert_eq!(lines("a\nb"), "a\nb");
        assert_eq!(isolated("Ann"), "Ann");
        assert_eq!(isolated("\u{202e}é"), "\u{2068}é\u{2069}");
    }

    #[test]
    fn json_stays_the_same_to_its_reader() {
        let json = format!("{{\"a\": \"\u{7f}{}\"}}\n", "\u{202e}\u{e0041}\u{9b}é");
        let escaped = escape_json(&json);
        assert_eq!(escaped, "{\"a\": \"\\u007f\\u202e\\udb40\\udc41\\u009bé\"}\n");
        assert!(is_safe(escaped.trim_end()));
        assert!(matches!(escape_json("{\"é\": 1}"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_log_shows_what_it_escapes() {
        let mut out = Vec::new();
        LogWriter(&mut out).write_all("\u{1b}[1mx\u{1b}[0m \u{202e}\u{9b}\r\n".as_bytes()).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "\u{1b}[1mx\u{1b}[0m \\u202e\\u009b\\u000d\n");
    }
}
