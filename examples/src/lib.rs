//! A demo bank and a demo Plaid, built on the crates of this workspace.
//!
//! - [`bank`]: the assembled bank, to be served or called in process;
//! - [`ledger`]: the bank's database, in SQLite; [`seed`]: its generated customers;
//! - [`partner`]: the responses of the partner API; [`cursor`]: its pagination cursors;
//! - [`sign_in`], [`pages`]: sign-in and consent of customers; [`scenario`]: test users with
//!   special behaviour;
//! - [`plaid_side`]: the bank's calls to Plaid; `site`: the website for signed-in customers;
//! - [`plaid`]: a service for the other side: Link page, applications, webhooks;
//! - [`setup`]: a bank, a Plaid and two applications on one machine;
//! - [`listen`]: loopback addresses; [`signal`]: shutdown signals.
//!
//! This crate is not published. It shows how a bank uses the SDK, and contains nothing that users
//! of the SDK need.

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
pub mod setup;
pub mod sign_in;
pub mod signal;
mod site;
pub mod text;
mod transport_security;

pub use bank::{Bank, BankConfig, OpenError};

/// The name of the Plaid side on every page of the demo. It differs from Plaid's own name, because
/// these pages are not Plaid's.
pub const PLAID_NAME: &str = "Demo Plaid";

// The README's programs are compiled and run with the doctests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
