//! How the program ends: its exit codes, and the one line that says why.

use px_items::store::StoreError;
use std::{error::Error as StdError, fmt, io, process::ExitCode};

/// The exit codes, as `--help` documents them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Something failed.
    Failed = 1,
    /// The command line, or a file that it names, is wrong.
    Usage = 2,
    /// The program did its part, and Items failed.
    ItemsFailed = 3,
    /// There is no such Item, application or institution.
    NotFound = 4,
}

/// Why the program ends early: one line.
#[derive(Debug)]
pub(crate) struct Failure {
    line: String,
    exit: Exit,
    /// Whoever read standard output went away: no reason to complain.
    reader_left: bool,
}

/// A result of a part of the program.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    pub(crate) fn new(line: impl Into<String>) -> Self {
        Self { line: line.into(), exit: Exit::Failed, reader_left: false }
    }

    /// A setting that is not sound.
    pub(crate) fn usage(line: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, ..Self::new(line) }
    }

    pub(crate) fn not_found(line: impl Into<String>) -> Self {
        Self { exit: Exit::NotFound, ..Self::new(line) }
    }

    /// The program did its part; Items did not come through.
    pub(crate) fn items(line: impl Into<String>) -> Self {
        Self { exit: Exit::ItemsFailed, ..Self::new(line) }
    }

    /// The same, as wrong usage, with what to do next.
    pub(crate) fn into_usage(self, next: impl fmt::Display) -> Self {
        Self { line: format!("{}; {next}", self.line), exit: Exit::Usage, ..self }
    }

    /// The same, with what to do next.
    pub(crate) fn and(self, next: impl fmt::Display) -> Self {
        Self { line: format!("{}; {next}", self.line), ..self }
    }

    /// Says what failed, then each cause below it once.
    pub(crate) fn because(what: impl fmt::Display, cause: &dyn StdError) -> Self {
        let mut line = format!("{what}: {cause}");
        let mut below = cause.source();
        while let Some(cause) = below {
            let text = cause.to_string();
            // Some errors print their source themselves.
            if !line.ends_with(&text) {
                line += &format!(": {text}");
            }
            below = cause.source();
        }
        Self::new(line)
    }

    pub(crate) fn writing(error: &io::Error) -> Self {
        let line = format!("cannot write to standard output: {error}");
        Self { reader_left: error.kind() == io::ErrorKind::BrokenPipe, ..Self::new(line) }
    }

    /// Says it on standard error, and with which code the program ends.
    pub(crate) fn report(&self) -> ExitCode {
        if self.reader_left {
            return ExitCode::SUCCESS;
        }
        crate::output::complain(&self.line);
        ExitCode::from(self.exit as u8)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::because("the database", &error)
    }
}

impl From<px_client::Error> for Failure {
    fn from(error: px_client::Error) -> Self {
        Self::new(error.to_string())
    }
}
