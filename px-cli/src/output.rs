//! The output of the program: lines, JSON lines and tables, without unsafe characters.

use crate::failure::{Failure, Result};
use chrono::{DateTime, TimeDelta, Utc};
use comfy_table::{Cell, Color, ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};
use indicatif::MultiProgress;
use px_core::text;
pub(crate) use px_core::text::printable;
use serde::Serialize;
use std::{
    fmt,
    io::{self, IsTerminal as _, Write},
    sync::OnceLock,
    time::Duration,
};

/// The progress bars at the bottom of the terminal, if there are any. Lines are printed above them.
static BARS: OnceLock<MultiProgress> = OnceLock::new();

/// Prints all further lines above these bars.
pub(crate) fn print_above(bars: &MultiProgress) {
    let _ = BARS.set(bars.clone());
}

/// Prints a line to standard output.
pub(crate) fn print(line: impl fmt::Display) -> Result<()> {
    let line = line.to_string();
    let line = text::lines(&line);
    above_bars(|| writeln!(io::stdout(), "{line}")).map_err(|e| Failure::writing(&e))
}

/// Prints a table to standard output.
pub(crate) fn print_table(table: &Table) -> Result<()> {
    let table = safe_table(table);
    above_bars(|| writeln!(io::stdout(), "{table}")).map_err(|e| Failure::writing(&e))
}

/// Returns a table as text. The escape character is allowed, because the table's colors use it; its cells do
/// not contain any.
pub(crate) fn safe_table(table: &Table) -> String {
    let rest = |c: char| matches!(c, '\n' | '\u{1b}') || !text::is_unsafe(c);
    table.to_string().chars().filter(|c| rest(*c)).collect()
}

/// Prints a value as one line of JSON to standard output.
pub(crate) fn print_json(value: &impl Serialize) -> Result<()> {
    let line = serde_json::to_string(value).map_err(|e| Failure::because("cannot print", &e))?;
    let line = text::escape_json(&line);
    let write = || writeln!(io::stdout(), "{line}").and_then(|()| io::stdout().flush());
    above_bars(write).map_err(|e| Failure::writing(&e))
}

/// Prints a line for the operator to standard error. An error is ignored, because it cannot be reported.
pub(crate) fn say(line: impl fmt::Display) {
    let line = line.to_string();
    let line = text::lines(&line);
    let _ = above_bars(|| writeln!(io::stderr(), "{line}"));
}

/// Prints the reason for the program's end, as one line without control characters.
pub(crate) fn print_failure(line: &str) {
    say(format_args!("px: {}", printable(line, usize::MAX)));
}

fn above_bars<T>(write: impl FnOnce() -> T) -> T {
    match BARS.get() {
        Some(bars) => bars.suspend(write),
        None => write(),
    }
}

/// The writer of the log: standard error, above the bars.
#[derive(Debug)]
pub(crate) struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        above_bars(|| text::LogWriter(io::stderr()).write_all(bytes)).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Returns a table with a header.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header);
    table
}

/// Returns a cell in a color, if standard output supports colors.
pub(crate) fn colored(text: impl Into<String>, color: Color) -> Cell {
    let cell = Cell::new(text.into());
    if colors() { cell.fg(color) } else { cell }
}

fn colors() -> bool {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !no_color
}

/// Formats the time since a moment in one unit: `12 s`, `3 min`, `5 h`, `9 d`.
pub(crate) fn age(since: DateTime<Utc>, now: DateTime<Utc>) -> String {
    length(now - since)
}

/// Formats the time until a moment: `in 5 h`, or `now` if it has passed.
pub(crate) fn until(moment: DateTime<Utc>, now: DateTime<Utc>) -> String {
    if moment <= now { "now".to_owned() } else { format!("in {}", length(moment - now)) }
}

/// Formats a duration in one unit.
pub(crate) fn length(time: TimeDelta) -> String {
    let seconds = time.num_seconds().max(0);
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Formats a duration in seconds, with milliseconds if it is short: `0.035 s`, `12 s`.
pub(crate) fn seconds(time: Duration) -> String {
    match time.as_millis() {
        millis @ 0..10_000 => format!("{}.{:03} s", millis / 1000, millis % 1000),
        millis => format!("{} s", millis / 1000),
    }
}

/// Formats a number of things: `1 account`, `2 accounts`.
pub(crate) fn count(number: impl TryInto<u64>, what: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_have_one_unit() {
        for (seconds, text) in
            [(-5, "0 s"), (119, "119 s"), (120, "2 min"), (7_200, "2 h"), (172_800, "2 d")]
        {
            assert_eq!(length(TimeDelta::seconds(seconds)), text);
        }
    }

    #[test]
    fn a_table_keeps_its_lines_and_nothing_that_reorders_them() {
        let mut rows = table(&["Account"]);
        rows.add_row(["a\u{202e}b\u{9b}c"]);
        let text = safe_table(&rows);
        assert!(text.contains("abc") && text.lines().count() > 3, "{text}");
    }
}
