//! The failures of the program: exit codes and one line of text.

use px_items::store::StoreError;
use std::{error::Error as StdError, fmt, io, process::ExitCode};

/// The exit codes, as documented by `--help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Something failed.
    Failed = 1,
    /// The command line, or a file that it names, is wrong.
    Usage = 2,
    /// The program succeeded, but Items failed.
    ItemsFailed = 3,
    /// An unknown Item, application or institution.
    NotFound = 4,
}

/// A failure of the program, as one line of text.
#[derive(Debug)]
pub(crate) struct Failure {
    line: String,
    exit: Exit,
    /// The reader of standard output has closed it, which is not reported as a failure.
    output_closed: bool,
}

/// The result of a part of the program.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    pub(crate) fn new(line: impl Into<String>) -> Self {
        Self { line: line.into(), exit: Exit::Failed, output_closed: false }
    }

    /// Returns the failure for an invalid setting.
    pub(crate) fn usage(line: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, ..Self::new(line) }
    }

    pub(crate) fn not_found(line: impl Into<String>) -> Self {
        Self { exit: Exit::NotFound, ..Self::new(line) }
    }

    /// Returns the failure for Items that failed.
    pub(crate) fn items(line: impl Into<String>) -> Self {
        Self { exit: Exit::ItemsFailed, ..Self::new(line) }
    }

    /// Appends what to do next, and makes it a usage failure.
    pub(crate) fn into_usage(self, next: impl fmt::Display) -> Self {
        Self { line: format!("{}; {next}", self.line), exit: Exit::Usage, ..self }
    }

    /// Appends what to do next.
    pub(crate) fn and(self, next: impl fmt::Display) -> Self {
        Self { line: format!("{}; {next}", self.line), ..self }
    }

    /// Returns a failure with a text followed by each of its causes once.
    pub(crate) fn because(what: impl fmt::Display, cause: &dyn StdError) -> Self {
        let mut line = format!("{what}: {cause}");
        let mut below = cause.source();
        while let Some(cause) = below {
            let text = cause.to_string();
            // The display text of some errors contains their source.
            if !line.ends_with(&text) {
                line += &format!(": {text}");
            }
            below = cause.source();
        }
        Self::new(line)
    }

    pub(crate) fn writing(error: &io::Error) -> Self {
        let line = format!("cannot write to standard output: {error}");
        Self { output_closed: error.kind() == io::ErrorKind::BrokenPipe, ..Self::new(line) }
    }

    /// Prints the failure to standard error, and returns the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if self.output_closed {
            return ExitCode::SUCCESS;
        }
        crate::output::print_failure(&self.line);
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
