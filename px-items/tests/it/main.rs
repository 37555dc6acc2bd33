//! The tests of px-items from outside.

#![allow(missing_docs, reason = "tests")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod cases;
mod items;
#[cfg(unix)]
mod postgres;
mod webhook;
