//! The demo bank from outside: its books, its pages and its API.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

#[path = "bank/books.rs"]
mod books;
