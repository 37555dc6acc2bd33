//! The demo Plaid: a service on `px-server` and `px-items`, made the way one would be.
//!
//! - [`config`]: what it is set up with.

pub mod config;

pub use config::Config;
