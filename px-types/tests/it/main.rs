//! Tests of the public API of px-types.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod compile;
mod damage;
mod enums;
mod openapi;
mod optional;
#[cfg(feature = "openapi")]
mod plaid_api;
mod plaid_vectors;
mod round_trip;
mod secrets;
mod smoke;
mod tolerant;
mod validate;
mod wire;
