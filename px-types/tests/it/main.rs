//! Tests of px-types as its users see it.

mod compile;
mod enums;
mod openapi;
mod optional;
mod round_trip;
mod secrets;
mod smoke;
mod validate;
mod wire;
