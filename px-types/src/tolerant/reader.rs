//! The reader of invalid elements: it decodes, evaluates the error, repairs or removes, and repeats.

use super::{
    ReadElement, element_of,
    repair::{Expected, is_identifier, repair},
};
use crate::{
    fault::{Element, ElementKind, Fault, Faults, Outcome},
    json::{Flaw, Memory, Node, ParseError},
    rule::{self, Rule},
    wire::{
        self, DecodeError,
        path::{self, Step},
    },
};
use serde::de::DeserializeOwned;
use std::mem::size_of;

/// Maximum number of faults of an element. With more faults it is probably another kind of object.
const MAX_FAULTS: usize = 16;
/// Maximum number of times that an element is decoded. A fault can take several attempts, because the
/// objects that contain a required member are removed one after the other.
const MAX_ATTEMPTS: usize = 64;

/// Members that have a different meaning if they are absent. Without `settled_at` a transaction is pending,
/// without its currency an amount has another unit, and without `wire_routing_number` a wire transfer
/// uses another routing number. If one of them cannot be read, the object that contains it is removed.
const NEVER_ABSENT: &[&str] =
    &["settled_at", "currency", "non_iso_currency", "tokenized", "wire_routing_number"];

/// Members that must be present and may be `null`, where `null` only means that there is no text.
const NULL_IF_MISSING: &[&str] = &["description"];

/// The location of a node in the message.
#[derive(Default)]
pub(super) struct Location {
    /// The path; empty for the message itself.
    pub(super) path: String,
    pub(super) element: Option<Element>,
}

impl Location {
    fn below(&self, steps: &[Step]) -> String {
        let mut path = self.path.clone();
        path::push(&mut path, steps);
        if path.is_empty() { ".".to_owned() } else { path }
    }
}

/// The reader of the elements of one message, with the faults found so far.
pub(super) struct TolerantReader<'l> {
    pub(super) faults: Faults,
    /// The memory limit for one element, in bytes.
    pub(super) memory: usize,
    /// The memory limit for all faults.
    fault_memory: Memory,
    out_of_time: &'l dyn Fn() -> bool,
}

/// The index of a recorded fault; `None` if there was no memory for it.
type FaultIndex = Option<usize>;

impl<'l> TolerantReader<'l> {
    pub(super) fn new(memory: usize, out_of_time: &'l dyn Fn() -> bool) -> Self {
        Self { faults: Faults::default(), memory, fault_memory: Memory::new(memory), out_of_time }
    }

    /// Reads an element of a list of the message.
    pub(super) fn element<E: ReadElement>(&mut self, raw: &[u8], index: usize) -> Option<E> {
        if raw.first() == Some(&b'{')
            && let Ok(element) = serde_json::from_slice(raw)
        {
            return Some(element);
        }
        let location = |node: &Node<'_>| Location {
            path: format!("{}[{index}]", E::KIND.list()),
            element: Some(element_of(E::KIND, index, node, None)),
        };
        let before = self.faults.len();
        let node = match (self.out_of_time)() {
            true => Err(ParseError::TooLarge),
            false => Node::parse(raw, Memory::new(self.memory)),
        };
        match node {
            Ok(mut node) => {
                let location = location(&node);
                let element = self.read(&mut node, &location);
                if self.faults.len() == before && element.is_some() {
                    // Reading found no fault, but the strict decoder refuses the JSON.
                    let found = "is not valid JSON";
                    self.record(&location, &[], rule::NOT_JSON, found, "JSON", Outcome::Repaired);
                }
                element
            }
            Err(error) => {
                let (rule, found, expected) = match error {
                    ParseError::Malformed => (rule::NOT_JSON, "is not JSON", "an object"),
                    ParseError::TooLarge => {
                        (rule::READER_LIMITS, "exceeds the limits of the reader", "a smaller value")
                    }
                };
                let location = location(&Node::Null);
                let fault = self.record(&location, &[], rule, found, expected, Outcome::SetAside);
                self.set_aside(&location, fault);
                None
            }
        }
    }

    /// Reads an element within another element.
    pub(super) fn nested_element<E: ReadElement>(
        &mut self,
        node: &mut Node<'_>,
        index: usize,
        of: &Location,
    ) -> Option<E> {
        let location = Location {
            path: format!("{}.{}[{index}]", of.path, E::KIND.list()),
            element: Some(element_of(E::KIND, index, node, of.element.as_ref())),
        };
        self.read(node, &location)
    }

    /// Records that a list of elements within another element is missing or not a list, and replaces it
    /// with an empty list.
    pub(super) fn record_unread_list(
        &mut self,
        node: &mut Node<'_>,
        kind: ElementKind,
        of: &Location,
    ) {
        let Node::Object(members) = node else {
            return;
        };
        let name = kind.list();
        let existing = members.iter().find(|(key, _)| key == name);
        let (rule, found) = match existing {
            Some((_, value)) => (rule::NULL_LIST, describe(value)),
            None => (rule::MISSING_FIELD, "is missing"),
        };
        members.retain(|(key, _)| key != name);
        members.push((name.into(), Node::List(Vec::new())));
        let steps = [Step::Key(name.to_owned())];
        self.record(of, &steps, rule, found, Expected::List.text(), Outcome::ListUnread);
    }

    fn read<E: ReadElement>(&mut self, node: &mut Node<'_>, location: &Location) -> Option<E> {
        if !matches!(node, Node::Object(_)) {
            let expected = Expected::Object.text();
            let fault = self.record(
                location,
                &[],
                rule::ELEMENT_FORM,
                describe(node),
                expected,
                Outcome::SetAside,
            );
            self.set_aside(location, fault);
            return None;
        }
        let nested = E::read_nested(node, self, location);
        let mut element: E = self.read_repaired(node, location).ok()?;
        element.attach_nested(nested);
        Some(element)
    }

    /// Decodes a node, and repairs or removes invalid values until it can be decoded.
    pub(super) fn read_repaired<T: DeserializeOwned>(
        &mut self,
        node: &mut Node<'_>,
        location: &Location,
    ) -> Result<T, DecodeError> {
        let mut changes = Changes::default();
        let mut attempt = 0;
        loop {
            let error = match wire::read::<T>(&*node) {
                Ok(value) => {
                    self.record_invalid_literals(node, location, &mut Vec::new(), &mut changes);
                    return Ok(value);
                }
                Err(error) => error,
            };
            let is_exhausted = attempt == MAX_ATTEMPTS || attempt > 0 && (self.out_of_time)();
            let applied = match is_exhausted {
                true => Err(self.record_limit(location)),
                false => self.apply_error(node, location, &error, &mut changes),
            };
            if let Err(fault) = applied {
                self.set_aside(location, fault);
                return Err(self.decode_error_for(fault, location, error));
            }
            attempt += 1;
        }
    }

    /// Repairs or removes the value that an error of the decoder names.
    ///
    /// Returns `Err` with the fault if nothing is left that could be removed.
    fn apply_error(
        &mut self,
        node: &mut Node<'_>,
        location: &Location,
        error: &DecodeError,
        changes: &mut Changes,
    ) -> Result<(), FaultIndex> {
        let (steps, problem) = classify(node, error);
        let name = match steps.last() {
            Some(Step::Key(name)) => name.as_str(),
            _ => "",
        };
        match problem {
            Problem::Missing(rule) => {
                let fault = match changes.removed(&steps) {
                    Some(fault) => fault,
                    None => {
                        self.count_fault(location, changes)?;
                        let outcome = match NULL_IF_MISSING.contains(&name) {
                            true => Outcome::Repaired,
                            false => Outcome::SetAside,
                        };
                        self.record(location, &steps, rule, "is missing", "a value", outcome)
                    }
                };
                if NULL_IF_MISSING.contains(&name)
                    && let Some(Node::Object(members)) = find(node, parent(&steps))
                {
                    members.push((name.to_owned().into(), Node::Null));
                    return Ok(());
                }
                self.remove(node, parent(&steps).to_vec(), fault, changes)
            }
            Problem::Repeated => self.resolve_repeated(node, location, steps, changes),
            // The error does not say which of the repeated members could not be read.
            Problem::Unreadable(_) if is_repeated(node, &steps) => {
                self.resolve_repeated(node, location, steps, changes)
            }
            Problem::Unreadable(expected) => {
                let fault = match changes.repaired(&steps) {
                    // The value was repaired before and is still invalid.
                    Some(fault) => fault,
                    None => {
                        self.count_fault(location, changes)?;
                        let Some(value) = find(node, &steps) else {
                            return Err(self.record_unknown(location, &steps));
                        };
                        if let Some(expected) = expected
                            && let Some((read, rule)) = repair(expected, name, value)
                        {
                            let found = describe_fault(value, error.reason());
                            let outcome = match rule {
                                rule::NULL_LIST if ElementKind::of_list(name).is_some() => {
                                    Outcome::ListUnread
                                }
                                rule::NULL_LIST => Outcome::MemberIgnored,
                                _ => Outcome::Repaired,
                            };
                            *value = read;
                            let fault = self.record(
                                location,
                                &steps,
                                rule,
                                found,
                                expected.text(),
                                outcome,
                            );
                            changes.repaired.push((steps, fault));
                            return Ok(());
                        }
                        let rule = rule_for(value, name, error.reason());
                        let found = describe_fault(value, error.reason());
                        let expected = expected.map_or("another value", Expected::text);
                        self.record(location, &steps, rule, found, expected, Outcome::MemberIgnored)
                    }
                };
                self.remove(node, steps, fault, changes)
            }
        }
    }

    /// Resolves a repeated member: keeps one if all have the same value, and removes all otherwise.
    fn resolve_repeated(
        &mut self,
        node: &mut Node<'_>,
        location: &Location,
        steps: Vec<Step>,
        changes: &mut Changes,
    ) -> Result<(), FaultIndex> {
        self.count_fault(location, changes)?;
        let (Some(Step::Key(name)), Some(Node::Object(members))) =
            (steps.last(), find(node, parent(&steps)))
        else {
            return Err(self.record_unknown(location, &steps));
        };
        let mut values = members.iter().filter(|(key, _)| key == name).map(|(_, v)| v);
        let first = values.next();
        if values.all(|value| Some(value) == first) {
            let mut seen = false;
            members.retain(|(key, _)| key != name || !std::mem::replace(&mut seen, true));
            let (found, outcome) = ("is given more than once", Outcome::Repaired);
            self.record(location, &steps, rule::REPEATED_MEMBER, found, "one", outcome);
            return Ok(());
        }
        let found = "is given more than once, with different values";
        let outcome = Outcome::MemberIgnored;
        let fault = self.record(location, &steps, rule::REPEATED_MEMBER, found, "one", outcome);
        self.remove(node, steps, fault, changes)
    }

    /// Removes a value that cannot be read, or the object that cannot be read without it.
    fn remove(
        &mut self,
        node: &mut Node<'_>,
        mut steps: Vec<Step>,
        fault: FaultIndex,
        changes: &mut Changes,
    ) -> Result<(), FaultIndex> {
        loop {
            let outcome = match steps.last() {
                None => return Err(fault),
                Some(Step::Key(name)) if NEVER_ABSENT.contains(&name.as_str()) => {
                    steps.pop();
                    continue;
                }
                Some(Step::Key(name)) => match find(node, parent(&steps)) {
                    Some(Node::Object(members)) => {
                        let outcome = match members.iter().find(|(key, _)| key == name) {
                            Some((_, Node::Object(_))) => Outcome::ObjectIgnored,
                            _ => Outcome::MemberIgnored,
                        };
                        members.retain(|(key, _)| key != name);
                        outcome
                    }
                    _ => return Err(fault),
                },
                Some(Step::Index(index)) => match find(node, parent(&steps)) {
                    Some(Node::List(entries)) if *index < entries.len() => {
                        entries[*index] = Node::Removed;
                        Outcome::EntryIgnored
                    }
                    _ => return Err(fault),
                },
            };
            if let Some(fault) = fault.and_then(|index| self.faults.get_mut(index)) {
                fault.outcome = outcome;
            }
            changes.removed.push((steps, fault));
            return Ok(());
        }
    }

    /// Records invalid literals in members that are not part of the message.
    fn record_invalid_literals(
        &mut self,
        node: &Node<'_>,
        location: &Location,
        steps: &mut Vec<Step>,
        changes: &mut Changes,
    ) {
        match node {
            Node::InvalidLiteral(_) | Node::FlawedText(..) if changes.faults < MAX_FAULTS => {
                changes.faults += 1;
                let rule = rule_for(node, "", "");
                self.record(location, steps, rule, describe(node), "JSON", Outcome::Repaired);
            }
            Node::List(entries) => {
                for (index, entry) in entries.iter().enumerate() {
                    steps.push(Step::Index(index));
                    self.record_invalid_literals(entry, location, steps, changes);
                    steps.pop();
                }
            }
            Node::Object(members) => {
                for (key, value) in members {
                    steps.push(Step::Key(key.clone().into_owned()));
                    self.record_invalid_literals(value, location, steps, changes);
                    steps.pop();
                }
            }
            _ => {}
        }
    }

    /// Records a fault.
    pub(super) fn record(
        &mut self,
        location: &Location,
        steps: &[Step],
        rule: Rule,
        found: &'static str,
        expected: &'static str,
        outcome: Outcome,
    ) -> FaultIndex {
        let path = location.below(steps).into_boxed_str();
        let mut element = location.element.clone();
        if let (Outcome::ListUnread, Some(Step::Key(name))) = (outcome, steps.last())
            && let Some(kind) = ElementKind::of_list(name)
        {
            let account_id = element.and_then(|account| account.account_id);
            element = Some(Element { kind, index: None, id: None, account_id });
        }
        let id = element.as_ref().and_then(|element| element.id.as_ref()).map_or(0, |id| id.len());
        if !self.fault_memory.take(2 * size_of::<Fault>() + path.len() + 3 * id) {
            return None;
        }
        self.faults.push(Fault { path, rule, found, expected, outcome, element });
        Some(self.faults.len() - 1)
    }

    /// Counts a fault of an element. Returns `Err` with a fault if there are too many.
    fn count_fault(
        &mut self,
        location: &Location,
        changes: &mut Changes,
    ) -> Result<(), FaultIndex> {
        if changes.faults == MAX_FAULTS {
            return Err(self.record_limit(location));
        }
        changes.faults += 1;
        Ok(())
    }

    fn record_limit(&mut self, location: &Location) -> FaultIndex {
        let (found, expected) = ("has too many faults to be repaired", "fewer faults");
        self.record(location, &[], rule::READER_LIMITS, found, expected, Outcome::SetAside)
    }

    fn record_unknown(&mut self, location: &Location, steps: &[Step]) -> FaultIndex {
        let found = "cannot be read";
        self.record(location, steps, rule::MALFORMED, found, "another value", Outcome::SetAside)
    }

    /// Marks a recorded fault as `SetAside` and counts the element as set aside.
    fn set_aside(&mut self, location: &Location, fault: FaultIndex) {
        if let Some(fault) = fault.and_then(|index| self.faults.get_mut(index)) {
            fault.outcome = Outcome::SetAside;
        }
        if let Some(element) = &location.element {
            self.faults.count_set_aside(element.kind);
        }
    }

    /// Converts the fault of a message that cannot be read to an error.
    fn decode_error_for(
        &mut self,
        fault: FaultIndex,
        location: &Location,
        error: DecodeError,
    ) -> DecodeError {
        match fault.and_then(|index| self.faults.get_mut(index)) {
            Some(fault) if location.element.is_none() => {
                let reason = match fault.rule {
                    rule::MISSING_FIELD => "missing, and required".to_owned(),
                    _ => format!("{}; expected {}", fault.found, fault.expected),
                };
                DecodeError::new(&*fault.path, reason)
            }
            _ => error,
        }
    }
}

/// The changes that were made to a node.
#[derive(Default)]
struct Changes {
    faults: usize,
    repaired: Vec<(Vec<Step>, FaultIndex)>,
    removed: Vec<(Vec<Step>, FaultIndex)>,
}

impl Changes {
    fn repaired(&self, steps: &[Step]) -> Option<FaultIndex> {
        self.repaired.iter().find(|(known, _)| known == steps).map(|(_, fault)| *fault)
    }

    fn removed(&self, steps: &[Step]) -> Option<FaultIndex> {
        self.removed.iter().find(|(known, _)| known == steps).map(|(_, fault)| *fault)
    }
}

/// The problem that an error of the decoder reports.
enum Problem {
    Missing(Rule),
    Repeated,
    Unreadable(Option<Expected>),
}

/// Extracts the path and the problem from an error of the decoder.
fn classify(node: &Node<'_>, error: &DecodeError) -> (Vec<Step>, Problem) {
    let mut steps = original_indices(node, path::parse(error.path()));
    let reason = error.reason();
    let named = |begin: &str| reason.strip_prefix(begin)?.strip_suffix('`').map(str::to_owned);
    if let Some(name) = named("missing field `") {
        steps.push(Step::Key(name));
        return (steps, Problem::Missing(rule::MISSING_FIELD));
    }
    if let Some(name) = named("duplicate field `") {
        steps.push(Step::Key(name));
        return (steps, Problem::Repeated);
    }
    let problem = match reason {
        "given twice" => Problem::Repeated,
        _ if reason.starts_with("missing: exactly one of") => Problem::Missing(rule::ONE_CURRENCY),
        _ => Problem::Unreadable(Expected::of(reason)),
    };
    (steps, problem)
}

/// Converts the list indices of an error to those of the received message. The decoder does not see
/// entries that were removed.
fn original_indices(node: &Node<'_>, mut steps: Vec<Step>) -> Vec<Step> {
    let mut node = Some(node);
    for step in &mut steps {
        node = match (node, step) {
            (Some(node), Step::Key(name)) => node.member(name),
            (Some(Node::List(entries)), Step::Index(index)) => {
                let mut left =
                    entries.iter().enumerate().filter(|(_, e)| !matches!(e, Node::Removed));
                left.nth(*index).map(|(written, entry)| {
                    *index = written;
                    entry
                })
            }
            _ => None,
        };
    }
    steps
}

fn parent(steps: &[Step]) -> &[Step] {
    steps.split_last().map_or(&[], |(_, parent)| parent)
}

fn find<'n, 'a>(node: &'n mut Node<'a>, steps: &[Step]) -> Option<&'n mut Node<'a>> {
    steps.iter().try_fold(node, |node, step| match step {
        Step::Key(name) => node.member_mut(name),
        Step::Index(index) => match node {
            Node::List(entries) => entries.get_mut(*index),
            _ => None,
        },
    })
}

/// Returns whether a path names a member that is given more than once.
fn is_repeated(node: &mut Node<'_>, steps: &[Step]) -> bool {
    match (steps.last(), find(node, parent(steps))) {
        (Some(Step::Key(name)), Some(Node::Object(members))) => {
            members.iter().filter(|(key, _)| key == name).count() > 1
        }
        _ => false,
    }
}

/// Describes a value in words, without the value itself.
fn describe(node: &Node<'_>) -> &'static str {
    match node {
        Node::Null | Node::Removed => "is null",
        Node::Bool(_) => "is a boolean",
        Node::Number(_) => "is a number",
        Node::Text(text) if text.is_empty() => "is empty",
        Node::Text(_) => "is a string",
        Node::FlawedText(_, Flaw::Replaced) => "has characters that are not Unicode",
        Node::FlawedText(_, Flaw::Control) => "has unescaped control characters",
        Node::InvalidLiteral(_) => "is an invalid literal",
        Node::List(_) => "is a list",
        Node::Object(_) => "is an object",
    }
}

/// Describes the fault of a value in words, without the value itself.
fn describe_fault(node: &Node<'_>, reason: &str) -> &'static str {
    if reason == wire::NOT_JSON {
        return "contains an invalid literal";
    }
    if !matches!(node, Node::Text(text) if !text.is_empty()) {
        return describe(node);
    }
    let texts = [
        ("too many decimal places", "has too many decimal places"),
        ("too many digits", "has too many digits"),
        ("an id has at most", "is too long"),
        ("an id has no control", "has control characters"),
        ("set beside `currency`", "is set beside `currency`"),
        ("more precise", "is more precise than a nanosecond"),
        ("not a", "has another format"),
    ];
    texts
        .iter()
        .find(|(begin, _)| reason.starts_with(begin))
        .map_or("is a string", |(_, text)| text)
}

/// Returns the rule that an unreadable value violates.
fn rule_for(node: &Node<'_>, name: &str, reason: &str) -> Rule {
    match node {
        _ if reason == wire::NOT_JSON => rule::NOT_JSON,
        Node::Null => rule::UNEXPECTED_NULL,
        Node::Text(text) if text.is_empty() => rule::UNEXPECTED_NULL,
        Node::Number(_) if is_identifier(name) => rule::IDENTIFIER_AS_NUMBER,
        Node::FlawedText(..) => rule::DAMAGED_TEXT,
        Node::InvalidLiteral(_) => rule::NOT_JSON,
        _ if reason.starts_with("too many decimal places") => rule::DECIMAL_PLACES,
        _ if reason.starts_with("an id has at most") => rule::WIDE_ID,
        _ if reason.starts_with("set beside `currency`") => rule::ONE_CURRENCY,
        _ => rule::MALFORMED,
    }
}
