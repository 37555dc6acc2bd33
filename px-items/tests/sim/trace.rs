//! Trace of a run in order: a hash over all events, their text on demand, and the violations.

use crate::time::SimClock;
use px_core::Clock as _;
use std::{
    fmt::{self, Write as _},
    sync::{Mutex, PoisonError},
};

/// Extent of the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TraceLevel {
    /// The hash alone.
    Hash,
    /// Every line, to be compared with those of another run.
    Lines,
    /// Every line is printed at once.
    Print,
}

/// Trace of a run.
#[derive(Debug)]
pub(crate) struct Trace {
    clock: SimClock,
    level: TraceLevel,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    hash: Fnv,
    lines: Vec<String>,
    count: u64,
    wrong: Vec<String>,
}

impl Trace {
    pub(crate) fn new(clock: SimClock, level: TraceLevel) -> Self {
        Self { clock, level, inner: Mutex::default() }
    }

    /// Records an event. Its text must not differ between two runs of a seed.
    pub(crate) fn note(&self, who: &str, what: fmt::Arguments<'_>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.count += 1;
        let at = self.clock.elapsed().as_millis();
        // Writing to a hash or to a string cannot fail.
        let _ = writeln!(inner.hash, "{at} {who} {what}");
        if self.level != TraceLevel::Hash {
            let seconds = at / 1000;
            let line = format!(
                "day {} {:02}:{:02}:{:02}.{:03}  {who:<10} {what}",
                seconds / 86_400,
                seconds / 3600 % 24,
                seconds / 60 % 60,
                seconds % 60,
                at % 1000
            );
            match self.level {
                TraceLevel::Print => crate::report::line(&line),
                _ => inner.lines.push(line),
            }
        }
    }

    /// Records a violation of a promise.
    pub(crate) fn wrong(&self, what: String) {
        self.note("WRONG", format_args!("{what}"));
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.wrong.push(what);
    }

    /// Returns the hash, the number of events, the violations, and the stored lines.
    pub(crate) fn finish(&self) -> (u64, u64, Vec<String>, Vec<String>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (wrong, lines) = (std::mem::take(&mut inner.wrong), std::mem::take(&mut inner.lines));
        (inner.hash.0, inner.count, wrong, lines)
    }
}

/// FNV-1a.
#[derive(Debug)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl fmt::Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}
