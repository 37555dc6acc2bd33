//! The demo bank: a partner on `px-server`, made the way a bank would. And [`plaid`], the other side.
//!
//! - [`bank`]: all of it put together, to be served or called in process;
//! - [`ledger`]: the books in SQLite; [`seed`]: the made-up customers in them;
//! - [`partner`]: what the API answers; [`cursor`]: where a walk of a window goes on;
//! - [`sign_in`], [`pages`]: how customers sign in and consent; [`scenario`]: users who misbehave;
//! - [`plaid_side`]: how the bank calls Plaid; `site`: the site behind the customer's login;
//! - [`town`]: both sides and two applications on one machine;
//! - [`listen`]: addresses that only this machine can reach; [`signal`]: how the programs end.
//!
//! Everything here is an example: it shows how a bank uses the crates and is not one of them.

pub mod bank;
pub mod clock;
pub mod cursor;
pub mod ledger;
pub mod listen;
pub mod pages;
pub mod partner;
pub mod password;
pub mod plaid;
pub mod plaid_side;
pub mod scenario;
pub mod seed;
pub mod sign_in;
pub mod signal;
mod site;
pub mod text;
pub mod town;
mod transport_security;

pub use bank::{Bank, BankConfig, OpenError};

/// What every page of the demo calls Plaid's side. Not Plaid's own name: this is none of its pages.
pub const PLAID_NAME: &str = "Demo Plaid";

// The README's programs are compiled and run with the doctests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
