//! Sanitization of untrusted text before it is displayed.
//!
//! A terminal executes escape sequences, and bidirectional control characters can make a text look
//! like another one. Every program displays names, descriptions and error texts that come from a bank
//! or an application through this module.

use std::{
    borrow::Cow,
    fmt::Write as _,
    io::{self, Write},
};

/// Returns whether a character is unsafe to display.
///
/// Unsafe characters can move the cursor, start an escape sequence, reorder the surrounding text or be
/// invisible: all control characters, bidirectional controls, line and paragraph separators,
/// zero-width characters and tag characters.
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

/// Returns a text as one line of at most `max_chars` characters.
///
/// Control characters become spaces; other [unsafe](is_unsafe) characters are removed. A text that is
/// truncated ends with an additional `…`.
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

/// Returns a multi-line text without its [unsafe](is_unsafe) characters. Line feeds are kept.
#[must_use]
pub fn lines(text: &str) -> Cow<'_, str> {
    replace_chars(text, |c| c != '\n' && is_unsafe(c), |_, _| {})
}

/// Returns a text that does not affect the writing direction of the surrounding text.
///
/// Unsafe characters are removed. Unless the result is ASCII, it is enclosed in U+2068 and U+2069
/// (first strong isolate). Use it for names within a sentence, in pages and titles.
#[must_use]
pub fn isolated(text: &str) -> String {
    let shown = printable(text, usize::MAX);
    if shown.is_ascii() { shown } else { format!("\u{2068}{shown}\u{2069}") }
}

/// Escapes the [unsafe](is_unsafe) characters of a JSON text, for example as `\u202e`.
///
/// The result has the same meaning as JSON. Characters below U+007F are unchanged: line feeds and tabs
/// can only be white space between the values, because JSON strings escape control characters.
#[must_use]
pub fn escape_json(json: &str) -> Cow<'_, str> {
    replace_chars(json, |c| c >= '\u{7f}' && is_unsafe(c), escape)
}

/// A writer for log lines that escapes unsafe characters, for example as `\u202e`.
///
/// Line feeds, tabs and the escape character (U+001B) are written unchanged. Formatters use the escape
/// character for colors; they must escape it themselves in the values that they display.
#[derive(Debug)]
pub struct LogWriter<W>(pub W);

impl<W: Write> Write for LogWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let is_escaped = |c| !matches!(c, '\n' | '\t' | '\u{1b}') && is_unsafe(c);
        self.0.write_all(replace_chars(&text, is_escaped, escape).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Replaces characters. A text that contains none of them is not copied.
fn replace_chars(
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
        // Writing to a `String` does not fail.
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
