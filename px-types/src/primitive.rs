//! The small types that messages are made of. Each refuses what the contract
//! refuses when it is made, so that a message that exists is well formed.
//!
//! Rules between fields and between messages live in [`crate::validate`].

pub mod amount;
pub mod bounded;
pub mod currency;
pub mod date;
pub mod id;
pub mod open_enum;
pub mod secret;
