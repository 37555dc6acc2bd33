//! Tolerant decoding: a fault in one element does not make the whole message unreadable.
//!
//! Banks send descriptions that are cut in the middle of an emoji, `"total": 40.0`, or currency codes
//! in lower case, and may not fix this for months. [`decode`] reads such messages and reports
//! everything that it repaired, ignored or set aside as [`Fault`]s. The [strict](crate::decode) decoder
//! refuses every message with a fault.
//!
//! A valid message is read by the strict decoder, at its speed. Only if this fails, the message is read
//! again, element by element. An *element* is an account, an identity, a security, a holding, a
//! transfer code or a transaction. An invalid element is kept in memory as written. The error of the
//! typed decoder names the path of the fault and the expected value:
//!
//! 1. A value that can be read without loss is repaired (the table in `repair`).
//! 2. Any other value is removed. If the contract requires it, the object that contains it is removed,
//!    and so on. If nothing is left to remove, the element is set aside.
//! 3. The element is decoded again, at most 64 times and with at most 16 faults.
//!
//! The messages therefore need no second definition. [`Limits`] bounds time and memory.
//!
//! Contract: `px.md` section 2.2.2.
//!
//! # Examples
//! ```
//! use px_types::{partner::TransactionsResponse, tolerant::{self, Limits}};
//!
//! let page = br#"{"total": 2.0, "transactions": [
//!     {"id": "t-1", "account_id": "a-1", "amount": 12.50, "currency": "usd", "description": "Tea \ud83c",
//!      "transacted_at": "2024-03-05 10:11:12+0000", "settled_at": null, "type": "depository"},
//!     null
//! ]}"#;
//! assert!(px_types::decode::<TransactionsResponse>(page).is_err());
//!
//! let page: TransactionsResponse = tolerant::decode(page, &Limits::default())?.message;
//! assert_eq!(page.transactions[0].amount.to_string(), "12.50");
//! assert_eq!(page.faults().len(), 6);
//! assert_eq!(
//!     page.faults()[4].to_string(),
//!     "transactions[1] is null; expected an object; the element was set aside",
//! );
//! # Ok::<(), px_types::DecodeError>(())
//! ```

mod messages;
mod reader;
mod repair;

use self::{
    reader::{Location, TolerantReader},
    repair::Expected,
};
use crate::{
    fault::{Element, ElementKind, Fault, Faults, Outcome},
    json::{Malformed, Memory, Node, Scanner},
    rule::{self, Rule},
    wire::{self, DecodeError, path::Step},
};
use serde::de::DeserializeOwned;
use std::{borrow::Cow, fmt, mem::size_of};

/// The limits of decoding one message tolerantly.
///
/// When a limit is reached, nothing more is repaired: invalid elements are set aside, and valid ones
/// are still read.
pub struct Limits<'a> {
    /// Returns whether the time limit is reached; called before each repair. The default always returns
    /// `false`, because this crate has no clock.
    pub out_of_time: &'a dyn Fn() -> bool,
    /// Maximum memory in addition to the message, as a multiple of its size; 4 by default.
    pub memory_factor: usize,
}

impl Default for Limits<'_> {
    fn default() -> Self {
        Self { out_of_time: &|| false, memory_factor: 4 }
    }
}

impl fmt::Debug for Limits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits").field("memory_factor", &self.memory_factor).finish_non_exhaustive()
    }
}

/// Minimum of the memory limit, in bytes, for small messages.
const MIN_MEMORY: usize = 1 << 20;

/// A message with its faults.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct WithFaults<T> {
    /// The message. Responses with accounts or transactions also contain a copy of the faults.
    pub message: T,
    /// The faults; empty if the strict decoder accepts the message.
    pub faults: Faults,
}

impl<T> WithFaults<T> {
    pub(crate) fn without_faults(message: T) -> Self {
        Self { message, faults: Faults::default() }
    }
}

/// A message that can be decoded tolerantly.
///
/// All JSON responses of endpoints implement it. For other messages an empty implementation suffices.
pub trait Tolerant: DeserializeOwned {
    /// Reads the message from its members.
    #[doc(hidden)]
    fn from_members(members: &mut Members<'_, '_>) -> Result<Self, DecodeError> {
        members.read_message()
    }

    /// Adds a fault to the message, if its type has a list of faults.
    #[doc(hidden)]
    fn note_fault(&mut self, _: Fault) {}

    /// Stores all faults in the message, if its type has a list of faults.
    #[doc(hidden)]
    fn note_faults(&mut self, _: &Faults) {}
}

/// Decodes a message tolerantly.
///
/// # Errors
/// If the bytes are not a JSON object, or a required member of the message itself (including its lists
/// of elements) is missing or cannot be read. The error names the path.
pub fn decode<T: Tolerant>(
    bytes: &[u8],
    limits: &Limits<'_>,
) -> Result<WithFaults<T>, DecodeError> {
    if let Ok(message) = serde_json::from_slice(bytes) {
        return Ok(WithFaults { message, faults: Faults::default() });
    }
    let mut faults = Faults::default();
    let json = strip_surroundings(bytes, &mut faults);
    let message = match serde_json::from_slice(json) {
        Ok(message) if json.len() < bytes.len() => Ok(message),
        _ => match Members::scan(json, limits) {
            Ok(mut members) => {
                members.reader.faults = faults;
                let message = T::from_members(&mut members);
                faults = members.reader.faults;
                message
            }
            // Not JSON at all: the error of the strict decoder is more precise.
            Err(Malformed) => wire::decode(json),
        },
    };
    let mut message = message?;
    if faults.is_empty() {
        faults.push(message_fault(rule::NOT_JSON, "is not valid JSON", "JSON"));
    }
    message.note_faults(&faults);
    Ok(WithFaults { message, faults })
}

/// Removes a byte order mark before the JSON and NUL bytes after it.
fn strip_surroundings<'a>(bytes: &'a [u8], faults: &mut Faults) -> &'a [u8] {
    let mut json = bytes;
    if let Some(rest) = json.strip_prefix(b"\xef\xbb\xbf") {
        json = rest;
        let found = "begins with a byte order mark";
        faults.push(message_fault(rule::BYTE_ORDER_MARK, found, "JSON alone"));
    }
    let end = json.iter().rposition(|b| !matches!(b, 0 | b' ' | b'\t' | b'\r' | b'\n'));
    let tail = &json[end.map_or(0, |end| end + 1)..];
    if tail.contains(&0) {
        json = &json[..json.len() - tail.len()];
        faults.push(message_fault(rule::TRAILING_BYTES, "ends with NUL bytes", "JSON alone"));
    }
    json
}

fn message_fault(rule: Rule, found: &'static str, expected: &'static str) -> Fault {
    let path = ".".into();
    Fault { path, rule, found, expected, outcome: Outcome::Repaired, element: None }
}

/// The members of a message, as received bytes.
pub struct Members<'a, 'l> {
    members: Vec<(Cow<'a, str>, Cow<'a, [u8]>)>,
    reader: TolerantReader<'l>,
}

impl fmt::Debug for Members<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Members").finish_non_exhaustive()
    }
}

impl<'a, 'l> Members<'a, 'l> {
    /// Finds the start and the end of each member.
    fn scan(json: &'a [u8], limits: &Limits<'l>) -> Result<Self, Malformed> {
        let size = json.len().saturating_mul(limits.memory_factor).max(MIN_MEMORY);
        let mut memory = Memory::new(size);
        let mut scanner = Scanner::new(json);
        if !scanner.take(b'{') {
            return Err(Malformed);
        }
        let mut members = Vec::new();
        let mut more = !scanner.take(b'}');
        while more {
            // The list grows by doubling.
            if !memory.take(2 * size_of::<(Cow<'_, str>, Cow<'_, [u8]>)>()) {
                return Err(Malformed);
            }
            let (key, _) = scanner.string()?;
            if !scanner.take(b':') {
                return Err(Malformed);
            }
            members.push((key, Cow::Borrowed(scanner.skip_value()?)));
            more = scanner.separator(b'}')?;
        }
        match scanner.peek() {
            None => Ok(Self { members, reader: TolerantReader::new(size, limits.out_of_time) }),
            Some(_) => Err(Malformed),
        }
    }

    /// Reads a list of elements and replaces it with an empty list.
    ///
    /// A value that is not a list is left for [`read_message`](Self::read_message).
    fn list<E: ReadElement>(&mut self) -> Result<Vec<E>, DecodeError> {
        let name = E::KIND.list();
        let mut found = self.members.iter_mut().filter(|(key, _)| key == name);
        let Some((_, raw)) = found.next() else {
            return Ok(Vec::new());
        };
        if found.next().is_some() {
            return Ok(Vec::new());
        }
        if raw.first() != Some(&b'[') {
            return Ok(Vec::new());
        }
        let list = std::mem::replace(raw, Cow::Borrowed(b"[]"));
        let broken = |Malformed| DecodeError::new(name, "its entries are not separated by commas");
        let mut scanner = Scanner::new(&list);
        scanner.take(b'[');
        let (mut elements, mut index) = (Vec::new(), 0);
        let mut more = !scanner.take(b']');
        while more {
            let raw = scanner.skip_value().map_err(broken)?;
            elements.extend(self.reader.element(raw, index));
            index += 1;
            more = scanner.separator(b']').map_err(broken)?;
        }
        Ok(elements)
    }

    /// Sets a member to `text` if it is missing or cannot be read.
    fn default_text(&mut self, name: &'static str, text: &str) {
        let size = self.reader.memory;
        let raw = self.members.iter().find(|(key, _)| key == name).map(|(_, raw)| &**raw);
        let node = raw.map(|raw| Node::parse(raw, Memory::new(size)).unwrap_or(Node::Removed));
        match &node {
            Some(Node::Text(text)) if !text.is_empty() => return,
            Some(Node::Number(_)) => return,
            _ => {}
        }
        let (rule, found) = match &node {
            None => (rule::MISSING_FIELD, "is missing"),
            Some(_) => (rule::MALFORMED, "cannot be read"),
        };
        let steps = [Step::Key(name.to_owned())];
        let expected = Expected::Id.text();
        self.reader.record(&Location::default(), &steps, rule, found, expected, Outcome::Repaired);
        self.members.retain(|(key, _)| key != name);
        self.members.push((Cow::Borrowed(name), Cow::Owned(wire::encode(&text))));
    }

    /// Replaces a list of strings with one string, separated by spaces.
    fn join_list(&mut self, name: &'static str) {
        let size = self.reader.memory;
        let Some((_, raw)) = self.members.iter_mut().find(|(key, _)| key == name) else {
            return;
        };
        let Ok(Node::List(entries)) = Node::parse(raw, Memory::new(size)) else {
            return;
        };
        let texts = entries.iter().map(|entry| match entry {
            Node::Text(text) => Some(&**text),
            _ => None,
        });
        let Some(texts) = texts.collect::<Option<Vec<_>>>() else {
            return;
        };
        *raw = Cow::Owned(wire::encode(&texts.join(" ")));
        let steps = [Step::Key(name.to_owned())];
        let (found, expected) = ("is a list", Expected::Text.text());
        let (location, rule) = (Location::default(), rule::MALFORMED);
        self.reader.record(&location, &steps, rule, found, expected, Outcome::Repaired);
    }

    /// Reads the message itself, after its lists of elements.
    fn read_message<T: DeserializeOwned>(&mut self) -> Result<T, DecodeError> {
        let size = self.reader.memory;
        let node = |raw| {
            // A value that is too large or not JSON becomes unreadable.
            Node::parse(raw, Memory::new(size)).unwrap_or(Node::InvalidLiteral(Cow::Borrowed("")))
        };
        let members = self.members.iter().map(|(key, raw)| (key.clone(), node(raw)));
        let mut node = Node::Object(members.collect());
        self.reader.read_repaired(&mut node, &Location::default())
    }
}

/// A part of a message that is read, or set aside, on its own.
trait ReadElement: DeserializeOwned {
    /// The kind of the element.
    const KIND: ElementKind;

    /// The nested elements, which are read before the element itself.
    type Nested: Default;

    /// Reads the nested elements and replaces their lists with empty ones.
    fn read_nested(_: &mut Node<'_>, _: &mut TolerantReader<'_>, _: &Location) -> Self::Nested {
        Self::Nested::default()
    }

    /// Adds the nested elements to the element.
    fn attach_nested(&mut self, _: Self::Nested) {}
}

/// Describes an element that may be unreadable, as far as its id can be read.
fn element_of(kind: ElementKind, index: usize, node: &Node<'_>, of: Option<&Element>) -> Element {
    let text = |name: &str| match node.member(name)? {
        Node::Text(text) | Node::Number(text) => Some(text.to_string()),
        _ => None,
    };
    let id = match kind {
        ElementKind::TransferCode => None,
        ElementKind::Holding => text("security_id"),
        _ => text("id"),
    };
    let account_id = match kind {
        ElementKind::Account => id.clone(),
        ElementKind::Transaction => text("account_id"),
        _ => of.and_then(|account| account.id.as_deref().map(str::to_owned)),
    };
    Element {
        kind,
        index: Some(index),
        id: id.and_then(|id| crate::AccountId::new(&id).ok()).map(|id| id.as_str().into()),
        account_id: account_id.and_then(|id| crate::AccountId::new(id).ok()),
    }
}
