//! Reading an element that fails: asking the typed decoder, and doing what it says.

use super::{
    ReadElement, element_of,
    repair::{Expected, is_identifier, repair},
};
use crate::{
    fault::{Element, ElementKind, Fault, Faults, Outcome},
    json::{Flaw, Memory, Node, Unheld},
    rule::{self, Rule},
    wire::{
        self, DecodeError,
        path::{self, Step},
    },
};
use serde::de::DeserializeOwned;
use std::mem::size_of;

/// Maximum number of faults of an element; with more it is another thing altogether.
const MAX_FAULTS: usize = 16;
/// Maximum number of times that an element is decoded. A fault may take several: each object
/// around a member that is required is tried in turn.
const MAX_ATTEMPTS: usize = 64;

/// Members whose absence would mean something else: without `settled_at` a transaction is pending,
/// without a currency its amount is another unit's, without `wire_routing_number` money takes
/// another way. If one cannot be read, the object that has it cannot be read.
const NEVER_ABSENT: &[&str] =
    &["settled_at", "currency", "non_iso_currency", "tokenized", "wire_routing_number"];

/// Members that must be present and may be `null`, where `null` says no more than "no text".
const NULL_IF_MISSING: &[&str] = &["description"];

/// The place of a node in the message.
#[derive(Default)]
pub(super) struct Place {
    /// Empty for the message itself.
    pub(super) path: String,
    pub(super) element: Option<Element>,
}

impl Place {
    fn below(&self, steps: &[Step]) -> String {
        let mut path = self.path.clone();
        path::push(&mut path, steps);
        if path.is_empty() { ".".to_owned() } else { path }
    }
}

/// Reads what fails, and keeps the faults.
pub(super) struct Guide<'l> {
    pub(super) faults: Faults,
    /// Memory for the element in hand.
    pub(super) memory: usize,
    /// Memory for the faults.
    fault_memory: Memory,
    out_of_time: &'l dyn Fn() -> bool,
}

/// The index of a recorded fault; `None` if there was no memory for it.
type FaultIndex = Option<usize>;

impl<'l> Guide<'l> {
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
        let place = |node: &Node<'_>| Place {
            path: format!("{}[{index}]", E::KIND.list()),
            element: Some(element_of(E::KIND, index, node, None)),
        };
        let before = self.faults.len();
        let node = match (self.out_of_time)() {
            true => Err(Unheld::TooLarge),
            false => Node::parse(raw, Memory::new(self.memory)),
        };
        match node {
            Ok(mut node) => {
                let place = place(&node);
                let element = self.read(&mut node, &place);
                if self.faults.len() == before && element.is_some() {
                    // It can be read as it is, and still a strict reader refuses it.
                    let found = "is not written as JSON is";
                    self.record(&place, &[], rule::NOT_JSON, found, "JSON", Outcome::Repaired);
                }
                element
            }
            Err(unheld) => {
                let (rule, found, expected) = match unheld {
                    Unheld::Malformed => (rule::NOT_JSON, "is not JSON", "an object"),
                    Unheld::TooLarge => {
                        (rule::READER_LIMITS, "is beyond the reader's limits", "less to repair")
                    }
                };
                let place = place(&Node::Null);
                let fault = self.record(&place, &[], rule, found, expected, Outcome::SetAside);
                self.set_aside(&place, fault);
                None
            }
        }
    }

    /// Reads an element within another one.
    pub(super) fn element_within<E: ReadElement>(
        &mut self,
        node: &mut Node<'_>,
        index: usize,
        of: &Place,
    ) -> Option<E> {
        let place = Place {
            path: format!("{}.{}[{index}]", of.path, E::KIND.list()),
            element: Some(element_of(E::KIND, index, node, of.element.as_ref())),
        };
        self.read(node, &place)
    }

    /// Tells that a list of elements within another one is missing or no list, and puts an empty
    /// one in its place.
    pub(super) fn list_unread(&mut self, node: &mut Node<'_>, kind: ElementKind, of: &Place) {
        let Node::Object(members) = node else {
            return;
        };
        let name = kind.list();
        let there = members.iter().find(|(key, _)| key == name);
        let (rule, found) = match there {
            Some((_, value)) => (rule::NULL_LIST, found(value)),
            None => (rule::MISSING_FIELD, "is missing"),
        };
        members.retain(|(key, _)| key != name);
        members.push((name.into(), Node::List(Vec::new())));
        let steps = [Step::Key(name.to_owned())];
        self.record(of, &steps, rule, found, Expected::List.text(), Outcome::ListUnread);
    }

    fn read<E: ReadElement>(&mut self, node: &mut Node<'_>, place: &Place) -> Option<E> {
        if !matches!(node, Node::Object(_)) {
            let expected = Expected::Object.text();
            let fault = self.record(
                place,
                &[],
                rule::ELEMENT_FORM,
                found(node),
                expected,
                Outcome::SetAside,
            );
            self.set_aside(place, fault);
            return None;
        }
        let within = E::read_within(node, self, place);
        let mut element: E = self.mend(node, place).ok()?;
        element.take_within(within);
        Some(element)
    }

    /// Decodes a node, and repairs or removes what stands in the way.
    pub(super) fn mend<T: DeserializeOwned>(
        &mut self,
        node: &mut Node<'_>,
        place: &Place,
    ) -> Result<T, DecodeError> {
        let mut changes = Changes::default();
        let mut attempt = 0;
        loop {
            let error = match wire::read::<T>(&*node) {
                Ok(value) => {
                    self.leftovers(node, place, &mut Vec::new(), &mut changes);
                    return Ok(value);
                }
                Err(error) => error,
            };
            let spent = attempt == MAX_ATTEMPTS || attempt > 0 && (self.out_of_time)();
            let followed = match spent {
                true => Err(self.record_limit(place)),
                false => self.follow(node, place, &error, &mut changes),
            };
            if let Err(fault) = followed {
                self.set_aside(place, fault);
                return Err(self.as_error(fault, place, error));
            }
            attempt += 1;
        }
    }

    /// Does what an error of the decoder asks for. An error is the fault for which nothing is left
    /// to remove.
    fn follow(
        &mut self,
        node: &mut Node<'_>,
        place: &Place,
        error: &DecodeError,
        changes: &mut Changes,
    ) -> Result<(), FaultIndex> {
        let (steps, trouble) = understand(node, error);
        let name = match steps.last() {
            Some(Step::Key(name)) => name.as_str(),
            _ => "",
        };
        match trouble {
            Trouble::Missing(rule) => {
                let fault = match changes.removed(&steps) {
                    Some(fault) => fault,
                    None => {
                        self.count(place, changes)?;
                        let outcome = match NULL_IF_MISSING.contains(&name) {
                            true => Outcome::Repaired,
                            false => Outcome::SetAside,
                        };
                        self.record(place, &steps, rule, "is missing", "a value", outcome)
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
            Trouble::Repeated => self.follow_repeated(node, place, steps, changes),
            // Which of them the decoder could not read is not known.
            Trouble::Unreadable(_) if is_repeated(node, &steps) => {
                self.follow_repeated(node, place, steps, changes)
            }
            Trouble::Unreadable(expected) => {
                let fault = match changes.repaired(&steps) {
                    // The repair did not help: the text is not one in any form.
                    Some(fault) => fault,
                    None => {
                        self.count(place, changes)?;
                        let Some(value) = find(node, &steps) else {
                            return Err(self.record_unknown(place, &steps));
                        };
                        if let Some(expected) = expected
                            && let Some((read, rule)) = repair(expected, name, value)
                        {
                            let found = found_for(value, error.reason());
                            let outcome = match rule {
                                rule::NULL_LIST if ElementKind::of_list(name).is_some() => {
                                    Outcome::ListUnread
                                }
                                rule::NULL_LIST => Outcome::MemberIgnored,
                                _ => Outcome::Repaired,
                            };
                            *value = read;
                            let fault =
                                self.record(place, &steps, rule, found, expected.text(), outcome);
                            changes.repaired.push((steps, fault));
                            return Ok(());
                        }
                        let rule = rule_for(value, name, error.reason());
                        let found = found_for(value, error.reason());
                        let expected = expected.map_or("another value", Expected::text);
                        self.record(place, &steps, rule, found, expected, Outcome::MemberIgnored)
                    }
                };
                self.remove(node, steps, fault, changes)
            }
        }
    }

    /// Leaves one of several members of one name, if all have one value, and none otherwise.
    fn follow_repeated(
        &mut self,
        node: &mut Node<'_>,
        place: &Place,
        steps: Vec<Step>,
        changes: &mut Changes,
    ) -> Result<(), FaultIndex> {
        self.count(place, changes)?;
        let (Some(Step::Key(name)), Some(Node::Object(members))) =
            (steps.last(), find(node, parent(&steps)))
        else {
            return Err(self.record_unknown(place, &steps));
        };
        let mut values = members.iter().filter(|(key, _)| key == name).map(|(_, v)| v);
        let first = values.next();
        if values.all(|value| Some(value) == first) {
            let mut seen = false;
            members.retain(|(key, _)| key != name || !std::mem::replace(&mut seen, true));
            let (found, outcome) = ("is given more than once", Outcome::Repaired);
            self.record(place, &steps, rule::REPEATED_MEMBER, found, "one", outcome);
            return Ok(());
        }
        let found = "is given more than once, with different values";
        let outcome = Outcome::MemberIgnored;
        let fault = self.record(place, &steps, rule::REPEATED_MEMBER, found, "one", outcome);
        self.remove(node, steps, fault, changes)
    }

    /// Removes what cannot be read, or what cannot be without it.
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
                        entries[*index] = Node::Gone;
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

    /// Records literals that JSON does not have, in members that are not read.
    fn leftovers(
        &mut self,
        node: &Node<'_>,
        place: &Place,
        steps: &mut Vec<Step>,
        changes: &mut Changes,
    ) {
        match node {
            Node::Word(_) | Node::FlawedText(..) if changes.faults < MAX_FAULTS => {
                changes.faults += 1;
                let rule = rule_for(node, "", "");
                self.record(place, steps, rule, found(node), "JSON", Outcome::Repaired);
            }
            Node::List(entries) => {
                for (index, entry) in entries.iter().enumerate() {
                    steps.push(Step::Index(index));
                    self.leftovers(entry, place, steps, changes);
                    steps.pop();
                }
            }
            Node::Object(members) => {
                for (key, value) in members {
                    steps.push(Step::Key(key.clone().into_owned()));
                    self.leftovers(value, place, steps, changes);
                    steps.pop();
                }
            }
            _ => {}
        }
    }

    /// Notes a fault.
    pub(super) fn record(
        &mut self,
        place: &Place,
        steps: &[Step],
        rule: Rule,
        found: &'static str,
        expected: &'static str,
        outcome: Outcome,
    ) -> FaultIndex {
        let path = place.below(steps).into_boxed_str();
        let mut element = place.element.clone();
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

    /// Counts a fault of an element. An error is the fault that there are too many.
    fn count(&mut self, place: &Place, changes: &mut Changes) -> Result<(), FaultIndex> {
        if changes.faults == MAX_FAULTS {
            return Err(self.record_limit(place));
        }
        changes.faults += 1;
        Ok(())
    }

    fn record_limit(&mut self, place: &Place) -> FaultIndex {
        let (found, expected) = ("has more faults than are repaired", "fewer faults");
        self.record(place, &[], rule::READER_LIMITS, found, expected, Outcome::SetAside)
    }

    fn record_unknown(&mut self, place: &Place, steps: &[Step]) -> FaultIndex {
        let found = "cannot be read";
        self.record(place, steps, rule::MALFORMED, found, "another value", Outcome::SetAside)
    }

    /// Counts an element as set aside because of a recorded fault.
    fn set_aside(&mut self, place: &Place, fault: FaultIndex) {
        if let Some(fault) = fault.and_then(|index| self.faults.get_mut(index)) {
            fault.outcome = Outcome::SetAside;
        }
        if let Some(element) = &place.element {
            self.faults.count_set_aside(element.kind);
        }
    }

    /// The error for a message that cannot be read, from its fault.
    fn as_error(&mut self, fault: FaultIndex, place: &Place, error: DecodeError) -> DecodeError {
        match fault.and_then(|index| self.faults.get_mut(index)) {
            Some(fault) if place.element.is_none() => {
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

/// What was changed in a node so far.
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

/// What is the matter at a place.
enum Trouble {
    Missing(Rule),
    Repeated,
    Unreadable(Option<Expected>),
}

/// Takes place and trouble from an error of the decoder.
fn understand(node: &Node<'_>, error: &DecodeError) -> (Vec<Step>, Trouble) {
    let mut steps = as_written(node, path::parse(error.path()));
    let reason = error.reason();
    let named = |begin: &str| reason.strip_prefix(begin)?.strip_suffix('`').map(str::to_owned);
    if let Some(name) = named("missing field `") {
        steps.push(Step::Key(name));
        return (steps, Trouble::Missing(rule::MISSING_FIELD));
    }
    if let Some(name) = named("duplicate field `") {
        steps.push(Step::Key(name));
        return (steps, Trouble::Repeated);
    }
    let trouble = match reason {
        "given twice" => Trouble::Repeated,
        _ if reason.starts_with("missing: exactly one of") => Trouble::Missing(rule::ONE_CURRENCY),
        _ => Trouble::Unreadable(Expected::of(reason)),
    };
    (steps, trouble)
}

/// Turns the indices that the decoder saw into those that were written: it sees no entry that was
/// taken out.
fn as_written(node: &Node<'_>, mut steps: Vec<Step>) -> Vec<Step> {
    let mut node = Some(node);
    for step in &mut steps {
        node = match (node, step) {
            (Some(node), Step::Key(name)) => node.member(name),
            (Some(Node::List(entries)), Step::Index(index)) => {
                let mut left = entries.iter().enumerate().filter(|(_, e)| !matches!(e, Node::Gone));
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

/// Returns whether a place is a member that is given more than once.
fn is_repeated(node: &mut Node<'_>, steps: &[Step]) -> bool {
    match (steps.last(), find(node, parent(steps))) {
        (Some(Step::Key(name)), Some(Node::Object(members))) => {
            members.iter().filter(|(key, _)| key == name).count() > 1
        }
        _ => false,
    }
}

/// What stands at a place, in words.
fn found(node: &Node<'_>) -> &'static str {
    match node {
        Node::Null | Node::Gone => "is null",
        Node::Bool(_) => "is a boolean",
        Node::Number(_) => "is a number",
        Node::Text(text) if text.is_empty() => "is empty",
        Node::Text(_) => "is a text",
        Node::FlawedText(_, Flaw::Replaced) => "has characters that are not Unicode",
        Node::FlawedText(_, Flaw::Control) => "has characters that JSON escapes",
        Node::Word(_) => "is a literal that JSON does not have",
        Node::List(_) => "is a list",
        Node::Object(_) => "is an object",
    }
}

/// What is wrong with what stands at a place, in words.
fn found_for(node: &Node<'_>, reason: &str) -> &'static str {
    if reason == wire::NOT_JSON {
        return "holds a literal that JSON does not have";
    }
    if !matches!(node, Node::Text(text) if !text.is_empty()) {
        return found(node);
    }
    let texts = [
        ("too many decimal places", "has too many decimal places"),
        ("too many digits", "has too many digits"),
        ("an id has at most", "is too long"),
        ("an id has no control", "has control characters"),
        ("set beside `currency`", "is set beside `currency`"),
        ("more precise", "is more precise than a nanosecond"),
        ("not a", "is of another form"),
    ];
    texts.iter().find(|(begin, _)| reason.starts_with(begin)).map_or("is a text", |(_, text)| text)
}

/// The rule that something unreadable breaks.
fn rule_for(node: &Node<'_>, name: &str, reason: &str) -> Rule {
    match node {
        _ if reason == wire::NOT_JSON => rule::NOT_JSON,
        Node::Null => rule::UNEXPECTED_NULL,
        Node::Text(text) if text.is_empty() => rule::UNEXPECTED_NULL,
        Node::Number(_) if is_identifier(name) => rule::IDENTIFIER_AS_NUMBER,
        Node::FlawedText(..) => rule::DAMAGED_TEXT,
        Node::Word(_) => rule::NOT_JSON,
        _ if reason.starts_with("too many decimal places") => rule::DECIMAL_PLACES,
        _ if reason.starts_with("an id has at most") => rule::WIDE_ID,
        _ if reason.starts_with("set beside `currency`") => rule::ONE_CURRENCY,
        _ => rule::MALFORMED,
    }
}
