//! A lenient JSON parser, independent of the messages.
//!
//! [`serde_json::Value`] converts numbers to floats, keeps only the last of two members with the same
//! name, and refuses lone surrogates, `NaN` and byte order marks. This parser keeps all of it:
//!
//! - `scan` finds the end of a value without parsing it;
//! - `node` is a value in memory, with the literal text of numbers, every member of an object, and
//!   constructs that are not valid JSON;
//! - `decode` implements serde's `Deserializer` for a [`Node`].

mod decode;
mod node;
mod scan;

pub(crate) use self::{
    node::{Flaw, Memory, Node, ParseError},
    scan::{Malformed, Scanner},
};
