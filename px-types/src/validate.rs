//! The validation of messages: rules across fields and messages, and the check of raw bytes.
//!
//! The types themselves validate single fields when they are read. This module has the rules that need
//! more than that: references, order, windows and checksums. [`check`] applies both to raw bytes.
//!
//! Paths and texts never contain a value.

mod check;
mod contract_limits;
mod number;
mod page;
mod user;

pub use crate::rule::{self, Rule};

pub use check::check;
pub use page::{KnownIds, PageContext};
pub use user::UserContext;

use std::{borrow::Cow, fmt};

/// A violation of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// The path, such as `accounts[2].owner_identity_ids[0]`; `.` is the whole message.
    pub path: String,
    /// The violated rule, one of [`rule`].
    pub rule: Rule,
    /// A description for operators.
    pub text: Cow<'static, str>,
    /// The severity.
    pub severity: Severity,
}

/// The severity of a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Severity {
    /// The message is allowed, but may be wrong.
    Hint,
    /// The message violates the contract.
    Error,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Hint => "hint",
            Severity::Error => "error",
        };
        write!(f, "{severity} at `{}`: {} [{}]", self.path, self.text, self.rule)
    }
}

/// All violations of a message, in the order in which they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report(Vec<Violation>);

impl Report {
    /// Returns whether there are no violations, including hints.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether the contract is violated. Hints do not count.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.errors().next().is_some()
    }

    /// Returns all violations.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.0
    }

    /// Returns the violations of the contract, without hints.
    pub fn errors(&self) -> impl Iterator<Item = &Violation> {
        self.0.iter().filter(|b| b.severity == Severity::Error)
    }

    /// Returns whether a rule is violated at a path.
    #[must_use]
    pub fn has(&self, rule: Rule, path: &str) -> bool {
        self.0.iter().any(|b| b.rule == rule && b.path == path)
    }

    /// Converts the report to a list of violations.
    #[must_use]
    pub fn into_violations(self) -> Vec<Violation> {
        self.0
    }

    // The path is `fmt::Arguments`, so that a valid message allocates no strings.
    pub(crate) fn error(
        &mut self,
        rule: Rule,
        path: fmt::Arguments<'_>,
        text: impl Into<Cow<'static, str>>,
    ) {
        self.push(rule, path.to_string(), text, Severity::Error);
    }

    pub(crate) fn hint(
        &mut self,
        rule: Rule,
        path: fmt::Arguments<'_>,
        text: impl Into<Cow<'static, str>>,
    ) {
        self.push(rule, path.to_string(), text, Severity::Hint);
    }

    pub(crate) fn push(
        &mut self,
        rule: Rule,
        path: String,
        text: impl Into<Cow<'static, str>>,
        severity: Severity,
    ) {
        let text = text.into();
        self.0.push(Violation { path, rule, text, severity });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, violation) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            violation.fmt(f)?;
        }
        Ok(())
    }
}
