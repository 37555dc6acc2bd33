//! Tests of the demo bank: ledger, pages, site and API.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests fail by panicking and say what they skip"
)]

#[path = "bank/api.rs"]
mod api;
#[path = "bank/books.rs"]
mod books;
#[path = "bank/fake_plaid.rs"]
mod fake_plaid;
#[path = "bank/notices.rs"]
mod notices;
#[path = "bank/pages.rs"]
mod pages;
#[path = "bank/plaid_side.rs"]
mod plaid_side;
#[path = "bank/program.rs"]
mod program;
#[path = "bank/safety.rs"]
mod safety;
#[path = "bank/sign_in.rs"]
mod sign_in;
#[path = "bank/site.rs"]
mod site;
#[path = "bank/support.rs"]
mod support;
