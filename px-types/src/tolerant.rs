//! Tolerant reading: one fault never costs a user.
//!
//! Banks send a description that is cut in the middle of an emoji, `"total": 40.0`, an IBAN
//! without a BIC, and do not mend it for months. [`decode`] reads such messages; what it had to
//! repair, to ignore or to set aside it reports as [`Fault`]s. A [strict](crate::decode) reader
//! refuses every message with a fault.
//!
//! A valid message takes the path of the strict reader, at its speed. Only if that fails, the
//! message is read again, element by element; an *element* is an account, an identity, a security,
//! a holding, a transfer code or a transaction. An element that fails is held in memory as it was
//! written, and the typed decoder says where it fails and what it expects there:
//!
//! 1. If what stands there can be read without loss, it is (`repair`: one table).
//! 2. Otherwise it is removed. If the contract requires it, the object that has it is removed, and
//!    so on; if nothing is left to remove, the element is set aside.
//! 3. Then the element is decoded again, at most 16 times.
//!
//! So there is no second description of the messages. Work is bounded by [`Limits`].
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

mod guide;
mod messages;
mod repair;

use self::{
    guide::{Guide, Place},
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

/// The limits of reading one message tolerantly.
///
/// Beyond them nothing is repaired any more: elements that fail are set aside, the others are read.
pub struct Limits<'a> {
    /// Returns whether the time is up. Asked before each repair. Never, by default: this crate has
    /// no clock.
    pub out_of_time: &'a dyn Fn() -> bool,
    /// Maximum memory for what is held beside the message, as a multiple of its size; 4 by default.
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

/// Memory that even a small message may take, in bytes.
const MIN_MEMORY: usize = 1 << 20;

/// A message with its faults.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Tolerated<T> {
    /// The message. The responses with accounts and transactions hold a copy of the faults.
    pub message: T,
    /// What is wrong with it; empty if a strict reader accepts it.
    pub faults: Faults,
}

impl<T> Tolerated<T> {
    pub(crate) fn without_faults(message: T) -> Self {
        Self { message, faults: Faults::default() }
    }
}

/// A message that can be read tolerantly.
///
/// Every JSON response of an endpoint is one. Others need no more than an empty implementation.
pub trait Tolerant: DeserializeOwned {
    /// Reads the message from its members.
    #[doc(hidden)]
    fn from_members(members: &mut Members<'_, '_>) -> Result<Self, DecodeError> {
        members.rest()
    }

    /// Notes a fault in the message, if it has a place for it.
    #[doc(hidden)]
    fn note_fault(&mut self, _: Fault) {}

    /// Notes all faults in the message, if it has a place for them.
    #[doc(hidden)]
    fn note_faults(&mut self, _: &Faults) {}
}

/// Reads a message tolerantly.
///
/// # Errors
/// If the bytes are no JSON object, or a required member of the message itself, a list among them,
/// is missing or cannot be read. The error names the path.
pub fn decode<T: Tolerant>(bytes: &[u8], limits: &Limits<'_>) -> Result<Tolerated<T>, DecodeError> {
    if let Ok(message) = serde_json::from_slice(bytes) {
        return Ok(Tolerated { message, faults: Faults::default() });
    }
    let mut faults = Faults::default();
    let json = strip(bytes, &mut faults);
    let message = match serde_json::from_slice(json) {
        Ok(message) if json.len() < bytes.len() => Ok(message),
        _ => match Members::scan(json, limits) {
            Ok(mut members) => {
                members.guide.faults = faults;
                let message = T::from_members(&mut members);
                faults = members.guide.faults;
                message
            }
            // No JSON at all: the strict reader says it best.
            Err(Malformed) => wire::decode(json),
        },
    };
    let mut message = message?;
    if faults.is_empty() {
        faults.push(message_fault(rule::NOT_JSON, "is not written as JSON is", "JSON"));
    }
    message.note_faults(&faults);
    Ok(Tolerated { message, faults })
}

/// Takes away what stands before and behind the JSON.
fn strip<'a>(bytes: &'a [u8], faults: &mut Faults) -> &'a [u8] {
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

/// The members of a message, each as the bytes that were received.
pub struct Members<'a, 'l> {
    members: Vec<(Cow<'a, str>, Cow<'a, [u8]>)>,
    guide: Guide<'l>,
}

impl fmt::Debug for Members<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Members").finish_non_exhaustive()
    }
}

impl<'a, 'l> Members<'a, 'l> {
    /// Finds where the members begin and end.
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
            None => Ok(Self { members, guide: Guide::new(size, limits.out_of_time) }),
            Some(_) => Err(Malformed),
        }
    }

    /// Reads a list of elements, and leaves an empty one in its place.
    ///
    /// What is no list at all is left for [`rest`](Self::rest) to judge.
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
            elements.extend(self.guide.element(raw, index));
            index += 1;
            more = scanner.separator(b']').map_err(broken)?;
        }
        Ok(elements)
    }

    /// Puts a text in the place of a member that has none, or none that can be read.
    fn text_or(&mut self, name: &'static str, text: &str) {
        let size = self.guide.memory;
        let raw = self.members.iter().find(|(key, _)| key == name).map(|(_, raw)| &**raw);
        let node = raw.map(|raw| Node::parse(raw, Memory::new(size)).unwrap_or(Node::Gone));
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
        self.guide.record(&Place::default(), &steps, rule, found, expected, Outcome::Repaired);
        self.members.retain(|(key, _)| key != name);
        self.members.push((Cow::Borrowed(name), Cow::Owned(wire::encode(&text))));
    }

    /// Writes a list of texts as one text, separated by spaces.
    fn joined(&mut self, name: &'static str) {
        let size = self.guide.memory;
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
        let (place, rule) = (Place::default(), rule::MALFORMED);
        self.guide.record(&place, &steps, rule, found, expected, Outcome::Repaired);
    }

    /// Reads the message itself.
    fn rest<T: DeserializeOwned>(&mut self) -> Result<T, DecodeError> {
        let size = self.guide.memory;
        let node = |raw| {
            // What is too large or no JSON can only be read around.
            Node::parse(raw, Memory::new(size)).unwrap_or(Node::Word(Cow::Borrowed("")))
        };
        let members = self.members.iter().map(|(key, raw)| (key.clone(), node(raw)));
        let mut node = Node::Object(members.collect());
        self.guide.mend(&mut node, &Place::default())
    }
}

/// A part of a message that is read, or set aside, for itself.
trait ReadElement: DeserializeOwned {
    /// What it is.
    const KIND: ElementKind;

    /// The elements within it, which are read before it.
    type Within: Default;

    /// Reads the elements within it, and leaves empty lists in their place.
    fn read_within(_: &mut Node<'_>, _: &mut Guide<'_>, _: &Place) -> Self::Within {
        Self::Within::default()
    }

    /// Takes the elements within it back.
    fn take_within(&mut self, _: Self::Within) {}
}

/// What is known of an element that may not be readable.
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
