//! The tests of px-items from outside.

#![allow(missing_docs, reason = "tests")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod cases;
mod engine;
mod items;
mod lifecycle;
mod merge_model;
mod merge_styles;
mod metrics;
#[cfg(unix)]
mod postgres;
mod row_store;
mod store;
mod webhook;
