//! The basic types of messages: amounts, dates, ids, secrets and open enums.
//!
//! Their constructors validate the value, so that a message that exists is well formed. Rules across
//! fields and messages are in [`crate::validate`].

pub mod amount;
pub mod bounded;
pub mod currency;
pub mod date;
pub mod id;
pub mod open_enum;
pub mod secret;
