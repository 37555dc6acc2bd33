//! The tests of px-items from outside.

#![allow(missing_docs, reason = "tests")]

mod cases;
