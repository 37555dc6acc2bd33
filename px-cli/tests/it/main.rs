//! The program `px` against a bank in this process, run as a user runs it.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod bank;
mod hook;
mod hostile;
mod keys;
mod kill;
mod link;
mod px;
mod restore;
mod review;
mod run;
mod usage;
