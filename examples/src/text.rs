//! Foreign text on pages and in the output of the programs.

pub(crate) use px_core::text::isolated;
use px_core::text::{LogWriter, is_unsafe};
use std::io;

/// Removes characters that are invisible or reorder text from a page.
///
/// Keeps the isolation marks that [`isolated`] sets.
pub(crate) fn safe_page(html: String) -> String {
    let is_removed = |c: char| !matches!(c, '\n' | '\t' | '\u{2068}' | '\u{2069}') && is_unsafe(c);
    if html.contains(is_removed) {
        html.chars().filter(|c| !is_removed(*c)).collect()
    } else {
        html
    }
}

/// Returns a log writer to standard error that keeps foreign text from reordering a line.
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
