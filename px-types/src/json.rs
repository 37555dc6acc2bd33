//! A lenient JSON reader that knows nothing of Plaid Exchange.
//!
//! [`serde_json::Value`] makes floats of numbers, keeps the last of two members, and refuses lone
//! surrogates, `NaN` and byte order marks. This reader keeps what was written:
//!
//! - `scan` finds where a value ends, without reading it;
//! - `node` is a value in memory: the literal text of numbers, every member of an object, and what
//!   JSON does not have;
//! - `decode` shows a [`Node`] to serde.

mod decode;
mod node;
mod scan;

pub(crate) use self::{
    node::{Flaw, Memory, Node, Unheld},
    scan::{Malformed, Scanner},
};
