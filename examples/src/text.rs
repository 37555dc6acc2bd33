//! Foreign names on pages, and in what the programs write.

pub(crate) use px_core::text::isolated;
use px_core::text::{LogWriter, is_unsafe};
use std::io;

/// Returns a page without what reorders its text or cannot be seen, wherever it came from.
///
/// The marks that [`isolated`] sets stay.
pub(crate) fn safe_page(html: String) -> String {
    let goes = |c: char| !matches!(c, '\n' | '\t' | '\u{2068}' | '\u{2069}') && is_unsafe(c);
    if html.contains(goes) { html.chars().filter(|c| !goes(*c)).collect() } else { html }
}

/// Standard error for the log: foreign text in it cannot reorder a line.
#[must_use]
pub fn log_writer() -> LogWriter<io::Stderr> {
    LogWriter(io::stderr())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_shows_no_name_in_another_order() {
        let page = safe_page(format!("<p>{}\u{202e}\u{1b}x\n</p>", isolated("é\u{202e}")));
        assert_eq!(page, "<p>\u{2068}é\u{2069}x\n</p>");
    }
}
