//! Faults: the deviations of a message from the contract that a tolerant reader found.

use crate::{
    model::transaction::Transaction,
    primitive::id::AccountId,
    rule::{self, Rule},
};
use serde::{Serialize, Serializer, ser::SerializeStruct as _};
use std::{fmt, ops::Deref, sync::Arc};

/// A deviation of a message from the contract, and how the reader handled it.
///
/// A fault names a path and a rule, but never a value. It can be logged, counted and sent to the
/// partner. `Display` writes a sentence for the partner's engineers:
///
/// ```text
/// accounts[2].student.loan_status.type is null; expected a string; the object was ignored
/// ```
///
/// It is serialized as `{"path", "rule", "severity", "element_id"?, "text"}`.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    pub(crate) path: Box<str>,
    pub(crate) rule: Rule,
    pub(crate) found: &'static str,
    pub(crate) expected: &'static str,
    pub(crate) outcome: Outcome,
    pub(crate) element: Option<Element>,
}

impl Fault {
    /// Creates a fault of an HTTP header of the message, such as its media type.
    ///
    /// `header` is the name of the header.
    #[must_use]
    pub fn of_header(header: &str, rule: Rule, expected: &'static str) -> Self {
        Self {
            path: format!("headers.{header}").into(),
            rule,
            found: "is another",
            expected,
            outcome: Outcome::Repaired,
            element: None,
        }
    }

    /// Creates the fault of a transaction with the same id as another transaction of the response.
    ///
    /// `index` is its index in the page. If `is_same`, the two rows have the same contents and the row is
    /// read once. Otherwise both rows are read.
    #[must_use]
    pub fn of_repeated_id(index: usize, row: &Transaction, is_same: bool) -> Self {
        let found = match is_same {
            true => SAME_ROW,
            false => "is that of a row of another account",
        };
        let element = Element {
            kind: ElementKind::Transaction,
            index: Some(index),
            id: Some(row.id.as_str().into()),
            account_id: Some(row.account_id.clone()),
        };
        Self {
            path: format!("transactions[{index}].id").into(),
            rule: rule::UNIQUE_ID,
            found,
            expected: "an id of its own",
            outcome: Outcome::Repaired,
            element: Some(element),
        }
    }

    /// Returns the path, such as `transactions[3].amount`; `.` is the whole message.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the rule that the message violates.
    #[must_use]
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// Returns the severity: how much of the message was lost.
    #[must_use]
    pub fn severity(&self) -> FaultSeverity {
        match self.outcome {
            Outcome::Repaired => FaultSeverity::Repaired,
            Outcome::MemberIgnored | Outcome::EntryIgnored | Outcome::ObjectIgnored => {
                FaultSeverity::Ignored
            }
            Outcome::ListUnread | Outcome::SetAside => FaultSeverity::SetAside,
        }
    }

    /// Returns the element that contains the fault. Returns `None` if it concerns the message itself.
    #[must_use]
    pub fn element(&self) -> Option<&Element> {
        self.element.as_ref()
    }

    /// Returns the id of the element. Returns `None` if it has none or its id could not be read.
    #[must_use]
    pub fn element_id(&self) -> Option<&str> {
        self.element.as_ref()?.id.as_deref()
    }

    /// Returns whether a row was skipped because another row has the same contents.
    pub(crate) fn is_repeated_row(&self) -> bool {
        self.rule == rule::UNIQUE_ID && self.found == SAME_ROW
    }

    /// Returns the path without indices, such as `transactions[].amount`, for grouping.
    #[must_use]
    pub fn pattern(&self) -> String {
        let mut pattern = String::with_capacity(self.path.len());
        let digits = |c: &char| c.is_ascii_digit();
        let mut rest = self.path.chars().peekable();
        while let Some(c) = rest.next() {
            pattern.push(c);
            while c == '[' && rest.next_if(digits).is_some() {}
        }
        pattern
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, found, expected, outcome, .. } = self;
        let path = if &**path == "." { "the message" } else { path };
        write!(f, "{path} {found}; expected {expected}; {}", outcome.text())
    }
}

impl Serialize for Fault {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let id = self.element_id();
        let mut out = s.serialize_struct("Fault", 4 + usize::from(id.is_some()))?;
        out.serialize_field("path", &self.path)?;
        out.serialize_field("rule", &self.rule)?;
        out.serialize_field("severity", &self.severity())?;
        if let Some(id) = id {
            out.serialize_field("element_id", id)?;
        }
        out.serialize_field("text", &self.to_string())?;
        out.end()
    }
}

/// The finding of a row that the response contains twice.
const SAME_ROW: &str = "is that of another row with the same contents";

/// The severity of a fault: how much of the message was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FaultSeverity {
    /// Nothing was lost: the value was read without loss.
    Repaired,
    /// An optional member, or an entry of a list within an element, was dropped.
    Ignored,
    /// An element or a whole list of elements could not be read. It may exist at the partner.
    SetAside,
}

/// The handling of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Repaired,
    MemberIgnored,
    EntryIgnored,
    ObjectIgnored,
    ListUnread,
    SetAside,
}

impl Outcome {
    fn text(self) -> &'static str {
        match self {
            Self::Repaired => "it was read without loss",
            Self::MemberIgnored => "the member was ignored",
            Self::EntryIgnored => "the entry was ignored",
            Self::ObjectIgnored => "the object was ignored",
            Self::ListUnread => "the list was not read",
            Self::SetAside => "the element was set aside",
        }
    }
}

/// An element of a message: a part that is read, or set aside, on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Element {
    /// The kind of the element.
    pub kind: ElementKind,
    /// The index in the received list; `None` if the fault concerns the whole list.
    pub index: Option<usize>,
    /// The id; `None` if it could not be read. For a holding, the id of its security. Transfer codes
    /// have no id.
    pub id: Option<Box<str>>,
    /// The account of the element; `None` if it has none or the id could not be read.
    pub account_id: Option<AccountId>,
}

/// The kind of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ElementKind {
    /// An account of a user.
    Account,
    /// An identity.
    Identity,
    /// A security.
    Security,
    /// A holding of an account.
    Holding,
    /// A transfer code of an account.
    TransferCode,
    /// A transaction.
    Transaction,
}

impl ElementKind {
    const ALL: [Self; 6] = [
        Self::Account,
        Self::Identity,
        Self::Security,
        Self::Holding,
        Self::TransferCode,
        Self::Transaction,
    ];

    /// Returns the name of the list that contains elements of this kind.
    #[must_use]
    pub fn list(self) -> &'static str {
        match self {
            Self::Account => "accounts",
            Self::Identity => "identities",
            Self::Security => "securities",
            Self::Holding => "holdings",
            Self::TransferCode => "transfer_codes",
            Self::Transaction => "transactions",
        }
    }

    /// Returns the kind of the elements in the list with this name.
    pub(crate) fn of_list(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.list() == name)
    }
}

/// The faults of one message, in the order in which they were found.
///
/// Empty for a message that was constructed locally or that a strict reader accepted. The faults are
/// not part of the message on the wire. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults(Option<Arc<FaultList>>);

#[derive(Clone, Debug, Default, PartialEq)]
struct FaultList {
    list: Vec<Fault>,
    /// The number of elements that were set aside, by kind, including those without their own fault.
    set_aside: [u64; ElementKind::ALL.len()],
}

impl Faults {
    /// Adds a fault.
    pub fn push(&mut self, fault: Fault) {
        self.inner_mut().list.push(fault);
    }

    /// Returns the number of elements of a kind that were set aside.
    ///
    /// It is larger than the number of faults if the message had more faults than the reader records.
    #[must_use]
    pub fn set_aside(&self, kind: ElementKind) -> u64 {
        self.0.as_ref().map_or(0, |found| found.set_aside[kind as usize])
    }

    /// Returns whether elements of a kind are missing without a fault that names them.
    ///
    /// This is the case if the reader only counted them, or if the whole list could not be read.
    #[must_use]
    pub fn has_unnamed_missing(&self, kind: ElementKind) -> bool {
        let of_kind = self.iter().filter(|fault| fault.severity() == FaultSeverity::SetAside);
        let of_kind = of_kind.filter_map(Fault::element).filter(|element| element.kind == kind);
        let named = of_kind.clone().filter(|element| element.index.is_some()).count() as u64;
        of_kind.clone().any(|element| element.index.is_none()) || named < self.set_aside(kind)
    }

    /// Keeps only the faults for which `keep` returns `true`.
    pub fn retain(&mut self, mut keep: impl FnMut(&Fault) -> bool) {
        if self.0.is_none() {
            return;
        }
        let found = self.inner_mut();
        let set_aside = &mut found.set_aside;
        found.list.retain(|fault| {
            let is_retained = keep(fault);
            if !is_retained
                && fault.outcome == Outcome::SetAside
                && let Some(element) = &fault.element
            {
                let count = &mut set_aside[element.kind as usize];
                *count = count.saturating_sub(1);
            }
            is_retained
        });
        if found.list.is_empty() && found.set_aside.iter().all(|count| *count == 0) {
            self.0 = None;
        }
    }

    fn inner_mut(&mut self) -> &mut FaultList {
        Arc::make_mut(self.0.get_or_insert_default())
    }

    pub(crate) fn count_set_aside(&mut self, kind: ElementKind) {
        self.inner_mut().set_aside[kind as usize] += 1;
    }

    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut Fault> {
        self.0.as_mut().and_then(|found| Arc::make_mut(found).list.get_mut(index))
    }
}

impl Deref for Faults {
    type Target = [Fault];
    fn deref(&self) -> &[Fault] {
        self.0.as_ref().map_or(&[], |found| &found.list)
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for Faults {
    type Item = Fault;
    type IntoIter = std::vec::IntoIter<Fault>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.map(|found| Arc::unwrap_or_clone(found).list).unwrap_or_default().into_iter()
    }
}
