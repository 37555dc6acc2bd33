//! What the program prints: lines, JSON lines, tables; and what it never prints.

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

/// The bars that stand at the bottom of the terminal, if there are any: lines go above them.
static BARS: OnceLock<MultiProgress> = OnceLock::new();

/// From now on every line goes above these bars.
pub(crate) fn print_above(bars: &MultiProgress) {
    let _ = BARS.set(bars.clone());
}

/// A line on standard output.
pub(crate) fn print(line: impl fmt::Display) -> Result<()> {
    let line = line.to_string();
    let line = text::lines(&line);
    aside(|| writeln!(io::stdout(), "{line}")).map_err(|e| Failure::writing(&e))
}

/// A table on standard output.
pub(crate) fn print_table(table: &Table) -> Result<()> {
    let table = safe_table(table);
    aside(|| writeln!(io::stdout(), "{table}")).map_err(|e| Failure::writing(&e))
}

/// A table as text. Its cells have no escape character: it writes colors with that itself.
pub(crate) fn safe_table(table: &Table) -> String {
    let rest = |c: char| matches!(c, '\n' | '\u{1b}') || !text::is_unsafe(c);
    table.to_string().chars().filter(|c| rest(*c)).collect()
}

/// A value as one line of JSON on standard output.
pub(crate) fn print_json(value: &impl Serialize) -> Result<()> {
    let line = serde_json::to_string(value).map_err(|e| Failure::because("cannot print", &e))?;
    let line = text::escape_json(&line);
    let write = || writeln!(io::stdout(), "{line}").and_then(|()| io::stdout().flush());
    aside(write).map_err(|e| Failure::writing(&e))
}

/// A line on standard error, for people. Where that is closed there is nobody to tell.
pub(crate) fn say(line: impl fmt::Display) {
    let line = line.to_string();
    let line = text::lines(&line);
    let _ = aside(|| writeln!(io::stderr(), "{line}"));
}

/// Why the program ends, in one line without anything that could move the cursor.
pub(crate) fn complain(line: &str) {
    say(format_args!("px: {}", printable(line, usize::MAX)));
}

fn aside<T>(write: impl FnOnce() -> T) -> T {
    match BARS.get() {
        Some(bars) => bars.suspend(write),
        None => write(),
    }
}

/// Where the log goes: standard error, above the bars.
#[derive(Debug)]
pub(crate) struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        aside(|| text::LogWriter(io::stderr()).write_all(bytes)).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// A table with a header.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header);
    table
}

/// A cell in a color, where colors are wanted.
pub(crate) fn colored(text: impl Into<String>, color: Color) -> Cell {
    let cell = Cell::new(text.into());
    if colors() { cell.fg(color) } else { cell }
}

fn colors() -> bool {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !no_color
}

/// How long ago a moment was, in one unit: `12 s`, `3 min`, `5 h`, `9 d`.
pub(crate) fn age(since: DateTime<Utc>, now: DateTime<Utc>) -> String {
    length(now - since)
}

/// How far off a moment is: `in 5 h`, or `now` when it is past.
pub(crate) fn until(moment: DateTime<Utc>, now: DateTime<Utc>) -> String {
    if moment <= now { "now".to_owned() } else { format!("in {}", length(moment - now)) }
}

/// A length of time in one unit.
pub(crate) fn length(time: TimeDelta) -> String {
    let seconds = time.num_seconds().max(0);
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A time in seconds, with milliseconds where it is short: `0.035 s`, `12 s`.
pub(crate) fn seconds(time: Duration) -> String {
    match time.as_millis() {
        millis @ 0..10_000 => format!("{}.{:03} s", millis / 1000, millis % 1000),
        millis => format!("{} s", millis / 1000),
    }
}

/// `1 account`, `2 accounts`.
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
