//! Tests of px-types as its users see it.

mod openapi;
