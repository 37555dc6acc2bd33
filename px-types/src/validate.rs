//! The rules between fields and between messages, and the check of raw bytes.
//!
//! What a single field may be is settled where it is read, by the types themselves. Here
//! live the rules that need more than one field: references, order, windows, checksums
//! that the types keep as read. [`check`] puts both together for bytes that may be
//! anything.
//!
//! Neither paths nor texts ever contain a value.

mod check;
mod number;
mod page;
mod user;
mod wide;

pub use crate::rule::{self, Rule};

pub use check::check;
pub use page::{Known, PageContext};
pub use user::UserContext;

use std::{borrow::Cow, fmt};

/// One breach of one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Breach {
    /// Where it is, `accounts[2].owner_identity_ids[0]`; `.` is the whole message.
    pub path: String,
    /// The rule, one of [`rule`].
    pub rule: Rule,
    /// What is wrong, for people.
    pub text: Cow<'static, str>,
    /// How bad it is.
    pub severity: Severity,
}

/// How bad a breach is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Severity {
    /// Allowed, but worth a look.
    Hint,
    /// The contract is broken.
    Error,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Hint => "hint",
            Severity::Error => "error",
        };
        write!(f, "{severity} at `{}`: {} [{}]", self.path, self.text, self.rule)
    }
}

/// Every breach of a message, in the order in which they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report(Vec<Breach>);

impl Report {
    /// Whether nothing at all was found, hints included.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the contract is broken; hints do not count.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.errors().next().is_some()
    }

    /// Every breach.
    #[must_use]
    pub fn breaches(&self) -> &[Breach] {
        &self.0
    }

    /// The breaches of the contract, without hints.
    pub fn errors(&self) -> impl Iterator<Item = &Breach> {
        self.0.iter().filter(|b| b.severity == Severity::Error)
    }

    /// Whether a rule was broken at a path.
    #[must_use]
    pub fn has(&self, rule: Rule, path: &str) -> bool {
        self.0.iter().any(|b| b.rule == rule && b.path == path)
    }

    /// The breaches, to keep.
    #[must_use]
    pub fn into_breaches(self) -> Vec<Breach> {
        self.0
    }

    // The path comes as `format_args!`, so a good message makes no string at all.
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
        self.0.push(Breach { path, rule, text, severity });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, breach) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            breach.fmt(f)?;
        }
        Ok(())
    }
}
